/* limits.c: the rows of limits.h. */
#include "auth/limits.h"

/* A hundred million a minute keeps the limiter's integers in range; nobody counts more by hand. */
#define LIMITS_PER_MINUTE_MAX 100000000

const struct conf_row limits_rows[] = {
    CONF_NUMBER(struct cat_limits, requests_per_minute, NULL, 1, LIMITS_PER_MINUTE_MAX, "requests",
                "requests begun in any minute"),
    CONF_NUMBER(struct cat_limits, tokens_per_minute, NULL, 1, LIMITS_PER_MINUTE_MAX, "tokens",
                "prompt and output tokens in any minute"),
    CONF_NUMBER(struct cat_limits, tokens_per_day, NULL, 1, 1000000000000000, "tokens",
                "prompt and output tokens of a day (UTC)"),
    CONF_NUMBER(struct cat_limits, concurrent, NULL, 1, 1000000, "requests",
                "requests under way at once"),
    CONF_MONEY(struct cat_limits, money_per_month, "cost of a calendar month (UTC)"),
    {0},
};
