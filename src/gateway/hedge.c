/* hedge.c: a second server is asked when the first one has not begun in time (Dean and Barroso, The
 * Tail at Scale, 2013).
 *
 *   call to the first ──hedge_ms, no event and no head──> call to a second of the same version
 *        │                                                     │
 *        │ begins: the second is cancelled                     │ begins: the first is cancelled
 *        v                                                     v
 *   it answers <──── the other one broke before it began ────> it answers
 *
 * Once for a request, while retries are within their budget and another server is well and within
 * its limits; else the first one is waited for. Both broke: as any attempt that broke.
 *
 * Invariants
 * 1. r->rival is set while two calls are under way and neither has begun; nothing of either is for
 *    the client until then.
 * 2. The caller is billed for what the one that answers has used. What the other one has done until
 *    it was cancelled is nobody's; its server's limits count the prompt. */
#include "base/assert.h"
#include "gateway/stages.h"
#include "obs/log.h"
#include "obs/metric.h"

static struct gw_attempt *hedge_other(struct gw_request *r)
{
    return r->attempt == &r->attempts[0] ? &r->attempts[1] : &r->attempts[0];
}

static void hedge_count(struct gw_request *r, const char *won)
{
    if (r->racing) {
        r->racing = false;
        metric_add(metric_with1(METRIC_HEDGES, str_from(won)), 1);
    }
}

void gw_hedge_over(struct gw_request *r)
{
    hedge_count(r, "none");
}

struct str gw_hedge_other(const struct gw_request *r)
{
    const struct gw_attempt *a = &r->attempts[r->attempt == &r->attempts[0] ? 1 : 0];
    return r->hedged ? a->upstream->name : STR_LIT("");
}

bool gw_hedge_is_lost(const struct gw_attempt *a)
{
    return a != a->request->attempt && a != a->request->rival;
}

void gw_hedge_arm(struct gw_request *r)
{
    const struct cat_version *v = r->attempt->version;
    gw_hedge_over(r);                 /* a retry: both broke */
    loop_timer_stop(&r->hedge_timer); /* of the attempt before, whose version may be another */
    if (v != NULL && v->hedge_ms > 0 && !r->hedged) {
        loop_timer_start(&r->hedge_timer, v->hedge_ms);
    }
}

/* False: there is no other server for it, or nothing can be sent there. */
static bool hedge_start(struct gw_request *r)
{
    struct gw_attempt *second = hedge_other(r);
    struct err err = {0};
    if (!stage_route_second(second)) {
        return false;
    }
    if (stage_proxy_start(second, &err) != RC_OK) {
        r->n_attempts--;
        explain_try_end(second, err.msg);
        stage_route_settle(second);
        gw_attempt_unhold(second);
        return false;
    }
    r->hedged = r->racing = true;
    r->rival = second;
    return true;
}

void gw_hedge_on_timer(void *ctx)
{
    struct gw_request *r = ctx;
    const struct gw_attempt *first = r->attempt;
    bool waits = first->call != NULL && !first->began && !r->ended && r->x != NULL;
    bool may = !r->hedged && r->n_attempts < GATEWAY_ATTEMPTS_MAX;
    if (waits && may && stage_proxy_may_retry(r->gateway) && !hedge_start(r)) {
        gw_shared_retry_give(r->gateway->shared);
    }
}

void gw_hedge_lose(struct gw_attempt *a, const char *what)
{
    struct gw_request *r = a->request;
    ASSERT(r->rival != NULL && !a->began);
    explain_try_end(a, what);
    stage_usage_forgo(a);
    if (a == r->attempt) {
        r->attempt = r->rival;
    }
    r->rival = NULL;
    if (a->call != NULL) {
        http_client_cancel(a->call); /* its end gives back the rest */
    } else {
        gw_attempt_unhold(a);
    }
}

void gw_hedge_begin(struct gw_attempt *a)
{
    struct gw_request *r = a->request;
    struct gw_attempt *other = hedge_other(r);
    a->began = true;
    if (r->rival != NULL) {
        gw_hedge_lose(a == r->attempt ? other : r->attempt, "another server was faster");
        if (a->has_counts) {
            stage_usage_count(r);
        }
    }
    ASSERT(a == r->attempt);
    hedge_count(r, a == &r->attempts[1] ? "second" : "first");
}
