/* arch.h: the architectures that decoder and encoder cover, one row each.
 *
 * A row says what the network has (traits) and the constants that its files do not carry. Sources:
 * the model code of Hugging Face transformers; tensor names as llama.cpp's converter writes them.
 */
#ifndef ENGINE_MODEL_ARCH_H
#define ENGINE_MODEL_ARCH_H

#include "base/buf.h"
#include "engine/tensor/backend.h"

/* What a network has. The traits decide which tensors are bound (weights.c) and which steps run
 * (decoder.c, encoder.c). MOE and DENSE are decided by the file (expert_count > 0), as are RANK
 * (pooling_type) and an encoder's SPLIT_QKV and FUSED_QKV. */
enum arch_trait {
    ARCH_ANY = 1u << 0,           /* every architecture */
    ARCH_SPLIT_QKV = 1u << 1,     /* attn_q, attn_k, attn_v */
    ARCH_FUSED_QKV = 1u << 2,     /* attn_qkv: q‖k‖v */
    ARCH_SPLIT_GATE = 1u << 3,    /* ffn_gate, ffn_up */
    ARCH_FUSED_GATE = 1u << 4,    /* ffn_up: gate‖up */
    ARCH_MAY_BIAS = 1u << 5,      /* any bias may be there (llama) */
    ARCH_QKV_BIAS = 1u << 6,      /* q, k, v biases are there */
    ARCH_ALL_BIAS = 1u << 7,      /* every linear has a bias (gpt-oss) */
    ARCH_QK_NORM = 1u << 8,       /* RMS norm of every q and k head before rope */
    ARCH_POST_NORMS = 1u << 9,    /* norms behind attention and ffn too (gemma) */
    ARCH_FFN_NORM = 1u << 10,     /* the norm before the ffn is called ffn_norm … */
    ARCH_FFN_NORM_OSS = 1u << 11, /* … or post_attention_norm (gpt-oss) */
    ARCH_SINKS = 1u << 12,        /* one more logit per head in the softmax */
    ARCH_EMBED_SCALE = 1u << 13,  /* embeddings times sqrt(C) */
    ARCH_ROPE_FREQS = 1u << 14,   /* rope_freqs tensor may be there (Llama 3) */
    ARCH_LONGROPE = 1u << 15,     /* rope_factors_long and _short may be there */
    ARCH_ROPE_LOCAL = 1u << 16,   /* windowed layers rotate with a base of their own */
    ARCH_YARN_EXACT = 1u << 17,   /* the ends of the YaRN ramp are not rounded */
    ARCH_MAY_MOE = 1u << 18,      /* expert_count may be above 0 */
    ARCH_NEED_MOE = 1u << 19,     /* expert_count must be above 0 */
    ARCH_DENSE = 1u << 20,        /* this file has no experts */
    ARCH_MOE = 1u << 21,          /* this file has experts */
    ARCH_DECODER = 1u << 22,      /* norms before the blocks and at the end; causal */
    ARCH_ENCODER = 1u << 23,      /* norms behind the blocks; every row sees all of its text */
    ARCH_POSITIONS = 1u << 24,    /* learned positions, added to the embeddings; no rope */
    ARCH_PLAIN_UP = 1u << 25,     /* ffn_up without a gate */
    ARCH_RANK = 1u << 26,         /* this file has a classifier: it scores pairs of texts */
};

struct arch {
    const char *name; /* general.architecture */
    unsigned traits;
    enum rope_style rope;
    enum act_kind act;
    enum moe_gating gating;
    /* Every window_pattern-th layer sees everything, the others a window: 0 = none has a window,
     * 1 = all have. A file may say otherwise. */
    uint32_t window_pattern;
    uint32_t window_tokens; /* when the file does not say */
    float rope_local_base;  /* with ARCH_ROPE_LOCAL, when the file does not say */
    /* The model of this many layers divides attention logits by sqrt(C / H), not sqrt(D): its
     * files carry no key for it. 0 = there is none. */
    uint32_t n_layers_wide_scale;
};

/* NULL when unknown. */
const struct arch *arch_find(struct str name);
/* Appends the known names, separated by ", ". */
void arch_list(struct buf *out);

#endif
