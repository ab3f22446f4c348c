/* One producer and one consumer thread: nothing is lost, doubled or reordered. */
#include "check.h"

#include <sched.h>

#include "base/ring.h"
#include "base/thread.h"

enum { ITEMS = 200000, ROOM = 64 };

static void ring_refuses_when_full(void **state)
{
    (void)state;
    struct ring r;
    int items[5];
    ring_init(&r, 3); /* rounded up to 4 */
    assert_null(ring_pop(&r));
    for (int i = 0; i < 4; i++) {
        assert_true(ring_push(&r, &items[i]));
    }
    assert_false(ring_push(&r, &items[4]));
    assert_ptr_equal(ring_pop(&r), &items[0]);
    assert_true(ring_push(&r, &items[4]));
    for (int i = 1; i < 5; i++) {
        assert_ptr_equal(ring_pop(&r), &items[i]);
    }
    assert_null(ring_pop(&r));
    ring_deinit(&r);
}

struct pair {
    struct ring ring;
    uint32_t *numbers;
};

static void produce(void *arg)
{
    struct pair *p = arg;
    for (uint32_t i = 0; i < ITEMS; i++) {
        p->numbers[i] = i + 1;
        while (!ring_push(&p->ring, &p->numbers[i])) {
            sched_yield();
        }
    }
}

static void two_threads_see_every_item_once(void **state)
{
    (void)state;
    struct pair p = {.numbers = calloc(ITEMS, sizeof(uint32_t))};
    struct thread t = {0};
    ring_init(&p.ring, ROOM);
    assert_int_equal(thread_start(&t, "producer", -1, produce, &p), RC_OK);
    for (uint32_t i = 0; i < ITEMS;) {
        uint32_t *number = ring_pop(&p.ring);
        if (number == NULL) {
            sched_yield();
            continue;
        }
        if (*number != i + 1) {
            fail_msg("item %u came as %u", i + 1, *number);
        }
        i++;
    }
    thread_join(&t);
    thread_join(&t);
    assert_null(ring_pop(&p.ring));
    ring_deinit(&p.ring);
    free(p.numbers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_refuses_when_full),
        cmocka_unit_test(two_threads_see_every_item_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
