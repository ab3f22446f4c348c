/* floats.c: norms, activations, rotations and sums of rows of floats, and their way to int8. */
#include "engine/cpu/kernels/quantise.h"
#include "engine/cpu/kernels/vec.h"

#include <math.h>

/* Sum of squares in two chains of eight lanes, then the rest in order. */
static void rms_norm(float *out, const float *in, const float *weight, float eps, uint32_t n)
{
    f8 a = f8_all(0.0f);
    f8 b = f8_all(0.0f);
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        f8 x = f8_load(in + i);
        f8 y = f8_load(in + i + 8);
        a = f8_fma(x, x, a);
        b = f8_fma(y, y, b);
    }
    float sum = f8_sum(a + b);
    for (; i < n; i++) {
        sum += in[i] * in[i];
    }
    float scale = 1.0f / sqrtf(sum / (float)n + eps);
    for (i = 0; i + 8 <= n; i += 8) {
        f8_store(out + i, f8_load(in + i) * f8_all(scale) * f8_load(weight + i));
    }
    for (; i < n; i++) {
        out[i] = in[i] * scale * weight[i];
    }
}

/* In eight lanes, then the rest in order. */
static void layer_norm(float *out, const float *in, const float *weight, const float *bias,
                       float eps, uint32_t n)
{
    uint32_t whole = n & ~7u;
    f8 sums = f8_all(0.0f);
    for (uint32_t i = 0; i < whole; i += 8) {
        sums += f8_load(in + i);
    }
    float mean = f8_sum(sums);
    for (uint32_t i = whole; i < n; i++) {
        mean += in[i];
    }
    mean /= (float)n;
    f8 squares = f8_all(0.0f);
    for (uint32_t i = 0; i < whole; i += 8) {
        f8 x = f8_load(in + i) - f8_all(mean);
        squares = f8_fma(x, x, squares);
    }
    float variance = f8_sum(squares);
    for (uint32_t i = whole; i < n; i++) {
        variance += (in[i] - mean) * (in[i] - mean);
    }
    float scale = 1.0f / sqrtf(variance / (float)n + eps);
    for (uint32_t i = 0; i < n; i++) {
        float y = (in[i] - mean) * scale * weight[i];
        out[i] = bias != NULL ? y + bias[i] : y;
    }
}

/* ---- activations ---- */

KERN_INLINE f8 sigmoid(f8 x)
{
    return f8_all(1.0f) / (f8_all(1.0f) + f8_exp(-x));
}

/* (1 + tanh(z)) / 2 = sigmoid(2 z), z = sqrt(2 / pi) (g + 0.044715 g³) */
KERN_INLINE f8 gelu(f8 g)
{
    f8 z = g + f8_all(0.044715f) * g * g * g;
    return g * sigmoid(f8_all(2.0f * 0.7978845608028654f) * z);
}

/* x erfc(-x / sqrt(2)) / 2. For z ≥ 0, erfc(z) = t e^(-z² + P(t)), t = 1 / (1 + z / 2), relative
 * error below 1.2e-7 (Press et al., Numerical Recipes, §6.2); erfc(-z) = 2 - erfc(z). */
KERN_INLINE f8 gelu_erf(f8 x)
{
    f8 z = f8_max(x, -x) * f8_all(0.7071067811865476f);
    f8 t = f8_all(1.0f) / (f8_all(1.0f) + f8_all(0.5f) * z);
    f8 p = f8_all(0.17087277f);
    p = f8_fma(p, t, f8_all(-0.82215223f));
    p = f8_fma(p, t, f8_all(1.48851587f));
    p = f8_fma(p, t, f8_all(-1.13520398f));
    p = f8_fma(p, t, f8_all(0.27886807f));
    p = f8_fma(p, t, f8_all(-0.18628806f));
    p = f8_fma(p, t, f8_all(0.09678418f));
    p = f8_fma(p, t, f8_all(0.37409196f));
    p = f8_fma(p, t, f8_all(1.00002368f));
    p = f8_fma(p, t, f8_all(-1.26551223f));
    f8 erfc = t * f8_exp(p - z * z);
    f8 both = f8_select(x > f8_all(0.0f), f8_all(2.0f) - erfc, erfc);
    return f8_all(0.5f) * x * both;
}

KERN_INLINE f8 act(enum act_kind kind, f8 g, f8 u)
{
    switch (kind) {
    case ACT_SILU_MUL:
        return g * sigmoid(g) * u;
    case ACT_GELU_MUL:
        return gelu(g) * u;
    case ACT_GELU:
        return gelu(u);
    case ACT_GELU_ERF:
        return gelu_erf(u);
    default: /* ACT_OAI_MUL */
        g = f8_min(g, f8_all(7.0f));
        u = f8_min(f8_max(u, f8_all(-7.0f)), f8_all(7.0f));
        return g * sigmoid(f8_all(1.702f) * g) * (u + f8_all(1.0f));
    }
}

/* ---- tiles on their way out ---- */

KERN_INLINE f8 load_some(const float *at, uint32_t n)
{
    return n >= 8 ? f8_load(at) : f8_load_part(at, n);
}

KERN_INLINE void store_some(float *to, f8 v, uint32_t n)
{
    if (n >= 8) {
        f8_store(to, v);
    } else {
        memcpy(to, &v, n * sizeof(float));
    }
}

/* softcap * tanh(x / softcap); tanh(z) = 1 - 2 / (1 + e^(2 z)), absolute error below 2e-7. */
KERN_INLINE f8 soft_capped(f8 x, float softcap)
{
    f8 e = f8_exp(f8_all(2.0f) * x / f8_all(softcap));
    return f8_all(softcap) * (f8_all(1.0f) - f8_all(2.0f) / (f8_all(1.0f) + e));
}

static void put(const struct kern_put *p)
{
    for (size_t t = 0; t < p->n_rows; t++) {
        const float *tile = p->tile + t * p->tile_stride;
        float *out = p->out + t * p->out_stride;
        for (uint32_t i = 0; i < p->n; i += 8) {
            uint32_t n = p->n - i;
            f8 y = load_some(tile + i, n);
            y = p->bias != NULL ? y + load_some(p->bias + i, n) : y;
            y = p->softcap > 0 ? soft_capped(y, p->softcap) : y;
            y = p->add ? load_some(out + i, n) + y : y;
            store_some(out + i, y, n);
        }
    }
}

KERN_INLINE void act_rows(enum act_kind kind, const struct kern_act *a)
{
    for (size_t t = 0; t < a->n_rows; t++) {
        const float *gate = a->gate + t * a->tile_stride;
        const float *up = a->up + t * a->tile_stride;
        for (uint32_t i = 0; i < a->n; i += 8) {
            uint32_t n = a->n - i;
            f8 g = load_some(gate + i, n);
            f8 u = load_some(up + i, n);
            g = a->gate_bias != NULL ? g + load_some(a->gate_bias + i, n) : g;
            u = a->up_bias != NULL ? u + load_some(a->up_bias + i, n) : u;
            store_some(a->out + t * a->out_stride + i, act(kind, g, u), n);
        }
    }
}

static void activate(const struct kern_act *a)
{
    switch (a->kind) {
    case ACT_SILU_MUL:
        act_rows(ACT_SILU_MUL, a);
        break;
    case ACT_GELU_MUL:
        act_rows(ACT_GELU_MUL, a);
        break;
    case ACT_OAI_MUL:
        act_rows(ACT_OAI_MUL, a);
        break;
    case ACT_GELU:
        act_rows(ACT_GELU, a);
        break;
    case ACT_GELU_ERF:
        act_rows(ACT_GELU_ERF, a);
        break;
    case ACT_KINDS:
        break;
    }
}

/* ---- sums ---- */

static void add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] += y[i];
    }
}

static void axpy(float *x, const float *y, float scale, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        x[i] += scale * y[i];
    }
}

/* Eight lanes, then the rest in order. */
static float dot(const float *x, const float *y, uint32_t n)
{
    uint32_t whole = n & ~7u;
    f8 lanes = f8_all(0.0f);
    for (uint32_t i = 0; i < whole; i += 8) {
        lanes = f8_fma(f8_load(x + i), f8_load(y + i), lanes);
    }
    float sum = f8_sum(lanes);
    for (uint32_t i = whole; i < n; i++) {
        sum += x[i] * y[i];
    }
    return sum;
}

/* ---- rotations (Su et al. 2021) ---- */

static void rope(float *x, const float *cos_sin, uint32_t n_rot, enum rope_style style)
{
    uint32_t half = n_rot / 2;
    uint32_t pair = style == ROPE_NORM ? 1 : half; /* from a channel to its partner */
    uint32_t step = style == ROPE_NORM ? 2 : 1;
    for (uint32_t i = 0; i < half; i++) {
        float *a = x + (size_t)step * i;
        float c = cos_sin[2 * i];
        float s = cos_sin[2 * i + 1];
        float x0 = a[0];
        float x1 = a[pair];
        a[0] = x0 * c - x1 * s;
        a[pair] = x0 * s + x1 * c;
    }
}

/* ---- reading ---- */

/* Four places at once, as the kernels over panels read: where a neighbour wants memory, too, one
 * place alone gives little more than half (docs/performance.md). */
static uint64_t stream(const unsigned char *at, size_t n)
{
    typedef uint64_t words __attribute__((vector_size(32), aligned(8), may_alias));
    enum { PLACES = 4, AHEAD = 1024 };
    words sum[PLACES] = {{0}, {0}, {0}, {0}};
    size_t part = n / PLACES;
    for (size_t i = 0; i < part; i += 2 * sizeof(words)) {
#pragma GCC unroll 4
        for (size_t p = 0; p < PLACES; p++) {
            const words *from = (const void *)(at + p * part + i);
            __builtin_prefetch((const unsigned char *)from + AHEAD);
            sum[p] += from[0] + from[1];
        }
    }
    words all = sum[0] + sum[1] + sum[2] + sum[3];
    return all[0] + all[1] + all[2] + all[3];
}

extern const struct kern_float_table KERN_NAME(kern_floats);
const struct kern_float_table KERN_NAME(kern_floats) = {
    .quantise = {[KERN_Q32] = quantise_row_32, [KERN_Q256] = quantise_row_256},
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .put = put,
    .activate = activate,
    .add = add,
    .axpy = axpy,
    .dot = dot,
    .rope = rope,
    .stream = stream,
};
