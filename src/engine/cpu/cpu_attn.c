/* cpu_attn.c: paged key/value memory and attention of the "cpu" backend.
 *
 *   page of a layer:  K [kv head][D][32 positions]  then  V [kv head][32 positions][D]
 *
 * Keys lie with positions innermost, so that one step over the channels adds to the scores of a
 * whole page without sums across a register (kernels/attend.c). One item of work is one row and
 * up to CPU_HEADS_PER_CALL query heads of one key/value head. */
#include "engine/cpu/cpu.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/mem.h"

/* ---- pages ---- */

struct cpu_kv {
    struct kv_shape shape;
    unsigned char *bytes;
    size_t n_bytes;
    size_t item_bytes;
    size_t head_bytes;  /* of K or V of one head in a page */
    size_t page_stride; /* K and V of all heads */
};

static enum rc grow_attend(struct cpu *c, uint32_t d_head, struct err *err)
{
    if (d_head <= c->n_attend) {
        return RC_OK;
    }
    size_t n = kern_attend_scratch_floats(CPU_HEADS_PER_CALL, d_head);
    for (uint32_t i = 0; i < c->n_threads; i++) {
        mem_free(c->threads[i].attend);
        c->threads[i].attend = mem_try_aligned(CACHE_LINE_BYTES, n * sizeof(float));
        if (c->threads[i].attend == NULL) {
            return err_set(err, RC_NOMEM, "no memory for heads of %u channels", d_head);
        }
    }
    c->n_attend = d_head;
    return RC_OK;
}

enum rc backend_cpu_kv_alloc(struct backend *b, const struct kv_shape *shape, void **kv,
                             struct err *err)
{
    ASSERT(shape->type == DTYPE_F16 || shape->type == DTYPE_F32);
    enum rc rc = grow_attend(cpu_of(b), shape->d_head, err);
    if (rc != RC_OK) {
        return rc;
    }
    struct cpu_kv *k = mem_zalloc(sizeof(*k));
    k->shape = *shape;
    k->item_bytes = shape->type == DTYPE_F16 ? 2 : 4;
    k->head_bytes = (size_t)KV_PAGE_TOKENS * shape->d_head * k->item_bytes;
    k->page_stride = 2 * shape->n_kv_heads * k->head_bytes;
    if (!checked_mul(k->page_stride, shape->n_pages, &k->n_bytes) ||
        !checked_mul(k->n_bytes, shape->n_layers, &k->n_bytes) ||
        (k->bytes = mem_map(k->n_bytes)) == NULL) {
        mem_free(k);
        return err_set(err, RC_NOMEM, "no memory for %u key/value pages", shape->n_pages);
    }
    *kv = k;
    return RC_OK;
}

void backend_cpu_kv_free(struct backend *b, void *kv)
{
    UNUSED(b);
    struct cpu_kv *k = kv;
    if (k != NULL) {
        mem_unmap(k->bytes, k->n_bytes);
        mem_free(k);
    }
}

void backend_cpu_kv_copy(struct backend *b, void *kv, uint32_t from_page, uint32_t to_page)
{
    UNUSED(b);
    const struct cpu_kv *k = kv;
    ASSERT(from_page < k->shape.n_pages && to_page < k->shape.n_pages);
    for (size_t layer = 0; layer < k->shape.n_layers; layer++) {
        unsigned char *pages = k->bytes + layer * k->shape.n_pages * k->page_stride;
        memmove(pages + to_page * k->page_stride, pages + from_page * k->page_stride,
                k->page_stride);
    }
}

/* ---- a call ---- */

struct attn_job {
    struct cpu *c;
    const struct cpu_kv *kv;
    const struct attn *a;
    const struct attn_batch *batch;
    const struct qkv *qkv;
    float *out;
    unsigned char *layer; /* page 0 of this layer */
    uint32_t n_group;     /* query heads of a key/value head */
    uint32_t n_calls;     /* kernel calls that these take */
};

/* D values of one position: with stride 1 (V) or one page row (K) between them. */
static void store_head(const struct attn_job *j, const float *x, unsigned char *at, size_t stride)
{
    enum { PIECE = 64 };
    uint32_t d_head = j->a->d_head;
    for (uint32_t i = 0; i < d_head; i += PIECE) {
        uint32_t n = MIN(d_head - i, (uint32_t)PIECE);
        uint16_t half[PIECE];
        if (j->kv->item_bytes == 2) {
            j->c->k->attend->to_f16(x + i, half, n);
        }
        for (uint32_t c = 0; c < n; c++) {
            unsigned char *to = at + (i + c) * stride * j->kv->item_bytes;
            if (j->kv->item_bytes == 2) {
                memcpy(to, &half[c], sizeof(half[c]));
            } else {
                memcpy(to, &x[i + c], sizeof(x[i + c]));
            }
        }
    }
}

/* Norms and rotates the heads of one row. */
static void prepare_heads(const struct attn_job *j, const struct norm *norm, float *x,
                          uint32_t n_heads, size_t row)
{
    const struct attn *a = j->a;
    const float *cos_sin = a->rope.cos_sin + row * a->rope.n_rot;
    for (size_t h = 0; h < n_heads; h++) {
        if (norm->kind != NORM_NONE) {
            backend_cpu_norm_row(j->c, norm, x + h * a->d_head, x + h * a->d_head, a->d_head);
        }
        j->c->k->floats->rope(x + h * a->d_head, cos_sin, a->rope.n_rot, a->rope.style);
    }
}

static void prepare_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct attn_job *j = ctx;
    UNUSED(thread);
    for (size_t t = first; t < first + n; t++) {
        float *q = j->qkv->q + t * j->qkv->q_stride;
        float *k = j->qkv->k + t * j->qkv->kv_stride;
        prepare_heads(j, &j->a->q_norm, q, j->a->n_heads, t);
        prepare_heads(j, &j->a->k_norm, k, j->a->n_kv_heads, t);
    }
}

static void store_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct attn_job *j = ctx;
    const struct cpu_kv *kv = j->kv;
    prepare_rows(ctx, thread, first, n);
    for (size_t t = first; t < first + n; t++) {
        uint32_t pos = j->batch->positions[t];
        const struct kv_table *table = &j->batch->seqs[j->batch->seq_of[t]];
        ASSERT(pos / KV_PAGE_TOKENS < table->n_pages);
        uint32_t page = table->page_ids[pos / KV_PAGE_TOKENS];
        ASSERT(page < kv->shape.n_pages);
        unsigned char *k_page = j->layer + page * kv->page_stride;
        unsigned char *v_page = k_page + kv->shape.n_kv_heads * kv->head_bytes;
        size_t at = pos % KV_PAGE_TOKENS;
        for (size_t h = 0; h < j->a->n_kv_heads; h++) {
            size_t in = t * j->qkv->kv_stride + h * j->a->d_head;
            unsigned char *k_at = k_page + h * kv->head_bytes + at * kv->item_bytes;
            unsigned char *v_at = v_page + h * kv->head_bytes + at * j->a->d_head * kv->item_bytes;
            store_head(j, j->qkv->k + in, k_at, KV_PAGE_TOKENS);
            store_head(j, j->qkv->v + in, v_at, 1);
        }
    }
}

static void attend_item(void *ctx, uint32_t thread, uint32_t item)
{
    const struct attn_job *j = ctx;
    const struct attn *a = j->a;
    size_t t = item / (a->n_kv_heads * j->n_calls);
    uint32_t kv_head = item / j->n_calls % a->n_kv_heads;
    uint32_t from = item % j->n_calls * CPU_HEADS_PER_CALL;
    uint32_t head = kv_head * j->n_group + from;
    uint32_t pos = j->batch->positions[t];
    const unsigned char *k = j->layer + kv_head * j->kv->head_bytes;
    struct kern_attend call = {
        .q = j->qkv->q + t * j->qkv->q_stride + (size_t)head * a->d_head,
        .out = j->out + (t * a->n_heads + head) * a->d_head,
        .k_base = k,
        .v_base = k + j->kv->shape.n_kv_heads * j->kv->head_bytes,
        .page_stride = j->kv->page_stride,
        .page_ids = j->batch->seqs[j->batch->seq_of[t]].page_ids,
        .n_group = MIN(j->n_group - from, (uint32_t)CPU_HEADS_PER_CALL),
        .d_head = a->d_head,
        .first = a->window > 0 && pos >= a->window ? pos - a->window + 1 : 0,
        .last = pos,
        .scale = a->scale,
        .softcap = a->softcap,
        .sinks = a->sinks.data != NULL ? a->sinks.data + head : NULL,
        .scratch = j->c->threads[thread].attend,
    };
    if (j->kv->item_bytes == 2) {
        j->c->k->attend->attend_f16(&call);
    } else {
        j->c->k->attend->attend_f32(&call);
    }
}

/* ---- without pages ---- */

/* Channel sums over the rows [first, last] of row t's own sequence, by one query head: online
 * softmax in blocks of 32 keys. */
static void attend_near_head(const struct attn_job *j, size_t t, uint32_t head, size_t first,
                             size_t last)
{
    enum { KEYS = 32 };
    const struct attn *a = j->a;
    const float *q = j->qkv->q + t * j->qkv->q_stride + (size_t)head * a->d_head;
    float *out = j->out + (t * a->n_heads + head) * a->d_head;
    size_t kv_head = head / j->n_group * a->d_head;
    bool sink = a->sinks.data != NULL;
    float max = sink ? a->sinks.data[head] : -INFINITY;
    float sum = sink ? 1.0f : 0.0f;
    memset(out, 0, a->d_head * sizeof(float));
    for (size_t from = first; from <= last; from += KEYS) {
        float s[KEYS];
        size_t n = MIN(last - from + 1, (size_t)KEYS);
        float block_max = max;
        for (size_t i = 0; i < n; i++) {
            const float *k = j->qkv->k + (from + i) * j->qkv->kv_stride + kv_head;
            s[i] = a->scale * j->c->k->floats->dot(q, k, a->d_head);
            s[i] = a->softcap > 0 ? a->softcap * tanhf(s[i] / a->softcap) : s[i];
            block_max = fmaxf(block_max, s[i]);
        }
        float shrink = expf(max - block_max);
        sum *= shrink;
        for (uint32_t i = 0; i < a->d_head; i++) {
            out[i] *= shrink;
        }
        for (size_t i = 0; i < n; i++) {
            const float *v = j->qkv->v + (from + i) * j->qkv->kv_stride + kv_head;
            float p = expf(s[i] - block_max);
            sum += p;
            j->c->k->floats->axpy(out, v, p, a->d_head);
        }
        max = block_max;
    }
    for (uint32_t i = 0; i < a->d_head; i++) {
        out[i] /= sum;
    }
}

static void attend_near_rows(void *ctx, uint32_t thread, uint32_t from, uint32_t n)
{
    const struct attn_job *j = ctx;
    const uint32_t *seq_of = j->batch->seq_of;
    UNUSED(thread);
    for (size_t t = from; t < from + n; t++) {
        size_t far = j->a->window > 0 ? j->a->window - 1 : j->batch->n_tokens;
        size_t first = t;
        size_t last = t;
        while (first > 0 && t - first < far && seq_of[first - 1] == seq_of[t]) {
            first--;
        }
        while (last + 1 < j->batch->n_tokens && last - t < far && seq_of[last + 1] == seq_of[t]) {
            last++;
        }
        for (uint32_t head = 0; head < j->a->n_heads; head++) {
            attend_near_head(j, t, head, first, last);
        }
    }
}

void backend_cpu_attention(struct backend *b, float *out, const struct qkv *qkv, void *kv,
                           const struct attn *a, const struct attn_batch *batch)
{
    const struct cpu_kv *pages = kv;
    struct cpu *c = cpu_of(b);
    ASSERT((kv != NULL) == a->causal && a->n_heads % a->n_kv_heads == 0);
    ASSERT(a->rope.n_rot <= a->d_head && a->rope.n_rot % 2 == 0);
    struct attn_job job = {
        .c = c,
        .kv = pages,
        .a = a,
        .batch = batch,
        .qkv = qkv,
        .out = out,
        .n_group = a->n_heads / a->n_kv_heads,
    };
    uint32_t width = 2 * a->n_kv_heads * a->d_head;
    if (kv == NULL) {
        backend_cpu_for_rows(c, batch->n_tokens, width, prepare_rows, &job);
        uint64_t cost = (uint64_t)width * batch->n_tokens;
        backend_cpu_for_rows(c, batch->n_tokens, (uint32_t)MIN(cost, (uint64_t)UINT32_MAX - 1),
                             attend_near_rows, &job);
        return;
    }
    ASSERT(a->d_head == pages->shape.d_head && a->n_kv_heads <= pages->shape.n_kv_heads);
    ASSERT(a->layer < pages->shape.n_layers);
    job.layer = pages->bytes + (size_t)a->layer * pages->shape.n_pages * pages->page_stride;
    job.n_calls = (job.n_group + CPU_HEADS_PER_CALL - 1) / CPU_HEADS_PER_CALL;
    backend_cpu_for_rows(c, batch->n_tokens, width, store_rows, &job);
    team_for(c->team, batch->n_tokens * a->n_kv_heads * job.n_calls, attend_item, &job);
}
