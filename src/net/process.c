/* process.c: children by uv_spawn; a lifeline pipe tells a child that its parent is gone.
 *
 * The parent holds the only write end of the lifeline, close-on-exec; the kernel closes it however
 * the parent ends, and the child reads end of file. PR_SET_PDEATHSIG would do less: it follows the
 * thread that forked. */
#include "net/process.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/loop.h"

struct process {
    uv_process_t uv;
    process_exit_cb cb; /* NULL once forgotten */
    void *ctx;
    int lifeline_fd; /* write end; -1 = none */
};

static void process_closed(uv_handle_t *h)
{
    struct process *p = h->data;
    if (p->lifeline_fd >= 0) {
        close(p->lifeline_fd);
    }
    mem_free(p);
}

static void process_exited(uv_process_t *uv, int64_t status, int signum)
{
    struct process *p = uv->data;
    process_exit_cb cb = p->cb;
    p->cb = NULL;
    if (!uv_is_closing((uv_handle_t *)uv)) {
        uv_close((uv_handle_t *)uv, process_closed);
    }
    if (cb != NULL) {
        cb(p->ctx, (struct process_exit){.status = status, .signum = signum});
    }
}

/* uv_spawn takes arrays of pointers to modifiable strings and modifies none. */
static void spawn_options(uv_process_options_t *o, const struct process_conf *conf,
                          uv_stdio_container_t stdio[3])
{
    stdio[0].flags = UV_IGNORE;
    stdio[1] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = 1};
    stdio[2] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = 2};
    o->file = conf->path;
    o->args = (char **)(uintptr_t)conf->argv;
    o->env = (char **)(uintptr_t)conf->env;
    o->cwd = conf->dir;
    o->exit_cb = process_exited;
    o->stdio = stdio;
    o->stdio_count = 3;
}

RC process_start(struct process **out, struct loop *l, const struct process_conf *conf,
                 process_exit_cb cb, void *ctx, struct err *err)
{
    ASSERT(conf->path != NULL && conf->argv != NULL && cb != NULL);
    int fds[2] = {-1, -1};
    if (conf->lifeline && pipe2(fds, O_CLOEXEC) != 0) {
        return err_set(err, RC_IO, "%s: pipe: %s", conf->path, strerror(errno));
    }
    struct process *p = mem_zalloc(sizeof(*p));
    *p = (struct process){.cb = cb, .ctx = ctx, .lifeline_fd = fds[1]};
    uv_stdio_container_t stdio[3];
    uv_process_options_t o = {0};
    spawn_options(&o, conf, stdio);
    if (conf->lifeline) {
        stdio[0] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = fds[0]};
    }
    int r = uv_spawn(loop_uv(l), &p->uv, &o);
    p->uv.data = p;
    if (fds[0] >= 0) {
        close(fds[0]);
    }
    if (r != 0) {
        p->cb = NULL;
        uv_close((uv_handle_t *)&p->uv, process_closed);
        return err_set(err, r == UV_ENOENT ? RC_NOT_FOUND : RC_IO, "%s: cannot start: %s",
                       conf->path, uv_strerror(r));
    }
    *out = p;
    return RC_OK;
}

void process_kill(struct process *p, int signum)
{
    uv_process_kill(&p->uv, signum);
}

int process_pid(const struct process *p)
{
    return uv_process_get_pid(&p->uv);
}

void process_forget(struct process *p)
{
    if (p != NULL) {
        p->cb = NULL;
        uv_close((uv_handle_t *)&p->uv, process_closed);
    }
}

/* --- the child's side --------------------------------------------------------------------- */

struct process_watch {
    uv_pipe_t pipe;
    struct loop_task at_destroy;
    void (*cb)(void *ctx); /* NULL once called */
    void *ctx;
    char sink[64];
};

static void watch_closed(uv_handle_t *h)
{
    mem_free(h->data);
}

static void watch_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    UNUSED(suggested);
    struct process_watch *w = h->data;
    *buf = uv_buf_init(w->sink, sizeof(w->sink));
}

static void watch_end(void *ctx)
{
    struct process_watch *w = ctx;
    uv_close((uv_handle_t *)&w->pipe, watch_closed);
}

static void watch_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    UNUSED(buf);
    struct process_watch *w = s->data;
    if (n < 0 && w->cb != NULL) {
        void (*cb)(void *) = w->cb;
        w->cb = NULL;
        uv_read_stop(s);
        cb(w->ctx);
    }
}

RC process_watch_parent(struct loop *l, void (*cb)(void *ctx), void *ctx, struct err *err)
{
    struct stat st;
    if (fstat(STDIN_FILENO, &st) != 0 || !S_ISFIFO(st.st_mode)) {
        return err_set(err, RC_INVALID, "standard input is not a pipe from a parent");
    }
    struct process_watch *w = mem_zalloc(sizeof(*w));
    w->cb = cb;
    w->ctx = ctx;
    uv_pipe_init(loop_uv(l), &w->pipe, 0);
    w->pipe.data = w;
    int r = uv_pipe_open(&w->pipe, STDIN_FILENO);
    r = r != 0 ? r : uv_read_start((uv_stream_t *)&w->pipe, watch_alloc, watch_read);
    if (r != 0) {
        uv_close((uv_handle_t *)&w->pipe, watch_closed);
        return err_set(err, RC_IO, "watching the parent: %s", uv_strerror(r));
    }
    loop_task_init(&w->at_destroy, watch_end, w);
    loop_at_destroy(l, &w->at_destroy);
    return RC_OK;
}
