/* seq.c: allocates what a sequence needs for its longest form, once. */
#include "server/seq.h"

#include "base/assert.h"
#include "base/mem.h"

static enum rc seq_fill(struct seq *q, const struct engine *engine, struct err *err)
{
    const struct job_params *p = &q->job->params;
    uint32_t n_tokens_max = p->n_prompt + p->max_tokens;
    ASSERT(n_tokens_max <= engine_info(engine)->context_tokens);
    uint32_t n_pages_max = (n_tokens_max + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    q->tokens = mem_try_zalloc_array(n_tokens_max, sizeof(*q->tokens));
    q->sched.page_ids = mem_try_zalloc_array(n_pages_max, sizeof(*q->sched.page_ids));
    q->sched.keys = mem_try_zalloc_array(n_pages_max, sizeof(*q->sched.keys));
    if (q->tokens == NULL || q->sched.page_ids == NULL || q->sched.keys == NULL) {
        return err_set(err, RC_NOMEM, "out of memory for a sequence of %u tokens", n_tokens_max);
    }
    q->sched.n_pages_max = n_pages_max;
    q->sched.n_tokens = p->n_prompt;
    q->sched.tokens = q->tokens;
    memcpy(q->tokens, p->prompt, p->n_prompt * sizeof(*q->tokens));
    enum rc rc = sampler_create(&q->sampler, engine_vocab(engine), &p->sample, err);
    if (rc != RC_OK) {
        return rc;
    }
    for (uint32_t i = 0; i < p->n_prompt; i++) {
        sampler_see_prompt(q->sampler, p->prompt[i]);
    }
    return RC_OK;
}

enum rc seq_create(struct seq **out, struct job *job, const struct engine *engine, struct err *err)
{
    *out = NULL;
    struct seq *q = mem_try_zalloc(sizeof(*q));
    if (q == NULL) {
        return err_set(err, RC_NOMEM, "out of memory for a sequence");
    }
    q->job = job;
    emit_init(&q->emit, job, engine_vocab(engine));
    enum rc rc = seq_fill(q, engine, err);
    if (rc != RC_OK) {
        seq_destroy(q);
        return rc;
    }
    *out = q;
    return RC_OK;
}

void seq_destroy(struct seq *q)
{
    if (q == NULL) {
        return;
    }
    ASSERT(!list_is_linked(&q->sched.node));
    emit_deinit(&q->emit);
    sampler_destroy(q->sampler);
    mem_free(q->tokens);
    mem_free(q->sched.page_ids);
    mem_free(q->sched.keys);
    mem_free(q);
}
