/* seal.c: see the byte table in seal.h. */
#include "stores/seal.h"

#include "base/assert.h"
#include "base/mem.h"

enum {
    SEAL_AT_ID = 8,
    SEAL_AT_WRAPPED = 24,
    SEAL_AT_NONCE = SEAL_AT_WRAPPED + KMS_WRAPPED_BYTES,
    SEAL_AT_VALUE = SEAL_AT_NONCE + CRYPTO_NONCE_BYTES,
    SEAL_ID_BYTES = KMS_ID_BYTES - 1,
};

_Static_assert(SEAL_AT_VALUE + CRYPTO_TAG_BYTES == SEAL_OVERHEAD_BYTES, "seal.h's table");
_Static_assert(SEAL_AT_ID + SEAL_ID_BYTES == SEAL_AT_WRAPPED, "seal.h's table");

static const char seal_magic[SEAL_AT_ID] = {'B', 'U', 'D', 'S', 'E', 'A', 'L', '1'};

enum rc seal_value(const struct kms *k, struct str context, struct str plain, struct buf *out,
                   struct err *err)
{
    unsigned char *p = (unsigned char *)buf_reserve(out, SEAL_OVERHEAD_BYTES + plain.len);
    if (p == NULL) {
        return err_set(err, RC_TOO_LARGE, "sealing %zu bytes: no room", plain.len);
    }
    unsigned char key[CRYPTO_KEY_BYTES];
    crypto_random(key, sizeof(key));
    memcpy(p, seal_magic, sizeof(seal_magic));
    memcpy(p + SEAL_AT_ID, kms_key_id(k), SEAL_ID_BYTES);
    crypto_random(p + SEAL_AT_NONCE, CRYPTO_NONCE_BYTES);
    enum rc rc = kms_wrap(k, context, key, p + SEAL_AT_WRAPPED);
    if (rc == RC_OK) {
        rc = crypto_seal(key, p + SEAL_AT_NONCE, context, plain, p + SEAL_AT_VALUE,
                         p + SEAL_AT_VALUE + plain.len);
    }
    mem_wipe(key, sizeof(key));
    if (rc != RC_OK) {
        return err_set(err, rc, "sealing failed");
    }
    buf_commit(out, SEAL_OVERHEAD_BYTES + plain.len);
    return RC_OK;
}

enum rc seal_open_value(const struct kms *k, struct str context, struct str sealed, struct buf *out,
                        struct err *err)
{
    const unsigned char *p = (const unsigned char *)sealed.ptr;
    if (sealed.len < SEAL_OVERHEAD_BYTES || memcmp(p, seal_magic, sizeof(seal_magic)) != 0) {
        return err_set(err, RC_CORRUPT, "not a sealed value");
    }
    if (memcmp(p + SEAL_AT_ID, kms_key_id(k), SEAL_ID_BYTES) != 0) {
        return err_set(err, RC_CORRUPT, "sealed with key %.*s, the key at hand is %s",
                       SEAL_ID_BYTES, (const char *)p + SEAL_AT_ID, kms_key_id(k));
    }
    size_t n = sealed.len - SEAL_OVERHEAD_BYTES;
    unsigned char *plain = (unsigned char *)buf_reserve(out, n);
    if (plain == NULL) {
        return err_set(err, RC_TOO_LARGE, "opening %zu bytes: no room", n);
    }
    unsigned char key[CRYPTO_KEY_BYTES];
    enum rc rc = kms_unwrap(k, context, p + SEAL_AT_WRAPPED, key, err);
    if (rc == RC_OK) {
        struct str value = str_make((const char *)p + SEAL_AT_VALUE, n);
        rc = crypto_open(key, p + SEAL_AT_NONCE, context, value, p + SEAL_AT_VALUE + n, plain);
        if (rc != RC_OK) {
            rc = err_set(err, rc, "a sealed value was changed");
        }
    }
    mem_wipe(key, sizeof(key));
    if (rc == RC_OK) {
        buf_commit(out, n);
    }
    return rc;
}
