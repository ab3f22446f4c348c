/* scalar_blocks.h: blocks of GGUF as whole numbers and float scales, one weight after the other:
 * the truth that kernels over packed panels are tested against.
 *
 * A weight is d * code + m * min, where code is a signed 16-bit number that already holds the
 * integer scale of its run (K-quants, IQ4_XS) and min that of its run of 16, or 1. */
#ifndef TESTS_SCALAR_BLOCKS_H
#define TESTS_SCALAR_BLOCKS_H

#include <string.h>

#include "engine/format/blocks.h"
#include "engine/tensor/half.h"

/* What a type is made of; one row per type below. */
struct scalar_scales {
    float d, m; /* m is 0 in types without a minimum */
};

static inline float scalar_half(const void *at)
{
    uint16_t h;
    memcpy(&h, at, sizeof(h));
    return half_to_f32(h);
}

static inline bool scalar_has_min(enum dtype type)
{
    return type == DTYPE_Q4_1 || type == DTYPE_Q5_1 || type == DTYPE_Q2_K || type == DTYPE_Q4_K ||
           type == DTYPE_Q5_K;
}

/* ---- blocks of 32 ---- */

static inline void scalar_nibbles(const uint8_t qs[16], int16_t w[32], int16_t zero)
{
    for (int j = 0; j < 16; j++) {
        w[j] = (int16_t)((qs[j] & 15) - zero);
        w[j + 16] = (int16_t)((qs[j] >> 4) - zero);
    }
}

static inline void scalar_fifth_bits(const uint8_t qh[4], int16_t w[32])
{
    for (int j = 0; j < 32; j++) {
        w[j] = (int16_t)(w[j] + (((qh[j / 8] >> (j % 8)) & 1) << 4));
    }
}

static inline void scalar_levels(const uint8_t qs[16], const int8_t levels[16], int scale,
                                 int16_t w[32])
{
    for (int j = 0; j < 16; j++) {
        w[j] = (int16_t)(scale * levels[qs[j] & 15]);
        w[j + 16] = (int16_t)(scale * levels[qs[j] >> 4]);
    }
}

static inline struct scalar_scales scalar_32(enum dtype type, const void *block, int16_t w[32])
{
    const struct block_q4_0 *q4_0 = block;
    const struct block_q4_1 *q4_1 = block;
    const struct block_q5_0 *q5_0 = block;
    const struct block_q5_1 *q5_1 = block;
    const struct block_q8_0 *q8_0 = block;
    const struct block_mxfp4 *mxfp4 = block;
    switch (type) {
    case DTYPE_Q4_0:
        scalar_nibbles(q4_0->qs, w, 8);
        break;
    case DTYPE_Q4_1:
        scalar_nibbles(q4_1->qs, w, 0);
        return (struct scalar_scales){scalar_half(block), scalar_half(&q4_1->m)};
    case DTYPE_Q5_0:
        scalar_nibbles(q5_0->qs, w, 16);
        scalar_fifth_bits(q5_0->qh, w);
        break;
    case DTYPE_Q5_1:
        scalar_nibbles(q5_1->qs, w, 0);
        scalar_fifth_bits(q5_1->qh, w);
        return (struct scalar_scales){scalar_half(block), scalar_half(&q5_1->m)};
    case DTYPE_Q8_0:
        for (int j = 0; j < 32; j++) {
            w[j] = q8_0->qs[j];
        }
        break;
    case DTYPE_IQ4_NL:
        scalar_levels(q4_0->qs, block_iq4_values, 1, w);
        break;
    default: /* DTYPE_MXFP4 */
        scalar_levels(mxfp4->qs, block_mxfp4_values, 1, w);
        return (struct scalar_scales){half_e8m0_to_f32(mxfp4->e), 0.0f};
    }
    return (struct scalar_scales){scalar_half(block), 0.0f};
}

/* ---- blocks of 256 ---- */

/* Two bits of each weight of the half h of 128, and of run s of 32 in it. */
static inline int scalar_two_bits(const uint8_t *qs, uint32_t h, uint32_t s, uint32_t l)
{
    return (qs[32 * h + l] >> (2 * s)) & 3;
}

static inline void scalar_q2_k(const struct block_q2_k *b, int16_t w[256], int16_t mins[16])
{
    for (uint32_t r = 0; r < 8; r++) {
        for (uint32_t l = 0; l < 32; l++) {
            int scale = b->scales[2 * r + l / 16] & 15;
            w[32 * r + l] = (int16_t)(scale * scalar_two_bits(b->qs, r / 4, r % 4, l));
        }
        mins[2 * r] = b->scales[2 * r] >> 4;
        mins[2 * r + 1] = b->scales[2 * r + 1] >> 4;
    }
}

static inline void scalar_q3_k(const struct block_q3_k *b, int16_t w[256])
{
    for (uint32_t r = 0; r < 8; r++) {
        int scale[2] = {block_q3_k_scale(b->scales, 2 * r) - 32,
                        block_q3_k_scale(b->scales, 2 * r + 1) - 32};
        for (uint32_t l = 0; l < 32; l++) {
            int high = (b->hmask[l] >> r) & 1;
            int q = scalar_two_bits(b->qs, r / 4, r % 4, l) + 4 * high - 4;
            w[32 * r + l] = (int16_t)(scale[l / 16] * q);
        }
    }
}

/* Q5_K with its fifth bits in qh, Q4_K with NULL. */
static inline void scalar_q45_k(const uint8_t scales[12], const uint8_t *qh, const uint8_t *qs,
                                int16_t w[256], int16_t mins[16])
{
    for (uint32_t r = 0; r < 8; r++) {
        uint8_t scale, min;
        block_k4_scale(scales, r, &scale, &min);
        mins[2 * r] = min;
        mins[2 * r + 1] = min;
        for (uint32_t l = 0; l < 32; l++) {
            int q = (qs[32 * (r / 2) + l] >> (4 * (r % 2))) & 15;
            int high = qh != NULL ? ((qh[l] >> r) & 1) << 4 : 0;
            w[32 * r + l] = (int16_t)(scale * (q + high));
        }
    }
}

static inline void scalar_q6_k(const struct block_q6_k *b, int16_t w[256])
{
    for (uint32_t r = 0; r < 8; r++) {
        uint32_t h = r / 4;
        uint32_t s = r % 4;
        for (uint32_t l = 0; l < 32; l++) {
            int low = (b->ql[64 * h + 32 * (s % 2) + l] >> (4 * (s / 2))) & 15;
            int high = (b->qh[32 * h + l] >> (2 * s)) & 3;
            w[32 * r + l] = (int16_t)(b->scales[2 * r + l / 16] * (low + 16 * high - 32));
        }
    }
}

static inline void scalar_iq4_xs(const struct block_iq4_xs *b, int16_t w[256])
{
    for (uint32_t r = 0; r < 8; r++) {
        scalar_levels(b->qs + 16 * r, block_iq4_values, block_iq4_xs_scale(b, r) - 32, w + 32 * r);
    }
}

/* mins is left alone by types without a minimum. */
static inline struct scalar_scales scalar_256(enum dtype type, const void *block, int16_t w[256],
                                              int16_t mins[16])
{
    const struct block_q2_k *q2 = block;
    const struct block_q3_k *q3 = block;
    const struct block_q4_k *q4 = block;
    const struct block_q5_k *q5 = block;
    const struct block_q6_k *q6 = block;
    switch (type) {
    case DTYPE_Q2_K:
        scalar_q2_k(q2, w, mins);
        return (struct scalar_scales){scalar_half(&q2->d), -scalar_half(&q2->dmin)};
    case DTYPE_Q3_K:
        scalar_q3_k(q3, w);
        return (struct scalar_scales){scalar_half(&q3->d), 0.0f};
    case DTYPE_Q4_K:
        scalar_q45_k(q4->scales, NULL, q4->qs, w, mins);
        return (struct scalar_scales){scalar_half(&q4->d), -scalar_half(&q4->dmin)};
    case DTYPE_Q5_K:
        scalar_q45_k(q5->scales, q5->qh, q5->qs, w, mins);
        return (struct scalar_scales){scalar_half(&q5->d), -scalar_half(&q5->dmin)};
    case DTYPE_Q6_K:
        scalar_q6_k(q6, w);
        return (struct scalar_scales){scalar_half(&q6->d), 0.0f};
    default: /* DTYPE_IQ4_XS */
        scalar_iq4_xs(block, w);
        return (struct scalar_scales){scalar_half(block), 0.0f};
    }
}

#endif
