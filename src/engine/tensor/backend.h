/* backend.h: the seam between the decoder and what computes (ARCHITECTURE §4).
 *
 * A backend owns one device: its memory, its threads, its kernels. The decoder
 * (engine/model/decoder.c) knows the network; the backend knows the arithmetic. Activations are
 * float32, row-major [T, C], in memory from buffer_alloc, which the decoder may read and write
 * between calls; only the last linear's out (logits) is the caller's memory. Weights stay in their
 * file's type and layout in w->data (mapped); weight_prepare lets a backend pack or upload them
 * once at load and keep its own handle in w->packed.
 *
 * Shape letters (engine/README.md): T tokens (rows of the batch), C channels, H heads, D head
 * size, V vocabulary. One thread calls a backend: the engine thread of its device. */
#ifndef ENGINE_TENSOR_BACKEND_H
#define ENGINE_TENSOR_BACKEND_H

#include "base/err.h"
#include "engine/tensor/dtype.h"

enum {
    KV_PAGE_TOKENS = 32,
    BACKEND_THREADS_MAX = 256,
    BACKEND_EXPERTS_USED_MAX = 64, /* of one token */
};

/* A matrix of n_rows outputs by n_cols inputs, n_experts of them one after the other (1 when it is
 * not an expert tensor). data is NULL when the model has no such tensor. */
struct weight {
    const void *data;
    enum dtype type;
    uint32_t n_cols, n_rows, n_experts;
    uint64_t row_bytes;
    void *packed;          /* the backend's, NULL when it uses data as it lies */
    uint64_t packed_bytes; /* of *packed; what data maps is then dropped, but stays readable */
};

/* A vector of floats in ordinary memory (norm weights, biases, rope factors); NULL when absent. */
struct vec {
    const float *data;
    uint32_t n;
};

/* One output of a linear step: out[T, n_rows] = in[T, n_cols] · wᵀ + bias, or += when
 * `accumulate` (residual add). */
struct linear {
    const struct weight *w;
    struct vec bias;
    float *out;
    bool accumulate;
};

enum rope_style { ROPE_NORM, ROPE_NEOX }; /* pairs (2i, 2i+1) / (i, i + n_rot/2) */

struct rope {
    const float *cos_sin; /* [T, n_rot/2, 2]: made by the decoder once per forward */
    uint32_t n_rot;       /* channels rotated; the rest of a head passes through */
    enum rope_style style;
};

/* Keys and values of one sequence: page_ids[i] holds positions [32 i, 32 i + 31]. */
struct kv_table {
    const uint32_t *page_ids;
    uint32_t n_pages;
};

/* The batch as attention sees it: token row t is at positions[t] of sequence seq_of[t], and sees
 * positions 0…positions[t] of it. Rows of one sequence are adjacent and ascending. */
struct attn_batch {
    uint32_t n_tokens, n_seqs;
    const uint32_t *positions; /* [T] */
    const uint32_t *seq_of;    /* [T], index into seqs */
    const struct kv_table *seqs;
};

struct attn {
    uint32_t layer;
    uint32_t n_heads, n_kv_heads, d_head;
    float scale;
    float softcap;    /* 0 = none: s = softcap * tanh(s / softcap) */
    uint32_t window;  /* 0 = none: only positions p with pos - p < window */
    struct vec sinks; /* [H]: one more logit per head in the softmax's denominator */
};

struct kv_shape {
    uint32_t n_layers, n_kv_heads, d_head, n_pages;
    enum dtype type; /* DTYPE_F16 or DTYPE_F32 */
};

enum act_kind {
    ACT_SILU_MUL, /* silu(gate) * up: SwiGLU */
    ACT_GELU_MUL, /* gelu_tanh(gate) * up: GeGLU */
    ACT_OAI_MUL, /* gpt-oss: g = min(gate, 7), u = clamp(up, ±7); g * sigmoid(1.702 g) * (u + 1) */
};

/* gate and up are [T, n] with their own row strides (in floats), so that a fused gate‖up matrix
 * needs no copy. */
struct act {
    enum act_kind kind;
    const float *gate, *up;
    uint32_t gate_stride, up_stride;
    uint32_t n;
};

enum moe_gating {
    MOE_SOFTMAX,       /* softmax over all experts, then the best k; see renormalise */
    MOE_SOFTMAX_TOP_K, /* best k logits, softmax over those (gpt-oss) */
};

struct moe {
    const struct weight *router; /* [n_experts, C] */
    struct vec router_bias;
    const struct weight *gate, *up, *down;    /* stacked experts */
    struct vec gate_bias, up_bias, down_bias; /* [n_experts, rows] */
    uint32_t n_experts, n_used;
    enum moe_gating gating;
    bool renormalise; /* weights of the chosen k sum to 1 */
    float weight_scale;
    enum act_kind act;
};

struct backend; /* one opened device */

struct backend_conf {
    uint32_t n_threads;  /* at most BACKEND_THREADS_MAX; 0 = one per usable core */
    uint32_t tokens_max; /* largest T of any call: workspace is allocated for it at once */
    bool pin;            /* pin the threads to their cores */
};

/* out and in may be the same buffer only where said. Every function runs to completion before it
 * returns and cannot fail: whatever can go wrong is checked when the model is loaded. */
struct backend_ops {
    const char *name; /* "ref", "cpu": setting and metric label */
    bool (*available)(void);
    enum rc (*open)(struct backend **out, const struct backend_conf *conf, struct err *err);
    void (*close)(struct backend *b);

    /* Zeroed, 64-byte aligned; NULL when there is no memory. */
    void *(*buffer_alloc)(struct backend *b, size_t bytes);
    void (*buffer_free)(struct backend *b, void *buffer);
    /* Called once per weight at load; may set w->packed, or do nothing. */
    enum rc (*weight_prepare)(struct backend *b, struct weight *w, struct err *err);
    /* Also called for weights that were never prepared (w->packed is NULL then). */
    void (*weight_release)(struct backend *b, struct weight *w);
    /* Page memory of one model; *kv is the backend's handle. */
    enum rc (*kv_alloc)(struct backend *b, const struct kv_shape *shape, void **kv,
                        struct err *err);
    void (*kv_free)(struct backend *b, void *kv);

    /* out[t, :] = row tokens[t] of w, times scale. */
    void (*embed)(struct backend *b, float *out, const struct weight *w, const int32_t *tokens,
                  uint32_t n_tokens, float scale);
    /* RMS norm of n_rows rows of n_cols: out = in / sqrt(mean(in²) + eps) * weight. in == out is
     * allowed. Head norms pass n_rows = T * H, n_cols = D. */
    void (*rms_norm)(struct backend *b, float *out, const float *in, struct vec weight, float eps,
                     uint32_t n_rows, uint32_t n_cols);
    /* n_linears weights that share one input (q, k, v; gate, up). in has row stride in_stride. */
    void (*linear)(struct backend *b, const struct linear *linears, uint32_t n_linears,
                   const float *in, uint32_t n_tokens, uint32_t in_stride);
    /* Rotates x[T, n_heads, d_head] in place; rows are row_stride floats apart. */
    void (*rope)(struct backend *b, float *x, uint32_t n_tokens, uint32_t n_heads, uint32_t d_head,
                 uint32_t row_stride, const struct rope *r);
    /* Stores k, v[T, n_kv_heads, d_head] (row stride kv_stride) in their pages, then
     * out[T, n_heads * d_head] = attention of q (row stride q_stride) over them. */
    void (*attention)(struct backend *b, float *out, const float *q, uint32_t q_stride,
                      const float *k, const float *v, uint32_t kv_stride, void *kv,
                      const struct attn *a, const struct attn_batch *batch);
    /* out[T, n] = act(gate, up). */
    void (*activate)(struct backend *b, float *out, const struct act *a, uint32_t n_tokens);
    /* out[T, C] += mixture of experts of in[T, C]. */
    void (*moe)(struct backend *b, float *out, const float *in, const struct moe *m,
                uint32_t n_tokens);
    /* x += y over n floats (post-norm residuals). */
    void (*add)(struct backend *b, float *x, const float *y, size_t n);
};

struct backend {
    const struct backend_ops *ops;
};

/* Every backend of this build, fastest first, NULL at the end. */
const struct backend_ops *const *backend_all(void);
/* The named one, or the fastest available for NULL; NULL when the name is unknown or this machine
 * cannot run it. */
const struct backend_ops *backend_find(const char *name);

#endif
