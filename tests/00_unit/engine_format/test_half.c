#include "check.h"

#include <math.h>

#include "engine/tensor/half.h"

/* Value of an F16 by its definition. */
static double half_by_definition(uint16_t h)
{
    int exponent = (h >> 10) & 31;
    double mantissa = h & 1023;
    double value = exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
    if (exponent == 31) {
        value = mantissa == 0 ? (double)INFINITY : (double)NAN;
    }
    return h & 0x8000 ? -value : value;
}

static void half_reads_all_65536(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        double want = half_by_definition((uint16_t)i);
        float got = half_to_f32((uint16_t)i);
        if (isnan(want)) {
            assert_true(isnan(got));
            continue;
        }
        assert_true((double)got == want);
        assert_int_equal(half_from_f32(got), i);
    }
}

static void half_rounds_to_nearest_even(void **state)
{
    (void)state;
    /* Between each pair of neighbours: the middle goes to the even one, a hair beside it to the
     * nearer one. */
    for (uint32_t i = 0; i < 0x7BFF; i++) {
        float low = half_to_f32((uint16_t)i);
        float high = half_to_f32((uint16_t)(i + 1));
        float middle = low + (high - low) / 2;
        assert_int_equal(half_from_f32(middle), i % 2 == 0 ? i : i + 1);
        assert_int_equal(half_from_f32(nextafterf(middle, -1)), i);
        assert_int_equal(half_from_f32(nextafterf(middle, INFINITY)), i + 1);
        assert_int_equal(half_from_f32(-middle), 0x8000 | (i % 2 == 0 ? i : i + 1));
    }
    assert_int_equal(half_from_f32(65519.99F), 0x7BFF);
    assert_int_equal(half_from_f32(65520.0F), 0x7C00);
    assert_int_equal(half_from_f32(1e30F), 0x7C00);
    assert_int_equal(half_from_f32(-INFINITY), 0xFC00);
    assert_true(isnan(half_to_f32(half_from_f32(NAN))));
    assert_int_equal(half_from_f32(1e-40F), 0);
}

static void half_bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    assert_int_equal(half_bf16_from_f32(1.0F), 0x3F80);
    assert_int_equal(half_bf16_from_f32(half_bits_f32(0x3F808000)), 0x3F80);
    assert_int_equal(half_bf16_from_f32(half_bits_f32(0x3F818000)), 0x3F82);
    assert_int_equal(half_bf16_from_f32(half_bits_f32(0x3F808001)), 0x3F81);
    assert_int_equal(half_bf16_from_f32(-INFINITY), 0xFF80);
    assert_true(isnan(half_bf16_to_f32(half_bf16_from_f32(NAN))));
    assert_true(half_bf16_to_f32(0x4049) == 3.140625F);
}

static void half_e8m0_is_a_power_of_two(void **state)
{
    (void)state;
    for (int e = 0; e < 256; e++) {
        assert_true((double)half_e8m0_to_f32((uint8_t)e) == ldexp(1.0, e - 128));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_reads_all_65536),
        cmocka_unit_test(half_rounds_to_nearest_even),
        cmocka_unit_test(half_bf16_rounds_to_nearest_even),
        cmocka_unit_test(half_e8m0_is_a_power_of_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
