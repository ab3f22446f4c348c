/* stages.h: one request at the front door, and the ordered stages it walks.
 *
 *   head ──> [auth] ──> [parse] ──> [route] ──> [proxy] ──> [usage]
 *             │ 401       │ 400       │ ready?    │ model server's answer, retried
 *             │           │ 404 413   │ else wait │ while the client has seen nothing
 *             v           v           v           v
 *           error reply with the row of the error; every way out passes [usage] once
 *
 * A stage returns NEXT (go on), WAIT (something will call stages_resume), DONE (the answer is
 * complete) or FAIL (r->err says why). Everything runs on the gateway's loop; a request is freed
 * when its exchange has closed and its call to the model server has ended. */
#ifndef GATEWAY_STAGES_H
#define GATEWAY_STAGES_H

#include "api/chat.h"
#include "api/complete.h"
#include "base/list.h"
#include "gateway/gateway.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/sse.h"

enum gw_result { GW_NEXT, GW_WAIT, GW_DONE, GW_FAIL };

enum gw_kind { GW_CHAT, GW_COMPLETION, GW_MODELS, GW_MODEL };

enum gw_stage_id {
    GW_STAGE_AUTH,
    GW_STAGE_PARSE,
    GW_STAGE_ROUTE,
    GW_STAGE_PROXY,
    GW_STAGE_N,
};

enum { GW_ID_BYTES = 72 };

/* What a model server says about trying again; passed on to the client. Empty = absent. */
struct gw_retry_headers {
    char should_retry[8];
    char after[24];
    char after_ms[24];
};

struct gw_request {
    struct gateway *gateway;
    struct http_exchange *x; /* NULL once closed */
    enum gw_kind kind;
    enum gw_stage_id stage;
    uint64_t stage_ns[GW_STAGE_N]; /* time spent, waiting included */
    uint64_t started_ns, stage_started_ns;
    char id[GW_ID_BYTES]; /* x-request-id */
    char traceparent[56]; /* of the client, or "" */
    char tenant[META_KEY_ID_BYTES];
    struct err err;
    bool failed, ended; /* an error was sent; the answer is complete */

    /* parse */
    struct arena arena;
    struct buf body;
    struct str model; /* "" for the list of models */
    bool stream, include_usage;

    /* route */
    struct list_node waiting;     /* on gateway.waiting while the model server is away */
    struct loop_timer wait_timer; /* the end of the wait, or of the pause before a retry */
    bool pause;                   /* the last attempt broke: look again in a moment */

    /* proxy */
    struct http_call *call; /* NULL while none is under way */
    uint32_t n_attempts;
    int upstream_status;
    struct gw_retry_headers retry; /* of an upstream's refusal */
    bool upstream_is_stream, begun, saw_done, paused;
    struct sse sse;
    struct buf reply; /* whole replies */
    uint32_t prompt_tokens, output_tokens;
    uint64_t first_event_ns;
    struct loop_timer ping_timer; /* streams: when the next comment is due */
};

struct gw_stage {
    const char *name; /* in server-timing */
    enum gw_result (*run)(struct gw_request *r);
};

/* The id that a request is known by: the client's own when it is well-formed, else a new one. */
void gw_request_id(const struct http_head *head, char out[GW_ID_BYTES]);

/* The route was found: walks the stages from the head on. */
void stages_start(struct gateway *g, struct http_exchange *x, enum gw_kind kind, struct str model);
/* A stage that had said GW_WAIT has come to a result. */
void stages_resume(struct gw_request *r, enum gw_result result);
/* The stage before is run again (a retry). */
void stages_back_to(struct gw_request *r, enum gw_stage_id stage);
/* Frees the request once nothing refers to it any more. */
void stages_release(struct gw_request *r);

enum gw_result stage_auth(struct gw_request *r);
enum gw_result stage_parse(struct gw_request *r);
enum gw_result stage_route(struct gw_request *r);
void stage_route_on_timer(void *ctx);
enum gw_result stage_proxy(struct gw_request *r);
/* Once, when the exchange has closed: access line and metrics. */
void stage_usage(struct gw_request *r, enum rc how);

/* stage_parse.c: body callbacks. */
void stage_parse_body(void *ctx, struct str bytes);
void stage_parse_body_end(void *ctx, enum rc rc);
/* stage_proxy.c: the client can take more; the client is gone. */
void stage_proxy_writable(void *ctx);
void stage_proxy_on_silence(void *ctx);
void stage_proxy_abandon(struct gw_request *r);

/* reply.c: head fields that every answer carries, and error replies. */
enum { GW_HEADERS_MAX = 16 };
struct gw_headers {
    struct http_header rows[GW_HEADERS_MAX];
    uint32_t n;
    char processing_ms[24];
    char timing[256];
};
void gw_headers_init(struct gw_headers *h, const struct gw_request *r, const char *content_type);
void gw_reply_error(struct gw_request *r);
void gw_reply_whole(struct gw_request *r, int status, const char *content_type, struct str body);

/* The state that stages share. */
struct gateway {
    struct loop *loop;
    struct gateway_conf conf;
    struct str models[GATEWAY_MODELS_MAX];
    struct catalog *catalog;
    struct http_server *http;
    struct http_pool *pool;
    struct list waiting; /* requests that wait for the model server, oldest first */
    bool ready;
    struct loop_task reclaim;
};

#endif
