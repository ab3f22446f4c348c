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
    float out[4] = {0}, sum[2] = {1000, 2000};
    const struct linear l[] = {
        {.w = &w, .bias = {bias, 2}, .out = out},
        {.w = &one, .out = sum, .accumulate = true},
    };
    b->ops->linear(b, l, 2, in, 2, 4);
    expect_close(out, (double[]){321.5, 98.5, 642.5, 197.5}, 4);
    expect_close(sum, (double[]){1099, 2198}, 2);
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

static void norm_divides_by_the_root_mean_square(void **state)
{
    (void)state;
    struct backend *b = open_ref();
    float x[] = {3, 4, 0, 0, 6, 8, 0, 0};
    const float weight[] = {1, 2, 1, 1};
    b->ops->rms_norm(b, x, x, (struct vec){weight, 4}, 0, 2, 4); /* rms 2.5 and 5, in place */
    expect_close(x, (double[]){1.2, 3.2, 0, 0, 1.2, 3.2, 0, 0}, 8);
    float zero[] = {0, 0, 0, 0};
    b->ops->rms_norm(b, zero, zero, (struct vec){weight, 4}, 1e-5f, 1, 4);
    expect_close(zero, (double[]){0, 0, 0, 0}, 4);
    b->ops->close(b);
}

static void rope_turns_pairs(void **state)
{
    (void)state;
    struct backend *b = open_ref();
    /* Pair 0 by a quarter turn, pair 1 not; the fifth channel is not rotated. */
    const float cos_sin[] = {0, 1, 1, 0};
    struct rope r = {.cos_sin = cos_sin, .n_rot = 4, .style = ROPE_NORM};
    float norm[] = {1, 2, 3, 4, 5, 99};
    b->ops->rope(b, norm, 1, 1, 5, 6, &r);
    expect_close(norm, (double[]){-2, 1, 3, 4, 5, 99}, 6);
    float neox[] = {1, 2, 3, 4, 5, 99};
    r.style = ROPE_NEOX;
    b->ops->rope(b, neox, 1, 1, 5, 6, &r);
    expect_close(neox, (double[]){-3, 2, 1, 4, 5, 99}, 6);
    b->ops->close(b);
}

static void activations_have_their_formulas(void **state)
{
    (void)state;
    struct backend *b = open_ref();
    const float row[] = {1, -2, 3, 10}; /* gate 1, -2 ‖ up 3, 10: fused, stride 4 */
    struct act a = {ACT_SILU_MUL, row, row + 2, 4, 4, 2};
    float out[2];
    b->ops->activate(b, out, &a, 1);
    expect_close(out, (double[]){3 / (1 + exp(-1)), -20 / (1 + exp(2))}, 2);
    a.kind = ACT_GELU_MUL;
    b->ops->activate(b, out, &a, 1);
    expect_close(out, (double[]){3 * 0.8411919906, 10 * -0.0454023059}, 2);
    a.kind = ACT_OAI_MUL; /* up is cut at 7 */
    b->ops->activate(b, out, &a, 1);
    expect_close(out, (double[]){4 / (1 + exp(-1.702)), -16 / (1 + exp(3.404))}, 2);
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
    s->b->ops->attention(s->b, out, zero, 1, low, zero, 1, s->kv, a, &first);
    const float q[] = {1, 1, 1}, k[] = {0, 1, 2}, v[] = {10, 20, 30};
    struct attn_batch then = {3, 1, positions + 31, seq_of, &s->table};
    s->b->ops->attention(s->b, out, q, 1, k, v, 1, s->kv, a, &then);
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

static void experts_are_chosen_and_mixed(void **state)
{
    (void)state;
    struct backend *b = open_ref();
    /* One channel in, one inner, three experts. SiLU(gate) * up with x = 1. */
    const float router[] = {1, 3, 2}, gate[] = {1, 2, 3}, up[] = {1, 1, 1}, down[] = {100, 10, 1};
    const float down_bias[] = {0, 0.5f, 0.25f}, x[] = {1};
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
    b->ops->moe(b, out, x, &m, 1);
    expect_close(out, (double[]){7 + (p1 * y1 + p2 * y2) / all}, 1);
    m.renormalise = true;
    m.weight_scale = 2;
    out[0] = 0;
    b->ops->moe(b, out, x, &m, 1);
    expect_close(out, (double[]){2 * (p1 * y1 + p2 * y2) / (p1 + p2)}, 1);
    m.renormalise = false;
    m.weight_scale = 1;
    m.gating = MOE_SOFTMAX_TOP_K;
    const float bias[] = {4, 0, 0}; /* expert 0 now leads with 5 */
    m.router_bias = (struct vec){bias, 3};
    double y0 = 100 / (1 + exp(-1)), p0 = exp(5);
    out[0] = 0;
    b->ops->moe(b, out, x, &m, 1);
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
        cmocka_unit_test(norm_divides_by_the_root_mean_square),
        cmocka_unit_test(rope_turns_pairs),
        cmocka_unit_test(activations_have_their_formulas),
        cmocka_unit_test(attention_weighs_values),
        cmocka_unit_test(experts_are_chosen_and_mixed),
        cmocka_unit_test(it_is_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
