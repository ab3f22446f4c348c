/* stages.h: one request at the front door, and the ordered stages it walks.
 *
 *   head ──> [auth] ──> [parse] ──> [route] ──> [proxy] ──> [usage]
 *             │ 401       │ 400       │ ready?    │ model server's answer, retried
 *             │           │ 404 413   │ else wait │ while the client has seen nothing
 *             v           v           v           v
 *           error reply with the row of the error; every way out passes [usage] once
 *
 * A stage returns NEXT (go on), WAIT (something will call stages_resume), DONE (the answer is
 * complete) or FAIL (r->err says why). Everything runs on the gateway's loop, long bodies excepted:
 * a worker parses them. A request is freed when its exchange has closed, its call to the model
 * server has ended and no worker has it. */
#ifndef GATEWAY_STAGES_H
#define GATEWAY_STAGES_H

#include "api/types.h"
#include "base/list.h"
#include "base/rng.h"
#include "gateway/gateway.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/sse.h"

enum gw_result { GW_NEXT, GW_WAIT, GW_DONE, GW_FAIL };

enum gw_kind { GW_CHAT, GW_COMPLETION, GW_EMBED, GW_RERANK, GW_MODELS, GW_MODEL };

/* Whether the request has a body, which names the model. */
static inline bool gw_kind_has_body(enum gw_kind kind)
{
    return kind != GW_MODELS && kind != GW_MODEL;
}

enum {
    GW_ID_BYTES = 72,
    GW_UPSTREAM_HEADERS_MAX = 3, /* when to come again */
    GW_HEADERS_MAX = 16,
};

enum gw_stage_id {
    GW_STAGE_AUTH,
    GW_STAGE_PARSE,
    GW_STAGE_ROUTE,
    GW_STAGE_PROXY,
    GW_STAGE_N,
};

/* What parsing a body comes to; the worker's own while it is at it. */
struct gw_parsed {
    enum rc rc;
    struct err err;
    struct str model; /* in the request's arena */
    bool stream;
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
    bool failed; /* the client got an error, whole or as its stream's last event */
    bool ended;  /* the answer is complete */

    /* parse */
    struct arena arena;
    struct buf body;
    struct gw_parsed parsed;
    bool parsing;     /* a worker has it */
    struct str model; /* "" for the list of models */
    bool stream;

    /* route */
    struct list_node waiting;     /* on gateway.waiting while the model server is away */
    struct loop_timer wait_timer; /* the end of the wait, or of the pause before a retry */
    bool pause;                   /* the last attempt broke: look again in a moment */

    /* proxy */
    struct http_call *call; /* NULL while none is under way */
    uint32_t n_attempts;
    uint64_t away_since_ns; /* the server has not begun since then; 0 = it has, or was not asked */
    int upstream_status;
    struct api_header upstream_headers[GW_UPSTREAM_HEADERS_MAX]; /* passed on with an error */
    uint32_t n_upstream_headers;
    bool upstream_is_stream, begun, saw_done, saw_error, paused;
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

const char *stages_name(enum gw_stage_id stage);
/* The id that a request is known by: the client's own when it is well-formed, else a new one. */
void stages_make_id(struct rng *rng, const struct http_head *head, char out[GW_ID_BYTES]);

/* The route was found: walks the stages from the head on. */
void stages_start(struct gateway *g, struct http_exchange *x, enum gw_kind kind, struct str model);
/* A stage that had said GW_WAIT has come to a result. */
void stages_resume(struct gw_request *r, enum gw_result result);
/* The stage before is run again (a retry). */
void stages_back_to(struct gw_request *r, enum gw_stage_id stage);
/* Frees the request once nothing refers to it any more. */
void stages_release(struct gw_request *r);
/* Appends to the request's body or reply; RC_OVERLOADED when all requests together hold too much,
 * RC_TOO_LARGE at the buffer's own cap. */
RC stages_hold(struct gw_request *r, struct buf *b, struct str bytes, struct err *err);
/* Gives back what such a buffer holds. */
void stages_unhold(struct gw_request *r, struct buf *b);

enum gw_result stage_auth(struct gw_request *r);
enum gw_result stage_parse(struct gw_request *r);
enum gw_result stage_route(struct gw_request *r);
void stage_route_on_timer(void *ctx);
/* Leaves the line, if it stands there. */
void stage_route_leave(struct gw_request *r);
/* The model server is ready: lets the whole line go on. */
void stage_route_wake(struct gateway *g);
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
struct gw_headers {
    struct http_header rows[GW_HEADERS_MAX];
    uint32_t n;
    char processing_ms[24];
    char timing[256];
};
void gw_headers_init(struct gw_headers *h, const struct gw_request *r, const char *content_type);
void gw_reply_error(struct gw_request *r);
/* The model server's reply, and of its headers those that say when to come again. */
void gw_reply_whole(struct gw_request *r, struct str body);
/* The last event of a stream that had begun: `json` is an error object on one line. */
void gw_reply_last_event(struct gw_request *r, struct str json);

/* The state that stages share. Lives until it is destroyed and its last request is gone. */
struct gateway {
    struct loop *loop;
    struct gateway_conf conf;
    struct str models[GATEWAY_MODELS_MAX];
    struct catalog *catalog;
    struct http_server *http;
    struct http_pool *pool;
    struct list waiting; /* requests that wait for the model server, oldest first */
    uint32_t n_waiting, n_requests;
    size_t held_bytes;
    struct rng rng;       /* ids of requests: unique, not secret */
    struct arena scratch; /* what is parsed on the loop; reset after each use */
    bool ready, draining, destroyed;
};

/* A request is gone: frees a destroyed gateway that none refers to. */
void gateway_settle(struct gateway *g);

#endif
