/* cpu.c: the "cpu" backend: life, memory and how work is cut among the team.
 *
 * Weights are packed while a model is loaded; scratch is sized then too: rows of quantised
 * activations, one tile of products and one unpacked panel per thread.
 *
 * Invariants: 1. nothing is allocated after a model is loaded; 2. an output element is computed by
 * one thread in one order, whatever the number of rows, threads or the instruction set's tile:
 * the same tokens give the same bits in one call or in many.
 *
 * Not here: arithmetic (kernels/), weights (cpu_weight.c), inputs (cpu_input.c), linear steps
 * (cpu_linear.c), attention and pages (cpu_attn.c), experts (cpu_moe.c), rows of floats
 * (cpu_norm_rope.c), threads (team.c). */
#include "engine/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

/* ---- work over rows ---- */

/* Work on fewer floats than this is done before another thread has woken up. */
enum { FOR_ROWS_FLOATS_MIN = 8192 };

struct rows_job {
    cpu_rows_fn fn;
    void *ctx;
    uint32_t n_rows, per_item;
};

static void run_rows_item(void *ctx, uint32_t thread, uint32_t item)
{
    const struct rows_job *job = ctx;
    uint32_t first = item * job->per_item;
    job->fn(job->ctx, thread, first, MIN(job->per_item, job->n_rows - first));
}

void backend_cpu_for_rows(struct cpu *c, uint32_t n_rows, uint32_t width, cpu_rows_fn fn, void *ctx)
{
    if (n_rows == 0) {
        return;
    }
    uint32_t per_item = FOR_ROWS_FLOATS_MIN / MAX(width, 1u) + 1;
    if (n_rows <= per_item) {
        fn(ctx, 0, 0, n_rows);
        return;
    }
    struct rows_job job = {fn, ctx, n_rows, per_item};
    team_for(c->team, (n_rows + per_item - 1) / per_item, run_rows_item, &job);
}

/* ---- scratch ---- */

bool backend_cpu_room_grow(struct cpu *c, struct cpu_room *room, size_t bytes)
{
    if (bytes <= room->bytes) {
        return true;
    }
    backend_cpu_room_drop(c, room);
    room->at = mem_try_pages(bytes);
    if (room->at == NULL) {
        return false;
    }
    room->bytes = bytes;
    c->scratch_bytes += bytes;
    return true;
}

void backend_cpu_room_drop(struct cpu *c, struct cpu_room *room)
{
    mem_free_pages(room->at);
    c->scratch_bytes -= room->bytes;
    *room = (struct cpu_room){0};
}

/* ---- life ---- */

static bool cpu_available(void)
{
    return true;
}

static enum rc open_threads(struct cpu *c, struct err *err)
{
    size_t tile = (size_t)CPU_TILE_ROWS * CPU_TILE_COLS * sizeof(float);
    for (uint32_t i = 0; i < c->n_threads; i++) {
        struct cpu_thread *t = &c->threads[i];
        if (!backend_cpu_room_grow(c, &t->tile, tile) ||
            !backend_cpu_room_grow(c, &t->panel, KERN_SCRATCH_BYTES)) {
            return err_set(err, RC_NOMEM, "no memory for the tiles of %u threads", c->n_threads);
        }
    }
    return RC_OK;
}

static void cpu_close(struct backend *b)
{
    struct cpu *c = cpu_of(b);
    team_destroy(c->team);
    for (uint32_t i = 0; c->threads != NULL && i < c->n_threads; i++) {
        struct cpu_thread *t = &c->threads[i];
        backend_cpu_room_drop(c, &t->tile);
        backend_cpu_room_drop(c, &t->panel);
        backend_cpu_room_drop(c, &t->line);
        for (int form = 0; form < KERN_FORMS; form++) {
            backend_cpu_room_drop(c, &t->own[form]);
        }
    }
    for (int form = 0; form < KERN_FORMS; form++) {
        backend_cpu_room_drop(c, &c->rows[form]);
    }
    backend_cpu_attn_close(c);
    backend_cpu_room_drop(c, &c->moe.all);
    backend_cpu_weights_drop(c);
    mem_free(c->threads);
    mem_free(c);
}

/* BUD_ISA names an instruction set ("generic", "avx2"), for tests and comparisons. */
static enum rc cpu_open(struct backend **out, const struct backend_conf *conf, struct err *err)
{
    const char *isa = getenv("BUD_ISA");
    isa = isa != NULL && isa[0] != '\0' ? isa : NULL;
    const struct kernels *k = kernels_choose(isa);
    if (k == NULL) {
        return err_set(err, RC_INVALID, "BUD_ISA=%s: this machine has no such kernels", isa);
    }
    struct cpu *c = mem_zalloc(sizeof(*c));
    c->base.ops = &backend_cpu_ops;
    c->k = k;
    c->tokens_max = MAX(conf->tokens_max, 1u);
    c->rows_max = c->tokens_max;
    enum rc rc = team_create(&c->team, conf->n_threads, conf->pin, err);
    if (rc == RC_OK) {
        c->n_threads = team_n_threads(c->team);
        c->threads = mem_zalloc_array(c->n_threads, sizeof(*c->threads));
        rc = open_threads(c, err);
    }
    if (rc == RC_OK) {
        rc = backend_cpu_attn_open(c, err);
    }
    if (rc != RC_OK) {
        cpu_close(&c->base);
        return rc;
    }
    *out = &c->base;
    return RC_OK;
}

static void *cpu_buffer_alloc(struct backend *b, size_t bytes)
{
    UNUSED(b);
    return mem_try_pages(bytes);
}

static void cpu_buffer_free(struct backend *b, void *buffer)
{
    UNUSED(b);
    mem_free_pages(buffer);
}

static uint64_t cpu_scratch_bytes(const struct backend *b)
{
    return CONTAINER_OF(b, const struct cpu, base)->scratch_bytes;
}

const struct backend_ops backend_cpu_ops = {
    .name = "cpu",
    .available = cpu_available,
    .open = cpu_open,
    .close = cpu_close,
    .buffer_alloc = cpu_buffer_alloc,
    .buffer_free = cpu_buffer_free,
    .scratch_bytes = cpu_scratch_bytes,
    .weight_prepare = backend_cpu_weight_prepare,
    .weight_release = backend_cpu_weight_release,
    .kv_alloc = backend_cpu_kv_alloc,
    .kv_free = backend_cpu_kv_free,
    .kv_copy = backend_cpu_kv_copy,
    .embed = backend_cpu_embed,
    .norm = backend_cpu_norm,
    .residual = backend_cpu_residual,
    .linear = backend_cpu_linear,
    .gated = backend_cpu_gated,
    .attention = backend_cpu_attention,
    .moe = backend_cpu_moe,
};
