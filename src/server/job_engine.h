/* job_engine.h: the engine thread's end of a job (see job.h); private to step.c, seq.c, emit.c. */
#ifndef SERVER_JOB_ENGINE_H
#define SERVER_JOB_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/ring.h"
#include "server/job.h"

/* Two of these: the engine fills one while the reader looks at the other. */
struct job_side {
    struct buf text;
    struct job_token *tokens;
    uint32_t n_tokens, n_room;
};

struct job {
    struct job_params params; /* its pointers are the job's own copies */
    void *reader;
    void *model;            /* the step_model that it runs on; set at submit */
    _Atomic bool cancelled; /* set by the reader, read by the engine each step */

    pthread_mutex_t lock; /* guards the rest */
    struct job_side sides[2];
    unsigned filling; /* index of the engine's side */
    uint32_t n_output, n_cached;
    enum job_finish finish;
    bool queued; /* stands in the ring of updates */
    bool paused; /* too much was pending at the last put; cleared by the take */
    struct err err;
    uint64_t first_token_ns;
};

/* New text and token records of one sampled token; `updates` is told unless it was already. */
struct job_news {
    struct str text;
    const struct job_token *tokens;
    uint32_t n_tokens;
    uint32_t n_sampled; /* 0 or 1 */
    uint64_t now_ns;
};

/* Engine thread: how much of the prompt need not be computed; before the first news. */
void job_set_cached(struct job *j, uint32_t n_tokens);
/* Reader, through step_take: moves what is new out. True when the sequence has paused for it. */
bool job_take(struct job *j, struct job_update *out);
/* Engine thread. False when the reader is behind: pause the sequence. */
bool job_put(struct job *j, const struct job_news *news, struct ring *updates);
/* Engine thread; the job is the reader's afterwards and must not be touched. */
void job_finish(struct job *j, enum job_finish finish, const struct err *err, struct ring *updates);
/* Engine thread: whether a paused reader has caught up. */
bool job_has_caught_up(struct job *j);

#endif
