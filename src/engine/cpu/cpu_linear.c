/* cpu_linear.c: the linear steps of a layer, each one fork of the team.
 *
 *   linear: out = norm(in) · wᵀ + bias, or += : one unit of work is two panels, 32 outputs
 *   gated:  out = act(gate · norm(in), up · norm(in)): one unit is a panel of each, 16 outputs
 *
 * Every thread makes or waits for the input (cpu_input.c), then takes units: products go to the
 * thread's own tile and from there, biased, activated or added, to where they belong. A unit is
 * computed whole by one thread. */
#include "engine/cpu/cpu.h"

#include "base/assert.h"

/* ---- linear ---- */

struct linear_job {
    struct team_items items;
    struct cpu *c;
    const struct linear *linears;
    uint32_t n_linears;
    struct cpu_input input;
    uint32_t first[BACKEND_LINEARS_MAX + 1]; /* units before each weight */
};

/* The panels of a unit; returns which weight they are of. */
static uint32_t linear_panels(const struct linear_job *j, uint32_t unit, struct cpu_panel out[2])
{
    uint32_t i = 0;
    while (unit >= j->first[i + 1]) {
        i++;
    }
    const struct weight *w = j->linears[i].w;
    uint32_t index = 2 * (unit - j->first[i]);
    bool two = index + 1 < pack_panels_of(w->n_rows);
    out[0] = (struct cpu_panel){w, 0, index};
    out[1] = (struct cpu_panel){two ? w : NULL, 0, index + 1};
    return i;
}

static void linear_unit(const struct linear_job *j, uint32_t thread, const struct kern_rows *rows,
                        uint32_t unit, uint32_t next)
{
    struct cpu_panels panels = {0};
    const struct linear *l = &j->linears[linear_panels(j, unit, panels.now)];
    if (next != TEAM_ITEM_NONE) {
        (void)linear_panels(j, next, panels.next);
    }
    size_t stride = l->out_stride != 0 ? l->out_stride : l->w->n_rows;
    uint32_t at = panels.now[0].index * PACK_ROWS;
    struct kern_put put = {
        .bias = l->bias.data != NULL ? l->bias.data + at : NULL,
        .tile_stride = CPU_TILE_COLS,
        .out_stride = stride,
        .n = MIN(l->w->n_rows - at, (uint32_t)CPU_TILE_COLS),
        .softcap = l->softcap,
        .add = l->accumulate,
    };
    for (uint32_t t = 0; t < j->input.n_rows; t += CPU_TILE_ROWS) {
        put.n_rows = MIN(j->input.n_rows - t, (uint32_t)CPU_TILE_ROWS);
        put.tile = backend_cpu_multiply(j->c, thread, &panels, rows, t, put.n_rows);
        put.out = l->out + t * stride + at;
        j->c->k->floats->put(&put);
    }
}

static void linear_thread(void *ctx, uint32_t thread)
{
    struct linear_job *j = ctx;
    struct kern_rows own[KERN_FORMS];
    const struct kern_rows *rows = backend_cpu_input_make(j->c, &j->input, thread, own);
    struct team_cursor cursor = team_items_begin(&j->items, thread);
    uint32_t unit;
    while (team_items_next(&cursor, &unit)) {
        linear_unit(j, thread, rows, unit, team_items_guess(&cursor));
    }
}

void backend_cpu_linear(struct backend *b, const struct linear *linears, uint32_t n_linears,
                        const struct rows_in *in, uint32_t n_tokens)
{
    struct cpu *c = cpu_of(b);
    ASSERT(n_linears > 0 && n_linears <= BACKEND_LINEARS_MAX && n_tokens <= c->tokens_max);
    struct linear_job job = {
        .c = c,
        .linears = linears,
        .n_linears = n_linears,
        .input = backend_cpu_input(in, linears[0].w->n_cols, n_tokens),
    };
    for (uint32_t i = 0; i < n_linears; i++) {
        backend_cpu_input_want(c, &job.input, linears[i].w);
        job.first[i + 1] = job.first[i] + (pack_panels_of(linears[i].w->n_rows) + 1) / 2;
    }
    team_items_init(&job.items, c->team, job.first[n_linears]);
    team_run(c->team, linear_thread, &job);
}

/* ---- gate and up ---- */

struct gated_job {
    struct team_items items;
    struct cpu *c;
    const struct gated *g;
    struct cpu_input input;
    float *out;
};

/* Without a gate, up stands in both places; its panel is multiplied once. */
static void gated_panels(const struct gated *g, uint32_t unit, struct cpu_panel out[2])
{
    out[0] = (struct cpu_panel){g->up.w, 0, unit};
    out[1] = (struct cpu_panel){g->gate.w, 0, unit};
}

static void gated_unit(const struct gated_job *j, uint32_t thread, const struct kern_rows *rows,
                       uint32_t unit, uint32_t next)
{
    const struct gated *g = j->g;
    struct cpu_panels panels = {0};
    gated_panels(g, unit, panels.now);
    if (next != TEAM_ITEM_NONE) {
        gated_panels(g, next, panels.next);
    }
    uint32_t n_ff = g->up.w->n_rows;
    uint32_t at = unit * PACK_ROWS;
    struct kern_act act = {
        .kind = g->act,
        .gate_bias = g->gate.bias.data != NULL ? g->gate.bias.data + at : NULL,
        .up_bias = g->up.bias.data != NULL ? g->up.bias.data + at : NULL,
        .tile_stride = CPU_TILE_COLS,
        .out_stride = n_ff,
        .n = MIN(n_ff - at, (uint32_t)PACK_ROWS),
    };
    for (uint32_t t = 0; t < j->input.n_rows; t += CPU_TILE_ROWS) {
        act.n_rows = MIN(j->input.n_rows - t, (uint32_t)CPU_TILE_ROWS);
        act.up = backend_cpu_multiply(j->c, thread, &panels, rows, t, act.n_rows);
        act.gate = g->gate.w != NULL ? act.up + PACK_ROWS : act.up;
        act.out = j->out + (size_t)t * n_ff + at;
        j->c->k->floats->activate(&act);
    }
}

static void gated_thread(void *ctx, uint32_t thread)
{
    struct gated_job *j = ctx;
    struct kern_rows own[KERN_FORMS];
    const struct kern_rows *rows = backend_cpu_input_make(j->c, &j->input, thread, own);
    struct team_cursor cursor = team_items_begin(&j->items, thread);
    uint32_t unit;
    while (team_items_next(&cursor, &unit)) {
        gated_unit(j, thread, rows, unit, team_items_guess(&cursor));
    }
}

void backend_cpu_gated(struct backend *b, float *out, const struct gated *g,
                       const struct rows_in *in, uint32_t n_tokens)
{
    struct cpu *c = cpu_of(b);
    ASSERT(n_tokens <= c->tokens_max);
    struct gated_job job = {
        .c = c,
        .g = g,
        .input = backend_cpu_input(in, g->up.w->n_cols, n_tokens),
        .out = out,
    };
    backend_cpu_input_want(c, &job.input, g->up.w);
    if (g->gate.w != NULL) {
        ASSERT(g->gate.w->n_rows == g->up.w->n_rows);
        backend_cpu_input_want(c, &job.input, g->gate.w);
    }
    team_items_init(&job.items, c->team, pack_panels_of(g->up.w->n_rows));
    team_run(c->team, gated_thread, &job);
}
