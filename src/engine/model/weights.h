/* weights.h: the tensors of a model, bound by name to the decoder's structs.
 *
 * Every tensor must have exactly the shape that the hyper-parameters ask for; a missing one, one of
 * another shape and one that nobody binds are errors naming it. Matrices stay where they lie (the
 * source's map) or are read into owned memory when the source has none; vectors become floats. */
#ifndef ENGINE_MODEL_WEIGHTS_H
#define ENGINE_MODEL_WEIGHTS_H

#include "engine/model/modelconf.h"
#include "engine/tensor/backend.h"

struct weights_layer {
    struct vec attn_norm, ffn_norm;
    struct vec attn_post_norm, ffn_post_norm;
    struct vec attn_out_norm, attn_out_norm_bias; /* encoders: of the sum behind attention … */
    struct vec ffn_out_norm, ffn_out_norm_bias;   /* … and behind the feed-forward network */
    struct vec q_norm, k_norm;                    /* [D] */
    struct vec sinks;                             /* [H] */
    struct weight q, k, v;                        /* or: */
    struct weight qkv;                            /* q‖k‖v */
    struct weight attn_out;
    struct vec q_bias, k_bias, v_bias, qkv_bias, attn_out_bias;
    struct weight gate, up, down; /* halves of one tensor with ARCH_FUSED_GATE; stacked with MOE */
    struct vec gate_bias, up_bias, down_bias;
    struct weight router;
    struct vec router_bias;
};

struct weights {
    struct weight token_embd;
    struct weight output; /* data is NULL when tied to token_embd */
    struct vec output_norm;
    struct vec embd_norm, embd_norm_bias;
    struct vec positions;                        /* [context, C] */
    struct vec token_types;                      /* [types, C] */
    struct weight classifier, classifier_output; /* [C, C] then tanh; [labels, C] */
    struct vec classifier_bias, classifier_output_bias;
    struct vec rope_freqs, rope_long, rope_short; /* [n_rot / 2] */
    struct weights_layer *layers;                 /* owned */
    uint64_t n_params;
    uint64_t n_bytes;        /* as they lie in the file */
    uint64_t resident_bytes; /* as mapped or packed: what a step may touch */
    enum dtype main_type;    /* the type that holds most bytes */
    /* private */
    uint32_t n_layers;
    struct weights_owned {
        unsigned char *at; /* NULL once given back */
        uint64_t bytes, packed_bytes;
    } * owned; /* vectors, and matrices that could not be mapped */
    uint32_t n_owned;
    struct backend *backend; /* NULL until weights_prepare */
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n_sources;
};

/* *w borrows the sources' maps. `progress` (may be NULL) is called as bytes become usable. */
RC weights_init(struct weights *w, const struct modelconf *c, const struct gguf *g,
                struct err *err);

typedef void (*weights_progress_fn)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);

/* Lets the backend pack or upload every matrix. On failure weights_deinit releases those done. */
RC weights_prepare(struct weights *w, struct backend *b, weights_progress_fn progress, void *ctx,
                   struct err *err);
/* Before its backend is closed. May be called twice and on a zeroed struct. */
void weights_deinit(struct weights *w);

/* What makes the logits. */
static inline const struct weight *weights_output(const struct weights *w)
{
    return w->output.data != NULL ? &w->output : &w->token_embd;
}

#endif
