/* Requests whose tokens wait for keys that never come: the front door answers, and nothing is left
 * behind, whoever goes first. */
#include "10_module/gateway/rig.h"

#include "base/file.h"

struct fixture {
    struct rig rig;
    int keys_fd; /* takes connections, never answers */
    char url[128];
    struct str audience, algorithm, file;
    struct jwt_issuer issuer;
    struct conf_list issuers;
    struct buf text;
    struct arena arena;
    char auth[2048];
};

/* A golden token, signed long ago. */
static void fixture_token(struct fixture *f, const char *name)
{
    const struct json *root = NULL;
    buf_init(&f->text, 1 << 20);
    arena_init(&f->arena, 16 << 20);
    assert_int_equal(file_read("tests/golden/jwt.json", &f->text, NULL), RC_OK);
    assert_int_equal(json_parse(buf_str(&f->text), &f->arena, &root, NULL), RC_OK);
    f->issuer.issuer = json_get(root, "issuer")->text;
    JSON_EACH(json_get(root, "cases"), it)
    {
        if (str_is(json_get(it, "name")->text, name)) {
            snprintf(f->auth, sizeof(f->auth), "authorization: Bearer %.*s\r\n",
                     STR(json_get(it, "token")->text));
        }
    }
    assert_true(f->auth[0] != '\0');
}

static void open_silent(struct fixture *f)
{
    struct addr addr;
    char text[ADDR_TEXT_BYTES];
    memset(f, 0, sizeof(*f));
    f->keys_fd = raw_listen(&addr);
    assert_int_equal(listen(f->keys_fd, 64), 0);
    snprintf(f->url, sizeof(f->url), "http://%s/jwks", addr_format(&addr, text));
    f->audience = STR_LIT("bud");
    f->algorithm = STR_LIT("ES256");
    f->issuer = (struct jwt_issuer){.name = STR_LIT("silent"),
                                    .audiences = {&f->audience, 1},
                                    .algorithms = {&f->algorithm, 1},
                                    .jwks_url = str_from(f->url),
                                    .refresh_s = 3600,
                                    .user_claim = STR_LIT("sub")};
    fixture_token(f, "good ES256");
    f->issuers = (struct conf_list){&f->issuer, 1};
    f->rig.issuers = &f->issuers;
    rig_open_more(&f->rig, (struct gateway_conf){0});
}

static void close_silent(struct fixture *f)
{
    rig_close(&f->rig);
    close(f->keys_fd);
    buf_deinit(&f->text);
    arena_deinit(&f->arena);
}

#define BODY STR_LIT("{\"model\":\"m\",\"prompt\":\"p\",\"user\":\"ok\"}")

static void a_token_whose_keys_cannot_be_had_is_503(void **state)
{
    struct fixture f;
    struct answer a;
    UNUSED(state);
    open_silent(&f);
    ask_read(ask_send(&f.rig.addr, COMPLETE, f.auth, BODY), &a);
    assert_int_equal(a.status, 503);
    assert_true(answer_is_error(&a, "unavailable"));
    answer_free(&a);
    ask_read(ask_send(&f.rig.addr, "GET /v1/models", f.auth, STR_LIT("")), &a);
    assert_int_equal(a.status, 503);
    answer_free(&a);
    /* Keys are as good as ever, and other tokens are refused at once. */
    ask_read(ask_send(&f.rig.addr, COMPLETE, f.rig.auth, BODY), &a);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    ask_read(ask_send(&f.rig.addr, COMPLETE, "authorization: Bearer a.b.c\r\n", BODY), &a);
    assert_int_equal(a.status, 401);
    assert_true(answer_is_error(&a, "invalid_api_key"));
    answer_free(&a);
    close_silent(&f);
}

static void a_client_that_goes_while_its_token_waits_leaves_nothing(void **state)
{
    struct fixture f;
    struct answer a;
    UNUSED(state);
    open_silent(&f);
    for (int i = 0; i < 8; i++) {
        close(ask_send(&f.rig.addr, COMPLETE, f.auth, BODY));
    }
    ask_read(ask_send(&f.rig.addr, COMPLETE, f.rig.auth, BODY), &a);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    close_silent(&f);
}

static void a_body_that_is_too_long_is_413_even_then(void **state)
{
    struct fixture f;
    struct answer a;
    UNUSED(state);
    open_silent(&f);
    struct buf headers;
    buf_init(&headers, 8192);
    buf_add_printf(&headers, "%scontent-length: 99999999999\r\n", f.auth);
    ask_read(ask_send(&f.rig.addr, COMPLETE, headers.ptr, STR_LIT("")), &a);
    assert_int_equal(a.status, 413);
    answer_free(&a);
    buf_deinit(&headers);
    close_silent(&f);
}

static void an_end_while_tokens_wait_is_clean(void **state)
{
    struct fixture f;
    struct answer a;
    int fds[8];
    UNUSED(state);
    open_silent(&f);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = ask_send(&f.rig.addr, COMPLETE, f.auth, BODY);
    }
    ask_read(ask_send(&f.rig.addr, COMPLETE, f.rig.auth, BODY), &a);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    close_silent(&f);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_whose_keys_cannot_be_had_is_503),
        cmocka_unit_test(a_client_that_goes_while_its_token_waits_leaves_nothing),
        cmocka_unit_test(a_body_that_is_too_long_is_413_even_then),
        cmocka_unit_test(an_end_while_tokens_wait_is_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
