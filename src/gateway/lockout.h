/* lockout.h: addresses from which too many wrong keys have come.
 *
 * LOCKOUT_TRIES at once, then one each LOCKOUT_REFILL_MS; who goes on is refused until that much
 * has come back. Addresses of this machine are exempt: a proxy in front would lock out everybody.
 * IPv6 counts by /64. A table of fixed size: when it is full, the place of another address is
 * taken, so that a flood of addresses can free one, never lock one out. Pure; any thread. */
#ifndef GATEWAY_LOCKOUT_H
#define GATEWAY_LOCKOUT_H

#include "net/addr.h"

enum {
    LOCKOUT_TRIES = 20,
    LOCKOUT_REFILL_MS = 3000,
    LOCKOUT_SLOTS = 4096, /* a power of two */
};

struct lockout;

void lockout_create(struct lockout **out, uint64_t seed);
/* NULL is allowed. */
void lockout_destroy(struct lockout *l);
/* A wrong key came from there. */
void lockout_note(struct lockout *l, const struct addr *peer, uint64_t now_ms);
/* How long it is locked out from now; 0 = it is not. */
uint64_t lockout_wait_ms(struct lockout *l, const struct addr *peer, uint64_t now_ms);

#endif
