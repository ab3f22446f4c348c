/* quant.c: the table of decoders and encoders, and what all encoders share: refusing weights that a
 * type cannot hold, and the weights of the error.
 *
 * An error matters as much as the activation it meets (importance) and more on large weights:
 * w = importance * sqrt(mean square of the block + x²), as ggml does with an importance matrix. */
#include "engine/format/quant.h"

#include <float.h>
#include <math.h>

#include "base/assert.h"
#include "engine/format/blocks.h"
#include "engine/format/quant_rows.h"
#include "engine/tensor/half.h"

struct quant_row {
    void (*decode)(const void *blocks, float *out, size_t n_blocks);
    void (*encode)(const float *in, const float *importance, void *blocks, size_t n_blocks);
    /* Largest magnitude that may be encoded: what the type holds, and where the search for a scale
     * can still sum cubes. */
    float limit;
};

static const struct quant_row quant_rows[DTYPE_NUMBER_MAX] = {
#define ROW(ID, name, limit) [DTYPE_##ID] = {quant_decode_##name, quant_encode_##name, limit}
    ROW(F32, f32, FLT_MAX),        ROW(F16, f16, HALF_MAX),   ROW(BF16, bf16, 0x1.FEp127F),
    ROW(Q4_0, q4_0, HALF_MAX),     ROW(Q4_1, q4_1, HALF_MAX), ROW(Q5_0, q5_0, HALF_MAX),
    ROW(Q5_1, q5_1, HALF_MAX),     ROW(Q8_0, q8_0, HALF_MAX), ROW(IQ4_NL, iq4_nl, HALF_MAX),
    ROW(MXFP4, mxfp4, 0x1p40F),    ROW(Q2_K, q2_k, HALF_MAX), ROW(Q3_K, q3_k, HALF_MAX),
    ROW(Q4_K, q4_k, HALF_MAX),     ROW(Q5_K, q5_k, HALF_MAX), ROW(Q6_K, q6_k, HALF_MAX),
    ROW(IQ4_XS, iq4_xs, HALF_MAX),
#undef ROW
};

static const struct quant_row *quant_find(enum dtype t, size_t n, size_t *n_blocks)
{
    const struct dtype_row *type = dtype_row((uint32_t)t);
    ASSERT(type != NULL);
    ASSERT(n % type->block_weights == 0);
    ASSERT(quant_rows[t].decode != NULL);
    *n_blocks = n / type->block_weights;
    return &quant_rows[t];
}

void quant_dequantize(enum dtype t, const void *blocks, float *out, size_t n)
{
    size_t n_blocks;
    const struct quant_row *row = quant_find(t, n, &n_blocks);
    row->decode(blocks, out, n_blocks);
}

static enum rc quant_check(enum dtype t, const float *in, size_t n, struct err *err)
{
    float limit = quant_rows[t].limit;
    for (size_t i = 0; i < n; i++) {
        if (!(fabsf(in[i]) <= limit)) {
            return err_set(err, RC_INVALID, "weight %zu is %g, which %s cannot hold", i,
                           (double)in[i], dtype_row((uint32_t)t)->name);
        }
    }
    return RC_OK;
}

/* Error weights of up to 256 weights. */
static void quant_error_weights(const float *in, const float *importance, size_t n, float *w)
{
    float mean = 0;
    for (size_t i = 0; i < n; i++) {
        mean += in[i] * in[i] / (float)n;
    }
    for (size_t i = 0; i < n; i++) {
        w[i] = sqrtf(mean + in[i] * in[i]) * (importance != NULL ? importance[i] : 1.0F);
    }
}

enum rc quant_quantize(enum dtype t, const float *in, void *blocks, size_t n,
                       const float *importance, struct err *err)
{
    size_t n_blocks;
    const struct quant_row *row = quant_find(t, n, &n_blocks);
    enum rc rc = quant_check(t, in, n, err);
    if (rc != RC_OK) {
        return rc;
    }
    const struct dtype_row *type = dtype_row((uint32_t)t);
    if (type->block_weights == 1) {
        row->encode(in, NULL, blocks, n_blocks);
        return RC_OK;
    }
    unsigned char *out = blocks;
    for (size_t at = 0; at < n; at += type->block_weights, out += type->block_bytes) {
        float w[BLOCK_K_WEIGHTS];
        quant_error_weights(in + at, importance != NULL ? importance + at : NULL,
                            type->block_weights, w);
        row->encode(in + at, w, out, 1);
    }
    return RC_OK;
}
