/* crypto.h: the only door to libcrypto for hashing, sealing and random bytes.
 *
 * Secrets travel in struct secret: never formatted or logged, compared in constant time, wiped
 * when given back (STYLE.md D23). All functions are thread-safe. */
#ifndef BASE_CRYPTO_H
#define BASE_CRYPTO_H

#include "base/err.h"
#include "base/str.h"

enum {
    CRYPTO_SHA256_BYTES = 32,
    CRYPTO_HASH_STATE_BYTES = 112,
    CRYPTO_KEY_BYTES = 32,   /* AES-256 */
    CRYPTO_NONCE_BYTES = 12, /* GCM */
    CRYPTO_TAG_BYTES = 16,
    SECRET_BYTES_MAX = 256,
};

struct secret {
    /* private */
    unsigned char bytes[SECRET_BYTES_MAX];
    size_t len;
};

/* False when longer than SECRET_BYTES_MAX. */
MUST_CHECK bool secret_set(struct secret *s, struct str bytes);
void secret_wipe(struct secret *s);
static inline struct str secret_str(const struct secret *s)
{
    return str_make((const char *)s->bytes, s->len);
}

/* Time depends on the lengths only. */
bool crypto_equal(struct str a, struct str b);
/* From the kernel; ends the process when the kernel cannot. */
void crypto_random(void *out, size_t bytes);

void crypto_sha256(struct str data, unsigned char out[CRYPTO_SHA256_BYTES]);
void crypto_hmac_sha256(struct str key, struct str data, unsigned char out[CRYPTO_SHA256_BYTES]);

/* A key made ready for many HMACs: the hash's state behind each of its two pads. As secret as the
 * key: wiped when done. Immutable after crypto_hmac_init, shared by threads. */
struct crypto_hmac {
    /* private */
    ALIGNED(8) unsigned char inner[CRYPTO_HASH_STATE_BYTES];
    ALIGNED(8) unsigned char outer[CRYPTO_HASH_STATE_BYTES];
};
void crypto_hmac_init(struct crypto_hmac *h, struct str key);
void crypto_hmac_wipe(struct crypto_hmac *h);
/* The same as crypto_hmac_sha256 of its key, at a tenth of the cost. */
void crypto_hmac_run(const struct crypto_hmac *h, struct str data,
                     unsigned char out[CRYPTO_SHA256_BYTES]);

/* AES-256-GCM (NIST SP 800-38D). A nonce is never used twice with one key. `out` has room for
 * plain.len bytes; the tag is written apart. */
RC crypto_seal(const unsigned char key[CRYPTO_KEY_BYTES],
               const unsigned char nonce[CRYPTO_NONCE_BYTES], struct str aad, struct str plain,
               unsigned char *out, unsigned char tag[CRYPTO_TAG_BYTES]);
/* RC_CORRUPT when the key, nonce, aad, bytes or tag do not belong together; `out` is wiped then. */
RC crypto_open(const unsigned char key[CRYPTO_KEY_BYTES],
               const unsigned char nonce[CRYPTO_NONCE_BYTES], struct str aad, struct str sealed,
               const unsigned char tag[CRYPTO_TAG_BYTES], unsigned char *out);

/* Lower-case hex; writes 2 * n characters and a NUL. */
void crypto_hex(const void *bytes, size_t n, char *out);
/* The other way: 2 * n hex digits of either case. False when that is not what `text` is. */
MUST_CHECK bool crypto_unhex(struct str text, void *out, size_t n);
/* URL-safe base64 without padding (RFC 4648 §5); writes crypto_base64url_len(n) and a NUL. */
void crypto_base64url(const void *bytes, size_t n, char *out);
static inline size_t crypto_base64url_len(size_t n)
{
    return (n * 4 + 2) / 3;
}
/* The other way, strictly: no padding, no other character, no bit behind the last byte, so that
 * each value has one text. False when it is not that, or longer than `room`. */
MUST_CHECK bool crypto_unbase64url(struct str text, void *out, size_t room, size_t *n);
/* Bytes that such a text of n characters means, when it is one. */
static inline size_t crypto_unbase64url_len(size_t n)
{
    return n / 4 * 3 + (n % 4 * 3) / 4;
}

#endif
