/* policy.c: see policy.h. */
#include "auth/policy.h"

#include "base/assert.h"

static const struct policy_row policy_rows[POLICY_ROUTE_N] = {
#define X(id, listener, method, path, need, kind, action, scope, summary)                          \
    {#id,           POLICY_##listener, HTTP_METHOD_##method, path,                                 \
     POLICY_##need, RBAC_##kind,       RBAC_##action,        scope,                                \
     summary},
    POLICY_TABLE(X)
#undef X
};

const struct policy_row *policy_row(enum policy_id id)
{
    ASSERT(id < POLICY_ROUTE_N);
    return &policy_rows[id];
}

/* Whether a path is a row's; fills the parameters on the way. */
static bool policy_path_is(const char *pattern, struct str path, struct policy_match *out)
{
    struct str want = str_from(pattern);
    out->n_params = 0;
    while (want.len > 0 && path.len > 0) {
        if (want.ptr[0] != '{') {
            if (want.ptr[0] != path.ptr[0]) {
                return false;
            }
            want = str_slice(want, 1, want.len);
            path = str_slice(path, 1, path.len);
            continue;
        }
        size_t end = str_find(want, STR_LIT("}"));
        bool rest = want.ptr[end - 1] == '*';
        size_t n = rest ? path.len : str_find(path, STR_LIT("/"));
        ASSERT(out->n_params < POLICY_PARAMS_MAX);
        if (n == 0) {
            return false;
        }
        out->params[out->n_params++] = str_slice(path, 0, n);
        want = str_slice(want, end + 1, want.len);
        path = str_slice(path, n, path.len);
    }
    return want.len == 0 && path.len == 0;
}

static void policy_add_allow(char allow[POLICY_ALLOW_BYTES], enum http_method method)
{
    size_t n = strlen(allow);
    const char *name = http_method_name(method);
    const char *comma = n > 0 ? ", " : "";
    struct str have = str_make(allow, n);
    if (str_find(have, str_from(name)) < n) {
        return; /* another row has it */
    }
    str_copy(allow + n, POLICY_ALLOW_BYTES - n, str_from(comma));
    n = strlen(allow);
    str_copy(allow + n, POLICY_ALLOW_BYTES - n, str_from(name));
    if (method == HTTP_METHOD_GET) {
        policy_add_allow(allow, HTTP_METHOD_HEAD);
    }
}

enum rc policy_find(enum policy_listener listener, enum http_method method, struct str path,
                    struct policy_match *out, char allow[POLICY_ALLOW_BYTES])
{
    enum http_method asked = method == HTTP_METHOD_HEAD ? HTTP_METHOD_GET : method;
    allow[0] = '\0';
    for (uint32_t i = 0; i < POLICY_ROUTE_N; i++) {
        const struct policy_row *row = &policy_rows[i];
        if (row->listener != listener || !policy_path_is(row->path, path, out)) {
            continue;
        }
        if (row->method == asked) {
            out->id = (enum policy_id)i;
            return RC_OK;
        }
        policy_add_allow(allow, row->method);
    }
    return allow[0] == '\0' ? RC_NOT_FOUND : RC_METHOD;
}
