/* jwt.c: see jwt.h. */
#include "auth/jwt.h"

#include <math.h>

#include "auth/scope.h"
#include "base/assert.h"
#include "base/crypto.h"
#include "base/json.h"

enum { JWT_CLAIM_DEPTH_MAX = 8, JWT_ID_HASH_BYTES = 12 };

#define JWT_TIME_MAX 253402300799 /* the year 9999 */

const char *jwt_refusal_label(enum jwt_refusal r)
{
    static const char *const labels[] = {
#define X(id, label, text) label,
        JWT_REFUSALS(X)
#undef X
    };
    return labels[r];
}

enum rc jwt_refusal_err(enum jwt_refusal r, struct err *err)
{
    static const char *const texts[] = {
#define X(id, label, text) text,
        JWT_REFUSALS(X)
#undef X
    };
    ASSERT(r != JWT_OK && r < JWT_REFUSALS_N);
    return err_set(err, r == JWT_NO_KEYS ? RC_UNAVAILABLE : RC_UNAUTHENTICATED,
                   "Your token was not accepted: %s.", texts[r]);
}

bool jwt_refusal_is_suspect(enum jwt_refusal r)
{
    return r != JWT_OK && r != JWT_EXPIRED && r != JWT_NOT_YET && r != JWT_NO_KEYS;
}

/* ---- taking apart ---- */

/* A part's bytes in the arena; false when it is not base64url. */
static bool jwt_decode(struct str part, struct arena *a, struct str *out)
{
    size_t room = crypto_unbase64url_len(part.len), n = 0;
    unsigned char *bytes = arena_alloc(a, room + 1);
    if (bytes == NULL || !crypto_unbase64url(part, bytes, room, &n)) {
        return false;
    }
    *out = str_make((const char *)bytes, n);
    return true;
}

static const struct json *jwt_object(struct str part, struct arena *a)
{
    struct str text;
    const struct json *root = NULL;
    if (!jwt_decode(part, a, &text) || json_parse(text, a, &root, NULL) != RC_OK ||
        root->type != JSON_OBJECT) {
        return NULL;
    }
    return root;
}

/* Kinds of token made for something else must not pass as access tokens (RFC 8725 §3.11). */
static bool jwt_type_ok(struct str typ)
{
    static const struct str prefix = STR_LIT("application/");
    if (typ.len > prefix.len && str_eq_nocase(str_slice(typ, 0, prefix.len), prefix)) {
        typ = str_slice(typ, prefix.len, typ.len);
    }
    return str_eq_nocase(typ, STR_LIT("JWT")) || str_eq_nocase(typ, STR_LIT("at+jwt"));
}

static enum jwt_refusal jwt_read_header(struct jwt *t, const struct json *head)
{
    /* Keys that the token brings itself, extensions, and encodings other than the plain one. */
    static const char *const refused[] = {"jwk", "jku", "x5u", "x5c", "crit",
                                          "b64", "zip", "enc", "cty"};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        if (json_get(head, refused[i]) != NULL) {
            return JWT_HEADER;
        }
    }
    const struct json *alg = json_get(head, "alg"), *kid = json_get(head, "kid");
    const struct json *typ = json_get(head, "typ");
    if (typ != NULL && (typ->type != JSON_STRING || !jwt_type_ok(typ->text))) {
        return JWT_HEADER;
    }
    if (kid != NULL &&
        (kid->type != JSON_STRING || kid->text.len == 0 || kid->text.len >= JWKS_KID_BYTES)) {
        return JWT_KEY;
    }
    t->kid = kid != NULL ? kid->text : STR_LIT("");
    if (alg == NULL || alg->type != JSON_STRING || !crypto_alg_from(alg->text, &t->alg)) {
        return JWT_ALGORITHM;
    }
    return JWT_OK;
}

enum jwt_refusal jwt_parse(struct jwt *t, struct str text, struct arena *a)
{
    *t = (struct jwt){0};
    if (text.len > JWT_BYTES_MAX) {
        return JWT_TOO_LARGE;
    }
    struct str rest = text;
    struct str head_part = str_cut(&rest, '.');
    struct str claims_part = str_cut(&rest, '.');
    if (head_part.len == 0 || claims_part.len == 0 || rest.len == 0) {
        return JWT_MALFORMED; /* no signature is none, whatever the algorithm */
    }
    t->signed_part = str_slice(text, 0, head_part.len + 1 + claims_part.len);
    const struct json *head = jwt_object(head_part, a);
    if (head == NULL) {
        return JWT_MALFORMED;
    }
    enum jwt_refusal r = jwt_read_header(t, head);
    if (r != JWT_OK) {
        return r;
    }
    t->claims = jwt_object(claims_part, a);
    if (t->claims == NULL || !jwt_decode(rest, a, &t->signature)) {
        return JWT_MALFORMED;
    }
    const struct json *iss = json_get(t->claims, "iss");
    if (iss == NULL || iss->type != JSON_STRING || iss->text.len == 0) {
        return JWT_ISSUER;
    }
    t->issuer = iss->text;
    return JWT_OK;
}

/* ---- proving ---- */

enum jwt_refusal jwt_verify(const struct jwt *t, const struct jwt_issuer *issuer,
                            const struct jwks *keys)
{
    if (!str_eq(t->issuer, issuer->issuer)) {
        return JWT_ISSUER;
    }
    if (!jwt_issuer_takes(issuer, t->alg)) {
        return JWT_ALGORITHM;
    }
    const struct crypto_public *key = jwks_find(keys, t->kid, t->alg);
    if (key == NULL) {
        return JWT_KEY;
    }
    return crypto_public_verify(key, t->alg, t->signed_part, t->signature) ? JWT_OK : JWT_SIGNATURE;
}

/* ---- claims ---- */

/* NumericDate (RFC 7519 §2): seconds, fractions allowed; rounded down. */
static bool jwt_time(const struct json *v, int64_t *out)
{
    double d = 0;
    if (v->type != JSON_NUMBER || !json_to_f64(v, &d) || !(d >= 0) || d > (double)JWT_TIME_MAX) {
        return false;
    }
    *out = (int64_t)floor(d);
    return true;
}

static enum jwt_refusal jwt_check_times(const struct json *claims, int64_t leeway_s, int64_t now_s,
                                        int64_t *until_s)
{
    const struct json *exp = json_get(claims, "exp"), *nbf = json_get(claims, "nbf");
    const struct json *iat = json_get(claims, "iat");
    int64_t exp_s = 0, nbf_s = 0, iat_s = 0;
    if (exp == NULL || !jwt_time(exp, &exp_s) || (nbf != NULL && !jwt_time(nbf, &nbf_s)) ||
        (iat != NULL && !jwt_time(iat, &iat_s))) {
        return JWT_CLAIMS;
    }
    *until_s = exp_s + leeway_s;
    if (now_s >= *until_s) {
        return JWT_EXPIRED;
    }
    return now_s + leeway_s < MAX(nbf_s, iat_s) ? JWT_NOT_YET : JWT_OK;
}

static bool jwt_is_for(const struct jwt_issuer *issuer, struct str audience)
{
    const struct str *ours = issuer->audiences.at;
    for (uint32_t i = 0; i < issuer->audiences.n; i++) {
        if (str_eq(ours[i], audience)) {
            return true;
        }
    }
    return false;
}

static bool jwt_audience_ok(const struct json *claims, const struct jwt_issuer *issuer)
{
    const struct json *aud = json_get(claims, "aud");
    if (aud == NULL || aud->type == JSON_STRING) {
        return aud != NULL && jwt_is_for(issuer, aud->text);
    }
    if (aud->type == JSON_ARRAY) {
        JSON_EACH(aud, it)
        {
            if (it->type == JSON_STRING && jwt_is_for(issuer, it->text)) {
                return true;
            }
        }
    }
    return false;
}

static const struct json *jwt_member(const struct json *object, struct str name)
{
    if (object != NULL && object->type == JSON_OBJECT) {
        JSON_EACH(object, it)
        {
            if (str_eq(it->name, name)) {
                return it;
            }
        }
    }
    return NULL;
}

static const struct json *jwt_claim(const struct json *claims, struct str path)
{
    if (path.len == 0) {
        return NULL;
    }
    const struct json *v = jwt_member(claims, path);
    if (v == NULL) {
        v = claims;
        for (int depth = 0; v != NULL && path.len > 0; depth++) {
            v = depth < JWT_CLAIM_DEPTH_MAX ? jwt_member(v, str_cut(&path, '.')) : NULL;
        }
    }
    return v != NULL && v->type != JSON_NULL ? v : NULL;
}

/* Names go into logs and messages. */
static bool jwt_name_ok(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c < 0x20 || c == 0x7F) {
            return false;
        }
    }
    return s.len <= JWT_NAME_BYTES_MAX;
}

/* A claim that is one name, or `fallback` where there is none. */
static bool jwt_name(const struct json *claims, struct str path, struct str fallback,
                     struct arena *a, struct str *out)
{
    const struct json *v = jwt_claim(claims, path);
    struct str text = v == NULL ? fallback : v->type == JSON_STRING ? v->text : STR_NULL;
    if (v != NULL && (text.len == 0 || !jwt_name_ok(text))) {
        return false;
    }
    *out = arena_str(a, text);
    return out->ptr != NULL;
}

/* Appends a word; one that holds a space could pass for two and is left out. */
static void jwt_add_word(struct buf *b, struct str word)
{
    if (word.len > 0 && str_find(word, STR_LIT(" ")) == word.len && jwt_name_ok(word)) {
        buf_add_cstr(b, b->len > 0 ? " " : "");
        buf_add_str(b, word);
    }
}

/* A claim that is a list of words, or a text of words; `fallback` where it is absent. */
static bool jwt_words(const struct json *claims, struct str path, struct str fallback,
                      struct arena *a, struct str *out)
{
    struct buf words;
    const struct json *v = jwt_claim(claims, path);
    struct str text = v == NULL ? fallback : v->type == JSON_STRING ? v->text : STR_NULL;
    bool ok = v == NULL || v->type == JSON_STRING || v->type == JSON_ARRAY;
    buf_init(&words, JWT_NAME_BYTES_MAX);
    while (text.len > 0) {
        jwt_add_word(&words, str_cut(&text, ' '));
    }
    if (v != NULL && v->type == JSON_ARRAY) {
        JSON_EACH(v, it)
        {
            ok = ok && it->type == JSON_STRING;
            jwt_add_word(&words, it->text);
        }
    }
    *out = arena_str(a, buf_str(&words));
    ok = ok && buf_ok(&words) && out->ptr != NULL;
    buf_deinit(&words);
    return ok;
}

/* Of the words of a claim those that are scopes of ours. A claim without any gives no right. */
static bool jwt_scopes(const struct json *claims, struct str path, struct arena *a, struct str *out)
{
    struct str all;
    struct buf ours;
    bool ok = jwt_words(claims, path, STR_LIT(""), a, &all);
    buf_init(&ours, JWT_NAME_BYTES_MAX);
    while (ok && all.len > 0) {
        struct str word = str_cut(&all, ' ');
        if (scope_check(word, NULL) == RC_OK) {
            jwt_add_word(&ours, word);
        }
    }
    *out = arena_str(a, buf_str(&ours));
    ok = ok && buf_ok(&ours) && out->ptr != NULL && (path.len == 0 || out->len > 0);
    buf_deinit(&ours);
    return ok;
}

/* One id for an issuer's subject, that says neither: logs and model servers see it. */
static bool jwt_id(const struct jwt *t, struct str sub, struct arena *a, struct str *out)
{
    unsigned char hash[CRYPTO_SHA256_BYTES];
    char hex[2 * JWT_ID_HASH_BYTES + 1];
    struct buf b;
    buf_init(&b, JWT_BYTES_MAX);
    buf_add_str(&b, t->issuer);
    buf_add_byte(&b, '\0');
    buf_add_str(&b, sub);
    bool ok = buf_ok(&b);
    crypto_sha256(buf_str(&b), hash);
    crypto_hex(hash, JWT_ID_HASH_BYTES, hex);
    buf_deinit(&b);
    *out = arena_printf(a, "jwt_%s", hex);
    ASSERT(out->len < PRINCIPAL_ID_BYTES);
    return ok && out->ptr != NULL;
}

enum jwt_refusal jwt_claims(const struct jwt *t, const struct jwt_issuer *issuer, int64_t now_s,
                            struct arena *a, struct jwt_identity *out)
{
    const struct json *sub = json_get(t->claims, "sub");
    struct principal *who = &out->who;
    *out = (struct jwt_identity){.who = {.kind = PRINCIPAL_JWT}, .limits = issuer->limits};
    enum jwt_refusal r =
        jwt_check_times(t->claims, (int64_t)issuer->leeway_s, now_s, &out->until_s);
    if (r != JWT_OK) {
        return r;
    }
    if (!jwt_audience_ok(t->claims, issuer)) {
        return JWT_AUDIENCE;
    }
    if (sub == NULL || sub->type != JSON_STRING || sub->text.len == 0 || !jwt_name_ok(sub->text)) {
        return JWT_CLAIMS;
    }
    bool ok = jwt_id(t, sub->text, a, &who->id) &&
              jwt_name(t->claims, issuer->organisation_claim, STR_LIT(""), a, &who->organisation) &&
              jwt_name(t->claims, issuer->project_claim, issuer->project, a, &who->project) &&
              jwt_name(t->claims, issuer->user_claim, sub->text, a, &who->user) &&
              jwt_words(t->claims, issuer->roles_claim, issuer->role, a, &who->roles) &&
              jwt_scopes(t->claims, issuer->scopes_claim, a, &who->scopes);
    /* Who is of no organisation is of the whole installation: not by leaving a claim out. */
    ok = ok && (issuer->organisation_claim.len == 0 || who->organisation.len > 0);
    return ok ? JWT_OK : JWT_CLAIMS;
}
