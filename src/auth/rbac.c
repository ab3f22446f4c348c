/* rbac.c: see rbac.h. */
#include "auth/rbac.h"

#include "base/assert.h"

struct rbac_kind_row {
    const char *name;
    uint8_t actions;
    bool shared;
};

static const struct rbac_kind_row rbac_kinds[RBAC_KIND_N] = {
#define X(id, name, actions, shared) {name, actions, shared},
    RBAC_KIND_TABLE(X)
#undef X
};

_Static_assert(RBAC_KIND_N <= 32, "kinds are bits of a uint32_t");

static const struct {
    const char *name;
    uint8_t actions;
} rbac_actions[] = {
    {"invoke", RBAC_INVOKE},
    {"read", RBAC_READ},
    {"write", RBAC_WRITE},
    {"*", RBAC_INVOKE | RBAC_READ | RBAC_WRITE},
};

const char *rbac_kind_name(enum rbac_kind kind)
{
    ASSERT(kind < RBAC_KIND_N);
    return rbac_kinds[kind].name;
}

const char *rbac_action_name(enum rbac_action action)
{
    return action == RBAC_INVOKE ? "invoke" : action == RBAC_READ ? "read" : "write";
}

bool rbac_kind_is_shared(enum rbac_kind kind)
{
    ASSERT(kind < RBAC_KIND_N);
    return rbac_kinds[kind].shared;
}

/* ---- reading ---- */

/* The last ':' parts name and action: names of models may have one. */
static size_t rbac_last_colon(struct str text)
{
    size_t at = text.len;
    while (at > 0 && text.ptr[at - 1] != ':') {
        at--;
    }
    return at;
}

static enum rc rbac_fail(struct str text, const char *what, struct err *err)
{
    return err_set(err, RC_INVALID, "permission '%.*s': %s", (int)MIN(text.len, (size_t)100),
                   text.ptr, what);
}

static enum rc rbac_name_check(struct str text, struct str name, struct err *err)
{
    unsigned stars = 0;
    if (name.len == 0 || name.len > RBAC_NAME_BYTES_MAX) {
        return rbac_fail(text, "a name has 1 to 127 characters", err);
    }
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];
        if (c <= ' ' || c >= 0x7F || c == '"' || c == '\\') {
            return rbac_fail(text, "a name has no spaces, quotes or control characters", err);
        }
        stars += c == '*';
    }
    return stars <= RBAC_STARS_MAX ? RC_OK : rbac_fail(text, "at most four '*' in a name", err);
}

static uint32_t rbac_kinds_named(struct str word)
{
    if (str_is(word, "*")) {
        return (1u << RBAC_KIND_N) - 1;
    }
    for (uint32_t i = 0; i < RBAC_KIND_N; i++) {
        if (str_is(word, rbac_kinds[i].name)) {
            return 1u << i;
        }
    }
    return 0;
}

static uint8_t rbac_actions_named(struct str word)
{
    for (size_t i = 0; i < ARRAY_LEN(rbac_actions); i++) {
        if (str_is(word, rbac_actions[i].name)) {
            return rbac_actions[i].actions;
        }
    }
    return 0;
}

static uint8_t rbac_actions_of(uint32_t kinds)
{
    uint8_t actions = 0;
    for (uint32_t i = 0; i < RBAC_KIND_N; i++) {
        actions |= (kinds >> i & 1u) != 0 ? rbac_kinds[i].actions : 0;
    }
    return actions;
}

enum rc rbac_permission_parse(struct str text, struct rbac_permission *out, struct err *err)
{
    size_t colon = rbac_last_colon(text);
    if (colon == 0) {
        return rbac_fail(text, "expected KIND:ACTION or KIND/NAME:ACTION", err);
    }
    struct str what = str_slice(text, 0, colon - 1);
    struct str rest = what;
    struct str kind = str_cut(&rest, '/');
    bool has_name = rest.ptr != NULL;
    *out = (struct rbac_permission){
        .kinds = rbac_kinds_named(kind),
        .actions = rbac_actions_named(str_slice(text, colon, text.len)),
        .name = has_name ? rest : STR_LIT(""),
    };
    if (out->kinds == 0) {
        return rbac_fail(text, "there is no such kind of thing", err);
    }
    if ((out->actions & rbac_actions_of(out->kinds)) == 0) {
        return rbac_fail(text, "the action is invoke (models only), read, write or *", err);
    }
    if (!has_name) {
        return RC_OK;
    }
    if (str_is(kind, "*")) {
        return rbac_fail(text, "'*' as the kind takes no name", err);
    }
    return rbac_name_check(text, rest, err);
}

/* ---- compiling ---- */

static bool rbac_is_every_name(struct str name)
{
    return name.len == 0 || str_is(name, "*");
}

static void rbac_add_any(struct rbac_set *s, const struct rbac_permission *p)
{
    for (uint32_t i = 0; i < RBAC_KIND_N; i++) {
        if ((p->kinds >> i & 1u) != 0) {
            s->any[i] |= p->actions & rbac_kinds[i].actions;
        }
    }
}

enum rc rbac_compile(struct rbac_set *out, const struct str *permissions, uint32_t n,
                     struct arena *a, struct err *err)
{
    *out = (struct rbac_set){0};
    if (n > RBAC_PERMISSIONS_MAX) {
        return err_set(err, RC_TOO_LARGE, "more than %d permissions", RBAC_PERMISSIONS_MAX);
    }
    struct rbac_permission *named = arena_alloc_array(a, MAX(n, 1u), sizeof(*named));
    for (uint32_t i = 0; named != NULL && i < n; i++) {
        struct rbac_permission p;
        enum rc rc = rbac_permission_parse(permissions[i], &p, err);
        if (rc != RC_OK) {
            return rc;
        }
        if (rbac_is_every_name(p.name)) {
            rbac_add_any(out, &p);
            continue;
        }
        p.name = arena_str(a, p.name);
        if (p.name.ptr == NULL) {
            named = NULL;
        } else {
            named[out->n_named++] = p;
        }
    }
    out->named = named;
    return named != NULL ? RC_OK : err_set(err, RC_NOMEM, "out of memory for permissions");
}

/* ---- built-in roles ---- */

enum { RBAC_BUILTIN_MAX = 24 };

static const struct {
    const char *name;
    uint32_t n;
    struct str permissions[RBAC_BUILTIN_MAX];
} rbac_builtins[] = {
    {"owner", 1, {STR_LIT("*:*")}},
    /* All but making organisations and roles. */
    {"admin",
     11,
     {STR_LIT("*:read"), STR_LIT("models:*"), STR_LIT("aliases:write"), STR_LIT("prices:write"),
      STR_LIT("upstreams:write"), STR_LIT("projects:write"), STR_LIT("users:write"),
      STR_LIT("keys:write"), STR_LIT("limits:write"), STR_LIT("config:write"),
      STR_LIT("gateway:write")}},
    {"developer",
     4,
     {STR_LIT("models:invoke"), STR_LIT("models:read"), STR_LIT("aliases:read"),
      STR_LIT("prices:read")}},
    /* Everything but the audit log. */
    {"viewer",
     15,
     {STR_LIT("models:read"), STR_LIT("aliases:read"), STR_LIT("prices:read"),
      STR_LIT("upstreams:read"), STR_LIT("organisations:read"), STR_LIT("projects:read"),
      STR_LIT("users:read"), STR_LIT("roles:read"), STR_LIT("keys:read"), STR_LIT("limits:read"),
      STR_LIT("usage:read"), STR_LIT("requests:read"), STR_LIT("config:read"),
      STR_LIT("gateway:read"), STR_LIT("metrics:read")}},
    {"billing",
     7,
     {STR_LIT("usage:read"), STR_LIT("prices:*"), STR_LIT("limits:read"), STR_LIT("projects:read"),
      STR_LIT("organisations:read"), STR_LIT("keys:read"), STR_LIT("models:read")}},
};

const struct str *rbac_builtin(struct str role, uint32_t *n)
{
    for (size_t i = 0; i < ARRAY_LEN(rbac_builtins); i++) {
        if (str_is(role, rbac_builtins[i].name)) {
            *n = rbac_builtins[i].n;
            return rbac_builtins[i].permissions;
        }
    }
    *n = 0;
    return NULL;
}

const char *rbac_builtin_name(uint32_t idx)
{
    return idx < ARRAY_LEN(rbac_builtins) ? rbac_builtins[idx].name : NULL;
}

/* ---- deciding ---- */

static bool rbac_permission_is(const struct rbac_permission *p, enum rbac_kind kind,
                               enum rbac_action action)
{
    return (p->kinds >> kind & 1u) != 0 && (p->actions & action) != 0;
}

bool rbac_set_allows(const struct rbac_set *s, enum rbac_kind kind, enum rbac_action action,
                     struct str name)
{
    if (LIKELY((s->any[kind] & action) != 0)) {
        return true;
    }
    for (uint32_t i = 0; i < s->n_named; i++) {
        if (rbac_permission_is(&s->named[i], kind, action) && str_matches(s->named[i].name, name)) {
            return true;
        }
    }
    return false;
}

static bool rbac_set_allows_some(const struct rbac_set *s, enum rbac_kind kind,
                                 enum rbac_action action)
{
    bool some = (s->any[kind] & action) != 0;
    for (uint32_t i = 0; !some && i < s->n_named; i++) {
        some = rbac_permission_is(&s->named[i], kind, action);
    }
    return some;
}

bool rbac_allows(const struct rbac_grants *g, enum rbac_kind kind, enum rbac_action action,
                 struct str name)
{
    for (uint32_t i = 0; i < g->n_roles; i++) {
        if (rbac_set_allows(g->roles[i], kind, action, name)) {
            return g->within == NULL || rbac_set_allows(g->within, kind, action, name);
        }
    }
    return false;
}

bool rbac_allows_some(const struct rbac_grants *g, enum rbac_kind kind, enum rbac_action action)
{
    for (uint32_t i = 0; i < g->n_roles; i++) {
        if (rbac_set_allows_some(g->roles[i], kind, action)) {
            return g->within == NULL || rbac_set_allows_some(g->within, kind, action);
        }
    }
    return false;
}

/* A '*' of the narrower pattern can only be taken by a '*' of the wider one, which takes whatever
 * it stands for as well: matching the one's text by the other proves that it holds for all. */
static bool rbac_set_covers_one(const struct rbac_set *s, enum rbac_kind kind,
                                enum rbac_action action, struct str pattern)
{
    return rbac_is_every_name(pattern) ? (s->any[kind] & action) != 0
                                       : rbac_set_allows(s, kind, action, pattern);
}

static bool rbac_covers_one(const struct rbac_grants *g, enum rbac_kind kind, uint8_t actions,
                            struct str pattern)
{
    for (unsigned bit = RBAC_INVOKE; bit <= RBAC_WRITE; bit <<= 1) {
        enum rbac_action action = (enum rbac_action)bit;
        bool held = (actions & bit) == 0 || (rbac_kinds[kind].actions & bit) == 0;
        for (uint32_t i = 0; !held && i < g->n_roles; i++) {
            held = rbac_set_covers_one(g->roles[i], kind, action, pattern) &&
                   (g->within == NULL || rbac_set_covers_one(g->within, kind, action, pattern));
        }
        if (!held) {
            return false;
        }
    }
    return true;
}

bool rbac_covers(const struct rbac_grants *g, const struct rbac_set *s)
{
    for (uint32_t kind = 0; kind < RBAC_KIND_N; kind++) {
        if (!rbac_covers_one(g, (enum rbac_kind)kind, s->any[kind], STR_LIT("*"))) {
            return false;
        }
        for (uint32_t i = 0; i < s->n_named; i++) {
            const struct rbac_permission *p = &s->named[i];
            if ((p->kinds >> kind & 1u) != 0 &&
                !rbac_covers_one(g, (enum rbac_kind)kind, p->actions, p->name)) {
                return false;
            }
        }
    }
    return true;
}
