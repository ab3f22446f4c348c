/* Looking into heads, and writing nothing that splits a message. */
#include "check.h"

#include <string.h>

#include "net/http_head.h"

static struct http_header items[] = {
    {STR_LIT("Host"), STR_LIT("h")},
    {STR_LIT("X-A"), STR_LIT("one, two ,THREE")},
    {STR_LIT("x-a"), STR_LIT("four")},
};
static const struct http_head head = {.headers = items, .n_headers = ARRAY_LEN(items)};

static void finds_without_case(void **state)
{
    (void)state;
    assert_ptr_equal(http_head_find(&head, STR_LIT("x-A")), &items[1]);
    assert_null(http_head_find(&head, STR_LIT("x-")));
    assert_true(str_is(http_head_value(&head, STR_LIT("HOST")), "h"));
    assert_int_equal(http_head_value(&head, STR_LIT("none")).len, 0);
    assert_true(http_head_has_token(&head, STR_LIT("x-a"), STR_LIT("three")));
    assert_true(http_head_has_token(&head, STR_LIT("x-a"), STR_LIT("FOUR")));
    assert_false(http_head_has_token(&head, STR_LIT("x-a"), STR_LIT("tw")));
}

static void writes_heads(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 4096);
    assert_int_equal(http_write_request(&b, HTTP_METHOD_POST, STR_LIT("/v1?x"), NULL), RC_OK);
    assert_int_equal(http_write_header(&b, STR_LIT("a"), STR_LIT("b\tc \xC3\xA9"), NULL), RC_OK);
    assert_int_equal(http_write_header(&b, STR_LIT("e"), STR_LIT(""), NULL), RC_OK);
    http_write_end(&b);
    assert_string_equal(b.ptr, "POST /v1?x HTTP/1.1\r\na: b\tc \xC3\xA9\r\ne: \r\n\r\n");
    buf_reset(&b);
    assert_int_equal(http_write_status(&b, 404, NULL), RC_OK);
    assert_string_equal(b.ptr, "HTTP/1.1 404 Not Found\r\n");
    buf_deinit(&b);
}

static void refuses_injection(void **state)
{
    (void)state;
    static const struct str bad_values[] = {STR_LIT("a\r\nb: c"), STR_LIT("a\nb"), STR_LIT("a\rb"),
                                            STR_LIT("a\0b"), STR_LIT("\x7f")};
    static const struct str bad_names[] = {STR_LIT(""),      STR_LIT("a b"),      STR_LIT("a:"),
                                           STR_LIT("a\r\n"), STR_LIT("\xC3\xA9"), STR_LIT("a\0")};
    static const struct str bad_targets[] = {
        STR_LIT(""),      STR_LIT("v1"),  STR_LIT("/a b"), STR_LIT("/a\r\nx: y"),
        STR_LIT("/\x80"), STR_LIT("/#a"), STR_LIT("/\0")};
    struct buf b;
    struct err err;
    buf_init(&b, 4096);
    for (size_t i = 0; i < ARRAY_LEN(bad_values); i++) {
        assert_int_equal(http_write_header(&b, STR_LIT("n"), bad_values[i], &err), RC_INVALID);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad_names); i++) {
        assert_int_equal(http_write_header(&b, bad_names[i], STR_LIT("v"), &err), RC_INVALID);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad_targets); i++) {
        assert_int_equal(http_write_request(&b, HTTP_METHOD_GET, bad_targets[i], &err), RC_INVALID);
    }
    assert_int_equal(http_write_status(&b, 99, &err), RC_INVALID);
    assert_int_equal(http_write_status(&b, 600, &err), RC_INVALID);
    assert_int_equal(b.len, 0);
    buf_deinit(&b);
}

static void formats_dates(void **state)
{
    (void)state;
    char d[HTTP_DATE_BYTES];
    http_date_format(d, 784111777);
    assert_string_equal(d, "Sun, 06 Nov 1994 08:49:37 GMT");
    http_date_format(d, 0);
    assert_string_equal(d, "Thu, 01 Jan 1970 00:00:00 GMT");
    http_date_format(d, 253402300799);
    assert_string_equal(d, "Fri, 31 Dec 9999 23:59:59 GMT");
    http_date_format(d, INT64_MAX);
    assert_string_equal(d, "Thu, 01 Jan 1970 00:00:00 GMT");
}

static void decodes_escapes(void **state)
{
    (void)state;
    struct arena a;
    struct str out;
    arena_init(&a, 1 << 16);
    assert_int_equal(http_unescape(&a, STR_LIT("a%20b%2fC%C3%a9+"), &out, NULL), RC_OK);
    assert_true(str_is(out, "a b/C\xC3\xA9+"));
    assert_int_equal(http_unescape(&a, STR_LIT(""), &out, NULL), RC_OK);
    assert_int_equal(out.len, 0);
    static const char *const bad[] = {"%", "a%2", "%g0", "%0g", "%00", "x%"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(http_unescape(&a, str_from(bad[i]), &out, NULL), RC_INVALID);
    }
    arena_deinit(&a);
}

static void finds_query_values(void **state)
{
    (void)state;
    struct str v;
    struct str q = STR_LIT("a=1&b=x=y&&c&a=2");
    assert_true(http_query_find(q, STR_LIT("a"), &v) && str_is(v, "1"));
    assert_true(http_query_find(q, STR_LIT("b"), &v) && str_is(v, "x=y"));
    assert_true(http_query_find(q, STR_LIT("c"), &v) && v.len == 0);
    assert_false(http_query_find(q, STR_LIT("d"), &v));
    assert_false(http_query_find(STR_LIT(""), STR_LIT("a"), &v));
}

/* Values are looked at in words: every byte at every place of one, and behind the last. */
static void control_bytes_are_seen_anywhere(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        bool bad = (c < 0x20 && c != '\t') || c == 0x7F;
        for (size_t at = 0; at < 19; at++) {
            char value[19];
            memset(value, at % 2 == 0 ? 'a' : 0x80, sizeof(value));
            value[at] = (char)c;
            assert_int_equal(http_value_valid(str_make(value, sizeof(value))), !bad);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_bytes_are_seen_anywhere),
        cmocka_unit_test(finds_without_case),
        cmocka_unit_test(writes_heads),
        cmocka_unit_test(refuses_injection),
        cmocka_unit_test(formats_dates),
        cmocka_unit_test(decodes_escapes),
        cmocka_unit_test(finds_query_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
