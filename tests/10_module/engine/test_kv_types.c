/* What the types of keys and values cost: KL divergence of next-token distributions from those with
 * F32, on the bundled model and on golden ones with random weights. */
#include "golden.h"

static const enum dtype types[] = {DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0};

enum { PAGES = 16, ROWS_MAX = 160 };
static const uint32_t page_ids[PAGES] = {3, 1, 15, 0, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 14};

static const char story[] = "Once upon a time there was a fox who lived at the edge of a quiet "
                            "wood. Every evening he walked "
                            "down to the river to look at the lights of the village on the other "
                            "side. One night he found a "
                            "lantern in the grass. It was still warm, and its small flame was "
                            "dancing behind the glass. The "
                            "fox had never seen a flame so close. He sat down beside it and asked "
                            "it where it came from. The "
                            "flame did not answer, but it grew a little brighter, as if it had "
                            "been waiting for someone to ask.";

/* Logits of all rows of n tokens. */
static float *logits_of(const char *path, enum dtype kv_type, const int32_t *tokens, uint32_t n,
                        uint32_t *n_vocab)
{
    struct engine_conf conf = {.backend = "cpu",
                               .n_threads = 2,
                               .kv_pages = PAGES,
                               .batch_tokens_max = GOLDEN_TOKENS_MAX,
                               .kv_type = kv_type};
    struct engine *e = golden_open(path, &conf);
    *n_vocab = vocab_size(engine_vocab(e));
    float *out = mem_zalloc_array((size_t)n * *n_vocab, sizeof(float));
    struct golden_piece piece = {.tokens = tokens, .table = {page_ids, PAGES}};
    for (uint32_t at = 0; at < n; at = piece.to) {
        piece.from = at;
        piece.to = MIN(at + 50, n);
        golden_forward(e, &piece, 1, out + (size_t)at * *n_vocab);
    }
    engine_close(e);
    return out;
}

static double log_sum(const float *logits, uint32_t n)
{
    double max = (double)logits[0];
    double sum = 0;
    for (uint32_t i = 1; i < n; i++) {
        max = fmax(max, (double)logits[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        sum += exp((double)logits[i] - max);
    }
    return max + log(sum);
}

/* Mean over rows of KL(base || other) in nats. */
static double mean_kld(const float *base, const float *other, uint32_t n_rows, uint32_t n)
{
    double all = 0;
    for (uint32_t r = 0; r < n_rows; r++, base += n, other += n) {
        double base_sum = log_sum(base, n);
        double other_sum = log_sum(other, n);
        for (uint32_t i = 0; i < n; i++) {
            double p = (double)base[i] - base_sum;
            all += exp(p) * (p - ((double)other[i] - other_sum));
        }
    }
    return all / n_rows;
}

/* Where activations are quantised, any change of a last bit moves some of them by a step: that is
 * then most of the divergence, and the same for every type. `noise` is its bound. */
static void check_model(const char *name, const char *path, const int32_t *tokens, uint32_t n,
                        double noise)
{
    uint32_t n_vocab;
    float *base = logits_of(path, DTYPE_F32, tokens, n, &n_vocab);
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        float *other = logits_of(path, types[t], tokens, n, &n_vocab);
        double kld = mean_kld(base, other, n, n_vocab);
        printf("%-12s %-5s KL %.2e\n", name, backend_kv_type_name(types[t]), kld);
        assert_true(kld >= -1e-9 && kld <= noise + (types[t] == DTYPE_F16 ? 2e-6 : 1e-3));
        mem_free(other);
    }
    mem_free(base);
}

static void the_bundled_model(void **state)
{
    (void)state;
    struct engine_conf conf = {.kv_pages = 1, .kv_type = DTYPE_F16};
    struct engine *e = golden_open("models/bud-story-4m.gguf", &conf);
    struct arena arena;
    struct token_list list;
    arena_init(&arena, 1 << 20);
    struct encode_options with_bos = {.add_special = true};
    assert_int_equal(vocab_encode(engine_vocab(e), str_from(story), with_bos, &arena, &list, NULL),
                     RC_OK);
    engine_close(e);
    assert_true(list.n > 64);
    check_model("bud-story", "models/bud-story-4m.gguf", list.ids, MIN(list.n, ROWS_MAX), 5e-3);
    arena_deinit(&arena);
}

static void models_with_random_float_weights(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "qwen3", "gemma2", "phi3"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[256];
        struct golden g;
        snprintf(path, sizeof(path), "tests/golden/models/%s.logits", names[i]);
        golden_read(&g, path);
        snprintf(path, sizeof(path), "tests/golden/models/%s.gguf", names[i]);
        check_model(names[i], path, g.tokens, g.n_tokens, 0);
        golden_done(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bundled_model),
        cmocka_unit_test(models_with_random_float_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
