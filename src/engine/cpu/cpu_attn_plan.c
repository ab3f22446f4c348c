/* cpu_attn_plan.c: how a batch's attention is cut into work.
 *
 * Rows of one sequence go into blocks as they come. Single rows (decoding sequences) whose tables
 * begin with the same pages share a block, so that those pages are read once for all of them
 * (cascade attention, Ye et al. 2024). Where that leaves too few items for the threads, blocks are
 * split by spans, as long as there is room for the partial totals. */
#include "engine/cpu/cpu_attn.h"

#include <string.h>

#include "base/assert.h"

enum {
    SHARED_PAGES_MIN = 2, /* fewer are not worth a common block */
    BLOCK_ROWS_MIN = 8,   /* rows of a sequence that a block has before the threads count */
};

/* ---- what rows see ---- */

static uint32_t run_length(const struct attn_batch *batch, uint32_t first)
{
    uint32_t n = 1;
    while (first + n < batch->n_tokens && batch->seq_of[first + n] == batch->seq_of[first]) {
        n++;
    }
    return n;
}

/* Without pages positions count from the run's first row. */
static void see_run(struct attn_plan *p, const struct attn *a, const struct attn_batch *batch,
                    uint32_t first, uint32_t n)
{
    for (uint32_t t = first; t < first + n; t++) {
        uint32_t at = a->causal ? batch->positions[t] : t - first;
        uint32_t far = a->window > 0 ? a->window - 1 : UINT32_MAX;
        p->first[t] = at > far ? at - far : 0;
        p->last[t] = a->causal ? at : MIN(n - 1, far < n ? at + far : UINT32_MAX);
        p->n_pairs += p->last[t] - p->first[t] + 1;
    }
}

/* ---- blocks ---- */

static struct attn_block *add_block(struct attn_plan *p, uint32_t first, uint32_t n_shared)
{
    struct attn_block *b = &p->blocks[p->n_blocks++];
    *b = (struct attn_block){.first = first, .n_shared = n_shared};
    return b;
}

static void add_run(struct attn_plan *p, uint32_t *at, uint32_t first, uint32_t n, uint32_t per)
{
    for (uint32_t t = 0; t < n; t += per) {
        struct attn_block *b = add_block(p, *at, UINT32_MAX);
        b->n_rows = MIN(per, n - t);
        for (uint32_t i = 0; i < b->n_rows; i++) {
            p->rows[(*at)++] = first + t + i;
        }
    }
}

/* Leading pages that both tables have and both rows see in full. */
static uint32_t shared_pages(const struct attn_plan *p, const struct attn_batch *batch, uint32_t x,
                             uint32_t y)
{
    const uint32_t *a = batch->seqs[batch->seq_of[x]].page_ids;
    const uint32_t *b = batch->seqs[batch->seq_of[y]].page_ids;
    uint32_t end = MIN(p->last[x], p->last[y]) / KV_PAGE_TOKENS;
    uint32_t n = 0;
    while (n < end && a[n] == b[n]) {
        n++;
    }
    return n;
}

/* The n single rows from plan.rows[at] on: each block draws the rows that share its lead's pages to
 * the front of what is left. */
static void add_singles(struct attn_plan *p, uint32_t at, uint32_t n, uint32_t per,
                        const struct attn_batch *batch)
{
    uint32_t *rows = p->rows + at;
    for (uint32_t done = 0; done < n;) {
        struct attn_block *b = add_block(p, at + done, UINT32_MAX);
        uint32_t lead = rows[done];
        uint32_t end = done + 1;
        for (uint32_t i = end; i < n && end - done < per; i++) {
            uint32_t shared = shared_pages(p, batch, lead, rows[i]);
            uint32_t limit = end == done + 1 ? SHARED_PAGES_MIN
                                             : MAX((uint32_t)SHARED_PAGES_MIN, b->n_shared / 2);
            if (shared >= limit) {
                b->n_shared = MIN(b->n_shared, shared);
                uint32_t row = rows[i];
                rows[i] = rows[end];
                rows[end++] = row;
            }
        }
        b->n_rows = end - done;
        done = end;
    }
}

/* ---- items ---- */

static void measure_block(const struct attn_plan *p, struct attn_block *b)
{
    uint32_t first = UINT32_MAX;
    uint32_t last = 0;
    for (uint32_t i = b->first; i < b->first + b->n_rows; i++) {
        first = MIN(first, p->first[p->rows[i]]);
        last = MAX(last, p->last[p->rows[i]]);
    }
    b->span0 = first / ATTEND_SPAN_TOKENS;
    b->n_spans = last / ATTEND_SPAN_TOKENS - b->span0 + 1;
}

static void cut_items(struct attn_plan *p, const struct attn_plan_limits *limits)
{
    bool few = p->n_blocks * limits->n_units < ATTN_UNITS_PER_THREAD * limits->n_threads &&
               limits->n_threads > 1;
    size_t used = 0;
    p->n_items = 0;
    for (uint32_t i = 0; i < p->n_blocks; i++) {
        struct attn_block *b = &p->blocks[i];
        measure_block(p, b);
        size_t n =
            (size_t)b->n_rows * limits->n_group * limits->n_units * b->n_spans * limits->row_floats;
        b->n_splits = 1;
        if (few && b->n_spans > 1 && n <= limits->n_partial_floats - used) {
            b->n_splits = b->n_spans;
            b->partial0 = used;
            used += n;
        }
        b->item0 = p->n_items;
        p->n_items += limits->n_units * b->n_splits;
    }
}

void backend_cpu_attn_plan(struct attn_plan *p, const struct attn *a,
                           const struct attn_batch *batch, const struct attn_plan_limits *limits)
{
    uint32_t per = MAX(ATTEND_ROWS_MAX / limits->n_group, 1u);
    uint64_t wanted = (uint64_t)batch->n_tokens * limits->n_units / (4ull * limits->n_threads);
    uint32_t per_run = MIN(per, (uint32_t)MAX(wanted, (uint64_t)BLOCK_ROWS_MIN));
    uint32_t at = 0;
    uint32_t n_single = 0;
    p->n_blocks = 0;
    p->n_pairs = 0;
    p->single = true;
    /* Single rows are counted, then gathered behind all others. */
    for (uint32_t t = 0, n; t < batch->n_tokens; t += n) {
        n = run_length(batch, t);
        see_run(p, a, batch, t, n);
        n_single += n == 1 && a->causal;
    }
    uint32_t single_at = batch->n_tokens - n_single;
    for (uint32_t t = 0, n; t < batch->n_tokens; t += n) {
        n = run_length(batch, t);
        if (n == 1 && a->causal) {
            p->rows[single_at++] = t;
        } else {
            p->single = false;
            add_run(p, &at, t, n, per_run);
        }
    }
    add_singles(p, at, n_single, per, batch);
    cut_items(p, limits);
}

uint32_t backend_cpu_attn_block(const struct attn_plan *p, uint32_t item)
{
    uint32_t low = 0;
    uint32_t high = p->n_blocks;
    while (high - low > 1) {
        uint32_t mid = low + (high - low) / 2;
        if (p->blocks[mid].item0 <= item) {
            low = mid;
        } else {
            high = mid;
        }
    }
    return low;
}
