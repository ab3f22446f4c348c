/* cpu.h: what the files of the "cpu" backend share. Not included outside engine/cpu/cpu*.c and
 * their tests; the backend itself is reached through engine/tensor/backend.h.
 *
 * Global names begin with backend_cpu_, since base/cpu.h owns cpu_. */
#ifndef ENGINE_CPU_CPU_H
#define ENGINE_CPU_CPU_H

#include "engine/cpu/kernels.h"
#include "engine/cpu/pack.h"
#include "engine/cpu/team.h"

extern const struct backend_ops backend_cpu_ops;

enum {
    CPU_TILE_ROWS = 512, /* rows of activations that one kernel call takes */
    CPU_TILE_COLS = 2 * PACK_ROWS,
};

/* Scratch of a size that grows while a model is loaded. */
struct cpu_room {
    void *at;
    size_t bytes;
};

/* One thread's own memory: never touched by another during a call. */
struct cpu_thread {
    struct cpu_room tile;            /* [CPU_TILE_ROWS, CPU_TILE_COLS] floats */
    struct cpu_room panel;           /* KERN_SCRATCH_BYTES */
    struct cpu_room line;            /* one row of activations behind its norm */
    struct cpu_room own[KERN_FORMS]; /* activations of a step of few rows */
};

/* Workspace of mixtures of experts; a "slot" is one token at one of its experts. */
struct cpu_moe_room {
    float *logits;    /* [tokens_max, n_experts] */
    float *inner;     /* [rows_max, wide] */
    float *outer;     /* [rows_max, wide] */
    float *weight;    /* [rows_max] of (token, choice) */
    uint32_t *expert; /* [rows_max] of (token, choice) */
    uint32_t *slot;   /* [rows_max] of (token, choice) */
    uint32_t *token;  /* [rows_max] of a slot */
    uint32_t *first;  /* [n_experts + 1]: slots of expert e are first[e] … first[e + 1] - 1 */
    uint32_t *free;   /* [n_experts + 1]: the next slot of each while they are sorted */
    uint32_t *inner_unit, *outer_unit; /* [n_experts + 1]: units of work before each expert */
    uint32_t wide, n_experts, rows;
    struct cpu_room all;
};

struct cpu_slab;

struct cpu {
    struct backend base; /* first: a struct backend * is a struct cpu * */
    const struct kernels *k;
    struct team *team;
    uint32_t n_threads;
    uint32_t tokens_max; /* of a call */
    uint32_t rows_max;   /* of activations: more than tokens_max with experts */
    size_t scratch_bytes;
    struct cpu_room rows[KERN_FORMS]; /* activations of a step of many rows */
    struct cpu_moe_room moe;
    struct cpu_slab *slabs; /* packed weights, cpu_weight.c */
    struct cpu_thread *threads;
    struct cpu_attn *attn; /* rooms of attention */
};

static inline struct cpu *cpu_of(struct backend *b)
{
    return CONTAINER_OF(b, struct cpu, base);
}

/* Makes a room at least so large; its contents are lost when it grows. False without memory. */
bool backend_cpu_room_grow(struct cpu *c, struct cpu_room *room, size_t bytes);
void backend_cpu_room_drop(struct cpu *c, struct cpu_room *room);

/* ---- work over rows ---- */

/* fn(ctx, thread, first, n) over rows of `width` floats each, in pieces that are worth a fork;
 * small work stays on the calling thread. */
typedef void (*cpu_rows_fn)(void *ctx, uint32_t thread, uint32_t first, uint32_t n);
void backend_cpu_for_rows(struct cpu *c, uint32_t n_rows, uint32_t width, cpu_rows_fn fn,
                          void *ctx);

/* ---- activations (cpu_input.c) ---- */

/* The input of a step, in every form that its weights ask for: normed and quantised once. */
struct cpu_input {
    struct rows_in in;
    uint32_t n_cols, n_rows;
    bool wanted[KERN_FORMS];
    struct kern_rows rows[KERN_FORMS];
};

/* Before the fork: an input that no weight has asked for yet. */
struct cpu_input backend_cpu_input(const struct rows_in *in, uint32_t n_cols, uint32_t n_rows);
void backend_cpu_input_want(const struct cpu *c, struct cpu_input *input, const struct weight *w);
/* On every thread of a fork: makes the rows, or this thread's copy of them where there are few;
 * with many the team meets here. Returns the rows by form; `own` is room for them. */
const struct kern_rows *backend_cpu_input_make(struct cpu *c, const struct cpu_input *input,
                                               uint32_t thread, struct kern_rows own[KERN_FORMS]);
/* Rows [first, first + n) of `all`. */
struct kern_rows backend_cpu_rows_part(const struct kern_rows *all, size_t first, uint32_t n);
/* Makes room for inputs of w. */
enum rc backend_cpu_input_room(struct cpu *c, const struct weight *w, struct err *err);

/* ---- weights (cpu_weight.c) ---- */

enum rc backend_cpu_weight_prepare(struct backend *b, struct weight *w, struct err *err);
void backend_cpu_weight_release(struct backend *b, struct weight *w);
/* What was never released. */
void backend_cpu_weights_drop(struct cpu *c);
/* One row as floats. */
void backend_cpu_weight_row(const struct weight *w, uint32_t row, float *out);

/* Panel `index`: outputs 16 index … of one expert; w NULL = none. */
struct cpu_panel {
    const struct weight *w;
    uint32_t expert, index;
};

/* One or two panels to multiply, and those that come next. */
struct cpu_panels {
    struct cpu_panel now[2], next[2];
};

/* tile[t * CPU_TILE_COLS + 16 p + i] = output i of panel p by row t of `rows` (by form), rows
 * first … first + n - 1, at most CPU_TILE_ROWS. Returns the thread's tile. */
float *backend_cpu_multiply(const struct cpu *c, uint32_t thread, const struct cpu_panels *panels,
                            const struct kern_rows *rows, uint32_t first, uint32_t n);

/* ---- steps ---- */

void backend_cpu_linear(struct backend *b, const struct linear *linears, uint32_t n_linears,
                        const struct rows_in *in, uint32_t n_tokens);
void backend_cpu_gated(struct backend *b, float *out, const struct gated *g,
                       const struct rows_in *in, uint32_t n_tokens);

enum rc backend_cpu_moe_room(struct cpu *c, const struct weight *w, struct err *err);
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
