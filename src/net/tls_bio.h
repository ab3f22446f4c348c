/* tls_bio.h: between tls.c and tls_link.c: how OpenSSL reads what a link was fed and writes into
 * its wire buffer. */
#ifndef NET_TLS_BIO_H
#define NET_TLS_BIO_H

#include <openssl/bio.h>

/* NULL: out of memory. The caller frees it, after the last BIO made from it. */
BIO_METHOD *tls_bio_create(void);

#endif
