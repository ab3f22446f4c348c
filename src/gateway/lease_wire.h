/* lease_wire.h: what is said to Redis about leases, and what it answers. Pure, behind the limiter's
 * lock. Not here: when (lease.c). */
#ifndef GATEWAY_LEASE_WIRE_H
#define GATEWAY_LEASE_WIRE_H

#include "gateway/limit_private.h"
#include "stores/redis_reply.h"

enum {
    LEASE_BATCH_MAX = 64, /* subjects of one script: about 2 ms of Redis's time */
    LEASE_KEY_BYTES = LIMIT_NAME_BYTES + 12,
    LEASE_UNIT_NUMBERS = 6, /* limit, used, back, reserved, want, extra */
    LEASE_SEEDS = 2,        /* used of the day and the month, as the usage table had it */
    LEASE_HEARD = 7,        /* struct limit_heard */
    LEASE_NUMBERS = 1 + LIMIT_UNITS * LEASE_UNIT_NUMBERS + LEASE_SEEDS + LEASE_HEARD,
    LEASE_REPLY_HEAD = 2,
    LEASE_REPLY_NUMBERS = LIMIT_UNITS * 3 + LEASE_HEARD, /* of one subject */
};

extern const char lease_script[];

/* One subject's part, as the script unpacks it: native int64_t. */
struct lease_packed {
    char key[LEASE_KEY_BYTES];
    int64_t numbers[LEASE_NUMBERS];
};

/* Marks what is told as sent. `leave`: nothing is kept. away: the last answer is long ago. */
struct lease_pack_how {
    struct limit_time now;
    bool leave, away;
};
void lease_pack(struct limit_leases *s, const struct lease_pack_how *how, struct lease_packed *out);
/* What is worth keeping idle. */
__int128 lease_keep(const struct limit_lease *lease);
/* Whether the script's reply has the right shape for n subjects. */
bool lease_reply_ok(const struct redis_reply *reply, uint32_t n);
/* Whether Redis still knew this gateway. */
bool lease_reply_knows(const struct redis_reply *reply);
/* Whether Redis holds its leases back still: all data is new. */
bool lease_reply_is_young(const struct redis_reply *reply);
/* Takes what was granted to the idx-th subject, and what was heard of it. */
void lease_unpack(struct limit_leases *s, const struct redis_reply *reply, uint32_t idx,
                  struct limit_time now);

#endif
