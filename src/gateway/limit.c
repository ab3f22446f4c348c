/* limit.c: see limit.h.
 *
 * Invariants
 * 1. A bucket's reserved counts are the sums over the tickets that hold it; n_running their number.
 * 2. day_used + day_reserved <= the day's limit at the moment of a grant; money likewise.
 * 3. What a settlement gives back to a minute is what of its reservation has not drained yet
 *    (limit_lows.h): so the bucket is never emptier than if only the used tokens had been put in.
 */
#include "gateway/limit.h"

#include "base/assert.h"
#include "base/mem.h"
#include "gateway/limit_private.h"
#include "stores/usage_line.h"

/* ---- calendar ---- */

/* Year and month of a day since 1970 (Hinnant, "chrono-compatible low-level date algorithms"). */
static int64_t limit_month_of_day(int64_t day)
{
    int64_t z = day + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    int64_t month = mp < 10 ? mp + 3 : mp - 9;
    int64_t year = yoe + era * 400 + (month <= 2 ? 1 : 0);
    return year * 12 + month - 1;
}

static int64_t limit_day(int64_t wall_s)
{
    return wall_s >= 0 ? wall_s / LIMIT_DAY_S : -((-wall_s + LIMIT_DAY_S - 1) / LIMIT_DAY_S);
}

int64_t limit_month(int64_t wall_s)
{
    return limit_month_of_day(limit_day(wall_s));
}

int64_t limit_month_end(int64_t wall_s)
{
    int64_t day = limit_day(wall_s);
    int64_t month = limit_month_of_day(day);
    do {
        day++;
    } while (limit_month_of_day(day) == month); /* at most 31 steps */
    return day * LIMIT_DAY_S;
}

int64_t limit_month_start(int64_t wall_s)
{
    int64_t day = limit_day(wall_s);
    int64_t month = limit_month_of_day(day);
    while (limit_month_of_day(day - 1) == month) {
        day--; /* at most 30 steps */
    }
    return day * LIMIT_DAY_S;
}

/* ---- money ---- */

int64_t limit_cost(const struct cat_price *p, uint64_t input, uint64_t cached, uint64_t output)
{
    const struct usage_price price = {p->input, p->cached_input, p->output, p->image};
    return usage_cost(&price, input, cached, output, 0);
}

static int64_t limit_add(int64_t a, int64_t b)
{
    return a > INT64_MAX - b ? INT64_MAX : a + b;
}

/* ---- minutes ---- */

static uint64_t meter_level(const struct limit_meter *m, uint64_t limit, uint64_t now_ns)
{
    uint64_t elapsed = now_ns > m->at_ns ? now_ns - m->at_ns : 0;
    unsigned __int128 drained = (unsigned __int128)elapsed * limit;
    /* What a larger limit allowed is at most a minute's worth of the one that holds now. */
    uint64_t level = m->limit == limit ? m->level : MIN(m->level, limit * LIMIT_MINUTE_NS);
    return drained >= level ? 0 : level - (uint64_t)drained;
}

static uint64_t meter_left(const struct limit_meter *m, uint64_t limit, uint64_t now_ns)
{
    uint64_t full = limit * LIMIT_MINUTE_NS;
    uint64_t level = meter_level(m, limit, now_ns);
    return level >= full ? 0 : (full - level) / LIMIT_MINUTE_NS;
}

/* Until `need` units fit; need <= limit. */
static uint64_t meter_wait_ns(const struct limit_meter *m, uint64_t limit, uint64_t need,
                              uint64_t now_ns)
{
    uint64_t room = (limit - MIN(need, limit)) * LIMIT_MINUTE_NS;
    uint64_t level = meter_level(m, limit, now_ns);
    return level <= room ? 0 : (level - room + limit - 1) / limit;
}

/* Without a limit nothing is metered, else what is set later would first have to drain it all. */
static void meter_put(struct limit_meter *m, uint64_t limit, uint64_t units, uint64_t now_ns)
{
    if (limit == 0) {
        return;
    }
    uint64_t level = meter_level(m, limit, now_ns);
    unsigned __int128 more = (unsigned __int128)units * LIMIT_MINUTE_NS;
    m->level = more > UINT64_MAX - level ? UINT64_MAX : level + (uint64_t)more;
    m->at_ns = MAX(m->at_ns, now_ns); /* threads may come out of order by a little */
    m->limit = limit;
}

/* Tokens; which put it was, for tokens_take_back. */
static uint64_t tokens_put(struct limit_bucket *b, uint64_t limit, uint64_t units, uint64_t now_ns)
{
    if (limit == 0) {
        return 0;
    }
    uint64_t put = limit_lows_put(&b->lows, meter_level(&b->tokens, limit, now_ns));
    meter_put(&b->tokens, limit, units, now_ns);
    return put;
}

/* So many of a put were not used (invariant 3). How many whole ones came back. */
static uint64_t tokens_take_back(struct limit_bucket *b, uint64_t limit, uint64_t put,
                                 uint64_t units, uint64_t now_ns)
{
    struct limit_meter *m = &b->tokens;
    if (limit == 0) {
        return 0;
    }
    uint64_t level = meter_level(m, limit, now_ns);
    unsigned __int128 unused = (unsigned __int128)units * LIMIT_MINUTE_NS;
    uint64_t back =
        (uint64_t)MIN(unused, (unsigned __int128)limit_lows_least(&b->lows, put, level));
    limit_lows_take(&b->lows, put, back);
    m->level = level - back;
    m->at_ns = MAX(m->at_ns, now_ns); /* threads may come out of order by a little */
    m->limit = limit;
    return back / LIMIT_MINUTE_NS;
}

uint64_t limit_meter_units(const struct limit_meter *m, uint64_t limit, uint64_t now_ns)
{
    return (meter_level(m, limit, now_ns) + LIMIT_MINUTE_NS - 1) / LIMIT_MINUTE_NS;
}

void limit_meter_set(struct limit_meter *m, uint64_t limit, uint64_t units, uint64_t now_ns)
{
    *m = (struct limit_meter){.at_ns = now_ns, .limit = limit};
    meter_put(m, limit, units, now_ns);
}

/* ---- buckets ---- */

bool limit_is_none(const struct cat_limits *l)
{
    return l->requests_per_minute == 0 && l->tokens_per_minute == 0 && l->tokens_per_day == 0 &&
           l->concurrent == 0 && l->money_per_month == 0;
}

static struct limit_bucket *bucket_get(struct limiter *l, struct str name)
{
    struct limit_bucket *b = map_get(&l->buckets, name);
    if (b != NULL || map_count(&l->buckets) >= LIMIT_BUCKETS_MAX) {
        return b;
    }
    b = mem_try_zalloc(sizeof(*b));
    if (b == NULL || !str_copy(b->name, sizeof(b->name), name) ||
        !map_put(&l->buckets, str_from(b->name), b, NULL)) {
        mem_free(b);
        return NULL;
    }
    return b;
}

/* A new day or month begins with nothing used, and none begins twice: with the clock set back what
 * was used stays counted. By less than a day (it was just past midnight, or another thread has read
 * it there) the later day stays in force; by more, the earlier one is in force from then on. */
static void bucket_turn(struct limit_bucket *b, struct limit_time now)
{
    int64_t day = limit_day(now.wall_s);
    if (b->day == day || b->day == day + 1) {
        return;
    }
    int64_t month = limit_month(now.wall_s);
    b->day_used = day > b->day ? 0 : b->day_used;
    b->month_used = month > b->month ? 0 : b->month_used;
    b->day = day;
    b->month = month;
}

static uint64_t limit_day_left(const struct limit_bucket *b, uint64_t limit)
{
    uint64_t taken = b->day_used + b->day_reserved;
    return taken >= limit ? 0 : limit - taken;
}

static int64_t limit_money_left(const struct limit_bucket *b, int64_t limit)
{
    __int128 taken = b->month_used + b->month_reserved;
    return taken >= limit ? 0 : (int64_t)(limit - taken);
}

/* ---- reserving ---- */

bool limit_refuse(struct limit_result *r, enum limit_kind kind, uint64_t limit, uint64_t left,
                  uint64_t retry_ns)
{
    r->refused = kind;
    r->limit = limit;
    r->left = left;
    r->retry_ns = retry_ns;
    return false;
}

uint64_t limit_day_end_ns(struct limit_time now)
{
    int64_t end = (limit_day(now.wall_s) + 1) * LIMIT_DAY_S;
    return (uint64_t)(end - now.wall_s) * 1000000000u;
}

/* Output tokens that `left` units of tokens pay for, above the prompt. False: not even the least.
 */
bool limit_cut(uint64_t left, const struct limit_ask *ask, uint64_t *output)
{
    uint64_t least = ask->output_tokens > 0 ? 1 : 0;
    if (left < ask->prompt_tokens || left - ask->prompt_tokens < least) {
        return false;
    }
    *output = MIN(*output, left - ask->prompt_tokens);
    return true;
}

bool limit_cut_money(int64_t left, const struct limit_ask *ask, uint64_t *output)
{
    uint64_t least = ask->output_tokens > 0 ? 1 : 0;
    if (limit_cost(&ask->price, ask->prompt_tokens, 0, least) > left) {
        return false;
    }
    if (limit_cost(&ask->price, ask->prompt_tokens, 0, *output) <= left) {
        return true;
    }
    int64_t rest = left - limit_cost(&ask->price, ask->prompt_tokens, 0, 0);
    unsigned __int128 n = (unsigned __int128)(uint64_t)MAX(rest, (int64_t)0) * 1000000u;
    n /= (uint64_t)MAX(ask->price.output, (int64_t)1);
    *output = MIN(*output, n > UINT64_MAX ? UINT64_MAX : MAX((uint64_t)n, least));
    while (*output > least && limit_cost(&ask->price, ask->prompt_tokens, 0, *output) > left) {
        --*output; /* roundings: once or twice */
    }
    return true;
}

/* Whether one subject grants it; cuts *output to what it can. */
static bool limit_check(struct limit_bucket *b, const struct cat_limits *l,
                        const struct limit_ask *ask, struct limit_time now, uint64_t *output,
                        struct limit_result *r)
{
    uint64_t least = ask->prompt_tokens + (ask->output_tokens > 0 ? 1 : 0);
    bucket_turn(b, now);
    if (l->concurrent != 0 && b->n_running >= l->concurrent) {
        return limit_refuse(r, LIMIT_CONCURRENT, l->concurrent, 0, 1000000000u);
    }
    if (l->requests_per_minute != 0 &&
        meter_left(&b->requests, l->requests_per_minute, now.mono_ns) == 0) {
        return limit_refuse(r, LIMIT_REQUESTS, l->requests_per_minute, 0,
                            meter_wait_ns(&b->requests, l->requests_per_minute, 1, now.mono_ns));
    }
    if (l->tokens_per_minute != 0) {
        uint64_t left = meter_left(&b->tokens, l->tokens_per_minute, now.mono_ns);
        if (!limit_cut(left, ask, output)) {
            return limit_refuse(
                r, LIMIT_TOKENS, l->tokens_per_minute, left,
                meter_wait_ns(&b->tokens, l->tokens_per_minute, least, now.mono_ns));
        }
    }
    if (l->tokens_per_day != 0) {
        uint64_t left = limit_day_left(b, l->tokens_per_day);
        if (!limit_cut(left, ask, output)) {
            return limit_refuse(r, LIMIT_DAY, l->tokens_per_day, left, limit_day_end_ns(now));
        }
    }
    if (l->money_per_month != 0) {
        int64_t left = limit_money_left(b, l->money_per_month);
        if (!limit_cut_money(left, ask, output)) {
            uint64_t wait_s = (uint64_t)(limit_month_end(now.wall_s) - now.wall_s);
            return limit_refuse(r, LIMIT_MONEY, (uint64_t)l->money_per_month, (uint64_t)left,
                                wait_s * 1000000000u);
        }
    }
    return true;
}

static void limit_take(struct limit_bucket *b, const struct cat_limits *l, struct limit_ticket *t,
                       struct limit_time now)
{
    b->n_running++;
    meter_put(&b->requests, l->requests_per_minute, 1, now.mono_ns);
    t->put[t->n] = tokens_put(b, l->tokens_per_minute, t->tokens, now.mono_ns);
    b->day_reserved += t->tokens;
    b->month_reserved += t->cost;
    t->buckets[t->n] = b;
    t->per_minute[t->n++] = l->tokens_per_minute;
}

struct limit_bucket *limit_bucket_find(struct limiter *l, struct str name)
{
    return map_get(&l->buckets, name);
}

/* One of so many gateways, each of which counts alone. */
static struct cat_limits limit_share(const struct cat_limits *l, uint64_t n)
{
    struct cat_limits share = *l;
    uint64_t *const numbers[] = {&share.requests_per_minute, &share.tokens_per_minute,
                                 &share.tokens_per_day, &share.concurrent};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        *numbers[i] = *numbers[i] == 0 ? 0 : MAX(*numbers[i] / n, (uint64_t)1);
    }
    share.money_per_month =
        l->money_per_month == 0 ? 0 : MAX(l->money_per_month / (int64_t)n, (int64_t)1);
    return share;
}

/* Whether one subject grants it, from this process's counters or from what it has leased. */
static bool limit_check_any(struct limiter *l, struct limit_bucket *b,
                            const struct limit_subject *subject, const struct limit_ask *ask,
                            struct limit_time now, bool last, struct limit_result *r)
{
    enum limit_mode mode = subject->here ? LIMIT_ALONE : limit_mode_now(l, now.mono_ns);
    if (mode == LIMIT_ALONE) {
        return limit_check(b, subject->limits, ask, now, &r->output_tokens, r);
    }
    if (!limit_lease_open(b)) {
        return limit_refuse(r, LIMIT_ROOM, LIMIT_BUCKETS_MAX, 0, 1000000000u);
    }
    if (mode == LIMIT_OPEN) {
        const struct cat_limits share = limit_share(subject->limits, l->n_gateways);
        b->leases->limits = *subject->limits;
        return limit_check(b, &share, ask, now, &r->output_tokens, r);
    }
    bucket_turn(b, now);
    return limit_lease_check(l, b, subject->limits, ask, now, last, &r->output_tokens, r);
}

bool limit_reserve_all(struct limiter *l, const struct limit_subject *subjects, uint32_t n,
                       const struct limit_ask *ask, struct limit_time now, bool last,
                       struct limit_ticket *t, struct limit_result *r)
{
    struct limit_bucket *buckets[LIMIT_SUBJECTS_MAX] = {0};
    ASSERT(n <= LIMIT_SUBJECTS_MAX && t->n == 0);
    *r = (struct limit_result){.output_tokens = ask->output_tokens};
    for (uint32_t i = 0; i < n; i++) {
        if (limit_is_none(subjects[i].limits)) {
            continue;
        }
        r->subject = i;
        buckets[i] = bucket_get(l, subjects[i].name);
        if (buckets[i] == NULL) {
            return limit_refuse(r, LIMIT_ROOM, LIMIT_BUCKETS_MAX, 0, 1000000000u);
        }
        if (!limit_check_any(l, buckets[i], &subjects[i], ask, now, last, r)) {
            return false;
        }
    }
    t->tokens = ask->prompt_tokens + r->output_tokens;
    t->cost = limit_cost(&ask->price, ask->prompt_tokens, 0, r->output_tokens);
    for (uint32_t i = 0; i < n; i++) {
        if (buckets[i] != NULL) {
            limit_take(buckets[i], subjects[i].limits, t, now);
            if (buckets[i]->leases != NULL) {
                t->leased[t->n - 1] = true;
                limit_lease_take(l, buckets[i], t);
            }
        }
    }
    return true;
}

bool limit_reserve(struct limiter *l, const struct limit_subject *subjects, uint32_t n,
                   const struct limit_ask *ask, struct limit_time now, struct limit_ticket *t,
                   struct limit_result *r)
{
    pthread_mutex_lock(&l->lock);
    bool granted = limit_reserve_all(l, subjects, n, ask, now, false, t, r);
    pthread_mutex_unlock(&l->lock);
    return granted;
}

void limit_settle(struct limiter *l, struct limit_ticket *t, uint64_t tokens, int64_t cost,
                  struct limit_time now)
{
    if (t->n == 0) {
        *t = (struct limit_ticket){0};
        return;
    }
    pthread_mutex_lock(&l->lock);
    for (uint32_t i = 0; i < t->n; i++) {
        struct limit_bucket *b = t->buckets[i];
        ASSERT(b->n_running > 0 && b->day_reserved >= t->tokens && b->month_reserved >= t->cost);
        bucket_turn(b, now);
        b->n_running--;
        b->day_reserved -= t->tokens;
        b->day_used += tokens;
        b->month_reserved -= t->cost;
        b->month_used = limit_add(b->month_used, cost);
        uint64_t back = 0;
        if (tokens < t->tokens) {
            back =
                tokens_take_back(b, t->per_minute[i], t->put[i], t->tokens - tokens, now.mono_ns);
        } else {
            tokens_put(b, t->per_minute[i], tokens - t->tokens, now.mono_ns);
        }
        if (t->leased[i]) {
            limit_lease_settle(l, b, t, tokens, cost, back);
        }
    }
    pthread_mutex_unlock(&l->lock);
    *t = (struct limit_ticket){0};
}

/* ---- looking ---- */

/* Until the bucket of a minute is empty. */
static uint64_t limit_reset_ns(uint64_t limit, uint64_t left)
{
    return (uint64_t)((unsigned __int128)(limit - left) * LIMIT_MINUTE_NS / limit);
}

static void limit_look_leased(const struct limit_leases *s, const struct cat_limits *l,
                              struct limit_state *out)
{
    uint64_t rpm = l->requests_per_minute, tpm = l->tokens_per_minute;
    uint64_t left = limit_lease_left(&s->of[LIMIT_UNIT_REQUESTS], rpm);
    if (rpm != 0 && (!out->has_requests || left < out->requests_left)) {
        out->has_requests = true;
        out->requests_limit = rpm;
        out->requests_left = left;
        out->requests_reset_ns = limit_reset_ns(rpm, left);
    }
    left = limit_lease_left(&s->of[LIMIT_UNIT_TOKENS], tpm);
    if (tpm != 0 && (!out->has_tokens || left < out->tokens_left)) {
        out->has_tokens = true;
        out->tokens_limit = tpm;
        out->tokens_left = left;
        out->tokens_reset_ns = limit_reset_ns(tpm, left);
    }
}

static void limit_look_one(const struct limit_bucket *b, const struct cat_limits *l, uint64_t now,
                           struct limit_state *out)
{
    static const struct limit_bucket none;
    b = b != NULL ? b : &none;
    uint64_t rpm = l->requests_per_minute, tpm = l->tokens_per_minute;
    uint64_t left = rpm != 0 ? meter_left(&b->requests, rpm, now) : 0;
    if (rpm != 0 && (!out->has_requests || left < out->requests_left)) {
        out->has_requests = true;
        out->requests_limit = rpm;
        out->requests_left = left;
        out->requests_reset_ns = meter_level(&b->requests, rpm, now) / rpm;
    }
    left = tpm != 0 ? meter_left(&b->tokens, tpm, now) : 0;
    if (tpm != 0 && (!out->has_tokens || left < out->tokens_left)) {
        out->has_tokens = true;
        out->tokens_limit = tpm;
        out->tokens_left = left;
        out->tokens_reset_ns = meter_level(&b->tokens, tpm, now) / tpm;
    }
}

void limit_look(struct limiter *l, const struct limit_subject *subjects, uint32_t n,
                struct limit_time now, struct limit_state *out)
{
    *out = (struct limit_state){0};
    for (uint32_t i = 0; i < n; i++) {
        if (!limit_is_none(subjects[i].limits)) {
            pthread_mutex_lock(&l->lock);
            const struct limit_bucket *b = map_get(&l->buckets, subjects[i].name);
            if (b != NULL && b->leases != NULL && l->mode != LIMIT_OPEN) {
                limit_look_leased(b->leases, subjects[i].limits, out);
            } else {
                limit_look_one(b, subjects[i].limits, now.mono_ns, out);
            }
            pthread_mutex_unlock(&l->lock);
        }
    }
}

/* ---- life ---- */

bool limit_load(struct limiter *l, struct str name, uint64_t day_tokens, int64_t month_cost,
                struct limit_time now)
{
    pthread_mutex_lock(&l->lock);
    struct limit_bucket *b = bucket_get(l, name);
    if (b != NULL) {
        bucket_turn(b, now);
        b->day_used += day_tokens;
        b->month_used = limit_add(b->month_used, month_cost);
    }
    pthread_mutex_unlock(&l->lock);
    return b != NULL;
}

void limiter_create(struct limiter **out, uint64_t seed)
{
    struct limiter *l = mem_zalloc(sizeof(*l));
    pthread_mutex_init(&l->lock, NULL);
    map_init(&l->buckets, seed);
    list_init(&l->live);
    *out = l;
}

void limiter_destroy(struct limiter *l)
{
    if (l == NULL) {
        return;
    }
    uint32_t at = 0;
    void *bucket = NULL;
    while (map_next(&l->buckets, &at, NULL, &bucket)) {
        ASSERT(((struct limit_bucket *)bucket)->n_running == 0);
        mem_free(((struct limit_bucket *)bucket)->leases);
        mem_free(bucket);
    }
    map_deinit(&l->buckets);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}
