/* loop_work.h: bookkeeping of a loop's worker jobs, for loop.c; users see loop.h. */
#ifndef NET_LOOP_WORK_H
#define NET_LOOP_WORK_H

#include "net/loop.h"

struct loop_works {
    struct loop *loop;
    struct list waiting; /* slow jobs that wait for a slow slot */
    uint32_t n_open;     /* started, done not yet called */
    uint32_t n_slow;     /* slow jobs handed to libuv */
};

struct loop_works *loop_works(struct loop *l);
void loop_works_init(struct loop_works *ws, struct loop *l);
/* Cancels what has not begun, waits for the rest. */
void loop_works_finish(struct loop_works *ws);

#endif
