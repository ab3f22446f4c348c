/* cpu.h: what the files of the "cpu" backend share. Not included outside engine/cpu/cpu*.c and
 * their tests; the backend itself is reached through engine/tensor/backend.h.
 *
 * Global names begin with backend_cpu_, since base/cpu.h owns cpu_. */
#ifndef ENGINE_CPU_CPU_H
#define ENGINE_CPU_CPU_H

#include "engine/cpu/kernels.h"
#include "engine/cpu/team.h"

extern const struct backend_ops backend_cpu_ops;

/* Room for quantised rows of one form; grows while weights are prepared. */
struct cpu_rows_room {
    int8_t *q8;
    int16_t *q16;
    float *d;
    int16_t *sums;
    uint32_t n_cols_max, n_rows_max;
};

/* One thread's own memory: never touched by another during a call. */
struct cpu_thread {
    float *tile[2]; /* [rows_max, KERN_TILE_ROWS] each */
    void *panel;    /* KERN_SCRATCH_BYTES */
};

/* Workspace of mixtures of experts; a "slot" is one token at one of its experts. */
struct cpu_moe_room {
    float *logits;    /* [tokens_max, n_experts] */
    float *inner;     /* [rows_max, wide] */
    float *outer;     /* [rows_max, wide] */
    float *weight;    /* [rows_max] of a slot's expert */
    uint32_t *expert; /* [rows_max] of (token, choice) */
    uint32_t *slot;   /* [rows_max] of (token, choice) */
    uint32_t *token;  /* [rows_max] of a slot */
    uint32_t *first;  /* [n_experts + 1]: slots of expert e are first[e] … first[e + 1] - 1 */
    uint32_t *unit;   /* [n_experts + 1]: work units before expert e */
    uint32_t wide, n_experts;
};

struct cpu {
    struct backend base; /* first: a struct backend * is a struct cpu * */
    const struct kernels *k;
    struct team *team;
    uint32_t n_threads;
    uint32_t tokens_max; /* of a call */
    uint32_t rows_max;   /* of quantised activations: more than tokens_max with experts */
    struct cpu_rows_room room[KERN_FORMS];
    float *normed; /* [rows_max, n_normed]: the input of a step behind its norm */
    uint32_t n_normed, normed_rows;
    struct cpu_moe_room moe;
    struct cpu_thread *threads;
    struct cpu_attn *attn; /* rooms of attention */
};

static inline struct cpu *cpu_of(struct backend *b)
{
    return CONTAINER_OF(b, struct cpu, base);
}

/* ---- work over rows ---- */

/* fn(ctx, thread, first, n) over rows of `width` floats each, in pieces that are worth a fork;
 * small work stays on the calling thread. */
typedef void (*cpu_rows_fn)(void *ctx, uint32_t thread, uint32_t first, uint32_t n);
void backend_cpu_for_rows(struct cpu *c, uint32_t n_rows, uint32_t width, cpu_rows_fn fn,
                          void *ctx);

/* ---- linear layers (cpu_linear.c) ---- */

/* The activations of a call in every form that its weights ask for. */
struct cpu_input {
    struct kern_rows rows[KERN_FORMS];
    bool made[KERN_FORMS];
};

/* The rows of `in` behind their norm: c->normed, or in->x where there is none. */
struct rows_in backend_cpu_normed(struct cpu *c, const struct rows_in *in, uint32_t n_cols,
                                  uint32_t n_rows);

/* Makes what `w` needs of in[n_rows, n_cols] (row stride in_stride), once per form. */
void backend_cpu_quantise(struct cpu *c, struct cpu_input *input, const struct weight *w,
                          const float *in, uint32_t n_rows, size_t in_stride);

/* Rows [r0, r0 + n_rows) of expert e of w times the activations, to out[t, KERN_TILE_ROWS]. */
void backend_cpu_tile(const struct cpu *c, uint32_t thread, const struct weight *w, uint32_t expert,
                      uint32_t r0, uint32_t n_rows, const struct kern_rows *rows, float *out);

enum rc backend_cpu_rows_room(struct cpu *c, const struct weight *w, struct err *err);
void backend_cpu_linear(struct backend *b, const struct linear *linears, uint32_t n_linears,
                        const struct rows_in *in, uint32_t n_tokens);
void backend_cpu_gated(struct backend *b, float *out, const struct gated *g,
                       const struct rows_in *in, uint32_t n_tokens);

/* ---- mixture of experts (cpu_moe.c) ---- */

enum rc backend_cpu_moe_room(struct cpu *c, const struct weight *w, struct err *err);
void backend_cpu_moe_drop(struct cpu *c);
void backend_cpu_moe(struct backend *b, float *x, const struct rows_in *in, const struct moe *m,
                     uint32_t n_tokens);

/* ---- attention (cpu_attn*.c, cpu_kv.c) ---- */

enum rc backend_cpu_attn_open(struct cpu *c, struct err *err);
void backend_cpu_attn_close(struct cpu *c);

enum rc backend_cpu_kv_alloc(struct backend *b, const struct kv_shape *shape, void **kv,
                             struct err *err);
void backend_cpu_kv_free(struct backend *b, void *kv);
void backend_cpu_kv_copy(struct backend *b, void *kv, uint32_t from_page, uint32_t to_page);
void backend_cpu_attention(struct backend *b, float *out, const struct qkv *qkv, void *kv,
                           const struct attn *a, const struct attn_batch *batch);

/* ---- rows of floats (cpu_norm_rope.c) ---- */

/* One row of n floats through a norm; out == in is allowed. */
void backend_cpu_norm_row(const struct cpu *c, const struct norm *norm, float *out, const float *in,
                          uint32_t n);
void backend_cpu_embed(struct backend *b, float *out, const struct weight *w, const int32_t *tokens,
                       uint32_t n_tokens, float scale);
void backend_cpu_norm(struct backend *b, float *out, const float *in, const struct norm *norm,
                      uint32_t n_tokens);
void backend_cpu_residual(struct backend *b, float *x, const float *y, const struct norm *norm,
                          uint32_t n_tokens);

#endif
