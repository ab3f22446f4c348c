/* supervise.h: one model server process, kept alive.
 *
 *              /readyz 200 ──> READY
 *   start ──> STARTING <──────── │ another answer (it drains)
 *                ^  │            │
 *                │  │ exit, or silence: killed
 *                │  v            v
 *                └─ BACKOFF <────┘                 stop ──> STOPPED
 *
 * All calls and callbacks are on the loop's thread; no callback comes inside a call. */
#ifndef CONTROL_SUPERVISE_H
#define CONTROL_SUPERVISE_H

#include "base/err.h"
#include "net/addr.h"

struct loop;
struct supervise;

/* Limits; a zero field of supervise_conf takes the default. */
enum {
    SUPERVISE_BACKOFF_MS_MIN = 200, /* doubles with each death … */
    SUPERVISE_BACKOFF_MS_MAX = 10000,
    SUPERVISE_HEALTHY_MS = 60000, /* … and starts over after so long without one */
    SUPERVISE_PROBE_MS = 100,     /* between probes while starting */
    SUPERVISE_LIVE_MS = 5000,     /* between probes when ready; an answer may take half of it */
    SUPERVISE_SILENT_MS = 15000,  /* no answer to any probe: the process is killed … */
    SUPERVISE_MISSES_MIN = 2,     /* … when so many were sent: this process may have slept */
    SUPERVISE_STOP_MS = 35000,    /* SIGTERM to SIGKILL */
};

enum supervise_state {
    SUPERVISE_STARTING,
    SUPERVISE_READY,
    SUPERVISE_BACKOFF,
    SUPERVISE_STOPPED,
};

struct supervise_conf {
    const char *const *argv; /* NULL-terminated; must live as long as the supervisor */
    struct addr addr;        /* where the process will listen */
    uint64_t backoff_ms_min, backoff_ms_max, healthy_ms, probe_ms, live_ms, silent_ms, stop_ms;
    void (*on_state)(void *ctx, enum supervise_state state);
    /* The process refused to start (exited with a status) before it was ever ready: its own
     * message is on standard error, and trying again would not help. */
    void (*on_refused)(void *ctx, int status);
    void *ctx;
};

/* Starts the process: the state is STARTING. */
RC supervise_create(struct supervise **out, struct loop *l, const struct supervise_conf *conf,
                    struct err *err);
/* Asks the process to finish its work and end; on_state(SUPERVISE_STOPPED) follows, unless that is
 * its state already. */
void supervise_stop(struct supervise *s);
/* Kills a process that still runs. NULL is allowed. */
void supervise_destroy(struct supervise *s);
enum supervise_state supervise_state(const struct supervise *s);
/* 0 when none runs. */
int supervise_pid(const struct supervise *s);

#endif
