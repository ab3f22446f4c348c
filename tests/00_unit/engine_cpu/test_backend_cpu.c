/* The "cpu" backend against the reference backend, operation by operation, on shapes that do not
 * fill vectors, tiles or pages; and the same bits for every number of threads. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/ref.h"
#include "engine/format/quant.h"

enum { TOKENS_MAX = 48 };

static float random_unit(struct rng *r)
{
    return (float)rng_u32(r) * 0x1p-31f - 1.0f;
}

static float *random_floats(struct rng *r, size_t n)
{
    float *x = mem_zalloc_array(n, sizeof(float));
    for (size_t i = 0; i < n; i++) {
        x[i] = random_unit(r);
    }
    return x;
}

/* ---- both backends side by side ---- */

struct pair {
    struct backend *cpu, *ref;
    struct rng rng;
};

static void pair_open(struct pair *p, uint32_t n_threads, uint64_t seed)
{
    struct backend_conf conf = {.n_threads = n_threads, .tokens_max = TOKENS_MAX};
    struct err err = {0};
    assert_int_equal(backend_cpu_ops.open(&p->cpu, &conf, &err), RC_OK);
    assert_int_equal(ref_backend_ops.open(&p->ref, &conf, &err), RC_OK);
    rng_init(&p->rng, seed);
}

static void pair_close(struct pair *p)
{
    p->cpu->ops->close(p->cpu);
    p->ref->ops->close(p->ref);
}

/* A random matrix of the type; its data is freed with mem_free. */
static struct weight pair_weight(struct pair *p, enum dtype type, uint32_t n_rows, uint32_t n_cols,
                                 uint32_t n_experts)
{
    struct weight w = {.type = type, .n_cols = n_cols, .n_rows = n_rows, .n_experts = n_experts};
    assert_true(dtype_row_bytes(type, n_cols, &w.row_bytes));
    size_t n = (size_t)n_rows * n_cols * n_experts;
    float *values = random_floats(&p->rng, n);
    void *data = mem_zalloc(w.row_bytes * n_rows * n_experts);
    assert_int_equal(quant_quantize(type, values, data, n, NULL, NULL), RC_OK);
    mem_free(values);
    w.data = data;
    assert_int_equal(p->cpu->ops->weight_prepare(p->cpu, &w, NULL), RC_OK);
    assert_int_equal(p->ref->ops->weight_prepare(p->ref, &w, NULL), RC_OK);
    return w;
}

/* Root mean square of the difference over that of the wanted values. */
static double relative_error(const float *have, const float *want, size_t n)
{
    double diff = 0, size = 1e-30;
    for (size_t i = 0; i < n; i++) {
        diff += ((double)have[i] - (double)want[i]) * ((double)have[i] - (double)want[i]);
        size += (double)want[i] * (double)want[i];
    }
    return sqrt(diff / size);
}

static void expect_near(const char *what, const float *have, const float *want, size_t n,
                        double tolerance)
{
    double error = relative_error(have, want, n);
    if (!(error <= tolerance)) {
        fail_msg("%s: relative error %.3g, allowed %.3g", what, error, tolerance);
    }
}

/* ---- linear ---- */

/* Activations of 8 bits: half a step of max / 127 per value, which for evenly spread values is
 * 0.23 % of their size in blocks of 32 and of 256, and for products of two such (normed rows) 0.39
 * %. */
enum { LINEAR_STRIDE_MORE = 5 };

static double linear_tolerance(enum dtype t)
{
    return dtype_row(t)->block_weights == 1 ? 1e-6 : 9e-3;
}

static void check_linear(enum dtype type, uint32_t n_cols, uint32_t n_tokens, uint32_t n_threads)
{
    struct pair p;
    pair_open(&p, n_threads, (uint64_t)type * 1000 + n_cols + n_tokens);
    struct weight w[2] = {pair_weight(&p, type, 70, n_cols, 1),
                          pair_weight(&p, DTYPE_F32, 33, n_cols, 1)};
    uint32_t stride = n_cols + LINEAR_STRIDE_MORE;
    float *in = random_floats(&p.rng, (size_t)n_tokens * stride);
    float *bias = random_floats(&p.rng, 70);
    float *out[2][2];
    for (int b = 0; b < 2; b++) {
        struct backend *backend = b == 0 ? p.cpu : p.ref;
        out[b][0] = mem_zalloc_array((size_t)n_tokens * 70, sizeof(float));
        out[b][1] = mem_zalloc_array((size_t)n_tokens * 33, sizeof(float));
        for (uint32_t i = 0; i < n_tokens * 33; i++) {
            out[b][1][i] = (float)(i % 5);
        }
        struct linear l[] = {{&w[0], {bias, 70}, out[b][0], 0, false, 0},
                             {&w[1], {0}, out[b][1], 0, true, 0}};
        struct rows_in rows = {.x = in, .stride = stride};
        if (n_tokens % 2 == 0) {
            l[0].softcap = 20.0f;
            rows.norm = (struct norm){NORM_RMS, {in, n_cols}, {0}, 1e-5f};
        }
        backend->ops->linear(backend, l, 2, &rows, n_tokens);
    }
    expect_near(dtype_row(type)->name, out[0][0], out[1][0], n_tokens * 70, linear_tolerance(type));
    expect_near("F32 added", out[0][1], out[1][1], n_tokens * 33, 1e-6);
    for (int i = 0; i < 4; i++) {
        mem_free(out[i / 2][i % 2]);
    }
    mem_free((void *)(uintptr_t)w[0].data);
    mem_free((void *)(uintptr_t)w[1].data);
    mem_free(in);
    mem_free(bias);
    pair_close(&p);
}

static void linears_are_near_the_reference(void **state)
{
    (void)state;
    static const enum dtype types[] = {
        DTYPE_F32,  DTYPE_F16,    DTYPE_BF16,   DTYPE_Q4_0,  DTYPE_Q4_1, DTYPE_Q5_0,
        DTYPE_Q5_1, DTYPE_Q8_0,   DTYPE_Q2_K,   DTYPE_Q3_K,  DTYPE_Q4_K, DTYPE_Q5_K,
        DTYPE_Q6_K, DTYPE_IQ4_NL, DTYPE_IQ4_XS, DTYPE_MXFP4,
    };
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        uint32_t block = dtype_row(types[i])->block_weights;
        uint32_t n_cols = block == 1 ? 45 : block * 3;
        for (uint32_t n_tokens = 1; n_tokens <= TOKENS_MAX; n_tokens = n_tokens * 3 + 1) {
            check_linear(types[i], n_cols, n_tokens, 1 + n_tokens % 3);
        }
    }
}

/* ---- rows of floats ---- */

static void check_norm(struct pair *p, enum norm_kind kind, uint32_t n)
{
    float *in = random_floats(&p->rng, (size_t)TOKENS_MAX * n);
    float *vectors = random_floats(&p->rng, 2 * (size_t)n);
    struct weight w = pair_weight(p, DTYPE_F32, 1, n, 1); /* makes room for rows of n */
    struct norm norm = {kind, {vectors, n}, {vectors + n, n}, 1e-5f};
    float *y[2];
    for (int i = 0; i < 2; i++) {
        struct backend *b = i == 0 ? p->cpu : p->ref;
        y[i] = mem_zalloc_array((size_t)TOKENS_MAX * n, sizeof(float));
        b->ops->norm(b, y[i], in, &norm, TOKENS_MAX);
    }
    expect_near("norm", y[0], y[1], (size_t)TOKENS_MAX * n, 2e-6);
    for (int i = 0; i < 2; i++) {
        struct backend *b = i == 0 ? p->cpu : p->ref;
        b->ops->residual(b, y[i], in, &norm, TOKENS_MAX);
    }
    expect_near("residual", y[0], y[1], (size_t)TOKENS_MAX * n, 2e-6);
    for (int i = 0; i < 2; i++) {
        struct backend *b = i == 0 ? p->cpu : p->ref;
        b->ops->norm(b, y[i], y[i], &norm, TOKENS_MAX);
        mem_free(i == 0 ? in : vectors);
    }
    mem_free((void *)(uintptr_t)w.data);
    mem_free(y[0]);
    mem_free(y[1]);
}

static void norms_and_sums_are_near_the_reference(void **state)
{
    (void)state;
    static const uint32_t widths[] = {8, 12, 24, 63, 64, 300};
    struct pair p;
    pair_open(&p, 2, 5);
    for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
        check_norm(&p, NORM_RMS, widths[i]);
        check_norm(&p, NORM_LAYER, widths[i]);
    }
    pair_close(&p);
}

/* Gate and up of a network of one input channel are the values themselves: every activation over
 * a wide range of them, beyond the clamps and e^88. */
static void check_activation(struct pair *p, enum act_kind kind, uint32_t n)
{
    bool gate = kind == ACT_SILU_MUL || kind == ACT_GELU_MUL || kind == ACT_OAI_MUL;
    float *values = random_floats(&p->rng, 2 * (size_t)n);
    for (size_t i = 0; i < 2 * (size_t)n; i++) {
        values[i] *= i % 9 == 0 ? 100.0f : 9.0f;
    }
    struct weight w[2] = {{values, DTYPE_F32, 1, n, 1, sizeof(float), NULL, 0, false},
                          {values + n, DTYPE_F32, 1, n, 1, sizeof(float), NULL, 0, false}};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(p->ref->ops->weight_prepare(p->ref, &w[i], NULL), RC_OK);
        assert_int_equal(p->cpu->ops->weight_prepare(p->cpu, &w[i], NULL), RC_OK);
    }
    const float ones[] = {1, 1, 1, 1};
    struct rows_in in = {.x = ones, .stride = 1};
    struct gated g = {{gate ? &w[0] : NULL, {0}}, {&w[1], {0}}, kind};
    float *have = mem_zalloc_array(4 * (size_t)n, sizeof(float));
    float *want = mem_zalloc_array(4 * (size_t)n, sizeof(float));
    p->cpu->ops->gated(p->cpu, have, &g, &in, 4);
    p->ref->ops->gated(p->ref, want, &g, &in, 4);
    for (size_t i = 0; i < 4 * (size_t)n; i++) {
        double slack = 1e-6 * fabs((double)want[i]) + 1e-9;
        assert_true(fabs((double)have[i] - (double)want[i]) <= slack);
    }
    p->cpu->ops->weight_release(p->cpu, &w[0]);
    p->cpu->ops->weight_release(p->cpu, &w[1]);
    mem_free(have);
    mem_free(want);
    mem_free(values);
}

static void activations_are_near_the_reference(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, 3, 6);
    for (uint32_t n = 1; n <= 2500; n = n * 3 + 2) {
        for (enum act_kind kind = 0; kind < ACT_KINDS; kind++) {
            check_activation(&p, kind, n);
        }
    }
    pair_close(&p);
}

/* Matrices of one type and of two, biased, normed, with rows that fill no tile. */
static void check_gated(enum dtype type, uint32_t n_tokens, uint32_t n_threads)
{
    enum { C = 512, FF = 70, MORE = 3 };
    struct pair p;
    pair_open(&p, n_threads, (uint64_t)type * 100 + n_tokens);
    struct weight w[] = {pair_weight(&p, type, FF, C, 1), pair_weight(&p, type, FF, C, 1),
                         pair_weight(&p, DTYPE_Q8_0, FF, C, 1)};
    float *in = random_floats(&p.rng, (size_t)n_tokens * (C + MORE));
    float *vectors = random_floats(&p.rng, C + 2 * FF);
    struct rows_in rows = {in, C + MORE, {NORM_RMS, {vectors, C}, {0}, 1e-5f}};
    struct vec bias[] = {{vectors + C, FF}, {vectors + C + FF, FF}};
    struct gated same = {{&w[0], {0}}, {&w[1], {0}}, ACT_SILU_MUL};
    struct gated mixed = {{&w[2], bias[0]}, {&w[0], bias[1]}, ACT_OAI_MUL};
    struct gated one = {{0}, {&w[1], bias[0]}, ACT_GELU};
    const struct gated *all[] = {&same, &mixed, &one};
    float *have = mem_zalloc_array((size_t)n_tokens * FF, sizeof(float));
    float *want = mem_zalloc_array((size_t)n_tokens * FF, sizeof(float));
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        p.cpu->ops->gated(p.cpu, have, all[i], &rows, n_tokens);
        p.ref->ops->gated(p.ref, want, all[i], &rows, n_tokens);
        expect_near("gated", have, want, (size_t)n_tokens * FF, 3 * linear_tolerance(DTYPE_Q8_0));
    }
    mem_free(have);
    mem_free(want);
    mem_free(in);
    mem_free(vectors);
    for (size_t i = 0; i < ARRAY_LEN(w); i++) {
        mem_free((void *)(uintptr_t)w[i].data);
    }
    pair_close(&p);
}

static void gated_networks_are_near_the_reference(void **state)
{
    (void)state;
    for (uint32_t n_tokens = 1; n_tokens <= TOKENS_MAX; n_tokens = n_tokens * 3 + 1) {
        check_gated(DTYPE_Q4_K, n_tokens, 1 + n_tokens % 3);
        check_gated(DTYPE_Q8_0, n_tokens, 2);
        check_gated(DTYPE_F16, n_tokens, 3);
    }
}

static void embeddings_equal_the_reference(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, 2, 8);
    struct weight w = pair_weight(&p, DTYPE_Q4_K, 50, 512, 1);
    int32_t tokens[TOKENS_MAX];
    for (int32_t i = 0; i < TOKENS_MAX; i++) {
        tokens[i] = i * 7 % 50;
    }
    float *a = mem_zalloc_array(TOKENS_MAX * 512, sizeof(float));
    float *b = mem_zalloc_array(TOKENS_MAX * 512, sizeof(float));
    p.cpu->ops->embed(p.cpu, a, &w, tokens, TOKENS_MAX, 3.5f);
    p.ref->ops->embed(p.ref, b, &w, tokens, TOKENS_MAX, 3.5f);
    assert_memory_equal(a, b, TOKENS_MAX * 512 * sizeof(float));
    mem_free(a);
    mem_free(b);
    mem_free((void *)(uintptr_t)w.data);
    pair_close(&p);
}

/* ---- attention ---- */

struct attn_case {
    uint32_t n_heads, n_kv_heads, d_head;
    uint32_t window;
    float softcap;
    bool sinks;
    enum dtype type;
    bool norms; /* of heads */
    uint32_t n_rot;
};

enum { KV_PAGES = 8, KV_LAYERS = 2, SEQ_TOKENS = 80 };

/* Cosines and sines that depend on the position alone. */
static const float *angles(float *cos_sin, const uint32_t *positions, uint32_t n, uint32_t n_rot)
{
    for (size_t i = 0; i < (size_t)n * n_rot; i++) {
        double angle = 0.1 * positions[i / n_rot] * (double)(i % n_rot / 2 + 1);
        cos_sin[i] = (float)(i % 2 == 0 ? cos(angle) : sin(angle));
    }
    return cos_sin;
}

/* Two sequences, the second in pages in disorder; their tokens go in `step` rows of each at a
 * time. out[2 * SEQ_TOKENS, n_heads * d_head]. */
static void attend_all(struct backend *b, const struct attn_case *c, const float *qkv, float *out,
                       const float *sinks, uint32_t step)
{
    static const uint32_t ids[2][3] = {{0, 1, 2}, {7, 3, 5}};
    const struct kv_table tables[2] = {{ids[0], 3}, {ids[1], 3}};
    struct kv_shape shape = {KV_LAYERS, c->n_kv_heads + 1, c->d_head, KV_PAGES, c->type};
    struct attn a = {
        .layer = 1,
        .n_heads = c->n_heads,
        .n_kv_heads = c->n_kv_heads,
        .d_head = c->d_head,
        .rope = {.n_rot = c->n_rot, .style = c->n_heads % 2 == 0 ? ROPE_NORM : ROPE_NEOX},
        .scale = 0.7f,
        .softcap = c->softcap,
        .window = c->window,
        .causal = true,
    };
    if (c->norms) {
        a.q_norm = a.k_norm = (struct norm){NORM_RMS, {qkv, c->d_head}, {0}, 1e-5f};
    }
    uint32_t width = (c->n_heads + 2 * c->n_kv_heads) * c->d_head;
    void *kv = NULL;
    assert_int_equal(b->ops->kv_alloc(b, &shape, &kv, NULL), RC_OK);
    a.sinks = c->sinks ? (struct vec){sinks, c->n_heads} : (struct vec){0};
    float *in = mem_zalloc_array((size_t)TOKENS_MAX * width, sizeof(float));
    float *y = mem_zalloc_array((size_t)TOKENS_MAX * c->n_heads * c->d_head, sizeof(float));
    float *cos_sin = mem_zalloc_array((size_t)TOKENS_MAX * c->d_head, sizeof(float));
    for (uint32_t at = 0; at < SEQ_TOKENS; at += step) {
        uint32_t positions[TOKENS_MAX], seq_of[TOKENS_MAX], n = 0;
        for (uint32_t s = 0; s < 2; s++) {
            for (uint32_t t = at; t < MIN(at + step, (uint32_t)SEQ_TOKENS); t++, n++) {
                positions[n] = t;
                seq_of[n] = s;
                memcpy(in + (size_t)n * width, qkv + (size_t)(s * SEQ_TOKENS + t) * width,
                       width * sizeof(float));
            }
        }
        struct attn_batch batch = {n, 2, positions, seq_of, tables};
        float *k = in + c->n_heads * c->d_head;
        struct qkv x = {in, k, k + c->n_kv_heads * c->d_head, width, width};
        a.rope.cos_sin = angles(cos_sin, positions, n, c->n_rot);
        b->ops->attention(b, y, &x, kv, &a, &batch);
        for (uint32_t i = 0; i < n; i++) {
            size_t row = (size_t)seq_of[i] * SEQ_TOKENS + positions[i];
            memcpy(out + row * c->n_heads * c->d_head, y + (size_t)i * c->n_heads * c->d_head,
                   c->n_heads * c->d_head * sizeof(float));
        }
    }
    b->ops->kv_free(b, kv);
    mem_free(in);
    mem_free(y);
    mem_free(cos_sin);
}

static void attention_is_near_the_reference_however_cut(void **state)
{
    (void)state;
    static const struct attn_case cases[] = {
        {4, 2, 12, 0, 0, false, DTYPE_F32, false, 8},
        {3, 1, 16, 0, 0, false, DTYPE_F16, true, 16},
        {2, 2, 24, 20, 0, false, DTYPE_F32, false, 0},
        {9, 1, 64, 0, 0, true, DTYPE_F16, false, 64},
        {14, 2, 64, 40, 5, false, DTYPE_F16, true, 32},
        {20, 1, 80, 1, 0, true, DTYPE_F32, false, 80},
        {1, 1, 7, 33, 30, true, DTYPE_F32, true, 6},
        {8, 4, 128, 32, 0, false, DTYPE_F16, true, 128},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct attn_case *c = &cases[i];
        struct pair p;
        pair_open(&p, 1 + (uint32_t)i % 3, i);
        size_t n_in = (size_t)2 * SEQ_TOKENS * (c->n_heads + 2 * c->n_kv_heads) * c->d_head;
        size_t n = (size_t)2 * SEQ_TOKENS * c->n_heads * c->d_head;
        float *qkv = random_floats(&p.rng, n_in);
        float *sinks = random_floats(&p.rng, c->n_heads);
        float *have = mem_zalloc_array(n, sizeof(float));
        float *cut = mem_zalloc_array(n, sizeof(float));
        float *want = mem_zalloc_array(n, sizeof(float));
        attend_all(p.cpu, c, qkv, have, sinks, 24);
        attend_all(p.ref, c, qkv, want, sinks, 24);
        /* Keys of which a last float bit differs may round to the next half. */
        bool halves = c->type == DTYPE_F16 && (c->norms || c->n_rot > 0);
        expect_near("attention", have, want, n, halves ? 1e-4 : 4e-6);
        for (uint32_t step = 1; step <= 11; step += 5) {
            attend_all(p.cpu, c, qkv, cut, sinks, step);
            assert_memory_equal(cut, have, n * sizeof(float));
        }
        mem_free(qkv);
        mem_free(sinks);
        mem_free(have);
        mem_free(cut);
        mem_free(want);
        pair_close(&p);
    }
}

/* Three sequences of different lengths without pages; each alone gives the same bits. */
static void check_near(const struct attn_case *c, uint32_t n_threads)
{
    enum { N = 40 };
    struct pair p;
    pair_open(&p, n_threads, c->d_head);
    struct weight w = pair_weight(&p, DTYPE_F32, 1, 8, 1);
    uint32_t width = (c->n_heads + 2 * c->n_kv_heads) * c->d_head, positions[N], seq_of[N];
    size_t n_out = (size_t)N * c->n_heads * c->d_head;
    float *sinks = random_floats(&p.rng, c->n_heads),
          *cos_sin = random_floats(&p.rng, N * c->d_head);
    float *qkv = random_floats(&p.rng, (size_t)N * width), *in = random_floats(&p.rng, N * width);
    float *have = random_floats(&p.rng, n_out), *want = random_floats(&p.rng, n_out);
    float *alone = random_floats(&p.rng, n_out);
    for (uint32_t i = 0; i < N; i++) {
        seq_of[i] = i < 3 ? 0 : i < 4 ? 1 : 2;
        positions[i] = i < 3 ? i : i < 4 ? 0 : i - 4;
    }
    struct attn a = {.n_heads = c->n_heads, .n_kv_heads = c->n_kv_heads, .d_head = c->d_head};
    a.rope = (struct rope){cos_sin, c->n_rot, ROPE_NEOX};
    a.scale = 0.6f;
    a.softcap = c->softcap;
    a.window = c->window;
    a.sinks = c->sinks ? (struct vec){sinks, c->n_heads} : (struct vec){0};
    float *k = in + c->n_heads * c->d_head;
    struct qkv x = {in, k, k + c->n_kv_heads * c->d_head, width, width};
    struct attn_batch batch = {N, 3, positions, seq_of, NULL};
    memcpy(in, qkv, (size_t)N * width * sizeof(float));
    p.cpu->ops->attention(p.cpu, have, &x, NULL, &a, &batch);
    memcpy(in, qkv, (size_t)N * width * sizeof(float));
    p.ref->ops->attention(p.ref, want, &x, NULL, &a, &batch);
    expect_near("attention without pages", have, want, n_out, 2e-6);
    memcpy(in, qkv + 4 * (size_t)width, (size_t)(N - 4) * width * sizeof(float));
    a.rope.cos_sin = cos_sin + 4 * (size_t)c->n_rot;
    batch = (struct attn_batch){N - 4, 1, positions + 4, (uint32_t[N]){0}, NULL};
    p.cpu->ops->attention(p.cpu, alone, &x, NULL, &a, &batch);
    size_t from = (size_t)4 * c->n_heads * c->d_head;
    assert_memory_equal(alone, have + from, (n_out - from) * sizeof(float));
    float *all[] = {sinks, cos_sin, qkv, in, have, want, alone, (float *)(uintptr_t)w.data};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        mem_free(all[i]);
    }
    pair_close(&p);
}

static void attention_without_pages_is_near_the_reference(void **state)
{
    (void)state;
    check_near(&(struct attn_case){.n_heads = 12, .n_kv_heads = 12, .d_head = 32}, 2);
    check_near(&(struct attn_case){6, 2, 20, 7, 0, true, DTYPE_F32, false, 12}, 3);
    check_near(&(struct attn_case){2, 1, 64, 0, 8, false, DTYPE_F32, false, 64}, 1);
}

/* ---- mixture of experts ---- */

static void check_moe(enum dtype type, const struct moe *like, uint32_t n_threads)
{
    enum { C = 256, FF = 512, EXPERTS = 5 };
    struct pair p;
    pair_open(&p, n_threads, (uint64_t)type);
    struct weight w[] = {
        pair_weight(&p, DTYPE_F32, EXPERTS, C, 1), pair_weight(&p, type, FF, C, EXPERTS),
        pair_weight(&p, type, FF, C, EXPERTS), pair_weight(&p, type, C, FF, EXPERTS)};
    float *bias = random_floats(&p.rng, EXPERTS * FF);
    struct moe m = *like;
    m.router = &w[0];
    m.gate = &w[1];
    m.up = &w[2];
    m.down = &w[3];
    m.n_experts = EXPERTS;
    if (m.act == ACT_OAI_MUL) {
        m.router_bias = (struct vec){bias, EXPERTS};
        m.gate_bias = m.up_bias = (struct vec){bias, EXPERTS * FF};
        m.down_bias = (struct vec){bias, EXPERTS * C};
    }
    float *in = random_floats(&p.rng, TOKENS_MAX * C);
    float *out[3];
    for (int i = 0; i < 3; i++) {
        out[i] = mem_zalloc_array(TOKENS_MAX * C, sizeof(float));
        out[i][7] = 1.0f;
    }
    struct rows_in rows = {in, C, {NORM_RMS, {bias, C}, {0}, 1e-5f}};
    p.cpu->ops->moe(p.cpu, out[0], &rows, &m, TOKENS_MAX);
    p.ref->ops->moe(p.ref, out[1], &rows, &m, TOKENS_MAX);
    for (uint32_t t = 0; t < TOKENS_MAX; t++) {
        rows.x = in + t * C;
        p.cpu->ops->moe(p.cpu, out[2] + t * C, &rows, &m, 1);
    }
    expect_near("moe", out[0], out[1], TOKENS_MAX * C, 3 * linear_tolerance(type));
    assert_memory_equal(out[0], out[2], TOKENS_MAX * C * sizeof(float));
    for (int i = 0; i < 4; i++) {
        mem_free((void *)(uintptr_t)w[i].data);
    }
    for (int i = 0; i < 3; i++) {
        mem_free(out[i]);
    }
    mem_free(in);
    mem_free(bias);
    pair_close(&p);
}

static void mixtures_are_near_the_reference(void **state)
{
    (void)state;
    struct moe mixtral = {.n_used = 2, .renormalise = true, .weight_scale = 1, .act = ACT_SILU_MUL};
    struct moe oai = {
        .n_used = 4, .gating = MOE_SOFTMAX_TOP_K, .weight_scale = 2.5f, .act = ACT_OAI_MUL};
    struct moe one = {.n_used = 1, .weight_scale = 1, .act = ACT_GELU_MUL};
    check_moe(DTYPE_F32, &mixtral, 1);
    check_moe(DTYPE_Q8_0, &mixtral, 2);
    check_moe(DTYPE_Q4_K, &one, 3);
    check_moe(DTYPE_MXFP4, &oai, 2);
    check_moe(DTYPE_F16, &oai, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linears_are_near_the_reference),
        cmocka_unit_test(norms_and_sums_are_near_the_reference),
        cmocka_unit_test(activations_are_near_the_reference),
        cmocka_unit_test(gated_networks_are_near_the_reference),
        cmocka_unit_test(embeddings_equal_the_reference),
        cmocka_unit_test(attention_is_near_the_reference_however_cut),
        cmocka_unit_test(attention_without_pages_is_near_the_reference),
        cmocka_unit_test(mixtures_are_near_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
