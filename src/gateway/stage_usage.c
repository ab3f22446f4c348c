/* stage_usage.c: what a request used and cost: its record in the journal, opened when its tokens
 * are set aside and closed before its answer ends; one access line and the metrics, once, when its
 * exchange has closed.
 *
 * A server that tells no counts is estimated: a token for each event of its stream, and one for
 * each four bytes of the prompt and of a whole reply. The record says so. */
#include "base/assert.h"
#include "base/clock.h"
#include "gateway/stages.h"
#include "obs/log.h"
#include "obs/metric.h"

enum { USAGE_BYTES_PER_TOKEN = 4 };

static const char *const usage_routes[] = {
    [GW_CHAT] = "chat",     [GW_COMPLETION] = "completions", [GW_EMBED] = "embeddings",
    [GW_RERANK] = "rerank", [GW_MODELS] = "models",          [GW_MODEL] = "models",
};

static uint64_t usage_now(const struct gw_request *r)
{
    return clock_mono_ns(loop_clock(r->gateway->loop));
}

static int usage_http_status(const struct gw_request *r, enum rc how)
{
    if (how == RC_CANCELLED) {
        return err_row(RC_CANCELLED)->http_status;
    }
    if (r->begun) {
        return 200;
    }
    return r->err.code != RC_OK ? err_row(r->err.code)->http_status : r->attempt->status;
}

/* ---- the record ---- */

static struct meta_usage usage_row(const struct gw_request *r)
{
    const struct gw_attempt *a = r->attempt;
    uint64_t ms = (usage_now(r) - r->started_ns) / 1000000u;
    const struct str none = STR_LIT("");
    return (struct meta_usage){
        .request_id = str_from(r->id),
        .route = str_from(usage_routes[r->kind]),
        .key = r->who.id,
        .user = r->who.user,
        .project = r->who.project,
        .model = r->wanted->name,
        .version = a->version != NULL ? a->version->name : none,
        .upstream = a->upstream != NULL ? a->upstream->name : none,
        .hedged = gw_hedge_other(r),
        .started_ms = (int64_t)(r->started_wall_ns / 1000000u),
        .duration_ms = (int64_t)ms,
        .prompt_tokens = a->prompt_tokens,
        .cached_tokens = a->cached_tokens,
        .output_tokens = a->output_tokens,
        .cost_nano = r->cost_nano,
        .estimated = r->estimated,
    };
}

bool stage_usage_begin(struct gw_request *r)
{
    const struct gateway_conf *conf = &r->gateway->conf;
    r->counted_in = true;
    if (conf->journal == NULL) {
        return true;
    }
    const struct meta_usage row = usage_row(r);
    const struct usage_price price = {r->price.input, r->price.cached_input, r->price.output,
                                      r->price.image};
    if (journal_begin(conf->journal, &r->record, &row, &price, &r->err) == RC_OK) {
        return true;
    }
    if (!conf->serve_unwritten) {
        metric_add(metric_with1(METRIC_REQUESTS_REFUSED, STR_LIT("usage")), 1);
        r->counted_in = false; /* nothing to be written down */
        stage_limit_settle(r);
        return false;
    }
    r->err = (struct err){0};
    return true;
}

static uint32_t usage_tokens(uint64_t bytes)
{
    uint64_t n = (bytes + USAGE_BYTES_PER_TOKEN - 1) / USAGE_BYTES_PER_TOKEN;
    return (uint32_t)MIN(n, (uint64_t)INT32_MAX);
}

static bool usage_is_sent(const struct gw_attempt *a)
{
    return a->call != NULL && http_client_is_sent(a->call);
}

/* Once something of an answer has come, and no counts with it; or the client has gone while a
 * server was at it: else hanging up in time would cost nothing, and no limit count it. */
static void usage_estimate(struct gw_request *r, enum rc how)
{
    struct gw_attempt *a = r->attempt;
    bool answered = a->n_events > 0 || (a->status == 200 && a->reply.len > 0);
    bool left = how == RC_CANCELLED && (usage_is_sent(a) || usage_is_sent(&r->attempts[1]));
    if (a->has_counts || !(answered || left)) {
        return;
    }
    r->estimated = true;
    a->prompt_tokens = usage_tokens(r->body.len);
    if (a->n_events > 0) {
        a->output_tokens = a->n_events;
    } else if (r->parsed.n_choices > 0) {
        a->output_tokens = usage_tokens(a->reply.len);
    }
}

void stage_usage_count(struct gw_request *r)
{
    const struct gw_attempt *a = r->attempt;
    struct journal *j = r->gateway->conf.journal;
    if (j != NULL && a->has_counts) {
        journal_count(j, &r->record, a->prompt_tokens, a->output_tokens, false);
    } else if (j != NULL) {
        journal_count(j, &r->record, usage_tokens(r->body.len), a->n_events, true);
    }
}

void stage_usage_forgo(struct gw_attempt *a)
{
    if (!a->has_counts && usage_is_sent(a)) {
        a->prompt_tokens = usage_tokens(a->request->body.len);
    }
    stage_route_settle(a);
}

static void usage_settle_servers(struct gw_request *r)
{
    stage_route_settle(r->attempt);
    if (r->rival != NULL) {
        stage_usage_forgo(r->rival);
    }
}

void stage_usage_settle(struct gw_request *r, enum rc how)
{
    struct journal *j = r->gateway->conf.journal;
    if (r->settled || !r->counted_in) {
        return;
    }
    r->settled = true;
    usage_estimate(r, how);
    stage_limit_settle(r);
    usage_settle_servers(r);
    if (j == NULL) {
        return;
    }
    struct meta_usage row = usage_row(r);
    row.http_status = usage_http_status(r, how);
    row.status = how == RC_CANCELLED         ? STR_LIT("cancelled")
                 : r->failed || how != RC_OK ? STR_LIT("failed")
                                             : STR_LIT("ok");
    journal_settle(j, &r->record, &row);
}

/* ---- the end ---- */

static void usage_count_metrics(const struct gw_request *r)
{
    const struct gw_attempt *a = r->attempt;
    if (r->n_attempts > 0 && gw_kind_has_body(r->kind)) {
        metric_add(metric_with1(METRIC_MODEL_REQUESTS, r->model), 1);
        metric_add(metric_with1(METRIC_PROMPT_TOKENS, r->model), a->prompt_tokens);
        metric_add(metric_with1(METRIC_TOKENS_GENERATED, r->model), a->output_tokens);
        metric_add(metric_with1(METRIC_STREAMS_FAILED, r->model), r->begun && r->failed ? 1 : 0);
    }
}

void stage_usage(struct gw_request *r, enum rc how)
{
    const struct gw_attempt *a = r->attempt;
    uint64_t duration_ns = usage_now(r) - r->started_ns;
    const struct http_head *head = http_exchange_head(r->x);
    int status = usage_http_status(r, how);
    stage_usage_settle(r, how);
    usage_settle_servers(r);
    gw_hedge_over(r);
    metric_add(metric_status(status), 1);
    metric_observe(metric_get(METRIC_HTTP_DURATION), duration_ns);
    usage_count_metrics(r);
    explain_put(r, status);
    char host[ADDR_TEXT_BYTES];
    log_event(
        LOG_ACCESS, log_cstr(LOG_KEY_REQUEST_ID, r->id),
        log_cstr(LOG_KEY_METHOD, http_method_name(head->method)), log_str(LOG_KEY_PATH, head->path),
        log_i64(LOG_KEY_STATUS, status), log_u64(LOG_KEY_DURATION_NS, duration_ns),
        log_cstr(LOG_KEY_CLIENT, addr_format_host(http_exchange_peer(r->x), host)),
        log_cstr(LOG_KEY_TENANT, r->tenant), log_str(LOG_KEY_MODEL, r->model),
        log_u64(LOG_KEY_TOKENS_IN, a->prompt_tokens), log_u64(LOG_KEY_TOKENS_OUT, a->output_tokens),
        log_i64("cost_nano", r->cost_nano),
        log_u64("first_event_ns", r->first_event_ns != 0 ? r->first_event_ns - r->started_ns : 0),
        log_u64("auth_ns", r->stage_ns[GW_STAGE_AUTH]),
        log_u64("parse_ns", r->stage_ns[GW_STAGE_PARSE]),
        log_u64("limit_ns", r->stage_ns[GW_STAGE_LIMIT]),
        log_u64("route_ns", r->stage_ns[GW_STAGE_ROUTE]), log_u64("attempts", r->n_attempts),
        log_str("upstream", a->upstream != NULL ? a->upstream->name : STR_LIT("")),
        log_str("hedged", gw_hedge_other(r)), log_bool("failed", r->failed),
        log_bool("replayed", r->replayed));
}
