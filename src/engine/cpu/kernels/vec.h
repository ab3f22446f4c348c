/* vec.h: vectors of eight floats that the compiler maps to whatever registers there are. */
#ifndef ENGINE_CPU_KERNELS_VEC_H
#define ENGINE_CPU_KERNELS_VEC_H

#include <string.h>

#include "engine/cpu/kernels/kern.h"
#include "engine/tensor/half.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

typedef float f8 __attribute__((vector_size(32)));
typedef int32_t i8x __attribute__((vector_size(32)));

KERN_INLINE f8 f8_all(float x)
{
    return (f8){x, x, x, x, x, x, x, x};
}

KERN_INLINE f8 f8_load(const float *p)
{
    f8 v;
    memcpy(&v, p, sizeof(v));
    return v;
}

KERN_INLINE void f8_store(float *p, f8 v)
{
    memcpy(p, &v, sizeof(v));
}

/* The first n (< 8) floats, zeros behind. */
KERN_INLINE f8 f8_load_part(const float *p, uint32_t n)
{
    f8 v = f8_all(0.0f);
    memcpy(&v, p, n * sizeof(float));
    return v;
}

/* a * b + c, in one rounding where the machine can. */
KERN_INLINE f8 f8_fma(f8 a, f8 b, f8 c)
{
#if defined(__FMA__)
    return (f8)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

KERN_INLINE f8 f8_select(i8x mask, f8 yes, f8 no)
{
    return (f8)(((i8x)yes & mask) | ((i8x)no & ~mask));
}

KERN_INLINE f8 f8_max(f8 a, f8 b)
{
    return f8_select(a > b, a, b);
}

KERN_INLINE f8 f8_min(f8 a, f8 b)
{
    return f8_select(a < b, a, b);
}

/* In the fixed order that kernels.h states. */
KERN_INLINE float f8_sum(f8 v)
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

KERN_INLINE float f8_max_of(f8 v)
{
    float a = v[0] > v[4] ? v[0] : v[4];
    float b = v[1] > v[5] ? v[1] : v[5];
    float c = v[2] > v[6] ? v[2] : v[6];
    float d = v[3] > v[7] ? v[3] : v[7];
    a = a > b ? a : b;
    c = c > d ? c : d;
    return a > c ? a : c;
}

/* Eight F16 at any address. */
KERN_INLINE f8 f8_load_f16(const void *p)
{
#if defined(__F16C__)
    return (f8)_mm256_cvtph_ps(_mm_loadu_si128(p));
#else
    uint16_t h[8];
    memcpy(h, p, sizeof(h));
    f8 v;
    for (int i = 0; i < 8; i++) {
        v[i] = half_to_f32(h[i]);
    }
    return v;
#endif
}

/* e^x: x = n ln 2 + r, |r| ≤ ln 2 / 2, a polynomial of degree 6 in r (Cephes expf), 2^n by the
 * exponent's bits. Relative error below 2e-7 for -87.3 ≤ x ≤ 88.3; smaller x gives 0, larger x
 * that of 88.3, NaN gives 0. */
KERN_INLINE f8 f8_exp(f8 x)
{
    const float low = -87.3f;
    i8x seen = x >= f8_all(low);
    x = f8_min(f8_max(x, f8_all(low)), f8_all(88.3f));
    const f8 round = f8_all(0x1.8p23f); /* adding and taking away rounds to a whole number */
    f8 shifted = f8_fma(x, f8_all(1.44269504088896341f), round);
    f8 n = shifted - round;
    f8 r = f8_fma(n, f8_all(-0.693359375f), x);
    r = f8_fma(n, f8_all(2.12194440e-4f), r);
    f8 p = f8_all(1.9875691500e-4f);
    p = f8_fma(p, r, f8_all(1.3981999507e-3f));
    p = f8_fma(p, r, f8_all(8.3334519073e-3f));
    p = f8_fma(p, r, f8_all(4.1665795894e-2f));
    p = f8_fma(p, r, f8_all(1.6666665459e-1f));
    p = f8_fma(p, r, f8_all(5.0000001201e-1f));
    p = f8_fma(p, r * r, r + f8_all(1.0f));
    i8x exponent = ((i8x)shifted - (i8x)round) << 23;
    return (f8)(((i8x)p + exponent) & seen);
}

#endif
