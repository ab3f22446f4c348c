/* http_server.h: HTTP server: listeners, one handler, one exchange per request, over HTTP/1.1, and
 * over HTTP/2 where a TLS client has chosen it: a handler does not see which.
 *
 * Order of an exchange:
 *  1. The handler is called when the head is complete, before any body. It either replies at once
 *     (http_exchange_reply: the body, if any, is dropped, and there are no events at all), or
 *     calls http_exchange_accept with its events, and may reply then or later.
 *  2. Accepted with a body mode: on_body pieces, or once the whole; then on_body_end exactly once.
 *     After on_body_end with a failure (RC_TOO_LARGE, RC_TIMEOUT, RC_INVALID; RC_CANCELLED: the
 *     handler answered before the client was told to send) the handler replies as it likes, if it
 *     has not; the connection closes after that.
 *  3. The answer: http_exchange_reply (whole), or http_exchange_begin, http_exchange_write…,
 *     http_exchange_end. It may begin before the body has ended.
 *  4. on_close exactly once, last: RC_OK when the kernel (of HTTP/2: the connection's queue) has
 *     taken the whole answer, RC_TIMEOUT when the exchange lasted too long, RC_CANCELLED
 *     when the client hung up or http_exchange_abort was called, else why the connection failed.
 *     The exchange, its head and its arena are gone when on_close returns.
 * Everything between accept and on_close may be called at any time, inside callbacks or not; what
 * is written after a failure is dropped until on_close has told of it.
 *
 * A half-closed client counts as hung up. Requests of one connection are served one after the
 * other; pipelined ones wait unread. */
#ifndef NET_HTTP_SERVER_H
#define NET_HTTP_SERVER_H

#include "net/http_head.h"
#include "net/listen.h"

/* Limits; a zero field of http_server_conf takes the default. */
enum {
    HTTP_SERVER_HEADER_MS = 10000,        /* first byte of a head to its end: 408, close */
    HTTP_SERVER_BODY_MS = 30000,          /* between pieces of a body: on_body_end(RC_TIMEOUT) */
    HTTP_SERVER_BODY_TOTAL_MS = 600000,   /* from the head to the body's end: the same */
    HTTP_SERVER_TOTAL_MS = 3600000,       /* from the head to the answer's end: the connection (of
                                             HTTP/2: the stream) is closed, on_close(RC_TIMEOUT) */
    HTTP_SERVER_IDLE_MS = 75000,          /* between requests: close */
    HTTP_SERVER_DROP_BYTES_MAX = 1 << 18, /* unwanted body read to keep a connection; past: close */
    HTTP_SERVER_ARENA_BYTES_MAX = 1 << 20, /* of one exchange; the head's share is 64 KiB */
    HTTP_SERVER_LISTENERS_MAX = 16,        /* more: RC_OVERLOADED */
    HTTP_SERVER_CONNS_MAX = 1024,          /* of all listeners; more are closed and counted */
};

struct http_server;
struct http_exchange;

/* Called once per request, on the loop. Must reply or accept before it returns. */
typedef void (*http_handler)(void *ctx, struct http_exchange *x);

/* Writes the body of an error that the server answers by itself (bad head, slow head); its content
 * type is http_server_conf.error_type. */
typedef void (*http_error_format)(struct buf *out, int status, const char *msg);

struct http_server_conf {
    http_handler handler;
    void *handler_ctx;
    http_error_format error_format; /* NULL = the message as plain text */
    struct str error_type;          /* must live as long as the server */
    uint64_t header_ms, body_ms, body_total_ms, total_ms, idle_ms;
    size_t arena_bytes_max;
    uint32_t conns_max;
};

struct http_server_stats {
    uint64_t n_conns_accepted, n_conns_refused;
    uint64_t n_requests;  /* handed to the handler */
    uint64_t n_malformed; /* answered by the server itself: bad or over-long heads */
    uint64_t n_timeouts;  /* slow heads and bodies, stalled writes */
    uint64_t n_hangups;   /* exchanges that ended RC_CANCELLED by the client */
    uint32_t n_conns_open, n_exchanges_open;
};

RC http_server_create(struct http_server **out, struct loop *l, const struct http_server_conf *conf,
                      struct err *err);
/* Adds a listener; *bound (may be NULL) gets the address with the picked port. */
RC http_server_listen(struct http_server *s, const struct listen_conf *conf, struct addr *bound,
                      struct err *err);
/* Stops accepting, closes idle connections, lets live exchanges finish with `connection: close`;
 * after max_ms the rest is aborted. on_drained (may be NULL) once, when no connection is left. */
void http_server_drain(struct http_server *s, uint64_t max_ms, void (*on_drained)(void *ctx),
                       void *ctx);
/* Aborts everything: live exchanges get on_close(RC_CANCELLED) in this turn. Memory goes back when
 * the loop has turned. NULL is allowed. */
void http_server_destroy(struct http_server *s);
struct http_server_stats http_server_stats(const struct http_server *s);

/* --- one exchange --- */

const struct http_head *http_exchange_head(const struct http_exchange *x);
/* Lives as long as the exchange; holds the head; free for the handler's use. */
struct arena *http_exchange_arena(struct http_exchange *x);
const struct addr *http_exchange_peer(const struct http_exchange *x);

enum http_body_mode {
    HTTP_BODY_DROP,    /* not wanted: dropped; no body callbacks */
    HTTP_BODY_COLLECT, /* one on_body with the whole (also when empty), borrowed until on_close */
    HTTP_BODY_STREAM,  /* on_body per piece, borrowed during the call */
};

struct http_exchange_events {
    void (*on_body)(void *ctx, struct str bytes);
    void (*on_body_end)(void *ctx, enum rc rc); /* RC_OK after the last on_body; none once on_close
                                                   has come (hang-up, or answered before) */
    void (*on_writable)(void *ctx);             /* may be NULL */
    void (*on_close)(void *ctx, enum rc rc);
};

/* In the handler only. `ev` must outlive the exchange. body_bytes_max: past it (or when the head
 * already says more) on_body_end(RC_TOO_LARGE). Sends 100 Continue when it is waited for. */
void http_exchange_accept(struct http_exchange *x, enum http_body_mode mode, size_t body_bytes_max,
                          const struct http_exchange_events *ev, void *ctx);
/* HTTP_BODY_STREAM: no on_body until resumed, the client is slowed. */
void http_exchange_body_pause(struct http_exchange *x);
void http_exchange_body_resume(struct http_exchange *x);

/* Status and headers of an answer. The server adds date, connection, content-length or
 * transfer-encoding; these four must not be among `headers`. */
struct http_reply {
    int status; /* 200–599 */
    const struct http_header *headers;
    uint32_t n_headers;
    struct str body;     /* http_exchange_reply only; dropped for HEAD (its length is told) */
    bool length_known;   /* http_exchange_begin only: send content-length … */
    uint64_t body_bytes; /* … of this many bytes; the writes must add up to it */
};

/* A whole answer; bytes are copied. RC_INVALID: a header that may not be sent; nothing was sent
 * then, another reply may follow. */
RC http_exchange_reply(struct http_exchange *x, const struct http_reply *r, struct err *err);
/* Starts a streamed answer: chunked, or close-delimited for HTTP/1.0. Errors as above. */
RC http_exchange_begin(struct http_exchange *x, const struct http_reply *r, struct err *err);
/* Appends body bytes (copied); sent at the end of this turn. */
void http_exchange_write(struct http_exchange *x, struct str bytes);
/* The answer is complete. */
void http_exchange_end(struct http_exchange *x);
/* Breaks the connection, so that the client sees a cut answer; on_close(RC_CANCELLED) follows. */
void http_exchange_abort(struct http_exchange *x);
/* Whether an answer has been begun. */
bool http_exchange_has_begun(const struct http_exchange *x);
/* False while too much is queued: wait for on_writable (or go on up to CONN_WRITE_BYTES_MAX). */
bool http_exchange_is_writable(const struct http_exchange *x);

#endif
