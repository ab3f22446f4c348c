/* http1.h: what http_server.c, http1.c and http1_reply.c share: HTTP/1.1 on one connection of a
 * server. Users see http_server.h. */
#ifndef NET_HTTP1_H
#define NET_HTTP1_H

#include "net/http1_parse.h"
#include "net/http_exchange.h"

enum http1_phase {
    HTTP1_PHASE_HEAD,      /* waits for, or is inside, a head */
    HTTP1_PHASE_BODY,      /* a body is coming */
    HTTP1_PHASE_BODY_DONE, /* it is complete, failed, or was given up */
};

struct http1_session {
    struct http_session_link link;
    struct http_server *server;
    struct conn *conn;
    struct http1_parser *parser;
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

extern const struct http_exchange_ops http1_exchange_ops;

/* Takes over an accepted connection; closes it when the server is full. */
void http1_session_start(struct http_server *s, struct conn *c);
/* Whether the answer now written must say that the connection closes. */
bool http1_must_close(const struct http1_session *ss);
/* Answers by the server itself and ends the connection. */
void http1_reply_error(struct http1_session *ss, int status, const char *msg);
/* http_exchange_ops.resume */
void http1_body_resume(struct http_exchange *x);

#endif
