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

#include "engine/tensor/backend.h"

enum { TEAM_THREADS_MAX = BACKEND_THREADS_MAX, TEAM_SPIN_NS = 40000 };

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

/* fn(ctx, thread, item) once for every item in [0, n_items). Each thread has a contiguous three
 * quarters of its share to itself; the rest is taken one by one by whoever is free. */
typedef void (*team_item_fn)(void *ctx, uint32_t thread, uint32_t item);
void team_for(struct team *t, uint32_t n_items, team_item_fn fn, void *ctx);

#endif
