/* wide.h: the widest vector of floats that the instruction set has: 16 lanes with AVX-512, else 8.
 *
 * What is computed per lane gives the same bits in every width; sums and maxima across lanes are
 * of 16 lanes (KERN_WIDE_GROUP), however many registers hold them. */
#ifndef ENGINE_CPU_KERNELS_WIDE_H
#define ENGINE_CPU_KERNELS_WIDE_H

#include "engine/cpu/kernels/vec.h"

#include <math.h>

#if defined(__AVX512F__)
enum { WIDE = 16 };
#else
enum { WIDE = 8 };
#endif
enum { WIDE_GROUP = 16, WIDE_VECS = WIDE_GROUP / WIDE }; /* vectors that hold 16 lanes */

typedef float wide __attribute__((vector_size(WIDE * sizeof(float))));
typedef int32_t wide_int __attribute__((vector_size(WIDE * sizeof(int32_t))));
typedef uint32_t wide_bits __attribute__((vector_size(WIDE * sizeof(uint32_t))));

KERN_INLINE wide wide_all(float x)
{
#if defined(__AVX512F__)
    return (wide)_mm512_set1_ps(x);
#else
    return (wide)f8_all(x);
#endif
}

KERN_INLINE wide_int wide_int_all(int32_t x)
{
    wide_int v = {0};
    return v + x;
}

KERN_INLINE wide wide_load(const float *p)
{
    wide v;
    memcpy(&v, p, sizeof(v));
    return v;
}

KERN_INLINE void wide_store(float *p, wide v)
{
    memcpy(p, &v, sizeof(v));
}

KERN_INLINE wide wide_fma(wide a, wide b, wide c)
{
#if defined(__AVX512F__)
    return (wide)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
    return (wide)f8_fma((f8)a, (f8)b, (f8)c);
#endif
}

/* The second where either is NaN, as the instruction does. */
KERN_INLINE wide wide_max(wide a, wide b)
{
#if defined(__AVX512F__)
    return (wide)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (wide)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return (wide)f8_max((f8)a, (f8)b);
#endif
}

KERN_INLINE wide wide_min(wide a, wide b)
{
#if defined(__AVX512F__)
    return (wide)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (wide)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return (wide)f8_min((f8)a, (f8)b);
#endif
}

KERN_INLINE wide wide_abs(wide v)
{
    return (wide)((wide_int)v & INT32_MAX);
}

/* v where x >= low, else +0. */
KERN_INLINE wide wide_keep(wide v, wide x, wide low)
{
#if defined(__AVX512F__)
    return (wide)_mm512_maskz_mov_ps(_mm512_cmp_ps_mask((__m512)x, (__m512)low, _CMP_GE_OQ),
                                     (__m512)v);
#else
    return (wide)((wide_int)v & (x >= low));
#endif
}

/* Lanes of v whose number + base is in [from, to); `other` elsewhere. */
KERN_INLINE wide wide_inside(wide v, wide other, int32_t base, int32_t from, int32_t to)
{
#if defined(__AVX512F__)
    uint32_t upto = to - base >= WIDE ? 0xFFFF : to <= base ? 0 : (1u << (to - base)) - 1;
    uint32_t below = from - base >= WIDE ? 0xFFFF : from <= base ? 0 : (1u << (from - base)) - 1;
    return (wide)_mm512_mask_mov_ps((__m512)other, (__mmask16)(upto & ~below), (__m512)v);
#else
    wide_int at = {0, 1, 2, 3, 4, 5, 6, 7};
    at += base;
    wide_int in = (at >= from) & (at < to);
    return (wide)(((wide_int)v & in) | ((wide_int)other & ~in));
#endif
}

/* 2^x: x = n + r, |r| ≤ 1/2, a polynomial of degree 5 in r (minimax, 1 at 0), 2^n by the exponent's
 * bits. Relative error below 6e-7 for -126 ≤ x ≤ 127; smaller x and NaN give +0; for larger x the
 * result means nothing. */
KERN_INLINE wide wide_exp2(wide x)
{
    const wide round = wide_all(0x1.8p23f); /* adding and taking away rounds to a whole number */
    wide shifted = x + round;
    wide r = x - (shifted - round);
    wide p = wide_all(0x1.23a628p-10f);
    p = wide_fma(p, r, wide_all(0x1.3cbea8p-7f));
    p = wide_fma(p, r, wide_all(0x1.c74322p-5f));
    p = wide_fma(p, r, wide_all(0x1.ebfa4ep-3f));
    p = wide_fma(p, r, wide_all(0x1.62e39ep-1f));
    p = wide_fma(p, r, wide_all(1.0f));
    wide_bits n = (wide_bits)shifted << 23; /* the bits above n fall off */
    return wide_keep((wide)((wide_bits)p + n), x, wide_all(-126.0f));
}

/* One value through the same steps. */
KERN_INLINE float wide_exp2_of(float x)
{
    return wide_exp2(wide_all(x))[0];
}

/* ---- across 16 lanes ---- */

KERN_INLINE float wide_group_max(const wide v[WIDE_VECS])
{
#if defined(__AVX512F__)
    f8 low = (f8)_mm512_castps512_ps256((__m512)v[0]);
    f8 high = (f8)_mm512_extractf32x8_ps((__m512)v[0], 1);
    return f8_max_of(f8_max(low, high));
#else
    return f8_max_of((f8)wide_max(v[0], v[1]));
#endif
}

/* Lane i and i + 8 first, then as f8_sum. */
KERN_INLINE float wide_group_sum(const float lanes[WIDE_GROUP])
{
    return f8_sum(f8_load(lanes) + f8_load(lanes + 8));
}

/* ---- narrow types ---- */

KERN_INLINE wide wide_load_f16(const void *p)
{
#if defined(__AVX512F__)
    return (wide)_mm512_cvtph_ps(_mm256_loadu_si256(p));
#else
    return (wide)f8_load_f16(p);
#endif
}

/* To nearest, ties to even. */
KERN_INLINE void wide_store_f16(uint16_t *out, wide x)
{
#if defined(__AVX512F__)
    _mm256_storeu_si256((void *)out, _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    _mm_storeu_si128((void *)out, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
#else
    for (int i = 0; i < WIDE; i++) {
        out[i] = half_from_f32(x[i]);
    }
#endif
}

/* The same for finite lanes of at most 2^127. */
KERN_INLINE void wide_store_bf16(uint16_t *out, wide x)
{
    typedef uint32_t bits __attribute__((vector_size(WIDE * sizeof(uint32_t))));
    typedef uint16_t half __attribute__((vector_size(WIDE * sizeof(uint16_t))));
    bits b = (bits)x;
    half h = __builtin_convertvector((b + 0x7FFF + ((b >> 16) & 1)) >> 16, half);
    memcpy(out, &h, sizeof(h));
}

/* Lanes rounded to nearest whole numbers, ties to even, |x| ≤ 32767. */
KERN_INLINE void wide_store_i16(int16_t *out, wide x)
{
#if defined(__AVX512F__)
    _mm256_storeu_si256((void *)out, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32((__m512)x)));
#elif defined(__AVX2__)
    __m256i i = _mm256_cvtps_epi32((__m256)x);
    __m128i packed = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storeu_si128((void *)out, packed);
#else
    for (int i = 0; i < WIDE; i++) {
        out[i] = (int16_t)lrintf(x[i]);
    }
#endif
}

KERN_INLINE wide wide_from_int(wide_int v)
{
    return __builtin_convertvector(v, wide);
}

#endif
