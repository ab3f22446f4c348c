/* bpe.c: the byte mapping, merges, words that are tokens, BPE on SPM's text. */
#include "check.h"

#include "00_unit/token/tiny_vocab.h"
#include "engine/token/encode.h"

#define SP "\xe2\x96\x81"
#define G  "\xc4\xa0" /* the mapped space, U+0120 */

static const struct encode_options plain = {0};

static void test_mapping(void **state)
{
    UNUSED(state);
    bool seen[0x144] = {false};
    for (int b = 0; b < 256; b++) {
        uint32_t cp = bpe_char_of((uint8_t)b);
        assert_true(cp < ARRAY_LEN(seen) && !seen[cp]);
        seen[cp] = true;
        assert_int_equal(bpe_byte_of(cp), b);
    }
    assert_int_equal(bpe_char_of(' '), 0x120);
    assert_int_equal(bpe_char_of('\n'), 0x10a);
    assert_int_equal(bpe_char_of(0x7f), 0x121);
    assert_int_equal(bpe_char_of(0xad), 0x143);
    assert_int_equal(bpe_byte_of(0x144), -1);
    assert_int_equal(bpe_byte_of(0x10ffff), -1);
}

static const struct tiny_token tokens[] = {
    {"ab", 0, 0},         {"abc", 0, 0},   {"bc", 0, 0}, {"<|x|>", 0, TOKEN_CONTROL},
    {G "a", 0, 0},        {"whole", 0, 0}, {"aa", 0, 0}, {"aaaa", 0, 0},
    {"<|im_end|>", 0, 0}, {"<|", 0, 0},    {NULL, 0, 0},
};

static struct tiny_vocab bpe(const char *pre)
{
    static const char *const merges[] = {"b c",   "a b", "a bc", G " a", "a a",
                                         "aa aa", "a b", "< |",  NULL};
    return (struct tiny_vocab){.model = "gpt2",
                               .pre = pre,
                               .tokens = tokens,
                               .merges = merges,
                               .no_scores = true,
                               .with_bytes = true};
}

static void test_merges(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = bpe("gpt-2");
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "abc", plain, "abc");
    tiny_pieces(v, "abab", plain, "ab|ab");
    tiny_pieces(v, "aaaaaaa", plain, "aaaa|aa|a");
    tiny_pieces(v, "b a", plain, "b|" G "a");
    tiny_pieces(v, "whole", plain, "w|h|o|l|e"); /* no merges lead to it */
    tiny_pieces(v, "\xc3\xa9", plain, "\xc3\x83|\xc2\xa9");
    tiny_pieces(v, "<|x|>", plain, "<||x|||>");
    tiny_pieces(v, "<|x|>", (struct encode_options){.parse_special = true}, "<|x|>");
    tiny_round(v, "ab \xc3\xa9\t\n<|x|> \xf0\x9f\x98\x80 abc",
               "ab \xc3\xa9\t\n<|x|> \xf0\x9f\x98\x80 abc");
    tiny_close(&t);
}

static void test_ignore_merges(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = bpe("llama-bpe");
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "whole", plain, "whole");
    tiny_pieces(v, "abcwhole", plain, "abc|w|h|o|l|e");
    tiny_close(&t);
}

/* The memory of words must not change what comes out, wherever a word stands. */
static void test_words_again(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = bpe("gpt-2");
    const struct vocab *v = tiny_open(&t);
    struct arena a;
    struct token_list one, many;
    struct buf text;
    arena_init(&a, 1 << 24);
    buf_init(&text, 1 << 20);
    assert_int_equal(vocab_encode(v, STR_LIT(" abc aaaa"), plain, &a, &one, NULL), RC_OK);
    for (int i = 0; i < 1000; i++) {
        buf_add_cstr(&text, " abc aaaa");
    }
    assert_int_equal(vocab_encode(v, buf_str(&text), plain, &a, &many, NULL), RC_OK);
    assert_int_equal(many.n, 1000 * one.n);
    for (uint32_t i = 0; i < many.n; i++) {
        assert_int_equal(many.ids[i], one.ids[i % one.n]);
    }
    buf_deinit(&text);
    arena_deinit(&a);
    tiny_close(&t);
}

static void test_missing_byte(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = bpe("gpt-2");
    t.with_bytes = false;
    static const struct tiny_token few[] = {{"a", 0, 0}, {"?", 0, TOKEN_UNKNOWN}, {NULL, 0, 0}};
    static const char *const none[] = {NULL};
    t.tokens = few;
    t.merges = none;
    const struct vocab *v = tiny_open(&t);
    struct arena a;
    struct token_list list;
    struct err err = {0};
    arena_init(&a, 1 << 16);
    assert_int_equal(vocab_encode(v, STR_LIT("ab"), plain, &a, &list, &err), RC_INVALID);
    assert_non_null(strstr(err.msg, "\"b\""));
    arena_deinit(&a);
    tiny_close(&t);
    t.ids[0] = (struct tiny_id){"unknown_token_id", 1};
    tiny_pieces(tiny_open(&t), "ab", plain, "a|?");
    tiny_close(&t);
}

static void test_spm_text(void **state)
{
    UNUSED(state);
    static const struct tiny_token spm_tokens[] = {
        {"a", 0, 0},    {"b", 0, 0},  {SP, 0, 0},         {SP "a", 0, 0}, {"\n", 0, 0},
        {"\n\n", 0, 0}, {"ab", 0, 0}, {"b" SP "a", 0, 0}, {NULL, 0, 0},
    };
    static const char *const merges[] = {SP " a", "b " SP "a", "a b", NULL};
    struct tiny_vocab t = {.model = "gemma4",
                           .tokens = spm_tokens,
                           .merges = merges,
                           .no_scores = true,
                           .with_bytes = true};
    t.flags[0] = (struct tiny_flag){"add_bos_token", false};
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "a a", plain, "a|" SP "a");
    tiny_pieces(v, "b a", plain, "b" SP "a"); /* a token across a space */
    tiny_pieces(v, "\n\n", plain, "\n\n");    /* no merge makes it */
    tiny_pieces(v, "ab\n\na\n", plain, "ab|\n\n|a|\n");
    tiny_pieces(v, "\xc3\xa9", plain, "<0xC3>|<0xA9>");
    tiny_round(v, " a b\n\nb a \xc3\xa9", " a b\n\nb a \xc3\xa9");
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mapping),       cmocka_unit_test(test_merges),
        cmocka_unit_test(test_ignore_merges), cmocka_unit_test(test_words_again),
        cmocka_unit_test(test_missing_byte),  cmocka_unit_test(test_spm_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
