/* linear.c: the table of kernels of linear layers, one row per element type (kernels.h).
 *
 * Quantised types: dot_avx2.h and gemm_avx2.h where there is AVX2, else blocks unpacked in plain C
 * (decode.h). Float types: eight lanes down the columns, several rows side by side. */
#include "engine/cpu/kernels/vec.h"

#include <math.h>

#include "engine/cpu/kernels/decode.h"
#include "engine/cpu/kernels/dot_avx2.h"
#include "engine/cpu/kernels/gemm_avx2.h"
#include "engine/cpu/kernels/quantise.h"

KERN_INLINE size_t row_of(const struct kern_rows *a, uint32_t t)
{
    return a->index != NULL ? a->index[t] : t;
}

/* ---- quantised weights ---- */

#if defined(__AVX2__)

/* Eight rows from r0 by n_tokens tokens from t0. */
KERN_INLINE void dot_tile(enum dtype type, enum kern_form form, const struct kern_tile *tile,
                          const struct kern_rows *a, uint32_t r0, uint32_t t0, uint32_t n_tokens)
{
    struct dot_rows r = {.ahead = DOT_ROWS * tile->row_bytes};
    uint32_t n = MIN(tile->n_rows - r0, (uint32_t)DOT_ROWS);
    for (uint32_t i = 0; i < DOT_ROWS; i++) {
        r.w[i] = tile->w + (size_t)(r0 + MIN(i, n - 1)) * tile->row_bytes;
    }
    __m256 acc[DOT_TOKENS_MAX];
    for (uint32_t t = 0; t < n_tokens; t++) {
        size_t row = row_of(a, t0 + t);
        r.q[t] = a->q8 + row * a->q_stride;
        r.d[t] = a->d + row * a->d_stride;
        r.sums[t] = a->sums + row * a->sums_stride;
        acc[t] = _mm256_setzero_ps();
    }
    if (form == KERN_Q256) {
        dot_k(type, &r, tile->n_cols / 256, n_tokens, acc);
    } else if (type == DTYPE_Q8_0) {
        dot_q8_0(&r, tile->n_cols / 32, n_tokens, acc);
    } else {
        dot_nibbles(type, &r, tile->n_cols / 32, n_tokens, acc);
    }
    for (uint32_t t = 0; t < n_tokens; t++) {
        float lanes[DOT_ROWS];
        _mm256_storeu_ps(lanes, acc[t]);
        memcpy(tile->out + (t0 + t) * tile->out_stride + r0, lanes, n * sizeof(float));
    }
}

KERN_INLINE void dot_quantised(enum dtype type, enum kern_form form, const struct kern_tile *tile,
                               const struct kern_rows *a)
{
    for (uint32_t r = 0; r < tile->n_rows; r += DOT_ROWS) {
        uint32_t t = 0;
        for (; t + DOT_TOKENS_MAX <= a->n; t += DOT_TOKENS_MAX) {
            dot_tile(type, form, tile, a, r, t, DOT_TOKENS_MAX);
        }
        for (; t < a->n; t++) {
            dot_tile(type, form, tile, a, r, t, 1);
        }
    }
}

#else

KERN_INLINE int32_t dot_codes(const int16_t *w, const int8_t *q, uint32_t n)
{
    int32_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += w[i] * q[i];
    }
    return sum;
}

/* One block of one row by all tokens; out holds the sums so far. */
KERN_INLINE void dot_block(enum dtype type, enum kern_form form, const unsigned char *block,
                           uint32_t b, const struct kern_rows *a, float *out, size_t out_stride)
{
    int16_t codes[256];
    int16_t mins[16] = {0};
    bool k = form == KERN_Q256;
    uint32_t width = k ? 256 : 32;
    struct decode_scales s =
        k ? decode_256(type, block, codes, mins) : decode_32(type, block, codes);
    for (uint32_t t = 0; t < a->n; t++) {
        size_t row = row_of(a, t);
        float da = a->d[row * a->d_stride + b];
        int32_t sum = dot_codes(codes, a->q8 + row * a->q_stride + (size_t)b * width, width);
        float acc = fmaf(s.d * da, (float)sum, out[t * out_stride]);
        if (decode_has_min(type)) {
            const int16_t *sums = a->sums + row * a->sums_stride;
            sum = k ? 0 : sums[b];
            for (uint32_t j = 0; k && j < 16; j++) {
                sum += mins[j] * sums[16 * b + j];
            }
            acc = fmaf(s.m * da, (float)sum, acc);
        }
        out[t * out_stride] = acc;
    }
}

KERN_INLINE void dot_quantised(enum dtype type, enum kern_form form, const struct kern_tile *tile,
                               const struct kern_rows *a)
{
    const struct dtype_row *row = dtype_row(type);
    for (uint32_t r = 0; r < tile->n_rows; r++) {
        const unsigned char *w = tile->w + r * tile->row_bytes;
        for (uint32_t t = 0; t < a->n; t++) {
            tile->out[t * tile->out_stride + r] = 0.0f;
        }
        for (uint32_t b = 0; b < tile->n_cols / row->block_weights; b++) {
            dot_block(type, form, w + (size_t)b * row->block_bytes, b, a, tile->out + r,
                      tile->out_stride);
        }
    }
}

#endif

/* ---- float weights ---- */

/* Eight weights of any float type from column c; the last of an odd row are padded with zeros. */
KERN_INLINE f8 float_weights(enum dtype type, const unsigned char *row, uint32_t c, uint32_t n)
{
    if (type == DTYPE_F32) {
        const float *w = (const float *)(const void *)row + c;
        return n >= 8 ? f8_load(w) : f8_load_part(w, n);
    }
    uint16_t h[8] = {0};
    const unsigned char *at = row + 2 * (size_t)c;
    if (n < 8) {
        memcpy(h, at, 2 * n);
        at = (const unsigned char *)h;
    }
    if (type == DTYPE_F16) {
        return f8_load_f16(at);
    }
    uint32_t bits[8];
    memcpy(h, at, sizeof(h));
    for (int i = 0; i < 8; i++) {
        bits[i] = (uint32_t)h[i] << 16;
    }
    f8 v;
    memcpy(&v, bits, sizeof(v));
    return v;
}

/* n_rows weight rows from r0 by n_tokens tokens from t0. */
KERN_INLINE void float_tile(enum dtype type, const struct kern_tile *tile,
                            const struct kern_rows *a, uint32_t r0, uint32_t n_rows, uint32_t t0,
                            uint32_t n_tokens)
{
    enum { ROWS_MAX = 8, TOKENS_MAX = 3 };
    f8 acc[TOKENS_MAX][ROWS_MAX];
    const float *x[TOKENS_MAX];
    for (uint32_t t = 0; t < n_tokens; t++) {
        x[t] = a->f32 + row_of(a, t0 + t) * a->f32_stride;
        for (uint32_t r = 0; r < n_rows; r++) {
            acc[t][r] = f8_all(0.0f);
        }
    }
    const unsigned char *w = tile->w + r0 * tile->row_bytes;
    uint32_t whole = tile->n_cols & ~7u;
    for (uint32_t c = 0; c < whole; c += 8) {
        f8 in[TOKENS_MAX];
        for (uint32_t t = 0; t < n_tokens; t++) {
            in[t] = f8_load(x[t] + c);
        }
        for (uint32_t r = 0; r < n_rows; r++) {
            f8 v = float_weights(type, w + r * tile->row_bytes, c, 8);
            for (uint32_t t = 0; t < n_tokens; t++) {
                acc[t][r] = f8_fma(v, in[t], acc[t][r]);
            }
        }
    }
    for (uint32_t r = 0; r < n_rows; r++) {
        for (uint32_t t = 0; t < n_tokens; t++) {
            if (whole < tile->n_cols) {
                uint32_t n = tile->n_cols - whole;
                f8 v = float_weights(type, w + r * tile->row_bytes, whole, n);
                acc[t][r] = f8_fma(v, f8_load_part(x[t] + whole, n), acc[t][r]);
            }
            tile->out[(t0 + t) * tile->out_stride + r0 + r] = f8_sum(acc[t][r]);
        }
    }
}

/* All rows, n_rows at a time, by n_tokens tokens from t0. */
KERN_INLINE void float_rows(enum dtype type, const struct kern_tile *tile,
                            const struct kern_rows *a, uint32_t n_rows, uint32_t t0,
                            uint32_t n_tokens)
{
    uint32_t r = 0;
    for (; r + n_rows <= tile->n_rows; r += n_rows) {
        float_tile(type, tile, a, r, n_rows, t0, n_tokens);
    }
    for (; r < tile->n_rows; r++) {
        float_tile(type, tile, a, r, 1, t0, n_tokens);
    }
}

KERN_INLINE void dot_float(enum dtype type, const struct kern_tile *tile, const struct kern_rows *a)
{
    uint32_t t = 0;
    for (; a->n - t >= 3; t += 3) {
        float_rows(type, tile, a, 4, t, 3);
    }
    for (; a->n - t >= 2; t += 2) {
        float_rows(type, tile, a, 4, t, 2);
    }
    if (t < a->n) {
        float_rows(type, tile, a, 8, t, 1);
    }
}

/* ---- the table ---- */

/* Type, form, and the number of tokens from which unpacking for all of them pays (measured on Zen
 * 3: wide codes are unpacked to twice their size, IQ4_XS in plain C); at least 8. */
#define QUANTISED_TYPES(X)                                                                         \
    X(Q4_0, KERN_Q32, 12)                                                                          \
    X(Q4_1, KERN_Q32, 12)                                                                          \
    X(Q5_0, KERN_Q32, 12)                                                                          \
    X(Q5_1, KERN_Q32, 12)                                                                          \
    X(Q8_0, KERN_Q32, 28)                                                                          \
    X(IQ4_NL, KERN_Q32, 20)                                                                        \
    X(MXFP4, KERN_Q32, 12)                                                                         \
    X(Q2_K, KERN_Q256, 16)                                                                         \
    X(Q3_K, KERN_Q256, 16)                                                                         \
    X(Q4_K, KERN_Q256, 8)                                                                          \
    X(Q5_K, KERN_Q256, 16)                                                                         \
    X(Q6_K, KERN_Q256, 16)                                                                         \
    X(IQ4_XS, KERN_Q256, 100)
#define FLOAT_TYPES(X) X(F32) X(F16) X(BF16)

#define DEFINE_FLOAT(T)                                                                            \
    static void dot_##T##_rows(const struct kern_tile *tile, const struct kern_rows *a)            \
    {                                                                                              \
        dot_float(DTYPE_##T, tile, a);                                                             \
    }
FLOAT_TYPES(DEFINE_FLOAT)

#define DEFINE_DOT(T, form, tokens)                                                                \
    static void dot_##T##_rows(const struct kern_tile *tile, const struct kern_rows *a)            \
    {                                                                                              \
        dot_quantised(DTYPE_##T, form, tile, a);                                                   \
    }
QUANTISED_TYPES(DEFINE_DOT)

#if defined(__AVX2__)
#define DEFINE_GEMM(T, form, tokens)                                                               \
    static void gemm_##T(const struct kern_tile *tile, const struct kern_rows *a, void *scratch)   \
    {                                                                                              \
        gemm(DTYPE_##T, tile, a, scratch);                                                         \
    }
QUANTISED_TYPES(DEFINE_GEMM)
#define ROW_QUANTISED(T, form, tokens) [DTYPE_##T] = {form, dot_##T##_rows, gemm_##T, tokens},
#else
#define ROW_QUANTISED(T, form, tokens) [DTYPE_##T] = {form, dot_##T##_rows, NULL, UINT32_MAX},
#endif
#define ROW_FLOAT(T) [DTYPE_##T] = {KERN_F32, dot_##T##_rows, NULL, UINT32_MAX},

extern const struct kern_linear_table KERN_NAME(kern_linear);
const struct kern_linear_table KERN_NAME(kern_linear) = {
    .quantise = {[KERN_Q32] = quantise_row_32, [KERN_Q256] = quantise_row_256},
    .types = {FLOAT_TYPES(ROW_FLOAT) QUANTISED_TYPES(ROW_QUANTISED)},
};
