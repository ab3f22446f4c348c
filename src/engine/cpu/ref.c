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
    UNUSED(err);
    struct ref *r = mem_zalloc(sizeof(*r));
    r->tokens_max = MAX(conf->tokens_max, 1u);
    r->base.ops = &ref_backend_ops;
    *out = &r->base;
    return RC_OK;
}

static void ref_close(struct backend *b)
{
    struct ref *r = ref_of(b);
    mem_free(r->row);
    mem_free(r->normed);
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

static uint64_t ref_scratch_bytes(const struct backend *b)
{
    const struct ref *r = CONTAINER_OF(b, const struct ref, base);
    return (r->n_row + r->n_normed + r->n_expert) * sizeof(float) + r->n_scores * sizeof(double);
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
        size_t n = (size_t)w->n_cols * r->tokens_max;
        rc = ref_grow((void **)&r->normed, &r->n_normed, n, sizeof(float), err);
    }
    if (rc == RC_OK) {
        rc = ref_grow((void **)&r->expert, &r->n_expert, w->n_rows, sizeof(float), err);
    }
    if (rc == RC_OK) {
        size_t n = MAX(w->n_experts, r->tokens_max);
        rc = ref_grow((void **)&r->scores, &r->n_scores, n, sizeof(double), err);
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

/* Hendrycks and Gimpel 2016, the tanh form; 0.79788… is sqrt(2 / pi). */
static double ref_gelu(double x)
{
    return 0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

float ref_act(enum act_kind kind, float gate, float up)
{
    double g = (double)gate;
    double u = (double)up;
    switch (kind) {
    case ACT_SILU_MUL:
        return (float)(g * ref_sigmoid(g) * u);
    case ACT_GELU_MUL:
        return (float)(ref_gelu(g) * u);
    case ACT_OAI_MUL:
        g = fmin(g, 7.0);
        u = fmax(fmin(u, 7.0), -7.0);
        return (float)(g * ref_sigmoid(1.702 * g) * (u + 1.0));
    case ACT_GELU:
        return (float)ref_gelu(u);
    case ACT_GELU_ERF: /* erfc keeps the digits of large negative values */
        return (float)(0.5 * u * erfc(-u * 0.7071067811865476));
    case ACT_KINDS:
        break;
    }
    ASSERT(false);
    return 0.0f;
}

static void ref_layer_norm(const struct norm *norm, float *out, const float *in, uint32_t n)
{
    double mean = 0;
    double variance = 0;
    for (uint32_t c = 0; c < n; c++) {
        mean += (double)in[c] / n;
    }
    for (uint32_t c = 0; c < n; c++) {
        variance += ((double)in[c] - mean) * ((double)in[c] - mean) / n;
    }
    double scale = 1.0 / sqrt(variance + (double)norm->eps);
    for (uint32_t c = 0; c < n; c++) {
        double bias = norm->bias.data != NULL ? (double)norm->bias.data[c] : 0.0;
        out[c] = (float)(((double)in[c] - mean) * scale * (double)norm->weight.data[c] + bias);
    }
}

void ref_norm_row(const struct norm *norm, float *out, const float *in, uint32_t n)
{
    ASSERT(norm->kind == NORM_NONE || norm->weight.n == n);
    if (norm->kind == NORM_LAYER) {
        ref_layer_norm(norm, out, in, n);
        return;
    }
    double mean = ref_dot(in, in, n) / n;
    double scale = 1.0 / sqrt(mean + (double)norm->eps);
    for (uint32_t c = 0; c < n && norm->kind == NORM_RMS; c++) {
        out[c] = (float)((double)in[c] * scale) * norm->weight.data[c];
    }
}

struct rows_in ref_normed(struct ref *r, const struct rows_in *in, uint32_t n_cols,
                          uint32_t n_tokens)
{
    if (in->norm.kind == NORM_NONE) {
        return *in;
    }
    ASSERT((size_t)n_cols * n_tokens <= r->n_normed);
    for (size_t t = 0; t < n_tokens; t++) {
        ref_norm_row(&in->norm, r->normed + t * n_cols, in->x + t * in->stride, n_cols);
    }
    return (struct rows_in){.x = r->normed, .stride = n_cols};
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

static void ref_norm(struct backend *b, float *out, const float *in, const struct norm *norm,
                     uint32_t n_tokens)
{
    UNUSED(b);
    size_t n = norm->weight.n;
    for (size_t t = 0; t < n_tokens; t++) {
        ref_norm_row(norm, out + t * n, in + t * n, (uint32_t)n);
    }
}

static void ref_residual(struct backend *b, float *x, const float *y, const struct norm *norm,
                         uint32_t n_tokens)
{
    uint32_t n = norm->weight.n;
    struct rows_in in = {y, n, *norm};
    struct rows_in normed = ref_normed(ref_of(b), &in, n, n_tokens);
    for (size_t i = 0; i < (size_t)n * n_tokens; i++) {
        x[i] += normed.x[i];
    }
}

static void ref_linear(struct backend *b, const struct linear *linears, uint32_t n_linears,
                       const struct rows_in *in, uint32_t n_tokens)
{
    struct rows_in x = ref_normed(ref_of(b), in, linears[0].w->n_cols, n_tokens);
    for (const struct linear *l = linears; l < linears + n_linears; l++) {
        const struct weight *w = l->w;
        size_t out_stride = l->out_stride != 0 ? l->out_stride : w->n_rows;
        for (uint32_t r = 0; r < w->n_rows; r++) {
            const float *row = ref_weight_row(ref_of(b), w, 0, r);
            double bias = l->bias.data != NULL ? (double)l->bias.data[r] : 0.0;
            for (size_t t = 0; t < n_tokens; t++) {
                double y = ref_dot(x.x + t * x.stride, row, w->n_cols) + bias;
                float *out = l->out + t * out_stride + r;
                if (l->softcap > 0) {
                    y = (double)l->softcap * tanh(y / (double)l->softcap);
                }
                *out = (float)(l->accumulate ? (double)*out + y : y);
            }
        }
    }
}

/* Output `row` of a half for one token. weights: that row as floats. */
static float ref_half(const struct gated_half *h, uint32_t row, const float *weights,
                      const float *x)
{
    double bias = h->bias.data != NULL ? (double)h->bias.data[row] : 0.0;
    return (float)(ref_dot(x, weights, h->w->n_cols) + bias);
}

static void ref_gated(struct backend *b, float *out, const struct gated *g,
                      const struct rows_in *in, uint32_t n_tokens)
{
    struct ref *r = ref_of(b);
    struct rows_in x = ref_normed(r, in, g->up.w->n_cols, n_tokens);
    bool gate = g->gate.w != NULL;
    uint32_t n_ff = g->up.w->n_rows;
    for (uint32_t row = 0; row < n_ff; row++) {
        float *to = out + row;
        const float *w = gate ? ref_weight_row(r, g->gate.w, 0, row) : NULL;
        for (size_t t = 0; t < n_tokens; t++) {
            const float *x_t = x.x + t * x.stride;
            to[t * n_ff] = gate ? ref_half(&g->gate, row, w, x_t) : 0.0f;
        }
        w = ref_weight_row(r, g->up.w, 0, row);
        for (size_t t = 0; t < n_tokens; t++) {
            float *y = to + t * n_ff;
            *y = ref_act(g->act, *y, ref_half(&g->up, row, w, x.x + t * x.stride));
        }
    }
}

const struct backend_ops ref_backend_ops = {
    .name = "ref",
    .available = ref_available,
    .open = ref_open,
    .close = ref_close,
    .buffer_alloc = ref_buffer_alloc,
    .buffer_free = ref_buffer_free,
    .scratch_bytes = ref_scratch_bytes,
    .weight_prepare = ref_weight_prepare,
    .weight_release = ref_weight_release,
    .kv_alloc = ref_kv_alloc,
    .kv_free = ref_kv_free,
    .kv_copy = ref_kv_copy,
    .embed = ref_embed,
    .norm = ref_norm,
    .residual = ref_residual,
    .linear = ref_linear,
    .gated = ref_gated,
    .attention = ref_attention,
    .moe = ref_moe,
};
