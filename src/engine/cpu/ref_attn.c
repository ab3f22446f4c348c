/* ref_attn.c: paged key/value memory and attention of the reference backend.
 *
 *   page of a layer:  K [kv head][32 positions][D]  then  V [kv head][32 positions][D]
 *
 * One head's keys of a page lie together, so that a walk over positions is a walk over memory.
 * Values are float or half as the shape says. Attention is Vaswani et al. 2017 with grouped heads
 * (Ainslie et al. 2023), sliding window, logit soft cap (Gemma 2) and sinks (gpt-oss). */
#include "engine/cpu/ref.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/mem.h"
#include "engine/tensor/half.h"

/* ---- pages ---- */

static size_t kv_item_bytes(const struct kv_shape *s)
{
    return s->type == DTYPE_F16 ? 2 : 4;
}

/* Floats of the K half (or the V half) of one page of one layer. */
static size_t kv_half_items(const struct kv_shape *s)
{
    return (size_t)s->n_kv_heads * KV_PAGE_TOKENS * s->d_head;
}

enum rc ref_kv_alloc(struct backend *b, const struct kv_shape *shape, void **kv, struct err *err)
{
    ASSERT(shape->type == DTYPE_F16 || shape->type == DTYPE_F32);
    struct ref *r = ref_of(b);
    size_t n_positions = (size_t)shape->n_pages * KV_PAGE_TOKENS;
    size_t bytes = 2 * kv_half_items(shape) * kv_item_bytes(shape);
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
    at *= kv_half_items(s);
    at += ((size_t)head * KV_PAGE_TOKENS + pos % KV_PAGE_TOKENS) * s->d_head;
    return kv->bytes + at * kv_item_bytes(s);
}

static float kv_load(const struct kv_shape *s, const unsigned char *at, uint32_t i)
{
    if (s->type == DTYPE_F32) {
        return ((const float *)(const void *)at)[i];
    }
    return half_to_f32(((const uint16_t *)(const void *)at)[i]);
}

static void kv_store(const struct kv_shape *s, unsigned char *at, const float *x)
{
    if (s->type == DTYPE_F32) {
        memcpy(at, x, s->d_head * sizeof(float));
        return;
    }
    for (uint32_t i = 0; i < s->d_head; i++) {
        ((uint16_t *)(void *)at)[i] = half_from_f32(x[i]);
    }
}

/* ---- attention ---- */

/* One head of one row: the query, what it sees, where the result goes. */
struct ref_head {
    const struct attn *a;
    const struct ref_kv *kv;
    const struct kv_table *table;
    const float *q;
    float *out;
    uint32_t head;
    uint32_t first, last; /* positions seen, both included */
};

/* Scores of all visible positions, turned into softmax numerators; returns their sum. */
static double head_softmax(const struct ref_head *h, double *scores)
{
    const struct attn *a = h->a;
    uint32_t kv_head = h->head / (a->n_heads / a->n_kv_heads);
    bool sink = a->sinks.data != NULL;
    double max = sink ? (double)a->sinks.data[h->head] : -INFINITY;
    for (uint32_t p = h->first; p <= h->last; p++) {
        const unsigned char *k = kv_at(h->kv, a->layer, h->table, p, KV_KEYS, kv_head);
        double s = 0;
        for (uint32_t i = 0; i < a->d_head; i++) {
            s += (double)h->q[i] * (double)kv_load(&h->kv->shape, k, i);
        }
        s *= (double)a->scale;
        if (a->softcap > 0) {
            s = (double)a->softcap * tanh(s / (double)a->softcap);
        }
        scores[p - h->first] = s;
        max = fmax(max, s);
    }
    double sum = sink ? exp((double)a->sinks.data[h->head] - max) : 0;
    for (uint32_t p = h->first; p <= h->last; p++) {
        scores[p - h->first] = exp(scores[p - h->first] - max);
        sum += scores[p - h->first];
    }
    return sum;
}

static void head_attend(const struct ref_head *h, double *scores)
{
    const struct attn *a = h->a;
    uint32_t kv_head = h->head / (a->n_heads / a->n_kv_heads);
    double sum = head_softmax(h, scores);
    for (uint32_t i = 0; i < a->d_head; i++) {
        double y = 0;
        for (uint32_t p = h->first; p <= h->last; p++) {
            const unsigned char *v = kv_at(h->kv, a->layer, h->table, p, KV_VALUES, kv_head);
            y += scores[p - h->first] * (double)kv_load(&h->kv->shape, v, i);
        }
        h->out[i] = (float)(y / sum);
    }
}

void ref_attention(struct backend *b, float *out, const float *q, uint32_t q_stride, const float *k,
                   const float *v, uint32_t kv_stride, void *kv, const struct attn *a,
                   const struct attn_batch *batch)
{
    const struct ref_kv *pages = kv;
    ASSERT(a->d_head == pages->shape.d_head && a->n_kv_heads <= pages->shape.n_kv_heads);
    ASSERT(a->layer < pages->shape.n_layers && a->n_heads % a->n_kv_heads == 0);
    for (uint32_t t = 0; t < batch->n_tokens; t++) {
        const struct kv_table *table = &batch->seqs[batch->seq_of[t]];
        for (uint32_t h = 0; h < a->n_kv_heads; h++) {
            size_t at = (size_t)t * kv_stride + (size_t)h * a->d_head;
            uint32_t pos = batch->positions[t];
            kv_store(&pages->shape, kv_at(pages, a->layer, table, pos, KV_KEYS, h), k + at);
            kv_store(&pages->shape, kv_at(pages, a->layer, table, pos, KV_VALUES, h), v + at);
        }
    }
    for (uint32_t t = 0; t < batch->n_tokens; t++) {
        uint32_t pos = batch->positions[t];
        uint32_t first = a->window > 0 && pos >= a->window ? pos - a->window + 1 : 0;
        ASSERT(pos - first < ref_of(b)->n_scores);
        for (uint32_t h = 0; h < a->n_heads; h++) {
            struct ref_head head = {
                .a = a,
                .kv = pages,
                .table = &batch->seqs[batch->seq_of[t]],
                .q = q + (size_t)t * q_stride + (size_t)h * a->d_head,
                .out = out + ((size_t)t * a->n_heads + h) * a->d_head,
                .head = h,
                .first = first,
                .last = pos,
            };
            head_attend(&head, ref_of(b)->scores);
        }
    }
}
