/* policy.h: every route of every listener, and what it needs: one table (SYSTEM.md §1.4).
 *
 * A route without a row does not exist. OPEN rows need nothing, KNOWN rows a valid key or token,
 * the others a permission; a row whose path has a name in it needs it for that name. */
#ifndef AUTH_POLICY_H
#define AUTH_POLICY_H

#include "auth/rbac.h"
#include "net/http_head.h"

enum policy_listener { POLICY_API, POLICY_ADMIN };

enum policy_need { POLICY_OPEN, POLICY_KNOWN, POLICY_PERMISSION };

/* id, listener, method, path, need, kind, action, scope's word, summary.
 * {name} in a path takes one segment, {name*} at its end the rest. The first row that fits wins. */
#define POLICY_OBJECTS(X, ID, KIND, PATH, ONE, MANY)                                               \
    X(ID##_LIST, ADMIN, GET, PATH, PERMISSION, KIND, READ, "admin", "List " MANY)                  \
    X(ID##_SHOW, ADMIN, GET, PATH "/{name}", PERMISSION, KIND, READ, "admin", "Show " ONE)         \
    X(ID##_PUT, ADMIN, PUT, PATH "/{name}", PERMISSION, KIND, WRITE, "admin",                      \
      "Make or replace " ONE)                                                                      \
    X(ID##_DELETE, ADMIN, DELETE, PATH "/{name}", PERMISSION, KIND, WRITE, "admin", "Remove " ONE)

#define POLICY_TABLE(X)                                                                            \
    X(CHAT, API, POST, "/v1/chat/completions", PERMISSION, MODELS, INVOKE, "chat", "Chat")         \
    X(COMPLETIONS, API, POST, "/v1/completions", PERMISSION, MODELS, INVOKE, "completions",        \
      "Complete a text")                                                                           \
    X(EMBEDDINGS, API, POST, "/v1/embeddings", PERMISSION, MODELS, INVOKE, "embeddings",           \
      "Embed texts")                                                                               \
    X(RERANK, API, POST, "/v1/rerank", PERMISSION, MODELS, INVOKE, "rerank", "Rank documents")     \
    X(MODELS_SEEN, API, GET, "/v1/models", PERMISSION, MODELS, READ, "models", "List models")      \
    X(MODEL_SEEN, API, GET, "/v1/models/{model*}", PERMISSION, MODELS, READ, "models",             \
      "Show a model")                                                                              \
    X(API_LIVE, API, GET, "/livez", OPEN, GATEWAY, READ, "", "Whether the process turns")          \
    X(API_READY, API, GET, "/readyz", OPEN, GATEWAY, READ, "", "Whether requests are answered")    \
    X(API_HEALTH, API, GET, "/health", OPEN, GATEWAY, READ, "", "Whether requests are answered")   \
    X(LIVE, ADMIN, GET, "/livez", OPEN, GATEWAY, READ, "", "Whether the process turns")            \
    X(READY, ADMIN, GET, "/readyz", OPEN, GATEWAY, READ, "", "Whether requests are answered")      \
    X(HEALTH, ADMIN, GET, "/health", OPEN, GATEWAY, READ, "", "Whether requests are answered")     \
    X(METRICS, ADMIN, GET, "/metrics", PERMISSION, METRICS, READ, "admin", "Metrics, as text")     \
    X(OPENAPI, ADMIN, GET, "/admin/v1/openapi.json", KNOWN, CONFIG, READ, "admin",                 \
      "This API, as an OpenAPI document")                                                          \
    X(STATUS, ADMIN, GET, "/admin/v1/health", PERMISSION, GATEWAY, READ, "admin",                  \
      "Servers, requests and memory of this gateway")                                              \
    X(DRAIN, ADMIN, POST, "/admin/v1/drain", PERMISSION, GATEWAY, WRITE, "admin",                  \
      "Finish live requests, then stop")                                                           \
    X(RELOAD, ADMIN, POST, "/admin/v1/config/reload", PERMISSION, CONFIG, WRITE, "admin",          \
      "Read settings and catalogue again")                                                         \
    X(AUDIT, ADMIN, GET, "/admin/v1/audit", PERMISSION, AUDIT, READ, "admin",                      \
      "List administrative acts, the last first")                                                  \
    X(AUDIT_VERIFY, ADMIN, GET, "/admin/v1/audit/verify", PERMISSION, AUDIT, READ, "admin",        \
      "Whether anybody has changed the audit log")                                                 \
    X(USAGE, ADMIN, GET, "/admin/v1/usage", PERMISSION, USAGE, READ, "admin",                      \
      "What requests used and cost")                                                               \
    X(REQUEST, ADMIN, GET, "/admin/v1/requests/{name}", PERMISSION, REQUESTS, READ, "admin",       \
      "What a request used, and why it went as it did")                                            \
    X(KEYS, ADMIN, GET, "/admin/v1/keys", PERMISSION, KEYS, READ, "admin", "List keys")            \
    X(KEY_CREATE, ADMIN, POST, "/admin/v1/keys", PERMISSION, KEYS, WRITE, "admin",                 \
      "Make a key; shown this once")                                                               \
    X(KEY_ROTATE, ADMIN, POST, "/admin/v1/keys/{name}/rotate", PERMISSION, KEYS, WRITE, "admin",   \
      "Make a key with another's rights, which ends later")                                        \
    X(KEY_SHOW, ADMIN, GET, "/admin/v1/keys/{name}", PERMISSION, KEYS, READ, "admin",              \
      "Show a key, not its text")                                                                  \
    X(KEY_CHANGE, ADMIN, PATCH, "/admin/v1/keys/{name}", PERMISSION, KEYS, WRITE, "admin",         \
      "Change a key's name, scopes, limits or end")                                                \
    X(KEY_REVOKE, ADMIN, DELETE, "/admin/v1/keys/{name}", PERMISSION, KEYS, WRITE, "admin",        \
      "End a key at once")                                                                         \
    X(LIMITS_LIST, ADMIN, GET, "/admin/v1/limits", PERMISSION, LIMITS, READ, "admin",              \
      "List what has limits")                                                                      \
    X(LIMITS_SHOW, ADMIN, GET, "/admin/v1/limits/{kind}/{name}", PERMISSION, LIMITS, READ,         \
      "admin", "Show the limits of a key, user, project or model")                                 \
    X(LIMITS_PUT, ADMIN, PUT, "/admin/v1/limits/{kind}/{name}", PERMISSION, LIMITS, WRITE,         \
      "admin", "Replace the limits of a key, user, project or model")                              \
    X(LIMITS_DELETE, ADMIN, DELETE, "/admin/v1/limits/{kind}/{name}", PERMISSION, LIMITS, WRITE,   \
      "admin", "Lift the limits of a key, user, project or model")                                 \
    POLICY_OBJECTS(X, ORGANISATION, ORGANISATIONS, "/admin/v1/organisations", "an organisation",   \
                   "organisations")                                                                \
    POLICY_OBJECTS(X, PROJECT, PROJECTS, "/admin/v1/projects", "a project", "projects")            \
    POLICY_OBJECTS(X, USER, USERS, "/admin/v1/users", "a user", "users")                           \
    POLICY_OBJECTS(X, ROLE, ROLES, "/admin/v1/roles", "a role", "roles")                           \
    POLICY_OBJECTS(X, MODEL, MODELS, "/admin/v1/models", "a model", "models")                      \
    POLICY_OBJECTS(X, ALIAS, ALIASES, "/admin/v1/aliases", "an alias", "aliases")                  \
    POLICY_OBJECTS(X, UPSTREAM, UPSTREAMS, "/admin/v1/upstreams", "an upstream", "upstreams")      \
    POLICY_OBJECTS(X, PRICE, PRICES, "/admin/v1/prices", "a model's price", "prices")

struct policy_row {
    const char *id;
    enum policy_listener listener;
    enum http_method method;
    const char *path;
    enum policy_need need;
    enum rbac_kind kind;
    enum rbac_action action;
    const char *scope; /* auth/scope.h's word for the route */
    const char *summary;
};

enum policy_id {
#define X(id, listener, method, path, need, kind, action, scope, summary) POLICY_ROUTE_##id,
    POLICY_TABLE(X)
#undef X
        POLICY_ROUTE_N
};

enum { POLICY_PARAMS_MAX = 2, POLICY_ALLOW_BYTES = 64 };

/* What the names in a path stand for, still percent-encoded. */
struct policy_match {
    enum policy_id id;
    struct str params[POLICY_PARAMS_MAX];
    uint32_t n_params;
};

const struct policy_row *policy_row(enum policy_id id);
/* RC_NOT_FOUND: no row has the path. RC_METHOD: some have, with other methods, which are listed in
 * `allow`. HEAD counts as GET. */
RC policy_find(enum policy_listener listener, enum http_method method, struct str path,
               struct policy_match *out, char allow[POLICY_ALLOW_BYTES]);

#endif
