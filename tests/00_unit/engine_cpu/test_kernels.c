/* Kernels over rows of floats: quantised rows are the nearest ones and their sums are right.
 * Products are compared in test_panels.c. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "engine/cpu/kernels.h"

static const char *const isas[] = {"generic", "avx2", "avx2vnni", "avx512", "avx512bf16"};

enum { COLS = 768 };

static void make_row(float *row, struct rng *r)
{
    for (size_t i = 0; i < COLS; i++) {
        float x = (float)rng_u32(r) * 0x1p-31f - 1.0f;
        row[i] = x * x * x * (rng_u32(r) % 50 == 0 ? 20.0f : 1.0f);
    }
}

static void quantised_rows_are_the_nearest(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(isas); i++) {
        const struct kernels *k = kernels_choose(isas[i]);
        for (enum kern_form form = KERN_Q32; k != NULL && form <= KERN_Q256; form++) {
            uint32_t width = form == KERN_Q32 ? 32 : 256;
            uint32_t per_sum = form == KERN_Q32 ? 32 : 16;
            float in[COLS], scales[COLS / 32];
            int8_t q8[COLS];
            int16_t sums[COLS / 16];
            struct rng r;
            rng_init(&r, 7 + i);
            make_row(in, &r);
            memset(in, 0, 256 * sizeof(float)); /* a block of zeros */
            k->floats->quantise[form](in, COLS, q8, scales, sums);
            for (uint32_t c = 0; c < COLS; c++) {
                double d = (double)scales[c / width];
                assert_true(fabs((double)in[c] - d * q8[c]) <= 0.5001 * d);
                assert_true(d > 0 || (in[c] == 0.0f && q8[c] == 0));
                if (c % per_sum == 0) {
                    int sum = 0;
                    for (uint32_t j = c; j < c + per_sum; j++) {
                        sum += q8[j];
                    }
                    assert_int_equal(sums[c / per_sum], sum);
                }
            }
        }
    }
}

static void strange_floats_stay_in_range(void **state)
{
    (void)state;
    float in[256] = {NAN, INFINITY, -INFINITY, 1e38f, -1e38f, 1e-45f};
    for (size_t i = 0; i < ARRAY_LEN(isas); i++) {
        const struct kernels *k = kernels_choose(isas[i]);
        for (enum kern_form form = KERN_Q32; k != NULL && form <= KERN_Q256; form++) {
            int8_t q8[256];
            int16_t sums[16];
            float d[8];
            k->floats->quantise[form](in, 256, q8, d, sums);
            for (int c = 0; c < 256; c++) {
                assert_in_range(q8[c] + 127, 0, 254);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantised_rows_are_the_nearest),
        cmocka_unit_test(strange_floats_stay_in_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
