/* gguf_write.c: see gguf_write.h. Invariant after begin: `pos` is the file's length so far, and
 * tensor `next` still lacks `left` bytes. */
#include "engine/format/gguf_write.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/checked.h"
#include "base/mem.h"
#include "engine/format/gguf_parse.h"

enum { GGUF_WRITER_ALIGNMENT = 32, GGUF_WRITER_ALIGNMENT_MAX = 1 << 20 };
#define GGUF_WRITER_HEADER_MAX ((size_t)1 << 31)

struct gguf_change {
    char key[GGUF_WRITER_KEY_BYTES];
    uint32_t value;
    bool drop; /* every key that starts so */
};

struct gguf_writer {
    const struct gguf *from; /* may be NULL */
    struct gguf_change changes[GGUF_WRITER_CHANGES_MAX];
    uint32_t n_changes;
    struct gguf_tensor *tensors; /* owned; offsets relative to the data */
    uint32_t n_tensors;
    uint32_t tensors_size;
    uint64_t alignment;
    char *path; /* owned */
    char *temp; /* owned; NULL when there is no temporary file */
    int fd;
    uint64_t file_bytes;
    uint64_t pos;
    uint32_t next;
    uint64_t left;
};

struct gguf_writer *gguf_writer_create(const struct gguf *from)
{
    struct gguf_writer *w = mem_zalloc(sizeof(*w));
    w->from = from;
    w->fd = -1;
    return w;
}

void gguf_writer_close(struct gguf_writer *w)
{
    if (w == NULL) {
        return;
    }
    if (w->fd >= 0) {
        close(w->fd);
    }
    if (w->temp != NULL) {
        unlink(w->temp);
    }
    mem_free(w->temp);
    mem_free(w->path);
    mem_free(w->tensors);
    mem_free(w);
}

/* ---- the plan ---- */

static struct gguf_change *gguf_writer_change(struct gguf_writer *w, const char *key)
{
    ASSERT(w->n_changes < GGUF_WRITER_CHANGES_MAX);
    struct gguf_change *c = &w->changes[w->n_changes++];
    bool fits = str_copy(c->key, sizeof(c->key), str_from(key));
    ASSERT(fits);
    return c;
}

void gguf_writer_set_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
    gguf_writer_change(w, key)->value = value;
}

void gguf_writer_drop_keys(struct gguf_writer *w, const char *prefix)
{
    gguf_writer_change(w, prefix)->drop = true;
}

enum rc gguf_writer_add_tensor(struct gguf_writer *w, const struct gguf_tensor *t, struct err *err)
{
    ASSERT(t->n_dims >= 1);
    ASSERT(t->n_dims <= GGUF_DIMS_MAX);
    uint64_t bytes;
    bool ok = dtype_row_bytes(t->type, t->dims[0], &bytes);
    for (uint32_t i = 1; ok && i < t->n_dims; i++) {
        ok = checked_mul(bytes, t->dims[i], &bytes);
    }
    if (!ok) {
        return err_set(err, RC_INVALID, "tensor '%.*s': rows of %llu do not divide into %s blocks",
                       STR(t->name), (unsigned long long)t->dims[0],
                       dtype_row((uint32_t)t->type)->name);
    }
    if (w->n_tensors == w->tensors_size) {
        uint32_t size = w->tensors_size == 0 ? 64 : w->tensors_size * 2;
        w->tensors = mem_realloc(w->tensors, size * sizeof(*w->tensors));
        w->tensors_size = size;
    }
    w->tensors[w->n_tensors] = *t;
    w->tensors[w->n_tensors++].n_bytes = bytes;
    return RC_OK;
}

/* ---- the header ---- */

/* This program runs on little-endian machines only, whose numbers lie as the file wants them. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian");

static void gguf_put_u32(struct buf *b, uint32_t v)
{
    buf_add(b, &v, sizeof(v));
}

static void gguf_put_u64(struct buf *b, uint64_t v)
{
    buf_add(b, &v, sizeof(v));
}

static void gguf_put_str(struct buf *b, struct str s)
{
    gguf_put_u64(b, s.len);
    buf_add_str(b, s);
}

static void gguf_put_kv(struct buf *b, const struct gguf_kv *kv)
{
    gguf_put_str(b, kv->key);
    gguf_put_u32(b, (uint32_t)kv->type);
    if (kv->type == GGUF_ARRAY) {
        gguf_put_u32(b, (uint32_t)kv->item_type);
        gguf_put_u64(b, kv->n);
    }
    if (kv->item_type != GGUF_STRING) {
        buf_add(b, kv->bytes, (size_t)(kv->n * gguf_type_bytes(kv->item_type)));
        return;
    }
    for (uint64_t i = 0; i < kv->n; i++) {
        gguf_put_str(b, kv->strings[i]);
    }
}

/* Whether a change drops the key or puts another value in its place. */
static bool gguf_writer_changes_key(const struct gguf_writer *w, struct str key)
{
    for (uint32_t i = 0; i < w->n_changes; i++) {
        const struct gguf_change *c = &w->changes[i];
        struct str name = str_from(c->key);
        if (c->drop ? str_starts(key, name) : str_eq(key, name)) {
            return true;
        }
    }
    return false;
}

/* Kept keys in their order, then the changed ones; returns how many there are. */
static uint64_t gguf_put_metadata(const struct gguf_writer *w, struct buf *b)
{
    uint64_t n = 0;
    uint32_t n_from = w->from != NULL ? gguf_n_kv(w->from) : 0;
    for (uint32_t i = 0; i < n_from; i++) {
        const struct gguf_kv *kv = gguf_kv_at(w->from, i);
        if (!gguf_writer_changes_key(w, kv->key)) {
            gguf_put_kv(b, kv);
            n++;
        }
    }
    for (uint32_t i = 0; i < w->n_changes; i++) {
        const struct gguf_change *c = &w->changes[i];
        if (!c->drop) {
            gguf_put_str(b, str_from(c->key));
            gguf_put_u32(b, GGUF_U32);
            gguf_put_u32(b, c->value);
            n++;
        }
    }
    return n;
}

static enum rc gguf_writer_place(struct gguf_writer *w, struct err *err)
{
    uint32_t alignment = GGUF_WRITER_ALIGNMENT;
    if (w->from != NULL) {
        enum rc rc = gguf_get_u32(w->from, "general.alignment", alignment, &alignment, err);
        if (rc != RC_OK) {
            return rc;
        }
    }
    ASSERT(alignment > 0 && alignment <= GGUF_WRITER_ALIGNMENT_MAX);
    w->alignment = alignment;
    uint64_t at = 0;
    for (uint32_t i = 0; i < w->n_tensors; i++) {
        struct gguf_tensor *t = &w->tensors[i];
        t->offset = at;
        if (!checked_add(at, t->n_bytes, &at) || !checked_align_up(at, alignment, &at) ||
            at > INT64_MAX / 2) {
            return err_set(err, RC_TOO_LARGE, "%s: the tensors do not fit a file", w->path);
        }
    }
    w->file_bytes = at;
    return RC_OK;
}

static void gguf_put_header(const struct gguf_writer *w, struct buf *b)
{
    buf_add_cstr(b, "GGUF");
    gguf_put_u32(b, 3);
    gguf_put_u64(b, w->n_tensors);
    size_t count_at = b->len;
    gguf_put_u64(b, 0);
    uint64_t n_kv = gguf_put_metadata(w, b);
    for (uint32_t i = 0; i < w->n_tensors; i++) {
        const struct gguf_tensor *t = &w->tensors[i];
        gguf_put_str(b, t->name);
        gguf_put_u32(b, t->n_dims);
        for (uint32_t d = 0; d < t->n_dims; d++) {
            gguf_put_u64(b, t->dims[d]);
        }
        gguf_put_u32(b, (uint32_t)t->type);
        gguf_put_u64(b, t->offset);
    }
    while (buf_ok(b) && b->len % w->alignment != 0) {
        buf_add_byte(b, 0);
    }
    if (buf_ok(b)) {
        memcpy(b->ptr + count_at, &n_kv, sizeof(n_kv));
    }
}

/* ---- the file ---- */

static enum rc gguf_writer_errno(const struct gguf_writer *w, const char *verb, struct err *err)
{
    return err_set(err, RC_IO, "%s: cannot %s: %s", w->path, verb, strerror(errno));
}

static enum rc gguf_writer_put(struct gguf_writer *w, const void *bytes, size_t n, struct err *err)
{
    const char *from = bytes;
    while (n > 0) {
        ssize_t done = write(w->fd, from, n);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return gguf_writer_errno(w, "write", err);
        }
        from += done;
        n -= (size_t)done;
        w->pos += (uint64_t)done;
    }
    return RC_OK;
}

static enum rc gguf_writer_create_file(struct gguf_writer *w, struct err *err)
{
    size_t bytes = strlen(w->path) + sizeof(".XXXXXX");
    char *temp = mem_alloc(bytes);
    snprintf(temp, bytes, "%s.XXXXXX", w->path);
    w->fd = mkostemp(temp, O_CLOEXEC);
    if (w->fd < 0) {
        mem_free(temp);
        return gguf_writer_errno(w, "create a file beside it", err);
    }
    w->temp = temp;
    if (fchmod(w->fd, 0644) != 0) {
        return gguf_writer_errno(w, "set its mode", err);
    }
    /* A full disk is told here, before the work; a file system without reservation tells later. */
    if (fallocate(w->fd, 0, 0, (off_t)w->file_bytes) != 0 && errno != EOPNOTSUPP &&
        errno != ENOSYS) {
        return gguf_writer_errno(w, "reserve its size", err);
    }
    return RC_OK;
}

enum rc gguf_writer_begin(struct gguf_writer *w, const char *path, struct err *err)
{
    ASSERT(w->fd < 0);
    w->path = mem_strdup(path);
    enum rc rc = gguf_writer_place(w, err);
    if (rc != RC_OK) {
        return rc;
    }
    struct buf header;
    buf_init(&header, GGUF_WRITER_HEADER_MAX);
    gguf_put_header(w, &header);
    if (!buf_ok(&header)) {
        rc = err_set(err, RC_NOMEM, "%s: no memory for its metadata", path);
    } else {
        w->file_bytes += header.len;
        rc = gguf_writer_create_file(w, err);
    }
    if (rc == RC_OK) {
        rc = gguf_writer_put(w, header.ptr, header.len, err);
    }
    buf_deinit(&header);
    w->left = w->n_tensors > 0 ? w->tensors[0].n_bytes : 0;
    return rc;
}

static enum rc gguf_writer_pad(struct gguf_writer *w, struct err *err)
{
    static const char zeros[4096];
    enum rc rc = RC_OK;
    while (rc == RC_OK && w->pos % w->alignment != 0) {
        uint64_t n = w->alignment - w->pos % w->alignment;
        rc = gguf_writer_put(w, zeros, (size_t)MIN(n, (uint64_t)sizeof(zeros)), err);
    }
    return rc;
}

enum rc gguf_writer_data(struct gguf_writer *w, const void *bytes, size_t n, struct err *err)
{
    ASSERT(w->next < w->n_tensors);
    ASSERT(n <= w->left);
    enum rc rc = gguf_writer_put(w, bytes, n, err);
    if (rc != RC_OK) {
        return rc;
    }
    w->left -= n;
    if (w->left > 0) {
        return RC_OK;
    }
    w->next++;
    w->left = w->next < w->n_tensors ? w->tensors[w->next].n_bytes : 0;
    return gguf_writer_pad(w, err);
}

enum rc gguf_writer_end(struct gguf_writer *w, struct err *err)
{
    ASSERT(w->next == w->n_tensors);
    ASSERT(w->pos == w->file_bytes);
    if (fsync(w->fd) != 0) {
        return gguf_writer_errno(w, "sync", err);
    }
    int closed = close(w->fd);
    w->fd = -1;
    if (closed != 0) {
        return gguf_writer_errno(w, "close", err);
    }
    if (rename(w->temp, w->path) != 0) {
        return gguf_writer_errno(w, "rename a file to it", err);
    }
    mem_free(w->temp);
    w->temp = NULL;
    return RC_OK;
}

uint64_t gguf_writer_bytes(const struct gguf_writer *w)
{
    return w->file_bytes;
}
