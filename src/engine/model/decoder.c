/* decoder.c: the network.
 *
 *   x = embed(tokens)
 *   each layer:  x += post_norm( attn_out( attention( rope( qk_norm( qkv( norm(x) ))))))
 *                x += post_norm( down( act( gate_up( norm(x) ))))      or a mixture of experts
 *   logits = softcap( output( norm( rows of x )))
 *
 * A layer is five calls of the backend: qkv, attention, its output, gate and up, down; norms,
 * rotations, biases, activations and residual sums happen inside them.
 *
 * What an architecture lacks is skipped: a vector without data, a trait that is not set. The same
 * code runs for all of them, so a new trait is one `if` here and one row in a table.
 *
 * Invariants: 1. buffers are sized at open for tokens_max rows; 2. x is the residual stream, the
 * only buffer that lives from layer to layer; 3. the backend's buffers are readable and writable
 * by this thread between its calls.
 *
 * Not here: which token sits where (the caller's page tables), arithmetic (the backend). */
#include "engine/model/decoder.h"

#include <string.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/mem.h"

/* Activations, each [tokens_max, …]. */
struct buffers {
    float *x;               /* [T, C] residual stream */
    float *qkv;             /* [T, (H + 2 kv heads) * D] */
    float *attn;            /* [T, H * D] */
    float *branch;          /* [T, C] a branch's output that is normed before it is added */
    float *act;             /* [T, ffn width] */
    float *rope[ROPE_SETS]; /* [T, n_rot] */
};

struct decoder {
    struct modelconf conf;
    struct weights weights;
    struct rope_tables rope;
    struct backend *backend;
    void *kv;
    struct buffers buf;
    uint32_t tokens_max;
    struct decoder_memory memory;
};

/* ---- one layer ---- */

/* What every step of a forward needs. */
struct pass {
    struct decoder *d;
    struct backend *b;
    const struct backend_ops *ops;
    const struct attn_batch *batch;
    uint32_t n; /* rows */
};

static struct norm rms(const struct pass *p, struct vec weight)
{
    return (struct norm){
        .kind = weight.data != NULL ? NORM_RMS : NORM_NONE,
        .weight = weight,
        .eps = p->d->conf.norm_eps,
    };
}

/* The residual stream, normed. */
static struct rows_in normed_x(const struct pass *p, struct vec weight)
{
    return (struct rows_in){p->d->buf.x, p->d->conf.n_embd, rms(p, weight)};
}

/* x += in · wᵀ + bias, through the post norm when there is one. */
static void add_branch(const struct pass *p, const struct weight *w, struct vec bias,
                       struct vec post_norm, const float *in)
{
    struct buffers *buf = &p->d->buf;
    bool post = post_norm.data != NULL;
    struct rows_in rows = {.x = in, .stride = w->n_cols};
    struct linear l = {.w = w, .bias = bias, .out = buf->x, .accumulate = true};
    if (post) {
        l.out = buf->branch;
        l.accumulate = false;
    }
    p->ops->linear(p->b, &l, 1, &rows, p->n);
    if (post) {
        struct norm norm = rms(p, post_norm);
        p->ops->residual(p->b, buf->x, buf->branch, &norm, p->n);
    }
}

/* q‖k‖v of every row, from one matrix or from three. */
static struct qkv project_qkv(const struct pass *p, uint32_t layer)
{
    const struct modelconf *c = &p->d->conf;
    const struct modelconf_layer *l = &c->layers[layer];
    const struct weights_layer *w = &p->d->weights.layers[layer];
    uint32_t n_q = l->n_heads * c->d_head;
    uint32_t n_kv = l->n_kv_heads * c->d_head;
    uint32_t stride = n_q + 2 * n_kv;
    float *q = p->d->buf.qkv;
    struct qkv at = {q, q + n_q, q + n_q + n_kv, stride, stride};
    struct linear one[] = {{.w = &w->qkv, .out = q}};
    struct linear three[] = {
        {.w = &w->q, .bias = w->q_bias, .out = at.q, .out_stride = stride},
        {.w = &w->k, .bias = w->k_bias, .out = at.k, .out_stride = stride},
        {.w = &w->v, .bias = w->v_bias, .out = at.v, .out_stride = stride},
    };
    bool fused = w->qkv.data != NULL;
    struct rows_in in = normed_x(p, w->attn_norm);
    p->ops->linear(p->b, fused ? one : three, fused ? 1 : ARRAY_LEN(three), &in, p->n);
    return at;
}

static void attention_block(const struct pass *p, uint32_t layer)
{
    const struct modelconf *c = &p->d->conf;
    const struct modelconf_layer *l = &c->layers[layer];
    const struct weights_layer *w = &p->d->weights.layers[layer];
    struct buffers *buf = &p->d->buf;
    struct qkv at = project_qkv(p, layer);
    bool local = l->window > 0 && modelconf_has(c, ARCH_ROPE_LOCAL);
    struct attn a = {
        .layer = layer,
        .n_heads = l->n_heads,
        .n_kv_heads = l->n_kv_heads,
        .d_head = c->d_head,
        .q_norm = rms(p, w->q_norm),
        .k_norm = rms(p, w->k_norm),
        .rope =
            {
                .cos_sin = buf->rope[local ? ROPE_LOCAL : ROPE_GLOBAL],
                .n_rot = c->n_rot,
                .style = c->arch->rope,
            },
        .scale = c->attn_scale,
        .softcap = c->attn_softcap,
        .window = l->window,
        .sinks = w->sinks,
        .causal = true,
    };
    p->ops->attention(p->b, buf->attn, &at, p->d->kv, &a, p->batch);
    add_branch(p, &w->attn_out, w->attn_out_bias, w->attn_post_norm, buf->attn);
}

static void dense_block(const struct pass *p, uint32_t layer)
{
    const struct modelconf *c = &p->d->conf;
    const struct weights_layer *w = &p->d->weights.layers[layer];
    struct gated g = {
        .gate = {&w->gate, w->gate_bias},
        .up = {&w->up, w->up_bias},
        .act = c->arch->act,
    };
    struct rows_in in = normed_x(p, w->ffn_norm);
    p->ops->gated(p->b, p->d->buf.act, &g, &in, p->n);
    add_branch(p, &w->down, w->down_bias, w->ffn_post_norm, p->d->buf.act);
}

static void expert_block(const struct pass *p, uint32_t layer)
{
    const struct modelconf *c = &p->d->conf;
    const struct weights_layer *w = &p->d->weights.layers[layer];
    struct moe m = {
        .router = &w->router,
        .router_bias = w->router_bias,
        .gate = &w->gate,
        .up = &w->up,
        .down = &w->down,
        .gate_bias = w->gate_bias,
        .up_bias = w->up_bias,
        .down_bias = w->down_bias,
        .n_experts = c->n_experts,
        .n_used = c->n_experts_used,
        .gating = c->arch->gating,
        .renormalise = c->experts_renormalise,
        .weight_scale = c->experts_scale,
        .act = c->arch->act,
    };
    struct rows_in in = normed_x(p, w->ffn_norm);
    p->ops->moe(p->b, p->d->buf.x, &in, &m, p->n);
}

static void ffn_block(const struct pass *p, uint32_t layer)
{
    if (modelconf_has(&p->d->conf, ARCH_MOE)) {
        expert_block(p, layer);
    } else {
        dense_block(p, layer);
    }
}

/* ---- a forward ---- */

/* Logits of the wanted rows; they are gathered first, so that nothing else is computed. */
static void output_block(const struct pass *p, const struct decoder_step *s)
{
    const struct modelconf *c = &p->d->conf;
    struct buffers *buf = &p->d->buf;
    for (uint32_t i = 0; i < s->n_logit_rows; i++) {
        ASSERT(s->logit_rows[i] < p->n && (i == 0 || s->logit_rows[i] > s->logit_rows[i - 1]));
        /* Rows are ascending, so a row moves down onto rows already used: gather in place. */
        memmove(buf->x + (size_t)i * c->n_embd, buf->x + (size_t)s->logit_rows[i] * c->n_embd,
                c->n_embd * sizeof(float));
    }
    struct rows_in in = normed_x(p, p->d->weights.output_norm);
    if (s->hidden != NULL) {
        p->ops->norm(p->b, s->hidden, buf->x, &in.norm, s->n_logit_rows);
    }
    if (s->logits == NULL) {
        return;
    }
    struct linear l = {
        .w = weights_output(&p->d->weights),
        .out = s->logits,
        .softcap = c->final_softcap,
    };
    p->ops->linear(p->b, &l, 1, &in, s->n_logit_rows);
}

static void check_step(const struct decoder *d, const struct decoder_step *s)
{
    const struct attn_batch *b = &s->batch;
    ASSERT(b->n_tokens > 0 && b->n_tokens <= d->tokens_max);
    ASSERT(s->n_logit_rows <= b->n_tokens);
    for (uint32_t t = 0; t < b->n_tokens; t++) {
        ASSERT(s->tokens[t] >= 0 && (uint32_t)s->tokens[t] < d->conf.n_vocab);
        ASSERT(b->seq_of[t] < b->n_seqs);
        ASSERT(b->positions[t] / KV_PAGE_TOKENS < b->seqs[b->seq_of[t]].n_pages);
        if (t > 0 && b->seq_of[t] == b->seq_of[t - 1]) {
            ASSERT(b->positions[t] == b->positions[t - 1] + 1);
        }
    }
}

RC decoder_forward(struct decoder *d, const struct decoder_step *s, const _Atomic bool *cancel,
                   struct err *err)
{
    check_step(d, s);
    struct pass p = {d, d->backend, d->backend->ops, &s->batch, s->batch.n_tokens};
    for (uint32_t i = 0; i < ROPE_SETS; i++) {
        if (d->buf.rope[i] != NULL) {
            rope_tables_fill(&d->rope, i, s->batch.positions, p.n, d->buf.rope[i]);
        }
    }
    p.ops->embed(p.b, d->buf.x, &d->weights.token_embd, s->tokens, p.n, d->conf.embed_scale);
    for (uint32_t layer = 0; layer < d->conf.n_layers; layer++) {
        if (cancel != NULL && atomic_load_explicit(cancel, memory_order_relaxed)) {
            return err_set(err, RC_CANCELLED, "cancelled before layer %u", layer);
        }
        attention_block(&p, layer);
        ffn_block(&p, layer);
    }
    if (s->n_logit_rows > 0) {
        output_block(&p, s);
    }
    return RC_OK;
}

void decoder_kv_copy(struct decoder *d, uint32_t from_page, uint32_t to_page)
{
    d->backend->ops->kv_copy(d->backend, d->kv, from_page, to_page);
}

/* ---- life ---- */

static enum rc alloc_buffer(struct decoder *d, uint64_t width, float **out, struct err *err)
{
    size_t bytes;
    if (!checked_mul(width * sizeof(float), (uint64_t)d->tokens_max, &bytes) ||
        (*out = d->backend->ops->buffer_alloc(d->backend, bytes)) == NULL) {
        return err_set(err, RC_NOMEM, "no memory for activations of %u tokens", d->tokens_max);
    }
    d->memory.workspace_bytes += bytes;
    return RC_OK;
}

static enum rc alloc_buffers(struct decoder *d, struct err *err)
{
    const struct modelconf *c = &d->conf;
    struct buffers *b = &d->buf;
    uint64_t n_q = (uint64_t)c->n_heads_max * c->d_head;
    uint64_t n_kv = (uint64_t)c->n_kv_heads_max * c->d_head;
    bool dense = modelconf_has(c, ARCH_DENSE);
    bool post = modelconf_has(c, ARCH_POST_NORMS);
    bool local = modelconf_has(c, ARCH_ROPE_LOCAL);
    const struct {
        bool used;
        uint64_t width;
        float **to;
    } rows[] = {
        {true, c->n_embd, &b->x},
        {true, n_q + 2 * n_kv, &b->qkv},
        {true, n_q, &b->attn},
        {post, c->n_embd, &b->branch},
        {dense, c->n_ff_max, &b->act},
        {true, c->n_rot, &b->rope[ROPE_GLOBAL]},
        {local, c->n_rot, &b->rope[ROPE_LOCAL]},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].used) {
            enum rc rc = alloc_buffer(d, rows[i].width, rows[i].to, err);
            if (rc != RC_OK) {
                return rc;
            }
        }
    }
    ASSERT(d->memory.workspace_bytes ==
           modelconf_row_floats(c) * sizeof(float) * (uint64_t)d->tokens_max);
    return RC_OK;
}

static struct kv_shape kv_shape_of(const struct decoder *d, const struct decoder_conf *conf)
{
    return (struct kv_shape){
        .n_layers = d->conf.n_layers,
        .n_kv_heads = d->conf.n_kv_heads_max,
        .d_head = d->conf.d_head,
        .n_pages = conf->kv_pages,
        .type = conf->kv_type,
    };
}

static enum rc count_kv(struct decoder *d, const struct decoder_conf *conf, struct err *err)
{
    struct kv_shape shape = kv_shape_of(d, conf);
    uint64_t position = backend_kv_position_bytes(&shape);
    if (!checked_mul(position, (uint64_t)KV_PAGE_TOKENS * shape.n_pages, &d->memory.kv_bytes)) {
        return err_set(err, RC_NOMEM, "%u key/value pages are too many", shape.n_pages);
    }
    return RC_OK;
}

static enum rc alloc_kv(struct decoder *d, const struct decoder_conf *conf, struct err *err)
{
    struct kv_shape shape = kv_shape_of(d, conf);
    return d->backend->ops->kv_alloc(d->backend, &shape, &d->kv, err);
}

/* Before pages are taken and weights packed: what does not fit is refused with the numbers, not
 * killed half-way. */
static enum rc check_memory(const struct decoder *d, uint64_t memory_bytes_max, struct err *err)
{
    enum { MIB = 1 << 20 };
    uint64_t weights = d->weights.n_bytes;
    uint64_t kv = d->memory.kv_bytes;
    uint64_t step = d->memory.workspace_bytes;
    if (memory_bytes_max == 0 || weights + kv + step <= memory_bytes_max) {
        return RC_OK;
    }
    return err_set(err, RC_INVALID,
                   "weights of %llu MiB, keys and values of %llu MiB and %llu MiB for a step do "
                   "not fit into the %llu MiB of memory that this process may use",
                   (unsigned long long)(weights / MIB), (unsigned long long)(kv / MIB),
                   (unsigned long long)(step / MIB), (unsigned long long)(memory_bytes_max / MIB));
}

RC decoder_open(struct decoder **out, const struct gguf *g, const struct decoder_conf *conf,
                struct err *err)
{
    struct decoder *d = mem_zalloc(sizeof(*d));
    d->tokens_max = conf->backend_conf.tokens_max;
    enum rc rc = modelconf_init(&d->conf, g, err);
    if (rc == RC_OK && !modelconf_has(&d->conf, ARCH_DECODER)) {
        rc = err_set(err, RC_UNSUPPORTED, "%s: a %s model is no decoder", gguf_name(g),
                     d->conf.arch->name);
    }
    if (rc == RC_OK) {
        rc = weights_init(&d->weights, &d->conf, g, err);
    }
    if (rc == RC_OK) {
        rc = rope_tables_init(&d->rope, &d->conf, &d->weights, conf->context_tokens, err);
        if (rc != RC_OK) {
            err_context(err, "%s", gguf_name(g));
        }
    }
    if (rc == RC_OK) {
        rc = conf->backend->open(&d->backend, &conf->backend_conf, err);
    }
    if (rc == RC_OK) {
        rc = alloc_buffers(d, err);
    }
    if (rc == RC_OK) {
        rc = count_kv(d, conf, err);
    }
    if (rc == RC_OK) {
        rc = check_memory(d, conf->memory_bytes_max, err);
    }
    if (rc == RC_OK) {
        rc = alloc_kv(d, conf, err);
    }
    if (rc == RC_OK) {
        rc = weights_prepare(&d->weights, d->backend, conf->progress, conf->progress_ctx, err);
    }
    if (rc == RC_OK) {
        d->memory.weight_bytes = d->weights.resident_bytes;
        d->memory.workspace_bytes += d->backend->ops->scratch_bytes(d->backend);
    }
    if (rc != RC_OK) {
        decoder_close(d);
        return rc;
    }
    *out = d;
    return RC_OK;
}

static void release_buffers(struct decoder *d)
{
    struct buffers *b = &d->buf;
    float *all[] = {
        b->x, b->qkv, b->attn, b->branch, b->act, b->rope[ROPE_GLOBAL], b->rope[ROPE_LOCAL],
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i] != NULL) {
            d->backend->ops->buffer_free(d->backend, all[i]);
        }
    }
}

void decoder_close(struct decoder *d)
{
    if (d == NULL) {
        return;
    }
    if (d->backend != NULL) {
        if (d->kv != NULL) {
            d->backend->ops->kv_free(d->backend, d->kv);
        }
        release_buffers(d);
    }
    weights_deinit(&d->weights);
    if (d->backend != NULL) {
        d->backend->ops->close(d->backend);
    }
    rope_tables_deinit(&d->rope);
    modelconf_deinit(&d->conf);
    mem_free(d);
}

const struct modelconf *decoder_modelconf(const struct decoder *d)
{
    return &d->conf;
}

const struct weights *decoder_weights(const struct decoder *d)
{
    return &d->weights;
}

struct decoder_memory decoder_memory(const struct decoder *d)
{
    return d->memory;
}
