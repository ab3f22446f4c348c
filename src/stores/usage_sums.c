/* usage_sums.c: see usage_sums.h. */
#include "stores/usage_sums.h"

#include <stdlib.h>
#include <time.h>

#include "base/crypto.h"

enum {
    SUMS_KEY_BYTES_MAX = 2048, /* of joined names; longer ones are cut, each for itself */
    SUMS_NAME_BYTES_MAX = SUMS_KEY_BYTES_MAX / META_USAGE_BY_N - 1,
    SUMS_DAY_MS = 86400000,
};

void usage_sums_init(struct usage_sums *s, uint32_t by)
{
    uint64_t seed; /* names come from clients */
    *s = (struct usage_sums){.by = by};
    crypto_random(&seed, sizeof(seed));
    map_init(&s->groups, seed);
    arena_init(&s->arena, USAGE_SUMS_BYTES_MAX);
}

void usage_sums_deinit(struct usage_sums *s)
{
    map_deinit(&s->groups);
    arena_deinit(&s->arena);
}

void usage_sums_reset(struct usage_sums *s)
{
    map_clear(&s->groups);
    arena_reset(&s->arena);
}

/* Names lie one behind the other, each with an end that is in none of them. */
static struct meta_usage_sum *sums_make(struct usage_sums *s, struct str key)
{
    struct meta_usage_sum *sum = arena_alloc(&s->arena, sizeof(*sum));
    struct str kept = arena_str(&s->arena, key);
    if (sum == NULL || kept.ptr == NULL || !map_put(&s->groups, kept, sum, NULL)) {
        return NULL;
    }
    for (int i = 0; i < META_USAGE_BY_N; i++) {
        sum->by[i] = str_cut(&kept, '\x1F');
    }
    return sum;
}

static struct meta_usage_sum *sums_group(struct usage_sums *s, const struct str *by,
                                         struct err *err)
{
    char key[SUMS_KEY_BYTES_MAX];
    size_t n = 0;
    for (uint32_t i = 0; i < META_USAGE_BY_N; i++) {
        struct str name = str_slice(by[i], 0, SUMS_NAME_BYTES_MAX);
        if ((s->by & 1u << i) != 0 && name.len > 0) {
            memcpy(key + n, name.ptr, name.len);
            n += name.len;
        }
        key[n++] = '\x1F';
    }
    struct meta_usage_sum *sum = map_get(&s->groups, str_make(key, n));
    sum = sum != NULL ? sum : sums_make(s, str_make(key, n));
    if (sum == NULL) {
        (void)!err_set(err, RC_TOO_LARGE, "too many groups of usage: ask for fewer");
    }
    return sum;
}

static struct str sums_day(struct usage_sums *s, int64_t at_ms)
{
    int64_t day = at_ms / SUMS_DAY_MS;
    if (s->day_text[0] == '\0' || s->day != day) {
        struct tm tm = {0};
        time_t at = (time_t)(day * (SUMS_DAY_MS / 1000));
        s->day = day;
        if (gmtime_r(&at, &tm) == NULL ||
            strftime(s->day_text, sizeof(s->day_text), "%Y-%m-%d", &tm) == 0) {
            (void)str_copy(s->day_text, sizeof(s->day_text), STR_LIT("?")); /* past year 2^31 */
        }
    }
    return str_from(s->day_text);
}

enum rc usage_sums_add_row(struct usage_sums *s, const struct meta_usage *u, struct err *err)
{
    const bool with_day = (s->by & META_USAGE_BY_DAY) != 0;
    const struct meta_usage_sum one = {
        .by = {with_day ? sums_day(s, u->started_ms) : STR_LIT(""), u->key, u->user, u->project,
               u->model, u->upstream, u->status},
        .requests = 1,
        .failed = str_is(u->status, "ok") ? 0 : 1,
        .estimated = u->estimated ? 1 : 0,
        .duration_ms = u->duration_ms,
        .prompt_tokens = u->prompt_tokens,
        .cached_tokens = u->cached_tokens,
        .output_tokens = u->output_tokens,
        .images = u->images,
        .cost_nano = u->cost_nano,
    };
    return usage_sums_add(s, &one, err);
}

/* Sums end at what SQLite can hold; none of them is negative. */
static void sums_plus(int64_t *to, int64_t n)
{
    if (__builtin_add_overflow(*to, n, to)) {
        *to = INT64_MAX;
    }
}

enum rc usage_sums_add(struct usage_sums *s, const struct meta_usage_sum *more, struct err *err)
{
    struct meta_usage_sum *sum = sums_group(s, more->by, err);
    if (sum == NULL) {
        return RC_TOO_LARGE;
    }
    sums_plus(&sum->requests, more->requests);
    sums_plus(&sum->failed, more->failed);
    sums_plus(&sum->estimated, more->estimated);
    sums_plus(&sum->duration_ms, more->duration_ms);
    sums_plus(&sum->prompt_tokens, more->prompt_tokens);
    sums_plus(&sum->cached_tokens, more->cached_tokens);
    sums_plus(&sum->output_tokens, more->output_tokens);
    sums_plus(&sum->images, more->images);
    sums_plus(&sum->cost_nano, more->cost_nano);
    return RC_OK;
}

static int sums_order_str(struct str a, struct str b)
{
    int order = memcmp(a.ptr, b.ptr, MIN(a.len, b.len));
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int sums_order(const void *a, const void *b)
{
    const struct meta_usage_sum *x = *(const struct meta_usage_sum *const *)a;
    const struct meta_usage_sum *y = *(const struct meta_usage_sum *const *)b;
    int order = 0;
    for (int i = 0; order == 0 && i < META_USAGE_BY_N; i++) {
        order = sums_order_str(x->by[i], y->by[i]);
    }
    return order;
}

enum rc usage_sums_each(struct usage_sums *s, uint32_t rows_max,
                        enum rc (*each)(void *ctx, const struct meta_usage_sum *sum), void *ctx,
                        struct err *err)
{
    uint32_t n = 0, at = 0;
    void *sum = NULL;
    enum rc rc = RC_OK;
    if (usage_sums_count(s) == 0) {
        return RC_OK;
    }
    const void **all = arena_alloc_array(&s->arena, usage_sums_count(s), sizeof(*all));
    if (all == NULL) {
        return err_set(err, RC_TOO_LARGE, "too many groups of usage: ask for fewer");
    }
    while (map_next(&s->groups, &at, NULL, &sum)) {
        all[n++] = sum;
    }
    qsort(all, n, sizeof(*all), sums_order);
    for (uint32_t i = 0; rc == RC_OK && i < MIN(n, rows_max); i++) {
        rc = each(ctx, all[i]);
    }
    return rc;
}
