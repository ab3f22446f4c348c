/* loop_work.c: jobs on libuv's worker pool, with a cap, cancel, and a share for slow ones.
 *
 * State of a job: waiting (slow, no slot) → queued (libuv has it) → done. A cancelled waiting job
 * goes to done through a deferred task, so that done never comes from inside loop_work_cancel. */
#include "net/loop_work.h"

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "base/assert.h"
#include "base/mem.h"

struct loop_work {
    uv_work_t uv;
    struct loop_works *ws;
    struct loop_job job;
    struct list_node node;   /* in ws->waiting */
    struct loop_task cancel; /* of a waiting job */
};

static void work_run(uv_work_t *uv)
{
    struct loop_work *w = uv->data;
    w->job.run(w->job.ctx);
}

static void work_finish(struct loop_work *w, enum rc rc)
{
    struct loop_job job = w->job;
    ASSERT(w->ws->n_open > 0);
    w->ws->n_open--;
    job.done(job.ctx, rc);
    mem_free(w);
}

static void work_done(uv_work_t *uv, int status);

static enum rc work_queue(struct loop_work *w)
{
    int r = uv_queue_work(loop_uv(w->ws->loop), &w->uv, work_run, work_done);
    if (r == 0 && w->job.slow) {
        w->ws->n_slow++;
    }
    return r == 0 ? RC_OK : RC_IO;
}

static void work_done(uv_work_t *uv, int status)
{
    struct loop_work *w = uv->data;
    struct loop_works *ws = w->ws;
    if (w->job.slow) {
        ASSERT(ws->n_slow > 0);
        ws->n_slow--;
        struct list_node *n = list_pop_front(&ws->waiting);
        if (n != NULL) {
            /* uv_queue_work fails only for a missing function. */
            enum rc rc = work_queue(LIST_ENTRY(n, struct loop_work, node));
            ASSERT(rc == RC_OK);
        }
    }
    work_finish(w, status == UV_ECANCELED ? RC_CANCELLED : RC_OK);
}

static void work_cancelled(void *ctx)
{
    work_finish(ctx, RC_CANCELLED);
}

RC loop_work_start(struct loop_work **out, struct loop *l, const struct loop_job *job,
                   struct err *err)
{
    struct loop_works *ws = loop_works(l);
    ASSERT(job->run != NULL && job->done != NULL);
    if (ws->n_open >= LOOP_WORKS_MAX) {
        return err_set(err, RC_OVERLOADED, "worker pool: %d jobs wait already", LOOP_WORKS_MAX);
    }
    struct loop_work *w = mem_try_zalloc(sizeof(*w));
    if (w == NULL) {
        return err_set(err, RC_NOMEM, "worker pool: out of memory");
    }
    w->ws = ws;
    w->job = *job;
    w->uv.data = w;
    loop_task_init(&w->cancel, work_cancelled, w);
    if (job->slow && ws->n_slow >= LOOP_WORKS_SLOW_MAX) {
        list_push_back(&ws->waiting, &w->node);
    } else if (work_queue(w) != RC_OK) {
        mem_free(w);
        return err_set(err, RC_IO, "worker pool: job refused");
    }
    ws->n_open++;
    if (out != NULL) {
        *out = w;
    }
    return RC_OK;
}

void loop_work_cancel(struct loop_work *w)
{
    if (list_is_linked(&w->cancel.node)) {
        return;
    }
    if (list_is_linked(&w->node)) {
        list_remove(&w->node);
        loop_defer(w->ws->loop, &w->cancel);
        return;
    }
    /* UV_EBUSY: it runs, and done tells so. */
    uv_cancel((uv_req_t *)&w->uv);
}

void loop_workers_for(uint32_t n_loops)
{
    char text[16];
    snprintf(text, sizeof(text), "%u", n_loops * LOOP_WORKS_SLOW_MAX + 2);
    if (n_loops > 1) { /* libuv's own default, 4, is what one loop needs */
        (void)setenv("UV_THREADPOOL_SIZE", text, 0);
    }
}

void loop_works_init(struct loop_works *ws, struct loop *l)
{
    *ws = (struct loop_works){.loop = l};
    list_init(&ws->waiting);
}

void loop_works_finish(struct loop_works *ws)
{
    LIST_EACH(&ws->waiting, n)
    {
        loop_work_cancel(LIST_ENTRY(n, struct loop_work, node));
    }
    while (ws->n_open > 0) {
        uv_run(loop_uv(ws->loop), UV_RUN_ONCE);
    }
}
