/* thread.h: named threads that can be pinned to a CPU. */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>

#include "base/err.h"

struct thread {
    /* private */
    pthread_t handle;
    void (*run)(void *arg);
    void *arg;
    char name[16];
    int cpu;
    bool started;
};

/* Runs run(arg) on a new thread called `name` (15 characters are kept). cpu >= 0 pins it there;
 * a refused pin is ignored, since it costs speed only. *t must stay in place until joined. */
RC thread_start(struct thread *t, const char *name, int cpu, void (*run)(void *arg), void *arg);
/* Waits for the end. Does nothing when never started; may be called twice. */
void thread_join(struct thread *t);
/* Pins the calling thread; false when the system refuses. */
bool thread_pin_self(int cpu);
/* The calling thread works when others leave time: it does not take a core from one that is at
 * work, and has a tenth of it where there is never any left. Refused is ignored: it costs speed
 * only. */
void thread_yield_to_others(void);
/* The CPUs this process may use, ascending; returns how many there are, writes at most n_max. */
uint32_t thread_cpus(int *cpus, uint32_t n_max);

#endif
