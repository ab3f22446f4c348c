/* process.h: child processes of a loop.
 *
 * Order of calls: process_start, then exactly one exit callback, after which the handle is gone.
 * The child inherits standard output and error; its standard input is empty, or a lifeline. */
#ifndef NET_PROCESS_H
#define NET_PROCESS_H

#include "base/err.h"

struct loop;
struct process;

struct process_conf {
    const char *path;        /* program; looked up in PATH when it has no '/' */
    const char *const *argv; /* NULL-terminated, argv[0] included */
    const char *const *env;  /* NULL-terminated "K=V"; NULL = the parent's */
    const char *dir;         /* working directory; NULL = the parent's */
    /* Standard input is a pipe whose other end dies with this process: the child that watches it
     * (process_watch_parent) learns of its parent's death, however that came. */
    bool lifeline;
};

struct process_exit {
    int64_t status; /* exit status; meaningless when signum != 0 */
    int signum;     /* signal that ended it, 0 = it exited */
};

typedef void (*process_exit_cb)(void *ctx, struct process_exit e);

/* Strings are borrowed during the call. RC_NOT_FOUND: no such program; RC_IO: the system refused
 * (out of processes or descriptors). */
RC process_start(struct process **out, struct loop *l, const struct process_conf *conf,
                 process_exit_cb cb, void *ctx, struct err *err);
/* Sends a signal; a child that has just died is not an error. */
void process_kill(struct process *p, int signum);
int process_pid(const struct process *p);
/* Gives the handle up without ending the child: no callback, its lifeline breaks. NULL is allowed.
 */
void process_forget(struct process *p);

/* In a child started with a lifeline: cb once when the parent is gone. Reads standard input.
 * Returns RC_INVALID when standard input is not a pipe. */
RC process_watch_parent(struct loop *l, void (*cb)(void *ctx), void *ctx, struct err *err);

#endif
