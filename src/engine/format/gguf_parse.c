/* gguf_parse.c: see gguf_parse.h.
 *
 * Invariants: (1) no memory is asked for before the bytes that justify it were seen to be in the
 * file: a count is refused when the file is too short for that many of the smallest items;
 * (2) every name that reaches a message is free of control characters, so a message is one line.
 * Not here: what keys mean (model/), uniqueness and overlap (gguf.c). */
#include "engine/format/gguf_parse.h"

#include <inttypes.h>

#include "base/checked.h"
#include "base/mem.h"
#include "engine/format/gguf_reader.h"

/* ---- limits ---- */

enum {
    GGUF_KV_MAX = 65536,
    GGUF_TENSORS_MAX = 1 << 20,
    GGUF_KEY_BYTES_MAX = 65535, /* of the specification */
    GGUF_NAME_BYTES_MAX = 256,  /* four times the specification's */
    GGUF_ALIGNMENT_DEFAULT = 32,
    GGUF_ALIGNMENT_MIN = 8, /* of the specification */
    GGUF_ALIGNMENT_MAX = 1 << 20,
    GGUF_SHOWN_BYTES = 96, /* of a name, in a message */
};

static const struct gguf_counted {
    const char *noun;
    uint32_t n_max;
    uint32_t item_bytes_min; /* in the file: empty value, name of one byte */
} gguf_counted_kv = {"keys", GGUF_KV_MAX, 8 + 1 + 4 + 1},
  gguf_counted_tensors = {"tensors", GGUF_TENSORS_MAX, 8 + 1 + 4 + 8 + 4 + 8};

#define SHOW(s) (int)MIN((s).len, (size_t)GGUF_SHOWN_BYTES), (s).ptr

/* ---- types ---- */

/* GGUF number, name, bytes of one item */
#define GGUF_TYPE_TABLE(X)                                                                         \
    X(GGUF_U8, "u8", 1)                                                                            \
    X(GGUF_I8, "i8", 1)                                                                            \
    X(GGUF_U16, "u16", 2)                                                                          \
    X(GGUF_I16, "i16", 2)                                                                          \
    X(GGUF_U32, "u32", 4)                                                                          \
    X(GGUF_I32, "i32", 4)                                                                          \
    X(GGUF_F32, "f32", 4)                                                                          \
    X(GGUF_BOOL, "bool", 1)                                                                        \
    X(GGUF_STRING, "string", 0)                                                                    \
    X(GGUF_ARRAY, "array", 0)                                                                      \
    X(GGUF_U64, "u64", 8)                                                                          \
    X(GGUF_I64, "i64", 8)                                                                          \
    X(GGUF_F64, "f64", 8)

static const struct gguf_type_row {
    const char *name;
    uint32_t bytes;
} gguf_types[] = {
#define X(type, name, bytes) [type] = {name, bytes},
    GGUF_TYPE_TABLE(X)
#undef X
};

const char *gguf_type_name(enum gguf_type t)
{
    return (uint32_t)t < ARRAY_LEN(gguf_types) ? gguf_types[t].name : "unknown";
}

uint32_t gguf_type_bytes(enum gguf_type t)
{
    return gguf_types[t].bytes;
}

/* ---- keys and values ---- */

static bool gguf_name_is_clean(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c < 0x20 || c == 0x7F) {
            return false;
        }
    }
    return s.len > 0;
}

/* A key or a tensor's name; `what` says which. */
static enum rc gguf_parse_name(struct gguf_reader *r, struct arena *a, size_t bytes_max,
                               struct str *out)
{
    uint64_t at = r->pos;
    enum rc rc = gguf_reader_str(r, a, out);
    if (rc != RC_OK) {
        return rc;
    }
    if (out->len > bytes_max) {
        return gguf_reader_fail(r, at, "%s of %zu bytes, limit %zu", r->what, out->len, bytes_max);
    }
    if (!gguf_name_is_clean(*out)) {
        return gguf_reader_fail(r, at, "%s is empty or has control characters", r->what);
    }
    return RC_OK;
}

static enum rc gguf_parse_type(struct gguf_reader *r, struct str key, enum gguf_type *out)
{
    uint64_t at = r->pos;
    uint32_t number;
    enum rc rc = gguf_reader_u32(r, &number);
    if (rc != RC_OK) {
        return rc;
    }
    if (number >= ARRAY_LEN(gguf_types)) {
        return gguf_reader_fail(r, at, "key '%.*s' has unknown value type %u", SHOW(key), number);
    }
    *out = (enum gguf_type)number;
    return RC_OK;
}

static enum rc gguf_parse_strings(struct gguf_reader *r, struct arena *a, struct gguf_kv *kv)
{
    struct str *strings = arena_alloc_array(a, (size_t)kv->n, sizeof(*strings));
    if (strings == NULL) {
        return err_set(r->err, RC_NOMEM, "%s: no memory for its metadata", r->source->name);
    }
    for (uint64_t i = 0; i < kv->n; i++) {
        enum rc rc = gguf_reader_str(r, a, &strings[i]);
        if (rc != RC_OK) {
            return rc;
        }
    }
    kv->strings = strings;
    return RC_OK;
}

static enum rc gguf_parse_items(struct gguf_reader *r, struct arena *a, struct gguf_kv *kv,
                                enum gguf_type item)
{
    uint64_t at = r->pos;
    uint64_t item_bytes = item == GGUF_STRING ? 8 : gguf_type_bytes(item);
    uint64_t bytes;
    if (!checked_mul(kv->n, item_bytes, &bytes) || bytes > gguf_reader_left(r)) {
        return gguf_reader_fail(
            r, at, "key '%.*s': %" PRIu64 " items of type %s, but %" PRIu64 " bytes are left",
            SHOW(kv->key), kv->n, gguf_type_name(item), gguf_reader_left(r));
    }
    if (item == GGUF_STRING) {
        return gguf_parse_strings(r, a, kv);
    }
    unsigned char *copy = arena_alloc(a, (size_t)bytes);
    if (copy == NULL) {
        return err_set(r->err, RC_NOMEM, "%s: no memory for its metadata", r->source->name);
    }
    enum rc rc = gguf_reader_bytes(r, copy, (size_t)bytes);
    for (uint64_t i = 0; rc == RC_OK && item == GGUF_BOOL && i < bytes; i++) {
        if (copy[i] > 1) {
            rc = gguf_reader_fail(r, at + i, "key '%.*s': a bool is %u, expected 0 or 1",
                                  SHOW(kv->key), copy[i]);
        }
    }
    kv->bytes = copy;
    return rc;
}

static enum rc gguf_parse_array_head(struct gguf_reader *r, struct gguf_kv *kv)
{
    uint64_t at = r->pos;
    enum rc rc = gguf_parse_type(r, kv->key, &kv->item_type);
    if (rc != RC_OK) {
        return rc;
    }
    if (kv->item_type == GGUF_ARRAY) {
        return gguf_reader_fail(r, at, "key '%.*s': arrays of arrays are not supported",
                                SHOW(kv->key));
    }
    return gguf_reader_u64(r, &kv->n);
}

static enum rc gguf_parse_kv(struct gguf_reader *r, struct arena *a, struct gguf_kv *kv)
{
    r->what = "key";
    kv->offset = r->pos;
    enum rc rc = gguf_parse_name(r, a, GGUF_KEY_BYTES_MAX, &kv->key);
    if (rc == RC_OK) {
        rc = gguf_parse_type(r, kv->key, &kv->type);
    }
    if (rc != RC_OK) {
        return rc;
    }
    r->what = "value of a key";
    kv->n = 1;
    kv->item_type = kv->type;
    if (kv->type == GGUF_ARRAY) {
        rc = gguf_parse_array_head(r, kv);
    }
    return rc != RC_OK ? rc : gguf_parse_items(r, a, kv, kv->item_type);
}

/* ---- tensors ---- */

static enum rc gguf_parse_dims(struct gguf_reader *r, struct gguf_tensor *t)
{
    uint64_t at = r->pos;
    enum rc rc = gguf_reader_u32(r, &t->n_dims);
    if (rc != RC_OK) {
        return rc;
    }
    if (t->n_dims == 0 || t->n_dims > GGUF_DIMS_MAX) {
        return gguf_reader_fail(r, at, "tensor '%.*s' has %u dimensions, expected 1 to %d",
                                SHOW(t->name), t->n_dims, GGUF_DIMS_MAX);
    }
    for (uint32_t i = 0; i < GGUF_DIMS_MAX; i++) {
        t->dims[i] = 1;
        at = r->pos;
        if (i < t->n_dims && (rc = gguf_reader_u64(r, &t->dims[i])) != RC_OK) {
            return rc;
        }
        if (t->dims[i] == 0 || t->dims[i] > INT64_MAX) {
            return gguf_reader_fail(r, at, "tensor '%.*s': dimension %u is %" PRIu64, SHOW(t->name),
                                    i, t->dims[i]);
        }
    }
    return RC_OK;
}

/* Its type, and its bytes from type and dimensions. */
static enum rc gguf_parse_tensor_type(struct gguf_reader *r, struct gguf_tensor *t)
{
    uint64_t at = r->pos;
    uint32_t number;
    enum rc rc = gguf_reader_u32(r, &number);
    if (rc != RC_OK) {
        return rc;
    }
    const struct dtype_row *row = dtype_row(number);
    if (row == NULL) {
        return gguf_reader_fail(r, at, "tensor '%.*s' has type %u, which is not supported",
                                SHOW(t->name), number);
    }
    t->type = (enum dtype)number;
    if (t->dims[0] % row->block_weights != 0) {
        return gguf_reader_fail(
            r, at, "tensor '%.*s': rows of %" PRIu64 " are no multiple of %s's block of %u",
            SHOW(t->name), t->dims[0], row->name, row->block_weights);
    }
    uint64_t bytes;
    uint64_t n = t->dims[0];
    bool ok = dtype_row_bytes(t->type, t->dims[0], &bytes);
    for (uint32_t i = 1; ok && i < GGUF_DIMS_MAX; i++) {
        ok = checked_mul(bytes, t->dims[i], &bytes) && checked_mul(n, t->dims[i], &n);
    }
    if (!ok || n > INT64_MAX || bytes > r->source->size_bytes) {
        return gguf_reader_fail(r, at,
                                "tensor '%.*s' [%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64
                                "] of %s is larger than the file",
                                SHOW(t->name), t->dims[0], t->dims[1], t->dims[2], t->dims[3],
                                row->name);
    }
    t->n_bytes = bytes;
    return RC_OK;
}

/* Reads the offset, still relative to the data; gguf_place_tensors makes it absolute. */
static enum rc gguf_parse_tensor(struct gguf_reader *r, struct arena *a, struct gguf_tensor *t,
                                 uint64_t alignment)
{
    r->what = "tensor name";
    enum rc rc = gguf_parse_name(r, a, GGUF_NAME_BYTES_MAX, &t->name);
    r->what = "description of a tensor";
    if (rc == RC_OK) {
        rc = gguf_parse_dims(r, t);
    }
    if (rc == RC_OK) {
        rc = gguf_parse_tensor_type(r, t);
    }
    uint64_t at = r->pos;
    if (rc == RC_OK) {
        rc = gguf_reader_u64(r, &t->offset);
    }
    if (rc == RC_OK && t->offset % alignment != 0) {
        rc = gguf_reader_fail(
            r, at, "tensor '%.*s': offset %" PRIu64 " is no multiple of the alignment %" PRIu64,
            SHOW(t->name), t->offset, alignment);
    }
    return rc;
}

static enum rc gguf_place_tensors(struct gguf_reader *r, struct gguf_part *part, uint64_t alignment)
{
    uint64_t size = r->source->size_bytes;
    uint64_t base;
    if (!checked_align_up(r->pos, alignment, &base)) {
        return gguf_reader_fail(r, r->pos, "alignment overflows");
    }
    for (uint32_t i = 0; i < part->n_tensors; i++) {
        struct gguf_tensor *t = &part->tensors[i];
        uint64_t end;
        if (!checked_add(t->offset, base, &t->offset) ||
            !checked_add(t->offset, t->n_bytes, &end) || end > size) {
            return gguf_reader_fail(r, size,
                                    "file ends inside tensor '%.*s': %" PRIu64
                                    " bytes at offset %" PRIu64 " of the data at %" PRIu64,
                                    SHOW(t->name), t->n_bytes, t->offset - base, base);
        }
    }
    return RC_OK;
}

/* ---- the part ---- */

static enum rc gguf_parse_alignment(struct gguf_reader *r, const struct gguf_part *part,
                                    uint64_t *out)
{
    *out = GGUF_ALIGNMENT_DEFAULT;
    for (uint32_t i = 0; i < part->n_kv; i++) {
        const struct gguf_kv *kv = &part->kv[i];
        if (!str_is(kv->key, "general.alignment")) {
            continue;
        }
        if (kv->type != GGUF_U32) {
            return gguf_reader_fail(r, kv->offset,
                                    "key 'general.alignment' is of type %s, "
                                    "expected u32",
                                    gguf_type_name(kv->type));
        }
        uint64_t n = (uint64_t)gguf_kv_i64(kv, 0);
        if (n < GGUF_ALIGNMENT_MIN || (n & (n - 1)) != 0 || n > GGUF_ALIGNMENT_MAX) {
            return gguf_reader_fail(
                r, kv->offset, "general.alignment is %" PRIu64 ", expected a power of two up to %d",
                n, GGUF_ALIGNMENT_MAX);
        }
        *out = n;
    }
    return RC_OK;
}

static enum rc gguf_parse_magic(struct gguf_reader *r, struct gguf_part *part)
{
    unsigned char magic[4];
    enum rc rc = gguf_reader_bytes(r, magic, sizeof(magic));
    if (rc != RC_OK) {
        return rc;
    }
    if (memcmp(magic, "GGUF", 4) != 0) {
        return gguf_reader_fail(r, 0, "not a GGUF file: it starts with %02x %02x %02x %02x",
                                magic[0], magic[1], magic[2], magic[3]);
    }
    rc = gguf_reader_u32(r, &part->version);
    if (rc != RC_OK) {
        return rc;
    }
    if ((part->version & 0xFFFF) == 0 && part->version != 0) {
        return gguf_reader_fail(r, 4, "big-endian GGUF files are not supported");
    }
    if (part->version < 2 || part->version > 3) {
        return gguf_reader_fail(r, 4, "GGUF version %u is not supported, only 2 and 3",
                                part->version);
    }
    return RC_OK;
}

/* One of the two counts of the header, refused when the file cannot hold that many. */
static enum rc gguf_parse_count(struct gguf_reader *r, const struct gguf_counted *c, uint32_t *out)
{
    uint64_t at = r->pos;
    uint64_t n;
    enum rc rc = gguf_reader_u64(r, &n);
    if (rc != RC_OK) {
        return rc;
    }
    if (n > c->n_max || n > gguf_reader_left(r) / c->item_bytes_min) {
        return gguf_reader_fail(r, at, "%" PRIu64 " %s in a file of %" PRIu64 " bytes, limit %u", n,
                                c->noun, r->source->size_bytes, c->n_max);
    }
    *out = (uint32_t)n;
    return RC_OK;
}

static enum rc gguf_part_read(struct gguf_reader *r, struct gguf_part *part, struct arena *a)
{
    enum rc rc = gguf_parse_magic(r, part);
    uint32_t n_tensors = 0;
    uint32_t n_kv = 0;
    if (rc == RC_OK) {
        rc = gguf_parse_count(r, &gguf_counted_tensors, &n_tensors);
    }
    if (rc == RC_OK) {
        rc = gguf_parse_count(r, &gguf_counted_kv, &n_kv);
    }
    if (rc != RC_OK) {
        return rc;
    }
    part->kv = mem_try_zalloc_array(n_kv, sizeof(*part->kv));
    part->tensors = mem_try_zalloc_array(n_tensors, sizeof(*part->tensors));
    if (part->kv == NULL || part->tensors == NULL) {
        return err_set(r->err, RC_NOMEM, "%s: no memory for its metadata", r->source->name);
    }
    for (; rc == RC_OK && part->n_kv < n_kv; part->n_kv++) {
        rc = gguf_parse_kv(r, a, &part->kv[part->n_kv]);
    }
    uint64_t alignment = 0;
    if (rc == RC_OK) {
        rc = gguf_parse_alignment(r, part, &alignment);
    }
    for (; rc == RC_OK && part->n_tensors < n_tensors; part->n_tensors++) {
        rc = gguf_parse_tensor(r, a, &part->tensors[part->n_tensors], alignment);
    }
    return rc != RC_OK ? rc : gguf_place_tensors(r, part, alignment);
}

void gguf_part_deinit(struct gguf_part *part)
{
    mem_free(part->kv);
    mem_free(part->tensors);
    *part = (struct gguf_part){0};
}

enum rc gguf_part_parse(struct gguf_part *part, struct arena *a, struct weight_source *source,
                        struct err *err)
{
    *part = (struct gguf_part){0};
    struct gguf_reader r;
    enum rc rc = gguf_reader_init(&r, source, err);
    if (rc == RC_OK) {
        rc = gguf_part_read(&r, part, a);
        gguf_reader_deinit(&r);
    }
    if (rc != RC_OK) {
        gguf_part_deinit(part);
    }
    return rc;
}
