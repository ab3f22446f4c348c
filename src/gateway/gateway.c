/* gateway.c: the role: routes of the API listener, the model server's state, drain. */
#include "gateway/gateway.h"

#include "admin/health.h"
#include "api/fail.h"
#include "api/fail_status.h"
#include "base/assert.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "gateway/answer_exchange.h"
#include "gateway/stages.h"
#include "obs/log.h"
#include "obs/metric.h"

enum { GATEWAY_SWEEP_MS = 10000 /* how often kept answers are looked through */ };

/* ---- routing ---- */

static const struct {
    enum policy_id route; /* its row in auth/policy.h */
    enum gw_kind kind;
} gateway_routes[] = {
    {POLICY_ROUTE_CHAT, GW_CHAT},          {POLICY_ROUTE_COMPLETIONS, GW_COMPLETION},
    {POLICY_ROUTE_EMBEDDINGS, GW_EMBED},   {POLICY_ROUTE_RERANK, GW_RERANK},
    {POLICY_ROUTE_MODELS_SEEN, GW_MODELS}, {POLICY_ROUTE_MODEL_SEEN, GW_MODEL},
};

const struct policy_row *gw_kind_policy(enum gw_kind kind)
{
    for (size_t i = 0; i < ARRAY_LEN(gateway_routes); i++) {
        if (gateway_routes[i].kind == kind) {
            return policy_row(gateway_routes[i].route);
        }
    }
    ASSERT(false);
    return NULL;
}

static void gateway_seed(struct rng *rng)
{
    uint64_t seed;
    crypto_random(&seed, sizeof(seed));
    rng_init(rng, seed);
}

void gateway_reply_error(struct http_exchange *x, const struct err *err, const char *allow)
{
    struct api_header extra[API_FAIL_HEADERS_MAX];
    char id[GW_ID_BYTES];
    struct rng rng;
    gateway_seed(&rng);
    stages_make_id(&rng, http_exchange_head(x), id);
    struct http_header headers[3 + API_FAIL_HEADERS_MAX] = {
        {STR_LIT("content-type"), STR_LIT("application/json")},
        {STR_LIT("x-request-id"), str_from(id)},
    };
    uint32_t n = 2;
    uint32_t n_extra = api_fail_headers(err, 0, extra);
    for (uint32_t i = 0; i < n_extra; i++) {
        headers[n++] = (struct http_header){str_from(extra[i].name), str_from(extra[i].value)};
    }
    if (allow != NULL) {
        headers[n++] = (struct http_header){STR_LIT("allow"), str_from(allow)};
    }
    struct buf body;
    buf_init(&body, 64 << 10);
    api_fail_write(&body, err);
    struct http_reply reply = {.status = err_row(err->code)->http_status,
                               .headers = headers,
                               .n_headers = n,
                               .body = buf_str(&body)};
    if (http_exchange_reply(x, &reply, NULL) != RC_OK) {
        http_exchange_abort(x);
    }
    buf_deinit(&body);
}

/* People paste a base URL with or without /v1: both work. Empty when there is no room. */
static struct str gateway_path(struct http_exchange *x)
{
    const struct http_head *head = http_exchange_head(x);
    return str_starts(head->path, STR_LIT("/v1/"))
               ? head->path
               : arena_printf(http_exchange_arena(x), "/v1%.*s", STR(head->path));
}

/* A request that no route takes; `allow` has the methods of those that have its path. */
static void gateway_refuse(struct http_exchange *x, const char *allow)
{
    const struct http_head *head = http_exchange_head(x);
    const char *method = http_method_name(head->method);
    struct err err = {0};
    int n = (int)MIN(head->path.len, (size_t)200);
    if (allow[0] != '\0') {
        err_set(&err, RC_METHOD, "Not allowed: %s %.*s.", method, n, head->path.ptr);
        gateway_reply_error(x, &err, allow);
        return;
    }
    err_set(&err, RC_NOT_FOUND, "Unknown request URL: %s %.*s.", method, n, head->path.ptr);
    gateway_reply_error(x, &err, NULL);
}

static void gateway_start(struct gateway *g, struct http_exchange *x, enum gw_kind kind,
                          struct str rest)
{
    struct str model = STR_LIT("");
    if (kind == GW_MODEL && http_unescape(http_exchange_arena(x), rest, &model, NULL) != RC_OK) {
        gateway_refuse(x, ""); /* no such path: its escapes mean nothing */
        return;
    }
    stages_start(g, x, kind, model);
}

static void gateway_handle(void *ctx, struct http_exchange *x)
{
    struct gateway *g = ctx;
    struct policy_match match;
    char allow[POLICY_ALLOW_BYTES];
    if (health_handle(x, gateway_is_ready(g))) {
        return;
    }
    struct str path = gateway_path(x);
    if (policy_find(POLICY_API, http_exchange_head(x)->method, path, &match, allow) != RC_OK) {
        gateway_refuse(x, allow);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(gateway_routes); i++) {
        if (gateway_routes[i].route == match.id) {
            gateway_start(g, x, gateway_routes[i].kind, match.params[0]);
            return;
        }
    }
    gateway_refuse(x, ""); /* a path of health below /v1 */
}

/* ---- what stands behind ---- */

static void gateway_on_well(void *ctx)
{
    stage_route_wake(ctx);
}

static void gateway_on_catalog(void *ctx, void *cat)
{
    struct gateway *g = ctx;
    struct err err = {0};
    cat_put(g->cat);
    g->cat = cat;
    if (gw_backends_sync(&g->backends, g->cat, &err) != RC_OK) {
        log_event(LOG_STORE_FAIL, log_err(&err), log_err_code(&err));
    }
    stage_route_wake(g);
}

void gateway_set_ready(struct gateway *g, bool ready)
{
    gw_backends_set_local(&g->backends, ready);
}

bool gateway_is_ready(const struct gateway *g)
{
    return !g->draining && gw_backends_any_ready(&g->backends);
}

bool gateway_explain(const struct gateway *g, struct str id, struct buf *out)
{
    return explain_find(g->shared->explain, id, out);
}

/* ---- what was used before this process began ---- */

static const struct {
    uint32_t by; /* the bit's number */
    const char *prefix;
    bool money; /* an upstream's cost is not the caller's */
} gateway_loads[] = {
    {1, "key:", true},   {2, "user:", true},      {3, "project:", true},
    {4, "model:", true}, {5, "upstream:", false},
};
_Static_assert(META_USAGE_BY_KEY == 1 << 1 && META_USAGE_BY_USER == 1 << 2 &&
                   META_USAGE_BY_PROJECT == 1 << 3 && META_USAGE_BY_MODEL == 1 << 4 &&
                   META_USAGE_BY_UPSTREAM == 1 << 5,
               "gateway_loads");

struct gateway_load {
    struct gateway *g;
    struct limit_time now;
    size_t row; /* of gateway_loads */
    bool day;   /* tokens of the day, else money of the month */
};

static enum rc gateway_load_sum(void *ctx, const struct meta_usage_sum *sum)
{
    const struct gateway_load *load = ctx;
    const struct str name = sum->by[gateway_loads[load->row].by];
    char subject[LIMIT_NAME_BYTES];
    struct buf text;
    buf_init(&text, sizeof(subject));
    buf_add_cstr(&text, gateway_loads[load->row].prefix);
    buf_add_str(&text, name);
    bool fits = buf_ok(&text) && name.len > 0;
    str_copy(subject, sizeof(subject), buf_str(&text));
    buf_deinit(&text);
    uint64_t tokens = load->day ? (uint64_t)(sum->prompt_tokens + sum->output_tokens) : 0;
    int64_t cost = load->day || !gateway_loads[load->row].money ? 0 : sum->cost_nano;
    bool taken =
        fits && limit_load(load->g->shared->limiter, str_from(subject), tokens, cost, load->now);
    return taken || !fits ? RC_OK : RC_OVERLOADED;
}

enum rc gateway_load_usage(struct gateway *g, struct meta *m, struct err *err)
{
    const struct clock *clock = loop_clock(g->loop);
    struct gateway_load load = {.g = g, .now = {clock_mono_ns(clock), clock_wall_s(clock)}};
    int64_t day_s = load.now.wall_s - load.now.wall_s % 86400;
    int64_t month_s = limit_month_start(load.now.wall_s);
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < 2 * ARRAY_LEN(gateway_loads); i++) {
        load.row = i / 2;
        load.day = i % 2 == 0;
        const struct meta_usage_query q = {.by = 1u << gateway_loads[load.row].by,
                                           .from_ms = (load.day ? day_s : month_s) * 1000,
                                           .rows_max = LIMIT_BUCKETS_MAX};
        rc = meta_usage_sum(m, &q, gateway_load_sum, &load, err);
    }
    return rc == RC_OVERLOADED ? RC_OK : rc; /* more subjects than are ever counted */
}

/* ---- answers that are kept ---- */

void gateway_note_answers(struct gateway *g)
{
    metric_set(metric_get(METRIC_ANSWERS_BYTES), (double)answers_held(g->shared->answers));
    if (!loop_timer_is_armed(&g->answer_timer)) {
        loop_timer_start(&g->answer_timer, GATEWAY_SWEEP_MS);
    }
}

static void gateway_on_answers(void *ctx)
{
    struct gateway *g = ctx;
    answers_sweep(g->shared->answers);
    if (answers_held(g->shared->answers) > 0) {
        gateway_note_answers(g);
    } else {
        metric_set(metric_get(METRIC_ANSWERS_BYTES), 0);
    }
}

/* ---- life ---- */

/* Of one loop: the kernel spreads connections, but not evenly. Exact for all of them together is
 * the address's own count. */
static uint32_t gateway_conns_max(const struct gateway_conf *c)
{
    uint32_t all = c->conns_max != 0 ? c->conns_max : HTTP_SERVER_CONNS_MAX;
    return c->n_loops > 2 ? MIN(all, all / c->n_loops * 2 + 64) : all;
}

static enum rc gateway_open(struct gateway *g, struct addr *bound, struct err *err)
{
    struct http_server_conf http = {.handler = gateway_handle,
                                    .handler_ctx = g,
                                    .conns_max = gateway_conns_max(&g->conf),
                                    .error_format = api_fail_status,
                                    .error_type = STR_LIT("application/json")};
    struct listen_conf listen = {
        .addr = g->conf.listen, .tls = g->conf.tls, .group = g->conf.address};
    enum rc rc = answer_hub_open(&g->hub, g->shared->answers, g->loop, err);
    rc = rc == RC_OK ? gw_backends_sync(&g->backends, g->cat, err) : rc;
    rc = rc == RC_OK ? catalog_follow(g->catalog, &g->news, g->loop, gateway_on_catalog, g, err)
                     : rc;
    if (rc == RC_OK && g->conf.leases != NULL) {
        rc = lease_door_open(&g->door, g->conf.leases, g->loop, err);
    }
    rc = rc == RC_OK ? http_server_create(&g->http, g->loop, &http, err) : rc;
    return rc == RC_OK ? http_server_listen(g->http, &listen, bound, err) : rc;
}

enum rc gateway_create(struct gateway **out, struct loop *l, const struct gateway_conf *conf,
                       struct catalog *catalog, struct addr *bound, struct err *err)
{
    *out = NULL;
    struct gateway *g = mem_zalloc(sizeof(*g));
    g->loop = l;
    g->conf = *conf;
    g->catalog = catalog;
    g->cat = catalog_now(catalog);
    cat_hold(g->cat);
    g->conf.n_loops = MAX(conf->n_loops, 1u);
    g->shared = gw_shared_get(conf->shared);
    g->conf.wait_ms = conf->wait_ms != 0 ? conf->wait_ms : GATEWAY_WAIT_MS;
    g->conf.ping_ms = conf->ping_ms != 0 ? conf->ping_ms : GATEWAY_PING_MS;
    g->conf.resume_ms_max = conf->resume_ms_max != 0 ? conf->resume_ms_max : GATEWAY_RESUME_MS_MAX;
    list_init(&g->waiting);
    list_init(&g->writers);
    gateway_seed(&g->rng);
    arena_init(&g->scratch, GATEWAY_SCRATCH_BYTES_MAX);
    gw_backends_init(&g->backends, l, g->shared, g->conf.n_loops);
    g->backends.on_well = gateway_on_well;
    g->backends.on_away = stage_proxy_on_away;
    g->backends.ctx = g;
    loop_timer_init(&g->line_timer, l, stage_route_on_line, g);
    loop_timer_init(&g->pulse_timer, l, stage_route_on_pulse, g);
    loop_timer_init(&g->answer_timer, l, gateway_on_answers, g);
    enum rc rc = gateway_open(g, bound, err);
    if (rc != RC_OK) {
        gateway_destroy(g);
        return rc;
    }
    *out = g;
    return RC_OK;
}

void gateway_drain(struct gateway *g, uint64_t max_ms, void (*on_drained)(void *ctx), void *ctx)
{
    g->draining = true;
    http_server_drain(g->http, max_ms, on_drained, ctx);
}

void gateway_settle(struct gateway *g)
{
    if (g->destroyed && g->n_requests == 0) {
        ASSERT(g->n_waiting == 0);
        arena_deinit(&g->scratch);
        answer_hub_close(g->hub);
        cat_put(g->cat);
        lease_door_destroy(g->door);
        gw_shared_put(g->shared);
        mem_free(g);
    }
}

void gateway_destroy(struct gateway *g)
{
    if (g == NULL) {
        return;
    }
    http_server_destroy(g->http);
    g->n_requests++; /* held while the last ones end */
    g->destroyed = true;
    answer_writers_give_up(g);
    loop_timer_stop(&g->answer_timer);
    loop_timer_stop(&g->line_timer);
    loop_timer_stop(&g->pulse_timer);
    relay_destroy(g->news);
    gw_backends_deinit(&g->backends);
    lease_door_close(g->door);
    g->n_requests--;
    gateway_settle(g);
}
