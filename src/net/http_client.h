/* http_client.h: one request to an upstream and its response (HTTP/1.1).
 *
 * Order of callbacks: [on_head → on_body…] → on_end, exactly once and last, also after a cancel;
 * the call is gone when on_end returns. None comes before http_client_start has returned; when
 * that fails there are none. 1xx responses are skipped. A kept connection that turns out dead
 * before any byte of the response came is replaced once, for requests marked replayable. */
#ifndef NET_HTTP_CLIENT_H
#define NET_HTTP_CLIENT_H

#include "net/http_head.h"
#include "net/http_pool.h"

/* Limits; a zero field of http_client_conf takes the default. */
enum {
    HTTP_CLIENT_FIRST_BYTE_MS = 600000, /* request sent to head of the response: RC_TIMEOUT */
    HTTP_CLIENT_IDLE_MS = 120000,       /* between pieces of the body, unless paused: RC_TIMEOUT */
    HTTP_CLIENT_HEAD_ARENA_BYTES = 128 << 10,
};

struct http_call;

struct http_client_conf {
    enum http_method method;
    struct str target; /* "/v1/models?x=1" */
    /* Without host, connection, content-length, transfer-encoding: the client writes these, and
     * finding one is RC_INVALID. */
    const struct http_header *headers;
    uint32_t n_headers;
    /* Sent whole. Target and headers are copied; the body is borrowed until on_end. */
    struct str body;
    /* May be sent again on a fresh connection when a kept one was dead. */
    bool replayable;
    uint64_t first_byte_ms, idle_ms;
};

/* How a call ended. */
struct http_call_result {
    /* RC_OK: response complete. RC_CANCELLED: http_client_cancel or pool destroyed. RC_UNAVAILABLE:
     * could not connect. RC_TIMEOUT: connect, first byte or idle. RC_UPSTREAM: closed early or
     * malformed. */
    enum rc rc;
    bool sent;        /* bytes of the request were written: it may have had effect */
    bool head_seen;   /* on_head was called */
    const char *what; /* one sentence without address, static or borrowed during the call */
};

struct http_client_events {
    /* Head and strings are valid until on_end or http_client_cancel. */
    void (*on_head)(void *ctx, const struct http_head *head);
    void (*on_body)(void *ctx, struct str bytes); /* borrowed during the call */
    void (*on_end)(void *ctx, const struct http_call_result *r);
};

/* `ev` must outlive the call. RC_OVERLOADED: the pool's line is full. RC_INVALID: a header or
 * target that may not be sent. */
RC http_client_start(struct http_call **out, struct http_pool *pool,
                     const struct http_client_conf *conf, const struct http_client_events *ev,
                     void *ctx, struct err *err);
/* No on_body until resumed; the upstream is slowed; the idle deadline rests. */
void http_client_pause(struct http_call *c);
void http_client_resume(struct http_call *c);
/* Whether the request goes out, or has gone: it may have had effect. */
bool http_client_is_sent(const struct http_call *c);
/* Closes the connection, so that the upstream stops; on_end(RC_CANCELLED) at the end of this turn,
 * no other callback before it. A second call does nothing. */
void http_client_cancel(struct http_call *c);

#endif
