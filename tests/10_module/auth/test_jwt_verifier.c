/* Tokens before a key server on loopback, on one real loop: keys that rotate, are away, come too
 * late; requests that share a check; what is remembered and what is forgotten. */
#include "check.h"

#include <string.h>

#include "auth/jwt_verifier.h"
#include "base/file.h"
#include "base/mem.h"
#include "net/http_server.h"
#include "obs/metric.h"

enum { WAITS_MAX = 8, TURNS_MAX = 60000 };

struct rig {
    struct loop *loop;
    struct clock_fake clock;
    struct jwt_verifier *verifier, *leader; /* leader: `verifier` follows it; NULL = by itself */
    bool follows;
    struct arena arena;
    struct buf text;
    const struct json *root;
    /* the key server */
    struct http_server *http;
    struct addr addr;
    struct str keys; /* what it serves; ptr NULL: status 500 */
    bool silent;     /* never answers */
    int n_asked;
    /* the issuer */
    struct str audience, file, algorithms[CRYPTO_ALGS_N];
    struct jwt_issuer issuer;
    /* a request */
    struct jwt_wait waits[WAITS_MAX];
    int n_called;
    enum jwt_refusal why;
    char user[64];
    struct loop_timer timer;
};

static struct str member(const struct json *o, const char *name)
{
    const struct json *v = json_get(o, name);
    assert_non_null(v);
    return v->text;
}

static struct str token(struct rig *r, const char *name)
{
    JSON_EACH(json_get(r->root, "cases"), it)
    {
        if (str_is(member(it, "name"), name)) {
            return member(it, "token");
        }
    }
    fail_msg("no vector '%s'", name);
    return STR_NULL;
}

/* A JWK Set of the golden keys whose kid fits. */
static struct str key_set(struct rig *r, const char *pattern)
{
    struct buf b;
    struct json_writer w;
    buf_init(&b, 1 << 20);
    json_write_init(&w, &b);
    json_write_object_begin(&w);
    json_write_name(&w, "keys");
    json_write_array_begin(&w);
    JSON_EACH(json_get(json_get(r->root, "jwks"), "keys"), it)
    {
        if (str_matches(str_from(pattern), member(it, "kid"))) {
            json_write_value(&w, it);
        }
    }
    json_write_array_end(&w);
    json_write_object_end(&w);
    struct str s = arena_str(&r->arena, buf_str(&b));
    buf_deinit(&b);
    return s;
}

static void ignore_close(void *ctx, enum rc rc)
{
    UNUSED(ctx);
    UNUSED(rc);
}

static void serve_keys(void *ctx, struct http_exchange *x)
{
    static const struct http_exchange_events events = {.on_close = ignore_close};
    struct rig *r = ctx;
    struct http_reply reply = {.status = r->keys.ptr != NULL ? 200 : 500, .body = r->keys};
    r->n_asked++;
    if (r->silent) {
        http_exchange_accept(x, HTTP_BODY_DROP, 0, &events, NULL);
        return;
    }
    assert_int_equal(http_exchange_reply(x, &reply, NULL), RC_OK);
}

static int rig_make(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct err err = {0};
    struct listen_conf listen = {0};
    int64_t now_s = 0;
    buf_init(&r->text, 1 << 20);
    arena_init(&r->arena, 64 << 20);
    assert_int_equal(file_read("tests/golden/jwt.json", &r->text, &err), RC_OK);
    assert_int_equal(json_parse(buf_str(&r->text), &r->arena, &r->root, &err), RC_OK);
    assert_true(json_to_i64(json_get(r->root, "now"), &now_s));
    clock_fake_init(&r->clock, (uint64_t)now_s * 1000000000u);
    assert_int_equal(loop_create(&r->loop, &r->clock.clock, &err), RC_OK);
    struct http_server_conf http = {.handler = serve_keys, .handler_ctx = r};
    assert_int_equal(addr_parse(&listen.addr, STR_LIT("127.0.0.1:0"), NULL), RC_OK);
    assert_int_equal(http_server_create(&r->http, r->loop, &http, &err), RC_OK);
    assert_int_equal(http_server_listen(r->http, &listen, &r->addr, &err), RC_OK);
    r->keys = key_set(r, "*");
    r->audience = member(r->root, "audience");
    for (unsigned i = 0; i < CRYPTO_ALGS_N; i++) {
        r->algorithms[i] = str_from(crypto_alg_name((enum crypto_alg)i));
    }
    r->issuer = (struct jwt_issuer){.name = STR_LIT("test"),
                                    .issuer = member(r->root, "issuer"),
                                    .audiences = {&r->audience, 1},
                                    .algorithms = {r->algorithms, CRYPTO_ALGS_N},
                                    .refresh_s = 3600,
                                    .leeway_s = 60,
                                    .user_claim = STR_LIT("sub")};
    *state = r;
    return 0;
}

/* The same for who asks one that asks. */
static int rig_make_follower(void **state)
{
    int failed = rig_make(state);
    ((struct rig *)*state)->follows = true;
    return failed;
}

static int rig_remove(void **state)
{
    struct rig *r = *state;
    loop_timer_stop(&r->timer);
    jwt_verifier_destroy(r->verifier);
    jwt_verifier_destroy(r->leader);
    http_server_destroy(r->http);
    loop_destroy(r->loop);
    arena_deinit(&r->arena);
    buf_deinit(&r->text);
    free(r);
    return 0;
}

static void rig_start(struct rig *r, struct jwks_source_conf source)
{
    char text[ADDR_TEXT_BYTES];
    struct conf_list issuers = {&r->issuer, 1};
    struct jwt_verifier_conf conf = {.issuers = &issuers, .source = source};
    struct err err = {0};
    if (r->issuer.key_files.n == 0) {
        r->issuer.jwks_url = arena_printf(&r->arena, "http://%s/jwks", addr_format(&r->addr, text));
    }
    if (jwt_verifier_create(&r->verifier, r->loop, &conf, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    if (r->follows) {
        r->leader = r->verifier;
        assert_int_equal(jwt_verifier_follow(&r->verifier, r->loop, r->leader, &err), RC_OK);
    }
}

static void rig_pause(void *ctx)
{
    loop_stop(((struct rig *)ctx)->loop);
}

/* Turns the loop for a moment. */
static void rig_turn(struct rig *r)
{
    loop_timer_init(&r->timer, r->loop, rig_pause, r);
    loop_timer_start(&r->timer, 1);
    loop_run(r->loop);
}

static void on_token(void *ctx, const struct jwt_identity *id, enum jwt_refusal why)
{
    struct rig *r = ctx;
    r->n_called++;
    r->why = why;
    assert_int_equal(id != NULL, why == JWT_OK);
    if (id != NULL) {
        str_copy(r->user, sizeof(r->user), id->who.user);
    }
}

static void rig_wait(struct rig *r, int n_called)
{
    for (int i = 0; r->n_called < n_called; i++) {
        assert_true(i < TURNS_MAX);
        rig_turn(r);
    }
    assert_int_equal(r->n_called, n_called);
}

/* What comes of a token, known or not. Time passes before, so that keys may be asked for again. */
static enum jwt_refusal rig_check_again(struct rig *r, const char *name)
{
    rig_turn(r);
    rig_turn(r);
    r->n_called = 0;
    assert_int_equal(
        jwt_verifier_check(r->verifier, token(r, name), &r->waits[0], on_token, r, NULL), RC_OK);
    rig_wait(r, 1);
    return r->why;
}

/* The same of one that is not. */
static enum jwt_refusal rig_check(struct rig *r, const char *name)
{
    assert_null(jwt_verifier_known(r->verifier, token(r, name)));
    return rig_check_again(r, name);
}

/* ---- tests ---- */

static void a_token_is_checked_once_and_known_until_it_expires(void **state)
{
    struct rig *r = *state;
    rig_start(r, (struct jwks_source_conf){0});
    assert_int_equal(rig_check(r, "good ES256"), JWT_OK);
    assert_string_equal(r->user, "ada");
    const struct jwt_identity *id = jwt_verifier_known(r->verifier, token(r, "good ES256"));
    assert_non_null(id);
    assert_true(str_is(id->who.user, "ada"));
    assert_null(jwt_verifier_known(r->verifier, token(r, "good RS256")));
    clock_fake_advance_ms(&r->clock, 659 * 1000);
    assert_non_null(jwt_verifier_known(r->verifier, token(r, "good ES256")));
    clock_fake_advance_ms(&r->clock, 1000);
    assert_int_equal(rig_check(r, "good ES256"), JWT_EXPIRED);
}

static void refused_tokens_are_counted_and_not_known(void **state)
{
    static const char *const names[] = {
        "alg none, a signature", "another's key", "expired", "over 8 KiB",
        "iss another",           "aud another"};
    static const char *const labels[] = {"algorithm", "signature", "expired",
                                         "too_large", "issuer",    "audience"};
    struct rig *r = *state;
    rig_start(r, (struct jwks_source_conf){0});
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct metric_series *n = metric_with1(METRIC_JWT_TOKENS, str_from(labels[i]));
        double before = metric_value(n);
        assert_string_equal(jwt_refusal_label(rig_check(r, names[i])), labels[i]);
        assert_null(jwt_verifier_known(r->verifier, token(r, names[i])));
        assert_true(metric_value(n) == before + 1);
    }
}

static void requests_with_one_token_wait_for_one_check(void **state)
{
    struct rig *r = *state;
    struct str t = token(r, "good RS512");
    struct metric_series *n = metric_with1(METRIC_JWT_TOKENS, STR_LIT("verified"));
    rig_start(r, (struct jwks_source_conf){0});
    assert_int_equal(rig_check(r, "good ES256"), JWT_OK); /* the keys are there */
    double before = metric_value(n);
    r->n_called = 0;
    for (int i = 0; i < WAITS_MAX; i++) {
        assert_int_equal(jwt_verifier_check(r->verifier, t, &r->waits[i], on_token, r, NULL),
                         RC_OK);
    }
    jwt_verifier_cancel(&r->waits[2]);
    jwt_verifier_cancel(&r->waits[2]);
    rig_wait(r, WAITS_MAX - 1);
    jwt_verifier_cancel(&r->waits[0]); /* was told already */
    assert_true(metric_value(n) == before + 1);
    assert_int_equal(r->n_asked, 1);
}

static void a_rotated_key_is_fetched_when_it_is_named(void **state)
{
    struct rig *r = *state;
    r->keys = key_set(r, "k-RS*");
    rig_start(r, (struct jwks_source_conf){.pause_ms = 1});
    assert_int_equal(rig_check(r, "good RS256"), JWT_OK);
    assert_int_equal(r->n_asked, 1);
    r->keys = key_set(r, "k-E*");
    assert_int_equal(rig_check(r, "good ES384"), JWT_OK);
    assert_int_equal(r->n_asked, 2);
    /* The old key is gone, and with it what it had proved. */
    assert_null(jwt_verifier_known(r->verifier, token(r, "good RS256")));
    assert_int_equal(rig_check(r, "good RS256"), JWT_KEY);
    assert_non_null(jwt_verifier_known(r->verifier, token(r, "good ES384")));
}

static void unknown_keys_do_not_make_us_ask_at_will(void **state)
{
    struct rig *r = *state;
    r->keys = key_set(r, "k-RS*");
    rig_start(r, (struct jwks_source_conf){0});
    assert_int_equal(rig_check(r, "good RS256"), JWT_OK);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(rig_check(r, "unknown kid"), JWT_KEY);
        assert_int_equal(rig_check(r, "kid a path"), JWT_KEY);
    }
    assert_int_equal(r->n_asked, 1);
}

static void keys_stay_while_their_server_is_away(void **state)
{
    struct rig *r = *state;
    rig_start(r, (struct jwks_source_conf){.pause_ms = 1});
    assert_int_equal(rig_check(r, "good RS256"), JWT_OK);
    r->keys = STR_NULL;
    assert_int_equal(rig_check(r, "unknown kid"), JWT_KEY);
    assert_int_equal(r->n_asked, 2);
    r->keys = STR_LIT("{\"keys\":[]}"); /* no better than none */
    assert_int_equal(rig_check(r, "kid a path"), JWT_KEY);
    assert_int_equal(r->n_asked, 3);
    assert_int_equal(rig_check(r, "good ES256"), JWT_OK);
}

static void keys_do_not_stay_for_ever(void **state)
{
    struct rig *r = *state;
    rig_start(r, (struct jwks_source_conf){.pause_ms = 1, .stale_ms = 1});
    while (r->n_asked == 0) {
        rig_turn(r);
    }
    r->keys = STR_NULL;
    while (rig_check_again(r, "good ES256") != JWT_NO_KEYS) {}
    assert_null(jwt_verifier_known(r->verifier, token(r, "good ES256")));
    r->keys = key_set(r, "*");
    while (rig_check_again(r, "good ES256") != JWT_OK) {}
}

static void keys_that_were_away_at_start_come_later(void **state)
{
    struct rig *r = *state;
    r->keys = STR_NULL;
    rig_start(r, (struct jwks_source_conf){.retry_ms = 1});
    assert_int_equal(rig_check(r, "good ES256"), JWT_NO_KEYS);
    r->keys = key_set(r, "*");
    int asked = r->n_asked;
    while (r->n_asked == asked) { /* by itself */
        rig_turn(r);
    }
    while (rig_check(r, "good EdDSA") != JWT_OK) {}
}

static void a_server_that_never_answers_holds_nobody(void **state)
{
    struct rig *r = *state;
    r->silent = true;
    rig_start(r, (struct jwks_source_conf){.timeout_ms = 200});
    assert_int_equal(rig_check(r, "good ES256"), JWT_NO_KEYS);
    assert_int_equal(r->n_asked, 1);
}

static void an_end_in_the_middle_is_clean(void **state)
{
    struct rig *r = *state;
    r->silent = true;
    rig_start(r, (struct jwks_source_conf){0});
    assert_int_equal(
        jwt_verifier_check(r->verifier, token(r, "good ES256"), &r->waits[0], on_token, r, NULL),
        RC_OK);
    while (r->n_asked == 0) {
        rig_turn(r);
    }
    assert_int_equal(
        jwt_verifier_check(r->verifier, token(r, "good ES384"), &r->waits[1], on_token, r, NULL),
        RC_OK); /* on a worker, the other one parked */
    jwt_verifier_destroy(r->verifier);
    r->verifier = NULL;
    jwt_verifier_cancel(&r->waits[0]);
    jwt_verifier_cancel(&r->waits[1]);
    assert_int_equal(r->n_called, 0);
}

static void keys_in_files_need_no_server(void **state)
{
    struct rig *r = *state;
    char path[64];
    struct err err = {0};
    snprintf(path, sizeof(path), "/tmp/bud-test-jwks-%ld", (long)getpid());
    assert_int_equal(file_write_atomic(path, key_set(r, "k-ES256"), 0600, &err), RC_OK);
    r->file = str_from(path);
    r->issuer.key_files = (struct conf_list){&r->file, 1};
    rig_start(r, (struct jwks_source_conf){0});
    unlink(path);
    assert_int_equal(rig_check(r, "good ES256"), JWT_OK);
    assert_int_equal(rig_check(r, "unknown kid"), JWT_KEY);
    assert_int_equal(r->n_asked, 0);

    struct jwt_verifier *v = NULL;
    struct conf_list issuers = {&r->issuer, 1};
    struct jwt_verifier_conf conf = {.issuers = &issuers};
    assert_int_not_equal(jwt_verifier_create(&v, r->loop, &conf, &err), RC_OK);
    assert_non_null(strstr(err.msg, path));
}

#define TEST(f)                                                                                    \
    cmocka_unit_test_setup_teardown(f, rig_make, rig_remove),                                      \
        cmocka_unit_test_setup_teardown(f, rig_make_follower, rig_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_token_is_checked_once_and_known_until_it_expires),
        TEST(refused_tokens_are_counted_and_not_known),
        TEST(requests_with_one_token_wait_for_one_check),
        TEST(a_rotated_key_is_fetched_when_it_is_named),
        TEST(unknown_keys_do_not_make_us_ask_at_will),
        TEST(keys_stay_while_their_server_is_away),
        TEST(keys_do_not_stay_for_ever),
        TEST(keys_that_were_away_at_start_come_later),
        TEST(a_server_that_never_answers_holds_nobody),
        TEST(an_end_in_the_middle_is_clean),
        TEST(keys_in_files_need_no_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
