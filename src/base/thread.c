/* thread.c: pthreads with names and affinity. */
#include "base/thread.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The largest CPU number a cpu_set_t can hold. */
enum { THREAD_CPU_MAX = CPU_SETSIZE };

bool thread_pin_self(int cpu)
{
    if (cpu < 0 || cpu >= THREAD_CPU_MAX) {
        return false;
    }
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return pthread_setaffinity_np(pthread_self(), sizeof(set), &set) == 0;
}

static void *thread_main(void *arg)
{
    struct thread *t = arg;
    pthread_setname_np(pthread_self(), t->name);
    if (t->cpu >= 0) {
        (void)thread_pin_self(t->cpu);
    }
    t->run(t->arg);
    return NULL;
}

enum rc thread_start(struct thread *t, const char *name, int cpu, void (*run)(void *arg), void *arg)
{
    *t = (struct thread){.run = run, .arg = arg, .cpu = cpu};
    snprintf(t->name, sizeof(t->name), "%s", name);
    /* Signals are the main thread's: a new thread inherits a mask that blocks them all. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&t->handle, NULL, thread_main, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed != 0) {
        return RC_NOMEM;
    }
    t->started = true;
    return RC_OK;
}

void thread_join(struct thread *t)
{
    if (t->started) {
        pthread_join(t->handle, NULL);
        t->started = false;
    }
}

void thread_yield_to_others(void)
{
    /* A batch thread that wakes waits for the end of the others' turn; its weight is that of
     * nice 10. */
    const struct sched_param none = {0};
    (void)!sched_setscheduler(0, SCHED_BATCH, &none);
    (void)!setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10);
}

uint32_t thread_cpus(int *cpus, uint32_t n_max)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        if (n_max > 0) {
            cpus[0] = 0;
        }
        return 1;
    }
    uint32_t n = 0;
    for (int cpu = 0; cpu < THREAD_CPU_MAX; cpu++) {
        if (CPU_ISSET((size_t)cpu, &set)) {
            if (n < n_max) {
                cpus[n] = cpu;
            }
            n++;
        }
    }
    return n;
}
