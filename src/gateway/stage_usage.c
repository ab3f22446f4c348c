/* stage_usage.c: what a request did and cost: one access line and the metrics, once, when its
 * exchange has closed. */
#include "base/clock.h"
#include "gateway/stages.h"
#include "obs/log.h"
#include "obs/metric.h"

static int usage_status(const struct gw_request *r, enum rc how)
{
    if (how == RC_CANCELLED) {
        return err_row(RC_CANCELLED)->http_status;
    }
    if (r->begun) {
        return 200;
    }
    return r->err.code != RC_OK ? err_row(r->err.code)->http_status : r->upstream_status;
}

void stage_usage(struct gw_request *r, enum rc how)
{
    uint64_t duration_ns = clock_mono_ns(loop_clock(r->gateway->loop)) - r->started_ns;
    const struct http_head *head = http_exchange_head(r->x);
    int status = usage_status(r, how);
    stage_limit_settle(r);
    stage_route_settle(r);
    metric_add(metric_status(status), 1);
    metric_observe(metric_get(METRIC_HTTP_DURATION), duration_ns);
    if (r->n_attempts > 0 && gw_kind_has_body(r->kind)) {
        metric_add(metric_with1(METRIC_MODEL_REQUESTS, r->model), 1);
        metric_add(metric_with1(METRIC_PROMPT_TOKENS, r->model), r->prompt_tokens);
        metric_add(metric_with1(METRIC_TOKENS_GENERATED, r->model), r->output_tokens);
        metric_add(metric_with1(METRIC_STREAMS_FAILED, r->model), r->begun && r->failed ? 1 : 0);
    }
    char host[ADDR_TEXT_BYTES];
    log_event(
        LOG_ACCESS, log_cstr(LOG_KEY_REQUEST_ID, r->id),
        log_cstr(LOG_KEY_METHOD, http_method_name(head->method)), log_str(LOG_KEY_PATH, head->path),
        log_i64(LOG_KEY_STATUS, status), log_u64(LOG_KEY_DURATION_NS, duration_ns),
        log_cstr(LOG_KEY_CLIENT, addr_format_host(http_exchange_peer(r->x), host)),
        log_cstr(LOG_KEY_TENANT, r->tenant), log_str(LOG_KEY_MODEL, r->model),
        log_u64(LOG_KEY_TOKENS_IN, r->prompt_tokens), log_u64(LOG_KEY_TOKENS_OUT, r->output_tokens),
        log_u64("first_event_ns", r->first_event_ns != 0 ? r->first_event_ns - r->started_ns : 0),
        log_u64("auth_ns", r->stage_ns[GW_STAGE_AUTH]),
        log_u64("parse_ns", r->stage_ns[GW_STAGE_PARSE]),
        log_u64("limit_ns", r->stage_ns[GW_STAGE_LIMIT]),
        log_u64("route_ns", r->stage_ns[GW_STAGE_ROUTE]), log_u64("attempts", r->n_attempts),
        log_str("upstream", r->upstream != NULL ? r->upstream->name : STR_LIT("")),
        log_bool("failed", r->failed));
}
