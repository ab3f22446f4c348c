#include "check.h"

#include "engine/format/mix.h"

static enum dtype choose(const char *mix, const char *tensor, uint64_t n_cols,
                         struct mix_model model)
{
    const struct mix *m = mix_find(str_from(mix));
    assert_non_null(m);
    return mix_choose(m, &model, str_from(tensor), n_cols, NULL);
}

static void mix_names_are_known(void **state)
{
    (void)state;
    assert_string_equal(mix_find(STR_LIT("q4_k"))->name, "Q4_K_M");
    assert_string_equal(mix_find(STR_LIT("Q3_K"))->name, "Q3_K_M");
    assert_string_equal(mix_find(STR_LIT("q8_0"))->name, "Q8_0");
    assert_null(mix_find(STR_LIT("Q4")));
    assert_null(mix_find(STR_LIT("")));
    uint32_t n = 0;
    while (mix_at(n) != NULL) {
        assert_ptr_equal(mix_find(str_from(mix_at(n)->name)), mix_at(n));
        n++;
    }
    assert_int_equal(n, 21);
}

static void mix_leaves_small_tensors_alone(void **state)
{
    (void)state;
    assert_true(mix_applies(STR_LIT("blk.0.attn_q.weight"), 2));
    assert_true(mix_applies(STR_LIT("blk.0.ffn_up_exps.weight"), 3));
    assert_true(mix_applies(STR_LIT("token_embd.weight"), 2));
    assert_false(mix_applies(STR_LIT("blk.0.attn_norm.weight"), 1));
    assert_false(mix_applies(STR_LIT("blk.0.attn_q_norm.weight"), 2));
    assert_false(mix_applies(STR_LIT("blk.0.attn_q.bias"), 1));
    assert_false(mix_applies(STR_LIT("blk.0.ffn_up_exps.bias"), 2));
    assert_false(mix_applies(STR_LIT("blk.0.ffn_gate_inp.weight"), 2));
    assert_false(mix_applies(STR_LIT("rope_freqs.weight"), 1));
}

static void mix_chooses_as_llama_quantize(void **state)
{
    (void)state;
    struct mix_model m = {.n_layers = 16, .n_gqa = 4};
    /* Every third layer between the first and the last two: 4, 7, 10, 13. */
    const char *six = "0 1 4 7 10 13 14 15 ";
    char got[64] = "";
    for (uint32_t i = 0; i < 16; i++) {
        char name[64];
        snprintf(name, sizeof(name), "blk.%u.ffn_down.weight", i);
        enum dtype t = choose("Q4_K_M", name, 2048, m);
        assert_true(t == DTYPE_Q6_K || t == DTYPE_Q4_K);
        size_t used = strlen(got);
        if (t == DTYPE_Q6_K) {
            snprintf(got + used, sizeof(got) - used, "%u ", i);
        }
    }
    assert_string_equal(got, six);
    assert_int_equal(choose("Q4_K_M", "blk.2.attn_v.weight", 2048, m), DTYPE_Q4_K);
    assert_int_equal(choose("Q4_K_M", "blk.0.attn_v.weight", 2048, m), DTYPE_Q6_K);
    assert_int_equal(choose("Q4_K_M", "blk.0.attn_k.weight", 2048, m), DTYPE_Q4_K);
    assert_int_equal(choose("Q4_K_M", "output.weight", 2048, m), DTYPE_Q6_K);
    assert_int_equal(choose("Q4_K_M", "token_embd.weight", 2048, m), DTYPE_Q4_K);
    assert_int_equal(choose("Q4_0", "output.weight", 2048, m), DTYPE_Q6_K);
    assert_int_equal(choose("Q8_0", "output.weight", 2048, m), DTYPE_Q8_0);
    assert_int_equal(choose("F16", "output.weight", 2048, m), DTYPE_F16);
    assert_int_equal(choose("Q2_K", "blk.5.attn_v.weight", 2048, m), DTYPE_Q4_K);
    assert_int_equal(choose("Q3_K_M", "blk.0.ffn_down.weight", 2048, m), DTYPE_Q5_K);
    assert_int_equal(choose("Q3_K_M", "blk.1.ffn_down.weight", 2048, m), DTYPE_Q4_K);
    m.tied = true;
    assert_int_equal(choose("Q4_K_M", "token_embd.weight", 2048, m), DTYPE_Q6_K);
    assert_int_equal(choose("Q4_0", "token_embd.weight", 2048, m), DTYPE_Q6_K);
    m.n_experts = 8;
    assert_int_equal(choose("Q4_K_M", "blk.5.attn_v.weight", 2048, m), DTYPE_Q8_0);
    assert_int_equal(choose("Q4_K_M", "blk.0.ffn_down_exps.weight", 2048, m), DTYPE_Q6_K);
    assert_int_equal(choose("MXFP4_MOE", "blk.0.ffn_down_exps.weight", 2048, m), DTYPE_MXFP4);
    assert_int_equal(choose("MXFP4_MOE", "blk.0.attn_q.weight", 2048, m), DTYPE_Q8_0);
}

static void mix_falls_back_when_widths_do_not_divide(void **state)
{
    (void)state;
    static const struct {
        const char *mix;
        uint64_t n_cols;
        enum dtype type;
    } cases[] = {
        {"Q2_K", 96, DTYPE_IQ4_NL},    {"Q3_K_S", 96, DTYPE_IQ4_NL}, {"IQ4_XS", 96, DTYPE_IQ4_NL},
        {"Q4_K_S", 96, DTYPE_Q5_0},    {"Q5_K_S", 96, DTYPE_Q5_1},   {"Q6_K", 96, DTYPE_Q8_0},
        {"Q4_K_S", 100, DTYPE_F16},    {"Q8_0", 100, DTYPE_F16},     {"MXFP4", 100, DTYPE_F16},
        {"BF16", 101, DTYPE_BF16},     {"Q4_0", 96, DTYPE_Q4_0},     {"Q4_K_S", 512, DTYPE_Q4_K},
        {"IQ4_XS", 512, DTYPE_IQ4_XS},
    };
    const struct mix_model m = {.n_layers = 16, .n_gqa = 1};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool fell_back;
        enum dtype t = mix_choose(mix_find(str_from(cases[i].mix)), &m,
                                  STR_LIT("blk.9.attn_q.weight"), cases[i].n_cols, &fell_back);
        assert_int_equal(t, cases[i].type);
        assert_int_equal(fell_back, t != mix_find(str_from(cases[i].mix))->base);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mix_names_are_known),
        cmocka_unit_test(mix_leaves_small_tensors_alone),
        cmocka_unit_test(mix_chooses_as_llama_quantize),
        cmocka_unit_test(mix_falls_back_when_widths_do_not_divide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
