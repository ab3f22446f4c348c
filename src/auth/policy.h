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
    X(METRICS, ADMIN, GET, "/metrics", PERMISSION, METRICS, READ, "admin", "Metrics, as text")

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
