/* modelconf.c: from GGUF keys to struct modelconf. */
#include "engine/model/modelconf.h"

#include <math.h>
#include <stdio.h>

#include "base/mem.h"

enum { KEY_BYTES = 96 };

/* What a reading function needs to name a key and to complain. */
struct reader {
    const struct gguf *g;
    const char *arch;
    struct err *err;
    char key[KEY_BYTES];
};

/* ---- single keys ---- */

static const char *key_of(struct reader *r, const char *suffix)
{
    (void)snprintf(r->key, sizeof(r->key), "%s.%s", r->arch, suffix);
    return r->key;
}

static enum rc out_of_range(struct reader *r, double value, double min, double max)
{
    const struct gguf_kv *kv = gguf_find(r->g, r->key);
    if (kv == NULL) { /* a default made of other keys */
        return err_set(r->err, RC_CORRUPT, "%s: key '%s' is missing", gguf_name(r->g), r->key);
    }
    return err_set(r->err, RC_CORRUPT,
                   "%s: at byte %llu: key '%s' is %.10g, expected %.10g to %.10g", gguf_name(r->g),
                   (unsigned long long)kv->offset, r->key, value, min, max);
}

/* A whole number in [min, max]; `fallback` when absent. A fallback below min: the key must be
 * there. */
struct u32_key {
    const char *suffix;
    uint32_t fallback, min, max;
};

static enum rc read_u32(struct reader *r, struct u32_key k, uint32_t *out)
{
    enum rc rc = gguf_get_u32(r->g, key_of(r, k.suffix), k.fallback, out, r->err);
    if (rc == RC_OK && (*out < k.min || *out > k.max)) {
        return out_of_range(r, *out, k.min, k.max);
    }
    return rc;
}

struct f32_key {
    const char *suffix;
    float fallback, min, max;
};

static enum rc read_f32(struct reader *r, struct f32_key k, float *out)
{
    enum rc rc = gguf_get_f32(r->g, key_of(r, k.suffix), k.fallback, out, r->err);
    /* Written so that NaN fails. */
    if (rc == RC_OK && !(*out >= k.min && *out <= k.max)) {
        return out_of_range(r, (double)*out, (double)k.min, (double)k.max);
    }
    return rc;
}

/* One value per layer: an array of n_layers, or one number for all. *out is the item of `layer`. */
static enum rc layer_u32(struct reader *r, struct u32_key k, uint32_t layer, uint32_t *out)
{
    const struct gguf_kv *kv = gguf_find(r->g, key_of(r, k.suffix));
    if (kv == NULL || kv->type != GGUF_ARRAY) {
        return read_u32(r, k, out);
    }
    bool whole = kv->item_type != GGUF_STRING && kv->item_type != GGUF_F32 &&
                 kv->item_type != GGUF_F64 && kv->item_type != GGUF_ARRAY;
    if (!whole || layer >= kv->n) {
        return err_set(r->err, RC_CORRUPT,
                       "%s: at byte %llu: key '%s' is no list of a whole number per layer",
                       gguf_name(r->g), (unsigned long long)kv->offset, r->key);
    }
    int64_t value = gguf_kv_i64(kv, layer);
    if (value < (int64_t)k.min || value > (int64_t)k.max) {
        return out_of_range(r, (double)value, k.min, k.max);
    }
    *out = (uint32_t)value;
    return RC_OK;
}

/* ---- groups of keys ---- */

static enum rc read_sizes(struct reader *r, struct modelconf *c)
{
    struct str name;
    enum rc rc = gguf_get_str(r->g, "general.name", STR_NULL, &name, r->err);
    if (rc != RC_OK) {
        return rc;
    }
    str_copy(c->name, sizeof(c->name), name);
    rc = read_u32(r, (struct u32_key){"block_count", 0, 1, MODELCONF_LAYERS_MAX}, &c->n_layers);
    if (rc != RC_OK) {
        return rc;
    }
    rc = read_u32(r, (struct u32_key){"embedding_length", 0, 1, MODELCONF_WIDTH_MAX}, &c->n_embd);
    if (rc != RC_OK) {
        return rc;
    }
    rc = read_u32(r, (struct u32_key){"context_length", 0, 1, MODELCONF_CONTEXT_MAX},
                  &c->context_trained);
    if (rc != RC_OK) {
        return rc;
    }
    bool encoder = (c->arch->traits & ARCH_ENCODER) != 0;
    struct f32_key eps = {encoder ? "attention.layer_norm_epsilon"
                                  : "attention.layer_norm_rms_epsilon",
                          encoder ? 1e-12f : 1e-5f, 0, 1};
    rc = read_f32(r, eps, &c->norm_eps);
    if (rc != RC_OK) {
        return rc;
    }
    const struct gguf_tensor *embd = gguf_find_tensor(r->g, "token_embd.weight");
    if (embd == NULL) {
        return err_set(r->err, RC_CORRUPT, "%s: tensor 'token_embd.weight' is missing",
                       gguf_name(r->g));
    }
    if (embd->dims[1] < 1 || embd->dims[1] > MODELCONF_VOCAB_MAX) {
        return err_set(r->err, RC_CORRUPT, "%s: tensor 'token_embd.weight' has %llu rows, limit %u",
                       gguf_name(r->g), (unsigned long long)embd->dims[1], MODELCONF_VOCAB_MAX);
    }
    c->n_vocab = (uint32_t)embd->dims[1];
    return RC_OK;
}

/* Whether `layer` has a window: the file's pattern (a number, or a flag per layer), else the
 * architecture's. */
static enum rc layer_is_windowed(struct reader *r, const struct modelconf *c, uint32_t layer,
                                 bool *out)
{
    uint32_t pattern = c->arch->window_pattern;
    struct u32_key key = {"attention.sliding_window_pattern", pattern, 0, MODELCONF_LAYERS_MAX};
    const struct gguf_kv *kv = gguf_find(r->g, key_of(r, key.suffix));
    enum rc rc = layer_u32(r, key, layer, &pattern);
    if (kv != NULL && kv->type == GGUF_ARRAY) {
        *out = pattern != 0;
    } else {
        *out = pattern == 1 || (pattern > 1 && (layer + 1) % pattern != 0);
    }
    return rc;
}

static enum rc read_layer(struct reader *r, struct modelconf *c, uint32_t layer)
{
    struct modelconf_layer *l = &c->layers[layer];
    struct u32_key heads = {"attention.head_count", 0, 1, MODELCONF_WIDTH_MAX};
    enum rc rc = layer_u32(r, heads, layer, &l->n_heads);
    if (rc != RC_OK) {
        return rc;
    }
    struct u32_key kv_heads = {"attention.head_count_kv", l->n_heads, 1, l->n_heads};
    rc = layer_u32(r, kv_heads, layer, &l->n_kv_heads);
    if (rc != RC_OK) {
        return rc;
    }
    if (l->n_heads % l->n_kv_heads != 0) {
        return err_set(r->err, RC_CORRUPT, "%s: %u heads in layer %u cannot share %u key heads",
                       gguf_name(r->g), l->n_heads, layer, l->n_kv_heads);
    }
    bool dense = modelconf_has(c, ARCH_DENSE);
    struct u32_key ff = {"feed_forward_length", 0, dense ? 1 : 0, MODELCONF_WIDTH_MAX};
    rc = layer_u32(r, ff, layer, &l->n_ff);
    if (rc != RC_OK || c->arch->window_pattern == 0) {
        return rc;
    }
    bool windowed = false;
    rc = layer_is_windowed(r, c, layer, &windowed);
    if (rc == RC_OK && windowed) {
        struct u32_key window = {"attention.sliding_window", c->arch->window_tokens, 0, UINT32_MAX};
        rc = read_u32(r, window, &l->window);
    }
    return rc;
}

static enum rc read_layers(struct reader *r, struct modelconf *c)
{
    c->layers = mem_zalloc_array(c->n_layers, sizeof(c->layers[0]));
    for (uint32_t i = 0; i < c->n_layers; i++) {
        enum rc rc = read_layer(r, c, i);
        if (rc != RC_OK) {
            return rc;
        }
        c->n_heads_max = MAX(c->n_heads_max, c->layers[i].n_heads);
        c->n_kv_heads_max = MAX(c->n_kv_heads_max, c->layers[i].n_kv_heads);
        c->n_ff_max = MAX(c->n_ff_max, c->layers[i].n_ff);
    }
    return RC_OK;
}

static enum rc read_heads(struct reader *r, struct modelconf *c)
{
    uint32_t d_value;
    uint32_t even_split = c->n_embd / c->layers[0].n_heads;
    struct u32_key key = {"attention.key_length", even_split, 2, MODELCONF_HEAD_MAX};
    enum rc rc = read_u32(r, key, &c->d_head);
    if (rc != RC_OK) {
        return rc;
    }
    rc = read_u32(r, (struct u32_key){"attention.value_length", c->d_head, 1, MODELCONF_HEAD_MAX},
                  &d_value);
    if (rc != RC_OK) {
        return rc;
    }
    if (d_value != c->d_head) {
        return err_set(r->err, RC_UNSUPPORTED, "%s: keys of %u channels and values of %u",
                       gguf_name(r->g), c->d_head, d_value);
    }
    if ((uint64_t)c->n_heads_max * c->d_head > MODELCONF_WIDTH_MAX) {
        return err_set(r->err, RC_CORRUPT, "%s: %u heads of %u channels, limit %u in all",
                       gguf_name(r->g), c->n_heads_max, c->d_head, MODELCONF_WIDTH_MAX);
    }
    struct u32_key rot = {"rope.dimension_count", c->d_head, 2, c->d_head};
    rc = read_u32(r, rot, &c->n_rot);
    if (rc == RC_OK && c->n_rot % 2 != 0) {
        return err_set(r->err, RC_CORRUPT, "%s: key '%s' is %u, which is odd", gguf_name(r->g),
                       r->key, c->n_rot);
    }
    return rc;
}

static enum rc read_attention(struct reader *r, struct modelconf *c)
{
    struct f32_key key = {"attention.scale", 0, 0, 1e6f};
    enum rc rc = read_f32(r, key, &c->attn_scale);
    if (rc != RC_OK) {
        return rc;
    }
    if (c->attn_scale <= 0) {
        bool wide = c->arch->n_layers_wide_scale == c->n_layers;
        uint32_t divisor = wide ? c->n_embd / c->layers[0].n_heads : c->d_head;
        c->attn_scale = (float)(1.0 / sqrt((double)MAX(divisor, 1u)));
    }
    rc = read_f32(r, (struct f32_key){"attn_logit_softcapping", 0, 0, 1e6f}, &c->attn_softcap);
    if (rc != RC_OK) {
        return rc;
    }
    rc = read_f32(r, (struct f32_key){"final_logit_softcapping", 0, 0, 1e6f}, &c->final_softcap);
    c->embed_scale = modelconf_has(c, ARCH_EMBED_SCALE) ? sqrtf((float)c->n_embd) : 1.0f;
    return rc;
}

static enum rc read_rope_scaling(struct reader *r, struct modelconf *c)
{
    struct str type;
    enum rc rc = gguf_get_str(r->g, key_of(r, "rope.scaling.type"), STR_LIT("none"), &type, r->err);
    if (rc != RC_OK) {
        return rc;
    }
    struct modelconf_rope *rope = &c->rope;
    if (str_is(type, "linear")) {
        rope->scaling = ROPE_SCALING_LINEAR;
    } else if (str_is(type, "yarn")) {
        rope->scaling = ROPE_SCALING_YARN;
    } else if (!str_is(type, "none") && !str_is(type, "longrope")) {
        return err_set(r->err, RC_UNSUPPORTED, "%s: rope scaling '%.*s' is not known",
                       gguf_name(r->g), (int)MIN(type.len, (size_t)64), type.ptr);
    }
    rc = read_f32(r, (struct f32_key){"rope.scaling.factor", 1, 0, 1e6f}, &rope->factor);
    if (rc != RC_OK) {
        return rc;
    }
    if (rope->factor <= 0 || rope->scaling == ROPE_SCALING_NONE) {
        rope->factor = 1; /* 0 is how some files say "none" */
    }
    struct u32_key original = {"rope.scaling.original_context_length", 0, 0, MODELCONF_CONTEXT_MAX};
    rc = read_u32(r, original, &rope->original_tokens);
    if (rc != RC_OK) {
        return rc;
    }
    rc = read_f32(r, (struct f32_key){"rope.scaling.yarn_beta_fast", 32, 1e-3f, 1e6f},
                  &rope->beta_fast);
    if (rc != RC_OK) {
        return rc;
    }
    return read_f32(r, (struct f32_key){"rope.scaling.yarn_beta_slow", 1, 1e-3f, 1e6f},
                    &rope->beta_slow);
}

static enum rc read_rope(struct reader *r, struct modelconf *c)
{
    struct modelconf_rope *rope = &c->rope;
    struct f32_key base = {"rope.freq_base", 10000, 1.0001f, 1e15f};
    enum rc rc = read_f32(r, base, &rope->base);
    if (rc != RC_OK) {
        return rc;
    }
    rope->local_base = rope->base;
    if (modelconf_has(c, ARCH_ROPE_LOCAL)) {
        struct f32_key local = {"rope.freq_base_swa", c->arch->rope_local_base, 1.0001f, 1e15f};
        rc = read_f32(r, local, &rope->local_base);
        if (rc != RC_OK) {
            return rc;
        }
    }
    rc = read_f32(r, (struct f32_key){"rope.scaling.attn_factor", 1, 1e-6f, 1e6f},
                  &rope->attn_factor);
    return rc != RC_OK ? rc : read_rope_scaling(r, c);
}

static enum rc read_experts(struct reader *r, struct modelconf *c)
{
    struct u32_key count = {"expert_count", 0, 0, MODELCONF_EXPERTS_MAX};
    enum rc rc = read_u32(r, count, &c->n_experts);
    if (rc != RC_OK) {
        return rc;
    }
    bool may = (c->arch->traits & (ARCH_MAY_MOE | ARCH_NEED_MOE)) != 0;
    bool need = (c->arch->traits & ARCH_NEED_MOE) != 0;
    if ((c->n_experts > 0 && !may) || (c->n_experts == 0 && need)) {
        return err_set(r->err, RC_CORRUPT, "%s: %s is %u, which is not a %s model", gguf_name(r->g),
                       r->key, c->n_experts, r->arch);
    }
    c->traits = c->arch->traits | (c->n_experts > 0 ? ARCH_MOE : ARCH_DENSE);
    if (c->n_experts == 0) {
        return RC_OK;
    }
    uint32_t used_max = MIN(c->n_experts, (uint32_t)BACKEND_EXPERTS_USED_MAX);
    rc = read_u32(r, (struct u32_key){"expert_used_count", 0, 1, used_max}, &c->n_experts_used);
    if (rc != RC_OK) {
        return rc;
    }
    rc = gguf_get_bool(r->g, key_of(r, "expert_weights_norm"), true, &c->experts_renormalise,
                       r->err);
    if (rc != RC_OK) {
        return rc;
    }
    rc = read_f32(r, (struct f32_key){"expert_weights_scale", 1, 0, 1e6f}, &c->experts_scale);
    if (c->experts_scale <= 0) {
        c->experts_scale = 1; /* 0 is how some files say "none" */
    }
    return rc;
}

/* The width of one expert: its own key, else the dense width's (Mixtral). */
static enum rc read_expert_width(struct reader *r, struct modelconf *c)
{
    if (c->n_experts == 0) {
        return RC_OK;
    }
    struct u32_key key = {"expert_feed_forward_length", c->layers[0].n_ff, 1, MODELCONF_WIDTH_MAX};
    return read_u32(r, key, &c->n_ff_expert);
}

/* The rows of a small matrix that need not be there. */
static enum rc tensor_rows(struct reader *r, const char *name, uint32_t max, uint32_t *out)
{
    const struct gguf_tensor *t = gguf_find_tensor(r->g, name);
    if (t != NULL && t->dims[1] > max) {
        return err_set(r->err, RC_CORRUPT, "%s: tensor '%s' has %llu rows, limit %u",
                       gguf_name(r->g), name, (unsigned long long)t->dims[1], max);
    }
    *out = t != NULL ? (uint32_t)t->dims[1] : 0;
    return RC_OK;
}

/* A decoder says by its pooling that it embeds; an encoder can do nothing else. */
static enum rc read_pooling(struct reader *r, struct modelconf *c)
{
    bool encoder = modelconf_has(c, ARCH_ENCODER);
    uint32_t pooling = 0;
    struct u32_key key = {"pooling_type", encoder ? POOLING_MEAN : POOLING_NONE, 0, POOLING_RANK};
    enum rc rc = read_u32(r, key, &pooling);
    if (rc != RC_OK) {
        return rc;
    }
    /* An encoder's file that says none leaves it to its user: the mean is what most were made for.
     */
    c->pooling = encoder && pooling == POOLING_NONE ? POOLING_MEAN : (enum pooling)pooling;
    c->embeds = c->pooling != POOLING_NONE;
    if (c->pooling != POOLING_RANK) {
        return RC_OK;
    }
    c->traits |= ARCH_RANK;
    /* One number, or the two words of a decoder's answer: yes and no. */
    uint32_t labels_max = encoder ? 1 : 2;
    rc = tensor_rows(r, "cls.output.weight", UINT32_MAX, &c->n_labels);
    if (rc == RC_OK && (c->n_labels < 1 || c->n_labels > labels_max)) {
        return err_set(r->err, RC_UNSUPPORTED, "%s: a classifier of %u labels is no reranker",
                       gguf_name(r->g), c->n_labels);
    }
    return rc;
}

/* What an encoder's file alone decides. */
static enum rc read_encoder(struct reader *r, struct modelconf *c)
{
    if (!modelconf_has(c, ARCH_ENCODER)) {
        return RC_OK;
    }
    bool fused = gguf_find_tensor(r->g, "blk.0.attn_qkv.weight") != NULL;
    bool causal = false;
    c->traits |= fused ? ARCH_FUSED_QKV : ARCH_SPLIT_QKV;
    enum rc rc = gguf_get_bool(r->g, key_of(r, "attention.causal"), false, &causal, r->err);
    if (rc != RC_OK) {
        return rc;
    }
    if (causal) {
        return err_set(r->err, RC_UNSUPPORTED, "%s: a causal %s model", gguf_name(r->g), r->arch);
    }
    if (modelconf_has(c, ARCH_POSITIONS) && (uint64_t)c->context_trained * c->n_embd > UINT32_MAX) {
        return err_set(r->err, RC_CORRUPT, "%s: %u positions of %u channels", gguf_name(r->g),
                       c->context_trained, c->n_embd);
    }
    return tensor_rows(r, "token_types.weight", MODELCONF_TOKEN_TYPES_MAX, &c->n_token_types);
}

/* ---- all ---- */

static enum rc read_arch(const struct gguf *g, struct modelconf *c, struct err *err)
{
    struct str name;
    enum rc rc = gguf_need_str(g, "general.architecture", &name, err);
    if (rc != RC_OK) {
        return rc;
    }
    c->arch = arch_find(name);
    if (c->arch == NULL) {
        struct buf known;
        buf_init(&known, 1024);
        arch_list(&known);
        rc = err_set(err, RC_UNSUPPORTED, "%s: architecture '%.*s' is not known; known are %.*s",
                     gguf_name(g), (int)MIN(name.len, (size_t)64), name.ptr, STR(buf_str(&known)));
        buf_deinit(&known);
    }
    return rc;
}

RC modelconf_init(struct modelconf *c, const struct gguf *g, struct err *err)
{
    *c = (struct modelconf){0};
    enum rc rc = read_arch(g, c, err);
    if (rc != RC_OK) {
        return rc;
    }
    typedef enum rc (*read_fn)(struct reader *, struct modelconf *);
    static const read_fn steps[] = {
        read_sizes,     read_experts, read_layers,  read_expert_width, read_heads,
        read_attention, read_rope,    read_pooling, read_encoder,
    };
    struct reader r = {.g = g, .arch = c->arch->name, .err = err};
    for (size_t i = 0; i < ARRAY_LEN(steps) && rc == RC_OK; i++) {
        rc = steps[i](&r, c);
    }
    if (rc != RC_OK) {
        modelconf_deinit(c);
    }
    return rc;
}

void modelconf_deinit(struct modelconf *c)
{
    mem_free(c->layers);
    c->layers = NULL;
}

uint64_t modelconf_row_floats(const struct modelconf *c)
{
    bool encoder = modelconf_has(c, ARCH_ENCODER);
    uint64_t n_q = (uint64_t)c->n_heads_max * c->d_head;
    uint64_t n_kv = (uint64_t)c->n_kv_heads_max * c->d_head;
    uint64_t floats = c->n_embd + n_q + 2 * n_kv + n_q;
    if (encoder || modelconf_has(c, ARCH_DENSE)) {
        floats += c->n_ff_max;
    }
    if (!encoder && modelconf_has(c, ARCH_POST_NORMS)) {
        floats += c->n_embd;
    }
    if (!encoder || !modelconf_has(c, ARCH_POSITIONS)) {
        floats += c->n_rot;
    }
    if (!encoder && modelconf_has(c, ARCH_ROPE_LOCAL)) {
        floats += c->n_rot;
    }
    return floats;
}
