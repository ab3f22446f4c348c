/* prefix.h: which KV pages already hold the beginning of a text: the prefix cache.
 *
 *   tenant ──root──> page ──chain──> page ──chain──> page (part)
 *
 * A page's key is a 128-bit hash of its parent's key and its tokens; the chain begins at a root
 * made from the tenant's name and a random seed. A hit also compares tenant and tokens, so equal
 * hashes alone give nothing away. Whole pages are found by their key and may be shared; a page
 * that agrees only in its first tokens is copied (sched_copy), whoever writes to it meanwhile.
 *
 * Pages are handed out here rather than by kv_pages, since a page that is handed out forgets what
 * it held. Pure bookkeeping: no tensor. One owner: the engine thread. */
#ifndef SERVER_PREFIX_H
#define SERVER_PREFIX_H

#include "base/hash.h"
#include "base/str.h"
#include "server/kv_pages.h"

enum {
    PREFIX_COPY_TOKENS_MIN = 4, /* fewer are computed faster than a page is copied */
    PREFIX_NONE = UINT32_MAX,
};

struct prefix_page;

struct prefix {
    /* private */
    struct kv_pages *kv;
    struct prefix_page *pages; /* by page id */
    int32_t *tokens;           /* KV_PAGE_TOKENS for each page */
    uint32_t *whole, *parts;   /* hash tables of page ids: by key, by the parent's key */
    uint32_t mask;
    uint64_t seed;
    bool on;
};

struct prefix_conf {
    bool on; /* false: nothing is ever found */
    uint64_t seed;
};

/* Where a page stands: behind `parent` in the chain of a tenant. */
struct prefix_place {
    struct hash128 root, parent;
};

void prefix_init(struct prefix *p, const struct prefix_conf *conf, struct kv_pages *kv);
/* May be called twice. */
void prefix_deinit(struct prefix *p);

struct hash128 prefix_root(const struct prefix *p, struct str tenant);
/* The key of n tokens behind `parent`. */
struct hash128 prefix_key(const struct prefix *p, struct hash128 parent, const int32_t *tokens,
                          uint32_t n);

/* A page with exactly these KV_PAGE_TOKENS tokens, or PREFIX_NONE. It is not held. */
uint32_t prefix_find(const struct prefix *p, const struct prefix_place *at, struct hash128 key,
                     const int32_t *tokens);
/* The page whose first tokens agree with most of tokens[n] (at least PREFIX_COPY_TOKENS_MIN), or
 * PREFIX_NONE; *n_same is how many. It is not held. Looks at few candidates only. */
uint32_t prefix_find_part(const struct prefix *p, const struct prefix_place *at,
                          const int32_t *tokens, uint32_t n, uint32_t *n_same);

/* kv_page_get; what the page held is forgotten. */
MUST_CHECK bool prefix_page_get(struct prefix *p, kv_page_id *out);
/* Lets a page go: what the cache knows is kept longest. */
void prefix_page_put(struct prefix *p, kv_page_id page);
/* The page holds these n tokens: from now on it can be found. Called again as it fills up. */
void prefix_note(struct prefix *p, kv_page_id page, const struct prefix_place *at,
                 const int32_t *tokens, uint32_t n);
/* Forgets everything: the pages' content is worthless. */
void prefix_clear(struct prefix *p);
/* Walks the invariants; asserts on a broken one. */
void prefix_check(const struct prefix *p);

#endif
