/* Balancers and breaker: pure, so a fake clock and seeds are all they need. */
#include "check.h"

#include "base/hash.h"
#include "gateway/balance.h"
#include "gateway/breaker.h"

enum { SERVERS = 8 };

static void servers_make(struct balance_server *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        s[i] = (struct balance_server){.id = hash_u64(i + 100)};
    }
}

static void every_policy_picks_a_server(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 7);
    for (int policy = CAT_ROUND_ROBIN; policy <= CAT_PREFIX_AFFINITY; policy++) {
        const struct balance_ops *ops = balance_of((enum cat_balance)policy);
        for (int round = 0; round < 2000; round++) {
            struct balance_server s[SERVERS];
            uint32_t n = 1 + rng_below(&rng, SERVERS);
            servers_make(s, n);
            for (uint32_t i = 0; i < n; i++) {
                s[i].outstanding = rng_below(&rng, 5);
            }
            struct balance_ask ask = {.prefix = rng_u64(&rng), .turn = rng_u32(&rng), .rng = &rng};
            assert_true(ops->pick(s, n, &ask) < n);
        }
    }
}

static void turns_and_least_are_even(void **state)
{
    (void)state;
    struct balance_server s[SERVERS];
    uint32_t seen[SERVERS] = {0};
    servers_make(s, SERVERS);
    for (uint32_t turn = 0; turn < 10 * SERVERS; turn++) {
        struct balance_ask ask = {.turn = turn};
        seen[balance_round_robin.pick(s, SERVERS, &ask)]++;
        s[balance_least_outstanding.pick(s, SERVERS, &ask)].outstanding++;
    }
    for (int i = 0; i < SERVERS; i++) {
        assert_int_equal(seen[i], 10);
        assert_int_equal(s[i].outstanding, 10);
    }
}

static void two_choices_keep_loads_close(void **state)
{
    (void)state;
    struct balance_server s[SERVERS];
    struct rng rng;
    rng_init(&rng, 3);
    servers_make(s, SERVERS);
    for (int i = 0; i < 8000; i++) {
        struct balance_ask ask = {.rng = &rng};
        s[balance_two_choices.pick(s, SERVERS, &ask)].outstanding++;
    }
    for (int i = 0; i < SERVERS; i++) {
        assert_in_range(s[i].outstanding, 990, 1010);
    }
}

static void a_prefix_stays_with_its_server(void **state)
{
    (void)state;
    struct balance_server s[SERVERS], fewer[SERVERS];
    uint32_t moved = 0;
    servers_make(s, SERVERS);
    for (uint64_t p = 0; p < 1000; p++) {
        struct balance_ask ask = {.prefix = p};
        uint32_t home = balance_prefix_affinity.pick(s, SERVERS, &ask);
        assert_int_equal(balance_prefix_affinity.pick(s, SERVERS, &ask), home);
        servers_make(fewer, SERVERS); /* without the last one only its own prefixes move */
        uint32_t now = balance_prefix_affinity.pick(fewer, SERVERS - 1, &ask);
        assert_true(home == SERVERS - 1 || now == home);
        moved += home == SERVERS - 1 ? 1 : 0;
    }
    assert_in_range(moved, 80, 180);
}

static void one_prefix_for_all_is_spread_within_the_bound(void **state)
{
    (void)state;
    struct balance_server s[SERVERS];
    servers_make(s, SERVERS);
    for (uint32_t i = 0; i < 800; i++) {
        struct balance_ask ask = {.prefix = 42};
        s[balance_prefix_affinity.pick(s, SERVERS, &ask)].outstanding++;
    }
    for (int i = 0; i < SERVERS; i++) {
        assert_true(s[i].outstanding <= 126); /* 1.25 times the mean, and one */
    }
}

/* ---- breaker ---- */

static void call(struct breaker *b, enum breaker_end how, uint64_t ms)
{
    assert_true(breaker_begin(b, ms));
    breaker_finish(b, how, ms);
}

static void failures_in_a_row_open_it(void **state)
{
    (void)state;
    struct breaker b;
    breaker_init(&b);
    for (int i = 0; i < BREAKER_RUN_MAX - 1; i++) {
        call(&b, BREAKER_FAILED, 1000);
        call(&b, BREAKER_SAYS_NOTHING, 1000); /* neither breaks nor ends a row */
    }
    assert_int_equal(breaker_look(&b, 1000), BREAKER_CLOSED);
    call(&b, BREAKER_OK, 1000);
    for (int i = 0; i < BREAKER_RUN_MAX; i++) {
        assert_int_equal(breaker_look(&b, 1000), BREAKER_CLOSED);
        call(&b, BREAKER_FAILED, 1000);
    }
    assert_int_equal(breaker_look(&b, 1000), BREAKER_OPEN);
    assert_false(breaker_begin(&b, 1000 + BREAKER_OPEN_MS - 1));
    assert_int_equal(breaker_look(&b, 1000 + BREAKER_OPEN_MS), BREAKER_HALF_OPEN);
}

static void half_of_many_open_it_and_old_ones_are_forgotten(void **state)
{
    (void)state;
    struct breaker b;
    breaker_init(&b);
    for (int i = 0; i < 9; i++) {
        call(&b, BREAKER_FAILED, 0);
        call(&b, BREAKER_OK, 0);
    }
    call(&b, BREAKER_OK, 59000);
    call(&b, BREAKER_FAILED, 61000); /* the first 18 have left the window */
    assert_int_equal(breaker_look(&b, 61000), BREAKER_CLOSED);
    for (int i = 0; i < 9; i++) {
        call(&b, BREAKER_OK, 61000);
        call(&b, BREAKER_FAILED, 61000);
    }
    assert_int_equal(breaker_look(&b, 61000), BREAKER_OPEN);
}

static void trials_close_it_or_open_it_for_longer(void **state)
{
    (void)state;
    struct breaker b;
    uint64_t ms = 0;
    breaker_init(&b);
    for (int i = 0; i < BREAKER_RUN_MAX; i++) {
        call(&b, BREAKER_FAILED, ms);
    }
    for (uint64_t open_ms = BREAKER_OPEN_MS, i = 0; i < 6; i++) {
        ms += open_ms - 1;
        assert_false(breaker_begin(&b, ms));
        ms += 1;
        call(&b, BREAKER_FAILED, ms);
        open_ms = MIN(open_ms * 2, (uint64_t)BREAKER_OPEN_MS_MAX);
    }
    ms += BREAKER_OPEN_MS_MAX;
    for (int i = 0; i < BREAKER_TRIALS; i++) {
        assert_true(breaker_begin(&b, ms));
    }
    assert_false(breaker_begin(&b, ms)); /* no more than the trials */
    breaker_finish(&b, BREAKER_SAYS_NOTHING, ms);
    assert_true(breaker_begin(&b, ms)); /* one of them told nothing */
    for (int i = 0; i < BREAKER_TRIALS; i++) {
        assert_int_equal(breaker_look(&b, ms), BREAKER_HALF_OPEN);
        breaker_finish(&b, BREAKER_OK, ms);
    }
    assert_int_equal(breaker_look(&b, ms), BREAKER_CLOSED);
    for (int i = 0; i < BREAKER_RUN_MAX; i++) {
        call(&b, BREAKER_FAILED, ms);
    }
    assert_int_equal(breaker_look(&b, ms + BREAKER_OPEN_MS), BREAKER_HALF_OPEN); /* short again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_policy_picks_a_server),
        cmocka_unit_test(turns_and_least_are_even),
        cmocka_unit_test(two_choices_keep_loads_close),
        cmocka_unit_test(a_prefix_stays_with_its_server),
        cmocka_unit_test(one_prefix_for_all_is_spread_within_the_bound),
        cmocka_unit_test(failures_in_a_row_open_it),
        cmocka_unit_test(half_of_many_open_it_and_old_ones_are_forgotten),
        cmocka_unit_test(trials_close_it_or_open_it_for_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
