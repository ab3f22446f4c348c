/* cpu_norm_rope.c: embeddings, norms, rotations, activations and residual sums: rows of floats,
 * cut by rows. */
#include "engine/cpu/cpu.h"

#include "base/assert.h"
#include "engine/format/quant.h"

/* ---- embeddings ---- */

struct embed_job {
    float *out;
    const struct weight *w;
    const int32_t *tokens;
    float scale;
};

static void embed_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct embed_job *j = ctx;
    UNUSED(thread);
    for (size_t t = first; t < first + n; t++) {
        const unsigned char *data = j->w->data;
        float *out = j->out + t * j->w->n_cols;
        data += (uint64_t)(uint32_t)j->tokens[t] * j->w->row_bytes;
        quant_dequantize(j->w->type, data, out, j->w->n_cols);
        for (uint32_t i = 0; i < j->w->n_cols; i++) {
            out[i] *= j->scale;
        }
    }
}

void backend_cpu_embed(struct backend *b, float *out, const struct weight *w, const int32_t *tokens,
                       uint32_t n_tokens, float scale)
{
    struct embed_job job = {out, w, tokens, scale};
    backend_cpu_for_rows(cpu_of(b), n_tokens, w->n_cols, embed_rows, &job);
}

/* ---- norms ---- */

struct norm_job {
    const struct kern_float_table *k;
    float *out;
    const float *in;
    const float *weight;
    float eps;
    uint32_t n_cols;
};

static void norm_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct norm_job *j = ctx;
    UNUSED(thread);
    for (size_t r = first; r < first + n; r++) {
        j->k->rms_norm(j->out + r * j->n_cols, j->in + r * j->n_cols, j->weight, j->eps, j->n_cols);
    }
}

void backend_cpu_rms_norm(struct backend *b, float *out, const float *in, struct vec weight,
                          float eps, uint32_t n_rows, uint32_t n_cols)
{
    ASSERT(weight.n == n_cols);
    struct norm_job job = {cpu_of(b)->k->floats, out, in, weight.data, eps, n_cols};
    backend_cpu_for_rows(cpu_of(b), n_rows, n_cols, norm_rows, &job);
}

/* ---- rotations ---- */

struct rope_job {
    const struct kern_float_table *k;
    float *x;
    const struct rope *r;
    uint32_t n_heads, d_head;
    size_t row_stride;
};

static void rope_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct rope_job *j = ctx;
    UNUSED(thread);
    for (size_t t = first; t < first + n; t++) {
        const float *cos_sin = j->r->cos_sin + t * j->r->n_rot;
        for (size_t h = 0; h < j->n_heads; h++) {
            float *x = j->x + t * j->row_stride + h * j->d_head;
            j->k->rope(x, cos_sin, j->r->n_rot, j->r->style);
        }
    }
}

void backend_cpu_rope(struct backend *b, float *x, uint32_t n_tokens, uint32_t n_heads,
                      uint32_t d_head, uint32_t row_stride, const struct rope *r)
{
    ASSERT(r->n_rot <= d_head && r->n_rot % 2 == 0);
    struct rope_job job = {cpu_of(b)->k->floats, x, r, n_heads, d_head, row_stride};
    backend_cpu_for_rows(cpu_of(b), n_tokens, n_heads * d_head, rope_rows, &job);
}

/* ---- activations ---- */

/* A row is cut too: at one token it is all there is. */
enum { ACT_PIECE = 1024, ACT_COST = 4 };

struct act_job {
    const struct kern_float_table *k;
    float *out;
    const struct act *a;
    uint32_t pieces; /* of a row */
};

static void act_pieces(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct act_job *j = ctx;
    const struct act *a = j->a;
    UNUSED(thread);
    for (uint32_t i = first; i < first + n; i++) {
        size_t t = i / j->pieces;
        uint32_t from = i % j->pieces * ACT_PIECE;
        j->k->activate(a->kind, j->out + t * a->n + from, a->gate + t * a->gate_stride + from,
                       a->up + t * a->up_stride + from, MIN(a->n - from, (uint32_t)ACT_PIECE));
    }
}

void backend_cpu_activate(struct backend *b, float *out, const struct act *a, uint32_t n_tokens)
{
    struct act_job job = {cpu_of(b)->k->floats, out, a, (a->n + ACT_PIECE - 1) / ACT_PIECE};
    backend_cpu_for_rows(cpu_of(b), n_tokens * job.pieces, ACT_PIECE * ACT_COST, act_pieces, &job);
}

/* ---- residual sums ---- */

enum { ADD_PIECE = 4096 };

struct add_job {
    const struct kern_float_table *k;
    float *x;
    const float *y;
    size_t n;
};

static void add_pieces(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct add_job *j = ctx;
    UNUSED(thread);
    size_t from = (size_t)first * ADD_PIECE;
    size_t to = MIN(j->n, from + (size_t)n * ADD_PIECE);
    j->k->add(j->x + from, j->y + from, to - from);
}

void backend_cpu_add(struct backend *b, float *x, const float *y, size_t n)
{
    struct add_job job = {cpu_of(b)->k->floats, x, y, n};
    uint32_t pieces = (uint32_t)((n + ADD_PIECE - 1) / ADD_PIECE);
    backend_cpu_for_rows(cpu_of(b), pieces, ADD_PIECE, add_pieces, &job);
}
