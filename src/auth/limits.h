/* limits.h: how much one subject may use: a key, a user, a project, a model, an upstream of the
 * catalogue, or the subject of a token. Plain data; who counts is gateway/limit.h. */
#ifndef AUTH_LIMITS_H
#define AUTH_LIMITS_H

#include "base/conf.h"

/* 0 = no limit. */
struct cat_limits {
    uint64_t requests_per_minute, tokens_per_minute, tokens_per_day, concurrent;
    int64_t money_per_month; /* billionths */
};

extern const struct conf_row limits_rows[];

#endif
