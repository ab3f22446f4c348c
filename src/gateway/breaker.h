/* breaker.h: whether a server is worth a try, learned from how its last requests went.
 *
 *             half of at least BREAKER_CALLS_MIN calls in the window failed,
 *             or BREAKER_RUN_MAX one after the other
 *      CLOSED ───────────────────────────────────────────────> OPEN <──────────┐
 *        ^                                                      │ open_ms over  │ one failed: open
 *        │ BREAKER_TRIALS trial calls went well                 v               │ twice as long
 *        └───────────────────────────────────────────────── HALF_OPEN ──────────┘
 *
 * A failure is the server's (its row in base/err.h says so): not a client's hang-up, not a 429, not
 * a bad request. Pure: time comes in as an argument. */
#ifndef GATEWAY_BREAKER_H
#define GATEWAY_BREAKER_H

#include "base/compiler.h"

enum {
    BREAKER_CALLS_MIN = 20,
    BREAKER_RUN_MAX = 5,
    BREAKER_TRIALS = 3,
    BREAKER_SLOTS = 6, /* the window is six slots of 10 s */
    BREAKER_SLOT_MS = 10000,
    BREAKER_OPEN_MS = 10000,
    BREAKER_OPEN_MS_MAX = 120000,
};

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

struct breaker {
    /* private */
    enum breaker_state state;
    uint64_t slot; /* number of the newest slot */
    uint32_t n_ok[BREAKER_SLOTS], n_failed[BREAKER_SLOTS];
    uint32_t run;                /* failures since the last success */
    uint32_t n_trials, n_passed; /* half-open: under way, gone well */
    uint64_t open_until_ms, open_ms;
};

void breaker_init(struct breaker *b);
enum breaker_state breaker_look(const struct breaker *b, uint64_t now_ms);
/* Whether another call may be made now; when it may, it was counted as begun. */
MUST_CHECK bool breaker_begin(struct breaker *b, uint64_t now_ms);
/* How a call that was begun went. */
enum breaker_end { BREAKER_OK, BREAKER_FAILED, BREAKER_SAYS_NOTHING };
void breaker_finish(struct breaker *b, enum breaker_end how, uint64_t now_ms);

#endif
