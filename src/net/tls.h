/* tls.h: what one side of TLS connections is: its certificate and key, whom it trusts, which pins
 * it asks for. TLS 1.3 only (RFC 8446), no early data.
 *
 * A context is immutable and counted; connections keep the one they began with, so that a new
 * certificate drops none of them (tls_keep.h swaps them). Loading reads files: never on a loop.
 *
 * Trust is a chain to a named CA (or to the system's), and on top of it, where pins are given, the
 * SHA-256 of the peer's own public key (its SubjectPublicKeyInfo) is one of them. */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "base/err.h"
#include "base/str.h"

/* Limits. */
enum {
    TLS_PINS_MAX = 16,
    TLS_PATH_BYTES_MAX = 1024,           /* of a file's name; longer is RC_INVALID */
    TLS_PIN_TEXT_BYTES = 53,             /* "sha256//", 44 characters of base64, NUL */
    TLS_TICKET_S = 3600,                 /* a session is resumed for so long */
    TLS_PEER_CHAIN_BYTES_MAX = 64 << 10, /* certificates of a peer; more fails the handshake */
};

/* What a server asks of its clients. */
enum tls_ask { TLS_ASK_NOTHING, TLS_ASK_OPTIONAL, TLS_ASK_REQUIRED };

struct tls_conf {
    bool server;
    bool http2; /* server: offers h2 besides http/1.1 */
    enum tls_ask ask;
    /* PEM files. A server has certificate and key, a client both or none. `ca` "" = the system's
     * certificates (clients only). */
    struct str cert, key, ca;
    const struct str *pins; /* of tls_pin_parse */
    uint32_t n_pins;
};

struct tls_ctx; /* opaque */

/* Any thread; blocks. *conf is not kept. RC_INVALID names the file and says what is wrong. */
RC tls_ctx_load(struct tls_ctx **out, const struct tls_conf *conf, struct err *err);
/* Any thread. */
struct tls_ctx *tls_ctx_hold(struct tls_ctx *c);
/* NULL is allowed. */
void tls_ctx_put(struct tls_ctx *c);

/* A number that changes when one of the files does (name, size, time, inode). Blocks. */
uint64_t tls_files_stamp(const struct tls_conf *conf);

/* "sha256//" and the base64 of the digest, as curl writes it. */
RC tls_pin_parse(struct str text, unsigned char out[32], struct err *err);
/* The pin of the first certificate in a PEM file. Blocks. */
RC tls_pin_of_file(const char *path, char out[TLS_PIN_TEXT_BYTES], struct err *err);

/* --- for the tls_ files --- */

struct ssl_ctx_st;
struct bio_method_st;
struct ssl_ctx_st *tls_ctx_ssl(struct tls_ctx *c);
const struct bio_method_st *tls_ctx_bio(const struct tls_ctx *c);
bool tls_ctx_is_server(const struct tls_ctx *c);

#endif
