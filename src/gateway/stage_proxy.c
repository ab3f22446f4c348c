/* stage_proxy.c: the request to the model server and its answer back.
 *
 * A failure before anything reached the client is tried again, up to GATEWAY_ATTEMPTS_MAX times; a
 * server that refuses or says that it is not ready has not begun: that costs no attempt, for
 * GATEWAY_WAIT_MS. Later a failure becomes an error event, never a silent end. Whole replies are
 * collected first, so that they too can be tried again. Two attempts may be under way at a time,
 * until one of them begins (hedge.c). Back-pressure goes both ways: a slow client pauses the call.
 *
 *   call ends ──> whole and well-formed ──────────────────────────> passed on
 *        │        an error of its own (429, 5xx, our key) ─another server─> [route], once more
 *        │        an error reply, the stream not begun ───────────> passed on
 *        │        an error reply, the stream begun (silence) ─────> its error as the last event
 *        └──────> broken, cut, garbage ──nothing seen yet──> back to [route], once more
 *                                      └─else──> error reply, or the last event
 *
 * The answer is read as any server's might be: nothing that it sends may end this process, or the
 * client's stream without a word. */
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

enum { PROXY_DONE_MS = 1000 }; /* from [DONE] to the end of its answer: cut there */

/* What a failed attempt means for another one. */
enum gw_broke {
    GW_NOT_BEGUN, /* the server never took the request */
    GW_BROKE,     /* it may have worked on it */
    GW_ELSEWHERE, /* the server has said no: only another one may do better */
    GW_FINAL,     /* it would be the same again */
};

static uint64_t proxy_now(const struct gw_request *r)
{
    return clock_mono_ns(loop_clock(r->gateway->loop));
}

/* ---- to the client ---- */

/* False when the client's connection had to be broken. */
static bool proxy_begin(struct gw_request *r)
{
    if (r->begun) {
        return true;
    }
    struct gw_headers h;
    gw_headers_init(&h, r, GW_STREAM_TYPE);
    h.rows[h.n++] = (struct http_header){STR_LIT("cache-control"), STR_LIT("no-cache")};
    h.rows[h.n++] = (struct http_header){STR_LIT("x-accel-buffering"), STR_LIT("no")};
    struct http_reply reply = {.status = 200, .headers = h.rows, .n_headers = h.n};
    r->begun = http_exchange_begin(r->x, &reply, NULL) == RC_OK;
    if (!r->begun) {
        http_exchange_abort(r->x);
        r->ended = true;
    }
    return r->begun;
}

static void proxy_restart_silence(struct gw_request *r)
{
    if (r->stream) {
        loop_timer_start(&r->ping_timer,
                         r->attempt->saw_done ? PROXY_DONE_MS : r->gateway->conf.ping_ms);
    }
}

/* Proxies and SDKs close what is silent for long: the head goes out, then comments. */
void stage_proxy_on_silence(void *ctx)
{
    struct gw_request *r = ctx;
    struct gw_attempt *a = r->attempt;
    if (r->x != NULL && a->saw_done && a->call != NULL) {
        http_client_cancel(a->call); /* all was said: its end ends the client's stream */
        return;
    }
    if (r->x == NULL || r->ended || !proxy_begin(r)) {
        return;
    }
    struct buf out;
    buf_init(&out, 1024);
    api_stream_ping(&out);
    http_exchange_write(r->x, buf_str(&out));
    buf_deinit(&out);
    proxy_restart_silence(r);
}

/* Whether a comment is the link's own count of tokens, which is not for clients. */
static bool proxy_is_count(struct gw_attempt *a, const struct sse_item *item)
{
    struct gw_request *r = a->request;
    char line[64];
    if (item->kind != SSE_COMMENT || item->data.len > sizeof(line) - 3) {
        return false;
    }
    int n = snprintf(line, sizeof(line), ": %.*s", STR(item->data));
    if (!api_link_counts_read(str_make(line, (size_t)n), &a->prompt_tokens, &a->output_tokens)) {
        return false;
    }
    a->has_counts = true;
    if (a == r->attempt) {
        stage_usage_count(r);
    }
    return true;
}

static uint32_t proxy_count(const struct json *usage, const char *name)
{
    const struct json *count = usage != NULL ? json_get_present(usage, name) : NULL;
    int64_t n = 0;
    bool ok = count != NULL && json_to_i64(count, &n) && n >= 0 && n <= UINT32_MAX;
    return ok ? (uint32_t)n : 0;
}

/* False when the reply tells no usage. */
static bool proxy_read_usage(struct gw_attempt *a, const struct json *usage)
{
    struct gw_request *r = a->request;
    if (usage == NULL || usage->type == JSON_NULL) {
        return false;
    }
    const struct json *details = json_get_present(usage, "prompt_tokens_details");
    a->prompt_tokens = proxy_count(usage, "prompt_tokens");
    a->output_tokens = proxy_count(usage, "completion_tokens");
    a->cached_tokens = MIN(proxy_count(details, "cached_tokens"), a->prompt_tokens);
    a->has_counts = true;
    stage_usage_count(r);
    return true;
}

/* Usage in an event; whether it is the chunk for usage alone, which only we have asked for. */
static bool proxy_is_usage(struct gw_attempt *a, struct str data)
{
    struct gw_request *r = a->request;
    const struct json *root = NULL;
    struct arena *scratch = &r->gateway->scratch;
    bool alone = false;
    if (str_find(data, STR_LIT("\"usage\":{")) == data.len &&
        str_find(data, STR_LIT("\"usage\": {")) == data.len) {
        return false; /* most events: not worth parsing */
    }
    if (json_parse(data, scratch, &root, NULL) == RC_OK &&
        proxy_read_usage(a, json_get(root, "usage"))) {
        const struct json *choices = json_get_present(root, "choices");
        alone = choices != NULL && choices->type == JSON_ARRAY && choices->n == 0;
    }
    arena_reset(scratch);
    return alone && a->hide_usage;
}

static bool proxy_is_error(struct str data)
{
    return str_starts(data, STR_LIT("{\"error\":"));
}

static void proxy_note_event(struct gw_attempt *a, struct str data)
{
    struct gw_request *r = a->request;
    a->saw_done = str_is(data, "[DONE]");
    a->saw_error = proxy_is_error(data);
    if (!a->saw_done && !a->saw_error) {
        a->n_events++;
        if (!a->has_counts) {
            stage_usage_count(r);
        }
    }
    if (r->first_event_ns == 0) {
        r->first_event_ns = proxy_now(r);
        metric_observe(metric_with1(METRIC_FIRST_TOKEN, r->model),
                       r->first_event_ns - r->started_ns);
    }
}

/* The item's lines again: an event's data may be several. */
static void proxy_write_item(struct buf *out, const struct sse_item *item)
{
    struct str rest = item->data;
    const char *field = item->kind == SSE_COMMENT ? ": " : "data: ";
    bool more = true;
    while (more) {
        size_t end = str_find(rest, STR_LIT("\n"));
        buf_add_cstr(out, field);
        buf_add_str(out, str_slice(rest, 0, end));
        buf_add_byte(out, '\n');
        more = end < rest.len;
        rest = str_slice(rest, end + 1, rest.len);
    }
    buf_add_byte(out, '\n');
}

static void proxy_send_item(struct gw_attempt *a, const struct sse_item *item)
{
    struct gw_request *r = a->request;
    if (item->kind == SSE_EVENT) {
        if (proxy_is_usage(a, item->data)) {
            return;
        }
        proxy_note_event(a, item->data);
    }
    if (!proxy_begin(r)) {
        return;
    }
    struct buf out;
    buf_init(&out, 8 * GW_ATTEMPT_EVENT_BYTES_MAX); /* at worst each byte is a line of its own */
    if (item->kind == SSE_EVENT && a->saw_done) {
        stage_usage_settle(r, RC_OK);
        gw_timing_comment(&out, r);
    }
    proxy_write_item(&out, item);
    if (buf_ok(&out)) {
        http_exchange_write(r->x, buf_str(&out));
    } else {
        http_exchange_abort(r->x);
    }
    buf_deinit(&out);
    proxy_restart_silence(r);
}

/* ---- from the model server ---- */

/* What the server has against us or itself, not against the request. */
struct proxy_trouble {
    int from, to; /* status */
    const char *what;
    bool ours; /* to the client a 401 would say that its own key is wrong: it gets 502 */
};

static const struct proxy_trouble *proxy_trouble(int status)
{
    static const struct proxy_trouble rows[] = {
        {300, 399, "it is somewhere else", true},
        {401, 401, "it refuses the gateway's key", true},
        {403, 403, "it forbids the gateway this", true},
        {407, 407, "its proxy refuses the gateway", true},
        {429, 429, "it has too much to do", false},
        {500, 599, "it has failed", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (status >= rows[i].from && status <= rows[i].to) {
            return &rows[i];
        }
    }
    return NULL;
}

static void proxy_on_head(void *ctx, const struct http_head *head)
{
    static const struct str passed[GW_UPSTREAM_HEADERS_MAX] = {
        STR_LIT("retry-after"), STR_LIT("retry-after-ms"), STR_LIT("x-should-retry")};
    struct gw_attempt *a = ctx;
    struct gw_request *r = a->request;
    a->status = head->status;
    struct str type = http_head_value(head, STR_LIT("content-type"));
    a->is_stream =
        r->stream && head->status == 200 && str_starts(type, STR_LIT("text/event-stream"));
    a->n_headers = 0;
    for (size_t i = 0; i < ARRAY_LEN(passed); i++) {
        struct str value = http_head_value(head, passed[i]);
        struct api_header *h = &a->headers[a->n_headers];
        if (value.len > 0 && str_copy(h->value, sizeof(h->value), value)) {
            h->name = passed[i].ptr;
            a->n_headers++;
        }
    }
    if (!a->is_stream && proxy_trouble(a->status) == NULL) {
        gw_hedge_begin(a);
    }
}

static void proxy_fail(struct gw_request *r, enum rc rc, const char *what)
{
    err_set(&r->err, rc, "The model server failed while answering: %s.", what);
    stages_resume(r, GW_FAIL);
}

/* What the server sent cannot be taken. */
static void proxy_refuse(struct gw_attempt *a, enum rc rc, const char *what)
{
    if (a->request->rival != NULL) {
        gw_hedge_lose(a, what);
    } else {
        proxy_fail(a->request, rc, what);
    }
}

/* Of two servers the first that has an event answers; an error is none while the other may do
 * better, and the comments of both are dropped. */
static bool proxy_may_send(struct gw_attempt *a, const struct sse_item *item)
{
    bool racing = a->request->rival != NULL;
    if (item->kind == SSE_EVENT && racing && proxy_is_error(item->data)) {
        gw_hedge_lose(a, "it has failed");
    } else if (item->kind == SSE_EVENT && !a->began && !gw_hedge_is_lost(a)) {
        gw_hedge_begin(a);
    }
    return a == a->request->attempt && a->request->rival == NULL;
}

static void proxy_on_stream(struct gw_attempt *a, struct str bytes)
{
    struct gw_request *r = a->request;
    struct sse_item item;
    gw_backend_progress(a->backend);
    /* A lost call is cancelled, and `bytes` were its own. */
    while (!r->ended && !a->saw_done && !gw_hedge_is_lost(a) && sse_next(&a->sse, &bytes, &item)) {
        bool empty = item.kind == SSE_EVENT && item.data.len == 0; /* not dispatched, says SSE */
        if (!empty && !proxy_is_count(a, &item) && proxy_may_send(a, &item)) {
            proxy_send_item(a, &item);
        }
    }
    if (!r->ended && !gw_hedge_is_lost(a) && sse_failed(&a->sse) != RC_OK) {
        proxy_refuse(a, RC_UPSTREAM, "an event is too large");
        return;
    }
    if (a == r->attempt && !http_exchange_is_writable(r->x) && !a->paused) {
        a->paused = true;
        http_client_pause(a->call);
    }
}

static void proxy_on_body(void *ctx, struct str bytes)
{
    struct gw_attempt *a = ctx;
    struct gw_request *r = a->request;
    if (r->x == NULL || r->ended) {
        return;
    }
    if (a->is_stream) {
        proxy_on_stream(a, bytes);
        return;
    }
    struct err err = {0};
    enum rc rc = stages_hold(r, &a->reply, bytes, &err);
    if (rc == RC_TOO_LARGE) {
        proxy_refuse(a, RC_UPSTREAM, "its answer is too large");
    } else if (rc != RC_OK && r->rival != NULL) {
        gw_hedge_lose(a, "there is no room for its answer");
    } else if (rc != RC_OK) {
        r->err = err;
        stages_resume(r, GW_FAIL);
    }
}

/* Whether the server that has not begun may still come back in time. */
static bool proxy_may_wait(struct gw_request *r)
{
    uint64_t now = proxy_now(r);
    r->away_since_ns = r->away_since_ns != 0 ? r->away_since_ns : now;
    return (now - r->away_since_ns) / 1000000u < r->gateway->conf.wait_ms;
}

/* A fifth of all requests may be tried again, and what was saved up: a storm of retries would only
 * finish off servers that fail because they have too much to do. */
bool stage_proxy_may_retry(struct gateway *g)
{
    return gw_shared_retry_take(g->shared);
}

static void proxy_log_break(const struct gw_attempt *a, const char *what)
{
    log_event(LOG_UPSTREAM_FAIL, log_cstr(LOG_KEY_REQUEST_ID, a->request->id),
              log_cstr(LOG_KEY_ERROR, what), log_u64("attempt", a->request->n_attempts));
}

/* The attempt broke: whether there is another one, which has begun then. */
static bool proxy_again(struct gw_attempt *a, enum gw_broke how, const char *what)
{
    struct gw_request *r = a->request;
    explain_try_end(a, what);
    proxy_log_break(a, what);
    bool again = false;
    if (how == GW_NOT_BEGUN) {
        again = proxy_may_wait(r);
        r->n_attempts -= again ? 1 : 0;
    } else if (how == GW_BROKE || (how == GW_ELSEWHERE && stage_route_has_other(r))) {
        again = r->first_event_ns == 0 && r->n_attempts < GATEWAY_ATTEMPTS_MAX &&
                stage_proxy_may_retry(r->gateway);
        r->away_since_ns = 0;
    }
    if (again) {
        stage_route_settle(a);
        metric_add(metric_get(METRIC_UPSTREAM_RETRIES), 1);
        r->pause = true;
        stages_back_to(r, GW_STAGE_ROUTE);
    }
    return again;
}

/* The attempt broke: once more, or an error in the shape the client can still take. */
static void proxy_broke(struct gw_attempt *a, enum gw_broke how, enum rc rc, const char *what)
{
    struct gw_request *r = a->request;
    if (!proxy_again(a, how, what)) {
        proxy_fail(r, rc, what);
    }
}

/* ---- whole replies ---- */

static bool proxy_error_is(const struct json *root, const char *code)
{
    const struct json *error = json_get_present(root, "error");
    const struct json *value = error != NULL ? json_get_present(error, "code") : NULL;
    return value != NULL && value->type == JSON_STRING && str_is(value->text, code);
}

/* An error after the head of the stream was sent for its silence: its last event. */
static void proxy_last_event(struct gw_request *r, const struct json *root)
{
    struct buf line;
    struct json_writer w;
    if (json_get_present(root, "error") == NULL) {
        proxy_fail(r, RC_UPSTREAM, "it answered a stream with something else");
        return;
    }
    buf_init(&line, GATEWAY_REPLY_BYTES_MAX);
    json_write_init(&w, &line);
    json_write_value(&w, root);
    r->failed = true;
    stage_usage_settle(r, RC_OK);
    gw_reply_last_event(r, buf_str(&line));
    stages_resume(r, GW_DONE);
    buf_deinit(&line);
}

static void proxy_pass_whole(struct gw_attempt *a, const struct json *usage)
{
    struct gw_request *r = a->request;
    proxy_read_usage(a, usage);
    r->failed = a->status >= 400;
    stage_usage_settle(r, RC_OK); /* before the head, which says what is left */
    gw_reply_whole(r, buf_str(&a->reply));
    stages_resume(r, GW_DONE);
}

static void proxy_pass_json(struct gw_attempt *a, const struct json *root)
{
    if (a->request->begun) {
        proxy_last_event(a->request, root);
    } else {
        proxy_pass_whole(a, json_get(root, "usage"));
    }
}

/* The usual answer: checked, and parsed only where it tells what was used. False, and nothing done,
 * when it needs a closer look. */
static bool proxy_pass_checked(struct gw_attempt *a)
{
    const struct gw_request *r = a->request;
    struct arena *scratch = &r->gateway->scratch;
    const struct json *usage = NULL;
    struct str text;
    bool plain = a->status == 200 && !r->stream && !r->begun &&
                 json_scan_member(buf_str(&a->reply), STR_LIT("usage"), &text) &&
                 (text.ptr == NULL || json_parse(text, scratch, &usage, NULL) == RC_OK);
    if (plain) {
        proxy_pass_whole(a, usage);
    }
    arena_reset(scratch);
    return plain;
}

static void proxy_whole(struct gw_attempt *a)
{
    struct gw_request *r = a->request;
    struct arena *scratch = &r->gateway->scratch;
    const struct json *root = NULL;
    if (proxy_pass_checked(a)) {
        return;
    }
    const struct proxy_trouble *trouble = proxy_trouble(a->status);
    bool whole =
        json_parse(buf_str(&a->reply), scratch, &root, NULL) == RC_OK && root->type == JSON_OBJECT;
    if (whole && a->status == 503 && proxy_error_is(root, "unavailable")) {
        proxy_broke(a, GW_NOT_BEGUN, RC_UNAVAILABLE, "it is not ready");
    } else if (trouble != NULL) {
        bool elsewhere = proxy_again(a, GW_ELSEWHERE, trouble->what);
        if (!elsewhere && whole && !trouble->ours) {
            proxy_pass_json(a, root);
        } else if (!elsewhere) {
            proxy_fail(r, RC_UPSTREAM, trouble->what);
        }
    } else if (whole && !(r->stream && a->status == 200)) {
        proxy_pass_json(a, root);
    } else {
        proxy_broke(a, GW_FINAL, RC_UPSTREAM, "its answer is not what was asked for");
    }
    arena_reset(scratch);
}

/* ---- how the call ended ---- */

static void proxy_stream_ended(struct gw_attempt *a)
{
    struct gw_request *r = a->request;
    if (!a->saw_done && !a->saw_error) {
        proxy_broke(a, GW_BROKE, RC_UPSTREAM, "its stream ended too early");
        return;
    }
    r->failed = !a->saw_done;
    http_exchange_end(r->x);
    stages_resume(r, GW_DONE);
}

/* What the attempt says of its server. */
static enum breaker_end proxy_went(const struct gw_attempt *a,
                                   const struct http_call_result *result)
{
    const struct gw_request *r = a->request;
    if (r->x == NULL || result->rc == RC_CANCELLED) {
        return BREAKER_SAYS_NOTHING; /* the client went, or the gateway goes */
    }
    bool cut = a->is_stream && !a->saw_done && !a->saw_error;
    if (cut || (result->rc != RC_OK && !a->saw_done)) {
        return BREAKER_FAILED;
    }
    bool busy = a->status == 429 || a->status == 503;
    const struct proxy_trouble *trouble = proxy_trouble(a->status);
    return busy || (trouble != NULL && trouble->ours) ? BREAKER_SAYS_NOTHING
           : trouble != NULL                          ? BREAKER_FAILED
                                                      : BREAKER_OK;
}

/* It ended before it began, and the other one is still at it. */
static void proxy_leave_race(struct gw_attempt *a, const struct http_call_result *result)
{
    const struct proxy_trouble *trouble = proxy_trouble(a->status);
    const char *what = result->rc != RC_OK ? result->what
                       : trouble != NULL   ? trouble->what
                                           : "its stream ended too early";
    proxy_log_break(a, what);
    gw_hedge_lose(a, what);
}

static void proxy_on_end(void *ctx, const struct http_call_result *result)
{
    struct gw_attempt *a = ctx;
    struct gw_request *r = a->request;
    a->call = NULL;
    if (gw_hedge_is_lost(a)) {
        stage_route_finish(a, BREAKER_SAYS_NOTHING);
        gw_attempt_unhold(a);
        stages_release(r);
        return;
    }
    explain_try_end(a, result->rc != RC_OK && !a->saw_done ? result->what : NULL);
    stage_route_finish(a, proxy_went(a, result));
    if (r->x != NULL && !r->ended && r->rival != NULL) {
        proxy_leave_race(a, result);
    } else if (r->x != NULL && !r->ended) {
        bool streamed = a->is_stream && (result->rc == RC_OK || a->saw_done);
        if (streamed) {
            proxy_stream_ended(a);
        } else if (result->rc == RC_OK) {
            proxy_whole(a);
        } else {
            /* What took too long once would again, and cost the server as much. */
            enum gw_broke how = !result->sent              ? GW_NOT_BEGUN
                                : result->rc == RC_TIMEOUT ? GW_FINAL
                                                           : GW_BROKE;
            enum rc rc = result->rc == RC_CANCELLED ? RC_UNAVAILABLE : result->rc;
            proxy_broke(a, how, rc, result->what);
        }
    }
    stages_release(r);
}

/* ---- the stage ---- */

enum rc stage_proxy_start(struct gw_attempt *a, struct err *err)
{
    static const struct http_client_events events = {
        .on_head = proxy_on_head,
        .on_body = proxy_on_body,
        .on_end = proxy_on_end,
    };
    struct http_header headers[GW_REQUEST_HEADERS_MAX];
    struct api_header texts[API_LINK_HEADERS_MAX];
    struct gw_request *r = a->request;
    bool has_body = gw_kind_has_body(r->kind);
    enum rc rc = RC_OK;
    if (has_body && !proxy_request_edit(a)) {
        rc = err_set(err, RC_OVERLOADED, "out of memory for the request");
    }
    struct http_client_conf conf = {
        .method = has_body ? HTTP_METHOD_POST : HTTP_METHOD_GET,
        .target = proxy_request_target(a),
        .headers = headers,
        .n_headers = proxy_request_headers(a, headers, texts),
        .body = !has_body           ? STR_NULL
                : a->edited.len > 0 ? buf_str(&a->edited)
                                    : buf_str(&r->body),
        .replayable = true,
        .first_byte_ms = a->upstream->first_byte_ms,
    };
    r->n_attempts++;
    explain_try_begin(a);
    gw_attempt_reset(a);
    rc = rc == RC_OK ? http_client_start(&a->call, a->backend->pool, &conf, &events, a, err) : rc;
    if (rc != RC_OK) {
        a->call = NULL;
        stage_route_finish(a, BREAKER_SAYS_NOTHING);
    }
    return rc;
}

enum gw_result stage_proxy(struct gw_request *r)
{
    if (stage_proxy_start(r->attempt, &r->err) != RC_OK) {
        return GW_FAIL;
    }
    proxy_restart_silence(r);
    gw_hedge_arm(r);
    return GW_WAIT;
}

void stage_proxy_writable(void *ctx)
{
    struct gw_attempt *a = ((struct gw_request *)ctx)->attempt;
    if (a->paused && a->call != NULL) {
        a->paused = false;
        http_client_resume(a->call);
    }
}

bool stage_proxy_is_due(const struct gw_attempt *a)
{
    const struct gw_request *r = a->request;
    return a->call != NULL && a == r->attempt && r->first_event_ns != 0 && !a->paused &&
           !a->saw_done && !r->ended;
}

void stage_proxy_on_away(void *ctx, struct backend *b)
{
    UNUSED(ctx);
    LIST_EACH(&b->requests, n)
    {
        struct gw_attempt *a = LIST_ENTRY(n, struct gw_attempt, at_backend);
        if (a->call != NULL && a->request->first_event_ns == 0 && a->reply.len == 0) {
            http_client_cancel(a->call); /* its end is an attempt that broke */
        }
    }
}

void stage_proxy_abandon(struct gw_request *r)
{
    for (uint32_t i = 0; i < GW_ATTEMPTS_N; i++) {
        if (r->attempts[i].call != NULL) {
            http_client_cancel(r->attempts[i].call);
        }
    }
}
