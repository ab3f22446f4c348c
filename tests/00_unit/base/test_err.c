#include "check.h"

#include <string.h>

#include "base/err.h"

static void every_row_is_whole(void **state)
{
    (void)state;
    for (int i = 0; i < (int)RC_N; i++) {
        const struct err_row *row = err_row((enum rc) - i);
        assert_true(row->name[0] != '\0');
        assert_true(i == 0 ? row->http_status == 200 : row->http_status >= 400);
        assert_true(i == 0 || (row->type[0] != '\0' && row->code[0] != '\0'));
        assert_false(row->breaker && row->http_status < 500);
    }
    assert_string_equal(err_row(RC_CONTEXT)->code, "context_length_exceeded");
}

static void a_message_is_one_line(void **state)
{
    (void)state;
    struct err err;
    assert_int_equal(err_set(&err, RC_CORRUPT, "arch '%s'", "a\nb\x1b[2J\x7f\tm\xc3\xbc"),
                     RC_CORRUPT);
    assert_string_equal(err.msg, "arch 'a b?[2J? m\xc3\xbc'");
    assert_string_equal(err.param, "");
    assert_int_equal(err.code, RC_CORRUPT);
    assert_int_equal(err_context(&err, "file\r%d", 7), RC_CORRUPT);
    assert_string_equal(err.msg, "file?7: arch 'a b?[2J? m\xc3\xbc'");
}

static void what_does_not_fit_is_cut(void **state)
{
    (void)state;
    struct err err;
    char text[2000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(err_set_param(&err, RC_INVALID, text, "%s", text), RC_INVALID);
    assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
    assert_int_equal(strlen(err.param), sizeof(err.param) - 1);
    assert_int_equal(err_context(&err, "%s", text), RC_INVALID);
    assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
    /* A message made of itself, and no place for one. */
    assert_int_equal(err_set(&err, RC_IO, "again: %.8s", err.msg), RC_IO);
    assert_string_equal(err.msg, "again: xxxxxxxx");
    assert_int_equal(err_set(NULL, RC_IO, "nobody reads"), RC_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_whole),
        cmocka_unit_test(a_message_is_one_line),
        cmocka_unit_test(what_does_not_fit_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
