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
 * 0.23 % of their size in blocks of 32 and of 256. */
enum { LINEAR_STRIDE_MORE = 5 };

static double linear_tolerance(enum dtype t)
{
    return dtype_row(t)->block_weights == 1 ? 1e-6 : 6e-3;
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
        struct linear l[] = {{&w[0], {bias, 70}, out[b][0], false}, {&w[1], {0}, out[b][1], true}};
        backend->ops->linear(backend, l, 2, in, n_tokens, stride);
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

static void norms_and_sums_are_near_the_reference(void **state)
{
    (void)state;
    static const uint32_t widths[] = {1, 8, 12, 24, 63, 64, 300};
    struct pair p;
    pair_open(&p, 2, 5);
    for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
        uint32_t n = widths[i];
        float *in = random_floats(&p.rng, (size_t)TOKENS_MAX * n);
        float *weight = random_floats(&p.rng, n);
        float *a = mem_zalloc_array((size_t)TOKENS_MAX * n, sizeof(float));
        float *b = mem_zalloc_array((size_t)TOKENS_MAX * n, sizeof(float));
        p.cpu->ops->rms_norm(p.cpu, a, in, (struct vec){weight, n}, 1e-5f, TOKENS_MAX, n);
        p.ref->ops->rms_norm(p.ref, b, in, (struct vec){weight, n}, 1e-5f, TOKENS_MAX, n);
        expect_near("norm", a, b, (size_t)TOKENS_MAX * n, 1e-6);
        p.cpu->ops->add(p.cpu, a, in, (size_t)TOKENS_MAX * n);
        p.ref->ops->add(p.ref, b, in, (size_t)TOKENS_MAX * n);
        expect_near("sum", a, b, (size_t)TOKENS_MAX * n, 1e-6);
        p.cpu->ops->rms_norm(p.cpu, a, a, (struct vec){weight, n}, 1e-5f, TOKENS_MAX, n);
        p.ref->ops->rms_norm(p.ref, b, b, (struct vec){weight, n}, 1e-5f, TOKENS_MAX, n);
        expect_near("norm in place", a, b, (size_t)TOKENS_MAX * n, 1e-6);
        mem_free(in);
        mem_free(weight);
        mem_free(a);
        mem_free(b);
    }
    pair_close(&p);
}

static void activations_are_near_the_reference(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, 3, 6);
    for (uint32_t n = 1; n <= 2500; n = n * 3 + 2) {
        float *x = random_floats(&p.rng, 4 * 2 * (size_t)n);
        for (size_t i = 0; i < 8 * (size_t)n; i++) {
            x[i] *= i % 9 == 0 ? 100.0f : 9.0f; /* beyond the clamps and e^88 */
        }
        for (enum act_kind kind = ACT_SILU_MUL; kind <= ACT_OAI_MUL; kind++) {
            struct act a = {kind, x, x + n, 2 * n, 2 * n, n};
            float *have = mem_zalloc_array(4 * (size_t)n, sizeof(float));
            float *want = mem_zalloc_array(4 * (size_t)n, sizeof(float));
            p.cpu->ops->activate(p.cpu, have, &a, 4);
            p.ref->ops->activate(p.ref, want, &a, 4);
            for (size_t i = 0; i < 4 * (size_t)n; i++) {
                double slack = 1e-6 * fabs((double)want[i]) + 1e-9;
                assert_true(fabs((double)have[i] - (double)want[i]) <= slack);
            }
            mem_free(have);
            mem_free(want);
        }
        mem_free(x);
    }
    pair_close(&p);
}

static void rotations_are_near_the_reference(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, 2, 7);
    for (uint32_t d_head = 12; d_head <= 80; d_head += 17) {
        struct rope r = {.n_rot = d_head / 4 * 2};
        uint32_t stride = 3 * d_head + 4;
        float *cos_sin = random_floats(&p.rng, (size_t)TOKENS_MAX * r.n_rot);
        float *x = random_floats(&p.rng, (size_t)TOKENS_MAX * stride);
        float *y = mem_alloc((size_t)TOKENS_MAX * stride * sizeof(float));
        memcpy(y, x, (size_t)TOKENS_MAX * stride * sizeof(float));
        r.cos_sin = cos_sin;
        for (r.style = ROPE_NORM; r.style <= ROPE_NEOX; r.style++) {
            p.cpu->ops->rope(p.cpu, x, TOKENS_MAX, 3, d_head, stride, &r);
            p.ref->ops->rope(p.ref, y, TOKENS_MAX, 3, d_head, stride, &r);
            expect_near("rope", x, y, (size_t)TOKENS_MAX * stride, 1e-6);
        }
        mem_free(cos_sin);
        mem_free(x);
        mem_free(y);
    }
    pair_close(&p);
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
};

enum { KV_PAGES = 8, KV_LAYERS = 2, SEQ_TOKENS = 80 };

/* Two sequences, the second in pages in disorder; their tokens go in `step` rows of each at a
 * time. out[2 * SEQ_TOKENS, n_heads * d_head]. */
static void attend_all(struct backend *b, const struct attn_case *c, const float *qkv, float *out,
                       const float *sinks, uint32_t step)
{
    static const uint32_t ids[2][3] = {{0, 1, 2}, {7, 3, 5}};
    const struct kv_table tables[2] = {{ids[0], 3}, {ids[1], 3}};
    struct kv_shape shape = {KV_LAYERS, c->n_kv_heads + 1, c->d_head, KV_PAGES, c->type};
    struct attn a = {1, c->n_heads, c->n_kv_heads, c->d_head, 0.7f, c->softcap, c->window, {0}};
    uint32_t width = (c->n_heads + 2 * c->n_kv_heads) * c->d_head;
    void *kv = NULL;
    assert_int_equal(b->ops->kv_alloc(b, &shape, &kv, NULL), RC_OK);
    a.sinks = c->sinks ? (struct vec){sinks, c->n_heads} : (struct vec){0};
    float *in = mem_zalloc_array((size_t)TOKENS_MAX * width, sizeof(float));
    float *y = mem_zalloc_array((size_t)TOKENS_MAX * c->n_heads * c->d_head, sizeof(float));
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
        const float *k = in + c->n_heads * c->d_head;
        b->ops->attention(b, y, in, width, k, k + c->n_kv_heads * c->d_head, width, kv, &a, &batch);
        for (uint32_t i = 0; i < n; i++) {
            size_t row = (size_t)seq_of[i] * SEQ_TOKENS + positions[i];
            memcpy(out + row * c->n_heads * c->d_head, y + (size_t)i * c->n_heads * c->d_head,
                   c->n_heads * c->d_head * sizeof(float));
        }
    }
    b->ops->kv_free(b, kv);
    mem_free(in);
    mem_free(y);
}

static void attention_is_near_the_reference_however_cut(void **state)
{
    (void)state;
    static const struct attn_case cases[] = {
        {4, 2, 12, 0, 0, false, DTYPE_F32},   {3, 1, 16, 0, 0, false, DTYPE_F16},
        {2, 2, 24, 20, 0, false, DTYPE_F32},  {9, 1, 64, 0, 0, true, DTYPE_F16},
        {14, 2, 64, 40, 5, false, DTYPE_F16}, {20, 1, 80, 1, 0, true, DTYPE_F32},
        {1, 1, 7, 33, 30, true, DTYPE_F32},   {8, 4, 128, 32, 0, false, DTYPE_F16},
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
        expect_near("attention", have, want, n, 2e-6);
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
    p.cpu->ops->moe(p.cpu, out[0], in, &m, TOKENS_MAX);
    p.ref->ops->moe(p.ref, out[1], in, &m, TOKENS_MAX);
    for (uint32_t t = 0; t < TOKENS_MAX; t++) {
        p.cpu->ops->moe(p.cpu, out[2] + t * C, in + t * C, &m, 1);
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
        cmocka_unit_test(rotations_are_near_the_reference),
        cmocka_unit_test(embeddings_equal_the_reference),
        cmocka_unit_test(attention_is_near_the_reference_however_cut),
        cmocka_unit_test(mixtures_are_near_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
