/* batch.h: from the scheduler's plan to the engine's flat batch. Memory for the largest step is
 * allocated once. */
#ifndef SERVER_BATCH_H
#define SERVER_BATCH_H

#include "server/seq.h"

struct batch {
    /* private */
    uint32_t rows_max, seqs_max, n_vocab;
    int32_t *tokens;
    uint32_t *positions, *seq_of, *logit_rows;
    struct kv_table *tables;
    struct seq **logit_seqs;
    float *logits;
    struct engine_batch engine_batch;
};

RC batch_init(struct batch *b, uint32_t rows_max, uint32_t seqs_max, uint32_t n_vocab,
              struct err *err);
/* May be called twice. */
void batch_deinit(struct batch *b);
/* Fills the batch from n planned rows; valid until the next fill. */
const struct engine_batch *batch_fill(struct batch *b, const struct sched_row *rows, uint32_t n);
/* After a forward: the sequences whose logits were asked for, in row order. */
uint32_t batch_n_results(const struct batch *b);
struct seq *batch_result(const struct batch *b, uint32_t idx, float **logits);

#endif
