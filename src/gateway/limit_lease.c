/* limit_lease.c: limits of which this process has leased a part (lease.h): what may be taken from
 * it, and what comes back. Pure, behind the limiter's lock.
 *
 * Invariants
 * 1. What a ticket takes from `idle` comes back to it, or has been told to be used: idle, reserved,
 *    used and back move together, and only lease.c changes their sum.
 * 2. Nothing is taken unless every limited unit of every subject has it. */
#include "base/assert.h"
#include "base/mem.h"
#include "gateway/limit_private.h"

/* Amounts stay far from the ends of what Lua counts in. */
#define LEASE_MOST ((uint64_t)1 << 62)

bool limit_lease_open(struct limit_bucket *b)
{
    if (b->leases == NULL) {
        b->leases = mem_try_zalloc(sizeof(*b->leases));
        if (b->leases != NULL) {
            b->leases->bucket = b;
        }
    }
    return b->leases != NULL;
}

uint64_t limit_lease_limit(const struct cat_limits *l, enum limit_unit unit)
{
    const uint64_t limits[LIMIT_UNITS] = {
        [LIMIT_UNIT_REQUESTS] = l->requests_per_minute,
        [LIMIT_UNIT_TOKENS] = l->tokens_per_minute,
        [LIMIT_UNIT_DAY] = l->tokens_per_day,
        [LIMIT_UNIT_MONEY] = (uint64_t)MAX(l->money_per_month, (int64_t)0),
        [LIMIT_UNIT_SLOTS] = l->concurrent,
    };
    return MIN(limits[unit], LEASE_MOST);
}

static void lease_amounts(uint64_t tokens, int64_t cost, uint64_t out[LIMIT_UNITS])
{
    out[LIMIT_UNIT_REQUESTS] = out[LIMIT_UNIT_SLOTS] = 1;
    out[LIMIT_UNIT_TOKENS] = out[LIMIT_UNIT_DAY] = MIN(tokens, LEASE_MOST);
    out[LIMIT_UNIT_MONEY] = MIN((uint64_t)MAX(cost, (int64_t)0), LEASE_MOST);
}

void limit_lease_needs(const struct limit_ask *ask, uint64_t output, uint64_t need[LIMIT_UNITS])
{
    lease_amounts(ask->prompt_tokens + output,
                  limit_cost(&ask->price, ask->prompt_tokens, 0, output), need);
}

static uint64_t lease_idle(const struct limit_lease *lease)
{
    return lease->idle <= 0 ? 0 : (uint64_t)MIN(lease->idle, (__int128)LEASE_MOST);
}

uint64_t limit_lease_left(const struct limit_lease *lease, uint64_t limit)
{
    return MIN(lease_idle(lease) + lease->free, limit);
}

enum limit_mode limit_mode_now(const struct limiter *l, uint64_t now_ns)
{
    return l->mode == LIMIT_LEASED && now_ns > l->valid_ns ? l->away : l->mode;
}

/* ---- taking ---- */

static bool lease_fits(const struct limit_leases *s, const struct limit_ask *ask, uint64_t output)
{
    uint64_t need[LIMIT_UNITS];
    limit_lease_needs(ask, output, need);
    for (unsigned u = 0; u < LIMIT_UNITS; u++) {
        if (limit_lease_limit(&s->limits, u) != 0 && lease_idle(&s->of[u]) < need[u]) {
            return false;
        }
    }
    return true;
}

static uint64_t lease_wait_ns(uint64_t limit, uint64_t need, uint64_t left)
{
    unsigned __int128 ns = (unsigned __int128)(MIN(need, limit) - MIN(left, MIN(need, limit))) *
                           LIMIT_MINUTE_NS / limit;
    return MAX((uint64_t)ns, (uint64_t)1000000u);
}

/* All that the store had is here: cuts *output to it, or refuses. */
static bool lease_check_last(const struct limit_leases *s, const struct limit_ask *ask,
                             struct limit_time now, uint64_t *output, struct limit_result *r)
{
    const struct cat_limits *l = &s->limits;
    const struct limit_lease *of = s->of;
    uint64_t least = ask->prompt_tokens + (ask->output_tokens > 0 ? 1 : 0);
    if (l->concurrent != 0 && lease_idle(&of[LIMIT_UNIT_SLOTS]) == 0) {
        return limit_refuse(r, LIMIT_CONCURRENT, l->concurrent, 0, 1000000000u);
    }
    if (l->requests_per_minute != 0 && lease_idle(&of[LIMIT_UNIT_REQUESTS]) == 0) {
        return limit_refuse(r, LIMIT_REQUESTS, l->requests_per_minute, 0,
                            lease_wait_ns(l->requests_per_minute, 1, 0));
    }
    uint64_t left = lease_idle(&of[LIMIT_UNIT_TOKENS]);
    if (l->tokens_per_minute != 0 && !limit_cut(left, ask, output)) {
        return limit_refuse(r, LIMIT_TOKENS, l->tokens_per_minute, left,
                            lease_wait_ns(l->tokens_per_minute, least, left));
    }
    left = lease_idle(&of[LIMIT_UNIT_DAY]);
    if (l->tokens_per_day != 0 && !limit_cut(left, ask, output)) {
        return limit_refuse(r, LIMIT_DAY, l->tokens_per_day, left, limit_day_end_ns(now));
    }
    left = lease_idle(&of[LIMIT_UNIT_MONEY]);
    if (l->money_per_month != 0 && !limit_cut_money((int64_t)left, ask, output)) {
        uint64_t wait_s = (uint64_t)(limit_month_end(now.wall_s) - now.wall_s);
        return limit_refuse(r, LIMIT_MONEY, (uint64_t)l->money_per_month, left,
                            wait_s * 1000000000u);
    }
    return true;
}

bool limit_lease_check(struct limiter *l, struct limit_bucket *b, const struct cat_limits *limits,
                       const struct limit_ask *ask, struct limit_time now, bool last,
                       uint64_t *output, struct limit_result *r)
{
    struct limit_leases *s = b->leases;
    s->limits = *limits;
    bool away = limit_mode_now(l, now.mono_ns) == LIMIT_SHUT;
    bool usable = now.mono_ns <= l->valid_ns;
    if (usable && lease_fits(s, ask, *output)) {
        return true;
    }
    if (away) {
        return limit_refuse(r, LIMIT_AWAY, 0, 0, 1000000000u);
    }
    return last ? lease_check_last(s, ask, now, output, r) : limit_refuse(r, LIMIT_ASK, 0, 0, 0);
}

static void lease_touch(struct limiter *l, struct limit_leases *s)
{
    if (!list_is_linked(&s->live)) {
        list_push_back(&l->live, &s->live);
        l->n_live++;
    }
}

void limit_lease_take(struct limiter *l, struct limit_bucket *b, const struct limit_ticket *t)
{
    struct limit_leases *s = b->leases;
    uint64_t n[LIMIT_UNITS];
    lease_amounts(t->tokens, t->cost, n);
    for (unsigned u = 0; u < LIMIT_UNITS; u++) {
        struct limit_lease *lease = &s->of[u];
        bool minute = u == LIMIT_UNIT_REQUESTS || u == LIMIT_UNIT_TOKENS;
        lease->idle -= n[u];
        lease->used += minute ? n[u] : 0;
        lease->reserved += minute ? 0 : n[u];
        lease->taken += MIN(n[u], LEASE_MOST - MIN(lease->taken, LEASE_MOST));
    }
    lease_touch(l, s);
}

void limit_lease_settle(struct limiter *l, struct limit_bucket *b, const struct limit_ticket *t,
                        uint64_t tokens, int64_t cost, uint64_t back)
{
    struct limit_lease *of = b->leases->of;
    uint64_t n[LIMIT_UNITS], used[LIMIT_UNITS];
    lease_amounts(t->tokens, t->cost, n);
    lease_amounts(tokens, cost, used);
    of[LIMIT_UNIT_SLOTS].reserved--;
    of[LIMIT_UNIT_SLOTS].idle++;
    for (unsigned u = LIMIT_UNIT_DAY; u <= LIMIT_UNIT_MONEY; u++) {
        of[u].reserved -= n[u];
        of[u].used += used[u];
        of[u].idle += (__int128)n[u] - used[u];
    }
    uint64_t over = used[LIMIT_UNIT_TOKENS] - MIN(n[LIMIT_UNIT_TOKENS], used[LIMIT_UNIT_TOKENS]);
    of[LIMIT_UNIT_TOKENS].used += over;
    of[LIMIT_UNIT_TOKENS].back += back;
    of[LIMIT_UNIT_TOKENS].idle += (__int128)back - over;
    ASSERT(of[LIMIT_UNIT_SLOTS].reserved >= 0 && of[LIMIT_UNIT_DAY].reserved >= 0);
    lease_touch(l, b->leases);
}
