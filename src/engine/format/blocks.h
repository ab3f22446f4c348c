/* blocks.h: the quantised block formats of GGUF, as they lie in the file (little-endian).
 *
 * A weight is made from its code q, the block's scale d (F16) and what else the comment says.
 * Nibble order of the 32-weight blocks: byte j holds weight j (low) and weight j + 16 (high).
 * Source: github.com/ggml-org/ggml src/ggml-common.h. */
#ifndef ENGINE_FORMAT_BLOCKS_H
#define ENGINE_FORMAT_BLOCKS_H

#include "base/compiler.h"

enum { BLOCK_WEIGHTS = 32, BLOCK_K_WEIGHTS = 256 };

/* ---- blocks of 32 ---- */

struct block_q4_0 { /* d * (q - 8) */
    uint16_t d;
    uint8_t qs[16];
};

struct block_q4_1 { /* d * q + m */
    uint16_t d, m;
    uint8_t qs[16];
};

struct block_q5_0 { /* d * (q - 16); bit j of qh is bit 4 of weight j */
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[16];
};

struct block_q5_1 { /* d * q + m */
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16];
};

struct block_q8_0 { /* d * q */
    uint16_t d;
    int8_t qs[32];
};

struct block_iq4_nl { /* d * block_iq4_values[q] */
    uint16_t d;
    uint8_t qs[16];
};

struct block_mxfp4 { /* 2^(e - 128) * block_mxfp4_values[q] */
    uint8_t e;
    uint8_t qs[16];
};

/* ---- blocks of 256 ---- */

/* 16 runs of 16: d * (scale & 15) * q - dmin * (scale >> 4). Byte 32 h + l of qs holds weights
 * 128 h + l + 32 s in bits 2 s and 2 s + 1. */
struct block_q2_k {
    uint8_t scales[16];
    uint8_t qs[64];
    uint16_t d, dmin;
};

/* 16 runs of 16: d * (scale - 32) * (q - 4). Low two bits as in Q2_K; bit b of hmask[l] is the
 * third bit of weight 32 b + l. Scales: block_q3_k_scale. */
struct block_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d;
};

/* 8 runs of 32: d * scale * q - dmin * min. Byte 32 g + l of qs holds weights 64 g + l (low) and
 * 64 g + 32 + l (high). Scales: block_k4_scale. */
struct block_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[128];
};

/* As Q4_K; bit r of qh[l] is bit 4 of weight l of run r. */
struct block_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};

/* 16 runs of 16: d * scale * (q - 32). In each half h of 128, for l < 32: ql[64 h + l] holds the
 * low nibbles of weights l and 64 + l, ql[64 h + 32 + l] those of 32 + l and 96 + l; qh[32 h + l]
 * holds two bits each of l, 32 + l, 64 + l, 96 + l. */
struct block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
};

/* 8 runs of 32, each like IQ4_NL: d * (scale - 32) * block_iq4_values[q]. Scale of run r: low
 * nibble in scales_l, upper two bits in scales_h at 2 r. */
struct block_iq4_xs {
    uint16_t d;
    uint16_t scales_h;
    uint8_t scales_l[4];
    uint8_t qs[128];
};

#define BLOCK_LAYOUT(name, bytes, last, at)                                                        \
    _Static_assert(sizeof(struct block_##name) == (bytes), "bytes of " #name);                     \
    _Static_assert(offsetof(struct block_##name, last) == (at), "layout of " #name)

BLOCK_LAYOUT(q4_0, 18, qs, 2);
BLOCK_LAYOUT(q4_1, 20, qs, 4);
BLOCK_LAYOUT(q5_0, 22, qs, 6);
BLOCK_LAYOUT(q5_1, 24, qs, 8);
BLOCK_LAYOUT(q8_0, 34, qs, 2);
BLOCK_LAYOUT(iq4_nl, 18, qs, 2);
BLOCK_LAYOUT(mxfp4, 17, qs, 1);
BLOCK_LAYOUT(q2_k, 84, dmin, 82);
BLOCK_LAYOUT(q3_k, 110, d, 108);
BLOCK_LAYOUT(q4_k, 144, qs, 16);
BLOCK_LAYOUT(q5_k, 176, qs, 48);
BLOCK_LAYOUT(q6_k, 210, d, 208);
BLOCK_LAYOUT(iq4_xs, 136, qs, 8);

/* ---- tables and packed scales ---- */

/* Sixteen unevenly spaced levels, denser near zero. */
static const int8_t block_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                            1,    13,   25,  38,  53,  69,  89,  113};

/* E2M1, twice the value so that all are whole. */
static const int8_t block_mxfp4_values[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                              0, -1, -2, -3, -4, -6, -8, -12};

/* Q4_K and Q5_K: scale and min of run r, six bits each in twelve bytes. Runs 0–3 lie in the low
 * six bits of bytes r and r + 4; runs 4–7 have their low nibbles in byte r + 4 and their upper two
 * bits above runs 0–3. */
static inline void block_k4_scale(const uint8_t scales[12], uint32_t r, uint8_t *scale,
                                  uint8_t *min)
{
    if (r < 4) {
        *scale = scales[r] & 63;
        *min = scales[r + 4] & 63;
    } else {
        *scale = (uint8_t)((scales[r + 4] & 15) | (scales[r - 4] >> 6) << 4);
        *min = (uint8_t)((scales[r + 4] >> 4) | (scales[r] >> 6) << 4);
    }
}

/* Q3_K: scale of run r (0…15), six bits, still with 32 added. */
static inline uint8_t block_q3_k_scale(const uint8_t scales[12], uint32_t r)
{
    uint8_t low = (uint8_t)(r < 8 ? scales[r] & 15 : scales[r - 8] >> 4);
    uint8_t high = (scales[8 + r % 4] >> (2 * (r / 4))) & 3;
    return (uint8_t)(low | high << 4);
}

/* IQ4_XS: scale of run r (0…7), six bits, still with 32 added. */
static inline uint8_t block_iq4_xs_scale(const struct block_iq4_xs *b, uint32_t r)
{
    uint8_t low = (b->scales_l[r / 2] >> (4 * (r % 2))) & 15;
    uint8_t high = (b->scales_h >> (2 * r)) & 3;
    return (uint8_t)(low | high << 4);
}

#endif
