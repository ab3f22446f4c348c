/* crypto_public.h: public keys and the signatures they prove, with the algorithms of JOSE
 * (RFC 7518 §3, RFC 8037).
 *
 * A key knows what kind it is, and an algorithm takes keys of its own kind only: RSA of 2048 to
 * 8192 bits for RS256, RS384, RS512; P-256 for ES256, P-384 for ES384; Ed25519 for EdDSA. Keys are
 * checked when they are made, immutable afterwards and shared by threads. Verifying takes 0.03 to
 * 1 ms: not on a loop. */
#ifndef BASE_CRYPTO_PUBLIC_H
#define BASE_CRYPTO_PUBLIC_H

#include "base/err.h"
#include "base/str.h"

enum crypto_alg {
    CRYPTO_RS256,
    CRYPTO_RS384,
    CRYPTO_RS512,
    CRYPTO_ES256,
    CRYPTO_ES384,
    CRYPTO_EDDSA,
    CRYPTO_ALGS_N,
};

enum {
    CRYPTO_RSA_BITS_MIN = 2048,
    CRYPTO_RSA_BITS_MAX = 8192,
    CRYPTO_SIGNATURE_BYTES_MAX = CRYPTO_RSA_BITS_MAX / 8,
};

/* By its name in JOSE ("ES256"), case and all; false: none of these. */
MUST_CHECK bool crypto_alg_from(struct str name, enum crypto_alg *out);
const char *crypto_alg_name(enum crypto_alg alg);

struct crypto_public; /* opaque */

/* All: RC_INVALID says what is wrong with the key. Numbers are big-endian bytes, as in a JWK. */
RC crypto_public_rsa(struct crypto_public **out, struct str n, struct str e, struct err *err);
/* `curve` is "P-256" or "P-384"; coordinates have the curve's full length. */
RC crypto_public_ec(struct crypto_public **out, struct str curve, struct str x, struct str y,
                    struct err *err);
RC crypto_public_ed25519(struct crypto_public **out, struct str x, struct err *err);
/* A PEM "PUBLIC KEY" or "CERTIFICATE"; anything behind the first of them is not looked at. */
RC crypto_public_pem(struct crypto_public **out, struct str pem, struct err *err);
/* NULL is allowed. */
void crypto_public_destroy(struct crypto_public *k);

/* Whether the algorithm takes keys of this kind. */
bool crypto_public_fits(const struct crypto_public *k, enum crypto_alg alg);
/* Whether `signature`, as JOSE writes it (ECDSA: r and s, each of the curve's length), is one of
 * `message` by the key's owner. False for a key that does not fit. */
MUST_CHECK bool crypto_public_verify(const struct crypto_public *k, enum crypto_alg alg,
                                     struct str message, struct str signature);

#endif
