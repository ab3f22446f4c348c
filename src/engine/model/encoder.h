/* encoder.h: one parametric transformer encoder: the rows of whole texts at once, each seeing all
 * rows of its own text, norms behind the blocks (BERT, Devlin et al. 2018, and its kin).
 *
 * Owns its backend, weights and activations. Everything is allocated at open; a pass allocates
 * nothing and may be made in pieces of some layers, so that other work on the device need not wait
 * for all of it. One thread calls encoder_begin and encoder_layers. */
#ifndef ENGINE_MODEL_ENCODER_H
#define ENGINE_MODEL_ENCODER_H

#include "engine/model/decoder.h"

struct encoder; /* opaque */

/* The sources of `g` must outlive the encoder, `g` itself need not. kv_pages and kv_type of `conf`
 * mean nothing here. */
RC encoder_open(struct encoder **out, const struct gguf *g, const struct decoder_conf *conf,
                struct err *err);
/* NULL is allowed. */
void encoder_close(struct encoder *e);

const struct modelconf *encoder_modelconf(const struct encoder *e);
const struct weights *encoder_weights(const struct encoder *e);
struct decoder_memory encoder_memory(const struct encoder *e);

struct encoder_step {
    const int32_t *tokens;
    const uint8_t *segments; /* [T] token types, below modelconf's count or 0; NULL = all 0 */
    struct attn_batch batch; /* seqs is NULL; positions start at 0 in each text */
};

/* Starts a pass; what `s` points to must stay until its last layer. */
void encoder_begin(struct encoder *e, const struct encoder_step *s);
/* Runs at most n more layers. True when it was the last. */
MUST_CHECK bool encoder_layers(struct encoder *e, uint32_t n);
/* [T, C] after the last layer; valid until the next begin. */
const float *encoder_hidden(const struct encoder *e);

#endif
