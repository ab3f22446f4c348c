/* kv_pages.c: a count of holders for each page, and the pages without one in a ring by ids, oldest
 * first.
 *
 * Invariant: a page is on the free list exactly when n_holds is 0; n_free counts them. */
#include "server/kv_pages.h"

#include "base/assert.h"
#include "base/mem.h"

struct kv_page {
    uint32_t n_holds;
    uint32_t next, prev; /* on the free list */
};

void kv_pages_init(struct kv_pages *p, uint32_t n_pages)
{
    ASSERT(n_pages > 0 && n_pages < UINT32_MAX);
    *p = (struct kv_pages){.n_pages = n_pages, .n_free = n_pages};
    p->pages = mem_zalloc_array((size_t)n_pages + 1, sizeof(*p->pages));
    for (uint32_t i = 0; i <= n_pages; i++) { /* a ring: head, 0, 1, … */
        p->pages[i].next = i < n_pages ? i + 1 : 0;
        p->pages[i].prev = i > 0 ? i - 1 : n_pages;
    }
}

void kv_pages_deinit(struct kv_pages *p)
{
    mem_free(p->pages);
    *p = (struct kv_pages){0};
}

static void kv_pages_unlink(struct kv_pages *p, uint32_t id)
{
    struct kv_page *page = &p->pages[id];
    p->pages[page->prev].next = page->next;
    p->pages[page->next].prev = page->prev;
    p->n_free--;
}

static void kv_pages_link_before(struct kv_pages *p, uint32_t at, uint32_t id)
{
    struct kv_page *page = &p->pages[id];
    page->next = at;
    page->prev = p->pages[at].prev;
    p->pages[page->prev].next = id;
    p->pages[at].prev = id;
    p->n_free++;
}

bool kv_page_get(struct kv_pages *p, kv_page_id *out)
{
    if (p->n_free == 0) {
        return false;
    }
    uint32_t id = p->pages[p->n_pages].next;
    ASSERT(p->pages[id].n_holds == 0);
    kv_pages_unlink(p, id);
    p->pages[id].n_holds = 1;
    *out = (kv_page_id){id};
    return true;
}

void kv_page_hold(struct kv_pages *p, kv_page_id page)
{
    ASSERT(page.id < p->n_pages);
    if (p->pages[page.id].n_holds++ == 0) {
        kv_pages_unlink(p, page.id);
    }
}

/* True when nobody holds the page any more. */
static bool kv_page_let_go(struct kv_pages *p, kv_page_id page)
{
    ASSERT(page.id < p->n_pages);
    ASSERT(p->pages[page.id].n_holds > 0);
    return --p->pages[page.id].n_holds == 0;
}

void kv_page_put(struct kv_pages *p, kv_page_id page)
{
    if (kv_page_let_go(p, page)) {
        kv_pages_link_before(p, p->n_pages, page.id);
    }
}

void kv_page_drop(struct kv_pages *p, kv_page_id page)
{
    if (kv_page_let_go(p, page)) {
        kv_pages_link_before(p, p->pages[p->n_pages].next, page.id);
    }
}

uint32_t kv_page_n_holds(const struct kv_pages *p, kv_page_id page)
{
    ASSERT(page.id < p->n_pages);
    return p->pages[page.id].n_holds;
}

void kv_pages_check(const struct kv_pages *p)
{
    uint32_t n = 0;
    uint32_t last = p->n_pages;
    for (uint32_t id = p->pages[last].next; id != p->n_pages; id = p->pages[id].next) {
        ASSERT(p->pages[id].n_holds == 0);
        ASSERT(p->pages[id].prev == last);
        ASSERT(n < p->n_free);
        last = id;
        n++;
    }
    ASSERT(n == p->n_free);
}
