/* half.h: 16-bit floats and power-of-two scales as float32. Scalar and exact: round to nearest,
 * ties to even; infinities and NaN are kept. */
#ifndef ENGINE_TENSOR_HALF_H
#define ENGINE_TENSOR_HALF_H

#include <string.h>

#include "base/compiler.h"

/* Largest finite F16. */
#define HALF_MAX 65504.0F

static inline float half_bits_f32(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline uint32_t half_f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* IEEE binary16. Its exponent and mantissa, shifted into place, are the value times 2^-112, and
 * that product is exact for subnormals too. */
static inline float half_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t rest = (uint32_t)(h & 0x7FFF) << 13;
    uint32_t bits = half_f32_bits(half_bits_f32(rest) * 0x1p112F);
    if (rest >= 0x0F800000) {
        bits = rest | 0x7F800000;
    }
    return half_bits_f32(sign | bits);
}

static inline uint16_t half_from_f32(float value)
{
    uint32_t bits = half_f32_bits(value);
    uint32_t sign = (bits >> 16) & 0x8000;
    bits &= 0x7FFFFFFF;
    if (bits >= 0x47800000) { /* 2^16 and more, infinity, NaN */
        return (uint16_t)(sign | (bits > 0x7F800000 ? 0x7E00U : 0x7C00U));
    }
    if (bits < 0x38800000) { /* below 2^-14: the sum's last bit is 2^-24, the subnormals' unit */
        return (uint16_t)(sign | (half_f32_bits(half_bits_f32(bits) + 0.5F) - 0x3F000000));
    }
    bits += 0xC8000FFFU + ((bits >> 13) & 1); /* exponent bias 127 to 15, rounding */
    return (uint16_t)(sign | bits >> 13);
}

/* bfloat16: the upper half of a float32. */
static inline float half_bf16_to_f32(uint16_t h)
{
    return half_bits_f32((uint32_t)h << 16);
}

static inline uint16_t half_bf16_from_f32(float value)
{
    uint32_t bits = half_f32_bits(value);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) {
        return (uint16_t)(bits >> 16 | 64); /* NaN stays one, made quiet */
    }
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

/* 2^(e - 128): half of an E8M0 scale, since MXFP4's table holds twice its values. */
static inline float half_e8m0_to_f32(uint8_t e)
{
    return half_bits_f32(e < 2 ? 0x00200000U << e : (uint32_t)(e - 1) << 23);
}

#endif
