/* cpu_linear.c: linear layers: out = in · wᵀ.
 *
 * The input is quantised once per form that the weights of the call ask for, and shared by them
 * all and by all threads. Then the rows of all weights together are cut into tiles of
 * KERN_TILE_ROWS; a tile is computed whole by one thread, into its own memory, and from there
 * biased, added and written out. */
#include "engine/cpu/cpu.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/mem.h"

/* With fewer rows no kernel wants 16-bit copies of the activations. */
enum { ROWS_ALIGN = 256, SUMS_PER = 16, WIDE_ROWS_MIN = 8 };

static const struct kern_linear_type *linear_type(const struct cpu *c, const struct weight *w)
{
    return &c->k->linear->types[w->type];
}

/* ---- memory ---- */

static enum rc normed_room(struct cpu *c, const struct weight *w, struct err *err)
{
    uint32_t n_cols = MAX(w->n_cols, c->n_normed);
    if (n_cols == c->n_normed && c->tokens_max == c->normed_rows) {
        return RC_OK;
    }
    size_t bytes;
    mem_free(c->normed);
    c->normed = checked_mul((uint64_t)n_cols * sizeof(float), (uint64_t)c->tokens_max, &bytes)
                    ? mem_try_aligned(CACHE_LINE_BYTES, bytes)
                    : NULL;
    if (c->normed == NULL) {
        return err_set(err, RC_NOMEM, "no memory for %u rows of activations", c->tokens_max);
    }
    c->n_normed = n_cols;
    c->normed_rows = c->tokens_max;
    return RC_OK;
}

enum rc backend_cpu_rows_room(struct cpu *c, const struct weight *w, struct err *err)
{
    enum rc rc = normed_room(c, w, err);
    if (rc != RC_OK) {
        return rc;
    }
    enum kern_form form = linear_type(c, w)->form;
    struct cpu_rows_room *room = &c->room[form];
    uint64_t n_cols = MAX(w->n_cols, room->n_cols_max);
    if (form == KERN_F32 || (n_cols == room->n_cols_max && c->rows_max == room->n_rows_max)) {
        return RC_OK;
    }
    uint64_t n;
    if (!checked_align_up(n_cols, ROWS_ALIGN, &n_cols) ||
        !checked_mul(n_cols, (uint64_t)c->rows_max, &n) || n > SIZE_MAX / 4) {
        return err_set(err, RC_NOMEM, "rows of %u weights are too long", w->n_cols);
    }
    mem_free(room->q8);
    mem_free(room->q16);
    mem_free(room->d);
    mem_free(room->sums);
    room->q8 = mem_try_aligned(CACHE_LINE_BYTES, n);
    room->q16 = mem_try_aligned(CACHE_LINE_BYTES, n * sizeof(int16_t));
    room->d = mem_try_aligned(CACHE_LINE_BYTES, n / 32 * sizeof(float));
    room->sums = mem_try_aligned(CACHE_LINE_BYTES, n / SUMS_PER * sizeof(int16_t));
    if (room->q8 == NULL || room->q16 == NULL || room->d == NULL || room->sums == NULL) {
        return err_set(err, RC_NOMEM, "no memory for %u rows of activations", c->rows_max);
    }
    room->n_cols_max = (uint32_t)n_cols;
    room->n_rows_max = c->rows_max;
    return RC_OK;
}

/* ---- input ---- */

struct quantise_job {
    struct cpu *c;
    kern_quantise_fn fn;
    const struct cpu_rows_room *room;
    const struct kern_rows *rows;
    const float *in;
    size_t in_stride;
    uint32_t n_cols;
};

static void quantise_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct quantise_job *j = ctx;
    UNUSED(thread);
    for (size_t r = first; r < first + n; r++) {
        int16_t *q16 = j->rows->q16 != NULL ? j->room->q16 + r * j->rows->q_stride : NULL;
        j->fn(j->in + r * j->in_stride, j->n_cols, j->room->q8 + r * j->rows->q_stride, q16,
              j->room->d + r * j->rows->d_stride, j->room->sums + r * j->rows->sums_stride);
    }
}

void backend_cpu_quantise(struct cpu *c, struct cpu_input *input, const struct weight *w,
                          const float *in, uint32_t n_rows, size_t in_stride)
{
    const struct kern_linear_type *type = linear_type(c, w);
    struct kern_rows *rows = &input->rows[type->form];
    if (input->made[type->form]) {
        return;
    }
    input->made[type->form] = true;
    if (type->form == KERN_F32) {
        *rows = (struct kern_rows){.f32 = in, .f32_stride = in_stride, .n = n_rows};
        return;
    }
    const struct cpu_rows_room *room = &c->room[type->form];
    ASSERT(w->n_cols <= room->n_cols_max && n_rows <= room->n_rows_max);
    *rows = (struct kern_rows){
        .q8 = room->q8,
        .q16 = n_rows >= WIDE_ROWS_MIN ? room->q16 : NULL,
        .d = room->d,
        .sums = room->sums,
        .q_stride = w->n_cols,
        .d_stride = w->n_cols / 32,
        .sums_stride = w->n_cols / SUMS_PER,
        .n = n_rows,
    };
    struct quantise_job job = {
        .c = c,
        .fn = c->k->linear->quantise[type->form],
        .room = room,
        .rows = rows,
        .in = in,
        .in_stride = in_stride,
        .n_cols = w->n_cols,
    };
    backend_cpu_for_rows(c, n_rows, w->n_cols, quantise_rows, &job);
}

/* ---- tiles ---- */

void backend_cpu_tile(const struct cpu *c, uint32_t thread, const struct weight *w, uint32_t expert,
                      uint32_t r0, uint32_t n_rows, const struct kern_rows *rows, float *out)
{
    const struct kern_linear_type *type = linear_type(c, w);
    const unsigned char *data = w->data;
    struct kern_tile tile = {
        .w = data + ((uint64_t)expert * w->n_rows + r0) * w->row_bytes,
        .row_bytes = w->row_bytes,
        .n_rows = n_rows,
        .n_cols = w->n_cols,
        .out = out,
        .out_stride = KERN_TILE_ROWS,
    };
    if (rows->q16 != NULL && rows->n >= type->gemm_tokens_min) {
        type->gemm(&tile, rows, c->threads[thread].panel);
    } else {
        type->dot(&tile, rows);
    }
}

struct linear_job {
    struct cpu *c;
    const struct linear *linears;
    uint32_t n_linears;
    struct cpu_input input;
    uint32_t first[BACKEND_LINEARS_MAX + 1]; /* tiles before each weight */
};

static void write_row(const struct linear *l, float *out, const float *in, uint32_t r0, uint32_t n)
{
    const float *bias = l->bias.data != NULL ? l->bias.data + r0 : NULL;
    for (uint32_t i = 0; i < n; i++) {
        float y = bias != NULL ? in[i] + bias[i] : in[i];
        y = l->softcap > 0 ? l->softcap * tanhf(y / l->softcap) : y;
        out[i] = l->accumulate ? out[i] + y : y;
    }
}

static void run_linear_tile(void *ctx, uint32_t thread, uint32_t item)
{
    const struct linear_job *j = ctx;
    uint32_t i = 0;
    while (item >= j->first[i + 1]) {
        i++;
    }
    const struct linear *l = &j->linears[i];
    const struct weight *w = l->w;
    const struct kern_rows *rows = &j->input.rows[linear_type(j->c, w)->form];
    uint32_t r0 = (item - j->first[i]) * KERN_TILE_ROWS;
    uint32_t n = MIN(w->n_rows - r0, (uint32_t)KERN_TILE_ROWS);
    size_t stride = l->out_stride != 0 ? l->out_stride : w->n_rows;
    float *tile = j->c->threads[thread].tile[0];
    backend_cpu_tile(j->c, thread, w, 0, r0, n, rows, tile);
    for (size_t t = 0; t < rows->n; t++) {
        write_row(l, l->out + t * stride + r0, tile + t * KERN_TILE_ROWS, r0, n);
    }
}

void backend_cpu_linear(struct backend *b, const struct linear *linears, uint32_t n_linears,
                        const struct rows_in *in, uint32_t n_tokens)
{
    struct cpu *c = cpu_of(b);
    ASSERT(n_linears <= BACKEND_LINEARS_MAX && n_tokens <= c->rows_max);
    struct linear_job job = {.c = c, .linears = linears, .n_linears = n_linears};
    struct rows_in x = backend_cpu_normed(c, in, linears[0].w->n_cols, n_tokens);
    for (uint32_t i = 0; i < n_linears; i++) {
        const struct weight *w = linears[i].w;
        backend_cpu_quantise(c, &job.input, w, x.x, n_tokens, x.stride);
        job.first[i + 1] = job.first[i] + (w->n_rows + KERN_TILE_ROWS - 1) / KERN_TILE_ROWS;
    }
    team_for(c->team, job.first[n_linears], run_linear_tile, &job);
}

/* ---- gate and up ---- */

struct gated_job {
    struct cpu *c;
    const struct gated *g;
    struct cpu_input input;
    float *out;
};

/* Tile rows [r0, r0 + n) of a half, with their biases. */
static void half_tile(const struct gated_job *j, uint32_t thread, const struct gated_half *h,
                      uint32_t r0, uint32_t n, float *tile)
{
    const struct kern_rows *rows = &j->input.rows[linear_type(j->c, h->w)->form];
    backend_cpu_tile(j->c, thread, h->w, 0, r0, n, rows, tile);
    for (size_t t = 0; t < rows->n && h->bias.data != NULL; t++) {
        j->c->k->floats->add(tile + t * KERN_TILE_ROWS, h->bias.data + r0, n);
    }
}

static void run_gated_tile(void *ctx, uint32_t thread, uint32_t item)
{
    const struct gated_job *j = ctx;
    const struct gated *g = j->g;
    uint32_t n_ff = g->up.w->n_rows;
    uint32_t r0 = item * KERN_TILE_ROWS;
    uint32_t n = MIN(n_ff - r0, (uint32_t)KERN_TILE_ROWS);
    float *const *tile = j->c->threads[thread].tile;
    half_tile(j, thread, &g->up, r0, n, tile[1]);
    if (g->gate.w != NULL) {
        half_tile(j, thread, &g->gate, r0, n, tile[0]);
    }
    uint32_t n_tokens = j->input.rows[linear_type(j->c, g->up.w)->form].n;
    for (size_t t = 0; t < n_tokens; t++) {
        const float *up = tile[1] + t * KERN_TILE_ROWS;
        const float *gate = g->gate.w != NULL ? tile[0] + t * KERN_TILE_ROWS : up;
        j->c->k->floats->activate(g->act, j->out + t * n_ff + r0, gate, up, n);
    }
}

void backend_cpu_gated(struct backend *b, float *out, const struct gated *g,
                       const struct rows_in *in, uint32_t n_tokens)
{
    struct cpu *c = cpu_of(b);
    uint32_t n_ff = g->up.w->n_rows;
    ASSERT(n_tokens <= c->rows_max);
    struct gated_job job = {.c = c, .g = g, .out = out};
    struct rows_in x = backend_cpu_normed(c, in, g->up.w->n_cols, n_tokens);
    backend_cpu_quantise(c, &job.input, g->up.w, x.x, n_tokens, x.stride);
    if (g->gate.w != NULL) {
        ASSERT(g->gate.w->n_rows == n_ff && g->gate.w->n_cols == g->up.w->n_cols);
        backend_cpu_quantise(c, &job.input, g->gate.w, x.x, n_tokens, x.stride);
    }
    team_for(c->team, (n_ff + KERN_TILE_ROWS - 1) / KERN_TILE_ROWS, run_gated_tile, &job);
}
