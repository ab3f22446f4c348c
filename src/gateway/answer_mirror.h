/* answer_mirror.h: kept answers (answer.h) across gateways, in a Redis server that they share.
 *
 *   answers_claim: not here ──ANSWER_ASK──> answer_wait: one script ──> nobody's: ours (CLAIMED)
 *                                              │                  └──> another's body: 409
 *   ours: what is written here is told to Redis v    ┌────────────────> FOUND: a replica
 *   (answer_tell.c), with a beat each second   somebody's: its blocks are fetched, and
 *                                              fetched again while it runs (answer_follow.c)
 *
 * The writer's memory stays as it is without Redis: its clients read from there, and so does who
 * asks this gateway again. Redis has the same blocks, sealed as they are here: names, seals and
 * marks come from answers_conf.secret, which all gateways of a store have. Redis can cut an answer
 * short or lose it, but not read or change it.
 *
 * Bounds: a gateway has no more in Redis than it may hold itself (answers_conf.bytes_max), and an
 * answer no more than answer_bytes_max: past it its oldest blocks go, without waiting for readers
 * elsewhere. What is there is forgotten ANSWER_KEEP_MS behind its last word.
 *
 * A gateway that dies: what it had finished is read and replayed elsewhere. What it was writing
 * ends with ANSWER_INTERRUPTED once no beat came for ANSWER_DEAD_MS, half of which somebody has to
 * see: Redis may have stood still itself. Its name then begins anew.
 *
 * Redis away: a key that is not known here gets ANSWER_AWAY (after ANSWER_CLAIM_MS at the latest),
 * before it costs anything; what is known here is given on, what is being written goes on and is
 * told when Redis is back, all of it if that has forgotten; what is being followed waits for that
 * for ANSWER_DEAD_MS. A random name (bud-resume alone) needs
 * nobody's leave. A claim whose reply is lost is asked again under the same tag, which is its own.
 * A key may begin anew while the first request for it still runs only if its gateway cannot reach
 * Redis for ANSWER_DEAD_MS, the second half of them while another can, or if Redis has lost its
 * data.
 *
 * Threads: everything here on the loop of the Redis client, except what answer.h says. */
#ifndef GATEWAY_ANSWER_MIRROR_H
#define GATEWAY_ANSWER_MIRROR_H

#include "gateway/answer.h"

enum {
    ANSWER_TICK_MS = 50,   /* between looks at what is to be told and at what others write */
    ANSWER_BEATS = 5,      /* in ANSWER_DEAD_MS: Redis hears of what is written at least so often */
    ANSWER_AGAIN_MS = 200, /* before what was refused is told again */
    ANSWER_LEAVE_MS = 1000, /* the last ends may take so long to be told */
    ANSWER_WRITES_MAX = 16, /* commands under way, each of … */
    ANSWER_WRITE_BYTES = 256 << 10,
    ANSWER_WRITE_BLOCKS = 256,        /* … at most these, … */
    ANSWER_BLOCK_BYTES_MAX = 1 << 20, /* … or one block; a larger one counts as gone over cap */
    ANSWER_READS_MAX = 8,
};

struct redis;
struct answer_mirror; /* opaque */

/* Both are borrowed; Redis has not begun to run. From now on the store's answers are told to it and
 * asked of it. */
RC answer_mirror_create(struct answer_mirror **out, struct answers *st, struct loop *l,
                        struct redis *redis, struct err *err);
/* Every end that is not told yet is; on_done once, later or in this call, whatever becomes of it.
 * No new answer begins. */
void answer_mirror_leave(struct answer_mirror *m, void (*on_done)(void *ctx), void *ctx);
/* Before the Redis client, behind the last use of the hubs' claims. NULL is allowed. */
void answer_mirror_destroy(struct answer_mirror *m);

#endif
