/* http_pool.c: connections of one upstream: which call gets which, who waits, what is kept.
 *
 * Newest first: the connection used last is the least likely to have been closed by the peer, and
 * the others can grow old and go.
 *
 * Invariants
 * 1. n_open counts `upstreams`, n_idle counts `idle`, n_waiting counts `waiting`.
 * 2. A call waits only while n_open has reached conns_max.
 * 3. The pool's memory lives until it is destroyed, n_open == 0 and n_calls == 0. */
#include "net/http_pool.h"

#include "base/assert.h"
#include "base/mem.h"
#include "net/http_upstream.h"

static void pool_free(void *ctx)
{
    mem_free(ctx);
}

static void pool_maybe_free(struct http_pool *p)
{
    if (p->destroyed && p->stats.n_open == 0 && p->n_calls == 0 &&
        !list_is_linked(&p->reclaim.node)) {
        loop_reclaim(p->loop, &p->reclaim);
    }
}

/* --- connections -------------------------------------------------------------------------- */

static void idle_leave(struct http_upstream *up)
{
    if (list_is_linked(&up->idle_node)) {
        list_remove(&up->idle_node);
        up->pool->stats.n_idle--;
        conn_deadline_clear(up->conn);
    }
}

static void upstream_close(struct http_upstream *up)
{
    idle_leave(up);
    up->closing = true;
    conn_close(up->conn, RC_OK);
}

static void upstream_free(struct http_upstream *up)
{
    http1_parse_destroy(up->parser);
    arena_deinit(&up->arena);
    mem_free(up);
}

static RC upstream_open(struct http_upstream **out, struct http_pool *p, struct err *err)
{
    struct http_upstream *up = mem_try_zalloc(sizeof(*up));
    if (up == NULL) {
        return err_set(err, RC_NOMEM, "upstream connection: out of memory");
    }
    up->pool = p;
    arena_init(&up->arena, HTTP_CLIENT_HEAD_ARENA_BYTES);
    enum rc rc = http1_parse_create(&up->parser, HTTP1_RESPONSE, &up->arena, err);
    if (rc == RC_OK) {
        struct conn_conf cc = {.connect_ms = p->conf.connect_ms};
        rc = conn_connect(&up->conn, p->loop, &p->conf.addr, &cc, &http_upstream_events, up, err);
    }
    if (rc != RC_OK) {
        upstream_free(up);
        return rc;
    }
    list_push_back(&p->upstreams, &up->node);
    p->stats.n_open++;
    p->stats.n_connects++;
    *out = up;
    return RC_OK;
}

void http_pool_assign(struct http_pool *p, struct http_call *call)
{
    ASSERT(call->up == NULL && !p->destroyed);
    struct http_upstream *up = NULL;
    bool fresh = call->retried;
    if (!fresh && !list_is_empty(&p->idle)) {
        up = LIST_ENTRY(p->idle.head.prev, struct http_upstream, idle_node);
        idle_leave(up);
        p->stats.n_reused++;
    } else if (p->stats.n_open < p->conf.conns_max) {
        if (upstream_open(&up, p, NULL) != RC_OK) {
            http_call_end_later(call, RC_UNAVAILABLE, "no descriptor or memory for a connection");
            return;
        }
    } else {
        if (!list_is_empty(&p->idle)) { /* kept ones are in the way of a fresh one */
            upstream_close(LIST_ENTRY(list_first(&p->idle), struct http_upstream, idle_node));
        }
        list_push_back(&p->waiting, &call->wait_node);
        p->stats.n_waiting++;
        return;
    }
    http_call_attach(call, up);
}

/* Gives connections to those in line, as far as they go. */
static void serve_waiting(struct http_pool *p)
{
    while (!p->destroyed && !list_is_empty(&p->waiting) &&
           (!list_is_empty(&p->idle) || p->stats.n_open < p->conf.conns_max)) {
        struct list_node *n = list_pop_front(&p->waiting);
        p->stats.n_waiting--;
        http_pool_assign(p, LIST_ENTRY(n, struct http_call, wait_node));
    }
}

void http_pool_release(struct http_upstream *up, bool keep)
{
    struct http_pool *p = up->pool;
    ASSERT(up->call == NULL);
    if (up->closing) {
        return;
    }
    if (!keep || p->destroyed) {
        upstream_close(up);
        return;
    }
    up->reused = true;
    http1_parse_next(up->parser, false);
    arena_reset(&up->arena);
    list_push_back(&p->idle, &up->idle_node);
    p->stats.n_idle++;
    conn_deadline_set(up->conn, p->conf.idle_ms);
    serve_waiting(p);
    if (p->stats.n_idle > p->conf.idle_max) {
        upstream_close(LIST_ENTRY(list_first(&p->idle), struct http_upstream, idle_node));
    }
}

void http_pool_upstream_closed(struct http_upstream *up)
{
    struct http_pool *p = up->pool;
    ASSERT(up->call == NULL && p->stats.n_open > 0);
    idle_leave(up);
    list_remove(&up->node);
    p->stats.n_open--;
    upstream_free(up);
    serve_waiting(p);
    pool_maybe_free(p);
}

void http_pool_call_ended(struct http_pool *p)
{
    ASSERT(p->n_calls > 0);
    p->n_calls--;
    pool_maybe_free(p);
}

/* --- life --------------------------------------------------------------------------------- */

static RC host_choose(struct http_pool *p, struct str host, struct err *err)
{
    if (host.len == 0) {
        char text[ADDR_TEXT_BYTES];
        bool is_unix = addr_is_unix(&p->conf.addr);
        host = str_from(is_unix ? "localhost" : addr_format(&p->conf.addr, text));
        (void)str_copy(p->host_text, sizeof(p->host_text), host);
    } else if (!http_value_valid(host) || !str_copy(p->host_text, sizeof(p->host_text), host)) {
        return err_set(err, RC_INVALID, "upstream: host of %zu bytes may not be sent", host.len);
    }
    p->conf.host = str_from(p->host_text);
    return RC_OK;
}

RC http_pool_create(struct http_pool **out, struct loop *l, const struct http_pool_conf *conf,
                    struct err *err)
{
    ASSERT(conf->addr.sa_bytes > 0);
    struct http_pool *p = mem_zalloc(sizeof(*p));
    p->loop = l;
    p->conf = *conf;
    enum rc rc = host_choose(p, conf->host, err);
    if (rc != RC_OK) {
        mem_free(p);
        return rc;
    }
    struct http_pool_conf *c = &p->conf;
    c->conns_max = c->conns_max != 0 ? c->conns_max : HTTP_POOL_CONNS_MAX;
    c->idle_max = c->idle_max != 0 ? c->idle_max : HTTP_POOL_IDLE_MAX;
    c->waiting_max = c->waiting_max != 0 ? c->waiting_max : HTTP_POOL_WAITING_MAX;
    c->idle_ms = c->idle_ms != 0 ? c->idle_ms : HTTP_POOL_IDLE_MS;
    c->connect_ms = c->connect_ms != 0 ? c->connect_ms : HTTP_POOL_CONNECT_MS;
    list_init(&p->upstreams);
    list_init(&p->idle);
    list_init(&p->calls);
    list_init(&p->waiting);
    loop_task_init(&p->reclaim, pool_free, p);
    *out = p;
    return RC_OK;
}

void http_pool_flush(struct http_pool *p)
{
    LIST_EACH(&p->idle, n)
    {
        upstream_close(LIST_ENTRY(n, struct http_upstream, idle_node));
    }
}

void http_pool_destroy(struct http_pool *p)
{
    if (p == NULL || p->destroyed) {
        return;
    }
    p->destroyed = true;
    LIST_EACH(&p->calls, n)
    {
        http_client_cancel(LIST_ENTRY(n, struct http_call, node));
    }
    LIST_EACH(&p->upstreams, n)
    {
        upstream_close(LIST_ENTRY(n, struct http_upstream, node));
    }
    pool_maybe_free(p);
}

struct http_pool_stats http_pool_stats(const struct http_pool *p)
{
    return p->stats;
}

const struct addr *http_pool_addr(const struct http_pool *p)
{
    return &p->conf.addr;
}
