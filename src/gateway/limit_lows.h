/* limit_lows.h: how low a bucket of a minute has stood since each reservation was put into it, so
 * that what comes back of one is exactly what has not drained.
 *
 * To give back x is to have put in x less: the bucket would have stood x lower ever since, but
 * never below empty. So what comes back is the least of x and of the lowest level since (Lindley's
 * recursion, undone); and that level, of all that was put in later, falls by as much.
 *
 * Between two puts a level only falls, so the lows are the levels just before puts, and of these
 * only the ones below everything later matter: an ascending row. LIMIT_LOWS_MAX are kept; the two
 * neighbours that are nearest become the lower one, so that less comes back, never more: at any
 * time up to about a LIMIT_LOWS_MAXth of what is under way stays in the bucket until it drains.
 *
 * Levels in the unit of the bucket. Pure. */
#ifndef GATEWAY_LIMIT_LOWS_H
#define GATEWAY_LIMIT_LOWS_H

#include "base/compiler.h"

enum { LIMIT_LOWS_MAX = 16 };

/* Zeroed = nothing was put in yet. */
struct limit_lows {
    /* private */
    uint64_t n_puts;
    uint32_t n;
    struct limit_low {
        uint64_t put, level; /* at[i].put and at[i].level ascend */
    } at[LIMIT_LOWS_MAX];
};

/* Something is put into a bucket that stands at `level`. Returns which put this is. */
uint64_t limit_lows_put(struct limit_lows *w, uint64_t level);
/* At most how low the bucket, now at `level`, has stood since then. */
uint64_t limit_lows_least(const struct limit_lows *w, uint64_t put, uint64_t level);
/* So much of a put has come back: at most limit_lows_least. */
void limit_lows_take(struct limit_lows *w, uint64_t put, uint64_t back);

#endif
