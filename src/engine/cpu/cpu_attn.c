/* cpu_attn.c: attention of the "cpu" backend: one fork of the team per call.
 *
 *   store k, v of all rows ──► barrier ──► items: q ready, pages, totals ──► out
 *                                              └─ split by spans: the last one merges
 *
 * An item is one block of rows (cpu_attn_plan.c), one head of keys, all spans of it or one. Where
 * every sequence has one row (decoding), the item that reads a row's last page stores its k and v
 * itself, and there is no barrier.
 *
 * Not here: arithmetic (kernels/attend.c, contract in attend.h), pages (cpu_kv.c), rows that attend
 * to one another without pages (cpu_attn_near.c). */
#include "engine/cpu/cpu_attn.h"

#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

/* ---- heads ---- */

static float *ready_head(const struct attn_job *j, const struct norm *norm, size_t row,
                         const float *in, float *out)
{
    const struct attn *a = j->a;
    if (norm->kind != NORM_NONE) {
        backend_cpu_norm_row(j->c, norm, out, in, a->d_head);
    } else {
        memcpy(out, in, a->d_head * sizeof(float));
    }
    if (a->rope.n_rot > 0) {
        const float *cos_sin = a->rope.cos_sin + row * a->rope.n_rot;
        j->c->k->floats->rope(out, cos_sin, a->rope.n_rot, a->rope.style);
    }
    return out;
}

const float *backend_cpu_attn_key(const struct attn_job *j, size_t row, uint32_t kv_head,
                                  float *scratch)
{
    const float *in = j->qkv->k + row * j->qkv->kv_stride + (size_t)kv_head * j->a->d_head;
    return ready_head(j, &j->a->k_norm, row, in, scratch);
}

void backend_cpu_attn_begin(const struct attn_job *j, struct attn_item *it)
{
    const struct attn_plan *plan = &j->room->plan;
    const struct attend_layout *l = &j->layout;
    struct attend_rows *r = &it->rows;
    for (uint32_t i = 0; i < it->block->n_rows; i++) {
        size_t row = plan->rows[it->block->first + i];
        for (uint32_t h = 0; h < it->n_heads; h++) {
            size_t m = (size_t)i * it->n_heads + h;
            const float *q =
                j->qkv->q + row * j->qkv->q_stride + (size_t)(it->head0 + h) * j->a->d_head;
            (void)ready_head(j, &j->a->q_norm, row, q, r->q + m * l->d_pad);
            r->row[m] = (struct attend_row){plan->first[row], plan->last[row]};
        }
    }
    j->c->k->attend->begin(l, r, j->a->scale, j->a->softcap);
}

/* ---- storing ---- */

static const struct kv_table *table_of(const struct attn_job *j, size_t row)
{
    return &j->batch->seqs[j->batch->seq_of[row]];
}

static void store_key(const struct attn_job *j, size_t row, uint32_t kv_head, float *scratch)
{
    const struct cpu_kv *kv = j->kv;
    const struct kv_table *table = table_of(j, row);
    uint32_t pos = j->batch->positions[row];
    ASSERT(pos / KV_PAGE_TOKENS < table->n_pages);
    uint32_t page = table->page_ids[pos / KV_PAGE_TOKENS];
    ASSERT(page < kv->shape.n_pages);
    unsigned char *block = cpu_kv_head(kv, j->a->layer, kv_head) + page * kv->layout.block_bytes;
    const float *k = backend_cpu_attn_key(j, row, kv_head, scratch);
    const float *v = j->qkv->v + row * j->qkv->kv_stride + (size_t)kv_head * j->a->d_head;
    j->c->k->attend->store(&kv->layout, block, pos % KV_PAGE_TOKENS, k, v);
}

enum { STORE_ROWS = 16 }; /* of an item of storing: half a page of a sequence */

static void store_item(const struct attn_job *j, uint32_t thread, uint32_t item)
{
    uint32_t first = item * STORE_ROWS;
    uint32_t end = MIN(first + STORE_ROWS, j->batch->n_tokens);
    struct attend_rows r;
    attend_rows_init(&r, &j->layout, 1, j->room->scratch[thread]);
    for (uint32_t h = 0; h < j->a->n_kv_heads; h++) {
        for (uint32_t t = first; t < end; t++) {
            store_key(j, t, h, r.page);
        }
    }
}

/* ---- items ---- */

static void finish_row(const struct attn_job *j, const struct attn_item *it, uint32_t m,
                       const float *total)
{
    const struct attn *a = j->a;
    size_t row = j->room->plan.rows[it->block->first + m / it->n_heads];
    size_t head = it->head0 + m % it->n_heads;
    const float *sink = a->sinks.data != NULL ? a->sinks.data + head : NULL;
    float *out = j->out + (row * a->n_heads + head) * a->d_head;
    j->c->k->attend->finish(&j->layout, total, sink, out);
}

/* Pages [from, to) of one span: those that all rows share, then each row's own. */
static void attend_span(const struct attn_job *j, struct attn_item *it, uint32_t span)
{
    const struct kern_attend_table *k = j->c->k->attend;
    const struct attn_plan *plan = &j->room->plan;
    const struct attn_block *b = it->block;
    uint32_t page0 = span * ATTEND_SPAN_PAGES;
    uint32_t end = page0 + ATTEND_SPAN_PAGES;
    struct attend_pages pages = {
        .base = cpu_kv_head(j->kv, j->a->layer, it->kv_head),
        .stride = j->kv->layout.block_bytes,
    };
    size_t lead = plan->rows[b->first + b->n_rows - 1]; /* of one sequence: sees furthest */
    uint32_t shared = MIN(b->n_shared, plan->last[lead] / KV_PAGE_TOKENS + 1);
    shared = MAX(MIN(shared, end), page0);
    if (shared > page0) {
        pages.ids = table_of(j, lead)->page_ids + page0;
        pages.n = shared - page0;
        pages.position = page0 * KV_PAGE_TOKENS;
        k->pages(&j->layout, &it->rows, 0, it->rows.n, &pages, j->a->softcap);
    }
    for (uint32_t i = 0; i < b->n_rows && b->n_shared < end; i++) {
        size_t row = plan->rows[b->first + i];
        uint32_t to = MIN(plan->last[row] / KV_PAGE_TOKENS + 1, end);
        if (to > shared) {
            pages.ids = table_of(j, row)->page_ids + shared;
            pages.n = to - shared;
            pages.position = shared * KV_PAGE_TOKENS;
            k->pages(&j->layout, &it->rows, i * it->n_heads, (i + 1) * it->n_heads, &pages,
                     j->a->softcap);
        }
    }
}

/* Where the span totals of an item's rows lie: [row][span]. */
static float *partials_of(const struct attn_job *j, const struct attn_item *it)
{
    const struct attn_block *b = it->block;
    size_t unit = (size_t)it->kv_head * j->n_parts + it->part;
    size_t per_unit = (size_t)b->n_rows * j->per_part * b->n_spans;
    return j->room->partials + b->partial0 + unit * per_unit * attend_total_floats(&j->layout);
}

static void merge_unit(const struct attn_job *j, const struct attn_item *it)
{
    const struct kern_attend_table *k = j->c->k->attend;
    const size_t n = attend_total_floats(&j->layout);
    const float *partial = partials_of(j, it);
    for (uint32_t m = 0; m < it->rows.n; m++) {
        float *total = it->rows.total + m * n;
        k->clear(&j->layout, total);
        for (uint32_t s = 0; s < it->block->n_spans; s++) {
            k->merge(&j->layout, total, partial + ((size_t)m * it->block->n_spans + s) * n);
        }
        finish_row(j, it, m, total);
    }
}

/* One span of a split block; whoever does the last of a unit merges them. */
static void attend_split(const struct attn_job *j, struct attn_item *it)
{
    const struct attn_block *b = it->block;
    const size_t n = attend_total_floats(&j->layout);
    float *partial = partials_of(j, it);
    attend_span(j, it, b->span0 + it->split);
    for (uint32_t m = 0; m < it->rows.n; m++) {
        float *to = partial + ((size_t)m * b->n_spans + it->split) * n;
        j->c->k->attend->clear(&j->layout, to);
        j->c->k->attend->fold(&j->layout, &it->rows, m, to);
    }
    uint32_t block = (uint32_t)(b - j->room->plan.blocks);
    uint32_t unit = (block * j->a->n_kv_heads + it->kv_head) * j->n_parts + it->part;
    if (atomic_fetch_sub_explicit(&j->room->left[unit], 1, memory_order_acq_rel) == 1) {
        merge_unit(j, it);
    }
}

static void attend_whole(const struct attn_job *j, struct attn_item *it)
{
    const struct attn_block *b = it->block;
    const size_t n = attend_total_floats(&j->layout);
    for (uint32_t s = b->span0; s < b->span0 + b->n_spans; s++) {
        attend_span(j, it, s);
        for (uint32_t m = 0; m < it->rows.n; m++) {
            j->c->k->attend->fold(&j->layout, &it->rows, m, it->rows.total + m * n);
        }
    }
}

/* Rows whose last page lies in the item's spans. */
static void store_own(const struct attn_job *j, const struct attn_item *it)
{
    const struct attn_block *b = it->block;
    const struct attn_plan *plan = &j->room->plan;
    for (uint32_t i = 0; i < b->n_rows; i++) {
        size_t row = plan->rows[b->first + i];
        uint32_t span = plan->last[row] / ATTEND_SPAN_TOKENS;
        if (b->n_splits == 1 || span == b->span0 + it->split) {
            store_key(j, row, it->kv_head, it->rows.page);
        }
    }
}

/* Whether items store what they read last. */
static bool stores_own(const struct attn_job *j)
{
    return j->kv != NULL && j->room->plan.single && j->n_parts == 1;
}

static void attend_item(const struct attn_job *j, uint32_t thread, uint32_t item)
{
    const struct attn_plan *plan = &j->room->plan;
    struct attn_item it = {.block = &plan->blocks[backend_cpu_attn_block(plan, item)]};
    uint32_t i = item - it.block->item0;
    it.split = i % it.block->n_splits;
    it.part = i / it.block->n_splits % j->n_parts;
    it.kv_head = i / it.block->n_splits / j->n_parts;
    it.head0 = it.kv_head * j->n_group + it.part * j->per_part;
    it.n_heads = MIN(j->per_part, j->n_group - it.part * j->per_part);
    unsigned char *scratch = j->room->scratch[thread];
    attend_rows_init(&it.rows, &j->layout, it.block->n_rows * it.n_heads, scratch);
    it.blocks = scratch + attend_scratch_bytes(&j->layout, ATTEND_ROWS_MAX);
    if (j->kv == NULL) {
        backend_cpu_attn_near(j, &it);
    } else {
        if (stores_own(j)) {
            store_own(j, &it);
        }
        backend_cpu_attn_begin(j, &it);
        if (it.block->n_splits > 1) {
            attend_split(j, &it);
            return;
        }
        attend_whole(j, &it);
    }
    for (uint32_t m = 0; m < it.rows.n; m++) {
        finish_row(j, &it, m, it.rows.total + m * attend_total_floats(&j->layout));
    }
}

/* ---- a call ---- */

static void run(void *ctx, uint32_t thread)
{
    struct attn_job *j = ctx;
    uint32_t item;
    if (j->kv != NULL && !stores_own(j)) {
        struct team_cursor c = team_items_begin(&j->stores, thread);
        while (team_items_next(&c, &item)) {
            store_item(j, thread, item);
        }
        team_barrier(j->c->team);
    }
    struct team_cursor c = team_items_begin(&j->items, thread);
    while (team_items_next(&c, &item)) {
        attend_item(j, thread, item);
    }
}

static void run_alone(const struct attn_job *j)
{
    uint32_t n_stores = (j->batch->n_tokens + STORE_ROWS - 1) / STORE_ROWS;
    for (uint32_t i = 0; i < n_stores && j->kv != NULL && !stores_own(j); i++) {
        store_item(j, 0, i);
    }
    for (uint32_t i = 0; i < j->room->plan.n_items; i++) {
        attend_item(j, 0, i);
    }
}

static void plan_job(struct attn_job *j)
{
    /* Products that are made before another thread has woken up. */
    enum { ALONE_PRODUCTS_MAX = 1 << 16 };
    const struct attn *a = j->a;
    struct cpu_attn *room = j->room;
    struct attn_plan_limits limits = {
        .n_threads = j->c->n_threads,
        .n_units = a->n_kv_heads * j->n_parts,
        .n_group = j->per_part,
        .row_floats = attend_total_floats(&j->layout),
        .n_partial_floats = j->kv != NULL ? room->n_partial_floats : 0,
    };
    backend_cpu_attn_plan(&room->plan, a, j->batch, &limits);
    j->alone = room->plan.n_pairs * a->n_heads * a->d_head < ALONE_PRODUCTS_MAX;
    for (uint32_t i = 0; i < room->plan.n_blocks; i++) {
        const struct attn_block *b = &room->plan.blocks[i];
        for (uint32_t u = i * limits.n_units; b->n_splits > 1 && u < (i + 1) * limits.n_units;
             u++) {
            atomic_store_explicit(&room->left[u], b->n_spans, memory_order_relaxed);
        }
    }
}

void backend_cpu_attention(struct backend *b, float *out, const struct qkv *qkv, void *kv,
                           const struct attn *a, const struct attn_batch *batch)
{
    struct cpu *c = cpu_of(b);
    struct attn_job j = {
        .c = c, .room = c->attn, .kv = kv, .a = a, .batch = batch, .qkv = qkv, .out = out};
    ASSERT((kv != NULL) == a->causal && a->n_heads % a->n_kv_heads == 0);
    ASSERT(a->rope.n_rot <= a->d_head && a->rope.n_rot % 2 == 0 && a->d_head <= ATTEND_HEAD_MAX);
    ASSERT(batch->n_tokens <= c->tokens_max);
    if (kv != NULL) {
        const struct kv_shape *shape = &j.kv->shape;
        ASSERT(a->d_head == shape->d_head && a->n_kv_heads <= shape->n_kv_heads);
        ASSERT(a->layer < shape->n_layers);
        j.layout = j.kv->layout;
    } else {
        bool known = attend_layout_init(&j.layout, DTYPE_F32, a->d_head);
        ASSERT(known);
    }
    j.n_group = a->n_heads / a->n_kv_heads;
    j.per_part = MIN(j.n_group, (uint32_t)ATTEND_ROWS_MAX);
    j.n_parts = (j.n_group + j.per_part - 1) / j.per_part;
    plan_job(&j);
    if (j.alone || c->n_threads == 1) {
        run_alone(&j);
        return;
    }
    team_items_init(&j.stores, c->team, (batch->n_tokens + STORE_ROWS - 1) / STORE_ROWS);
    team_items_init(&j.items, c->team, j.room->plan.n_items);
    team_run(c->team, run, &j);
}

/* ---- life ---- */

static bool alloc_plan(struct cpu_attn *room, size_t n)
{
    struct attn_plan *p = &room->plan;
    room->memory = mem_try_zalloc_array(n, sizeof(*p->blocks) + 3 * sizeof(uint32_t));
    if (room->memory == NULL) {
        return false;
    }
    p->blocks = room->memory;
    p->rows = (uint32_t *)(void *)(p->blocks + n);
    p->first = p->rows + n;
    p->last = p->first + n;
    return true;
}

/* Scratch and partial totals are sized for the largest heads, and cost what is touched of them. */
enum rc backend_cpu_attn_open(struct cpu *c, struct err *err)
{
    enum { PARTIAL_BYTES = 8 << 20, PARTIAL_BYTES_PER_THREAD = 2 << 20 };
    struct cpu_attn *room = mem_zalloc(sizeof(*room));
    c->attn = room;
    struct attend_layout widest;
    bool known = attend_layout_init(&widest, DTYPE_F32, ATTEND_HEAD_MAX);
    ASSERT(known);
    size_t bytes =
        attend_scratch_bytes(&widest, ATTEND_ROWS_MAX) + ATTEND_SPAN_PAGES * widest.block_bytes;
    size_t partials = PARTIAL_BYTES + (size_t)c->n_threads * PARTIAL_BYTES_PER_THREAD;
    room->n_partial_floats = partials / sizeof(float);
    room->partials = mem_try_pages(partials);
    room->left =
        mem_try_zalloc_array((size_t)ATTN_UNITS_PER_THREAD * c->n_threads, sizeof(*room->left));
    room->scratch = mem_try_zalloc_array(c->n_threads, sizeof(*room->scratch));
    bool full = room->partials != NULL && room->left != NULL && room->scratch != NULL &&
                alloc_plan(room, c->tokens_max);
    for (uint32_t i = 0; i < c->n_threads && full; i++) {
        room->scratch[i] = mem_try_pages(bytes);
        full = room->scratch[i] != NULL;
    }
    c->scratch_bytes += partials + c->n_threads * bytes;
    return full ? RC_OK
                : err_set(err, RC_NOMEM, "no memory for attention on %u threads", c->n_threads);
}

void backend_cpu_attn_close(struct cpu *c)
{
    struct cpu_attn *room = c->attn;
    if (room == NULL) {
        return;
    }
    for (uint32_t i = 0; room->scratch != NULL && i < c->n_threads; i++) {
        mem_free_pages(room->scratch[i]);
    }
    mem_free(room->scratch);
    mem_free((void *)room->left);
    mem_free_pages(room->partials);
    mem_free(room->memory);
    mem_free(room);
    c->attn = NULL;
}
