/* Permissions, roles and the table of routes: what is allowed, and above all what is not. */
#include "check.h"

#include <string.h>

#include "auth/policy.h"
#include "auth/rbac.h"

static int arena_make(void **state)
{
    struct arena *a = calloc(1, sizeof(*a));
    arena_init(a, 1 << 20);
    *state = a;
    return 0;
}

static int arena_remove(void **state)
{
    arena_deinit(*state);
    free(*state);
    return 0;
}

static struct rbac_set compiled(struct arena *a, const char *const *texts)
{
    struct str list[16];
    struct rbac_set set;
    struct err err = {0};
    uint32_t n = 0;
    for (; texts[n] != NULL; n++) {
        list[n] = str_from(texts[n]);
    }
    assert_int_equal(rbac_compile(&set, list, n, a, &err), RC_OK);
    return set;
}

static struct rbac_set builtin(struct arena *a, const char *name)
{
    uint32_t n;
    struct rbac_set set;
    const struct str *texts = rbac_builtin(str_from(name), &n);
    assert_non_null(texts);
    assert_int_equal(rbac_compile(&set, texts, n, a, NULL), RC_OK);
    return set;
}

static void permissions_are_read_or_refused(void **state)
{
    (void)state;
    static const char *const good[] = {"models/llama-*:invoke",
                                       "models/llama3:8b:invoke",
                                       "keys:read",
                                       "*:*",
                                       "*:read",
                                       "projects/search:write",
                                       "models/a*b*c*d*:*",
                                       "models/meta/llama:read"};
    static const char *const bad[] = {"",
                                      "models",
                                      ":read",
                                      "models:",
                                      "model:read",
                                      "models:run",
                                      "keys:invoke",
                                      "metrics:write",
                                      "*/x:read",
                                      "models/:read",
                                      "models/a b:read",
                                      "models/a\"b:read",
                                      "models/*****:read",
                                      "Models:read",
                                      " models:read",
                                      "models:read "};
    struct rbac_permission p;
    struct err err = {0};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(rbac_permission_parse(str_from(good[i]), &p, &err), RC_OK);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(rbac_permission_parse(str_from(bad[i]), &p, &err), RC_INVALID);
    }
    char longest[8 + RBAC_NAME_BYTES_MAX + 16] = "models/";
    memset(longest + 7, 'x', RBAC_NAME_BYTES_MAX + 1);
    memcpy(longest + 7 + RBAC_NAME_BYTES_MAX + 1, ":read", 6);
    assert_int_equal(rbac_permission_parse(str_from(longest), &p, &err), RC_INVALID);
}

static void nothing_is_allowed_that_was_not_given(void **state)
{
    static const char *const texts[] = {"models/llama-*:invoke", "models:read",
                                        "projects/search:write", NULL};
    const struct rbac_set set = compiled(*state, texts);
    const struct rbac_grants g = {.roles = {&set}, .n_roles = 1};
    const struct rbac_grants none = {0};
    assert_true(rbac_allows(&g, RBAC_MODELS, RBAC_INVOKE, STR_LIT("llama-3")));
    assert_false(rbac_allows(&g, RBAC_MODELS, RBAC_INVOKE, STR_LIT("qwen")));
    assert_false(rbac_allows(&g, RBAC_MODELS, RBAC_INVOKE, STR_LIT("")));
    assert_true(rbac_allows(&g, RBAC_MODELS, RBAC_READ, STR_LIT("qwen")));
    assert_false(rbac_allows(&g, RBAC_MODELS, RBAC_WRITE, STR_LIT("llama-3")));
    assert_true(rbac_allows(&g, RBAC_PROJECTS, RBAC_WRITE, STR_LIT("search")));
    assert_false(rbac_allows(&g, RBAC_PROJECTS, RBAC_WRITE, STR_LIT("search2")));
    assert_false(rbac_allows(&g, RBAC_PROJECTS, RBAC_READ, STR_LIT("search")));
    assert_true(rbac_allows_some(&g, RBAC_MODELS, RBAC_INVOKE));
    assert_false(rbac_allows_some(&g, RBAC_KEYS, RBAC_READ));
    for (uint32_t kind = 0; kind < RBAC_KIND_N; kind++) {
        assert_false(rbac_allows(&none, (enum rbac_kind)kind, RBAC_READ, STR_LIT("x")));
        assert_false(rbac_allows_some(&none, (enum rbac_kind)kind, RBAC_READ));
    }
}

static void a_user_narrows_what_roles_allow(void **state)
{
    static const char *const within_texts[] = {"models/small-*:invoke", NULL};
    const struct rbac_set owner = builtin(*state, "owner");
    const struct rbac_set within = compiled(*state, within_texts);
    const struct rbac_grants g = {.roles = {&owner}, .n_roles = 1, .within = &within};
    assert_true(rbac_allows(&g, RBAC_MODELS, RBAC_INVOKE, STR_LIT("small-1")));
    assert_false(rbac_allows(&g, RBAC_MODELS, RBAC_INVOKE, STR_LIT("large-1")));
    assert_false(rbac_allows_some(&g, RBAC_KEYS, RBAC_WRITE));
    assert_false(rbac_covers(&g, &owner));
    assert_true(rbac_covers(&g, &within));
}

static void built_in_roles_hold_what_they_should(void **state)
{
    static const struct {
        const char *role;
        enum rbac_kind kind;
        enum rbac_action action;
        bool allowed;
    } rows[] = {
        {"owner", RBAC_ROLES, RBAC_WRITE, true},
        {"owner", RBAC_MODELS, RBAC_INVOKE, true},
        {"admin", RBAC_KEYS, RBAC_WRITE, true},
        {"admin", RBAC_ROLES, RBAC_READ, true},
        {"admin", RBAC_ROLES, RBAC_WRITE, false},
        {"admin", RBAC_ORGANISATIONS, RBAC_WRITE, false},
        {"admin", RBAC_AUDIT, RBAC_READ, true},
        {"developer", RBAC_MODELS, RBAC_INVOKE, true},
        {"developer", RBAC_KEYS, RBAC_READ, false},
        {"developer", RBAC_METRICS, RBAC_READ, false},
        {"viewer", RBAC_KEYS, RBAC_READ, true},
        {"viewer", RBAC_AUDIT, RBAC_READ, false},
        {"viewer", RBAC_MODELS, RBAC_INVOKE, false},
        {"viewer", RBAC_METRICS, RBAC_READ, true},
        {"billing", RBAC_USAGE, RBAC_READ, true},
        {"billing", RBAC_PRICES, RBAC_WRITE, true},
        {"billing", RBAC_KEYS, RBAC_WRITE, false},
        {"billing", RBAC_MODELS, RBAC_INVOKE, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct rbac_set set = builtin(*state, rows[i].role);
        const struct rbac_grants g = {.roles = {&set}, .n_roles = 1};
        assert_int_equal(rbac_allows(&g, rows[i].kind, rows[i].action, STR_LIT("x")),
                         rows[i].allowed);
    }
    for (uint32_t kind = 0; kind < RBAC_KIND_N; kind++) {
        const struct rbac_set viewer = builtin(*state, "viewer");
        const struct rbac_grants g = {.roles = {&viewer}, .n_roles = 1};
        assert_false(rbac_allows_some(&g, (enum rbac_kind)kind, RBAC_WRITE));
    }
}

static void nobody_gives_away_more_than_he_holds(void **state)
{
    static const char *const wide[] = {"models/llama-*:*", "keys:write", NULL};
    static const char *const narrow[] = {"models/llama-*-8b:invoke", "keys/key_1:write", NULL};
    static const char *const other[] = {"models/*llama-*:invoke", NULL};
    static const char *const every[] = {"models:invoke", NULL};
    const struct rbac_set wide_set = compiled(*state, wide), narrow_set = compiled(*state, narrow);
    const struct rbac_set other_set = compiled(*state, other), every_set = compiled(*state, every);
    const struct rbac_set owner = builtin(*state, "owner"), admin = builtin(*state, "admin");
    const struct rbac_grants w = {.roles = {&wide_set}, .n_roles = 1};
    const struct rbac_grants n = {.roles = {&narrow_set}, .n_roles = 1};
    const struct rbac_grants o = {.roles = {&owner}, .n_roles = 1};
    const struct rbac_grants a = {.roles = {&admin}, .n_roles = 1};
    assert_true(rbac_covers(&w, &narrow_set));
    assert_false(rbac_covers(&n, &wide_set));
    assert_false(rbac_covers(&w, &other_set));
    assert_false(rbac_covers(&w, &every_set));
    assert_true(rbac_covers(&o, &admin));
    assert_true(rbac_covers(&o, &owner));
    assert_false(rbac_covers(&a, &owner));
    for (uint32_t i = 0; rbac_builtin_name(i) != NULL; i++) {
        const struct rbac_set set = builtin(*state, rbac_builtin_name(i));
        assert_true(rbac_covers(&o, &set));
        assert_int_equal(rbac_covers(&a, &set), strcmp(rbac_builtin_name(i), "owner") != 0);
    }
}

static void routes_are_found_by_path_and_method(void **state)
{
    struct policy_match m;
    char allow[POLICY_ALLOW_BYTES];
    (void)state;
    assert_int_equal(
        policy_find(POLICY_API, HTTP_METHOD_POST, STR_LIT("/v1/chat/completions"), &m, allow),
        RC_OK);
    assert_int_equal(m.id, POLICY_ROUTE_CHAT);
    assert_int_equal(
        policy_find(POLICY_API, HTTP_METHOD_HEAD, STR_LIT("/v1/models/a/b"), &m, allow), RC_OK);
    assert_int_equal(m.id, POLICY_ROUTE_MODEL_SEEN);
    assert_true(str_is(m.params[0], "a/b"));
    assert_int_equal(policy_find(POLICY_API, HTTP_METHOD_POST, STR_LIT("/v1/models"), &m, allow),
                     RC_METHOD);
    assert_string_equal(allow, "GET, HEAD");
    assert_int_equal(policy_find(POLICY_API, HTTP_METHOD_GET, STR_LIT("/v1/models/"), &m, allow),
                     RC_NOT_FOUND);
    assert_int_equal(policy_find(POLICY_API, HTTP_METHOD_GET, STR_LIT("/metrics"), &m, allow),
                     RC_NOT_FOUND);
    assert_int_equal(policy_find(POLICY_ADMIN, HTTP_METHOD_GET, STR_LIT("/metrics"), &m, allow),
                     RC_OK);
    assert_int_equal(policy_find(POLICY_ADMIN, HTTP_METHOD_GET, STR_LIT("/metrics/"), &m, allow),
                     RC_NOT_FOUND);
    assert_int_equal(policy_find(POLICY_ADMIN, HTTP_METHOD_GET, STR_LIT(""), &m, allow),
                     RC_NOT_FOUND);
}

/* No route but those of health is open; every other names a permission that some role can hold. */
static void every_route_has_a_policy(void **state)
{
    const struct rbac_set owner = builtin(*state, "owner");
    const struct rbac_grants g = {.roles = {&owner}, .n_roles = 1};
    for (uint32_t i = 0; i < POLICY_ROUTE_N; i++) {
        const struct policy_row *row = policy_row((enum policy_id)i);
        bool health = strstr(row->path, "livez") != NULL || strstr(row->path, "readyz") != NULL ||
                      strcmp(row->path, "/health") == 0;
        assert_int_equal(row->need == POLICY_OPEN, health);
        assert_true(row->summary[0] != '\0');
        assert_true(row->need != POLICY_PERMISSION || rbac_allows_some(&g, row->kind, row->action));
    }
}

#define WITH_ARENA(test) cmocka_unit_test_setup_teardown(test, arena_make, arena_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permissions_are_read_or_refused),
        WITH_ARENA(nothing_is_allowed_that_was_not_given),
        WITH_ARENA(a_user_narrows_what_roles_allow),
        WITH_ARENA(built_in_roles_hold_what_they_should),
        WITH_ARENA(nobody_gives_away_more_than_he_holds),
        cmocka_unit_test(routes_are_found_by_path_and_method),
        WITH_ARENA(every_route_has_a_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
