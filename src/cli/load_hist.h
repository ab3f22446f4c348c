/* load_hist.h: how long things took: counts in buckets less than 0.8 % wide, so that millions of
 * values need no memory of their own. Plain data, zeroed = empty; nanoseconds. */
#ifndef CLI_LOAD_HIST_H
#define CLI_LOAD_HIST_H

#include "base/compiler.h"

enum {
    LOAD_HIST_SUB_BITS = 7, /* buckets of one power of two: 128 */
    LOAD_HIST_POWERS = 42,  /* up to 2^48 ns, 78 hours; longer counts as that */
    LOAD_HIST_BUCKETS = (LOAD_HIST_POWERS + 1) << LOAD_HIST_SUB_BITS,
};

struct load_hist {
    uint64_t n, sum_ns, max_ns; /* exact */
    /* private */
    uint64_t buckets[LOAD_HIST_BUCKETS];
};

void load_hist_add(struct load_hist *h, uint64_t ns);
/* The smallest value that at least `q` (0 … 1) of all values do not exceed, to the bucket's middle
 * and never above the maximum; 0 when there are none. O(buckets). */
double load_hist_quantile_ns(const struct load_hist *h, double q);
/* 0 when there are none. */
double load_hist_mean_ns(const struct load_hist *h);

#endif
