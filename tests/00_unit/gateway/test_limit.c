/* The limiter under a fake clock: fixed cases, and a thousand random hours against the definition
 * of each limit. */
#include "check.h"

#include <time.h>

#include "base/rng.h"
#include "base/thread.h"
#include "gateway/limit.h"

#define SECOND_NS 1000000000u
#define MINUTE_NS (60ull * SECOND_NS)
#define NEW_YEAR  1767225600 /* 2026-01-01T00:00:00Z */

static struct limit_time at_ms(uint64_t ms)
{
    return (struct limit_time){.mono_ns = 1000000000000u + ms * 1000000u,
                               .wall_s = NEW_YEAR + (int64_t)(ms / 1000u)};
}

static bool reserve(struct limiter *l, const struct cat_limits *limits, uint64_t prompt,
                    uint64_t output, uint64_t ms, struct limit_ticket *t, struct limit_result *r)
{
    const struct limit_subject s = {.name = STR_LIT("key:a"), .limits = limits};
    const struct limit_ask ask = {.prompt_tokens = prompt,
                                  .output_tokens = output,
                                  .price = {.input = 1000000000, .output = 2000000000}};
    *t = (struct limit_ticket){0};
    return limit_reserve(l, &s, 1, &ask, at_ms(ms), t, r);
}

static void requests_follow_the_minute(void **state)
{
    (void)state;
    struct limiter *l;
    struct limit_ticket t;
    struct limit_result r;
    const struct cat_limits limits = {.requests_per_minute = 60};
    limiter_create(&l, 1);
    for (int i = 0; i < 60; i++) {
        assert_true(reserve(l, &limits, 1, 1, 0, &t, &r));
        limit_settle(l, &t, 2, 0, at_ms(0));
    }
    assert_false(reserve(l, &limits, 1, 1, 0, &t, &r));
    assert_int_equal(r.refused, LIMIT_REQUESTS);
    assert_int_equal(r.retry_ns, SECOND_NS);
    assert_false(reserve(l, &limits, 1, 1, 999, &t, &r));
    assert_int_equal(r.retry_ns, 1000000);
    assert_true(reserve(l, &limits, 1, 1, 1000, &t, &r));
    assert_false(reserve(l, &limits, 1, 1, 1000, &(struct limit_ticket){0}, &r));
    limit_settle(l, &t, 2, 0, at_ms(1000));
    limiter_destroy(l);
}

static void tokens_are_cut_to_what_is_left_and_given_back(void **state)
{
    (void)state;
    struct limiter *l;
    struct limit_ticket a, b;
    struct limit_result r;
    const struct cat_limits limits = {.tokens_per_minute = 1000};
    limiter_create(&l, 1);
    assert_true(reserve(l, &limits, 100, 600, 0, &a, &r));
    assert_int_equal(r.output_tokens, 600);
    assert_true(reserve(l, &limits, 100, 600, 0, &b, &r));
    assert_int_equal(r.output_tokens, 200); /* 300 were left */
    struct limit_ticket c;
    assert_false(reserve(l, &limits, 10, 1, 0, &c, &r));
    assert_int_equal(r.refused, LIMIT_TOKENS);
    limit_settle(l, &a, 150, 0, at_ms(0)); /* 550 come back */
    assert_true(reserve(l, &limits, 50, 10000, 0, &c, &r));
    assert_int_equal(r.output_tokens, 500);
    limit_settle(l, &b, 300, 0, at_ms(0));
    limit_settle(l, &c, 550, 0, at_ms(0));
    assert_false(reserve(l, &limits, 1, 1, 0, &c, &r));
    assert_int_equal(r.retry_ns, 120000000); /* two of a thousand a minute */
    limiter_destroy(l);
}

/* A thousand tokens that were used under a large limit are no fortnight under a small one. */
static void a_smaller_limit_begins_within_its_minute(void **state)
{
    (void)state;
    struct limiter *l;
    struct limit_ticket t;
    struct limit_result r;
    const struct cat_limits large = {.tokens_per_minute = 100000, .requests_per_minute = 1000};
    const struct cat_limits small = {.tokens_per_minute = 10, .requests_per_minute = 1};
    limiter_create(&l, 1);
    for (int i = 0; i < 50; i++) {
        assert_true(reserve(l, &large, 1000, 1000, 0, &t, &r));
        limit_settle(l, &t, 2000, 0, at_ms(0));
    }
    assert_false(reserve(l, &small, 5, 5, 0, &t, &r));
    assert_false(reserve(l, &small, 5, 5, 59999, &t, &r));
    assert_true(reserve(l, &small, 5, 5, 60000, &t, &r));
    assert_int_equal(r.output_tokens, 5);
    limit_settle(l, &t, 10, 0, at_ms(60000));
    /* And the other way round, what was used still counts. */
    assert_true(reserve(l, &large, 1000, 1000000, 60000, &t, &r));
    assert_int_equal(r.output_tokens, 100000 - 1000 - 10);
    limit_settle(l, &t, 0, 0, at_ms(60000));
    limiter_destroy(l);
}

static void days_and_months_end_with_the_calendar(void **state)
{
    (void)state;
    struct limiter *l;
    struct limit_ticket t;
    struct limit_result r;
    const struct cat_limits limits = {.tokens_per_day = 100, .money_per_month = 500000};
    const uint64_t day_ms = 86400000;
    limiter_create(&l, 1);
    assert_true(reserve(l, &limits, 60, 40, 0, &t, &r)); /* 60 * 1000 + 40 * 2000 billionths */
    limit_settle(l, &t, 100, 140000, at_ms(10));
    assert_false(reserve(l, &limits, 1, 1, day_ms - 1000, &t, &r));
    assert_int_equal(r.refused, LIMIT_DAY);
    assert_int_equal(r.retry_ns, SECOND_NS);
    assert_true(reserve(l, &limits, 60, 40, day_ms, &t, &r));
    limit_settle(l, &t, 100, 350000, at_ms(day_ms));
    assert_true(reserve(l, &limits, 2, 50, 2 * day_ms, &t, &r));
    assert_int_equal(r.output_tokens, 4); /* 10000 left, 2000 for the prompt */
    limit_settle(l, &t, 6, 10000, at_ms(2 * day_ms));
    assert_false(reserve(l, &limits, 1, 1, 3 * day_ms, &t, &r));
    assert_int_equal(r.refused, LIMIT_MONEY);
    assert_int_equal(r.retry_ns, 28ull * 86400 * SECOND_NS);
    assert_true(reserve(l, &limits, 1, 1, 31 * day_ms, &t, &r)); /* February */
    limit_settle(l, &t, 0, 0, at_ms(31 * day_ms));
    limiter_destroy(l);
}

static uint64_t day_left(struct limiter *l, uint64_t ms)
{
    const struct cat_limits limits = {.tokens_per_day = 100};
    struct limit_ticket t;
    struct limit_result r;
    if (!reserve(l, &limits, 0, 1000, ms, &t, &r)) {
        return 0;
    }
    limit_settle(l, &t, 0, 0, at_ms(ms));
    return r.output_tokens;
}

static void spend_of_day(struct limiter *l, uint64_t tokens, uint64_t ms)
{
    const struct cat_limits limits = {.tokens_per_day = 100};
    struct limit_ticket t;
    struct limit_result r;
    assert_true(reserve(l, &limits, 0, tokens, ms, &t, &r));
    limit_settle(l, &t, tokens, (int64_t)tokens, at_ms(ms));
}

/* By a little over midnight, by days, by a month: what was used stays used, and the next day that
 * comes is a new one. */
static void a_clock_set_back_begins_nothing_anew(void **state)
{
    (void)state;
    struct limiter *l;
    struct limit_ticket t;
    struct limit_result r;
    const uint64_t day_ms = 86400000, day = 40 * day_ms; /* 10 February */
    const struct cat_limits money = {.money_per_month = 1000000};
    limiter_create(&l, 1);
    spend_of_day(l, 60, day - 1000);
    assert_int_equal(day_left(l, day - 1), 40);
    assert_int_equal(day_left(l, day), 100);
    spend_of_day(l, 30, day + 500);
    assert_int_equal(day_left(l, day - 1000), 70); /* the day that had begun stays in force */
    spend_of_day(l, 20, day - 500);
    assert_int_equal(day_left(l, day + 1000), 50);
    assert_int_equal(day_left(l, day - 3 * day_ms), 50);
    spend_of_day(l, 50, day - 3 * day_ms);
    assert_int_equal(day_left(l, day - 3 * day_ms), 0);
    assert_int_equal(day_left(l, day - 2 * day_ms), 100);

    /* January, when February's money is spent; and March, once it comes. */
    assert_true(reserve(l, &money, 1, 0, day, &t, &r));
    limit_settle(l, &t, 1, 2000000, at_ms(day));
    assert_false(reserve(l, &money, 1, 0, 20 * day_ms, &t, &r));
    assert_int_equal(r.refused, LIMIT_MONEY);
    assert_true(reserve(l, &money, 1, 0, day + 30 * day_ms, &t, &r));
    limit_settle(l, &t, 1, 0, at_ms(day + 30 * day_ms));
    limiter_destroy(l);
}

static void what_was_used_before_counts(void **state)
{
    (void)state;
    struct limiter *l;
    struct limit_ticket t;
    struct limit_result r;
    const struct cat_limits limits = {.tokens_per_day = 100, .money_per_month = 500000};
    limiter_create(&l, 1);
    assert_true(limit_load(l, STR_LIT("key:a"), 90, 0, at_ms(0)));
    assert_true(limit_load(l, STR_LIT("key:a"), 0, 490000, at_ms(0)));
    assert_false(reserve(l, &limits, 10, 1, 0, &t, &r));
    assert_int_equal(r.refused, LIMIT_DAY);
    assert_int_equal(r.left, 10);
    assert_false(reserve(l, &limits, 50, 1, 86400000, &t, &r)); /* a new day, the same month */
    assert_int_equal(r.refused, LIMIT_MONEY);
    assert_int_equal(r.left, 10000);
    assert_true(reserve(l, &limits, 8, 1, 86400000, &t, &r));
    limit_settle(l, &t, 9, 10000, at_ms(86400000));
    limiter_destroy(l);
}

static void the_calendar_is_right(void **state)
{
    (void)state;
    assert_int_equal(limit_month(0), 1970 * 12);
    assert_int_equal(limit_month(-1), 1969 * 12 + 11);
    assert_int_equal(limit_month(951782400), 2000 * 12 + 1); /* 2000-02-29 */
    assert_int_equal(limit_month_end(951782400), 951868800); /* 2000-03-01 */
    assert_int_equal(limit_month_end(NEW_YEAR), NEW_YEAR + 31 * 86400);
    assert_int_equal(limit_month(NEW_YEAR - 1), 2025 * 12 + 11); /* the year's last second */
    for (int64_t s = -86400ll * 800; s < 86400ll * 40000; s += 86400) {
        struct tm tm;
        time_t when = (time_t)s;
        gmtime_r(&when, &tm);
        assert_int_equal(limit_month(s), (tm.tm_year + 1900) * 12 + tm.tm_mon);
        assert_int_equal(limit_month_start(s + 86399), s - (tm.tm_mday - 1) * 86400ll);
    }
}

static void costs_are_rounded_up_once(void **state)
{
    (void)state;
    const struct cat_price p = {.input = 150000000, .cached_input = 75000000, .output = 600000000};
    assert_int_equal(limit_cost(&p, 0, 0, 0), 0);
    assert_int_equal(limit_cost(&p, 1, 0, 0), 150);
    assert_int_equal(limit_cost(&p, 1000, 400, 100), 600 * 150 + 400 * 75 + 100 * 600);
    const struct cat_price small = {.input = 1};
    assert_int_equal(limit_cost(&small, 1, 0, 0), 1);
    assert_int_equal(limit_cost(&small, 1000001, 0, 0), 2);
    assert_int_equal(limit_cost(&p, UINT64_MAX, 0, UINT64_MAX), INT64_MAX);
}

/* Many requests that may cost more than money can count, at one subject: each gives back its own.
 */
static void huge_costs_are_set_aside_and_given_back(void **state)
{
    (void)state;
    struct limiter *l;
    struct limit_ticket t[4];
    struct limit_result r;
    const struct cat_limits free = {.concurrent = 4}, dear = {.money_per_month = INT64_MAX};
    const struct limit_subject s = {.name = STR_LIT("key:a"), .limits = &free};
    const struct limit_ask ask = {.output_tokens = 128ull * INT32_MAX,
                                  .price = {.output = 240000 * 1000000000ll}};
    limiter_create(&l, 1);
    for (int i = 0; i < 4; i++) {
        t[i] = (struct limit_ticket){0};
        assert_true(limit_reserve(l, &s, 1, &ask, at_ms(0), &t[i], &r));
    }
    assert_false(reserve(l, &dear, 1, 1, 0, &(struct limit_ticket){0}, &r));
    assert_int_equal(r.refused, LIMIT_MONEY);
    assert_int_equal(r.left, 0);
    for (int i = 0; i < 4; i++) {
        limit_settle(l, &t[i], 10, 1000, at_ms(1));
    }
    assert_true(reserve(l, &dear, 1, 1, 2, &t[0], &r));
    limit_settle(l, &t[0], 2, 0, at_ms(2));
    limiter_destroy(l);
}

static void what_no_limit_counted_holds_up_nobody(void **state)
{
    (void)state;
    struct limiter *l;
    struct limit_ticket t;
    struct limit_result r;
    const struct cat_limits before = {.concurrent = 1000};
    const struct cat_limits after = {.requests_per_minute = 60, .tokens_per_minute = 1000};
    limiter_create(&l, 1);
    for (int i = 0; i < 1000; i++) {
        assert_true(reserve(l, &before, 100000, 1, 0, &t, &r));
        limit_settle(l, &t, 50000, 0, at_ms(0));
    }
    assert_true(reserve(l, &after, 100, 900, 1, &t, &r));
    assert_int_equal(r.output_tokens, 900);
    limit_settle(l, &t, 1000, 0, at_ms(1));
    limiter_destroy(l);
}

static void a_refusal_counts_nowhere(void **state)
{
    (void)state;
    struct limiter *l;
    struct limit_ticket t = {0};
    struct limit_result r;
    const struct cat_limits wide = {.requests_per_minute = 100, .concurrent = 100};
    const struct cat_limits none = {.concurrent = 1};
    const struct limit_subject both[] = {{.name = STR_LIT("key:a"), .limits = &wide},
                                         {.name = STR_LIT("model:m"), .limits = &none}};
    const struct limit_ask ask = {.prompt_tokens = 1, .output_tokens = 1};
    struct limit_state s;
    limiter_create(&l, 1);
    assert_true(limit_reserve(l, both, 2, &ask, at_ms(0), &t, &r));
    for (int i = 0; i < 500; i++) {
        struct limit_ticket other = {0};
        assert_false(limit_reserve(l, both, 2, &ask, at_ms(0), &other, &r));
        assert_int_equal(r.refused, LIMIT_CONCURRENT);
        assert_int_equal(r.subject, 1);
    }
    limit_look(l, both, 2, at_ms(0), &s);
    assert_true(s.has_requests && !s.has_tokens);
    assert_int_equal(s.requests_left, 99);
    assert_int_equal(s.requests_reset_ns, 600000000);
    limit_settle(l, &t, 2, 0, at_ms(0));
    limiter_destroy(l);
}

/* ---- at random, against the definition ---- */

enum { RUNNING_MAX = 64, LOG_MAX = 4096, STEPS = 4000 };

struct used {
    uint64_t ms, tokens;
};

struct world {
    struct limiter *l;
    struct rng rng;
    struct cat_limits limits;
    struct limit_ticket tickets[RUNNING_MAX];
    struct used running[RUNNING_MAX];
    uint32_t n_running;
    struct used log[LOG_MAX]; /* what was used, at the moment it was reserved */
    uint32_t n_log;
    uint64_t ms;
};

static void world_settle(struct world *w, uint32_t i)
{
    uint64_t used = rng_below(&w->rng, (uint32_t)w->running[i].tokens + 1);
    limit_settle(w->l, &w->tickets[i], used, (int64_t)used, at_ms(w->ms));
    assert_true(w->n_log < LOG_MAX);
    w->log[w->n_log++] = (struct used){w->running[i].ms, used};
    w->n_running--;
    w->tickets[i] = w->tickets[w->n_running];
    w->running[i] = w->running[w->n_running];
}

static void world_step(struct world *w)
{
    struct limit_result r;
    w->ms += rng_below(&w->rng, 4) == 0 ? rng_below(&w->rng, 8000) : rng_below(&w->rng, 50);
    if (w->n_running > 0 && rng_below(&w->rng, 2) == 0) {
        world_settle(w, rng_below(&w->rng, w->n_running));
        return;
    }
    if (w->n_running == RUNNING_MAX) {
        return;
    }
    uint64_t prompt = rng_below(&w->rng, 60), output = 1 + rng_below(&w->rng, 200);
    struct limit_ticket *t = &w->tickets[w->n_running];
    if (reserve(w->l, &w->limits, prompt, output, w->ms, t, &r)) {
        assert_in_range(r.output_tokens, 1, output);
        w->running[w->n_running++] = (struct used){w->ms, prompt + r.output_tokens};
        assert_true(w->n_running <= w->limits.concurrent);
    } else if (r.refused == LIMIT_TOKENS && r.limit >= prompt + 1) {
        assert_true(r.retry_ns > 0 && r.retry_ns <= MINUTE_NS);
    }
}

/* In any stretch of time a bucket that holds one minute lets through that minute and what drains.
 */
static void world_check(const struct world *w)
{
    uint64_t per_day = 0, day = UINT64_MAX;
    for (uint32_t i = 0; i < w->n_log; i++) {
        uint64_t sum = 0;
        for (uint32_t j = 0; j < w->n_log; j++) {
            bool in = w->log[j].ms >= w->log[i].ms && w->log[j].ms <= w->log[i].ms + 60000;
            sum += in ? w->log[j].tokens : 0;
        }
        assert_true(sum <= 2 * w->limits.tokens_per_minute);
        day = w->log[i].ms / 86400000;
        per_day = 0;
        for (uint32_t j = 0; j < w->n_log; j++) {
            per_day += w->log[j].ms / 86400000 == day ? w->log[j].tokens : 0;
        }
        assert_true(per_day <= w->limits.tokens_per_day);
    }
}

static void no_schedule_passes_a_limit(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct world w = {.limits = {.tokens_per_minute = 500 + 100 * seed,
                                     .tokens_per_day = 60000,
                                     .concurrent = 40}};
        limiter_create(&w.l, seed);
        rng_init(&w.rng, seed);
        for (int i = 0; i < STEPS && w.n_log < LOG_MAX - RUNNING_MAX; i++) {
            world_step(&w);
        }
        while (w.n_running > 0) {
            world_settle(&w, 0);
        }
        assert_true(w.n_log > 200);
        world_check(&w);
        limiter_destroy(w.l);
    }
}

/* ---- a minute's bucket, against one into which only what was used was ever put ---- */

enum { PUTS_MAX = 2000 };

struct minute {
    struct limiter *l;
    struct cat_limits limits;
    struct limit_ticket tickets[PUTS_MAX];
    struct used puts[PUTS_MAX]; /* settled: what was used; else what is set aside */
    bool running[PUTS_MAX];
    uint32_t n, n_running;
};

/* In thousandths of a token. */
static uint64_t minute_level(const struct minute *m, uint64_t ms)
{
    const struct limit_subject s = {.name = STR_LIT("key:a"), .limits = &m->limits};
    struct limit_state state;
    limit_look(m->l, &s, 1, at_ms(ms), &state);
    return state.tokens_reset_ns * m->limits.tokens_per_minute / 60000000u;
}

/* Likewise: a limit of 60,000 drains one thousandth of a thousand each millisecond. */
static uint64_t minute_ideal(const struct minute *m, uint64_t ms)
{
    uint64_t level = 0, at = 0, per_ms = m->limits.tokens_per_minute / 60;
    for (uint32_t i = 0; i < m->n; i++) {
        level -= MIN(level, (m->puts[i].ms - at) * per_ms);
        level += m->puts[i].tokens * 1000u;
        at = m->puts[i].ms;
    }
    return level - MIN(level, (ms - at) * per_ms);
}

static bool minute_reserve(struct minute *m, uint64_t tokens, uint64_t ms)
{
    struct limit_result r;
    assert_true(m->n < PUTS_MAX);
    if (!reserve(m->l, &m->limits, tokens - 1, 1, ms, &m->tickets[m->n], &r)) {
        return false;
    }
    m->puts[m->n] = (struct used){ms, tokens};
    m->running[m->n++] = true;
    m->n_running++;
    return true;
}

static void minute_settle(struct minute *m, uint32_t i, uint64_t tokens, uint64_t ms)
{
    assert_true(m->running[i] && tokens <= m->puts[i].tokens);
    limit_settle(m->l, &m->tickets[i], tokens, 0, at_ms(ms));
    m->puts[i].tokens = tokens;
    m->running[i] = false;
    m->n_running--;
}

/* One at a time or a few at once: to the last thousandth. Many at once: nothing is let through that
 * the ideal would not, and little is held back that it would. */
static void what_comes_back_is_what_has_not_drained(void **state)
{
    (void)state;
    static struct minute m;
    uint64_t held_back = 0, levels = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct rng rng;
        uint32_t most = seed % 3 == 0 ? 200 : (uint32_t)seed % 6 + 1;
        uint64_t ms = 0;
        rng_init(&rng, seed);
        m = (struct minute){.limits = {.tokens_per_minute = 60000 * (1 + seed % 4)}};
        limiter_create(&m.l, seed);
        while (m.n < PUTS_MAX - 1) {
            ms += rng_below(&rng, 20) == 0 ? rng_below(&rng, 1500) : rng_below(&rng, 40);
            uint32_t i = rng_below(&rng, m.n + 1);
            bool full = m.n_running == most;
            if ((full || rng_below(&rng, 2) == 0) && m.n_running > 0) {
                while (!m.running[i]) {
                    i = (i + 1) % m.n;
                }
                minute_settle(&m, i, rng_below(&rng, (uint32_t)m.puts[i].tokens / 8 + 2), ms);
            } else if (!minute_reserve(&m, 2 + rng_below(&rng, 500), ms)) {
                ms += 10;
            }
            uint64_t level = minute_level(&m, ms), ideal = minute_ideal(&m, ms);
            assert_true(level + 1 >= ideal); /* times are whole nanoseconds */
            assert_true(level <= ideal || most > 6);
            held_back += level - MIN(ideal, level);
            levels += level;
        }
        for (uint32_t i = 0; i < m.n; i++) {
            if (m.running[i]) {
                minute_settle(&m, i, 0, ms);
            }
        }
        limiter_destroy(m.l);
    }
    assert_true(held_back <= levels / 50);
}

/* The bucket drains as fast for all together: a thousand that wait at once lose no more to it than
 * one does. */
static void many_at_once_give_back_nearly_all(void **state)
{
    (void)state;
    static struct minute m;
    m = (struct minute){.limits = {.tokens_per_minute = 60000000}};
    limiter_create(&m.l, 1);
    for (uint64_t ms = 0; ms < 1000; ms++) {
        assert_true(minute_reserve(&m, 16000, ms));
    }
    assert_int_equal(minute_level(&m, 999), 16000000000u - 999 * 1000000u);
    for (uint32_t i = 0; i < 1000; i++) {
        minute_settle(&m, i, 20, 1000 + i);
    }
    assert_true(minute_level(&m, 2000) <= 16000000000u / 12);
    limiter_destroy(m.l);
}

/* The first thousand had drained to a hundred when the next thousand came. */
static void what_has_drained_does_not_come_back(void **state)
{
    (void)state;
    static struct minute m;
    m = (struct minute){.limits = {.tokens_per_minute = 60000}};
    limiter_create(&m.l, 1);
    assert_true(minute_reserve(&m, 1000, 0));
    assert_true(minute_reserve(&m, 1000, 900));
    minute_settle(&m, 0, 10, 900);
    assert_int_equal(minute_level(&m, 900), 1000000);
    minute_settle(&m, 1, 10, 900);
    assert_int_equal(minute_level(&m, 900), 10000);
    limiter_destroy(m.l);
}

static void a_budget_is_spent_to_its_end(void **state)
{
    (void)state;
    struct limiter *l;
    struct limit_ticket tickets[RUNNING_MAX];
    struct limit_result r;
    const struct cat_limits limits = {.tokens_per_day = 100000};
    uint64_t spent = 0;
    limiter_create(&l, 1);
    for (bool any = true; any;) { /* rounds of 64 clients at once, each uses half of its lease */
        uint32_t n = 0;
        any = false;
        while (n < RUNNING_MAX && reserve(l, &limits, 40, 100, 0, &tickets[n], &r)) {
            n++;
        }
        for (uint32_t i = 0; i < n; i++) {
            uint64_t used = 20 + 40;
            spent += used;
            limit_settle(l, &tickets[i], used, 0, at_ms(0));
            any = true;
        }
    }
    assert_in_range(spent, 95000, 100000);
    limiter_destroy(l);
}

/* ---- several threads ---- */

enum { SPENDERS = 4 };

struct spender {
    struct limiter *l;
    struct thread thread;
    uint64_t spent;
};

/* Half of each lease is used; ends when not even one token is granted. */
static void spend(void *arg)
{
    struct spender *s = arg;
    const struct cat_limits limits = {.tokens_per_day = 100000, .concurrent = SPENDERS};
    struct limit_ticket t;
    struct limit_result r;
    while (reserve(s->l, &limits, 10, 100, 0, &t, &r)) {
        uint64_t used = 10 + (r.output_tokens + 1) / 2;
        s->spent += used;
        limit_settle(s->l, &t, used, 0, at_ms(0));
    }
}

static void threads_share_a_budget(void **state)
{
    (void)state;
    struct spender spenders[SPENDERS] = {0};
    struct limiter *l;
    uint64_t spent = 0;
    limiter_create(&l, 1);
    for (int i = 0; i < SPENDERS; i++) {
        spenders[i].l = l;
        assert_int_equal(thread_start(&spenders[i].thread, "spend", -1, spend, &spenders[i]),
                         RC_OK);
    }
    for (int i = 0; i < SPENDERS; i++) {
        thread_join(&spenders[i].thread);
        spent += spenders[i].spent;
    }
    assert_in_range(spent, 99900, 100000); /* what others held back at the very end */
    limiter_destroy(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_follow_the_minute),
        cmocka_unit_test(tokens_are_cut_to_what_is_left_and_given_back),
        cmocka_unit_test(a_smaller_limit_begins_within_its_minute),
        cmocka_unit_test(days_and_months_end_with_the_calendar),
        cmocka_unit_test(a_clock_set_back_begins_nothing_anew),
        cmocka_unit_test(what_was_used_before_counts),
        cmocka_unit_test(the_calendar_is_right),
        cmocka_unit_test(costs_are_rounded_up_once),
        cmocka_unit_test(huge_costs_are_set_aside_and_given_back),
        cmocka_unit_test(what_no_limit_counted_holds_up_nobody),
        cmocka_unit_test(a_refusal_counts_nowhere),
        cmocka_unit_test(no_schedule_passes_a_limit),
        cmocka_unit_test(what_comes_back_is_what_has_not_drained),
        cmocka_unit_test(many_at_once_give_back_nearly_all),
        cmocka_unit_test(what_has_drained_does_not_come_back),
        cmocka_unit_test(a_budget_is_spent_to_its_end),
        cmocka_unit_test(threads_share_a_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
