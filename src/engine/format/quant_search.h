/* quant_search.h: scales that make the weighted squared error of a run of weights small. Private to
 * the encoders. x are finite; w >= 0 are error weights; n is a multiple of
 * four up to 256.
 *
 * Each search tries a fan of scales around the obvious one (the largest weight on the outermost
 * code) and, for the codes that a scale gives, takes the scale that is then best by least
 * squares. Source of the method: ggml's make_qx_quants and make_qkx2_quants. */
#ifndef ENGINE_FORMAT_QUANT_SEARCH_H
#define ENGINE_FORMAT_QUANT_SEARCH_H

#include "base/compiler.h"

/* x ≈ scale * q, q from -n_max to n_max - 1. The scale may be negative; 0 for zeros. */
float quant_fit_signed(const float *x, const float *w, uint32_t n, int n_max);

/* x ≈ scale * q, x >= 0, q from 0 to n_max. */
float quant_fit_unsigned(const float *x, const float *w, uint32_t n, int n_max);

struct quant_affine {
    float scale; /* >= 0 */
    float min;
};

struct quant_affine_conf {
    int n_max;         /* q from 0 to n_max */
    bool min_positive; /* whether the format can hold a min above 0 */
};

/* x ≈ scale * q + min. */
struct quant_affine quant_fit_affine(const float *x, const float *w, uint32_t n,
                                     struct quant_affine_conf conf);

/* x ≈ scale * levels[q]; levels ascend. */
float quant_fit_levels(const float *x, const float *w, uint32_t n, const int8_t levels[16]);

/* The code whose level is nearest to `v`; levels ascend. */
uint32_t quant_nearest_level(const int8_t levels[16], float v);

/* v rounded to the nearest whole number within [min, max]. */
int quant_round(float v, int min, int max);

/* The scale as F16. One too small for F16 becomes the smallest instead of zero: the codes are
 * chosen against what is stored, and coarse steps are better than none. */
uint16_t quant_stored_scale(float scale);

#endif
