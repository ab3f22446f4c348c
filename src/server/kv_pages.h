/* kv_pages.h: who has which page of the engine's KV memory. Pure bookkeeping of page ids: no
 * tensor, no socket, no clock. One owner: the engine thread.
 *
 * A page may be held several times (a shared prefix). When nobody holds it any more it goes to the
 * free list, where its content stays usable until the page is handed out again: kv_page_hold takes
 * it back from there. */
#ifndef SERVER_KV_PAGES_H
#define SERVER_KV_PAGES_H

#include "base/compiler.h"

typedef struct {
    uint32_t id;
} kv_page_id;

struct kv_page;

struct kv_pages {
    /* private */
    struct kv_page *pages; /* one more than n_pages: the last is the head of the free list */
    uint32_t n_free, n_pages;
};

void kv_pages_init(struct kv_pages *p, uint32_t n_pages);
/* May be called twice. */
void kv_pages_deinit(struct kv_pages *p);
/* The free page that was let go longest ago, held once. False when none is left. */
MUST_CHECK bool kv_page_get(struct kv_pages *p, kv_page_id *out);
/* Holds a page once more, free or not: its content is wanted. */
void kv_page_hold(struct kv_pages *p, kv_page_id page);
/* Lets go. A page that nobody holds becomes the last to be handed out … */
void kv_page_put(struct kv_pages *p, kv_page_id page);
/* … or the first, when its content is worth nothing. */
void kv_page_drop(struct kv_pages *p, kv_page_id page);

uint32_t kv_page_n_holds(const struct kv_pages *p, kv_page_id page);
static inline uint32_t kv_pages_left(const struct kv_pages *p)
{
    return p->n_free;
}
static inline uint32_t kv_pages_total(const struct kv_pages *p)
{
    return p->n_pages;
}
/* Walks the free list; asserts on a broken one. */
void kv_pages_check(const struct kv_pages *p);

#endif
