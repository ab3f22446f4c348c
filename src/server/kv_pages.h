/* kv_pages.h: who has which page of the engine's KV memory. Pure bookkeeping of page ids: no
 * tensor, no socket, no clock. One owner: the engine thread. */
#ifndef SERVER_KV_PAGES_H
#define SERVER_KV_PAGES_H

#include "base/compiler.h"

typedef struct {
    uint32_t id;
} kv_page_id;

struct kv_pages {
    /* private */
    uint32_t *free_ids; /* a stack: the page freed last is warm in cache and is reused first */
    bool *taken;        /* by id: catches a page given back twice */
    uint32_t n_free, n_pages;
};

void kv_pages_init(struct kv_pages *p, uint32_t n_pages);
/* May be called twice. */
void kv_pages_deinit(struct kv_pages *p);
/* False when none is left. */
MUST_CHECK bool kv_page_get(struct kv_pages *p, kv_page_id *out);
void kv_page_put(struct kv_pages *p, kv_page_id page);

static inline uint32_t kv_pages_left(const struct kv_pages *p)
{
    return p->n_free;
}
static inline uint32_t kv_pages_total(const struct kv_pages *p)
{
    return p->n_pages;
}

#endif
