#include "check.h"

#include "engine/tensor/dtype.h"

static void dtype_rows_are_found_by_number_and_name(void **state)
{
    (void)state;
    uint32_t n = 0;
    for (uint32_t i = 0; i < 100; i++) {
        const struct dtype_row *row = dtype_row(i);
        if (row == NULL) {
            continue;
        }
        n++;
        enum dtype t;
        assert_true(dtype_parse(str_from(row->name), &t));
        assert_int_equal((uint32_t)t, i);
    }
    assert_int_equal(n, 16);
    enum dtype t;
    assert_true(dtype_parse(STR_LIT("q4_k"), &t));
    assert_int_equal(t, DTYPE_Q4_K);
    assert_false(dtype_parse(STR_LIT("Q9_9"), &t));
    assert_false(dtype_parse(STR_LIT(""), &t));
    assert_null(dtype_row(4));
    assert_null(dtype_row(UINT32_MAX));
}

static void dtype_rows_have_whole_blocks(void **state)
{
    (void)state;
    uint64_t bytes = 0;
    assert_true(dtype_row_bytes(DTYPE_Q4_0, 64, &bytes));
    assert_int_equal(bytes, 36);
    assert_true(dtype_row_bytes(DTYPE_Q6_K, 2048, &bytes));
    assert_int_equal(bytes, 8 * 210);
    assert_true(dtype_row_bytes(DTYPE_F16, 7, &bytes));
    assert_int_equal(bytes, 14);
    assert_false(dtype_row_bytes(DTYPE_Q4_0, 33, &bytes));
    assert_false(dtype_row_bytes(DTYPE_F32, UINT64_MAX, &bytes));
    assert_false(dtype_row_bytes((enum dtype)5, 32, &bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dtype_rows_are_found_by_number_and_name),
        cmocka_unit_test(dtype_rows_have_whole_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
