/* panel_avx2_codes.h: a chunk of a packed panel (pack.h) as codes in registers and scales as
 * numbers. */
#ifndef ENGINE_CPU_KERNELS_PANEL_AVX2_CODES_H
#define ENGINE_CPU_KERNELS_PANEL_AVX2_CODES_H

#if defined(__AVX2__)

#include "engine/cpu/kernels/panel_avx2_dot.h"
#include "engine/cpu/pack.h"
#include "engine/format/blocks.h"

/* A chunk unpacked. d and m lie by blocks of 32; types of 256 use the first row. */
struct avx2_chunk {
    uint8_t codes[64 * 2][64]; /* by groups; wide codes: by even, odd columns of groups */
    int32_t scale[16][16];     /* of runs, as avx2_dot_end_scaled takes them; wide: as they are */
    int32_t pairs[8][16];      /* mins, or scales where a zero is taken off, of two runs */
    float d[8][16];
    float m[8][16];
    float spare[16]; /* sums that nobody asked for */
};

/* ---- codes ---- */

/* Eight outputs by four columns of one bit each, as bytes of 0 or `worth`. */
KERN_INLINE __m256i avx2_bits(const unsigned char *mask, uint8_t worth)
{
    const __m256i byte_of =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit_of = _mm256_set1_epi64x((int64_t)0x8040201008040201ULL);
    __m256i bits = _mm256_shuffle_epi8(avx2_four(mask), byte_of);
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bits, bit_of), bit_of);
    return _mm256_and_si256(set, _mm256_set1_epi8((char)worth));
}

/* Two bits of each byte, bits 2 m and 2 m + 1, shifted left by `left`. */
KERN_INLINE __m256i avx2_two_bits(__m256i v, uint32_t m, uint32_t left)
{
    const __m256i mask = _mm256_set1_epi8((char)(3 << left));
    v = 2 * m < left ? _mm256_slli_epi16(v, (int)(left - 2 * m))
                     : _mm256_srli_epi16(v, (int)(2 * m - left));
    return _mm256_and_si256(v, mask);
}

KERN_INLINE __m256i avx2_level(const int8_t levels[16], __m256i nibbles, int8_t add)
{
    __m128i table = _mm_add_epi8(_mm_loadu_si128((const void *)levels), _mm_set1_epi8(add));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles);
}

/* Groups g (even) and g + 1 of block b of a chunk: w[i][h] is group g + i of outputs 8 h … */
KERN_INLINE void avx2_codes(enum dtype type, const unsigned char *chunk, uint32_t n_blocks,
                            uint32_t b, uint32_t g, __m256i w[2][2])
{
    const struct pack_layout l = pack_layouts[type];
    const unsigned char *codes = chunk + (size_t)b * l.codes;
    const unsigned char *high = chunk + (size_t)n_blocks * l.codes + (size_t)b * l.high;
    const __m256i low = _mm256_set1_epi8(15);
    for (uint32_t h = 0; h < 2; h++) {
        if (l.codes == 512) {
            w[0][h] = avx2_load(codes + 64 * g + 32 * h);
            w[1][h] = avx2_load(codes + 64 * g + 64 + 32 * h);
        } else if (l.codes == 256) {
            __m256i v = avx2_load(codes + 32 * g + 32 * h);
            w[0][h] = _mm256_and_si256(v, low);
            w[1][h] = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
        } else {
            __m256i v = avx2_load(codes + 64 * (g / 4) + 32 * h);
            w[0][h] = avx2_two_bits(v, g % 4, 0);
            w[1][h] = avx2_two_bits(v, g % 4 + 1, 0);
        }
        for (uint32_t i = 0; i < 2; i++) {
            if (l.high == 64) {
                __m256i bits = avx2_bits(high + 8 * (g + i) + 4 * h, type == DTYPE_Q3_K ? 4 : 16);
                w[i][h] = _mm256_or_si256(w[i][h], bits);
            } else if (l.high == 128) {
                __m256i v = avx2_load(high + 64 * (g / 4) + 32 * h);
                w[i][h] = _mm256_or_si256(w[i][h], avx2_two_bits(v, g % 4 + i, 4));
            } else if (type == DTYPE_IQ4_NL || type == DTYPE_IQ4_XS) {
                w[i][h] = avx2_level(block_iq4_values, w[i][h], -128);
            } else if (type == DTYPE_MXFP4) {
                w[i][h] = avx2_level(block_mxfp4_values, w[i][h], 12);
            }
        }
    }
}

/* All codes of a chunk. */
KERN_INLINE void avx2_unpack_codes(enum dtype type, const unsigned char *chunk, uint32_t n_blocks,
                                   struct avx2_chunk *c)
{
    const bool wide = avx2_type(type).wide;
#pragma GCC unroll 1
    for (uint32_t b = 0; b < n_blocks; b++) {
#pragma GCC unroll 4
        for (uint32_t g = 0; g < 8; g += 2) {
            __m256i w[2][2];
            avx2_codes(type, chunk, n_blocks, b, g, w);
            for (uint32_t i = 0; i < 4; i++) {
                uint32_t at = 8 * b + g + i / 2;
                uint32_t h = i % 2;
                if (wide) {
                    avx2_store(c->codes[2 * at] + 32 * h, avx2_wide_even(w[i / 2][h]));
                    avx2_store(c->codes[2 * at + 1] + 32 * h, avx2_wide_odd(w[i / 2][h]));
                } else {
                    avx2_store(c->codes[at] + 32 * h, w[i / 2][h]);
                }
            }
        }
    }
}

/* ---- scales ---- */

KERN_INLINE void avx2_halves(const unsigned char *f16, float sign, float out[16])
{
    for (uint32_t h = 0; h < 2; h++) {
        __m256 v = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(f16 + 16 * h)));
        /* A sign of -1 flips the bit alone: a NaN stays the same NaN. */
        v = sign < 0 ? _mm256_xor_ps(v, _mm256_set1_ps(-0.0f)) : v;
        _mm256_storeu_ps(out + 8 * h, v);
    }
}

/* half_e8m0_to_f32: an exponent of e - 1, or below 2 a subnormal number. */
KERN_INLINE void avx2_e8m0(const unsigned char *e, float out[16])
{
    for (uint32_t h = 0; h < 2; h++) {
        __m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(e + 8 * h)));
        __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(v, _mm256_set1_epi32(1)), 23);
        __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), v);
        __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), v);
        avx2_store(out + 8 * h, _mm256_blendv_epi8(normal, small, is_small));
    }
}

KERN_INLINE __m128i avx2_bytes(const unsigned char *p)
{
    return _mm_loadu_si128((const void *)p);
}

/* Scales of runs as numbers, and pairs of runs' mins (or scales) side by side as 16-bit numbers. */
KERN_INLINE void avx2_unpack_runs(enum dtype type, const unsigned char *scales,
                                  const unsigned char *mins, struct avx2_chunk *c)
{
    const struct avx2_type ty = avx2_type(type);
    const unsigned char *paired = ty.min ? mins : scales;
#pragma GCC unroll 4
    for (uint32_t run = 0; run < 64 / ty.run; run++) {
        for (uint32_t h = 0; h < 2; h++) {
            __m128i bytes = _mm_loadl_epi64((const void *)(scales + 16 * run + 8 * h));
            __m256i scale = ty.wide ? _mm256_cvtepi8_epi32(bytes) : avx2_dot_scales(bytes);
            avx2_store(&c->scale[run][8 * h], scale);
        }
    }
#pragma GCC unroll 4
    for (uint32_t p = 0; p < 32 / ty.run; p++) {
        __m128i first = avx2_bytes(paired + 32 * p);
        __m128i second = avx2_bytes(paired + 32 * p + 16);
        avx2_store(&c->pairs[p][0], _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(first, second)));
        avx2_store(&c->pairs[p][8], _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(first, second)));
    }
}

/* Everything of a chunk but its codes. */
KERN_INLINE void avx2_unpack_scales(enum dtype type, const unsigned char *chunk, uint32_t n_blocks,
                                    struct avx2_chunk *c)
{
    const struct avx2_type ty = avx2_type(type);
    const struct pack_parts at = pack_parts(pack_layouts[type], n_blocks);
    if (ty.width == 256) {
        avx2_unpack_runs(type, chunk + at.scales, chunk + at.mins, c);
        avx2_halves(chunk + at.supers, 1, c->d[0]);
        if (ty.min) {
            avx2_halves(chunk + at.supers + 32, -1, c->m[0]);
        }
        return;
    }
#pragma GCC unroll 1
    for (uint32_t b = 0; b < n_blocks; b++) {
        if (type == DTYPE_MXFP4) {
            avx2_e8m0(chunk + at.scales + b * 16, c->d[b]);
        } else {
            avx2_halves(chunk + at.scales + b * 32, 1, c->d[b]);
        }
        if (ty.min) {
            avx2_halves(chunk + at.mins + b * 32, 1, c->m[b]);
        }
    }
}

#endif
#endif
