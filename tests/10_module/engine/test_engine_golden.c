/* Every architecture against Hugging Face transformers in float32, and the same logits however a
 * prompt is cut, paged and batched. */
#include "golden.h"

static const char *const cases[] = {
    "llama",      "llama3", "llama-bias", "llama-mix",   "mistral", "mixtral",
    "qwen2",      "gemma2", "gemma3",     "gemma3-keys", "qwen3",   "qwen3moe",
    "qwen2-yarn", "phi3",   "phi3-long",  "phi3-window", "gpt-oss",
};

static const double tolerance = 1e-3;

static struct engine *open_case(const char *name, enum dtype kv_type)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "tests/golden/models/%s.gguf", name);
    struct engine_conf conf = {.backend = "ref", .kv_type = kv_type, .kv_pages = 16};
    return golden_open(path, &conf);
}

static void read_case(struct golden *g, const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "tests/golden/models/%s.logits", name);
    golden_read(g, path);
}

static double diff_of_rows(const struct golden *g, const float *logits)
{
    double max = 0;
    for (uint32_t r = 0; r < g->n_rows; r++) {
        double diff = golden_max_diff(logits + (size_t)g->rows[r] * g->n_vocab,
                                      g->logits + (size_t)r * g->n_vocab, g->n_vocab);
        max = diff > max || isnan(diff) ? diff : max;
    }
    return max;
}

static void logits_equal_transformers(void **state)
{
    (void)state;
    const uint32_t pages[] = {0};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct golden g;
        read_case(&g, cases[i]);
        struct engine *e = open_case(cases[i], DTYPE_F32);
        assert_int_equal(engine_info(e)->n_vocab, g.n_vocab);
        float *logits = mem_zalloc_array((size_t)g.n_tokens * g.n_vocab, sizeof(float));
        struct golden_piece whole = {g.tokens, 0, g.n_tokens, {pages, 1}};
        golden_forward(e, &whole, 1, logits);
        double diff = diff_of_rows(&g, logits);
        printf("%-12s largest difference %.2e\n", cases[i], diff);
        assert_true(diff <= tolerance);
        mem_free(logits);
        engine_close(e);
        golden_done(&g);
    }
}

/* A case with its whole-prompt logits, the measure of the tests below. */
struct run {
    struct engine *e;
    struct golden g;
    float *whole; /* [n_tokens, n_vocab] */
    float *other; /* room for three times as many rows */
};

static void run_start(struct run *r, const char *name, enum dtype kv_type)
{
    read_case(&r->g, name);
    r->e = open_case(name, kv_type);
    size_t n = (size_t)r->g.n_tokens * r->g.n_vocab;
    r->whole = mem_zalloc_array(n, sizeof(float));
    r->other = mem_zalloc_array(3 * n, sizeof(float));
    const uint32_t pages[] = {0};
    struct golden_piece whole = {r->g.tokens, 0, r->g.n_tokens, {pages, 1}};
    golden_forward(r->e, &whole, 1, r->whole);
}

static void run_end(struct run *r)
{
    mem_free(r->whole);
    mem_free(r->other);
    engine_close(r->e);
    golden_done(&r->g);
}

/* Prompt tokens [from, to) of sequence `table`, compared bit by bit with the whole prompt's. */
static void same_as_whole(struct run *r, uint32_t from, uint32_t to, const float *logits)
{
    size_t n = (size_t)(to - from) * r->g.n_vocab;
    assert_memory_equal(logits, r->whole + (size_t)from * r->g.n_vocab, n * sizeof(float));
}

static void pieces_give_the_same_logits(void **state)
{
    (void)state;
    static const uint32_t cuts[] = {0, 1, 2, 9, 20, 32};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct run r;
        run_start(&r, cases[i], i % 2 == 0 ? DTYPE_F16 : DTYPE_F32);
        const uint32_t pages[] = {7};
        for (size_t c = 0; c + 1 < ARRAY_LEN(cuts); c++) {
            struct golden_piece piece = {r.g.tokens, cuts[c], cuts[c + 1], {pages, 1}};
            golden_forward(r.e, &piece, 1, r.other);
            same_as_whole(&r, cuts[c], cuts[c + 1], r.other);
        }
        run_end(&r);
    }
}

/* A prompt of three pages, in ascending pages and in pages in disorder. */
static void any_page_table_gives_the_same_logits(void **state)
{
    (void)state;
    enum { N = 3 * KV_PAGE_TOKENS };
    const uint32_t straight[] = {0, 1, 2};
    const uint32_t crooked[] = {14, 3, 9};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct run r;
        run_start(&r, cases[i], DTYPE_F32);
        int32_t tokens[N];
        for (uint32_t t = 0; t < N; t++) {
            tokens[t] = r.g.tokens[t % r.g.n_tokens];
        }
        struct golden_piece piece = {tokens, 0, N, {straight, 3}};
        golden_forward(r.e, &piece, 1, r.other);
        size_t bytes = (size_t)r.g.n_vocab * N * sizeof(float);
        float *moved = mem_alloc(bytes);
        piece.table.page_ids = crooked;
        golden_forward(r.e, &piece, 1, moved);
        assert_memory_equal(moved, r.other, bytes);
        mem_free(moved);
        run_end(&r);
    }
}

/* Three sequences at different places in one batch: one beginning, one in the middle of its
 * prompt, one adding a single token. */
static void sequences_in_a_batch_do_not_mix(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct run r;
        run_start(&r, cases[i], DTYPE_F32);
        const uint32_t pages[] = {4, 2, 8};
        struct golden_piece pieces[] = {
            {r.g.tokens, 0, 11, {&pages[0], 1}},
            {r.g.tokens, 0, 31, {&pages[1], 1}},
        };
        golden_forward(r.e, pieces, 2, r.other);
        same_as_whole(&r, 0, 11, r.other);
        same_as_whole(&r, 0, 31, r.other + (size_t)11 * r.g.n_vocab);
        struct golden_piece next[] = {
            {r.g.tokens, 31, 32, {&pages[1], 1}},
            {r.g.tokens, 0, 20, {&pages[2], 1}},
            {r.g.tokens, 11, 19, {&pages[0], 1}},
        };
        golden_forward(r.e, next, 3, r.other);
        same_as_whole(&r, 31, 32, r.other);
        same_as_whole(&r, 0, 20, r.other + r.g.n_vocab);
        same_as_whole(&r, 11, 19, r.other + (size_t)21 * r.g.n_vocab);
        run_end(&r);
    }
}

static void wanted_rows_and_hidden_states(void **state)
{
    (void)state;
    struct run r;
    run_start(&r, "llama", DTYPE_F32);
    uint32_t n_embd = engine_info(r.e)->n_embd;
    uint32_t positions[32], seq_of[32] = {0};
    for (uint32_t t = 0; t < 32; t++) {
        positions[t] = t;
    }
    const uint32_t pages[] = {1};
    const uint32_t rows[] = {3, 4, 31};
    const struct kv_table table = {pages, 1};
    float *hidden = mem_zalloc_array(3 * n_embd, sizeof(float));
    struct engine_batch b = {
        .n_tokens = 32,
        .tokens = r.g.tokens,
        .positions = positions,
        .seq_of = seq_of,
        .n_seqs = 1,
        .seqs = &table,
        .n_logit_rows = 3,
        .logit_rows = rows,
        .logits = r.other,
        .hidden = hidden,
    };
    assert_int_equal(engine_forward(r.e, &b, NULL, NULL), RC_OK);
    for (size_t i = 0; i < 3; i++) {
        same_as_whole(&r, rows[i], rows[i] + 1, r.other + i * r.g.n_vocab);
        /* llama's final norm has weights near 1: a row's mean square is near 1 too. */
        double square = 0;
        for (uint32_t c = 0; c < n_embd; c++) {
            square += pow((double)hidden[i * n_embd + c], 2) / n_embd;
        }
        assert_true(square > 0.3 && square < 3.0);
    }
    b.n_logit_rows = 0;
    b.logits = NULL;
    b.hidden = NULL;
    assert_int_equal(engine_forward(r.e, &b, NULL, NULL), RC_OK);
    mem_free(hidden);
    run_end(&r);
}

static void a_cancelled_forward_stops(void **state)
{
    (void)state;
    struct run r;
    run_start(&r, "llama", DTYPE_F32);
    const uint32_t pages[] = {0}, zero[] = {0};
    const struct kv_table table = {pages, 1};
    struct engine_batch b = {
        .n_tokens = 1,
        .tokens = r.g.tokens,
        .positions = zero,
        .seq_of = zero,
        .n_seqs = 1,
        .seqs = &table,
        .n_logit_rows = 1,
        .logit_rows = zero,
        .logits = r.other,
    };
    _Atomic bool cancel = true;
    assert_int_equal(engine_forward(r.e, &b, &cancel, NULL), RC_CANCELLED);
    cancel = false;
    assert_int_equal(engine_forward(r.e, &b, &cancel, NULL), RC_OK);
    same_as_whole(&r, 0, 1, r.other);
    run_end(&r);
}

/* F16 pages cost accuracy, but little: stated, so that a change is seen. */
static void half_pages_stay_close(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct run r;
        run_start(&r, cases[i], DTYPE_F16);
        assert_true(diff_of_rows(&r.g, r.whole) <= 2e-2);
        run_end(&r);
    }
}

static void the_bill_and_the_limits(void **state)
{
    (void)state;
    struct engine *e = open_case("llama", DTYPE_F16);
    const struct engine_info *i = engine_info(e);
    assert_string_equal(i->arch, "llama");
    assert_string_equal(i->name, "golden llama");
    assert_string_equal(i->backend, "ref");
    assert_string_equal(i->file_type, "F32");
    assert_int_equal(i->n_layers, 2);
    assert_int_equal(i->n_embd, 48);
    assert_int_equal(i->context_trained, 256);
    assert_int_equal(i->context_tokens, 256);
    assert_int_equal(i->kv_pages, 16);
    assert_int_equal(i->batch_tokens_max, ENGINE_BATCH_DEFAULT);
    assert_int_equal(i->weight_bytes, 4 * i->n_params);
    /* Heads of 12 channels are counted as 16, which is what vectors make of them. */
    assert_int_equal(i->kv_bytes, 2 * 2 * 2 * 16 * 2 * 16 * KV_PAGE_TOKENS);
    assert_true(i->workspace_bytes > 0);
    engine_close(e);

    struct err err = {0};
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n = 0;
    assert_int_equal(weight_source_open_model(sources, &n, "tests/golden/models/llama.gguf", &err),
                     RC_OK);
    struct engine_conf greedy = {.context_tokens = 257};
    assert_int_equal(engine_open(&e, sources, n, &greedy, &err), RC_INVALID);
    assert_string_equal(err.msg, "context of 257 tokens asked for, the model has 256");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_equal_transformers),
        cmocka_unit_test(pieces_give_the_same_logits),
        cmocka_unit_test(any_page_table_gives_the_same_logits),
        cmocka_unit_test(sequences_in_a_batch_do_not_mix),
        cmocka_unit_test(wanted_rows_and_hidden_states),
        cmocka_unit_test(a_cancelled_forward_stops),
        cmocka_unit_test(half_pages_stay_close),
        cmocka_unit_test(the_bill_and_the_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
