/* The promise (README of engine/cpu): on one instruction set a row's logits have the same bits
 * however its sequence is cut, beside whatever other sequences, in whichever pages, on any number
 * of threads. Every golden architecture, every type of weights, every set of kernels here. */
#include "golden.h"

#include <stdio.h>
#include <unistd.h>

#include "base/rng.h"
#include "engine/cpu/kernels.h"
#include "engine/format/mix.h"
#include "engine/format/requantize.h"

#define MODELS "tests/golden/models/"

static const char *const models[] = {
    "llama",       "llama3",     "llama-bias", "llama-mix",   "mistral", "mixtral",
    "qwen2",       "qwen2-yarn", "qwen3",      "gemma2",      "gemma3",  "qwen3moe",
    "gemma3-keys", "phi3",       "phi3-long",  "phi3-window", "gpt-oss",
};

static const char *const isas[] = {"generic", "avx2", "avx2vnni", "avx512", "avx512bf16"};

enum { SEQS = 3, TOKENS_MAX = 96, PAGES_OF = (TOKENS_MAX + 31) / 32, PAGES = 16 };

/* SEQS sequences of different tokens and lengths, all logits of each kept. */
struct text {
    int32_t tokens[SEQS][TOKENS_MAX];
    uint32_t n[SEQS];
    uint32_t n_vocab;
    float *logits[SEQS];
};

static struct engine *open_with(const char *path, uint32_t n_threads, enum dtype kv_type)
{
    struct engine_conf conf = {.backend = "cpu",
                               .n_threads = n_threads,
                               .kv_pages = PAGES,
                               .batch_tokens_max = GOLDEN_TOKENS_MAX,
                               .kv_type = kv_type};
    return golden_open(path, &conf);
}

static void text_make(struct text *x, const struct engine *e, struct rng *rng, uint32_t n_max)
{
    x->n_vocab = engine_info(e)->n_vocab;
    uint32_t context = engine_info(e)->context_tokens;
    for (uint32_t s = 0; s < SEQS; s++) {
        x->n[s] = MIN(context, n_max - 13 * s);
        x->logits[s] = mem_zalloc_array((size_t)x->n[s] * x->n_vocab, sizeof(float));
        for (uint32_t i = 0; i < x->n[s]; i++) {
            x->tokens[s][i] = (int32_t)(rng_u32(rng) % x->n_vocab);
        }
    }
}

static void text_done(struct text *x)
{
    for (uint32_t s = 0; s < SEQS; s++) {
        mem_free(x->logits[s]);
    }
}

/* Each sequence alone, whole, in pages in order. */
static void run_alone(struct engine *e, struct text *x)
{
    static const uint32_t ids[PAGES_OF] = {0, 1, 2};
    for (uint32_t s = 0; s < SEQS; s++) {
        struct golden_piece piece = {x->tokens[s], 0, x->n[s], {ids, PAGES_OF}};
        golden_forward(e, &piece, 1, x->logits[s]);
    }
}

/* All sequences beside each other, each a random number of rows further in every step, in pages
 * in random order; every row's logits must be those of run_alone. */
static void run_mixed(struct engine *e, const struct text *x, struct rng *rng, uint32_t step_max)
{
    uint32_t ids[PAGES];
    for (uint32_t i = 0; i < PAGES; i++) {
        uint32_t other = rng_u32(rng) % (i + 1);
        ids[i] = ids[other];
        ids[other] = i;
    }
    float *logits = mem_zalloc_array((size_t)GOLDEN_TOKENS_MAX * x->n_vocab, sizeof(float));
    uint32_t at[SEQS] = {0};
    for (;;) {
        struct golden_piece pieces[SEQS];
        uint32_t seqs[SEQS], n = 0;
        for (uint32_t s = 0; s < SEQS; s++) {
            uint32_t left = x->n[s] - at[s];
            uint32_t take = rng_u32(rng) % (step_max + 1);
            take = MIN(left, take);
            if (take > 0) {
                pieces[n] = (struct golden_piece){
                    x->tokens[s], at[s], at[s] + take, {ids + s * PAGES_OF, PAGES_OF}};
                seqs[n++] = s;
            }
        }
        if (n > 0) {
            golden_forward(e, pieces, n, logits);
        }
        size_t row = 0;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t rows = pieces[i].to - pieces[i].from;
            const float *want = x->logits[seqs[i]] + (size_t)pieces[i].from * x->n_vocab;
            assert_memory_equal(logits + row * x->n_vocab, want,
                                (size_t)rows * x->n_vocab * sizeof(float));
            row += rows;
            at[seqs[i]] = pieces[i].to;
        }
        if (at[0] == x->n[0] && at[1] == x->n[1] && at[2] == x->n[2]) {
            break;
        }
    }
    mem_free(logits);
}

/* On one set of kernels. */
static void check_model(const char *path, enum dtype kv_type, uint32_t n_max, uint64_t seed)
{
    struct rng rng;
    struct text x = {0};
    rng_init(&rng, seed);
    struct engine *e = open_with(path, 1, kv_type);
    text_make(&x, e, &rng, n_max);
    run_alone(e, &x);
    engine_close(e);
    static const uint32_t steps[] = {1, 5, 40};
    for (uint32_t i = 0; i < ARRAY_LEN(steps); i++) {
        e = open_with(path, i + 1, kv_type);
        run_mixed(e, &x, &rng, steps[i]);
        engine_close(e);
    }
    text_done(&x);
}

/* check(path, arg) under every set of kernels that this machine runs. */
static void on_every_isa(void (*check)(const char *path, const void *arg), const char *path,
                         const void *arg)
{
    for (size_t i = 0; i < ARRAY_LEN(isas); i++) {
        if (kernels_choose(isas[i]) != NULL) {
            assert_int_equal(setenv("BUD_ISA", isas[i], 1), 0);
            check(path, arg);
        }
    }
    assert_int_equal(unsetenv("BUD_ISA"), 0);
}

/* ---- architectures ---- */

static void check_architecture(const char *path, const void *arg)
{
    const size_t *i = arg;
    check_model(path, *i % 2 == 0 ? DTYPE_F16 : DTYPE_F32, TOKENS_MAX, *i);
}

static void every_architecture_keeps_its_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        char path[256];
        snprintf(path, sizeof(path), MODELS "%s.gguf", models[i]);
        on_every_isa(check_architecture, path, &i);
    }
}

/* ---- types of weights ---- */

static void check_type(const char *path, const void *arg)
{
    (void)arg;
    check_model(path, DTYPE_F16, 30, 7);
}

/* Every mix: blocks of 32 on small models, one with experts; blocks of 256 need the wider one. */
static void every_type_keeps_its_bits(void **state)
{
    (void)state;
    static const char *const small[] = {MODELS "llama.gguf", MODELS "mixtral.gguf"};
    char path[] = "/tmp/bud-test-mix-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (uint32_t i = 0; mix_at(i) != NULL; i++) {
        bool wide = dtype_row(mix_at(i)->base)->block_weights == 256;
        const char *model = wide ? "models/bud-story-4m.gguf" : small[i % 2];
        struct err err = {0};
        struct weight_source *source = NULL;
        struct gguf *g = NULL;
        struct requantize_conf conf = {
            .mix = mix_at(i)->name, .n_threads = 1, .allow_requantize = true};
        assert_int_equal(weight_source_open_file(&source, model, &err), RC_OK);
        assert_int_equal(gguf_open(&g, &source, 1, &err), RC_OK);
        assert_int_equal(requantize_model(g, path, &conf, NULL, &err), RC_OK);
        gguf_close(g);
        weight_source_close(source);
        on_every_isa(check_type, path, NULL);
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_keeps_its_bits),
        cmocka_unit_test(every_type_keeps_its_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
