/* batch.h: from the scheduler's plan to the engine's flat batch. Memory for the largest step is
 * allocated once; logits cost memory only where they were ever used. */
#ifndef SERVER_BATCH_H
#define SERVER_BATCH_H

#include "server/seq.h"

struct batch_limits {
    uint32_t rows_max, seqs_max, logits_max;
    uint32_t n_vocab;
};

struct batch {
    /* private */
    struct batch_limits limits;
    int32_t *tokens;
    uint32_t *positions, *seq_of, *logit_rows;
    struct kv_table *tables;
    float *logits;
    struct engine_batch engine_batch;
};

RC batch_init(struct batch *b, const struct batch_limits *limits, struct err *err);
/* May be called twice. */
void batch_deinit(struct batch *b);
/* Fills the batch from a plan; valid until the next fill. */
const struct engine_batch *batch_fill(struct batch *b, const struct sched_plan *plan);
/* After a forward: the logits of the idx-th row that wanted them, in the plan's order; a sequence
 * with guesses has 1 + n_draft. Scratch for the caller. */
float *batch_logits(const struct batch *b, uint32_t idx);

#endif
