/* conn_open.c: how a connection begins: called out, or taken from a listener. */
#include "base/assert.h"
#include "base/mem.h"
#include "net/conn_private.h"

static void conn_tune(struct conn *c)
{
    if (!addr_is_unix(&c->peer)) {
        /* A refused option costs speed only. */
        (void)uv_tcp_nodelay(&c->uv.tcp, 1);
        (void)uv_tcp_keepalive(&c->uv.tcp, 1, 60);
    }
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
