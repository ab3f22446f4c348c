/* head.h: from the rows of texts to what an embedder or a reranker answers: one unit vector, or one
 * score, for each text.
 *
 * Owns its activations. One thread calls head_apply. */
#ifndef ENGINE_MODEL_HEAD_H
#define ENGINE_MODEL_HEAD_H

#include "engine/model/modelconf.h"
#include "engine/model/weights.h"

struct head {
    /* private */
    const struct modelconf *conf;
    const struct weights *weights;
    struct backend *backend;
    float *pooled, *dense; /* [texts_max, C]; rerankers alone */
    float *logits;         /* [texts_max, labels] */
};

/* All but `h` must outlive it. */
RC head_init(struct head *h, const struct modelconf *c, const struct weights *w, struct backend *b,
             uint32_t texts_max, struct err *err);
/* Before the backend is closed. May be called twice and on a zeroed struct. */
void head_deinit(struct head *h);

/* The numbers that one text gives: C, or 1 for a reranker. */
uint32_t head_width(const struct modelconf *c);

/* Rows of text i: [first[i], first[i] + n[i]) of hidden [T, C]. Embedders: out[i] is the pooled
 * row, of length 1 (zeros stay zeros). Rerankers: out[i] is the relevance, 0 to 1. */
struct head_texts {
    const float *hidden;
    uint32_t n_texts;
    const uint32_t *first, *n; /* n NULL: one row each, which is already the pooled one */
};
void head_apply(struct head *h, const struct head_texts *t, float *out);

#endif
