/* team.h: a pinned thread team for fork-join work inside one engine step.
 *
 * The calling thread is thread 0; the other n - 1 sleep, spin and work. Between two calls a worker
 * spins TEAM_SPIN_NS and then sleeps in the kernel, so that a running engine forks in well under a
 * microsecond and an idle one costs nothing. One thread at a time may call into a team.
 *
 * Results never depend on the number of threads or on who did what: an item is done once, whole,
 * by one thread. */
#ifndef ENGINE_CPU_TEAM_H
#define ENGINE_CPU_TEAM_H

#include <stdatomic.h>

#include "base/compiler.h"
#include "engine/tensor/backend.h"

enum { TEAM_THREADS_MAX = BACKEND_THREADS_MAX, TEAM_SPIN_NS = 40000 };

#define TEAM_ITEM_NONE UINT32_MAX

struct team;

/* n_threads: 0 = one per usable CPU, at most TEAM_THREADS_MAX. With `pin`, thread i is pinned to
 * CPU i * n_cpus / n_threads of the usable ones, unless there are more threads than CPUs; thread 0
 * is whoever calls team_run, pinned at its first call. */
RC team_create(struct team **out, uint32_t n_threads, bool pin, struct err *err);
/* Ends the workers. NULL is allowed. */
void team_destroy(struct team *t);
uint32_t team_n_threads(const struct team *t);

/* fn(ctx, thread) once on every thread, 0 ≤ thread < n_threads; returns when all have returned. */
typedef void (*team_fn)(void *ctx, uint32_t thread);
void team_run(struct team *t, team_fn fn, void *ctx);

/* Inside team_run, called by every thread the same number of times: none goes on before all have
 * come. What a thread wrote before is seen by all behind it. Spins TEAM_SPIN_NS, then sleeps. */
void team_barrier(struct team *t);

/* Items of one loop inside team_run, shared out: each thread has a contiguous three quarters of its
 * share to itself; the rest is taken one by one by whoever is free. Plain memory of the job,
 * made ready before the fork, or by one thread before a barrier. */
struct team_items {
    /* private */
    _Atomic uint32_t next ALIGNED(CACHE_LINE_BYTES);
    uint32_t n_items, n_own, n_threads;
};

void team_items_init(struct team_items *items, const struct team *t, uint32_t n_items);

static inline uint32_t team_items_count(const struct team_items *items)
{
    return items->n_items;
}

/* One thread's way through the items. Items are got in ascending order. */
struct team_cursor {
    /* private */
    struct team_items *items;
    uint32_t at, end;
};

struct team_cursor team_items_begin(struct team_items *items, uint32_t thread);
/* The next item that is this thread's; false when none is left. */
bool team_items_next(struct team_cursor *c, uint32_t *item);
/* What this thread will most likely get next, to prefetch it; TEAM_ITEM_NONE at the end. */
uint32_t team_items_guess(const struct team_cursor *c);

/* fn(ctx, thread, item) once for every item in [0, n_items), in a team_run of its own, shared out
 * as above. */
typedef void (*team_item_fn)(void *ctx, uint32_t thread, uint32_t item);
void team_for(struct team *t, uint32_t n_items, team_item_fn fn, void *ctx);

/* How often this team was forked, and met at a barrier, since it was made. */
struct team_counts {
    uint64_t n_forks, n_barriers;
};

struct team_counts team_counts(const struct team *t);

#endif
