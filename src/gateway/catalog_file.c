/* catalog_file.c: see catalog_file.h. */
#include "gateway/catalog_file.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/yaml.h"
#include "net/http_head.h"
#include "stores/seal.h"

enum {
    CATALOG_FILE_ARENA_BYTES_MAX = 256 << 20,
    CATALOG_FILE_KEY_BYTES_MAX = 1024,
    CATALOG_FILE_SEALED_BYTES_MAX = 2048,
};

struct catalog_file {
    struct arena arena;
    struct buf text;
    const struct json *root;
    struct cat_set set;
    struct meta_object *objects;
    uint32_t n_objects;
};

static void catalog_file_close(struct catalog_file *f)
{
    arena_deinit(&f->arena);
    buf_deinit(&f->text);
}

static enum rc catalog_file_no_sealed(const struct catalog_file *f, struct err *err)
{
    const struct cat_upstream *upstreams = f->set.upstreams.at;
    for (uint32_t i = 0; i < f->set.upstreams.n; i++) {
        const struct cat_upstream *u = &upstreams[i];
        if (u->sealed_key.len > 0 || str_is(u->name, CAT_LOCAL)) {
            return err_set(err, RC_INVALID, "upstreams[%u]: %s", i,
                           u->sealed_key.len > 0 ? "sealed_key is the store's: use key_file or "
                                                   "key_env"
                                                 : "the name 'local' is this machine's own");
        }
        if (u->key_file.len > 0 && u->key_env.len > 0) {
            return err_set(err, RC_INVALID, "upstreams[%u]: key_file or key_env, not both", i);
        }
    }
    return RC_OK;
}

static enum rc catalog_file_open(struct catalog_file *f, const char *path,
                                 const struct cat_local *local, struct err *err)
{
    arena_init(&f->arena, CATALOG_FILE_ARENA_BYTES_MAX);
    buf_init(&f->text, YAML_BYTES_MAX);
    enum rc rc = file_read(path, &f->text, err);
    if (rc != RC_OK) {
        return rc; /* it names the path */
    }
    struct cat_set checked = {0};
    rc = yaml_parse(buf_str(&f->text), &f->arena, &f->root, err);
    rc = rc == RC_OK ? conf_read(cat_set_rows, f->root, &f->arena, &f->set, err) : rc;
    rc = rc == RC_OK ? catalog_file_no_sealed(f, err) : rc;
    rc = rc == RC_OK ? conf_read(cat_set_rows, f->root, &f->arena, &checked, err) : rc;
    rc = rc == RC_OK ? cat_check(&checked, local, err) : rc;
    return rc == RC_OK ? RC_OK : err_context(err, "%s", path);
}

enum rc catalog_file_check(const char *path, const struct cat_local *local, struct err *err)
{
    struct catalog_file f = {0};
    enum rc rc = catalog_file_open(&f, path, local, err);
    catalog_file_close(&f);
    return rc;
}

/* ---- keys of upstreams ---- */

static enum rc catalog_file_read_key(const struct cat_upstream *u, struct buf *out, struct err *err)
{
    if (u->key_file.len > 0) {
        return file_read(u->key_file.ptr, out, err);
    }
    const char *value = getenv(u->key_env.ptr);
    if (value == NULL || value[0] == '\0') {
        return err_set(err, RC_NOT_FOUND, "the environment has no %s", u->key_env.ptr);
    }
    buf_add_cstr(out, value);
    return buf_ok(out) ? RC_OK : err_set(err, RC_TOO_LARGE, "%s is too long", u->key_env.ptr);
}

/* What the store has of an upstream as its sealed key, in hexadecimal; "" = none. */
static struct str catalog_file_stored(struct catalog_file *f, const struct catalog_file_to *to,
                                      struct str name, struct err *err)
{
    struct buf body;
    const struct json *root = NULL, *sealed = NULL;
    struct str out = STR_LIT("");
    buf_init(&body, YAML_BYTES_MAX);
    enum rc rc = meta_object_get(to->meta, "upstream", name, &body, NULL, err);
    struct str text = arena_str(&f->arena, buf_str(&body)); /* the nodes lie in what was read */
    if (rc == RC_OK && text.ptr != NULL && json_parse(text, &f->arena, &root, err) == RC_OK) {
        sealed = json_get_present(root, "sealed_key");
    }
    if (sealed != NULL && sealed->type == JSON_STRING) {
        out = sealed->text;
    }
    buf_deinit(&body);
    return out;
}

/* Whether that opens to this very key. */
static bool catalog_file_is_sealed(struct str hex, const struct kms *kms, struct str context,
                                   struct str key)
{
    char sealed[CATALOG_FILE_SEALED_BYTES_MAX];
    size_t n = hex.len / 2;
    struct buf plain;
    buf_init(&plain, CATALOG_FILE_KEY_BYTES_MAX);
    bool same = n > 0 && n <= sizeof(sealed) && crypto_unhex(hex, sealed, n) &&
                seal_open_value(kms, context, str_make(sealed, n), &plain, NULL) == RC_OK &&
                crypto_equal(buf_str(&plain), key);
    if (plain.ptr != NULL) {
        mem_wipe(plain.ptr, plain.len);
    }
    buf_deinit(&plain);
    return same;
}

/* Appends the member "sealed_key" to an object under writing. A key comes out sealed anew each
 * time: where the store has the same one, that stays, so that nothing has changed. */
static enum rc catalog_file_seal_key(struct json_writer *w, struct catalog_file *f,
                                     const struct cat_upstream *u, const struct catalog_file_to *to,
                                     struct err *err)
{
    struct buf plain, sealed;
    char hex[2 * CATALOG_FILE_SEALED_BYTES_MAX + 1];
    struct str context = arena_printf(&f->arena, "upstreams/%.*s/key", STR(u->name));
    struct str stored = catalog_file_stored(f, to, u->name, NULL);
    if (context.ptr == NULL) {
        return err_set(err, RC_TOO_LARGE, "the catalogue is too large");
    }
    buf_init(&plain, CATALOG_FILE_KEY_BYTES_MAX);
    buf_init(&sealed, CATALOG_FILE_SEALED_BYTES_MAX);
    enum rc rc = catalog_file_read_key(u, &plain, err);
    struct str key = str_trim(buf_str(&plain));
    if (rc == RC_OK && (key.len == 0 || !http_value_valid(key))) {
        rc = err_set(err, RC_INVALID, "its key is empty, or not one line of text");
    }
    if (rc == RC_OK && catalog_file_is_sealed(stored, to->kms, context, key)) {
        json_write_member_str(w, "sealed_key", stored);
    } else if (rc == RC_OK && (rc = seal_value(to->kms, context, key, &sealed, err)) == RC_OK) {
        crypto_hex(sealed.ptr, sealed.len, hex);
        json_write_member_cstr(w, "sealed_key", hex);
    }
    if (rc != RC_OK) {
        err_context(err, "upstream %.*s", STR(u->name));
    }
    if (plain.ptr != NULL) {
        mem_wipe(plain.ptr, plain.len);
    }
    buf_deinit(&plain);
    buf_deinit(&sealed);
    return rc;
}

/* ---- objects for the store ---- */

static enum rc catalog_file_add(struct catalog_file *f, const struct cat_kind_row *kind,
                                const struct json *body, const void *object,
                                const struct catalog_file_to *to, struct err *err)
{
    struct json_writer w;
    struct buf text;
    enum rc rc = RC_OK;
    bool upstream = strcmp(kind->kind, "upstream") == 0;
    const struct cat_upstream *u = object;
    buf_init(&text, YAML_BYTES_MAX);
    json_write_init(&w, &text);
    json_write_object_begin(&w);
    JSON_EACH(body, it)
    {
        json_write_name_str(&w, it->name);
        json_write_value(&w, it);
    }
    if (upstream && (u->key_file.len > 0 || u->key_env.len > 0)) {
        rc = catalog_file_seal_key(&w, f, u, to, err);
    }
    json_write_object_end(&w);
    struct str kept = arena_str(&f->arena, buf_str(&text));
    if (rc == RC_OK && (!buf_ok(&text) || kept.ptr == NULL)) {
        rc = err_set(err, RC_TOO_LARGE, "the catalogue is too large");
    }
    f->objects[f->n_objects++] = (struct meta_object){
        .kind = str_from(kind->kind), .name = *(const struct str *)object, .body = kept};
    buf_deinit(&text);
    return rc;
}

static enum rc catalog_file_objects(struct catalog_file *f, const struct catalog_file_to *to,
                                    struct err *err)
{
    enum rc rc = RC_OK;
    f->objects =
        arena_alloc_array(&f->arena, (size_t)CAT_KINDS_N * CAT_OBJECTS_MAX, sizeof(*f->objects));
    if (f->objects == NULL) {
        return err_set(err, RC_NOMEM, "out of memory for the catalogue");
    }
    for (int k = 0; k < CAT_KINDS_N; k++) {
        const struct cat_kind_row *kind = &cat_kinds[k];
        const struct conf_list *list = (const void *)((const char *)&f->set + kind->list);
        const struct json *items = json_get_present(f->root, cat_set_rows[k].key);
        const struct json *item = items != NULL ? items->first : NULL;
        for (uint32_t i = 0; rc == RC_OK && i < list->n; i++, item = item->next) {
            ASSERT(item != NULL);
            rc = catalog_file_add(f, kind, item, (const char *)list->at + i * kind->size, to, err);
        }
    }
    return rc;
}

/* ---- the store ---- */

static enum rc catalog_file_digest_one(void *ctx, const struct meta_object *o)
{
    struct buf *b = ctx;
    if (str_is(o->owner, "file")) {
        const struct str texts[] = {o->kind, o->name, o->body};
        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
            buf_add_u64(b, texts[i].len);
            buf_add_byte(b, ':');
            buf_add_str(b, texts[i]);
        }
    }
    return buf_ok(b) ? RC_OK : RC_TOO_LARGE;
}

/* Of everything that the file owns in the store. */
static enum rc catalog_file_digest(struct meta *m, char out[AUDIT_DIGEST_BYTES], struct err *err)
{
    struct buf all;
    enum rc rc = RC_OK;
    buf_init(&all, CATALOG_FILE_ARENA_BYTES_MAX);
    for (int k = 0; rc == RC_OK && k < CAT_KINDS_N; k++) {
        rc = meta_objects_each(m, cat_kinds[k].kind, catalog_file_digest_one, &all, err);
    }
    audit_digest(buf_str(&all), out);
    buf_deinit(&all);
    return rc == RC_TOO_LARGE ? err_set(err, rc, "the catalogue is too large") : rc;
}

static enum rc catalog_file_store(const struct catalog_file *f, const char *path,
                                  const struct catalog_file_to *to, struct err *err)
{
    char before[AUDIT_DIGEST_BYTES], after[AUDIT_DIGEST_BYTES];
    struct meta *m = to->meta;
    enum rc rc = meta_begin(m, err);
    rc = rc == RC_OK ? catalog_file_digest(m, before, err) : rc;
    rc = rc == RC_OK ? meta_objects_replace(m, "file", f->objects, f->n_objects, err) : rc;
    rc = rc == RC_OK ? catalog_file_digest(m, after, err) : rc;
    if (rc == RC_OK && strcmp(before, after) != 0) {
        const struct audit_entry entry = {.time_ms =
                                              (int64_t)(clock_wall_ns(clock_system()) / 1000000u),
                                          .who = to->act.who,
                                          .what = STR_LIT("catalogue.apply"),
                                          .object = str_from(path),
                                          .source = to->act.source,
                                          .before = str_from(before),
                                          .after = str_from(after)};
        rc = audit_commit(to->act.audit, m, &entry, err);
    } else if (rc == RC_OK) {
        rc = meta_commit(m, err);
    }
    meta_rollback(m);
    return rc;
}

enum rc catalog_file_apply(const char *path, const struct catalog_file_to *to, struct err *err)
{
    struct catalog_file f = {0};
    enum rc rc = catalog_file_open(&f, path, to->local, err);
    if (rc == RC_OK) {
        rc = catalog_file_objects(&f, to, err);
        rc = rc == RC_OK ? catalog_file_store(&f, path, to, err) : rc;
        if (rc != RC_OK) {
            err_context(err, "%s", path);
        }
    }
    catalog_file_close(&f);
    return rc;
}
