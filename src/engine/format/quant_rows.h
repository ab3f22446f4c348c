/* quant_rows.h: one decoder and one encoder per type, private to quant*.c. n_blocks blocks each;
 * encoders get finite weights within range, and error weights made by quant.c, one per weight. */
#ifndef ENGINE_FORMAT_QUANT_ROWS_H
#define ENGINE_FORMAT_QUANT_ROWS_H

#include "base/compiler.h"

#define QUANT_DECODER(name)                                                                        \
    void quant_decode_##name(const void *blocks, float *out, size_t n_blocks)
#define QUANT_ENCODER(name)                                                                        \
    void quant_encode_##name(const float *in, const float *importance, void *blocks,               \
                             size_t n_blocks)
#define QUANT_BOTH(name)                                                                           \
    QUANT_DECODER(name);                                                                           \
    QUANT_ENCODER(name)

QUANT_BOTH(f32);
QUANT_BOTH(f16);
QUANT_BOTH(bf16);
QUANT_BOTH(q4_0);
QUANT_BOTH(q4_1);
QUANT_BOTH(q5_0);
QUANT_BOTH(q5_1);
QUANT_BOTH(q8_0);
QUANT_BOTH(iq4_nl);
QUANT_BOTH(mxfp4);
QUANT_BOTH(q2_k);
QUANT_BOTH(q3_k);
QUANT_BOTH(q4_k);
QUANT_BOTH(q5_k);
QUANT_BOTH(q6_k);
QUANT_BOTH(iq4_xs);

#endif
