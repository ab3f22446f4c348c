/* The loop: order of timers and tasks, posts and wake-ups from threads, jobs, signals. */
#include "check.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "base/thread.h"
#include "net/loop.h"

struct trace {
    struct loop *loop;
    struct loop_timer timers[8];
    struct loop_task tasks[4];
    char text[64];
    size_t n;
    int count;
};

struct mark {
    struct trace *t;
    char c;
    bool last;
};

static void note(struct trace *t, char c)
{
    assert_true(t->n + 1 < sizeof(t->text));
    t->text[t->n++] = c;
}

static void mark(void *ctx)
{
    struct mark *m = ctx;
    note(m->t, m->c);
    if (m->last) {
        loop_stop(m->t->loop);
    }
}

static struct loop *make_loop(void)
{
    struct loop *l = NULL;
    assert_int_equal(loop_create(&l, clock_system(), NULL), RC_OK);
    return l;
}

static void timers_fire_in_order_of_time(void **state)
{
    (void)state;
    struct trace t = {.loop = make_loop()};
    struct mark marks[8];
    static const uint64_t after[8] = {30, 10, 50, 20, 40, 5, 60, 25};
    for (int i = 0; i < 8; i++) {
        marks[i] = (struct mark){.t = &t, .c = (char)('a' + i), .last = i == 6};
        loop_timer_init(&t.timers[i], t.loop, mark, &marks[i]);
        loop_timer_start(&t.timers[i], after[i]);
    }
    loop_timer_stop(&t.timers[4]);
    loop_timer_stop(&t.timers[4]);
    loop_timer_start(&t.timers[1], 45); /* moved */
    assert_true(loop_timer_is_armed(&t.timers[1]));
    assert_false(loop_timer_is_armed(&t.timers[4]));
    uint64_t start = loop_now_ms(t.loop);
    loop_run(t.loop);
    assert_true(loop_now_ms(t.loop) - start >= 55);
    assert_string_equal(t.text, "fdhabcg");
    loop_destroy(t.loop);
}

static void again(void *ctx)
{
    struct trace *t = ctx;
    if (++t->count == 100) {
        loop_stop(t->loop);
    } else {
        loop_timer_start(&t->timers[0], 0);
    }
}

static void a_timer_may_start_itself(void **state)
{
    (void)state;
    struct trace t = {.loop = make_loop()};
    loop_timer_init(&t.timers[0], t.loop, again, &t);
    loop_timer_start(&t.timers[0], 0);
    loop_run(t.loop);
    assert_int_equal(t.count, 100);
    loop_destroy(t.loop);
}

struct random_timer {
    struct loop_timer timer;
    struct trace *trace;
    uint64_t due_ms;
};

static void random_fired(void *ctx)
{
    struct random_timer *r = ctx;
    assert_true(loop_now_ms(r->trace->loop) >= r->due_ms);
    r->due_ms = 0;
    r->trace->count--;
    if (r->trace->count == 0) {
        loop_stop(r->trace->loop);
    }
}

/* Starts, moves and stops many: each armed one fires once, none early. */
static void the_heap_stays_a_heap(void **state)
{
    (void)state;
    enum { N = 500 };
    static struct random_timer r[N];
    struct trace t = {.loop = make_loop()};
    uint32_t seed = 1;
    for (int i = 0; i < N; i++) {
        r[i].trace = &t;
        loop_timer_init(&r[i].timer, t.loop, random_fired, &r[i]);
    }
    for (int k = 0; k < 5000; k++) {
        seed = seed * 1664525u + 1013904223u;
        int i = (int)(seed >> 8) % N;
        if (seed >> 30 == 0) {
            t.count -= loop_timer_is_armed(&r[i].timer) ? 1 : 0;
            loop_timer_stop(&r[i].timer);
        } else {
            t.count += loop_timer_is_armed(&r[i].timer) ? 0 : 1;
            uint64_t after = (seed >> 4) % 50;
            r[i].due_ms = loop_now_ms(t.loop) + after;
            loop_timer_start(&r[i].timer, after);
        }
    }
    assert_true(t.count > 0);
    loop_run(t.loop);
    for (int i = 0; i < N; i++) {
        assert_false(loop_timer_is_armed(&r[i].timer));
    }
    loop_destroy(t.loop);
}

struct chain {
    struct mark m;
    struct loop_task *next, *reclaim;
};

static void chain_run(void *ctx)
{
    struct chain *c = ctx;
    mark(&c->m);
    if (c->reclaim != NULL) {
        loop_reclaim(c->m.t->loop, c->reclaim);
    }
    if (c->next != NULL) {
        loop_defer(c->m.t->loop, c->next);
    }
}

static void tasks_run_at_the_end_of_the_turn(void **state)
{
    (void)state;
    struct trace t = {.loop = make_loop()};
    struct chain second = {.m = {.t = &t, .c = 'b', .last = true}};
    struct mark freed = {.t = &t, .c = 'f'};
    struct chain first = {.m = {.t = &t, .c = 'a'}, .next = &t.tasks[1], .reclaim = &t.tasks[2]};
    loop_task_init(&t.tasks[0], chain_run, &first);
    loop_task_init(&t.tasks[1], chain_run, &second);
    loop_task_init(&t.tasks[2], mark, &freed);
    loop_defer(t.loop, &t.tasks[0]);
    loop_defer(t.loop, &t.tasks[0]); /* once is enough */
    assert_int_equal(t.n, 0);        /* never inside the call */
    loop_run(t.loop);
    assert_string_equal(t.text, "afb");
    loop_defer(t.loop, &t.tasks[0]);
    loop_task_cancel(&t.tasks[0]);
    loop_task_cancel(&t.tasks[0]);
    loop_destroy(t.loop);
    assert_string_equal(t.text, "afb");
}

struct poster {
    struct loop *loop;
    struct loop_wake *wake;
    atomic_int *left;
    int n_got;
};

enum { POSTERS = 3, POSTS = 3000 };

static void got(void *ctx)
{
    struct poster *p = ctx;
    p->n_got++;
    if (atomic_fetch_sub(p->left, 1) == 1) {
        loop_stop(p->loop);
    }
}

static void post_many(void *ctx)
{
    struct poster *p = ctx;
    for (int i = 0; i < POSTS; i++) {
        while (loop_post(p->loop, got, p) != RC_OK) {
            usleep(100);
        }
    }
}

static void threads_may_post(void **state)
{
    (void)state;
    struct loop *l = make_loop();
    atomic_int left = POSTERS * POSTS;
    struct poster p[POSTERS];
    struct thread threads[POSTERS] = {0};
    for (int i = 0; i < POSTERS; i++) {
        p[i] = (struct poster){.loop = l, .left = &left};
        assert_int_equal(thread_start(&threads[i], "poster", -1, post_many, &p[i]), RC_OK);
    }
    loop_run(l);
    for (int i = 0; i < POSTERS; i++) {
        thread_join(&threads[i]);
        assert_int_equal(p[i].n_got, POSTS);
    }
    loop_destroy(l);
}

static void posting_stops_at_the_cap(void **state)
{
    (void)state;
    struct loop *l = make_loop();
    atomic_int left = LOOP_POSTS_MAX;
    struct poster p = {.loop = l, .left = &left};
    for (int i = 0; i < LOOP_POSTS_MAX; i++) {
        assert_int_equal(loop_post(l, got, &p), RC_OK);
    }
    assert_int_equal(loop_post(l, got, &p), RC_OVERLOADED);
    loop_run(l);
    assert_int_equal(p.n_got, LOOP_POSTS_MAX);
    loop_destroy(l);
}

static void woken(void *ctx)
{
    struct poster *p = ctx;
    p->n_got++;
    loop_stop(p->loop);
}

static void wake_many(void *ctx)
{
    struct poster *p = ctx;
    for (int i = 0; i < 1000; i++) {
        loop_wake_send(p->wake);
    }
}

static void wakes_are_merged_never_lost(void **state)
{
    (void)state;
    struct poster p = {.loop = make_loop()};
    assert_int_equal(loop_wake_create(&p.wake, p.loop, woken, &p, NULL), RC_OK);
    struct thread t = {0};
    assert_int_equal(thread_start(&t, "waker", -1, wake_many, &p), RC_OK);
    loop_run(p.loop);
    thread_join(&t);
    assert_true(p.n_got >= 1 && p.n_got <= 1000);
    loop_wake_destroy(p.wake);
    loop_destroy(p.loop);
}

struct work_trace {
    struct loop *loop;
    atomic_int n_run, n_now, n_now_max;
    int n_done, n_cancelled, n_left;
    pthread_t self;
};

static void work(void *ctx)
{
    struct work_trace *w = ctx;
    assert_false(pthread_equal(pthread_self(), w->self));
    int now = atomic_fetch_add(&w->n_now, 1) + 1;
    int max = atomic_load(&w->n_now_max);
    while (now > max && !atomic_compare_exchange_weak(&w->n_now_max, &max, now)) {}
    usleep(5000);
    atomic_fetch_sub(&w->n_now, 1);
    atomic_fetch_add(&w->n_run, 1);
}

static void work_done(void *ctx, enum rc rc)
{
    struct work_trace *w = ctx;
    assert_true(pthread_equal(pthread_self(), w->self));
    *(rc == RC_OK ? &w->n_done : &w->n_cancelled) += 1;
    if (--w->n_left == 0) {
        loop_stop(w->loop);
    }
}

static void slow_jobs_take_half_the_pool(void **state)
{
    (void)state;
    struct work_trace w = {.loop = make_loop(), .self = pthread_self(), .n_left = 10};
    struct loop_job job = {.run = work, .done = work_done, .ctx = &w, .slow = true};
    struct loop_work *works[10];
    for (int i = 0; i < 10; i++) {
        assert_int_equal(loop_work_start(&works[i], w.loop, &job, NULL), RC_OK);
    }
    loop_work_cancel(works[9]); /* it waits for a slot: it never runs */
    loop_work_cancel(works[9]);
    assert_int_equal(w.n_cancelled, 0);
    loop_run(w.loop);
    assert_int_equal(w.n_done, 9);
    assert_int_equal(w.n_cancelled, 1);
    assert_int_equal(atomic_load(&w.n_run), 9);
    assert_true(atomic_load(&w.n_now_max) <= LOOP_WORKS_SLOW_MAX);
    loop_destroy(w.loop);
}

static void destroy_ends_every_job(void **state)
{
    (void)state;
    struct work_trace w = {.loop = make_loop(), .self = pthread_self(), .n_left = 1000};
    struct loop_job job = {.run = work, .done = work_done, .ctx = &w};
    for (int i = 0; i < 20; i++) {
        job.slow = i % 2 == 0;
        assert_int_equal(loop_work_start(NULL, w.loop, &job, NULL), RC_OK);
    }
    loop_destroy(w.loop);
    assert_int_equal(w.n_done + w.n_cancelled, 20);
    assert_int_equal(atomic_load(&w.n_run), w.n_done);
    assert_true(w.n_cancelled >= 1);
}

static void jobs_stop_at_the_cap(void **state)
{
    (void)state;
    struct work_trace w = {.loop = make_loop(), .self = pthread_self(), .n_left = -1};
    struct loop_job job = {.run = work, .done = work_done, .ctx = &w, .slow = true};
    for (int i = 0; i < LOOP_WORKS_MAX; i++) {
        assert_int_equal(loop_work_start(NULL, w.loop, &job, NULL), RC_OK);
    }
    assert_int_equal(loop_work_start(NULL, w.loop, &job, NULL), RC_OVERLOADED);
    loop_destroy(w.loop);
    assert_int_equal(w.n_done + w.n_cancelled, LOOP_WORKS_MAX);
}

static void signalled(void *ctx, int signum)
{
    struct trace *t = ctx;
    t->count = signum;
    loop_stop(t->loop);
}

static void signals_arrive_on_the_loop(void **state)
{
    (void)state;
    struct trace t = {.loop = make_loop()};
    assert_int_equal(loop_signal(t.loop, SIGTERM, signalled, &t, NULL), RC_OK);
    assert_int_equal(loop_signal(t.loop, SIGINT, signalled, &t, NULL), RC_OK);
    raise(SIGTERM);
    loop_run(t.loop);
    assert_int_equal(t.count, SIGTERM);
    raise(SIGINT);
    loop_run(t.loop);
    assert_int_equal(t.count, SIGINT);
    loop_destroy(t.loop);
}

static void a_stop_before_the_run_counts(void **state)
{
    (void)state;
    struct loop *l = make_loop();
    loop_stop(l);
    loop_run(l);
    loop_destroy(l);
    loop_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_order_of_time),
        cmocka_unit_test(a_timer_may_start_itself),
        cmocka_unit_test(the_heap_stays_a_heap),
        cmocka_unit_test(tasks_run_at_the_end_of_the_turn),
        cmocka_unit_test(threads_may_post),
        cmocka_unit_test(posting_stops_at_the_cap),
        cmocka_unit_test(wakes_are_merged_never_lost),
        cmocka_unit_test(slow_jobs_take_half_the_pool),
        cmocka_unit_test(destroy_ends_every_job),
        cmocka_unit_test(jobs_stop_at_the_cap),
        cmocka_unit_test(signals_arrive_on_the_loop),
        cmocka_unit_test(a_stop_before_the_run_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
