/* jwks.h: the public keys of one issuer: a JWK Set (RFC 7517), single JWKs, PEM.
 *
 * Filled by one thread, immutable from then on, counted by reference from any thread. Of a set,
 * keys that are of no use here (symmetric, for encryption, of another kind or curve) or that are
 * malformed or weak are left out: nothing can be proved with them. */
#ifndef AUTH_JWKS_H
#define AUTH_JWKS_H

#include "base/crypto_public.h"

enum {
    JWKS_BYTES_MAX = 256 << 10,
    JWKS_KEYS_MAX = 64, /* of one issuer */
    JWKS_KID_BYTES = 128,
};

struct jwks; /* opaque */

/* Empty, with one reference. */
struct jwks *jwks_create(void);
/* Adds the keys of a text: a JWK Set, a JWK, or one key in PEM. RC_INVALID, RC_SYNTAX, RC_TOO_LARGE
 * when it is none of these or no key of it can be used: nothing was added then, or a part. */
RC jwks_add(struct jwks *s, struct str text, struct err *err);
struct jwks *jwks_get(struct jwks *s);
/* The last one frees it. NULL is allowed. */
void jwks_put(struct jwks *s);

uint32_t jwks_size(const struct jwks *s);
/* The key that a token names, of a kind that the algorithm takes, and of that algorithm if the key
 * says one. Without a name ("") it must be the only such key. NULL = none. A key in PEM has no
 * name: it answers to every one, when it is the only such key. */
const struct crypto_public *jwks_find(const struct jwks *s, struct str kid, enum crypto_alg alg);

#endif
