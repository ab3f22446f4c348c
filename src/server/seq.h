/* seq.h: one running timeline on the engine thread: its tokens, pages, sampler and output. */
#ifndef SERVER_SEQ_H
#define SERVER_SEQ_H

#include "engine/engine.h"
#include "server/draft.h"
#include "server/emit.h"
#include "server/sched.h"

struct seq {
    struct sched_seq sched;
    struct list_node live; /* in lane.live */
    struct job *job;
    int32_t *tokens; /* prompt and output, guesses behind; room for n_prompt + max_tokens */
    struct sampler *sampler;
    struct emit emit;
    struct draft draft;
    bool guesses; /* it has a draft */
    uint32_t n_output;
    uint64_t token_ns; /* when the last one was sampled */
};

struct seq_options {
    const struct prefix *prefix;
    struct fair *fair;
    bool guesses;
};

/* RC_NOMEM when memory is short; the job is untouched. */
RC seq_create(struct seq **out, struct job *job, const struct engine *engine,
              const struct seq_options *opt, struct err *err);
/* Not in a line of the scheduler any more. NULL is allowed. */
void seq_destroy(struct seq *q, struct fair *fair);

/* Guesses the next tokens, for the coming plan. */
void seq_guess(struct seq *q);

#endif
