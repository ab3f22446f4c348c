/* load_hist.c: see load_hist.h.
 *
 * Bucket of v: below 128 its value; above, the power of two and the 7 bits behind the leading one.
 */
#include "cli/load_hist.h"

#include <math.h>

static uint32_t load_hist_bucket(uint64_t ns)
{
    const uint64_t one = 1u << LOAD_HIST_SUB_BITS;
    if (ns < one) {
        return (uint32_t)ns;
    }
    uint32_t power = 63u - (uint32_t)__builtin_clzll(ns) - LOAD_HIST_SUB_BITS;
    if (power + 1 >= LOAD_HIST_POWERS + 1) {
        return LOAD_HIST_BUCKETS - 1;
    }
    return (uint32_t)(((uint64_t)(power + 1) << LOAD_HIST_SUB_BITS) + ((ns >> power) - one));
}

static double load_hist_middle(uint32_t bucket)
{
    uint32_t power = bucket >> LOAD_HIST_SUB_BITS;
    uint64_t low = bucket & ((1u << LOAD_HIST_SUB_BITS) - 1);
    if (power == 0) {
        return (double)low;
    }
    double step = (double)(1ull << (power - 1));
    return ((double)low + (1u << LOAD_HIST_SUB_BITS) + 0.5) * step;
}

void load_hist_add(struct load_hist *h, uint64_t ns)
{
    h->n++;
    h->sum_ns += ns;
    h->max_ns = MAX(h->max_ns, ns);
    h->buckets[load_hist_bucket(ns)]++;
}

double load_hist_quantile_ns(const struct load_hist *h, double q)
{
    if (h->n == 0) {
        return 0;
    }
    double rank = ceil(q * (double)h->n);
    uint64_t want = rank < 1 ? 1 : (uint64_t)rank;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < LOAD_HIST_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= want) {
            double middle = load_hist_middle(i);
            return MIN(middle, (double)h->max_ns);
        }
    }
    return (double)h->max_ns;
}

double load_hist_mean_ns(const struct load_hist *h)
{
    return h->n == 0 ? 0 : (double)h->sum_ns / (double)h->n;
}
