/* catalog_rows.h: what the catalogue holds, as plain data, and the tables that read it from a file
 * or the store. Everything lies in one arena and is immutable once built. */
#ifndef GATEWAY_CATALOG_ROWS_H
#define GATEWAY_CATALOG_ROWS_H

#include "auth/limits.h"
#include "auth/rbac.h"
#include "base/conf.h"
#include "net/addr.h"

/* Limits. */
enum {
    CAT_OBJECTS_MAX = 4096, /* of one kind */
    CAT_VERSIONS_MAX = 16,  /* of one model */
    CAT_TARGETS_MAX = 64,   /* servers of one version */
    CAT_FALLBACKS_MAX = 8,
    CAT_NAME_BYTES_MAX = 63,
    CAT_WEIGHT_MAX = 1000,
    CAT_HEDGE_MS_MIN = 10, /* or 0 */
    CAT_HEDGE_MS_MAX = 600000,
};

/* Billionths for a million tokens, or for one image. */
struct cat_price {
    int64_t input, cached_input, output, image;
};

/* The largest unit: what one of them has, no caller of another sees. */
struct cat_organisation {
    struct str name;
};

/* A set of permissions (auth/rbac.h). */
struct cat_role {
    struct str name;
    struct conf_list permissions;
    struct rbac_set set; /* filled when the catalogue is built */
};

struct cat_project {
    struct str name;
    struct str organisation; /* "" = of none */
    struct conf_list models; /* patterns that its keys may ask for; none = all */
    struct cat_limits limits;
};

/* A person, or a program with an account of its own. */
struct cat_user {
    struct str name;
    struct str organisation; /* "" = of none */
    bool service;            /* a service account */
    struct conf_list roles;  /* names; keys of this user may do no more than these together */
    struct cat_limits limits;
    /* filled when the catalogue is built */
    struct rbac_set set; /* of all the roles */
};

enum cat_kind { CAT_BUD, CAT_OPENAI };

/* A server that answers requests: ours, or anybody's that speaks the same API. */
struct cat_upstream {
    struct str name, url;
    uint32_t kind;                            /* enum cat_kind */
    struct str key_file, key_env, sealed_key; /* of a foreign one: where it is, or as stored */
    struct str health_path;
    struct str tls_ca, tls_cert, tls_key, tls_name;
    struct conf_list tls_pins;
    uint64_t connections_max, connect_ms, first_byte_ms;
    struct cat_limits limits;
    struct cat_price price;
    /* filled when the catalogue is built */
    struct addr addr;      /* sa_bytes 0: `where` is to be resolved */
    struct str where;      /* HOST:PORT of a name */
    bool tls;              /* https://; tls_name is set then */
    struct str host, base; /* of the Host header; of the path, before /v1 */
    struct str key;        /* in the clear, in the arena, wiped with it */
};

enum cat_balance { CAT_ROUND_ROBIN, CAT_LEAST_OUTSTANDING, CAT_TWO_CHOICES, CAT_PREFIX_AFFINITY };

struct cat_version {
    struct str name;
    uint64_t weight;
    struct conf_list upstreams; /* names */
    struct str model;           /* what the servers call it; "" = the model's own name */
    uint64_t hedge_ms;          /* without a beginning until a second one is asked; 0 = never */
    /* filled when the catalogue is built */
    const struct cat_upstream **targets;
    uint32_t n_targets;
};

struct cat_model {
    struct str name;
    struct str alias; /* of this model; then nothing else is set */
    struct conf_list versions;
    struct conf_list fallback; /* names of models, tried in turn */
    uint32_t balance;          /* enum cat_balance */
    uint64_t max_tokens;    /* of an answer whose request names none, with a limit; 0 = default */
    struct cat_price price; /* what the caller pays; all zero = its upstream's */
    struct cat_limits limits;
    /* filled when the catalogue is built */
    const struct cat_model *means; /* itself, or what its alias comes to */
    const struct cat_model **next; /* fallback's models */
};

/* Output tokens of who is limited and names no max_tokens, where the model says nothing. */
enum { CAT_MAX_TOKENS_DEFAULT = 16384, CAT_MAX_TOKENS_MAX = 1 << 24 };

struct cat_set {
    struct conf_list organisations, roles, projects, users, upstreams, models;
};

extern const struct conf_row cat_set_rows[];

/* The kinds in the store, in the order of cat_set_rows; `list` is the field of struct cat_set. */
struct cat_kind_row {
    const char *kind;
    const struct conf_row *rows;
    size_t size, list;
};
enum { CAT_KINDS_N = 6 };
extern const struct cat_kind_row cat_kinds[CAT_KINDS_N];

#endif
