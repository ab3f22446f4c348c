/* Every vector of tests/golden/jwt.json, and what a good token says of its bearer. */
#include "check.h"

#include <string.h>

#include "auth/jwt.h"
#include "base/file.h"
#include "base/json.h"

struct fixture {
    struct buf text;
    struct arena arena;
    const struct json *root;
    struct jwks *keys;
    struct jwt_issuer issuer;
    struct str audience, algorithms[CRYPTO_ALGS_N];
    int64_t now_s;
};

static struct str member(const struct json *o, const char *name)
{
    const struct json *v = json_get(o, name);
    assert_non_null(v);
    return v->text;
}

static struct str written(struct fixture *f, const struct json *v)
{
    struct buf b;
    struct json_writer w;
    buf_init(&b, 1 << 20);
    json_write_init(&w, &b);
    json_write_value(&w, v);
    struct str s = arena_str(&f->arena, buf_str(&b));
    buf_deinit(&b);
    return s;
}

static int fixture_make(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = {0};
    buf_init(&f->text, 1 << 20);
    arena_init(&f->arena, 64 << 20);
    if (file_read("tests/golden/jwt.json", &f->text, &err) != RC_OK ||
        json_parse(buf_str(&f->text), &f->arena, &f->root, &err) != RC_OK) {
        printf("%s\n", err.msg);
        return 1;
    }
    f->keys = jwks_create();
    f->audience = member(f->root, "audience");
    for (unsigned i = 0; i < CRYPTO_ALGS_N; i++) {
        f->algorithms[i] = str_from(crypto_alg_name((enum crypto_alg)i));
    }
    f->issuer = (struct jwt_issuer){.name = STR_LIT("test"),
                                    .issuer = member(f->root, "issuer"),
                                    .audiences = {&f->audience, 1},
                                    .algorithms = {f->algorithms, CRYPTO_ALGS_N},
                                    .leeway_s = 60,
                                    .user_claim = STR_LIT("sub")};
    *state = f;
    return !json_to_i64(json_get(f->root, "now"), &f->now_s) ||
           jwks_add(f->keys, written(f, json_get(f->root, "jwks")), &err) != RC_OK;
}

static int fixture_remove(void **state)
{
    struct fixture *f = *state;
    jwks_put(f->keys);
    arena_deinit(&f->arena);
    buf_deinit(&f->text);
    free(f);
    return 0;
}

static enum jwt_refusal check(struct fixture *f, const struct jwks *keys, struct str token,
                              struct jwt_identity *out)
{
    struct arena *a = &f->arena;
    struct jwt t;
    /* A copy of just that size, so that a byte read behind it is seen by the sanitizer. */
    char *copy = malloc(MAX(token.len, (size_t)1));
    memcpy(copy, token.ptr, token.len);
    enum jwt_refusal r = jwt_parse(&t, str_make(copy, token.len), a);
    r = r == JWT_OK ? jwt_verify(&t, &f->issuer, keys) : r;
    r = r == JWT_OK ? jwt_claims(&t, &f->issuer, f->now_s, a, out) : r;
    free(copy);
    return r;
}

static void every_vector_comes_out_as_said(void **state)
{
    struct fixture *f = *state;
    const struct json *cases = json_get(f->root, "cases");
    assert_true(cases->n > 90);
    JSON_EACH(cases, it)
    {
        struct jwt_identity id;
        enum jwt_refusal r = check(f, f->keys, member(it, "token"), &id);
        const char *label = r == JWT_OK ? "ok" : jwt_refusal_label(r);
        if (!str_is(member(it, "expect"), label)) {
            fail_msg("%.*s: %s instead of %.*s", STR(member(it, "name")), label,
                     STR(member(it, "expect")));
        }
    }
}

static void an_algorithm_that_is_not_pinned_is_refused(void **state)
{
    struct fixture *f = *state;
    struct jwt_identity id;
    const struct json *pins = json_get(f->root, "pins");
    assert_int_equal(check(f, f->keys, member(pins, "token"), &id), JWT_OK);
    f->issuer.algorithms.n = 1; /* RS256 */
    assert_int_equal(check(f, f->keys, member(pins, "token"), &id), JWT_ALGORITHM);
    f->issuer.algorithms.n = CRYPTO_ALGS_N;
}

static struct str token_called(struct fixture *f, const char *name)
{
    JSON_EACH(json_get(f->root, "cases"), it)
    {
        if (str_is(member(it, "name"), name)) {
            return member(it, "token");
        }
    }
    fail_msg("no vector '%s'", name);
    return STR_NULL;
}

static void keys_in_pem_answer_alone(void **state)
{
    struct fixture *f = *state;
    struct jwks *pem = jwks_create();
    struct jwt_identity id;
    assert_int_equal(jwks_add(pem, member(f->root, "ec_pem"), NULL), RC_OK);
    assert_int_equal(check(f, pem, token_called(f, "good ES256"), &id), JWT_OK);
    assert_int_equal(check(f, pem, token_called(f, "no kid, one such key"), &id), JWT_OK);
    assert_int_equal(check(f, pem, token_called(f, "good RS256"), &id), JWT_KEY);
    assert_int_equal(jwks_add(pem, member(f->root, "rsa_pem"), NULL), RC_OK);
    assert_int_equal(check(f, pem, token_called(f, "good RS256"), &id), JWT_OK);
    assert_int_equal(jwks_add(pem, member(f->root, "ec_pem"), NULL), RC_OK);
    /* Which of the two it is cannot be told. */
    assert_int_equal(check(f, pem, token_called(f, "no kid, one such key"), &id), JWT_KEY);
    jwks_put(pem);
}

static void keys_that_prove_nothing_are_refused(void **state)
{
    struct fixture *f = *state;
    const struct json *refused = json_get(f->root, "refused_keys");
    assert_true(refused->n >= 7);
    JSON_EACH(refused, it)
    {
        struct jwks *s = jwks_create();
        struct err err = {0};
        struct str text = written(f, it);
        enum rc rc = jwks_add(s, text, &err);
        if (rc != RC_INVALID || jwks_size(s) != 0) {
            fail_msg("%.*s: %s", STR(it->name), err_row(rc)->name);
        }
        /* In a set it is left out, and the others stay. */
        struct str set = arena_printf(&f->arena, "{\"keys\":[%.*s]}", STR(text));
        assert_int_equal(jwks_add(s, set, &err), RC_INVALID);
        struct str good = written(f, json_get(json_get(f->root, "jwks"), "keys")->first);
        set = arena_printf(&f->arena, "{\"keys\":[%.*s,%.*s]}", STR(text), STR(good));
        assert_int_equal(jwks_add(s, set, &err), RC_OK);
        assert_int_equal(jwks_size(s), 1);
        jwks_put(s);
    }
}

static void texts_that_are_no_keys_are_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "{}",
        "[]",
        "null",
        "{\"keys\":{}}",
        "{\"keys\":[]}",
        "{\"keys\":[1,null,[]]}",
        "{\"keys\":[{\"kty\":\"RSA\"}]}",
        "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"\",\"y\":\"\"}",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "ssh-rsa AAAA"};
    UNUSED(state);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct jwks *s = jwks_create();
        struct err err = {0};
        assert_int_not_equal(jwks_add(s, str_from(texts[i]), &err), RC_OK);
        assert_int_equal(jwks_size(s), 0);
        assert_true(err.msg[0] != '\0');
        jwks_put(s);
    }
}

/* ---- claims: the token is made here, its signature plays no part ---- */

static enum jwt_refusal claims(struct fixture *f, const char *text, struct jwt_identity *out)
{
    struct jwt t = {.issuer = f->issuer.issuer};
    assert_int_equal(json_parse(str_from(text), &f->arena, &t.claims, NULL), RC_OK);
    return jwt_claims(&t, &f->issuer, f->now_s, &f->arena, out);
}

#define CLAIMS "{\"iss\":\"https://idp.example.com/\",\"aud\":\"bud\",\"exp\":1790000600,"

static void claims_become_a_principal(void **state)
{
    struct fixture *f = *state;
    struct jwt_identity id, other;
    f->issuer.project_claim = STR_LIT("https://bud/project");
    f->issuer.roles_claim = STR_LIT("realm.roles");
    f->issuer.scopes_claim = STR_LIT("scope");
    f->issuer.organisation_claim = STR_LIT("org");
    assert_int_equal(claims(f,
                            CLAIMS "\"sub\":\"ada\",\"https://bud/project\":\"search\","
                                   "\"realm\":{\"roles\":[\"developer\",\"two words\",\"admin\"]},"
                                   "\"scope\":\"openid chat model:tale*\",\"org\":\"acme\"}",
                            &id),
                     JWT_OK);
    assert_int_equal(id.who.kind, PRINCIPAL_JWT);
    assert_true(str_starts(id.who.id, STR_LIT("jwt_")) && id.who.id.len == 28);
    assert_true(str_is(id.who.project, "search"));
    assert_true(str_is(id.who.user, "ada"));
    assert_true(str_is(id.who.organisation, "acme"));
    assert_true(str_is(id.who.roles, "developer admin"));
    assert_true(str_is(id.who.scopes, "chat model:tale*"));
    assert_int_equal(id.until_s, 1790000660);
    assert_int_equal(claims(f, CLAIMS "\"sub\":\"ada\",\"scope\":[\"chat\"]}", &other), JWT_CLAIMS);
    f->issuer.organisation_claim = STR_LIT("");
    assert_int_equal(claims(f, CLAIMS "\"sub\":\"ada\",\"scope\":[\"chat\"]}", &other), JWT_OK);
    assert_true(str_eq(other.who.id, id.who.id)); /* the subject, however it came */
    assert_int_equal(claims(f, CLAIMS "\"sub\":\"bob\",\"scope\":[\"chat\"]}", &other), JWT_OK);
    assert_false(str_eq(other.who.id, id.who.id));
}

static void claims_that_give_nothing_are_no_rights(void **state)
{
    struct fixture *f = *state;
    struct jwt_identity id;
    f->issuer.scopes_claim = STR_LIT("scope");
    assert_int_equal(claims(f, CLAIMS "\"sub\":\"ada\",\"scope\":\"openid\"}", &id), JWT_CLAIMS);
    assert_int_equal(claims(f, CLAIMS "\"sub\":\"ada\"}", &id), JWT_CLAIMS);
    f->issuer.scopes_claim = STR_LIT("");
    f->issuer.project_claim = STR_LIT("project");
    f->issuer.project = STR_LIT("guests");
    f->issuer.roles_claim = STR_LIT("roles");
    f->issuer.role = STR_LIT("viewer");
    assert_int_equal(claims(f, CLAIMS "\"sub\":\"ada\",\"scope\":\"openid\"}", &id), JWT_OK);
    assert_true(str_is(id.who.project, "guests"));
    assert_true(str_is(id.who.roles, "viewer"));
    assert_int_equal(id.who.scopes.len, 0);
    assert_int_equal(claims(f, CLAIMS "\"sub\":\"ada\",\"roles\":[]}", &id), JWT_OK);
    assert_int_equal(id.who.roles.len, 0); /* said to be none, so not the fallback */
    assert_int_equal(claims(f, CLAIMS "\"sub\":\"ada\",\"roles\":[1]}", &id), JWT_CLAIMS);
    assert_int_equal(claims(f, CLAIMS "\"sub\":\"ada\",\"roles\":{\"admin\":1}}", &id), JWT_CLAIMS);
    assert_int_equal(claims(f, CLAIMS "\"sub\":\"ada\",\"project\":7}", &id), JWT_CLAIMS);
    assert_int_equal(claims(f, CLAIMS "\"sub\":\"ada\",\"project\":\"\"}", &id), JWT_CLAIMS);
    assert_int_equal(claims(f, CLAIMS "\"sub\":\"ada\",\"project\":\"a\\u0000b\"}", &id),
                     JWT_CLAIMS);
    f->issuer.user_claim = STR_LIT("a.b");
    assert_int_equal(claims(f, CLAIMS "\"sub\":\"ada\",\"a\":{\"b\":\"x\"}}", &id), JWT_OK);
    assert_true(str_is(id.who.user, "x"));
}

/* ---- settings ---- */

static enum rc issuer(struct fixture *f, const char *text, struct err *err)
{
    const struct json *root = NULL;
    struct jwt_issuer i = {0};
    assert_int_equal(json_parse(str_from(text), &f->arena, &root, NULL), RC_OK);
    enum rc rc = conf_read(jwt_issuer_rows, root, &f->arena, &i, err);
    return rc == RC_OK ? jwt_issuer_check(&i, err) : rc;
}

static void an_issuer_is_told_whole(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"\"audiences\":[\"a\"],\"algorithms\":[\"ES256\"],\"key_files\":[\"k\"]}", ""},
        {"\"audiences\":[\"a\"],\"algorithms\":[\"EdDSA\"],\"jwks_url\":\"https://x\"}", ""},
        {"\"algorithms\":[\"ES256\"],\"key_files\":[\"k\"]}", "audiences"},
        {"\"audiences\":[\"\"],\"algorithms\":[\"ES256\"],\"key_files\":[\"k\"]}", "empty"},
        {"\"audiences\":[\"a\"],\"key_files\":[\"k\"]}", "algorithms"},
        {"\"audiences\":[\"a\"],\"algorithms\":[\"none\"],\"key_files\":[\"k\"]}", "algorithms"},
        {"\"audiences\":[\"a\"],\"algorithms\":[\"HS256\"],\"key_files\":[\"k\"]}", "algorithms"},
        {"\"audiences\":[\"a\"],\"algorithms\":[\"ES256\"]}", "jwks_url"},
        {"\"audiences\":[\"a\"],\"algorithms\":[\"ES256\"],\"key_files\":[\"k\"],"
         "\"jwks_url\":\"https://x\"}",
         "one of them"},
        {"\"audience\":[\"a\"]}", "audiences"},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = {0};
        char text[512];
        snprintf(text, sizeof(text), "{\"name\":\"n\",\"issuer\":\"i\",%s", cases[i].text);
        enum rc rc = issuer(f, text, &err);
        if ((rc == RC_OK) != (cases[i].says[0] == '\0') || !strstr(err.msg, cases[i].says)) {
            fail_msg("%s: %s", text, err.msg);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_vector_comes_out_as_said, fixture_make,
                                        fixture_remove),
        cmocka_unit_test_setup_teardown(an_algorithm_that_is_not_pinned_is_refused, fixture_make,
                                        fixture_remove),
        cmocka_unit_test_setup_teardown(keys_in_pem_answer_alone, fixture_make, fixture_remove),
        cmocka_unit_test_setup_teardown(keys_that_prove_nothing_are_refused, fixture_make,
                                        fixture_remove),
        cmocka_unit_test(texts_that_are_no_keys_are_refused),
        cmocka_unit_test_setup_teardown(claims_become_a_principal, fixture_make, fixture_remove),
        cmocka_unit_test_setup_teardown(claims_that_give_nothing_are_no_rights, fixture_make,
                                        fixture_remove),
        cmocka_unit_test_setup_teardown(an_issuer_is_told_whole, fixture_make, fixture_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
