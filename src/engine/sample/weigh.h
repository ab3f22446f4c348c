/* weigh.h: the softmax's weights over a whole vocabulary, and a draw among them.
 *
 * The weight of a logit is e^((logit - max) / temperature): 1 for the largest, 0 for -inf and NaN
 * and for whatever lies below e^-87. max is finite and no logit is above it; temperature > 0. The
 * same logits give the same sums and draws on every machine. */
#ifndef ENGINE_SAMPLE_WEIGH_H
#define ENGINE_SAMPLE_WEIGH_H

#include "base/compiler.h"

struct sample_weighing {
    const float *logits; /* borrowed */
    uint32_t n;
    float max, temperature;
};

/* All weights summed. Relative error below 1e-5. */
double sample_weigh(const struct sample_weighing *w);
/* The token whose weight takes the sum of weights above `left`, by ascending id. Where `left` is
 * all there is, by rounding: the last that had a chance. `left` is at least 0. */
int32_t sample_weigh_find(const struct sample_weighing *w, double left);

#endif
