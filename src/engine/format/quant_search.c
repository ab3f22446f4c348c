/* quant_search.c: see quant_search.h. */
#include "engine/format/quant_search.h"

#include <math.h>

#include "engine/tensor/half.h"

/* Below this a run is as good as zero: an F16 scale could not hold it, and its inverse would
 * overflow. */
#define QUANT_TINY 1e-15F

int quant_round(float v, int min, int max)
{
    /* Clamped as a float first: a cast of a large float to int is undefined. */
    v = v < (float)min ? (float)min : v;
    v = v > (float)max ? (float)max : v;
    return (int)lrintf(v);
}

uint16_t quant_stored_scale(float scale)
{
    uint16_t h = half_from_f32(scale);
    return (h & 0x7FFF) == 0 && scale != 0 ? h | 1 : h;
}

/* The element of largest magnitude, with its sign. */
static float quant_peak(const float *x, uint32_t n)
{
    float peak = 0;
    for (uint32_t i = 0; i < n; i++) {
        peak = fabsf(x[i]) > fabsf(peak) ? x[i] : peak;
    }
    return peak;
}

/* ---- x ≈ scale * q ---- */

struct quant_range {
    int min, max;
};

/* Tries the scales 1 / inverse; keeps the best least-squares scale in *best. */
static void quant_try(const float *x, const float *w, uint32_t n, struct quant_range q_range,
                      float inverse, float best[2])
{
    float xq = 0;
    float qq = 0;
    for (uint32_t i = 0; i < n; i++) {
        float q = (float)quant_round(inverse * x[i], q_range.min, q_range.max);
        xq += w[i] * x[i] * q;
        qq += w[i] * q * q;
    }
    /* The error is Σ w x² - xq² / qq: the greater the gain, the better. */
    if (qq > 0 && xq * xq > best[1] * qq) {
        best[0] = xq / qq;
        best[1] = xq * xq / qq;
    }
}

float quant_fit_signed(const float *x, const float *w, uint32_t n, int n_max)
{
    float peak = quant_peak(x, n);
    if (fabsf(peak) < QUANT_TINY) {
        return 0;
    }
    struct quant_range q_range = {-n_max, n_max - 1};
    float best[2] = {-peak / (float)n_max, 0};
    for (int step = -9; step <= 9; step++) {
        float inverse = -((float)n_max + 0.1F * (float)step) / peak;
        quant_try(x, w, n, q_range, inverse, best);
    }
    return best[0];
}

float quant_fit_unsigned(const float *x, const float *w, uint32_t n, int n_max)
{
    float peak = quant_peak(x, n);
    if (peak < QUANT_TINY) {
        return 0;
    }
    float best[2] = {peak / (float)n_max, 0};
    for (int step = -9; step <= 9; step++) {
        float inverse = ((float)n_max + 0.1F * (float)step) / peak;
        quant_try(x, w, n, (struct quant_range){0, n_max}, inverse, best);
    }
    return best[0];
}

/* ---- x ≈ scale * q + min ---- */

struct quant_sums {
    float w, x, q, xq, qq;
};

static struct quant_affine quant_solve(const struct quant_sums *s, bool min_positive)
{
    struct quant_affine a = {0, 0};
    float det = s->w * s->qq - s->q * s->q;
    if (det > 0) {
        a.scale = (s->w * s->xq - s->x * s->q) / det;
        a.min = (s->qq * s->x - s->q * s->xq) / det;
    }
    if (a.min > 0 && !min_positive) {
        a.min = 0;
        a.scale = s->qq > 0 ? s->xq / s->qq : 0;
    }
    return a;
}

static float quant_affine_error(const float *x, const float *w, uint32_t n, struct quant_affine a,
                                int n_max)
{
    float error = 0;
    float inverse = a.scale > 0 ? 1 / a.scale : 0;
    for (uint32_t i = 0; i < n; i++) {
        float q = (float)quant_round(inverse * (x[i] - a.min), 0, n_max);
        float diff = a.scale * q + a.min - x[i];
        error += w[i] * diff * diff;
    }
    return error;
}

struct quant_affine quant_fit_affine(const float *x, const float *w, uint32_t n,
                                     struct quant_affine_conf conf)
{
    float min = conf.min_positive ? x[0] : MIN(x[0], 0.0F);
    float max = x[0];
    for (uint32_t i = 1; i < n; i++) {
        min = MIN(min, x[i]);
        max = MAX(max, x[i]);
    }
    if (max - min < QUANT_TINY) {
        return (struct quant_affine){0, min};
    }
    struct quant_affine best = {(max - min) / (float)conf.n_max, min};
    float best_error = quant_affine_error(x, w, n, best, conf.n_max);
    for (int step = -10; step <= 10; step++) {
        float inverse = ((float)conf.n_max + 0.1F * (float)step) / (max - min);
        struct quant_sums s = {0};
        for (uint32_t i = 0; i < n; i++) {
            float q = (float)quant_round(inverse * (x[i] - min), 0, conf.n_max);
            s.w += w[i];
            s.x += w[i] * x[i];
            s.q += w[i] * q;
            s.xq += w[i] * x[i] * q;
            s.qq += w[i] * q * q;
        }
        struct quant_affine a = quant_solve(&s, conf.min_positive);
        if (!(a.scale > QUANT_TINY)) {
            continue;
        }
        float error = quant_affine_error(x, w, n, a, conf.n_max);
        if (error < best_error) {
            best_error = error;
            best = a;
        }
    }
    return best;
}

/* ---- x ≈ scale * levels[q] ---- */

uint32_t quant_nearest_level(const int8_t levels[16], float v)
{
    uint32_t low = 0;
    for (uint32_t step = 8; step > 0; step /= 2) {
        low += v >= (float)levels[low + step] ? step : 0;
    }
    if (low == 15) {
        return 15;
    }
    return v - (float)levels[low] > (float)levels[low + 1] - v ? low + 1 : low;
}

float quant_fit_levels(const float *x, const float *w, uint32_t n, const int8_t levels[16])
{
    float peak = quant_peak(x, n);
    if (fabsf(peak) < QUANT_TINY) {
        return 0;
    }
    float best = peak / (float)levels[0];
    float best_gain = 0;
    /* Both ends of the table in turn: the outermost levels differ in magnitude. */
    for (int step = -18; step <= 18; step++) {
        float end = (float)(step % 2 == 0 ? levels[0] : levels[15]);
        float inverse = (end + (float)step) / peak;
        float xq = 0;
        float qq = 0;
        for (uint32_t i = 0; i < n; i++) {
            float q = (float)levels[quant_nearest_level(levels, inverse * x[i])];
            xq += w[i] * x[i] * q;
            qq += w[i] * q * q;
        }
        if (qq > 0 && xq * xq > best_gain * qq) {
            best = xq / qq;
            best_gain = xq * xq / qq;
        }
    }
    return best;
}
