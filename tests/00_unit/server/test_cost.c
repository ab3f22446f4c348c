/* The cost model against engines whose true cost is known. */
#include "check.h"

#include <math.h>

#include "base/rng.h"
#include "server/cost.h"

/* A machine: the same formula with other numbers, and noise. */
static double truth_ns(const double ns[COST_PARTS], const struct cost_load *l)
{
    double rows = ns[COST_BASE] + ns[COST_ROW] * l->n_rows + ns[COST_LOGIT] * l->n_logits;
    return fmax(ns[COST_FLOOR], rows) + ns[COST_DECODE_KEY] * (double)l->decode_keys +
           ns[COST_PROMPT_KEY] * (double)l->prompt_keys;
}

static const double machine[COST_PARTS] = {20e6, 3e6, 1.3e6, 2.5e5, 900, 60};

static uint64_t measured(const struct cost_load *l)
{
    return (uint64_t)truth_ns(machine, l);
}

static struct cost_load load_of(uint32_t n_decode, uint32_t context, uint32_t n_prompt)
{
    struct cost_load l = {
        .n_rows = n_decode, .n_logits = n_decode, .decode_keys = (uint64_t)n_decode * context};
    cost_add_prompt(&l, context, n_prompt);
    return l;
}

static struct cost_load random_load(struct rng *rng)
{
    uint32_t n_decode = 1 + rng_below(rng, 16);
    uint32_t n_prompt = rng_below(rng, 2) == 0 ? rng_below(rng, 256) : 0;
    return load_of(n_decode, rng_below(rng, 2000), n_prompt);
}

/* The mean of |ln(predicted / true)| over usual steps. */
static double error_of(const struct cost *c)
{
    struct rng rng;
    double sum = 0;
    rng_init(&rng, 99);
    for (int i = 0; i < 500; i++) {
        struct cost_load l = random_load(&rng);
        sum += fabs(log(cost_ns(c, &l) / truth_ns(machine, &l)));
    }
    return sum / 500;
}

static void a_few_timed_steps_are_enough(void **state)
{
    (void)state;
    struct cost c;
    struct cost_load one = {1, 1, 0, 0};
    struct cost_load few = {32, 1, 0, 0}, many = {96, 1, 0, 0}, logits = {32, 32, 0, 0};
    struct cost_load deep_one = {1, 1, 1024, 0};
    struct cost_load deep_few = {32, 1, 0, 32 * 1024};
    struct cost_probe probe = {.one_ns = measured(&one),
                               .few = 32,
                               .many = 96,
                               .few_ns = measured(&few),
                               .many_ns = measured(&many),
                               .few_logits_ns = measured(&logits),
                               .depth = 1024,
                               .deep_one_ns = measured(&deep_one),
                               .deep_few_ns = measured(&deep_few)};
    cost_fit(&c, &probe);
    assert_true(error_of(&c) < 0.02);
    /* A slow engine was asked for two steps only: rows are right at least. */
    probe = (struct cost_probe){.one_ns = measured(&one), .few = 32, .few_ns = measured(&few)};
    cost_fit(&c, &probe);
    assert_true(fabs(log(cost_ns(&c, &few) / truth_ns(machine, &few))) < 0.1);
    assert_true(error_of(&c) < 0.6);
}

static void it_learns_from_nothing(void **state)
{
    (void)state;
    struct cost c;
    struct rng rng;
    cost_init(&c);
    rng_init(&rng, 1);
    assert_true(error_of(&c) > 0.5);
    for (int i = 0; i < 400; i++) {
        struct cost_load l = random_load(&rng);
        cost_observe(&c, &l, measured(&l));
    }
    assert_true(error_of(&c) < 0.15);
    assert_true(fabs(cost_ratio(&c) - 1) < 0.15);
}

/* One step in twenty takes twenty times as long, all others a tenth more or less. */
static void outliers_move_it_little(void **state)
{
    (void)state;
    struct cost c;
    struct rng rng;
    cost_init(&c);
    rng_init(&rng, 2);
    for (int i = 0; i < 2000; i++) {
        struct cost_load l = random_load(&rng);
        double noise = 0.9 + 0.2 * rng_unit(&rng);
        noise *= rng_below(&rng, 20) == 0 && i > 20 ? 20 : 1;
        cost_observe(&c, &l, (uint64_t)((double)measured(&l) * noise));
    }
    assert_true(error_of(&c) < 0.2);
}

static void a_lasting_change_is_followed(void **state)
{
    (void)state;
    struct cost c;
    struct rng rng;
    cost_init(&c);
    rng_init(&rng, 3);
    for (int i = 0; i < 500; i++) {
        struct cost_load l = random_load(&rng);
        cost_observe(&c, &l, measured(&l));
    }
    for (int i = 0; i < 60; i++) { /* a neighbour takes half of the machine */
        struct cost_load l = random_load(&rng);
        cost_observe(&c, &l, 2 * measured(&l));
    }
    double off = error_of(&c);
    assert_in_range((int)(1000 * off), 1000 * 0.5, 1000 * 0.85); /* ln 2 = 0.69 */
}

/* From the third step on, whatever kind of step it is; and one hiccup is not believed. */
static void the_pace_is_followed_within_three_steps(void **state)
{
    (void)state;
    struct cost c;
    struct rng rng;
    cost_init(&c);
    rng_init(&rng, 5);
    for (int i = 0; i < 500; i++) {
        struct cost_load l = random_load(&rng);
        cost_observe(&c, &l, measured(&l));
    }
    static const double factors[] = {2, 0.5, 5, 0.2};
    for (size_t f = 0; f < ARRAY_LEN(factors); f++) {
        for (int i = 0; i < 8; i++) {
            struct cost_load l = random_load(&rng);
            double off = cost_ns(&c, &l) / (factors[f] * truth_ns(machine, &l));
            assert_true(i < 3 || fabs(log(off)) < 0.5);
            cost_observe(&c, &l, (uint64_t)(factors[f] * truth_ns(machine, &l)));
        }
        double before = error_of(&c);
        struct cost_load l = random_load(&rng);
        cost_observe(&c, &l, (uint64_t)(30 * factors[f] * truth_ns(machine, &l)));
        assert_true(fabs(error_of(&c) - before) < 0.2);
    }
}

static void rows_fit_the_budget(void **state)
{
    (void)state;
    struct cost c = {.pace = 1, .ratio = 1};
    struct rng rng;
    rng_init(&rng, 4);
    for (int i = 0; i < COST_PARTS; i++) {
        c.ns[i] = machine[i];
    }
    for (int i = 0; i < 1000; i++) {
        struct cost_load l = random_load(&rng);
        double budget = 1e6 * (1 + rng_below(&rng, 500));
        uint32_t position = rng_below(&rng, 4000);
        uint32_t n = cost_rows_within(&c, &l, position, 512, budget);
        struct cost_load with = l;
        cost_add_prompt(&with, position, n);
        assert_true(n == 0 || cost_ns(&c, &with) <= budget);
        cost_add_prompt(&with, position + n, 1);
        assert_true(n == 512 || cost_ns(&c, &with) > budget);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_few_timed_steps_are_enough),
        cmocka_unit_test(it_learns_from_nothing),
        cmocka_unit_test(outliers_move_it_little),
        cmocka_unit_test(a_lasting_change_is_followed),
        cmocka_unit_test(the_pace_is_followed_within_three_steps),
        cmocka_unit_test(rows_fit_the_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
