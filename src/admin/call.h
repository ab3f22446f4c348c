/* call.h: one administrative request, without its HTTP: from a route and a body to a status and
 * JSON. The admin listener runs it on a worker, the command line directly on the stores.
 *
 * Order of a change: one transaction → the object as it is (If-Match) → may the caller, and does he
 * hold what he gives away → the change → the whole catalogue is still sound → the audit log's entry
 * → commit. Whatever fails, nothing has happened. */
#ifndef ADMIN_CALL_H
#define ADMIN_CALL_H

#include "auth/audit.h"
#include "auth/policy.h"
#include "auth/principal.h"
#include "base/json.h"

/* Limits. */
enum {
    ADMIN_BODY_BYTES_MAX = 1 << 20,   /* of a request: 413 */
    ADMIN_REPLY_BYTES_MAX = 16 << 20, /* of an answer: 413 */
    ADMIN_ARENA_BYTES_MAX = 64 << 20,
    ADMIN_PAGE_DEFAULT = 100,
    ADMIN_PAGE_MAX = 1000,
    ADMIN_ETAG_BYTES = 20,
};

/* What the gateway knows of the catalogue. */
struct admin_catalogue {
    /* Whether the store's catalogue, as it stands in this transaction, can be put in force. */
    enum rc (*check)(void *ctx, struct meta *m, struct err *err);
    /* Whether these are limits. */
    enum rc (*check_limits)(void *ctx, const struct json *limits, struct err *err);
    void *ctx;
};

/* All borrowed; one thread at a time, since `meta` is so. */
struct admin_store {
    struct meta *meta;
    const struct kms *kms;
    const struct secret *pepper;
    const struct audit *audit;
    struct admin_catalogue catalogue;
};

struct admin_call {
    /* in; strings are borrowed */
    const struct admin_store *store;
    const struct principal *who; /* NULL: who can open the stores, who may do everything */
    struct str actor;            /* for the audit log: who->id, or "local uid 0" */
    struct str source;           /* address, or "cli" */
    struct policy_match match;   /* parameters percent-encoded, as in the path */
    struct str query, text;      /* of the target; the body */
    struct str if_match, if_none_match;
    int64_t now_ms; /* wall clock */
    /* out */
    int status;
    char etag[ADMIN_ETAG_BYTES]; /* with its quotes; "" = none */
    struct buf out;
    struct err err; /* when the status is none of success */
    /* private */
    struct arena arena;
    const struct json *body; /* an object */
    struct str params[POLICY_PARAMS_MAX];
};

/* Zeroes *c and makes its memory ready. */
void admin_call_init(struct admin_call *c);
/* May be called twice and on a zeroed struct. */
void admin_call_deinit(struct admin_call *c);
/* Blocks. Fills status, etag and out; a failure's body is in the API's shape too. */
void admin_call_run(struct admin_call *c);

#endif
