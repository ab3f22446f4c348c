/* ref_attn.c: paged key/value memory and attention of the reference backend.
 *
 * A call norms and rotates the heads of its rows, stores keys and values and attends to what the
 * pages hold; without pages, to the rows of the call.
 *
 *   page of a layer:  K [kv head][32 positions][D]  then  V [kv head][32 positions][D]
 *
 * One head's keys of a page lie together, so that a walk over positions is a walk over memory.
 * Types are those of backend_kv_type. Attention is Vaswani et al. 2017 with grouped heads
 * (Ainslie et al. 2023), sliding window, logit soft cap (Gemma 2) and sinks (gpt-oss). */
#include "engine/cpu/ref.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/mem.h"
#include "engine/tensor/half.h"

/* ---- pages ---- */

/* One head of one position; Q8_0 is D codes and their float scale. */
static size_t kv_row_bytes(const struct kv_shape *s)
{
    switch (s->type) {
    case DTYPE_F32:
        return s->d_head * sizeof(float);
    case DTYPE_Q8_0:
        return s->d_head + sizeof(float);
    default:
        return s->d_head * sizeof(uint16_t);
    }
}

/* The K half (or the V half) of one page of one layer. */
static size_t kv_half_bytes(const struct kv_shape *s)
{
    return (size_t)s->n_kv_heads * KV_PAGE_TOKENS * kv_row_bytes(s);
}

enum rc ref_kv_alloc(struct backend *b, const struct kv_shape *shape, void **kv, struct err *err)
{
    ASSERT(backend_kv_type(shape->type));
    struct ref *r = ref_of(b);
    size_t n_positions = (size_t)shape->n_pages * KV_PAGE_TOKENS;
    size_t bytes = 2 * kv_half_bytes(shape);
    struct ref_kv *k = mem_zalloc(sizeof(*k));
    k->shape = *shape;
    if (!checked_mul(bytes, shape->n_pages, &bytes) ||
        !checked_mul(bytes, shape->n_layers, &bytes) || (k->bytes = mem_map(bytes)) == NULL) {
        mem_free(k);
        return err_set(err, RC_NOMEM, "no memory for %u key/value pages", shape->n_pages);
    }
    k->n_bytes = bytes;
    if (n_positions + 1 > r->n_scores) {
        double *scores = mem_try_zalloc_array(n_positions + 1, sizeof(double));
        if (scores == NULL) {
            ref_kv_free(b, k);
            return err_set(err, RC_NOMEM, "no memory for %zu attention scores", n_positions);
        }
        mem_free(r->scores);
        r->scores = scores;
        r->n_scores = n_positions + 1;
    }
    *kv = k;
    return RC_OK;
}

void ref_kv_free(struct backend *b, void *kv)
{
    UNUSED(b);
    struct ref_kv *k = kv;
    if (k != NULL) {
        mem_unmap(k->bytes, k->n_bytes);
        mem_free(k);
    }
}

void ref_kv_copy(struct backend *b, void *kv, uint32_t from_page, uint32_t to_page)
{
    UNUSED(b);
    const struct ref_kv *k = kv;
    ASSERT(from_page < k->shape.n_pages && to_page < k->shape.n_pages);
    size_t bytes = 2 * kv_half_bytes(&k->shape);
    for (size_t layer = 0; layer < k->shape.n_layers; layer++) {
        unsigned char *pages = k->bytes + layer * k->shape.n_pages * bytes;
        memmove(pages + to_page * bytes, pages + from_page * bytes, bytes);
    }
}

enum kv_half { KV_KEYS, KV_VALUES };

/* Where `pos` of a sequence keeps the D items of a head. */
static unsigned char *kv_at(const struct ref_kv *kv, uint32_t layer, const struct kv_table *table,
                            uint32_t pos, enum kv_half half, uint32_t head)
{
    const struct kv_shape *s = &kv->shape;
    ASSERT(pos / KV_PAGE_TOKENS < table->n_pages);
    uint32_t page = table->page_ids[pos / KV_PAGE_TOKENS];
    ASSERT(page < s->n_pages);
    size_t at = ((size_t)layer * s->n_pages + page) * 2 + (half == KV_VALUES ? 1 : 0);
    at *= kv_half_bytes(s);
    at += ((size_t)head * KV_PAGE_TOKENS + pos % KV_PAGE_TOKENS) * kv_row_bytes(s);
    return kv->bytes + at;
}

/* Rows of Q8_0 lie at any address. */
static float kv_load(const struct kv_shape *s, const unsigned char *at, uint32_t i)
{
    float x = 0;
    uint16_t half = 0;
    switch (s->type) {
    case DTYPE_F32:
        memcpy(&x, at + i * sizeof(x), sizeof(x));
        return x;
    case DTYPE_Q8_0:
        memcpy(&x, at + s->d_head, sizeof(x));
        return x * (float)((const int8_t *)at)[i];
    default:
        memcpy(&half, at + i * sizeof(half), sizeof(half));
        return s->type == DTYPE_F16 ? half_to_f32(half) : half_bf16_to_f32(half);
    }
}

static void kv_store(const struct kv_shape *s, unsigned char *at, const float *x)
{
    float max = 0;
    for (uint32_t i = 0; i < s->d_head; i++) {
        max = fmaxf(max, fabsf(x[i]));
    }
    float d = max / 127;
    for (uint32_t i = 0; i < s->d_head; i++) {
        uint16_t half;
        switch (s->type) {
        case DTYPE_F32:
            memcpy(at + i * sizeof(x[i]), &x[i], sizeof(x[i]));
            break;
        case DTYPE_Q8_0:
            ((int8_t *)at)[i] = (int8_t)lrintf(d > 0 ? x[i] * (127 / max) : 0);
            memcpy(at + s->d_head, &d, sizeof(d));
            break;
        default:
            half = s->type == DTYPE_F16 ? half_from_f32(x[i]) : half_bf16_from_f32(x[i]);
            memcpy(at + i * sizeof(half), &half, sizeof(half));
        }
    }
}

/* ---- heads: norm and rotation (Su et al. 2021) ---- */

static void rotate_head(const struct rope *r, float *head, size_t row)
{
    const float *cos_sin = r->cos_sin + row * r->n_rot;
    uint32_t half = r->n_rot / 2;
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

static void prepare_heads(const struct attn *a, const struct norm *norm, float *x, uint32_t n_heads,
                          size_t row)
{
    ASSERT(a->rope.n_rot <= a->d_head && a->rope.n_rot % 2 == 0);
    for (size_t h = 0; h < n_heads; h++) {
        ref_norm_row(norm, x + h * a->d_head, x + h * a->d_head, a->d_head);
        rotate_head(&a->rope, x + h * a->d_head, row);
    }
}

/* ---- attention ---- */

/* One call, and the run of rows [row0, row0 + n_rows) that is one sequence. */
struct ref_call {
    const struct attn *a;
    const struct qkv *qkv;
    const struct ref_kv *kv; /* NULL: the run's own rows */
    const struct attn_batch *batch;
    size_t row0, n_rows;
};

/* Channel i of key or value number p: a position in the pages, or a row of the run. */
static double seen(const struct ref_call *c, enum kv_half half, uint32_t kv_head, uint32_t p,
                   uint32_t i)
{
    if (c->kv != NULL) {
        const struct kv_table *table = &c->batch->seqs[c->batch->seq_of[c->row0]];
        const unsigned char *at = kv_at(c->kv, c->a->layer, table, p, half, kv_head);
        return (double)kv_load(&c->kv->shape, at, i);
    }
    const float *x = half == KV_KEYS ? c->qkv->k : c->qkv->v;
    return (double)x[(c->row0 + p) * c->qkv->kv_stride + (size_t)kv_head * c->a->d_head + i];
}

/* Scores of keys first … last, turned into softmax numerators; returns their sum. */
static double head_softmax(const struct ref_call *c, size_t row, uint32_t head, uint32_t first,
                           uint32_t last, double *scores)
{
    const struct attn *a = c->a;
    const float *q = c->qkv->q + row * c->qkv->q_stride + (size_t)head * a->d_head;
    bool sink = a->sinks.data != NULL;
    double max = sink ? (double)a->sinks.data[head] : -INFINITY;
    for (uint32_t p = first; p <= last; p++) {
        double s = 0;
        for (uint32_t i = 0; i < a->d_head; i++) {
            s += (double)q[i] * seen(c, KV_KEYS, head / (a->n_heads / a->n_kv_heads), p, i);
        }
        s *= (double)a->scale;
        if (a->softcap > 0) {
            s = (double)a->softcap * tanh(s / (double)a->softcap);
        }
        scores[p - first] = s;
        max = fmax(max, s);
    }
    double sum = sink ? exp((double)a->sinks.data[head] - max) : 0;
    for (uint32_t p = first; p <= last; p++) {
        scores[p - first] = exp(scores[p - first] - max);
        sum += scores[p - first];
    }
    return sum;
}

static void attend_row(const struct ref_call *c, size_t row, float *out, double *scores)
{
    const struct attn *a = c->a;
    /* Rows of a run have consecutive positions: a distance in rows is one in positions. */
    uint32_t at = c->kv != NULL ? c->batch->positions[row] : (uint32_t)(row - c->row0);
    uint32_t end = a->causal ? at : (uint32_t)c->n_rows - 1;
    uint32_t first = a->window > 0 && at >= a->window ? at - a->window + 1 : 0;
    uint32_t last = a->window > 0 ? MIN(end, at + a->window - 1) : end;
    for (uint32_t h = 0; h < a->n_heads; h++) {
        uint32_t kv_head = h / (a->n_heads / a->n_kv_heads);
        double sum = head_softmax(c, row, h, first, last, scores);
        for (uint32_t i = 0; i < a->d_head; i++) {
            double y = 0;
            for (uint32_t p = first; p <= last; p++) {
                y += scores[p - first] * seen(c, KV_VALUES, kv_head, p, i);
            }
            out[(row * a->n_heads + h) * a->d_head + i] = (float)(y / sum);
        }
    }
}

static void store_row(const struct ref_call *c, size_t row)
{
    const struct kv_table *table = &c->batch->seqs[c->batch->seq_of[row]];
    uint32_t pos = c->batch->positions[row];
    for (uint32_t h = 0; h < c->a->n_kv_heads; h++) {
        size_t at = row * c->qkv->kv_stride + (size_t)h * c->a->d_head;
        const struct kv_shape *shape = &c->kv->shape;
        kv_store(shape, kv_at(c->kv, c->a->layer, table, pos, KV_KEYS, h), c->qkv->k + at);
        kv_store(shape, kv_at(c->kv, c->a->layer, table, pos, KV_VALUES, h), c->qkv->v + at);
    }
}

static void attend_run(struct ref *r, const struct ref_call *c, float *out)
{
    for (size_t row = c->row0; row < c->row0 + c->n_rows; row++) {
        const struct qkv *x = c->qkv;
        prepare_heads(c->a, &c->a->q_norm, x->q + row * x->q_stride, c->a->n_heads, row);
        prepare_heads(c->a, &c->a->k_norm, x->k + row * x->kv_stride, c->a->n_kv_heads, row);
        if (c->kv != NULL) {
            store_row(c, row);
        }
    }
    for (size_t row = c->row0; row < c->row0 + c->n_rows; row++) {
        ASSERT((c->kv != NULL ? c->batch->positions[row] + 1 : c->n_rows) <= r->n_scores);
        attend_row(c, row, out, r->scores);
    }
}

void ref_attention(struct backend *b, float *out, const struct qkv *qkv, void *kv,
                   const struct attn *a, const struct attn_batch *batch)
{
    struct ref_call c = {.a = a, .qkv = qkv, .kv = kv, .batch = batch};
    ASSERT((kv != NULL) == a->causal && a->n_heads % a->n_kv_heads == 0);
    if (kv != NULL) {
        const struct kv_shape *shape = &c.kv->shape;
        ASSERT(a->d_head == shape->d_head && a->n_kv_heads <= shape->n_kv_heads);
        ASSERT(a->layer < shape->n_layers);
    }
    for (; c.row0 < batch->n_tokens; c.row0 += c.n_rows) {
        c.n_rows = 1;
        while (c.row0 + c.n_rows < batch->n_tokens &&
               batch->seq_of[c.row0 + c.n_rows] == batch->seq_of[c.row0]) {
            c.n_rows++;
        }
        attend_run(ref_of(b), &c, out);
    }
}
