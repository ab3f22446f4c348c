/* A token's text never breaks the reader, and none is proved that the owner of the key has not
 * signed: whatever comes through here was in the corpus as it is. Key sets are read too, from
 * inputs that begin with '{'. */
#include <stdlib.h>

#include "auth/jwt.h"
#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_keys(struct str text)
{
    struct jwks *s = jwks_create();
    struct err err;
    if (jwks_add(s, text, &err) == RC_OK) {
        ASSERT(jwks_size(s) > 0 && jwks_size(s) <= JWKS_KEYS_MAX);
    }
    (void)jwks_find(s, STR_LIT("k"), CRYPTO_ES256);
    jwks_put(s);
}

static void read_token(struct str text)
{
    static const char key[] = "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"k\","
                              "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}";
    struct str audience = STR_LIT("bud"), algorithm = STR_LIT("EdDSA");
    struct jwt_issuer issuer = {.name = STR_LIT("i"),
                                .issuer = STR_LIT("i"),
                                .audiences = {&audience, 1},
                                .algorithms = {&algorithm, 1},
                                .user_claim = STR_LIT("sub"),
                                .roles_claim = STR_LIT("realm.roles"),
                                .project_claim = STR_LIT("p")};
    struct arena a;
    struct jwt t;
    struct jwt_identity id;
    struct err err;
    arena_init(&a, JWT_ARENA_BYTES_MAX);
    struct jwks *keys = jwks_create();
    ASSERT(jwks_add(keys, STR_LIT(key), &err) == RC_OK);
    if (jwt_parse(&t, text, &a) == JWT_OK) {
        ASSERT(text.len <= JWT_BYTES_MAX && t.issuer.len > 0 && t.signature.len > 0);
        /* The key's owner is RFC 8037's example, who signed no token of this issuer. */
        ASSERT(jwt_verify(&t, &issuer, keys) != JWT_OK);
        /* Claims are read as if it were proved. */
        if (jwt_claims(&t, &issuer, 1790000000, &a, &id) == JWT_OK) {
            ASSERT(id.who.id.len < PRINCIPAL_ID_BYTES && id.until_s > 1790000000);
            ASSERT(id.who.user.len <= JWT_NAME_BYTES_MAX);
        }
    }
    jwks_put(keys);
    arena_deinit(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = str_make((const char *)data, size);
    if (size > 0 && data[0] == '{') {
        read_keys(text);
    } else {
        read_token(text);
    }
    return 0;
}
