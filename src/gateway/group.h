/* group.h: the front door on several loops: a gateway on each, at one address, under one set of
 * limits (shared.h) and one catalogue.
 *
 *   loop 0, the caller's: admin, signals, catalogue, certificates, issuers' keys ──relays──┐
 *     └ gateway 0                                                                          v
 *   loop 1…, each on a thread of its own: gateway, what it follows ──────────────────> snapshots
 *
 * A connection and its requests stay on the loop that accepted it. Functions are for the thread of
 * loop 0; before start and after its end every loop is that thread's. */
#ifndef GATEWAY_GROUP_H
#define GATEWAY_GROUP_H

#include "gateway/gateway.h"
#include "gateway/lease.h"
#include "gateway/shared.h"

enum { GATEWAY_LOOPS_MAX = 64 };

struct gateway_group_conf {
    /* Of each; tls and jwt are loop 0's, the others follow them; n_loops, address and shared are
     * filled in. */
    struct gateway_conf gateway;
    struct gw_shared_conf shared;
    struct lease_conf leases; /* redis NULL: limits are counted here alone; limiter is filled in */
    struct redis *answers;    /* where answers are kept; borrowed; NULL: in this process's memory */
    uint32_t n_loops;         /* 1 to GATEWAY_LOOPS_MAX; with loop 0 */
};

struct gateway_group; /* opaque */

/* As gateway_create. */
RC gateway_group_create(struct gateway_group **out, struct loop *first,
                        const struct gateway_group_conf *conf, struct catalog *catalog,
                        struct addr *bound, struct err *err);
/* The threads begin; after all else that loop 0 owns is set up, and before loop_run. */
RC gateway_group_start(struct gateway_group *g, struct err *err);
/* Ends the threads. Before what loops follow (certificates, keys, catalogue) is destroyed, and
 * before loop_destroy of loop 0. NULL is allowed. */
void gateway_group_destroy(struct gateway_group *g);

/* The gateway of loop 0: whoever asks it about more than its loop is answered for all. */
struct gateway *gateway_group_first(const struct gateway_group *g);
/* gateway_set_ready on each loop. */
void gateway_group_set_ready(struct gateway_group *g, bool ready);
/* gateway_drain on each loop; on_drained once, on loop 0, when the last has drained and what is
 * leased was given back. */
void gateway_group_drain(struct gateway_group *g, uint64_t max_ms, void (*on_drained)(void *ctx),
                         void *ctx);

#endif
