/* The "cpu" backend on the golden models: logits against those of the official implementation, and
 * the same bits however a prompt is cut and however many threads there are. */
#include "golden.h"

#include "engine/cpu/kernels.h"

#define MODELS "tests/golden/models/"

/* Largest difference from the golden logits, which come from the same (dequantised) weights in
 * float: so it is what quantising activations to eight bits costs in a model whose type is not
 * float. Logits of these models lie within ±10. */
struct model_case {
    const char *name;
    double tolerance;
};

static const struct model_case cases[] = {
    {"llama", 2e-3},       {"llama3", 2e-3},   {"llama-bias", 2e-3}, {"llama-mix", 0.3},
    {"mistral", 2e-3},     {"mixtral", 2e-3},  {"qwen2", 2e-3},      {"qwen2-yarn", 2e-3},
    {"qwen3", 2e-3},       {"qwen3moe", 2e-3}, {"gemma2", 2e-3},     {"gemma3", 2e-3},
    {"gemma3-keys", 2e-3}, {"phi3", 2e-3},     {"phi3-long", 2e-3},  {"phi3-window", 2e-3},
    {"gpt-oss", 0.2},
};

enum { PAGES = 16 };
static const uint32_t page_ids[PAGES] = {3, 1, 15, 0, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 14};

/* Logits of all rows, the prompt fed `step` tokens at a time. */
static float *logits_of(const struct golden *g, const char *path, uint32_t n_threads, uint32_t step)
{
    struct engine_conf conf = {.backend = "cpu",
                               .n_threads = n_threads,
                               .kv_pages = PAGES,
                               .batch_tokens_max = GOLDEN_TOKENS_MAX,
                               .kv_type = DTYPE_F32};
    struct engine *e = golden_open(path, &conf);
    float *out = mem_zalloc_array((size_t)g->n_tokens * g->n_vocab, sizeof(float));
    struct golden_piece piece = {.tokens = g->tokens, .table = {page_ids, PAGES}};
    for (uint32_t at = 0; at < g->n_tokens; at = piece.to) {
        piece.from = at;
        piece.to = MIN(at + step, g->n_tokens);
        golden_forward(e, &piece, 1, out + (size_t)at * g->n_vocab);
    }
    engine_close(e);
    return out;
}

static double worst_row(const struct golden *g, const float *logits)
{
    double worst = 0;
    for (uint32_t r = 0; r < g->n_rows; r++) {
        double diff = golden_max_diff(logits + (size_t)g->rows[r] * g->n_vocab,
                                      g->logits + (size_t)r * g->n_vocab, g->n_vocab);
        worst = diff > worst || isnan(diff) ? diff : worst;
    }
    return worst;
}

static void check_case(const struct model_case *m, bool cuts)
{
    char path[256];
    struct golden g;
    snprintf(path, sizeof(path), MODELS "%s.logits", m->name);
    golden_read(&g, path);
    snprintf(path, sizeof(path), MODELS "%s.gguf", m->name);
    float *whole = logits_of(&g, path, 1, g.n_tokens);
    double diff = worst_row(&g, whole);
    printf("%-12s off by %.2g, allowed %.2g\n", m->name, diff, m->tolerance);
    assert_true(diff <= m->tolerance);
    const uint32_t steps[] = {1, 3, 17};
    for (uint32_t i = 0; cuts && i < ARRAY_LEN(steps); i++) {
        float *cut = logits_of(&g, path, i + 1, steps[i]);
        assert_memory_equal(cut, whole, (size_t)g.n_tokens * g.n_vocab * sizeof(float));
        mem_free(cut);
    }
    mem_free(whole);
    golden_done(&g);
}

static void logits_equal_the_golden_ones_however_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check_case(&cases[i], true);
    }
}

static void generic_kernels_agree(void **state)
{
    (void)state;
    assert_int_equal(setenv("BUD_ISA", "generic", 1), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check_case(&cases[i], false);
    }
    assert_int_equal(unsetenv("BUD_ISA"), 0);
}

static void an_unknown_instruction_set_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(setenv("BUD_ISA", "z80", 1), 0);
    struct backend *b = NULL;
    struct backend_conf conf = {.n_threads = 1, .tokens_max = 1};
    struct err err = {0};
    assert_int_equal(backend_find("cpu")->open(&b, &conf, &err), RC_INVALID);
    assert_non_null(strstr(err.msg, "z80"));
    assert_int_equal(unsetenv("BUD_ISA"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_equal_the_golden_ones_however_cut),
        cmocka_unit_test(generic_kernels_agree),
        cmocka_unit_test(an_unknown_instruction_set_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
