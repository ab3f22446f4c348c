/* arch.c: the table of architectures. A new one of this family is a row here, tensor rows in
 * weights.c where it has tensors of its own, and a golden test. */
#include "engine/model/arch.h"

enum {
    SPLIT = ARCH_ANY | ARCH_DECODER | ARCH_SPLIT_QKV | ARCH_SPLIT_GATE,
    GEMMA = SPLIT | ARCH_FFN_NORM | ARCH_POST_NORMS | ARCH_EMBED_SCALE,
};

static const struct arch archs[] = {
    {
        .name = "llama", /* Llama 1–3, Mistral, Mixtral, SmolLM, TinyLlama, Yi, R1 distills */
        .traits = SPLIT | ARCH_FFN_NORM | ARCH_MAY_BIAS | ARCH_ROPE_FREQS | ARCH_MAY_MOE,
        .rope = ROPE_NORM,
        .act = ACT_SILU_MUL,
        .gating = MOE_SOFTMAX,
    },
    {
        .name = "qwen2",
        .traits = SPLIT | ARCH_FFN_NORM | ARCH_QKV_BIAS,
        .rope = ROPE_NEOX,
        .act = ACT_SILU_MUL,
    },
    {
        .name = "qwen3",
        .traits = SPLIT | ARCH_FFN_NORM | ARCH_QK_NORM,
        .rope = ROPE_NEOX,
        .act = ACT_SILU_MUL,
    },
    {
        .name = "qwen3moe",
        .traits = SPLIT | ARCH_FFN_NORM | ARCH_QK_NORM | ARCH_NEED_MOE,
        .rope = ROPE_NEOX,
        .act = ACT_SILU_MUL,
        .gating = MOE_SOFTMAX,
    },
    {
        .name = "gemma2",
        .traits = GEMMA,
        .rope = ROPE_NEOX,
        .act = ACT_GELU_MUL,
        .window_pattern = 2,
        .window_tokens = 4096,
        .n_layers_wide_scale = 46, /* 27B: query_pre_attn_scalar 144 */
    },
    {
        .name = "gemma3",
        .traits = GEMMA | ARCH_QK_NORM | ARCH_ROPE_LOCAL,
        .rope = ROPE_NEOX,
        .act = ACT_GELU_MUL,
        .window_pattern = 6,
        .window_tokens = 1024,
        .rope_local_base = 10000.0f,
        .n_layers_wide_scale = 62, /* 27B: query_pre_attn_scalar 168 */
    },
    {
        .name = "phi3", /* Phi-3, 3.5, 4, 4-mini */
        .traits = ARCH_ANY | ARCH_DECODER | ARCH_FUSED_QKV | ARCH_FUSED_GATE | ARCH_FFN_NORM |
                  ARCH_LONGROPE,
        .rope = ROPE_NEOX,
        .act = ACT_SILU_MUL,
        .window_pattern = 1,
    },
    {
        .name = "gpt-oss",
        .traits = SPLIT | ARCH_FFN_NORM_OSS | ARCH_ALL_BIAS | ARCH_SINKS | ARCH_YARN_EXACT |
                  ARCH_NEED_MOE,
        .rope = ROPE_NEOX,
        .act = ACT_OAI_MUL,
        .gating = MOE_SOFTMAX_TOP_K,
        .window_pattern = 2,
        .window_tokens = 128,
    },
    {
        .name = "bert", /* BERT, RoBERTa: MiniLM, bge, e5, gte, ms-marco cross-encoders */
        .traits = ARCH_ANY | ARCH_ENCODER | ARCH_POSITIONS | ARCH_PLAIN_UP | ARCH_MAY_BIAS,
        .act = ACT_GELU_ERF,
    },
    {
        .name = "nomic-bert", /* nomic-embed-text */
        .traits = ARCH_ANY | ARCH_ENCODER | ARCH_SPLIT_GATE | ARCH_MAY_BIAS,
        .rope = ROPE_NEOX,
        .act = ACT_SILU_MUL,
    },
};

const struct arch *arch_find(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(archs); i++) {
        if (str_is(name, archs[i].name)) {
            return &archs[i];
        }
    }
    return NULL;
}

void arch_list(struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(archs); i++) {
        buf_add_printf(out, "%s%s", i > 0 ? ", " : "", archs[i].name);
    }
}
