/* stage_route.c: a model server that can take the request. While it is away (starting, restarting)
 * the request waits in line, up to GATEWAY_WAIT_MS after its arrival.
 *
 * After an attempt that broke it pauses first: a process that has just died is still counted as
 * ready until its exit is seen, and trying at once would only use up the attempts. */
#include "gateway/stages.h"

#include "base/clock.h"

enum { ROUTE_PAUSE_MS = 100 };

static uint64_t route_ms_left(const struct gw_request *r)
{
    uint64_t waited_ms = (clock_mono_ns(loop_clock(r->gateway->loop)) - r->started_ns) / 1000000u;
    return waited_ms >= GATEWAY_WAIT_MS ? 0 : GATEWAY_WAIT_MS - waited_ms;
}

void stage_route_on_timer(void *ctx)
{
    struct gw_request *r = ctx;
    if (!list_is_linked(&r->waiting)) {
        stages_resume(r, stage_route(r)); /* the pause is over */
        return;
    }
    list_remove(&r->waiting);
    err_set(&r->err, RC_UNAVAILABLE, "No model server is ready to answer. Try again in a moment.");
    stages_resume(r, GW_FAIL);
}

enum gw_result stage_route(struct gw_request *r)
{
    if (r->pause) {
        r->pause = false;
        loop_timer_start(&r->wait_timer, ROUTE_PAUSE_MS);
        return GW_WAIT;
    }
    if (r->gateway->ready) {
        return GW_NEXT;
    }
    list_push_back(&r->gateway->waiting, &r->waiting);
    loop_timer_start(&r->wait_timer, route_ms_left(r));
    return GW_WAIT;
}
