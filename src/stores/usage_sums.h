/* usage_sums.h: sums of usage by group, in memory: what a part of the journal adds to the days of
 * the store, and what a question about usage comes to.
 *
 * Names are copied, so that what they were read from may go. Not thread-safe: one owner. */
#ifndef STORES_USAGE_SUMS_H
#define STORES_USAGE_SUMS_H

#include "base/arena.h"
#include "base/map.h"
#include "stores/meta_usage.h"

/* Limits. */
enum { USAGE_SUMS_BYTES_MAX = 256 << 20 }; /* of all groups: RC_TOO_LARGE */

struct usage_sums {
    uint32_t by; /* a set of enum meta_usage_by; other names are "" */
    /* private */
    struct map groups; /* joined names -> struct meta_usage_sum */
    struct arena arena;
    int64_t day;       /* the one whose text is below */
    char day_text[16]; /* "2026-11-23"; "" = none yet */
};

void usage_sums_init(struct usage_sums *s, uint32_t by);
/* May be called twice and on a zeroed struct. */
void usage_sums_deinit(struct usage_sums *s);
/* Forgets all groups; keeps memory. */
void usage_sums_reset(struct usage_sums *s);

/* Adds a record, or a sum, to its group. */
RC usage_sums_add_row(struct usage_sums *s, const struct meta_usage *u, struct err *err);
RC usage_sums_add(struct usage_sums *s, const struct meta_usage_sum *sum, struct err *err);

static inline uint32_t usage_sums_count(const struct usage_sums *s)
{
    return map_count(&s->groups);
}
/* At most `rows_max` of them, ordered by their names. Stops at a failure of `each`. */
RC usage_sums_each(struct usage_sums *s, uint32_t rows_max,
                   enum rc (*each)(void *ctx, const struct meta_usage_sum *sum), void *ctx,
                   struct err *err);

#endif
