/* head.c: pooling, unit length, classifier.
 *
 * Sums run over a text's rows in order, in double: a text's vector does not depend on its
 * neighbours in the batch. */
#include "engine/model/head.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"

/* ---- pooling ---- */

static void pool_mean(float *out, const float *rows, uint32_t n, uint32_t width)
{
    enum { TOGETHER = 64 };
    for (uint32_t from = 0; from < width; from += TOGETHER) {
        double sum[TOGETHER] = {0};
        uint32_t n_cols = MIN(width - from, (uint32_t)TOGETHER);
        for (uint32_t r = 0; r < n; r++) {
            const float *row = rows + (size_t)r * width + from;
            for (uint32_t c = 0; c < n_cols; c++) {
                sum[c] += (double)row[c];
            }
        }
        for (uint32_t c = 0; c < n_cols; c++) {
            out[from + c] = (float)(sum[c] / n);
        }
    }
}

/* Which row stands for the text; decoders have seen all of it only at its last. */
static uint32_t pool_row(const struct modelconf *c, uint32_t n)
{
    bool last = c->pooling == POOLING_LAST ||
                (c->pooling == POOLING_RANK && modelconf_has(c, ARCH_DECODER));
    return last ? n - 1 : 0;
}

static void pool(const struct modelconf *c, const struct head_texts *t, float *out)
{
    uint32_t width = c->n_embd;
    for (uint32_t i = 0; i < t->n_texts; i++) {
        uint32_t n = t->n != NULL ? t->n[i] : 1;
        const float *rows = t->hidden + (size_t)(t->n != NULL ? t->first[i] : i) * width;
        ASSERT(n > 0);
        if (c->pooling == POOLING_MEAN) {
            pool_mean(out + (size_t)i * width, rows, n, width);
        } else {
            memcpy(out + (size_t)i * width, rows + (size_t)pool_row(c, n) * width,
                   width * sizeof(float));
        }
    }
}

static void to_unit_length(float *v, uint32_t n)
{
    double square = 0;
    for (uint32_t i = 0; i < n; i++) {
        square += (double)v[i] * (double)v[i];
    }
    double scale = square > 0 ? 1 / sqrt(square) : 0;
    for (uint32_t i = 0; i < n; i++) {
        v[i] = (float)((double)v[i] * scale);
    }
}

/* ---- scores ---- */

static void project(struct head *h, const struct weight *w, struct vec bias, const float *in,
                    float *out, uint32_t n_texts)
{
    struct linear l = {.w = w, .bias = bias, .out = out};
    struct rows_in rows = {.x = in, .stride = w->n_cols};
    h->backend->ops->linear(h->backend, &l, 1, &rows, n_texts);
}

static void score(struct head *h, uint32_t n_texts, float *out)
{
    const struct weights *w = h->weights;
    const float *in = h->pooled;
    if (w->classifier.data != NULL) {
        size_t n = (size_t)n_texts * h->conf->n_embd;
        project(h, &w->classifier, w->classifier_bias, h->pooled, h->dense, n_texts);
        for (size_t i = 0; i < n; i++) {
            h->dense[i] = tanhf(h->dense[i]);
        }
        in = h->dense;
    }
    project(h, &w->classifier_output, w->classifier_output_bias, in, h->logits, n_texts);
    for (uint32_t i = 0; i < n_texts; i++) {
        /* One logit: its sigmoid. Two, yes and no: the share of yes, which is the sigmoid of
         * their difference. */
        const float *logits = h->logits + (size_t)i * h->conf->n_labels;
        double x = (double)logits[0] - (h->conf->n_labels > 1 ? (double)logits[1] : 0);
        out[i] = (float)(1 / (1 + exp(-x)));
    }
}

void head_apply(struct head *h, const struct head_texts *t, float *out)
{
    if (h->conf->pooling == POOLING_RANK) {
        pool(h->conf, t, h->pooled);
        score(h, t->n_texts, out);
        return;
    }
    pool(h->conf, t, out);
    for (uint32_t i = 0; i < t->n_texts; i++) {
        to_unit_length(out + (size_t)i * h->conf->n_embd, h->conf->n_embd);
    }
}

/* ---- life ---- */

uint32_t head_width(const struct modelconf *c)
{
    return c->pooling == POOLING_RANK ? 1 : c->n_embd;
}

RC head_init(struct head *h, const struct modelconf *c, const struct weights *w, struct backend *b,
             uint32_t texts_max, struct err *err)
{
    *h = (struct head){.conf = c, .weights = w, .backend = b};
    if (c->pooling != POOLING_RANK) {
        return RC_OK;
    }
    size_t row = texts_max * sizeof(float);
    h->pooled = b->ops->buffer_alloc(b, row * c->n_embd);
    h->dense = b->ops->buffer_alloc(b, row * c->n_embd);
    h->logits = b->ops->buffer_alloc(b, row * c->n_labels);
    if (h->pooled == NULL || h->dense == NULL || h->logits == NULL) {
        head_deinit(h);
        return err_set(err, RC_NOMEM, "no memory for the scores of %u texts", texts_max);
    }
    return RC_OK;
}

void head_deinit(struct head *h)
{
    float *buffers[] = {h->pooled, h->dense, h->logits};
    for (size_t i = 0; i < ARRAY_LEN(buffers); i++) {
        if (buffers[i] != NULL) {
            h->backend->ops->buffer_free(h->backend, buffers[i]);
        }
    }
    *h = (struct head){0};
}
