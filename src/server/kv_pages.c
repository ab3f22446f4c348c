/* kv_pages.c: a stack of free page ids.
 *
 * Invariant: n_free + pages taken = n_pages; an id is on the stack exactly when taken[id] is
 * false. */
#include "server/kv_pages.h"

#include "base/assert.h"
#include "base/mem.h"

void kv_pages_init(struct kv_pages *p, uint32_t n_pages)
{
    ASSERT(n_pages > 0);
    *p = (struct kv_pages){.n_pages = n_pages, .n_free = n_pages};
    p->free_ids = mem_zalloc_array(n_pages, sizeof(*p->free_ids));
    p->taken = mem_zalloc_array(n_pages, sizeof(*p->taken));
    for (uint32_t i = 0; i < n_pages; i++) {
        p->free_ids[i] = n_pages - 1 - i; /* page 0 is handed out first */
    }
}

void kv_pages_deinit(struct kv_pages *p)
{
    mem_free(p->free_ids);
    mem_free(p->taken);
    *p = (struct kv_pages){0};
}

bool kv_page_get(struct kv_pages *p, kv_page_id *out)
{
    if (p->n_free == 0) {
        return false;
    }
    uint32_t id = p->free_ids[--p->n_free];
    ASSERT(!p->taken[id]);
    p->taken[id] = true;
    *out = (kv_page_id){id};
    return true;
}

void kv_page_put(struct kv_pages *p, kv_page_id page)
{
    ASSERT(page.id < p->n_pages);
    ASSERT(p->taken[page.id]);
    ASSERT(p->n_free < p->n_pages);
    p->taken[page.id] = false;
    p->free_ids[p->n_free++] = page.id;
}
