/* unicode.c: categories, white space, lower case, decomposition. */
#include "check.h"

#include "engine/token/unicode.h"

static void test_class(void **state)
{
    UNUSED(state);
    static const struct {
        uint32_t cp;
        unsigned class;
    } rows[] = {
        {'A', UNICODE_LU},
        {'z', UNICODE_LL},
        {0x1c5, UNICODE_LT},
        {0x2b0, UNICODE_LM},
        {0x4e2d, UNICODE_LO},
        {0x301, UNICODE_M | UNICODE_MN},
        {0x903, UNICODE_M},
        {'7', UNICODE_N | UNICODE_ND},
        {0xbd, UNICODE_N},
        {0x2167, UNICODE_N},
        {'_', UNICODE_P},
        {0x3002, UNICODE_P},
        {'$', UNICODE_S},
        {0x1f600, UNICODE_S},
        {' ', UNICODE_Z | UNICODE_SPACE},
        {0xa0, UNICODE_Z | UNICODE_SPACE},
        {0x3000, UNICODE_Z | UNICODE_SPACE},
        {0x2028, UNICODE_Z | UNICODE_SPACE},
        {'\n', UNICODE_C | UNICODE_SPACE},
        {0x85, UNICODE_C | UNICODE_SPACE},
        {0, UNICODE_C},
        {0x1c, UNICODE_C},
        {0x200b, UNICODE_C},
        {0xe000, UNICODE_C},
        {0x10ffff, UNICODE_CN},
        {0xd7ff, UNICODE_CN},
        {0x110000, 0},
        {UINT32_MAX, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(unicode_class(rows[i].cp), rows[i].class);
    }
}

static void test_lower(void **state)
{
    UNUSED(state);
    assert_int_equal(unicode_lower('A'), 'a');
    assert_int_equal(unicode_lower('a'), 'a');
    assert_int_equal(unicode_lower(0xc9), 0xe9);
    assert_int_equal(unicode_lower(0x416), 0x436);
    assert_int_equal(unicode_lower(0x4e2d), 0x4e2d);
    assert_int_equal(unicode_lower(UINT32_MAX), UINT32_MAX);
}

static void test_decompose(void **state)
{
    UNUSED(state);
    uint32_t out[UNICODE_DECOMPOSED_MAX];
    assert_int_equal(unicode_decompose('a', out), 1);
    assert_int_equal(out[0], 'a');
    assert_int_equal(unicode_decompose(0xe9, out), 2);
    assert_int_equal(out[0], 'e');
    assert_int_equal(out[1], 0x301);
    assert_int_equal(unicode_decompose(0x1ec7, out), 3); /* ệ */
    assert_int_equal(unicode_decompose(0xd55c, out), 3); /* 한 */
    assert_int_equal(out[0], 0x1112);
    assert_int_equal(unicode_decompose(0xfb01, out), 1); /* fi: compatibility only, stays */
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        assert_in_range(unicode_decompose(cp, out), 1, UNICODE_DECOMPOSED_MAX);
    }
}

static void test_cjk(void **state)
{
    UNUSED(state);
    assert_true(unicode_is_cjk(0x4e2d));
    assert_true(unicode_is_cjk(0x20000));
    assert_false(unicode_is_cjk(0x3042));
    assert_false(unicode_is_cjk(0xd55c));
    assert_false(unicode_is_cjk('a'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_class),
        cmocka_unit_test(test_lower),
        cmocka_unit_test(test_decompose),
        cmocka_unit_test(test_cjk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
