/* key.h: API keys "sk-bud-<43 characters>" of 256 random bits (SYSTEM.md §1.3).
 *
 * Shown once, stored as HMAC-SHA-256 under a pepper that the KMS seals. A keyring is a snapshot of
 * all keys: immutable, shared by threads, looked up in O(1) by the hash, so that nothing about a
 * stored key can be learned from timing. */
#ifndef AUTH_KEY_H
#define AUTH_KEY_H

#include "base/clock.h"
#include "base/crypto.h"
#include "base/err.h"
#include "stores/kms.h"
#include "stores/meta.h"

enum { KEY_TEXT_BYTES = 64, KEYS_MAX = 1 << 20 };

/* Loads the pepper, or makes it at first use. Processes starting together agree on one. */
RC key_pepper_load(struct secret *out, struct meta *m, const struct kms *k, struct err *err);

/* A new key: its text for the owner (wipe it after showing) and its row for the store. */
struct key_options {
    const char *name;
    const char *role;
    int64_t created_s;
    int64_t expires_s;                            /* 0 = never */
    const char *project, *user, *scopes, *limits; /* as in struct meta_key; NULL = "" */
};
void key_make(const struct secret *pepper, const struct key_options *opt, char text[KEY_TEXT_BYTES],
              struct meta_key *row);
/* The row of a key whose text was chosen elsewhere (a bootstrap key file); RC_INVALID when it does
 * not look like one of ours. */
RC key_from_text(const struct secret *pepper, const struct key_options *opt, struct str text,
                 struct meta_key *row, struct err *err);

struct keyring; /* opaque */

RC keyring_load(struct keyring **out, struct meta *m, const struct secret *pepper, struct err *err);
/* NULL is allowed. */
void keyring_destroy(struct keyring *r);
uint32_t keyring_size(const struct keyring *r);
/* Keys by index in [0, size), oldest first; and the index of one that keyring_check gave. */
const struct meta_key *keyring_at(const struct keyring *r, uint32_t idx);
uint32_t keyring_index(const struct keyring *r, const struct meta_key *key);

/* RC_UNAUTHENTICATED with one message for an unknown, malformed, expired or revoked key: an
 * attacker learns nothing of which. *out lives as long as the ring. */
RC keyring_check(const struct keyring *r, struct str text, int64_t now_s,
                 const struct meta_key **out, struct err *err);

/* Whether the ring has this key, as it is and not revoked. */
bool keyring_is_valid(const struct keyring *r, const struct meta_key *key);
/* The one error of every key that is not accepted. */
enum rc keyring_refuse(struct err *err);

/* The token of an Authorization header value: "Bearer TOKEN", scheme in any case; empty when it
 * is anything else. */
struct str key_from_bearer(struct str header_value);

#endif
