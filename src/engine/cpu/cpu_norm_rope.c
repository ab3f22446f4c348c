/* cpu_norm_rope.c: embeddings, norms and residual sums: rows of floats, cut by rows. */
#include "engine/cpu/cpu.h"

#include "base/assert.h"

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
        float *out = j->out + t * j->w->n_cols;
        backend_cpu_weight_row(j->w, (uint32_t)j->tokens[t], out);
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

void backend_cpu_norm_row(const struct cpu *c, const struct norm *norm, float *out, const float *in,
                          uint32_t n)
{
    ASSERT(norm->weight.n == n);
    if (norm->kind == NORM_RMS) {
        c->k->floats->rms_norm(out, in, norm->weight.data, norm->eps, n);
    } else {
        ASSERT(norm->kind == NORM_LAYER);
        c->k->floats->layer_norm(out, in, norm->weight.data, norm->bias.data, norm->eps, n);
    }
}

struct norm_job {
    struct cpu *c;
    const struct norm *norm;
    float *out;
    const float *in;
    uint32_t n_cols;
    bool add; /* out += norm(in), through a row of the thread */
};

static void norm_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct norm_job *j = ctx;
    for (size_t r = first; r < first + n; r++) {
        float *out = j->out + r * j->n_cols;
        float *to = j->add ? j->c->threads[thread].line.at : out;
        backend_cpu_norm_row(j->c, j->norm, to, j->in + r * j->n_cols, j->n_cols);
        if (j->add) {
            j->c->k->floats->add(out, to, j->n_cols);
        }
    }
}

void backend_cpu_norm(struct backend *b, float *out, const float *in, const struct norm *norm,
                      uint32_t n_tokens)
{
    uint32_t n = norm->weight.n;
    struct norm_job job = {cpu_of(b), norm, out, in, n, false};
    backend_cpu_for_rows(cpu_of(b), n_tokens, n, norm_rows, &job);
}

void backend_cpu_residual(struct backend *b, float *x, const float *y, const struct norm *norm,
                          uint32_t n_tokens)
{
    struct cpu *c = cpu_of(b);
    uint32_t n = norm->weight.n;
    ASSERT(n * sizeof(float) <= c->threads[0].line.bytes);
    struct norm_job job = {c, norm, x, y, n, true};
    backend_cpu_for_rows(c, n_tokens, n, norm_rows, &job);
}
