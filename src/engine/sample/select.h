/* select.h: the best entries of a row of logits without sorting all of it.
 *
 * Order everywhere: higher logit first, lower token id among equals. -inf and NaN are never
 * selected. */
#ifndef ENGINE_SAMPLE_SELECT_H
#define ENGINE_SAMPLE_SELECT_H

#include "base/compiler.h"

struct sample_entry {
    float logit;
    int32_t token;
};

/* The largest logit; -inf when there is none. */
float sample_max(const float *logits, uint32_t n);
/* The token of the largest logit, the lowest of equals; 0 when all are -inf. */
int32_t sample_argmax(const float *logits, uint32_t n);
/* The k best, best first, into out[k]; returns how many there are. O(n log k). */
uint32_t sample_top_k(const float *logits, uint32_t n, uint32_t k, struct sample_entry *out);
/* All entries >= floor, best first, into out[n]; returns how many. O(n + m log m) for m of them. */
uint32_t sample_above(const float *logits, uint32_t n, float floor, struct sample_entry *out);

#endif
