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
#include "net/tls_keep.h"

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

/* What could not be reached makes way for the next address, once. */
static void upstream_missed(const struct http_upstream *up)
{
    struct http_pool *p = up->pool;
    if (!up->open && !up->closing && up->addr_idx == p->addr_idx && p->n_addrs > 1) {
        p->addr_idx = (p->addr_idx + 1) % p->n_addrs;
    }
}

static void upstream_close(struct http_upstream *up)
{
    idle_leave(up);
    upstream_missed(up);
    up->closing = true;
    conn_close(up->conn, RC_OK);
}

static void upstream_free(struct http_upstream *up)
{
    http1_parse_destroy(up->parser);
    arena_deinit(&up->arena);
    mem_free(up);
}

static RC upstream_connect(struct http_upstream *up, struct err *err)
{
    struct http_pool *p = up->pool;
    struct conn_conf cc = {.connect_ms = p->conf.connect_ms, .tls_host = p->conf.tls_host};
    if (p->n_addrs == 0) {
        return err_set(err, RC_UNAVAILABLE, "the upstream's name is not resolved yet");
    }
    if (p->conf.tls != NULL && (cc.tls = tls_keep_now(p->conf.tls)) == NULL) {
        return err_set(err, RC_UNAVAILABLE, "TLS to the upstream is not set up");
    }
    up->addr_idx = p->addr_idx;
    return conn_connect(&up->conn, p->loop, &p->addrs[p->addr_idx], &cc, &http_upstream_events, up,
                        err);
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
        rc = upstream_connect(up, err);
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
            http_call_end_later(call, RC_UNAVAILABLE,
                                "a connection to the upstream cannot be made");
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
    upstream_missed(up);
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
        ASSERT(p->conf.addr.sa_bytes > 0);
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
    struct http_pool *p = mem_zalloc(sizeof(*p));
    p->loop = l;
    p->conf = *conf;
    p->addrs[0] = conf->addr;
    p->n_addrs = conf->addr.sa_bytes > 0 ? 1 : 0;
    enum rc rc = host_choose(p, conf->host, err);
    if (rc == RC_OK && !str_copy(p->tls_host_text, sizeof(p->tls_host_text), conf->tls_host)) {
        rc = err_set(err, RC_INVALID, "upstream: TLS name of %zu bytes", conf->tls_host.len);
    }
    p->conf.tls_host = str_from(p->tls_host_text);
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

void http_pool_set_addrs(struct http_pool *p, const struct addr *addrs, uint32_t n)
{
    ASSERT(n > 0 && n <= HTTP_POOL_ADDRS_MAX);
    struct addr was = p->addrs[p->addr_idx];
    bool had = p->n_addrs > 0;
    memcpy(p->addrs, addrs, n * sizeof(*addrs));
    p->n_addrs = n;
    p->addr_idx = 0;
    for (uint32_t i = 0; had && i < n; i++) {
        if (addr_eq(&addrs[i], &was)) {
            p->addr_idx = i;
            return;
        }
    }
    http_pool_flush(p);
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
    return &p->addrs[p->addr_idx];
}
