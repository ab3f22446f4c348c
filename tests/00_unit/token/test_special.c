/* special.c: leftmost first, then longest; which ones count; many that share beginnings. */
#include "check.h"

#include "00_unit/token/tiny_vocab.h"
#include "engine/token/vocab.h"

static const struct tiny_token tokens[] = {
    {"<u>", 0, TOKEN_UNKNOWN},
    {"x", 0, 0},
    {"<a>", 0, TOKEN_CONTROL},
    {"<a><a>", 0, TOKEN_CONTROL},
    {"<a><b", 0, TOKEN_USER_DEFINED},
    {"a>", 0, TOKEN_USER_DEFINED},
    {"<", 0, TOKEN_CONTROL},
    {"\x98", 0, TOKEN_USER_DEFINED}, /* not UTF-8: never inside a character */
    {NULL, 0, 0},
};

static void check(const struct vocab *v, const char *text, bool parse, size_t at, int32_t id)
{
    struct special_match m = vocab_specials_find(v, str_from(text), 0, parse);
    assert_int_equal(m.at, at);
    assert_int_equal(m.id, id);
}

static void test_find(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = {.model = "llama", .tokens = tokens};
    t.ids[0] = (struct tiny_id){"bos_token_id", 2};
    const struct vocab *v = tiny_open(&t);
    check(v, "", true, 0, TOKEN_NONE);
    check(v, "xyz", true, 3, TOKEN_NONE);
    check(v, "xx<a>", true, 2, 2);
    check(v, "<a><a", true, 0, 2);
    check(v, "<a><a><b", true, 0, 3);
    check(v, "<a><b", true, 0, 4);
    check(v, "<a><", true, 0, 2);
    check(v, "<z", true, 0, 6);
    check(v, "<u>", true, 0, 0);
    check(v, "<a>", false, 1, 5); /* only the user-defined one inside it */
    check(v, "<a><b", false, 0, 4);
    check(v, "<u>", false, 3, TOKEN_NONE);
    check(v, "\xf0\x9f\x98\x80", true, 4, TOKEN_NONE);
    tiny_close(&t);
}

/* Against the plain definition, on all texts of five letters out of three. */
static void test_all(void **state)
{
    UNUSED(state);
    static const struct tiny_token nested[] = {
        {"a", 0, TOKEN_CONTROL},
        {"ab", 0, TOKEN_CONTROL},
        {"abc", 0, TOKEN_CONTROL},
        {"aba", 0, TOKEN_CONTROL},
        {"b", 0, 0},
        {"bcc", 0, TOKEN_CONTROL},
        {"abab", 0, TOKEN_CONTROL},
        {"cb", 0, TOKEN_CONTROL},
        {"cba", 0, TOKEN_CONTROL},
        {NULL, 0, 0},
    };
    struct tiny_vocab t = {.model = "llama", .tokens = nested};
    const struct vocab *v = tiny_open(&t);
    for (uint32_t n = 0; n < 243; n++) {
        char text[6] = {0};
        for (uint32_t i = 0, k = n; i < 5; i++, k /= 3) {
            text[i] = (char)('a' + k % 3);
        }
        size_t at = 0;
        int32_t want = TOKEN_NONE;
        for (; want == TOKEN_NONE && at < 5; at += want == TOKEN_NONE) {
            for (int32_t id = 0; id < 9; id++) {
                struct str s = vocab_text(v, id);
                bool longer = want == TOKEN_NONE || s.len > vocab_text(v, want).len;
                if (vocab_attr(v, id) == TOKEN_CONTROL && longer &&
                    str_starts(str_from(text + at), s)) {
                    want = id;
                }
            }
        }
        check(v, text, true, at, want);
    }
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_find), cmocka_unit_test(test_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
