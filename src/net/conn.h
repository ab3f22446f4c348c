/* conn.h: one connection (TCP or UNIX): bytes in and out with back-pressure and deadlines.
 *
 * Order of callbacks: [on_open, for conn_connect only] → any of on_read, on_hangup, on_end,
 * on_drain, on_flush, on_deadline → on_close, exactly once and last; the conn is gone when it
 * returns. None comes before the call that caused it has returned. See conn.c for the layers. */
#ifndef NET_CONN_H
#define NET_CONN_H

#include "net/addr.h"

struct list;
struct loop;
struct conn;
struct tls_ctx;

/* Limits; a zero field of conn_conf takes the default. */
enum {
    CONN_READ_BYTES_MAX = 64 << 10,    /* unread input held; past it the socket is not read */
    CONN_WRITE_HIGH_BYTES = 256 << 10, /* queued output from which conn_is_writable is false */
    CONN_WRITE_LOW_BYTES = 64 << 10,   /* on_drain when it falls to this */
    CONN_WRITE_BYTES_MAX = 64 << 20,   /* queued output; past it the connection is closed */
    CONN_WRITE_STALL_MS = 30000,       /* no byte taken for so long: closed with RC_TIMEOUT */
    CONN_CONNECT_MS = 2000,            /* conn_connect; past it closed with RC_TIMEOUT */
    CONN_LINGER_MS = 1000,             /* conn_end waits so long for the peer's end */
    CONN_GREET_MS = 10000,             /* an accepted TLS handshake; past it closed, counted */
};

struct conn_conf {
    size_t write_high_bytes, write_low_bytes, write_bytes_max;
    uint64_t write_stall_ms;
    uint64_t connect_ms; /* TLS handshake included */
    uint64_t greet_ms;
    /* conn_connect: TLS under this context (borrowed), to a peer that proves to be this host. A
     * handshake that fails is RC_UNAVAILABLE. NULL = plain. */
    struct tls_ctx *tls;
    struct str tls_host; /* borrowed during the call */
};

struct conn_events {
    void (*on_open)(void *ctx); /* connected; NULL for accepted connections */
    /* Unread input; may be empty after conn_read_resume. Returns how many bytes were used; the rest
     * comes again with what follows, never alone. Pausing inside stops further calls, not the
     * current one. */
    size_t (*on_read)(void *ctx, struct str bytes);
    /* The peer sends no more, and all it sent has been offered to on_read: not while paused. */
    void (*on_end)(void *ctx);
    /* The peer ended its side; told at once, even while paused and before on_end; may be NULL. */
    void (*on_hangup)(void *ctx);
    void (*on_drain)(void *ctx);    /* was not writable, is again; may be NULL */
    void (*on_flush)(void *ctx);    /* the queue became empty; may be NULL */
    void (*on_deadline)(void *ctx); /* conn_deadline_set has passed; may be NULL if never set */
    /* RC_OK: closed by its owner; RC_CANCELLED: reset by the peer; RC_TIMEOUT: connect or write
     * stall; RC_UNAVAILABLE: could not connect; RC_OVERLOADED: output cap; RC_IO: the system. */
    void (*on_close)(void *ctx, enum rc why);
};

/* Connects. Failures of the network come by on_close; RC here is for the system (descriptors,
 * memory). `conf` may be NULL. */
RC conn_connect(struct conn **out, struct loop *l, const struct addr *to,
                const struct conn_conf *conf, const struct conn_events *ev, void *ctx,
                struct err *err);

/* Names who is called. An accepted conn (listen.h) reads nothing until it has its events; `ev`
 * must outlive the conn. */
void conn_set_events(struct conn *c, const struct conn_events *ev, void *ctx);

/* Paused: no on_read. The socket is still read up to CONN_READ_BYTES_MAX, so that the peer's
 * hang-up (on_hangup, on_close) is seen, unless it came behind more bytes than that. Resume calls
 * on_read at the end of this turn, with the unread input or none. Both are fine in any state. */
void conn_read_pause(struct conn *c);
void conn_read_resume(struct conn *c);

/* Queues a copy; sent at the end of this turn, or as the peer takes it. Failure comes by
 * on_close; on a connection that is closing it does nothing. */
void conn_write(struct conn *c, struct str bytes);
bool conn_is_writable(const struct conn *c);
/* Bytes queued and not yet taken by the kernel. */
size_t conn_queued_bytes(const struct conn *c);

/* One deadline for the owner's use (head, body, idle, first byte): on_deadline once after
 * after_ms, unless set again or cleared. */
void conn_deadline_set(struct conn *c, uint64_t after_ms);
void conn_deadline_clear(struct conn *c);

/* Sends what is queued, then ends our side, drops input until the peer ends or CONN_LINGER_MS
 * pass, then closes with RC_OK. No more on_read, on_end. */
void conn_end(struct conn *c);
/* Closes at once, dropping the queue; on_close(why) at the end of this turn. A second call, or one
 * after conn_end, only hastens. */
void conn_close(struct conn *c, enum rc why);

const struct addr *conn_peer(const struct conn *c);
/* TLS is spoken, and HTTP/2 was agreed on. */
bool conn_is_tls(const struct conn *c);
bool conn_is_http2(const struct conn *c);

/* --- for listen.c --- */

struct conn_accept {
    const struct conn_conf *conf; /* tls and tls_host unused */
    struct tls_ctx *tls;          /* NULL = plain */
    /* TLS: the handshake is done; gives the conn events or closes it. Unused without TLS. */
    void (*on_ready)(void *ctx, struct conn *c);
    void (*release)(void *ctx, struct conn *c);
    void *ctx;
    struct list *strangers; /* holds the conn until it is ready or gone */
};

/* Takes the connection that waits on `server` into conn_bytes() bytes of zeroed memory, which
 * `release` gets back when the conn is gone. On failure the memory stays the caller's. */
struct uv_stream_s;
size_t conn_bytes(void);
RC conn_accept(struct conn *c, struct loop *l, struct uv_stream_s *server,
               const struct conn_accept *how);
/* Closes all that are not ready yet. */
void conn_close_strangers(struct list *strangers);
/* The uid of a UNIX peer; false when the system does not tell. */
bool conn_peer_uid(const struct conn *c, uint32_t *uid);

#endif
