/* supervise.c: see the picture in supervise.h. Probes are plain HTTP over the same socket that
 * requests use, so that "ready" means what a request will meet. */
#include "control/supervise.h"

#include <signal.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/http_client.h"
#include "net/loop.h"
#include "net/process.h"
#include "obs/log.h"
#include "obs/metric.h"

struct supervise {
    struct loop *loop;
    struct supervise_conf conf;
    struct http_pool *pool;
    struct process *process; /* NULL while none runs */
    struct http_call *probe; /* NULL while none is under way */
    struct loop_timer timer; /* next probe, next start, or the end of patience */
    struct loop_task reclaim;
    enum supervise_state state;
    uint64_t backoff_ms;
    uint64_t ready_at_ms; /* when this process was first ready; 0 = not yet */
    uint64_t heard_at_ms; /* when it was started, or last answered a probe */
    uint32_t n_misses;    /* probes without an answer since then */
    bool was_ready;       /* some process of ours was */
    bool stopping, destroyed;
};

/* The process has started, or shown that it lives. */
static void supervise_heard(struct supervise *s)
{
    s->heard_at_ms = loop_now_ms(s->loop);
    s->n_misses = 0;
}

static void supervise_set(struct supervise *s, enum supervise_state state)
{
    if (s->state == state) {
        return;
    }
    s->state = state;
    if (!s->destroyed) {
        s->conf.on_state(s->conf.ctx, state);
    }
}

/* ---- the process ---- */

static void supervise_back_off(struct supervise *s)
{
    const struct supervise_conf *c = &s->conf;
    bool was_healthy =
        s->ready_at_ms != 0 && loop_now_ms(s->loop) - s->ready_at_ms >= c->healthy_ms;
    s->backoff_ms = was_healthy || s->backoff_ms == 0 ? c->backoff_ms_min
                                                      : MIN(s->backoff_ms * 2, c->backoff_ms_max);
    supervise_set(s, SUPERVISE_BACKOFF);
    loop_timer_start(&s->timer, s->backoff_ms);
}

static void supervise_on_exit(void *ctx, struct process_exit e)
{
    struct supervise *s = ctx;
    s->process = NULL;
    http_pool_flush(s->pool);
    if (s->stopping) {
        loop_timer_stop(&s->timer);
        supervise_set(s, SUPERVISE_STOPPED);
        return;
    }
    log_event(LOG_CHILD_EXIT, log_i64(LOG_KEY_EXIT_CODE, e.status), log_i64("signal", e.signum));
    if (!s->was_ready && e.signum == 0 && e.status != 0) {
        loop_timer_stop(&s->timer);
        s->stopping = true;
        supervise_set(s, SUPERVISE_STOPPED);
        s->conf.on_refused(s->conf.ctx, (int)e.status);
        return;
    }
    metric_add(metric_get(METRIC_SERVER_RESTARTS), 1);
    supervise_back_off(s);
}

static enum rc supervise_start(struct supervise *s, struct err *err)
{
    struct process_conf conf = {.path = s->conf.argv[0], .argv = s->conf.argv, .lifeline = true};
    enum rc rc = process_start(&s->process, s->loop, &conf, supervise_on_exit, s, err);
    if (rc != RC_OK) {
        return rc;
    }
    log_event(LOG_CHILD_START, log_i64(LOG_KEY_PID, process_pid(s->process)));
    s->ready_at_ms = 0;
    supervise_heard(s);
    supervise_set(s, SUPERVISE_STARTING);
    loop_timer_start(&s->timer, s->conf.probe_ms);
    return RC_OK;
}

/* ---- probes ---- */

/* Any answer shows that the process lives; what it says, whether it takes requests. */
static void supervise_probe_head(void *ctx, const struct http_head *head)
{
    struct supervise *s = ctx;
    if (s->destroyed || s->stopping || s->process == NULL) {
        return;
    }
    supervise_heard(s);
    if (head->status != 200) {
        supervise_set(s, SUPERVISE_STARTING);
        return;
    }
    if (s->ready_at_ms == 0) {
        log_event(LOG_CHILD_READY, log_i64(LOG_KEY_PID, process_pid(s->process)));
        s->ready_at_ms = loop_now_ms(s->loop);
    }
    s->was_ready = true;
    supervise_set(s, SUPERVISE_READY);
}

static void supervise_probe_body(void *ctx, struct str bytes)
{
    UNUSED(ctx);
    UNUSED(bytes);
}

static void supervise_probe_end(void *ctx, const struct http_call_result *r)
{
    struct supervise *s = ctx;
    s->probe = NULL;
    s->n_misses += r->head_seen ? 0 : 1;
}

static void supervise_send_probe(struct supervise *s)
{
    static const struct http_client_events events = {
        .on_head = supervise_probe_head,
        .on_body = supervise_probe_body,
        .on_end = supervise_probe_end,
    };
    struct http_client_conf conf = {
        .method = HTTP_METHOD_GET,
        .target = STR_LIT("/readyz"),
        .replayable = true,
        .first_byte_ms = MAX(s->conf.live_ms / 2, 1u), /* over before the next one is due */
        .idle_ms = MAX(s->conf.live_ms / 2, 1u),
    };
    if (http_client_start(&s->probe, s->pool, &conf, &events, s, NULL) != RC_OK) {
        s->probe = NULL;
        s->n_misses++;
    }
}

/* Next probe, unless it has been silent for too long: then it ends, and its exit is what counts. */
static void supervise_look(struct supervise *s)
{
    bool silent = loop_now_ms(s->loop) - s->heard_at_ms >= s->conf.silent_ms;
    if (silent && s->n_misses >= SUPERVISE_MISSES_MIN) {
        log_event(LOG_CHILD_FAIL, log_cstr(LOG_KEY_ERROR, "no answer to health probes; killed"));
        process_kill(s->process, SIGKILL);
        supervise_heard(s);
    } else if (s->probe == NULL) {
        supervise_send_probe(s);
    }
    bool ready = s->state == SUPERVISE_READY;
    loop_timer_start(&s->timer, ready ? s->conf.live_ms : s->conf.probe_ms);
}

static void supervise_on_timer(void *ctx)
{
    struct supervise *s = ctx;
    if (s->stopping && s->process == NULL) {
        supervise_set(s, SUPERVISE_STOPPED);
    } else if (s->stopping) {
        process_kill(s->process, SIGKILL);
    } else if (s->process != NULL) {
        supervise_look(s);
    } else {
        struct err err;
        if (supervise_start(s, &err) != RC_OK) {
            log_event(LOG_CHILD_FAIL, log_err(&err), log_err_code(&err));
            supervise_back_off(s);
        }
    }
}

/* ---- life ---- */

static uint64_t supervise_or(uint64_t given, uint64_t otherwise)
{
    return given != 0 ? given : otherwise;
}

static void supervise_set_limits(struct supervise_conf *c)
{
    c->backoff_ms_min = supervise_or(c->backoff_ms_min, SUPERVISE_BACKOFF_MS_MIN);
    c->backoff_ms_max = supervise_or(c->backoff_ms_max, SUPERVISE_BACKOFF_MS_MAX);
    c->healthy_ms = supervise_or(c->healthy_ms, SUPERVISE_HEALTHY_MS);
    c->probe_ms = supervise_or(c->probe_ms, SUPERVISE_PROBE_MS);
    c->live_ms = supervise_or(c->live_ms, SUPERVISE_LIVE_MS);
    c->silent_ms = supervise_or(c->silent_ms, SUPERVISE_SILENT_MS);
    c->stop_ms = supervise_or(c->stop_ms, SUPERVISE_STOP_MS);
}

enum rc supervise_create(struct supervise **out, struct loop *l, const struct supervise_conf *conf,
                         struct err *err)
{
    *out = NULL;
    struct supervise *s = mem_zalloc(sizeof(*s));
    s->loop = l;
    s->conf = *conf;
    supervise_set_limits(&s->conf);
    s->state = SUPERVISE_STARTING; /* so that the first start tells nobody */
    loop_timer_init(&s->timer, l, supervise_on_timer, s);
    struct http_pool_conf pool = {.addr = conf->addr};
    enum rc rc = http_pool_create(&s->pool, l, &pool, err);
    rc = rc == RC_OK ? supervise_start(s, err) : rc;
    if (rc != RC_OK) {
        supervise_destroy(s);
        return rc;
    }
    *out = s;
    return RC_OK;
}

void supervise_stop(struct supervise *s)
{
    if (s->stopping) {
        return;
    }
    s->stopping = true;
    if (s->process == NULL) {
        loop_timer_start(&s->timer, 0);
        return;
    }
    process_kill(s->process, SIGTERM);
    loop_timer_start(&s->timer, s->conf.stop_ms);
}

static void supervise_reclaim(void *ctx)
{
    mem_free(ctx);
}

void supervise_destroy(struct supervise *s)
{
    if (s == NULL) {
        return;
    }
    s->destroyed = true;
    s->stopping = true;
    loop_timer_stop(&s->timer);
    if (s->process != NULL) {
        process_kill(s->process, SIGKILL);
        process_forget(s->process);
    }
    http_pool_destroy(s->pool);
    /* A probe under way still ends in this turn; memory goes back behind it. */
    loop_task_init(&s->reclaim, supervise_reclaim, s);
    loop_reclaim(s->loop, &s->reclaim);
}

enum supervise_state supervise_state(const struct supervise *s)
{
    return s->state;
}

int supervise_pid(const struct supervise *s)
{
    return s->process != NULL ? process_pid(s->process) : 0;
}
