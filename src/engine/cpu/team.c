/* team.c: fork and join by one generation counter.
 *
 *   caller: job, n_running = n - 1, generation++ ──► worker: sees generation, runs, n_running--
 *           runs its own share                        │
 *           waits for n_running == 0  ◄───────────────┘
 *
 * Both waits spin first and then sleep on a futex of the word they watch. A sleeper announces
 * itself (n_sleeping, caller_sleeping) before the kernel compares the word, and the waker changes
 * the word before it reads the announcement; both are sequentially consistent, so one of the two
 * always sees the other. */
#include "engine/cpu/team.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"

struct team {
    /* Words that different threads write lie on different cache lines. */
    _Atomic uint32_t generation ALIGNED(CACHE_LINE_BYTES);
    _Atomic uint32_t n_running ALIGNED(CACHE_LINE_BYTES);
    _Atomic uint32_t n_arrived ALIGNED(CACHE_LINE_BYTES); /* at the barrier */
    _Atomic uint32_t barrier ALIGNED(CACHE_LINE_BYTES);   /* how many were passed */
    _Atomic uint32_t n_waiting;                           /* asleep at the barrier */
    _Atomic uint32_t n_sleeping ALIGNED(CACHE_LINE_BYTES);
    _Atomic uint32_t caller_sleeping;
    _Atomic bool stopping;

    /* The job: written by the caller before generation moves, read by workers after. */
    team_fn fn ALIGNED(CACHE_LINE_BYTES);
    void *ctx;

    uint32_t n_threads;
    struct team_counts counts;
    int caller_cpu; /* -1 = not pinned */
    pthread_t caller;
    bool caller_pinned;
    struct team_worker {
        struct thread thread;
        struct team *team;
        uint32_t index;
    } workers[];
};

/* ---- waiting ---- */

static void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t while_value)
{
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, while_value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* Until *word differs from `value`: spins, then sleeps with *announce raised. Returns the word. */
static uint32_t wait_change(_Atomic uint32_t *word, uint32_t value, _Atomic uint32_t *announce)
{
    enum { RELAX_PER_LOOK = 64 };
    uint64_t end = 0;
    for (uint32_t i = 0;; i++) {
        uint32_t now = atomic_load_explicit(word, memory_order_acquire);
        if (now != value) {
            return now;
        }
        cpu_relax();
        if (i % RELAX_PER_LOOK == RELAX_PER_LOOK - 1) {
            uint64_t t = clock_mono_ns(clock_system());
            end = end == 0 ? t + TEAM_SPIN_NS : end;
            if (t >= end) {
                break;
            }
        }
    }
    atomic_fetch_add(announce, 1);
    uint32_t now;
    while ((now = atomic_load(word)) == value) {
        futex_wait(word, value);
    }
    atomic_fetch_sub(announce, 1);
    return now;
}

/* ---- workers ---- */

static void worker_main(void *arg)
{
    struct team_worker *w = arg;
    struct team *t = w->team;
    uint32_t seen = 0;
    for (;;) {
        seen = wait_change(&t->generation, seen, &t->n_sleeping);
        if (atomic_load_explicit(&t->stopping, memory_order_relaxed)) {
            return;
        }
        t->fn(t->ctx, w->index);
        if (atomic_fetch_sub(&t->n_running, 1) == 1 && atomic_load(&t->caller_sleeping) != 0) {
            futex_wake(&t->n_running, 1);
        }
    }
}

static void fork_workers(struct team *t)
{
    atomic_fetch_add(&t->generation, 1);
    if (atomic_load(&t->n_sleeping) != 0) {
        futex_wake(&t->generation, TEAM_THREADS_MAX);
    }
}

static void join_workers(struct team *t)
{
    uint32_t left;
    while ((left = atomic_load_explicit(&t->n_running, memory_order_acquire)) != 0) {
        (void)wait_change(&t->n_running, left, &t->caller_sleeping);
    }
}

/* ---- life ---- */

static enum rc start_workers(struct team *t, const int *cpus, uint32_t n_cpus, struct err *err)
{
    for (uint32_t i = 1; i < t->n_threads; i++) {
        struct team_worker *w = &t->workers[i - 1];
        char name[16];
        snprintf(name, sizeof(name), "team-%u", i);
        w->team = t;
        w->index = i;
        int cpu = n_cpus >= t->n_threads ? cpus[(uint64_t)i * n_cpus / t->n_threads] : -1;
        if (thread_start(&w->thread, name, cpu, worker_main, w) != RC_OK) {
            return err_set(err, RC_NOMEM, "cannot start compute thread %u of %u", i, t->n_threads);
        }
    }
    return RC_OK;
}

enum rc team_create(struct team **out, uint32_t n_threads, bool pin, struct err *err)
{
    enum { CPUS_MAX = 1024 };
    int cpus[CPUS_MAX];
    uint32_t n_cpus = MIN(thread_cpus(cpus, CPUS_MAX), (uint32_t)CPUS_MAX);
    uint32_t n = n_threads != 0 ? n_threads : n_cpus;
    if (n_threads > TEAM_THREADS_MAX) {
        return err_set(err, RC_INVALID, "%u compute threads, at most %d", n_threads,
                       TEAM_THREADS_MAX);
    }
    n = MIN(n, (uint32_t)TEAM_THREADS_MAX);
    struct team *t =
        mem_try_aligned(CACHE_LINE_BYTES, sizeof(*t) + (n - 1) * sizeof(t->workers[0]));
    if (t == NULL) {
        return err_set(err, RC_NOMEM, "no memory for %u compute threads", n);
    }
    n_cpus = pin ? n_cpus : 0;
    t->n_threads = n;
    t->caller_cpu = n_cpus >= n ? cpus[0] : -1;
    enum rc rc = start_workers(t, cpus, n_cpus, err);
    if (rc != RC_OK) {
        team_destroy(t);
        return rc;
    }
    *out = t;
    return RC_OK;
}

void team_destroy(struct team *t)
{
    if (t == NULL) {
        return;
    }
    atomic_store(&t->stopping, true);
    fork_workers(t);
    for (uint32_t i = 1; i < t->n_threads; i++) {
        thread_join(&t->workers[i - 1].thread);
    }
    mem_free(t);
}

uint32_t team_n_threads(const struct team *t)
{
    return t->n_threads;
}

/* ---- work ---- */

/* The engine thread may be another than the one that opened the backend. */
static void pin_caller(struct team *t)
{
    if (t->caller_cpu >= 0 && !(t->caller_pinned && pthread_equal(t->caller, pthread_self()))) {
        (void)thread_pin_self(t->caller_cpu);
        t->caller = pthread_self();
        t->caller_pinned = true;
    }
}

void team_run(struct team *t, team_fn fn, void *ctx)
{
    pin_caller(t);
    if (t->n_threads > 1) {
        ASSERT(atomic_load_explicit(&t->n_running, memory_order_relaxed) == 0);
        t->fn = fn;
        t->ctx = ctx;
        atomic_store_explicit(&t->n_running, t->n_threads - 1, memory_order_relaxed);
        fork_workers(t);
    }
    t->counts.n_forks++;
    fn(ctx, 0);
    join_workers(t);
}

void team_barrier(struct team *t)
{
    if (t->n_threads == 1) {
        return;
    }
    uint32_t passed = atomic_load_explicit(&t->barrier, memory_order_acquire);
    if (atomic_fetch_add(&t->n_arrived, 1) + 1 < t->n_threads) {
        (void)wait_change(&t->barrier, passed, &t->n_waiting);
        return;
    }
    atomic_store_explicit(&t->n_arrived, 0, memory_order_relaxed);
    t->counts.n_barriers++; /* whoever is the last to come; the word `barrier` hands it on */
    atomic_fetch_add(&t->barrier, 1);
    if (atomic_load(&t->n_waiting) != 0) {
        futex_wake(&t->barrier, TEAM_THREADS_MAX);
    }
}

struct team_counts team_counts(const struct team *t)
{
    return t->counts;
}

/* ---- items ---- */

void team_items_init(struct team_items *items, const struct team *t, uint32_t n_items)
{
    ASSERT(n_items < UINT32_MAX - TEAM_THREADS_MAX);
    items->n_items = n_items;
    items->n_threads = t->n_threads;
    items->n_own = t->n_threads > 1 ? n_items / t->n_threads * 3 / 4 : n_items;
    atomic_store_explicit(&items->next, items->n_own * t->n_threads, memory_order_relaxed);
}

struct team_cursor team_items_begin(struct team_items *items, uint32_t thread)
{
    uint32_t first = thread * items->n_own;
    return (struct team_cursor){items, first, first + items->n_own};
}

bool team_items_next(struct team_cursor *c, uint32_t *item)
{
    if (c->at < c->end) {
        *item = c->at++;
        return true;
    }
    *item = atomic_fetch_add_explicit(&c->items->next, 1, memory_order_relaxed);
    c->at = c->end = *item; /* for the guess */
    return *item < c->items->n_items;
}

uint32_t team_items_guess(const struct team_cursor *c)
{
    if (c->at < c->end) {
        return c->at;
    }
    /* The shared rest, which the threads take in turns. */
    uint32_t shared = c->items->n_own * c->items->n_threads;
    uint32_t guess = c->at >= shared ? c->at + c->items->n_threads
                                     : atomic_load_explicit(&c->items->next, memory_order_relaxed);
    return guess < c->items->n_items ? guess : TEAM_ITEM_NONE;
}

struct item_job {
    team_item_fn fn;
    void *ctx;
    struct team_items items;
};

static void run_items(void *ctx, uint32_t thread)
{
    struct item_job *job = ctx;
    struct team_cursor cursor = team_items_begin(&job->items, thread);
    uint32_t item;
    while (team_items_next(&cursor, &item)) {
        job->fn(job->ctx, thread, item);
    }
}

void team_for(struct team *t, uint32_t n_items, team_item_fn fn, void *ctx)
{
    if (n_items == 1 || t->n_threads == 1) {
        pin_caller(t);
        for (uint32_t i = 0; i < n_items; i++) {
            fn(ctx, 0, i);
        }
        return;
    }
    struct item_job job = {.fn = fn, .ctx = ctx};
    team_items_init(&job.items, t, n_items);
    team_run(t, run_items, &job);
}
