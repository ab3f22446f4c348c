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

/* 32 values times `scale` to int8; returns their sum over each 16. */
KERN_INLINE void quantise_32(const float *in, float scale, int8_t *q8, int16_t sums[2])
{
#if defined(__AVX2__)
    __m256i part[4];
    for (int i = 0; i < 4; i++) {
        /* max(NaN, -127) is -127: the second operand wins. */
        __m256 x = _mm256_mul_ps(_mm256_loadu_ps(in + 8 * i), _mm256_set1_ps(scale));
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
    __m256i ones = _mm256_set1_epi16(1);
    __m256i sum = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), q), ones);
    __m256i pairs = _mm256_hadd_epi32(sum, sum);
    pairs = _mm256_hadd_epi32(pairs, pairs);
    sums[0] = (int16_t)_mm256_extract_epi32(pairs, 0);
    sums[1] = (int16_t)_mm256_extract_epi32(pairs, 4);
#else
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
#endif
}

KERN_INLINE float quantise_max(const float *in, uint32_t n)
{
    f8 max = f8_all(0.0f);
    for (uint32_t i = 0; i < n; i += 8) {
        max = f8_max(f8_abs(f8_load(in + i)), max);
    }
    return f8_max_of(max);
}

KERN_INLINE void quantise_widen(const int8_t *q8, int16_t *q16, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        q16[i] = q8[i];
    }
}

static void quantise_row_32(const float *in, uint32_t n, int8_t *q8, int16_t *q16, float *d,
                            int16_t *sums)
{
    for (uint32_t i = 0; i < n; i += 32) {
        float max = quantise_max(in + i, 32);
        int16_t half[2];
        quantise_32(in + i, max > 0.0f ? 127.0f / max : 0.0f, q8 + i, half);
        d[i / 32] = max / 127.0f;
        sums[i / 32] = (int16_t)(half[0] + half[1]);
    }
    if (q16 != NULL) {
        quantise_widen(q8, q16, n);
    }
}

static void quantise_row_256(const float *in, uint32_t n, int8_t *q8, int16_t *q16, float *d,
                             int16_t *sums)
{
    for (uint32_t i = 0; i < n; i += 256) {
        float max = quantise_max(in + i, 256);
        float scale = max > 0.0f ? 127.0f / max : 0.0f;
        for (uint32_t j = i; j < i + 256; j += 32) {
            quantise_32(in + j, scale, q8 + j, sums + j / 16);
        }
        d[i / 256] = max / 127.0f;
    }
    if (q16 != NULL) {
        quantise_widen(q8, q16, n);
    }
}

#endif
