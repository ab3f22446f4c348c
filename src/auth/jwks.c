/* jwks.c: see jwks.h. */
#include "auth/jwks.h"

#include <stdatomic.h>

#include "base/arena.h"
#include "base/crypto.h"
#include "base/json.h"
#include "base/mem.h"

enum {
    JWKS_ARENA_BYTES_MAX = 8 << 20,
    JWKS_NUMBER_BYTES_MAX = CRYPTO_RSA_BITS_MAX / 8 + 1,
};

struct jwks_key {
    char kid[JWKS_KID_BYTES]; /* "" = none */
    bool any_alg;
    enum crypto_alg alg; /* unless any_alg */
    struct crypto_public *key;
};

struct jwks {
    atomic_uint n_refs;
    uint32_t n;
    struct jwks_key keys[JWKS_KEYS_MAX];
};

struct jwks *jwks_create(void)
{
    struct jwks *s = mem_zalloc(sizeof(*s));
    atomic_init(&s->n_refs, 1);
    return s;
}

struct jwks *jwks_get(struct jwks *s)
{
    atomic_fetch_add_explicit(&s->n_refs, 1, memory_order_relaxed);
    return s;
}

void jwks_put(struct jwks *s)
{
    if (s == NULL || atomic_fetch_sub_explicit(&s->n_refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        crypto_public_destroy(s->keys[i].key);
    }
    mem_free(s);
}

uint32_t jwks_size(const struct jwks *s)
{
    return s->n;
}

/* ---- one JWK ---- */

static struct str jwk_text(const struct json *jwk, const char *name)
{
    const struct json *v = json_get(jwk, name);
    return v != NULL && v->type == JSON_STRING ? v->text : STR_NULL;
}

/* A base64url member as bytes in `out`; empty when it is not one. */
static struct str jwk_bytes(const struct json *jwk, const char *name,
                            unsigned char out[JWKS_NUMBER_BYTES_MAX])
{
    size_t n = 0;
    if (!crypto_unbase64url(jwk_text(jwk, name), out, JWKS_NUMBER_BYTES_MAX, &n)) {
        return STR_NULL;
    }
    return str_make((const char *)out, n);
}

static bool jwk_verifies(const struct json *jwk)
{
    const struct json *use = json_get(jwk, "use"), *ops = json_get(jwk, "key_ops");
    if (use != NULL && !(use->type == JSON_STRING && str_is(use->text, "sig"))) {
        return false;
    }
    if (ops == NULL) {
        return true;
    }
    if (ops->type == JSON_ARRAY) {
        JSON_EACH(ops, op)
        {
            if (op->type == JSON_STRING && str_is(op->text, "verify")) {
                return true;
            }
        }
    }
    return false;
}

static enum rc jwk_make(struct crypto_public **out, const struct json *jwk, struct err *err)
{
    unsigned char a[JWKS_NUMBER_BYTES_MAX], b[JWKS_NUMBER_BYTES_MAX];
    struct str kty = jwk_text(jwk, "kty"), crv = jwk_text(jwk, "crv");
    if (str_is(kty, "RSA")) {
        return crypto_public_rsa(out, jwk_bytes(jwk, "n", a), jwk_bytes(jwk, "e", b), err);
    }
    if (str_is(kty, "EC")) {
        return crypto_public_ec(out, crv, jwk_bytes(jwk, "x", a), jwk_bytes(jwk, "y", b), err);
    }
    if (str_is(kty, "OKP") && str_is(crv, "Ed25519")) {
        return crypto_public_ed25519(out, jwk_bytes(jwk, "x", a), err);
    }
    return err_set(err, RC_INVALID, "a key of type '%.*s': RSA, EC and OKP (Ed25519) are taken",
                   (int)MIN(kty.len, (size_t)16), kty.ptr != NULL ? kty.ptr : "");
}

static enum rc jwks_add_jwk(struct jwks *s, const struct json *jwk, struct err *err)
{
    struct jwks_key k = {.any_alg = true};
    const struct json *alg = json_get(jwk, "alg");
    if (s->n == JWKS_KEYS_MAX) {
        return err_set(err, RC_TOO_LARGE, "more than %d keys of one issuer", JWKS_KEYS_MAX);
    }
    if (!jwk_verifies(jwk)) {
        return err_set(err, RC_INVALID, "a key that is not for signatures");
    }
    if (alg != NULL) {
        k.any_alg = false;
        if (alg->type != JSON_STRING || !crypto_alg_from(alg->text, &k.alg)) {
            return err_set(err, RC_INVALID, "a key for an algorithm that is not taken");
        }
    }
    if (!str_copy(k.kid, sizeof(k.kid), jwk_text(jwk, "kid"))) {
        return err_set(err, RC_INVALID, "a key whose kid is over %d bytes", JWKS_KID_BYTES - 1);
    }
    enum rc rc = jwk_make(&k.key, jwk, err);
    if (rc == RC_OK && !k.any_alg && !crypto_public_fits(k.key, k.alg)) {
        crypto_public_destroy(k.key);
        rc = err_set(err, RC_INVALID, "a key of another kind than its algorithm");
    }
    if (rc == RC_OK) {
        s->keys[s->n++] = k;
    }
    return rc;
}

/* ---- a text ---- */

static enum rc jwks_add_set(struct jwks *s, const struct json *keys, struct err *err)
{
    uint32_t before = s->n;
    enum rc rc = RC_OK;
    if (keys->type != JSON_ARRAY) {
        return err_set(err, RC_INVALID, "a JWK Set whose keys are no list");
    }
    JSON_EACH(keys, jwk)
    {
        rc = jwks_add_jwk(s, jwk, err);
        if (rc == RC_TOO_LARGE) {
            return rc;
        }
    }
    if (s->n > before) {
        return RC_OK;
    }
    return rc == RC_OK ? err_set(err, RC_INVALID, "a JWK Set without keys")
                       : err_context(err, "no key of the JWK Set can be used; the last one is");
}

static enum rc jwks_add_json(struct jwks *s, struct str text, struct err *err)
{
    struct arena a;
    const struct json *root = NULL;
    arena_init(&a, JWKS_ARENA_BYTES_MAX);
    enum rc rc = json_parse(text, &a, &root, err);
    if (rc == RC_OK) {
        const struct json *keys = json_get(root, "keys");
        rc = keys != NULL ? jwks_add_set(s, keys, err) : jwks_add_jwk(s, root, err);
    }
    arena_deinit(&a);
    return rc;
}

enum rc jwks_add(struct jwks *s, struct str text, struct err *err)
{
    struct str trimmed = str_trim(text);
    if (text.len > JWKS_BYTES_MAX) {
        return err_set(err, RC_TOO_LARGE, "keys of %zu bytes, at most %d", text.len,
                       JWKS_BYTES_MAX);
    }
    if (str_starts(trimmed, STR_LIT("{"))) {
        return jwks_add_json(s, trimmed, err);
    }
    if (s->n == JWKS_KEYS_MAX) {
        return err_set(err, RC_TOO_LARGE, "more than %d keys of one issuer", JWKS_KEYS_MAX);
    }
    struct jwks_key k = {.any_alg = true};
    enum rc rc = crypto_public_pem(&k.key, trimmed, err);
    if (rc == RC_OK) {
        s->keys[s->n++] = k;
    }
    return rc;
}

/* ---- looking up ---- */

const struct crypto_public *jwks_find(const struct jwks *s, struct str kid, enum crypto_alg alg)
{
    const struct jwks_key *only = NULL;
    bool several = false;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct jwks_key *k = &s->keys[i];
        if (!crypto_public_fits(k->key, alg) || (!k->any_alg && k->alg != alg)) {
            continue;
        }
        if (kid.len > 0 && k->kid[0] != '\0' && str_is(kid, k->kid)) {
            return k->key;
        }
        if (kid.len == 0 || k->kid[0] == '\0') {
            several = several || only != NULL;
            only = k;
        }
    }
    return only != NULL && !several ? only->key : NULL;
}
