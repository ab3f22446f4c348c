/* Guesses from the text so far, and tenants' counters. */
#include "check.h"

#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "server/draft.h"
#include "server/fair.h"

static void what_followed_before_is_guessed(void **state)
{
    (void)state;
    struct draft d;
    int32_t out[8];
    int32_t text[64] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4};
    assert_true(draft_init(&d, 64));
    assert_int_equal(draft_guess(&d, text, 2, out, 7), 0);
    assert_int_equal(draft_guess(&d, text, 9, out, 7), 0);
    assert_int_equal(draft_guess(&d, text, 12, out, 4), 4);
    assert_int_equal(out[0], 5);
    assert_int_equal(out[3], 8);
    assert_int_equal(draft_guess(&d, text, 12, out, 0), 0);
    /* The longest match counts, not the latest. */
    const int32_t more[] = {70, 71, 2, 3, 4, 60, 6, 4, 5, 1, 2, 3, 4};
    memcpy(text + 12, more, sizeof(more));
    assert_int_equal(draft_guess(&d, text, 25, out, 2), 2);
    assert_int_equal(out[0], 5);
    draft_deinit(&d);
    draft_deinit(&d);
}

/* A text that repeats itself goes on for as long as is asked. */
static void a_repetition_goes_on(void **state)
{
    (void)state;
    struct draft d;
    int32_t out[7];
    int32_t text[16];
    assert_true(draft_init(&d, 16));
    for (int i = 0; i < 9; i++) {
        text[i] = i % 4;
    }
    assert_int_equal(draft_guess(&d, text, 9, out, 7), 7);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(out[i], (9 + i) % 4);
    }
    draft_deinit(&d);
}

/* Whatever the text, a guess is what followed some place with the same three last tokens. */
static void guesses_are_never_made_up(void **state)
{
    (void)state;
    enum { N = 3000 };
    static int32_t text[N];
    struct draft d;
    struct rng rng;
    uint32_t n_guesses = 0;
    rng_init(&rng, 5);
    assert_true(draft_init(&d, N));
    for (uint32_t n = 0; n < N - 1; n++) {
        text[n] = (int32_t)rng_below(&rng, 6);
        int32_t guess;
        if (n < 3 || draft_guess(&d, text, n + 1, &guess, 1) == 0) {
            continue;
        }
        bool found = false;
        for (uint32_t at = 2; at < n && !found; at++) {
            found = memcmp(text + at - 2, text + n - 2, 3 * sizeof(*text)) == 0 &&
                    text[at + 1] == guess;
        }
        assert_true(found);
        n_guesses++;
    }
    assert_true(n_guesses > N / 2);
    draft_deinit(&d);
}

static void the_chance_follows_what_happens(void **state)
{
    (void)state;
    struct draft d;
    assert_true(draft_init(&d, 16));
    for (int i = 0; i < 30; i++) {
        draft_learn(&d, 4, 4);
    }
    assert_true(draft_chance(&d) > 0.95f && draft_chance(&d) <= 1);
    for (int i = 0; i < 60; i++) {
        draft_learn(&d, 4, 0);
    }
    float low = draft_chance(&d);
    assert_true(low < 0.05f && low >= 0);
    for (int i = 0; i < 50; i++) {
        draft_skip(&d);
    }
    assert_true(draft_chance(&d) > low + 0.1f);
    draft_deinit(&d);
}

static void pauses_save_nothing_up(void **state)
{
    (void)state;
    struct fair f;
    fair_init(&f, 3);
    struct fair_tenant *a = fair_get(&f, STR_LIT("a"));
    fair_charge(a, 100, 50);
    assert_int_equal(a->served, 300);
    struct fair_tenant *b = fair_get(&f, STR_LIT("b"));
    assert_int_equal(b->served, 300); /* as much as the least served of those that are here */
    assert_ptr_equal(fair_get(&f, STR_LIT("b")), b);
    fair_put(&f, b);
    fair_put(&f, b);
    fair_charge(a, 1000, 0);
    b = fair_get(&f, STR_LIT("b"));
    assert_int_equal(b->served, 1300);
    fair_charge(b, 7, 0);
    fair_put(&f, a);
    a = fair_get(&f, STR_LIT("a"));
    assert_int_equal(a->served, 1307);
    fair_put(&f, b);
    b = fair_get(&f, STR_LIT("b")); /* what was used is not forgotten by leaving */
    assert_int_equal(b->served, 1307);
    uint32_t n = 0;
    for (struct fair_tenant *t = NULL; (t = fair_next(&f, t)) != NULL;) {
        n++;
    }
    assert_int_equal(n, 2);
    fair_put(&f, a);
    fair_put(&f, b);
    fair_deinit(&f);
    fair_deinit(&f);
}

static void idle_tenants_are_bounded(void **state)
{
    (void)state;
    struct fair f;
    char name[16];
    fair_init(&f, 3);
    for (int i = 0; i < 3 * FAIR_IDLE_MAX; i++) {
        snprintf(name, sizeof(name), "t%d", i);
        struct fair_tenant *t = fair_get(&f, str_from(name));
        assert_non_null(t);
        fair_put(&f, t);
    }
    assert_int_equal(map_count(&f.tenants), FAIR_IDLE_MAX);
    fair_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_followed_before_is_guessed),
        cmocka_unit_test(a_repetition_goes_on),
        cmocka_unit_test(guesses_are_never_made_up),
        cmocka_unit_test(the_chance_follows_what_happens),
        cmocka_unit_test(pauses_save_nothing_up),
        cmocka_unit_test(idle_tenants_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
