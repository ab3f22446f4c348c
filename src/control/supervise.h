/* supervise.h: one model server process, kept alive.
 *
 *   start ──> STARTING ──/readyz 200──> READY
 *                ^  │ exit                │ exit, or no answer to /livez
 *                │  v                     v
 *                └─ BACKOFF <─────────────┘        stop ──> STOPPED
 *
 * All calls and callbacks are on the loop's thread. */
#ifndef CONTROL_SUPERVISE_H
#define CONTROL_SUPERVISE_H

#include "base/err.h"
#include "net/addr.h"

struct loop;
struct supervise;

enum {
    SUPERVISE_BACKOFF_MS_MIN = 200, /* doubles with each death … */
    SUPERVISE_BACKOFF_MS_MAX = 10000,
    SUPERVISE_HEALTHY_MS = 60000, /* … and starts over after so long without one */
    SUPERVISE_PROBE_MS = 100,     /* between readiness probes while starting */
    SUPERVISE_LIVE_MS = 5000,     /* between liveness probes, and the time an answer may take */
    SUPERVISE_MISSES_MAX = 3,     /* unanswered liveness probes: the process is killed */
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
    void (*on_state)(void *ctx, enum supervise_state state);
    /* The process refused to start (exited with a status) before it was ever ready: its own
     * message is on standard error, and trying again would not help. */
    void (*on_refused)(void *ctx, int status);
    void *ctx;
};

/* Starts the process. */
RC supervise_create(struct supervise **out, struct loop *l, const struct supervise_conf *conf,
                    struct err *err);
/* Asks the process to finish its work and end; on_state(SUPERVISE_STOPPED) follows. */
void supervise_stop(struct supervise *s);
/* Kills a process that still runs. NULL is allowed. */
void supervise_destroy(struct supervise *s);
enum supervise_state supervise_state(const struct supervise *s);
/* 0 when none runs. */
int supervise_pid(const struct supervise *s);

#endif
