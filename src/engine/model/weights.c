/* weights.c: one table of tensors: name, where it goes, its shape, who has it.
 *
 * Names are those of llama.cpp's converter. A GGUF file lists dimensions fastest first: a matrix
 * is {columns, rows}, a stack of experts {columns, rows, experts}. */
#include "engine/model/weights.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/mem.h"
#include "engine/format/quant.h"

/* ---- the table ---- */

enum dim {
    DIM_ONE,
    DIM_EMBD,
    DIM_Q,   /* H * D */
    DIM_KV,  /* kv heads * D */
    DIM_QKV, /* DIM_Q + 2 DIM_KV */
    DIM_HEADS,
    DIM_HEAD,
    DIM_FF,
    DIM_FF_TWICE,
    DIM_FF_EXPERT,
    DIM_EXPERTS,
    DIM_VOCAB,
    DIM_ROT_HALF,
    DIM_CONTEXT,
    DIM_TYPES,
    DIM_LABELS,
};

enum kind { MATRIX, VECTOR };

/* Bound when the model has one of the traits `need` (then it must be there) or `may` (then it may
 * be absent). offset is in struct weights_layer, or in struct weights for the global rows. */
struct tensor_row {
    const char *name;
    size_t offset;
    enum kind kind;
    enum dim dims[3]; /* columns, rows, experts */
    unsigned need, may;
};

#define LAYER(member)  offsetof(struct weights_layer, member)
#define GLOBAL(member) offsetof(struct weights, member)

enum {
    QKV_BIAS = ARCH_QKV_BIAS | ARCH_ALL_BIAS,
    CLASSIFIER = ARCH_RANK | ARCH_ENCODER, /* some embedders carry a pooler that nobody uses */
};

static const struct tensor_row global_rows[] = {
    {"token_embd.weight", GLOBAL(token_embd), MATRIX, {DIM_EMBD, DIM_VOCAB}, ARCH_ANY, 0},
    {"output_norm.weight", GLOBAL(output_norm), VECTOR, {DIM_EMBD}, ARCH_DECODER, 0},
    {"output.weight", GLOBAL(output), MATRIX, {DIM_EMBD, DIM_VOCAB}, 0, ARCH_DECODER},
    {"token_embd_norm.weight", GLOBAL(embd_norm), VECTOR, {DIM_EMBD}, ARCH_ENCODER, 0},
    {"token_embd_norm.bias", GLOBAL(embd_norm_bias), VECTOR, {DIM_EMBD}, ARCH_ENCODER, 0},
    {"position_embd.weight", GLOBAL(positions), VECTOR, {DIM_EMBD, DIM_CONTEXT}, ARCH_POSITIONS, 0},
    {"token_types.weight", GLOBAL(token_types), VECTOR, {DIM_EMBD, DIM_TYPES}, 0, ARCH_ENCODER},
    {"cls.weight", GLOBAL(classifier), MATRIX, {DIM_EMBD, DIM_EMBD}, 0, CLASSIFIER},
    {"cls.bias", GLOBAL(classifier_bias), VECTOR, {DIM_EMBD}, 0, CLASSIFIER},
    {"cls.output.weight", GLOBAL(classifier_output), MATRIX, {DIM_EMBD, DIM_LABELS}, ARCH_RANK, 0},
    {"cls.output.bias", GLOBAL(classifier_output_bias), VECTOR, {DIM_LABELS}, 0, ARCH_RANK},
    {"rope_freqs.weight", GLOBAL(rope_freqs), VECTOR, {DIM_ROT_HALF}, 0, ARCH_ROPE_FREQS},
    {"rope_factors_long.weight", GLOBAL(rope_long), VECTOR, {DIM_ROT_HALF}, 0, ARCH_LONGROPE},
    {"rope_factors_short.weight", GLOBAL(rope_short), VECTOR, {DIM_ROT_HALF}, 0, ARCH_LONGROPE},
};

static const struct tensor_row layer_rows[] = {
    /* norms */
    {"attn_norm.weight", LAYER(attn_norm), VECTOR, {DIM_EMBD}, ARCH_DECODER, 0},
    {"ffn_norm.weight", LAYER(ffn_norm), VECTOR, {DIM_EMBD}, ARCH_FFN_NORM, 0},
    {"post_attention_norm.weight", LAYER(ffn_norm), VECTOR, {DIM_EMBD}, ARCH_FFN_NORM_OSS, 0},
    {"post_attention_norm.weight", LAYER(attn_post_norm), VECTOR, {DIM_EMBD}, ARCH_POST_NORMS, 0},
    {"post_ffw_norm.weight", LAYER(ffn_post_norm), VECTOR, {DIM_EMBD}, ARCH_POST_NORMS, 0},
    {"attn_q_norm.weight", LAYER(q_norm), VECTOR, {DIM_HEAD}, ARCH_QK_NORM, 0},
    {"attn_k_norm.weight", LAYER(k_norm), VECTOR, {DIM_HEAD}, ARCH_QK_NORM, 0},
    {"attn_output_norm.weight", LAYER(attn_out_norm), VECTOR, {DIM_EMBD}, ARCH_ENCODER, 0},
    {"attn_output_norm.bias", LAYER(attn_out_norm_bias), VECTOR, {DIM_EMBD}, ARCH_ENCODER, 0},
    {"layer_output_norm.weight", LAYER(ffn_out_norm), VECTOR, {DIM_EMBD}, ARCH_ENCODER, 0},
    {"layer_output_norm.bias", LAYER(ffn_out_norm_bias), VECTOR, {DIM_EMBD}, ARCH_ENCODER, 0},
    /* attention */
    {"attn_qkv.weight", LAYER(qkv), MATRIX, {DIM_EMBD, DIM_QKV}, ARCH_FUSED_QKV, 0},
    {"attn_q.weight", LAYER(q), MATRIX, {DIM_EMBD, DIM_Q}, ARCH_SPLIT_QKV, 0},
    {"attn_k.weight", LAYER(k), MATRIX, {DIM_EMBD, DIM_KV}, ARCH_SPLIT_QKV, 0},
    {"attn_v.weight", LAYER(v), MATRIX, {DIM_EMBD, DIM_KV}, ARCH_SPLIT_QKV, 0},
    {"attn_output.weight", LAYER(attn_out), MATRIX, {DIM_Q, DIM_EMBD}, ARCH_ANY, 0},
    {"attn_q.bias", LAYER(q_bias), VECTOR, {DIM_Q}, QKV_BIAS, ARCH_MAY_BIAS},
    {"attn_k.bias", LAYER(k_bias), VECTOR, {DIM_KV}, QKV_BIAS, ARCH_MAY_BIAS},
    {"attn_v.bias", LAYER(v_bias), VECTOR, {DIM_KV}, QKV_BIAS, ARCH_MAY_BIAS},
    {"attn_qkv.bias", LAYER(qkv_bias), VECTOR, {DIM_QKV}, 0, ARCH_ENCODER},
    {"attn_output.bias", LAYER(attn_out_bias), VECTOR, {DIM_EMBD}, ARCH_ALL_BIAS, ARCH_MAY_BIAS},
    {"attn_sinks.weight", LAYER(sinks), VECTOR, {DIM_HEADS}, ARCH_SINKS, 0},
};

static const struct tensor_row dense_rows[] = {
    {"ffn_gate.weight", LAYER(gate), MATRIX, {DIM_EMBD, DIM_FF}, ARCH_SPLIT_GATE, 0},
    {"ffn_up.weight", LAYER(up), MATRIX, {DIM_EMBD, DIM_FF}, ARCH_SPLIT_GATE, 0},
    {"ffn_up.weight", LAYER(up), MATRIX, {DIM_EMBD, DIM_FF_TWICE}, ARCH_FUSED_GATE, 0},
    {"ffn_up.weight", LAYER(up), MATRIX, {DIM_EMBD, DIM_FF}, ARCH_PLAIN_UP, 0},
    {"ffn_down.weight", LAYER(down), MATRIX, {DIM_FF, DIM_EMBD}, ARCH_DENSE, 0},
    {"ffn_gate.bias", LAYER(gate_bias), VECTOR, {DIM_FF}, 0, ARCH_MAY_BIAS},
    {"ffn_up.bias", LAYER(up_bias), VECTOR, {DIM_FF}, 0, ARCH_MAY_BIAS},
    {"ffn_down.bias", LAYER(down_bias), VECTOR, {DIM_EMBD}, 0, ARCH_MAY_BIAS},
};

static const struct tensor_row expert_rows[] = {
    {"ffn_gate_inp.weight", LAYER(router), MATRIX, {DIM_EMBD, DIM_EXPERTS}, ARCH_MOE, 0},
    {"ffn_gate_inp.bias", LAYER(router_bias), VECTOR, {DIM_EXPERTS}, ARCH_ALL_BIAS, 0},
    {"ffn_gate_exps.weight",
     LAYER(gate),
     MATRIX,
     {DIM_EMBD, DIM_FF_EXPERT, DIM_EXPERTS},
     ARCH_MOE,
     0},
    {"ffn_up_exps.weight", LAYER(up), MATRIX, {DIM_EMBD, DIM_FF_EXPERT, DIM_EXPERTS}, ARCH_MOE, 0},
    {"ffn_down_exps.weight",
     LAYER(down),
     MATRIX,
     {DIM_FF_EXPERT, DIM_EMBD, DIM_EXPERTS},
     ARCH_MOE,
     0},
    {"ffn_gate_exps.bias",
     LAYER(gate_bias),
     VECTOR,
     {DIM_FF_EXPERT, DIM_EXPERTS},
     ARCH_ALL_BIAS,
     0},
    {"ffn_up_exps.bias", LAYER(up_bias), VECTOR, {DIM_FF_EXPERT, DIM_EXPERTS}, ARCH_ALL_BIAS, 0},
    {"ffn_down_exps.bias", LAYER(down_bias), VECTOR, {DIM_EMBD, DIM_EXPERTS}, ARCH_ALL_BIAS, 0},
};

/* ---- shapes ---- */

static uint64_t dim_value(const struct modelconf *c, uint32_t layer, enum dim d)
{
    const struct modelconf_layer *l = &c->layers[layer];
    switch (d) {
    case DIM_ONE:
        return 1;
    case DIM_EMBD:
        return c->n_embd;
    case DIM_Q:
        return (uint64_t)l->n_heads * c->d_head;
    case DIM_KV:
        return (uint64_t)l->n_kv_heads * c->d_head;
    case DIM_QKV:
        return ((uint64_t)l->n_heads + 2 * (uint64_t)l->n_kv_heads) * c->d_head;
    case DIM_HEADS:
        return l->n_heads;
    case DIM_HEAD:
        return c->d_head;
    case DIM_FF:
        return l->n_ff;
    case DIM_FF_TWICE:
        return 2 * (uint64_t)l->n_ff;
    case DIM_FF_EXPERT:
        return c->n_ff_expert;
    case DIM_EXPERTS:
        return c->n_experts;
    case DIM_VOCAB:
        return c->n_vocab;
    case DIM_ROT_HALF:
        return c->n_rot / 2;
    case DIM_CONTEXT:
        return c->context_trained;
    case DIM_TYPES:
        return c->n_token_types;
    case DIM_LABELS:
        return c->n_labels;
    }
    ASSERT(false);
    return 0;
}

static enum rc check_shape(const struct gguf *g, const struct gguf_tensor *t,
                           const uint64_t want[GGUF_DIMS_MAX], struct err *err)
{
    bool same = true;
    char text[2][96] = {"", ""};
    size_t at[2] = {0, 0};
    for (uint32_t i = 0; i < GGUF_DIMS_MAX; i++) {
        uint64_t have_want[2] = {t->dims[i], want[i]};
        same = same && t->dims[i] == want[i];
        for (int k = 0; k < 2; k++) {
            int n = snprintf(text[k] + at[k], sizeof(text[k]) - at[k], "%s%llu", i > 0 ? ", " : "",
                             (unsigned long long)have_want[k]);
            at[k] += (size_t)n;
        }
    }
    if (!same) {
        return err_set(err, RC_CORRUPT,
                       "%s: at byte %llu: tensor '%.*s' has shape {%s}, expected {%s}",
                       gguf_name(g), (unsigned long long)t->offset, STR(t->name), text[0], text[1]);
    }
    return RC_OK;
}

/* ---- binding ---- */

struct binder {
    struct weights *w;
    const struct modelconf *c;
    const struct gguf *g;
    struct err *err;
    const struct gguf_tensor **bound;
    uint32_t n_bound, n_bound_max;
    uint64_t type_bytes[DTYPE_NUMBER_MAX];
};

/* Memory that lives as long as the weights, or until all matrices in it are packed; NULL when
 * there is none. */
static void *own(struct weights *w, size_t bytes)
{
    void *memory = mem_try_aligned(CACHE_LINE_BYTES, bytes);
    if (memory != NULL) {
        w->owned[w->n_owned++] = (struct weights_owned){memory, bytes, 0};
    }
    return memory;
}

/* The memory of ours that `at` points into, or NULL. */
static struct weights_owned *owner_of(const struct weights *w, const unsigned char *at)
{
    for (uint32_t i = 0; i < w->n_owned; i++) {
        struct weights_owned *o = &w->owned[i];
        if (o->at != NULL && at >= o->at && at < o->at + o->bytes) {
            return o;
        }
    }
    return NULL;
}

/* The tensor's bytes: mapped, or read into memory of ours. */
static enum rc tensor_bytes(struct binder *b, const struct gguf_tensor *t, const void **out)
{
    struct weight_source *src = gguf_source(b->g, t->source_idx);
    ASSERT(t->source_idx < WEIGHT_SOURCES_MAX);
    b->w->sources[t->source_idx] = src;
    b->w->n_sources = MAX(b->w->n_sources, t->source_idx + 1);
    if (src->map != NULL) {
        *out = src->map + t->offset;
        return RC_OK;
    }
    void *copy = own(b->w, t->n_bytes);
    if (copy == NULL) {
        return err_set(b->err, RC_NOMEM, "no memory for tensor %.*s", STR(t->name));
    }
    *out = copy;
    return src->read_at(src, t->offset, copy, t->n_bytes, b->err);
}

static enum rc bind_matrix(struct binder *b, const struct gguf_tensor *t, struct weight *out)
{
    *out = (struct weight){
        .type = t->type,
        .n_cols = (uint32_t)t->dims[0],
        .n_rows = (uint32_t)t->dims[1],
        .n_experts = (uint32_t)t->dims[2],
    };
    if (!dtype_row_bytes(t->type, out->n_cols, &out->row_bytes)) {
        return err_set(b->err, RC_CORRUPT, "%s: tensor '%.*s': %u columns are no whole %s blocks",
                       gguf_name(b->g), STR(t->name), out->n_cols, dtype_row(t->type)->name);
    }
    return tensor_bytes(b, t, &out->data);
}

static enum rc bind_vector(struct binder *b, const struct gguf_tensor *t, struct vec *out)
{
    const void *bytes = NULL;
    enum rc rc = tensor_bytes(b, t, &bytes);
    if (rc != RC_OK) {
        return rc;
    }
    uint64_t n = t->dims[0] * t->dims[1]; /* both were compared with checked sizes */
    float *values = own(b->w, (size_t)n * sizeof(float));
    if (values == NULL) {
        return err_set(b->err, RC_NOMEM, "no memory for tensor %.*s", STR(t->name));
    }
    quant_dequantize(t->type, bytes, values, (size_t)n);
    *out = (struct vec){values, (uint32_t)n};
    return RC_OK;
}

/* Binds one row of the table for `layer` into the struct at `base`. */
static enum rc bind_row(struct binder *b, const struct tensor_row *row, const char *name,
                        uint32_t layer, unsigned char *base)
{
    bool need = modelconf_has(b->c, row->need);
    if (!need && !modelconf_has(b->c, row->may)) {
        return RC_OK;
    }
    const struct gguf_tensor *t = gguf_find_tensor(b->g, name);
    if (t == NULL) {
        return !need ? RC_OK
                     : err_set(b->err, RC_CORRUPT, "%s: tensor '%s' is missing", gguf_name(b->g),
                               name);
    }
    uint64_t want[GGUF_DIMS_MAX] = {1, 1, 1, 1};
    for (uint32_t i = 0; i < ARRAY_LEN(row->dims); i++) {
        want[i] = dim_value(b->c, layer, row->dims[i]);
    }
    enum rc rc = check_shape(b->g, t, want, b->err);
    if (rc != RC_OK) {
        return rc;
    }
    ASSERT(b->n_bound < b->n_bound_max);
    b->bound[b->n_bound++] = t;
    b->w->n_params += want[0] * want[1] * want[2];
    b->w->n_bytes += t->n_bytes;
    b->type_bytes[t->type] += t->n_bytes;
    void *to = base + row->offset;
    return row->kind == MATRIX ? bind_matrix(b, t, to) : bind_vector(b, t, to);
}

static enum rc bind_rows(struct binder *b, const struct tensor_row *rows, size_t n_rows,
                         uint32_t layer)
{
    for (size_t i = 0; i < n_rows; i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "blk.%u.%s", layer, rows[i].name);
        enum rc rc = bind_row(b, &rows[i], name, layer, (unsigned char *)&b->w->layers[layer]);
        if (rc != RC_OK) {
            return rc;
        }
    }
    return RC_OK;
}

/* gate‖up as two matrices: backends pair rows of the one with rows of the other. */
static void split_gate_up(struct weights_layer *l)
{
    l->up.n_rows /= 2;
    l->gate = l->up;
    l->up.data = (const unsigned char *)l->up.data + l->up.row_bytes * l->up.n_rows;
}

static enum rc bind_layer(struct binder *b, uint32_t layer)
{
    bool moe = modelconf_has(b->c, ARCH_MOE);
    enum rc rc = bind_rows(b, layer_rows, ARRAY_LEN(layer_rows), layer);
    if (rc != RC_OK) {
        return rc;
    }
    if (moe) {
        return bind_rows(b, expert_rows, ARRAY_LEN(expert_rows), layer);
    }
    rc = bind_rows(b, dense_rows, ARRAY_LEN(dense_rows), layer);
    if (rc == RC_OK && modelconf_has(b->c, ARCH_FUSED_GATE)) {
        split_gate_up(&b->w->layers[layer]);
    }
    return rc;
}

/* A tensor that nobody reads means a network other than the one we would compute. */
static enum rc refuse_strangers(const struct binder *b)
{
    for (uint32_t i = 0; i < gguf_n_tensors(b->g) && b->n_bound < gguf_n_tensors(b->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(b->g, i);
        uint32_t k = 0;
        while (k < b->n_bound && b->bound[k] != t) {
            k++;
        }
        if (k == b->n_bound) {
            return err_set(b->err, RC_UNSUPPORTED, "%s: tensor '%.*s' has no place in a %s model",
                           gguf_name(b->g), STR(t->name), b->c->arch->name);
        }
    }
    return RC_OK;
}

static enum rc bind_all(struct binder *b)
{
    for (size_t i = 0; i < ARRAY_LEN(global_rows); i++) {
        enum rc rc = bind_row(b, &global_rows[i], global_rows[i].name, 0, (unsigned char *)b->w);
        if (rc != RC_OK) {
            return rc;
        }
    }
    for (uint32_t layer = 0; layer < b->c->n_layers; layer++) {
        enum rc rc = bind_layer(b, layer);
        if (rc != RC_OK) {
            return rc;
        }
    }
    if ((b->w->rope_long.data != NULL) != (b->w->rope_short.data != NULL)) {
        return err_set(b->err, RC_CORRUPT, "%s: only one of rope_factors_long and _short",
                       gguf_name(b->g));
    }
    b->w->token_embd.single_rows = b->w->output.data != NULL;
    return refuse_strangers(b);
}

RC weights_init(struct weights *w, const struct modelconf *c, const struct gguf *g, struct err *err)
{
    *w = (struct weights){.n_layers = c->n_layers};
    size_t per_layer = ARRAY_LEN(layer_rows) + MAX(ARRAY_LEN(dense_rows), ARRAY_LEN(expert_rows));
    struct binder b = {.w = w, .c = c, .g = g, .err = err};
    b.n_bound_max = (uint32_t)(ARRAY_LEN(global_rows) + c->n_layers * per_layer);
    b.bound = mem_zalloc_array(b.n_bound_max, sizeof(b.bound[0]));
    w->layers = mem_zalloc_array(c->n_layers, sizeof(w->layers[0]));
    /* At most two for each: a vector's bytes that were read, and its floats. */
    w->owned = mem_zalloc_array(2 * (size_t)b.n_bound_max, sizeof(w->owned[0]));
    enum rc rc = bind_all(&b);
    mem_free(b.bound);
    for (uint32_t type = 0; type < DTYPE_NUMBER_MAX; type++) {
        if (b.type_bytes[type] > b.type_bytes[w->main_type]) {
            w->main_type = (enum dtype)type;
        }
    }
    if (rc != RC_OK) {
        weights_deinit(w);
    }
    return rc;
}

/* ---- the backend's copies ---- */

struct walk;
typedef enum rc (*weight_fn)(struct walk *k, struct weight *w, struct err *err);

struct walk {
    struct weights *weights;
    weight_fn each;
    weights_progress_fn progress; /* may be NULL */
    void *ctx;
    uint64_t done_bytes;
};

static enum rc release_one(struct walk *k, struct weight *w, struct err *err)
{
    UNUSED(err);
    k->weights->backend->ops->weight_release(k->weights->backend, w);
    return RC_OK;
}

/* The file's copy of a weight that was packed need not stay in memory; ours of a file that cannot
 * be mapped goes when all matrices in it are packed. */
static void drop_source(const struct weights *all, const struct weight *w, uint64_t n_bytes)
{
    const unsigned char *data = w->data;
    struct weights_owned *o = owner_of(all, data);
    if (o != NULL) {
        o->packed_bytes += n_bytes;
        if (o->packed_bytes == o->bytes) {
            mem_free(o->at);
            o->at = NULL;
        }
        return;
    }
    for (uint32_t i = 0; i < all->n_sources; i++) {
        struct weight_source *src = all->sources[i];
        if (src != NULL && src->drop != NULL && src->map != NULL && data >= src->map &&
            data < src->map + src->size_bytes) {
            src->drop(src, (uint64_t)(data - src->map), n_bytes);
        }
    }
}

static enum rc prepare_one(struct walk *k, struct weight *w, struct err *err)
{
    struct weights *all = k->weights;
    uint64_t n_bytes = w->row_bytes * w->n_rows * w->n_experts;
    enum rc rc = all->backend->ops->weight_prepare(all->backend, w, err);
    if (rc != RC_OK) {
        return rc;
    }
    if (w->packed != NULL) {
        all->resident_bytes += w->packed_bytes;
        all->resident_bytes -= n_bytes;
        drop_source(all, w, n_bytes);
    }
    k->done_bytes += n_bytes;
    if (k->progress != NULL) {
        k->progress(k->ctx, MIN(k->done_bytes, all->n_bytes), all->n_bytes);
    }
    return RC_OK;
}

static enum rc walk_rows(struct walk *k, const struct tensor_row *rows, size_t n_rows, void *base,
                         struct err *err)
{
    for (size_t i = 0; i < n_rows; i++) {
        struct weight *w = (struct weight *)(void *)((unsigned char *)base + rows[i].offset);
        bool again = i > 0 && rows[i].offset == rows[i - 1].offset; /* two shapes of one place */
        if (rows[i].kind != MATRIX || again || w->data == NULL) {
            continue;
        }
        enum rc rc = k->each(k, w, err);
        if (rc != RC_OK) {
            return rc;
        }
    }
    return RC_OK;
}

/* Every matrix once. The expert rows lead to the same places as the dense ones, and to the
 * router. */
static enum rc walk_all(struct walk *k, struct err *err)
{
    struct weights *w = k->weights;
    enum rc rc = walk_rows(k, global_rows, ARRAY_LEN(global_rows), w, err);
    for (uint32_t i = 0; i < w->n_layers && rc == RC_OK; i++) {
        rc = walk_rows(k, layer_rows, ARRAY_LEN(layer_rows), &w->layers[i], err);
        if (rc == RC_OK) {
            bool moe = w->layers[i].router.data != NULL;
            rc = moe ? walk_rows(k, expert_rows, ARRAY_LEN(expert_rows), &w->layers[i], err)
                     : walk_rows(k, dense_rows, ARRAY_LEN(dense_rows), &w->layers[i], err);
        }
    }
    return rc;
}

RC weights_prepare(struct weights *w, struct backend *b, weights_progress_fn progress, void *ctx,
                   struct err *err)
{
    w->backend = b;
    w->resident_bytes = w->n_bytes;
    struct walk k = {.weights = w, .each = prepare_one, .progress = progress, .ctx = ctx};
    return walk_all(&k, err);
}

void weights_deinit(struct weights *w)
{
    if (w->backend != NULL) {
        struct walk k = {.weights = w, .each = release_one};
        enum rc rc = walk_all(&k, NULL);
        ASSERT(rc == RC_OK);
        w->backend = NULL;
    }
    for (uint32_t i = 0; i < w->n_owned; i++) {
        mem_free(w->owned[i].at);
    }
    mem_free(w->owned);
    mem_free(w->layers);
    *w = (struct weights){0};
}
