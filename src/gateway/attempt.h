/* attempt.h: one call to one server for a request, with all that belongs to that call alone: where
 * it goes, what was set aside there, what goes out, what has come back.
 *
 * It lies in its request, and is used again for the next attempt once its call has ended. The
 * request's loop only. Not here: what the client has seen (struct gw_request). */
#ifndef GATEWAY_ATTEMPT_H
#define GATEWAY_ATTEMPT_H

#include "api/link.h"
#include "base/buf.h"
#include "base/list.h"
#include "gateway/backend.h"
#include "gateway/limit.h"
#include "net/http_client.h"
#include "net/sse.h"

struct gw_request;

enum {
    GW_UPSTREAM_HEADERS_MAX = 3,          /* when to come again */
    GW_ATTEMPT_EVENT_BYTES_MAX = 4 << 20, /* of one event from the model server */
};

struct gw_attempt {
    struct gw_request *request;

    /* where it goes; NULL before the first one is routed */
    const struct cat_model *model_row; /* what was asked for, or a fallback of it */
    const struct cat_version *version;
    const struct cat_upstream *upstream;
    struct backend *backend;     /* begun; NULL = none */
    struct list_node at_backend; /* on its list while it is begun */
    struct limit_ticket ticket;  /* at the server */
    uint32_t try_idx;            /* of the request's why.tries */

    /* what goes out */
    struct http_call *call; /* NULL while none is under way */
    struct buf edited;      /* the body with what this server needs; empty = as received */
    bool hide_usage;        /* the client did not ask for the chunk that we did */

    /* what has come back */
    int status;                                         /* 0 = no head */
    struct api_header headers[GW_UPSTREAM_HEADERS_MAX]; /* passed on with an error */
    uint32_t n_headers;
    bool is_stream, saw_done, saw_error;
    bool began;  /* the head of a whole reply, or the first event of a stream */
    bool paused; /* the client takes no more */
    struct sse sse;
    struct buf reply;  /* whole replies */
    bool has_counts;   /* the server told how many tokens */
    uint32_t n_events; /* of its stream, for who has to estimate */
    uint32_t prompt_tokens, cached_tokens, output_tokens;
};

/* `a` is zeroed. */
void gw_attempt_init(struct gw_attempt *a, struct gw_request *r);
/* Before the next call: nothing has come back, nothing has been used. */
void gw_attempt_reset(struct gw_attempt *a);
/* Gives back the bytes that it holds: bodies and replies. */
void gw_attempt_unhold(struct gw_attempt *a);
/* Its call has ended. */
void gw_attempt_deinit(struct gw_attempt *a);

#endif
