/* gguf.c: the parts of a model joined into one table, indexed and cross-checked.
 *
 * Invariants after gguf_open: keys of the first part and tensors of all parts are unique by name;
 * no two tensors share a byte; every tensor lies inside its source.
 * Not here: the bytes of one file (gguf_parse.c), typed values (gguf_value.c). */
#include "engine/format/gguf.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/format/gguf_parse.h"

/* Metadata of the largest vocabularies takes 40 MB; a hostile file may ask for this much at most,
 * and only by being about as large itself. */
#define GGUF_METADATA_BYTES_MAX ((size_t)1 << 30)

struct gguf {
    struct arena arena;
    struct weight_source **sources; /* owned array of borrowed handles */
    uint32_t n_sources;
    uint32_t version;
    uint32_t n_kv;
    uint32_t n_tensors;
    struct gguf_kv *kv;
    struct gguf_tensor *tensors;
    const struct gguf_kv **kv_by_key; /* sorted */
    const struct gguf_tensor **tensors_by_name;
};

/* ---- order ---- */

static int gguf_compare_str(struct str a, struct str b)
{
    int order = memcmp(a.ptr, b.ptr, MIN(a.len, b.len));
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int gguf_compare_kv(const void *a, const void *b)
{
    const struct gguf_kv *const *x = a;
    const struct gguf_kv *const *y = b;
    return gguf_compare_str((*x)->key, (*y)->key);
}

static int gguf_compare_name(const void *a, const void *b)
{
    const struct gguf_tensor *const *x = a;
    const struct gguf_tensor *const *y = b;
    return gguf_compare_str((*x)->name, (*y)->name);
}

static int gguf_compare_place(const void *a, const void *b)
{
    const struct gguf_tensor *const *x = a;
    const struct gguf_tensor *const *y = b;
    if ((*x)->source_idx != (*y)->source_idx) {
        return (*x)->source_idx < (*y)->source_idx ? -1 : 1;
    }
    return ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

/* ---- indexing and cross-checks ---- */

static enum rc gguf_index_keys(struct gguf *g, struct err *err)
{
    g->kv_by_key = mem_try_zalloc_array(g->n_kv, sizeof(*g->kv_by_key));
    if (g->kv_by_key == NULL) {
        return err_set(err, RC_NOMEM, "%s: no memory for its metadata", gguf_name(g));
    }
    for (uint32_t i = 0; i < g->n_kv; i++) {
        g->kv_by_key[i] = &g->kv[i];
    }
    qsort(g->kv_by_key, g->n_kv, sizeof(*g->kv_by_key), gguf_compare_kv);
    for (uint32_t i = 1; i < g->n_kv; i++) {
        const struct gguf_kv *a = g->kv_by_key[i - 1];
        const struct gguf_kv *b = g->kv_by_key[i];
        if (str_eq(a->key, b->key)) {
            return err_set(err, RC_CORRUPT, "%s: at byte %" PRIu64 ": key '%.*s' appears twice",
                           gguf_name(g), MAX(a->offset, b->offset), (int)MIN(a->key.len, 96U),
                           a->key.ptr);
        }
    }
    return RC_OK;
}

static enum rc gguf_check_overlap(const struct gguf *g, struct err *err)
{
    for (uint32_t i = 1; i < g->n_tensors; i++) {
        const struct gguf_tensor *a = g->tensors_by_name[i - 1];
        const struct gguf_tensor *b = g->tensors_by_name[i];
        if (a->source_idx == b->source_idx && b->offset - a->offset < a->n_bytes) {
            return err_set(err, RC_CORRUPT,
                           "%s: at byte %" PRIu64 ": tensors '%.*s' and '%.*s' overlap",
                           g->sources[a->source_idx]->name, b->offset, STR(a->name), STR(b->name));
        }
    }
    return RC_OK;
}

static enum rc gguf_index_tensors(struct gguf *g, struct err *err)
{
    g->tensors_by_name = mem_try_zalloc_array(g->n_tensors, sizeof(*g->tensors_by_name));
    if (g->tensors_by_name == NULL) {
        return err_set(err, RC_NOMEM, "%s: no memory for its tensors", gguf_name(g));
    }
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        g->tensors_by_name[i] = &g->tensors[i];
    }
    qsort(g->tensors_by_name, g->n_tensors, sizeof(*g->tensors_by_name), gguf_compare_place);
    enum rc rc = gguf_check_overlap(g, err);
    if (rc != RC_OK) {
        return rc;
    }
    qsort(g->tensors_by_name, g->n_tensors, sizeof(*g->tensors_by_name), gguf_compare_name);
    for (uint32_t i = 1; i < g->n_tensors; i++) {
        const struct gguf_tensor *a = g->tensors_by_name[i - 1];
        const struct gguf_tensor *b = g->tensors_by_name[i];
        if (str_eq(a->name, b->name)) {
            return err_set(err, RC_CORRUPT, "%s: at byte %" PRIu64 ": tensor '%.*s' appears twice",
                           g->sources[b->source_idx]->name, b->offset, STR(a->name));
        }
    }
    return RC_OK;
}

/* ---- parts ---- */

/* A small non-negative whole number of a part's metadata, or `fallback`. */
static int64_t gguf_part_number(const struct gguf_part *part, const char *key, int64_t fallback)
{
    for (uint32_t i = 0; i < part->n_kv; i++) {
        const struct gguf_kv *kv = &part->kv[i];
        if (!str_is(kv->key, key)) {
            continue;
        }
        bool whole = kv->type <= GGUF_I32 || kv->type == GGUF_U64 || kv->type == GGUF_I64;
        return whole ? gguf_kv_i64(kv, 0) : -1;
    }
    return fallback;
}

static enum rc gguf_check_split(const struct gguf *g, const struct gguf_part *part, uint32_t idx,
                                struct err *err)
{
    const char *name = g->sources[idx]->name;
    bool lone = g->n_sources == 1;
    int64_t count = gguf_part_number(part, "split.count", lone ? 1 : 0);
    int64_t no = gguf_part_number(part, "split.no", lone ? 0 : -1);
    /* Writers of whole files leave a count of 0. */
    if (lone && count == 0) {
        count = 1;
    }
    if (count != (int64_t)g->n_sources) {
        return err_set(err, RC_CORRUPT,
                       "%s: at byte 24: split.count is %" PRId64 ", but %u part%s opened (parts "
                       "are named NAME-00001-of-%05" PRId64 ".gguf)",
                       name, count, g->n_sources, lone ? " was" : "s were", count);
    }
    if (no != (int64_t)idx) {
        return err_set(err, RC_CORRUPT,
                       "%s: at byte 24: split.no is %" PRId64 ", expected %u: not the part that "
                       "its name says",
                       name, no, idx);
    }
    return RC_OK;
}

static enum rc gguf_append_tensors(struct gguf *g, const struct gguf_part *part, uint32_t idx,
                                   struct err *err)
{
    size_t n = (size_t)g->n_tensors + part->n_tensors;
    if (n == 0) {
        return RC_OK;
    }
    struct gguf_tensor *grown = mem_try_realloc(g->tensors, n * sizeof(*grown));
    if (grown == NULL || n > UINT32_MAX) {
        g->tensors = grown != NULL ? grown : g->tensors;
        return err_set(err, RC_NOMEM, "%s: no memory for its tensors", gguf_name(g));
    }
    g->tensors = grown;
    for (uint32_t i = 0; i < part->n_tensors; i++) {
        grown[g->n_tensors + i] = part->tensors[i];
        grown[g->n_tensors + i].source_idx = idx;
    }
    g->n_tensors = (uint32_t)n;
    return RC_OK;
}

static enum rc gguf_add_part(struct gguf *g, uint32_t idx, struct err *err)
{
    struct gguf_part part;
    enum rc rc = gguf_part_parse(&part, &g->arena, g->sources[idx], err);
    if (rc != RC_OK) {
        return rc;
    }
    rc = gguf_check_split(g, &part, idx, err);
    if (rc == RC_OK) {
        rc = gguf_append_tensors(g, &part, idx, err);
    }
    if (rc == RC_OK && idx == 0) {
        g->version = part.version;
        g->kv = part.kv;
        g->n_kv = part.n_kv;
        part.kv = NULL;
        rc = gguf_index_keys(g, err);
    }
    gguf_part_deinit(&part);
    return rc;
}

static enum rc gguf_check_total(const struct gguf *g, struct err *err)
{
    uint32_t total;
    enum rc rc = gguf_get_u32(g, "split.tensors.count", g->n_tensors, &total, err);
    if (rc == RC_OK && g->n_sources > 1 && total != g->n_tensors) {
        rc = err_set(err, RC_CORRUPT,
                     "%s: at byte %" PRIu64 ": split.tensors.count is %u, but the %u parts hold %u",
                     gguf_name(g), gguf_find(g, "split.tensors.count")->offset, total, g->n_sources,
                     g->n_tensors);
    }
    return rc;
}

/* ---- public ---- */

enum rc gguf_open(struct gguf **out, struct weight_source *const *sources, uint32_t n_sources,
                  struct err *err)
{
    ASSERT(n_sources >= 1);
    ASSERT(n_sources <= WEIGHT_SOURCES_MAX);
    *out = NULL;
    struct gguf *g = mem_zalloc(sizeof(*g));
    arena_init(&g->arena, GGUF_METADATA_BYTES_MAX);
    g->sources = mem_zalloc_array(n_sources, sizeof(struct weight_source *));
    memcpy(g->sources, sources, n_sources * sizeof(struct weight_source *));
    g->n_sources = n_sources;
    enum rc rc = RC_OK;
    for (uint32_t i = 0; rc == RC_OK && i < n_sources; i++) {
        rc = gguf_add_part(g, i, err);
    }
    if (rc == RC_OK) {
        rc = gguf_index_tensors(g, err);
    }
    if (rc == RC_OK) {
        rc = gguf_check_total(g, err);
    }
    if (rc != RC_OK) {
        gguf_close(g);
        return rc;
    }
    *out = g;
    return RC_OK;
}

void gguf_close(struct gguf *g)
{
    if (g == NULL) {
        return;
    }
    arena_deinit(&g->arena);
    mem_free(g->tensors_by_name);
    mem_free(g->kv_by_key);
    mem_free(g->tensors);
    mem_free(g->kv);
    mem_free(g->sources);
    mem_free(g);
}

uint32_t gguf_n_kv(const struct gguf *g)
{
    return g->n_kv;
}

const struct gguf_kv *gguf_kv_at(const struct gguf *g, uint32_t idx)
{
    ASSERT(idx < g->n_kv);
    return &g->kv[idx];
}

uint32_t gguf_n_tensors(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, uint32_t idx)
{
    ASSERT(idx < g->n_tensors);
    return &g->tensors[idx];
}

uint32_t gguf_version(const struct gguf *g)
{
    return g->version;
}

const char *gguf_name(const struct gguf *g)
{
    return g->sources[0]->name;
}

struct weight_source *gguf_source(const struct gguf *g, uint32_t source_idx)
{
    ASSERT(source_idx < g->n_sources);
    return g->sources[source_idx];
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
    const struct gguf_kv wanted = {.key = str_from(key)};
    const struct gguf_kv *ptr = &wanted;
    if (g->n_kv == 0) {
        return NULL;
    }
    const struct gguf_kv **hit = bsearch(&ptr, g->kv_by_key, g->n_kv, sizeof(ptr), gguf_compare_kv);
    return hit != NULL ? *hit : NULL;
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name)
{
    const struct gguf_tensor wanted = {.name = str_from(name)};
    const struct gguf_tensor *ptr = &wanted;
    if (g->n_tensors == 0) {
        return NULL;
    }
    const struct gguf_tensor **hit =
        bsearch(&ptr, g->tensors_by_name, g->n_tensors, sizeof(ptr), gguf_compare_name);
    return hit != NULL ? *hit : NULL;
}
