/* cpu_attn.c: paged key/value memory and attention of the "cpu" backend.
 *
 *   page of a layer:  K [kv head][D][32 positions]  then  V [kv head][32 positions][D]
 *
 * Keys lie with positions innermost, so that one step over the channels adds to the scores of a
 * whole page without sums across a register (kernels/attend.c). One item of work is one row and
 * up to CPU_HEADS_PER_CALL query heads of one key/value head. */
#include "engine/cpu/cpu.h"

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

/* ---- a call ---- */

struct attn_job {
    struct cpu *c;
    const struct cpu_kv *kv;
    const struct attn *a;
    const struct attn_batch *batch;
    const float *q, *k, *v;
    float *out;
    size_t q_stride, kv_stride;
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

static void store_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct attn_job *j = ctx;
    const struct cpu_kv *kv = j->kv;
    UNUSED(thread);
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
            size_t in = t * j->kv_stride + h * j->a->d_head;
            unsigned char *k_at = k_page + h * kv->head_bytes + at * kv->item_bytes;
            unsigned char *v_at = v_page + h * kv->head_bytes + at * j->a->d_head * kv->item_bytes;
            store_head(j, j->k + in, k_at, KV_PAGE_TOKENS);
            store_head(j, j->v + in, v_at, 1);
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
        .q = j->q + t * j->q_stride + (size_t)head * a->d_head,
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

void backend_cpu_attention(struct backend *b, float *out, const float *q, uint32_t q_stride,
                           const float *k, const float *v, uint32_t kv_stride, void *kv,
                           const struct attn *a, const struct attn_batch *batch)
{
    const struct cpu_kv *pages = kv;
    ASSERT(a->d_head == pages->shape.d_head && a->n_kv_heads <= pages->shape.n_kv_heads);
    ASSERT(a->layer < pages->shape.n_layers && a->n_heads % a->n_kv_heads == 0);
    struct attn_job job = {
        .c = cpu_of(b),
        .kv = pages,
        .a = a,
        .batch = batch,
        .q = q,
        .k = k,
        .v = v,
        .out = out,
        .q_stride = q_stride,
        .kv_stride = kv_stride,
        .layer = pages->bytes + (size_t)a->layer * pages->shape.n_pages * pages->page_stride,
        .n_group = a->n_heads / a->n_kv_heads,
    };
    job.n_calls = (job.n_group + CPU_HEADS_PER_CALL - 1) / CPU_HEADS_PER_CALL;
    backend_cpu_for_rows(job.c, batch->n_tokens, 2 * a->n_kv_heads * a->d_head, store_rows, &job);
    team_for(job.c->team, batch->n_tokens * a->n_kv_heads * job.n_calls, attend_item, &job);
}
