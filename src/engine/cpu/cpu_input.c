/* cpu_input.c: the input of a step: normed, and quantised once for all weights that share it.
 *
 *   few rows:  every thread makes its own copy; nobody waits
 *   many rows: each thread makes a share of one copy, then the team meets
 *
 * Both run the same functions over one row at a time, so that the bits do not depend on which.
 * Forms are kernels.h's: floats, int8 per 32 or per 256 columns. */
#include "engine/cpu/cpu.h"

#include "base/assert.h"
#include "base/checked.h"

/* With so few rows a second copy costs less than meeting. */
enum { OWN_ROWS_MAX = 2, SUMS_PER = 16, SCALES_PER = 32 };

/* ---- memory ---- */

/* Arrays of `n` rows of a form, one after the other in a room. */
struct layout {
    size_t d, sums, bytes;
};

static size_t align_line(size_t bytes)
{
    return (bytes + CACHE_LINE_BYTES - 1) & ~(size_t)(CACHE_LINE_BYTES - 1);
}

static struct layout layout_of(enum kern_form form, size_t n_cols, size_t n_rows)
{
    if (form == KERN_F32) {
        return (struct layout){0, 0, n_rows * n_cols * sizeof(float)};
    }
    struct layout l;
    l.d = align_line(n_rows * n_cols);
    l.sums = l.d + align_line(n_rows * (n_cols / SCALES_PER) * sizeof(float));
    l.bytes = l.sums + align_line(n_rows * (n_cols / SUMS_PER) * sizeof(int16_t));
    return l;
}

static struct kern_rows rows_in_room(const struct cpu_room *room, enum kern_form form,
                                     uint32_t n_cols, uint32_t n_rows)
{
    struct layout l = layout_of(form, n_cols, n_rows);
    const unsigned char *at = room->at;
    ASSERT(l.bytes <= room->bytes);
    if (form == KERN_F32) {
        return (struct kern_rows){.f32 = room->at, .f32_stride = n_cols, .n = n_rows};
    }
    return (struct kern_rows){
        .q8 = room->at,
        .d = (const float *)(const void *)(at + l.d),
        .sums = (const int16_t *)(const void *)(at + l.sums),
        .q_stride = n_cols,
        .d_stride = n_cols / SCALES_PER,
        .sums_stride = n_cols / SUMS_PER,
        .n = n_rows,
    };
}

enum rc backend_cpu_input_room(struct cpu *c, const struct weight *w, struct err *err)
{
    enum kern_form form = kernels_form(w->type);
    uint64_t n_rows = w->n_experts > 1 ? c->rows_max : c->tokens_max;
    uint64_t n;
    bool fits = checked_mul((uint64_t)w->n_cols, n_rows, &n) && n <= SIZE_MAX / 8 &&
                backend_cpu_room_grow(c, &c->rows[form], layout_of(form, w->n_cols, n_rows).bytes);
    for (uint32_t i = 0; i < c->n_threads && fits; i++) {
        struct cpu_thread *t = &c->threads[i];
        size_t own = layout_of(form, w->n_cols, OWN_ROWS_MAX).bytes;
        fits = backend_cpu_room_grow(c, &t->own[form], own) &&
               backend_cpu_room_grow(c, &t->line, w->n_cols * sizeof(float));
    }
    return fits ? RC_OK
                : err_set(err, RC_NOMEM, "no memory for activations of %u columns", w->n_cols);
}

/* ---- making ---- */

struct cpu_input backend_cpu_input(const struct rows_in *in, uint32_t n_cols, uint32_t n_rows)
{
    ASSERT(in->norm.kind == NORM_NONE || in->norm.weight.n == n_cols);
    return (struct cpu_input){.in = *in, .n_cols = n_cols, .n_rows = n_rows};
}

void backend_cpu_input_want(const struct cpu *c, struct cpu_input *input, const struct weight *w)
{
    enum kern_form form = kernels_form(w->type);
    ASSERT(w->n_cols == input->n_cols);
    if (input->wanted[form]) {
        return;
    }
    input->wanted[form] = true;
    if (form == KERN_F32 && input->in.norm.kind == NORM_NONE) {
        input->rows[form] = (struct kern_rows){
            .f32 = input->in.x, .f32_stride = input->in.stride, .n = input->n_rows};
    } else if (input->n_rows > OWN_ROWS_MAX) {
        input->rows[form] = rows_in_room(&c->rows[form], form, input->n_cols, input->n_rows);
    }
}

/* One row in all forms that are wanted. */
static void make_row(const struct cpu *c, const struct cpu_input *input, uint32_t thread,
                     const struct kern_rows *to, size_t r)
{
    const float *x = input->in.x + r * input->in.stride;
    if (input->in.norm.kind != NORM_NONE) {
        const struct kern_rows *f32 = &to[KERN_F32];
        const float *row = input->wanted[KERN_F32] ? f32->f32 + r * f32->f32_stride
                                                   : (const float *)c->threads[thread].line.at;
        backend_cpu_norm_row(c, &input->in.norm, (float *)(uintptr_t)row, x, input->n_cols);
        x = row;
    }
    for (enum kern_form form = KERN_Q32; form < KERN_FORMS; form++) {
        const struct kern_rows *q = &to[form];
        if (input->wanted[form]) {
            /* The rows are const to kernels; they lie in rooms of ours. */
            c->k->floats->quantise[form](x, input->n_cols,
                                         (int8_t *)(uintptr_t)(q->q8 + r * q->q_stride),
                                         (float *)(uintptr_t)(q->d + r * q->d_stride),
                                         (int16_t *)(uintptr_t)(q->sums + r * q->sums_stride));
        }
    }
}

static bool needs_making(const struct cpu_input *input)
{
    return input->in.norm.kind != NORM_NONE || input->wanted[KERN_Q32] || input->wanted[KERN_Q256];
}

const struct kern_rows *backend_cpu_input_make(struct cpu *c, const struct cpu_input *input,
                                               uint32_t thread, struct kern_rows own[KERN_FORMS])
{
    if (!needs_making(input)) {
        return input->rows;
    }
    if (input->n_rows > OWN_ROWS_MAX) {
        uint64_t first = (uint64_t)input->n_rows * thread / c->n_threads;
        uint64_t end = (uint64_t)input->n_rows * (thread + 1) / c->n_threads;
        for (uint64_t r = first; r < end; r++) {
            make_row(c, input, thread, input->rows, r);
        }
        team_barrier(c->team);
        return input->rows;
    }
    for (enum kern_form form = 0; form < KERN_FORMS; form++) {
        bool as_it_is = form == KERN_F32 && input->in.norm.kind == NORM_NONE;
        if (input->wanted[form]) {
            own[form] = as_it_is ? input->rows[form]
                                 : rows_in_room(&c->threads[thread].own[form], form, input->n_cols,
                                                input->n_rows);
        }
    }
    for (uint32_t r = 0; r < input->n_rows; r++) {
        make_row(c, input, thread, own, r);
    }
    return own;
}

struct kern_rows backend_cpu_rows_part(const struct kern_rows *all, size_t first, uint32_t n)
{
    struct kern_rows part = *all;
    part.n = n;
    if (part.index != NULL) {
        part.index += first;
    } else if (part.f32 != NULL) {
        part.f32 += first * part.f32_stride;
    } else {
        part.q8 += first * part.q_stride;
        part.d += first * part.d_stride;
        part.sums += first * part.sums_stride;
    }
    return part;
}
