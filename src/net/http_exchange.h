/* http_exchange.h: between the server's protocols (http1.c, http2.c) and the handler's calls: what
 * every exchange has, whichever protocol carries it. Users see http_server.h. */
#ifndef NET_HTTP_EXCHANGE_H
#define NET_HTTP_EXCHANGE_H

#include "base/list.h"
#include "base/pool.h"
#include "net/http_server.h"
#include "net/loop.h"

/* One connection as the server knows it; the first member of each protocol's session. */
struct http_session_link {
    struct list_node node;
    struct conn *conn;
    /* The server drains: an idle session ends now, another says that it takes no more. */
    void (*on_drain)(struct http_session_link *s);
};

struct http_server {
    struct loop *loop;
    struct http_server_conf conf; /* defaults filled in */
    struct http_server_stats stats;
    struct listener *listeners[HTTP_SERVER_LISTENERS_MAX];
    uint32_t n_listeners;
    struct pool pool;     /* of HTTP/1 sessions */
    struct list sessions; /* of all */
    struct buf scratch;   /* heads are put together here */
    int64_t date_s;       /* second of `date` */
    char date[HTTP_DATE_BYTES];
    bool draining, destroyed;
    struct loop_timer drain_timer;
    struct loop_task drained_task;
    void (*on_drained)(void *ctx);
    void *drained_ctx;
    struct loop_task reclaim;
};

/* What a protocol does for an exchange. None may call the handler's events before it returns. */
struct http_exchange_ops {
    /* The answer's head; length < 0: not known before. Nothing has changed on failure. */
    RC(*head)
    (struct http_exchange *x, const struct http_reply *r, int64_t length, struct err *err);
    void (*body)(struct http_exchange *x, struct str bytes);
    void (*end)(struct http_exchange *x);
    void (*abort)(struct http_exchange *x);
    void (*resume)(struct http_exchange *x); /* the request's body */
    bool (*is_writable)(const struct http_exchange *x);
};

/* One request and its answer; lives inside its protocol's struct. */
struct http_exchange {
    const struct http_exchange_ops *ops;
    struct conn *conn;       /* NULL: one that the handler's side has made up */
    const struct addr *peer; /* of such a one */
    const struct http_head *head;
    struct arena arena;
    const struct http_exchange_events *ev; /* NULL until accepted */
    void *ctx;
    uint64_t begun_ms; /* when the handler got it */
    bool live;         /* handed to the handler, on_close not yet called */
    bool handling;     /* the handler runs */
    /* body in */
    enum http_body_mode mode;
    size_t body_bytes_max;
    uint64_t body_seen_bytes;
    struct buf body;
    bool body_paused;
    bool continued; /* 100 Continue was sent */
    /* answer out */
    bool begun, ended, aborted;
    bool no_body, chunked, counted;
    uint64_t left_bytes; /* counted: still to be written */
};

/* Hands it to the handler, whose promise is checked. */
void http_exchange_handle(struct http_server *s, struct http_exchange *x);
/* The end: on_close, if somebody waits for it. */
void http_exchange_close(struct http_server *s, struct http_exchange *x, enum rc rc);
/* Whether the handler wants the body. */
static inline bool http_exchange_wants_body(const struct http_exchange *x)
{
    return x->live && x->ev != NULL && x->mode != HTTP_BODY_DROP;
}
/* A piece of the body, counted in body_seen_bytes already. RC_TOO_LARGE, RC_NOMEM: it has failed.
 */
RC http_exchange_take_body(struct http_exchange *x, struct str piece);
/* The body's end, or (rc) why there is none. Only if wanted; at most once. */
void http_exchange_end_body(struct http_exchange *x, enum rc rc);
/* Milliseconds from now until the exchange has lasted too long; 0 = it has. */
uint64_t http_exchange_left_ms(const struct http_server *s, const struct http_exchange *x);
/* Whether a caller's header is one of those that the server alone writes. */
bool http_exchange_is_reserved(struct str name);
/* The body of an answer of the server's own. */
void http_exchange_error_body(const struct http_server *s, struct buf *out, int status,
                              const char *msg);
/* Counts a message or stream that was refused below the handler. `reason` is a literal. */
void http_server_note_refusal(const char *reason);

/* "Sun, 06 Nov 1994 08:49:37 GMT" of now. */
struct str http_server_date(struct http_server *s);
/* A session begins, and is gone. */
void http_server_session_add(struct http_server *s, struct http_session_link *link);
void http_server_session_gone(struct http_server *s, struct http_session_link *link);

#endif
