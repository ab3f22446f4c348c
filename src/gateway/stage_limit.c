/* stage_limit.c: how much who asks may use: key, user, project and model, all or none (limit.h).
 *
 * A prompt has at most as many tokens as its body has bytes, so that what is set aside is never too
 * little. When less is left than was asked for, the output is cut to it: max_tokens goes on
 * smaller, and the answer ends with finish_reason "length". */
#include "gateway/stages.h"
#include "obs/metric.h"

static void limit_subject_add(struct gw_request *r, struct str kind, struct str name,
                              const struct cat_limits *limits)
{
    char *text = r->subject_names[r->n_subjects];
    size_t room = LIMIT_NAME_BYTES - kind.len;
    memcpy(text, kind.ptr, kind.len);
    str_copy(text + kind.len, room, name);
    r->subjects[r->n_subjects++] = (struct limit_subject){
        .name = str_make(text, kind.len + MIN(name.len, room - 1)), .limits = limits};
}

static void limit_subjects(struct gw_request *r)
{
    r->n_subjects = 0;
    if (r->who_limits != NULL) {
        limit_subject_add(r, STR_LIT("key:"), r->who.id, r->who_limits);
    }
    if (r->user != NULL) {
        limit_subject_add(r, STR_LIT("user:"), r->user->name, &r->user->limits);
    }
    if (r->project != NULL) {
        limit_subject_add(r, STR_LIT("project:"), r->project->name, &r->project->limits);
    }
    limit_subject_add(r, STR_LIT("model:"), r->wanted->name, &r->wanted->limits);
}

/* What callers pay: the model's own price, else the dearest of its servers'. */
static struct cat_price limit_price(const struct cat_model *m)
{
    struct cat_price p = m->price;
    const struct cat_version *versions = m->versions.at;
    if (p.input != 0 || p.cached_input != 0 || p.output != 0 || p.image != 0) {
        return p;
    }
    for (uint32_t i = 0; i < m->versions.n; i++) {
        for (uint32_t j = 0; j < versions[i].n_targets; j++) {
            const struct cat_price *q = &versions[i].targets[j]->price;
            p.input = MAX(p.input, q->input);
            p.cached_input = MAX(p.cached_input, q->cached_input);
            p.output = MAX(p.output, q->output);
            p.image = MAX(p.image, q->image);
        }
    }
    return p;
}

static bool limit_is_counted(const struct gw_request *r)
{
    for (uint32_t i = 0; i < r->n_subjects; i++) {
        const struct cat_limits *l = r->subjects[i].limits;
        if (l->tokens_per_minute != 0 || l->tokens_per_day != 0 || l->money_per_month != 0) {
            return true;
        }
    }
    return false;
}

/* A prompt that the whole of a limit could not hold: trying again would not help. */
static bool limit_never_fits(const struct limit_result *res, const struct limit_ask *ask)
{
    bool tokens = res->refused == LIMIT_TOKENS || res->refused == LIMIT_DAY;
    return tokens && ask->prompt_tokens + (ask->output_tokens > 0 ? 1 : 0) > res->limit;
}

/* In the caller's words. A token's subject is counted as a key is, so that its records are found
 * again after a restart. */
static struct str limit_kind(const struct gw_request *r, struct str subject)
{
    struct str kind = str_slice(subject, 0, str_find(subject, STR_LIT(":")));
    return str_is(kind, "key") && r->who.kind == PRINCIPAL_JWT ? STR_LIT("token") : kind;
}

static enum gw_result limit_refused(struct gw_request *r, const struct limit_result *res,
                                    const struct limit_ask *ask)
{
    static const char *const names[] = {
        [LIMIT_NONE] = "",
        [LIMIT_REQUESTS] = "requests per minute",
        [LIMIT_TOKENS] = "tokens per minute",
        [LIMIT_DAY] = "tokens per day",
        [LIMIT_CONCURRENT] = "concurrent requests",
        [LIMIT_MONEY] = "spending of the month",
        [LIMIT_ROOM] = "limited subjects",
        [LIMIT_ASK] = "",
        [LIMIT_AWAY] = "",
    };
    static const char *const labels[] = {
        [LIMIT_NONE] = "",
        [LIMIT_REQUESTS] = "requests",
        [LIMIT_TOKENS] = "tokens",
        [LIMIT_DAY] = "day",
        [LIMIT_CONCURRENT] = "concurrent",
        [LIMIT_MONEY] = "money",
        [LIMIT_ROOM] = "room",
        [LIMIT_ASK] = "",
        [LIMIT_AWAY] = "away",
    };
    bool quota = res->refused == LIMIT_DAY || res->refused == LIMIT_MONEY;
    struct str subject = r->subjects[res->subject].name;
    struct str kind = limit_kind(r, subject);
    metric_add(metric_with1(METRIC_REQUESTS_REFUSED, str_from(labels[res->refused])), 1);
    if (limit_never_fits(res, ask)) {
        err_set(&r->err, RC_CONTEXT,
                "The request is too large for the limit of the %.*s on %s, %llu: it counts as up "
                "to %llu tokens before its answer. Please shorten it.",
                STR(kind), names[res->refused], (unsigned long long)res->limit,
                (unsigned long long)ask->prompt_tokens);
        return GW_FAIL;
    }
    r->retry_ns = res->retry_ns;
    if (res->refused == LIMIT_AWAY) {
        err_set(&r->err, RC_UNAVAILABLE,
                "The store that counts limits does not answer. Please try again.");
        return GW_FAIL;
    }
    if (res->refused == LIMIT_MONEY) {
        struct buf limit;
        buf_init(&limit, 64);
        conf_money_write(&limit, (int64_t)res->limit);
        err_set(&r->err, RC_QUOTA,
                "You exceeded your current quota: limit of the %.*s on the %s: %s.", STR(kind),
                names[res->refused], buf_str(&limit).ptr);
        buf_deinit(&limit);
    } else {
        err_set(&r->err, quota ? RC_QUOTA : RC_RATE_LIMITED,
                "%s for `%.*s`: limit of the %.*s on %s: %llu, left %llu. %s",
                quota ? "You exceeded your current quota" : "Rate limit reached",
                (int)MIN(r->model.len, (size_t)100), r->model.ptr, STR(kind), names[res->refused],
                (unsigned long long)res->limit, (unsigned long long)res->left,
                quota ? "" : "Please try again later.");
    }
    return GW_FAIL;
}

/* The output that was granted, as each choice's max_tokens. */
static void limit_clamp(struct gw_request *r, uint64_t output_tokens, uint64_t asked)
{
    const struct gw_parsed *p = &r->parsed;
    if (p->n_choices == 0 || (p->has_max_tokens && output_tokens >= asked)) {
        return;
    }
    uint64_t each = output_tokens / p->n_choices;
    r->clamped = true;
    r->output_tokens_max = (uint32_t)MIN(each, (uint64_t)UINT32_MAX);
}

/* All is set aside, or it is refused: r->why.limit says how. */
static enum gw_result limit_decided(struct gw_request *r, bool granted)
{
    const struct limit_result *res = &r->why.limit;
    const struct limit_ask *ask = &r->ask;
    r->why.limited = true;
    r->why.asked_output_tokens = ask->output_tokens;
    if (!granted) {
        return limit_refused(r, res, ask);
    }
    if (limit_is_counted(r)) {
        r->budget_tokens = ask->prompt_tokens + res->output_tokens;
        limit_clamp(r, res->output_tokens, ask->output_tokens);
        if (r->clamped && r->output_tokens_max == 0) { /* not one token for every choice */
            stage_limit_settle(r);
            err_set(&r->err, RC_RATE_LIMITED, "Too few tokens are left for %u choices.",
                    r->parsed.n_choices);
            return GW_FAIL;
        }
    }
    return stage_usage_begin(r) ? GW_NEXT : GW_FAIL;
}

static void limit_on_lease(void *ctx, bool granted)
{
    struct gw_request *r = ctx;
    stages_resume(r, limit_decided(r, granted));
}

/* What is set aside for a choice when the request names no number. */
static uint64_t limit_max_tokens(const struct cat_model *m)
{
    return m->max_tokens != 0 ? m->max_tokens : CAT_MAX_TOKENS_DEFAULT; /* not from the catalogue */
}

enum gw_result stage_limit(struct gw_request *r)
{
    const struct gw_parsed *p = &r->parsed;
    struct gateway *g = r->gateway;
    if (!gw_kind_has_body(r->kind)) {
        return GW_NEXT;
    }
    limit_subjects(r);
    uint64_t each = p->has_max_tokens ? p->max_tokens : limit_max_tokens(r->wanted);
    r->price = limit_price(r->wanted);
    r->ask = (struct limit_ask){
        .prompt_tokens = r->body.len, .output_tokens = each * p->n_choices, .price = r->price};
    struct limit_result *res = &r->why.limit;
    bool granted = limit_reserve(g->shared->limiter, r->subjects, r->n_subjects, &r->ask,
                                 stages_limit_time(r), &r->ticket, res);
    if (!granted && res->refused == LIMIT_ASK) {
        r->lease_wait.done = limit_on_lease;
        r->lease_wait.ctx = r;
        lease_wait_start(&r->lease_wait, g->door, r->subjects, r->n_subjects, &r->ask, &r->ticket,
                         res);
        return GW_WAIT;
    }
    return limit_decided(r, granted);
}

void stage_limit_abandon(struct gw_request *r)
{
    lease_wait_cancel(&r->lease_wait);
}

void stage_limit_settle(struct gw_request *r)
{
    const struct gw_attempt *a = r->attempt;
    uint64_t tokens = (uint64_t)a->prompt_tokens + a->output_tokens;
    r->cost_nano = limit_cost(&r->price, a->prompt_tokens, a->cached_tokens, a->output_tokens);
    limit_settle(r->gateway->shared->limiter, &r->ticket, tokens, r->cost_nano,
                 stages_limit_time(r));
}

/* ---- headers ---- */

/* As Go writes durations: "12ms", "1s", "6m0s". */
static struct str limit_duration(char *out, uint64_t ns)
{
    uint64_t ms = (ns + 999999u) / 1000000u;
    size_t n = 0;
    if (ms > 0 && ms < 1000) {
        n = str_put_u64(out, ms);
        memcpy(out + n, "ms", 2);
        return str_make(out, n + 2);
    }
    uint64_t s = (ms + 999u) / 1000u;
    if (s >= 60) {
        n = str_put_u64(out, s / 60);
        out[n++] = 'm';
    }
    n += str_put_u64(out + n, s % 60);
    out[n++] = 's';
    return str_make(out, n);
}

static struct str limit_number(char *out, uint64_t v)
{
    return str_make(out, str_put_u64(out, v));
}

void stage_limit_headers(const struct gw_request *r, struct gw_headers *h)
{
    struct limit_state s;
    if (r->n_subjects == 0) {
        return;
    }
    limit_look(r->gateway->shared->limiter, r->subjects, r->n_subjects, stages_limit_time(r), &s);
    if (s.has_requests) {
        gw_header_str(h, STR_LIT("x-ratelimit-limit-requests"),
                      limit_number(h->limits[0], s.requests_limit));
        gw_header_str(h, STR_LIT("x-ratelimit-remaining-requests"),
                      limit_number(h->limits[1], s.requests_left));
        gw_header_str(h, STR_LIT("x-ratelimit-reset-requests"),
                      limit_duration(h->limits[2], s.requests_reset_ns));
    }
    if (s.has_tokens) {
        gw_header_str(h, STR_LIT("x-ratelimit-limit-tokens"),
                      limit_number(h->limits[3], s.tokens_limit));
        gw_header_str(h, STR_LIT("x-ratelimit-remaining-tokens"),
                      limit_number(h->limits[4], s.tokens_left));
        gw_header_str(h, STR_LIT("x-ratelimit-reset-tokens"),
                      limit_duration(h->limits[5], s.tokens_reset_ns));
    }
}
