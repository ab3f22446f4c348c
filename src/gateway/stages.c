/* stages.c: the walk (picture in stages.h). */
#include "gateway/stages.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/mem.h"

enum { STAGES_ARENA_BYTES_MAX = 256 << 20 };

static const struct gw_stage gw_stages[GW_STAGE_N] = {
    [GW_STAGE_AUTH] = {"auth", stage_auth},
    [GW_STAGE_PARSE] = {"parse", stage_parse},
    [GW_STAGE_ROUTE] = {"route", stage_route},
    [GW_STAGE_PROXY] = {"proxy", stage_proxy},
};

static uint64_t stages_now(const struct gw_request *r)
{
    return clock_mono_ns(loop_clock(r->gateway->loop));
}

static void stages_fail(struct gw_request *r)
{
    ASSERT(r->err.code != RC_OK);
    if (r->x != NULL && !r->ended) {
        r->failed = true;
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

/* ---- life ---- */

void stages_release(struct gw_request *r)
{
    if (r->x != NULL || r->call != NULL) {
        return;
    }
    loop_timer_stop(&r->wait_timer);
    loop_timer_stop(&r->ping_timer);
    if (list_is_linked(&r->waiting)) {
        list_remove(&r->waiting);
    }
    sse_deinit(&r->sse);
    buf_deinit(&r->reply);
    buf_deinit(&r->body);
    arena_deinit(&r->arena);
    mem_free(r);
}

static void stages_on_close(void *ctx, enum rc rc)
{
    struct gw_request *r = ctx;
    stage_usage(r, rc);
    r->x = NULL;
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

void gw_request_id(const struct http_head *head, char out[GW_ID_BYTES])
{
    struct str given = http_head_value(head, STR_LIT("x-client-request-id"));
    if (given.len == 0) {
        given = http_head_value(head, STR_LIT("x-request-id"));
    }
    if (stages_id_ok(given)) {
        str_copy(out, GW_ID_BYTES, given);
        return;
    }
    unsigned char random[16];
    char hex[2 * sizeof(random) + 1];
    crypto_random(random, sizeof(random));
    crypto_hex(random, sizeof(random), hex);
    snprintf(out, GW_ID_BYTES, "req_%s", hex);
}

void stages_start(struct gateway *g, struct http_exchange *x, enum gw_kind kind, struct str model)
{
    static const struct http_exchange_events events = {
        .on_body = stage_parse_body,
        .on_body_end = stage_parse_body_end,
        .on_writable = stage_proxy_writable,
        .on_close = stages_on_close,
    };
    struct gw_request *r = mem_try_zalloc(sizeof(*r));
    if (r == NULL) {
        http_exchange_abort(x);
        return;
    }
    const struct http_head *head = http_exchange_head(x);
    r->gateway = g;
    r->x = x;
    r->kind = kind;
    r->model = model;
    r->started_ns = r->stage_started_ns = stages_now(r);
    arena_init(&r->arena, STAGES_ARENA_BYTES_MAX);
    buf_init(&r->body, GATEWAY_BODY_BYTES_MAX);
    buf_init(&r->reply, GATEWAY_REPLY_BYTES_MAX);
    loop_timer_init(&r->wait_timer, g->loop, stage_route_on_timer, r);
    loop_timer_init(&r->ping_timer, g->loop, stage_proxy_on_silence, r);
    gw_request_id(head, r->id);
    str_copy(r->traceparent, sizeof(r->traceparent), http_head_value(head, STR_LIT("traceparent")));
    /* Who asks is settled from the head alone; a refused client's body is never kept. */
    enum gw_result result = stage_auth(r);
    bool wants_body = result == GW_NEXT && (kind == GW_CHAT || kind == GW_COMPLETION);
    http_exchange_accept(x, wants_body ? HTTP_BODY_STREAM : HTTP_BODY_DROP, GATEWAY_BODY_BYTES_MAX,
                         &events, r);
    stages_walk(r, result);
}
