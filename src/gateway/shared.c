/* shared.c: see shared.h. Counts order nothing else: relaxed. */
#include "gateway/shared.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "gateway/explain.h"
#include "gateway/gateway.h"
#include "gateway/limit.h"
#include "gateway/lockout.h"

static uint64_t shared_seed(void)
{
    uint64_t seed;
    crypto_random(&seed, sizeof(seed));
    return seed;
}

void gw_shared_create(struct gw_shared **out, const struct gw_shared_conf *conf)
{
    struct gw_shared *s = mem_zalloc(sizeof(*s));
    atomic_init(&s->n_refs, 1);
    s->conf.held_bytes_max =
        conf->held_bytes_max != 0 ? conf->held_bytes_max : (size_t)GW_HELD_BYTES_MAX;
    s->conf.waiting_max = conf->waiting_max != 0 ? conf->waiting_max : GW_WAITING_MAX;
    pthread_mutex_init(&s->lock, NULL);
    list_init(&s->servers);
    atomic_init(&s->retry_budget, GATEWAY_RETRY_COST * GATEWAY_RETRIES_MAX);
    limiter_create(&s->limiter, shared_seed());
    lockout_create(&s->lockout, shared_seed());
    explain_create(&s->explain);
    struct answers_conf answers = conf->answers;
    answers.clock = answers.clock != NULL ? answers.clock : clock_system();
    answers_create(&s->answers, &answers);
    *out = s;
}

struct gw_shared *gw_shared_get(struct gw_shared *s)
{
    atomic_fetch_add_explicit(&s->n_refs, 1, memory_order_relaxed);
    return s;
}

void gw_shared_put(struct gw_shared *s)
{
    if (s == NULL || atomic_fetch_sub_explicit(&s->n_refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    ASSERT(gw_shared_held_bytes(s) == 0);
    ASSERT(gw_shared_n_waiting(s) == 0 && gw_shared_n_requests(s) == 0);
    ASSERT(list_is_empty(&s->servers));
    pthread_mutex_destroy(&s->lock);
    limiter_destroy(s->limiter);
    lockout_destroy(s->lockout);
    explain_destroy(s->explain);
    answers_destroy(s->answers);
    mem_free(s);
}

/* ---- memory ---- */

bool gw_shared_hold(struct gw_shared *s, size_t bytes)
{
    size_t before = atomic_fetch_add_explicit(&s->held_bytes, bytes, memory_order_relaxed);
    if (bytes <= s->conf.held_bytes_max - MIN(before, s->conf.held_bytes_max)) {
        return true;
    }
    gw_shared_unhold(s, bytes);
    return false;
}

void gw_shared_hold_copy(struct gw_shared *s, size_t bytes)
{
    atomic_fetch_add_explicit(&s->held_bytes, bytes, memory_order_relaxed);
}

void gw_shared_unhold(struct gw_shared *s, size_t bytes)
{
    size_t before = atomic_fetch_sub_explicit(&s->held_bytes, bytes, memory_order_relaxed);
    ASSERT(before >= bytes);
}

size_t gw_shared_held_bytes(const struct gw_shared *s)
{
    return atomic_load_explicit(&s->held_bytes, memory_order_relaxed);
}

/* ---- the line ---- */

bool gw_shared_wait(struct gw_shared *s, bool again)
{
    uint32_t before = atomic_fetch_add_explicit(&s->n_waiting, 1, memory_order_relaxed);
    if (again || before < s->conf.waiting_max) {
        return true;
    }
    gw_shared_wait_end(s);
    return false;
}

void gw_shared_wait_end(struct gw_shared *s)
{
    uint32_t before = atomic_fetch_sub_explicit(&s->n_waiting, 1, memory_order_relaxed);
    ASSERT(before > 0);
}

uint32_t gw_shared_n_waiting(const struct gw_shared *s)
{
    return atomic_load_explicit(&s->n_waiting, memory_order_relaxed);
}

/* ---- requests ---- */

void gw_shared_request_begin(struct gw_shared *s)
{
    atomic_fetch_add_explicit(&s->n_requests, 1, memory_order_relaxed);
}

void gw_shared_request_end(struct gw_shared *s)
{
    uint32_t before = atomic_fetch_sub_explicit(&s->n_requests, 1, memory_order_relaxed);
    ASSERT(before > 0);
}

uint32_t gw_shared_n_requests(const struct gw_shared *s)
{
    return atomic_load_explicit(&s->n_requests, memory_order_relaxed);
}

/* ---- retries ---- */

bool gw_shared_retry_take(struct gw_shared *s)
{
    uint32_t n = atomic_load_explicit(&s->retry_budget, memory_order_relaxed);
    while (n >= GATEWAY_RETRY_COST) {
        if (atomic_compare_exchange_weak_explicit(&s->retry_budget, &n, n - GATEWAY_RETRY_COST,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

/* With a full stock, the usual case, nothing is written. */
static void shared_retry_add(struct gw_shared *s, uint32_t more)
{
    const uint32_t most = GATEWAY_RETRY_COST * GATEWAY_RETRIES_MAX;
    uint32_t n = atomic_load_explicit(&s->retry_budget, memory_order_relaxed);
    while (n < most &&
           !atomic_compare_exchange_weak_explicit(&s->retry_budget, &n, MIN(n + more, most),
                                                  memory_order_relaxed, memory_order_relaxed)) {}
}

void gw_shared_retry_earn(struct gw_shared *s)
{
    shared_retry_add(s, 1);
}

void gw_shared_retry_give(struct gw_shared *s)
{
    shared_retry_add(s, GATEWAY_RETRY_COST);
}

/* ---- upstreams ---- */

uint32_t gw_shared_turn(struct gw_shared *s, uint64_t id)
{
    return atomic_fetch_add_explicit(&s->turns[id % GW_TURNS], 1, memory_order_relaxed);
}

struct gw_server *gw_shared_server_get(struct gw_shared *s, struct str name)
{
    struct gw_server *found = NULL;
    pthread_mutex_lock(&s->lock);
    LIST_EACH(&s->servers, n)
    {
        struct gw_server *one = LIST_ENTRY(n, struct gw_server, node);
        found = str_is(name, one->name) ? one : found;
    }
    if (found == NULL) {
        found = mem_zalloc(sizeof(*found));
        found->name = mem_zalloc(name.len + 1);
        str_copy(found->name, name.len + 1, name);
        pthread_mutex_init(&found->breaker_lock, NULL);
        breaker_init(&found->breaker);
        atomic_init(&found->closed, true);
        list_push_back(&s->servers, &found->node);
    }
    found->n_refs++;
    pthread_mutex_unlock(&s->lock);
    return found;
}

void gw_shared_server_put(struct gw_shared *s, struct gw_server *server)
{
    pthread_mutex_lock(&s->lock);
    bool last = --server->n_refs == 0;
    if (last) {
        list_remove(&server->node);
    }
    pthread_mutex_unlock(&s->lock);
    if (last) {
        pthread_mutex_destroy(&server->breaker_lock);
        mem_free(server->name);
        mem_free(server);
    }
}

/* ---- their breakers ---- */

/* A loop that does not see yet that it has opened makes one call more. */
static bool server_is_closed(const struct gw_server *server)
{
    return atomic_load_explicit(&server->closed, memory_order_relaxed);
}

/* The lock is held. True when that is news. */
static bool server_note(struct gw_server *server)
{
    bool closed = server->breaker.state == BREAKER_CLOSED;
    bool news = closed != server_is_closed(server);
    if (news) {
        atomic_store_explicit(&server->closed, closed, memory_order_relaxed);
    }
    return news;
}

enum breaker_state gw_server_look(struct gw_server *server, uint64_t now_ms)
{
    if (server_is_closed(server)) {
        return BREAKER_CLOSED;
    }
    pthread_mutex_lock(&server->breaker_lock);
    enum breaker_state state = breaker_look(&server->breaker, now_ms);
    pthread_mutex_unlock(&server->breaker_lock);
    return state;
}

bool gw_server_begin(struct gw_server *server, uint64_t now_ms)
{
    if (server_is_closed(server)) {
        return true; /* as breaker_begin, which counts nothing then */
    }
    pthread_mutex_lock(&server->breaker_lock);
    bool may = breaker_begin(&server->breaker, now_ms);
    pthread_mutex_unlock(&server->breaker_lock);
    return may;
}

bool gw_server_finish(struct gw_server *server, enum breaker_end how, uint64_t now_ms)
{
    pthread_mutex_lock(&server->breaker_lock);
    breaker_finish(&server->breaker, how, now_ms);
    bool news = server_note(server);
    pthread_mutex_unlock(&server->breaker_lock);
    return news;
}

void gw_server_reset(struct gw_server *server)
{
    pthread_mutex_lock(&server->breaker_lock);
    breaker_init(&server->breaker);
    (void)server_note(server);
    pthread_mutex_unlock(&server->breaker_lock);
}
