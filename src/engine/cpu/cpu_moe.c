/* cpu_moe.c: mixture of experts, grouped by expert (Shazeer et al. 2017; Mixtral 2024).
 *
 *   router logits ─► best k of each token ─► slots sorted by expert
 *        gate, up of all slots of an expert together ─► activation ─► inner[slot]
 *        down of all slots of an expert together ─► outer[slot]
 *   x[token] += weight * outer[slot] over its k slots, best first
 *
 * A slot is one token at one expert. An expert's weights are read once for all its slots. Equal
 * logits go to the lower expert number. It is one fork of the team, which meets at every arrow. */
#include "engine/cpu/cpu.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/checked.h"

/* ---- memory ---- */

/* The next `bytes` of a room, from the cache line at *at on. */
static void *carve(const struct cpu_room *room, size_t *at, size_t bytes)
{
    unsigned char *from = room->at;
    from += *at;
    *at += (bytes + CACHE_LINE_BYTES - 1) & ~(size_t)(CACHE_LINE_BYTES - 1);
    return from;
}

/* Lays the arrays out; returns the bytes that they take. With a room of no memory only counts. */
static size_t lay_out(struct cpu_moe_room *m, uint32_t tokens_max)
{
    size_t at = 0;
    size_t experts = ((size_t)m->n_experts + 1) * sizeof(uint32_t);
    size_t rows = (size_t)m->rows * sizeof(uint32_t);
    m->logits = carve(&m->all, &at, (size_t)tokens_max * m->n_experts * sizeof(float));
    m->inner = carve(&m->all, &at, (size_t)m->rows * m->wide * sizeof(float));
    m->outer = carve(&m->all, &at, (size_t)m->rows * m->wide * sizeof(float));
    m->weight = carve(&m->all, &at, rows);
    m->expert = carve(&m->all, &at, rows);
    m->slot = carve(&m->all, &at, rows);
    m->token = carve(&m->all, &at, rows);
    m->first = carve(&m->all, &at, experts);
    m->free = carve(&m->all, &at, experts);
    m->inner_unit = carve(&m->all, &at, experts);
    m->outer_unit = carve(&m->all, &at, experts);
    return at;
}

enum rc backend_cpu_moe_room(struct cpu *c, const struct weight *w, struct err *err)
{
    struct cpu_moe_room *m = &c->moe;
    m->wide = MAX(w->n_rows, m->wide);
    m->n_experts = MAX(w->n_experts, m->n_experts);
    m->rows = c->rows_max;
    uint64_t n;
    bool fits = checked_mul((uint64_t)m->rows, (uint64_t)MAX(m->wide, m->n_experts), &n) &&
                n <= SIZE_MAX / 64;
    struct cpu_moe_room count = {.wide = m->wide, .n_experts = m->n_experts, .rows = m->rows};
    if (!fits || !backend_cpu_room_grow(c, &m->all, lay_out(&count, c->tokens_max))) {
        return err_set(err, RC_NOMEM, "no memory for %u experts of %u rows", m->n_experts, m->wide);
    }
    (void)lay_out(m, c->tokens_max);
    return RC_OK;
}

/* ---- routing ---- */

/* The best n_used of logits[n_experts], descending, as experts and their weights. */
static void choose(const struct moe *m, float *logits, uint32_t *expert, float *weight)
{
    float max = -INFINITY;
    float all = 0.0f;
    for (uint32_t e = 0; e < m->n_experts; e++) {
        max = logits[e] > max ? logits[e] : max;
    }
    for (uint32_t e = 0; e < m->n_experts; e++) {
        logits[e] = expf(logits[e] - max);
        all += logits[e];
    }
    float best = 0.0f;
    for (uint32_t k = 0; k < m->n_used; k++) {
        uint32_t top = 0;
        for (uint32_t e = 1; e < m->n_experts; e++) {
            top = logits[e] > logits[top] ? e : top;
        }
        expert[k] = top;
        weight[k] = logits[top];
        best += logits[top];
        logits[top] = -1.0f;
    }
    bool among_best = m->gating == MOE_SOFTMAX_TOP_K || m->renormalise;
    for (uint32_t k = 0; k < m->n_used; k++) {
        weight[k] *= m->weight_scale / (among_best ? best : all);
    }
}

/* Slots of the tokens' choices, sorted by expert. */
static void sort_slots(struct cpu_moe_room *r, const struct moe *m, uint32_t n_tokens)
{
    uint32_t n = n_tokens * m->n_used;
    memset(r->first, 0, ((size_t)m->n_experts + 1) * sizeof(uint32_t));
    for (uint32_t i = 0; i < n; i++) {
        r->first[r->expert[i] + 1]++;
    }
    for (uint32_t e = 0; e < m->n_experts; e++) {
        r->first[e + 1] += r->first[e];
        r->free[e] = r->first[e];
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = r->free[r->expert[i]]++;
        r->slot[i] = slot;
        r->token[slot] = i / m->n_used;
    }
}

/* Units of work of a matrix of n_rows before each expert: n_panels panels of every expert that has
 * a slot. Returns how many there are. */
static uint32_t count_units(const struct cpu_moe_room *r, const struct moe *m, uint32_t *unit,
                            uint32_t n_rows, uint32_t n_panels)
{
    uint32_t per_expert = (pack_panels_of(n_rows) + n_panels - 1) / n_panels;
    uint32_t n = 0;
    for (uint32_t e = 0; e < m->n_experts; e++) {
        unit[e] = n;
        n += r->first[e + 1] > r->first[e] ? per_expert : 0;
    }
    unit[m->n_experts] = n;
    return n;
}

/* ---- a call ---- */

struct moe_job {
    struct team_items router, inner, outer;
    struct cpu *c;
    const struct moe *m;
    struct cpu_input tokens, slots; /* what the router, gate and up read; what down reads */
    float *x;
    uint32_t n_tokens;
};

/* The panels of one expert that a unit works on: its number, and its place among its own. */
struct moe_unit {
    uint32_t expert, place;
};

static struct moe_unit unit_at(const struct moe_job *j, const uint32_t *unit, uint32_t item)
{
    uint32_t low = 0; /* unit[low] <= item < unit[high] */
    uint32_t high = j->m->n_experts;
    while (high - low > 1) {
        uint32_t mid = low + (high - low) / 2;
        if (unit[mid] <= item) {
            low = mid;
        } else {
            high = mid;
        }
    }
    return (struct moe_unit){low, item - unit[low]};
}

static const float *expert_bias(struct vec bias, const struct weight *w, uint32_t expert,
                                uint32_t at)
{
    return bias.data != NULL ? bias.data + (size_t)expert * w->n_rows + at : NULL;
}

static void two_panels(const struct weight *w, struct moe_unit u, struct cpu_panel out[2])
{
    uint32_t index = 2 * u.place;
    bool two = index + 1 < pack_panels_of(w->n_rows);
    out[0] = (struct cpu_panel){w, u.expert, index};
    out[1] = (struct cpu_panel){two ? w : NULL, u.expert, index + 1};
}

/* ---- router ---- */

static void route_units(struct moe_job *j, uint32_t thread, const struct kern_rows *rows)
{
    const struct weight *w = j->m->router;
    struct team_cursor cursor = team_items_begin(&j->router, thread);
    uint32_t item;
    while (team_items_next(&cursor, &item)) {
        struct cpu_panels panels = {0};
        uint32_t at = item * CPU_TILE_COLS;
        two_panels(w, (struct moe_unit){0, item}, panels.now);
        struct kern_put put = {
            .bias = expert_bias(j->m->router_bias, w, 0, at),
            .tile_stride = CPU_TILE_COLS,
            .out_stride = w->n_rows,
            .n = MIN(w->n_rows - at, (uint32_t)CPU_TILE_COLS),
        };
        for (uint32_t t = 0; t < j->n_tokens; t += CPU_TILE_ROWS) {
            put.n_rows = MIN(j->n_tokens - t, (uint32_t)CPU_TILE_ROWS);
            put.tile = backend_cpu_multiply(j->c, thread, &panels, rows, t, put.n_rows);
            put.out = j->c->moe.logits + (size_t)t * w->n_rows + at;
            j->c->k->floats->put(&put);
        }
    }
}

/* Tokens first … end - 1 are this thread's in the steps between the products. */
static void share_of(const struct moe_job *j, uint32_t thread, uint32_t *first, uint32_t *end)
{
    *first = (uint32_t)((uint64_t)j->n_tokens * thread / j->c->n_threads);
    *end = (uint32_t)((uint64_t)j->n_tokens * (thread + 1) / j->c->n_threads);
}

/* Which slot is where; by all threads, which meet at the end. */
static void route(struct moe_job *j, uint32_t thread)
{
    struct cpu_moe_room *r = &j->c->moe;
    const struct moe *m = j->m;
    uint32_t first;
    uint32_t end;
    share_of(j, thread, &first, &end);
    for (size_t t = first; t < end; t++) {
        choose(m, r->logits + t * m->n_experts, r->expert + t * m->n_used,
               r->weight + t * m->n_used);
    }
    team_barrier(j->c->team);
    if (thread == 0) {
        sort_slots(r, m, j->n_tokens);
        team_items_init(&j->inner, j->c->team,
                        count_units(r, m, r->inner_unit, m->gate->n_rows, 1));
        team_items_init(&j->outer, j->c->team,
                        count_units(r, m, r->outer_unit, m->down->n_rows, 2));
    }
    team_barrier(j->c->team);
}

/* ---- experts ---- */

static void inner_panels(const struct moe_job *j, uint32_t item, struct cpu_panel out[2])
{
    struct moe_unit u = unit_at(j, j->c->moe.inner_unit, item);
    out[0] = (struct cpu_panel){j->m->up, u.expert, u.place};
    out[1] = (struct cpu_panel){j->m->gate, u.expert, u.place};
}

static void inner_unit(const struct moe_job *j, uint32_t thread, const struct kern_rows *all,
                       uint32_t item, uint32_t next)
{
    const struct moe *m = j->m;
    struct cpu_moe_room *r = &j->c->moe;
    struct cpu_panels panels = {0};
    inner_panels(j, item, panels.now);
    if (next != TEAM_ITEM_NONE) {
        inner_panels(j, next, panels.next);
    }
    uint32_t expert = panels.now[0].expert;
    uint32_t slot = r->first[expert];
    uint32_t n = r->first[expert + 1] - slot;
    uint32_t at = panels.now[0].index * PACK_ROWS;
    struct kern_rows rows[KERN_FORMS];
    for (int form = 0; form < KERN_FORMS; form++) {
        rows[form] = all[form];
        rows[form].index = r->token + slot;
    }
    struct kern_act act = {
        .kind = m->act,
        .gate_bias = expert_bias(m->gate_bias, m->gate, expert, at),
        .up_bias = expert_bias(m->up_bias, m->up, expert, at),
        .tile_stride = CPU_TILE_COLS,
        .out_stride = m->gate->n_rows,
        .n = MIN(m->gate->n_rows - at, (uint32_t)PACK_ROWS),
    };
    for (uint32_t s = 0; s < n; s += CPU_TILE_ROWS) {
        act.n_rows = MIN(n - s, (uint32_t)CPU_TILE_ROWS);
        act.up = backend_cpu_multiply(j->c, thread, &panels, rows, s, act.n_rows);
        act.gate = act.up + PACK_ROWS;
        act.out = r->inner + (size_t)(slot + s) * m->gate->n_rows + at;
        j->c->k->floats->activate(&act);
    }
}

static void outer_unit(const struct moe_job *j, uint32_t thread, const struct kern_rows *rows,
                       uint32_t item, uint32_t next)
{
    const struct weight *w = j->m->down;
    struct cpu_moe_room *r = &j->c->moe;
    struct cpu_panels panels = {0};
    struct moe_unit u = unit_at(j, r->outer_unit, item);
    two_panels(w, u, panels.now);
    if (next != TEAM_ITEM_NONE) {
        two_panels(w, unit_at(j, r->outer_unit, next), panels.next);
    }
    uint32_t slot = r->first[u.expert];
    uint32_t n = r->first[u.expert + 1] - slot;
    uint32_t at = panels.now[0].index * PACK_ROWS;
    struct kern_put put = {
        .bias = expert_bias(j->m->down_bias, w, u.expert, at),
        .tile_stride = CPU_TILE_COLS,
        .out_stride = w->n_rows,
        .n = MIN(w->n_rows - at, (uint32_t)CPU_TILE_COLS),
    };
    for (uint32_t s = 0; s < n; s += CPU_TILE_ROWS) {
        put.n_rows = MIN(n - s, (uint32_t)CPU_TILE_ROWS);
        put.tile = backend_cpu_multiply(j->c, thread, &panels, rows, slot + s, put.n_rows);
        put.out = r->outer + (size_t)(slot + s) * w->n_rows + at;
        j->c->k->floats->put(&put);
    }
}

/* x of this thread's tokens += what their experts said. */
static void add_slots(const struct moe_job *j, uint32_t thread)
{
    const struct cpu_moe_room *r = &j->c->moe;
    uint32_t n_embd = j->m->down->n_rows;
    uint32_t first;
    uint32_t end;
    share_of(j, thread, &first, &end);
    for (size_t t = first; t < end; t++) {
        for (size_t k = t * j->m->n_used; k < (t + 1) * j->m->n_used; k++) {
            j->c->k->floats->axpy(j->x + t * n_embd, r->outer + (size_t)r->slot[k] * n_embd,
                                  r->weight[k], n_embd);
        }
    }
}

static void moe_thread(void *ctx, uint32_t thread)
{
    struct moe_job *j = ctx;
    struct kern_rows own[KERN_FORMS];
    const struct kern_rows *rows = backend_cpu_input_make(j->c, &j->tokens, thread, own);
    route_units(j, thread, rows);
    team_barrier(j->c->team);
    route(j, thread);
    uint32_t item;
    struct team_cursor cursor = team_items_begin(&j->inner, thread);
    while (team_items_next(&cursor, &item)) {
        inner_unit(j, thread, rows, item, team_items_guess(&cursor));
    }
    team_barrier(j->c->team);
    rows = backend_cpu_input_make(j->c, &j->slots, thread, own);
    cursor = team_items_begin(&j->outer, thread);
    while (team_items_next(&cursor, &item)) {
        outer_unit(j, thread, rows, item, team_items_guess(&cursor));
    }
    team_barrier(j->c->team);
    add_slots(j, thread);
}

static void moe_tokens(struct cpu *c, float *x, const struct rows_in *in, const struct moe *m,
                       uint32_t n_tokens)
{
    struct rows_in inner = {.x = c->moe.inner, .stride = m->gate->n_rows};
    struct moe_job job = {
        .c = c,
        .m = m,
        .tokens = backend_cpu_input(in, m->router->n_cols, n_tokens),
        .slots = backend_cpu_input(&inner, m->down->n_cols, n_tokens * m->n_used),
        .x = x,
        .n_tokens = n_tokens,
    };
    backend_cpu_input_want(c, &job.tokens, m->router);
    backend_cpu_input_want(c, &job.tokens, m->gate);
    backend_cpu_input_want(c, &job.tokens, m->up);
    backend_cpu_input_want(c, &job.slots, m->down);
    team_items_init(&job.router, c->team, (pack_panels_of(m->router->n_rows) + 1) / 2);
    team_run(c->team, moe_thread, &job);
}

void backend_cpu_moe(struct backend *b, float *x, const struct rows_in *in, const struct moe *m,
                     uint32_t n_tokens)
{
    struct cpu *c = cpu_of(b);
    ASSERT(m->n_used > 0 && m->n_used <= BACKEND_EXPERTS_USED_MAX && m->n_used <= m->n_experts);
    ASSERT(m->n_experts <= c->moe.n_experts && m->gate->n_rows <= c->moe.wide);
    ASSERT(m->down->n_rows == m->router->n_cols && m->gate->n_rows == m->up->n_rows);
    ASSERT(in->x != x || in->norm.kind != NORM_NONE);
    size_t n_embd = m->router->n_cols;
    uint32_t step = MIN(c->rows_max / m->n_used, c->tokens_max);
    struct rows_in rows = *in;
    for (uint32_t t = 0; t < n_tokens; t += step) {
        rows.x = in->x + (size_t)t * in->stride;
        moe_tokens(c, x + t * n_embd, &rows, m, MIN(step, n_tokens - t));
    }
}
