/* admit.h: whether a request may join the line: its predicted time to the first token.
 *
 * Pure, beside sched.h. What is ahead of a new sequence: shorter prompts that are being read and
 * the turns of longer ones, prompts that wait at its level or a better one (of other tenants only
 * as much as its own tenant has, since turns are fair), and places that must become free first. */
#ifndef SERVER_ADMIT_H
#define SERVER_ADMIT_H

#include "base/err.h"
#include "server/sched.h"

struct admit_limits {
    uint64_t budget_ns;      /* of a step */
    uint64_t waiting_ns_max; /* predicted; longer waits are refused */
    uint64_t now_ns;         /* monotonic, as the deadline */
    uint64_t deadline_ns;    /* of the request; 0 = none */
    const struct fair *fair;
};

/* Nanoseconds until the first token of a sequence that would be submitted now. O(sequences). */
double admit_predict_ns(const struct sched *s, struct sched_seq *seq,
                        const struct admit_limits *limits);
/* RC_BUSY, with a time to come back in err->retry_ms, when it would wait too long or miss its
 * deadline; RC_TIMEOUT when that has passed already. */
RC admit_check(const struct sched *s, struct sched_seq *seq, const struct admit_limits *limits,
               struct err *err);
/* RC_BUSY for a line that is full. */
enum rc admit_refuse_full(const struct sched *s, struct sched_seq *seq,
                          const struct admit_limits *limits, struct err *err);

#endif
