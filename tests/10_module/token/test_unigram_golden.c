/* The unigram tokenizer against SentencePiece: tests/golden/unigram.txt holds texts and the ids
 * that the official library makes of them with the vocabulary of models/xlm-roberta.gguf
 * (tests/golden/make/unigram.py). */
#include "check.h"

#include "base/file.h"
#include "engine/token/token.h"

enum { ARENA_BYTES = 1 << 22, FILE_BYTES = 1 << 20, IDS_MAX = 1024, TEXTS_MIN = 150 };

static const char model[] = "tests/golden/models/xlm-roberta.gguf";

struct golden {
    struct weight_source *source;
    struct gguf *gguf;
    struct vocab *vocab;
    struct buf lines;
    struct arena arena;
};

static void golden_open(struct golden *g)
{
    struct err err = {0};
    *g = (struct golden){0};
    buf_init(&g->lines, FILE_BYTES);
    arena_init(&g->arena, ARENA_BYTES);
    if (weight_source_open_file(&g->source, model, &err) != RC_OK ||
        gguf_open(&g->gguf, &g->source, 1, &err) != RC_OK ||
        vocab_create(&g->vocab, g->gguf, &err) != RC_OK ||
        file_read("tests/golden/unigram.txt", &g->lines, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
}

static void golden_close(struct golden *g)
{
    vocab_destroy(g->vocab);
    gguf_close(g->gguf);
    weight_source_close(g->source);
    buf_deinit(&g->lines);
    arena_deinit(&g->arena);
}

static struct token_list encode(struct golden *g, struct str text, struct encode_options opt)
{
    struct token_list list = {0};
    struct err err = {0};
    if (vocab_encode(g->vocab, text, opt, &g->arena, &list, &err) != RC_OK) {
        fail_msg("%.*s: %s", STR(text), err.msg);
    }
    return list;
}

/* One line: the text in hexadecimal digits or "-", then its ids. Returns what follows the line. */
static char *check_line(struct golden *g, char *line)
{
    char text[4096];
    size_t len = 0;
    int32_t want[IDS_MAX];
    uint32_t n = 0;
    char *at = line;
    for (; *at != ' ' && *at != '\n'; at += *at == '-' ? 1 : 2) {
        if (*at != '-') {
            const char digits[3] = {at[0], at[1]};
            assert_true(len < sizeof(text));
            text[len++] = (char)strtoul(digits, NULL, 16);
        }
    }
    while (*at == ' ') {
        assert_true(n < IDS_MAX);
        want[n++] = (int32_t)strtol(at, &at, 10);
    }
    assert_int_equal(*at, '\n');
    arena_reset(&g->arena);
    struct token_list have = encode(g, str_make(text, len), (struct encode_options){0});
    for (uint32_t i = 0; i < n || i < have.n; i++) {
        if (i >= n || i >= have.n || have.ids[i] != want[i]) {
            fail_msg("\"%.*s\": token %u of %u is %d, expected %d of %u", (int)len, text, i, have.n,
                     i < have.n ? have.ids[i] : -1, i < n ? want[i] : -1, n);
        }
    }
    return at + 1;
}

static void ids_are_those_of_sentencepiece(void **state)
{
    (void)state;
    struct golden g;
    golden_open(&g);
    uint32_t n = 0;
    for (char *at = g.lines.ptr; *at != '\0'; n++) {
        at = check_line(&g, at);
    }
    assert_true(n >= TEXTS_MIN);
    golden_close(&g);
}

static void special_tokens_frame_a_text(void **state)
{
    (void)state;
    struct golden g;
    golden_open(&g);
    struct encode_options opt = {.add_special = true};
    struct token_list list = encode(&g, STR_LIT("free"), opt);
    const int32_t framed[] = {0, 139, 6, 2};
    assert_int_equal(list.n, ARRAY_LEN(framed));
    assert_memory_equal(list.ids, framed, sizeof(framed));
    /* Of a text that writes one. */
    list = encode(&g, STR_LIT("free</s>free"), (struct encode_options){.parse_special = true});
    const int32_t inside[] = {139, 6, 2, 139, 6};
    assert_int_equal(list.n, ARRAY_LEN(inside));
    assert_memory_equal(list.ids, inside, sizeof(inside));
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_sentencepiece),
        cmocka_unit_test(special_tokens_frame_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
