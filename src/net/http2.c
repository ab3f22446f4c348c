/* http2.c: HTTP/2 on one connection of a server: nghttp2 reads frames and keeps streams and
 * windows; here each stream becomes an exchange, and what a client may not do is bounded.
 *
 *   conn: on_read -> nghttp2_session_mem_recv -> frame callbacks -> exchange -> handler
 *   conn: conn_write <- nghttp2_session_mem_send <- pump (end of turn, on_drain) <- ops (reply)
 *
 *   stream: HEAD --all fields: handler--> [BODY --END_STREAM, failure--> ] answer --> closed
 *
 * Back-pressure. In: a stream's window is given back only for what the handler has taken; what it
 * has not (paused) waits in x.body, HTTP2_WINDOW_BYTES at most. Out: nghttp2 is asked for bytes
 * only while the connection is writable, and takes from a stream what the client's windows allow;
 * the rest stays in the stream's `out`, whose size the handler sees.
 *
 * Invariants
 * 1. nghttp2_session_mem_recv and _mem_send run from the connection's callbacks and the pump only,
 *    never inside a handler's call; so on_close never comes inside one either.
 * 2. A stream's memory goes back in nghttp2's on_stream_close, or when the connection closes.
 * 3. n_streams == length of `streams`. */
#include "net/http2.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/mem.h"
#include "obs/log.h"

/* ---- ends ---- */

void http2_session_pump(struct http2_session *ss)
{
    loop_defer(ss->server->loop, &ss->pump);
}

void http2_session_calm(struct http2_session *ss, const char *reason)
{
    if (!ss->ending) {
        ss->ending = true;
        http_server_note_refusal(reason);
        /* Out of memory shows when the connection is pumped. */
        (void)nghttp2_session_terminate_session(ss->ng, NGHTTP2_ENHANCE_YOUR_CALM);
        http2_session_pump(ss);
    }
}

void http2_stream_reset(struct http2_stream *st, uint32_t code, enum rc why)
{
    if (st->why == RC_OK && !st->reset) {
        st->why = why;
        st->reset = true;
        loop_timer_stop(&st->timer);
        (void)nghttp2_submit_rst_stream(st->ss->ng, NGHTTP2_FLAG_NONE, st->id, code);
        http2_session_pump(st->ss);
    }
}

static void stream_destroy(struct http2_stream *st, enum rc why)
{
    struct http2_session *ss = st->ss;
    loop_timer_stop(&st->timer);
    loop_task_cancel(&st->deliver);
    if (st->x.live) {
        http_exchange_close(ss->server, &st->x, why);
    }
    loop_task_cancel(&st->deliver);
    loop_timer_stop(&st->timer);
    list_remove(&st->node);
    ss->n_streams--;
    buf_deinit(&st->x.body);
    buf_deinit(&st->out);
    arena_deinit(&st->x.arena);
    mem_free(st);
}

/* ---- deadlines ---- */

static void stream_timed_out(void *ctx)
{
    struct http2_stream *st = ctx;
    struct http_exchange *x = &st->x;
    if (!x->live && st->submitted && st->out_last && st->out.len == st->out_at) {
        http2_stream_reset(st, NGHTTP2_NO_ERROR, RC_OK); /* the rest of the request is not needed */
        return;
    }
    bool left = x->live && http_exchange_left_ms(st->ss->server, x) > 0;
    st->ss->server->stats.n_timeouts++;
    if (left && !st->body_done && !x->body_paused) {
        http_server_note_refusal("slow_body");
        st->body_done = true;
        http_exchange_end_body(x, RC_TIMEOUT);
        http2_stream_time(st);
        return;
    }
    http_server_note_refusal(left ? "slow_reader" : "slow_exchange");
    http2_stream_reset(st, NGHTTP2_CANCEL, RC_TIMEOUT);
}

void http2_stream_time(struct http2_stream *st)
{
    const struct http_server *s = st->ss->server;
    uint64_t left = st->x.live ? http_exchange_left_ms(s, &st->x) : s->conf.body_ms;
    if (st->reset || st->lingers) {
        return;
    }
    if (st->x.live && !st->body_done && !st->x.body_paused) {
        uint64_t lasted = loop_now_ms(s->loop) - st->x.begun_ms;
        uint64_t total = s->conf.body_total_ms - MIN(lasted, s->conf.body_total_ms);
        left = MIN(left, MIN(total, s->conf.body_ms));
    } else if (st->out.len > st->out_at || st->x.ended) {
        left = MIN(left, (uint64_t)CONN_WRITE_STALL_MS);
    }
    loop_timer_start(&st->timer, left);
}

/* ---- bodies ---- */

static void body_fail(struct http2_stream *st, enum rc rc)
{
    st->body_done = true;
    http_server_note_refusal(rc == RC_TOO_LARGE ? "body_too_large" : "memory");
    http_exchange_end_body(&st->x, rc);
}

static void body_piece(struct http2_stream *st, struct str piece)
{
    struct http_exchange *x = &st->x;
    nghttp2_session *ng = st->ss->ng;
    (void)nghttp2_session_consume_connection(ng, piece.len);
    if (st->body_done || !http_exchange_wants_body(x)) {
        x->body_seen_bytes += piece.len;
        if (!st->body_done && x->body_seen_bytes > HTTP_SERVER_DROP_BYTES_MAX) {
            st->body_done = true; /* answered, and still it comes: no more windows for it */
        } else if (!st->body_done) {
            (void)nghttp2_session_consume_stream(ng, st->id, piece.len);
        }
        return;
    }
    if (x->mode == HTTP_BODY_STREAM && (x->body_paused || x->body.len > 0)) {
        buf_add_str(&x->body, piece); /* at most the window that was given */
        if (!buf_ok(&x->body)) {
            body_fail(st, RC_TOO_LARGE);
        }
        return;
    }
    x->body_seen_bytes += piece.len;
    enum rc rc = http_exchange_take_body(x, piece);
    if (rc != RC_OK) {
        body_fail(st, rc);
    } else {
        (void)nghttp2_session_consume_stream(ng, st->id, piece.len);
    }
}

static void body_end(struct http2_stream *st)
{
    if (!st->body_done && st->x.body_paused && st->x.mode == HTTP_BODY_STREAM) {
        return; /* after what waits: stream_deliver */
    }
    if (!st->body_done) {
        st->body_done = true;
        http_exchange_end_body(&st->x, RC_OK);
    }
}

static bool body_has_come(const struct http2_stream *st)
{
    /* Half closed by the client: 1; -1: no such stream. */
    return nghttp2_session_get_stream_remote_close(st->ss->ng, st->id) != 0;
}

/* What could not be done inside a call of the handler's. */
static void stream_deliver(void *ctx)
{
    struct http2_stream *st = ctx;
    struct http_exchange *x = &st->x;
    if (!st->body_done && !x->body_paused && x->mode == HTTP_BODY_STREAM && x->live) {
        struct buf held = x->body;
        buf_init(&x->body, x->body_bytes_max);
        x->body_seen_bytes += held.len;
        enum rc rc = held.len > 0 ? http_exchange_take_body(x, buf_str(&held)) : RC_OK;
        (void)nghttp2_session_consume_stream(st->ss->ng, st->id, held.len);
        buf_deinit(&held);
        if (rc != RC_OK) {
            body_fail(st, rc);
        } else if (body_has_come(st)) {
            body_end(st);
        }
        http2_session_pump(st->ss);
    }
    if (st->was_full && x->live && st->out.len - st->out_at <= HTTP2_OUT_LOW_BYTES) {
        st->was_full = false;
        if (!x->ended && x->ev != NULL && x->ev->on_writable != NULL) {
            x->ev->on_writable(x->ctx);
        }
    }
    http2_stream_time(st);
}

/* ---- requests ---- */

static struct http2_stream *stream_create(struct http2_session *ss, int32_t id)
{
    struct http2_stream *st = mem_try_zalloc(sizeof(*st));
    if (st == NULL) {
        return NULL;
    }
    st->ss = ss;
    st->id = id;
    st->x.ops = &http2_exchange_ops;
    st->x.conn = ss->conn;
    st->x.head = &st->head;
    arena_init(&st->x.arena, ss->server->conf.arena_bytes_max);
    buf_init(&st->out, HTTP2_OUT_BYTES_MAX);
    loop_timer_init(&st->timer, ss->server->loop, stream_timed_out, st);
    loop_task_init(&st->deliver, stream_deliver, st);
    list_push_back(&ss->streams, &st->node);
    ss->n_streams++;
    loop_timer_start(&st->timer, ss->server->conf.header_ms);
    conn_deadline_clear(ss->conn); /* not idle */
    return st;
}

/* Frames that move no request on are fine now and then. */
static void session_idle_frame(struct http2_session *ss)
{
    uint64_t now = loop_now_ms(ss->server->loop);
    if (now - ss->calm_from_ms > HTTP2_IDLE_FRAMES_MS) {
        ss->calm_from_ms = now;
        ss->n_idle_frames = 0;
    }
    if (++ss->n_idle_frames > HTTP2_IDLE_FRAMES_MAX) {
        http2_session_calm(ss, "frame_flood");
    }
}

/* Whether this id, below the latest, was certainly never opened (RFC 9113 §5.1.1). */
static bool session_never_saw(const struct http2_session *ss, int32_t id)
{
    uint32_t n = MIN(ss->n_seen, (uint32_t)HTTP2_SEEN_MAX);
    uint32_t first = ss->n_seen - n;
    if (n == 0 || id >= ss->seen[(ss->n_seen - 1) % HTTP2_SEEN_MAX] ||
        (first > 0 && id <= ss->seen[first % HTTP2_SEEN_MAX])) {
        return false;
    }
    for (uint32_t i = first; i < ss->n_seen; i++) {
        if (ss->seen[i % HTTP2_SEEN_MAX] == id) {
            return false;
        }
    }
    return true;
}

static int on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *hd, void *ctx)
{
    struct http2_session *ss = ctx;
    bool empty = hd->length == 0 && (hd->flags & NGHTTP2_FLAG_END_STREAM) == 0;
    switch (hd->type) {
    case NGHTTP2_HEADERS:
        if (hd->stream_id % 2 == 1 && session_never_saw(ss, hd->stream_id)) {
            ss->ending = true;
            http_server_note_refusal("malformed_frame");
            log_event(LOG_CONN_FAIL, log_cstr("reason", "a stream id below the latest"));
            (void)nghttp2_session_terminate_session(ng, NGHTTP2_PROTOCOL_ERROR);
        }
        break;
    case NGHTTP2_DATA:
        if (empty) {
            session_idle_frame(ss);
        }
        break;
    case NGHTTP2_WINDOW_UPDATE: /* answers to our own DATA */
    case NGHTTP2_CONTINUATION:  /* counted by nghttp2 */
        break;
    default:
        session_idle_frame(ss);
    }
    return 0;
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx)
{
    struct http2_session *ss = ctx;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    ss->seen[ss->n_seen++ % HTTP2_SEEN_MAX] = frame->hd.stream_id;
    struct http2_stream *st =
        ss->server->draining || ss->ending ? NULL : stream_create(ss, frame->hd.stream_id);
    if (st == NULL) {
        (void)nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                        NGHTTP2_REFUSED_STREAM);
        return 0;
    }
    return nghttp2_session_set_stream_user_data(ng, frame->hd.stream_id, st);
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *ctx)
{
    struct http2_stream *st = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
    UNUSED(flags);
    UNUSED(ctx);
    if (st != NULL && !st->head_done) { /* trailers are checked by nghttp2 and dropped */
        http2_head_add(st, str_make((const char *)name, name_n),
                       str_make((const char *)value, value_n));
    }
    return 0;
}

static void request_refused(struct http2_stream *st)
{
    char msg[64];
    int status = st->refused;
    st->ss->server->stats.n_malformed++;
    http_server_note_refusal(status == 414 || status == 431 ? "head_too_large" : "malformed_head");
    snprintf(msg, sizeof(msg), "the request's head is refused: %s", http_status_text(status));
    http2_reply_error(st, status, msg);
}

static void request_begin(struct http2_stream *st, bool has_body)
{
    struct http_exchange *x = &st->x;
    http2_head_finish(st, has_body);
    loop_timer_stop(&st->timer);
    if (st->refused != 0) {
        st->body_done = true;
        request_refused(st);
        return;
    }
    http_exchange_handle(st->ss->server, x);
    if (x->aborted) {
        return;
    }
    bool wanted = http_exchange_wants_body(x);
    if (wanted && st->head.framing == HTTP_FRAMING_LENGTH &&
        st->head.content_length > x->body_bytes_max) {
        body_fail(st, RC_TOO_LARGE);
    } else if (wanted && has_body && st->head.expect_continue && !x->begun) {
        const nghttp2_nv go_on = {(uint8_t *)(uintptr_t) ":status", (uint8_t *)(uintptr_t) "100", 7,
                                  3, NGHTTP2_NV_FLAG_NONE};
        (void)nghttp2_submit_headers(st->ss->ng, NGHTTP2_FLAG_NONE, st->id, NULL, &go_on, 1, NULL);
        x->continued = true;
        http2_session_pump(st->ss);
    }
    http2_stream_time(st);
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx)
{
    struct http2_session *ss = ctx;
    struct http2_stream *st = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
    bool last = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (!ss->greeted) {
        ss->greeted = true;
        if (ss->n_streams == 0) {
            conn_deadline_set(ss->conn, ss->server->conf.idle_ms);
        }
    }
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (st != NULL && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
            request_begin(st, !last);
        }
        break;
    case NGHTTP2_DATA:
        if (st != NULL && frame->hd.length > 0) {
            http2_stream_time(st);
        }
        break;
    default:
        break;
    }
    if (last && st != NULL) {
        body_end(st);
        http2_stream_time(st);
    }
    return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *bytes, size_t n,
                   void *ctx)
{
    struct http2_stream *st = nghttp2_session_get_stream_user_data(ng, id);
    UNUSED(flags);
    UNUSED(ctx);
    if (st != NULL && !st->reset) {
        body_piece(st, str_make((const char *)bytes, n));
    } else {
        (void)nghttp2_session_consume_connection(ng, n);
    }
    return 0;
}

/* The answer is out. A request that is not may end by itself; past HTTP2_LINGER_MS it is told that
 * nobody needs the rest. */
static int on_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx)
{
    struct http2_stream *st = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
    UNUSED(ctx);
    bool answer = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;
    if (!answer || st == NULL || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
        return 0;
    }
    if (st->x.live && !st->reset) {
        http_exchange_close(st->ss->server, &st->x, RC_OK);
    }
    if (!body_has_come(st) && !st->reset) {
        st->lingers = true;
        loop_timer_start(&st->timer, HTTP2_LINGER_MS);
    }
    return 0;
}

static int on_stream_gone(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx)
{
    struct http2_session *ss = ctx;
    struct http2_stream *st = nghttp2_session_get_stream_user_data(ng, id);
    if (st == NULL) {
        return 0;
    }
    bool done = st->x.ended && st->out.len == st->out_at && code == NGHTTP2_NO_ERROR;
    enum rc why = st->why != RC_OK ? st->why : done ? RC_OK : RC_CANCELLED;
    ss->server->stats.n_hangups += st->x.live && st->why == RC_OK && !done ? 1 : 0;
    (void)nghttp2_session_set_stream_user_data(ng, id, NULL);
    stream_destroy(st, why);
    if (ss->n_streams == 0 && !ss->ending) {
        conn_deadline_set(ss->conn, ss->server->conf.idle_ms);
    }
    return 0;
}

/* ---- the connection ---- */

/* The bytes that nghttp2 has, as far as the connection takes them. */
static void session_pump(void *ctx)
{
    struct http2_session *ss = ctx;
    size_t given = 0;
    while (conn_is_writable(ss->conn) && given < HTTP2_TURN_BYTES_MAX) {
        const uint8_t *bytes;
        ssize_t n = nghttp2_session_mem_send(ss->ng, &bytes);
        if (n < 0) {
            conn_close(ss->conn, RC_NOMEM);
            return;
        }
        if (n == 0) {
            break;
        }
        conn_write(ss->conn, str_make((const char *)bytes, (size_t)n));
        given += (size_t)n;
    }
    if (given >= HTTP2_TURN_BYTES_MAX) {
        http2_session_pump(ss);
        return;
    }
    bool through =
        nghttp2_session_want_read(ss->ng) == 0 && nghttp2_session_want_write(ss->ng) == 0;
    if (through || (ss->ending && ss->n_streams == 0 && nghttp2_session_want_write(ss->ng) == 0)) {
        conn_end(ss->conn);
    }
}

static size_t session_read(void *ctx, struct str bytes)
{
    struct http2_session *ss = ctx;
    ssize_t n =
        bytes.len > 0 ? nghttp2_session_mem_recv(ss->ng, (const uint8_t *)bytes.ptr, bytes.len) : 0;
    if (n < 0) {
        bool flood = n == NGHTTP2_ERR_FLOODED;
        ss->server->stats.n_malformed++;
        http_server_note_refusal(flood ? "frame_flood" : "malformed_frame");
        log_event(LOG_CONN_FAIL, log_cstr("reason", nghttp2_strerror((int)n)));
        ss->ending = true;
        if (flood || n == NGHTTP2_ERR_NOMEM) {
            conn_close(ss->conn, RC_OVERLOADED);
        } else {
            conn_end(ss->conn);
        }
        return bytes.len;
    }
    http2_session_pump(ss);
    return bytes.len;
}

static void session_end(void *ctx)
{
    conn_end(((struct http2_session *)ctx)->conn);
}

/* As in HTTP/1.1, a client that ends its side has hung up. */
static void session_hangup(void *ctx)
{
    struct http2_session *ss = ctx;
    if (ss->n_streams > 0) {
        LIST_EACH(&ss->streams, n)
        {
            ss->server->stats.n_hangups += LIST_ENTRY(n, struct http2_stream, node)->x.live ? 1 : 0;
        }
        conn_close(ss->conn, RC_CANCELLED);
    }
}

static void session_drain(void *ctx)
{
    http2_session_pump(ctx);
}

/* Idle, or no preface in time. */
static void session_deadline(void *ctx)
{
    struct http2_session *ss = ctx;
    if (!ss->greeted) {
        ss->server->stats.n_timeouts++;
        http_server_note_refusal("slow_head");
    }
    ss->ending = true;
    (void)nghttp2_session_terminate_session(ss->ng, NGHTTP2_NO_ERROR);
    http2_session_pump(ss);
}

static void session_closed(void *ctx, enum rc why)
{
    struct http2_session *ss = ctx;
    struct http_server *server = ss->server;
    server->stats.n_timeouts += why == RC_TIMEOUT ? 1 : 0;
    if (why == RC_TIMEOUT) {
        http_server_note_refusal("slow_reader");
    }
    LIST_EACH(&ss->streams, n)
    {
        struct http2_stream *st = LIST_ENTRY(n, struct http2_stream, node);
        (void)nghttp2_session_set_stream_user_data(ss->ng, st->id, NULL);
        stream_destroy(st, st->why != RC_OK ? st->why : why == RC_OK ? RC_CANCELLED : why);
    }
    loop_task_cancel(&ss->pump);
    nghttp2_session_del(ss->ng);
    http_server_session_gone(server, &ss->link);
    mem_free(ss);
}

static const struct conn_events session_events = {
    .on_read = session_read,
    .on_end = session_end,
    .on_hangup = session_hangup,
    .on_drain = session_drain,
    .on_deadline = session_deadline,
    .on_close = session_closed,
};

/* ---- life ---- */

static void session_drain_start(struct http_session_link *link)
{
    struct http2_session *ss = CONTAINER_OF(link, struct http2_session, link);
    if (!ss->ending) {
        ss->ending = true;
        (void)nghttp2_submit_goaway(ss->ng, NGHTTP2_FLAG_NONE,
                                    nghttp2_session_get_last_proc_stream_id(ss->ng),
                                    NGHTTP2_NO_ERROR, NULL, 0);
        http2_session_pump(ss);
    }
}

static int session_settings(struct http2_session *ss)
{
    const nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, HTTP2_STREAMS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP_HEAD_BYTES_MAX},
    };
    int e = nghttp2_submit_settings(ss->ng, NGHTTP2_FLAG_NONE, entries, ARRAY_LEN(entries));
    return e != 0 ? e
                  : nghttp2_session_set_local_window_size(ss->ng, NGHTTP2_FLAG_NONE, 0,
                                                          HTTP2_CONN_WINDOW_BYTES);
}

static int session_create_ng(struct http2_session *ss)
{
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *opt = NULL;
    if (nghttp2_session_callbacks_new(&cb) != 0 || nghttp2_option_new(&opt) != 0) {
        nghttp2_session_callbacks_del(cb);
        return NGHTTP2_ERR_NOMEM;
    }
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_gone);
    nghttp2_option_set_no_auto_window_update(opt, 1);
    nghttp2_option_set_stream_reset_rate_limit(opt, HTTP2_RESETS_BURST, HTTP2_RESETS_PER_S);
    nghttp2_option_set_max_continuations(opt, HTTP2_CONTINUATIONS_MAX);
    nghttp2_option_set_max_settings(opt, HTTP2_SETTINGS_MAX);
    nghttp2_option_set_max_outbound_ack(opt, HTTP2_ACKS_MAX);
    int e = nghttp2_session_server_new2(&ss->ng, cb, ss, opt);
    nghttp2_option_del(opt);
    nghttp2_session_callbacks_del(cb);
    return e != 0 ? e : session_settings(ss);
}

void http2_session_start(struct http_server *s, struct conn *c)
{
    struct http2_session *ss =
        s->stats.n_conns_open < s->conf.conns_max ? mem_try_zalloc(sizeof(*ss)) : NULL;
    if (ss == NULL) {
        s->stats.n_conns_refused++;
        conn_close(c, RC_OVERLOADED);
        return;
    }
    ss->server = s;
    ss->conn = c;
    ss->link = (struct http_session_link){.conn = c, .on_drain = session_drain_start};
    list_init(&ss->streams);
    if (session_create_ng(ss) != 0) {
        nghttp2_session_del(ss->ng);
        mem_free(ss);
        s->stats.n_conns_refused++;
        conn_close(c, RC_NOMEM);
        return;
    }
    loop_task_init(&ss->pump, session_pump, ss);
    http_server_session_add(s, &ss->link);
    conn_set_events(c, &session_events, ss);
    conn_deadline_set(c, s->conf.header_ms);
    http2_session_pump(ss); /* our SETTINGS */
}
