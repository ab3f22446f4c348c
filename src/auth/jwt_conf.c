/* jwt_conf.c: the settings of an issuer (struct jwt_issuer). */
#include "auth/jwt.h"

#define JWT_TEXT(f, def, max_, help_) CONF_TEXT(struct jwt_issuer, f, def, max_, help_)

const struct conf_row jwt_issuer_rows[] = {
    {.key = "name",
     .type = CONF_T_TEXT,
     .required = true,
     .offset = offsetof(struct jwt_issuer, name),
     .max = 63,
     .help = "for logs and metrics"},
    {.key = "issuer",
     .type = CONF_T_TEXT,
     .required = true,
     .offset = offsetof(struct jwt_issuer, issuer),
     .max = 1023,
     .help = "`iss` of its tokens, to the letter"},
    CONF_TEXTS(struct jwt_issuer, audiences, 16, "tokens whose `aud` has one of these are for us"),
    CONF_TEXTS(struct jwt_issuer, algorithms, CRYPTO_ALGS_N,
               "that it signs with: RS256, RS384, RS512, ES256, ES384, EdDSA; no others are taken"),
    CONF_TEXTS(struct jwt_issuer, key_files, 16,
               "its public keys: PEM, JWK or JWK Set, read at start"),
    JWT_TEXT(jwks_url, NULL, 1023,
             "where it publishes its keys: https, or http on loopback; instead of key_files"),
    JWT_TEXT(ca_file, NULL, 1023,
             "authorities that its server's certificate is checked against; "
             "empty = the system's"),
    CONF_NUMBER(struct jwt_issuer, leeway_s, "60", 0, 300, "s", "that its clock may differ by"),
    CONF_NUMBER(struct jwt_issuer, refresh_s, "3600", 60, 86400, "s",
                "the keys are fetched anew that often at least; sooner when their server says so"),
    JWT_TEXT(organisation_claim, NULL, 255,
             "claim that names the organisation; then a token without it is refused"),
    JWT_TEXT(project_claim, NULL, 255, "claim that names the project; dots lead into objects"),
    JWT_TEXT(user_claim, "sub", 255, "claim that names the user"),
    JWT_TEXT(roles_claim, NULL, 255, "claim with the roles: a list, or words in a text"),
    JWT_TEXT(scopes_claim, NULL, 255,
             "claim with scopes; then a token without one of ours is refused"),
    JWT_TEXT(project, NULL, 63, "project of tokens that name none"),
    JWT_TEXT(role, NULL, 63, "role of tokens that name none"),
    CONF_GROUP(struct jwt_issuer, limits, limits_rows, "of each subject of its tokens"),
    {0},
};

bool jwt_issuer_takes(const struct jwt_issuer *issuer, enum crypto_alg alg)
{
    const struct str *names = issuer->algorithms.at;
    for (uint32_t i = 0; i < issuer->algorithms.n; i++) {
        if (str_is(names[i], crypto_alg_name(alg))) {
            return true;
        }
    }
    return false;
}

enum rc jwt_issuer_check(const struct jwt_issuer *issuer, struct err *err)
{
    const struct str *names = issuer->algorithms.at;
    const struct str *audiences = issuer->audiences.at;
    enum crypto_alg alg;
    const char *what = NULL;
    if (issuer->name.len == 0 || issuer->issuer.len == 0) {
        what = "needs a name and an issuer";
    } else if (issuer->audiences.n == 0) {
        what = "needs audiences: a token for anybody is a token for nobody";
    } else if (issuer->algorithms.n == 0) {
        what = "needs algorithms: the token must not choose";
    } else if ((issuer->key_files.n == 0) == (issuer->jwks_url.len == 0)) {
        what = "needs key_files or jwks_url, one of them";
    } else if (issuer->user_claim.len == 0) {
        what = "needs a user_claim";
    }
    for (uint32_t i = 0; what == NULL && i < issuer->algorithms.n; i++) {
        what = crypto_alg_from(names[i], &alg) ? NULL
                                               : "knows the algorithms RS256, RS384, RS512, ES256, "
                                                 "ES384 and EdDSA alone";
    }
    for (uint32_t i = 0; what == NULL && i < issuer->audiences.n; i++) {
        what = audiences[i].len > 0 ? NULL : "has an empty audience";
    }
    return what == NULL ? RC_OK
                        : err_set(err, RC_INVALID, "auth.jwt %.*s: %s", STR(issuer->name), what);
}

enum rc jwt_issuers_check(const struct conf_list *issuers, struct err *err)
{
    const struct jwt_issuer *at = issuers->at;
    for (uint32_t i = 0; i < issuers->n; i++) {
        enum rc rc = jwt_issuer_check(&at[i], err);
        if (rc != RC_OK) {
            return rc;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (str_eq(at[i].name, at[j].name) || str_eq(at[i].issuer, at[j].issuer)) {
                return err_set(err, RC_INVALID, "auth.jwt %.*s: its name or issuer is there twice",
                               STR(at[i].name));
            }
        }
    }
    return RC_OK;
}

static bool jwt_copy_texts(struct conf_list *list, struct arena *a)
{
    const struct str *from = list->at;
    struct str *to = arena_alloc_array(a, MAX(list->n, 1u), sizeof(*to));
    for (uint32_t i = 0; to != NULL && i < list->n; i++) {
        to[i] = arena_str(a, from[i]);
        if (to[i].ptr == NULL) {
            return false;
        }
    }
    list->at = to;
    return to != NULL;
}

bool jwt_issuer_copy(struct jwt_issuer *out, const struct jwt_issuer *issuer, struct arena *a)
{
    *out = *issuer;
    for (const struct conf_row *row = jwt_issuer_rows; row->key != NULL; row++) {
        void *field = (char *)out + row->offset;
        bool ok = true;
        if (row->type == CONF_T_TEXT) {
            struct str *text = field;
            *text = arena_str(a, *text);
            ok = text->ptr != NULL;
        } else if (row->type == CONF_T_TEXTS) {
            ok = jwt_copy_texts(field, a);
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}
