/* audit.h: the audit log: who did what to which object, when and from where, as a chain that shows
 * whether anybody has changed it (SYSTEM.md §1.4).
 *
 *   mac(n)    = HMAC(K, mac(n-1) ‖ entry n)          K lies sealed by the KMS
 *   head      = the last entry's number and mac, with HMAC(K, number ‖ mac)
 *
 * Without K nobody can change, insert, reorder or drop an entry, the last ones included, unseen.
 * Who can put an older copy of the whole database back can hide what came after: keep a head that
 * `bud audit verify` or the log has shown elsewhere, and have it looked for (audit_verify's
 * `known`). Entries are added in the transaction of the act itself, so that neither is without the
 * other, and writers of several processes queue at the database's own lock.
 *
 * Immutable after opening, shared by threads. */
#ifndef AUTH_AUDIT_H
#define AUTH_AUDIT_H

#include "stores/kms.h"
#include "stores/meta.h"

struct audit; /* opaque */

/* Makes the key and the first entry where there are none. RC_CORRUPT when the key is gone and
 * entries are there. */
RC audit_open(struct audit **out, struct meta *m, const struct kms *k, struct err *err);
/* The same for looking only: RC_NOT_FOUND when there is no log. */
RC audit_open_existing(struct audit **out, struct meta *m, const struct kms *k, struct err *err);
/* NULL is allowed. */
void audit_close(struct audit *a);

/* One act. Texts are cut at META_AUDIT_TEXT_BYTES_MAX. */
struct audit_entry {
    int64_t time_ms;
    struct str who;           /* "key_…", "jwt_…", "local uid 0" */
    struct str what;          /* "key.create" */
    struct str object;        /* "keys/key_…" */
    struct str source;        /* address of the caller, or "cli" */
    struct str before, after; /* hex digests of what the object was and is; "" = nothing */
};

/* Ends the transaction of the act: writes its entry and commits both, then logs them with the new
 * head. A failure leaves the transaction to be rolled back. RC_CORRUPT: the head is not ours:
 * somebody has changed the log, and going on would cover it. */
RC audit_commit(const struct audit *a, struct meta *m, const struct audit_entry *e,
                struct err *err);

enum { AUDIT_HEAD_TEXT_BYTES = 96 };

struct audit_report {
    int64_t n_entries;
    int64_t bad_seq;                  /* the first that is wrong; 0 = none */
    char head[AUDIT_HEAD_TEXT_BYTES]; /* "NUMBER:MAC", to be kept elsewhere */
};

/* Walks the whole log. RC_CORRUPT says what is wrong. `known`: a head of earlier, "" = none. */
RC audit_verify(const struct audit *a, struct meta *m, struct str known, struct audit_report *out,
                struct err *err);

/* Hex SHA-256, as entries name what an object was. */
enum { AUDIT_DIGEST_BYTES = 65 };
void audit_digest(struct str bytes, char out[AUDIT_DIGEST_BYTES]);

#endif
