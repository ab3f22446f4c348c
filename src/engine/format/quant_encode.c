/* quant_encode.c: float32 to the plain types and the blocks of 32. Codes are chosen against the
 * scale as the block stores it, after its rounding. */
#include <math.h>

#include "engine/format/blocks.h"
#include "engine/format/quant_rows.h"
#include "engine/format/quant_search.h"
#include "engine/tensor/half.h"

/* ---- floats ---- */

QUANT_ENCODER(f32)
{
    (void)importance;
    memcpy(blocks, in, n_blocks * sizeof(*in));
}

QUANT_ENCODER(f16)
{
    (void)importance;
    uint16_t *out = blocks;
    for (size_t i = 0; i < n_blocks; i++) {
        out[i] = half_from_f32(in[i]);
    }
}

QUANT_ENCODER(bf16)
{
    (void)importance;
    uint16_t *out = blocks;
    for (size_t i = 0; i < n_blocks; i++) {
        out[i] = half_bf16_from_f32(in[i]);
    }
}

/* ---- packing ---- */

static float quant_inverse(float scale)
{
    return scale != 0 ? 1 / scale : 0;
}

static void quant_pack_nibbles(const uint8_t codes[32], uint8_t qs[16])
{
    for (int j = 0; j < 16; j++) {
        qs[j] = (uint8_t)((codes[j] & 15) | (codes[j + 16] & 15) << 4);
    }
}

static void quant_pack_fifth_bits(const uint8_t codes[32], uint8_t qh[4])
{
    memset(qh, 0, 4);
    for (int j = 0; j < 32; j++) {
        qh[j / 8] = (uint8_t)(qh[j / 8] | (codes[j] >> 4) << (j % 8));
    }
}

/* Codes from 0 to 2 n_max - 1 for x ≈ d * (q - n_max); returns d as F16. */
static uint16_t quant_signed_codes(const float *x, const float *w, int n_max, uint8_t codes[32])
{
    uint16_t d = quant_stored_scale(quant_fit_signed(x, w, BLOCK_WEIGHTS, n_max));
    float inverse = quant_inverse(half_to_f32(d));
    for (int j = 0; j < BLOCK_WEIGHTS; j++) {
        codes[j] = (uint8_t)(quant_round(inverse * x[j], -n_max, n_max - 1) + n_max);
    }
    return d;
}

/* Codes from 0 to n_max for x ≈ d * q + m; d and m as F16 in dm. */
static void quant_affine_codes(const float *x, const float *w, int n_max, uint16_t dm[2],
                               uint8_t codes[32])
{
    struct quant_affine_conf conf = {.n_max = n_max, .min_positive = true};
    struct quant_affine a = quant_fit_affine(x, w, BLOCK_WEIGHTS, conf);
    dm[0] = quant_stored_scale(a.scale);
    /* Least squares may put the min a little past the smallest weight. */
    dm[1] = half_from_f32(MIN(MAX(a.min, -HALF_MAX), HALF_MAX));
    float inverse = quant_inverse(half_to_f32(dm[0]));
    float min = half_to_f32(dm[1]);
    for (int j = 0; j < BLOCK_WEIGHTS; j++) {
        codes[j] = (uint8_t)quant_round(inverse * (x[j] - min), 0, n_max);
    }
}

/* ---- blocks of 32 ---- */

QUANT_ENCODER(q4_0)
{
    struct block_q4_0 *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++) {
        uint8_t codes[BLOCK_WEIGHTS];
        size_t at = i * BLOCK_WEIGHTS;
        b->d = quant_signed_codes(in + at, importance + at, 8, codes);
        quant_pack_nibbles(codes, b->qs);
    }
}

QUANT_ENCODER(q4_1)
{
    struct block_q4_1 *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++) {
        uint8_t codes[BLOCK_WEIGHTS];
        uint16_t dm[2];
        size_t at = i * BLOCK_WEIGHTS;
        quant_affine_codes(in + at, importance + at, 15, dm, codes);
        b->d = dm[0];
        b->m = dm[1];
        quant_pack_nibbles(codes, b->qs);
    }
}

QUANT_ENCODER(q5_0)
{
    struct block_q5_0 *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++) {
        uint8_t codes[BLOCK_WEIGHTS];
        size_t at = i * BLOCK_WEIGHTS;
        b->d = quant_signed_codes(in + at, importance + at, 16, codes);
        quant_pack_nibbles(codes, b->qs);
        quant_pack_fifth_bits(codes, b->qh);
    }
}

QUANT_ENCODER(q5_1)
{
    struct block_q5_1 *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++) {
        uint8_t codes[BLOCK_WEIGHTS];
        uint16_t dm[2];
        size_t at = i * BLOCK_WEIGHTS;
        quant_affine_codes(in + at, importance + at, 31, dm, codes);
        b->d = dm[0];
        b->m = dm[1];
        quant_pack_nibbles(codes, b->qs);
        quant_pack_fifth_bits(codes, b->qh);
    }
}

/* Eight bits need no search: the error is a fifth of a percent of the largest weight. */
QUANT_ENCODER(q8_0)
{
    (void)importance;
    struct block_q8_0 *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++, in += BLOCK_WEIGHTS) {
        float peak = 0;
        for (int j = 0; j < BLOCK_WEIGHTS; j++) {
            peak = MAX(peak, fabsf(in[j]));
        }
        b->d = quant_stored_scale(peak / 127);
        float inverse = quant_inverse(half_to_f32(b->d));
        for (int j = 0; j < BLOCK_WEIGHTS; j++) {
            b->qs[j] = (int8_t)quant_round(inverse * in[j], -127, 127);
        }
    }
}

QUANT_ENCODER(iq4_nl)
{
    struct block_iq4_nl *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++) {
        const float *x = in + i * BLOCK_WEIGHTS;
        float fit =
            quant_fit_levels(x, importance + i * BLOCK_WEIGHTS, BLOCK_WEIGHTS, block_iq4_values);
        b->d = quant_stored_scale(fit);
        float inverse = quant_inverse(half_to_f32(b->d));
        uint8_t codes[BLOCK_WEIGHTS];
        for (int j = 0; j < BLOCK_WEIGHTS; j++) {
            codes[j] = (uint8_t)quant_nearest_level(block_iq4_values, inverse * x[j]);
        }
        quant_pack_nibbles(codes, b->qs);
    }
}

/* Half-way points between neighbouring MXFP4 magnitudes, doubled like the table. */
static uint8_t quant_mxfp4_code(float doubled)
{
    static const float borders[7] = {0.5F, 1.5F, 2.5F, 3.5F, 5.0F, 7.0F, 10.0F};
    uint8_t code = 0;
    for (int i = 0; i < 7; i++) {
        code = (uint8_t)(code + (fabsf(doubled) > borders[i]));
    }
    return (uint8_t)(code | (doubled < 0 && code > 0 ? 8 : 0));
}

/* Weighted squared error of the block under scale exponent e; codes are filled. */
static float quant_mxfp4_try(const float *x, const float *w, uint8_t e, uint8_t codes[32])
{
    float scale = half_e8m0_to_f32(e);
    float error = 0;
    for (int j = 0; j < BLOCK_WEIGHTS; j++) {
        codes[j] = quant_mxfp4_code(x[j] / scale);
        float diff = scale * (float)block_mxfp4_values[codes[j]] - x[j];
        error += w[j] * diff * diff;
    }
    return error;
}

QUANT_ENCODER(mxfp4)
{
    struct block_mxfp4 *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++) {
        const float *x = in + i * BLOCK_WEIGHTS;
        const float *w = importance + i * BLOCK_WEIGHTS;
        float peak = 0;
        for (int j = 0; j < BLOCK_WEIGHTS; j++) {
            peak = MAX(peak, fabsf(x[j]));
        }
        /* The largest magnitude, 6, has exponent 2. One step to either side is tried too. */
        int middle = peak > 0 ? ilogbf(peak) - 2 + 127 : 0;
        float best = INFINITY;
        b->e = 0;
        memset(b->qs, 0, sizeof(b->qs));
        for (int e = middle - 1; peak > 0 && e <= middle + 1; e++) {
            uint8_t codes[BLOCK_WEIGHTS];
            uint8_t bounded = (uint8_t)MIN(MAX(e, 0), 254);
            float error = quant_mxfp4_try(x, w, bounded, codes);
            if (error < best) {
                best = error;
                b->e = bounded;
                quant_pack_nibbles(codes, b->qs);
            }
        }
    }
}
