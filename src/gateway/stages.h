/* stages.h: one request at the front door, and the ordered stages it walks.
 *
 *   head ──> [auth] ──> [parse] ──> [answer] ──> [limit] ──> [route] ──> [proxy] ──> [usage]
 *             │ 401 403   │ 400       │ 409       │ 429       │ a server  │ its answer; tried again
 *             │ 429       │ 404 413   │ kept ones │           │ else wait │ while the client saw
 *             v           v           v           v           v           v nothing
 *           error reply with the row of the error; every way out passes [usage] once
 *
 * A stage returns NEXT (go on), WAIT (something will call stages_resume), DONE (the answer is
 * complete) or FAIL (r->err says why). Everything runs on the gateway's loop, long bodies excepted:
 * a worker parses them. A request is freed when its exchange has closed, its call to the model
 * server has ended and no worker has it. */
#ifndef GATEWAY_STAGES_H
#define GATEWAY_STAGES_H

#include "api/link.h"
#include "api/types.h"
#include "auth/jwt_verifier.h"
#include "auth/policy.h"
#include "base/list.h"
#include "base/rng.h"
#include "gateway/answer.h"
#include "gateway/attempt.h"
#include "gateway/backend.h"
#include "gateway/explain.h"
#include "gateway/gateway.h"
#include "gateway/lease.h"
#include "gateway/limit.h"
#include "gateway/lockout.h"
#include "gateway/shared.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/sse.h"
#include "stores/journal.h"

enum gw_result { GW_NEXT, GW_WAIT, GW_DONE, GW_FAIL };

enum gw_kind { GW_CHAT, GW_COMPLETION, GW_EMBED, GW_RERANK, GW_MODELS, GW_MODEL };

/* Whether the request has a body, which names the model. */
static inline bool gw_kind_has_body(enum gw_kind kind)
{
    return kind != GW_MODELS && kind != GW_MODEL;
}

enum {
    GW_ID_BYTES = 72,
    GW_HEADERS_MAX = 24,
    GW_TIMING_BYTES = 288, /* of server-timing */
    GW_SUBJECTS_MAX = 4,   /* key, user, project, model */
    GW_ATTEMPTS_N = 2,     /* at a time: see hedge.c */
};

enum gw_stage_id {
    GW_STAGE_AUTH,
    GW_STAGE_PARSE,
    GW_STAGE_ANSWER,
    GW_STAGE_LIMIT,
    GW_STAGE_ROUTE,
    GW_STAGE_PROXY,
    GW_STAGE_N,
};

/* What parsing a body comes to; the worker's own while it is at it. */
struct gw_parsed {
    enum rc rc;
    struct err err;
    struct str model; /* in the request's arena */
    bool stream, include_usage, has_max_tokens;
    uint32_t max_tokens;
    uint32_t n_choices; /* prompts times n; 0: nothing is generated */
    uint64_t prefix;    /* a hash of the prompt's beginning */
};

struct gw_request {
    struct gateway *gateway;
    struct http_exchange *x; /* NULL once closed */
    enum gw_kind kind;
    enum gw_stage_id stage;
    uint64_t stage_ns[GW_STAGE_N]; /* time spent, waiting included */
    uint64_t started_ns, stage_started_ns;
    uint64_t started_wall_ns; /* by the wall clock; see gw_wall_ns */
    char id[GW_ID_BYTES];     /* x-request-id */
    char traceparent[56];     /* of the client, or "" */
    char tenant[META_KEY_ID_BYTES];
    struct cat *cat; /* held: the catalogue that the request began with */
    struct err err;
    uint64_t retry_ns; /* with err: when to come again; 0 = the row's default */
    bool failed;       /* the client got an error, whole or as its stream's last event */
    bool ended;        /* the answer is complete */

    /* auth */
    struct principal who;              /* PRINCIPAL_NONE until [auth] is through */
    const struct cat_project *project; /* who's, in `cat`; NULL = none */
    const struct cat_user *user;
    const struct cat_limits *who_limits; /* of the key or token itself; NULL = none */
    struct cat_limits token_limits;      /* a token's; the cache may let go of it */
    struct jwt_wait jwt_wait;            /* while its token is checked */

    /* parse */
    struct arena arena;
    struct buf body;
    struct gw_parsed parsed;
    bool parsing;     /* a worker has it */
    struct str model; /* "" for the list of models */
    bool stream;

    const struct cat_model *wanted;   /* what was asked for, its alias resolved */
    const struct cat_version *pinned; /* NULL = any, by weight */

    /* answer */
    struct answer_wait *answer_wait; /* while Redis is asked who has its answer */
    uint64_t unread_ms;              /* its work goes on that long when nobody reads */
    struct answer_reader *reader;    /* it is given what another request makes; NULL = it is not */
    bool replayed;                   /* … made for another client, or before */

    /* limit */
    struct limit_subject subjects[GW_SUBJECTS_MAX];
    char subject_names[GW_SUBJECTS_MAX][LIMIT_NAME_BYTES];
    uint32_t n_subjects;
    struct limit_ticket ticket;
    struct limit_ask ask;
    struct lease_wait lease_wait; /* while its leases are asked for */
    bool clamped;                 /* max_tokens goes on as below */
    uint32_t output_tokens_max;   /* of each choice */
    uint64_t budget_tokens;       /* prompt and output together; 0 = no limit */

    /* usage */
    struct journal_ticket record; /* of the journal */
    struct cat_price price;       /* what the caller pays */
    bool counted_in, settled;     /* its record was begun; was closed */
    bool estimated;               /* the server told no counts */
    int64_t cost_nano;            /* once settled */
    struct gw_why why;            /* how it went, for explain.h */

    /* route */
    struct list_node waiting;           /* on gateway.waiting while no server can take it */
    struct loop_timer wait_timer;       /* the pause before a retry */
    uint64_t wait_until_ms;             /* in line until then; 0 = not in line */
    bool pause;                         /* the last attempt broke: look again in a moment */
    char tried[CAT_NAME_BYTES_MAX + 1]; /* the server that broke last */

    /* proxy */
    struct gw_attempt attempts[GW_ATTEMPTS_N];
    struct gw_attempt *attempt; /* of these: the one that answers, or is to */
    struct gw_attempt *rival;   /* asked beside it, while neither has begun; NULL = none */
    bool hedged, racing;        /* a second server was asked; nobody has begun since */
    struct loop_timer hedge_timer;
    uint32_t n_attempts;    /* so far */
    uint64_t away_since_ns; /* the server has not begun since then; 0 = it has, or was not asked */
    bool begun;             /* the client has the head of its stream */
    size_t queued_bytes; /* of a reply that the client's connection has; held until it is taken */
    uint64_t first_event_ns;
    struct loop_timer ping_timer; /* streams: when the next comment is due */
};

/* The wall clock's time at `mono_ns`, without looking at it again: a request's times fit together
 * whatever becomes of that clock meanwhile. */
static inline uint64_t gw_wall_ns(const struct gw_request *r, uint64_t mono_ns)
{
    return r->started_wall_ns + (mono_ns - r->started_ns);
}

/* Both clocks, for limits. */
struct limit_time stages_limit_time(const struct gw_request *r);

struct gw_stage {
    struct str name; /* in server-timing */
    enum gw_result (*run)(struct gw_request *r);
};

/* The route's row in the one table of them. */
const struct policy_row *gw_kind_policy(enum gw_kind kind);
struct str stages_name(enum gw_stage_id stage);
/* The id that a request is known by: the client's own when it is well-formed, else a new one. */
void stages_make_id(struct rng *rng, const struct http_head *head, char out[GW_ID_BYTES]);

/* The route was found: walks the stages from the head on. */
void stages_start(struct gateway *g, struct http_exchange *x, enum gw_kind kind, struct str model);
/* A stage that had said GW_WAIT has come to a result. */
void stages_resume(struct gw_request *r, enum gw_result result);
/* Another request takes over what was read and decided of r up to here, for r to read what it
 * makes: it writes to `x`, and stages_resume begins it. NULL: out of memory, nothing has changed.
 */
struct gw_request *stages_fork(struct gw_request *r, struct http_exchange *x);
/* What every exchange of a request tells. */
const struct http_exchange_events *stages_events(void);
/* The stage before is run again (a retry). */
void stages_back_to(struct gw_request *r, enum gw_stage_id stage);
/* Frees the request once nothing refers to it any more. */
void stages_release(struct gw_request *r);
/* Whether who asks may have a model: by the permissions of the roles, the scopes of the key, the
 * list of the project. */
bool stage_parse_allows(const struct gw_request *r, struct str model);
/* Appends to the request's body or reply; RC_OVERLOADED when all requests together hold too much
 * (what is small always has room), RC_TOO_LARGE at the buffer's own cap. */
RC stages_hold(struct gw_request *r, struct buf *b, struct str bytes, struct err *err);
/* Gives back what such a buffer holds. */
void stages_unhold(struct gw_request *r, struct buf *b);

/* authenticate.c: whom a proved token speaks for, by the catalogue: project, user, one organisation
 * of them all, rights. *who's names are the token's; *project and *user are NULL where it has none.
 */
RC gw_take_token(const struct cat *cat, struct principal *who, const struct cat_project **project,
                 const struct cat_user **user, struct err *err);

enum gw_result stage_auth(struct gw_request *r);
/* The request is over: nothing waits for its token any more. */
void stage_auth_abandon(struct gw_request *r);
enum gw_result stage_parse(struct gw_request *r);
enum gw_result stage_answer(struct gw_request *r);
/* The request is over: nobody waits for what Redis says. */
void stage_answer_abandon(struct gw_request *r);
enum gw_result stage_limit(struct gw_request *r);
/* The request is over: no lease is waited for any more. */
void stage_limit_abandon(struct gw_request *r);
/* Gives back what was set aside, less what was used. */
void stage_limit_settle(struct gw_request *r);
/* x-ratelimit-* lines into `h`. */
struct gw_headers;
void stage_limit_headers(const struct gw_request *r, struct gw_headers *h);
enum gw_result stage_route(struct gw_request *r);
/* stage_models.c: the models of the catalogue that the caller may ask for. */
enum gw_result stage_route_models(struct gw_request *r);
/* Whether a server could take the request that is not the one which had it last. */
bool stage_route_has_other(const struct gw_request *r);
/* A server for a second attempt beside the request's: another one of the same version that is well,
 * within its limits. */
MUST_CHECK bool stage_route_second(struct gw_attempt *a);
/* The call to the server is over. */
void stage_route_finish(struct gw_attempt *a, enum breaker_end how);
/* What it used there is known. */
void stage_route_settle(struct gw_attempt *a);
void stage_route_on_timer(void *ctx);
/* Leaves the line, if it stands there. */
void stage_route_leave(struct gw_request *r);
/* Some server may be ready: lets those in line look again. */
void stage_route_wake(struct gateway *g);
/* gateway.line_timer */
void stage_route_on_line(void *ctx);
/* gateway.pulse_timer: looks whether servers from which tokens are due go on. */
void stage_route_on_pulse(void *ctx);
enum gw_result stage_proxy(struct gw_request *r);
/* proxy_request.c: what goes to the server. Edits lie in a->edited, texts in the request's arena
 * and `texts`.
 */
enum { GW_REQUEST_HEADERS_MAX = 2 + API_LINK_HEADERS_MAX };
MUST_CHECK bool proxy_request_edit(struct gw_attempt *a);
struct str proxy_request_target(struct gw_attempt *a);
uint32_t proxy_request_headers(struct gw_attempt *a, struct http_header *out,
                               struct api_header *texts);
/* hedge.c: a second server is asked when the first one has not begun in time.
 * The call to the first one has started. */
void gw_hedge_arm(struct gw_request *r);
void gw_hedge_on_timer(void *ctx);
/* It begins to answer: it answers the request, and the other one is cancelled. */
void gw_hedge_begin(struct gw_attempt *a);
/* It broke or was too slow, while the other one is at it: that one goes on alone. */
void gw_hedge_lose(struct gw_attempt *a, const char *what);
/* Its end is nobody's business any more. */
bool gw_hedge_is_lost(const struct gw_attempt *a);
/* Neither has begun, and neither will. */
void gw_hedge_over(struct gw_request *r);
/* The server that was asked as well as the one that answers; "" = none. */
struct str gw_hedge_other(const struct gw_request *r);
/* Opens the usage record. False with r->err when it cannot be written down, and policy is to refuse
 * then. */
MUST_CHECK bool stage_usage_begin(struct gw_request *r);
/* The counts of r have moved. */
void stage_usage_count(struct gw_request *r);
/* Before the last bytes of the answer go out: what the request used is known, or all that ever
 * will be. Limits are settled and the record is closed, once. `how`: RC_CANCELLED when the client
 * has gone. */
void stage_usage_settle(struct gw_request *r, enum rc how);
/* A call that nobody is billed for: its server's limits count what it told, else the prompt. */
void stage_usage_forgo(struct gw_attempt *a);
/* Once, when the exchange has closed: access line and metrics. */
void stage_usage(struct gw_request *r, enum rc how);

/* stage_parse.c: body callbacks. */
void stage_parse_body(void *ctx, struct str bytes);
void stage_parse_body_end(void *ctx, enum rc rc);
/* stage_proxy.c: the client can take more; the client is gone. */
void stage_proxy_writable(void *ctx);
void stage_proxy_on_silence(void *ctx);
void stage_proxy_abandon(struct gw_request *r);
/* Starts the call to the server that an attempt has; when it fails the server is let go. */
RC stage_proxy_start(struct gw_attempt *a, struct err *err);
/* Takes one retry from the budget for them. */
MUST_CHECK bool stage_proxy_may_retry(struct gateway *g);
/* Whether the server is to send the next part of a stream now. */
bool stage_proxy_is_due(const struct gw_attempt *a);
/* The server is away: who has nothing of an answer yet asks another. */
void stage_proxy_on_away(void *ctx, struct backend *b);

#define GW_STREAM_TYPE "text/event-stream; charset=utf-8"

/* reply.c: head fields that every answer carries, and error replies. */
struct gw_headers {
    struct http_header rows[GW_HEADERS_MAX];
    uint32_t n;
    char processing_ms[24];
    char timing[GW_TIMING_BYTES];
    char limits[6][24];
};
static inline void gw_header_str(struct gw_headers *h, struct str name, struct str value)
{
    h->rows[h->n++] = (struct http_header){name, value};
}
static inline void gw_header(struct gw_headers *h, const char *name, const char *value)
{
    gw_header_str(h, str_from(name), str_from(value));
}
void gw_headers_init(struct gw_headers *h, const struct gw_request *r, const char *content_type);
void gw_reply_error(struct gw_request *r);
/* Appends the stages' times as a comment, for the end of a stream. */
void gw_timing_comment(struct buf *out, const struct gw_request *r);
/* The model server's reply, and of its headers those that say when to come again. */
void gw_reply_whole(struct gw_request *r, struct str body);
/* The last event of a stream that had begun: `json` is an error object on one line. */
void gw_reply_last_event(struct gw_request *r, struct str json);

/* The state that stages share. Lives until it is destroyed and its last request is gone. */
struct gateway {
    struct loop *loop;
    struct gateway_conf conf;
    struct catalog *catalog;        /* of the process */
    struct relay *news;             /* its snapshots */
    struct cat *cat;                /* held: the one in force on this loop */
    struct gw_shared *shared;       /* with the gateways of other loops */
    struct lease_door *door;        /* NULL: this process counts alone */
    struct answer_hub *hub;         /* of shared->answers, for this loop */
    struct list writers;            /* of answers: work whose client reads it from the store */
    struct loop_timer answer_timer; /* forgets old ones */
    struct backends backends;
    struct http_server *http;
    struct list waiting;            /* requests that no server can take, oldest first */
    struct loop_timer line_timer;   /* looks again for them */
    struct loop_timer pulse_timer;  /* while any server holds a request */
    uint32_t n_waiting, n_requests; /* of this loop */
    struct rng rng;                 /* ids of requests: unique, not secret */
    struct arena scratch;           /* what is parsed on the loop; reset after each use */
    bool draining, destroyed;
};

/* Answers were claimed: looks after them while there are any. */
void gateway_note_answers(struct gateway *g);
/* A request is gone: frees a destroyed gateway that none refers to. */
void gateway_settle(struct gateway *g);

#endif
