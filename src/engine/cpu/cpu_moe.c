/* cpu_moe.c: mixture of experts, grouped by expert (Shazeer et al. 2017; Mixtral 2024).
 *
 *   router logits ─► best k of each token ─► slots sorted by expert
 *        gate, up of all slots of an expert together ─► activation ─► inner[slot]
 *        down of all slots of an expert together ─► outer[slot]
 *   out[token] += weight * outer[slot] over its k slots, best first
 *
 * A slot is one token at one expert. An expert's weights are read once for all its slots. Equal
 * logits go to the lower expert number. */
#include "engine/cpu/cpu.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

/* ---- memory ---- */

void backend_cpu_moe_drop(struct cpu *c)
{
    struct cpu_moe_room *m = &c->moe;
    mem_free(m->logits);
    mem_free(m->inner);
    mem_free(m->outer);
    mem_free(m->weight);
    mem_free(m->expert);
    mem_free(m->slot);
    mem_free(m->token);
    mem_free(m->first);
    mem_free(m->unit);
    *m = (struct cpu_moe_room){0};
}

enum rc backend_cpu_moe_room(struct cpu *c, const struct weight *w, struct err *err)
{
    struct cpu_moe_room *m = &c->moe;
    if (w->n_rows <= m->wide && w->n_experts <= m->n_experts) {
        return RC_OK;
    }
    uint32_t wide = MAX(w->n_rows, m->wide);
    uint32_t n_experts = MAX(w->n_experts, m->n_experts);
    size_t rows = c->rows_max;
    backend_cpu_moe_drop(c);
    m->logits = mem_try_zalloc_array(rows * n_experts, sizeof(float));
    m->inner = mem_try_zalloc_array(rows * wide, sizeof(float));
    m->outer = mem_try_zalloc_array(rows * wide, sizeof(float));
    m->weight = mem_try_zalloc_array(rows, sizeof(float));
    m->expert = mem_try_zalloc_array(rows, sizeof(uint32_t));
    m->slot = mem_try_zalloc_array(rows, sizeof(uint32_t));
    m->token = mem_try_zalloc_array(rows, sizeof(uint32_t));
    m->first = mem_try_zalloc_array((size_t)n_experts + 1, sizeof(uint32_t));
    m->unit = mem_try_zalloc_array((size_t)n_experts + 1, sizeof(uint32_t));
    if (m->logits == NULL || m->inner == NULL || m->outer == NULL || m->weight == NULL ||
        m->expert == NULL || m->slot == NULL || m->token == NULL || m->first == NULL ||
        m->unit == NULL) {
        return err_set(err, RC_NOMEM, "no memory for %u experts of %u rows", n_experts, wide);
    }
    m->wide = wide;
    m->n_experts = n_experts;
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
        r->unit[e] = r->first[e]; /* the next free slot of each, until count_units */
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = r->unit[r->expert[i]]++;
        r->slot[i] = slot;
        r->token[slot] = i / m->n_used;
    }
}

/* Units of work: tiles of n_rows rows of every expert that has a slot. */
static uint32_t count_units(struct cpu_moe_room *r, const struct moe *m, uint32_t n_rows)
{
    uint32_t tiles = (n_rows + KERN_TILE_ROWS - 1) / KERN_TILE_ROWS;
    uint32_t n = 0;
    for (uint32_t e = 0; e < m->n_experts; e++) {
        r->unit[e] = n;
        n += r->first[e + 1] > r->first[e] ? tiles : 0;
    }
    r->unit[m->n_experts] = n;
    return n;
}

/* ---- experts ---- */

struct moe_job {
    struct cpu *c;
    const struct moe *m;
    struct cpu_input input;
    float *out;
    uint32_t n_embd;
};

/* What a unit works on. */
struct moe_unit {
    uint32_t expert, r0, n_rows;
    uint32_t slot, n_slots;
};

static struct moe_unit unit_at(const struct moe_job *j, uint32_t item, uint32_t n_rows)
{
    const struct cpu_moe_room *r = &j->c->moe;
    uint32_t e = 0;
    while (item >= r->unit[e + 1]) {
        e++;
    }
    uint32_t r0 = (item - r->unit[e]) * KERN_TILE_ROWS;
    return (struct moe_unit){e, r0, MIN(n_rows - r0, (uint32_t)KERN_TILE_ROWS), r->first[e],
                             r->first[e + 1] - r->first[e]};
}

static const struct kern_rows *rows_of(const struct moe_job *j, const struct weight *w)
{
    return &j->input.rows[j->c->k->linear->types[w->type].form];
}

static void add_bias(float *tile, const struct moe_unit *u, struct vec bias, uint32_t n_rows)
{
    if (bias.data == NULL) {
        return;
    }
    const float *from = bias.data + (size_t)u->expert * n_rows + u->r0;
    for (uint32_t s = 0; s < u->n_slots; s++) {
        for (uint32_t i = 0; i < u->n_rows; i++) {
            tile[s * KERN_TILE_ROWS + i] += from[i];
        }
    }
}

static void run_inner(void *ctx, uint32_t thread, uint32_t item)
{
    const struct moe_job *j = ctx;
    const struct moe *m = j->m;
    struct cpu_moe_room *r = &j->c->moe;
    struct moe_unit u = unit_at(j, item, m->gate->n_rows);
    const struct weight *w[2] = {m->gate, m->up};
    const struct vec bias[2] = {m->gate_bias, m->up_bias};
    float *const *tile = j->c->threads[thread].tile;
    for (int i = 0; i < 2; i++) {
        struct kern_rows rows = *rows_of(j, w[i]);
        rows.index = r->token + u.slot;
        rows.n = u.n_slots;
        backend_cpu_tile(j->c, thread, w[i], u.expert, u.r0, u.n_rows, &rows, tile[i]);
        add_bias(tile[i], &u, bias[i], w[i]->n_rows);
    }
    for (size_t s = 0; s < u.n_slots; s++) {
        float *out = r->inner + (u.slot + s) * m->gate->n_rows + u.r0;
        j->c->k->floats->activate(m->act, out, tile[0] + s * KERN_TILE_ROWS,
                                  tile[1] + s * KERN_TILE_ROWS, u.n_rows);
    }
}

/* Rows [first, first + n) of what was quantised. */
static struct kern_rows rows_part(const struct kern_rows *all, size_t first, uint32_t n)
{
    struct kern_rows part = *all;
    part.n = n;
    if (all->f32 != NULL) {
        part.f32 += first * all->f32_stride;
        return part;
    }
    part.q8 += first * all->q_stride;
    part.q16 = all->q16 != NULL ? all->q16 + first * all->q_stride : NULL;
    part.d += first * all->d_stride;
    part.sums += first * all->sums_stride;
    return part;
}

static void run_outer(void *ctx, uint32_t thread, uint32_t item)
{
    const struct moe_job *j = ctx;
    const struct weight *w = j->m->down;
    struct moe_unit u = unit_at(j, item, w->n_rows);
    struct kern_rows rows = rows_part(rows_of(j, w), u.slot, u.n_slots);
    float *tile = j->c->threads[thread].tile[0];
    backend_cpu_tile(j->c, thread, w, u.expert, u.r0, u.n_rows, &rows, tile);
    add_bias(tile, &u, j->m->down_bias, w->n_rows);
    for (size_t s = 0; s < u.n_slots; s++) {
        memcpy(j->c->moe.outer + (u.slot + s) * w->n_rows + u.r0, tile + s * KERN_TILE_ROWS,
               u.n_rows * sizeof(float));
    }
}

static void add_slots(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct moe_job *j = ctx;
    const struct cpu_moe_room *r = &j->c->moe;
    UNUSED(thread);
    for (size_t t = first; t < first + n; t++) {
        for (size_t k = t * j->m->n_used; k < (t + 1) * j->m->n_used; k++) {
            j->c->k->floats->axpy(j->out + t * j->n_embd, r->outer + (size_t)r->slot[k] * j->n_embd,
                                  r->weight[k], j->n_embd);
        }
    }
}

/* ---- a call ---- */

static void moe_tokens(struct cpu *c, float *x, const struct rows_in *in, const struct moe *m,
                       uint32_t n_tokens)
{
    struct cpu_moe_room *r = &c->moe;
    struct moe_job job = {.c = c, .m = m, .out = x, .n_embd = m->router->n_cols};
    struct rows_in rows = backend_cpu_normed(c, in, job.n_embd, n_tokens);
    struct linear router = {.w = m->router, .bias = m->router_bias, .out = r->logits};
    backend_cpu_linear(&c->base, &router, 1, &rows, n_tokens);
    for (uint32_t t = 0; t < n_tokens; t++) {
        choose(m, r->logits + (size_t)t * m->n_experts, r->expert + t * m->n_used,
               r->weight + t * m->n_used);
    }
    sort_slots(r, m, n_tokens);
    backend_cpu_quantise(c, &job.input, m->gate, rows.x, n_tokens, rows.stride);
    backend_cpu_quantise(c, &job.input, m->up, rows.x, n_tokens, rows.stride);
    team_for(c->team, count_units(r, m, m->gate->n_rows), run_inner, &job);
    job.input = (struct cpu_input){0};
    backend_cpu_quantise(c, &job.input, m->down, r->inner, n_tokens * m->n_used, m->gate->n_rows);
    team_for(c->team, count_units(r, m, m->down->n_rows), run_outer, &job);
    backend_cpu_for_rows(c, n_tokens, job.n_embd * m->n_used, add_slots, &job);
}

void backend_cpu_moe(struct backend *b, float *x, const struct rows_in *in, const struct moe *m,
                     uint32_t n_tokens)
{
    struct cpu *c = cpu_of(b);
    ASSERT(m->n_used > 0 && m->n_used <= BACKEND_EXPERTS_USED_MAX && m->n_used <= m->n_experts);
    ASSERT(m->n_experts <= c->moe.n_experts && m->gate->n_rows <= c->moe.wide);
    ASSERT(m->down->n_rows == m->router->n_cols && m->gate->n_rows == m->up->n_rows);
    size_t n_embd = m->router->n_cols;
    uint32_t step = c->rows_max / m->n_used;
    struct rows_in rows = *in;
    for (uint32_t t = 0; t < n_tokens; t += step) {
        rows.x = in->x + (size_t)t * in->stride;
        moe_tokens(c, x + t * n_embd, &rows, m, MIN(step, n_tokens - t));
    }
}
