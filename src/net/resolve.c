/* resolve.c: see resolve.h. While a look-up is under way the worker alone has `fresh` and `err`;
 * memory goes back only when none is. */
#include "net/resolve.h"

#include "base/mem.h"
#include "net/loop.h"
#include "obs/log.h"
#include "obs/metric.h"

enum { RESOLVE_TEXT_BYTES = 301 };

struct resolve {
    struct loop *loop;
    char text[RESOLVE_TEXT_BYTES];
    resolve_cb cb;
    void *ctx;
    struct loop_timer timer;
    struct addr now[RESOLVE_ADDRS_MAX];
    uint32_t n_now;
    bool asking, stopped;
    /* of the look-up under way */
    struct addr fresh[RESOLVE_ADDRS_MAX];
    uint32_t n_fresh;
    struct err err;
};

/* On a worker. */
static void resolve_ask(void *ctx)
{
    struct resolve *r = ctx;
    r->err = (struct err){0};
    r->n_fresh = RESOLVE_ADDRS_MAX;
    if (addr_resolve_all(r->fresh, &r->n_fresh, str_from(r->text), &r->err) != RC_OK) {
        r->n_fresh = 0;
    }
}

/* Whether both say the same; resolvers turn the order round, which means nothing. */
static bool resolve_is_same(const struct resolve *r)
{
    for (uint32_t i = 0; i < r->n_fresh; i++) {
        uint32_t at = 0;
        while (at < r->n_now && !addr_eq(&r->now[at], &r->fresh[i])) {
            at++;
        }
        if (at == r->n_now) {
            return false;
        }
    }
    return r->n_fresh == r->n_now;
}

static void resolve_asked(void *ctx, enum rc rc)
{
    struct resolve *r = ctx;
    r->asking = false;
    if (r->stopped) {
        mem_free(r);
        return;
    }
    bool good = rc == RC_OK && r->n_fresh > 0;
    loop_timer_start(&r->timer, good ? RESOLVE_MS : RESOLVE_RETRY_MS);
    if (!good) {
        metric_add(metric_get(METRIC_RESOLVE_FAILURES), 1);
        log_event(LOG_RESOLVE_FAIL, log_err(&r->err), log_err_code(&r->err));
        return;
    }
    if (!resolve_is_same(r)) {
        memcpy(r->now, r->fresh, sizeof(r->now));
        r->n_now = r->n_fresh;
        r->cb(r->ctx, r->now, r->n_now);
    }
}

static void resolve_on_timer(void *ctx)
{
    struct resolve *r = ctx;
    struct loop_job job = {.run = resolve_ask, .done = resolve_asked, .ctx = r, .slow = true};
    r->asking = loop_work_start(NULL, r->loop, &job, NULL) == RC_OK;
    if (!r->asking) {
        loop_timer_start(&r->timer, RESOLVE_RETRY_MS);
    }
}

RC resolve_start(struct resolve **out, struct loop *l, struct str text, resolve_cb cb, void *ctx,
                 struct err *err)
{
    struct resolve *r = mem_zalloc(sizeof(*r));
    if (!str_copy(r->text, sizeof(r->text), text)) {
        mem_free(r);
        return err_set(err, RC_INVALID, "host name of %zu bytes", text.len);
    }
    r->loop = l;
    r->cb = cb;
    r->ctx = ctx;
    loop_timer_init(&r->timer, l, resolve_on_timer, r);
    loop_timer_start(&r->timer, 0);
    *out = r;
    return RC_OK;
}

void resolve_stop(struct resolve *r)
{
    if (r == NULL) {
        return;
    }
    loop_timer_stop(&r->timer);
    r->stopped = true;
    if (!r->asking) {
        mem_free(r);
    }
}
