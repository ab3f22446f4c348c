/* tls_link.h: TLS on one connection: sealed bytes in, plain bytes out, and the other way. Knows no
 * socket: conn.c feeds it what came and sends what it has made.
 *
 * Order of calls: create → feed and greet until TLS_OPEN → feed and read; write; end → destroy.
 * What is fed is borrowed until greet and read have said TLS_WANT, or TLS_FAILED. */
#ifndef NET_TLS_LINK_H
#define NET_TLS_LINK_H

#include "base/buf.h"
#include "net/tls.h"

enum tls_step {
    TLS_WANT,   /* all that was fed is used; more is needed */
    TLS_OPEN,   /* greet: the handshake is done; read: bytes were read */
    TLS_ENDED,  /* the peer sends no more, and has said so (close_notify) */
    TLS_FAILED, /* tls_link_why says why; what is in the wire buffer tells the peer */
};

/* Why a handshake or a connection failed: a metric's label. */
enum tls_why {
    TLS_WHY_NOTHING,
    TLS_WHY_PLAIN,     /* HTTP without TLS */
    TLS_WHY_VERSION,   /* the peer cannot speak TLS 1.3 */
    TLS_WHY_NO_CERT,   /* required and not shown */
    TLS_WHY_EXPIRED,   /* the peer's certificate is, or is not valid yet */
    TLS_WHY_UNTRUSTED, /* no chain to a CA we know */
    TLS_WHY_NAME,      /* a certificate of another host */
    TLS_WHY_PIN,       /* none of the pins */
    TLS_WHY_ALPN,      /* no protocol in common */
    TLS_WHY_ALERT,     /* the peer refused us */
    TLS_WHY_TIMEOUT,   /* the handshake took too long */
    TLS_WHY_HANGUP,    /* the peer went away in the middle of it */
    TLS_WHY_PROTOCOL,  /* anything else that is not TLS as it should be */
    TLS_WHY_N
};
const char *tls_why_name(enum tls_why why);

struct tls_link; /* opaque */

/* Holds the context. `host` (clients): the name or address that the certificate must be for.
 * wire_bytes_max: sealed bytes that may wait; more fails the link. */
RC tls_link_create(struct tls_link **out, struct tls_ctx *ctx, struct str host,
                   size_t wire_bytes_max, struct err *err);
/* NULL is allowed. */
void tls_link_destroy(struct tls_link *t);

void tls_link_feed(struct tls_link *t, struct str wire);
/* Goes on with the handshake: TLS_WANT, TLS_OPEN, TLS_FAILED. A client's first call needs no
 * input. */
enum tls_step tls_link_greet(struct tls_link *t);
/* Plain bytes; TLS_OPEN with *n > 0, else *n is 0. */
enum tls_step tls_link_read(struct tls_link *t, char *dst, size_t room, size_t *n);
/* Seals all of `plain` into the wire buffer. RC_NOMEM: it is full; RC_IO: the link has failed. */
RC tls_link_write(struct tls_link *t, struct str plain);
/* Says that no more will be written (close_notify), once. */
void tls_link_end(struct tls_link *t);

/* What is to be sent; the caller takes it out, or swaps the buffer. */
struct buf *tls_link_wire(struct tls_link *t);
enum tls_why tls_link_why(const struct tls_link *t);
/* After the handshake: HTTP/2 was agreed on. */
bool tls_link_is_http2(const struct tls_link *t);

#endif
