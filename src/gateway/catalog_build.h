/* catalog_build.h: a whole catalogue from its parts: names resolved, addresses found, keys opened.
 *
 * Immutable once built (but for what is atomic), counted by reference: a request holds the one it
 * began with, on whichever thread. Building blocks (names of hosts are looked up): on a worker, or
 * at start. */
#ifndef GATEWAY_CATALOG_BUILD_H
#define GATEWAY_CATALOG_BUILD_H

#include <stdatomic.h>

#include "auth/key.h"
#include "auth/principal.h"
#include "base/map.h"
#include "gateway/catalog_rows.h"

#define CAT_LOCAL "local" /* this machine's own model server */

/* What this process brings along: its own model server, if it has one. */
struct cat_local {
    struct addr addr;         /* sa_bytes 0 = none */
    const struct str *models; /* borrowed; models of that name need no entry in the catalogue */
    uint32_t n_models;
};

/* What belongs to one key. */
struct cat_key {
    const struct meta_key *row;
    struct principal who;
    atomic_uint touched; /* catalog.c: the poll in which its use was noted */
    atomic_bool gone;    /* ended since this catalogue was built, which could not be built anew */
    bool orphan; /* its project or user is not in the catalogue: what bounds it is not known */
    const struct cat_project *project; /* NULL = none */
    const struct cat_user *user;       /* NULL = none */
    struct cat_limits limits;
};

struct cat {
    struct arena arena;
    atomic_uint n_refs;
    int64_t loaded_s; /* wall clock */
    struct cat_set set;
    const struct cat_upstream *local; /* NULL = none */
    bool only_local;                  /* no model but those of this machine's own server */
    struct map organisations, roles, projects, users, upstreams, models; /* by name */
    struct keyring *keys;
    struct cat_key *by_key; /* by keyring_index */
};

/* From the store. RC_INVALID and others say which object is wrong. */
RC cat_load(struct cat **out, struct meta *m, const struct kms *kms, const struct secret *pepper,
            const struct cat_local *local, struct err *err);
/* Checks objects as cat_load would, without keys and secrets; fills fields of theirs on the way. */
RC cat_check(struct cat_set *set, const struct cat_local *local, struct err *err);
/* The same for the store as it stands, without looking hosts up: fast, also inside a transaction.
 */
RC cat_check_store(struct meta *m, const struct cat_local *local, struct err *err);
void cat_hold(struct cat *c);
/* The last one wipes and frees it. NULL is allowed. */
void cat_put(struct cat *c);

/* Whether a key of the keyring may be used: RC_UNAUTHENTICATED, RC_FORBIDDEN. */
RC cat_key_check(const struct cat_key *k, struct err *err);

/* What a role of that name allows, built in or not; NULL = there is none. */
const struct rbac_set *cat_role_find(const struct cat *c, struct str name);
/* Looks up the roles that a principal shows; what its user may bounds them. Unknown roles, and
 * those past RBAC_ROLES_MAX, grant nothing. */
void cat_grant(const struct cat *c, struct principal *p);

/* The model of that name, its alias resolved; a "@version" behind the name is cut off into
 * *version (NULL when there is none). NULL = no such model, or no such version. */
const struct cat_model *cat_model_find(const struct cat *c, struct str name,
                                       const struct cat_version **version);

#endif
