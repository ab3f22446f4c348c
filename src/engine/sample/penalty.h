/* penalty.h: penalties on tokens that were already there.
 *
 * Repetition (Keskar et al. 2019, as transformers applies it): positive logits are divided, the
 * others multiplied, once per token of prompt or output. Presence and frequency (OpenAI): counted
 * over the output alone. Cost per step: the number of different tokens seen. */
#ifndef ENGINE_SAMPLE_PENALTY_H
#define ENGINE_SAMPLE_PENALTY_H

#include "engine/sample/sample.h"

struct sample_penalty {
    /* private */
    uint32_t *counts; /* per token: times in the output, top bit: is in `seen`; NULL: all off */
    int32_t *seen;    /* different tokens, in order of appearance */
    uint32_t n_seen, n_vocab;
    float repetition, presence, frequency;
};

/* RC_NOMEM is the only failure. */
RC sample_penalty_init(struct sample_penalty *p, uint32_t n_vocab,
                       const struct sample_params *params, struct err *err);
/* May be called twice and on a zeroed struct. */
void sample_penalty_deinit(struct sample_penalty *p);

void sample_penalty_see_prompt(struct sample_penalty *p, int32_t token);
void sample_penalty_see_output(struct sample_penalty *p, int32_t token);
void sample_penalty_apply(const struct sample_penalty *p, float *logits);

#endif
