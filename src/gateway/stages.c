/* stages.c: the walk (picture in stages.h). */
#include "gateway/stages.h"

#include "api/link.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "gateway/answer_exchange.h"
#include "obs/metric.h"

enum {
    STAGES_ARENA_BYTES_MAX = 1 << 20,  /* names and heads: bodies are parsed elsewhere */
    STAGES_SMALL_BYTES_MAX = 16 << 10, /* always has room: bounded by the number of connections */
};

static const struct gw_stage gw_stages[GW_STAGE_N] = {
    [GW_STAGE_AUTH] = {STR_LIT("auth"), stage_auth},
    [GW_STAGE_PARSE] = {STR_LIT("parse"), stage_parse},
    [GW_STAGE_ANSWER] = {STR_LIT("answer"), stage_answer},
    [GW_STAGE_LIMIT] = {STR_LIT("limit"), stage_limit},
    [GW_STAGE_ROUTE] = {STR_LIT("route"), stage_route},
    [GW_STAGE_PROXY] = {STR_LIT("proxy"), stage_proxy},
};

struct str stages_name(enum gw_stage_id stage)
{
    return gw_stages[stage].name;
}

static uint64_t stages_now(const struct gw_request *r)
{
    return clock_mono_ns(loop_clock(r->gateway->loop));
}

struct limit_time stages_limit_time(const struct gw_request *r)
{
    uint64_t now = stages_now(r);
    return (struct limit_time){.mono_ns = now,
                               .wall_s = (int64_t)(gw_wall_ns(r, now) / 1000000000u)};
}

static void stages_fail(struct gw_request *r)
{
    ASSERT(r->err.code != RC_OK);
    stage_auth_abandon(r);
    stage_answer_abandon(r);
    stage_limit_abandon(r);
    stage_proxy_abandon(r);
    if (r->x != NULL && !r->ended) {
        r->failed = true;
        stage_usage_settle(r, RC_OK);
        gw_reply_error(r);
    }
    r->ended = true;
}

static void stages_leave(struct gw_request *r)
{
    uint64_t now = stages_now(r);
    r->stage_ns[r->stage] += now - r->stage_started_ns;
    r->stage_started_ns = now;
}

static void stages_walk(struct gw_request *r, enum gw_result result)
{
    while (result == GW_NEXT) {
        stages_leave(r);
        r->stage++;
        ASSERT(r->stage < GW_STAGE_N);
        result = gw_stages[r->stage].run(r);
    }
    if (result == GW_FAIL) {
        stages_leave(r);
        stages_fail(r);
    } else if (result == GW_DONE) {
        stages_leave(r);
        r->ended = true;
    }
}

void stages_resume(struct gw_request *r, enum gw_result result)
{
    if (r->x == NULL || r->ended) {
        return;
    }
    stages_walk(r, result);
}

void stages_back_to(struct gw_request *r, enum gw_stage_id stage)
{
    ASSERT(stage <= r->stage);
    stages_leave(r);
    r->stage = stage;
    stages_walk(r, gw_stages[stage].run(r));
}

/* ---- memory ---- */

enum rc stages_hold(struct gw_request *r, struct buf *b, struct str bytes, struct err *err)
{
    struct gateway *g = r->gateway;
    if (bytes.len <= STAGES_SMALL_BYTES_MAX - MIN(b->len, (size_t)STAGES_SMALL_BYTES_MAX)) {
        gw_shared_hold_copy(g->shared, bytes.len);
    } else if (!gw_shared_hold(g->shared, bytes.len)) {
        metric_add(metric_with1(METRIC_REQUESTS_REFUSED, STR_LIT("memory")), 1);
        return err_set(err, RC_OVERLOADED, "Too many large requests are in work.");
    }
    size_t before = b->len;
    buf_add_str(b, bytes);
    gw_shared_unhold(g->shared, bytes.len - (b->len - before)); /* what did not fit */
    return buf_ok(b) ? RC_OK : err_set(err, RC_TOO_LARGE, "over %zu bytes", b->cap_bytes);
}

void stages_unhold(struct gw_request *r, struct buf *b)
{
    size_t cap_bytes = b->cap_bytes;
    gw_shared_unhold(r->gateway->shared, b->len);
    buf_deinit(b);
    buf_init(b, cap_bytes);
}

/* ---- life ---- */

void stages_release(struct gw_request *r)
{
    struct gateway *g = r->gateway;
    struct gw_attempt *a = r->attempt;
    bool calling = r->attempts[0].call != NULL || r->attempts[1].call != NULL;
    if (!calling && r->ended) {
        /* All that is left is to be taken by the client: it lies in the connection. Until then it
         * counts, or clients that take nothing could have all of the memory. */
        gw_shared_hold_copy(g->shared, a->reply.len);
        r->queued_bytes += a->reply.len;
        stages_unhold(r, &r->body);
        gw_attempt_unhold(&r->attempts[0]);
        gw_attempt_unhold(&r->attempts[1]);
    }
    if (r->x != NULL || calling || r->parsing) {
        return;
    }
    loop_timer_stop(&r->wait_timer);
    loop_timer_stop(&r->ping_timer);
    loop_timer_stop(&r->hedge_timer);
    stage_route_leave(r);
    ASSERT(r->reader == NULL && r->answer_wait == NULL);
    gw_attempt_deinit(&r->attempts[0]);
    gw_attempt_deinit(&r->attempts[1]);
    stages_unhold(r, &r->body);
    gw_shared_unhold(g->shared, r->queued_bytes);
    ASSERT(r->ticket.n == 0);
    cat_put(r->cat);
    arena_deinit(&r->arena);
    mem_free(r);
    g->n_requests--;
    gw_shared_request_end(g->shared);
    gateway_settle(g);
}

static void stages_on_close(void *ctx, enum rc rc)
{
    struct gw_request *r = ctx;
    if (r->reader == NULL || !r->reader->first) {
        stage_usage(r, rc); /* else the work that it began tells of it */
    }
    r->x = NULL;
    answer_reader_stop(r);
    stage_auth_abandon(r);
    stage_answer_abandon(r);
    stage_limit_abandon(r);
    stage_proxy_abandon(r);
    stages_release(r);
}

static bool stages_id_ok(struct str id)
{
    for (size_t i = 0; i < id.len; i++) {
        char c = id.ptr[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_';
        if (!ok) {
            return false;
        }
    }
    return id.len > 0 && id.len <= 64;
}

void stages_make_id(struct rng *rng, const struct http_head *head, char out[GW_ID_BYTES])
{
    struct str given = http_head_value(head, STR_LIT("x-client-request-id"));
    if (given.len == 0) {
        given = http_head_value(head, STR_LIT("x-request-id"));
    }
    if (stages_id_ok(given)) {
        str_copy(out, GW_ID_BYTES, given);
        return;
    }
    uint64_t random[2] = {rng_u64(rng), rng_u64(rng)};
    memcpy(out, "req_", 4);
    crypto_hex(random, sizeof(random), out + 4);
}

/* A malformed one counts as none (W3C Trace Context §4.3). */
static void stages_read_trace(struct gw_request *r, const struct http_head *head)
{
    static const struct str name = STR_LIT("traceparent");
    struct api_link link;
    api_link_init(&link);
    if (api_link_read_header(&link, name, http_head_value(head, name), NULL) == RC_OK) {
        str_copy(r->traceparent, sizeof(r->traceparent), str_from(link.traceparent));
    }
}

static void stages_on_writable(void *ctx)
{
    struct gw_request *r = ctx;
    if (r->reader != NULL) {
        answer_reader_writable(r);
    } else {
        stage_proxy_writable(r);
    }
}

const struct http_exchange_events *stages_events(void)
{
    static const struct http_exchange_events events = {
        .on_body = stage_parse_body,
        .on_body_end = stage_parse_body_end,
        .on_writable = stages_on_writable,
        .on_close = stages_on_close,
    };
    return &events;
}

/* With the catalogue in force. NULL: out of memory. */
static struct gw_request *stages_new(struct gateway *g, struct http_exchange *x, struct cat *cat)
{
    struct gw_request *r = mem_try_zalloc(sizeof(*r));
    if (r == NULL) {
        return NULL;
    }
    g->n_requests++;
    gw_shared_request_begin(g->shared);
    r->gateway = g;
    r->x = x;
    r->started_ns = r->stage_started_ns = stages_now(r);
    r->started_wall_ns = clock_wall_ns(loop_clock(g->loop));
    arena_init(&r->arena, STAGES_ARENA_BYTES_MAX);
    buf_init(&r->body, GATEWAY_BODY_BYTES_MAX);
    r->attempt = &r->attempts[0];
    gw_attempt_init(&r->attempts[0], r);
    gw_attempt_init(&r->attempts[1], r);
    r->cat = cat;
    cat_hold(r->cat);
    loop_timer_init(&r->wait_timer, g->loop, stage_route_on_timer, r);
    loop_timer_init(&r->ping_timer, g->loop, stage_proxy_on_silence, r);
    loop_timer_init(&r->hedge_timer, g->loop, gw_hedge_on_timer, r);
    return r;
}

/* Names of r that lie in the arena that goes: r keeps what its access line needs. */
static void stages_keep_names(struct gw_request *r)
{
    r->who = (struct principal){0};
    r->project = NULL;
    r->user = NULL;
    r->who_limits = NULL;
    r->model = r->wanted->name;
}

struct gw_request *stages_fork(struct gw_request *r, struct http_exchange *x)
{
    struct gw_request *w = stages_new(r->gateway, x, r->cat);
    if (w == NULL) {
        return NULL;
    }
    w->kind = r->kind;
    w->stage = r->stage;
    memcpy(w->stage_ns, r->stage_ns, sizeof(w->stage_ns));
    w->started_ns = r->started_ns;
    w->started_wall_ns = r->started_wall_ns;
    w->stage_started_ns = r->stage_started_ns;
    memcpy(w->id, r->id, sizeof(w->id));
    memcpy(w->traceparent, r->traceparent, sizeof(w->traceparent));
    memcpy(w->tenant, r->tenant, sizeof(w->tenant));
    w->who = r->who;
    w->project = r->project;
    w->user = r->user;
    w->token_limits = r->token_limits; /* r may go long before its work */
    w->who_limits = r->who_limits == &r->token_limits ? &w->token_limits : r->who_limits;
    w->parsed = r->parsed;
    w->model = r->model;
    w->stream = r->stream;
    w->wanted = r->wanted;
    w->pinned = r->pinned;
    w->arena = r->arena;
    w->body = r->body;
    arena_init(&r->arena, STAGES_ARENA_BYTES_MAX);
    buf_init(&r->body, GATEWAY_BODY_BYTES_MAX);
    stages_keep_names(r);
    return w;
}

void stages_start(struct gateway *g, struct http_exchange *x, enum gw_kind kind, struct str model)
{
    struct gw_request *r = stages_new(g, x, g->cat);
    if (r == NULL) {
        http_exchange_abort(x);
        return;
    }
    const struct http_head *head = http_exchange_head(x);
    gw_shared_retry_earn(g->shared);
    r->kind = kind;
    r->model = model;
    stages_make_id(&g->rng, head, r->id);
    stages_read_trace(r, head);
    /* Who asks is settled from the head alone; a refused client's body is never kept. */
    enum gw_result result = stage_auth(r);
    bool wants_body = (result == GW_NEXT || result == GW_WAIT) && gw_kind_has_body(kind);
    http_exchange_accept(x, wants_body ? HTTP_BODY_STREAM : HTTP_BODY_DROP, GATEWAY_BODY_BYTES_MAX,
                         stages_events(), r);
    if (result == GW_WAIT && wants_body) {
        http_exchange_body_pause(x);
    }
    stages_walk(r, result);
}
