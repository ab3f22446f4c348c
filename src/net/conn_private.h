/* conn_private.h: a connection from the inside, for conn.c, conn_open.c and conn_tls.c. */
#ifndef NET_CONN_PRIVATE_H
#define NET_CONN_PRIVATE_H

#include "base/buf.h"
#include "base/list.h"
#include "net/conn.h"
#include "net/loop.h"
#include "net/tls_link.h"

#include <uv.h>

/* An output buffer that held more than this gives its memory back once it is empty. */
#define CONN_KEEP_BYTES (64u << 10)
/* What the longest TLS record opens to. */
#define CONN_RECORD_BYTES (17u << 10)

struct conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    uv_connect_t connect_req;
    uv_write_t write_req;
    uv_shutdown_t shutdown_req;

    struct loop *loop;
    struct conn_conf conf;
    const struct conn_events *ev; /* NULL until an accepted conn gets its owner */
    void *ctx;
    struct addr peer;
    void (*on_ready)(void *ctx, struct conn *c); /* accepted with TLS */
    void (*release)(void *ctx, struct conn *c);
    void *release_ctx;
    struct list_node stranger; /* linked while accepted and without an owner */

    struct tls_link *tls; /* NULL = plain */
    struct buf in, out, flying;
    size_t flying_bytes_max;
    struct loop_timer deadline; /* the owner's */
    struct loop_timer timer;    /* connect, greet, write stall, linger: one at a time */
    size_t stall_left_bytes;    /* what libuv still held when the stall timer was started */
    struct loop_task turn;      /* flush, deliver, close: what this turn has noted */
    struct loop_task reclaim;

    enum rc why;
    bool connecting, greeting, reading, paused, deliver_due;
    bool eof, hangup_told, end_told;
    bool was_full, flush_due; /* on_drain, on_flush owed */
    bool writing, ending, shut, closing;
};

static inline bool conn_live(const struct conn *c)
{
    return !c->closing && c->ev != NULL;
}

/* --- conn.c --- */

/* Fills a zeroed conn and its handle; libuv's error, or 0. */
int conn_init(struct conn *c, struct loop *l, bool is_unix, const struct conn_conf *conf);
/* Offers input to the owner; `fresh` has just come and is not yet in `in`. */
void conn_input(struct conn *c, struct str fresh);
/* Reads the socket while there is room, and whoever reads. */
void conn_read_update(struct conn *c);
/* Hands `out` to the kernel, as much as it takes now; libuv keeps the rest in `flying`. */
void conn_flush(struct conn *c);
/* Empties b, and gives its memory back when it held much. */
void conn_buf_renew(struct conn *c, struct buf *b);

/* --- conn_tls.c --- */

/* One step of the handshake; whether the link is open now and somebody reads it. */
bool conn_greet(struct conn *c);
/* The handshake has failed: counted, and for people to read. */
void conn_note_refusal(const struct conn *c, enum tls_why why);
/* Opens what came from the socket; all of it is used, or the connection is of no more use. */
void conn_unseal(struct conn *c, struct str wire);
/* Whether the socket has ended without the peer's word for it: for a client, whose answer may end
 * with the connection, that is a cut. */
bool conn_was_cut(const struct conn *c);
/* What TLS makes of `out`, and its own words. */
struct buf *conn_seal(struct conn *c);

#endif
