/* spm.c and the common part of encode.c: order of merges, byte fallback, spaces, special tokens,
 * limits. */
#include "check.h"

#include "00_unit/token/tiny_vocab.h"

#define SP "\xe2\x96\x81"

static const struct tiny_token tokens[] = {
    {"<unk>", 0, TOKEN_UNKNOWN},
    {"<s>", 0, TOKEN_CONTROL},
    {"</s>", 0, TOKEN_CONTROL},
    {"a", -1, 0},
    {"b", -1, 0},
    {"c", -1, 0},
    {SP, -1, 0},
    {"ab", -5, 0},
    {"bc", -4, 0},
    {"aa", -6, 0},
    {SP "a", -7, 0},
    {"<", -1, 0},
    {"s", -1, 0},
    {">", -1, 0},
    {"<s", -2, 0},
    {"user", -9, TOKEN_USER_DEFINED},
    {"user name", -9, TOKEN_USER_DEFINED},
    {NULL, 0, 0},
};

static struct tiny_vocab spm(bool with_bytes)
{
    struct tiny_vocab t = {.model = "llama", .tokens = tokens, .with_bytes = with_bytes};
    int64_t first = with_bytes ? 256 : 0;
    t.ids[0] = (struct tiny_id){"unknown_token_id", first};
    t.ids[1] = (struct tiny_id){"bos_token_id", first + 1};
    t.ids[2] = (struct tiny_id){"eos_token_id", first + 2};
    return t;
}

static const struct encode_options plain = {0}, specials = {.parse_special = true},
                                   added = {.add_special = true};

static void test_order(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm(true);
    t.flags[0] = (struct tiny_flag){"add_space_prefix", false};
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "", plain, "");
    tiny_pieces(v, "a", plain, "a");
    tiny_pieces(v, "abc", plain, "a|bc"); /* -4 before -5 */
    tiny_pieces(v, "aaa", plain, "aa|a"); /* the leftmost of equal ones */
    tiny_pieces(v, "aaaaa", plain, "aa|aa|a");
    tiny_pieces(v, "a a", plain, "a|" SP "a");
    tiny_close(&t);
}

static void test_spaces(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm(true);
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "ab", plain, SP "|ab");
    tiny_pieces(v, " ab", plain, SP "|" SP "|ab");
    tiny_pieces(v, "  ", plain, SP "|" SP "|" SP);
    tiny_round(v, "ab", "ab");
    tiny_round(v, "  a b  ", "  a b  ");
    tiny_close(&t);
    t.flags[0] = (struct tiny_flag){"remove_extra_whitespaces", true};
    v = tiny_open(&t);
    tiny_pieces(v, "  a   b ", plain, SP "a|" SP "|b");
    tiny_close(&t);
}

static void test_bytes(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm(true);
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "a\xc3\xa9", plain, SP "a|<0xC3>|<0xA9>");
    tiny_round(v, "\xc3\xa9\n\xf0\x9f\x98\x80", "\xc3\xa9\n\xf0\x9f\x98\x80");
    tiny_close(&t);
    t = spm(false);
    v = tiny_open(&t);
    tiny_pieces(v, "a\xc3\xa9", plain, SP "a|<unk>");
    tiny_close(&t);
}

static void test_specials(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm(true);
    const struct vocab *v = tiny_open(&t);
    /* "<s" and ">" merge to nothing: plain text never becomes a control token. */
    tiny_pieces(v, "<s>", plain, SP "|<s|>");
    tiny_pieces(v, "<s>", specials, "<s>");
    tiny_pieces(v, "a<s>b</s>", specials, SP "a|<s>|" SP "|b|</s>");
    tiny_pieces(v, "a", added, "<s>|" SP "a");
    tiny_pieces(v, "", added, "<s>");
    /* The longest of those that begin at one place; user-defined ones always. */
    tiny_pieces(v, "user", plain, "user");
    tiny_pieces(v, "user nam", plain, "user|" SP "|" SP "|<0x6E>|a|<0x6D>");
    tiny_pieces(v, "user name", plain, "user name");
    tiny_pieces(v, "auserb", plain, SP "a|user|" SP "|b");
    tiny_close(&t);
}

static void test_phi3(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm(true);
    t.arch = "phi3";
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "</s> \na", specials, "</s>|" SP "a");
    tiny_pieces(v, "<s> a", specials, "<s>|" SP "|" SP "a");
    tiny_close(&t);
}

static void test_refused(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm(true);
    const struct vocab *v = tiny_open(&t);
    struct arena a;
    struct token_list list;
    struct err err = {0};
    arena_init(&a, 1 << 16);
    assert_int_equal(vocab_encode(v, STR_LIT("a\xff"), plain, &a, &list, &err), RC_INVALID);
    assert_int_equal(list.n, 0);
    char *big = test_malloc(1 << 16);
    memset(big, 'a', 1 << 16);
    assert_int_equal(vocab_encode(v, str_make(big, 1 << 16), plain, &a, &list, &err), RC_TOO_LARGE);
    assert_int_equal(list.n, 0);
    /* Words: the output itself is what does not fit. */
    for (size_t i = 1; i < 1 << 16; i += 2) {
        big[i] = ' ';
    }
    arena_reset(&a);
    assert_int_equal(vocab_encode(v, str_make(big, 1 << 16), plain, &a, &list, &err), RC_TOO_LARGE);
    test_free(big);
    arena_deinit(&a);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order), cmocka_unit_test(test_spaces),
        cmocka_unit_test(test_bytes), cmocka_unit_test(test_specials),
        cmocka_unit_test(test_phi3),  cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
