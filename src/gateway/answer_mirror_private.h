/* answer_mirror_private.h: shared by answer_mirror.c and its parts: answer_wait.c (claims),
 * answer_tell.c (answers of ours), answer_follow.c (replicas).
 *
 * Invariants
 * 1. Lists are behind the store's lock; commands are sent without it, on the mirror's loop.
 * 2. An answer leaves `mine` and `followed`, and a wait `asked`, only there, and only while no
 *    command about it is under way: until then they hold it.
 * 3. Ends are sent before claims, claims before all else: a claim sees what ended here before. */
#ifndef GATEWAY_ANSWER_MIRROR_PRIVATE_H
#define GATEWAY_ANSWER_MIRROR_PRIVATE_H

#include "gateway/answer_mirror.h"
#include "gateway/answer_wire.h"
#include "net/loop.h"
#include "stores/redis.h"

struct answer_mirror {
    struct answers *store;
    struct loop *loop;
    struct redis *redis;
    struct loop_wake *wake;
    struct loop_timer tick;
    uint32_t script_claim, script_tell, script_read;
    bool heard;           /* whether Redis answers is known */
    struct list asking;   /* waits to be sent */
    struct list asked;    /* waits under way */
    struct list mine;     /* answers of ours that Redis does not know the end of */
    struct list untold;   /* of them: there is more to be told */
    struct list ended;    /* of them: … and it is the end */
    struct list followed; /* replicas */
    uint32_t n_followed;
    uint32_t n_writes, n_reads; /* under way */
    uint64_t leave_ms;
    void (*on_left)(void *ctx); /* leaving */
    void *on_left_ctx;
};

struct answer_wait {
    struct list_node node; /* asking, asked, or its hub's waits */
    struct answers *store;
    struct answer_hub *hub;
    struct answer_marks marks;
    uint64_t tag; /* of the answer, if it becomes ours */
    uint64_t until_ms;
    bool lost;           /* it was asked, and may have been granted */
    bool under_way;      /* it is on `asked` */
    answer_wait_cb done; /* NULL: nobody waits any more */
    void *ctx;
    enum answer_claim how;
    struct answer *answer; /* held */
    uint64_t from;
};

static inline uint64_t answer_mirror_now_ms(const struct answer_mirror *m)
{
    return clock_mono_ms(loop_clock(m->loop));
}
/* On any thread, under the lock: there is something to do. */
void answer_mirror_wake_locked(struct answer_mirror *m);
/* On the mirror's loop, without the lock: sends what may be sent. */
void answer_mirror_pump(struct answer_mirror *m);
/* A script was refused: logged. */
void answer_mirror_refused(const struct redis_reply *reply);

/* All below on the mirror's loop, under the lock, which they let go of while they send. */
void answer_wait_send_locked(struct answer_mirror *m);
/* Ends those for whom Redis has been away too long: `now_away`, all that were never sent. */
void answer_wait_sweep_locked(struct answer_mirror *m, bool now_away);
void answer_tell_send_locked(struct answer_mirror *m, struct list *from);
void answer_tell_sweep_locked(struct answer_mirror *m);
/* Follows what another gateway writes. NULL: out of memory. */
struct answer *answer_follow_locked(struct answer_mirror *m, const struct answer_marks *marks,
                                    const struct answer_claimed *found);
void answer_follow_send_locked(struct answer_mirror *m);
void answer_follow_sweep_locked(struct answer_mirror *m);
/* Nothing is under way any more, whatever was: forgets all. */
void answer_wait_stop(struct answer_mirror *m);
void answer_tell_stop(struct answer_mirror *m);
void answer_follow_stop(struct answer_mirror *m);

#endif
