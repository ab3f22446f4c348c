/* batch.c: see batch.h. */
#include "server/batch.h"

#include "base/assert.h"
#include "base/checked.h"
#include "base/mem.h"

enum rc batch_init(struct batch *b, const struct batch_limits *limits, struct err *err)
{
    *b = (struct batch){.limits = *limits};
    b->tokens = mem_zalloc_array(limits->rows_max, sizeof(*b->tokens));
    b->positions = mem_zalloc_array(limits->rows_max, sizeof(*b->positions));
    b->seq_of = mem_zalloc_array(limits->rows_max, sizeof(*b->seq_of));
    b->logit_rows = mem_zalloc_array(limits->logits_max, sizeof(*b->logit_rows));
    b->tables = mem_zalloc_array(limits->seqs_max, sizeof(*b->tables));
    size_t bytes;
    if (!checked_mul((size_t)limits->logits_max * sizeof(*b->logits), limits->n_vocab, &bytes) ||
        (b->logits = mem_try_pages(bytes)) == NULL) {
        batch_deinit(b);
        return err_set(err, RC_NOMEM, "no memory for the logits of %u rows", limits->logits_max);
    }
    return RC_OK;
}

void batch_deinit(struct batch *b)
{
    mem_free(b->tokens);
    mem_free(b->positions);
    mem_free(b->seq_of);
    mem_free(b->logit_rows);
    mem_free(b->tables);
    mem_free_pages(b->logits);
    *b = (struct batch){0};
}

static void batch_add(struct batch *b, const struct sched_row *row)
{
    struct engine_batch *e = &b->engine_batch;
    const struct sched_seq *seq = row->seq;
    ASSERT(e->n_seqs < b->limits.seqs_max);
    ASSERT(e->n_tokens + row->n_rows <= b->limits.rows_max);
    for (uint32_t r = 0; r < row->n_rows; r++) {
        uint32_t position = seq->n_cached + r;
        b->tokens[e->n_tokens] = seq->tokens[position];
        b->positions[e->n_tokens] = position;
        b->seq_of[e->n_tokens] = e->n_seqs;
        e->n_tokens++;
    }
    b->tables[e->n_seqs++] = (struct kv_table){seq->page_ids, seq->n_pages};
    uint32_t n_logits = row->wants_logits ? 1 + row->n_draft : 0;
    ASSERT(e->n_logit_rows + n_logits <= b->limits.logits_max);
    for (uint32_t r = n_logits; r > 0; r--) {
        b->logit_rows[e->n_logit_rows++] = e->n_tokens - r;
    }
}

const struct engine_batch *batch_fill(struct batch *b, const struct sched_plan *plan)
{
    b->engine_batch = (struct engine_batch){
        .tokens = b->tokens,
        .positions = b->positions,
        .seq_of = b->seq_of,
        .seqs = b->tables,
        .logit_rows = b->logit_rows,
        .logits = b->logits,
    };
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        batch_add(b, &plan->rows[i]);
    }
    return &b->engine_batch;
}

float *batch_logits(const struct batch *b, uint32_t idx)
{
    ASSERT(idx < b->engine_batch.n_logit_rows);
    return b->logits + (size_t)idx * b->limits.n_vocab;
}
