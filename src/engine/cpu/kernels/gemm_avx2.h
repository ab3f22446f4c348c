/* gemm_avx2.h: quantised weights times many tokens, for AVX2.
 *
 * 32 weight rows by 256 columns are unpacked once into a panel that stays in the first-level cache
 * and is used by all tokens, a few at a time, without shuffles or sums across a register:
 *
 *   narrow codes (0…63)  [4 columns][16 rows][4] bytes: vpmaddubsw with four broadcast activations;
 *                        16-bit sums of `group` such products, as many as cannot overflow, then
 *                        vpmaddwd by the integer scale of the run (or 1) into 32 bits
 *   wide codes           [2 columns][16 rows][2] 16 bits, run scales multiplied in: vpmaddwd
 *   out[t][32 rows]      float sums so far, read and written once per block
 *
 * A constant taken off narrow codes is taken off the sum again, through sums of activations. */
#ifndef ENGINE_CPU_KERNELS_GEMM_AVX2_H
#define ENGINE_CPU_KERNELS_GEMM_AVX2_H

#if defined(__AVX2__)

#include "base/assert.h"
#include "engine/cpu/kernels/decode.h"
#include "engine/cpu/kernels/dot_avx2.h"
#include "engine/cpu/kernels/vec.h"

enum {
    GEMM_HALF_ROWS = 16,
    GEMM_COLS = 256, /* of a panel */
    GEMM_BLOCKS = 8, /* of 32 columns in a panel */
    GEMM_TOKENS = 6, /* most of a register tile */
};

struct gemm_half {
    int32_t codes[GEMM_COLS / 2][GEMM_HALF_ROWS]; /* narrow ones use the first 64 */
    int32_t scale[16][GEMM_HALF_ROWS];            /* of runs of 16, twice in 16 bits */
    int32_t pairs[8][GEMM_HALF_ROWS];             /* minimums of runs 2 j and 2 j + 1, or scales */
    float d[GEMM_BLOCKS][GEMM_HALF_ROWS];         /* one block of 256, or up to eight of 32 */
    float m[GEMM_BLOCKS][GEMM_HALF_ROWS];
};

/* One row before rows are interleaved. */
struct gemm_row {
    union {
        uint8_t narrow[GEMM_COLS];
        int16_t wide[GEMM_COLS];
        int32_t dwords[GEMM_COLS / 2];
    } codes;
    int32_t scale[16];
    int16_t pairs[16];
};

struct gemm_panel {
    struct gemm_half half[2];
    struct gemm_row rows[8];
    float spare[KERN_TILE_ROWS];
};

_Static_assert(sizeof(struct gemm_panel) <= KERN_SCRATCH_BYTES, "scratch holds a panel");

/* ---- types ---- */

struct gemm_type {
    uint32_t width; /* of a block */
    uint32_t group; /* products of four columns that 16 bits hold; 0 = wide codes */
    int zero;       /* taken off narrow codes */
    bool min;
};

KERN_INLINE struct gemm_type gemm_type(enum dtype type)
{
    switch (type) {
    case DTYPE_Q4_0:
        return (struct gemm_type){32, 8, 8, false};
    case DTYPE_Q4_1:
        return (struct gemm_type){32, 8, 0, true};
    case DTYPE_Q5_0:
        return (struct gemm_type){32, 4, 16, false};
    case DTYPE_Q5_1:
        return (struct gemm_type){32, 4, 0, true};
    case DTYPE_MXFP4: /* 0…24 with 12 added */
        return (struct gemm_type){32, 4, 12, false};
    case DTYPE_Q2_K:
        return (struct gemm_type){256, 4, 0, true};
    case DTYPE_Q3_K:
        return (struct gemm_type){256, 4, 4, false};
    case DTYPE_Q4_K:
        return (struct gemm_type){256, 8, 0, true};
    case DTYPE_Q5_K:
        return (struct gemm_type){256, 4, 0, true};
    case DTYPE_Q6_K:
        return (struct gemm_type){256, 2, 32, false};
    case DTYPE_IQ4_XS:
        return (struct gemm_type){256, 0, 0, false};
    default: /* DTYPE_Q8_0, DTYPE_IQ4_NL */
        return (struct gemm_type){32, 0, 0, false};
    }
}

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

/* n (a multiple of 8) 32-bit values of eight rows at `in` to out[n][rows at … at + 7]. */
KERN_INLINE void gemm_interleave(const void *in, uint32_t n, int32_t (*out)[GEMM_HALF_ROWS],
                                 uint32_t at)
{
    const unsigned char *bytes = in;
    for (uint32_t p = 0; p < n; p += 8) {
        __m256i v[8];
        for (uint32_t i = 0; i < 8; i++) {
            v[i] = dot_load(bytes + i * sizeof(struct gemm_row) + 4 * p);
        }
        gemm_transpose(v);
        for (uint32_t i = 0; i < 8; i++) {
            _mm256_storeu_si256((void *)&out[p + i][at], v[i]);
        }
    }
}

/* Narrow codes of blocks of 32, two at a time. */
KERN_INLINE void gemm_unpack_nibbles(enum dtype type, const unsigned char *w, uint32_t n_blocks,
                                     struct gemm_row *row)
{
    size_t bytes = dot_nibble_type(type).bytes;
    for (uint32_t b = 0; b < n_blocks; b += 2) {
        uint32_t second = b + 1 < n_blocks ? b + 1 : b;
        __m256i v[2];
        dot_unpack2(type, w + b * bytes, w + second * bytes, v);
        __m256i *to = (__m256i *)(void *)(row->codes.narrow + 32 * b);
        _mm256_storeu_si256(to, _mm256_permute2x128_si256(v[0], v[1], 0x20));
        if (second != b) {
            _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(v[0], v[1], 0x31));
        }
    }
}

/* Sixteen signed scales, each twice in 32 bits. */
KERN_INLINE void gemm_unpack_scales(__m128i scales, struct gemm_row *row)
{
    __m256i twice = _mm256_set1_epi32(0x00010001);
    __m256i mask = _mm256_set1_epi32(0xFFFF);
    __m256i low = _mm256_and_si256(_mm256_cvtepi8_epi32(scales), mask);
    __m256i high = _mm256_and_si256(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(scales, scales)), mask);
    _mm256_storeu_si256((void *)row->scale, _mm256_mullo_epi32(low, twice));
    _mm256_storeu_si256((void *)(row->scale + 8), _mm256_mullo_epi32(high, twice));
}

KERN_INLINE void gemm_unpack_pairs(__m128i values, struct gemm_row *row)
{
    _mm256_storeu_si256((void *)row->pairs, _mm256_cvtepi8_epi16(values));
}

/* Q4_K and, with qh not NULL, Q5_K. */
KERN_INLINE void gemm_unpack_q45_k(const void *block, const uint8_t *qh, const uint8_t *qs,
                                   struct gemm_row *row)
{
    __m256i *to = (__m256i *)(void *)row->codes.narrow;
    for (int g = 0; g < 4; g++) {
        __m256i w[2];
        dot_q45_k_codes(qs + 32 * g, qh, g, w);
        _mm256_storeu_si256(to + 2 * g, w[0]);
        _mm256_storeu_si256(to + 2 * g + 1, w[1]);
    }
    __m128i both = dot_k4_scales(block); /* every run of 32 is two of 16 */
    gemm_unpack_scales(_mm_unpacklo_epi8(both, both), row);
    gemm_unpack_pairs(_mm_unpackhi_epi8(both, both), row);
}

KERN_INLINE void gemm_unpack_runs_16(enum dtype type, const void *block, struct gemm_row *row)
{
    __m256i *to = (__m256i *)(void *)row->codes.narrow;
    for (int j = 0; j < 8; j++) {
        _mm256_storeu_si256(to + j, dot_run_codes(type, block, j));
    }
    __m128i mins = _mm_setzero_si128();
    __m128i scales = dot_run_scales(type, block, &mins);
    gemm_unpack_scales(scales, row);
    gemm_unpack_pairs(type == DTYPE_Q2_K ? mins : scales, row);
}

/* Wide codes of blocks of 32. */
KERN_INLINE void gemm_unpack_wide(enum dtype type, const unsigned char *w, uint32_t n_blocks,
                                  struct gemm_row *row)
{
    size_t bytes = type == DTYPE_Q8_0 ? sizeof(struct block_q8_0) : sizeof(struct block_iq4_nl);
    for (uint32_t b = 0; b < n_blocks; b++) {
        __m256i codes;
        if (type == DTYPE_Q8_0) {
            codes = dot_load(w + b * bytes + 2);
        } else {
            __m256i v[2];
            dot_unpack2(type, w + b * bytes, w + b * bytes, v);
            codes = _mm256_permute2x128_si256(v[0], v[1], 0x20);
        }
        __m256i *to = (__m256i *)(void *)(row->codes.wide + 32 * b);
        _mm256_storeu_si256(to, _mm256_cvtepi8_epi16(_mm256_castsi256_si128(codes)));
        _mm256_storeu_si256(to + 1, _mm256_cvtepi8_epi16(_mm256_extracti128_si256(codes, 1)));
    }
}

/* n_blocks blocks of one row. */
KERN_INLINE void gemm_unpack_row(enum dtype type, const unsigned char *w, uint32_t n_blocks,
                                 struct gemm_row *row)
{
    const struct block_q4_k *q4 = (const void *)w;
    const struct block_q5_k *q5 = (const void *)w;
    const struct gemm_type k = gemm_type(type);
    if (type == DTYPE_IQ4_XS) {
        decode_iq4_xs((const void *)w, row->codes.wide);
    } else if (k.group == 0) {
        gemm_unpack_wide(type, w, n_blocks, row);
    } else if (k.width == 32) {
        gemm_unpack_nibbles(type, w, n_blocks, row);
    } else if (type == DTYPE_Q4_K) {
        gemm_unpack_q45_k(w, NULL, q4->qs, row);
    } else if (type == DTYPE_Q5_K) {
        gemm_unpack_q45_k(w, q5->qh, q5->qs, row);
    } else {
        gemm_unpack_runs_16(type, w, row);
    }
}

/* The float scales of eight rows, for every block. */
KERN_INLINE void gemm_unpack_floats(enum dtype type, const unsigned char *const w[8],
                                    uint32_t n_blocks, struct gemm_half *half, uint32_t at)
{
    const struct gemm_type k = gemm_type(type);
    struct dot_rows r;
    memcpy(r.w, w, sizeof(r.w));
    size_t bytes = dtype_row(type)->block_bytes;
    size_t d_at = k.width == 256 ? dot_k_type(type).d : 0;
    size_t m_at = k.width == 256 ? dot_k_type(type).dmin : 2;
    __m256 sign = _mm256_set1_ps(k.width == 256 ? -0.0f : 0.0f);
    for (uint32_t b = 0; b < n_blocks; b++) {
        __m256 d =
            type == DTYPE_MXFP4 ? dot_scales_e8m0(&r, b * bytes) : dot_scales(&r, b * bytes + d_at);
        _mm256_storeu_ps(half->d[b] + at, d);
        if (k.min) {
            __m256 m = _mm256_xor_ps(dot_scales(&r, b * bytes + m_at), sign);
            _mm256_storeu_ps(half->m[b] + at, m);
        }
    }
}

/* Columns [at, at + n) of the tile's rows; rows past the last repeat it. */
KERN_INLINE void gemm_unpack(enum dtype type, const struct kern_tile *tile, uint32_t at, uint32_t n,
                             struct gemm_panel *p)
{
    const struct gemm_type k = gemm_type(type);
    const size_t offset = at / k.width * (size_t)dtype_row(type)->block_bytes;
    for (uint32_t r0 = 0; r0 < KERN_TILE_ROWS; r0 += 8) {
        struct gemm_half *half = &p->half[r0 / GEMM_HALF_ROWS];
        uint32_t column = r0 % GEMM_HALF_ROWS;
        const unsigned char *w[8];
        for (uint32_t i = 0; i < 8; i++) {
            w[i] = tile->w + MIN(r0 + i, tile->n_rows - 1) * tile->row_bytes + offset;
            gemm_unpack_row(type, w[i], n / k.width, &p->rows[i]);
        }
        gemm_unpack_floats(type, w, n / k.width, half, column);
        gemm_interleave(&p->rows[0].codes, k.group == 0 ? n / 2 : n / 4, half->codes, column);
        if (k.width == 256 && k.group != 0) {
            gemm_interleave(p->rows[0].scale, 16, half->scale, column);
            gemm_interleave(p->rows[0].pairs, 8, half->pairs, column);
        }
    }
}

/* ---- multiplying ---- */

/* Some tokens against one half of a panel. */
struct gemm_tokens {
    const int8_t *q8[GEMM_TOKENS]; /* at the panel's first column */
    const int16_t *q16[GEMM_TOKENS];
    const float *d[GEMM_TOKENS];
    const int16_t *sums[GEMM_TOKENS];
    float *out[GEMM_TOKENS]; /* of the half's first row */
};

/* sum += more, in place: left to itself gcc 12 keeps sums in new registers and copies them back,
 * a fifth of the loop's instructions. */
KERN_INLINE void gemm_sum_32(__m256i *sum, __m256i more)
{
    __asm__("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(more));
}

KERN_INLINE void gemm_sum_16(__m256i *sum, __m256i more)
{
    __asm__("vpaddw %1, %0, %0" : "+x"(*sum) : "x"(more));
}

KERN_INLINE __m256i gemm_four_bytes(const void *at)
{
    int32_t value;
    memcpy(&value, at, sizeof(value));
    return _mm256_set1_epi32(value);
}

KERN_INLINE void gemm_zero(__m256i sum[GEMM_TOKENS][2], uint32_t n_tokens)
{
    for (uint32_t t = 0; t < n_tokens; t++) {
        sum[t][0] = _mm256_setzero_si256();
        sum[t][1] = _mm256_setzero_si256();
    }
}

/* sum[t] += products of n pairs of 16-bit columns. */
KERN_INLINE void gemm_wide(const int32_t (*codes)[GEMM_HALF_ROWS], uint32_t n,
                           const int16_t *const *q, size_t at, uint32_t n_tokens,
                           __m256i sum[GEMM_TOKENS][2])
{
#pragma GCC unroll 2
    for (uint32_t p = 0; p < n; p++) {
        __m256i w0 = dot_load(codes[p]);
        __m256i w1 = dot_load(codes[p] + 8);
        for (uint32_t t = 0; t < n_tokens; t++) {
            __m256i x = gemm_four_bytes(q[t] + at + 2 * p);
            gemm_sum_32(&sum[t][0], _mm256_madd_epi16(w0, x));
            gemm_sum_32(&sum[t][1], _mm256_madd_epi16(w1, x));
        }
    }
}

/* sum[t] += products of `group` fours of columns, times a scale. */
KERN_INLINE void gemm_narrow(const int32_t (*codes)[GEMM_HALF_ROWS], uint32_t group,
                             const __m256i scale[2], const int8_t *const *q, size_t at,
                             uint32_t n_tokens, __m256i sum[GEMM_TOKENS][2])
{
    __m256i part[GEMM_TOKENS][2];
#pragma GCC unroll 8
    for (uint32_t p = 0; p < group; p++) {
        __m256i w0 = dot_load(codes[p]);
        __m256i w1 = dot_load(codes[p] + 8);
        for (uint32_t t = 0; t < n_tokens; t++) {
            __m256i x = gemm_four_bytes(q[t] + at + 4 * p);
            __m256i p0 = _mm256_maddubs_epi16(w0, x);
            __m256i p1 = _mm256_maddubs_epi16(w1, x);
            if (p == 0) {
                part[t][0] = p0;
                part[t][1] = p1;
            } else {
                gemm_sum_16(&part[t][0], p0);
                gemm_sum_16(&part[t][1], p1);
            }
        }
    }
    for (uint32_t t = 0; t < n_tokens; t++) {
        gemm_sum_32(&sum[t][0], _mm256_madd_epi16(part[t][0], scale[0]));
        gemm_sum_32(&sum[t][1], _mm256_madd_epi16(part[t][1], scale[1]));
    }
}

/* Σ w q of block b, exact. */
KERN_INLINE void gemm_block(enum dtype type, const struct gemm_half *half,
                            const struct gemm_tokens *k, uint32_t b, uint32_t n_tokens,
                            __m256i sum[GEMM_TOKENS][2])
{
    const struct gemm_type ty = gemm_type(type);
    gemm_zero(sum, n_tokens);
    if (ty.group == 0) {
        gemm_wide(half->codes + b * ty.width / 2, ty.width / 2, k->q16, b * ty.width, n_tokens,
                  sum);
        return;
    }
    const uint32_t fours = ty.width / 4;
    for (uint32_t g = 0; g < fours; g += ty.group) {
        __m256i scale[2] = {_mm256_set1_epi16(1), _mm256_set1_epi16(1)};
        if (ty.width == 256) {
            scale[0] = dot_load(half->scale[g / 4]);
            scale[1] = dot_load(half->scale[g / 4] + 8);
        }
        gemm_narrow(half->codes + b * fours + g, ty.group, scale, k->q8, b * ty.width + 4 * g,
                    n_tokens, sum);
    }
    if (ty.zero != 0 && ty.width == 32) {
        for (uint32_t t = 0; t < n_tokens; t++) {
            __m256i zero = _mm256_set1_epi32(ty.zero * k->sums[t][b]);
            sum[t][0] = _mm256_sub_epi32(sum[t][0], zero);
            sum[t][1] = _mm256_sub_epi32(sum[t][1], zero);
        }
    } else if (ty.zero != 0) {
        const int shift = ty.zero == 32 ? 5 : 2;
        __m256i zero[GEMM_TOKENS][2];
        gemm_zero(zero, n_tokens);
        gemm_wide(half->pairs, 8, k->sums, b * 16, n_tokens, zero);
        for (uint32_t t = 0; t < n_tokens; t++) {
            sum[t][0] = _mm256_sub_epi32(sum[t][0], _mm256_slli_epi32(zero[t][0], shift));
            sum[t][1] = _mm256_sub_epi32(sum[t][1], _mm256_slli_epi32(zero[t][1], shift));
        }
    }
}

/* out += d * da * sum, as kernels.h states. */
KERN_INLINE void gemm_add(float *out, const float *d, __m256 da, __m256i sum)
{
    __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(d), da);
    __m256 acc = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(sum), _mm256_loadu_ps(out));
    _mm256_storeu_ps(out, acc);
}

KERN_INLINE void gemm_tokens(enum dtype type, const struct gemm_half *half,
                             const struct gemm_tokens *k, uint32_t n_blocks, uint32_t n_tokens)
{
    const struct gemm_type ty = gemm_type(type);
    for (uint32_t b = 0; b < n_blocks; b++) {
        __m256i sum[GEMM_TOKENS][2];
        gemm_block(type, half, k, b, n_tokens, sum);
        for (uint32_t t = 0; t < n_tokens; t++) {
            __m256 da = _mm256_set1_ps(k->d[t][b]);
            gemm_add(k->out[t], half->d[b], da, sum[t][0]);
            gemm_add(k->out[t] + 8, half->d[b] + 8, da, sum[t][1]);
        }
        if (!ty.min) {
            continue;
        }
        gemm_zero(sum, n_tokens);
        if (ty.width == 256) {
            gemm_wide(half->pairs, 8, k->sums, b * 16, n_tokens, sum);
        }
        for (uint32_t t = 0; t < n_tokens; t++) {
            if (ty.width == 32) {
                sum[t][0] = sum[t][1] = _mm256_set1_epi32(k->sums[t][b]);
            }
            __m256 da = _mm256_set1_ps(k->d[t][b]);
            gemm_add(k->out[t], half->m[b], da, sum[t][0]);
            gemm_add(k->out[t] + 8, half->m[b] + 8, da, sum[t][1]);
        }
    }
}

/* Tokens of a register tile: wide codes have sums of one kind, narrow ones of two. */
KERN_INLINE uint32_t gemm_step(enum dtype type)
{
    return gemm_type(type).group == 0 ? 6 : 4;
}

/* The last tile is filled up with its last token, whose spare results go nowhere: one size of tile
 * instead of one per number of tokens. */
KERN_INLINE void gemm_panel(enum dtype type, const struct kern_tile *tile,
                            const struct kern_rows *a, uint32_t at, struct gemm_panel *p)
{
    const uint32_t width = gemm_type(type).width;
    const uint32_t step = gemm_step(type);
    uint32_t n = MIN(tile->n_cols - at, (uint32_t)GEMM_COLS);
    gemm_unpack(type, tile, at, n, p);
    for (uint32_t t0 = 0; t0 < a->n; t0 += step) {
        struct gemm_tokens k;
        for (uint32_t i = 0; i < step; i++) {
            uint32_t t = MIN(t0 + i, a->n - 1);
            size_t row = a->index != NULL ? a->index[t] : t;
            k.q8[i] = a->q8 + row * a->q_stride + at;
            k.q16[i] = a->q16 + row * a->q_stride + at;
            k.d[i] = a->d + row * a->d_stride + at / width;
            k.sums[i] = a->sums + row * a->sums_stride + at / (width == 256 ? 16 : 32);
            k.out[i] = t0 + i < a->n ? tile->out + t * tile->out_stride : p->spare;
        }
        gemm_tokens(type, &p->half[0], &k, n / width, step);
        for (uint32_t i = 0; i < step; i++) {
            k.out[i] += GEMM_HALF_ROWS;
        }
        gemm_tokens(type, &p->half[1], &k, n / width, step);
    }
}

KERN_INLINE void gemm(enum dtype type, const struct kern_tile *tile, const struct kern_rows *a,
                      void *scratch)
{
    ASSERT(tile->n_rows <= KERN_TILE_ROWS && tile->out_stride >= KERN_TILE_ROWS);
    for (uint32_t t = 0; t < a->n; t++) {
        memset(tile->out + t * tile->out_stride, 0, KERN_TILE_ROWS * sizeof(float));
    }
    for (uint32_t at = 0; at < tile->n_cols; at += GEMM_COLS) {
        gemm_panel(type, tile, a, at, scratch);
    }
}

#endif
#endif
