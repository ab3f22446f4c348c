/* loop.c: one libuv loop with our own timers, deferred tasks, posts, wake-ups and signals.
 *
 * Timers are a binary heap of embedded nodes over one uv_timer_t, so that an object with a
 * deadline needs no close callback of its own. Deferred and reclaim tasks run from a prepare and a
 * check handle, that is after timers and after sockets, with nothing of ours on the stack below;
 * an idle handle keeps poll from sleeping while tasks wait.
 *
 * Invariants
 * 1. heap[0] is due first; heap[t->heap_pos - 1] == t for every armed timer.
 * 2. The idle handle runs exactly while a task list is not empty at the end of a phase.
 * 3. Posts are the only state shared between threads, under `lock`.
 *
 * Not here: worker jobs (loop_work.c). */
#include "net/loop.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <uv.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/loop_work.h"

struct loop_post {
    void (*fn)(void *ctx);
    void *ctx;
};

struct loop_watch {
    uv_signal_t uv;
    void (*cb)(void *ctx, int signum);
    void *ctx;
};

struct loop {
    uv_loop_t uv;
    uv_timer_t timer;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    uv_async_t async; /* posts and stop */
    const struct clock *clock;
    struct loop_works works;

    struct loop_timer **heap;
    uint32_t n_heap, heap_size;

    struct list deferred, reclaimed, at_destroy;

    atomic_bool stop;
    pthread_mutex_t lock;
    struct loop_post *posts; /* ring of LOOP_POSTS_MAX, under lock */
    uint32_t post_head, n_posts;

    struct loop_watch watches[LOOP_SIGNALS_MAX];
    uint32_t n_watches;

    char scratch[LOOP_SCRATCH_BYTES], scratch_plain[LOOP_SCRATCH_BYTES];
};

const struct clock *loop_clock(const struct loop *l)
{
    return l->clock;
}

uint64_t loop_now_ms(const struct loop *l)
{
    return uv_now(&l->uv);
}

struct uv_loop_s *loop_uv(struct loop *l)
{
    return &l->uv;
}

char *loop_scratch(struct loop *l)
{
    return l->scratch;
}

char *loop_scratch_plain(struct loop *l)
{
    return l->scratch_plain;
}

struct loop_works *loop_works(struct loop *l)
{
    return &l->works;
}

/* --- timers ------------------------------------------------------------------------------- */

static void heap_place(struct loop *l, uint32_t i, struct loop_timer *t)
{
    l->heap[i] = t;
    t->heap_pos = i + 1;
}

static void heap_up(struct loop *l, uint32_t i, struct loop_timer *t)
{
    while (i > 0 && t->due_ms < l->heap[(i - 1) / 2]->due_ms) {
        heap_place(l, i, l->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_place(l, i, t);
}

static void heap_down(struct loop *l, uint32_t i, struct loop_timer *t)
{
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= l->n_heap) {
            break;
        }
        if (child + 1 < l->n_heap && l->heap[child + 1]->due_ms < l->heap[child]->due_ms) {
            child++;
        }
        if (t->due_ms <= l->heap[child]->due_ms) {
            break;
        }
        heap_place(l, i, l->heap[child]);
        i = child;
    }
    heap_place(l, i, t);
}

void loop_timer_init(struct loop_timer *t, struct loop *l, void (*cb)(void *ctx), void *ctx)
{
    ASSERT(cb != NULL);
    *t = (struct loop_timer){.loop = l, .cb = cb, .ctx = ctx};
}

void loop_timer_stop(struct loop_timer *t)
{
    if (t->heap_pos == 0) {
        return;
    }
    struct loop *l = t->loop;
    uint32_t i = t->heap_pos - 1;
    ASSERT(i < l->n_heap && l->heap[i] == t);
    t->heap_pos = 0;
    struct loop_timer *last = l->heap[--l->n_heap];
    if (last != t) {
        if (i > 0 && last->due_ms < l->heap[(i - 1) / 2]->due_ms) {
            heap_up(l, i, last);
        } else {
            heap_down(l, i, last);
        }
    }
}

void loop_timer_start(struct loop_timer *t, uint64_t after_ms)
{
    struct loop *l = t->loop;
    loop_timer_stop(t);
    uint64_t now = uv_now(&l->uv);
    t->due_ms = after_ms > UINT64_MAX - now ? UINT64_MAX : now + after_ms;
    if (l->n_heap == l->heap_size) {
        l->heap_size = MAX(64u, l->heap_size * 2);
        l->heap = mem_realloc(l->heap, l->heap_size * sizeof(l->heap[0]));
    }
    heap_up(l, l->n_heap++, t);
}

static void timer_fired(uv_timer_t *uv)
{
    struct loop *l = uv->data;
    uint64_t now = uv_now(&l->uv);
    /* A timer that starts itself again with 0 ms must not hold the loop: each gets one go. */
    uint32_t n_max = l->n_heap;
    for (uint32_t n = 0; n < n_max && l->n_heap > 0 && l->heap[0]->due_ms <= now; n++) {
        struct loop_timer *t = l->heap[0];
        loop_timer_stop(t);
        t->cb(t->ctx);
    }
}

/* Before poll, so that many starts and stops in a turn cost one change of the system's timer. */
static void timer_arm(struct loop *l)
{
    if (l->n_heap == 0) {
        uv_timer_stop(&l->timer);
        return;
    }
    uint64_t now = uv_now(&l->uv);
    uint64_t due = l->heap[0]->due_ms;
    uv_timer_start(&l->timer, timer_fired, due > now ? due - now : 0, 0);
}

/* --- deferred and reclaim tasks ----------------------------------------------------------- */

void loop_task_init(struct loop_task *t, void (*cb)(void *ctx), void *ctx)
{
    ASSERT(cb != NULL);
    *t = (struct loop_task){.cb = cb, .ctx = ctx};
}

void loop_defer(struct loop *l, struct loop_task *t)
{
    if (!list_is_linked(&t->node)) {
        list_push_back(&l->deferred, &t->node);
    }
}

void loop_reclaim(struct loop *l, struct loop_task *t)
{
    ASSERT(!list_is_linked(&t->node));
    list_push_back(&l->reclaimed, &t->node);
}

void loop_at_destroy(struct loop *l, struct loop_task *t)
{
    ASSERT(!list_is_linked(&t->node));
    list_push_back(&l->at_destroy, &t->node);
}

void loop_task_cancel(struct loop_task *t)
{
    if (list_is_linked(&t->node)) {
        list_remove(&t->node);
    }
}

/* Runs what waits now; what these tasks add waits for the next round. */
static void tasks_run(struct list *tasks)
{
    struct loop_task fence = {0};
    list_push_back(tasks, &fence.node);
    for (;;) {
        struct list_node *n = list_pop_front(tasks);
        if (n == &fence.node) {
            return;
        }
        struct loop_task *t = LIST_ENTRY(n, struct loop_task, node);
        t->cb(t->ctx);
    }
}

static bool tasks_wait(const struct loop *l)
{
    return !list_is_empty(&l->deferred) || !list_is_empty(&l->reclaimed);
}

static void idle_turned(uv_idle_t *uv)
{
    UNUSED(uv);
}

static void phase_end(struct loop *l)
{
    if (tasks_wait(l)) {
        tasks_run(&l->deferred);
        tasks_run(&l->reclaimed);
    }
    if (tasks_wait(l)) {
        uv_idle_start(&l->idle, idle_turned);
    } else {
        uv_idle_stop(&l->idle);
    }
}

static void prepare_turned(uv_prepare_t *uv)
{
    struct loop *l = uv->data;
    phase_end(l);
    timer_arm(l);
}

static void check_turned(uv_check_t *uv)
{
    phase_end(uv->data);
}

/* --- posts, wake-ups, signals ------------------------------------------------------------- */

RC loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&l->lock);
    bool full = l->n_posts == LOOP_POSTS_MAX;
    if (!full) {
        l->posts[(l->post_head + l->n_posts) % LOOP_POSTS_MAX] = (struct loop_post){fn, ctx};
        l->n_posts++;
    }
    pthread_mutex_unlock(&l->lock);
    if (full) {
        return RC_OVERLOADED;
    }
    uv_async_send(&l->async);
    return RC_OK;
}

static bool post_take(struct loop *l, struct loop_post *out)
{
    pthread_mutex_lock(&l->lock);
    bool any = l->n_posts > 0;
    if (any) {
        *out = l->posts[l->post_head];
        l->post_head = (l->post_head + 1) % LOOP_POSTS_MAX;
        l->n_posts--;
    }
    pthread_mutex_unlock(&l->lock);
    return any;
}

static void async_arrived(uv_async_t *uv)
{
    struct loop *l = uv->data;
    struct loop_post post;
    /* A bounded share of the turn; a busy poster is served again in the next. */
    for (uint32_t n = 0; n < LOOP_POSTS_MAX; n++) {
        if (!post_take(l, &post)) {
            break;
        }
        post.fn(post.ctx);
    }
    pthread_mutex_lock(&l->lock);
    bool more = l->n_posts > 0;
    pthread_mutex_unlock(&l->lock);
    if (more) {
        uv_async_send(&l->async);
    }
    if (atomic_load(&l->stop)) {
        uv_stop(&l->uv);
    }
}

struct loop_wake {
    uv_async_t uv;
    struct loop *loop;
    void (*cb)(void *ctx);
    void *ctx;
};

static void wake_arrived(uv_async_t *uv)
{
    struct loop_wake *w = uv->data;
    w->cb(w->ctx);
}

static void wake_closed(uv_handle_t *uv)
{
    mem_free(uv->data);
}

RC loop_wake_create(struct loop_wake **out, struct loop *l, void (*cb)(void *ctx), void *ctx,
                    struct err *err)
{
    struct loop_wake *w = mem_zalloc(sizeof(*w));
    *w = (struct loop_wake){.loop = l, .cb = cb, .ctx = ctx};
    int r = uv_async_init(&l->uv, &w->uv, wake_arrived);
    if (r != 0) {
        mem_free(w);
        return err_set(err, RC_IO, "wake-up: %s", uv_strerror(r));
    }
    w->uv.data = w;
    *out = w;
    return RC_OK;
}

void loop_wake_destroy(struct loop_wake *w)
{
    if (w != NULL) {
        uv_close((uv_handle_t *)&w->uv, wake_closed);
    }
}

void loop_wake_send(struct loop_wake *w)
{
    uv_async_send(&w->uv);
}

static void signal_arrived(uv_signal_t *uv, int signum)
{
    struct loop_watch *w = uv->data;
    w->cb(w->ctx, signum);
}

RC loop_signal(struct loop *l, int signum, void (*cb)(void *ctx, int signum), void *ctx,
               struct err *err)
{
    ASSERT(l->n_watches < LOOP_SIGNALS_MAX);
    struct loop_watch *w = &l->watches[l->n_watches];
    *w = (struct loop_watch){.cb = cb, .ctx = ctx};
    int r = uv_signal_init(&l->uv, &w->uv);
    if (r != 0) {
        return err_set(err, RC_IO, "signal %d: %s", signum, uv_strerror(r));
    }
    l->n_watches++;
    w->uv.data = w;
    r = uv_signal_start(&w->uv, signal_arrived, signum);
    if (r != 0) {
        return err_set(err, RC_INVALID, "signal %d: %s", signum, uv_strerror(r));
    }
    return RC_OK;
}

/* --- life --------------------------------------------------------------------------------- */

static int handles_init(struct loop *l)
{
    int r = uv_timer_init(&l->uv, &l->timer);
    r = r != 0 ? r : uv_prepare_init(&l->uv, &l->prepare);
    r = r != 0 ? r : uv_check_init(&l->uv, &l->check);
    r = r != 0 ? r : uv_idle_init(&l->uv, &l->idle);
    r = r != 0 ? r : uv_async_init(&l->uv, &l->async, async_arrived);
    if (r == 0) {
        l->timer.data = l->prepare.data = l->check.data = l->async.data = l;
        uv_prepare_start(&l->prepare, prepare_turned);
        uv_check_start(&l->check, check_turned);
    }
    return r;
}

static void close_handle(uv_handle_t *h, void *arg)
{
    UNUSED(arg);
    if (!uv_is_closing(h)) {
        uv_close(h, NULL);
    }
}

static void close_uv(struct loop *l)
{
    uv_walk(&l->uv, close_handle, NULL);
    uv_run(&l->uv, UV_RUN_DEFAULT);
    int r = uv_loop_close(&l->uv);
    ASSERT(r == 0);
}

RC loop_create(struct loop **out, const struct clock *clock, struct err *err)
{
    struct loop *l = mem_zalloc(sizeof(*l));
    l->clock = clock;
    list_init(&l->deferred);
    list_init(&l->reclaimed);
    list_init(&l->at_destroy);
    /* A peer that is gone is an error of write, not a signal: libuv writes to pipes without
     * MSG_NOSIGNAL. Children get the default back from uv_spawn. */
    signal(SIGPIPE, SIG_IGN);
    int r = uv_loop_init(&l->uv);
    if (r != 0) {
        mem_free(l);
        return err_set(err, RC_IO, "event loop: %s", uv_strerror(r));
    }
    r = handles_init(l);
    if (r != 0) {
        close_uv(l);
        mem_free(l);
        return err_set(err, RC_IO, "event loop: %s", uv_strerror(r));
    }
    loop_works_init(&l->works, l);
    pthread_mutex_init(&l->lock, NULL);
    l->posts = mem_zalloc_array(LOOP_POSTS_MAX, sizeof(l->posts[0]));
    *out = l;
    return RC_OK;
}

static void count_foreign(uv_handle_t *h, void *arg)
{
    *(uint32_t *)arg += uv_is_closing(h) ? 0 : 1;
}

/* Turns without waiting until tasks and closing handles are through. */
static void settle(struct loop *l)
{
    while (tasks_wait(l)) {
        uv_run(&l->uv, UV_RUN_NOWAIT);
    }
    uv_run(&l->uv, UV_RUN_NOWAIT);
    while (tasks_wait(l)) {
        uv_run(&l->uv, UV_RUN_NOWAIT);
    }
}

void loop_destroy(struct loop *l)
{
    if (l == NULL) {
        return;
    }
    tasks_run(&l->at_destroy);
    loop_works_finish(&l->works);
    settle(l);
    uint32_t n_own = 5 + l->n_watches, n_open = 0;
    uv_walk(&l->uv, count_foreign, &n_open);
    ASSERT(n_open <= n_own); /* somebody's connection, listener, wake-up or process still lives */
    ASSERT(l->n_heap == 0);  /* somebody's timer still runs */
    close_uv(l);
    pthread_mutex_destroy(&l->lock);
    mem_free(l->posts);
    mem_free(l->heap);
    mem_free(l);
}

void loop_run(struct loop *l)
{
    while (!atomic_load(&l->stop)) {
        uv_run(&l->uv, UV_RUN_DEFAULT);
    }
    atomic_store(&l->stop, false);
}

void loop_stop(struct loop *l)
{
    atomic_store(&l->stop, true);
    uv_async_send(&l->async);
}
