/* http1.c: HTTP/1.1 on one connection of a server: reads requests one after the other, hands them
 * to the handler, feeds their bodies, notices hang-ups and deadlines. Writing is http1_reply.c.
 *
 *    HEAD --head complete: handler--> BODY --END, failure, given up--> BODY_DONE
 *      ^                                                                  |
 *      +---- session_next: answer through, body through, keep-alive ------+
 *                          else conn_end
 *
 * Invariants
 * 1. At most one exchange is live; while it is, bytes behind its body stay unread in the conn.
 * 2. on_body_end comes at most once, on_close exactly once per accepted exchange.
 * 3. The parser is asked only in HEAD (no live exchange) or in BODY. */
#include "net/http1.h"

#include "base/assert.h"

static void session_pump_stop(struct http1_session *ss);

/* --- ends --------------------------------------------------------------------------------- */

/* Ready for the next request; unread input is offered again at the end of this turn. */
static void session_next(struct http1_session *ss)
{
    struct http_exchange *x = &ss->x;
    struct arena arena = x->arena;
    buf_deinit(&x->body);
    arena_reset(&arena);
    *x = (struct http_exchange){.ops = &http1_exchange_ops, .conn = ss->conn, .arena = arena};
    http1_parse_next(ss->parser, false);
    ss->phase = HTTP1_PHASE_HEAD;
    ss->head_timed = false;
    conn_deadline_set(ss->conn, ss->server->conf.idle_ms);
    conn_read_resume(ss->conn);
}

/* After the exchange is closed and, or, the body is through. */
static void session_after(struct http1_session *ss)
{
    if (ss->x.live) {
        return;
    }
    if (ss->close_after || ss->server->draining) {
        conn_end(ss->conn);
    } else if (ss->phase == HTTP1_PHASE_BODY_DONE) {
        session_next(ss);
    } else {
        /* The rest of an unwanted body is read and dropped. */
        conn_deadline_set(ss->conn, ss->server->conf.body_ms);
        conn_read_resume(ss->conn);
    }
}

/* The kernel has taken the whole answer. */
static void session_check(void *ctx)
{
    struct http1_session *ss = ctx;
    if (ss->x.live && ss->x.ended && !ss->x.aborted && conn_queued_bytes(ss->conn) == 0) {
        http_exchange_close(ss->server, &ss->x, RC_OK);
        session_after(ss);
    }
}

/* The body will not become complete: told once, and the connection is not used again. */
static void body_fail(struct http1_session *ss, enum rc rc)
{
    struct http_exchange *x = &ss->x;
    ss->phase = HTTP1_PHASE_BODY_DONE;
    ss->close_after = true;
    ss->server->stats.n_timeouts += rc == RC_TIMEOUT ? 1 : 0;
    session_pump_stop(ss);
    if (rc != RC_CANCELLED) { /* that one was the handler's choice */
        http_server_note_refusal(rc == RC_TIMEOUT     ? "slow_body"
                                 : rc == RC_TOO_LARGE ? "body_too_large"
                                 : rc == RC_NOMEM     ? "memory"
                                                      : "malformed_body");
    }
    http_exchange_end_body(x, rc);
    session_after(ss);
}

bool http1_must_close(const struct http1_session *ss)
{
    const struct http_exchange *x = &ss->x;
    if (ss->close_after || ss->server->draining || !x->head->keep_alive) {
        return true;
    }
    if (ss->phase == HTTP1_PHASE_BODY_DONE || x->head->framing == HTTP_FRAMING_NONE) {
        return false;
    }
    /* Answered before 100 Continue: the client may send the body or not, nobody can know. */
    if (x->head->expect_continue && !x->continued) {
        return true;
    }
    bool wanted = x->ev != NULL && x->mode != HTTP_BODY_DROP;
    return !wanted && x->head->framing == HTTP_FRAMING_LENGTH &&
           x->head->content_length > HTTP_SERVER_DROP_BYTES_MAX;
}

/* --- a request ---------------------------------------------------------------------------- */

/* Behind the handler: what its choice of body mode asks for. */
static void body_start(struct http1_session *ss)
{
    struct http_exchange *x = &ss->x;
    const struct http_head *h = x->head;
    bool wanted = x->ev != NULL && x->mode != HTTP_BODY_DROP;
    ss->phase = HTTP1_PHASE_BODY;
    if (!wanted) {
        if (h->framing != HTTP_FRAMING_NONE && http1_must_close(ss)) {
            ss->close_after = true;
            ss->phase = HTTP1_PHASE_BODY_DONE;
        }
        return;
    }
    if (h->framing == HTTP_FRAMING_LENGTH && h->content_length > x->body_bytes_max) {
        body_fail(ss, RC_TOO_LARGE);
    } else if (h->expect_continue && h->framing != HTTP_FRAMING_NONE && x->begun) {
        body_fail(ss, RC_CANCELLED);
    } else if (h->expect_continue && h->framing != HTTP_FRAMING_NONE) {
        x->continued = true;
        conn_write(ss->conn, STR_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
    }
}

static void request_begin(struct http1_session *ss)
{
    struct http_exchange *x = &ss->x;
    x->head = http1_parse_head(ss->parser);
    http_exchange_handle(ss->server, x);
    if (!x->aborted) {
        body_start(ss);
    }
}

static void body_piece(struct http1_session *ss, struct str piece)
{
    struct http_exchange *x = &ss->x;
    x->body_seen_bytes += piece.len;
    if (!http_exchange_wants_body(x)) {
        if (x->body_seen_bytes > HTTP_SERVER_DROP_BYTES_MAX) {
            body_fail(ss, RC_TOO_LARGE);
        }
        return;
    }
    enum rc rc = http_exchange_take_body(x, piece);
    if (rc != RC_OK) {
        body_fail(ss, rc);
    }
}

static void body_end(struct http1_session *ss)
{
    ss->phase = HTTP1_PHASE_BODY_DONE;
    http_exchange_end_body(&ss->x, RC_OK);
    session_after(ss);
}

static void session_malformed(struct http1_session *ss, const struct err *err)
{
    if (ss->phase == HTTP1_PHASE_BODY) {
        body_fail(ss, RC_INVALID);
        return;
    }
    ss->server->stats.n_malformed++;
    int status = http1_parse_status(ss->parser);
    http_server_note_refusal(status == 414 || status == 431 ? "head_too_large" : "malformed_head");
    http1_reply_error(ss, status, err->msg);
}

/* --- reading ------------------------------------------------------------------------------ */

/* Whether the parser may be asked for more. */
static bool session_wants(const struct http1_session *ss)
{
    const struct http_exchange *x = &ss->x;
    if (x->aborted) {
        return false;
    }
    if (ss->phase == HTTP1_PHASE_BODY) {
        return !(x->live && x->mode == HTTP_BODY_STREAM && x->body_paused);
    }
    return ss->phase == HTTP1_PHASE_HEAD && !x->live && !ss->close_after;
}

static void session_pump_stop(struct http1_session *ss)
{
    conn_read_pause(ss->conn);
    if (ss->x.live) { /* the rest of the time that the exchange has */
        conn_deadline_set(ss->conn, http_exchange_left_ms(ss->server, &ss->x));
    } else {
        conn_deadline_clear(ss->conn);
    }
}

/* A body may come slowly, but not for ever. */
static uint64_t body_left_ms(const struct http1_session *ss)
{
    const struct http_server_conf *c = &ss->server->conf;
    uint64_t lasted = loop_now_ms(ss->server->loop) - ss->x.begun_ms;
    return c->body_total_ms - MIN(lasted, c->body_total_ms);
}

/* Deadlines after a read: of the head from its first byte, of the body from its last. */
static void session_time(struct http1_session *ss)
{
    if (ss->phase == HTTP1_PHASE_BODY) {
        uint64_t left = body_left_ms(ss);
        conn_deadline_set(ss->conn, MIN(left, ss->server->conf.body_ms));
    } else if (!ss->head_timed && http1_parse_begun(ss->parser)) {
        ss->head_timed = true;
        conn_deadline_set(ss->conn, ss->server->conf.header_ms);
    }
}

static size_t session_read(void *ctx, struct str bytes)
{
    struct http1_session *ss = ctx;
    size_t used = 0;
    while (session_wants(ss)) {
        struct http1_step step;
        struct err err;
        if (http1_parse_step(ss->parser, str_slice(bytes, used, bytes.len), &step, &err) != RC_OK) {
            session_malformed(ss, &err);
            return bytes.len;
        }
        used += step.n_used;
        if (step.event == HTTP1_MORE) {
            break;
        }
        if (step.event == HTTP1_HEAD) {
            request_begin(ss);
        } else if (step.event == HTTP1_BODY) {
            body_piece(ss, step.body);
        } else {
            body_end(ss);
        }
    }
    if (session_wants(ss)) {
        session_time(ss);
    } else {
        session_pump_stop(ss);
    }
    return used;
}

static void session_hangup(void *ctx)
{
    struct http1_session *ss = ctx;
    if (ss->x.live && !ss->x.ended) {
        ss->server->stats.n_hangups++;
        conn_close(ss->conn, RC_CANCELLED);
    }
}

static void session_end(void *ctx)
{
    struct http1_session *ss = ctx;
    ss->close_after = true;
    if (!ss->x.live) {
        conn_end(ss->conn);
    }
}

static void session_drain(void *ctx)
{
    struct http1_session *ss = ctx;
    struct http_exchange *x = &ss->x;
    if (x->live && x->begun && !x->ended && x->ev != NULL && x->ev->on_writable != NULL) {
        x->ev->on_writable(x->ctx);
    }
}

static void session_deadline(void *ctx)
{
    struct http1_session *ss = ctx;
    if (ss->phase == HTTP1_PHASE_BODY && !ss->x.body_paused) {
        body_fail(ss, RC_TIMEOUT);
    } else if (ss->x.live) {
        http_server_note_refusal("slow_exchange");
        ss->x.aborted = true;
        conn_close(ss->conn, RC_TIMEOUT);
    } else if (ss->head_timed) {
        ss->server->stats.n_timeouts++;
        http_server_note_refusal("slow_head");
        http1_reply_error(ss, 408, "the request's head took too long");
    } else {
        conn_end(ss->conn);
    }
}

/* --- life --------------------------------------------------------------------------------- */

static void session_closed(void *ctx, enum rc why)
{
    struct http1_session *ss = ctx;
    struct http_server *server = ss->server;
    server->stats.n_timeouts += why == RC_TIMEOUT ? 1 : 0;
    if (why == RC_TIMEOUT && ss->x.begun && !ss->x.aborted) {
        http_server_note_refusal("slow_reader");
    }
    if (ss->x.live) {
        http_exchange_close(ss->server, &ss->x, why == RC_OK ? RC_CANCELLED : why);
    }
    loop_task_cancel(&ss->check);
    buf_deinit(&ss->x.body);
    arena_deinit(&ss->x.arena);
    http1_parse_destroy(ss->parser);
    http_server_session_gone(server, &ss->link);
    pool_put(&server->pool, ss);
}

static const struct conn_events session_events = {
    .on_read = session_read,
    .on_end = session_end,
    .on_hangup = session_hangup,
    .on_drain = session_drain,
    .on_flush = session_check,
    .on_deadline = session_deadline,
    .on_close = session_closed,
};

/* Closes a session that has no request in work. */
static void session_drain_idle(struct http_session_link *link)
{
    struct http1_session *ss = CONTAINER_OF(link, struct http1_session, link);
    if (ss->phase == HTTP1_PHASE_HEAD && !ss->x.live && !http1_parse_begun(ss->parser)) {
        conn_end(ss->conn);
    }
}

void http1_session_start(struct http_server *s, struct conn *c)
{
    struct http1_session *ss = pool_get(&s->pool);
    if (ss == NULL) {
        s->stats.n_conns_refused++;
        conn_close(c, RC_OVERLOADED);
        return;
    }
    ss->server = s;
    ss->conn = c;
    ss->link = (struct http_session_link){.conn = c, .on_drain = session_drain_idle};
    ss->x.ops = &http1_exchange_ops;
    ss->x.conn = c;
    arena_init(&ss->x.arena, s->conf.arena_bytes_max);
    if (http1_parse_create(&ss->parser, HTTP1_REQUEST, &ss->x.arena, NULL) != RC_OK) {
        pool_put(&s->pool, ss);
        s->stats.n_conns_refused++;
        conn_close(c, RC_NOMEM);
        return;
    }
    loop_task_init(&ss->check, session_check, ss);
    http_server_session_add(s, &ss->link);
    conn_set_events(c, &session_events, ss);
    conn_deadline_set(c, s->conf.idle_ms);
}

void http1_body_resume(struct http_exchange *x)
{
    struct http1_session *ss = http1_session_of(x);
    if (ss->phase == HTTP1_PHASE_BODY) {
        conn_read_resume(ss->conn);
    }
}
