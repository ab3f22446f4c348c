/* The reference backend against values worked out by hand. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "engine/cpu/ref.h"

static struct backend *open_ref(void)
{
    struct backend *b = NULL;
    struct backend_conf conf = {.tokens_max = 8};
    assert_int_equal(ref_backend_ops.open(&b, &conf, NULL), RC_OK);
    return b;
}

/* An F32 matrix (or stack of experts) over values[experts * rows * cols]. */
static struct weight matrix(struct backend *b, const float *values, uint32_t n_rows,
                            uint32_t n_cols, uint32_t n_experts)
{
    struct weight w = {
        .data = values,
        .type = DTYPE_F32,
        .n_cols = n_cols,
        .n_rows = n_rows,
        .n_experts = n_experts,
        .row_bytes = n_cols * sizeof(float),
    };
    assert_int_equal(b->ops->weight_prepare(b, &w, NULL), RC_OK);
    return w;
}

static void expect_close(const float *have, const double *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (fabs((double)have[i] - want[i]) > 1e-6 * (1 + fabs(want[i]))) {
            fail_msg("value %zu is %.8g, expected %.8g", i, (double)have[i], want[i]);
        }
    }
}

static void linears_share_an_input(void **state)
{
    (void)state;
    struct backend *b = open_ref();
    const float values[] = {1, 2, 3, -1, 0, 1};
    struct weight w = matrix(b, values, 2, 3, 1);
    struct weight one = matrix(b, values + 3, 1, 3, 1);
    const float in[] = {1, 10, 100, 9, 2, 20, 200, 9}; /* two rows, stride 4 */
    const float bias[] = {0.5f, -0.5f};
    float out[5] = {0}, sum[2] = {1000, 2000};
    const struct linear l[] = {
        {.w = &w, .bias = {bias, 2}, .out = out},
        {.w = &one, .out = sum, .accumulate = true},
    };
    const struct rows_in rows = {.x = in, .stride = 4};
    b->ops->linear(b, l, 2, &rows, 2);
    expect_close(out, (double[]){321.5, 98.5, 642.5, 197.5}, 4);
    expect_close(sum, (double[]){1099, 2198}, 2);
    /* Normed on the way in (rms of 3, 4, 0 is 5 / sqrt(3)), into rows further apart. */
    const float half[] = {3, 4, 0}, weight[] = {1, 1, 1};
    const struct rows_in normed = {half, 3, {NORM_RMS, {weight, 3}, {0}, 0}};
    const struct linear wide[] = {{.w = &w, .out = out, .out_stride = 3}};
    b->ops->linear(b, wide, 1, &normed, 1);
    expect_close(out, (double[]){11 * sqrt(3) / 5, -3 * sqrt(3) / 5}, 2);
    const struct rows_in same = {half, 0, {NORM_RMS, {weight, 3}, {0}, 0}};
    out[2] = 77;
    b->ops->linear(b, wide, 1, &same, 2);
    assert_true(out[2] == 77 && out[3] == out[0]);
    b->ops->close(b);
}

static void rows_are_embedded_and_scaled(void **state)
{
    (void)state;
    struct backend *b = open_ref();
    const float values[] = {1, 2, 3, 4, 5, 6};
    struct weight w = matrix(b, values, 3, 2, 1);
    float out[4];
    b->ops->embed(b, out, &w, (const int32_t[]){2, 0}, 2, 10);
    expect_close(out, (double[]){50, 60, 10, 20}, 4);
    b->ops->close(b);
}

static void norms_have_their_formulas(void **state)
{
    (void)state;
    struct backend *b = open_ref();
    const float weight[] = {1, 2, 1, 1}, bias[] = {0, 0, 0.5f, 0}, ones[] = {1, 1, 1, 1};
    struct norm norm = {NORM_RMS, {weight, 4}, {0}, 0};
    float x[] = {3, 4, 0, 0, 6, 8, 0, 0};
    b->ops->norm(b, x, x, &norm, 2); /* rms 2.5 and 5, in place */
    expect_close(x, (double[]){1.2, 3.2, 0, 0, 1.2, 3.2, 0, 0}, 8);
    float zero[] = {0, 0, 0, 0};
    norm.eps = 1e-5f;
    b->ops->norm(b, zero, zero, &norm, 1);
    expect_close(zero, (double[]){0, 0, 0, 0}, 4);
    norm = (struct norm){NORM_LAYER, {weight, 4}, {bias, 4}, 0};
    float y[] = {1, 3, 1, 3}; /* mean 2, variance 1 */
    b->ops->norm(b, y, y, &norm, 1);
    expect_close(y, (double[]){-1, 2, -0.5, 1}, 4);
    /* Post-norms add; the scratch of norms is as wide as the widest weight. */
    struct weight w = matrix(b, weight, 1, 4, 1);
    assert_int_equal(w.n_cols, 4);
    norm = (struct norm){NORM_RMS, {ones, 4}, {0}, 0};
    float sum[] = {10, 10, 10, 10};
    const float branch[] = {0, 0, 0, 2};
    b->ops->residual(b, sum, branch, &norm, 1);
    expect_close(sum, (double[]){10, 10, 10, 12}, 4);
    b->ops->close(b);
}

/* Heads are rotated where attention finds them; its result is not looked at. */
static void turn(struct backend *b, float *q, enum rope_style style, const struct norm *norm)
{
    /* Pair 0 by a quarter turn, pair 1 not; the fifth channel is not rotated. */
    const float cos_sin[] = {0, 1, 1, 0};
    float k[] = {0, 0, 0, 0, 0}, v[] = {0, 0, 0, 0, 0}, out[5];
    struct qkv x = {q, k, v, 6, 5};
    struct attn a = {.n_heads = 1, .n_kv_heads = 1, .d_head = 5, .rope = {cos_sin, 4, style}};
    a.q_norm = norm != NULL ? *norm : (struct norm){0};
    struct attn_batch batch = {1, 1, (uint32_t[]){0}, (uint32_t[]){0}, NULL};
    b->ops->attention(b, out, &x, NULL, &a, &batch);
}

static void rope_turns_pairs(void **state)
{
    (void)state;
    struct backend *b = open_ref();
    const float one = 1;
    (void)matrix(b, &one, 1, 1, 1);
    float norm[] = {1, 2, 3, 4, 5, 99};
    turn(b, norm, ROPE_NORM, NULL);
    expect_close(norm, (double[]){-2, 1, 3, 4, 5, 99}, 6);
    float neox[] = {1, 2, 3, 4, 5, 99};
    turn(b, neox, ROPE_NEOX, NULL);
    expect_close(neox, (double[]){-3, 2, 1, 4, 5, 99}, 6);
    const float weight[] = {1, 1, 1, 1, 2};
    float normed[] = {3, 4, 0, 0, 0, 99}; /* rms sqrt(5), before the turn */
    turn(b, normed, ROPE_NORM, &(struct norm){NORM_RMS, {weight, 5}, {0}, 0});
    expect_close(normed, (double[]){-4 / sqrt(5), 3 / sqrt(5), 0, 0, 0, 99}, 6);
    b->ops->close(b);
}

static void activations_have_their_formulas(void **state)
{
    (void)state;
    struct backend *b = open_ref();
    /* gate 1, -2 and up 3, 10 against an input of 1. */
    const float rows[] = {1, -2, 3, 10}, one = 1, none[] = {0, 0}, bias[] = {1, 0};
    struct weight wg = matrix(b, rows, 2, 1, 1), wu = matrix(b, rows + 2, 2, 1, 1);
    struct rows_in in = {.x = &one, .stride = 1};
    struct gated g = {{&wg, {0}}, {&wu, {none, 2}}, ACT_SILU_MUL};
    float out[2];
    b->ops->gated(b, out, &g, &in, 1);
    expect_close(out, (double[]){3 / (1 + exp(-1)), -20 / (1 + exp(2))}, 2);
    g.act = ACT_GELU_MUL;
    b->ops->gated(b, out, &g, &in, 1);
    expect_close(out, (double[]){3 * 0.8411919906, 10 * -0.0454023059}, 2);
    g.act = ACT_OAI_MUL; /* up is cut at 7 */
    b->ops->gated(b, out, &g, &in, 1);
    expect_close(out, (double[]){4 / (1 + exp(-1.702)), -16 / (1 + exp(3.404))}, 2);
    g = (struct gated){.up = {&wg, {bias, 2}}, .act = ACT_GELU};
    b->ops->gated(b, out, &g, &in, 1); /* of 2 and -2 */
    expect_close(out, (double[]){1.9545976941, -0.0454023059}, 2);
    g.act = ACT_GELU_ERF;
    b->ops->gated(b, out, &g, &in, 1);
    expect_close(out, (double[]){1 + erf(sqrt(2)), -1 + erf(sqrt(2))}, 2);
    b->ops->close(b);
}

/* One head of one channel: scores are products, so softmax can be done by hand. */
struct scene {
    struct backend *b;
    void *kv;
    uint32_t pages[2];
    struct kv_table table;
};

static void scene_start(struct scene *s, enum dtype type)
{
    s->b = open_ref();
    struct kv_shape shape = {2, 1, 1, 3, type};
    assert_int_equal(s->b->ops->kv_alloc(s->b, &shape, &s->kv, NULL), RC_OK);
    s->pages[0] = 2;
    s->pages[1] = 0;
    s->table = (struct kv_table){s->pages, 2};
}

static void scene_end(struct scene *s)
{
    s->b->ops->kv_free(s->b, s->kv);
    s->b->ops->close(s->b);
}

/* Three rows at positions 31, 32, 33 (over a page's border), keys 0 1 2, values 10 20 30, after a
 * first part of keys -1000 that softmax ignores; q = 1. Result of the last row. */
static float attend(struct scene *s, const struct attn *a)
{
    float zero[31], low[31], out[31];
    uint32_t positions[34], seq_of[34] = {0};
    for (uint32_t i = 0; i < 34; i++) {
        positions[i] = i;
    }
    for (uint32_t i = 0; i < 31; i++) {
        zero[i] = 0;
        low[i] = -1000;
    }
    struct attn_batch first = {31, 1, positions, seq_of, &s->table};
    struct qkv x = {zero, low, zero, 1, 1};
    s->b->ops->attention(s->b, out, &x, s->kv, a, &first);
    float q[] = {1, 1, 1}, k[] = {0, 1, 2}, v[] = {10, 20, 30};
    struct qkv y = {q, k, v, 1, 1};
    struct attn_batch then = {3, 1, positions + 31, seq_of, &s->table};
    s->b->ops->attention(s->b, out, &y, s->kv, a, &then);
    return out[2];
}

static void attention_weighs_values(void **state)
{
    (void)state;
    const enum dtype types[] = {DTYPE_F32, DTYPE_F16};
    const float sink = 1;
    const double e = exp(1);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct scene s;
        scene_start(&s, types[i]);
        struct attn a = {.layer = 1, .n_heads = 1, .n_kv_heads = 1, .d_head = 1, .scale = 1};
        a.causal = true;
        float y = attend(&s, &a);
        expect_close(&y, (double[]){(10 + 20 * e + 30 * e * e) / (1 + e + e * e)}, 1);
        a.window = 2; /* positions 32 and 33 */
        y = attend(&s, &a);
        expect_close(&y, (double[]){(20 + 30 * e) / (1 + e)}, 1);
        a.sinks = (struct vec){&sink, 1}; /* one more e in the denominator */
        y = attend(&s, &a);
        expect_close(&y, (double[]){(20 * e + 30 * e * e) / (e + e * e + e)}, 1);
        a.sinks = (struct vec){0};
        a.softcap = 1; /* scores 1 and 2 become tanh of themselves */
        y = attend(&s, &a);
        double w = exp(tanh(2) - tanh(1));
        expect_close(&y, (double[]){(20 + 30 * w) / (1 + w)}, 1);
        scene_end(&s);
    }
}

static void attention_without_pages_sees_both_ways(void **state)
{
    (void)state;
    struct backend *b = open_ref();
    const float one = 1;
    (void)matrix(b, &one, 1, 1, 1);
    float q[] = {1, 1, 1, 1}, k[] = {0, 1, 2, 5}, v[] = {10, 20, 30, 40}, out[4];
    const uint32_t positions[] = {0, 1, 2, 0}, seq_of[] = {0, 0, 0, 1};
    struct qkv x = {q, k, v, 1, 1};
    struct attn a = {.n_heads = 1, .n_kv_heads = 1, .d_head = 1, .scale = 1};
    struct attn_batch batch = {4, 2, positions, seq_of, NULL};
    const double e = exp(1);
    b->ops->attention(b, out, &x, NULL, &a, &batch);
    double all = (10 + 20 * e + 30 * e * e) / (1 + e + e * e);
    expect_close(out, (double[]){all, all, all, 40}, 4);
    a.window = 2;
    b->ops->attention(b, out, &x, NULL, &a, &batch);
    double left = (10 + 20 * e) / (1 + e), right = (20 + 30 * e) / (1 + e);
    expect_close(out, (double[]){left, all, right, 40}, 4);
    b->ops->close(b);
}

static void pages_are_copied(void **state)
{
    (void)state;
    struct scene s;
    scene_start(&s, DTYPE_F16);
    struct attn a = {.layer = 1, .n_heads = 1, .n_kv_heads = 1, .d_head = 1, .scale = 1};
    a.causal = true;
    float y = attend(&s, &a);
    /* Position 34 over copies of both pages answers as over the pages themselves. */
    s.b->ops->kv_copy(s.b, s.kv, 0, 1);
    float q[] = {1}, k[] = {3}, v[] = {5}, out[2];
    struct qkv x = {q, k, v, 1, 1};
    struct kv_table copied = {(uint32_t[]){2, 1}, 2};
    struct attn_batch one = {1, 1, (uint32_t[]){34}, (uint32_t[]){0}, &s.table};
    s.b->ops->attention(s.b, out, &x, s.kv, &a, &one);
    one.seqs = &copied;
    s.b->ops->attention(s.b, out + 1, &x, s.kv, &a, &one);
    assert_true(out[0] == out[1] && out[0] != y);
    scene_end(&s);
}

static void experts_are_chosen_and_mixed(void **state)
{
    (void)state;
    struct backend *b = open_ref();
    /* One channel in, one inner, three experts. SiLU(gate) * up with x = 1. */
    const float router[] = {1, 3, 2}, gate[] = {1, 2, 3}, up[] = {1, 1, 1}, down[] = {100, 10, 1};
    const float down_bias[] = {0, 0.5f, 0.25f}, ones[] = {1};
    const struct rows_in x = {.x = ones, .stride = 1};
    struct weight wr = matrix(b, router, 3, 1, 1), wg = matrix(b, gate, 1, 1, 3);
    struct weight wu = matrix(b, up, 1, 1, 3), wd = matrix(b, down, 1, 1, 3);
    struct moe m = {
        .router = &wr,
        .gate = &wg,
        .up = &wu,
        .down = &wd,
        .down_bias = {down_bias, 3},
        .n_experts = 3,
        .n_used = 2,
        .gating = MOE_SOFTMAX,
        .weight_scale = 1,
        .act = ACT_SILU_MUL,
    };
    double y1 = 10 * 2 / (1 + exp(-2)) + 0.5, y2 = 3 / (1 + exp(-3)) + 0.25;
    double p1 = exp(3), p2 = exp(2), all = exp(1) + p1 + p2;
    float out[] = {7};
    b->ops->moe(b, out, &x, &m, 1);
    expect_close(out, (double[]){7 + (p1 * y1 + p2 * y2) / all}, 1);
    m.renormalise = true;
    m.weight_scale = 2;
    out[0] = 0;
    b->ops->moe(b, out, &x, &m, 1);
    expect_close(out, (double[]){2 * (p1 * y1 + p2 * y2) / (p1 + p2)}, 1);
    m.renormalise = false;
    m.weight_scale = 1;
    m.gating = MOE_SOFTMAX_TOP_K;
    const float bias[] = {4, 0, 0}; /* expert 0 now leads with 5 */
    m.router_bias = (struct vec){bias, 3};
    double y0 = 100 / (1 + exp(-1)), p0 = exp(5);
    out[0] = 0;
    b->ops->moe(b, out, &x, &m, 1);
    expect_close(out, (double[]){(p0 * y0 + p1 * y1) / (p0 + p1)}, 1);
    b->ops->close(b);
}

static void it_is_found_by_name(void **state)
{
    (void)state;
    assert_ptr_equal(backend_find("ref"), &ref_backend_ops);
    assert_non_null(backend_find(NULL));
    assert_null(backend_find("abacus"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linears_share_an_input),
        cmocka_unit_test(rows_are_embedded_and_scaled),
        cmocka_unit_test(norms_have_their_formulas),
        cmocka_unit_test(rope_turns_pairs),
        cmocka_unit_test(activations_have_their_formulas),
        cmocka_unit_test(attention_weighs_values),
        cmocka_unit_test(attention_without_pages_sees_both_ways),
        cmocka_unit_test(pages_are_copied),
        cmocka_unit_test(experts_are_chosen_and_mixed),
        cmocka_unit_test(it_is_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
