/* http_client.c: one call on one connection of a pool: sends the request, reads the response.
 *
 *   start -> in line -> connecting -> sent -> head -> body… -> on_end -> memory back
 *               ^                       |
 *               +--- stale: once, fresh +      any state -cancel-> on_end(RC_CANCELLED)
 *
 * Invariants
 * 1. call->up->call == call while both are set; ending and cancelling cut both ways.
 * 2. on_end comes exactly once: `ended` is set before, and nothing is called after it.
 * 3. A request goes out twice only when the first connection had served before, gave no byte of a
 *    response, and the caller has allowed it. */
#include "net/http_client.h"

#include "base/assert.h"
#include "base/mem.h"
#include "net/http_upstream.h"

/* --- ending ------------------------------------------------------------------------------- */

/* Cuts the call from its connection; returns that, or NULL. */
static struct http_upstream *call_detach(struct http_call *call)
{
    struct http_upstream *up = call->up;
    if (up != NULL) {
        ASSERT(up->call == call);
        up->call = NULL;
        call->up = NULL;
    }
    if (list_is_linked(&call->wait_node)) {
        list_remove(&call->wait_node);
        call->pool->stats.n_waiting--;
    }
    loop_timer_stop(&call->timer);
    return up;
}

static void call_free(void *ctx)
{
    struct http_call *call = ctx;
    buf_deinit(&call->head);
    mem_free(call);
}

/* The final callback; from the loop only, never from inside a caller's call. */
static void call_end(struct http_call *call)
{
    struct http_pool *p = call->pool;
    ASSERT(!call->ended && call->up == NULL);
    call->ended = true;
    loop_task_cancel(&call->end_task);
    list_remove(&call->node);
    call->ev->on_end(call->ctx, &call->result);
    loop_reclaim(p->loop, &call->reclaim);
    http_pool_call_ended(p);
}

static void call_end_now(struct http_call *call, enum rc rc, const char *what)
{
    call->result.rc = rc;
    call->result.what = what;
    call_end(call);
}

static void call_end_due(void *ctx)
{
    call_end(ctx);
}

void http_call_end_later(struct http_call *call, enum rc rc, const char *what)
{
    call->result.rc = rc;
    call->result.what = what;
    loop_defer(call->pool->loop, &call->end_task);
}

/* The connection is of no more use to its call. */
static void call_fail(struct http_call *call, enum rc rc, const char *what)
{
    struct http_upstream *up = call_detach(call);
    call_end_now(call, rc, what);
    if (up != NULL) {
        http_pool_release(up, false);
    }
}

/* --- sending ------------------------------------------------------------------------------ */

static void call_send(struct http_call *call)
{
    struct http_upstream *up = call->up;
    loop_timer_stop(&call->timer);
    http1_parse_next(up->parser, call->method == HTTP_METHOD_HEAD);
    arena_reset(&up->arena);
    call->result.sent = true;
    conn_write(up->conn, buf_str(&call->head));
    conn_write(up->conn, call->body);
    conn_deadline_set(up->conn, call->first_byte_ms);
    conn_read_resume(up->conn);
}

void http_call_attach(struct http_call *call, struct http_upstream *up)
{
    ASSERT(up->call == NULL && call->up == NULL && !up->closing);
    up->call = call;
    call->up = up;
    if (up->open) {
        call_send(call);
    }
}

static void upstream_open_cb(void *ctx)
{
    struct http_upstream *up = ctx;
    up->open = true;
    if (up->call != NULL) {
        call_send(up->call);
    }
}

/* --- receiving ---------------------------------------------------------------------------- */

/* A complete response: the connection is kept if both sides have said all they had to. */
static void call_complete(struct http_call *call, bool clean)
{
    struct http_upstream *up = call_detach(call);
    bool keep =
        clean && http1_parse_head(up->parser)->keep_alive && conn_queued_bytes(up->conn) == 0;
    call_end_now(call, RC_OK, "");
    http_pool_release(up, keep);
}

/* 1xx responses are skipped. Returns false when the call has ended. */
static bool call_head(struct http_call *call)
{
    struct http_upstream *up = call->up;
    const struct http_head *h = http1_parse_head(up->parser);
    if (h->status >= 200) {
        call->result.head_seen = true;
        call->ev->on_head(call->ctx, h);
        return true;
    }
    if (h->status == 101 || ++call->n_interim > HTTP1_INTERIM_MAX) {
        call_fail(call, RC_UPSTREAM, "the upstream sent an unexpected interim response");
        return false;
    }
    return true;
}

/* One event of the response; whether the call is still on this connection. */
static bool call_event(struct http_upstream *up, const struct http1_step *step, bool last)
{
    struct http_call *call = up->call;
    switch (step->event) {
    case HTTP1_HEAD:
        (void)call_head(call);
        break;
    case HTTP1_BODY:
        call->ev->on_body(call->ctx, step->body);
        break;
    case HTTP1_END:
        if (!call->result.head_seen) { /* of an interim response */
            http1_parse_next(up->parser, call->method == HTTP_METHOD_HEAD);
            arena_reset(&up->arena);
        } else {
            call_complete(call, last);
        }
        break;
    case HTTP1_MORE:
        break;
    }
    return up->call == call;
}

static void call_time(struct http_upstream *up, struct http_call *call)
{
    if (call->paused) {
        conn_deadline_clear(up->conn);
        conn_read_pause(up->conn);
    } else if (call->result.head_seen) {
        conn_deadline_set(up->conn, call->idle_ms);
    }
}

static size_t upstream_read(void *ctx, struct str bytes)
{
    struct http_upstream *up = ctx;
    struct http_call *call = up->call;
    if (call == NULL) {
        if (bytes.len > 0) {
            http_pool_release(up, false); /* nobody asked: it cannot be trusted with a request */
        }
        return bytes.len;
    }
    call->received = call->received || bytes.len > 0;
    size_t used = 0;
    while (!call->paused) {
        struct http1_step step;
        if (http1_parse_step(up->parser, str_slice(bytes, used, bytes.len), &step, NULL) != RC_OK) {
            call_fail(call, RC_UPSTREAM, "the upstream's response is malformed");
            return bytes.len;
        }
        used += step.n_used;
        if (step.event == HTTP1_MORE) {
            break;
        }
        if (!call_event(up, &step, used == bytes.len)) {
            return bytes.len;
        }
    }
    call_time(up, call);
    return used;
}

/* The connection ended under the call: once more on a fresh one, or the call fails. */
static void call_lost(struct http_call *call, enum rc why)
{
    struct http_upstream *up = call->up;
    struct http_pool *p = call->pool;
    if (up->reused && !call->received && call->replayable && !call->retried && !p->destroyed) {
        call_detach(call);
        http_pool_release(up, false);
        call->retried = true;
        p->stats.n_stale_retries++;
        loop_timer_start(&call->timer, p->conf.connect_ms);
        http_pool_assign(p, call);
        return;
    }
    const char *what = "the upstream closed the connection before its response was complete";
    enum rc rc = RC_UPSTREAM;
    if (!up->open) {
        rc = why == RC_TIMEOUT ? RC_TIMEOUT : RC_UNAVAILABLE;
        what = why == RC_TIMEOUT ? "connecting to the upstream took too long"
                                 : "the upstream cannot be reached";
    } else if (why == RC_TIMEOUT) {
        rc = RC_TIMEOUT;
        what = "the upstream stopped taking the request";
    } else if (why == RC_OVERLOADED || why == RC_NOMEM) {
        rc = why;
        what = "no memory to send the request";
    }
    call_fail(call, rc, what);
}

static void upstream_end(void *ctx)
{
    struct http_upstream *up = ctx;
    struct http_call *call = up->call;
    struct http1_step step;
    if (call == NULL) {
        http_pool_release(up, false);
        return;
    }
    if (http1_parse_eof(up->parser, &step, NULL) == RC_OK && step.event == HTTP1_END &&
        call->result.head_seen) {
        call_complete(call, false);
        return;
    }
    call_lost(call, RC_CANCELLED);
}

/* An idle connection whose peer is going is not offered to another call. */
static void upstream_hangup(void *ctx)
{
    struct http_upstream *up = ctx;
    if (up->call == NULL) {
        http_pool_release(up, false);
    }
}

static void upstream_deadline(void *ctx)
{
    struct http_upstream *up = ctx;
    struct http_call *call = up->call;
    if (call == NULL) {
        http_pool_release(up, false);
        return;
    }
    call_fail(call, RC_TIMEOUT,
              call->result.head_seen ? "the upstream stopped in the middle of its response"
                                     : "the upstream did not answer in time");
}

static void upstream_closed(void *ctx, enum rc why)
{
    struct http_upstream *up = ctx;
    up->pool->stats.n_connect_failures += up->open || up->closing ? 0 : 1;
    if (up->call != NULL) {
        call_lost(up->call, why);
    }
    http_pool_upstream_closed(up);
}

const struct conn_events http_upstream_events = {
    .on_open = upstream_open_cb,
    .on_read = upstream_read,
    .on_end = upstream_end,
    .on_hangup = upstream_hangup,
    .on_deadline = upstream_deadline,
    .on_close = upstream_closed,
};

/* --- starting and steering ---------------------------------------------------------------- */

static bool is_reserved(struct str name)
{
    switch (name.len) { /* most names differ in length already */
    case 4:
        return str_eq_nocase(name, STR_LIT("host"));
    case 10:
        return str_eq_nocase(name, STR_LIT("connection"));
    case 14:
        return str_eq_nocase(name, STR_LIT("content-length"));
    case 17:
        return str_eq_nocase(name, STR_LIT("transfer-encoding"));
    default:
        return false;
    }
}

static RC write_headers(struct buf *out, const struct http_client_conf *conf, struct err *err)
{
    for (uint32_t i = 0; i < conf->n_headers; i++) {
        struct str name = conf->headers[i].name;
        if (is_reserved(name)) {
            return err_set(err, RC_INVALID, "header %.*s is the client's to write", STR(name));
        }
        enum rc rc = http_write_header(out, name, conf->headers[i].value, err);
        if (rc != RC_OK) {
            return rc;
        }
    }
    bool sends = conf->method == HTTP_METHOD_POST || conf->method == HTTP_METHOD_PUT ||
                 conf->method == HTTP_METHOD_PATCH;
    if (sends || conf->body.len > 0) {
        buf_add_str(out, STR_LIT("content-length: "));
        buf_add_u64(out, conf->body.len);
        buf_add(out, "\r\n", 2);
    }
    http_write_end(out);
    return RC_OK;
}

static RC write_request(struct buf *out, const struct http_pool *p,
                        const struct http_client_conf *conf, struct err *err)
{
    enum rc rc = http_write_request(out, conf->method, conf->target, err);
    rc = rc != RC_OK ? rc : http_write_header(out, STR_LIT("host"), p->conf.host, err);
    rc = rc != RC_OK ? rc : write_headers(out, conf, err);
    if (rc == RC_OK && !buf_ok(out)) {
        return err_set(err, RC_INVALID, "the request's head is over %d bytes", HTTP_HEAD_BYTES_MAX);
    }
    return rc;
}

static void call_timed_out(void *ctx)
{
    call_fail(ctx, RC_TIMEOUT, "no connection to the upstream in time");
}

RC http_client_start(struct http_call **out, struct http_pool *pool,
                     const struct http_client_conf *conf, const struct http_client_events *ev,
                     void *ctx, struct err *err)
{
    ASSERT(ev->on_head != NULL && ev->on_body != NULL && ev->on_end != NULL && !pool->destroyed);
    if (pool->stats.n_waiting >= pool->conf.waiting_max) {
        return err_set(err, RC_OVERLOADED, "upstream: %u calls wait already",
                       pool->stats.n_waiting);
    }
    struct http_call *call = mem_try_zalloc(sizeof(*call));
    if (call == NULL) {
        return err_set(err, RC_NOMEM, "upstream call: out of memory");
    }
    buf_init(&call->head, HTTP_HEAD_BYTES_MAX);
    enum rc rc = write_request(&call->head, pool, conf, err);
    if (rc != RC_OK) {
        call_free(call);
        return rc;
    }
    call->pool = pool;
    call->ev = ev;
    call->ctx = ctx;
    call->method = conf->method;
    call->body = conf->body;
    call->replayable = conf->replayable;
    call->first_byte_ms =
        conf->first_byte_ms != 0 ? conf->first_byte_ms : HTTP_CLIENT_FIRST_BYTE_MS;
    call->idle_ms = conf->idle_ms != 0 ? conf->idle_ms : HTTP_CLIENT_IDLE_MS;
    call->result.what = "";
    loop_timer_init(&call->timer, pool->loop, call_timed_out, call);
    loop_task_init(&call->end_task, call_end_due, call);
    loop_task_init(&call->reclaim, call_free, call);
    list_push_back(&pool->calls, &call->node);
    pool->n_calls++;
    pool->stats.n_calls++;
    loop_timer_start(&call->timer, pool->conf.connect_ms);
    http_pool_assign(pool, call);
    *out = call;
    return RC_OK;
}

void http_client_pause(struct http_call *call)
{
    call->paused = true;
    if (call->up != NULL && call->up->open) {
        conn_read_pause(call->up->conn);
        if (call->result.head_seen) {
            conn_deadline_clear(call->up->conn);
        }
    }
}

void http_client_resume(struct http_call *call)
{
    call->paused = false;
    if (call->up != NULL && call->up->open) {
        conn_read_resume(call->up->conn);
        if (call->result.head_seen) {
            conn_deadline_set(call->up->conn, call->idle_ms);
        }
    }
}

bool http_client_is_sent(const struct http_call *call)
{
    return call->result.sent;
}

void http_client_cancel(struct http_call *call)
{
    if (call->ended || list_is_linked(&call->end_task.node)) {
        return;
    }
    struct http_upstream *up = call_detach(call);
    http_call_end_later(call, RC_CANCELLED, "cancelled");
    if (up != NULL) {
        http_pool_release(up, false);
    }
}
