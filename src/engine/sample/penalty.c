/* penalty.c: counts of tokens seen, and what they cost. */
#include "engine/sample/penalty.h"

#include "base/assert.h"
#include "base/mem.h"

#define PENALTY_SEEN 0x80000000u

RC sample_penalty_init(struct sample_penalty *p, uint32_t n_vocab,
                       const struct sample_params *params, struct err *err)
{
    *p = (struct sample_penalty){
        .n_vocab = n_vocab,
        .repetition = params->repetition_penalty,
        .presence = params->presence_penalty,
        .frequency = params->frequency_penalty,
    };
    if (p->repetition == 1.0f && p->presence == 0.0f && p->frequency == 0.0f) {
        return RC_OK;
    }
    p->counts = mem_try_zalloc_array(n_vocab, sizeof(p->counts[0]));
    p->seen = mem_try_zalloc_array(n_vocab, sizeof(p->seen[0]));
    if (p->counts == NULL || p->seen == NULL) {
        sample_penalty_deinit(p);
        return err_set(err, RC_NOMEM, "no memory to count %u tokens", n_vocab);
    }
    return RC_OK;
}

void sample_penalty_deinit(struct sample_penalty *p)
{
    mem_free(p->counts);
    mem_free(p->seen);
    *p = (struct sample_penalty){0};
}

static void see(struct sample_penalty *p, int32_t token, uint32_t times)
{
    if (p->counts == NULL) {
        return;
    }
    ASSERT(token >= 0 && (uint32_t)token < p->n_vocab);
    if ((p->counts[token] & PENALTY_SEEN) == 0) {
        p->counts[token] = PENALTY_SEEN;
        p->seen[p->n_seen++] = token;
    }
    p->counts[token] += times;
}

void sample_penalty_see_prompt(struct sample_penalty *p, int32_t token)
{
    see(p, token, 0);
}

void sample_penalty_see_output(struct sample_penalty *p, int32_t token)
{
    see(p, token, 1);
}

void sample_penalty_apply(const struct sample_penalty *p, float *logits)
{
    for (uint32_t i = 0; i < p->n_seen; i++) {
        float *x = &logits[p->seen[i]];
        uint32_t n = p->counts[p->seen[i]] & ~PENALTY_SEEN;
        *x = *x > 0 ? *x / p->repetition : *x * p->repetition;
        *x -= p->frequency * (float)n + (n > 0 ? p->presence : 0.0f);
    }
}
