/* seal.h: envelope encryption of one value: a data key of its own, wrapped by the KMS.
 *
 *   offset  bytes  field
 *   0       8      magic "BUDSEAL1"
 *   8       16     KMS key id, hex
 *   24      60     wrapped data key (nonce 12, key 32, tag 16)
 *   84      12     nonce of the value
 *   96      n      value, AES-256-GCM
 *   96 + n  16     tag
 *
 * The caller's context (what the value is, where it lies) is authenticated with both layers, so
 * that a sealed value cannot be moved to another place. */
#ifndef STORES_SEAL_H
#define STORES_SEAL_H

#include "base/buf.h"
#include "stores/kms.h"

enum { SEAL_OVERHEAD_BYTES = 96 + CRYPTO_TAG_BYTES };

/* Appends the sealed value. */
RC seal_value(const struct kms *k, struct str context, struct str plain, struct buf *out,
              struct err *err);
/* Appends the opened value; RC_CORRUPT when anything was changed, and `out` is then unchanged. */
RC seal_open_value(const struct kms *k, struct str context, struct str sealed, struct buf *out,
                   struct err *err);

#endif
