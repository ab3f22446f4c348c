/* modelconf.h: a model's hyper-parameters, read from its GGUF keys and checked.
 *
 * Keys are `<arch>.…` as llama.cpp's converter writes them; what a file leaves out comes from the
 * architecture's row or from the other keys. Everything here is plain data, immutable after
 * modelconf_init; every product of sizes that the decoder forms fits in 32 bits or was checked. */
#ifndef ENGINE_MODEL_MODELCONF_H
#define ENGINE_MODEL_MODELCONF_H

#include "engine/format/gguf.h"
#include "engine/model/arch.h"

/* A hostile file cannot ask for more; the largest public models stay well below. */
enum {
    MODELCONF_LAYERS_MAX = 1024,
    MODELCONF_WIDTH_MAX = 1 << 18, /* channels, ffn width, heads * D */
    MODELCONF_HEAD_MAX = 1024,     /* D */
    MODELCONF_EXPERTS_MAX = 1024,
    MODELCONF_VOCAB_MAX = 1 << 22,
    MODELCONF_CONTEXT_MAX = 1 << 24,
    MODELCONF_TOKEN_TYPES_MAX = 256, /* a row's type is a byte */
};

enum rope_scaling { ROPE_SCALING_NONE, ROPE_SCALING_LINEAR, ROPE_SCALING_YARN };

/* How a text's rows become one vector; numbers as in files. */
enum pooling {
    POOLING_NONE, /* a decoder that writes text */
    POOLING_MEAN,
    POOLING_FIRST, /* the first token's ([CLS]) */
    POOLING_LAST,
    POOLING_RANK, /* a score: the first token's (decoders: the last's) through a classifier */
};

struct modelconf_rope {
    float base;       /* of layers that see everything */
    float local_base; /* of windowed layers; equal to base without ARCH_ROPE_LOCAL */
    enum rope_scaling scaling;
    float factor;             /* linear and yarn: context is stretched by it */
    uint32_t original_tokens; /* the context trained before stretching; 0 = not said */
    float attn_factor;        /* cos and sin times this */
    float beta_fast, beta_slow;
};

struct modelconf_layer {
    uint32_t n_heads, n_kv_heads;
    uint32_t n_ff;   /* of the dense network */
    uint32_t window; /* 0 = sees everything */
};

struct modelconf {
    const struct arch *arch;
    unsigned traits; /* the architecture's, with ARCH_DENSE or ARCH_MOE */
    char name[128];  /* general.name */
    uint32_t n_layers, n_embd, n_vocab;
    uint32_t n_kv_heads_max, n_heads_max, n_ff_max;
    uint32_t d_head, n_rot;
    uint32_t context_trained;
    float norm_eps; /* of RMS norms; encoders: of layer norms */
    float embed_scale;
    float attn_scale, attn_softcap, final_softcap; /* soft caps: 0 = none */
    uint32_t n_experts, n_experts_used, n_ff_expert;
    bool experts_renormalise;
    float experts_scale;
    bool embeds; /* makes vectors or scores, not text */
    enum pooling pooling;
    uint32_t n_token_types; /* 0 = none */
    uint32_t n_labels;      /* of the classifier; 0 = there is none */
    struct modelconf_rope rope;
    struct modelconf_layer *layers; /* owned, n_layers */
};

/* RC_UNSUPPORTED for an unknown architecture (with the list of known ones), RC_CORRUPT naming the
 * key otherwise. */
RC modelconf_init(struct modelconf *c, const struct gguf *g, struct err *err);
/* May be called twice and on a zeroed struct. */
void modelconf_deinit(struct modelconf *c);

/* Floats of activations that one row of a step takes (decoder.c, encoder.c). */
uint64_t modelconf_row_floats(const struct modelconf *c);

static inline bool modelconf_has(const struct modelconf *c, unsigned traits)
{
    return (c->traits & traits) != 0;
}

#endif
