/* quant_encode_k.c: float32 to the blocks of 256.
 *
 * Each run of 16 or 32 weights gets its best scale (and min) first; then the runs' scales are
 * themselves quantised against one F16 scale for the block; then the codes are chosen against the
 * scales as they were stored. blocks.h has the layouts. */
#include <math.h>

#include "engine/format/blocks.h"
#include "engine/format/quant_rows.h"
#include "engine/format/quant_search.h"
#include "engine/tensor/half.h"

static float quant_inverse(float scale)
{
    return scale != 0 ? 1 / scale : 0;
}

static float quant_sum(const float *w, uint32_t n)
{
    float sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += w[i];
    }
    return sum;
}

/* ---- runs with a scale and a min: Q2_K, Q4_K, Q5_K ---- */

struct quant_affine_block {
    uint32_t n_runs;    /* 16 of 16 weights, or 8 of 32 */
    int code_max;       /* of a weight */
    int scale_max;      /* of a run's scale and min */
    uint16_t d, dmin;   /* out */
    uint8_t scales[16]; /* out */
    uint8_t mins[16];   /* out */
    uint8_t codes[BLOCK_K_WEIGHTS];
};

static void quant_affine_scales(struct quant_affine_block *b, const float *x, const float *w)
{
    uint32_t run = BLOCK_K_WEIGHTS / b->n_runs;
    float scales[16];
    float mins[16];
    float weights[16];
    for (uint32_t r = 0; r < b->n_runs; r++) {
        struct quant_affine_conf conf = {.n_max = b->code_max};
        struct quant_affine a = quant_fit_affine(x + r * run, w + r * run, run, conf);
        scales[r] = a.scale;
        mins[r] = -a.min;
        weights[r] = quant_sum(w + r * run, run);
    }
    b->d = quant_stored_scale(quant_fit_unsigned(scales, weights, b->n_runs, b->scale_max));
    b->dmin = quant_stored_scale(quant_fit_unsigned(mins, weights, b->n_runs, b->scale_max));
    float inverse_d = quant_inverse(half_to_f32(b->d));
    float inverse_dmin = quant_inverse(half_to_f32(b->dmin));
    for (uint32_t r = 0; r < b->n_runs; r++) {
        b->scales[r] = (uint8_t)quant_round(inverse_d * scales[r], 0, b->scale_max);
        b->mins[r] = (uint8_t)quant_round(inverse_dmin * mins[r], 0, b->scale_max);
    }
}

static void quant_affine_encode(struct quant_affine_block *b, const float *x, const float *w)
{
    quant_affine_scales(b, x, w);
    uint32_t run = BLOCK_K_WEIGHTS / b->n_runs;
    for (uint32_t r = 0; r < b->n_runs; r++) {
        float inverse = quant_inverse(half_to_f32(b->d) * (float)b->scales[r]);
        float min = half_to_f32(b->dmin) * (float)b->mins[r];
        for (uint32_t j = r * run; j < (r + 1) * run; j++) {
            b->codes[j] = (uint8_t)quant_round(inverse * (x[j] + min), 0, b->code_max);
        }
    }
}

/* Four two-bit codes a byte, as Q2_K and Q3_K hold them. */
static void quant_pack_pairs(const uint8_t codes[BLOCK_K_WEIGHTS], uint8_t qs[64])
{
    for (uint32_t j = 0; j < 64; j++) {
        const uint8_t *c = codes + 128 * (j / 32) + j % 32;
        qs[j] = (uint8_t)((c[0] & 3) | (c[32] & 3) << 2 | (c[64] & 3) << 4 | (c[96] & 3) << 6);
    }
}

QUANT_ENCODER(q2_k)
{
    struct block_q2_k *out = blocks;
    for (size_t i = 0; i < n_blocks; i++, out++) {
        struct quant_affine_block b = {.n_runs = 16, .code_max = 3, .scale_max = 15};
        quant_affine_encode(&b, in + i * BLOCK_K_WEIGHTS, importance + i * BLOCK_K_WEIGHTS);
        out->d = b.d;
        out->dmin = b.dmin;
        for (int r = 0; r < 16; r++) {
            out->scales[r] = (uint8_t)(b.scales[r] | b.mins[r] << 4);
        }
        quant_pack_pairs(b.codes, out->qs);
    }
}

/* The inverse of block_k4_scale. */
static void quant_pack_k4_scales(const struct quant_affine_block *b, uint8_t scales[12])
{
    memset(scales, 0, 12);
    for (int r = 0; r < 4; r++) {
        scales[r] = (uint8_t)(b->scales[r] | (b->scales[r + 4] >> 4) << 6);
        scales[r + 4] = (uint8_t)(b->mins[r] | (b->mins[r + 4] >> 4) << 6);
        scales[r + 8] = (uint8_t)((b->scales[r + 4] & 15) | (b->mins[r + 4] & 15) << 4);
    }
}

static void quant_pack_k4_nibbles(const uint8_t codes[BLOCK_K_WEIGHTS], uint8_t qs[128])
{
    for (uint32_t j = 0; j < 128; j++) {
        const uint8_t *c = codes + 64 * (j / 32) + j % 32;
        qs[j] = (uint8_t)((c[0] & 15) | (c[32] & 15) << 4);
    }
}

QUANT_ENCODER(q4_k)
{
    struct block_q4_k *out = blocks;
    for (size_t i = 0; i < n_blocks; i++, out++) {
        struct quant_affine_block b = {.n_runs = 8, .code_max = 15, .scale_max = 63};
        quant_affine_encode(&b, in + i * BLOCK_K_WEIGHTS, importance + i * BLOCK_K_WEIGHTS);
        out->d = b.d;
        out->dmin = b.dmin;
        quant_pack_k4_scales(&b, out->scales);
        quant_pack_k4_nibbles(b.codes, out->qs);
    }
}

QUANT_ENCODER(q5_k)
{
    struct block_q5_k *out = blocks;
    for (size_t i = 0; i < n_blocks; i++, out++) {
        struct quant_affine_block b = {.n_runs = 8, .code_max = 31, .scale_max = 63};
        quant_affine_encode(&b, in + i * BLOCK_K_WEIGHTS, importance + i * BLOCK_K_WEIGHTS);
        out->d = b.d;
        out->dmin = b.dmin;
        quant_pack_k4_scales(&b, out->scales);
        quant_pack_k4_nibbles(b.codes, out->qs);
        memset(out->qh, 0, sizeof(out->qh));
        for (int j = 0; j < BLOCK_K_WEIGHTS; j++) {
            out->qh[j % 32] = (uint8_t)(out->qh[j % 32] | (b.codes[j] >> 4) << (j / 32));
        }
    }
}

/* ---- runs with a signed scale: Q3_K, Q6_K, IQ4_XS ---- */

struct quant_signed_block {
    uint32_t n_runs;
    int scale_max; /* a run's scale goes from -scale_max to scale_max - 1 */
    uint16_t d;    /* out */
    int16_t scales[16];
};

/* Quantises the runs' scales `fits`. */
static void quant_signed_scales(struct quant_signed_block *b, const float fits[16],
                                const float weights[16])
{
    b->d = quant_stored_scale(quant_fit_signed(fits, weights, b->n_runs, b->scale_max));
    float inverse = quant_inverse(half_to_f32(b->d));
    for (uint32_t r = 0; r < b->n_runs; r++) {
        b->scales[r] = (int16_t)quant_round(inverse * fits[r], -b->scale_max, b->scale_max - 1);
    }
}

/* Codes from 0 to 2 code_max - 1 of 16 runs of 16. */
static void quant_signed_encode(struct quant_signed_block *b, const float *x, const float *w,
                                int code_max, uint8_t codes[BLOCK_K_WEIGHTS])
{
    float fits[16];
    float weights[16];
    for (uint32_t r = 0; r < 16; r++) {
        fits[r] = quant_fit_signed(x + 16 * r, w + 16 * r, 16, code_max);
        weights[r] = quant_sum(w + 16 * r, 16);
    }
    quant_signed_scales(b, fits, weights);
    for (uint32_t j = 0; j < BLOCK_K_WEIGHTS; j++) {
        float inverse = quant_inverse(half_to_f32(b->d) * (float)b->scales[j / 16]);
        codes[j] = (uint8_t)(quant_round(inverse * x[j], -code_max, code_max - 1) + code_max);
    }
}

/* The inverse of block_q3_k_scale. */
static void quant_pack_q3_scales(const int16_t from[16], uint8_t scales[12])
{
    memset(scales, 0, 12);
    for (int r = 0; r < 16; r++) {
        int code = from[r] + 32;
        scales[r % 8] = (uint8_t)(scales[r % 8] | (code & 15) << (r < 8 ? 0 : 4));
        scales[8 + r % 4] = (uint8_t)(scales[8 + r % 4] | (code >> 4) << (2 * (r / 4)));
    }
}

QUANT_ENCODER(q3_k)
{
    struct block_q3_k *out = blocks;
    for (size_t i = 0; i < n_blocks; i++, out++) {
        struct quant_signed_block b = {.n_runs = 16, .scale_max = 32};
        uint8_t codes[BLOCK_K_WEIGHTS];
        size_t at = i * BLOCK_K_WEIGHTS;
        quant_signed_encode(&b, in + at, importance + at, 4, codes);
        out->d = b.d;
        quant_pack_q3_scales(b.scales, out->scales);
        quant_pack_pairs(codes, out->qs);
        memset(out->hmask, 0, sizeof(out->hmask));
        for (int j = 0; j < BLOCK_K_WEIGHTS; j++) {
            out->hmask[j % 32] = (uint8_t)(out->hmask[j % 32] | (codes[j] >> 2) << (j / 32));
        }
    }
}

QUANT_ENCODER(q6_k)
{
    struct block_q6_k *out = blocks;
    for (size_t i = 0; i < n_blocks; i++, out++) {
        struct quant_signed_block b = {.n_runs = 16, .scale_max = 128};
        uint8_t codes[BLOCK_K_WEIGHTS];
        size_t at = i * BLOCK_K_WEIGHTS;
        quant_signed_encode(&b, in + at, importance + at, 32, codes);
        out->d = b.d;
        for (int r = 0; r < 16; r++) {
            out->scales[r] = (int8_t)b.scales[r];
        }
        for (int j = 0; j < 64; j++) {
            const uint8_t *c = codes + 128 * (j / 32) + j % 32;
            uint8_t *ql = out->ql + 64 * (j / 32) + j % 32;
            ql[0] = (uint8_t)((c[0] & 15) | (c[64] & 15) << 4);
            ql[32] = (uint8_t)((c[32] & 15) | (c[96] & 15) << 4);
            out->qh[j] =
                (uint8_t)((c[0] >> 4) | (c[32] >> 4) << 2 | (c[64] >> 4) << 4 | (c[96] >> 4) << 6);
        }
    }
}

static void quant_pack_iq4_xs_scales(const int16_t from[16], struct block_iq4_xs *out)
{
    out->scales_h = 0;
    memset(out->scales_l, 0, sizeof(out->scales_l));
    for (int r = 0; r < 8; r++) {
        int code = from[r] + 32;
        out->scales_l[r / 2] = (uint8_t)(out->scales_l[r / 2] | (code & 15) << (4 * (r % 2)));
        out->scales_h = (uint16_t)(out->scales_h | (code >> 4) << (2 * r));
    }
}

QUANT_ENCODER(iq4_xs)
{
    struct block_iq4_xs *out = blocks;
    for (size_t i = 0; i < n_blocks; i++, out++) {
        const float *x = in + i * BLOCK_K_WEIGHTS;
        const float *w = importance + i * BLOCK_K_WEIGHTS;
        struct quant_signed_block b = {.n_runs = 8, .scale_max = 32};
        float fits[16];
        float weights[16];
        for (uint32_t r = 0; r < 8; r++) {
            fits[r] = quant_fit_levels(x + 32 * r, w + 32 * r, 32, block_iq4_values);
            weights[r] = quant_sum(w + 32 * r, 32);
        }
        quant_signed_scales(&b, fits, weights);
        out->d = b.d;
        quant_pack_iq4_xs_scales(b.scales, out);
        for (uint32_t j = 0; j < 128; j++) {
            uint32_t r = j / 16;
            float inverse = quant_inverse(half_to_f32(b.d) * (float)b.scales[r]);
            const float *pair = x + 32 * r + j % 16;
            uint32_t low = quant_nearest_level(block_iq4_values, inverse * pair[0]);
            uint32_t high = quant_nearest_level(block_iq4_values, inverse * pair[16]);
            out->qs[j] = (uint8_t)(low | high << 4);
        }
    }
}
