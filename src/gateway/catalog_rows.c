/* catalog_rows.c: the tables of catalog_rows.h. */
#include "gateway/catalog_rows.h"

#include "net/tls.h"

static const char *const cat_upstream_kinds[] = {"bud", "openai", NULL};
static const char *const cat_balances[] = {"round_robin", "least_outstanding", "two_choices",
                                           "prefix_affinity", NULL};

static const struct conf_row cat_price_rows[] = {
    CONF_MONEY(struct cat_price, input, "for a million prompt tokens"),
    CONF_MONEY(struct cat_price, cached_input, "for a million prompt tokens found in a cache"),
    CONF_MONEY(struct cat_price, output, "for a million output tokens"),
    CONF_MONEY(struct cat_price, image, "for one image"),
    {0},
};

#define CAT_NAME(s)                                                                                \
    {                                                                                              \
        .key = "name", .type = CONF_T_TEXT, .required = true, .offset = offsetof(s, name),         \
        .max = CAT_NAME_BYTES_MAX, .help = "by which others refer to it"                           \
    }

static const struct conf_row cat_organisation_rows[] = {
    CAT_NAME(struct cat_organisation),
    {0},
};

static const struct conf_row cat_role_rows[] = {
    CAT_NAME(struct cat_role),
    CONF_TEXTS(struct cat_role, permissions, RBAC_PERMISSIONS_MAX,
               "`KIND:ACTION` or `KIND/NAME:ACTION`, such as `models/llama-*:invoke`"),
    {0},
};

static const struct conf_row cat_project_rows[] = {
    CAT_NAME(struct cat_project),
    CONF_TEXT(struct cat_project, organisation, NULL, CAT_NAME_BYTES_MAX,
              "organisation that it belongs to; empty = none"),
    CONF_TEXTS(struct cat_project, models, 256,
               "models that its keys may ask for, `*` stands for anything; none = all"),
    CONF_GROUP(struct cat_project, limits, limits_rows, "of all its keys together"),
    {0},
};

static const struct conf_row cat_user_rows[] = {
    CAT_NAME(struct cat_user),
    CONF_TEXT(struct cat_user, organisation, NULL, CAT_NAME_BYTES_MAX,
              "organisation that it belongs to; empty = none"),
    CONF_BOOL(struct cat_user, service, "false", "a service account, not a person"),
    CONF_TEXTS(struct cat_user, roles, RBAC_ROLES_MAX,
               "no key of this user does more than these allow together; none = as its keys say"),
    CONF_GROUP(struct cat_user, limits, limits_rows, "of all keys of this user together"),
    {0},
};

static const struct conf_row cat_upstream_rows[] = {
    CAT_NAME(struct cat_upstream),
    {.key = "url",
     .type = CONF_T_TEXT,
     .required = true,
     .offset = offsetof(struct cat_upstream, url),
     .max = 255,
     .help = "`https://HOST:PORT` or `http://…`, with a path before `/v1` if there is one, or "
             "`unix:PATH`"},
    CONF_WORD(struct cat_upstream, kind, "openai", cat_upstream_kinds,
              "a server of ours, or any that speaks OpenAI's API"),
    CONF_TEXT(struct cat_upstream, key_file, NULL, 1023, "file with the key to present to it"),
    CONF_TEXT(struct cat_upstream, key_env, NULL, 127, "environment variable with that key"),
    CONF_TEXT(struct cat_upstream, sealed_key, NULL, 4096, "that key as the store keeps it"),
    CONF_TEXT(struct cat_upstream, health_path, NULL, 255,
              "asked for by health checks (default `/readyz` of ours, `/v1/models` of others)"),
    CONF_TEXT(struct cat_upstream, tls_ca, NULL, 1023,
              "CA (PEM) that its certificate must come from (default: the system's)"),
    CONF_TEXTS(struct cat_upstream, tls_pins, TLS_PINS_MAX,
               "`sha256//…` of the only keys it may have; none = any of that CA"),
    CONF_TEXT(struct cat_upstream, tls_cert, NULL, 1023, "certificate (PEM) to show to it"),
    CONF_TEXT(struct cat_upstream, tls_key, NULL, 1023, "key (PEM) of that certificate"),
    CONF_TEXT(struct cat_upstream, tls_name, NULL, 253,
              "name that its certificate must be for (default: the URL's host)"),
    CONF_NUMBER(struct cat_upstream, connections_max, "1024", 1, 65536, "connections",
                "open at once; more requests wait"),
    CONF_NUMBER(struct cat_upstream, connect_ms, "2000", 1, 600000, "ms",
                "to get a connection, waiting for one included"),
    CONF_NUMBER(struct cat_upstream, first_byte_ms, "600000", 1, 3600000, "ms",
                "from the request to the head of the answer"),
    CONF_GROUP(struct cat_upstream, limits, limits_rows, "of what is sent to it"),
    CONF_GROUP(struct cat_upstream, price, cat_price_rows, "what it costs"),
    {0},
};

static const struct conf_row cat_version_rows[] = {
    CAT_NAME(struct cat_version),
    CONF_NUMBER(struct cat_version, weight, "1", 0, CAT_WEIGHT_MAX, "share",
                "of the requests that name no version"),
    {.key = "upstreams",
     .type = CONF_T_TEXTS,
     .required = true,
     .offset = offsetof(struct cat_version, upstreams),
     .max = CAT_TARGETS_MAX,
     .help = "names of the servers that have it; `local` is this machine's own"},
    CONF_TEXT(struct cat_version, model, NULL, 255, "what these servers call the model"),
    CONF_NUMBER(struct cat_version, hedge_ms, "0", 0, CAT_HEDGE_MS_MAX, "ms",
                "without a first event or head until a second server is asked too and the first to "
                "begin answers; at least 10; 0 = never"),
    {0},
};

static const struct conf_row cat_model_rows[] = {
    CAT_NAME(struct cat_model),
    CONF_TEXT(struct cat_model, alias, NULL, CAT_NAME_BYTES_MAX,
              "another model that this name stands for; then nothing else is given"),
    CONF_GROUPS(struct cat_model, versions, struct cat_version, cat_version_rows, CAT_VERSIONS_MAX,
                "asked for by weight, or as `model@version`"),
    CONF_TEXTS(struct cat_model, fallback, CAT_FALLBACKS_MAX,
               "models that answer instead when no server of this one can"),
    CONF_WORD(struct cat_model, balance, "two_choices", cat_balances, "how a server is chosen"),
    CONF_NUMBER(struct cat_model, max_tokens, "16384", 1, CAT_MAX_TOKENS_MAX, "tokens",
                "set aside, and asked for, where a limited request names no max_tokens: what its "
                "servers take"),
    CONF_GROUP(struct cat_model, price, cat_price_rows, "what callers pay (default: its server's)"),
    CONF_GROUP(struct cat_model, limits, limits_rows, "of all requests for it together"),
    {0},
};

const struct conf_row cat_set_rows[] = {
    CONF_GROUPS(struct cat_set, organisations, struct cat_organisation, cat_organisation_rows,
                CAT_OBJECTS_MAX, "owners of projects and users, apart from one another"),
    CONF_GROUPS(struct cat_set, roles, struct cat_role, cat_role_rows, CAT_OBJECTS_MAX,
                "sets of permissions beside owner, admin, developer, viewer and billing"),
    CONF_GROUPS(struct cat_set, projects, struct cat_project, cat_project_rows, CAT_OBJECTS_MAX,
                "groups of keys"),
    CONF_GROUPS(struct cat_set, users, struct cat_user, cat_user_rows, CAT_OBJECTS_MAX,
                "owners of keys"),
    CONF_GROUPS(struct cat_set, upstreams, struct cat_upstream, cat_upstream_rows, CAT_OBJECTS_MAX,
                "servers that answer requests"),
    CONF_GROUPS(struct cat_set, models, struct cat_model, cat_model_rows, CAT_OBJECTS_MAX,
                "what clients ask for"),
    {0},
};

const struct cat_kind_row cat_kinds[CAT_KINDS_N] = {
    {"organisation", cat_organisation_rows, sizeof(struct cat_organisation),
     offsetof(struct cat_set, organisations)},
    {"role", cat_role_rows, sizeof(struct cat_role), offsetof(struct cat_set, roles)},
    {"project", cat_project_rows, sizeof(struct cat_project), offsetof(struct cat_set, projects)},
    {"user", cat_user_rows, sizeof(struct cat_user), offsetof(struct cat_set, users)},
    {"upstream", cat_upstream_rows, sizeof(struct cat_upstream),
     offsetof(struct cat_set, upstreams)},
    {"model", cat_model_rows, sizeof(struct cat_model), offsetof(struct cat_set, models)},
};
