/* logprob.h: log-probabilities of a step, as the API reports them. */
#ifndef ENGINE_SAMPLE_LOGPROB_H
#define ENGINE_SAMPLE_LOGPROB_H

#include "engine/sample/sample.h"

/* ln Σ exp(logits[i]); logits of -inf count nothing. -inf when all are. */
double sample_logprob_norm(const float *logits, uint32_t n);
/* The n_top largest as log-probabilities, descending, lower id first among equals; entries of -inf
 * are left out. Returns how many there are. O(n log n_top). */
uint32_t sample_logprob_top(const float *logits, uint32_t n, double norm, uint32_t n_top,
                            struct sample_candidate *out);

#endif
