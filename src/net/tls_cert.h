/* tls_cert.h: certificates of our own making, for development, tests and links between our own
 * servers: a CA on P-256, and leaves under it. Public sites get theirs elsewhere (ACME). */
#ifndef NET_TLS_CERT_H
#define NET_TLS_CERT_H

#include "base/buf.h"
#include "base/err.h"

/* Limits. */
enum {
    TLS_CERT_NAMES_MAX = 32, /* of one certificate */
    TLS_CERT_PEM_BYTES_MAX = 64 << 10,
    TLS_CERT_NAME_BYTES_MAX = 253, /* one host name */
};

struct tls_cert_conf {
    /* The first is the subject's name too. Hosts (DNS), IP addresses; of a CA any one name. */
    const struct str *names;
    uint32_t n_names;
    int64_t from_s, to_s; /* valid, in seconds since 1970 */
    bool client;          /* for a client, else for a server; unused of a CA */
    /* PEM of the CA that signs; both "" = it signs itself, as a CA. */
    struct str ca_cert, ca_key;
};

/* Appends PEM to both; `key` is secret: the caller wipes it. RC_INVALID: a name or the CA. */
RC tls_cert_make(const struct tls_cert_conf *conf, struct buf *cert, struct buf *key,
                 struct err *err);

#endif
