/* backend.c: see backend.h. */
#include "gateway/backend.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "net/resolve.h"
#include "net/tls_keep.h"
#include "obs/log.h"
#include "obs/metric.h"

static void backend_set_ready(struct backend *b, bool ready)
{
    bool was = b->ready;
    b->ready = ready;
    if (was == ready) {
        return;
    }
    log_event(ready ? LOG_UPSTREAM_WELL : LOG_UPSTREAM_AWAY, log_cstr("upstream", b->name));
    if (!ready) {
        http_pool_flush(b->pool);
    } else {
        gw_server_reset(b->server);
        b->owner->on_well(b->owner->ctx);
    }
}

/* ---- health checks ---- */

static void backend_probe_head(void *ctx, const struct http_head *head)
{
    struct backend *b = ctx;
    b->probe_good = b->wants_200 ? head->status == 200 : head->status < 500;
}

static void backend_probe_body(void *ctx, struct str bytes)
{
    UNUSED(ctx);
    UNUSED(bytes);
}

static void backend_probe_end(void *ctx, const struct http_call_result *result)
{
    struct backend *b = ctx;
    b->probe = NULL;
    if (b->gone) {
        return;
    }
    if (result->rc == RC_OK && b->probe_good) {
        b->n_misses = 0;
        backend_set_ready(b, true);
    } else if (++b->n_misses >= BACKEND_MISSES_MAX) {
        backend_set_ready(b, false);
        b->owner->on_away(b->owner->ctx, b);
    }
}

static void backend_on_probe_timer(void *ctx)
{
    static const struct http_client_events events = {
        .on_head = backend_probe_head,
        .on_body = backend_probe_body,
        .on_end = backend_probe_end,
    };
    struct backend *b = ctx;
    const struct http_header auth = {STR_LIT("authorization"), str_from(b->auth)};
    struct http_client_conf conf = {
        .method = HTTP_METHOD_GET,
        .target = str_from(b->probe_target),
        .headers = &auth,
        .n_headers = b->auth[0] != '\0' ? 1 : 0,
        .replayable = true,
        .first_byte_ms = BACKEND_PROBE_WAIT_MS,
        .idle_ms = BACKEND_PROBE_WAIT_MS,
    };
    b->probe_good = false;
    if (b->probe == NULL &&
        http_client_start(&b->probe, b->pool, &conf, &events, b, NULL) != RC_OK) {
        b->probe = NULL;
    }
    loop_timer_start(&b->probe_timer, BACKEND_PROBE_MS);
}

/* ---- its name and its certificates ---- */

_Static_assert((int)RESOLVE_ADDRS_MAX == (int)HTTP_POOL_ADDRS_MAX, "every address has room");

static void backend_prepare(struct backend *b)
{
    bool can = b->resolved && (b->tls == NULL || tls_keep_now(b->tls) != NULL);
    if (can && !b->prepared && !b->gone) {
        b->prepared = true;
        backend_set_ready(b, true);
        loop_timer_start(&b->probe_timer, b->probe_after_ms);
    }
}

static void backend_on_tls(void *ctx)
{
    struct backend *b = ctx;
    http_pool_flush(b->pool); /* what follows shows the new certificate */
    backend_prepare(b);
}

static void backend_on_address(void *ctx, const struct addr *addrs, uint32_t n)
{
    struct backend *b = ctx;
    http_pool_set_addrs(b->pool, addrs, n);
    b->resolved = true;
    backend_prepare(b);
}

/* Of all that a backend is made from, but its name, address, URL and key. */
static uint64_t backend_shape(const struct cat_upstream *u)
{
    const struct str *pins = u->tls_pins.at;
    const struct str texts[] = {u->tls_ca, u->tls_cert, u->tls_key, u->tls_name, u->health_path};
    const uint64_t numbers[] = {u->kind, u->connections_max, u->connect_ms};
    uint64_t shape = hash_str(str_make((const char *)numbers, sizeof(numbers)));
    for (size_t i = 0; i < ARRAY_LEN(texts) + u->tls_pins.n; i++) {
        struct str text = i < ARRAY_LEN(texts) ? texts[i] : pins[i - ARRAY_LEN(texts)];
        const uint64_t pair[] = {shape, hash_str(text)};
        shape = hash_str(str_make((const char *)pair, sizeof(pair)));
    }
    return shape;
}

/* At least one: with fewer connections than loops there is one of each. */
static uint32_t backend_conns_max(const struct backend *b, const struct cat_upstream *u)
{
    uint32_t all = u->connections_max != 0 ? (uint32_t)u->connections_max : HTTP_POOL_CONNS_MAX;
    return MAX(all / b->owner->n_loops, 1u);
}

static enum rc backend_open(struct backend *b, const struct cat_upstream *u, struct err *err)
{
    struct loop *l = b->owner->loop;
    struct tls_keep_conf tls = {.tls = {.cert = u->tls_cert,
                                        .key = u->tls_key,
                                        .ca = u->tls_ca,
                                        .pins = u->tls_pins.at,
                                        .n_pins = u->tls_pins.n},
                                .later = true,
                                .on_load = backend_on_tls,
                                .ctx = b};
    enum rc rc = u->tls ? tls_keep_create(&b->tls, l, &tls, err) : RC_OK;
    if (rc == RC_OK && u->where.len > 0) {
        rc = resolve_start(&b->resolve, l, u->where, backend_on_address, b, err);
    }
    struct http_pool_conf pool = {.addr = u->addr,
                                  .host = u->host,
                                  .tls = b->tls,
                                  .tls_host = u->tls_name,
                                  .conns_max = backend_conns_max(b, u),
                                  .connect_ms = u->connect_ms};
    rc = rc == RC_OK ? http_pool_create(&b->pool, l, &pool, err) : rc;
    if (rc != RC_OK) {
        resolve_stop(b->resolve);
        tls_keep_destroy(b->tls);
    }
    return rc;
}

/* ---- life ---- */

static void backend_free(struct backend *b)
{
    ASSERT(b->gone && b->outstanding == 0);
    list_remove(&b->node);
    loop_timer_stop(&b->probe_timer);
    http_pool_destroy(b->pool);
    resolve_stop(b->resolve);
    tls_keep_destroy(b->tls);
    gw_shared_server_put(b->owner->shared, b->server);
    /* A probe under way still ends in this turn; memory goes back behind it. */
    mem_wipe(b->auth, sizeof(b->auth));
    loop_task_init(&b->reclaim, mem_free, b);
    loop_reclaim(b->owner->loop, &b->reclaim);
}

static void backend_let_go(struct backend *b)
{
    b->gone = true;
    loop_timer_stop(&b->probe_timer);
    if (b->outstanding == 0) {
        backend_free(b);
    }
}

static enum rc backend_make(struct backends *all, const struct cat_upstream *u, struct err *err)
{
    struct backend *b = mem_zalloc(sizeof(*b));
    b->owner = all;
    b->id = hash_str(u->name);
    b->server = gw_shared_server_get(all->shared, u->name);
    b->addr = u->addr;
    b->local = str_is(u->name, CAT_LOCAL);
    b->shape = backend_shape(u);
    b->resolved = u->where.len == 0;
    b->prepared = b->resolved && !u->tls;
    b->ready = b->local ? all->local_ready : b->prepared;
    b->wants_200 = u->kind == CAT_BUD;
    str_copy(b->name, sizeof(b->name), u->name);
    str_copy(b->url, sizeof(b->url), u->url);
    struct str path = u->health_path.len > 0 ? u->health_path
                      : b->wants_200         ? STR_LIT("/readyz")
                                             : STR_LIT("/v1/models");
    snprintf(b->probe_target, sizeof(b->probe_target), "%.*s%.*s", STR(u->base), STR(path));
    if (u->key.len > 0) {
        snprintf(b->auth, sizeof(b->auth), "Bearer %.*s", STR(u->key));
    }
    gw_server_reset(b->server); /* another one had the name, if any */
    list_init(&b->requests);
    loop_timer_init(&b->probe_timer, all->loop, backend_on_probe_timer, b);
    enum rc rc = backend_open(b, u, err);
    if (rc != RC_OK) {
        gw_shared_server_put(all->shared, b->server);
        mem_free(b);
        return err_context(err, "upstream %.*s", STR(u->name));
    }
    b->probe_after_ms = all->n_made++ / BACKEND_PROBES * BACKEND_PROBES_MS % BACKEND_PROBE_MS;
    list_push_back(&all->all, &b->node);
    if (!b->local && b->prepared) {
        loop_timer_start(&b->probe_timer, b->probe_after_ms);
    }
    return RC_OK;
}

/* Whether a backend still serves an upstream: what it was made from is the same. */
static bool backend_serves(const struct backend *b, const struct cat_upstream *u)
{
    struct str auth = str_from(b->auth);
    struct str key = auth.len > 0 ? str_slice(auth, 7, auth.len) : auth;
    return str_is(u->url, b->url) && backend_shape(u) == b->shape &&
           u->addr.sa_bytes == b->addr.sa_bytes &&
           memcmp(&u->addr.sa, &b->addr.sa, b->addr.sa_bytes) == 0 && str_eq(u->key, key);
}

struct backend *gw_backends_find(const struct backends *b, struct str name)
{
    LIST_EACH(&b->all, n)
    {
        struct backend *one = LIST_ENTRY(n, struct backend, node);
        if (!one->gone && str_is(name, one->name)) {
            return one;
        }
    }
    return NULL;
}

enum rc gw_backends_sync(struct backends *b, const struct cat *cat, struct err *err)
{
    const struct cat_upstream *upstreams = cat->set.upstreams.at;
    LIST_EACH(&b->all, n)
    {
        struct backend *one = LIST_ENTRY(n, struct backend, node);
        const struct cat_upstream *u = map_get(&cat->upstreams, str_from(one->name));
        if (!one->gone && (u == NULL || !backend_serves(one, u))) {
            backend_let_go(one);
        }
    }
    enum rc rc = RC_OK;
    for (uint32_t i = 0; rc == RC_OK && i < cat->set.upstreams.n; i++) {
        if (gw_backends_find(b, upstreams[i].name) == NULL) {
            rc = backend_make(b, &upstreams[i], err);
        }
    }
    return rc;
}

void gw_backends_init(struct backends *b, struct loop *l, struct gw_shared *shared,
                      uint32_t n_loops)
{
    *b = (struct backends){.loop = l, .shared = shared, .n_loops = n_loops};
    list_init(&b->all);
}

void gw_backends_deinit(struct backends *b)
{
    LIST_EACH(&b->all, n)
    {
        struct backend *one = LIST_ENTRY(n, struct backend, node);
        one->gone = true;
        /* Their requests are gone with the gateway. */
        atomic_fetch_sub_explicit(&one->server->n_outstanding, one->outstanding,
                                  memory_order_relaxed);
        one->outstanding = 0;
        backend_free(one);
    }
}

void gw_backends_set_local(struct backends *b, bool ready)
{
    b->local_ready = ready;
    struct backend *local = gw_backends_find(b, STR_LIT(CAT_LOCAL));
    if (local != NULL) {
        backend_set_ready(local, ready);
    }
}

bool gw_backends_any_ready(const struct backends *b)
{
    LIST_EACH(&b->all, n)
    {
        const struct backend *one = LIST_ENTRY(n, struct backend, node);
        if (one->ready && !one->gone) {
            return true;
        }
    }
    return false;
}

/* ---- calls ---- */

enum breaker_state gw_backend_breaker(const struct backend *b)
{
    return gw_server_look(b->server, loop_now_ms(b->owner->loop));
}

static uint64_t backend_load(const _Atomic uint64_t *ms)
{
    return atomic_load_explicit(ms, memory_order_relaxed);
}

/* A cache line that other loops read is written only when that says something new. */
static void backend_store(_Atomic uint64_t *ms, uint64_t now_ms)
{
    if (backend_load(ms) != now_ms) {
        atomic_store_explicit(ms, now_ms, memory_order_relaxed);
    }
}

bool gw_backend_begin(struct backend *b)
{
    if (!b->ready || b->gone || !gw_server_begin(b->server, loop_now_ms(b->owner->loop))) {
        return false;
    }
    b->outstanding++;
    if (atomic_fetch_add_explicit(&b->server->n_outstanding, 1, memory_order_relaxed) == 0) {
        backend_store(&b->server->progress_ms, loop_now_ms(b->owner->loop));
    }
    return true;
}

void gw_backend_progress(struct backend *b)
{
    backend_store(&b->server->progress_ms, loop_now_ms(b->owner->loop));
    if (backend_load(&b->server->suspect_until_ms) != 0 &&
        atomic_exchange_explicit(&b->server->suspect_until_ms, 0, memory_order_relaxed) != 0) {
        log_event(LOG_UPSTREAM_WELL, log_cstr("upstream", b->name));
        b->owner->on_well(b->owner->ctx);
    }
}

void gw_backend_is_due(struct backend *b)
{
    uint64_t now_ms = loop_now_ms(b->owner->loop);
    if (!gw_backend_is_silent(b)) {
        return;
    }
    if (atomic_exchange_explicit(&b->server->suspect_until_ms, now_ms + BACKEND_SUSPECT_MS,
                                 memory_order_relaxed) == 0) {
        metric_add(metric_get(METRIC_UPSTREAM_SUSPECTS), 1);
        log_event(LOG_UPSTREAM_SUSPECT, log_cstr("upstream", b->name),
                  log_u64("silent_ms", now_ms - backend_load(&b->server->progress_ms)));
    }
}

bool gw_backend_is_suspect(const struct backend *b)
{
    return loop_now_ms(b->owner->loop) < backend_load(&b->server->suspect_until_ms);
}

bool gw_backend_is_silent(const struct backend *b)
{
    uint64_t progress_ms = backend_load(&b->server->progress_ms); /* maybe of a faster loop */
    return loop_now_ms(b->owner->loop) >= progress_ms + BACKEND_DUE_MS;
}

uint32_t gw_backend_outstanding(const struct backend *b)
{
    return atomic_load_explicit(&b->server->n_outstanding, memory_order_relaxed);
}

void gw_backend_finish(struct backend *b, enum breaker_end how)
{
    uint64_t now = loop_now_ms(b->owner->loop);
    ASSERT(b->outstanding > 0);
    b->outstanding--;
    atomic_fetch_sub_explicit(&b->server->n_outstanding, 1, memory_order_relaxed);
    /* Its name may be another server's by now. */
    bool news = gw_server_finish(b->server, b->gone ? BREAKER_SAYS_NOTHING : how, now);
    if (how == BREAKER_OK) {
        gw_backend_progress(b);
    }
    if (news) {
        bool closed = gw_backend_breaker(b) == BREAKER_CLOSED;
        log_event(closed ? LOG_BREAKER_CLOSED : LOG_BREAKER_OPEN, log_cstr("upstream", b->name));
    }
    if (b->gone && b->outstanding == 0) {
        backend_free(b);
    }
}
