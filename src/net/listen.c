/* listen.c: listening sockets, opened by us (for SO_REUSEPORT, the UNIX mode and the stale-socket
 * check) and handed to libuv.
 *
 * Connections come from a pool of conns_max; the listener's memory lives until the last of them is
 * back. Invariant: n_open == connections in the pool's use. */
#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/pool.h"
#include "net/loop.h"
#include "net/tls_keep.h"
#include "obs/metric.h"

struct listen_group {
    atomic_uint n_refs;
    uint32_t conns_max;
    _Atomic uint32_t n_open; /* connections */
    struct addr bound;       /* sa_bytes 0: nobody has bound it yet */
    int fd;                  /* the first one's socket, once it is bound and while it is open */
};

struct listener {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    struct loop *loop;
    struct listen_conf conf;
    struct addr bound;
    dev_t path_dev; /* which file a UNIX listener made, so that it removes no successor's */
    ino_t path_ino;
    listen_accept_cb cb;
    void *ctx;
    struct pool conns;
    struct list strangers; /* of them: in their TLS handshake */
    struct listen_stats stats;
    uint32_t n_turn; /* accepted in this turn */
    bool accept_due; /* one waits in libuv for the next turn */
    struct loop_task turn;
    struct loop_task reclaim;
    bool closed, handle_closed;
};

/* --- several loops on one address ---------------------------------------------------------- */

void listen_group_create(struct listen_group **out, uint32_t conns_max)
{
    *out = mem_zalloc(sizeof(**out));
    atomic_init(&(*out)->n_refs, 1);
    (*out)->conns_max = conns_max;
}

void listen_group_put(struct listen_group *g)
{
    if (g != NULL && atomic_fetch_sub_explicit(&g->n_refs, 1, memory_order_acq_rel) == 1) {
        mem_free(g);
    }
}

/* Whether another loop's listener has bound the address already. */
static bool listener_joins(const struct listener *ln)
{
    return ln->conf.group != NULL && ln->conf.group->bound.sa_bytes > 0;
}

/* False: all loops together have as many connections as they may. */
static bool listener_count_in(struct listener *ln)
{
    struct listen_group *g = ln->conf.group;
    if (g == NULL ||
        atomic_fetch_add_explicit(&g->n_open, 1, memory_order_relaxed) < g->conns_max) {
        return true;
    }
    atomic_fetch_sub_explicit(&g->n_open, 1, memory_order_relaxed);
    return false;
}

static void listener_count_out(struct listener *ln)
{
    if (ln->conf.group != NULL) {
        atomic_fetch_sub_explicit(&ln->conf.group->n_open, 1, memory_order_relaxed);
    }
}

/* --- opening a socket --------------------------------------------------------------------- */

static RC bind_error(const struct addr *a, struct err *err)
{
    char text[ADDR_TEXT_BYTES];
    int e = errno;
    enum rc rc = e == EADDRINUSE                                     ? RC_CONFLICT
                 : e == EACCES || e == EPERM                         ? RC_FORBIDDEN
                 : e == EADDRNOTAVAIL || e == ENOENT || e == ENOTDIR ? RC_INVALID
                                                                     : RC_IO;
    return err_set(err, rc, "listen on %s: %s", addr_format(a, text), strerror(e));
}

/* Whether a server answers on this UNIX socket. */
static bool unix_is_served(const struct addr *a)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return true; /* not known: replace nothing */
    }
    int r = connect(fd, (const struct sockaddr *)(const void *)&a->sa, a->sa_bytes);
    bool stale = r != 0 && errno == ECONNREFUSED;
    close(fd);
    return !stale;
}

/* Removes a socket file that nobody listens on. */
static RC unix_clear_stale(const struct addr *a, struct err *err)
{
    struct stat st;
    const char *path = addr_unix_path(a);
    if (lstat(path, &st) != 0) {
        return RC_OK;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return err_set(err, RC_CONFLICT, "listen on unix:%s: the path is not a socket", path);
    }
    if (unix_is_served(a)) {
        return err_set(err, RC_CONFLICT, "listen on unix:%s: somebody listens there", path);
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        return bind_error(a, err);
    }
    return RC_OK;
}

/* The first of a group lets the others join, once it listens: until then nobody could, and another
 * process that binds as it did is refused for as long as it does. */
static RC socket_share(int fd, const struct listener *ln, struct err *err)
{
    int one = 1;
    if (listen(fd, LISTEN_BACKLOG) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0) {
        return bind_error(&ln->conf.addr, err);
    }
    return RC_OK;
}

static RC socket_bind(int fd, const struct listener *ln, struct err *err)
{
    const struct addr *a = &ln->conf.addr;
    int one = 1;
    if (!addr_is_unix(a) && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0) {
        return bind_error(a, err);
    }
    if (listener_joins(ln) && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0) {
        return bind_error(a, err);
    }
    if (bind(fd, (const struct sockaddr *)(const void *)&a->sa, a->sa_bytes) != 0) {
        return bind_error(a, err);
    }
    /* Before listen(): until then a connect is refused, so there is no moment of a wider mode. */
    if (addr_is_unix(a) && chmod(addr_unix_path(a), 0600) != 0) {
        return bind_error(a, err);
    }
    bool first = ln->conf.group != NULL && !listener_joins(ln);
    return first && !addr_is_unix(a) ? socket_share(fd, ln, err) : RC_OK;
}

static RC socket_open(int *out, const struct listener *ln, struct err *err)
{
    const struct addr *a = &ln->conf.addr;
    if (addr_is_unix(a) && listener_joins(ln)) {
        *out = fcntl(ln->conf.group->fd, F_DUPFD_CLOEXEC, 0);
        return *out >= 0 ? RC_OK : bind_error(a, err);
    }
    if (addr_is_unix(a)) {
        enum rc rc = unix_clear_stale(a, err);
        if (rc != RC_OK) {
            return rc;
        }
    }
    int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return bind_error(a, err);
    }
    enum rc rc = socket_bind(fd, ln, err);
    if (rc != RC_OK) {
        close(fd);
        return rc;
    }
    *out = fd;
    return RC_OK;
}

/* --- accepting ---------------------------------------------------------------------------- */

static void listener_free(void *ctx)
{
    struct listener *ln = ctx;
    pool_deinit(&ln->conns);
    listen_group_put(ln->conf.group);
    mem_free(ln);
}

static void listener_maybe_free(struct listener *ln)
{
    if (ln->handle_closed && ln->stats.n_open == 0) {
        loop_reclaim(ln->loop, &ln->reclaim);
    }
}

static void listener_conn_gone(void *ctx, struct conn *c)
{
    struct listener *ln = ctx;
    ASSERT(ln->stats.n_open > 0);
    pool_put(&ln->conns, c);
    listener_count_out(ln);
    ln->stats.n_open--;
    listener_maybe_free(ln);
}

static bool peer_is_allowed(const struct conn *c)
{
    uint32_t uid;
    if (!addr_is_unix(conn_peer(c))) {
        return true;
    }
    return conn_peer_uid(c, &uid) && (uid == 0 || uid == (uint32_t)geteuid());
}

static void refused_closed(uv_handle_t *h)
{
    mem_free(h);
}

/* At the cap the connection is taken and closed, so that the client learns at once and the
 * kernel's queue does not fill with the hopeless. */
static void listener_refuse(struct listener *ln)
{
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } *uv = mem_try_zalloc(sizeof(*uv));
    if (uv == NULL) {
        return;
    }
    if (addr_is_unix(&ln->bound)) {
        uv_pipe_init(loop_uv(ln->loop), &uv->pipe, 0);
    } else {
        uv_tcp_init(loop_uv(ln->loop), &uv->tcp);
    }
    (void)uv_accept(&ln->uv.stream, &uv->stream);
    uv_close((uv_handle_t *)uv, refused_closed);
    ln->stats.n_refused_cap++;
    metric_add(metric_with1(METRIC_CONNS_REFUSED, STR_LIT("cap")), 1);
}

static void listener_greeted(void *ctx, struct conn *c)
{
    struct listener *ln = ctx;
    ln->stats.n_greeted++;
    ln->cb(ln->ctx, c);
}

static void listener_accept(struct listener *ln)
{
    struct conn *c = pool_get(&ln->conns);
    if (c != NULL && !listener_count_in(ln)) {
        pool_put(&ln->conns, c);
        c = NULL;
    }
    if (c == NULL) {
        listener_refuse(ln);
        return;
    }
    struct conn_accept how = {.conf = &ln->conf.conn,
                              .tls = ln->conf.tls != NULL ? tls_keep_now(ln->conf.tls) : NULL,
                              .on_ready = listener_greeted,
                              .release = listener_conn_gone,
                              .ctx = ln,
                              .strangers = &ln->strangers};
    ASSERT(ln->conf.tls == NULL || how.tls != NULL); /* never plain by accident */
    if (conn_accept(c, ln->loop, &ln->uv.stream, &how) != RC_OK) {
        pool_put(&ln->conns, c);
        listener_count_out(ln);
        return;
    }
    ln->stats.n_open++;
    if (!peer_is_allowed(c)) {
        ln->stats.n_refused_peer++;
        metric_add(metric_with1(METRIC_CONNS_REFUSED, STR_LIT("peer")), 1);
        conn_close(c, RC_FORBIDDEN);
        return;
    }
    ln->stats.n_accepted++;
    if (ln->conf.tls == NULL) {
        ln->cb(ln->ctx, c);
    }
}

static void listener_turn(void *ctx)
{
    struct listener *ln = ctx;
    ln->n_turn = 0;
    if (ln->accept_due && !ln->closed) {
        ln->accept_due = false;
        listener_accept(ln);
    }
}

static void listener_arrived(uv_stream_t *s, int status)
{
    struct listener *ln = s->data;
    if (status != 0 || ln->closed) {
        return; /* out of descriptors: libuv has shed the connection */
    }
    loop_defer(ln->loop, &ln->turn);
    if (++ln->n_turn > LISTEN_TURN_MAX) {
        /* libuv stops polling the socket until this one is accepted. */
        ln->accept_due = true;
        return;
    }
    listener_accept(ln);
}

/* --- life --------------------------------------------------------------------------------- */

static void listener_handle_closed(uv_handle_t *h)
{
    struct listener *ln = h->data;
    ln->handle_closed = true;
    listener_maybe_free(ln);
}

/* Notes the bound address and the file made. */
static void listener_note_bound(struct listener *ln, int fd)
{
    ln->bound = ln->conf.addr;
    if (addr_is_unix(&ln->bound)) {
        struct stat st;
        if (listener_joins(ln)) {
            return; /* the file is the first one's */
        }
        if (stat(addr_unix_path(&ln->bound), &st) == 0) {
            ln->path_dev = st.st_dev;
            ln->path_ino = st.st_ino;
        }
        return;
    }
    ln->bound.sa_bytes = sizeof(ln->bound.sa);
    if (getsockname(fd, (struct sockaddr *)(void *)&ln->bound.sa, &ln->bound.sa_bytes) != 0) {
        ln->bound = ln->conf.addr;
    }
}

static RC listener_start(struct listener *ln, int fd, struct err *err)
{
    bool is_unix = addr_is_unix(&ln->conf.addr);
    int r = is_unix ? uv_pipe_init(loop_uv(ln->loop), &ln->uv.pipe, 0)
                    : uv_tcp_init(loop_uv(ln->loop), &ln->uv.tcp);
    ASSERT(r == 0); /* no socket is made yet: nothing can fail */
    ln->uv.handle.data = ln;
    r = is_unix ? uv_pipe_open(&ln->uv.pipe, fd) : uv_tcp_open(&ln->uv.tcp, fd);
    if (r != 0) {
        close(fd);
    } else {
        r = uv_listen(&ln->uv.stream, LISTEN_BACKLOG, listener_arrived);
    }
    if (r != 0) {
        char text[ADDR_TEXT_BYTES];
        listen_close(ln);
        return err_set(err, r == UV_EADDRINUSE ? RC_CONFLICT : RC_IO, "listen on %s: %s",
                       addr_format(&ln->conf.addr, text), uv_strerror(r));
    }
    return RC_OK;
}

static void listener_note_first(const struct listener *ln, int fd)
{
    struct listen_group *g = ln->conf.group;
    if (g != NULL && g->bound.sa_bytes == 0) {
        g->bound = ln->bound;
        g->fd = fd;
    }
}

RC listen_open(struct listener **out, struct loop *l, const struct listen_conf *conf,
               listen_accept_cb cb, void *ctx, struct err *err)
{
    ASSERT(conf->addr.sa_bytes > 0 && cb != NULL);
    struct listener *ln = mem_zalloc(sizeof(*ln));
    ln->loop = l;
    ln->conf = *conf;
    ln->conf.conns_max = conf->conns_max != 0 ? conf->conns_max : LISTEN_CONNS_MAX;
    ln->cb = cb;
    ln->ctx = ctx;
    loop_task_init(&ln->turn, listener_turn, ln);
    loop_task_init(&ln->reclaim, listener_free, ln);
    if (listener_joins(ln)) {
        ln->conf.addr = conf->group->bound;
    }
    int fd = -1;
    enum rc rc = socket_open(&fd, ln, err);
    if (rc != RC_OK) {
        mem_free(ln);
        return rc;
    }
    if (ln->conf.group != NULL) {
        atomic_fetch_add_explicit(&ln->conf.group->n_refs, 1, memory_order_relaxed);
    }
    pool_init(&ln->conns, conn_bytes(), ln->conf.conns_max);
    list_init(&ln->strangers);
    listener_note_bound(ln, fd);
    rc = listener_start(ln, fd, err);
    if (rc == RC_OK) {
        *out = ln;
        listener_note_first(ln, fd);
    }
    return rc;
}

void listen_close(struct listener *ln)
{
    if (ln == NULL || ln->closed) {
        return;
    }
    ln->closed = true;
    conn_close_strangers(&ln->strangers);
    struct stat st;
    const char *path = addr_unix_path(&ln->bound);
    if (addr_is_unix(&ln->bound) && lstat(path, &st) == 0 && st.st_dev == ln->path_dev &&
        st.st_ino == ln->path_ino) {
        (void)unlink(path);
    }
    loop_task_cancel(&ln->turn);
    uv_close(&ln->uv.handle, listener_handle_closed);
}

const struct addr *listen_addr(const struct listener *ln)
{
    return &ln->bound;
}

struct listen_stats listen_stats(const struct listener *ln)
{
    return ln->stats;
}
