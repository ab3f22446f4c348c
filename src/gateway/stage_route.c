/* stage_route.c: which server answers.
 *
 *   the model asked for ──> a version, by weight (or the one named) ──> of its servers those that
 *   are well, but neither the one that broke last nor a suspect one (backend.h) while there is
 *   another ──> the balancer's choice
 *        │ none of this version: the other versions; none of these: the fallback models in turn,
 *        │ those that who asks may have
 *        v
 *   none at all: in line, at most GATEWAY_WAIT_MS, with at most GW_WAITING_MAX others
 *
 * After an attempt that broke with no other server in sight it pauses first: a process that has
 * just died is still counted as ready until its exit is seen, and trying at once would only use up
 * the attempts. */
#include "base/assert.h"
#include "base/hash.h"
#include "gateway/balance.h"
#include "gateway/stages.h"
#include "obs/metric.h"

enum { ROUTE_PAUSE_MS = 100 };

/* ---- one server ---- */

struct route_choice {
    struct balance_server servers[CAT_TARGETS_MAX];
    const struct cat_upstream *upstreams[CAT_TARGETS_MAX];
    struct backend *backends[CAT_TARGETS_MAX];
    uint32_t n;
};

struct route_pass {
    struct str but; /* leaves out this one; "" = none */
    bool suspects;  /* takes those from which due tokens do not come too */
};

/* Servers of a version that are well. */
static void route_gather(const struct gw_request *r, const struct cat_version *v,
                         struct route_pass pass, struct route_choice *c)
{
    c->n = 0;
    for (uint32_t i = 0; i < v->n_targets; i++) {
        const struct cat_upstream *u = v->targets[i];
        struct backend *b = gw_backends_find(&r->gateway->backends, u->name);
        bool well = b != NULL && b->ready && gw_backend_breaker(b) != BREAKER_OPEN;
        if (!well || (pass.but.len > 0 && str_eq(u->name, pass.but)) ||
            (!pass.suspects && gw_backend_is_suspect(b))) {
            continue;
        }
        c->servers[c->n] =
            (struct balance_server){.id = b->id, .outstanding = gw_backend_outstanding(b)};
        c->upstreams[c->n] = u;
        c->backends[c->n++] = b;
    }
}

static void route_leave_out(struct route_choice *c, uint32_t i)
{
    c->n--;
    c->servers[i] = c->servers[c->n];
    c->upstreams[i] = c->upstreams[c->n];
    c->backends[i] = c->backends[c->n];
}

/* What the upstream's owner allows to be sent to it, and, of a fallback, to the model: [limit] has
 * counted the one that was asked for. */
static bool route_reserve(struct gw_attempt *a, const struct cat_model *m,
                          const struct cat_upstream *u, struct limit_time now)
{
    const struct gw_request *r = a->request;
    char upstream[LIMIT_NAME_BYTES] = "upstream:", model[LIMIT_NAME_BYTES] = "model:";
    struct limit_result res;
    struct limit_subject subjects[2];
    uint32_t n = 0;
    str_copy(upstream + 9, sizeof(upstream) - 9, u->name);
    subjects[n++] = (struct limit_subject){str_from(upstream), &u->limits, .here = true};
    if (m != NULL && m != r->wanted) {
        str_copy(model + 6, sizeof(model) - 6, m->name);
        subjects[n++] = (struct limit_subject){str_from(model), &m->limits, .here = true};
    }
    const struct limit_ask ask = {
        .prompt_tokens = r->budget_tokens > 0 ? r->budget_tokens : r->body.len, .price = u->price};
    return limit_reserve(r->gateway->shared->limiter, subjects, n, &ask, now, &a->ticket, &res);
}

/* `m` NULL: a request for no model. */
static bool route_begin(struct gw_attempt *a, const struct cat_model *m,
                        const struct cat_upstream *u, struct backend *b)
{
    struct gw_request *r = a->request;
    const struct limit_time now = stages_limit_time(r);
    if (!route_reserve(a, m, u, now)) {
        return false;
    }
    if (!gw_backend_begin(b)) {
        limit_settle(r->gateway->shared->limiter, &a->ticket, 0, 0, now);
        return false;
    }
    a->upstream = u;
    a->backend = b;
    list_push_back(&b->requests, &a->at_backend);
    if (!loop_timer_is_armed(&r->gateway->pulse_timer)) {
        loop_timer_start(&r->gateway->pulse_timer, BACKEND_PULSE_MS);
    }
    return true;
}

/* True when the attempt has its server. */
static bool route_try_version(struct gw_attempt *a, const struct cat_model *m,
                              const struct cat_version *v, struct str but)
{
    struct gw_request *r = a->request;
    struct gateway *g = r->gateway;
    struct route_choice c;
    bool only = a == r->attempt; /* else another one is at it already */
    route_gather(r, v, (struct route_pass){.but = but}, &c);
    if (c.n == 0 && only) {
        route_gather(r, v, (struct route_pass){.but = but, .suspects = true}, &c);
    }
    uint64_t id = hash_str(m->name) ^ hash_u64(hash_str(v->name));
    const struct balance_ask ask = {.prefix = r->parsed.prefix ^ hash_str(str_from(r->tenant)),
                                    .turn = gw_shared_turn(g->shared, id),
                                    .rng = &g->rng};
    while (c.n > 0) {
        uint32_t i = balance_of((enum cat_balance)m->balance)->pick(c.servers, c.n, &ask);
        ASSERT(i < c.n);
        uint32_t outstanding = c.servers[i].outstanding;
        if (route_begin(a, m, c.upstreams[i], c.backends[i])) {
            a->model_row = m;
            a->version = v;
            if (only) {
                r->why.n_well = c.n;
                r->why.n_servers = v->n_targets;
                r->why.outstanding = outstanding;
            }
            return true;
        }
        route_leave_out(&c, i);
    }
    return false;
}

/* ---- one model ---- */

static const struct cat_version *route_version(struct gw_request *r, const struct cat_model *m)
{
    const struct cat_version *versions = m->versions.at;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->versions.n; i++) {
        sum += versions[i].weight;
    }
    uint64_t at = m->versions.n > 1 ? rng_below(&r->gateway->rng, (uint32_t)sum) : 0;
    for (uint32_t i = 0; i + 1 < m->versions.n; i++) {
        if (at < versions[i].weight) {
            return &versions[i];
        }
        at -= versions[i].weight;
    }
    return &versions[m->versions.n - 1];
}

static bool route_try_model(struct gw_request *r, const struct cat_model *m, bool other)
{
    const struct cat_version *versions = m->versions.at;
    const struct str but = other ? str_from(r->tried) : STR_NULL;
    if (m == r->wanted && r->pinned != NULL) {
        r->why.version = EXPLAIN_VERSION_ASKED;
        return route_try_version(r->attempt, m, r->pinned, but);
    }
    const struct cat_version *first = route_version(r, m);
    r->why.version = m->versions.n > 1 ? EXPLAIN_VERSION_WEIGHT : EXPLAIN_VERSION_ONLY;
    if (route_try_version(r->attempt, m, first, but)) {
        return true;
    }
    for (uint32_t i = 0; i < m->versions.n; i++) {
        bool another = &versions[i] != first && versions[i].weight > 0;
        if (another && route_try_version(r->attempt, m, &versions[i], but)) {
            r->why.version = EXPLAIN_VERSION_OTHER;
            return true;
        }
    }
    return false;
}

static bool route_try(struct gw_request *r, bool other)
{
    const struct cat_model *wanted = r->wanted;
    if (route_try_model(r, wanted, other)) {
        return true;
    }
    const struct str *names = wanted->fallback.at;
    for (uint32_t i = 0; i < wanted->fallback.n; i++) {
        if (stage_parse_allows(r, names[i]) && route_try_model(r, wanted->next[i], other)) {
            metric_add(metric_get(METRIC_FALLBACKS), 1);
            r->why.version = EXPLAIN_VERSION_FALLBACK;
            return true;
        }
    }
    r->why.version = EXPLAIN_VERSION_NONE;
    return false;
}

static bool route_other_of(const struct gw_request *r, const struct cat_model *m)
{
    const struct cat_version *versions = m->versions.at;
    struct route_choice c;
    for (uint32_t i = 0; i < m->versions.n; i++) {
        bool pinned = m == r->wanted && r->pinned != NULL;
        if (pinned ? &versions[i] == r->pinned : versions[i].weight > 0 || m->versions.n == 1) {
            route_gather(r, &versions[i], (struct route_pass){str_from(r->tried), .suspects = true},
                         &c);
            if (c.n > 0) {
                return true;
            }
        }
    }
    return false;
}

bool stage_route_has_other(const struct gw_request *r)
{
    const struct cat_model *wanted = r->wanted;
    const struct str *names = wanted != NULL ? wanted->fallback.at : NULL;
    bool any = wanted != NULL && route_other_of(r, wanted);
    for (uint32_t i = 0; !any && wanted != NULL && i < wanted->fallback.n; i++) {
        any = stage_parse_allows(r, names[i]) && route_other_of(r, wanted->next[i]);
    }
    return any;
}

bool stage_route_second(struct gw_attempt *a)
{
    const struct gw_attempt *first = a->request->attempt;
    ASSERT(a != first && first->version != NULL);
    return route_try_version(a, first->model_row, first->version, first->upstream->name);
}

/* Whether the own server's answer about models is all the caller's to see. */
static bool route_shows_local(const struct gw_request *r)
{
    const struct cat_model *models = r->cat->set.models.at;
    bool all = r->cat->only_local;
    for (uint32_t i = 0; all && i < r->cat->set.models.n; i++) {
        all = stage_parse_allows(r, models[i].name);
    }
    return all;
}

/* Lists of models are the own server's to give; it stands for every other request without one. */
static bool route_try_local(struct gw_request *r)
{
    const struct cat_upstream *local = r->cat->local;
    struct backend *b = local != NULL ? gw_backends_find(&r->gateway->backends, local->name) : NULL;
    return b != NULL && route_begin(r->attempt, NULL, local, b);
}

void stage_route_finish(struct gw_attempt *a, enum breaker_end how)
{
    struct gw_request *r = a->request;
    if (a->backend == NULL) {
        return;
    }
    if (!gw_hedge_is_lost(a)) { /* else nothing is wrong with it */
        str_copy(r->tried, sizeof(r->tried), a->upstream->name);
    }
    if (!r->gateway->destroyed) {
        list_remove(&a->at_backend);
        gw_backend_finish(a->backend, how);
    }
    a->backend = NULL;
}

void stage_route_settle(struct gw_attempt *a)
{
    const struct gw_request *r = a->request;
    if (a->ticket.n == 0) {
        return; /* usually the second time: the clock is not read for nothing */
    }
    const struct limit_time now = stages_limit_time(r);
    int64_t cost =
        limit_cost(&a->upstream->price, a->prompt_tokens, a->cached_tokens, a->output_tokens);
    limit_settle(r->gateway->shared->limiter, &a->ticket,
                 (uint64_t)a->prompt_tokens + a->output_tokens, cost, now);
}

/* ---- progress ---- */

static bool route_any_due(const struct backend *b)
{
    LIST_EACH(&b->requests, n)
    {
        if (stage_proxy_is_due(LIST_ENTRY(n, struct gw_attempt, at_backend))) {
            return true;
        }
    }
    return false;
}

void stage_route_on_pulse(void *ctx)
{
    struct gateway *g = ctx;
    bool any = false;
    LIST_EACH(&g->backends.all, n)
    {
        struct backend *b = LIST_ENTRY(n, struct backend, node);
        any = any || b->outstanding > 0;
        if (gw_backend_is_silent(b) && route_any_due(b)) {
            gw_backend_is_due(b);
        }
    }
    if (any) {
        loop_timer_start(&g->pulse_timer, BACKEND_PULSE_MS);
    }
}

/* ---- the line ---- */

static void route_join(struct gw_request *r)
{
    struct gateway *g = r->gateway;
    list_push_back(&g->waiting, &r->waiting);
    g->n_waiting++; /* and counted in by gw_shared_wait */
    if (r->wait_until_ms == 0) {
        r->wait_until_ms = loop_now_ms(g->loop) + g->conf.wait_ms;
    }
    if (!loop_timer_is_armed(&g->line_timer)) {
        loop_timer_start(&g->line_timer, ROUTE_PAUSE_MS);
    }
}

void stage_route_leave(struct gw_request *r)
{
    if (list_is_linked(&r->waiting)) {
        ASSERT(r->gateway->n_waiting > 0);
        r->gateway->n_waiting--;
        gw_shared_wait_end(r->gateway->shared);
        list_remove(&r->waiting);
    }
}

void stage_route_wake(struct gateway *g)
{
    /* Those that wait now: what comes back to the line waits for the next time. */
    for (uint32_t n = g->n_waiting; n > 0 && g->n_waiting > 0; n--) {
        struct gw_request *r = LIST_ENTRY(list_first(&g->waiting), struct gw_request, waiting);
        stage_route_leave(r);
        stages_resume(r, stage_route(r));
    }
}

/* Breakers close and waits end without anybody saying so: the line looks again by itself. */
void stage_route_on_line(void *ctx)
{
    struct gateway *g = ctx;
    stage_route_wake(g);
    if (g->n_waiting > 0 && !loop_timer_is_armed(&g->line_timer)) {
        loop_timer_start(&g->line_timer, ROUTE_PAUSE_MS);
    }
}

void stage_route_on_timer(void *ctx)
{
    struct gw_request *r = ctx;
    stages_resume(r, stage_route(r)); /* the pause is over */
}

static enum gw_result route_wait(struct gw_request *r)
{
    struct gateway *g = r->gateway;
    if (r->wait_until_ms != 0 && loop_now_ms(g->loop) >= r->wait_until_ms) {
        err_set(&r->err, RC_UNAVAILABLE,
                "No model server is ready to answer. Try again in a moment.");
        return GW_FAIL;
    }
    if (!gw_shared_wait(g->shared, r->wait_until_ms != 0)) {
        metric_add(metric_with1(METRIC_REQUESTS_REFUSED, STR_LIT("line")), 1);
        err_set(&r->err, RC_OVERLOADED, "No model server is ready, and %u requests wait already.",
                gw_shared_n_waiting(g->shared));
        return GW_FAIL;
    }
    route_join(r);
    return GW_WAIT;
}

enum gw_result stage_route(struct gw_request *r)
{
    if (!gw_kind_has_body(r->kind) && !route_shows_local(r)) {
        return stage_route_models(r);
    }
    bool any = false;
    bool again = r->tried[0] != '\0';
    if (r->wanted == NULL) {
        any = !r->pause && route_try_local(r);
    } else {
        any = route_try(r, again);
        any = any || (again && !r->pause && route_try(r, false));
    }
    if (any) {
        r->pause = false;
        r->wait_until_ms = 0;
        return GW_NEXT;
    }
    if (r->pause) {
        r->pause = false;
        loop_timer_start(&r->wait_timer, ROUTE_PAUSE_MS);
        return GW_WAIT;
    }
    return route_wait(r);
}
