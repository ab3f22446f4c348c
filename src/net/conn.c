/* conn.c: one connection, over libuv's stream.
 *
 *      http1.c / http2.c / http_client.c   messages; decides when to read, pause, end
 *        ^ on_read | | conn_write
 *        |         v v
 *      +----------------------+    plain bytes: `in` holds what the owner has not used, `out` what
 *      |  conn: in, out       |    was written in this turn
 *      +----------------------+
 *        ^ conn_input | conn_flush
 *      +----------------------+    with TLS only: opened at once when it comes, sealed when it is
 *      |  tls_link            |    to be sent; its handshake comes before any owner's callback
 *      +----------------------+
 *        ^            | flying     what libuv has
 *      +----------------------+
 *      |  uv_tcp_t, uv_pipe_t |
 *      +----------------------+
 *
 * Life: (connecting) → (greeting: TLS) → open → [ending: flush, shutdown, drop input] → closing:
 * on_close at the end of the turn → uv_close → memory back at the end of the turn after.
 *
 * Invariants
 * 1. No callback runs inside a call of the owner: all come from libuv or from the deferred task.
 * 2. The socket is read only while in.len < CONN_READ_BYTES_MAX; what OpenSSL held may pass that
 *    by one record.
 * 3. on_close runs exactly once, and nothing after it; none when there was no owner yet.
 * 4. While `writing`, `flying` belongs to libuv and is not touched.
 * 5. While greeting, `timer` bounds the handshake and nothing else starts it.
 *
 * 810 lines because the states of one connection, TLS among them, are told in one place. */
#include "net/conn.h"

#include <uv.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/mem.h"
#include "net/loop.h"
#include "net/tls_link.h"
#include "obs/log.h"
#include "obs/metric.h"

/* An output buffer that held more than this gives its memory back once it is empty. */
#define CONN_KEEP_BYTES (64u << 10)
/* What the longest TLS record opens to. */
#define CONN_RECORD_BYTES (17u << 10)

struct conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    uv_connect_t connect_req;
    uv_write_t write_req;
    uv_shutdown_t shutdown_req;

    struct loop *loop;
    struct conn_conf conf;
    const struct conn_events *ev; /* NULL until an accepted conn gets its owner */
    void *ctx;
    struct addr peer;
    void (*on_ready)(void *ctx, struct conn *c); /* accepted with TLS */
    void (*release)(void *ctx, struct conn *c);
    void *release_ctx;
    struct list_node stranger; /* linked while accepted and without an owner */

    struct tls_link *tls; /* NULL = plain */
    struct buf in, out, flying;
    size_t flying_bytes_max;
    struct loop_timer deadline; /* the owner's */
    struct loop_timer timer;    /* connect, greet, write stall, linger: one at a time */
    size_t stall_left_bytes;    /* what libuv still held when the stall timer was started */
    struct loop_task turn;      /* flush, deliver, close: what this turn has noted */
    struct loop_task reclaim;

    enum rc why;
    bool connecting, greeting, reading, paused, deliver_due;
    bool eof, hangup_told, end_told;
    bool was_full, flush_due; /* on_drain, on_flush owed */
    bool writing, ending, shut, closing;
};

static void conn_turn(void *ctx);
static void conn_flush(struct conn *c);

static bool conn_live(const struct conn *c)
{
    return !c->closing && c->ev != NULL;
}

/* --- closing ------------------------------------------------------------------------------ */

static void conn_release(void *ctx)
{
    struct conn *c = ctx;
    buf_deinit(&c->in);
    buf_deinit(&c->out);
    buf_deinit(&c->flying);
    tls_link_destroy(c->tls);
    c->release(c->release_ctx, c);
}

static void conn_closed(uv_handle_t *h)
{
    struct conn *c = h->data;
    if (list_is_linked(&c->stranger)) {
        list_remove(&c->stranger);
    }
    loop_reclaim(c->loop, &c->reclaim);
}

void conn_close(struct conn *c, enum rc why)
{
    if (c->closing) {
        return;
    }
    c->closing = true;
    c->why = why;
    loop_timer_stop(&c->deadline);
    loop_timer_stop(&c->timer);
    if (c->reading) {
        uv_read_stop(&c->uv.stream);
        c->reading = false;
    }
    loop_defer(c->loop, &c->turn);
}

/* A handshake has failed: counted, and for people to read. */
static void conn_note_refusal(const struct conn *c, enum tls_why why)
{
    char peer[ADDR_TEXT_BYTES];
    const char *side = c->on_ready != NULL ? "server" : "client";
    const struct str labels[] = {str_from(side), str_from(tls_why_name(why))};
    metric_add(metric_with(METRIC_TLS_REFUSED, labels), 1);
    log_event(LOG_TLS_REFUSED, log_cstr("side", side), log_cstr("reason", tls_why_name(why)),
              log_cstr(LOG_KEY_ADDRESS, addr_format_host(&c->peer, peer)));
}

static void conn_timed_out(void *ctx)
{
    struct conn *c = ctx;
    if (c->greeting) {
        conn_note_refusal(c, TLS_WHY_TIMEOUT);
        conn_close(c, RC_TIMEOUT);
        return;
    }
    if (c->shut) { /* lingered long enough */
        conn_close(c, RC_OK);
        return;
    }
    size_t left = uv_stream_get_write_queue_size(&c->uv.stream);
    if (c->connecting || left >= c->stall_left_bytes) {
        conn_close(c, RC_TIMEOUT);
        return;
    }
    c->stall_left_bytes = left;
    loop_timer_start(&c->timer, c->conf.write_stall_ms);
}

/* --- reading ------------------------------------------------------------------------------ */

static void conn_read_update(struct conn *c);

/* Offers input to the owner; `fresh` has just come and is not yet in `in`. */
static void conn_input(struct conn *c, struct str fresh)
{
    struct str all = fresh;
    bool held = c->in.len > 0 || c->paused;
    if (held) {
        buf_add_str(&c->in, fresh);
        all = buf_str(&c->in);
    }
    if (!buf_ok(&c->in)) {
        conn_close(c, RC_NOMEM);
        return;
    }
    if (c->paused) {
        return;
    }
    size_t used = c->ev->on_read(c->ctx, all);
    ASSERT(used <= all.len);
    if (c->closing || c->ending) {
        buf_reset(&c->in);
    } else if (held) {
        buf_drop_front(&c->in, used);
    } else {
        buf_add_str(&c->in, str_slice(all, used, all.len));
    }
    if (c->in.len == 0 && c->in.ptr != NULL) {
        buf_deinit(&c->in);
        buf_init(&c->in, CONN_READ_BYTES_MAX + CONN_RECORD_BYTES);
    }
}

/* on_end once everything before it has been offered. */
static void conn_tell_end(struct conn *c)
{
    if (c->eof && c->greeting && !c->closing) {
        conn_note_refusal(c, TLS_WHY_HANGUP);
        conn_close(c, RC_UNAVAILABLE);
    }
    if (c->eof && c->shut) {
        conn_close(c, RC_OK);
    }
    if (!c->eof || !conn_live(c)) {
        return;
    }
    if (c->ending) {
        return;
    }
    if (!c->hangup_told) {
        c->hangup_told = true;
        if (c->ev->on_hangup != NULL) {
            c->ev->on_hangup(c->ctx);
        }
    }
    if (!c->paused && !c->deliver_due && !c->end_told && conn_live(c) && !c->ending) {
        c->end_told = true;
        c->ev->on_end(c->ctx);
    }
}

/* --- TLS, on the way in --------------------------------------------------------------------- */

/* A browser or a proxy that was told http:// learns so in words that it understands. */
#define CONN_PLAIN_ANSWER                                                                          \
    "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n"                \
    "content-length: 48\r\n\r\nThis port speaks HTTPS: use https:// to reach it"

/* The handshake has failed. The peer is told; an accepted connection then ends like any other, so
 * that unread input does not destroy the alert. */
static void conn_greet_failed(struct conn *c)
{
    enum tls_why why = tls_link_why(c->tls);
    conn_note_refusal(c, why);
    c->greeting = false;
    loop_timer_stop(&c->timer);
    if (why == TLS_WHY_PLAIN) {
        buf_reset(tls_link_wire(c->tls));
        buf_add_cstr(tls_link_wire(c->tls), CONN_PLAIN_ANSWER);
    }
    conn_flush(c);
    if (c->on_ready != NULL) {
        conn_end(c);
    } else {
        conn_close(c, RC_UNAVAILABLE);
    }
}

/* One step of the handshake; whether the link is open now and somebody reads it. */
static bool conn_greet(struct conn *c)
{
    enum tls_step step = tls_link_greet(c->tls);
    if (step == TLS_FAILED) {
        conn_greet_failed(c);
        return false;
    }
    conn_flush(c);
    if (step != TLS_OPEN || c->closing) {
        return false;
    }
    c->greeting = false;
    loop_timer_stop(&c->timer);
    if (c->writing) { /* of the handshake's last words */
        loop_timer_start(&c->timer, c->conf.write_stall_ms);
    }
    if (c->on_ready != NULL) {
        list_remove(&c->stranger);
        c->on_ready(c->release_ctx, c);
        ASSERT(c->ev != NULL || c->closing);
    } else if (c->ev->on_open != NULL) {
        c->ev->on_open(c->ctx);
    }
    loop_defer(c->loop, &c->turn); /* what was written while greeting */
    return !c->closing;
}

/* Opens what came from the socket; all of it is used, or the connection is of no more use. */
static void conn_unseal(struct conn *c, struct str wire)
{
    if (tls_link_why(c->tls) != TLS_WHY_NOTHING) {
        return; /* ends: what the peer still says is nobody's */
    }
    tls_link_feed(c->tls, wire);
    if (c->greeting && !conn_greet(c)) {
        return;
    }
    enum tls_step step = TLS_OPEN;
    while (step == TLS_OPEN && !c->closing) {
        size_t n;
        step = tls_link_read(c->tls, loop_scratch_plain(c->loop), LOOP_SCRATCH_BYTES, &n);
        if (step == TLS_OPEN && !c->ending) { /* input of an ending connection is dropped */
            conn_input(c, str_make(loop_scratch_plain(c->loop), n));
        }
    }
    if (step == TLS_ENDED) {
        uv_read_stop(&c->uv.stream);
        c->reading = false;
        c->eof = true;
    } else if (step == TLS_FAILED) {
        log_event(LOG_CONN_FAIL, log_cstr("reason", tls_why_name(tls_link_why(c->tls))));
        conn_close(c, c->shut ? RC_OK : RC_CANCELLED);
    }
}

/* The socket has ended without the peer's word for it: for a client, whose answer may end with the
 * connection, that is a cut. */
static bool conn_was_cut(const struct conn *c)
{
    return c->tls != NULL && c->on_ready == NULL && !c->greeting && !c->ending;
}

static void conn_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    UNUSED(suggested);
    struct conn *c = h->data;
    ASSERT(c->in.len < CONN_READ_BYTES_MAX);
    size_t room = CONN_READ_BYTES_MAX - c->in.len;
    *buf = uv_buf_init(loop_scratch(c->loop), (unsigned)MIN(room, LOOP_SCRATCH_BYTES));
}

static void conn_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = s->data;
    if (c->closing || n == 0) {
        return;
    }
    if (n < 0) {
        uv_read_stop(s);
        c->reading = false;
        c->eof = true;
        if (n != UV_EOF || conn_was_cut(c)) {
            conn_close(c, c->shut ? RC_OK : RC_CANCELLED);
        }
    } else if (c->tls != NULL) {
        conn_unseal(c, str_make(buf->base, (size_t)n));
    } else if (!c->ending) { /* input of an ending connection is dropped */
        conn_input(c, str_make(buf->base, (size_t)n));
    }
    conn_tell_end(c);
    conn_read_update(c);
}

/* The socket is read whenever there is room: paused owners still learn of a hang-up. */
static void conn_read_update(struct conn *c)
{
    bool listens = conn_live(c) || (c->tls != NULL && !c->closing);
    bool want = listens && !c->connecting && !c->eof && c->in.len < CONN_READ_BYTES_MAX;
    if (want == c->reading) {
        return;
    }
    c->reading = want;
    if (!want) {
        uv_read_stop(&c->uv.stream);
        return;
    }
    int r = uv_read_start(&c->uv.stream, conn_alloc, conn_read);
    if (r != 0) {
        c->reading = false;
        conn_close(c, RC_IO);
    }
}

void conn_read_pause(struct conn *c)
{
    c->paused = true;
}

void conn_read_resume(struct conn *c)
{
    if (c->paused && !c->closing) {
        c->paused = false;
        c->deliver_due = true;
        loop_defer(c->loop, &c->turn);
    }
}

/* --- writing ------------------------------------------------------------------------------ */

size_t conn_queued_bytes(const struct conn *c)
{
    return c->out.len + (c->writing ? uv_stream_get_write_queue_size(&c->uv.stream) : 0);
}

bool conn_is_writable(const struct conn *c)
{
    return conn_queued_bytes(c) < c->conf.write_high_bytes;
}

void conn_write(struct conn *c, struct str bytes)
{
    if (c->closing || c->ending || bytes.len == 0) {
        return;
    }
    if (bytes.len > c->conf.write_bytes_max - MIN(conn_queued_bytes(c), c->conf.write_bytes_max)) {
        conn_close(c, RC_OVERLOADED);
        return;
    }
    buf_add_str(&c->out, bytes);
    if (!buf_ok(&c->out)) {
        conn_close(c, RC_NOMEM);
        return;
    }
    c->was_full = c->was_full || !conn_is_writable(c);
    c->flush_due = true;
    loop_defer(c->loop, &c->turn);
}

static void conn_shut_done(uv_shutdown_t *req, int status)
{
    struct conn *c = req->data;
    if (!c->closing && (status != 0 || c->eof)) {
        conn_close(c, RC_OK);
    }
}

/* Everything is sent: ends our side and waits for the peer's end, so that a peer still sending is
 * not answered by a reset that would destroy what it has not read yet. */
static void conn_shut(struct conn *c)
{
    c->shut = true;
    c->shutdown_req.data = c;
    if (uv_shutdown(&c->shutdown_req, &c->uv.stream, conn_shut_done) != 0) {
        conn_close(c, RC_OK);
        return;
    }
    loop_timer_start(&c->timer, CONN_LINGER_MS);
    conn_read_update(c);
}

/* What is owed to the owner once the queue has sunk. */
static void conn_tell_written(struct conn *c)
{
    size_t queued = conn_queued_bytes(c);
    /* libuv may have sent all and not said so yet: conn_written would then stop the linger timer.
     */
    if (queued == 0 && c->ending && !c->writing && !c->shut && !c->closing) {
        if (c->tls != NULL) {
            tls_link_end(c->tls);
            conn_flush(c);
        }
        if (!c->writing && !c->closing) { /* else again when that is through */
            conn_shut(c);
        }
        return;
    }
    if (c->was_full && queued <= c->conf.write_low_bytes && conn_live(c) && !c->ending) {
        c->was_full = false;
        if (c->ev->on_drain != NULL) {
            c->ev->on_drain(c->ctx);
        }
    }
    if (c->flush_due && conn_queued_bytes(c) == 0 && conn_live(c) && !c->ending) {
        c->flush_due = false;
        if (c->ev->on_flush != NULL) {
            c->ev->on_flush(c->ctx);
        }
    }
}

static void conn_buf_renew(struct conn *c, struct buf *b)
{
    if (b->len > CONN_KEEP_BYTES) {
        buf_deinit(b);
        buf_init(b, c->flying_bytes_max);
    } else {
        buf_reset(b);
    }
}

static void conn_written(uv_write_t *req, int status)
{
    struct conn *c = req->data;
    c->writing = false;
    conn_buf_renew(c, &c->flying);
    if (c->closing) {
        return;
    }
    if (!c->greeting) {
        loop_timer_stop(&c->timer);
    }
    if (status != 0) {
        conn_close(c, RC_CANCELLED);
        return;
    }
    conn_flush(c);
    conn_tell_written(c);
}

/* What TLS makes of `out`, and its own words. */
static struct buf *conn_seal(struct conn *c)
{
    if (!c->greeting && c->out.len > 0) {
        enum rc rc = tls_link_write(c->tls, buf_str(&c->out));
        conn_buf_renew(c, &c->out);
        if (rc != RC_OK) {
            conn_close(c, rc == RC_NOMEM ? RC_NOMEM : RC_CANCELLED);
        }
    }
    return tls_link_wire(c->tls);
}

/* Hands `out` to the kernel, as much as it takes now; libuv keeps the rest in `flying`. */
static void conn_flush(struct conn *c)
{
    if (c->closing || c->connecting || c->writing) {
        return;
    }
    struct buf *from = c->tls == NULL ? &c->out : conn_seal(c);
    if (from->len == 0 || c->closing) {
        return;
    }
    struct buf swap = c->flying;
    c->flying = *from;
    *from = swap;
    uv_buf_t b = uv_buf_init(c->flying.ptr, (unsigned)c->flying.len);
    int r = uv_try_write(&c->uv.stream, &b, 1);
    if (r == (int)c->flying.len) {
        conn_buf_renew(c, &c->flying);
        return;
    }
    size_t sent = r > 0 ? (size_t)r : 0;
    b = uv_buf_init(c->flying.ptr + sent, (unsigned)(c->flying.len - sent));
    c->write_req.data = c;
    if (r < 0 && r != UV_EAGAIN) {
        conn_close(c, RC_CANCELLED);
        return;
    }
    r = uv_write(&c->write_req, &c->uv.stream, &b, 1, conn_written);
    if (r != 0) {
        conn_close(c, RC_CANCELLED);
        return;
    }
    c->writing = true;
    c->stall_left_bytes = uv_stream_get_write_queue_size(&c->uv.stream);
    if (!c->greeting) {
        loop_timer_start(&c->timer, c->conf.write_stall_ms);
    }
}

void conn_end(struct conn *c)
{
    if (c->closing || c->ending) {
        return;
    }
    c->ending = true;
    loop_timer_stop(&c->deadline);
    loop_defer(c->loop, &c->turn);
}

/* The end of a turn: does what the calls of this turn have noted. */
static void conn_turn(void *ctx)
{
    struct conn *c = ctx;
    conn_flush(c);
    if (!c->closing && !c->connecting) {
        conn_tell_written(c);
    }
    if (c->deliver_due && conn_live(c) && !c->ending && !c->connecting) {
        c->deliver_due = false;
        conn_input(c, STR_NULL);
        conn_tell_end(c);
    }
    if (!c->closing) {
        if (c->ending) {
            buf_reset(&c->in);
        }
        conn_read_update(c);
        return;
    }
    if (!uv_is_closing(&c->uv.handle)) {
        loop_task_cancel(&c->turn);
        if (c->ev != NULL) {
            c->ev->on_close(c->ctx, c->why);
        }
        uv_close(&c->uv.handle, conn_closed);
    }
}

/* --- deadlines ---------------------------------------------------------------------------- */

static void conn_deadline_passed(void *ctx)
{
    struct conn *c = ctx;
    ASSERT(c->ev->on_deadline != NULL);
    c->ev->on_deadline(c->ctx);
}

void conn_deadline_set(struct conn *c, uint64_t after_ms)
{
    if (!c->closing && !c->ending) {
        loop_timer_start(&c->deadline, after_ms);
    }
}

void conn_deadline_clear(struct conn *c)
{
    loop_timer_stop(&c->deadline);
}

/* --- opening ------------------------------------------------------------------------------ */

static struct conn_conf conf_or_default(const struct conn_conf *in)
{
    struct conn_conf c = in != NULL ? *in : (struct conn_conf){0};
    c.write_high_bytes = c.write_high_bytes != 0 ? c.write_high_bytes : CONN_WRITE_HIGH_BYTES;
    c.write_low_bytes = c.write_low_bytes != 0 ? c.write_low_bytes : CONN_WRITE_LOW_BYTES;
    c.write_bytes_max = c.write_bytes_max != 0 ? c.write_bytes_max : CONN_WRITE_BYTES_MAX;
    c.write_stall_ms = c.write_stall_ms != 0 ? c.write_stall_ms : CONN_WRITE_STALL_MS;
    c.connect_ms = c.connect_ms != 0 ? c.connect_ms : CONN_CONNECT_MS;
    c.greet_ms = c.greet_ms != 0 ? c.greet_ms : CONN_GREET_MS;
    /* uv_buf_t and uv_try_write count in int. */
    c.write_bytes_max = MIN(c.write_bytes_max, (size_t)1 << 30);
    ASSERT(c.write_low_bytes <= c.write_high_bytes);
    return c;
}

/* Fills a zeroed conn and its handle. */
static int conn_init(struct conn *c, struct loop *l, bool is_unix, const struct conn_conf *conf)
{
    c->loop = l;
    c->conf = conf_or_default(conf);
    /* Sealing adds less than a 64th, and a handshake's few messages. */
    c->flying_bytes_max = c->conf.write_bytes_max + c->conf.write_bytes_max / 64 + CONN_KEEP_BYTES;
    buf_init(&c->in, CONN_READ_BYTES_MAX + CONN_RECORD_BYTES);
    buf_init(&c->out, c->flying_bytes_max);
    buf_init(&c->flying, c->flying_bytes_max);
    loop_timer_init(&c->deadline, l, conn_deadline_passed, c);
    loop_timer_init(&c->timer, l, conn_timed_out, c);
    loop_task_init(&c->turn, conn_turn, c);
    loop_task_init(&c->reclaim, conn_release, c);
    int r =
        is_unix ? uv_pipe_init(loop_uv(l), &c->uv.pipe, 0) : uv_tcp_init(loop_uv(l), &c->uv.tcp);
    c->uv.handle.data = c;
    return r;
}

static void conn_tune(struct conn *c)
{
    if (!addr_is_unix(&c->peer)) {
        /* A refused option costs speed only. */
        (void)uv_tcp_nodelay(&c->uv.tcp, 1);
        (void)uv_tcp_keepalive(&c->uv.tcp, 1, 60);
    }
}

void conn_set_events(struct conn *c, const struct conn_events *ev, void *ctx)
{
    ASSERT(ev->on_read != NULL && ev->on_end != NULL && ev->on_close != NULL);
    c->ev = ev;
    c->ctx = ctx;
    conn_read_update(c);
}

static void conn_connected(uv_connect_t *req, int status)
{
    struct conn *c = req->data;
    if (c->closing) {
        return;
    }
    if (status != 0) {
        conn_close(c, RC_UNAVAILABLE);
        return;
    }
    c->connecting = false;
    conn_tune(c);
    if (c->tls != NULL) {
        c->greeting = true; /* within what is left of connect_ms */
        conn_read_update(c);
        (void)conn_greet(c);
        return;
    }
    loop_timer_stop(&c->timer);
    conn_read_update(c);
    if (conn_live(c) && c->ev->on_open != NULL) {
        c->ev->on_open(c->ctx);
    }
    loop_defer(c->loop, &c->turn); /* what was written while connecting */
}

static void conn_free(void *ctx, struct conn *c)
{
    UNUSED(ctx);
    mem_free(c);
}

RC conn_connect(struct conn **out, struct loop *l, const struct addr *to,
                const struct conn_conf *conf, const struct conn_events *ev, void *ctx,
                struct err *err)
{
    struct conn *c = mem_try_zalloc(sizeof(*c));
    if (c == NULL) {
        return err_set(err, RC_NOMEM, "connection: out of memory");
    }
    int r = conn_init(c, l, addr_is_unix(to), conf);
    if (r != 0) {
        mem_free(c);
        return err_set(err, RC_IO, "connection: %s", uv_strerror(r));
    }
    c->release = conn_free;
    c->peer = *to;
    c->connecting = true;
    if (c->conf.tls != NULL) {
        enum rc rc =
            tls_link_create(&c->tls, c->conf.tls, c->conf.tls_host, c->flying_bytes_max, err);
        if (rc != RC_OK) {
            conn_close(c, rc); /* nobody is told: it has no events yet */
            return rc;
        }
        c->conf.tls = NULL; /* the link holds it; these were the caller's */
        c->conf.tls_host = STR_NULL;
    }
    conn_set_events(c, ev, ctx);
    c->connect_req.data = c;
    if (addr_is_unix(to)) {
        uv_pipe_connect(&c->connect_req, &c->uv.pipe, addr_unix_path(to), conn_connected);
    } else {
        const struct sockaddr *sa = (const struct sockaddr *)(const void *)&to->sa;
        r = uv_tcp_connect(&c->connect_req, &c->uv.tcp, sa, conn_connected);
    }
    if (r != 0) {
        conn_close(c, RC_UNAVAILABLE);
    } else {
        loop_timer_start(&c->timer, c->conf.connect_ms);
    }
    *out = c;
    return RC_OK;
}

size_t conn_bytes(void)
{
    return sizeof(struct conn);
}

/* The handshake of an accepted connection begins. */
static RC conn_accept_tls(struct conn *c, const struct conn_accept *how)
{
    enum rc rc = tls_link_create(&c->tls, how->tls, STR_NULL, c->flying_bytes_max, NULL);
    c->on_ready = how->on_ready;
    if (rc == RC_OK) {
        list_push_back(how->strangers, &c->stranger);
        c->greeting = true;
        loop_timer_start(&c->timer, c->conf.greet_ms);
        conn_read_update(c);
    }
    return rc;
}

RC conn_accept(struct conn *c, struct loop *l, struct uv_stream_s *server,
               const struct conn_accept *how)
{
    bool is_unix = uv_handle_get_type((uv_handle_t *)server) == UV_NAMED_PIPE;
    if (conn_init(c, l, is_unix, how->conf) != 0) {
        return RC_IO;
    }
    c->release = how->release;
    c->release_ctx = how->ctx;
    if (is_unix) {
        c->peer.sa.ss_family = AF_UNIX;
        c->peer.sa_bytes = sizeof(sa_family_t);
    }
    int r = uv_accept(server, &c->uv.stream);
    if (r != 0) {
        conn_close(c, RC_IO);
        return RC_OK;
    }
    if (!is_unix) {
        int n = sizeof(c->peer.sa);
        if (uv_tcp_getpeername(&c->uv.tcp, (struct sockaddr *)(void *)&c->peer.sa, &n) == 0) {
            c->peer.sa_bytes = (socklen_t)n;
        }
    }
    conn_tune(c);
    if (how->tls != NULL && conn_accept_tls(c, how) != RC_OK) {
        conn_close(c, RC_NOMEM);
    }
    return RC_OK;
}

void conn_close_strangers(struct list *strangers)
{
    LIST_EACH(strangers, n)
    {
        conn_close(LIST_ENTRY(n, struct conn, stranger), RC_OK);
    }
}

bool conn_peer_uid(const struct conn *c, uint32_t *uid)
{
    uv_os_fd_t fd;
    struct ucred cred;
    socklen_t n = sizeof(cred);
    if (uv_fileno(&c->uv.handle, &fd) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) != 0 || n != sizeof(cred)) {
        return false;
    }
    *uid = cred.uid;
    return true;
}

const struct addr *conn_peer(const struct conn *c)
{
    return &c->peer;
}

bool conn_is_tls(const struct conn *c)
{
    return c->tls != NULL;
}

bool conn_is_http2(const struct conn *c)
{
    return c->tls != NULL && tls_link_is_http2(c->tls);
}
