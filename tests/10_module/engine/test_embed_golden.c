/* Embedders and rerankers against Hugging Face transformers in float32, and the same answers
 * however texts are batched and however a pass is cut. */
#include "golden.h"

static const char *const cases[] = {"bert",        "bert-first",       "bert-rank",   "nomic-bert",
                                    "xlm-roberta", "xlm-roberta-rank", "qwen3-embed", "qwen3-rank"};
enum { N_TYPED = 4, N_ENCODERS = 6, TEXTS_MAX = 16, TOKENS_MAX = 256 };

static const double tolerance = 2e-5;

/* A .vectors file. */
struct vectors {
    struct buf bytes;
    uint32_t n_texts, n_out;
    uint32_t n_tokens[TEXTS_MAX];
    const int32_t *tokens;
    uint8_t segments[TOKENS_MAX];
    uint32_t n_all; /* tokens of all texts */
    const float *out;
};

static void vectors_read(struct vectors *v, const char *name)
{
    char path[128];
    struct err err = {0};
    (void)snprintf(path, sizeof(path), "tests/golden/models/%s.vectors", name);
    buf_init(&v->bytes, 1 << 20);
    if (file_read(path, &v->bytes, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    const char *at = v->bytes.ptr;
    assert_memory_equal(at, "BUDEMBED", 8);
    memcpy(&v->n_texts, at + 8, 4);
    memcpy(&v->n_out, at + 12, 4);
    assert_true(v->n_texts <= TEXTS_MAX);
    memcpy(v->n_tokens, at + 16, 4 * v->n_texts);
    v->tokens = (const int32_t *)(const void *)(at + 16 + 4 * v->n_texts);
    v->n_all = 0;
    for (uint32_t i = 0; i < v->n_texts; i++) {
        v->n_all += v->n_tokens[i];
    }
    assert_true(v->n_all <= TOKENS_MAX);
    for (uint32_t t = 0; t < v->n_all; t++) {
        v->segments[t] = (uint8_t)v->tokens[v->n_all + t];
    }
    v->out = (const float *)(const void *)(v->tokens + 2 * v->n_all);
    assert_int_equal(v->bytes.len, 16 + 4 * (v->n_texts + 2 * v->n_all + v->n_texts * v->n_out));
}

static struct engine *open_case(const char *name, const char *backend)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "tests/golden/models/%s.gguf", name);
    struct engine_conf conf = {
        .backend = backend, .kv_type = DTYPE_F32, .batch_tokens_max = 256, .n_threads = 2};
    return golden_open(path, &conf);
}

/* Texts [from, to) of a case in one batch. */
static void embed(struct engine *e, const struct vectors *v, uint32_t from, uint32_t to, float *out)
{
    uint32_t skip = 0;
    for (uint32_t i = 0; i < from; i++) {
        skip += v->n_tokens[i];
    }
    struct engine_embed_batch b = {
        .n_texts = to - from,
        .n_tokens = v->n_tokens + from,
        .tokens = v->tokens + skip,
        .segments = engine_info(e)->n_segments > 0 ? v->segments + skip : NULL,
        .out = out,
    };
    engine_embed(e, &b);
}

static void check_case(const char *name, const char *backend, double most)
{
    struct vectors v;
    float out[TEXTS_MAX * 64];
    vectors_read(&v, name);
    struct engine *e = open_case(name, backend);
    assert_int_equal(engine_info(e)->n_out, v.n_out);
    embed(e, &v, 0, v.n_texts, out);
    double diff = golden_max_diff(out, v.out, (size_t)v.n_texts * v.n_out);
    printf("%-12s %-4s largest difference %.2e\n", name, backend, diff);
    assert_true(diff <= most);
    engine_close(e);
    buf_deinit(&v.bytes);
}

static void answers_equal_transformers(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check_case(cases[i], "ref", tolerance);
        check_case(cases[i], "cpu", tolerance);
    }
}

/* Bit for bit: each text alone, all together, and the last two behind each other. */
static void a_text_does_not_depend_on_its_batch(void **state)
{
    (void)state;
    static const char *const backends[] = {"ref", "cpu"};
    for (size_t i = 0; i < 2 * ARRAY_LEN(cases); i++) {
        struct vectors v;
        float whole[TEXTS_MAX * 64], alone[TEXTS_MAX * 64];
        vectors_read(&v, cases[i / 2]);
        struct engine *e = open_case(cases[i / 2], backends[i % 2]);
        embed(e, &v, 0, v.n_texts, whole);
        for (uint32_t t = 0; t < v.n_texts; t++) {
            embed(e, &v, t, t + 1, alone + (size_t)t * v.n_out);
        }
        assert_memory_equal(whole, alone, v.n_texts * v.n_out * sizeof(float));
        embed(e, &v, v.n_texts - 2, v.n_texts, alone);
        assert_memory_equal(whole + (size_t)(v.n_texts - 2) * v.n_out, alone,
                            2 * v.n_out * sizeof(float));
        engine_close(e);
        buf_deinit(&v.bytes);
    }
}

static void a_pass_in_pieces_is_the_same(void **state)
{
    (void)state;
    struct vectors v;
    float whole[TEXTS_MAX * 64], pieces[TEXTS_MAX * 64];
    vectors_read(&v, "bert");
    struct engine *e = open_case("bert", "cpu");
    embed(e, &v, 0, v.n_texts, whole);
    struct engine_embed_batch b = {.n_texts = v.n_texts,
                                   .n_tokens = v.n_tokens,
                                   .tokens = v.tokens,
                                   .segments = v.segments,
                                   .out = pieces};
    engine_embed_begin(e, &b);
    assert_false(engine_embed_advance(e, 1));
    assert_true(engine_embed_advance(e, 1));
    assert_memory_equal(whole, pieces, v.n_texts * v.n_out * sizeof(float));
    engine_close(e);
    buf_deinit(&v.bytes);
}

static void segments_and_order_count(void **state)
{
    (void)state;
    struct vectors v;
    float with[64], without[64];
    vectors_read(&v, "bert-rank");
    struct engine *e = open_case("bert-rank", "ref");
    /* The third text is the first with a second part. */
    embed(e, &v, 2, 3, with);
    memset(v.segments, 0, sizeof(v.segments));
    embed(e, &v, 2, 3, without);
    assert_true(fabsf(with[0] - without[0]) > 1e-3f);
    engine_close(e);
    buf_deinit(&v.bytes);
}

static void the_info_says_what_a_model_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct engine *e = open_case(cases[i], "ref");
        const struct engine_info *info = engine_info(e);
        bool ranks = strstr(cases[i], "rank") != NULL;
        assert_int_equal(info->kind, ranks ? ENGINE_RERANKER : ENGINE_EMBEDDER);
        assert_int_equal(info->n_out, ranks ? 1 : 32);
        assert_int_equal(info->texts_max, 256);
        assert_int_equal(info->n_segments, i < N_TYPED ? 2 : i < N_ENCODERS ? 1 : 0);
        assert_int_equal(info->kv_pages, 0);
        assert_true(info->weight_bytes > 0 && info->workspace_bytes > 0);
        engine_close(e);
    }
    struct engine_conf conf = {.backend = "ref", .kv_type = DTYPE_F32};
    struct engine *e = golden_open("tests/golden/models/llama.gguf", &conf);
    assert_int_equal(engine_info(e)->kind, ENGINE_GENERATOR);
    assert_int_equal(engine_info(e)->n_out, 0);
    engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_equal_transformers),
        cmocka_unit_test(a_text_does_not_depend_on_its_batch),
        cmocka_unit_test(a_pass_in_pieces_is_the_same),
        cmocka_unit_test(segments_and_order_count),
        cmocka_unit_test(the_info_says_what_a_model_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
