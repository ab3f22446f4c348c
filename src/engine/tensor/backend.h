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
    BACKEND_LINEARS_MAX = 8,       /* sharing one input */
};

/* A matrix of n_rows outputs by n_cols inputs, n_experts of them one after the other (1 when it is
 * not an expert tensor). data is NULL when the model has no such tensor. */
struct weight {
    const void *data;
    enum dtype type;
    uint32_t n_cols, n_rows, n_experts;
    uint64_t row_bytes;
    void *packed;          /* the backend's, NULL when it uses data as it lies */
    uint64_t packed_bytes; /* of *packed; data is then dropped and must not be read */
    bool single_rows;      /* only embed reads it: no use in packing it */
};

/* A vector of floats in ordinary memory (norm weights, biases, rope factors); NULL when absent. */
struct vec {
    const float *data;
    uint32_t n;
};

/* NORM_RMS:   x / sqrt(mean(x²) + eps) * weight             (Zhang and Sennrich 2019)
 * NORM_LAYER: (x - mean) / sqrt(variance + eps) * weight + bias  (Ba et al. 2016) */
enum norm_kind { NORM_NONE, NORM_RMS, NORM_LAYER };

struct norm {
    enum norm_kind kind;
    struct vec weight, bias; /* of the row's width; bias with NORM_LAYER alone, may be absent */
    float eps;
};

/* The input of a step: rows of floats, normed on the way in. */
struct rows_in {
    const float *x;
    uint32_t stride; /* floats between rows */
    struct norm norm;
};

/* One output of a linear step: out[T, n_rows] = in[T, n_cols] · wᵀ + bias, or += when
 * `accumulate` (residual add). */
struct linear {
    const struct weight *w;
    struct vec bias;
    float *out;
    uint32_t out_stride; /* floats between rows of out; 0 = n_rows of w */
    bool accumulate;
    float softcap; /* 0 = none: y = softcap * tanh(y / softcap), for logits */
};

enum act_kind {
    ACT_SILU_MUL, /* silu(gate) * up: SwiGLU */
    ACT_GELU_MUL, /* gelu_tanh(gate) * up: GeGLU */
    ACT_OAI_MUL, /* gpt-oss: g = min(gate, 7), u = clamp(up, ±7); g * sigmoid(1.702 g) * (u + 1) */
    ACT_GELU,    /* gelu_tanh(up), no gate */
    ACT_GELU_ERF, /* up * (1 + erf(up / sqrt(2))) / 2, no gate */
    ACT_KINDS
};

/* One of the two matrices of a gated network, [n, C], with its bias. */
struct gated_half {
    const struct weight *w;
    struct vec bias; /* [n], or absent */
};

/* out[T, n] = act(gate · in, up · in): a feed-forward network's first half. gate.w is NULL where
 * the activation takes none. */
struct gated {
    struct gated_half gate, up;
    enum act_kind act;
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

/* The batch as attention sees it: token row t is at positions[t] of sequence seq_of[t]. Rows of one
 * sequence are adjacent and ascending. */
struct attn_batch {
    uint32_t n_tokens, n_seqs;
    const uint32_t *positions;   /* [T] */
    const uint32_t *seq_of;      /* [T], index into seqs */
    const struct kv_table *seqs; /* NULL where nothing is kept */
};

struct attn {
    uint32_t layer;
    uint32_t n_heads, n_kv_heads, d_head;
    struct norm q_norm, k_norm; /* of every head before it is rotated; NORM_NONE = none */
    struct rope rope;           /* n_rot 0 = none */
    float scale;
    float softcap;    /* 0 = none: s = softcap * tanh(s / softcap) */
    uint32_t window;  /* 0 = none: only positions p with |pos - p| < window */
    struct vec sinks; /* [H]: one more logit per head in the softmax's denominator */
    bool causal;      /* a row sees positions up to its own; else all of its sequence */
};

/* Where a layer's projections lie: q[T, H, D], k and v[T, kv heads, D]. */
struct qkv {
    float *q, *k, *v;             /* q and k may be normed and rotated in place */
    uint32_t q_stride, kv_stride; /* floats between rows */
};

struct kv_shape {
    uint32_t n_layers, n_kv_heads, d_head, n_pages;
    enum dtype type; /* one of backend_kv_type */
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
    /* What the backend holds beside buffers, weights and pages. Grows until all are prepared. */
    uint64_t (*scratch_bytes)(const struct backend *b);
    /* Called once per weight at load; may set w->packed, or do nothing. */
    enum rc (*weight_prepare)(struct backend *b, struct weight *w, struct err *err);
    /* Also called for weights that were never prepared (w->packed is NULL then). */
    void (*weight_release)(struct backend *b, struct weight *w);
    /* Page memory of one model; *kv is the backend's handle. */
    enum rc (*kv_alloc)(struct backend *b, const struct kv_shape *shape, void **kv,
                        struct err *err);
    void (*kv_free)(struct backend *b, void *kv);
    /* Copies a page to another in every layer. */
    void (*kv_copy)(struct backend *b, void *kv, uint32_t from_page, uint32_t to_page);

    /* out[t, :] = row tokens[t] of w, times scale. */
    void (*embed)(struct backend *b, float *out, const struct weight *w, const int32_t *tokens,
                  uint32_t n_tokens, float scale);
    /* out[T, C] = norm(in[T, C]), C = norm->weight.n. out == in is allowed. */
    void (*norm)(struct backend *b, float *out, const float *in, const struct norm *norm,
                 uint32_t n_tokens);
    /* x[T, C] += norm(y[T, C]) (post-norms). */
    void (*residual)(struct backend *b, float *x, const float *y, const struct norm *norm,
                     uint32_t n_tokens);
    /* n_linears (at most BACKEND_LINEARS_MAX) weights that share one input (q, k, v). */
    void (*linear)(struct backend *b, const struct linear *linears, uint32_t n_linears,
                   const struct rows_in *in, uint32_t n_tokens);
    /* out[T, rows of g->up]. */
    void (*gated)(struct backend *b, float *out, const struct gated *g, const struct rows_in *in,
                  uint32_t n_tokens);
    /* Norms and rotates q and k, stores k and v in the pages of kv, and attends:
     * out[T, H * D]. With kv NULL and a->causal false nothing is stored: a row attends to all rows
     * that the batch has of its sequence, before and behind it. */
    void (*attention)(struct backend *b, float *out, const struct qkv *qkv, void *kv,
                      const struct attn *a, const struct attn_batch *batch);
    /* x[T, C] += mixture of experts of in[T, C]; in->x may be x if it is normed. */
    void (*moe)(struct backend *b, float *x, const struct rows_in *in, const struct moe *m,
                uint32_t n_tokens);
};

struct backend {
    const struct backend_ops *ops;
};

/* Whether keys and values can be kept in a type: F32, F16, BF16, and Q8_0, which here means codes
 * of 8 bits with one float scale (max |x| / 127) per position and head ("q8"). */
bool backend_kv_type(enum dtype type);
/* By that name, case ignored; false when there is no such type. */
MUST_CHECK bool backend_kv_type_parse(struct str name, enum dtype *out);
/* "f16", "f32", "bf16", "q8": as --kv-type takes them. */
const char *backend_kv_type_name(enum dtype type);
/* Bytes that one position takes in all layers, K and V; heads are rounded up to 16 channels, as
 * vectors want them. */
uint64_t backend_kv_position_bytes(const struct kv_shape *shape);

/* Every backend of this build, fastest first, NULL at the end. */
const struct backend_ops *const *backend_all(void);
/* The named one, or the fastest available for NULL; NULL when the name is unknown or this machine
 * cannot run it. */
const struct backend_ops *backend_find(const char *name);

#endif
