/* prefix.c: see prefix.h.
 *
 * Invariants:
 * 1. A page is in `parts`, in the bucket of its parent's key, while it holds tokens that can be
 *    found; a full one stands in `whole` too, in the bucket of its own key.
 * 2. No two pages in `whole` hold the same text of one tenant: who comes second stays unknown.
 * 3. A page that prefix_page_get hands out is in neither. */
#include "server/prefix.h"

#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/tensor/backend.h"

/* Siblings that prefix_find_part looks at: the newest are first, and a popular parent (a system
 * prompt) may have thousands. */
enum { PREFIX_SIBLINGS_MAX = 32 };

/* A page's neighbours in a bucket; PREFIX_NONE at both ends. */
struct prefix_link {
    uint32_t next, prev;
};

struct prefix_page {
    struct hash128 key; /* of a full page */
    struct prefix_place at;
    struct prefix_link whole, part;
    uint32_t n_tokens; /* 0 = not known */
};

void prefix_init(struct prefix *p, const struct prefix_conf *conf, struct kv_pages *kv)
{
    uint32_t n_pages = kv_pages_total(kv);
    uint32_t n_buckets = 1;
    while (n_buckets < n_pages && n_buckets < 1u << 30) {
        n_buckets *= 2;
    }
    *p = (struct prefix){.kv = kv, .mask = n_buckets - 1, .seed = conf->seed, .on = conf->on};
    p->pages = mem_zalloc_array(n_pages, sizeof(*p->pages));
    p->tokens = mem_zalloc_array((size_t)n_pages * KV_PAGE_TOKENS, sizeof(*p->tokens));
    p->whole = mem_zalloc_array(n_buckets, sizeof(*p->whole));
    p->parts = mem_zalloc_array(n_buckets, sizeof(*p->parts));
    for (uint32_t i = 0; i < n_buckets; i++) {
        p->whole[i] = p->parts[i] = PREFIX_NONE;
    }
}

void prefix_deinit(struct prefix *p)
{
    mem_free(p->pages);
    mem_free(p->tokens);
    mem_free(p->whole);
    mem_free(p->parts);
    *p = (struct prefix){0};
}

/* ---- keys ---- */

struct hash128 prefix_root(const struct prefix *p, struct str tenant)
{
    return hash128_bytes(tenant.ptr, tenant.len, p->seed);
}

struct hash128 prefix_key(const struct prefix *p, struct hash128 parent, const int32_t *tokens,
                          uint32_t n)
{
    struct {
        struct hash128 parent;
        int32_t tokens[KV_PAGE_TOKENS];
    } in = {.parent = parent};
    ASSERT(n <= KV_PAGE_TOKENS);
    memcpy(in.tokens, tokens, n * sizeof(*tokens));
    return hash128_bytes(&in, sizeof(in.parent) + n * sizeof(*tokens), p->seed);
}

/* ---- buckets ---- */

static uint32_t *prefix_bucket(uint32_t *table, const struct prefix *p, struct hash128 key)
{
    return &table[key.lo & p->mask];
}

static int32_t *prefix_tokens(const struct prefix *p, uint32_t id)
{
    return p->tokens + (size_t)id * KV_PAGE_TOKENS;
}

#define PREFIX_LINK(p, bucket, id, member)                                                         \
    do {                                                                                           \
        (p)->pages[id].member = (struct prefix_link){*(bucket), PREFIX_NONE};                      \
        if (*(bucket) != PREFIX_NONE) {                                                            \
            (p)->pages[*(bucket)].member.prev = (id);                                              \
        }                                                                                          \
        *(bucket) = (id);                                                                          \
    } while (0)

#define PREFIX_UNLINK(p, bucket, id, member)                                                       \
    do {                                                                                           \
        struct prefix_link link = (p)->pages[id].member;                                           \
        if (link.prev != PREFIX_NONE) {                                                            \
            (p)->pages[link.prev].member.next = link.next;                                         \
        } else {                                                                                   \
            *(bucket) = link.next;                                                                 \
        }                                                                                          \
        if (link.next != PREFIX_NONE) {                                                            \
            (p)->pages[link.next].member.prev = link.prev;                                         \
        }                                                                                          \
    } while (0)

static void prefix_forget(struct prefix *p, uint32_t id)
{
    struct prefix_page *page = &p->pages[id];
    if (page->n_tokens == 0) {
        return;
    }
    uint32_t *parts = prefix_bucket(p->parts, p, page->at.parent);
    PREFIX_UNLINK(p, parts, id, part);
    if (page->n_tokens == KV_PAGE_TOKENS) {
        uint32_t *whole = prefix_bucket(p->whole, p, page->key);
        PREFIX_UNLINK(p, whole, id, whole);
    }
    page->n_tokens = 0;
}

/* ---- looking ---- */

static bool prefix_stands_at(const struct prefix_page *page, const struct prefix_place *at)
{
    return hash128_eq(page->at.parent, at->parent) && hash128_eq(page->at.root, at->root);
}

uint32_t prefix_find(const struct prefix *p, const struct prefix_place *at, struct hash128 key,
                     const int32_t *tokens)
{
    if (!p->on) {
        return PREFIX_NONE;
    }
    uint32_t id = *prefix_bucket(p->whole, p, key);
    while (id != PREFIX_NONE &&
           !(hash128_eq(p->pages[id].key, key) && prefix_stands_at(&p->pages[id], at) &&
             memcmp(prefix_tokens(p, id), tokens, KV_PAGE_TOKENS * sizeof(*tokens)) == 0)) {
        id = p->pages[id].whole.next;
    }
    return id;
}

static uint32_t prefix_n_same(const int32_t *a, const int32_t *b, uint32_t n)
{
    uint32_t i = 0;
    while (i < n && a[i] == b[i]) {
        i++;
    }
    return i;
}

uint32_t prefix_find_part(const struct prefix *p, const struct prefix_place *at,
                          const int32_t *tokens, uint32_t n, uint32_t *n_same)
{
    uint32_t best = PREFIX_NONE;
    *n_same = PREFIX_COPY_TOKENS_MIN - 1;
    if (!p->on || n < PREFIX_COPY_TOKENS_MIN) {
        return PREFIX_NONE;
    }
    uint32_t id = *prefix_bucket(p->parts, p, at->parent);
    for (uint32_t i = 0; id != PREFIX_NONE && i < PREFIX_SIBLINGS_MAX && *n_same < n; i++) {
        const struct prefix_page *page = &p->pages[id];
        if (prefix_stands_at(page, at)) {
            uint32_t same = prefix_n_same(prefix_tokens(p, id), tokens, MIN(n, page->n_tokens));
            if (same > *n_same) {
                *n_same = same;
                best = id;
            }
        }
        id = page->part.next;
    }
    return best;
}

/* ---- pages ---- */

bool prefix_page_get(struct prefix *p, kv_page_id *out)
{
    if (!kv_page_get(p->kv, out)) {
        return false;
    }
    prefix_forget(p, out->id);
    return true;
}

void prefix_page_put(struct prefix *p, kv_page_id page)
{
    if (p->pages[page.id].n_tokens > 0) {
        kv_page_put(p->kv, page);
    } else {
        kv_page_drop(p->kv, page);
    }
}

void prefix_note(struct prefix *p, kv_page_id id, const struct prefix_place *at,
                 const int32_t *tokens, uint32_t n)
{
    struct prefix_page *page = &p->pages[id.id];
    ASSERT(n > 0 && n <= KV_PAGE_TOKENS);
    ASSERT(kv_page_n_holds(p->kv, id) > 0);
    if (!p->on || page->n_tokens == KV_PAGE_TOKENS) {
        return;
    }
    struct hash128 key = {0};
    if (n == KV_PAGE_TOKENS) {
        key = prefix_key(p, at->parent, tokens, n);
        if (prefix_find(p, at, key, tokens) != PREFIX_NONE) {
            prefix_forget(p, id.id); /* computed twice at a time: one copy is enough to find */
            return;
        }
    }
    if (page->n_tokens == 0) {
        page->at = *at;
        uint32_t *parts = prefix_bucket(p->parts, p, at->parent);
        PREFIX_LINK(p, parts, id.id, part);
    }
    ASSERT(prefix_stands_at(page, at));
    memcpy(prefix_tokens(p, id.id), tokens, n * sizeof(*tokens));
    page->n_tokens = n;
    if (n == KV_PAGE_TOKENS) {
        page->key = key;
        uint32_t *whole = prefix_bucket(p->whole, p, key);
        PREFIX_LINK(p, whole, id.id, whole);
    }
}

void prefix_clear(struct prefix *p)
{
    for (uint32_t id = 0; id < kv_pages_total(p->kv); id++) {
        prefix_forget(p, id);
    }
}

void prefix_check(const struct prefix *p)
{
    uint32_t n_known = 0, n_full = 0, n_parts = 0, n_whole = 0;
    for (uint32_t id = 0; id < kv_pages_total(p->kv); id++) {
        n_known += p->pages[id].n_tokens > 0 ? 1 : 0;
        n_full += p->pages[id].n_tokens == KV_PAGE_TOKENS ? 1 : 0;
    }
    for (uint32_t b = 0; b <= p->mask; b++) {
        for (uint32_t id = p->parts[b]; id != PREFIX_NONE; id = p->pages[id].part.next) {
            ASSERT((p->pages[id].at.parent.lo & p->mask) == b);
            n_parts++;
        }
        for (uint32_t id = p->whole[b]; id != PREFIX_NONE; id = p->pages[id].whole.next) {
            ASSERT((p->pages[id].key.lo & p->mask) == b);
            n_whole++;
        }
    }
    ASSERT(n_parts == n_known && n_whole == n_full);
}
