/* http1.h: what http_server.c, http1.c and http1_reply.c share: the server, one connection's
 * session, its exchange. Users see http_server.h. */
#ifndef NET_HTTP1_H
#define NET_HTTP1_H

#include "base/list.h"
#include "base/pool.h"
#include "net/http1_parse.h"
#include "net/http_server.h"
#include "net/loop.h"

struct http_server {
    struct loop *loop;
    struct http_server_conf conf; /* defaults filled in */
    struct http_server_stats stats;
    struct listener *listeners[HTTP_SERVER_LISTENERS_MAX];
    uint32_t n_listeners;
    struct pool pool; /* of sessions */
    struct list sessions;
    struct buf scratch; /* heads are put together here */
    int64_t date_s;     /* second of `date` */
    char date[HTTP_DATE_BYTES];
    bool draining, destroyed;
    struct loop_timer drain_timer;
    struct loop_task drained_task;
    void (*on_drained)(void *ctx);
    void *drained_ctx;
    struct loop_task reclaim;
};

/* One request and its answer; lives inside its session and is used again for the next. */
struct http_exchange {
    const struct http_head *head;
    struct arena arena;
    const struct http_exchange_events *ev; /* NULL until accepted */
    void *ctx;
    bool live; /* handed to the handler, on_close not yet called */
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

enum http1_phase {
    HTTP1_PHASE_HEAD,      /* waits for, or is inside, a head */
    HTTP1_PHASE_BODY,      /* a body is coming */
    HTTP1_PHASE_BODY_DONE, /* it is complete, failed, or was given up */
};

struct http1_session {
    struct http_server *server;
    struct conn *conn;
    struct http1_parser *parser;
    struct list_node node;
    struct loop_task check; /* whether an ended answer is through */
    enum http1_phase phase;
    bool head_timed;  /* the head's deadline runs */
    bool close_after; /* no further request on this connection */
    struct http_exchange x;
};

static inline struct http1_session *http1_session_of(const struct http_exchange *x)
{
    return CONTAINER_OF((uintptr_t)x, struct http1_session, x);
}

/* Takes over an accepted connection; closes it when the server is full. */
void http1_session_start(struct http_server *s, struct conn *c);
/* Closes a session that has no request in work; true when it did. */
bool http1_session_close_idle(struct http1_session *ss);
/* Whether the answer now written must say that the connection closes. */
bool http1_must_close(const struct http1_session *ss);
/* Answers by the server itself and ends the connection. */
void http1_reply_error(struct http1_session *ss, int status, const char *msg);

/* "Sun, 06 Nov 1994 08:49:37 GMT" of now. */
struct str http_server_date(struct http_server *s);
/* A session is gone. */
void http_server_session_gone(struct http_server *s);

#endif
