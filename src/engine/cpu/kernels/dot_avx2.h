/* dot_avx2.h: quantised weight rows times one to four rows of activations, for AVX2.
 *
 * Eight weight rows go together: their block sums are added up across the registers (hadd) into
 * one register with a row in each lane, so that the float part costs once what it otherwise costs
 * eight times. Products are of unsigned weight codes and signed activations (vpmaddubsw), whose
 * pair sums stay below 2^15 for every type: 2 * 63 * 127 for codes up to 63; wider codes go as
 * |w| times the activation under w's sign, 2 * 128 * 127. A constant taken off the codes is taken
 * off again through the sums of the activations. All of this is exact. */
#ifndef ENGINE_CPU_KERNELS_DOT_AVX2_H
#define ENGINE_CPU_KERNELS_DOT_AVX2_H

#if defined(__AVX2__)

#include "engine/cpu/kernels/vec.h"
#include "engine/format/blocks.h"

enum { DOT_ROWS = 8, DOT_TOKENS_MAX = 4 };

/* What a tile of eight rows works on. */
struct dot_rows {
    const unsigned char *w[DOT_ROWS];
    const int8_t *q[DOT_TOKENS_MAX];
    const float *d[DOT_TOKENS_MAX];
    const int16_t *sums[DOT_TOKENS_MAX];
    size_t ahead; /* bytes from a row to the one that is prefetched meanwhile */
};

/* ---- small parts ---- */

KERN_INLINE __m256i dot_load(const void *p)
{
    return _mm256_loadu_si256(p);
}

/* 16 bytes at p in the lower half, 16 at q in the upper. */
KERN_INLINE __m256i dot_load2(const void *p, const void *q)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(p)), _mm_loadu_si128(q),
                                   1);
}

KERN_INLINE __m256i dot_pairs_32(__m256i pairs)
{
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* Signed by signed: |w| ≤ 128, |q| ≤ 127. Sums of pairs, 16 bits. */
KERN_INLINE __m256i dot_signed(__m256i w, __m256i q)
{
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(q, w));
}

/* The 16-bit values at byte `offset` of the eight rows, as floats. */
KERN_INLINE __m256 dot_scales(const struct dot_rows *r, size_t offset)
{
    uint16_t h[DOT_ROWS];
    for (int i = 0; i < DOT_ROWS; i++) {
        memcpy(&h[i], r->w[i] + offset, sizeof(h[i]));
    }
    return _mm256_cvtph_ps(_mm_setr_epi16((short)h[0], (short)h[1], (short)h[2], (short)h[3],
                                          (short)h[4], (short)h[5], (short)h[6], (short)h[7]));
}

/* half_e8m0_to_f32 of eight rows: an exponent of e - 1, or below 2 a subnormal number. */
KERN_INLINE __m256 dot_scales_e8m0(const struct dot_rows *r, size_t offset)
{
    uint8_t e[DOT_ROWS];
    for (int i = 0; i < DOT_ROWS; i++) {
        e[i] = r->w[i][offset];
    }
    __m128i bytes = _mm_setr_epi8((char)e[0], (char)e[1], (char)e[2], (char)e[3], (char)e[4],
                                  (char)e[5], (char)e[6], (char)e[7], 0, 0, 0, 0, 0, 0, 0, 0);
    __m256i v = _mm256_cvtepu8_epi32(bytes);
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(v, _mm256_set1_epi32(1)), 23);
    __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), v);
    __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), v);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, is_small));
}

/* Halves of the result: lane r of each half is the sum over that half of v[r], rows 0–3. Unpacking
 * and adding, since a vphaddd takes as long as four of these. */
KERN_INLINE __m256i dot_gather4(const __m256i v[4])
{
    __m256i a =
        _mm256_add_epi32(_mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[0], v[1]));
    __m256i b =
        _mm256_add_epi32(_mm256_unpacklo_epi32(v[2], v[3]), _mm256_unpackhi_epi32(v[2], v[3]));
    return _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

/* Lane r is the sum of v[r]. */
KERN_INLINE __m256i dot_gather8(const __m256i v[8])
{
    __m256i a = dot_gather4(v);
    __m256i b = dot_gather4(v + 4);
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                            _mm256_permute2x128_si256(a, b, 0x31));
}

/* acc + d * da * sum, as kernels.h states. */
KERN_INLINE __m256 dot_add(__m256 acc, __m256 d, float da, __m256i sum)
{
    return _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(da)), _mm256_cvtepi32_ps(sum), acc);
}

/* ---- blocks of 32: sixteen bytes of nibbles ---- */

/* Bits 16 h … 16 h + 15 of two blocks' qh as bytes 0 or 16; lower half a, upper half b. */
KERN_INLINE __m256i dot_fifth_bits(const unsigned char *a, const unsigned char *b, int h)
{
    int32_t bits_a, bits_b;
    memcpy(&bits_a, a, 4);
    memcpy(&bits_b, b, 4);
    __m256i bits = _mm256_setr_epi32(bits_a, 0, 0, 0, bits_b, 0, 0, 0);
    const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0, 0x0101010101010101);
    const __m256i bit_of = _mm256_set1_epi64x((int64_t)0x8040201008040201ULL);
    __m256i index = _mm256_add_epi8(byte_of, _mm256_set1_epi8((char)(2 * h)));
    __m256i one = _mm256_and_si256(_mm256_shuffle_epi8(bits, index), bit_of);
    return _mm256_and_si256(_mm256_cmpeq_epi8(one, bit_of), _mm256_set1_epi8(16));
}

KERN_INLINE __m256i dot_table(const int8_t levels[16], __m256i nibbles, int8_t add)
{
    __m128i table = _mm_add_epi8(_mm_loadu_si128((const void *)levels), _mm_set1_epi8(add));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles);
}

/* Bytes before the nibbles of a block, its size, and what was added to its codes. */
struct dot_nibble_type {
    size_t qs, bytes;
    int zero;
};

KERN_INLINE struct dot_nibble_type dot_nibble_type(enum dtype type)
{
    switch (type) {
    case DTYPE_Q4_0:
        return (struct dot_nibble_type){2, sizeof(struct block_q4_0), 8};
    case DTYPE_Q4_1:
        return (struct dot_nibble_type){4, sizeof(struct block_q4_1), 0};
    case DTYPE_Q5_0:
        return (struct dot_nibble_type){6, sizeof(struct block_q5_0), 16};
    case DTYPE_Q5_1:
        return (struct dot_nibble_type){8, sizeof(struct block_q5_1), 0};
    case DTYPE_IQ4_NL:
        return (struct dot_nibble_type){2, sizeof(struct block_iq4_nl), 0};
    default: /* DTYPE_MXFP4: table values -12…12, 12 added */
        return (struct dot_nibble_type){1, sizeof(struct block_mxfp4), 12};
    }
}

/* Codes 0–15 (w[0]) and 16–31 (w[1]) of block a in the lower halves, of block b in the upper. */
KERN_INLINE void dot_unpack2(enum dtype type, const unsigned char *a, const unsigned char *b,
                             __m256i w[2])
{
    size_t at = dot_nibble_type(type).qs;
    const __m256i low = _mm256_set1_epi8(15);
    __m256i x = dot_load2(a + at, b + at);
    w[0] = _mm256_and_si256(x, low);
    w[1] = _mm256_and_si256(_mm256_srli_epi16(x, 4), low);
    if (type == DTYPE_Q5_0 || type == DTYPE_Q5_1) {
        w[0] = _mm256_or_si256(w[0], dot_fifth_bits(a + at - 4, b + at - 4, 0));
        w[1] = _mm256_or_si256(w[1], dot_fifth_bits(a + at - 4, b + at - 4, 1));
    } else if (type == DTYPE_IQ4_NL) {
        w[0] = dot_table(block_iq4_values, w[0], 0);
        w[1] = dot_table(block_iq4_values, w[1], 0);
    } else if (type == DTYPE_MXFP4) {
        w[0] = dot_table(block_mxfp4_values, w[0], 12);
        w[1] = dot_table(block_mxfp4_values, w[1], 12);
    }
}

/* Sums of fours as 32 bits: the lower half belongs to block a, the upper to block b. */
KERN_INLINE __m256i dot_products2(enum dtype type, const __m256i w[2], const __m256i q[2])
{
    if (type == DTYPE_IQ4_NL) {
        return _mm256_add_epi32(dot_pairs_32(dot_signed(w[0], q[0])),
                                dot_pairs_32(dot_signed(w[1], q[1])));
    }
    return dot_pairs_32(
        _mm256_add_epi16(_mm256_maddubs_epi16(w[0], q[0]), _mm256_maddubs_epi16(w[1], q[1])));
}

/* The float part of block `block` for one token. */
KERN_INLINE __m256 dot_block_32(enum dtype type, const struct dot_rows *r, size_t offset,
                                const float *da, const int16_t *sums, __m256i sum, __m256 acc)
{
    int zero = dot_nibble_type(type).zero;
    if (zero != 0) {
        sum = _mm256_sub_epi32(sum, _mm256_set1_epi32(zero * *sums));
    }
    __m256 d = type == DTYPE_MXFP4 ? dot_scales_e8m0(r, offset) : dot_scales(r, offset);
    acc = dot_add(acc, d, *da, sum);
    if (type == DTYPE_Q4_1 || type == DTYPE_Q5_1) {
        acc = dot_add(acc, dot_scales(r, offset + 2), *da, _mm256_set1_epi32(*sums));
    }
    return acc;
}

/* Blocks b and `second` of eight rows. */
KERN_INLINE void dot_two_blocks(enum dtype type, const struct dot_rows *r, uint32_t b,
                                uint32_t second, uint32_t n_tokens, __m256 *acc)
{
    size_t bytes = dot_nibble_type(type).bytes;
    __m256i q[DOT_TOKENS_MAX][2];
    __m256i v[DOT_TOKENS_MAX][DOT_ROWS];
    for (uint32_t t = 0; t < n_tokens; t++) {
        const int8_t *x = r->q[t] + 32 * (size_t)b;
        const int8_t *y = x + 32 * (second - b);
        q[t][0] = dot_load2(x, y);
        q[t][1] = dot_load2(x + 16, y + 16);
    }
    for (int i = 0; i < DOT_ROWS; i++) {
        const unsigned char *w = r->w[i] + b * bytes;
        __m256i codes[2];
        _mm_prefetch(w + r->ahead, _MM_HINT_T0);
        dot_unpack2(type, w, w + (second - b) * bytes, codes);
        for (uint32_t t = 0; t < n_tokens; t++) {
            v[t][i] = dot_products2(type, codes, q[t]);
        }
    }
    for (uint32_t t = 0; t < n_tokens; t++) {
        __m256i low = dot_gather4(v[t]);
        __m256i high = dot_gather4(v[t] + 4);
        __m256i sum = _mm256_permute2x128_si256(low, high, 0x20);
        acc[t] = dot_block_32(type, r, b * bytes, r->d[t] + b, r->sums[t] + b, sum, acc[t]);
        if (second != b) {
            sum = _mm256_permute2x128_si256(low, high, 0x31);
            acc[t] = dot_block_32(type, r, (b + 1) * bytes, r->d[t] + b + 1, r->sums[t] + b + 1,
                                  sum, acc[t]);
        }
    }
}

/* The last block of an odd number is paired with itself. */
KERN_INLINE void dot_nibbles(enum dtype type, const struct dot_rows *r, uint32_t n_blocks,
                             uint32_t n_tokens, __m256 *acc)
{
    uint32_t b = 0;
    for (; b + 2 <= n_blocks; b += 2) {
        dot_two_blocks(type, r, b, b + 1, n_tokens, acc);
    }
    if (b < n_blocks) {
        dot_two_blocks(type, r, b, b, n_tokens, acc);
    }
}

/* ---- Q8_0 ---- */

KERN_INLINE void dot_q8_0(const struct dot_rows *r, uint32_t n_blocks, uint32_t n_tokens,
                          __m256 *acc)
{
    const size_t bytes = sizeof(struct block_q8_0);
    for (uint32_t b = 0; b < n_blocks; b++) {
        __m256i v[DOT_TOKENS_MAX][DOT_ROWS];
        for (int i = 0; i < DOT_ROWS; i++) {
            const unsigned char *block = r->w[i] + b * bytes;
            _mm_prefetch(block + r->ahead, _MM_HINT_T0);
            __m256i w = dot_load(block + 2);
            for (uint32_t t = 0; t < n_tokens; t++) {
                v[t][i] = dot_pairs_32(dot_signed(w, dot_load(r->q[t] + 32 * b)));
            }
        }
        __m256 d = dot_scales(r, b * bytes);
        for (uint32_t t = 0; t < n_tokens; t++) {
            acc[t] = dot_add(acc[t], d, r->d[t][b], dot_gather8(v[t]));
        }
    }
}

/* ---- blocks of 256 ---- */

/* A block of 256 and the activations of one to four tokens: sums that add up to Σ w q in sum[t]
 * and, in types with a minimum, to Σ min Σ q in min[t]. */
struct dot_k_sums {
    __m256i sum[DOT_TOKENS_MAX];
    __m256i min[DOT_TOKENS_MAX];
};

/* 16-bit value `j` of a vector whose halves are equal, in all lanes. */
KERN_INLINE __m256i dot_lane_16(__m256i v, int j)
{
    return _mm256_shuffle_epi8(v, _mm256_set1_epi16((short)(0x0100 + 0x0202 * j)));
}

/* Bytes 2 j and 2 j + 1 of 16 signed scales, widened: lower half one, upper half the other. */
KERN_INLINE __m256i dot_two_scales(__m128i scales, int j)
{
    __m128i index = _mm_set_epi64x(0x0101010101010101, 0);
    index = _mm_add_epi8(index, _mm_set1_epi8((char)(2 * j)));
    return _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, index));
}

/* Scales in bytes 0–7, minimums in bytes 8–15 (block_k4_scale): words 0 and 2 are the low six bits
 * of scale and min words, words 1 and 3 nibbles of the last word with two bits of these above. */
KERN_INLINE __m128i dot_k4_scales(const void *block)
{
    __m128i x = _mm_loadu_si128(block); /* d and dmin, then the twelve bytes */
    __m128i low = _mm_srlv_epi32(_mm_shuffle_epi32(x, 0xED), _mm_setr_epi32(0, 0, 0, 4));
    low = _mm_and_si128(low, _mm_setr_epi32(0x3F3F3F3F, 0x0F0F0F0F, 0x3F3F3F3F, 0x0F0F0F0F));
    __m128i high = _mm_srli_epi32(_mm_shuffle_epi32(x, 0x84), 2);
    high = _mm_and_si128(high, _mm_setr_epi32(0, 0x30303030, 0, 0x30303030));
    return _mm_or_si128(low, high);
}

/* Codes of runs 2 g and 2 g + 1, with their fifth bits unless qh is NULL. */
KERN_INLINE void dot_q45_k_codes(const uint8_t *qs, const uint8_t *qh, int g, __m256i w[2])
{
    const __m256i low = _mm256_set1_epi8(15);
    __m256i x = dot_load(qs);
    w[0] = _mm256_and_si256(x, low);
    w[1] = _mm256_and_si256(_mm256_srli_epi16(x, 4), low);
    if (qh != NULL) {
        const __m256i bit = _mm256_set1_epi8(16);
        __m256i up = _mm256_slli_epi16(_mm256_srli_epi16(dot_load(qh), 2 * g), 4);
        w[0] = _mm256_or_si256(w[0], _mm256_and_si256(up, bit));
        w[1] = _mm256_or_si256(w[1], _mm256_and_si256(_mm256_srli_epi16(up, 1), bit));
    }
}

/* Q4_K and, with qh not NULL, Q5_K. */
KERN_INLINE void dot_q45_k(const void *block, const uint8_t *qh, const uint8_t *qs,
                           const struct dot_rows *r, uint32_t b, uint32_t n_tokens,
                           struct dot_k_sums *out)
{
    __m128i both = dot_k4_scales(block);
    __m256i scale = _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(both));
    __m256i min = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(both, both)); /* each of two runs of 16 */
    for (uint32_t t = 0; t < n_tokens; t++) {
        out->min[t] = _mm256_madd_epi16(min, dot_load(r->sums[t] + 16 * b));
        out->sum[t] = _mm256_setzero_si256();
    }
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++) {
        __m256i w[2];
        dot_q45_k_codes(qs + 32 * g, qh, g, w);
        __m256i scale0 = dot_lane_16(scale, 2 * g);
        __m256i scale1 = dot_lane_16(scale, 2 * g + 1);
        for (uint32_t t = 0; t < n_tokens; t++) {
            const int8_t *q = r->q[t] + 256 * b + 64 * g;
            __m256i p0 = _mm256_madd_epi16(_mm256_maddubs_epi16(w[0], dot_load(q)), scale0);
            __m256i p1 = _mm256_madd_epi16(_mm256_maddubs_epi16(w[1], dot_load(q + 32)), scale1);
            out->sum[t] = _mm256_add_epi32(out->sum[t], _mm256_add_epi32(p0, p1));
        }
    }
}

/* Codes of the run of 32 number j (0…7) of a type with 16 signed scales. */
KERN_INLINE __m256i dot_run_codes(enum dtype type, const void *block, int j)
{
    int h = j / 4;
    int s = j % 4;
    const __m256i three = _mm256_set1_epi8(3);
    if (type == DTYPE_Q6_K) {
        const struct block_q6_k *b = block;
        __m256i lows = dot_load(b->ql + 64 * h + 32 * (s % 2));
        lows = _mm256_and_si256(_mm256_srli_epi16(lows, 4 * (s / 2)), _mm256_set1_epi8(15));
        __m256i highs = _mm256_srli_epi16(dot_load(b->qh + 32 * h), 2 * s);
        return _mm256_or_si256(lows, _mm256_slli_epi16(_mm256_and_si256(highs, three), 4));
    }
    const struct block_q2_k *b2 = block;
    const struct block_q3_k *b3 = block;
    const uint8_t *qs = type == DTYPE_Q2_K ? b2->qs : b3->qs;
    __m256i w = _mm256_and_si256(_mm256_srli_epi16(dot_load(qs + 32 * h), 2 * s), three);
    if (type == DTYPE_Q3_K) {
        __m256i mask = _mm256_srli_epi16(dot_load(b3->hmask), j);
        mask = _mm256_and_si256(mask, _mm256_set1_epi8(1));
        w = _mm256_or_si256(w, _mm256_slli_epi16(mask, 2));
    }
    return w;
}

/* 16 scales as signed bytes; for Q2_K the minimums in *mins. */
KERN_INLINE __m128i dot_run_scales(enum dtype type, const void *block, __m128i *mins)
{
    if (type == DTYPE_Q6_K) {
        const struct block_q6_k *b = block;
        return _mm_loadu_si128((const void *)b->scales);
    }
    if (type == DTYPE_Q2_K) {
        const struct block_q2_k *b = block;
        __m128i both = _mm_loadu_si128((const void *)b->scales);
        *mins = _mm_and_si128(_mm_srli_epi16(both, 4), _mm_set1_epi8(15));
        return _mm_and_si128(both, _mm_set1_epi8(15));
    }
    const struct block_q3_k *b = block;
    uint32_t u[3];
    memcpy(u, b->scales, sizeof(u));
    uint32_t s0 = (u[0] & 0x0F0F0F0F) | (u[2] & 0x03030303) << 4;
    uint32_t s1 = (u[1] & 0x0F0F0F0F) | ((u[2] >> 2) & 0x03030303) << 4;
    uint32_t s2 = ((u[0] >> 4) & 0x0F0F0F0F) | ((u[2] >> 4) & 0x03030303) << 4;
    uint32_t s3 = ((u[1] >> 4) & 0x0F0F0F0F) | ((u[2] >> 6) & 0x03030303) << 4;
    __m128i scales = _mm_setr_epi32((int)s0, (int)s1, (int)s2, (int)s3);
    return _mm_sub_epi8(scales, _mm_set1_epi8(32));
}

/* Q2_K, Q3_K, Q6_K: sixteen runs of 16. */
KERN_INLINE void dot_runs_16(enum dtype type, const void *block, const struct dot_rows *r,
                             uint32_t b, uint32_t n_tokens, struct dot_k_sums *out)
{
    __m128i mins = _mm_setzero_si128();
    __m128i scales = dot_run_scales(type, block, &mins);
    __m256i scale_16 = _mm256_cvtepi8_epi16(type == DTYPE_Q2_K ? mins : scales);
    for (uint32_t t = 0; t < n_tokens; t++) {
        __m256i sums = _mm256_madd_epi16(scale_16, dot_load(r->sums[t] + 16 * b));
        if (type == DTYPE_Q2_K) {
            out->min[t] = sums;
            out->sum[t] = _mm256_setzero_si256();
        } else { /* the constant in the codes: 32 or 4 */
            sums = _mm256_slli_epi32(sums, type == DTYPE_Q6_K ? 5 : 2);
            out->sum[t] = _mm256_sub_epi32(_mm256_setzero_si256(), sums);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        __m256i w = dot_run_codes(type, block, j);
        __m256i scale = dot_two_scales(scales, j);
        for (uint32_t t = 0; t < n_tokens; t++) {
            __m256i q = dot_load(r->q[t] + 256 * b + 32 * j);
            __m256i p = _mm256_madd_epi16(_mm256_maddubs_epi16(w, q), scale);
            out->sum[t] = _mm256_add_epi32(out->sum[t], p);
        }
    }
}

KERN_INLINE void dot_iq4_xs(const struct block_iq4_xs *block, const struct dot_rows *r, uint32_t b,
                            uint32_t n_tokens, struct dot_k_sums *out)
{
    for (uint32_t t = 0; t < n_tokens; t++) {
        out->sum[t] = _mm256_setzero_si256();
    }
#pragma GCC unroll 8
    for (uint32_t j = 0; j < 8; j++) {
        __m128i x = _mm_loadu_si128((const void *)(block->qs + 16 * j));
        __m256i w = _mm256_set_m128i(_mm_srli_epi16(x, 4), x);
        w = dot_table(block_iq4_values, _mm256_and_si256(w, _mm256_set1_epi8(15)), 0);
        __m256i scale = _mm256_set1_epi16((short)(block_iq4_xs_scale(block, j) - 32));
        for (uint32_t t = 0; t < n_tokens; t++) {
            __m256i p = dot_signed(w, dot_load(r->q[t] + 256 * b + 32 * j));
            out->sum[t] = _mm256_add_epi32(out->sum[t], _mm256_madd_epi16(p, scale));
        }
    }
}

/* Size of a block and where its scales lie. */
struct dot_k_type {
    size_t bytes, d, dmin;
    bool has_min;
};

KERN_INLINE struct dot_k_type dot_k_type(enum dtype type)
{
    switch (type) {
    case DTYPE_Q2_K:
        return (struct dot_k_type){sizeof(struct block_q2_k), 80, 82, true};
    case DTYPE_Q3_K:
        return (struct dot_k_type){sizeof(struct block_q3_k), 108, 0, false};
    case DTYPE_Q4_K:
        return (struct dot_k_type){sizeof(struct block_q4_k), 0, 2, true};
    case DTYPE_Q5_K:
        return (struct dot_k_type){sizeof(struct block_q5_k), 0, 2, true};
    case DTYPE_Q6_K:
        return (struct dot_k_type){sizeof(struct block_q6_k), 208, 0, false};
    default: /* DTYPE_IQ4_XS */
        return (struct dot_k_type){sizeof(struct block_iq4_xs), 0, 0, false};
    }
}

KERN_INLINE void dot_k_block(enum dtype type, const void *block, const struct dot_rows *r,
                             uint32_t b, uint32_t n_tokens, struct dot_k_sums *out)
{
    const struct block_q4_k *q4 = block;
    const struct block_q5_k *q5 = block;
    if (type == DTYPE_Q4_K) {
        dot_q45_k(block, NULL, q4->qs, r, b, n_tokens, out);
    } else if (type == DTYPE_Q5_K) {
        dot_q45_k(block, q5->qh, q5->qs, r, b, n_tokens, out);
    } else if (type == DTYPE_IQ4_XS) {
        dot_iq4_xs(block, r, b, n_tokens, out);
    } else {
        dot_runs_16(type, block, r, b, n_tokens, out);
    }
}

KERN_INLINE void dot_k(enum dtype type, const struct dot_rows *r, uint32_t n_blocks,
                       uint32_t n_tokens, __m256 *acc)
{
    const struct dot_k_type k = dot_k_type(type);
    for (uint32_t b = 0; b < n_blocks; b++) {
        __m256i sum[DOT_TOKENS_MAX][DOT_ROWS];
        __m256i min[DOT_TOKENS_MAX][DOT_ROWS];
        for (int i = 0; i < DOT_ROWS; i++) {
            const unsigned char *block = r->w[i] + b * k.bytes;
            for (size_t line = 0; line < k.bytes; line += CACHE_LINE_BYTES) {
                _mm_prefetch(block + line + r->ahead, _MM_HINT_T0);
            }
            struct dot_k_sums one;
            dot_k_block(type, block, r, b, n_tokens, &one);
            for (uint32_t t = 0; t < n_tokens; t++) {
                sum[t][i] = one.sum[t];
                if (k.has_min) {
                    min[t][i] = one.min[t];
                }
            }
        }
        __m256 d = dot_scales(r, b * k.bytes + k.d);
        for (uint32_t t = 0; t < n_tokens; t++) {
            acc[t] = dot_add(acc[t], d, r->d[t][b], dot_gather8(sum[t]));
            if (k.has_min) {
                __m256 m = dot_scales(r, b * k.bytes + k.dmin);
                m = _mm256_xor_ps(m, _mm256_set1_ps(-0.0f));
                acc[t] = dot_add(acc[t], m, r->d[t][b], dot_gather8(min[t]));
            }
        }
    }
}

#endif
#endif
