/* kms.h: wraps and unwraps data keys with a key-encryption key that never leaves it.
 *
 * This one keeps its key in a file (mode 0600) on this machine; immutable after opening, shared by
 * threads. */
#ifndef STORES_KMS_H
#define STORES_KMS_H

#include "base/crypto.h"
#include "base/err.h"

enum {
    KMS_ID_BYTES = 17,
    KMS_WRAPPED_BYTES = CRYPTO_NONCE_BYTES + CRYPTO_KEY_BYTES + CRYPTO_TAG_BYTES
};

struct kms; /* opaque */

/* Opens the key file, or makes one: several processes starting together end up with one key. */
RC kms_open_file(struct kms **out, const char *path, struct err *err);
/* Wipes the key. NULL is allowed. */
void kms_close(struct kms *k);
/* Hex name of the key-encryption key: says which key a sealed value needs, tells nothing of it. */
const char *kms_key_id(const struct kms *k);

/* `context` is bound to the wrapped key: unwrapping needs the same one. */
RC kms_wrap(const struct kms *k, struct str context, const unsigned char data_key[CRYPTO_KEY_BYTES],
            unsigned char wrapped[KMS_WRAPPED_BYTES]);
/* RC_CORRUPT when the bytes, the context or the key do not belong together. */
RC kms_unwrap(const struct kms *k, struct str context,
              const unsigned char wrapped[KMS_WRAPPED_BYTES],
              unsigned char data_key[CRYPTO_KEY_BYTES], struct err *err);

#endif
