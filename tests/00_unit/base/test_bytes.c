/* Strings, buffers, numbers, UTF-8. */
#include "check.h"

#include <inttypes.h>

#include <string.h>

#include "base/base64.h"
#include "base/buf.h"

static void cutting_and_trimming(void **state)
{
    (void)state;
    struct str rest = STR_LIT("a,,b");
    assert_true(str_is(str_cut(&rest, ','), "a"));
    assert_true(str_is(str_cut(&rest, ','), ""));
    assert_true(str_is(str_cut(&rest, ','), "b"));
    assert_null(rest.ptr);
    assert_int_equal(str_cut(&rest, ',').len, 0);
    assert_true(str_is(str_trim(STR_LIT(" \t\n x y \r")), "x y"));
    assert_int_equal(str_trim(STR_LIT("   ")).len, 0);
    assert_int_equal(str_find(STR_LIT("hello"), STR_LIT("l")), 2);
    assert_int_equal(str_find(STR_LIT("hello"), STR_LIT("z")), 5);
    assert_int_equal(str_find(STR_LIT("hello"), STR_LIT("")), 0);
    assert_true(str_is(str_slice(STR_LIT("hello"), 1, 99), "ello"));
    assert_int_equal(str_slice(STR_LIT("hello"), 9, 3).len, 0);
    assert_true(str_eq_nocase(STR_LIT("AbC"), STR_LIT("aBc")));
    assert_true(str_starts(STR_LIT("abc"), STR_NULL));
    assert_false(str_ends(STR_LIT("bc"), STR_LIT("abc")));
}

static void numbers_are_whole_or_refused(void **state)
{
    (void)state;
    uint64_t u = 7;
    int64_t i = 7;
    double d = 7;
    assert_true(str_to_u64(STR_LIT("18446744073709551615"), &u));
    assert_true(u == UINT64_MAX);
    static const char *const bad[] = {"", "-1", "18446744073709551616", "1x", " 1", "+1", "0x10"};
    for (size_t k = 0; k < ARRAY_LEN(bad); k++) {
        assert_false(str_to_u64(str_from(bad[k]), &u));
    }
    assert_true(u == UINT64_MAX);
    assert_true(str_to_i64(STR_LIT("-9223372036854775808"), &i));
    assert_true(i == INT64_MIN);
    assert_false(str_to_i64(STR_LIT("-9223372036854775809"), &i));
    assert_false(str_to_i64(STR_LIT("9223372036854775808"), &i));
    assert_false(str_to_i64(STR_LIT("-"), &i));
    assert_true(str_to_f64(STR_LIT("-1.5e3"), &d));
    assert_true(d == -1500);
    assert_false(str_to_f64(STR_LIT("1e999"), &d));
    assert_false(str_to_f64(STR_LIT("nan"), &d));
    assert_false(str_to_f64(STR_LIT("1 "), &d));
    assert_false(str_to_f64(STR_LIT(""), &d));
}

/* RFC 4648 §10. */
static void base64_of_every_remainder(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        char out[16] = "";
        size_t n = strlen(pairs[i][0]);
        assert_int_equal(base64_len(n), strlen(pairs[i][1]));
        base64_encode(pairs[i][0], n, out);
        assert_string_equal(out, pairs[i][1]);
    }
    char out[5] = "";
    base64_encode("\xff\xef\xbe", 3, out);
    assert_string_equal(out, "/+++");
}

static void utf8_is_exact(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        uint32_t cp;
    } rows[] = {
        {"A", 1, 'A'},
        {"\xC3\xA9", 2, 0xE9},
        {"\xE2\x82\xAC", 3, 0x20AC},
        {"\xF0\x9F\x98\x80", 4, 0x1F600},
        {"\xF4\x8F\xBF\xBF", 4, 0x10FFFF},
        {"\xC0\x80", 0, 0},         /* overlong */
        {"\xE0\x80\x80", 0, 0},     /* overlong */
        {"\xF0\x80\x80\x80", 0, 0}, /* overlong */
        {"\xED\xA0\x80", 0, 0},     /* surrogate */
        {"\xF4\x90\x80\x80", 0, 0}, /* past Unicode */
        {"\xE2\x82", 0, 0},         /* cut */
        {"\x80", 0, 0},             /* stray continuation */
        {"\xFF", 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint32_t cp = 0;
        struct str s = str_from(rows[i].bytes);
        assert_int_equal(str_utf8_decode(s, &cp), rows[i].n);
        assert_int_equal(str_utf8_valid(s), rows[i].n > 0);
        if (rows[i].n > 0) {
            char out[4];
            assert_int_equal(cp, rows[i].cp);
            assert_int_equal(str_utf8_encode(cp, out), rows[i].n);
            assert_memory_equal(out, rows[i].bytes, rows[i].n);
        }
    }
}

static void a_full_buffer_fails_and_stays_failed(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    buf_add_printf(&b, "%s", "12345");
    buf_add_cstr(&b, "67890");
    assert_true(buf_ok(&b));
    assert_string_equal(b.ptr, "1234567890");
    buf_add_byte(&b, 'x');
    assert_false(buf_ok(&b));
    buf_reset(&b);
    assert_true(buf_ok(&b));
    buf_add_cstr(&b, "abcdef");
    buf_drop_front(&b, 2);
    assert_true(str_is(buf_str(&b), "cdef"));
    buf_truncate(&b, 1);
    assert_true(str_is(buf_str(&b), "c"));
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_false(buf_ok(&b));
    buf_deinit(&b);
    buf_deinit(&b);
    assert_int_equal(buf_str(&b).len, 0);
}

static void copies_are_cut_to_fit(void **state)
{
    (void)state;
    char out[4];
    assert_true(str_copy(out, sizeof(out), STR_LIT("abc")));
    assert_string_equal(out, "abc");
    assert_false(str_copy(out, sizeof(out), STR_LIT("abcd")));
    assert_string_equal(out, "abc");
    assert_true(str_copy(out, sizeof(out), STR_NULL));
    assert_string_equal(out, "");
}

static void numbers_are_written_without_printf(void **state)
{
    (void)state;
    static const uint64_t values[] = {0, 9, 10, 99, 12345, UINT32_MAX, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        char want[32];
        struct buf b;
        buf_init(&b, 64);
        snprintf(want, sizeof(want), "%llu", (unsigned long long)values[i]);
        buf_add_u64(&b, values[i]);
        assert_string_equal(b.ptr, want);
        buf_deinit(&b);
    }
}

static void numbers_are_put_with_all_digits(void **state)
{
    (void)state;
    char ours[STR_U64_BYTES], theirs[STR_U64_BYTES + 1];
    uint64_t power = 1;
    for (int digits = 1; digits <= 20; digits++, power *= 10) {
        const uint64_t around[] = {power - 1, power, power + 1, power * 7 / 3, UINT64_MAX - power};
        for (size_t i = 0; i < ARRAY_LEN(around); i++) {
            snprintf(theirs, sizeof(theirs), "%" PRIu64, around[i]);
            struct str s = str_make(ours, str_put_u64(ours, around[i]));
            assert_true(str_is(s, theirs));
        }
    }
    for (uint64_t v = 0; v < 10000; v++) {
        snprintf(theirs, sizeof(theirs), "%" PRIu64, v);
        assert_true(str_is(str_make(ours, str_put_u64(ours, v)), theirs));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_put_with_all_digits),
        cmocka_unit_test(numbers_are_written_without_printf),
        cmocka_unit_test(cutting_and_trimming),
        cmocka_unit_test(numbers_are_whole_or_refused),
        cmocka_unit_test(base64_of_every_remainder),
        cmocka_unit_test(utf8_is_exact),
        cmocka_unit_test(a_full_buffer_fails_and_stays_failed),
        cmocka_unit_test(copies_are_cut_to_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
