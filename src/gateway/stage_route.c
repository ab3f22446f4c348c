/* stage_route.c: a model server that can take the request. While it is away (starting, restarting)
 * the request waits in line, at most GATEWAY_WAIT_MS, with at most GATEWAY_WAITING_MAX others.
 *
 * After an attempt that broke it pauses first: a process that has just died is still counted as
 * ready until its exit is seen, and trying at once would only use up the attempts. */
#include "gateway/stages.h"

#include "base/assert.h"
#include "obs/metric.h"

enum { ROUTE_PAUSE_MS = 100 };

static void route_join(struct gw_request *r)
{
    list_push_back(&r->gateway->waiting, &r->waiting);
    r->gateway->n_waiting++;
    loop_timer_start(&r->wait_timer, r->gateway->conf.wait_ms);
}

void stage_route_leave(struct gw_request *r)
{
    if (list_is_linked(&r->waiting)) {
        ASSERT(r->gateway->n_waiting > 0);
        r->gateway->n_waiting--;
        list_remove(&r->waiting);
        loop_timer_stop(&r->wait_timer);
    }
}

void stage_route_wake(struct gateway *g)
{
    /* Those that wait now: what comes back to the line waits for the next time. */
    for (uint32_t n = g->n_waiting; n > 0 && g->ready; n--) {
        struct gw_request *r = LIST_ENTRY(list_first(&g->waiting), struct gw_request, waiting);
        stage_route_leave(r);
        stages_resume(r, GW_NEXT);
    }
}

void stage_route_on_timer(void *ctx)
{
    struct gw_request *r = ctx;
    if (!list_is_linked(&r->waiting)) {
        stages_resume(r, stage_route(r)); /* the pause is over */
        return;
    }
    stage_route_leave(r);
    err_set(&r->err, RC_UNAVAILABLE, "No model server is ready to answer. Try again in a moment.");
    stages_resume(r, GW_FAIL);
}

enum gw_result stage_route(struct gw_request *r)
{
    struct gateway *g = r->gateway;
    if (r->pause) {
        r->pause = false;
        loop_timer_start(&r->wait_timer, ROUTE_PAUSE_MS);
        return GW_WAIT;
    }
    if (g->ready) {
        return GW_NEXT;
    }
    if (g->n_waiting >= g->conf.waiting_max) {
        metric_add(metric_with1(METRIC_REQUESTS_REFUSED, STR_LIT("line")), 1);
        err_set(&r->err, RC_OVERLOADED, "No model server is ready, and %u requests wait already.",
                g->n_waiting);
        return GW_FAIL;
    }
    route_join(r);
    return GW_WAIT;
}
