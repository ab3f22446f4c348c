/* Administrative requests without their HTTP: a change and its entry are one, preconditions hold,
 * nobody reaches beyond his place, and no body, however odd, does harm on any route. */
#include "check.h"

#include <string.h>

#include "admin/call.h"
#include "admin/openapi.h"
#include "auth/key.h"

struct fixture {
    char key_file[64];
    struct meta *meta;
    struct kms *kms;
    struct secret pepper;
    struct audit *audit;
    struct admin_store store;
    struct arena arena;
    struct rbac_set set; /* of `who` */
    struct principal who;
    bool as_who;
    bool sound; /* what the catalogue's check says */
};

static enum rc check_catalogue(void *ctx, struct meta *m, struct err *err)
{
    const struct fixture *f = ctx;
    (void)m;
    return f->sound ? RC_OK : err_set(err, RC_INVALID, "not sound");
}

static enum rc check_limits(void *ctx, const struct json *limits, struct err *err)
{
    (void)ctx;
    return json_get(limits, "bad") == NULL ? RC_OK : err_set(err, RC_INVALID, "no limit");
}

static int fixture_make(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    snprintf(f->key_file, sizeof(f->key_file), "/tmp/bud-test-admin-%ld", (long)getpid());
    unlink(f->key_file);
    *state = f;
    arena_init(&f->arena, 1 << 20);
    f->sound = true;
    bool ok = meta_open(&f->meta, ":memory:", NULL) == RC_OK &&
              kms_open_file(&f->kms, f->key_file, NULL) == RC_OK &&
              key_pepper_load(&f->pepper, f->meta, f->kms, NULL) == RC_OK &&
              audit_open(&f->audit, f->meta, f->kms, NULL) == RC_OK;
    f->store = (struct admin_store){
        .meta = f->meta,
        .kms = f->kms,
        .pepper = &f->pepper,
        .audit = f->audit,
        .catalogue = {.check = check_catalogue, .check_limits = check_limits, .ctx = f}};
    return ok ? 0 : 1;
}

static int fixture_remove(void **state)
{
    struct fixture *f = *state;
    audit_close(f->audit);
    meta_close(f->meta);
    kms_close(f->kms);
    arena_deinit(&f->arena);
    unlink(f->key_file);
    free(f);
    return 0;
}

/* From here on with the permissions of a role, in a place. */
static void become(struct fixture *f, const char *role, const char *organisation,
                   const char *project)
{
    uint32_t n;
    const struct str *permissions = rbac_builtin(str_from(role), &n);
    assert_int_equal(rbac_compile(&f->set, permissions, n, &f->arena, NULL), RC_OK);
    f->who = (struct principal){.kind = PRINCIPAL_KEY,
                                .id = STR_LIT("key_me"),
                                .organisation = str_from(organisation),
                                .project = str_from(project),
                                .grants = {.roles = {&f->set}, .n_roles = 1}};
    f->as_who = true;
}

struct reply {
    int status;
    char etag[ADMIN_ETAG_BYTES];
    char text[16384];
};

static void ask_if(struct fixture *f, enum http_method method, const char *target, const char *body,
                   const char *if_match, struct reply *r)
{
    struct admin_call c;
    char allow[POLICY_ALLOW_BYTES];
    struct str query = str_from(target);
    struct str path = str_cut(&query, '?');
    admin_call_init(&c);
    assert_int_equal(policy_find(POLICY_ADMIN, method, path, &c.match, allow), RC_OK);
    c.store = &f->store;
    c.who = f->as_who ? &f->who : NULL;
    c.actor = STR_LIT("test");
    c.source = STR_LIT("here");
    c.query = query;
    c.text = str_from(body);
    c.if_match = str_from(if_match);
    c.now_ms = 1000000;
    admin_call_run(&c);
    r->status = c.status;
    str_copy(r->etag, sizeof(r->etag), str_from(c.etag));
    str_copy(r->text, sizeof(r->text), buf_str(&c.out));
    assert_false(meta_is_in_transaction(f->meta));
    admin_call_deinit(&c);
}

static int ask(struct fixture *f, enum http_method method, const char *target, const char *body)
{
    struct reply r;
    ask_if(f, method, target, body, NULL, &r);
    return r.status;
}

static int64_t entries(struct fixture *f)
{
    struct audit_report report;
    assert_int_equal(audit_verify(f->audit, f->meta, STR_LIT(""), &report, NULL), RC_OK);
    return report.n_entries;
}

static void a_change_and_its_entry_are_one(void **state)
{
    struct fixture *f = *state;
    struct reply r;
    int64_t before = entries(f);
    ask_if(f, HTTP_METHOD_PUT, "/admin/v1/projects/a", "{\"models\":[\"x\"]}", NULL, &r);
    assert_int_equal(r.status, 201);
    assert_int_equal(entries(f), before + 1);
    f->sound = false;
    assert_int_equal(ask(f, HTTP_METHOD_PUT, "/admin/v1/projects/a", "{}"), 400);
    assert_int_equal(ask(f, HTTP_METHOD_DELETE, "/admin/v1/projects/a", ""), 400);
    f->sound = true;
    assert_int_equal(entries(f), before + 1);
    struct reply now;
    ask_if(f, HTTP_METHOD_GET, "/admin/v1/projects/a", "", NULL, &now);
    assert_int_equal(now.status, 200);
    assert_string_equal(now.etag, r.etag);
    assert_non_null(strstr(now.text, "[\"x\"]"));
}

static void preconditions_hold(void **state)
{
    struct fixture *f = *state;
    struct reply first, second;
    ask_if(f, HTTP_METHOD_PUT, "/admin/v1/users/a", "{}", "*", &first);
    assert_int_equal(first.status, 412); /* there is none to match */
    ask_if(f, HTTP_METHOD_PUT, "/admin/v1/users/a", "{}", NULL, &first);
    ask_if(f, HTTP_METHOD_PUT, "/admin/v1/users/a", "{\"service\":true}", first.etag, &second);
    assert_int_equal(second.status, 200);
    ask_if(f, HTTP_METHOD_PUT, "/admin/v1/users/a", "{}", first.etag, &second);
    assert_int_equal(second.status, 412);
    assert_string_equal(second.etag, "");
    ask_if(f, HTTP_METHOD_POST, "/admin/v1/keys", "{\"name\":\"k\"}", NULL, &first);
    assert_int_equal(first.status, 201);
    char path[96] = "/admin/v1/keys/";
    const char *id = strstr(first.text, "key_");
    memcpy(path + 15, id, 28);
    ask_if(f, HTTP_METHOD_PATCH, path, "{\"name\":\"l\"}", first.etag, &second);
    assert_int_equal(second.status, 200);
    ask_if(f, HTTP_METHOD_DELETE, path, "", first.etag, &second);
    assert_int_equal(second.status, 412);
}

static void names_are_decoded_once(void **state)
{
    struct fixture *f = *state;
    struct reply r;
    assert_int_equal(ask(f, HTTP_METHOD_PUT, "/admin/v1/users/a%2Fb%2520", "{}"), 201);
    ask_if(f, HTTP_METHOD_GET, "/admin/v1/users", "", NULL, &r);
    assert_non_null(strstr(r.text, "\"name\":\"a/b%20\""));
    assert_int_equal(ask(f, HTTP_METHOD_PUT, "/admin/v1/users/%zz", "{}"), 400);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, "/admin/v1/users/%00", "{}"), 400);
}

static void nobody_reaches_beyond_his_place(void **state)
{
    struct fixture *f = *state;
    struct reply r;
    assert_int_equal(ask(f, HTTP_METHOD_PUT, "/admin/v1/organisations/north", "{}"), 201);
    assert_int_equal(
        ask(f, HTTP_METHOD_PUT, "/admin/v1/projects/n", "{\"organisation\":\"north\"}"), 201);
    assert_int_equal(
        ask(f, HTTP_METHOD_PUT, "/admin/v1/projects/s", "{\"organisation\":\"south\"}"), 201);
    assert_int_equal(ask(f, HTTP_METHOD_POST, "/admin/v1/keys", "{\"project\":\"s\"}"), 201);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, "/admin/v1/projects/all", "{}"), 201);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, "/admin/v1/users/kim", "{\"organisation\":\"north\"}"),
                     201);
    assert_int_equal(
        ask(f, HTTP_METHOD_POST, "/admin/v1/keys", "{\"project\":\"s\",\"user\":\"kim\"}"), 400);
    become(f, "admin", "north", "");
    assert_int_equal(ask(f, HTTP_METHOD_GET, "/admin/v1/projects/n", ""), 200);
    assert_int_equal(ask(f, HTTP_METHOD_GET, "/admin/v1/projects/s", ""), 404);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, "/admin/v1/projects/s", "{}"), 403);
    /* Neither out of his organisation nor into it. */
    assert_int_equal(
        ask(f, HTTP_METHOD_PUT, "/admin/v1/projects/n", "{\"organisation\":\"south\"}"), 403);
    assert_int_equal(
        ask(f, HTTP_METHOD_PUT, "/admin/v1/projects/s", "{\"organisation\":\"north\"}"), 403);
    assert_int_equal(ask(f, HTTP_METHOD_POST, "/admin/v1/keys", "{\"project\":\"n\"}"), 201);
    assert_int_equal(ask(f, HTTP_METHOD_POST, "/admin/v1/keys", "{\"project\":\"s\"}"), 403);
    assert_int_equal(ask(f, HTTP_METHOD_POST, "/admin/v1/keys", "{}"), 403);
    /* A user of his does not open what is the installation's, or nobody's. */
    assert_int_equal(ask(f, HTTP_METHOD_POST, "/admin/v1/keys", "{\"user\":\"kim\"}"), 201);
    assert_int_equal(
        ask(f, HTTP_METHOD_POST, "/admin/v1/keys", "{\"project\":\"all\",\"user\":\"kim\"}"), 403);
    assert_int_equal(
        ask(f, HTTP_METHOD_POST, "/admin/v1/keys", "{\"project\":\"new\",\"user\":\"kim\"}"), 403);
    ask_if(f, HTTP_METHOD_GET, "/admin/v1/keys", "", NULL, &r);
    assert_non_null(strstr(r.text, "\"project\":\"n\""));
    assert_null(strstr(r.text, "\"project\":\"s\""));
    assert_int_equal(ask(f, HTTP_METHOD_GET, "/admin/v1/audit", ""), 404);
    become(f, "admin", "north", "n");
    assert_int_equal(ask(f, HTTP_METHOD_PUT, "/admin/v1/limits/projects/n", "{}"), 403);
    assert_int_equal(ask(f, HTTP_METHOD_GET, "/admin/v1/limits/projects/n", ""), 200);
    become(f, "viewer", "", "");
    assert_int_equal(ask(f, HTTP_METHOD_GET, "/admin/v1/keys", ""), 200);
    assert_int_equal(ask(f, HTTP_METHOD_GET, "/admin/v1/audit", ""), 403);
}

/* The same with permissions of the test's own, and scopes. */
static void become_custom(struct fixture *f, const char *permissions, const char *scopes)
{
    struct str texts[16], rest = str_from(permissions);
    uint32_t n = 0;
    while (rest.len > 0) {
        texts[n++] = str_cut(&rest, ' ');
    }
    assert_int_equal(rbac_compile(&f->set, texts, n, &f->arena, NULL), RC_OK);
    f->who = (struct principal){.kind = PRINCIPAL_KEY,
                                .id = STR_LIT("key_me"),
                                .scopes = str_from(scopes),
                                .grants = {.roles = {&f->set}, .n_roles = 1}};
    f->as_who = true;
}

/* The path of a new key. */
static void make_key(struct fixture *f, const char *body, char path[96])
{
    struct reply r;
    ask_if(f, HTTP_METHOD_POST, "/admin/v1/keys", body, NULL, &r);
    assert_int_equal(r.status, 201);
    str_copy(path, 96, STR_LIT("/admin/v1/keys/"));
    memcpy(path + 15, strstr(r.text, "key_"), 28);
    path[43] = '\0';
}

static void a_key_gives_no_more_than_its_scopes(void **state)
{
    struct fixture *f = *state;
    char wide[96], narrow[96], rotate[128];
    make_key(f, "{}", wide);
    make_key(f, "{\"scopes\":[\"chat\",\"model:story-1\"]}", narrow);
    become_custom(f, "*:*", "admin chat model:story*");
    static const struct {
        const char *body;
        int status;
    } cases[] = {
        {"{\"scopes\":[\"chat\",\"model:story-1\"]}", 201},
        {"{\"scopes\":[\"admin\",\"chat\",\"model:story*\"],\"role\":\"owner\"}", 201},
        {"{\"scopes\":[\"chat\",\"model:story-1*\",\"model:story\"]}", 201},
        {"{}", 403},
        {"{\"scopes\":[\"chat\"]}", 403},
        {"{\"scopes\":[\"model:story-1\"]}", 403},
        {"{\"scopes\":[\"chat\",\"model:*\"]}", 403},
        {"{\"scopes\":[\"chat\",\"model:stor*\"]}", 403},
        {"{\"scopes\":[\"chat\",\"model:story-1\",\"model:other\"]}", 403},
        {"{\"scopes\":[\"embeddings\",\"model:story-1\"]}", 403},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(ask(f, HTTP_METHOD_POST, "/admin/v1/keys", cases[i].body),
                         cases[i].status);
    }
    assert_int_equal(ask(f, HTTP_METHOD_PATCH, narrow, "{\"name\":\"n\"}"), 200);
    assert_int_equal(ask(f, HTTP_METHOD_PATCH, narrow, "{\"scopes\":[]}"), 403);
    assert_int_equal(ask(f, HTTP_METHOD_PATCH, wide, "{\"scopes\":[\"admin\"]}"), 403);
    assert_int_equal(ask(f, HTTP_METHOD_DELETE, wide, ""), 403);
    snprintf(rotate, sizeof(rotate), "%s/rotate", wide);
    assert_int_equal(ask(f, HTTP_METHOD_POST, rotate, "{}"), 403);
    snprintf(rotate, sizeof(rotate), "%s/rotate", narrow);
    assert_int_equal(ask(f, HTTP_METHOD_POST, rotate, "{}"), 201);
    assert_int_equal(ask(f, HTTP_METHOD_DELETE, narrow, ""), 200);
}

/* Roles are not narrowed by scopes: who is may not write what would be wider. */
static void a_role_gives_no_more_than_its_writers_scopes(void **state)
{
    struct fixture *f = *state;
    static const char *const role = "/admin/v1/roles/r", *const user = "/admin/v1/users/u";
    become_custom(f, "*:*", "admin model:story*");
    assert_int_equal(ask(f, HTTP_METHOD_PUT, role, "{\"permissions\":[\"*:*\"]}"), 403);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, role, "{\"permissions\":[\"models/story-1:invoke\"]}"),
                     403);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, role, "{\"permissions\":[\"usage:read\"]}"), 201);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, user, "{\"roles\":[\"owner\"]}"), 403);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, user, "{\"roles\":[\"billing\"]}"), 201);
    become_custom(f, "*:*", "chat completions embeddings rerank admin model:story*");
    assert_int_equal(ask(f, HTTP_METHOD_PUT, role, "{\"permissions\":[\"models/story-1:invoke\"]}"),
                     200);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, role, "{\"permissions\":[\"models:invoke\"]}"), 403);
    become_custom(f, "*:*", "chat");
    assert_int_equal(ask(f, HTTP_METHOD_PUT, role, "{\"permissions\":[\"usage:read\"]}"), 403);
}

/* A user's roles bound what his tokens claim: to lift that is to give whatever they may claim. */
static void a_users_bound_is_not_lifted(void **state)
{
    struct fixture *f = *state;
    static const char *const user = "/admin/v1/users/u";
    assert_int_equal(ask(f, HTTP_METHOD_PUT, user, "{\"roles\":[\"viewer\"]}"), 201);
    become(f, "admin", "", "");
    assert_int_equal(ask(f, HTTP_METHOD_PUT, user, "{\"roles\":[\"admin\"]}"), 200);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, user, "{\"roles\":[]}"), 403);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, user, "{}"), 403);
    assert_int_equal(ask(f, HTTP_METHOD_DELETE, user, ""), 403);
    become(f, "owner", "", "");
    assert_int_equal(ask(f, HTTP_METHOD_PUT, user, "{}"), 200);
    become(f, "admin", "", "");
    assert_int_equal(ask(f, HTTP_METHOD_DELETE, user, ""), 200);
}

static void limits_and_prices_have_their_own_permission(void **state)
{
    struct fixture *f = *state;
    static const char *const limited = "{\"limits\":{\"tokens_per_day\":5}}";
    char key[96];
    become_custom(f, "users:* projects:* models:* keys:* aliases:read prices:read", "");
    make_key(f, "{\"role\":\"developer\",\"limits\":{\"tokens_per_day\":5}}", key);
    static const char *const paths[] = {"/admin/v1/users/u", "/admin/v1/projects/p",
                                        "/admin/v1/models/m"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        assert_int_equal(ask(f, HTTP_METHOD_PUT, paths[i], limited), 201);
        assert_int_equal(ask(f, HTTP_METHOD_PUT, paths[i], limited), 200);
        assert_int_equal(ask(f, HTTP_METHOD_PUT, paths[i], "{}"), 403);
        assert_int_equal(ask(f, HTTP_METHOD_PUT, paths[i], "{\"limits\":{\"tokens_per_day\":6}}"),
                         403);
        assert_int_equal(ask(f, HTTP_METHOD_DELETE, paths[i], ""), 403);
    }
    assert_int_equal(ask(f, HTTP_METHOD_PATCH, key, "{\"name\":\"k\"}"), 200);
    assert_int_equal(ask(f, HTTP_METHOD_PATCH, key, "{\"limits\":{}}"), 403);
    f->as_who = false;
    assert_int_equal(ask(f, HTTP_METHOD_PUT, "/admin/v1/models/m", "{\"price\":{\"input\":1}}"),
                     200);
    become_custom(f, "users:* projects:* models:* keys:* limits:write aliases:read prices:read",
                  "");
    assert_int_equal(ask(f, HTTP_METHOD_PUT, "/admin/v1/models/m", "{}"), 403);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, "/admin/v1/models/m", "{\"price\":{\"input\":1}}"),
                     200);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, paths[0], "{}"), 200);
    assert_int_equal(ask(f, HTTP_METHOD_DELETE, paths[1], ""), 200);
}

static void an_alias_leads_to_what_its_maker_may(void **state)
{
    struct fixture *f = *state;
    static const char *const path = "/admin/v1/aliases/a";
    become_custom(f, "aliases:write models/open*:invoke models/a:write", "");
    assert_int_equal(ask(f, HTTP_METHOD_PUT, path, "{\"model\":\"secret\"}"), 403);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, "/admin/v1/models/a", "{\"alias\":\"secret\"}"), 403);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, path, "{\"model\":\"open-1\"}"), 201);
    become_custom(f, "*:*", "admin model:open*");
    assert_int_equal(ask(f, HTTP_METHOD_PUT, path, "{\"model\":\"secret\"}"), 403);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, path, "{\"model\":\"open-2\"}"), 200);
}

/* Whoever may write upstreams may not have their keys. */
static void a_key_goes_nowhere_else(void **state)
{
    struct fixture *f = *state;
    static const char *const path = "/admin/v1/upstreams/far";
    struct reply r;
    assert_int_equal(
        ask(f, HTTP_METHOD_PUT, path, "{\"url\":\"http://a/\",\"key\":\"k\\r\\nx: y\"}"), 400);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, path, "{\"url\":\"http://a/\",\"key\":\"k\"}"), 201);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, path, "{\"url\":\"http://a.b/\"}"), 400);
    assert_int_equal(ask(f, HTTP_METHOD_PUT, path, "{}"), 400);
    ask_if(f, HTTP_METHOD_PUT, path, "{\"url\":\"http://a/\",\"connect_ms\":5}", NULL, &r);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.text, "\"has_key\":true"));
    ask_if(f, HTTP_METHOD_PUT, path, "{\"url\":\"http://a.b/\",\"key\":null}", NULL, &r);
    assert_int_equal(r.status, 200);
    assert_null(strstr(r.text, "has_key"));
    assert_int_equal(ask(f, HTTP_METHOD_PUT, path, "{\"url\":\"http://c/\"}"), 200);
}

/* Every route of the store, with bodies and names of every shape. */
static void no_body_does_harm(void **state)
{
    static const char *const bodies[] = {
        "",
        "{}",
        "[]",
        "null",
        "{",
        "{\"name\":5}",
        "{\"permissions\":[1,null,{}]}",
        "{\"permissions\":\"x\"}",
        "{\"roles\":[1]}",
        "{\"roles\":{}}",
        "{\"organisation\":[]}",
        "{\"limits\":5}",
        "{\"limits\":{\"bad\":1}}",
        "{\"scopes\":[\"x y\"]}",
        "{\"scopes\":\"a\"}",
        "{\"model\":7}",
        "{\"key\":7,\"url\":\"u\"}",
        "{\"key\":\"\"}",
        "{\"expires_in\":-1}",
        "{\"overlap\":1e30}",
        "{\"price\":null}",
        "{\"alias\":\"\\u0000\"}",
    };
    static const char *const queries[] = {"",
                                          "?limit=x",
                                          "?after=%",
                                          "?after=zz&limit=1",
                                          "?head=1:2",
                                          "?kind=keys&after=q",
                                          "?after=99999999999999999999"};
    struct fixture *f = *state;
    for (uint32_t i = 0; i < POLICY_ROUTE_N; i++) {
        const struct policy_row *row = policy_row((enum policy_id)i);
        bool here = i == POLICY_ROUTE_METRICS || i == POLICY_ROUTE_OPENAPI ||
                    i == POLICY_ROUTE_STATUS || row->need == POLICY_OPEN;
        if (row->listener != POLICY_ADMIN || here) {
            continue;
        }
        for (size_t q = 0; q < ARRAY_LEN(queries); q++) {
            for (size_t b = 0; b < ARRAY_LEN(bodies); b++) {
                char target[256] = "";
                struct str rest = str_from(row->path);
                while (rest.len > 0) { /* /limits/{kind}/{name} → /limits/users/x */
                    size_t brace = str_find(rest, STR_LIT("{"));
                    size_t used = strlen(target);
                    str_copy(target + used, sizeof(target) - used, str_slice(rest, 0, brace));
                    if (brace == rest.len) {
                        break;
                    }
                    bool kind = str_starts(str_slice(rest, brace, rest.len), STR_LIT("{kind}"));
                    used = strlen(target);
                    str_copy(target + used, sizeof(target) - used, str_from(kind ? "users" : "x"));
                    rest = str_slice(rest, str_find(rest, STR_LIT("}")) + 1, rest.len);
                }
                size_t used = strlen(target);
                str_copy(target + used, sizeof(target) - used, str_from(queries[q]));
                int status = ask(f, row->method, target, bodies[b]);
                assert_true(status >= 200 && status < 500);
            }
        }
    }
    (void)entries(f); /* still whole */
}

static void the_document_is_json(void **state)
{
    struct fixture *f = *state;
    const struct json *doc;
    struct buf out;
    struct err err = {0};
    buf_init(&out, 1 << 20);
    openapi_write(&out);
    assert_true(buf_ok(&out));
    struct arena arena;
    arena_init(&arena, 16 << 20);
    assert_int_equal(json_parse(buf_str(&out), &arena, &doc, &err), RC_OK);
    assert_true(json_get(doc, "paths")->n > 20);
    arena_deinit(&arena);
    buf_deinit(&out);
    (void)f;
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_make, fixture_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(a_change_and_its_entry_are_one),
        WITH_FIXTURE(preconditions_hold),
        WITH_FIXTURE(names_are_decoded_once),
        WITH_FIXTURE(nobody_reaches_beyond_his_place),
        WITH_FIXTURE(a_key_goes_nowhere_else),
        WITH_FIXTURE(no_body_does_harm),
        WITH_FIXTURE(the_document_is_json),
        WITH_FIXTURE(a_key_gives_no_more_than_its_scopes),
        WITH_FIXTURE(a_role_gives_no_more_than_its_writers_scopes),
        WITH_FIXTURE(a_users_bound_is_not_lifted),
        WITH_FIXTURE(limits_and_prices_have_their_own_permission),
        WITH_FIXTURE(an_alias_leads_to_what_its_maker_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
