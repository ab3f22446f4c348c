/* gemm_avx2.h: quantised weights times many tokens, for AVX2.
 *
 * 32 weight rows by 256 columns are unpacked once into a panel that stays in the first-level cache
 * and is used by all tokens, six at a time:
 *
 *   panel half (16 rows):  [column pair][16 rows][2] 16-bit codes: vpmaddwd with a broadcast pair
 * of activations adds two columns to the sums of eight rows, no shuffles out[t][32 rows] float sums
 * so far, read and written once per block
 *
 * Codes hold the integer scales of their runs (decode.h), so that a block of 256 is one sum. */
#ifndef ENGINE_CPU_KERNELS_GEMM_AVX2_H
#define ENGINE_CPU_KERNELS_GEMM_AVX2_H

#if defined(__AVX2__)

#include "base/assert.h"
#include "engine/cpu/kernels/decode.h"
#include "engine/cpu/kernels/vec.h"

enum {
    GEMM_HALF_ROWS = 16,
    GEMM_COLS = 256,    /* of a panel */
    GEMM_TOKENS = 6,    /* of a register tile */
    GEMM_BLOCKS = 8,    /* of 32 columns in a panel */
    GEMM_MIN_PAIRS = 8, /* of runs of 16 in a block of 256 */
};

struct gemm_half {
    int16_t codes[GEMM_COLS / 2][GEMM_HALF_ROWS][2];
    int16_t mins[GEMM_MIN_PAIRS][GEMM_HALF_ROWS][2]; /* KERN_Q256 */
    float d[GEMM_BLOCKS][GEMM_HALF_ROWS];            /* one block with KERN_Q256 */
    float m[GEMM_BLOCKS][GEMM_HALF_ROWS];
};

struct gemm_panel {
    struct gemm_half half[2];
    /* Eight rows before they are interleaved. */
    int16_t rows[8][GEMM_COLS];
    int16_t row_mins[8][2 * GEMM_MIN_PAIRS];
};

_Static_assert(sizeof(struct gemm_panel) <= KERN_SCRATCH_BYTES, "scratch holds a panel");

/* ---- unpacking ---- */

/* Rows of eight 32-bit values to columns. */
KERN_INLINE void gemm_transpose(__m256i v[8])
{
    __m256i a[8], b[8];
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        b[4 * i] = _mm256_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 1] = _mm256_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 2] = _mm256_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
        b[4 * i + 3] = _mm256_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        v[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
}

/* in[8 rows][n] to out[n / 2][rows at, at + 7][2]; n is a multiple of 16. */
KERN_INLINE void gemm_interleave(const int16_t *in, uint32_t n, uint32_t in_stride,
                                 int16_t (*out)[GEMM_HALF_ROWS][2], uint32_t at)
{
    for (uint32_t p = 0; p < n / 2; p += 8) {
        __m256i v[8];
        for (int i = 0; i < 8; i++) {
            v[i] = _mm256_loadu_si256((const void *)(in + (size_t)i * in_stride + 2 * p));
        }
        gemm_transpose(v);
        for (int i = 0; i < 8; i++) {
            _mm256_storeu_si256((void *)out[p + (uint32_t)i][at], v[i]);
        }
    }
}

/* Columns [at, at + n) of the tile's rows; rows past the last repeat it. */
KERN_INLINE void gemm_unpack(enum dtype type, enum kern_form form, const struct kern_tile *tile,
                             uint32_t at, uint32_t n, struct gemm_panel *p)
{
    const uint32_t width = form == KERN_Q256 ? 256 : 32;
    const size_t block_bytes = dtype_row(type)->block_bytes;
    for (uint32_t r0 = 0; r0 < KERN_TILE_ROWS; r0 += 8) {
        struct gemm_half *half = &p->half[r0 / GEMM_HALF_ROWS];
        uint32_t column = r0 % GEMM_HALF_ROWS;
        for (uint32_t i = 0; i < 8; i++) {
            uint32_t row = MIN(r0 + i, tile->n_rows - 1);
            const unsigned char *w = tile->w + row * tile->row_bytes + at / width * block_bytes;
            for (uint32_t b = 0; b < n / width; b++) {
                struct decode_scales s =
                    form == KERN_Q256
                        ? decode_256(type, w + b * block_bytes, p->rows[i], p->row_mins[i])
                        : decode_32(type, w + b * block_bytes, p->rows[i] + 32 * b);
                half->d[b][column + i] = s.d;
                half->m[b][column + i] = s.m;
            }
        }
        gemm_interleave(p->rows[0], n, GEMM_COLS, half->codes, column);
        if (form == KERN_Q256 && decode_has_min(type)) {
            gemm_interleave(p->row_mins[0], 2 * GEMM_MIN_PAIRS, 2 * GEMM_MIN_PAIRS, half->mins,
                            column);
        }
    }
}

/* ---- multiplying ---- */

/* One to six tokens against one half of a panel. */
struct gemm_tokens {
    const int16_t *q[GEMM_TOKENS]; /* at the panel's first column */
    const float *d[GEMM_TOKENS];
    const int16_t *sums[GEMM_TOKENS];
    float *out[GEMM_TOKENS]; /* of the half's first row */
};

KERN_INLINE __m256i gemm_pair(const int16_t *at)
{
    int32_t pair;
    memcpy(&pair, at, sizeof(pair));
    return _mm256_set1_epi32(pair);
}

KERN_INLINE void gemm_sums(const int16_t (*codes)[GEMM_HALF_ROWS][2], uint32_t n_pairs,
                           const int16_t *const *q, size_t at, uint32_t n_tokens,
                           __m256i sum[GEMM_TOKENS][2])
{
    for (uint32_t t = 0; t < n_tokens; t++) {
        sum[t][0] = _mm256_setzero_si256();
        sum[t][1] = _mm256_setzero_si256();
    }
    for (uint32_t p = 0; p < n_pairs; p++) {
        __m256i w0 = _mm256_loadu_si256((const void *)codes[p][0]);
        __m256i w1 = _mm256_loadu_si256((const void *)codes[p][8]);
        for (uint32_t t = 0; t < n_tokens; t++) {
            __m256i x = gemm_pair(q[t] + at + 2 * p);
            sum[t][0] = _mm256_add_epi32(sum[t][0], _mm256_madd_epi16(w0, x));
            sum[t][1] = _mm256_add_epi32(sum[t][1], _mm256_madd_epi16(w1, x));
        }
    }
}

/* out += d * da * sum, as kernels.h states. */
KERN_INLINE void gemm_add(float *out, const float *d, float da, __m256i sum)
{
    __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(d), _mm256_set1_ps(da));
    __m256 acc = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(sum), _mm256_loadu_ps(out));
    _mm256_storeu_ps(out, acc);
}

KERN_INLINE void gemm_tokens(enum dtype type, enum kern_form form, const struct gemm_half *half,
                             const struct gemm_tokens *k, uint32_t n_blocks, uint32_t n_tokens)
{
    const uint32_t width = form == KERN_Q256 ? 256 : 32;
    for (uint32_t b = 0; b < n_blocks; b++) {
        __m256i sum[GEMM_TOKENS][2];
        gemm_sums(half->codes + b * width / 2, width / 2, k->q, b * width, n_tokens, sum);
        for (uint32_t t = 0; t < n_tokens; t++) {
            gemm_add(k->out[t], half->d[b], k->d[t][b], sum[t][0]);
            gemm_add(k->out[t] + 8, half->d[b] + 8, k->d[t][b], sum[t][1]);
        }
        if (!decode_has_min(type)) {
            continue;
        }
        if (form == KERN_Q256) {
            gemm_sums(half->mins, GEMM_MIN_PAIRS, k->sums, b * 16, n_tokens, sum);
        } else {
            for (uint32_t t = 0; t < n_tokens; t++) {
                sum[t][0] = sum[t][1] = _mm256_set1_epi32(k->sums[t][b]);
            }
        }
        for (uint32_t t = 0; t < n_tokens; t++) {
            gemm_add(k->out[t], half->m[b], k->d[t][b], sum[t][0]);
            gemm_add(k->out[t] + 8, half->m[b] + 8, k->d[t][b], sum[t][1]);
        }
    }
}

KERN_INLINE void gemm_half(enum dtype type, enum kern_form form, const struct gemm_half *half,
                           const struct gemm_tokens *k, uint32_t n_blocks, uint32_t n_tokens)
{
    switch (n_tokens) {
    case 6:
        gemm_tokens(type, form, half, k, n_blocks, 6);
        break;
    case 4:
        gemm_tokens(type, form, half, k, n_blocks, 4);
        break;
    case 2:
        gemm_tokens(type, form, half, k, n_blocks, 2);
        break;
    default:
        gemm_tokens(type, form, half, k, n_blocks, 1);
    }
}

KERN_INLINE void gemm_panel(enum dtype type, enum kern_form form, const struct kern_tile *tile,
                            const struct kern_rows *a, uint32_t at, struct gemm_panel *p)
{
    const uint32_t width = form == KERN_Q256 ? 256 : 32;
    uint32_t n = MIN(tile->n_cols - at, (uint32_t)GEMM_COLS);
    gemm_unpack(type, form, tile, at, n, p);
    uint32_t step;
    for (uint32_t t0 = 0; t0 < a->n; t0 += step) {
        uint32_t left = a->n - t0;
        step = left >= 6 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        for (uint32_t h = 0; h < 2; h++) {
            struct gemm_tokens k;
            for (uint32_t t = 0; t < step; t++) {
                size_t row = a->index != NULL ? a->index[t0 + t] : t0 + t;
                k.q[t] = a->q16 + row * a->q_stride + at;
                k.d[t] = a->d + row * a->d_stride + at / width;
                k.sums[t] = a->sums + row * a->sums_stride + at / (form == KERN_Q256 ? 16 : 32);
                k.out[t] = tile->out + (t0 + t) * tile->out_stride + h * GEMM_HALF_ROWS;
            }
            gemm_half(type, form, &p->half[h], &k, n / width, step);
        }
    }
}

KERN_INLINE void gemm(enum dtype type, enum kern_form form, const struct kern_tile *tile,
                      const struct kern_rows *a, void *scratch)
{
    ASSERT(tile->n_rows <= KERN_TILE_ROWS && tile->out_stride >= KERN_TILE_ROWS);
    for (uint32_t t = 0; t < a->n; t++) {
        memset(tile->out + t * tile->out_stride, 0, KERN_TILE_ROWS * sizeof(float));
    }
    for (uint32_t at = 0; at < tile->n_cols; at += GEMM_COLS) {
        gemm_panel(type, form, tile, a, at, scratch);
    }
}

#endif
#endif
