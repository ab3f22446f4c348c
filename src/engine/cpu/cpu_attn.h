/* cpu_attn.h: what the files of the "cpu" backend's attention share: pages, the plan of a call, and
 * the rooms it works in. Not included elsewhere. */
#ifndef ENGINE_CPU_CPU_ATTN_H
#define ENGINE_CPU_CPU_ATTN_H

#include <stdatomic.h>

#include "engine/cpu/cpu.h"

/* Pages of one model: [layer][kv head][page] blocks (engine/cpu/attend.h), so that the pages of a
 * sequence that was stored in one go are read as one stream. */
struct cpu_kv {
    struct kv_shape shape;
    struct attend_layout layout;
    unsigned char *bytes;
    size_t n_bytes;
};

/* Page 0 of a layer's head. */
static inline unsigned char *cpu_kv_head(const struct cpu_kv *kv, uint32_t layer, uint32_t head)
{
    size_t pages = ((size_t)layer * kv->shape.n_kv_heads + head) * kv->shape.n_pages;
    return kv->bytes + pages * kv->layout.block_bytes;
}

/* ---- plan (cpu_attn_plan.c) ---- */

/* Rows of the batch that read the same pages: those of one sequence one after the other, or single
 * rows of sequences whose first pages are the same. */
struct attn_block {
    uint32_t first, n_rows; /* in plan.rows */
    uint32_t n_shared;      /* pages that all its rows read; UINT32_MAX: all of one sequence */
    uint32_t span0, n_spans;
    uint32_t item0;    /* work items before it */
    uint32_t n_splits; /* items per head: 1, or n_spans */
    size_t partial0;   /* with splits: floats before its partial totals */
};

struct attn_plan {
    uint32_t *rows;            /* [T] rows of the batch in the order of the blocks */
    uint32_t *first, *last;    /* [T] what row t sees, both included */
    struct attn_block *blocks; /* [T] */
    uint32_t n_blocks, n_items;
    uint64_t n_pairs; /* of a row and a position that it sees */
    bool single;      /* no sequence has more than one row */
};

struct attn_plan_limits {
    uint32_t n_threads;
    uint32_t n_units;  /* per block: heads of keys, times the calls that a large group takes */
    uint32_t n_group;  /* query heads of one call */
    size_t row_floats; /* of a partial total */
    size_t n_partial_floats; /* that there is room for */
};

/* Blocks and items of a batch. Which rows share a block and what is split changes no bit of a
 * result, only its speed. */
void backend_cpu_attn_plan(struct attn_plan *p, const struct attn *a,
                           const struct attn_batch *batch, const struct attn_plan_limits *limits);
/* The block of an item. */
uint32_t backend_cpu_attn_block(const struct attn_plan *p, uint32_t item);

/* ---- rooms ---- */

enum { ATTN_UNITS_PER_THREAD = 3 }; /* fewer items than this per thread are split by spans */

/* One per backend; sized at open. */
struct cpu_attn {
    struct attn_plan plan;
    void *memory;    /* of the plan's arrays */
    float *partials; /* totals of spans, where a block is split */
    size_t n_partial_floats;
    _Atomic uint32_t *left; /* [ATTN_UNITS_PER_THREAD * threads] spans of a unit not yet done */
    void **scratch;         /* [threads] */
};

/* ---- one call ---- */

struct attn_job {
    struct cpu *c;
    struct cpu_attn *room;
    const struct cpu_kv *kv; /* NULL: the batch's own rows */
    struct attend_layout layout;
    const struct attn *a;
    const struct attn_batch *batch;
    const struct qkv *qkv;
    float *out;
    uint32_t n_group;  /* query heads of a key/value head */
    uint32_t n_parts;  /* calls that these take */
    uint32_t per_part; /* query heads of a call, the last may have fewer */
    bool alone;        /* the calling thread does all */
    struct team_items stores, items;
};

/* One thread's way through one item. */
struct attn_item {
    const struct attn_block *block;
    uint32_t kv_head, part, split;
    uint32_t head0, n_heads; /* query heads */
    struct attend_rows rows;
    void *blocks; /* pages made of the batch's own rows: one span */
};

/* The query rows of an item, normed, rotated and scaled. */
void backend_cpu_attn_begin(const struct attn_job *j, struct attn_item *it);
/* A head of a row's keys normed and rotated, in scratch. */
const float *backend_cpu_attn_key(const struct attn_job *j, size_t row, uint32_t kv_head,
                                  float *scratch);
/* Items without pages (cpu_attn_near.c). */
void backend_cpu_attn_near(const struct attn_job *j, struct attn_item *it);

#endif
