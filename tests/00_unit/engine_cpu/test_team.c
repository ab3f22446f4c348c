/* The thread team: every thread runs, every item once, also when workers have gone to sleep. */
#include "check.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
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

/* Each thread writes its place, and behind the barrier reads all others'. */
enum { ROUNDS = 60 };

struct meeting {
    struct team *team;
    uint32_t place[8];
};

static void meet(void *ctx, uint32_t thread)
{
    struct meeting *m = ctx;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        m->place[thread] = round;
        if (round % 20 == 7 && thread == round % team_n_threads(m->team)) {
            sleep_ms(1); /* the others have gone to sleep */
        }
        team_barrier(m->team);
        for (uint32_t i = 0; i < team_n_threads(m->team); i++) {
            assert_int_equal(m->place[i], round);
        }
        team_barrier(m->team);
    }
}

static void all_meet_at_a_barrier(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 4; n++) {
        struct meeting m = {.team = open_team(n, false)};
        team_run(m.team, meet, &m);
        team_run(m.team, meet, &m);
        struct team_counts counts = team_counts(m.team);
        assert_int_equal(counts.n_forks, 2);
        assert_int_equal(counts.n_barriers, n > 1 ? 4 * ROUNDS : 0);
        team_destroy(m.team);
    }
}

/* Two loops in one run, the second's length decided between two barriers. */
struct loops {
    struct team *team;
    struct team_items first, second;
    uint32_t done[2][ITEMS_MAX];
};

static void run_loop(struct team_items *items, uint32_t thread, uint32_t *done)
{
    struct team_cursor cursor = team_items_begin(items, thread);
    uint32_t item, before = 0;
    bool any = false;
    while (team_items_next(&cursor, &item)) {
        assert_true(!any || item > before);
        before = item;
        any = true;
        done[item]++;
    }
}

static void run_loops(void *ctx, uint32_t thread)
{
    struct loops *l = ctx;
    run_loop(&l->first, thread, l->done[0]);
    if (thread == 0) {
        team_items_init(&l->second, l->team, team_items_count(&l->first) / 2 + 1);
    }
    team_barrier(l->team);
    run_loop(&l->second, thread, l->done[1]);
}

static void loops_share_a_run(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 4; n++) {
        for (uint32_t n_items = 0; n_items < ITEMS_MAX; n_items = n_items * 3 + 1) {
            struct loops *l = mem_try_aligned(CACHE_LINE_BYTES, sizeof(*l));
            assert_non_null(l);
            l->team = open_team(n, false);
            team_items_init(&l->first, l->team, n_items);
            team_run(l->team, run_loops, l);
            for (uint32_t i = 0; i < ITEMS_MAX; i++) {
                assert_int_equal(l->done[0][i], i < n_items);
                assert_int_equal(l->done[1][i], i < n_items / 2 + 1);
            }
            team_destroy(l->team);
            mem_free(l);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_thread_runs_once), cmocka_unit_test(each_item_runs_once),
        cmocka_unit_test(the_tail_is_stolen),    cmocka_unit_test(too_many_threads_are_refused),
        cmocka_unit_test(all_meet_at_a_barrier), cmocka_unit_test(loops_share_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
