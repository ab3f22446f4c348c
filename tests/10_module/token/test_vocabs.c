/* The reference vocabularies of ../shared/vocabs: X.gguf.inp holds texts, X.gguf.out the ids that
 * the models' own tokenizers make of them. Also: what is lossless comes back, characters come out
 * whole, and no text takes more than linear time (a bound of processor time). */
#include "check.h"

#include <time.h>

#include "base/file.h"
#include "engine/token/token.h"

enum {
    ARENA_BYTES = 1 << 28,
    FILE_BYTES = 1 << 20,
    BIG_BYTES = 1 << 18,
    BIG_MS_MAX = 3000, /* for sanitizers; else it takes below 150 */
};

struct vocab_file {
    struct weight_source *source;
    struct gguf *gguf;
    struct vocab *vocab;
};

static void open_vocab(struct vocab_file *f, const char *path)
{
    struct err err = {0};
    enum rc rc = weight_source_open_file(&f->source, path, &err);
    if (rc == RC_OK) {
        rc = gguf_open(&f->gguf, &f->source, 1, &err);
    }
    if (rc == RC_OK) {
        rc = vocab_create(&f->vocab, f->gguf, &err);
    }
    if (rc != RC_OK) {
        fail_msg("%s: %s", path, err.msg);
    }
}

static void close_vocab(struct vocab_file *f)
{
    vocab_destroy(f->vocab);
    gguf_close(f->gguf);
    weight_source_close(f->source);
}

static struct token_list encode(const struct vocab *v, struct str text, struct arena *a)
{
    struct token_list list;
    struct err err = {0};
    enum rc rc = vocab_encode(v, text, (struct encode_options){0}, a, &list, &err);
    if (rc != RC_OK) {
        fail_msg("encode: %s", err.msg);
    }
    return list;
}

/* Through the incremental detokenizer; fails when a character comes out in parts. */
static void decode(const struct vocab *v, const struct token_list *list, struct buf *out)
{
    struct detok d;
    detok_init(&d, v, (struct detok_options){.at_start = true, .special = true});
    buf_reset(out);
    for (uint32_t i = 0; i < list->n; i++) {
        size_t from = out->len;
        detok_push(&d, list->ids[i], out);
        assert_true(str_utf8_valid(str_slice(buf_str(out), from, out->len)));
    }
    detok_finish(&d, out);
    assert_true(buf_ok(out));
}

static void check_text(const struct vocab *v, struct str text, struct str want, const char *name)
{
    struct arena a;
    struct buf back;
    arena_init(&a, ARENA_BYTES);
    buf_init(&back, ARENA_BYTES);
    struct token_list got = encode(v, text, &a);
    uint32_t n = 0;
    while (want.len > 0) {
        struct str number = str_cut(&want, ' ');
        uint64_t id;
        if (number.len == 0) {
            continue;
        }
        assert_true(str_to_u64(number, &id));
        if (n >= got.n || got.ids[n] != (int32_t)id) {
            fail_msg("%s: \"%.*s\": id %u is %d, not %llu", name, STR(text), n,
                     n < got.n ? got.ids[n] : -1, (unsigned long long)id);
        }
        n++;
    }
    if (got.n != n) {
        fail_msg("%s: \"%.*s\" has %u ids, not %u", name, STR(text), got.n, n);
    }
    decode(v, &got, &back);
    if (strcmp(vocab_model(v), "bert") != 0 && !str_eq(buf_str(&back), text)) {
        fail_msg("%s: \"%.*s\" came back as \"%.*s\"", name, STR(text), STR(buf_str(&back)));
    }
    buf_deinit(&back);
    arena_deinit(&a);
}

static struct str read_all(struct buf *b, const char *base, const char *suffix)
{
    char path[256];
    struct err err = {0};
    snprintf(path, sizeof(path), "%s%s", base, suffix);
    check_need_file(path);
    buf_init(b, FILE_BYTES);
    if (file_read(path, b, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    return buf_str(b);
}

static void test_pairs(void **state)
{
    const char *path = *state;
    static const struct str sep = STR_LIT("\n__ggml_vocab_test__\n");
    struct vocab_file f = {0};
    struct buf inp, out;
    check_need_file(path);
    open_vocab(&f, path);
    struct str texts = read_all(&inp, path, ".inp"), ids = read_all(&out, path, ".out");
    uint32_t n = 0;
    while (texts.len > 0) {
        size_t end = str_find(texts, sep);
        check_text(f.vocab, str_slice(texts, 0, end), str_cut(&ids, '\n'), path);
        texts = str_slice(texts, end + sep.len, texts.len);
        n++;
    }
    assert_true(n > 40);
    assert_int_equal(ids.len, 0);
    buf_deinit(&inp);
    buf_deinit(&out);
    close_vocab(&f);
}

static void test_time(void **state)
{
    static const char *const units[] = {
        "a",    " ",
        "1",    "\xf0\x9f\x98\x80",
        "\n",   " \n",
        "ab ",  "A",
        "'",    "!",
        "aA",   "\xe4\xb8\xad",
        "<|",   "\xcc\x81",
        "_a1 ", "\t",
        "=",    "\xe2\x96\x81",
    };
    const char *path = *state;
    struct vocab_file f = {0};
    check_need_file(path);
    open_vocab(&f, path);
    char *text = test_malloc(BIG_BYTES);
    long slowest = 0;
    struct buf back;
    buf_init(&back, 2 * BIG_BYTES);
    for (size_t u = 0; u < ARRAY_LEN(units); u++) {
        size_t len = strlen(units[u]), n = BIG_BYTES / len;
        for (size_t i = 0; i < n; i++) {
            memcpy(text + i * len, units[u], len);
        }
        struct arena a;
        arena_init(&a, ARENA_BYTES);
        clock_t start = clock(); /* processor time: other work on the machine does not count */
        struct token_list list = encode(f.vocab, str_make(text, n * len), &a);
        long ms = (long)((clock() - start) / (CLOCKS_PER_SEC / 1000));
        assert_in_range(ms, 0, BIG_MS_MAX);
        /* SPM's own mark in a text comes back as the space that it stands for. */
        if (strcmp(vocab_model(f.vocab), "bert") != 0 && strcmp(units[u], "\xe2\x96\x81") != 0) {
            decode(f.vocab, &list, &back);
            assert_true(str_eq(buf_str(&back), str_make(text, n * len)));
        }
        slowest = MAX(slowest, ms);
        arena_deinit(&a);
    }
    printf("slowest of %zu texts of %d bytes: %ld ms\n", ARRAY_LEN(units), BIG_BYTES, slowest);
    buf_deinit(&back);
    test_free(text);
    close_vocab(&f);
}

#define VOCAB(name)                                                                                \
    {"pairs of " name, test_pairs, NULL, NULL, "../shared/vocabs/ggml-vocab-" name ".gguf"},       \
    {                                                                                              \
        "time of " name, test_time, NULL, NULL, "../shared/vocabs/ggml-vocab-" name ".gguf"        \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        VOCAB("llama-spm"), VOCAB("phi-3"),        VOCAB("bert-bge"),
        VOCAB("gpt-2"),     VOCAB("llama-bpe"),    VOCAB("qwen2"),
        VOCAB("starcoder"), VOCAB("deepseek-llm"), VOCAB("gemma-4"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
