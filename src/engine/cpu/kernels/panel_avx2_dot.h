/* panel_avx2_dot.h: sums of products of unsigned codes and signed activations in 256-bit registers,
 * the one place where AVX2 and AVX2-VNNI differ.
 *
 * A register of codes holds four columns of eight outputs, w[4 r + i]; one of activations the same
 * four columns eight times. AVX2 multiplies with vpmaddubsw and adds in 16 bits for as long as the
 * type's codes cannot overflow them (a chain: groups * 2 * code_max * 127 < 2^15), then widens with
 * vpmaddwd, which multiplies by the integer scale of the run on the way. Codes too wide for a chain
 * go as 16-bit numbers through vpmaddwd. AVX2-VNNI adds every product into 32 bits at once
 * (vpdpbusd), whatever the codes. All of this is exact: every way gives the same sums. */
#ifndef ENGINE_CPU_KERNELS_PANEL_AVX2_DOT_H
#define ENGINE_CPU_KERNELS_PANEL_AVX2_DOT_H

#if defined(__AVX2__)

#include <immintrin.h>
#include <string.h>

#include "engine/cpu/kernels/kern.h"

/* ---- types ---- */

struct avx2_type {
    uint32_t width; /* columns of a block */
    uint32_t run;   /* groups of four columns under one integer scale */
    uint32_t chain; /* groups that 16 bits hold */
    int zero;       /* taken off the codes */
    bool min;
    bool wide; /* codes up to 255: no chain */
};

KERN_INLINE struct avx2_type avx2_type(enum dtype type)
{
    static const struct avx2_type types[DTYPE_NUMBER_MAX] = {
        [DTYPE_Q4_0] = {32, 8, 8, 8, false, false},
        [DTYPE_Q4_1] = {32, 8, 8, 0, true, false},
        [DTYPE_Q5_0] = {32, 8, 4, 16, false, false},
        [DTYPE_Q5_1] = {32, 8, 4, 0, true, false},
        [DTYPE_Q8_0] = {32, 8, 8, 128, false, true},
        [DTYPE_IQ4_NL] = {32, 8, 8, 128, false, true},
        [DTYPE_MXFP4] = {32, 8, 4, 12, false, false},
        [DTYPE_Q2_K] = {256, 4, 4, 0, true, false},
        [DTYPE_Q3_K] = {256, 4, 4, 4, false, false},
        [DTYPE_Q4_K] = {256, 8, 8, 0, true, false},
        [DTYPE_Q5_K] = {256, 8, 4, 0, true, false},
        [DTYPE_Q6_K] = {256, 4, 2, 32, false, false},
        [DTYPE_IQ4_XS] = {256, 8, 8, 128, false, true},
    };
    struct avx2_type t = types[type];
#if defined(__AVXVNNI__)
    t.chain = t.run;
    t.wide = false;
#endif
    return t;
}

/* ---- small parts ---- */

KERN_INLINE __m256i avx2_load(const void *p)
{
    return _mm256_loadu_si256(p);
}

KERN_INLINE void avx2_store(void *p, __m256i v)
{
    _mm256_storeu_si256(p, v);
}

/* Four bytes, eight times. */
KERN_INLINE __m256i avx2_four(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof(v));
    return _mm256_set1_epi32(v);
}

/* Sums in place: left to itself gcc 12 keeps them in new registers and copies them back, a fifth of
 * the loop's instructions. */
KERN_INLINE void avx2_add_32(__m256i *sum, __m256i more)
{
    __asm__("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(more));
}

KERN_INLINE void avx2_add_16(__m256i *sum, __m256i more)
{
    __asm__("vpaddw %1, %0, %0" : "+x"(*sum) : "x"(more));
}

/* ---- what differs ---- */

#if defined(__AVXVNNI__)

KERN_INLINE __m256i avx2_dot(__m256i w, __m256i x)
{
    return _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), w, x);
}

KERN_INLINE void avx2_dot_add(__m256i *sum, __m256i w, __m256i x)
{
    *sum = _mm256_dpbusd_avx_epi32(*sum, w, x);
}

/* A chain's sum in 32 bits. */
KERN_INLINE __m256i avx2_dot_end(__m256i sum)
{
    return sum;
}

KERN_INLINE __m256i avx2_dot_end_scaled(__m256i sum, __m256i scale)
{
    return _mm256_mullo_epi32(sum, scale);
}

/* Eight signed bytes as the scales that avx2_dot_end_scaled takes. */
KERN_INLINE __m256i avx2_dot_scales(__m128i bytes)
{
    return _mm256_cvtepi8_epi32(bytes);
}

#else

KERN_INLINE __m256i avx2_dot(__m256i w, __m256i x)
{
    return _mm256_maddubs_epi16(w, x);
}

KERN_INLINE void avx2_dot_add(__m256i *sum, __m256i w, __m256i x)
{
    avx2_add_16(sum, _mm256_maddubs_epi16(w, x));
}

KERN_INLINE __m256i avx2_dot_end(__m256i sum)
{
    return _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
}

KERN_INLINE __m256i avx2_dot_end_scaled(__m256i sum, __m256i scale)
{
    return _mm256_madd_epi16(sum, scale);
}

/* Twice in 16 bits. */
KERN_INLINE __m256i avx2_dot_scales(__m128i bytes)
{
    const __m256i twice = _mm256_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13, 0, 1,
                                           0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
    return _mm256_shuffle_epi8(_mm256_cvtepi8_epi32(bytes), twice);
}

#endif

/* ---- codes of 16 bits ---- */

/* Columns 0 and 2 of each four bytes, and columns 1 and 3, as 16-bit numbers. */
KERN_INLINE __m256i avx2_wide_even(__m256i codes)
{
    return _mm256_and_si256(codes, _mm256_set1_epi16(255));
}

KERN_INLINE __m256i avx2_wide_odd(__m256i codes)
{
    return _mm256_srli_epi16(codes, 8);
}

#endif
#endif
