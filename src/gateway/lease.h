/* lease.h: limits that hold across gateways: each leases its part of every limit from a Redis
 * server that they share, ahead of need, and gives back what lies idle.
 *
 *   limit_reserve ──enough is idle here──> granted, nobody is asked
 *        │ LIMIT_ASK
 *        v
 *   lease_wait_start ──> one script for all who wait ──> granted, cut or refused; done on their
 * loop
 *
 * Redis holds what all have used (minutes drain there by its clock; days and months are UTC's) and
 * what each gateway has leased; a lease is given only if both fit under the limit. Usage is told
 * within LEASE_TELL_MS, each piece once, whatever gets lost.
 *
 * Bounds: used and set aside together never pass a limit (0 over, as limit.h says it for one
 * process). Per gateway and subject at most what it used within LEASE_KEEP_MS lies idle, an eighth
 * of what was left shared out among the gateways, nothing when less than a tenth of the limit is
 * left; unused it goes back within a second. A request that would be refused while others have
 * something idle is asked for again for LEASE_AGAIN_MS_MAX.
 * A gateway that dies: what it had leased and set aside comes back after LEASE_TTL_MS; what it had
 * used and not told (at most LEASE_TELL_MS, and its requests under way) is not counted.
 * Redis away (no answer within its command time): what is idle here is used for half of
 * LEASE_TTL_MS at most, then by policy: refused (503), or each gateway counts alone, with 1/n of
 * each limit. Redis emptied: each gateway tells what Redis had said last that all have used, so
 * that it knows again what it knew; only what dead gateways had told since any other asked is lost.
 * Nothing is leased for the first 15 % of LEASE_TTL_MS, so that all have told: requests wait so
 * long. Limits of upstreams, and of a model that is another one's fallback, are looked at by each
 * gateway alone.
 * Amounts above 2^53 are rounded by a part in 2^53.
 *
 * Threads: lease_wait_ functions on the door's loop, everything else on the keeper's. */
#ifndef GATEWAY_LEASE_H
#define GATEWAY_LEASE_H

#include "base/list.h"
#include "gateway/limit.h"
#include "stores/redis.h"

enum {
    LEASE_TICK_MS = 100, /* between looks at what is to be told, kept, given back */
    LEASE_TELL_MS = 200,
    LEASE_WINDOW_MS = 400, /* over which use is measured */
    LEASE_KEEP_MS = 800,   /* of use that is kept idle */
    LEASE_AGAIN_MS = 100,
    LEASE_AGAIN_MS_MAX = 1200,
    LEASE_BEAT_MS = 1000, /* Redis hears from a gateway that has leases at least so often */
    LEASE_TTL_MS = 10000, /* Redis forgets a gateway after so long; half of it is used here */
    LEASE_ID_BYTES = 33,
};

struct lease_keeper; /* opaque */
struct lease_door;   /* opaque: where the requests of one loop are answered */

struct lease_conf {
    struct redis *redis;     /* borrowed; has not begun to run */
    struct limiter *limiter; /* borrowed; from now on it leases */
    bool open;               /* Redis away: each counts alone; else refused */
    uint64_t n_gateways;     /* then its share is one of so many; 0 = 1 */
    uint64_t ttl_ms;         /* 0 = LEASE_TTL_MS */
    struct str store;        /* which usage table this process loads from: 1 to 32 bytes; copied */
};

/* Before requests come. Blocks for nothing. */
RC lease_keeper_create(struct lease_keeper **out, struct loop *l, const struct lease_conf *conf,
                       struct err *err);
/* Tells what was used and gives everything back; on_done once, at the latest after Redis's command
 * time. No request is under way any more. */
void lease_keeper_leave(struct lease_keeper *k, void (*on_done)(void *ctx), void *ctx);
/* Before the Redis client and the limiter, behind lease_door_close of every door. NULL is allowed.
 */
void lease_keeper_destroy(struct lease_keeper *k);

/* While neither loop runs, or on the door's. */
RC lease_door_open(struct lease_door **out, struct lease_keeper *k, struct loop *l,
                   struct err *err);
/* No wait is done any more; those at it may still be cancelled. NULL is allowed. */
void lease_door_close(struct lease_door *d);
/* A closed one, behind its last wait. NULL is allowed. */
void lease_door_destroy(struct lease_door *d);

/* Embedded, zeroed. */
struct lease_wait {
    /* private */
    struct list_node node;
    struct lease_door *door;
    const struct limit_subject *subjects;
    uint32_t n, n_asks;
    struct limit_ask ask;
    struct limit_ticket *ticket;
    struct limit_result *result;
    uint64_t until_ns, again_ns;
    bool waits, granted;
    void (*done)(void *ctx, bool granted);
    void *ctx;
};

/* After limit_reserve has said LIMIT_ASK. Subjects, ticket and result stay in place until done,
 * which comes later, exactly once, on the door's loop; *result as limit_reserve fills it. */
void lease_wait_start(struct lease_wait *w, struct lease_door *d,
                      const struct limit_subject *subjects, uint32_t n, const struct limit_ask *ask,
                      struct limit_ticket *t, struct limit_result *result);
/* Done is not called any more, what was granted is given back. Fine when nobody waits. */
void lease_wait_cancel(struct lease_wait *w);

#endif
