/* The thread team: every thread runs, every item once, also when workers have gone to sleep. */
#include "check.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "engine/cpu/team.h"

enum { ITEMS_MAX = 1000 };

struct counts {
    _Atomic uint32_t threads[8];
    uint32_t items[ITEMS_MAX]; /* an item is one thread's: no atomics needed */
};

static struct team *open_team(uint32_t n, bool pin)
{
    struct team *t = NULL;
    struct err err = {0};
    assert_int_equal(team_create(&t, n, pin, &err), RC_OK);
    return t;
}

static void count_thread(void *ctx, uint32_t thread)
{
    struct counts *c = ctx;
    atomic_fetch_add(&c->threads[thread], 1);
}

static void count_item(void *ctx, uint32_t thread, uint32_t item)
{
    struct counts *c = ctx;
    atomic_fetch_add(&c->threads[thread], 1);
    c->items[item]++;
}

static void sleep_ms(long ms)
{
    struct timespec t = {.tv_nsec = ms * 1000000};
    nanosleep(&t, NULL);
}

static void each_thread_runs_once(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 5; n++) {
        struct team *t = open_team(n, n % 2 == 0);
        struct counts c = {0};
        for (uint32_t round = 1; round <= 20; round++) {
            if (round % 7 == 0) {
                sleep_ms(2); /* far beyond TEAM_SPIN_NS: the workers sleep */
            }
            team_run(t, count_thread, &c);
            for (uint32_t i = 0; i < n; i++) {
                assert_int_equal(atomic_load(&c.threads[i]), round);
            }
        }
        assert_int_equal(team_n_threads(t), n);
        team_destroy(t);
    }
}

static void each_item_runs_once(void **state)
{
    (void)state;
    const uint32_t sizes[] = {0, 1, 2, 3, 7, 8, 63, ITEMS_MAX};
    for (uint32_t n = 1; n <= 4; n++) {
        struct team *t = open_team(n, false);
        for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
            struct counts c = {0};
            team_for(t, sizes[s], count_item, &c);
            for (uint32_t i = 0; i < ITEMS_MAX; i++) {
                assert_int_equal(c.items[i], i < sizes[s] ? 1 : 0);
            }
        }
        team_destroy(t);
    }
}

/* The first thread is held in its first item until the other has done all that it may. */
static void held_item(void *ctx, uint32_t thread, uint32_t item)
{
    struct counts *c = ctx;
    for (int ms = 0; item == 0 && ms < 10000 && atomic_load(&c->threads[1]) < 63; ms++) {
        sleep_ms(1);
    }
    count_item(ctx, thread, item);
}

/* The caller's share is 37 of 100 items; the other thread has as many and takes the rest. */
static void the_tail_is_stolen(void **state)
{
    (void)state;
    struct team *t = open_team(2, false);
    struct counts c = {0};
    team_for(t, 100, held_item, &c);
    assert_int_equal(atomic_load(&c.threads[0]), 37);
    assert_int_equal(atomic_load(&c.threads[1]), 63);
    team_destroy(t);
}

static void too_many_threads_are_refused(void **state)
{
    (void)state;
    struct team *t = NULL;
    struct err err = {0};
    assert_int_equal(team_create(&t, TEAM_THREADS_MAX + 1, false, &err), RC_INVALID);
    assert_non_null(strstr(err.msg, "257"));
    team_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_thread_runs_once),
        cmocka_unit_test(each_item_runs_once),
        cmocka_unit_test(the_tail_is_stolen),
        cmocka_unit_test(too_many_threads_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
