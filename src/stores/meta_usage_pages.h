/* meta_usage_pages.h: single records of the store, for the questions of meta_usage.h. */
#ifndef STORES_META_USAGE_PAGES_H
#define STORES_META_USAGE_PAGES_H

#include "stores/meta_usage.h"

/* The filters by equality, in the order of their names below; NULL past the last. */
struct str *meta_usage_filter(struct meta_usage_query *q, uint32_t i, const char **name);

/* Calls `each` for every record that fits the query, those of the newest page first, in the order
 * in which they ended; q->by and q->rows_max mean nothing. Ends before the first page in which all
 * are older than *oldest_ms, which `each` may move. Stops at a failure. */
RC meta_usage_scan(struct meta *m, const struct meta_usage_query *q, const int64_t *oldest_ms,
                   enum rc (*each)(void *ctx, const struct meta_usage *u), void *ctx,
                   struct err *err);

#endif
