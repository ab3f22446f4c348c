/* seq.h: one running timeline on the engine thread: its tokens, pages, sampler and output. */
#ifndef SERVER_SEQ_H
#define SERVER_SEQ_H

#include "engine/engine.h"
#include "server/emit.h"
#include "server/sched.h"

struct seq {
    struct sched_seq sched;
    struct list_node live; /* in step_model.live */
    struct job *job;
    int32_t *tokens; /* prompt and output; room for n_prompt + max_tokens */
    struct sampler *sampler;
    struct emit emit;
    uint32_t n_output;
};

/* RC_NOMEM when memory is short; the job is untouched. */
RC seq_create(struct seq **out, struct job *job, const struct engine *engine, struct err *err);
/* Not in a line of the scheduler any more. NULL is allowed. */
void seq_destroy(struct seq *q);

#endif
