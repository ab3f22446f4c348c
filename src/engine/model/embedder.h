/* embedder.h: from tokens of texts to vectors or scores: an encoder, or a decoder whose file says
 * that it embeds (Qwen3 embedding and reranking), and the head behind it.
 *
 * Everything is allocated at open. One thread calls embedder_begin and embedder_advance. */
#ifndef ENGINE_MODEL_EMBEDDER_H
#define ENGINE_MODEL_EMBEDDER_H

#include "engine/model/decoder.h"

enum { EMBEDDER_TEXTS_MAX = 256 }; /* of one batch */

struct embedder; /* opaque */

/* conf->kv_pages is not read: a decoder gets enough for a full batch. */
RC embedder_open(struct embedder **out, const struct gguf *g, const struct decoder_conf *conf,
                 struct err *err);
/* NULL is allowed. */
void embedder_close(struct embedder *e);

const struct modelconf *embedder_modelconf(const struct embedder *e);
const struct weights *embedder_weights(const struct embedder *e);
struct decoder_memory embedder_memory(const struct embedder *e);

/* See struct engine_embed_batch. */
struct embedder_batch {
    uint32_t n_texts;         /* 1 … EMBEDDER_TEXTS_MAX */
    const uint32_t *n_tokens; /* [n_texts], at least 1 each, tokens_max together */
    const int32_t *tokens;
    const uint8_t *segments; /* may be NULL */
    float *out;              /* [n_texts, head_width] */
};

/* Starts a batch; what it points to must stay until it is done. */
void embedder_begin(struct embedder *e, const struct embedder_batch *b);
/* Runs at most n_layers more (a decoder: all of them). True when `out` is filled. */
MUST_CHECK bool embedder_advance(struct embedder *e, uint32_t n_layers);

#endif
