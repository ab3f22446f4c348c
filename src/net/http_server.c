/* http_server.c: the server around the sessions: listeners, caps, drain, end.
 *
 * The server's memory lives until its last session is gone, since sessions keep their statistics
 * and pool here. Invariant: stats.n_conns_open == length of `sessions`. */
#include "net/http_server.h"

#include "base/assert.h"
#include "base/mem.h"
#include "net/http1.h"
#include "net/http2.h"

static void server_free(void *ctx)
{
    struct http_server *s = ctx;
    pool_deinit(&s->pool);
    buf_deinit(&s->scratch);
    mem_free(s);
}

static void server_drained(void *ctx)
{
    struct http_server *s = ctx;
    void (*cb)(void *) = s->on_drained;
    s->on_drained = NULL;
    if (cb != NULL) {
        cb(s->drained_ctx);
    }
}

/* What follows from the last session's end. */
static void server_check(struct http_server *s)
{
    if (s->stats.n_conns_open > 0) {
        return;
    }
    if (s->destroyed) {
        loop_task_cancel(&s->drained_task);
        loop_reclaim(s->loop, &s->reclaim);
    } else if (s->draining) {
        loop_timer_stop(&s->drain_timer);
        loop_defer(s->loop, &s->drained_task);
    }
}

void http_server_session_add(struct http_server *s, struct http_session_link *link)
{
    list_push_back(&s->sessions, &link->node);
    s->stats.n_conns_open++;
}

void http_server_session_gone(struct http_server *s, struct http_session_link *link)
{
    ASSERT(s->stats.n_conns_open > 0);
    list_remove(&link->node);
    s->stats.n_conns_open--;
    server_check(s);
}

struct str http_server_date(struct http_server *s)
{
    int64_t now = clock_wall_s(loop_clock(s->loop));
    if (now != s->date_s || s->date[0] == '\0') {
        s->date_s = now;
        http_date_format(s->date, now);
    }
    return str_make(s->date, HTTP_DATE_BYTES - 1);
}

static void server_accepted(void *ctx, struct conn *c)
{
    if (conn_is_http2(c)) {
        http2_session_start(ctx, c);
    } else {
        http1_session_start(ctx, c);
    }
}

static void listeners_close(struct http_server *s)
{
    for (uint32_t i = 0; i < s->n_listeners; i++) {
        struct listen_stats ls = listen_stats(s->listeners[i]);
        s->stats.n_conns_accepted += ls.n_accepted;
        s->stats.n_conns_refused += ls.n_refused_cap + ls.n_refused_peer;
        listen_close(s->listeners[i]);
    }
    s->n_listeners = 0;
}

static void sessions_close(struct http_server *s)
{
    LIST_EACH(&s->sessions, n)
    {
        conn_close(LIST_ENTRY(n, struct http_session_link, node)->conn, RC_CANCELLED);
    }
}

static void drain_expired(void *ctx)
{
    sessions_close(ctx);
}

RC http_server_create(struct http_server **out, struct loop *l, const struct http_server_conf *conf,
                      struct err *err)
{
    ASSERT(conf->handler != NULL);
    UNUSED(err);
    struct http_server *s = mem_zalloc(sizeof(*s));
    s->loop = l;
    s->conf = *conf;
    struct http_server_conf *c = &s->conf;
    c->header_ms = c->header_ms != 0 ? c->header_ms : HTTP_SERVER_HEADER_MS;
    c->body_ms = c->body_ms != 0 ? c->body_ms : HTTP_SERVER_BODY_MS;
    c->body_total_ms = c->body_total_ms != 0 ? c->body_total_ms : HTTP_SERVER_BODY_TOTAL_MS;
    c->total_ms = c->total_ms != 0 ? c->total_ms : HTTP_SERVER_TOTAL_MS;
    c->idle_ms = c->idle_ms != 0 ? c->idle_ms : HTTP_SERVER_IDLE_MS;
    c->arena_bytes_max = c->arena_bytes_max != 0 ? c->arena_bytes_max : HTTP_SERVER_ARENA_BYTES_MAX;
    c->conns_max = c->conns_max != 0 ? c->conns_max : HTTP_SERVER_CONNS_MAX;
    c->error_type = c->error_type.len > 0 ? c->error_type : STR_LIT("text/plain");
    ASSERT(http_value_valid(c->error_type));
    pool_init(&s->pool, sizeof(struct http1_session), c->conns_max);
    list_init(&s->sessions);
    buf_init(&s->scratch, HTTP_HEAD_BYTES_MAX);
    loop_timer_init(&s->drain_timer, l, drain_expired, s);
    loop_task_init(&s->drained_task, server_drained, s);
    loop_task_init(&s->reclaim, server_free, s);
    *out = s;
    return RC_OK;
}

RC http_server_listen(struct http_server *s, const struct listen_conf *conf, struct addr *bound,
                      struct err *err)
{
    ASSERT(!s->draining && !s->destroyed);
    if (s->n_listeners == HTTP_SERVER_LISTENERS_MAX) {
        return err_set(err, RC_OVERLOADED, "more than %d listeners", HTTP_SERVER_LISTENERS_MAX);
    }
    struct listener *ln;
    struct listen_conf lc = *conf;
    lc.conns_max = lc.conns_max != 0 ? lc.conns_max : s->conf.conns_max;
    enum rc rc = listen_open(&ln, s->loop, &lc, server_accepted, s, err);
    if (rc != RC_OK) {
        return rc;
    }
    s->listeners[s->n_listeners++] = ln;
    if (bound != NULL) {
        *bound = *listen_addr(ln);
    }
    return RC_OK;
}

void http_server_drain(struct http_server *s, uint64_t max_ms, void (*on_drained)(void *ctx),
                       void *ctx)
{
    ASSERT(!s->draining && !s->destroyed);
    s->draining = true;
    s->on_drained = on_drained;
    s->drained_ctx = ctx;
    listeners_close(s);
    LIST_EACH(&s->sessions, n)
    {
        struct http_session_link *link = LIST_ENTRY(n, struct http_session_link, node);
        link->on_drain(link);
    }
    loop_timer_start(&s->drain_timer, max_ms);
    server_check(s);
}

void http_server_destroy(struct http_server *s)
{
    if (s == NULL || s->destroyed) {
        return;
    }
    s->destroyed = true;
    s->on_drained = NULL;
    loop_timer_stop(&s->drain_timer);
    listeners_close(s);
    sessions_close(s);
    server_check(s);
}

struct http_server_stats http_server_stats(const struct http_server *s)
{
    struct http_server_stats st = s->stats;
    for (uint32_t i = 0; i < s->n_listeners; i++) {
        struct listen_stats ls = listen_stats(s->listeners[i]);
        st.n_conns_accepted += ls.n_accepted;
        st.n_conns_refused += ls.n_refused_cap + ls.n_refused_peer;
    }
    return st;
}
