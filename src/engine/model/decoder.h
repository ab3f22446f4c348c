/* decoder.h: one parametric transformer decoder for every architecture of arch.c.
 *
 * Owns its backend, weights, key/value pages and activations. Everything is allocated at open;
 * decoder_forward allocates nothing. One thread calls decoder_forward. */
#ifndef ENGINE_MODEL_DECODER_H
#define ENGINE_MODEL_DECODER_H

#include <stdatomic.h>

#include "engine/model/modelconf.h"
#include "engine/model/rope.h"
#include "engine/model/weights.h"

struct decoder; /* opaque */

struct decoder_conf {
    const struct backend_ops *backend;
    struct backend_conf backend_conf; /* tokens_max: rows of one forward */
    uint32_t context_tokens;
    uint32_t kv_pages;
    enum dtype kv_type;
    uint64_t memory_bytes_max;    /* refuse to need more; 0 = do not look */
    weights_progress_fn progress; /* may be NULL */
    void *progress_ctx;
};

/* The bill, in bytes. */
struct decoder_memory {
    uint64_t weight_bytes, kv_bytes, workspace_bytes;
};

/* The sources of `g` must outlive the decoder, `g` itself need not. */
RC decoder_open(struct decoder **out, const struct gguf *g, const struct decoder_conf *conf,
                struct err *err);
/* NULL is allowed. */
void decoder_close(struct decoder *d);

const struct modelconf *decoder_modelconf(const struct decoder *d);
const struct weights *decoder_weights(const struct decoder *d);
struct decoder_memory decoder_memory(const struct decoder *d);

/* What a step is to compute; see struct engine_batch. */
struct decoder_step {
    const int32_t *tokens;
    struct attn_batch batch;
    uint32_t n_logit_rows;
    const uint32_t *logit_rows;
    float *logits; /* may be NULL */
    float *hidden; /* may be NULL */
};

/* RC_CANCELLED when *cancel (may be NULL) was seen true between layers. */
RC decoder_forward(struct decoder *d, const struct decoder_step *s, const _Atomic bool *cancel,
                   struct err *err);

/* Copies a key/value page to another, in every layer. */
void decoder_kv_copy(struct decoder *d, uint32_t from_page, uint32_t to_page);

#endif
