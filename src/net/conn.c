/* conn.c: one connection, over libuv's stream.
 *
 *      http1.c / http_client.c     messages; decides when to read, pause, end
 *        ^ on_read | | conn_write
 *        |         v v
 *      +----------------------+    bytes: `in` holds what the owner has not used, `out` what was
 *      |  conn: in, out       |    written in this turn, `flying` what libuv has
 *      +----------------------+
 *        ^ conn_input | conn_flush          <- TLS goes between these two and the socket:
 *        |            v                        it turns received bytes into input, output
 *      +----------------------+                into records, and adds its handshake to
 *      |  uv_tcp_t, uv_pipe_t |                on_open; nothing above or below changes
 *      +----------------------+
 *
 * Life: (connecting) → open → [ending: flush, shutdown, drop input] → closing: on_close at the end
 * of the turn → uv_close → memory back at the end of the turn after.
 *
 * Invariants
 * 1. No callback runs inside a call of the owner: all come from libuv or from the deferred task.
 * 2. in.len <= CONN_READ_BYTES_MAX; the socket is read only while there is room.
 * 3. on_close runs exactly once, and nothing after it.
 * 4. While `writing`, `flying` belongs to libuv and is not touched. */
#include "net/conn.h"

#include <uv.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"
#include "net/loop.h"

/* An output buffer that held more than this gives its memory back once it is empty. */
#define CONN_KEEP_BYTES (64u << 10)

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
    void (*release)(void *ctx, struct conn *c);
    void *release_ctx;

    struct buf in, out, flying;
    struct loop_timer deadline; /* the owner's */
    struct loop_timer timer;    /* connect, write stall, linger: one at a time */
    size_t stall_left_bytes;    /* what libuv still held when the stall timer was started */
    struct loop_task turn;      /* flush, deliver, close: what this turn has noted */
    struct loop_task reclaim;

    enum rc why;
    bool connecting, reading, paused, deliver_due;
    bool eof, hangup_told, end_told;
    bool was_full, flush_due; /* on_drain, on_flush owed */
    bool writing, ending, shut, closing;
};

static void conn_turn(void *ctx);

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
    c->release(c->release_ctx, c);
}

static void conn_closed(uv_handle_t *h)
{
    struct conn *c = h->data;
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

static void conn_timed_out(void *ctx)
{
    struct conn *c = ctx;
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
        buf_init(&c->in, CONN_READ_BYTES_MAX);
    }
}

/* on_end once everything before it has been offered. */
static void conn_tell_end(struct conn *c)
{
    if (!c->eof || !conn_live(c)) {
        return;
    }
    if (c->shut) {
        conn_close(c, RC_OK);
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

static void conn_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    UNUSED(suggested);
    struct conn *c = h->data;
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
        if (n != UV_EOF) {
            conn_close(c, c->shut ? RC_OK : RC_CANCELLED);
        }
    } else if (!c->ending) { /* input of an ending connection is dropped */
        conn_input(c, str_make(buf->base, (size_t)n));
    }
    conn_tell_end(c);
    conn_read_update(c);
}

/* The socket is read whenever there is room: paused owners still learn of a hang-up. */
static void conn_read_update(struct conn *c)
{
    bool want = conn_live(c) && !c->connecting && !c->eof && c->in.len < CONN_READ_BYTES_MAX;
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
        conn_shut(c);
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
        buf_init(b, c->conf.write_bytes_max);
    } else {
        buf_reset(b);
    }
}

static void conn_flush(struct conn *c);

static void conn_written(uv_write_t *req, int status)
{
    struct conn *c = req->data;
    c->writing = false;
    conn_buf_renew(c, &c->flying);
    if (c->closing) {
        return;
    }
    loop_timer_stop(&c->timer);
    if (status != 0) {
        conn_close(c, RC_CANCELLED);
        return;
    }
    conn_flush(c);
    conn_tell_written(c);
}

/* Hands `out` to the kernel, as much as it takes now; libuv keeps the rest in `flying`. */
static void conn_flush(struct conn *c)
{
    if (c->closing || c->connecting || c->writing || c->out.len == 0) {
        return;
    }
    struct buf swap = c->flying;
    c->flying = c->out;
    c->out = swap;
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
    loop_timer_start(&c->timer, c->conf.write_stall_ms);
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
    buf_init(&c->in, CONN_READ_BYTES_MAX);
    buf_init(&c->out, c->conf.write_bytes_max);
    buf_init(&c->flying, c->conf.write_bytes_max);
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
    loop_timer_stop(&c->timer);
    conn_tune(c);
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

RC conn_accept(struct conn *c, struct loop *l, struct uv_stream_s *server,
               const struct conn_conf *conf, void (*release)(void *ctx, struct conn *c),
               void *release_ctx)
{
    bool is_unix = uv_handle_get_type((uv_handle_t *)server) == UV_NAMED_PIPE;
    if (conn_init(c, l, is_unix, conf) != 0) {
        return RC_IO;
    }
    c->release = release;
    c->release_ctx = release_ctx;
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
    return RC_OK;
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
