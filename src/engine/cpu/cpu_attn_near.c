/* cpu_attn_near.c: attention among the rows of a batch themselves (embedders): no pages are kept.
 *
 * Keys and values of a span are laid out as pages in the thread's own memory, then the same kernels
 * run as over kept pages. One item is one block of rows and one head of keys: with many short texts
 * in a batch, one text and one head. */
#include "engine/cpu/cpu_attn.h"

#include "base/assert.h"

static void store_span(const struct attn_job *j, const struct attn_item *it, size_t row0,
                       uint32_t from, uint32_t to)
{
    float *key = it->rows.page;
    for (uint32_t i = from; i < to; i++) {
        size_t row = row0 + i;
        uint32_t at = i - from;
        unsigned char *block =
            (unsigned char *)it->blocks + at / KV_PAGE_TOKENS * j->layout.block_bytes;
        const float *k = backend_cpu_attn_key(j, row, it->kv_head, key);
        const float *v = j->qkv->v + row * j->qkv->kv_stride + (size_t)it->kv_head * j->a->d_head;
        j->c->k->attend->store(&j->layout, block, at % KV_PAGE_TOKENS, k, v);
    }
}

void backend_cpu_attn_near(const struct attn_job *j, struct attn_item *it)
{
    static const uint32_t ids[ATTEND_SPAN_PAGES] = {0, 1, 2, 3, 4, 5, 6, 7};
    const struct attn_block *b = it->block;
    const struct attn_plan *plan = &j->room->plan;
    const struct kern_attend_table *k = j->c->k->attend;
    uint32_t t0 = plan->rows[b->first];
    size_t row0 = t0;
    while (row0 > 0 && j->batch->seq_of[row0 - 1] == j->batch->seq_of[t0]) {
        row0--;
    }
    uint32_t last = 0;
    for (uint32_t i = 0; i < b->n_rows; i++) {
        last = MAX(last, plan->last[plan->rows[b->first + i]]);
    }
    backend_cpu_attn_begin(j, it);
    for (uint32_t s = b->span0; s < b->span0 + b->n_spans; s++) {
        uint32_t from = s * ATTEND_SPAN_TOKENS;
        uint32_t to = MIN(from + ATTEND_SPAN_TOKENS, last + 1);
        store_span(j, it, row0, from, to);
        struct attend_pages pages = {
            .base = it->blocks,
            .stride = j->layout.block_bytes,
            .ids = ids,
            .n = (to - from + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS,
            .position = from,
        };
        k->pages(&j->layout, &it->rows, 0, it->rows.n, &pages, j->a->softcap);
        for (uint32_t i = 0; i < it->rows.n; i++) {
            k->fold(&j->layout, &it->rows, i, it->rows.total + i * attend_total_floats(&j->layout));
        }
    }
}
