/* encoder.c: the network.
 *
 *   x = norm( embed(tokens) + positions + token types )
 *   each layer:  x = norm( x + attn_out( attention( rope( qkv(x) ))))
 *                x = norm( x + down( act( gate, up of x )))
 *
 * What an architecture lacks is skipped: learned positions or rotated ones, a gate or none, q, k
 * and v in one matrix or in three, biases.
 *
 * Invariants: 1. buffers are sized at open for tokens_max rows; 2. x is the only buffer that lives
 * from layer to layer, so a pass can pause between any two; 3. a row's result does not depend on
 * which other texts are in the batch.
 *
 * Not here: what becomes of the rows (head.h), arithmetic (the backend). */
#include "engine/model/encoder.h"

#include "base/assert.h"
#include "base/checked.h"
#include "base/mem.h"

/* Activations, each [tokens_max, …]. */
struct buffers {
    float *x;    /* [T, C] */
    float *qkv;  /* [T, 3 H * D] */
    float *attn; /* [T, H * D] */
    float *act;  /* [T, ffn width] */
    float *rope; /* [T, n_rot]; NULL with learned positions */
};

struct encoder {
    struct modelconf conf;
    struct weights weights;
    struct rope_tables rope;
    struct backend *backend;
    struct buffers buf;
    uint32_t tokens_max;
    struct decoder_memory memory;
    struct encoder_step step; /* under way */
    uint32_t next_layer;
};

/* ---- one layer ---- */

static struct norm layer_norm(const struct encoder *e, struct vec weight, struct vec bias)
{
    return (struct norm){
        .kind = NORM_LAYER, .weight = weight, .bias = bias, .eps = e->conf.norm_eps};
}

static struct rows_in plain_rows(const float *x, uint32_t n_cols)
{
    return (struct rows_in){.x = x, .stride = n_cols};
}

/* x = norm(x + in · wᵀ + bias). */
static void add_branch(struct encoder *e, const struct weight *w, struct vec bias,
                       const struct norm *norm, const float *in)
{
    const struct backend_ops *ops = e->backend->ops;
    uint32_t n = e->step.batch.n_tokens;
    struct rows_in rows = plain_rows(in, w->n_cols);
    struct linear l = {.w = w, .bias = bias, .out = e->buf.x, .accumulate = true};
    ops->linear(e->backend, &l, 1, &rows, n);
    ops->norm(e->backend, e->buf.x, e->buf.x, norm, n);
}

static struct qkv project_qkv(struct encoder *e, const struct weights_layer *w, uint32_t n_q,
                              uint32_t n_kv)
{
    uint32_t stride = n_q + 2 * n_kv;
    float *q = e->buf.qkv;
    struct qkv at = {q, q + n_q, q + n_q + n_kv, stride, stride};
    struct linear one[] = {{.w = &w->qkv, .bias = w->qkv_bias, .out = q}};
    struct linear three[] = {
        {.w = &w->q, .bias = w->q_bias, .out = at.q, .out_stride = stride},
        {.w = &w->k, .bias = w->k_bias, .out = at.k, .out_stride = stride},
        {.w = &w->v, .bias = w->v_bias, .out = at.v, .out_stride = stride},
    };
    bool fused = w->qkv.data != NULL;
    struct rows_in in = plain_rows(e->buf.x, e->conf.n_embd);
    e->backend->ops->linear(e->backend, fused ? one : three, fused ? 1 : ARRAY_LEN(three), &in,
                            e->step.batch.n_tokens);
    return at;
}

static void attention_block(struct encoder *e, uint32_t layer)
{
    const struct modelconf *c = &e->conf;
    const struct modelconf_layer *l = &c->layers[layer];
    const struct weights_layer *w = &e->weights.layers[layer];
    struct qkv at = project_qkv(e, w, l->n_heads * c->d_head, l->n_kv_heads * c->d_head);
    struct attn a = {
        .layer = layer,
        .n_heads = l->n_heads,
        .n_kv_heads = l->n_kv_heads,
        .d_head = c->d_head,
        .scale = c->attn_scale,
        .causal = false,
    };
    if (e->buf.rope != NULL) {
        a.rope = (struct rope){e->buf.rope, c->n_rot, c->arch->rope};
    }
    struct norm norm = layer_norm(e, w->attn_out_norm, w->attn_out_norm_bias);
    e->backend->ops->attention(e->backend, e->buf.attn, &at, NULL, &a, &e->step.batch);
    add_branch(e, &w->attn_out, w->attn_out_bias, &norm, e->buf.attn);
}

static void ffn_block(struct encoder *e, uint32_t layer)
{
    const struct weights_layer *w = &e->weights.layers[layer];
    struct gated g = {
        .gate = {w->gate.data != NULL ? &w->gate : NULL, w->gate_bias},
        .up = {&w->up, w->up_bias},
        .act = e->conf.arch->act,
    };
    struct rows_in in = plain_rows(e->buf.x, e->conf.n_embd);
    struct norm norm = layer_norm(e, w->ffn_out_norm, w->ffn_out_norm_bias);
    e->backend->ops->gated(e->backend, e->buf.act, &g, &in, e->step.batch.n_tokens);
    add_branch(e, &w->down, w->down_bias, &norm, e->buf.act);
}

/* ---- a pass ---- */

static void check_step(const struct encoder *e, const struct encoder_step *s)
{
    const struct attn_batch *b = &s->batch;
    ASSERT(b->n_tokens > 0 && b->n_tokens <= e->tokens_max && b->seqs == NULL);
    for (uint32_t t = 0; t < b->n_tokens; t++) {
        ASSERT(s->tokens[t] >= 0 && (uint32_t)s->tokens[t] < e->conf.n_vocab);
        ASSERT(b->positions[t] < e->conf.context_trained);
        bool begins = t == 0 || b->seq_of[t] != b->seq_of[t - 1];
        ASSERT(b->positions[t] == (begins ? 0 : b->positions[t - 1] + 1));
        ASSERT(s->segments == NULL || s->segments[t] == 0 ||
               s->segments[t] < e->conf.n_token_types);
    }
}

static void add_row(float *x, const float *row, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        x[i] += row[i];
    }
}

/* What BERT adds to a token's embedding: where it stands, and in which of two texts. */
static void add_places(struct encoder *e)
{
    uint32_t n = e->conf.n_embd;
    const struct encoder_step *s = &e->step;
    const struct weights *w = &e->weights;
    for (uint32_t t = 0; t < s->batch.n_tokens; t++) {
        float *x = e->buf.x + (size_t)t * n;
        if (w->token_types.data != NULL) {
            size_t type = s->segments != NULL ? s->segments[t] : 0;
            add_row(x, w->token_types.data + type * n, n);
        }
        if (w->positions.data != NULL) {
            add_row(x, w->positions.data + (size_t)s->batch.positions[t] * n, n);
        }
    }
}

void encoder_begin(struct encoder *e, const struct encoder_step *s)
{
    check_step(e, s);
    e->step = *s;
    e->next_layer = 0;
    uint32_t n = s->batch.n_tokens;
    if (e->buf.rope != NULL) {
        rope_tables_fill(&e->rope, ROPE_GLOBAL, s->batch.positions, n, e->buf.rope);
    }
    struct norm norm = layer_norm(e, e->weights.embd_norm, e->weights.embd_norm_bias);
    e->backend->ops->embed(e->backend, e->buf.x, &e->weights.token_embd, s->tokens, n, 1.0f);
    add_places(e);
    e->backend->ops->norm(e->backend, e->buf.x, e->buf.x, &norm, n);
}

bool encoder_layers(struct encoder *e, uint32_t n)
{
    ASSERT(e->next_layer < e->conf.n_layers);
    for (; n > 0 && e->next_layer < e->conf.n_layers; n--, e->next_layer++) {
        attention_block(e, e->next_layer);
        ffn_block(e, e->next_layer);
    }
    return e->next_layer == e->conf.n_layers;
}

const float *encoder_hidden(const struct encoder *e)
{
    ASSERT(e->next_layer == e->conf.n_layers);
    return e->buf.x;
}

/* ---- life ---- */

static enum rc alloc_buffer(struct encoder *e, uint64_t width, float **out, struct err *err)
{
    size_t bytes;
    if (!checked_mul(width * sizeof(float), (uint64_t)e->tokens_max, &bytes) ||
        (*out = e->backend->ops->buffer_alloc(e->backend, bytes)) == NULL) {
        return err_set(err, RC_NOMEM, "no memory for activations of %u tokens", e->tokens_max);
    }
    e->memory.workspace_bytes += bytes;
    return RC_OK;
}

static enum rc alloc_buffers(struct encoder *e, struct err *err)
{
    const struct modelconf *c = &e->conf;
    struct buffers *b = &e->buf;
    uint64_t n_q = (uint64_t)c->n_heads_max * c->d_head;
    uint64_t n_kv = (uint64_t)c->n_kv_heads_max * c->d_head;
    const struct {
        uint64_t width;
        float **to;
    } rows[] = {
        {c->n_embd, &b->x},     {n_q + 2 * n_kv, &b->qkv}, {n_q, &b->attn},
        {c->n_ff_max, &b->act}, {c->n_rot, &b->rope}, /* last: only without learned positions */
    };
    size_t n_used = ARRAY_LEN(rows) - (modelconf_has(c, ARCH_POSITIONS) ? 1 : 0);
    enum rc rc = RC_OK;
    for (size_t i = 0; i < n_used && rc == RC_OK; i++) {
        rc = alloc_buffer(e, rows[i].width, rows[i].to, err);
    }
    ASSERT(rc != RC_OK || e->memory.workspace_bytes ==
                              modelconf_row_floats(c) * sizeof(float) * (uint64_t)e->tokens_max);
    return rc;
}

static enum rc open_rope(struct encoder *e, const struct gguf *g, uint32_t context_tokens,
                         struct err *err)
{
    if (modelconf_has(&e->conf, ARCH_POSITIONS)) {
        return RC_OK;
    }
    enum rc rc = rope_tables_init(&e->rope, &e->conf, &e->weights, context_tokens, err);
    if (rc != RC_OK) {
        err_context(err, "%s", gguf_name(g));
    }
    return rc;
}

RC encoder_open(struct encoder **out, const struct gguf *g, const struct decoder_conf *conf,
                struct err *err)
{
    struct encoder *e = mem_zalloc(sizeof(*e));
    e->tokens_max = conf->backend_conf.tokens_max;
    enum rc rc = modelconf_init(&e->conf, g, err);
    if (rc == RC_OK && !modelconf_has(&e->conf, ARCH_ENCODER)) {
        rc = err_set(err, RC_UNSUPPORTED, "%s: a %s model is no encoder", gguf_name(g),
                     e->conf.arch->name);
    }
    if (rc == RC_OK) {
        rc = weights_init(&e->weights, &e->conf, g, err);
    }
    if (rc == RC_OK) {
        rc = open_rope(e, g, conf->context_tokens, err);
    }
    if (rc == RC_OK) {
        rc = conf->backend->open(&e->backend, &conf->backend_conf, err);
    }
    if (rc == RC_OK) {
        rc = weights_prepare(&e->weights, e->backend, conf->progress, conf->progress_ctx, err);
    }
    if (rc == RC_OK) {
        e->memory.weight_bytes = e->weights.resident_bytes;
        rc = alloc_buffers(e, err);
    }
    if (rc != RC_OK) {
        encoder_close(e);
        return rc;
    }
    *out = e;
    return RC_OK;
}

void encoder_close(struct encoder *e)
{
    if (e == NULL) {
        return;
    }
    float *buffers[] = {e->buf.x, e->buf.qkv, e->buf.attn, e->buf.act, e->buf.rope};
    for (size_t i = 0; i < ARRAY_LEN(buffers); i++) {
        if (buffers[i] != NULL) {
            e->backend->ops->buffer_free(e->backend, buffers[i]);
        }
    }
    weights_deinit(&e->weights);
    if (e->backend != NULL) {
        e->backend->ops->close(e->backend);
    }
    rope_tables_deinit(&e->rope);
    modelconf_deinit(&e->conf);
    mem_free(e);
}

const struct modelconf *encoder_modelconf(const struct encoder *e)
{
    return &e->conf;
}

const struct weights *encoder_weights(const struct encoder *e)
{
    return &e->weights;
}

struct decoder_memory encoder_memory(const struct encoder *e)
{
    return e->memory;
}
