/* seq.c: allocates what a sequence needs for its longest form, once. */
#include "server/seq.h"

#include "base/assert.h"
#include "base/mem.h"

static enum rc seq_alloc(struct seq *q, bool guesses, struct err *err)
{
    struct sched_seq *s = &q->sched;
    q->tokens = mem_try_zalloc_array(s->n_tokens_max, sizeof(*q->tokens));
    s->page_ids = mem_try_zalloc_array(s->n_pages_max, sizeof(*s->page_ids));
    s->keys = mem_try_zalloc_array(s->n_pages_max, sizeof(*s->keys));
    q->guesses = guesses && draft_init(&q->draft, s->n_tokens_max);
    if (q->tokens == NULL || s->page_ids == NULL || s->keys == NULL || q->guesses != guesses) {
        return err_set(err, RC_NOMEM, "out of memory for a sequence of %u tokens", s->n_tokens_max);
    }
    s->tokens = q->tokens;
    return RC_OK;
}

static enum rc seq_fill(struct seq *q, const struct engine *engine, const struct seq_options *opt,
                        struct err *err)
{
    const struct job_params *p = &q->job->params;
    struct sched_seq *s = &q->sched;
    s->n_tokens = p->n_prompt;
    s->n_tokens_max = p->n_prompt + p->max_tokens;
    ASSERT(s->n_tokens_max <= engine_info(engine)->context_tokens);
    s->n_pages_max = (s->n_tokens_max + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    s->class = p->priority;
    s->root = prefix_root(opt->prefix, p->tenant);
    s->tenant = fair_get(opt->fair, p->tenant);
    enum rc rc = s->tenant != NULL ? seq_alloc(q, opt->guesses, err)
                                   : err_set(err, RC_NOMEM, "out of memory for a tenant");
    struct sample_params sample = p->sample;
    sample.stop_tokens = p->stop_tokens;
    sample.n_stop_tokens = p->n_stop_tokens;
    rc = rc == RC_OK ? sampler_create(&q->sampler, engine_vocab(engine), &sample, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    memcpy(q->tokens, p->prompt, p->n_prompt * sizeof(*q->tokens));
    for (uint32_t i = 0; i < p->n_prompt; i++) {
        sampler_see_prompt(q->sampler, p->prompt[i]);
    }
    return RC_OK;
}

enum rc seq_create(struct seq **out, struct job *job, const struct engine *engine,
                   const struct seq_options *opt, struct err *err)
{
    *out = NULL;
    struct seq *q = mem_try_zalloc(sizeof(*q));
    if (q == NULL) {
        return err_set(err, RC_NOMEM, "out of memory for a sequence");
    }
    q->job = job;
    emit_init(&q->emit, job, engine_vocab(engine));
    enum rc rc = seq_fill(q, engine, opt, err);
    if (rc != RC_OK) {
        seq_destroy(q, opt->fair);
        return rc;
    }
    *out = q;
    return RC_OK;
}

void seq_destroy(struct seq *q, struct fair *fair)
{
    if (q == NULL) {
        return;
    }
    ASSERT(!list_is_linked(&q->sched.node));
    if (q->sched.tenant != NULL) {
        fair_put(fair, q->sched.tenant);
    }
    emit_deinit(&q->emit);
    sampler_destroy(q->sampler);
    draft_deinit(&q->draft);
    mem_free(q->tokens);
    mem_free(q->sched.page_ids);
    mem_free(q->sched.keys);
    mem_free(q);
}

void seq_guess(struct seq *q)
{
    struct sched_seq *s = &q->sched;
    s->n_draft = 0;
    if (!q->guesses || !s->running || s->paused || s->n_tokens - s->n_cached != 1) {
        return;
    }
    /* The last token of an answer is never computed: nothing is behind it. */
    uint32_t n_max = MIN(s->n_tokens_max - s->n_tokens - 1, (uint32_t)SCHED_DRAFT_MAX);
    s->n_draft = draft_guess(&q->draft, q->tokens, s->n_tokens, q->tokens + s->n_tokens, n_max);
    s->draft_chance = draft_chance(&q->draft);
}
