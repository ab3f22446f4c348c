/* batch.c: see batch.h. */
#include "server/batch.h"

#include "base/assert.h"
#include "base/mem.h"

enum rc batch_init(struct batch *b, uint32_t rows_max, uint32_t seqs_max, uint32_t n_vocab,
                   struct err *err)
{
    *b = (struct batch){.rows_max = rows_max, .seqs_max = seqs_max, .n_vocab = n_vocab};
    b->tokens = mem_zalloc_array(rows_max, sizeof(*b->tokens));
    b->positions = mem_zalloc_array(rows_max, sizeof(*b->positions));
    b->seq_of = mem_zalloc_array(rows_max, sizeof(*b->seq_of));
    b->logit_rows = mem_zalloc_array(seqs_max, sizeof(*b->logit_rows));
    b->tables = mem_zalloc_array(seqs_max, sizeof(*b->tables));
    b->logit_seqs = mem_zalloc_array(seqs_max, sizeof(*b->logit_seqs));
    b->logits = mem_try_zalloc_array((size_t)seqs_max * n_vocab, sizeof(*b->logits));
    if (b->logits == NULL) {
        batch_deinit(b);
        return err_set(err, RC_NOMEM, "no memory for the logits of %u sequences", seqs_max);
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
    mem_free(b->logit_seqs);
    mem_free(b->logits);
    *b = (struct batch){0};
}

const struct engine_batch *batch_fill(struct batch *b, const struct sched_row *rows, uint32_t n)
{
    ASSERT(n <= b->seqs_max);
    uint32_t n_tokens = 0;
    uint32_t n_logits = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct seq *q = CONTAINER_OF(rows[i].seq, struct seq, sched);
        ASSERT(n_tokens + rows[i].n_rows <= b->rows_max);
        for (uint32_t r = 0; r < rows[i].n_rows; r++) {
            uint32_t position = q->sched.n_cached + r;
            b->tokens[n_tokens] = q->tokens[position];
            b->positions[n_tokens] = position;
            b->seq_of[n_tokens] = i;
            n_tokens++;
        }
        b->tables[i] = (struct kv_table){q->sched.page_ids, q->sched.n_pages};
        if (rows[i].wants_logits) {
            b->logit_seqs[n_logits] = q;
            b->logit_rows[n_logits++] = n_tokens - 1;
        }
    }
    b->engine_batch = (struct engine_batch){
        .n_tokens = n_tokens,
        .tokens = b->tokens,
        .positions = b->positions,
        .seq_of = b->seq_of,
        .n_seqs = n,
        .seqs = b->tables,
        .n_logit_rows = n_logits,
        .logit_rows = b->logit_rows,
        .logits = b->logits,
    };
    return &b->engine_batch;
}

uint32_t batch_n_results(const struct batch *b)
{
    return b->engine_batch.n_logit_rows;
}

struct seq *batch_result(const struct batch *b, uint32_t idx, float **logits)
{
    ASSERT(idx < b->engine_batch.n_logit_rows);
    *logits = b->logits + (size_t)idx * b->n_vocab;
    return b->logit_seqs[idx];
}
