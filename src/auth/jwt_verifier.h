/* jwt_verifier.h: tokens checked for one loop: the issuers' keys, a cache of what was proved, and
 * workers for what was not.
 *
 *   token ──in the cache──> identity, at once
 *     └──> worker: jwt_parse, jwt_verify, jwt_claims ──> cache, and everybody who waits for it
 *            └─ unknown key: once the issuer's keys were fetched anew, once more
 *
 * The cache knows tokens by a keyed hash, never by their text; an entry lives until the token
 * expires, or other keys are in force at its issuer. All functions on the loop's thread. */
#ifndef AUTH_JWT_VERIFIER_H
#define AUTH_JWT_VERIFIER_H

#include "auth/jwks_source.h"

/* Limits. */
enum {
    JWT_CACHE_MAX = 8192, /* tokens; the longest unused one goes first */
    JWT_CHECKS_MAX = 512, /* different tokens being checked: RC_OVERLOADED */
    JWT_PARKED_MAX = 128, /* of them waiting for keys to come; more are refused at once */
};

struct jwt_verifier; /* opaque */

struct jwt_verifier_conf {
    const struct conf_list *issuers; /* struct jwt_issuer, checked; copied */
    struct jwks_source_conf source;  /* times alone; zero = defaults */
};

/* Reads key files; fetching begins. */
RC jwt_verifier_create(struct jwt_verifier **out, struct loop *l,
                       const struct jwt_verifier_conf *conf, struct err *err);
/* One on another loop: its own cache and checks, and the keys of `leader`, which must outlive it.
 * While neither loop runs. */
RC jwt_verifier_follow(struct jwt_verifier **out, struct loop *l, struct jwt_verifier *leader,
                       struct err *err);
/* Who waits is told nothing any more; checks under way end by themselves. NULL is allowed. */
void jwt_verifier_destroy(struct jwt_verifier *v);

/* `id` is NULL when `why` is not JWT_OK, else it lives during the call. */
typedef void (*jwt_cb)(void *ctx, const struct jwt_identity *id, enum jwt_refusal why);

/* One request that waits; embedded in it. */
struct jwt_wait {
    /* private */
    struct list_node node;
    struct jwt_check *check; /* NULL = does not wait */
    jwt_cb cb;
    void *ctx;
};

/* Whose token it is, if that is known; NULL: it must be checked. Lives until the loop's next turn.
 */
const struct jwt_identity *jwt_verifier_known(struct jwt_verifier *v, struct str token);
/* Checks it: cb later, once, on the loop. RC_OVERLOADED, RC_NOMEM: no cb. */
RC jwt_verifier_check(struct jwt_verifier *v, struct str token, struct jwt_wait *w, jwt_cb cb,
                      void *ctx, struct err *err);
/* No cb any more. Fine when it does not wait, or is zeroed. */
void jwt_verifier_cancel(struct jwt_wait *w);

#endif
