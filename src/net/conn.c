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
 * Not here: how one begins (conn_open.c), TLS (conn_tls.c). */
#include <errno.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/conn_private.h"
#include "obs/log.h"

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

void conn_input(struct conn *c, struct str fresh)
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
void conn_read_update(struct conn *c)
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

void conn_buf_renew(struct conn *c, struct buf *b)
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

/* How much of `flying` the kernel takes now, or libuv's error. A socket's own call: write() goes
 * through the layers of files first. */
static ssize_t conn_send(const struct conn *c)
{
    uv_os_fd_t fd;
    int r = uv_fileno(&c->uv.handle, &fd);
    if (r != 0) {
        return r;
    }
    ssize_t n;
    do {
        n = send(fd, c->flying.ptr, c->flying.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? uv_translate_sys_error(errno) : n;
}

void conn_flush(struct conn *c)
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
    ssize_t n = conn_send(c);
    if (n == (ssize_t)c->flying.len) {
        conn_buf_renew(c, &c->flying);
        return;
    }
    if (n < 0 && n != UV_EAGAIN) {
        conn_close(c, RC_CANCELLED);
        return;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    uv_buf_t b = uv_buf_init(c->flying.ptr + sent, (unsigned)(c->flying.len - sent));
    c->write_req.data = c;
    int r = uv_write(&c->write_req, &c->uv.stream, &b, 1, conn_written);
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

/* --- the owner --------------------------------------------------------------------------- */

void conn_set_events(struct conn *c, const struct conn_events *ev, void *ctx)
{
    ASSERT(ev->on_read != NULL && ev->on_end != NULL && ev->on_close != NULL);
    c->ev = ev;
    c->ctx = ctx;
    conn_read_update(c);
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

/* --- the beginning ----------------------------------------------------------------------- */

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

int conn_init(struct conn *c, struct loop *l, bool is_unix, const struct conn_conf *conf)
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
