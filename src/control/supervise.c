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
    uint64_t ready_at_ms;
    uint32_t n_misses;
    bool was_ready, probe_ok, stopping, destroyed;
};

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
    bool was_healthy = s->state == SUPERVISE_READY &&
                       loop_now_ms(s->loop) - s->ready_at_ms >= SUPERVISE_HEALTHY_MS;
    uint64_t doubled = MIN(s->backoff_ms * 2, (uint64_t)SUPERVISE_BACKOFF_MS_MAX);
    s->backoff_ms = was_healthy || s->backoff_ms == 0 ? SUPERVISE_BACKOFF_MS_MIN : doubled;
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
    s->n_misses = 0;
    supervise_set(s, SUPERVISE_STARTING);
    loop_timer_start(&s->timer, SUPERVISE_PROBE_MS);
    return RC_OK;
}

/* ---- probes ---- */

static void supervise_probe_head(void *ctx, const struct http_head *head)
{
    struct supervise *s = ctx;
    s->probe_ok = head->status == 200;
}

static void supervise_probe_body(void *ctx, struct str bytes)
{
    UNUSED(ctx);
    UNUSED(bytes);
}

static void supervise_missed(struct supervise *s)
{
    if (s->state != SUPERVISE_READY || s->process == NULL) {
        return;
    }
    if (++s->n_misses >= SUPERVISE_MISSES_MAX) {
        log_event(LOG_CHILD_FAIL, log_cstr(LOG_KEY_ERROR, "no answer to health probes; killed"));
        process_kill(s->process, SIGKILL);
    }
}

static void supervise_probe_end(void *ctx, const struct http_call_result *r)
{
    struct supervise *s = ctx;
    s->probe = NULL;
    if (s->destroyed || s->stopping || s->process == NULL) {
        return;
    }
    if (r->rc != RC_OK || !s->probe_ok) {
        supervise_missed(s);
    } else if (s->state == SUPERVISE_STARTING) {
        log_event(LOG_CHILD_READY, log_i64(LOG_KEY_PID, process_pid(s->process)));
        s->was_ready = true;
        s->ready_at_ms = loop_now_ms(s->loop);
        supervise_set(s, SUPERVISE_READY);
    } else {
        s->n_misses = 0;
    }
}

static void supervise_send_probe(struct supervise *s)
{
    static const struct http_client_events events = {
        .on_head = supervise_probe_head,
        .on_body = supervise_probe_body,
        .on_end = supervise_probe_end,
    };
    bool starting = s->state == SUPERVISE_STARTING;
    struct http_client_conf conf = {
        .method = HTTP_METHOD_GET,
        .target = starting ? STR_LIT("/readyz") : STR_LIT("/livez"),
        .replayable = true,
        .first_byte_ms = SUPERVISE_LIVE_MS,
        .idle_ms = SUPERVISE_LIVE_MS,
    };
    s->probe_ok = false;
    if (http_client_start(&s->probe, s->pool, &conf, &events, s, NULL) != RC_OK) {
        s->probe = NULL;
        supervise_missed(s);
    }
}

static void supervise_on_timer(void *ctx)
{
    struct supervise *s = ctx;
    if (s->stopping) {
        if (s->process != NULL) {
            process_kill(s->process, SIGKILL);
        }
        return;
    }
    if (s->process == NULL) {
        struct err err;
        if (supervise_start(s, &err) != RC_OK) {
            log_event(LOG_CHILD_FAIL, log_err(&err), log_err_code(&err));
            supervise_back_off(s);
        }
        return;
    }
    if (s->probe == NULL) {
        supervise_send_probe(s);
    }
    bool ready = s->state == SUPERVISE_READY;
    loop_timer_start(&s->timer, ready ? SUPERVISE_LIVE_MS : SUPERVISE_PROBE_MS);
}

/* ---- life ---- */

enum rc supervise_create(struct supervise **out, struct loop *l, const struct supervise_conf *conf,
                         struct err *err)
{
    *out = NULL;
    struct supervise *s = mem_zalloc(sizeof(*s));
    s->loop = l;
    s->conf = *conf;
    s->state = SUPERVISE_BACKOFF;
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
    loop_timer_stop(&s->timer);
    if (s->process == NULL) {
        supervise_set(s, SUPERVISE_STOPPED);
        return;
    }
    process_kill(s->process, SIGTERM);
    loop_timer_start(&s->timer, SUPERVISE_STOP_MS);
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
