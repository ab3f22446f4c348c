/* merge.h: the merging of neighbouring symbols, best pair first, that SPM and BPE have in common.
 *
 * A word starts as n symbols; again and again the pair of lowest rank, the leftmost of equal ones,
 * becomes one symbol, until no pair has a rank. Every symbol keeps the rank of the pair it forms
 * with its right neighbour; a heap of keys finds the lowest. Old keys stay in the heap until they
 * come up or it is full and built anew: O(n log n) time, 40 bytes a symbol. */
#ifndef ENGINE_TOKEN_MERGE_H
#define ENGINE_TOKEN_MERGE_H

#include "base/arena.h"

enum { MERGE_SYMS_MAX = INT32_MAX };
#define MERGE_NONE UINT32_MAX /* no symbol; no rank */

struct merge_sym {
    uint32_t start;      /* byte offset of its text in the word */
    uint32_t prev, next; /* neighbours, MERGE_NONE at the ends */
    int32_t id;          /* TOKEN_NONE while it is no token */
    uint32_t rank;       /* of the pair with `next`, MERGE_NONE when they do not merge */
    int32_t pair_id;     /* what the pair becomes */
};

struct merge_pair {
    int32_t left, right;
    uint32_t start, end; /* bytes of both in the word */
};

/* The pair's rank and the id that it becomes; MERGE_NONE when it never merges. */
typedef uint32_t merge_rank_fn(const void *ctx, const struct merge_pair *pair, int32_t *id);

struct merge {
    struct merge_sym *syms; /* the caller fills start and id of n of them; [0] stays the first */
    uint32_t n;
    uint32_t end; /* bytes of the word */
    merge_rank_fn *rank;
    const void *ctx; /* for rank */
    /* private */
    uint32_t cap;
    uint64_t *heap; /* rank << 32 | symbol; room for 2 * cap */
    uint32_t n_heap;
};

/* Room for n symbols, from the arena; old contents are lost. False when the arena is full. */
MUST_CHECK bool merge_reserve(struct merge *m, struct arena *a, size_t n);
/* Merges; what is left is the chain from syms[0] along `next`. */
void merge_run(struct merge *m);
/* The byte behind symbol i. */
static inline uint32_t merge_sym_end(const struct merge *m, uint32_t i)
{
    uint32_t next = m->syms[i].next;
    return next == MERGE_NONE ? m->end : m->syms[next].start;
}

#endif
