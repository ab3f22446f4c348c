/* merge.c: see merge.h. Short words are scanned, long ones use the heap; the result is the same.
 *
 * Invariants: 1. a symbol is in the heap exactly when it has a rank; 2. a heap parent is not after
 * its children in (rank, position); 3. positions grow along the chain, so that the lower position
 * is the leftmost pair. */
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
    m->heap = arena_alloc_array(a, cap, sizeof(*m->heap));
    if (m->syms == NULL || m->heap == NULL) {
        return false;
    }
    m->cap = cap;
    return true;
}

/* ---- the heap ---- */

/* What the heap orders by: rank first, then position. Kept in the heap itself, so that comparing
 * touches no symbol. */
static uint64_t merge_key(const struct merge *m, uint32_t sym)
{
    return (uint64_t)m->syms[sym].rank << 32 | sym;
}

static void merge_heap_set(struct merge *m, uint32_t pos, uint64_t key)
{
    m->heap[pos] = key;
    m->syms[(uint32_t)key].heap_pos = pos;
}

static void merge_sift_up(struct merge *m, uint32_t pos, uint64_t key)
{
    while (pos > 0) {
        uint32_t parent = (pos - 1) / 2;
        if (m->heap[parent] < key) {
            break;
        }
        merge_heap_set(m, pos, m->heap[parent]);
        pos = parent;
    }
    merge_heap_set(m, pos, key);
}

static void merge_sift_down(struct merge *m, uint32_t pos, uint64_t key)
{
    for (;;) {
        uint32_t child = 2 * pos + 1;
        if (child >= m->n_heap) {
            break;
        }
        if (child + 1 < m->n_heap && m->heap[child + 1] < m->heap[child]) {
            child++;
        }
        if (key < m->heap[child]) {
            break;
        }
        merge_heap_set(m, pos, m->heap[child]);
        pos = child;
    }
    merge_heap_set(m, pos, key);
}

/* Puts `key` at `pos` or wherever above or below it belongs. */
static void merge_heap_place(struct merge *m, uint32_t pos, uint64_t key)
{
    if (pos > 0 && key < m->heap[(pos - 1) / 2]) {
        merge_sift_up(m, pos, key);
    } else {
        merge_sift_down(m, pos, key);
    }
}

static void merge_heap_remove(struct merge *m, uint32_t sym)
{
    uint32_t pos = m->syms[sym].heap_pos;
    if (pos == MERGE_NONE) {
        return;
    }
    m->syms[sym].heap_pos = MERGE_NONE;
    m->n_heap--;
    if (pos != m->n_heap) {
        merge_heap_place(m, pos, m->heap[m->n_heap]);
    }
}

/* Puts the symbol where its rank, just changed, belongs. */
static void merge_heap_update(struct merge *m, uint32_t sym)
{
    const struct merge_sym *s = &m->syms[sym];
    if (s->rank == MERGE_NONE) {
        merge_heap_remove(m, sym);
        return;
    }
    uint32_t pos = s->heap_pos;
    if (pos == MERGE_NONE) {
        ASSERT(m->n_heap < m->cap);
        pos = m->n_heap++;
    }
    merge_heap_place(m, pos, merge_key(m, sym));
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
    m->n_heap = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        if (m->syms[i].rank != MERGE_NONE) {
            merge_heap_set(m, m->n_heap++, merge_key(m, i));
        }
    }
    for (uint32_t pos = m->n_heap / 2; pos-- > 0;) {
        merge_sift_down(m, pos, m->heap[pos]);
    }
    while (m->n_heap > 0) {
        uint32_t best = (uint32_t)m->heap[0];
        merge_heap_remove(m, m->syms[best].next);
        merge_join(m, best);
        /* One rank changes at a time, so that only one place of the heap is wrong at a time. */
        merge_rank_pair(m, best);
        merge_heap_update(m, best);
        if (best != 0) {
            merge_rank_pair(m, m->syms[best].prev);
            merge_heap_update(m, m->syms[best].prev);
        }
    }
}

void merge_run(struct merge *m)
{
    ASSERT(m->n > 0 && m->n <= m->cap);
    for (uint32_t i = 0; i < m->n; i++) {
        struct merge_sym *s = &m->syms[i];
        s->prev = i == 0 ? MERGE_NONE : i - 1;
        s->next = i + 1 == m->n ? MERGE_NONE : i + 1;
        s->heap_pos = MERGE_NONE;
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
