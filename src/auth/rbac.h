/* rbac.h: permissions, and the roles that are sets of them (SYSTEM.md §1.4).
 *
 *   permission = KIND [ "/" NAME ] ":" ACTION        models/llama-*:invoke   keys:read   *:*
 *
 * KIND is one of RBAC_KIND_TABLE or '*' (then without a name); in NAME '*' stands for anything, no
 * name means every name; ACTION is invoke, read, write or '*'. A permission that could never match
 * (keys:invoke) is refused. What no permission allows is denied: there are no denying ones.
 *
 * Pure. Sets are compiled once, immutable, shared by threads; their memory is the arena's. */
#ifndef AUTH_RBAC_H
#define AUTH_RBAC_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

/* id, name, which actions there are (bits), whether anyone with a read permission may read it
 * whatever organisation or project he is of */
#define RBAC_KIND_TABLE(X)                                                                         \
    X(MODELS, "models", RBAC_INVOKE | RBAC_READ | RBAC_WRITE, true)                                \
    X(ALIASES, "aliases", RBAC_READ | RBAC_WRITE, true)                                            \
    X(PRICES, "prices", RBAC_READ | RBAC_WRITE, true)                                              \
    X(UPSTREAMS, "upstreams", RBAC_READ | RBAC_WRITE, false)                                       \
    X(ORGANISATIONS, "organisations", RBAC_READ | RBAC_WRITE, false)                               \
    X(PROJECTS, "projects", RBAC_READ | RBAC_WRITE, false)                                         \
    X(USERS, "users", RBAC_READ | RBAC_WRITE, false)                                               \
    X(ROLES, "roles", RBAC_READ | RBAC_WRITE, true)                                                \
    X(KEYS, "keys", RBAC_READ | RBAC_WRITE, false)                                                 \
    X(LIMITS, "limits", RBAC_READ | RBAC_WRITE, false)                                             \
    X(USAGE, "usage", RBAC_READ, false)                                                            \
    X(REQUESTS, "requests", RBAC_READ, false)                                                      \
    X(AUDIT, "audit", RBAC_READ, false)                                                            \
    X(CONFIG, "config", RBAC_READ | RBAC_WRITE, false)                                             \
    X(GATEWAY, "gateway", RBAC_READ | RBAC_WRITE, false)                                           \
    X(METRICS, "metrics", RBAC_READ, false)

enum rbac_action { RBAC_INVOKE = 1, RBAC_READ = 2, RBAC_WRITE = 4 };

enum rbac_kind {
#define X(id, name, actions, shared) RBAC_##id,
    RBAC_KIND_TABLE(X)
#undef X
        RBAC_KIND_N
};

/* Limits. */
enum {
    RBAC_NAME_BYTES_MAX = 127,
    RBAC_STARS_MAX = 4, /* in one name: bounds the time of a decision */
    RBAC_PERMISSIONS_MAX = 256,
    RBAC_ROLES_MAX = 16, /* of one caller */
};

/* One permission, read. */
struct rbac_permission {
    uint32_t kinds;  /* bits by enum rbac_kind */
    uint8_t actions; /* bits */
    struct str name; /* pattern, borrowed; "" = every name */
};

/* Compiled permissions of a role, or of several. */
struct rbac_set {
    uint8_t any[RBAC_KIND_N]; /* actions allowed on every name */
    const struct rbac_permission *named;
    uint32_t n_named;
};

/* What one caller may: what any of his roles allows, and, where `within` is set, that allows too.
 * All borrowed. Zeroed: nothing. */
struct rbac_grants {
    const struct rbac_set *roles[RBAC_ROLES_MAX];
    uint32_t n_roles;
    const struct rbac_set *within; /* NULL = not narrowed */
};

const char *rbac_kind_name(enum rbac_kind kind);
const char *rbac_action_name(enum rbac_action action);
bool rbac_kind_is_shared(enum rbac_kind kind);

/* RC_INVALID says what is wrong; out->name is borrowed from `text`. */
RC rbac_permission_parse(struct str text, struct rbac_permission *out, struct err *err);
/* Texts are copied. */
RC rbac_compile(struct rbac_set *out, const struct str *permissions, uint32_t n, struct arena *a,
                struct err *err);
/* The permissions of a built-in role (owner, admin, developer, viewer, billing); NULL when it is
 * none of them. */
const struct str *rbac_builtin(struct str role, uint32_t *n);
/* The built-in roles by index, NULL at the end. */
const char *rbac_builtin_name(uint32_t idx);

/* One bit test in the usual case. */
bool rbac_set_allows(const struct rbac_set *s, enum rbac_kind kind, enum rbac_action action,
                     struct str name);
bool rbac_allows(const struct rbac_grants *g, enum rbac_kind kind, enum rbac_action action,
                 struct str name);
/* Whether some name of that kind may be allowed: what can be said before the name is known. */
bool rbac_allows_some(const struct rbac_grants *g, enum rbac_kind kind, enum rbac_action action);
/* Whether every permission of `s` is one that `g` has: nobody may give away more than he holds.
 * Never true wrongly. */
bool rbac_covers(const struct rbac_grants *g, const struct rbac_set *s);

#endif
