/* quant.h: between float32 and the element types of GGUF, scalar and exact: the truth that kernels
 * are tested against, and what `quantize` writes. */
#ifndef ENGINE_FORMAT_QUANT_H
#define ENGINE_FORMAT_QUANT_H

#include "base/err.h"
#include "engine/tensor/dtype.h"

/* n weights from their blocks; n is a multiple of the type's block. `blocks` has the alignment of
 * a GGUF tensor's row (2 bytes; 4 for F32). Same bits as the reference decoder of the format. */
void quant_dequantize(enum dtype t, const void *blocks, float *out, size_t n);

/* n weights to blocks; n is a multiple of the type's block. `importance` (n floats >= 0, mean
 * square activation of each column) weighs the error that the search for scales minimises; NULL
 * weighs by the weights alone. RC_INVALID when a weight is not finite or beyond what the type can
 * hold (65504 where scales are F16); `blocks` is then undefined. */
RC quant_quantize(enum dtype t, const float *in, void *blocks, size_t n, const float *importance,
                  struct err *err);

#endif
