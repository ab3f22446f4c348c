/* ref.c: the reference backend: the truth that every faster backend is measured against.
 *
 * Plain scalar C, written to be read beside the papers: a weight row is dequantised to float, sums
 * are taken in double, one thread does it all. No packing, no blocking, no vector code: when a
 * fast kernel and this file differ beyond the stated tolerance, the kernel is wrong.
 *
 * Invariants: 1. nothing is allocated after a model is loaded: weight_prepare and kv_alloc grow
 * the scratch; 2. a row's result does not depend on the rows beside it, so a prompt fed in pieces
 * gives the same bits as one fed whole.
 *
 * Not here: attention and its pages (ref_attn.c), mixture of experts (ref_moe.c). */
#include "engine/cpu/ref.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/format/quant.h"

/* ---- life ---- */

static bool ref_available(void)
{
    return true;
}

static enum rc ref_open(struct backend **out, const struct backend_conf *conf, struct err *err)
{
    UNUSED(conf);
    UNUSED(err);
    struct ref *r = mem_zalloc(sizeof(*r));
    r->base.ops = &ref_backend_ops;
    *out = &r->base;
    return RC_OK;
}

static void ref_close(struct backend *b)
{
    struct ref *r = ref_of(b);
    mem_free(r->row);
    mem_free(r->expert);
    mem_free(r->scores);
    mem_free(r);
}

static void *ref_buffer_alloc(struct backend *b, size_t bytes)
{
    UNUSED(b);
    return mem_try_pages(bytes);
}

static void ref_buffer_free(struct backend *b, void *buffer)
{
    UNUSED(b);
    mem_free_pages(buffer);
}

/* Makes *array at least n items long. */
static enum rc ref_grow(void **array, size_t *n_have, size_t n, size_t item, struct err *err)
{
    if (n <= *n_have) {
        return RC_OK;
    }
    void *bigger = mem_try_zalloc_array(n, item);
    if (bigger == NULL) {
        return err_set(err, RC_NOMEM, "no memory for %zu scratch values", n);
    }
    mem_free(*array);
    *array = bigger;
    *n_have = n;
    return RC_OK;
}

static enum rc ref_weight_prepare(struct backend *b, struct weight *w, struct err *err)
{
    struct ref *r = ref_of(b);
    enum rc rc = ref_grow((void **)&r->row, &r->n_row, w->n_cols, sizeof(float), err);
    if (rc == RC_OK) {
        rc = ref_grow((void **)&r->expert, &r->n_expert, w->n_rows, sizeof(float), err);
    }
    if (rc == RC_OK) {
        rc = ref_grow((void **)&r->scores, &r->n_scores, w->n_experts, sizeof(double), err);
    }
    return rc;
}

static void ref_weight_release(struct backend *b, struct weight *w)
{
    UNUSED(b);
    UNUSED(w);
}

/* ---- arithmetic that the other files share ---- */

const float *ref_weight_row(struct ref *r, const struct weight *w, uint32_t expert, uint32_t row)
{
    ASSERT(w->n_cols <= r->n_row);
    ASSERT_SLOW(expert < w->n_experts && row < w->n_rows);
    const unsigned char *at = w->data;
    at += ((uint64_t)expert * w->n_rows + row) * w->row_bytes;
    quant_dequantize(w->type, at, r->row, w->n_cols);
    return r->row;
}

double ref_dot(const float *a, const float *b, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static double ref_sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

float ref_act(enum act_kind kind, float gate, float up)
{
    double g = (double)gate;
    double u = (double)up;
    switch (kind) {
    case ACT_SILU_MUL:
        return (float)(g * ref_sigmoid(g) * u);
    case ACT_GELU_MUL: /* Hendrycks and Gimpel 2016, the tanh form; 0.79788… is sqrt(2 / pi) */
        return (float)(0.5 * g * (1.0 + tanh(0.7978845608028654 * (g + 0.044715 * g * g * g))) * u);
    case ACT_OAI_MUL:
        g = fmin(g, 7.0);
        u = fmax(fmin(u, 7.0), -7.0);
        return (float)(g * ref_sigmoid(1.702 * g) * (u + 1.0));
    }
    ASSERT(false);
    return 0.0f;
}

/* ---- operations ---- */

static void ref_embed(struct backend *b, float *out, const struct weight *w, const int32_t *tokens,
                      uint32_t n_tokens, float scale)
{
    for (uint32_t t = 0; t < n_tokens; t++) {
        const float *row = ref_weight_row(ref_of(b), w, 0, (uint32_t)tokens[t]);
        for (uint32_t c = 0; c < w->n_cols; c++) {
            out[(size_t)t * w->n_cols + c] = row[c] * scale;
        }
    }
}

static void ref_rms_norm(struct backend *b, float *out, const float *in, struct vec weight,
                         float eps, uint32_t n_rows, uint32_t n_cols)
{
    UNUSED(b);
    ASSERT(weight.n == n_cols);
    for (uint32_t r = 0; r < n_rows; r++) {
        const float *x = in + (size_t)r * n_cols;
        double mean = ref_dot(x, x, n_cols) / n_cols;
        double scale = 1.0 / sqrt(mean + (double)eps);
        for (uint32_t c = 0; c < n_cols; c++) {
            out[(size_t)r * n_cols + c] = (float)((double)x[c] * scale) * weight.data[c];
        }
    }
}

static void ref_linear(struct backend *b, const struct linear *linears, uint32_t n_linears,
                       const float *in, uint32_t n_tokens, uint32_t in_stride)
{
    for (const struct linear *l = linears; l < linears + n_linears; l++) {
        const struct weight *w = l->w;
        for (uint32_t r = 0; r < w->n_rows; r++) {
            const float *row = ref_weight_row(ref_of(b), w, 0, r);
            double bias = l->bias.data != NULL ? (double)l->bias.data[r] : 0.0;
            for (uint32_t t = 0; t < n_tokens; t++) {
                double y = ref_dot(in + (size_t)t * in_stride, row, w->n_cols) + bias;
                float *out = l->out + (size_t)t * w->n_rows + r;
                *out = (float)(l->accumulate ? (double)*out + y : y);
            }
        }
    }
}

static void ref_rope(struct backend *b, float *x, uint32_t n_tokens, uint32_t n_heads,
                     uint32_t d_head, uint32_t row_stride, const struct rope *r)
{
    UNUSED(b);
    ASSERT(r->n_rot <= d_head && r->n_rot % 2 == 0);
    uint32_t half = r->n_rot / 2;
    for (uint32_t t = 0; t < n_tokens; t++) {
        const float *cos_sin = r->cos_sin + (size_t)t * r->n_rot;
        for (uint32_t h = 0; h < n_heads; h++) {
            float *head = x + (size_t)t * row_stride + (size_t)h * d_head;
            for (uint32_t i = 0; i < half; i++) {
                float *a = r->style == ROPE_NORM ? head + 2 * i : head + i;
                float *c = r->style == ROPE_NORM ? head + 2 * i + 1 : head + i + half;
                double cos_i = (double)cos_sin[2 * i];
                double sin_i = (double)cos_sin[2 * i + 1];
                double x0 = (double)*a;
                double x1 = (double)*c;
                *a = (float)(x0 * cos_i - x1 * sin_i);
                *c = (float)(x0 * sin_i + x1 * cos_i);
            }
        }
    }
}

static void ref_activate(struct backend *b, float *out, const struct act *a, uint32_t n_tokens)
{
    UNUSED(b);
    for (uint32_t t = 0; t < n_tokens; t++) {
        const float *gate = a->gate + (size_t)t * a->gate_stride;
        const float *up = a->up + (size_t)t * a->up_stride;
        for (uint32_t i = 0; i < a->n; i++) {
            out[(size_t)t * a->n + i] = ref_act(a->kind, gate[i], up[i]);
        }
    }
}

static void ref_add(struct backend *b, float *x, const float *y, size_t n)
{
    UNUSED(b);
    for (size_t i = 0; i < n; i++) {
        x[i] += y[i];
    }
}

const struct backend_ops ref_backend_ops = {
    .name = "ref",
    .available = ref_available,
    .open = ref_open,
    .close = ref_close,
    .buffer_alloc = ref_buffer_alloc,
    .buffer_free = ref_buffer_free,
    .weight_prepare = ref_weight_prepare,
    .weight_release = ref_weight_release,
    .kv_alloc = ref_kv_alloc,
    .kv_free = ref_kv_free,
    .embed = ref_embed,
    .rms_norm = ref_rms_norm,
    .linear = ref_linear,
    .rope = ref_rope,
    .attention = ref_attention,
    .activate = ref_activate,
    .moe = ref_moe,
    .add = ref_add,
};
