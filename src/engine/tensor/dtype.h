/* dtype.h: the element types of tensors, numbered as in GGUF. */
#ifndef ENGINE_TENSOR_DTYPE_H
#define ENGINE_TENSOR_DTYPE_H

#include "base/str.h"

/* GGUF number, name, weights per block, bytes per block */
#define DTYPE_TABLE(X)                                                                             \
    X(F32, 0, "F32", 1, 4)                                                                         \
    X(F16, 1, "F16", 1, 2)                                                                         \
    X(Q4_0, 2, "Q4_0", 32, 18)                                                                     \
    X(Q4_1, 3, "Q4_1", 32, 20)                                                                     \
    X(Q5_0, 6, "Q5_0", 32, 22)                                                                     \
    X(Q5_1, 7, "Q5_1", 32, 24)                                                                     \
    X(Q8_0, 8, "Q8_0", 32, 34)                                                                     \
    X(Q2_K, 10, "Q2_K", 256, 84)                                                                   \
    X(Q3_K, 11, "Q3_K", 256, 110)                                                                  \
    X(Q4_K, 12, "Q4_K", 256, 144)                                                                  \
    X(Q5_K, 13, "Q5_K", 256, 176)                                                                  \
    X(Q6_K, 14, "Q6_K", 256, 210)                                                                  \
    X(IQ4_NL, 20, "IQ4_NL", 32, 18)                                                                \
    X(IQ4_XS, 23, "IQ4_XS", 256, 136)                                                              \
    X(BF16, 30, "BF16", 1, 2)                                                                      \
    X(MXFP4, 39, "MXFP4", 32, 17)

enum dtype {
#define X(id, number, name, weights, bytes) DTYPE_##id = (number),
    DTYPE_TABLE(X)
#undef X
};

enum { DTYPE_NUMBER_MAX = 64 };

struct dtype_row {
    const char *name;
    uint32_t block_weights;
    uint32_t block_bytes;
};

/* NULL when the number is not a type that the engine reads. */
const struct dtype_row *dtype_row(uint32_t number);
/* By name, case ignored ("q4_k"); false when unknown. */
MUST_CHECK bool dtype_parse(struct str name, enum dtype *out);
/* Bytes of a row of n_cols weights; false when n_cols is no multiple of the block or the size
 * overflows. */
MUST_CHECK bool dtype_row_bytes(enum dtype t, uint64_t n_cols, uint64_t *out);

#endif
