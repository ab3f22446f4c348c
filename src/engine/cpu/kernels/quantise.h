/* quantise.h: rows of activations to int8 blocks (KERN_Q32, KERN_Q256).
 *
 * d = max |x| / 127 over the block, q = x * (127 / max |x|) rounded to nearest, ties to even. */
#ifndef ENGINE_CPU_KERNELS_QUANTISE_H
#define ENGINE_CPU_KERNELS_QUANTISE_H

#include <math.h>

#include "engine/cpu/kernels/vec.h"

KERN_INLINE f8 f8_abs(f8 v)
{
    return (f8)((i8x)v & INT32_MAX);
}

/* ---- one block ---- */

/* 32 values times `scale` to int8; returns their sum over each 16. */
KERN_INLINE void quantise_32(const float *in, float scale, int8_t *q8, int16_t sums[2])
{
    for (int h = 0; h < 2; h++) {
        int sum = 0;
        for (int i = 16 * h; i < 16 * h + 16; i++) {
            float x = in[i] * scale;
            x = x > -127.0f ? x : -127.0f;
            x = x < 127.0f ? x : 127.0f;
            int q = (int)lrintf(x);
            q8[i] = (int8_t)q;
            sum += q;
        }
        sums[h] = (int16_t)sum;
    }
}

KERN_INLINE float quantise_max(const float *in, uint32_t n)
{
    f8 max = f8_all(0.0f);
    for (uint32_t i = 0; i < n; i += 8) {
        max = f8_max(f8_abs(f8_load(in + i)), max);
    }
    return f8_max_of(max);
}

/* ---- eight blocks of 32 columns ---- */

#if defined(__AVX2__)

/* Lane i is the largest of v[i]. */
KERN_INLINE __m256 quantise_max_of(const __m256 v[8])
{
    __m256 a[4], b[2];
    for (int i = 0; i < 4; i++) {
        a[i] = _mm256_max_ps(_mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]),
                             _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]));
    }
    for (int i = 0; i < 2; i++) {
        __m256d x = _mm256_castps_pd(a[2 * i]);
        __m256d y = _mm256_castps_pd(a[2 * i + 1]);
        b[i] = _mm256_max_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(x, y)),
                             _mm256_castpd_ps(_mm256_unpackhi_pd(x, y)));
    }
    return _mm256_max_ps(_mm256_permute2f128_ps(b[0], b[1], 0x20),
                         _mm256_permute2f128_ps(b[0], b[1], 0x31));
}

/* The largest |x| of each block. A NaN counts as nothing: max(NaN, b) is b. */
KERN_INLINE __m256 quantise_max_8(const float *in)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 max[8];
    for (int b = 0; b < 8; b++) {
        max[b] = _mm256_setzero_ps();
        for (int i = 0; i < 4; i++) {
            __m256 x = _mm256_andnot_ps(sign, _mm256_loadu_ps(in + 32 * b + 8 * i));
            max[b] = _mm256_max_ps(x, max[b]);
        }
    }
    return quantise_max_of(max);
}

/* 127 / max, or 0 for a block of zeros. */
KERN_INLINE __m256 quantise_scales(__m256 max)
{
    __m256 some = _mm256_cmp_ps(max, _mm256_setzero_ps(), _CMP_GT_OQ);
    return _mm256_and_ps(_mm256_div_ps(_mm256_set1_ps(127.0f), max), some);
}

/* 32 values to int8; their sums over the first 16 and the last are those of the halves. */
KERN_INLINE __m256i quantise_block(const float *in, __m256 scale, int8_t *q8)
{
    __m256i part[4];
    for (int i = 0; i < 4; i++) {
        /* max(NaN, -127) is -127: the second operand wins. */
        __m256 x = _mm256_mul_ps(_mm256_loadu_ps(in + 8 * i), scale);
        x = _mm256_max_ps(x, _mm256_set1_ps(-127.0f));
        x = _mm256_min_ps(x, _mm256_set1_ps(127.0f));
        part[i] = _mm256_cvtps_epi32(x);
    }
    __m256i a = _mm256_packs_epi32(part[0], part[1]);
    __m256i b = _mm256_packs_epi32(part[2], part[3]);
    /* Each 128-bit half of a and b holds fours: 0 2 | 1 3 and 4 6 | 5 7. */
    __m256i q = _mm256_packs_epi16(a, b);
    q = _mm256_permutevar8x32_epi32(q, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)q8, q);
    return _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), q), _mm256_set1_epi16(1));
}

/* 256 values under eight scales. Sums over 16: half 0 of the result has those of the blocks' first
 * halves, half 1 those of their second. */
KERN_INLINE __m256i quantise_8(const float *in, const float scale[8], int8_t *q8)
{
    __m256i sum[8];
    for (int b = 0; b < 8; b++) {
        sum[b] = quantise_block(in + 32 * b, _mm256_set1_ps(scale[b]), q8 + 32 * b);
    }
    __m256i low =
        _mm256_hadd_epi32(_mm256_hadd_epi32(sum[0], sum[1]), _mm256_hadd_epi32(sum[2], sum[3]));
    __m256i high =
        _mm256_hadd_epi32(_mm256_hadd_epi32(sum[4], sum[5]), _mm256_hadd_epi32(sum[6], sum[7]));
    return _mm256_packs_epi32(low, high);
}

KERN_INLINE void quantise_8_of_32(const float *in, int8_t *q8, float *d, int16_t *sums)
{
    float scale[8];
    __m256 max = quantise_max_8(in);
    _mm256_storeu_ps(scale, quantise_scales(max));
    _mm256_storeu_ps(d, _mm256_div_ps(max, _mm256_set1_ps(127.0f)));
    __m256i s = quantise_8(in, scale, q8);
    __m128i all = _mm_add_epi16(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    _mm_storeu_si128((void *)sums, all);
}

KERN_INLINE void quantise_1_of_256(const float *in, int8_t *q8, float *d, int16_t *sums)
{
    float scale[8];
    float max = f8_max_of((f8)quantise_max_8(in));
    _mm256_storeu_ps(scale, quantise_scales(_mm256_set1_ps(max)));
    *d = max / 127.0f;
    __m256i s = quantise_8(in, scale, q8);
    __m128i first = _mm256_castsi256_si128(s);
    __m128i second = _mm256_extracti128_si256(s, 1);
    _mm_storeu_si128((void *)sums, _mm_unpacklo_epi16(first, second));
    _mm_storeu_si128((void *)(sums + 8), _mm_unpackhi_epi16(first, second));
}

#else

KERN_INLINE void quantise_1_of_256(const float *in, int8_t *q8, float *d, int16_t *sums)
{
    float max = quantise_max(in, 256);
    float scale = max > 0.0f ? 127.0f / max : 0.0f;
    for (uint32_t j = 0; j < 256; j += 32) {
        quantise_32(in + j, scale, q8 + j, sums + j / 16);
    }
    *d = max / 127.0f;
}

#endif

/* ---- rows ---- */

static void quantise_row_32(const float *in, uint32_t n, int8_t *q8, float *d, int16_t *sums)
{
    uint32_t i = 0;
#if defined(__AVX2__)
    for (; n - i >= 256; i += 256) {
        quantise_8_of_32(in + i, q8 + i, d + i / 32, sums + i / 32);
    }
#endif
    for (; i < n; i += 32) {
        float max = quantise_max(in + i, 32);
        int16_t half[2];
        quantise_32(in + i, max > 0.0f ? 127.0f / max : 0.0f, q8 + i, half);
        d[i / 32] = max / 127.0f;
        sums[i / 32] = (int16_t)(half[0] + half[1]);
    }
}

static void quantise_row_256(const float *in, uint32_t n, int8_t *q8, float *d, int16_t *sums)
{
    for (uint32_t i = 0; i < n; i += 256) {
        quantise_1_of_256(in + i, q8 + i, d + i / 256, sums + i / 16);
    }
}

#endif
