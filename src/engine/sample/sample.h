/* sample.h: from logits to a token.
 *
 * Order: repetition, presence and frequency penalties → logit bias → min-tokens ban of end tokens
 * → log-probabilities reported → temperature → top-k → top-p → min-p → draw. Temperature 0 is
 * greedy (lowest id wins a tie). Same seed, same logits, same text. */
#ifndef ENGINE_SAMPLE_SAMPLE_H
#define ENGINE_SAMPLE_SAMPLE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/rng.h"
#include "engine/token/token.h"

enum { SAMPLE_TOP_LOGPROBS_MAX = 20 };

struct sample_bias {
    int32_t token;
    float bias;
};

struct sample_params {
    float temperature;                         /* 0 = greedy */
    uint32_t top_k;                            /* 0 = off */
    float top_p;                               /* 1 = off */
    float min_p;                               /* 0 = off */
    float repetition_penalty;                  /* 1 = off; over prompt and output */
    float presence_penalty, frequency_penalty; /* 0 = off; over the output alone */
    const struct sample_bias *biases;          /* borrowed for the sampler's life */
    uint32_t n_biases;
    uint64_t seed;
    uint32_t n_top_logprobs;    /* 0 … 20 alternatives reported */
    bool want_logprob;          /* of the chosen token */
    bool ignore_eos;            /* end tokens are never chosen */
    uint32_t min_tokens;        /* end tokens and the following are banned before this many */
    const int32_t *stop_tokens; /* that end the answer too, for min_tokens; read at create only */
    uint32_t n_stop_tokens;
};

struct sample_candidate {
    int32_t token;
    float logprob; /* natural log, under the distribution before temperature and truncation */
};

struct sample_result {
    int32_t token;
    float logprob;  /* valid with want_logprob */
    uint32_t n_top; /* descending */
    struct sample_candidate top[SAMPLE_TOP_LOGPROBS_MAX];
};

struct sampler; /* opaque: one per sequence, with its counts and generator */

RC sampler_create(struct sampler **out, const struct vocab *v, const struct sample_params *p,
                  struct err *err);
/* NULL is allowed. */
void sampler_destroy(struct sampler *s);
/* A prompt token, for the repetition penalty. */
void sampler_see_prompt(struct sampler *s, int32_t token);
/* Chooses the next token; logits[n_vocab] are scratch afterwards. The choice is counted. */
void sampler_next(struct sampler *s, float *logits, struct sample_result *out);

#endif
