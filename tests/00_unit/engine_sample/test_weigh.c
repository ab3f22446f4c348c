#include "check.h"

#include <math.h>

#include "base/rng.h"
#include "engine/sample/weigh.h"

enum { N = 1003 }; /* whole blocks, whole fours, three more */

static void random_row(struct rng *rng, float *logits, uint32_t n, float *max)
{
    *max = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        logits[i] = (float)(rng_unit(rng) * 40 - 20);
        if (i % 17 == 5) {
            logits[i] = i % 2 == 0 ? NAN : -INFINITY;
        }
        *max = logits[i] > *max ? logits[i] : *max;
    }
}

static double weight(const struct sample_weighing *w, uint32_t i)
{
    double x = ((double)w->logits[i] - (double)w->max) / (double)w->temperature;
    return w->logits[i] > -INFINITY ? exp(x) : 0;
}

static void sums_are_those_of_exp(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 1);
    float logits[N];
    for (uint32_t n = 1; n <= N; n += n < 13 ? 1 : 45) {
        struct sample_weighing w = {logits, n, 0, 0.05f + (float)n / 300};
        random_row(&rng, logits, n, &w.max);
        double want = 0;
        for (uint32_t i = 0; i < n; i++) {
            want += weight(&w, i);
        }
        double have = sample_weigh(&w);
        if (fabs(have / want - 1) > 1e-5) {
            fail_msg("%u entries: %.9g, expected %.9g", n, have, want);
        }
    }
}

static void the_end_of_the_range_is_zero_not_noise(void **state)
{
    (void)state;
    const float logits[] = {0, -86.9f, -87.1f, -1e30f, -INFINITY, NAN, 0};
    struct sample_weighing w = {logits + 1, 1, 0, 1};
    assert_true(fabs(sample_weigh(&w) / exp(-86.9) - 1) < 1e-5);
    w = (struct sample_weighing){logits + 2, 4, 0, 1};
    assert_true(sample_weigh(&w) == 0);
    /* The coldest temperature there is: of the others nothing is left, not even of 0 / 0. */
    w = (struct sample_weighing){logits, ARRAY_LEN(logits), 0, 1e-45f};
    assert_true(sample_weigh(&w) == 2);
}

/* What is found for a sum just below and just above each border is what a plain walk finds. */
static void draws_fall_where_the_sums_say(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 2);
    float logits[N];
    struct sample_weighing w = {logits, N, 0, 8};
    random_row(&rng, logits, N, &w.max);
    double before = 0;
    for (uint32_t i = 0; i < N; i++) {
        double mine = weight(&w, i);
        if (mine > 0) {
            /* The middle of a weight's own part: further from its ends than any rounding. */
            assert_int_equal(sample_weigh_find(&w, before + mine / 2), i);
        }
        before += mine;
    }
}

static void what_is_left_over_goes_to_one_with_a_chance(void **state)
{
    (void)state;
    float logits[N];
    for (uint32_t i = 0; i < N; i++) {
        logits[i] = i < 300 ? -1 : -INFINITY;
    }
    struct sample_weighing w = {logits, N, -1, 1};
    assert_int_equal(sample_weigh_find(&w, sample_weigh(&w)), 299);
    assert_int_equal(sample_weigh_find(&w, 1e9), 299);
    assert_int_equal(sample_weigh_find(&w, 0), 0);
    logits[0] = NAN;
    assert_int_equal(sample_weigh_find(&w, 0), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_exp),
        cmocka_unit_test(the_end_of_the_range_is_zero_not_noise),
        cmocka_unit_test(draws_fall_where_the_sums_say),
        cmocka_unit_test(what_is_left_over_goes_to_one_with_a_chance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
