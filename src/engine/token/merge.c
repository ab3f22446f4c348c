/* merge.c: see merge.h. Short words are scanned, long ones use the heap; the result is the same.
 *
 * Invariants: 1. the heap holds the key of every symbol that has a rank; it may hold older keys
 * too, which are told by their rank not being the symbol's; 2. no key is above a smaller one;
 * 3. positions grow along the chain, so that the lower position is the leftmost pair; 4. a symbol
 * that was taken into its neighbour has no rank. */
#include "engine/token/merge.h"

#include "base/assert.h"

enum { MERGE_SCAN_SYMS_MAX = 24 };

bool merge_reserve(struct merge *m, struct arena *a, size_t n)
{
    if (n <= m->cap) {
        return true;
    }
    if (n > MERGE_SYMS_MAX / 2) {
        return false;
    }
    uint32_t cap = MAX((uint32_t)n, MAX(2 * m->cap, 64));
    m->cap = 0;
    m->syms = arena_alloc_array(a, cap, sizeof(*m->syms));
    m->heap = arena_alloc_array(a, 2 * (size_t)cap, sizeof(*m->heap));
    if (m->syms == NULL || m->heap == NULL) {
        return false;
    }
    m->cap = cap;
    return true;
}

/* ---- the heap ---- */

/* What the heap orders by: rank first, then position. */
static uint64_t merge_key(const struct merge *m, uint32_t sym)
{
    return (uint64_t)m->syms[sym].rank << 32 | sym;
}

static void merge_sift_down(struct merge *m, uint32_t pos, uint64_t key)
{
    uint64_t *heap = m->heap;
    for (;;) {
        uint32_t child = 2 * pos + 1;
        if (child >= m->n_heap) {
            break;
        }
        if (child + 1 < m->n_heap && heap[child + 1] < heap[child]) {
            child++;
        }
        if (key <= heap[child]) {
            break;
        }
        heap[pos] = heap[child];
        pos = child;
    }
    heap[pos] = key;
}

/* The keys of the chain as it is now, nothing older. */
static void merge_heap_build(struct merge *m)
{
    m->n_heap = 0;
    for (uint32_t i = 0; i != MERGE_NONE; i = m->syms[i].next) {
        if (m->syms[i].rank != MERGE_NONE) {
            m->heap[m->n_heap++] = merge_key(m, i);
        }
    }
    for (uint32_t pos = m->n_heap / 2; pos-- > 0;) {
        merge_sift_down(m, pos, m->heap[pos]);
    }
}

static void merge_heap_push(struct merge *m, uint32_t sym)
{
    uint64_t key = merge_key(m, sym);
    if (m->syms[sym].rank == MERGE_NONE) {
        return;
    }
    if (m->n_heap == 2 * m->n) {
        merge_heap_build(m); /* at least half of them are old, so this is cheap per push */
        return;
    }
    uint32_t pos = m->n_heap++;
    while (pos > 0 && key < m->heap[(pos - 1) / 2]) {
        m->heap[pos] = m->heap[(pos - 1) / 2];
        pos = (pos - 1) / 2;
    }
    m->heap[pos] = key;
}

static uint64_t merge_heap_pop(struct merge *m)
{
    uint64_t top = m->heap[0];
    m->n_heap--;
    if (m->n_heap > 0) {
        merge_sift_down(m, 0, m->heap[m->n_heap]);
    }
    return top;
}

/* ---- merging ---- */

static void merge_rank_pair(const struct merge *m, uint32_t i)
{
    struct merge_sym *s = &m->syms[i];
    if (s->next == MERGE_NONE) {
        s->rank = MERGE_NONE;
        return;
    }
    struct merge_pair pair = {s->id, m->syms[s->next].id, s->start, merge_sym_end(m, s->next)};
    s->rank = m->rank(m->ctx, &pair, &s->pair_id);
}

/* Joins symbol i with the next one; the ranks of its pair and of the one before it are then due. */
static void merge_join(const struct merge *m, uint32_t i)
{
    struct merge_sym *s = &m->syms[i];
    s->id = s->pair_id;
    m->syms[s->next].rank = MERGE_NONE;
    s->next = m->syms[s->next].next;
    if (s->next != MERGE_NONE) {
        m->syms[s->next].prev = i;
    }
}

static void merge_run_scan(const struct merge *m)
{
    for (;;) {
        uint32_t best = 0;
        for (uint32_t i = 0; i != MERGE_NONE; i = m->syms[i].next) {
            if (m->syms[i].rank < m->syms[best].rank) {
                best = i;
            }
        }
        if (m->syms[best].rank == MERGE_NONE) {
            return;
        }
        merge_join(m, best);
        merge_rank_pair(m, best);
        if (best != 0) {
            merge_rank_pair(m, m->syms[best].prev);
        }
    }
}

static void merge_run_heap(struct merge *m)
{
    merge_heap_build(m);
    while (m->n_heap > 0) {
        uint64_t key = merge_heap_pop(m);
        uint32_t best = (uint32_t)key;
        if (key != merge_key(m, best)) {
            continue;
        }
        merge_join(m, best);
        merge_rank_pair(m, best);
        if (best != 0) {
            merge_rank_pair(m, m->syms[best].prev);
        }
        merge_heap_push(m, best);
        if (best != 0) {
            merge_heap_push(m, m->syms[best].prev);
        }
    }
}

void merge_run(struct merge *m)
{
    ASSERT(m->n > 0);
    ASSERT(m->n <= m->cap);
    for (uint32_t i = 0; i < m->n; i++) {
        struct merge_sym *s = &m->syms[i];
        s->prev = i == 0 ? MERGE_NONE : i - 1;
        s->next = i + 1 == m->n ? MERGE_NONE : i + 1;
    }
    for (uint32_t i = 0; i < m->n; i++) {
        merge_rank_pair(m, i);
    }
    if (m->n <= MERGE_SCAN_SYMS_MAX) {
        merge_run_scan(m);
    } else {
        merge_run_heap(m);
    }
}
