#include "check.h"

#include <math.h>

#include "base/file.h"
#include "base/rng.h"
#include "engine/format/quant.h"

enum { N = 8192, BYTES_MAX = N * 4 };

/* Root mean square error on weights of variance 1 without importance, at most. Measured values
 * plus 2 %, so that a worse search fails. */
static const struct quant_case {
    enum dtype type;
    double rmse_max;
} cases[] = {
    {DTYPE_F32, 0},         {DTYPE_F16, 0.00022},    {DTYPE_BF16, 0.0017},  {DTYPE_Q8_0, 0.00542},
    {DTYPE_Q4_0, 0.0837},   {DTYPE_Q4_1, 0.0708},    {DTYPE_Q5_0, 0.04125}, {DTYPE_Q5_1, 0.0341},
    {DTYPE_IQ4_NL, 0.0751}, {DTYPE_IQ4_XS, 0.07545}, {DTYPE_MXFP4, 0.1153}, {DTYPE_Q2_K, 0.2783},
    {DTYPE_Q3_K, 0.1486},   {DTYPE_Q4_K, 0.0718},    {DTYPE_Q5_K, 0.03562}, {DTYPE_Q6_K, 0.01765},
};

static void fill_normal(float *x, size_t n, uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed);
    for (size_t i = 0; i < n; i += 2) {
        double r = sqrt(-2 * log(1 - rng_unit(&rng)));
        double angle = 6.283185307179586 * rng_unit(&rng);
        x[i] = (float)(r * cos(angle));
        x[i + 1] = (float)(r * sin(angle));
    }
}

/* Encodes and decodes; the error is the test's failure. */
static void round_trip(enum dtype t, const float *in, float *out, size_t n, const float *importance)
{
    static _Alignas(16) unsigned char blocks[BYTES_MAX];
    struct err err = {0};
    if (quant_quantize(t, in, blocks, n, importance, &err) != RC_OK) {
        fail_msg("%s: %s", dtype_row((uint32_t)t)->name, err.msg);
    }
    quant_dequantize(t, blocks, out, n);
}

static double rmse(const float *a, const float *b, const float *importance, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double diff = (double)a[i] - (double)b[i];
        sum += diff * diff * (importance != NULL ? (double)importance[i] : 1);
    }
    return sqrt(sum / (double)n);
}

static void quant_errors_are_small(void **state)
{
    (void)state;
    static float in[N], out[N];
    fill_normal(in, N, 7);
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        round_trip(cases[c].type, in, out, N, NULL);
        double error = rmse(in, out, NULL, N);
        printf("%-7s rmse %.5f (at most %.5f)\n", dtype_row((uint32_t)cases[c].type)->name, error,
               cases[c].rmse_max);
        if (error > cases[c].rmse_max) {
            fail_msg("rmse %f > %f", error, cases[c].rmse_max);
        }
    }
}

static void quant_minds_importance(void **state)
{
    (void)state;
    static float in[N], plain[N], minded[N], importance[N];
    fill_normal(in, N, 8);
    for (size_t i = 0; i < N; i++) {
        importance[i] = i % 16 == 3 ? 100.0F : 0.1F;
    }
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        enum dtype t = cases[c].type;
        if (dtype_row((uint32_t)t)->block_weights == 1 || t == DTYPE_Q8_0) {
            continue;
        }
        round_trip(t, in, plain, N, NULL);
        round_trip(t, in, minded, N, importance);
        double before = rmse(in, plain, importance, N);
        double after = rmse(in, minded, importance, N);
        if (!(after < 0.97 * before)) {
            fail_msg("%s: %f before, %f after", dtype_row((uint32_t)t)->name, before, after);
        }
    }
}

/* Zeros stay zeros; the largest value that a type holds survives within a tenth; tiny weights
 * stay finite and tiny: within half a step of the smallest F16 scale, 2^-24 * 127 / 2. */
static void quant_survives_extremes(void **state)
{
    (void)state;
    static const float scales[] = {65504.0F, 1000.0F, 1e-3F, 1e-6F, 1e-8F, 1e-30F, 1e-42F};
    static float in[256], out[256];
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        enum dtype t = cases[c].type;
        memset(in, 0, sizeof(in));
        memset(out, 1, sizeof(out));
        round_trip(t, in, out, 256, NULL);
        for (int i = 0; i < 256; i++) {
            assert_true(out[i] == 0);
        }
        for (size_t s = 0; s < ARRAY_LEN(scales); s++) {
            for (int i = 0; i < 256; i++) {
                in[i] = scales[s] * (float)(i % 7 - 3) / 3;
            }
            round_trip(t, in, out, 256, NULL);
            for (int i = 0; i < 256; i++) {
                if (!(fabsf(out[i] - in[i]) <= 0.4F * scales[s] + 4e-6F)) {
                    fail_msg("%s: %g became %g", dtype_row((uint32_t)t)->name, (double)in[i],
                             (double)out[i]);
                }
            }
        }
    }
}

static void quant_keeps_constants_and_single_spikes(void **state)
{
    (void)state;
    static float in[256], out[256];
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        for (int sign = -1; sign <= 1; sign += 2) {
            for (int i = 0; i < 256; i++) {
                in[i] = 0.5F * (float)sign;
            }
            round_trip(cases[c].type, in, out, 256, NULL);
            assert_true(rmse(in, out, NULL, 256) < 0.02);
            memset(in, 0, sizeof(in));
            in[77] = 3.0F * (float)sign;
            round_trip(cases[c].type, in, out, 256, NULL);
            assert_true(rmse(in, out, NULL, 256) < 0.01);
        }
    }
}

static void quant_refuses_what_a_type_cannot_hold(void **state)
{
    (void)state;
    static float in[256];
    static _Alignas(16) unsigned char blocks[256 * 4];
    const float bad[] = {NAN, INFINITY, -INFINITY, 1e38F, -1e20F};
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        enum dtype t = cases[c].type;
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
            bool wide = t == DTYPE_F32 || t == DTYPE_BF16;
            memset(in, 0, sizeof(in));
            in[200] = bad[i];
            struct err err = {0};
            enum rc want = wide && i >= 3 ? RC_OK : RC_INVALID;
            assert_int_equal(quant_quantize(t, in, blocks, 256, NULL, &err), want);
            assert_true(want == RC_OK || strstr(err.msg, "weight 200 is ") != NULL);
        }
    }
}

/* ---- golden values of the official decoder ---- */

static uint32_t word_at(const struct buf *b, size_t at)
{
    uint32_t v;
    memcpy(&v, b->ptr + at, sizeof(v));
    return v;
}

/* Neighbouring floats at most, so that the order of multiplications does not matter. */
static bool nearly(float a, float b)
{
    return (isnan(a) && isnan(b)) || a == b || nextafterf(a, b) == b;
}

static void check_golden(const char *name)
{
    char path[64];
    snprintf(path, sizeof(path), "tests/golden/quants/%s.bin", name);
    struct buf file;
    buf_init(&file, 1 << 24);
    struct err err;
    if (file_read(path, &file, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    assert_memory_equal(file.ptr, "BUDQUANT", 8);
    uint32_t type = word_at(&file, 8);
    size_t block = word_at(&file, 12);
    size_t bytes = word_at(&file, 16);
    size_t n = word_at(&file, 20) * block;
    assert_string_equal(dtype_row(type)->name, name);
    assert_int_equal(dtype_row(type)->block_bytes, bytes);
    assert_true(n > 0);
    float *out = test_malloc(n * sizeof(*out));
    quant_dequantize((enum dtype)type, file.ptr + 24, out, n);
    for (size_t i = 0; i < n; i++) {
        float want;
        memcpy(&want, file.ptr + 24 + n / block * bytes + 4 * i, sizeof(want));
        if (!nearly(out[i], want)) {
            fail_msg("%s: weight %zu is %.9g, expected %.9g", name, i, (double)out[i],
                     (double)want);
        }
    }
    test_free(out);
    buf_deinit(&file);
}

static void quant_decodes_as_the_official_package(void **state)
{
    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        if (cases[c].type != DTYPE_F32) {
            check_golden(dtype_row((uint32_t)cases[c].type)->name);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quant_errors_are_small),
        cmocka_unit_test(quant_minds_importance),
        cmocka_unit_test(quant_survives_extremes),
        cmocka_unit_test(quant_keeps_constants_and_single_spikes),
        cmocka_unit_test(quant_refuses_what_a_type_cannot_hold),
        cmocka_unit_test(quant_decodes_as_the_official_package),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
