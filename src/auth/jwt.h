/* jwt.h: what a JSON Web Token says, and whether it may be believed (RFC 7519, RFC 8725).
 *
 *   text ──jwt_parse──> token ──jwt_verify──> proved to be the issuer's ──jwt_claims──> who it is
 *
 * The issuer is found by the token's `iss`, and everything else by that issuer's rules: which
 * algorithms, which keys, which audience. The token never chooses: a header that brings or names
 * a key of its own, or demands an extension (crit), is refused, as are repeated names, padding,
 * and algorithms other than those of crypto_public.h. Pure; time comes in as an argument. */
#ifndef AUTH_JWT_H
#define AUTH_JWT_H

#include "auth/jwks.h"
#include "auth/limits.h"
#include "auth/principal.h"
#include "base/arena.h"
#include "base/conf.h"

enum {
    JWT_BYTES_MAX = 8 << 10,
    JWT_ARENA_BYTES_MAX = 256 << 10, /* for reading one */
    JWT_ISSUERS_MAX = 16,
    JWT_NAME_BYTES_MAX = 255, /* of a project, user, organisation; roles or scopes together */
};

/* id, label of the counter, what the client is told */
#define JWT_REFUSALS(X)                                                                            \
    X(OK, "", "")                                                                                  \
    X(MALFORMED, "malformed", "it is not a well-formed JSON Web Token")                            \
    X(TOO_LARGE, "too_large", "it is too long")                                                    \
    X(HEADER, "header", "its header has a member that is not taken")                               \
    X(ALGORITHM, "algorithm", "its algorithm is not one of its issuer's")                          \
    X(ISSUER, "issuer", "its issuer is not known")                                                 \
    X(KEY, "key", "its issuer has no such key")                                                    \
    X(SIGNATURE, "signature", "its signature is not its issuer's")                                 \
    X(EXPIRED, "expired", "it has expired")                                                        \
    X(NOT_YET, "not_yet", "it is not valid yet")                                                   \
    X(AUDIENCE, "audience", "it is meant for somebody else")                                       \
    X(CLAIMS, "claims", "a claim is missing or cannot be used")                                    \
    X(NO_KEYS, "no_keys", "the keys of its issuer cannot be had now")

enum jwt_refusal {
#define X(id, label, text) JWT_##id,
    JWT_REFUSALS(X)
#undef X
        JWT_REFUSALS_N
};
const char *jwt_refusal_label(enum jwt_refusal r);
/* RC_UNAUTHENTICATED with the row's sentence; RC_UNAVAILABLE for JWT_NO_KEYS. */
enum rc jwt_refusal_err(enum jwt_refusal r, struct err *err);
/* Whether it speaks of somebody who tries: a token that is merely out of date does not. */
bool jwt_refusal_is_suspect(enum jwt_refusal r);

/* One issuer, as settings give it. Claims are named by their member's name, or by a path with dots
 * ("realm_access.roles") where there is no member of the whole name. */
struct jwt_issuer {
    struct str name;             /* for logs and metrics */
    struct str issuer;           /* `iss`, compared byte for byte */
    struct conf_list audiences;  /* one of them must be in `aud` */
    struct conf_list algorithms; /* as JOSE names them */
    struct conf_list key_files;  /* PEM, JWK, JWK Set */
    struct str jwks_url, ca_file;
    uint64_t leeway_s;  /* that clocks may differ by */
    uint64_t refresh_s; /* of the URL's keys, at the latest */
    struct str organisation_claim, project_claim, user_claim, roles_claim, scopes_claim;
    struct str project;       /* of tokens that name none; "" = none */
    struct str role;          /* of tokens that name none; "" = none */
    struct cat_limits limits; /* of each subject */
};

extern const struct conf_row jwt_issuer_rows[];
/* What the rows alone cannot tell; the message names the issuer. Reads no file. */
RC jwt_issuer_check(const struct jwt_issuer *issuer, struct err *err);
/* The same for a list of them, whose names and `iss` must differ. */
RC jwt_issuers_check(const struct conf_list *issuers, struct err *err);
/* A copy whose strings lie in the arena. False: no room. */
MUST_CHECK bool jwt_issuer_copy(struct jwt_issuer *out, const struct jwt_issuer *issuer,
                                struct arena *a);
bool jwt_issuer_takes(const struct jwt_issuer *issuer, enum crypto_alg alg);

/* A token taken apart; nothing is proved yet. Everything lies in the arena. */
struct jwt {
    struct str signed_part, signature;
    enum crypto_alg alg;
    struct str kid;    /* "" = none */
    struct str issuer; /* `iss` */
    const struct json *claims;
};

/* Whose token it is, when everything was proved. Strings lie in the arena given. */
struct jwt_identity {
    struct principal who;
    struct cat_limits limits; /* its issuer's for each subject */
    int64_t until_s;          /* leeway included; wall clock */
};

/* `text` is borrowed as long as the arena. */
enum jwt_refusal jwt_parse(struct jwt *t, struct str text, struct arena *a);
/* Whether the issuer has signed it, with a key and an algorithm of its own. Slow: on a worker. */
enum jwt_refusal jwt_verify(const struct jwt *t, const struct jwt_issuer *issuer,
                            const struct jwks *keys);
enum jwt_refusal jwt_claims(const struct jwt *t, const struct jwt_issuer *issuer, int64_t now_s,
                            struct arena *a, struct jwt_identity *out);

#endif
