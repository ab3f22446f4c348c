/* quant_search.c: see quant_search.h. The searches spend the time of an encoder, so their sums run
 * in vectors of four (SSE2, NEON: every 64-bit machine has them). n is a multiple of four. */
#include "engine/format/quant_search.h"

#include <math.h>

#include "base/assert.h"
#include "engine/tensor/half.h"

/* Below this a run is as good as zero: an F16 scale could not hold it, and its inverse would
 * overflow. */
#define QUANT_TINY 1e-15F

/* Added and taken away, it leaves a float below 2^22 rounded to the nearest whole number. */
#define QUANT_ROUNDER 12582912.0F

/* ---- vectors of four ---- */

typedef float quant_f4 __attribute__((vector_size(16)));
typedef int32_t quant_i4 __attribute__((vector_size(16)));

static inline quant_f4 quant_load(const float *x)
{
    quant_f4 v;
    memcpy(&v, x, sizeof(v));
    return v;
}

static inline quant_f4 quant_f4_of(float x)
{
    return (quant_f4){x, x, x, x};
}

static inline float quant_add_up(quant_f4 v)
{
    return (v[0] + v[1]) + (v[2] + v[3]);
}

/* a where the mask is set, else b */
static inline quant_f4 quant_pick(quant_i4 mask, quant_f4 a, quant_f4 b)
{
    return (quant_f4)((mask & (quant_i4)a) | (~mask & (quant_i4)b));
}

/* Nearest whole numbers within [min, max]. */
static inline quant_f4 quant_round4(quant_f4 v, float min, float max)
{
    quant_f4 low = quant_f4_of(min);
    quant_f4 high = quant_f4_of(max);
    v = quant_pick(v < low, low, v);
    v = quant_pick(v > high, high, v);
    return (v + QUANT_ROUNDER) - QUANT_ROUNDER;
}

/* ---- single weights ---- */

int quant_round(float v, int min, int max)
{
    /* Clamped as a float first: a cast of a large float to int is undefined. */
    v = v < (float)min ? (float)min : v;
    v = v > (float)max ? (float)max : v;
    return (int)((v + QUANT_ROUNDER) - QUANT_ROUNDER);
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
    quant_f4 xqs = {0};
    quant_f4 qqs = {0};
    for (uint32_t i = 0; i < n; i += 4) {
        quant_f4 v = quant_load(x + i);
        quant_f4 q = quant_round4(v * inverse, (float)q_range.min, (float)q_range.max);
        quant_f4 wq = quant_load(w + i) * q;
        xqs += wq * v;
        qqs += wq * q;
    }
    float xq = quant_add_up(xqs);
    float qq = quant_add_up(qqs);
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
    quant_f4 error = {0};
    float inverse = a.scale > 0 ? 1 / a.scale : 0;
    for (uint32_t i = 0; i < n; i += 4) {
        quant_f4 v = quant_load(x + i);
        quant_f4 q = quant_round4((v - a.min) * inverse, 0, (float)n_max);
        quant_f4 diff = q * a.scale + a.min - v;
        error += quant_load(w + i) * diff * diff;
    }
    return quant_add_up(error);
}

/* The best scale and min for the codes that `a` gives. */
static struct quant_affine quant_refit(const float *x, const float *w, uint32_t n,
                                       struct quant_affine a, struct quant_affine_conf conf)
{
    float inverse = 1 / a.scale;
    quant_f4 sum_w = {0}, sum_x = {0}, sum_q = {0}, sum_xq = {0}, sum_qq = {0};
    for (uint32_t i = 0; i < n; i += 4) {
        quant_f4 v = quant_load(x + i);
        quant_f4 weight = quant_load(w + i);
        quant_f4 q = quant_round4((v - a.min) * inverse, 0, (float)conf.n_max);
        sum_w += weight;
        sum_x += weight * v;
        sum_q += weight * q;
        sum_xq += weight * v * q;
        sum_qq += weight * q * q;
    }
    struct quant_sums s = {quant_add_up(sum_w), quant_add_up(sum_x), quant_add_up(sum_q),
                           quant_add_up(sum_xq), quant_add_up(sum_qq)};
    return quant_solve(&s, conf.min_positive);
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
        float steps = (float)conf.n_max + 0.1F * (float)step;
        struct quant_affine wanted = {(max - min) / steps, min};
        struct quant_affine a = quant_refit(x, w, n, wanted, conf);
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

/* Where one level ends and the next begins, and how far apart they are. */
struct quant_ladder {
    quant_f4 lowest;
    quant_f4 middles[15];
    quant_f4 steps[15];
};

static void quant_ladder_init(struct quant_ladder *l, const int8_t levels[16])
{
    l->lowest = quant_f4_of((float)levels[0]);
    for (int i = 0; i < 15; i++) {
        l->middles[i] = quant_f4_of((float)(levels[i] + levels[i + 1]) / 2);
        l->steps[i] = quant_f4_of((float)(levels[i + 1] - levels[i]));
    }
}

/* The levels nearest to v: from the lowest, one step up for each middle that v passes. */
static inline quant_f4 quant_nearest4(const struct quant_ladder *l, quant_f4 v)
{
    quant_f4 near = l->lowest;
    for (int i = 0; i < 15; i++) {
        near += (quant_f4)((v > l->middles[i]) & (quant_i4)l->steps[i]);
    }
    return near;
}

float quant_fit_levels(const float *x, const float *w, uint32_t n, const int8_t levels[16])
{
    float peak = quant_peak(x, n);
    if (fabsf(peak) < QUANT_TINY) {
        return 0;
    }
    struct quant_ladder ladder;
    quant_ladder_init(&ladder, levels);
    float best = peak / (float)levels[0];
    float best_gain = 0;
    /* Both ends of the table in turn: the outermost levels differ in magnitude. */
    for (int step = -18; step <= 18; step++) {
        float end = (float)(step % 2 == 0 ? levels[0] : levels[15]);
        float inverse = (end + (float)step) / peak;
        quant_f4 xqs = {0};
        quant_f4 qqs = {0};
        for (uint32_t i = 0; i < n; i += 4) {
            quant_f4 v = quant_load(x + i);
            quant_f4 q = quant_nearest4(&ladder, v * inverse);
            quant_f4 wq = quant_load(w + i) * q;
            xqs += wq * v;
            qqs += wq * q;
        }
        float xq = quant_add_up(xqs);
        float qq = quant_add_up(qqs);
        if (qq > 0 && xq * xq > best_gain * qq) {
            best = xq / qq;
            best_gain = xq * xq / qq;
        }
    }
    return best;
}
