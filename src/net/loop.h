/* loop.h: one event loop per thread, with its timers, deferred tasks, posts and worker jobs.
 *
 * Everything here belongs to the loop's thread, except loop_post, loop_wake_send and loop_stop.
 * A loop turn: timers, posts and sockets (callbacks note what happened), then deferred tasks, then
 * reclaim tasks, which free what died in this turn.
 *
 * Order of calls: loop_create, start things, loop_run (returns after loop_stop), destroy the
 * things, loop_destroy. */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"

/* Limits. */
enum {
    LOOP_POSTS_MAX = 4096,   /* waiting posts; past it loop_post refuses */
    LOOP_WORKS_MAX = 1024,   /* jobs queued or running; past it loop_work_start refuses */
    LOOP_WORKS_SLOW_MAX = 2, /* slow jobs of a loop running at once; others wait */
    LOOP_SIGNALS_MAX = 8,    /* watched signals; more is a programmer's mistake */
};

struct loop;
struct uv_loop_s;

/* `clock` is what loop_clock hands to others; timers themselves run on the system's time. */
RC loop_create(struct loop **out, const struct clock *clock, struct err *err);
/* After loop_run. Waits for running jobs, runs their done functions and the remaining deferred and
 * reclaim tasks. Whoever started a connection, listener or process has ended or destroyed it
 * before: one that still lives is a programmer's mistake. NULL is allowed. */
void loop_destroy(struct loop *l);
/* Turns until loop_stop. May be called again afterwards. */
void loop_run(struct loop *l);
/* Any thread; a stop before loop_run makes that run return at once. */
void loop_stop(struct loop *l);

const struct clock *loop_clock(const struct loop *l);
/* Monotonic milliseconds, read once per turn. */
uint64_t loop_now_ms(const struct loop *l);
/* For the other files of net: the libuv loop, and its one buffer for reading (used between libuv's
 * allocation and read callbacks only). */
struct uv_loop_s *loop_uv(struct loop *l);
#define LOOP_SCRATCH_BYTES (64u << 10)
char *loop_scratch(struct loop *l);
/* A second one of that size, for what is opened out of the first. */
char *loop_scratch_plain(struct loop *l);

/* --- timers: embedded, no allocation; stop before the holder dies --- */

struct loop_timer {
    /* private */
    struct loop *loop;
    void (*cb)(void *ctx);
    void *ctx;
    uint64_t due_ms;
    uint32_t heap_pos; /* 1-based; 0 = not armed */
};

void loop_timer_init(struct loop_timer *t, struct loop *l, void (*cb)(void *ctx), void *ctx);
/* One shot, in `after_ms` from now, to the millisecond. Starting again moves it. O(log n). */
void loop_timer_start(struct loop_timer *t, uint64_t after_ms);
/* Fine when not armed, or on a zeroed timer. */
void loop_timer_stop(struct loop_timer *t);
static inline bool loop_timer_is_armed(const struct loop_timer *t)
{
    return t->heap_pos != 0;
}

/* --- deferred tasks: embedded, run once at the end of this turn --- */

struct loop_task {
    /* private */
    struct list_node node;
    void (*cb)(void *ctx);
    void *ctx;
};

void loop_task_init(struct loop_task *t, void (*cb)(void *ctx), void *ctx);
/* Does nothing when it already waits. */
void loop_defer(struct loop *l, struct loop_task *t);
/* Fine when it does not wait. */
void loop_task_cancel(struct loop_task *t);
/* As loop_defer, after every deferred task: for giving memory back. */
void loop_reclaim(struct loop *l, struct loop_task *t);
/* Runs at the beginning of loop_destroy: for what lives as long as the loop. */
void loop_at_destroy(struct loop *l, struct loop_task *t);

/* --- from other threads --- */

/* Any thread. Runs fn(ctx) on the loop's thread, in order of posting. RC_OVERLOADED at
 * LOOP_POSTS_MAX: nothing was queued. */
RC loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx);

/* A wake-up for the reader of a ring: any number of sends gives at least one callback after the
 * last of them; it never fails and never allocates. */
struct loop_wake;
RC loop_wake_create(struct loop_wake **out, struct loop *l, void (*cb)(void *ctx), void *ctx,
                    struct err *err);
/* No callback after this. No thread may be sending any more. NULL is allowed. */
void loop_wake_destroy(struct loop_wake *w);
/* Any thread. */
void loop_wake_send(struct loop_wake *w);

/* --- worker jobs --- */

struct loop_job {
    void (*run)(void *ctx);              /* on a worker thread */
    void (*done)(void *ctx, enum rc rc); /* on the loop: RC_OK = run has returned, RC_CANCELLED =
                                            it never ran; exactly once */
    void *ctx;
    bool slow; /* may take longer than a few milliseconds (loading, SQL dumps) */
};

struct loop_work;
/* *out (may be NULL) is valid until done is called. RC_OVERLOADED at LOOP_WORKS_MAX. */
RC loop_work_start(struct loop_work **out, struct loop *l, const struct loop_job *job,
                   struct err *err);
/* A job that has not begun never runs; one that runs, runs to its end. done comes either way. */
void loop_work_cancel(struct loop_work *w);

/* Sizes the process's pool of workers for so many loops, unless the environment has said how many:
 * slow jobs of all loops leave two for others. Before the first job, and before any thread. */
void loop_workers_for(uint32_t n_loops);

/* --- signals --- */

/* Calls cb on the loop whenever `signum` arrives, until loop_destroy. */
RC loop_signal(struct loop *l, int signum, void (*cb)(void *ctx, int signum), void *ctx,
               struct err *err);

#endif
