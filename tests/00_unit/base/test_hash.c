/* hash.h: equal bytes hash alike, near ones do not. */
#include "check.h"

#include "base/hash.h"

static void test_bytes(void **state)
{
    UNUSED(state);
    assert_true(hash_str(STR_LIT("abc")) == hash_bytes("abcd", 3));
    assert_true(hash_str(STR_LIT("abc")) != hash_str(STR_LIT("abd")));
    assert_true(hash_bytes(NULL, 0) == hash_str(STR_LIT("")));
}

static void test_mix(void **state)
{
    UNUSED(state);
    uint32_t low_bits[16] = {0};
    for (uint64_t i = 0; i < 1600; i++) {
        low_bits[hash_u64(i << 32) & 15]++;
    }
    for (size_t i = 0; i < 16; i++) {
        assert_in_range(low_bits[i], 50, 150);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bytes), cmocka_unit_test(test_mix)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
