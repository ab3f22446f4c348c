/* detok.c: pieces of every kind of token, characters that come in parts, bytes that never make one,
 * the first space. */
#include "check.h"

#include "00_unit/token/tiny_vocab.h"

#define SP   "\xe2\x96\x81"
#define FFFD "\xef\xbf\xbd"

static const struct tiny_token tokens[] = {
    {"<unk>", 0, TOKEN_UNKNOWN},
    {"<s>", 0, TOKEN_CONTROL},
    {SP "a" SP, 0, 0},
    {"b", 0, 0},
    {"user" SP, 0, TOKEN_USER_DEFINED},
    {"rest", 0, TOKEN_UNUSED},
    {"<0xZZ>", 0, TOKEN_BYTE}, /* a byte token of no byte */
    {NULL, 0, 0},
};

/* 256 byte tokens come first. */
enum { UNK = 256, BOS, A, B, USER, UNUSED_TOKEN, ODD_BYTE };

static struct tiny_vocab spm(void)
{
    struct tiny_vocab t = {.model = "llama", .tokens = tokens, .with_bytes = true};
    t.ids[0] = (struct tiny_id){"unknown_token_id", UNK};
    t.ids[1] = (struct tiny_id){"bos_token_id", BOS};
    return t;
}

static void check(const struct vocab *v, struct detok_options opt, const int *ids, const char *want)
{
    struct detok d;
    struct buf out;
    buf_init(&out, 1 << 16);
    detok_init(&d, v, opt);
    for (; *ids >= -1; ids++) {
        size_t from = out.len;
        detok_push(&d, *ids, &out);
        assert_true(str_utf8_valid(str_slice(buf_str(&out), from, out.len)));
    }
    detok_finish(&d, &out);
    detok_finish(&d, &out); /* nothing is left */
    buf_add_byte(&out, '\0');
    assert_string_equal(out.ptr, want);
    buf_deinit(&out);
}

#define CHECK(opt, want, ...) check(v, opt, (const int[]){__VA_ARGS__, -2}, want)

static const struct detok_options middle = {0}, start = {.at_start = true},
                                  special = {.special = true};

static void test_pieces(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm();
    const struct vocab *v = tiny_open(&t);
    CHECK(middle, " a b", A, B);
    CHECK(middle, "b", BOS, B, UNK);
    CHECK(special, "<s>b<unk>", BOS, B, UNK);
    CHECK(middle, "user" SP "rest<0xZZ>", USER, UNUSED_TOKEN, ODD_BYTE);
    CHECK(middle, "b", -1, B, 100000);
    tiny_close(&t);
}

static void test_start(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm();
    const struct vocab *v = tiny_open(&t);
    CHECK(start, "a ", A);
    CHECK(start, "a  a ", BOS, A, A); /* what shows nothing is not the start */
    CHECK(start, "b a ", B, A);
    tiny_close(&t);
    t.flags[0] = (struct tiny_flag){"add_space_prefix", false};
    v = tiny_open(&t);
    CHECK(start, " a ", A);
    tiny_close(&t);
}

static void test_parts(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm();
    const struct vocab *v = tiny_open(&t);
    struct detok d;
    struct buf out;
    const int bytes[] = {0xf0, 0x9f, 0x98, 0x80};
    buf_init(&out, 64);
    detok_init(&d, v, middle);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(out.len, 0);
        detok_push(&d, bytes[i], &out);
    }
    assert_true(str_is(buf_str(&out), "\xf0\x9f\x98\x80"));
    buf_deinit(&out);
    CHECK(middle,
          "\xc3\xa9"
          "b",
          0xc3, 0xa9, B);
    CHECK(middle, "\xed\x9f\xbf\xf4\x8f\xbf\xbf", 0xed, 0x9f, 0xbf, 0xf4, 0x8f, 0xbf, 0xbf);
    tiny_close(&t);
}

/* As Unicode recommends: one U+FFFD for each part that begins a character (chapter 3, table 3-8).
 */
static void test_broken(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm();
    const struct vocab *v = tiny_open(&t);
    CHECK(middle, FFFD, 0xf0);
    CHECK(middle, FFFD, 0xf0, 0x9f, 0x98);
    CHECK(middle, FFFD "b", 0xf0, 0x9f, B);
    CHECK(middle, FFFD FFFD, 0x80, 0x80);
    CHECK(middle, FFFD FFFD "b", 0xc0, 0xaf, B);
    CHECK(middle, FFFD FFFD FFFD, 0xed, 0xa0, 0x80);            /* a surrogate */
    CHECK(middle, FFFD FFFD FFFD FFFD, 0xf4, 0x90, 0x80, 0x80); /* beyond U+10FFFF */
    CHECK(middle, FFFD "\xc3\xa9", 0xe2, 0xc3, 0xa9);
    CHECK(middle, FFFD FFFD, 0xff, 0xfe);
    tiny_close(&t);
}

static void test_full_buffer(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm();
    const struct vocab *v = tiny_open(&t);
    struct detok d;
    struct buf out;
    buf_init(&out, 2);
    detok_init(&d, v, middle);
    detok_push(&d, A, &out);
    assert_false(buf_ok(&out));
    detok_push(&d, B, &out);
    detok_finish(&d, &out);
    buf_deinit(&out);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),      cmocka_unit_test(test_start),
        cmocka_unit_test(test_parts),       cmocka_unit_test(test_broken),
        cmocka_unit_test(test_full_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
