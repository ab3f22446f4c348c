/* quant_decode.c: blocks to float32. The order of the products is the reference decoder's, so that
 * results are equal bit for bit; blocks.h has the layouts. */
#include "engine/format/blocks.h"
#include "engine/format/quant_rows.h"
#include "engine/tensor/half.h"

/* ---- floats ---- */

QUANT_DECODER(f32)
{
    memcpy(out, blocks, n_blocks * sizeof(*out));
}

QUANT_DECODER(f16)
{
    const uint16_t *in = blocks;
    for (size_t i = 0; i < n_blocks; i++) {
        out[i] = half_to_f32(in[i]);
    }
}

QUANT_DECODER(bf16)
{
    const uint16_t *in = blocks;
    for (size_t i = 0; i < n_blocks; i++) {
        out[i] = half_bf16_to_f32(in[i]);
    }
}

/* ---- blocks of 32 ---- */

QUANT_DECODER(q4_0)
{
    const struct block_q4_0 *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++, out += BLOCK_WEIGHTS) {
        float d = half_to_f32(b->d);
        for (int j = 0; j < 16; j++) {
            out[j] = d * (float)((b->qs[j] & 15) - 8);
            out[j + 16] = d * (float)((b->qs[j] >> 4) - 8);
        }
    }
}

QUANT_DECODER(q4_1)
{
    const struct block_q4_1 *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++, out += BLOCK_WEIGHTS) {
        float d = half_to_f32(b->d);
        float m = half_to_f32(b->m);
        for (int j = 0; j < 16; j++) {
            out[j] = d * (float)(b->qs[j] & 15) + m;
            out[j + 16] = d * (float)(b->qs[j] >> 4) + m;
        }
    }
}

/* Weight j (0…15) and weight j + 16 of a five-bit block, unsigned. */
static inline void quant_five_bits(const uint8_t qh[4], const uint8_t qs[16], int j, int out[2])
{
    out[0] = (qs[j] & 15) | ((qh[j / 8] >> (j % 8)) & 1) << 4;
    out[1] = (qs[j] >> 4) | ((qh[2 + j / 8] >> (j % 8)) & 1) << 4;
}

QUANT_DECODER(q5_0)
{
    const struct block_q5_0 *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++, out += BLOCK_WEIGHTS) {
        float d = half_to_f32(b->d);
        for (int j = 0; j < 16; j++) {
            int q[2];
            quant_five_bits(b->qh, b->qs, j, q);
            out[j] = d * (float)(q[0] - 16);
            out[j + 16] = d * (float)(q[1] - 16);
        }
    }
}

QUANT_DECODER(q5_1)
{
    const struct block_q5_1 *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++, out += BLOCK_WEIGHTS) {
        float d = half_to_f32(b->d);
        float m = half_to_f32(b->m);
        for (int j = 0; j < 16; j++) {
            int q[2];
            quant_five_bits(b->qh, b->qs, j, q);
            out[j] = d * (float)q[0] + m;
            out[j + 16] = d * (float)q[1] + m;
        }
    }
}

QUANT_DECODER(q8_0)
{
    const struct block_q8_0 *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++, out += BLOCK_WEIGHTS) {
        float d = half_to_f32(b->d);
        for (int j = 0; j < BLOCK_WEIGHTS; j++) {
            out[j] = d * (float)b->qs[j];
        }
    }
}

static inline void quant_decode_levels(const uint8_t qs[16], const int8_t levels[16], float scale,
                                       float *out)
{
    for (int j = 0; j < 16; j++) {
        out[j] = scale * (float)levels[qs[j] & 15];
        out[j + 16] = scale * (float)levels[qs[j] >> 4];
    }
}

QUANT_DECODER(iq4_nl)
{
    const struct block_iq4_nl *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++, out += BLOCK_WEIGHTS) {
        quant_decode_levels(b->qs, block_iq4_values, half_to_f32(b->d), out);
    }
}

QUANT_DECODER(mxfp4)
{
    const struct block_mxfp4 *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++, out += BLOCK_WEIGHTS) {
        quant_decode_levels(b->qs, block_mxfp4_values, half_e8m0_to_f32(b->e), out);
    }
}

/* ---- blocks of 256 ---- */

QUANT_DECODER(q2_k)
{
    const struct block_q2_k *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++, out += BLOCK_K_WEIGHTS) {
        float d = half_to_f32(b->d);
        float dmin = half_to_f32(b->dmin);
        for (int r = 0; r < 16; r++) {
            float scale = d * (float)(b->scales[r] & 15);
            float min = dmin * (float)(b->scales[r] >> 4);
            const uint8_t *qs = b->qs + 32 * (r / 8) + 16 * (r % 2);
            int shift = 2 * (r / 2 % 4);
            for (int j = 0; j < 16; j++) {
                out[16 * r + j] = scale * (float)((qs[j] >> shift) & 3) - min;
            }
        }
    }
}

QUANT_DECODER(q3_k)
{
    const struct block_q3_k *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++, out += BLOCK_K_WEIGHTS) {
        float d = half_to_f32(b->d);
        for (uint32_t r = 0; r < 16; r++) {
            float scale = d * (float)(block_q3_k_scale(b->scales, r) - 32);
            const uint8_t *qs = b->qs + 32 * (r / 8) + 16 * (r % 2);
            const uint8_t *hmask = b->hmask + 16 * (r % 2);
            uint32_t shift = 2 * (r / 2 % 4);
            for (int j = 0; j < 16; j++) {
                int high = (hmask[j] >> (r / 2)) & 1;
                out[16 * r + (uint32_t)j] = scale * (float)(((qs[j] >> shift) & 3) + 4 * high - 4);
            }
        }
    }
}

QUANT_DECODER(q4_k)
{
    const struct block_q4_k *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++, out += BLOCK_K_WEIGHTS) {
        float d = half_to_f32(b->d);
        float dmin = half_to_f32(b->dmin);
        for (uint32_t r = 0; r < 8; r++) {
            uint8_t sc, m;
            block_k4_scale(b->scales, r, &sc, &m);
            float scale = d * (float)sc;
            float min = dmin * (float)m;
            const uint8_t *qs = b->qs + 32 * (r / 2);
            for (uint32_t j = 0; j < 32; j++) {
                int q = (qs[j] >> (4 * (r % 2))) & 15;
                out[32 * r + j] = scale * (float)q - min;
            }
        }
    }
}

QUANT_DECODER(q5_k)
{
    const struct block_q5_k *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++, out += BLOCK_K_WEIGHTS) {
        float d = half_to_f32(b->d);
        float dmin = half_to_f32(b->dmin);
        for (uint32_t r = 0; r < 8; r++) {
            uint8_t sc, m;
            block_k4_scale(b->scales, r, &sc, &m);
            float scale = d * (float)sc;
            float min = dmin * (float)m;
            const uint8_t *qs = b->qs + 32 * (r / 2);
            for (uint32_t j = 0; j < 32; j++) {
                int q = ((qs[j] >> (4 * (r % 2))) & 15) | ((b->qh[j] >> r) & 1) << 4;
                out[32 * r + j] = scale * (float)q - min;
            }
        }
    }
}

QUANT_DECODER(q6_k)
{
    const struct block_q6_k *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++, out += BLOCK_K_WEIGHTS) {
        float d = half_to_f32(b->d);
        for (int r = 0; r < 16; r++) {
            float scale = d * (float)b->scales[r];
            int quarter = r % 8 / 2; /* of the half: which 32 weights */
            int at = 16 * (r % 2);
            const uint8_t *ql = b->ql + 64 * (r / 8) + 32 * (quarter % 2) + at;
            const uint8_t *qh = b->qh + 32 * (r / 8) + at;
            for (int j = 0; j < 16; j++) {
                int low = (ql[j] >> (4 * (quarter / 2))) & 15;
                int high = (qh[j] >> (2 * quarter)) & 3;
                out[16 * r + j] = scale * (float)((low | high << 4) - 32);
            }
        }
    }
}

QUANT_DECODER(iq4_xs)
{
    const struct block_iq4_xs *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b++, out += BLOCK_K_WEIGHTS) {
        float d = half_to_f32(b->d);
        for (uint32_t r = 0; r < 8; r++) {
            float scale = d * (float)(block_iq4_xs_scale(b, r) - 32);
            quant_decode_levels(b->qs + 16 * r, block_iq4_values, scale, out + 32 * r);
        }
    }
}
