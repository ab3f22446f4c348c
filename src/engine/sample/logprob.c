/* logprob.c: the softmax's normaliser and its best entries. */
#include "engine/sample/logprob.h"

#include <math.h>

#include "engine/sample/select.h"
#include "engine/sample/weigh.h"

double sample_logprob_norm(const float *logits, uint32_t n)
{
    float max = sample_max(logits, n);
    if (!isfinite(max)) {
        return (double)max;
    }
    double sum = sample_weigh(&(struct sample_weighing){logits, n, max, 1});
    return (double)max + log(sum);
}

uint32_t sample_logprob_top(const float *logits, uint32_t n, double norm, uint32_t n_top,
                            struct sample_candidate *out)
{
    struct sample_entry best[SAMPLE_TOP_LOGPROBS_MAX];
    n_top = sample_top_k(logits, n, MIN(n_top, (uint32_t)SAMPLE_TOP_LOGPROBS_MAX), best);
    for (uint32_t i = 0; i < n_top; i++) {
        out[i] = (struct sample_candidate){
            .token = best[i].token,
            .logprob = (float)((double)best[i].logit - norm),
        };
    }
    return n_top;
}
