/* stage_proxy.c: the request to the model server and its answer back.
 *
 * A failure before anything reached the client is tried again, up to GATEWAY_ATTEMPTS_MAX times;
 * later it becomes an error event, never a silent end. Whole replies are collected first, so that
 * they too can be tried again. Back-pressure goes both ways: a slow client pauses the call. */
#include <stdio.h>

#include "api/fail.h"
#include "api/link.h"
#include "api/stream.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/json.h"
#include "gateway/stages.h"
#include "obs/log.h"
#include "obs/metric.h"

enum { PROXY_EVENT_BYTES_MAX = 8 << 20 };

static uint64_t proxy_now(const struct gw_request *r)
{
    return clock_mono_ns(loop_clock(r->gateway->loop));
}

/* ---- to the client ---- */

static void proxy_begin(struct gw_request *r)
{
    struct gw_headers h;
    gw_headers_init(&h, r, "text/event-stream; charset=utf-8");
    h.rows[h.n++] = (struct http_header){STR_LIT("cache-control"), STR_LIT("no-cache")};
    h.rows[h.n++] = (struct http_header){STR_LIT("x-accel-buffering"), STR_LIT("no")};
    struct http_reply reply = {.status = 200, .headers = h.rows, .n_headers = h.n};
    r->begun = true;
    if (http_exchange_begin(r->x, &reply, NULL) != RC_OK) {
        http_exchange_abort(r->x);
    }
}

static void proxy_restart_silence(struct gw_request *r)
{
    if (r->stream) {
        loop_timer_start(&r->ping_timer, GATEWAY_PING_MS);
    }
}

/* Proxies and SDKs close what is silent for long: the head goes out, then comments. */
void stage_proxy_on_silence(void *ctx)
{
    struct gw_request *r = ctx;
    if (r->x == NULL || r->ended) {
        return;
    }
    if (!r->begun) {
        proxy_begin(r);
    }
    struct buf out;
    buf_init(&out, 1024);
    api_stream_ping(&out);
    http_exchange_write(r->x, buf_str(&out));
    buf_deinit(&out);
    proxy_restart_silence(r);
}

/* Whether a comment is the link's own count of tokens, which is not for clients. */
static bool proxy_is_count(struct gw_request *r, const struct sse_item *item)
{
    char line[64];
    if (item->kind != SSE_COMMENT || item->data.len > sizeof(line) - 3) {
        return false;
    }
    int n = snprintf(line, sizeof(line), ": %.*s", STR(item->data));
    return api_link_counts_read(str_make(line, (size_t)n), &r->prompt_tokens, &r->output_tokens);
}

static void proxy_send_item(struct gw_request *r, const struct sse_item *item)
{
    struct buf out;
    buf_init(&out, PROXY_EVENT_BYTES_MAX);
    if (item->kind == SSE_COMMENT) {
        buf_add_cstr(&out, ": ");
    } else {
        r->saw_done |= str_is(item->data, "[DONE]");
        if (r->first_event_ns == 0) {
            r->first_event_ns = proxy_now(r);
            metric_observe(metric_with1(METRIC_FIRST_TOKEN, r->model),
                           r->first_event_ns - r->started_ns);
        }
        buf_add_cstr(&out, "data: ");
    }
    buf_add_str(&out, item->data);
    buf_add_cstr(&out, "\n\n");
    if (!r->begun) {
        proxy_begin(r);
    }
    if (buf_ok(&out)) {
        http_exchange_write(r->x, buf_str(&out));
    } else {
        http_exchange_abort(r->x);
    }
    buf_deinit(&out);
    proxy_restart_silence(r);
}

/* ---- from the model server ---- */

static void proxy_on_head(void *ctx, const struct http_head *head)
{
    struct gw_request *r = ctx;
    r->upstream_status = head->status;
    struct str type = http_head_value(head, STR_LIT("content-type"));
    r->upstream_is_stream = head->status == 200 && str_starts(type, STR_LIT("text/event-stream"));
    struct gw_retry_headers *retry = &r->retry;
    str_copy(retry->should_retry, sizeof(retry->should_retry),
             http_head_value(head, STR_LIT("x-should-retry")));
    str_copy(retry->after, sizeof(retry->after), http_head_value(head, STR_LIT("retry-after")));
    str_copy(retry->after_ms, sizeof(retry->after_ms),
             http_head_value(head, STR_LIT("retry-after-ms")));
}

static void proxy_on_body(void *ctx, struct str bytes)
{
    struct gw_request *r = ctx;
    if (r->x == NULL || r->ended) {
        return;
    }
    if (!r->upstream_is_stream) {
        buf_add_str(&r->reply, bytes);
        return;
    }
    struct sse_item item;
    while (r->x != NULL && sse_next(&r->sse, &bytes, &item)) {
        if (!proxy_is_count(r, &item)) {
            proxy_send_item(r, &item);
        }
    }
    if (r->x != NULL && !http_exchange_is_writable(r->x) && !r->paused) {
        r->paused = true;
        http_client_pause(r->call);
    }
}

/* usage.prompt_tokens and usage.completion_tokens of a whole reply. */
static void proxy_read_usage(struct gw_request *r)
{
    const struct json *root = NULL;
    if (json_parse(buf_str(&r->reply), &r->arena, &root, NULL) != RC_OK) {
        return;
    }
    const struct json *usage = json_get_present(root, "usage");
    const struct json *prompt = usage != NULL ? json_get(usage, "prompt_tokens") : NULL;
    const struct json *output = usage != NULL ? json_get(usage, "completion_tokens") : NULL;
    int64_t n;
    if (prompt != NULL && json_to_i64(prompt, &n) && n >= 0 && n <= UINT32_MAX) {
        r->prompt_tokens = (uint32_t)n;
    }
    if (output != NULL && json_to_i64(output, &n) && n >= 0 && n <= UINT32_MAX) {
        r->output_tokens = (uint32_t)n;
    }
}

static bool proxy_may_retry(const struct gw_request *r)
{
    return r->first_event_ns == 0 && r->n_attempts < GATEWAY_ATTEMPTS_MAX;
}

/* The call broke: once more, or an error in the shape the client can still take. */
static void proxy_broke(struct gw_request *r, enum rc rc, const char *what)
{
    log_event(LOG_UPSTREAM_FAIL, log_cstr(LOG_KEY_REQUEST_ID, r->id), log_cstr(LOG_KEY_ERROR, what),
              log_u64("attempt", r->n_attempts));
    if (proxy_may_retry(r)) {
        r->pause = true;
        stages_back_to(r, GW_STAGE_ROUTE);
        return;
    }
    err_set(&r->err, rc, "The model server failed while answering: %s.", what);
    stages_resume(r, GW_FAIL);
}

static void proxy_finished(struct gw_request *r)
{
    if (r->upstream_is_stream && !r->saw_done) {
        /* The server ends a stream without [DONE] only behind an error event of its own. */
        r->failed = true;
    }
    if (r->upstream_is_stream) {
        http_exchange_end(r->x);
        stages_resume(r, GW_DONE);
        return;
    }
    if (!buf_ok(&r->reply)) {
        err_set(&r->err, RC_UPSTREAM, "The model server's answer is too large.");
        stages_resume(r, GW_FAIL);
        return;
    }
    if (r->upstream_status == 503 && proxy_may_retry(r) && !r->gateway->ready) {
        proxy_broke(r, RC_UNAVAILABLE, "it is restarting");
        return;
    }
    if (r->begun) {
        /* An error after the head of the stream was sent for its silence. */
        err_set(&r->err, RC_UPSTREAM, "The model server answered with status %d.",
                r->upstream_status);
        stages_resume(r, GW_FAIL);
        return;
    }
    if (r->upstream_status == 200) {
        proxy_read_usage(r);
    }
    gw_reply_whole(r, r->upstream_status, "application/json", buf_str(&r->reply));
    stages_resume(r, GW_DONE);
}

static void proxy_on_end(void *ctx, const struct http_call_result *result)
{
    struct gw_request *r = ctx;
    r->call = NULL;
    if (r->x == NULL) {
        stages_release(r);
    } else if (r->ended) {
        return;
    } else if (result->rc != RC_OK) {
        proxy_broke(r, result->rc == RC_CANCELLED ? RC_UNAVAILABLE : result->rc, result->what);
    } else {
        proxy_finished(r);
    }
}

/* ---- the stage ---- */

static struct str proxy_target(struct gw_request *r)
{
    switch (r->kind) {
    case GW_CHAT:
        return STR_LIT("/v1/chat/completions");
    case GW_COMPLETION:
        return STR_LIT("/v1/completions");
    case GW_MODELS:
        return STR_LIT("/v1/models");
    case GW_MODEL:
        break;
    }
    struct str target = http_exchange_head(r->x)->target;
    return str_starts(target, STR_LIT("/v1/")) ? target
                                               : arena_printf(&r->arena, "/v1%.*s", STR(target));
}

static uint32_t proxy_headers(const struct gw_request *r, struct http_header *out,
                              struct api_header *texts)
{
    struct api_link link;
    api_link_init(&link);
    str_copy(link.request_id, sizeof(link.request_id), str_from(r->id));
    str_copy(link.traceparent, sizeof(link.traceparent), str_from(r->traceparent));
    str_copy(link.tenant, sizeof(link.tenant), str_from(r->tenant));
    uint32_t n_link = api_link_headers(&link, texts);
    uint32_t n = 0;
    if (r->body.len > 0) {
        out[n++] = (struct http_header){STR_LIT("content-type"), STR_LIT("application/json")};
    }
    for (uint32_t i = 0; i < n_link; i++) {
        out[n++] = (struct http_header){str_from(texts[i].name), str_from(texts[i].value)};
    }
    return n;
}

enum gw_result stage_proxy(struct gw_request *r)
{
    static const struct http_client_events events = {
        .on_head = proxy_on_head,
        .on_body = proxy_on_body,
        .on_end = proxy_on_end,
    };
    struct http_header headers[1 + API_LINK_HEADERS_MAX];
    struct api_header texts[API_LINK_HEADERS_MAX];
    bool has_body = r->kind == GW_CHAT || r->kind == GW_COMPLETION;
    struct http_client_conf conf = {
        .method = has_body ? HTTP_METHOD_POST : HTTP_METHOD_GET,
        .target = proxy_target(r),
        .headers = headers,
        .n_headers = proxy_headers(r, headers, texts),
        .body = has_body ? buf_str(&r->body) : STR_NULL,
        .replayable = true,
    };
    r->n_attempts++;
    r->upstream_is_stream = r->saw_done = r->paused = false;
    buf_reset(&r->reply);
    sse_deinit(&r->sse);
    sse_init(&r->sse, PROXY_EVENT_BYTES_MAX / 2);
    enum rc rc = http_client_start(&r->call, r->gateway->pool, &conf, &events, r, &r->err);
    if (rc != RC_OK) {
        r->call = NULL;
        return GW_FAIL;
    }
    proxy_restart_silence(r);
    return GW_WAIT;
}

void stage_proxy_writable(void *ctx)
{
    struct gw_request *r = ctx;
    if (r->paused && r->call != NULL) {
        r->paused = false;
        http_client_resume(r->call);
    }
}

void stage_proxy_abandon(struct gw_request *r)
{
    if (r->call != NULL) {
        http_client_cancel(r->call);
    }
}
