/* shared.h: what the gateways of one process have in common, whichever loops they run on: limits,
 * lock-out, the ring of explanations, answers that are kept, what all requests together may hold,
 * the budget for retries, and how busy, how lively and how trusted (breaker) each upstream is.
 *
 * Counts are atomic, the parts behind pointers have a lock of their own inside: any thread. Exact:
 * what is refused at a maximum is counted in before it is looked at. Not here: what each loop finds
 * out for itself (connections and health, in backend.h). */
#ifndef GATEWAY_SHARED_H
#define GATEWAY_SHARED_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/str.h"
#include "gateway/answer.h"
#include "gateway/breaker.h"

/* Limits; a zero field of gw_shared_conf takes the default. */
enum {
    GW_HELD_BYTES_MAX = 512 << 20, /* bodies and whole replies of all requests: 503 */
    GW_WAITING_MAX = 256,          /* requests in line for a model server: 503 */
    GW_TURNS = 256,                /* counters of turns; a power of two */
};

struct gw_shared_conf {
    size_t held_bytes_max;
    uint32_t waiting_max;
    struct answers_conf answers;
};

/* One upstream as all loops see it together. */
struct gw_server {
    _Atomic uint32_t n_outstanding;    /* requests that hold it */
    atomic_bool closed;                /* its breaker */
    _Atomic uint64_t progress_ms;      /* when something last came from it, of loop_now_ms */
    _Atomic uint64_t suspect_until_ms; /* 0 = not suspect */
    /* private */
    struct list_node node;
    uint32_t n_refs; /* under the lock */
    char *name;
    pthread_mutex_t breaker_lock;
    struct breaker breaker;
};

struct gw_shared {
    struct limiter *limiter;
    struct lockout *lockout;
    struct explain *explain;
    struct answers *answers;
    /* private */
    atomic_uint n_refs;
    struct gw_shared_conf conf;
    _Atomic size_t held_bytes;
    _Atomic uint32_t n_waiting, n_requests;
    _Atomic uint32_t retry_budget;
    _Atomic uint32_t turns[GW_TURNS];
    pthread_mutex_t lock; /* of the list */
    struct list servers;
};

/* With one reference. */
void gw_shared_create(struct gw_shared **out, const struct gw_shared_conf *conf);
struct gw_shared *gw_shared_get(struct gw_shared *s);
/* The last one, who made it or the gateway whose last request is gone, frees it. NULL is allowed.
 */
void gw_shared_put(struct gw_shared *s);

/* Sets bytes aside; false: all requests together would hold too much. */
MUST_CHECK bool gw_shared_hold(struct gw_shared *s, size_t bytes);
/* A copy that was made with edits: whatever the maximum says. */
void gw_shared_hold_copy(struct gw_shared *s, size_t bytes);
/* Gives them back. */
void gw_shared_unhold(struct gw_shared *s, size_t bytes);
size_t gw_shared_held_bytes(const struct gw_shared *s);

/* A request stands in line for a server. `again`: it has stood there before, and is not refused;
 * else false at waiting_max. */
MUST_CHECK bool gw_shared_wait(struct gw_shared *s, bool again);
void gw_shared_wait_end(struct gw_shared *s);
uint32_t gw_shared_n_waiting(const struct gw_shared *s);

void gw_shared_request_begin(struct gw_shared *s);
void gw_shared_request_end(struct gw_shared *s);
uint32_t gw_shared_n_requests(const struct gw_shared *s);

/* Retries are at most one for GATEWAY_RETRY_COST requests, with GATEWAY_RETRIES_MAX in stock: takes
 * one; earns for a request; gives one back that was not made. */
MUST_CHECK bool gw_shared_retry_take(struct gw_shared *s);
void gw_shared_retry_earn(struct gw_shared *s);
void gw_shared_retry_give(struct gw_shared *s);

/* Counts the picks of one version of a model, which has the hash `id`; with many models some share
 * a counter, and then skip turns. */
uint32_t gw_shared_turn(struct gw_shared *s, uint64_t id);

/* The upstream of that name, with a reference; made when there is none. */
struct gw_server *gw_shared_server_get(struct gw_shared *s, struct str name);
void gw_shared_server_put(struct gw_shared *s, struct gw_server *server);

/* The breaker of an upstream: one for all loops, so that what one of them learns holds for all, and
 * half-open lets its trials through once. Closed, it is asked without a lock. */
enum breaker_state gw_server_look(struct gw_server *server, uint64_t now_ms);
MUST_CHECK bool gw_server_begin(struct gw_server *server, uint64_t now_ms);
/* True when it has closed or opened by this. */
bool gw_server_finish(struct gw_server *server, enum breaker_end how, uint64_t now_ms);
/* It begins anew. */
void gw_server_reset(struct gw_server *server);

#endif
