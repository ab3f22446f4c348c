/* cpu_weight.c: weights as panels (pack.h): packing at load, memory, products.
 *
 * Weights are packed by the whole team straight from where the file lies, one after the other, into
 * slabs of huge pages: a model's weights lie in the order in which they are used. An expert's
 * panels follow those of the expert before. Weights of which only single rows are ever read stay
 * in their file.
 *
 * Invariant: what is packed is read nowhere but here, through w->packed. */
#include "engine/cpu/cpu.h"

#include "base/assert.h"
#include "base/checked.h"
#include "base/mem.h"
#include "engine/format/quant.h"

/* ---- memory ---- */

enum { SLAB_BYTES = 64 << 20 };

struct cpu_slab {
    struct cpu_slab *before;
    unsigned char *at;
    size_t bytes, used;
    uint32_t n_users;
};

/* Room for a weight, 64-byte aligned; NULL when there is none. */
static unsigned char *slab_take(struct cpu *c, size_t bytes)
{
    struct cpu_slab *s = c->slabs;
    if (s == NULL || s->bytes - s->used < bytes) {
        size_t n = MAX(bytes, (size_t)SLAB_BYTES);
        unsigned char *at = mem_map(n);
        if (at == NULL) {
            return NULL;
        }
        s = mem_zalloc(sizeof(*s));
        *s = (struct cpu_slab){.before = c->slabs, .at = at, .bytes = n};
        c->slabs = s;
    }
    unsigned char *at = s->at + s->used;
    s->used += bytes;
    s->n_users++;
    return at;
}

static void slab_give(struct cpu *c, const unsigned char *at)
{
    for (struct cpu_slab **to = &c->slabs; *to != NULL; to = &(*to)->before) {
        struct cpu_slab *s = *to;
        if (at >= s->at && at < s->at + s->bytes) {
            ASSERT(s->n_users > 0);
            if (--s->n_users == 0) {
                *to = s->before;
                mem_unmap(s->at, s->bytes);
                mem_free(s);
            }
            return;
        }
    }
    ASSERT(false);
}

void backend_cpu_weights_drop(struct cpu *c)
{
    while (c->slabs != NULL) {
        struct cpu_slab *s = c->slabs;
        c->slabs = s->before;
        mem_unmap(s->at, s->bytes);
        mem_free(s);
    }
}

/* ---- packing ---- */

/* A piece of work is some panels of one expert: large enough to hide a fork's end, small enough to
 * share out. */
enum { PIECE_PANELS = 8 };

struct pack_job {
    const struct weight *w;
    unsigned char *out;
    size_t panel_bytes;
    uint32_t n_panels, n_pieces; /* of an expert */
};

static void pack_piece(void *ctx, uint32_t thread, uint32_t item)
{
    const struct pack_job *j = ctx;
    const struct weight *w = j->w;
    uint64_t expert = item / j->n_pieces;
    uint32_t first = item % j->n_pieces * PIECE_PANELS;
    const unsigned char *data = w->data;
    struct pack_source src = {
        .type = w->type,
        .rows = data + expert * w->n_rows * w->row_bytes,
        .row_bytes = w->row_bytes,
        .n_rows = w->n_rows,
        .n_cols = w->n_cols,
    };
    UNUSED(thread);
    pack_panels(&src, first, MIN(j->n_panels - first, (uint32_t)PIECE_PANELS),
                j->out + (expert * j->n_panels + first) * j->panel_bytes);
}

static enum rc pack_weight(struct cpu *c, struct weight *w, struct err *err)
{
    struct pack_job job = {
        .w = w,
        .panel_bytes = pack_panel_bytes(w->type, w->n_cols),
        .n_panels = pack_panels_of(w->n_rows),
    };
    uint64_t bytes;
    uint64_t n_panels = (uint64_t)job.n_panels * w->n_experts;
    if (!checked_mul(n_panels, (uint64_t)job.panel_bytes, &bytes) || n_panels > INT32_MAX ||
        (job.out = slab_take(c, bytes)) == NULL) {
        return err_set(err, RC_NOMEM, "no memory for a weight of %u by %u values", w->n_rows,
                       w->n_cols);
    }
    job.n_pieces = (job.n_panels + PIECE_PANELS - 1) / PIECE_PANELS;
    team_for(c->team, job.n_pieces * w->n_experts, pack_piece, &job);
    w->packed = job.out;
    w->packed_bytes = bytes;
    return RC_OK;
}

/* A token works at several experts at once: this many times the rows, so that a long prompt still
 * gives each expert many rows. */
enum { EXPERT_ROWS = 4 };

enum rc backend_cpu_weight_prepare(struct backend *b, struct weight *w, struct err *err)
{
    struct cpu *c = cpu_of(b);
    if (w->single_rows) {
        return RC_OK;
    }
    enum rc rc = RC_OK;
    if (w->n_experts > 1) {
        uint32_t rows = MAX(c->tokens_max * EXPERT_ROWS, (uint32_t)BACKEND_EXPERTS_USED_MAX);
        c->rows_max = MAX(c->rows_max, rows);
        rc = backend_cpu_moe_room(c, w, err);
    }
    if (rc == RC_OK) {
        rc = backend_cpu_input_room(c, w, err);
    }
    return rc == RC_OK ? pack_weight(c, w, err) : rc;
}

void backend_cpu_weight_release(struct backend *b, struct weight *w)
{
    if (w->packed != NULL) {
        slab_give(cpu_of(b), w->packed);
        w->packed = NULL;
    }
}

void backend_cpu_weight_row(const struct weight *w, uint32_t row, float *out)
{
    ASSERT_SLOW(row < w->n_rows);
    if (w->packed != NULL) {
        pack_row(w->type, w->packed, w->n_cols, row, out);
    } else {
        const unsigned char *data = w->data;
        quant_dequantize(w->type, data + (uint64_t)row * w->row_bytes, out, w->n_cols);
    }
}

/* ---- products ---- */

static const unsigned char *panel_at(const struct cpu_panel *p)
{
    if (p->w == NULL) {
        return NULL;
    }
    const unsigned char *packed = p->w->packed;
    uint64_t index = (uint64_t)pack_panels_of(p->w->n_rows) * p->expert + p->index;
    return packed + index * pack_panel_bytes(p->w->type, p->w->n_cols);
}

float *backend_cpu_multiply(const struct cpu *c, uint32_t thread, const struct cpu_panels *panels,
                            const struct kern_rows *rows, uint32_t first, uint32_t n)
{
    const struct weight *a = panels->now[0].w;
    const struct weight *b = panels->now[1].w;
    float *tile = c->threads[thread].tile.at;
    struct kern_gemm g = {
        .panel = {panel_at(&panels->now[0]), panel_at(&panels->now[1])},
        .next = {panel_at(&panels->next[0]), panel_at(&panels->next[1])},
        .n_cols = a->n_cols,
        .out = {tile, tile + PACK_ROWS},
        .out_stride = CPU_TILE_COLS,
        .scratch = c->threads[thread].panel.at,
    };
    ASSERT_SLOW(n <= CPU_TILE_ROWS);
    if (b == NULL || b->type == a->type) {
        struct kern_rows part = backend_cpu_rows_part(&rows[kernels_form(a->type)], first, n);
        kernels_gemm(c->k, a->type)(&g, &part);
        return tile;
    }
    /* Two types, one after the other. */
    for (int i = 0; i < 2; i++) {
        enum dtype type = panels->now[i].w->type;
        struct kern_rows part = backend_cpu_rows_part(&rows[kernels_form(type)], first, n);
        struct kern_gemm one = g;
        one.panel[0] = g.panel[i];
        one.out[0] = g.out[i];
        one.panel[1] = NULL;
        one.next[0] = g.next[i];
        one.next[1] = NULL;
        kernels_gemm(c->k, type)(&one, &part);
    }
    return tile;
}
