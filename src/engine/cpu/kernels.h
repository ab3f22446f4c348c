/* kernels.h: the arithmetic of the "cpu" backend, compiled once per instruction set.
 *
 * kernels/NAME.c is compiled with -DISA=generic and, on x86-64, with -DISA=avx2 and its flags; each
 * object exports one constant table, and kernels_choose picks a set of tables once, when the
 * backend is opened. Kernels know no threads: cpu_*.c cut the work.
 *
 * Arithmetic of a linear layer, the same in every kernel and instruction set, so that a result
 * depends neither on the number of rows in a call nor on who computes it. With w the integer codes
 * of a block (scaled by the integer scale of their run), q those of the activations, both exact:
 *     acc = fmaf(d_w * d_a, (float)Σ w q, acc)           for each block in the order of columns,
 *     acc = fmaf(m_w * d_a, (float)Σ min Σ q, acc)       then, in types that have a minimum.
 * Blocks are of 32 columns (KERN_Q32) or 256 (KERN_Q256). Float weights: acc = fmaf(w, x, acc) in
 * the order of columns; BF16 with AVX512-BF16 instead rounds x to BF16 and adds two products at a
 * time, for any number of rows. */
#ifndef ENGINE_CPU_KERNELS_H
#define ENGINE_CPU_KERNELS_H

#include "engine/cpu/attend.h"
#include "engine/tensor/backend.h"

/* ---- activations ---- */

/* What a weight type wants its input to be. */
enum kern_form {
    KERN_F32,  /* floats as they are */
    KERN_Q32,  /* int8 with a float scale, max |x| / 127, per 32 columns */
    KERN_Q256, /* the same per 256 columns */
    KERN_FORMS
};

/* Rows of activations in one form. Row r starts at r * stride of every array that the form has. */
struct kern_rows {
    const float *f32; /* KERN_F32 */
    const int8_t *q8;
    const float *d; /* one per block */
    /* Sums of q8 over 32 columns (KERN_Q32) or over 16 (KERN_Q256). */
    const int16_t *sums;
    size_t f32_stride, q_stride, d_stride, sums_stride;
    const uint32_t *index; /* row t of a call is row index[t]; NULL = row t */
    uint32_t n;            /* rows in the call */
};

/* One row of floats to int8 blocks. NaN becomes -127, infinities ±127 under an infinite scale. n is
 * a multiple of the block. */
typedef void (*kern_quantise_fn)(const float *in, uint32_t n, int8_t *q8, float *d, int16_t *sums);

/* ---- linear: rows times packed panels ---- */

enum { KERN_SCRATCH_BYTES = 64 * 1024 };

/* One or two panels (pack.h) of 16 outputs each, of one type and width; the two may belong to
 * different weights. For row t of the activations and output i of panel p
 *     out[p][t * out_stride + i] = panel p, row i · row t,
 * all sixteen written, the padding of a last panel too (its products are 0, or NaN under an
 * infinite scale). Any number of rows; bits do not depend on it, nor on the partner panel. */
struct kern_gemm {
    const unsigned char *panel[2]; /* 64-byte aligned; [1] may be NULL: one panel */
    const unsigned char *next[2];  /* the panels worked on after these, prefetched; may be NULL */
    uint32_t n_cols;
    float *out[2]; /* at any address; [1] is ignored without a second panel */
    size_t out_stride;
    void *scratch; /* KERN_SCRATCH_BYTES of this thread alone, 64-byte aligned */
};

typedef void (*kern_gemm_fn)(const struct kern_gemm *g, const struct kern_rows *a);

/* One table per family of types and instruction set; NULL for types of other families. */
struct kern_gemm_table {
    kern_gemm_fn gemm[DTYPE_NUMBER_MAX];
};

/* ---- tables ---- */

/* A tile of products on its way out: for t < n_rows, i < n,
 *     y = tile + bias, softcap * tanh(y / softcap) if softcap > 0;   out = y, or out + y. */
struct kern_put {
    const float *tile, *bias; /* bias[n] or NULL */
    float *out;
    size_t tile_stride, out_stride;
    uint32_t n_rows, n;
    float softcap;
    bool add;
};

/* out = act(gate + gate_bias, up + up_bias). Relative error below 2e-7 against the exact formula,
 * but for rounding. Activations without a gate do not use it; it is read all the same. */
struct kern_act {
    enum act_kind kind;
    const float *gate, *up, *gate_bias, *up_bias; /* biases [n] or NULL */
    float *out;
    size_t tile_stride, out_stride;
    uint32_t n_rows, n;
};

struct kern_float_table {
    kern_quantise_fn quantise[KERN_FORMS]; /* KERN_F32: NULL */
    void (*rms_norm)(float *out, const float *in, const float *weight, float eps, uint32_t n);
    /* bias may be NULL. Mean and variance in two passes. */
    void (*layer_norm)(float *out, const float *in, const float *weight, const float *bias,
                       float eps, uint32_t n);
    void (*put)(const struct kern_put *p);
    void (*activate)(const struct kern_act *a);
    void (*add)(float *x, const float *y, size_t n);
    void (*axpy)(float *x, const float *y, float scale, uint32_t n); /* x += scale * y */
    float (*dot)(const float *x, const float *y, uint32_t n);
    /* One head: x[d_head] in place; cos_sin [n_rot / 2, 2]. */
    void (*rope)(float *x, const float *cos_sin, uint32_t n_rot, enum rope_style style);
    /* Reads n bytes (a multiple of 256) and returns the sum of their 64-bit words, for timing. */
    uint64_t (*stream)(const unsigned char *at, size_t n);
};

struct kernels {
    const char *isa; /* "generic", "avx2", "avx2vnni", "avx512", "avx512bf16" (on request) */
    const struct kern_attend_table *attend;
    const struct kern_float_table *floats;
    /* Packed weights: blocks of 32, blocks of 256, floats. Use kernels_gemm. */
    const struct kern_gemm_table *gemm_32, *gemm_k, *gemm_float;
    const struct kern_gemm_table *gemm_bf16; /* instead of gemm_float's, or NULL */
};

/* What activations a weight of this type takes, and the kernel that multiplies its panels; every
 * dtype has one. */
enum kern_form kernels_form(enum dtype type);
kern_gemm_fn kernels_gemm(const struct kernels *k, enum dtype type);

/* The best set that this machine runs, or the named one for tests and comparisons; NULL when the
 * name is unknown or this machine cannot run it. */
const struct kernels *kernels_choose(const char *isa);

#endif
