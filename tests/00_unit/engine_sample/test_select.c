#include "check.h"

#include <math.h>

#include "base/rng.h"
#include "engine/sample/logprob.h"
#include "engine/sample/select.h"

enum { N = 1000 };

static int by_rank(const void *a, const void *b)
{
    const struct sample_entry *x = a, *y = b;
    if (x->logit != y->logit) {
        return x->logit < y->logit ? 1 : -1;
    }
    return x->token < y->token ? -1 : 1;
}

/* Few different values, so that ties are many. */
static void random_row(struct rng *rng, float *logits, struct sample_entry *sorted)
{
    for (int32_t i = 0; i < N; i++) {
        logits[i] = (float)rng_below(rng, 50) - 25.0f;
        sorted[i] = (struct sample_entry){logits[i], i};
    }
    qsort(sorted, N, sizeof(sorted[0]), by_rank);
}

static void expect_prefix(const struct sample_entry *have, const struct sample_entry *want,
                          uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(have[i].token, want[i].token);
        assert_true(have[i].logit == want[i].logit);
    }
}

static void the_best_are_those_of_a_full_sort(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 1);
    float logits[N];
    struct sample_entry sorted[N], out[N];
    for (int round = 0; round < 20; round++) {
        random_row(&rng, logits, sorted);
        for (uint32_t k = 0; k <= N; k += k < 5 ? 1 : 199) {
            assert_int_equal(sample_top_k(logits, N, k, out), k);
            expect_prefix(out, sorted, k);
        }
        uint32_t n = sample_above(logits, N, 3.0f, out);
        expect_prefix(out, sorted, n);
        assert_true(n == N || sorted[n].logit < 3.0f);
        assert_int_equal(sample_argmax(logits, N), sorted[0].token);
        assert_true(sample_max(logits, N) == sorted[0].logit);
    }
}

static void what_is_no_number_is_left_out(void **state)
{
    (void)state;
    const float logits[] = {NAN, -INFINITY, 2, NAN, 1, -INFINITY};
    struct sample_entry out[6];
    assert_int_equal(sample_top_k(logits, 6, 6, out), 2);
    assert_int_equal(out[0].token, 2);
    assert_int_equal(out[1].token, 4);
    assert_int_equal(sample_above(logits, 6, -INFINITY, out), 2);
    assert_int_equal(sample_above(logits, 6, 3, out), 0);
    assert_true(fabs(sample_logprob_norm(logits, 6) - log(exp(2) + exp(1))) < 1e-6);
    assert_true(sample_logprob_norm(logits, 2) == -INFINITY);
}

static void the_norm_does_not_overflow(void **state)
{
    (void)state;
    const float big[] = {1000, 1000, 999};
    assert_true(fabs(sample_logprob_norm(big, 3) - (1000 + log(2 + exp(-1)))) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_are_those_of_a_full_sort),
        cmocka_unit_test(what_is_no_number_is_left_out),
        cmocka_unit_test(the_norm_does_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
