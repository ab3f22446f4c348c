/* weigh.c: see weigh.h. A vocabulary has 150,000 entries and every stream draws once a step, on
 * one thread: in vectors of four (SSE2, NEON: every 64-bit machine has them), and the draw walks
 * over blocks of which only the sums count until it is in the right one. */
#include "engine/sample/weigh.h"

#include <math.h>
#include <string.h>

enum { WEIGH_LANES = 4, WEIGH_BLOCK = 256 };

typedef float weigh_f4 __attribute__((vector_size(16)));
typedef int32_t weigh_i4 __attribute__((vector_size(16)));

static inline weigh_f4 weigh_all(float x)
{
    return (weigh_f4){x, x, x, x};
}

/* e^x for x ≤ 0: x = n ln 2 + r, |r| ≤ ln 2 / 2, a polynomial of degree 6 in r (Cephes expf), 2^n
 * by the exponent's bits. Relative error below 3e-7; 0 for NaN and below -87. */
static inline weigh_f4 weigh_exp(weigh_f4 x)
{
    weigh_i4 seen = x >= weigh_all(-87.0f);
    x = (weigh_f4)((weigh_i4)x & seen);
    const weigh_f4 round = weigh_all(0x1.8p23f); /* added and taken away: a whole number */
    weigh_f4 shifted = x * 1.44269504088896341f + round;
    weigh_f4 n = shifted - round;
    weigh_f4 r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    weigh_f4 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + (r + 1.0f);
    weigh_i4 exponent = ((weigh_i4)shifted - (weigh_i4)round) << 23;
    return (weigh_f4)(((weigh_i4)p + exponent) & seen);
}

static inline weigh_f4 weigh_of(const struct sample_weighing *w, weigh_f4 x)
{
    return weigh_exp((x - weigh_all(w->max)) / weigh_all(w->temperature));
}

/* The weights of logits [at, at + WEIGH_LANES). */
static inline weigh_f4 weigh_four(const struct sample_weighing *w, uint32_t at)
{
    weigh_f4 x;
    memcpy(&x, w->logits + at, sizeof(x));
    return weigh_of(w, x);
}

/* The same of the last ones, fewer than four, and 0 behind them. */
static weigh_f4 weigh_rest(const struct sample_weighing *w, uint32_t at)
{
    float x[WEIGH_LANES] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    weigh_f4 four;
    memcpy(x, w->logits + at, (w->n - at) * sizeof(x[0]));
    memcpy(&four, x, sizeof(four));
    return weigh_of(w, four);
}

static double weigh_block(const struct sample_weighing *w, uint32_t at)
{
    weigh_f4 sum = weigh_all(0);
    uint32_t end = MIN(w->n, at + WEIGH_BLOCK);
    for (; at + WEIGH_LANES <= end; at += WEIGH_LANES) {
        sum += weigh_four(w, at);
    }
    if (at < end) {
        sum += weigh_rest(w, at);
    }
    return ((double)sum[0] + (double)sum[1]) + ((double)sum[2] + (double)sum[3]);
}

double sample_weigh(const struct sample_weighing *w)
{
    double sum = 0;
    for (uint32_t at = 0; at < w->n; at += WEIGH_BLOCK) {
        sum += weigh_block(w, at);
    }
    return sum;
}

/* As sample_weigh_find, within a block whose weights make more than `left`, but for rounding. */
static int32_t weigh_find_in(const struct sample_weighing *w, uint32_t at, double left)
{
    int32_t last = 0;
    uint32_t end = MIN(w->n, at + WEIGH_BLOCK);
    for (; at < end; at += WEIGH_LANES) {
        weigh_f4 four = at + WEIGH_LANES <= end ? weigh_four(w, at) : weigh_rest(w, at);
        for (uint32_t i = 0; i < WEIGH_LANES; i++) {
            if (four[i] > 0) {
                last = (int32_t)(at + i);
                left -= (double)four[i];
                if (left < 0) {
                    return last;
                }
            }
        }
    }
    return last;
}

int32_t sample_weigh_find(const struct sample_weighing *w, double left)
{
    uint32_t with_chance = 0; /* the last block in which somebody has */
    for (uint32_t at = 0; at < w->n; at += WEIGH_BLOCK) {
        double sum = weigh_block(w, at);
        if (left < sum) {
            return weigh_find_in(w, at, left);
        }
        left -= sum;
        with_chance = sum > 0 ? at : with_chance;
    }
    return weigh_find_in(w, with_chance, INFINITY);
}
