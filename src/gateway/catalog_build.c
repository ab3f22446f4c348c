/* catalog_build.c: see catalog_build.h. */
#include "gateway/catalog_build.h"

#include "base/assert.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "net/http_head.h"
#include "net/tls.h"
#include "stores/seal.h"

enum { CAT_ARENA_BYTES_MAX = 256 << 20, CAT_ALIAS_DEPTH_MAX = 8, CAT_KEY_BYTES_MAX = 1024 };

/* ---- names ---- */

static bool cat_name_ok(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];
        if (c <= ' ' || c >= 0x7F || strchr("@*\"\\", c) != NULL) {
            return false;
        }
    }
    return name.len > 0;
}

/* Every kind's struct begins with its name. */
static enum rc cat_index(struct map *map, const char *kind, const struct conf_list *list,
                         size_t size, struct err *err)
{
    for (uint32_t i = 0; i < list->n; i++) {
        void *object = (char *)list->at + i * size;
        const struct str *name = object;
        void *old = NULL;
        if (!cat_name_ok(*name)) {
            return err_set(err, RC_INVALID, "%s '%.*s': a name has no spaces, '@', '*' or quotes",
                           kind, STR(*name));
        }
        if (!map_put(map, *name, object, &old)) {
            return err_set(err, RC_NOMEM, "out of memory for the catalogue");
        }
        if (old != NULL) {
            return err_set(err, RC_CONFLICT, "two of kind %s are called '%.*s'", kind, STR(*name));
        }
    }
    return RC_OK;
}

_Static_assert(offsetof(struct cat_organisation, name) == 0, "cat_index");
_Static_assert(offsetof(struct cat_role, name) == 0, "cat_index");
_Static_assert(offsetof(struct cat_project, name) == 0, "cat_index");
_Static_assert(offsetof(struct cat_user, name) == 0, "cat_index");
_Static_assert(offsetof(struct cat_upstream, name) == 0, "cat_index");
_Static_assert(offsetof(struct cat_model, name) == 0, "cat_index");

static enum rc cat_fail_room(struct err *err)
{
    return err_set(err, RC_TOO_LARGE, "the catalogue is too large");
}

/* ---- what this machine brings ---- */

/* A list with room for `extra` more at its end. */
static bool cat_list_grow(struct arena *a, struct conf_list *list, size_t size, uint32_t extra)
{
    char *at = arena_alloc_array(a, (size_t)list->n + extra, size);
    if (at != NULL && list->n > 0) {
        memcpy(at, list->at, list->n * size);
    }
    list->at = at;
    return at != NULL;
}

static bool cat_has_model(const struct cat_set *set, struct str name)
{
    const struct cat_model *models = set->models.at;
    for (uint32_t i = 0; i < set->models.n; i++) {
        if (str_eq(models[i].name, name)) {
            return true;
        }
    }
    return false;
}

static enum rc cat_add_local_model(struct cat_set *set, struct arena *a, struct str name,
                                   struct err *err)
{
    struct cat_version *v = arena_alloc(a, sizeof(*v));
    struct str *upstream = arena_alloc(a, sizeof(*upstream));
    struct str copy = arena_str(a, name);
    if (v == NULL || upstream == NULL || copy.ptr == NULL) {
        return cat_fail_room(err);
    }
    *upstream = STR_LIT(CAT_LOCAL);
    *v = (struct cat_version){
        .name = STR_LIT("1"), .weight = 1, .upstreams = {.at = upstream, .n = 1}};
    struct cat_model *models = set->models.at;
    models[set->models.n++] =
        (struct cat_model){.name = copy, .versions = {.at = v, .n = 1}, .balance = CAT_TWO_CHOICES};
    return RC_OK;
}

static enum rc cat_add_local(struct cat_set *set, struct arena *a, const struct cat_local *local,
                             struct err *err)
{
    if (local->addr.sa_bytes == 0) {
        return RC_OK;
    }
    if (!cat_list_grow(a, &set->upstreams, sizeof(struct cat_upstream), 1) ||
        !cat_list_grow(a, &set->models, sizeof(struct cat_model), local->n_models)) {
        return cat_fail_room(err);
    }
    struct cat_upstream *upstreams = set->upstreams.at;
    upstreams[set->upstreams.n++] = (struct cat_upstream){.name = STR_LIT(CAT_LOCAL),
                                                          .kind = CAT_BUD,
                                                          .addr = local->addr,
                                                          .connections_max = 1024,
                                                          .connect_ms = 2000,
                                                          .first_byte_ms = 600000};
    enum rc rc = RC_OK;
    for (uint32_t i = 0; rc == RC_OK && i < local->n_models; i++) {
        if (!cat_has_model(set, local->models[i])) {
            rc = cat_add_local_model(set, a, local->models[i], err);
        }
    }
    return rc;
}

/* ---- roles, and who has them ---- */

/* The built-in ones stand in the map as any other, and cannot be made anew. */
static enum rc cat_build_builtins(struct cat *c, struct err *err)
{
    const char *name;
    for (uint32_t i = 0; (name = rbac_builtin_name(i)) != NULL; i++) {
        uint32_t n = 0;
        const struct str *permissions = rbac_builtin(str_from(name), &n);
        struct cat_role *r = arena_alloc(&c->arena, sizeof(*r));
        void *old = NULL;
        if (r == NULL) {
            return cat_fail_room(err);
        }
        r->name = str_from(name);
        enum rc rc = rbac_compile(&r->set, permissions, n, &c->arena, err);
        if (rc != RC_OK) {
            return rc;
        }
        if (!map_put(&c->roles, r->name, r, &old)) {
            return cat_fail_room(err);
        }
        if (old != NULL) {
            return err_set(err, RC_CONFLICT, "role %s is built in", name);
        }
    }
    return RC_OK;
}

static enum rc cat_build_roles(struct cat *c, struct err *err)
{
    struct cat_role *roles = c->set.roles.at;
    for (uint32_t i = 0; i < c->set.roles.n; i++) {
        const struct conf_list *p = &roles[i].permissions;
        enum rc rc = rbac_compile(&roles[i].set, p->at, p->n, &c->arena, err);
        if (rc != RC_OK) {
            return err_context(err, "role %.*s", STR(roles[i].name));
        }
    }
    return cat_build_builtins(c, err);
}

static enum rc cat_check_organisation(const struct cat *c, struct str name, struct err *err)
{
    if (name.len > 0 && map_get(&c->organisations, name) == NULL) {
        return err_set(err, RC_NOT_FOUND, "there is no organisation '%.*s'", STR(name));
    }
    return RC_OK;
}

/* All permissions of the user's roles, compiled together. */
static enum rc cat_build_user(struct cat *c, struct cat_user *u, struct err *err)
{
    const struct str *names = u->roles.at;
    struct str all[RBAC_PERMISSIONS_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < u->roles.n; i++) {
        const struct cat_role *role = map_get(&c->roles, names[i]);
        uint32_t n_of = 0;
        const struct str *of = rbac_builtin(names[i], &n_of);
        if (role == NULL) {
            return err_set(err, RC_NOT_FOUND, "there is no role '%.*s'", STR(names[i]));
        }
        if (of == NULL) {
            of = role->permissions.at;
            n_of = role->permissions.n;
        }
        if (n_of > RBAC_PERMISSIONS_MAX - n) {
            return err_set(err, RC_TOO_LARGE, "its roles have more than %d permissions",
                           RBAC_PERMISSIONS_MAX);
        }
        for (uint32_t j = 0; j < n_of; j++) {
            all[n++] = of[j];
        }
    }
    return rbac_compile(&u->set, all, n, &c->arena, err);
}

static enum rc cat_build_owners(struct cat *c, struct err *err)
{
    struct cat_project *projects = c->set.projects.at;
    struct cat_user *users = c->set.users.at;
    for (uint32_t i = 0; i < c->set.projects.n; i++) {
        if (cat_check_organisation(c, projects[i].organisation, err) != RC_OK) {
            return err_context(err, "project %.*s", STR(projects[i].name));
        }
    }
    for (uint32_t i = 0; i < c->set.users.n; i++) {
        enum rc rc = cat_check_organisation(c, users[i].organisation, err);
        rc = rc == RC_OK ? cat_build_user(c, &users[i], err) : rc;
        if (rc != RC_OK) {
            return err_context(err, "user %.*s", STR(users[i].name));
        }
    }
    return RC_OK;
}

const struct rbac_set *cat_role_find(const struct cat *c, struct str name)
{
    const struct cat_role *role = map_get(&c->roles, name);
    return role != NULL ? &role->set : NULL;
}

void cat_grant(const struct cat *c, struct principal *p)
{
    const struct cat_user *user = map_get(&c->users, p->user);
    struct str rest = p->roles;
    p->grants = (struct rbac_grants){0};
    while (rest.len > 0 && p->grants.n_roles < RBAC_ROLES_MAX) {
        const struct rbac_set *set = cat_role_find(c, str_cut(&rest, ' '));
        if (set != NULL) {
            p->grants.roles[p->grants.n_roles++] = set;
        }
    }
    if (user != NULL && user->roles.n > 0) {
        p->grants.within = &user->set;
    }
}

/* ---- upstreams ---- */

/* What belongs to https:// and cannot stand without it. */
static enum rc cat_upstream_tls(struct cat_upstream *u, struct str host, struct err *err)
{
    const struct str *pins = u->tls_pins.at;
    unsigned char digest[CRYPTO_SHA256_BYTES];
    if (!u->tls) {
        bool set = u->tls_ca.len + u->tls_cert.len + u->tls_key.len + u->tls_name.len > 0;
        return set || u->tls_pins.n > 0
                   ? err_set(err, RC_INVALID, "tls_… belongs to a url of https://")
                   : RC_OK;
    }
    if ((u->tls_cert.len > 0) != (u->tls_key.len > 0)) {
        return err_set(err, RC_INVALID, "tls_cert and tls_key are given together");
    }
    if (u->tls_name.len == 0) {
        bool v6 = host.len > 2 && host.ptr[0] == '[';
        u->tls_name = v6 ? str_slice(host, 1, host.len - 1) : host;
    }
    enum rc rc = RC_OK;
    for (uint32_t i = 0; rc == RC_OK && i < u->tls_pins.n; i++) {
        rc = tls_pin_parse(pins[i], digest, err);
    }
    return rc;
}

/* "https://host:port/base", the same with http, or "unix:/path". A host's name is looked up later
 * (backend.c), again and again. */
static enum rc cat_upstream_address(struct cat_upstream *u, struct arena *a, struct err *err)
{
    static const struct str http = STR_LIT("http://"), https = STR_LIT("https://");
    if (u->addr.sa_bytes > 0) {
        return RC_OK; /* our own */
    }
    if (u->health_path.len > 0 && !http_target_valid(u->health_path)) {
        return err_set(err, RC_INVALID, "health_path: want a path, such as /health");
    }
    u->tls = str_starts(u->url, https);
    if (!u->tls && !str_starts(u->url, http)) {
        enum rc rc = cat_upstream_tls(u, STR_NULL, err);
        return rc == RC_OK ? addr_parse(&u->addr, u->url, err) : rc;
    }
    struct str rest = str_slice(u->url, u->tls ? https.len : http.len, u->url.len);
    u->host = str_slice(rest, 0, str_find(rest, STR_LIT("/")));
    u->base = str_slice(rest, u->host.len, rest.len);
    while (u->base.len > 0 && u->base.ptr[u->base.len - 1] == '/') {
        u->base.len--;
    }
    if (str_ends(u->base, STR_LIT("/v1"))) { /* as people write it for SDKs */
        u->base.len -= 3;
    }
    if (u->base.len > 0 &&
        (!http_target_valid(u->base) || str_find(u->base, STR_LIT("?")) < u->base.len)) {
        return err_set(err, RC_INVALID, "url: its path has what no request can carry");
    }
    bool v6 = u->host.len > 0 && u->host.ptr[0] == '[';
    size_t end = str_find(u->host, v6 ? STR_LIT("]:") : STR_LIT(":"));
    struct str where =
        end < u->host.len ? u->host : arena_printf(a, "%.*s:%d", STR(u->host), u->tls ? 443 : 80);
    if (where.ptr == NULL) {
        return cat_fail_room(err);
    }
    enum rc rc = cat_upstream_tls(u, str_slice(u->host, 0, v6 ? end + 1 : end), err);
    if (rc == RC_OK && addr_is_name(where) && !str_starts(where, STR_LIT("localhost:"))) {
        u->where = where;
        return RC_OK;
    }
    return rc == RC_OK ? addr_parse(&u->addr, where, err) : rc;
}

static enum rc cat_upstream_key(struct cat_upstream *u, struct arena *a, const struct kms *kms,
                                struct err *err)
{
    if (u->sealed_key.len == 0) {
        return RC_OK;
    }
    struct buf plain;
    size_t n = u->sealed_key.len / 2;
    char *sealed = arena_alloc(a, n + 1);
    struct str context = arena_printf(a, "upstreams/%.*s/key", STR(u->name));
    if (sealed == NULL || context.ptr == NULL) {
        return cat_fail_room(err);
    }
    if (!crypto_unhex(u->sealed_key, sealed, n)) {
        return err_set(err, RC_CORRUPT, "the sealed key is damaged");
    }
    buf_init(&plain, CAT_KEY_BYTES_MAX);
    enum rc rc = seal_open_value(kms, context, str_make(sealed, n), &plain, err);
    if (rc == RC_OK) {
        u->key = arena_str(a, buf_str(&plain));
        rc = u->key.ptr != NULL ? RC_OK : cat_fail_room(err);
    }
    if (plain.ptr != NULL) {
        mem_wipe(plain.ptr, plain.len);
    }
    buf_deinit(&plain);
    return rc;
}

static enum rc cat_build_upstreams(struct cat *c, const struct kms *kms, struct err *err)
{
    struct cat_upstream *upstreams = c->set.upstreams.at;
    for (uint32_t i = 0; i < c->set.upstreams.n; i++) {
        struct cat_upstream *u = &upstreams[i];
        enum rc rc = cat_upstream_address(u, &c->arena, err);
        rc = rc == RC_OK && kms != NULL ? cat_upstream_key(u, &c->arena, kms, err) : rc;
        if (rc != RC_OK) {
            return err_context(err, "upstream %.*s", STR(u->name));
        }
    }
    c->local = map_get(&c->upstreams, STR_LIT(CAT_LOCAL));
    return RC_OK;
}

/* ---- models ---- */

static enum rc cat_build_version(struct cat *c, struct cat_version *v, struct err *err)
{
    const struct str *names = v->upstreams.at;
    if (v->upstreams.n == 0) {
        return err_set(err, RC_INVALID, "version %.*s: needs at least one upstream", STR(v->name));
    }
    v->targets = arena_alloc_array(&c->arena, v->upstreams.n, sizeof(*v->targets));
    if (v->targets == NULL) {
        return cat_fail_room(err);
    }
    for (uint32_t i = 0; i < v->upstreams.n; i++) {
        const struct cat_upstream *u = map_get(&c->upstreams, names[i]);
        if (u == NULL) {
            return err_set(err, RC_NOT_FOUND, "version %.*s: there is no upstream '%.*s'",
                           STR(v->name), STR(names[i]));
        }
        v->targets[v->n_targets++] = u;
    }
    return RC_OK;
}

static enum rc cat_build_versions(struct cat *c, struct cat_model *m, struct err *err)
{
    struct cat_version *versions = m->versions.at;
    uint64_t weights = 0;
    for (uint32_t i = 0; i < m->versions.n; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (str_eq(versions[i].name, versions[j].name)) {
                return err_set(err, RC_CONFLICT, "version %.*s stands here twice",
                               STR(versions[i].name));
            }
        }
        weights += versions[i].weight;
        if (versions[i].hedge_ms > 0 && versions[i].hedge_ms < CAT_HEDGE_MS_MIN) {
            return err_set(err, RC_INVALID, "version %.*s: hedge_ms is 0 or at least %d",
                           STR(versions[i].name), CAT_HEDGE_MS_MIN);
        }
        enum rc rc = cat_build_version(c, &versions[i], err);
        if (rc != RC_OK) {
            return rc;
        }
    }
    return weights > 0 ? RC_OK
                       : err_set(err, RC_INVALID, "needs an alias, or a version with a weight");
}

static enum rc cat_build_alias(struct cat *c, struct cat_model *m, struct err *err)
{
    const struct cat_model *at = m;
    if (m->versions.n > 0 || m->fallback.n > 0) {
        return err_set(err, RC_INVALID, "an alias has nothing else");
    }
    for (int depth = 0; at->alias.len > 0; depth++) {
        const struct cat_model *next = map_get(&c->models, at->alias);
        if (next == NULL) {
            return err_set(err, RC_NOT_FOUND, "there is no model '%.*s'", STR(at->alias));
        }
        if (depth == CAT_ALIAS_DEPTH_MAX) {
            return err_set(err, RC_INVALID, "its aliases lead in a circle, or too far");
        }
        at = next;
    }
    m->means = at;
    return RC_OK;
}

static enum rc cat_build_fallback(struct cat *c, struct cat_model *m, struct err *err)
{
    const struct str *names = m->fallback.at;
    m->next = arena_alloc_array(&c->arena, m->fallback.n, sizeof(*m->next));
    if (m->next == NULL) {
        return cat_fail_room(err);
    }
    for (uint32_t i = 0; i < m->fallback.n; i++) {
        const struct cat_model *next = map_get(&c->models, names[i]);
        if (next == NULL || next->means == m->means) {
            return err_set(err, RC_NOT_FOUND, "fallback '%.*s' is no other model", STR(names[i]));
        }
        m->next[i] = next->means;
    }
    return RC_OK;
}

static enum rc cat_build_models(struct cat *c, struct err *err)
{
    struct cat_model *models = c->set.models.at;
    for (int pass = 0; pass < 2; pass++) { /* fallbacks need every alias */
        for (uint32_t i = 0; i < c->set.models.n; i++) {
            struct cat_model *m = &models[i];
            enum rc rc = RC_OK;
            if (pass == 1) {
                rc = cat_build_fallback(c, m, err);
            } else if (m->alias.len > 0) {
                rc = cat_build_alias(c, m, err);
            } else {
                m->means = m;
                rc = cat_build_versions(c, m, err);
            }
            if (rc != RC_OK) {
                return err_context(err, "model %.*s", STR(m->name));
            }
        }
    }
    return RC_OK;
}

static enum rc cat_build(struct cat *c, const struct kms *kms, const struct cat_local *local,
                         struct err *err)
{
    c->only_local = c->set.models.n == 0 && local->addr.sa_bytes > 0;
    enum rc rc = cat_add_local(&c->set, &c->arena, local, err);
    struct map *const maps[CAT_KINDS_N] = {&c->organisations, &c->roles,     &c->projects,
                                           &c->users,         &c->upstreams, &c->models};
    for (int i = 0; rc == RC_OK && i < CAT_KINDS_N; i++) {
        const struct conf_list *list = (const void *)((char *)&c->set + cat_kinds[i].list);
        rc = cat_index(maps[i], cat_kinds[i].kind, list, cat_kinds[i].size, err);
    }
    rc = rc == RC_OK ? cat_build_roles(c, err) : rc;
    rc = rc == RC_OK ? cat_build_owners(c, err) : rc;
    rc = rc == RC_OK ? cat_build_upstreams(c, kms, err) : rc;
    return rc == RC_OK ? cat_build_models(c, err) : rc;
}

/* ---- keys ---- */

/* Its project's, else its user's. */
static struct str cat_organisation_of(const struct cat_key *k)
{
    if (k->project != NULL && k->project->organisation.len > 0) {
        return k->project->organisation;
    }
    return k->user != NULL ? k->user->organisation : STR_LIT("");
}

static enum rc cat_build_key(struct cat *c, struct cat_key *k, struct err *err)
{
    const struct json *limits = NULL;
    k->project = map_get(&c->projects, str_from(k->row->project));
    k->user = map_get(&c->users, str_from(k->row->user));
    k->orphan = (k->project == NULL && k->row->project[0] != '\0') ||
                (k->user == NULL && k->row->user[0] != '\0');
    k->who = (struct principal){.kind = PRINCIPAL_KEY,
                                .id = str_from(k->row->id),
                                .organisation = cat_organisation_of(k),
                                .project = str_from(k->row->project),
                                .user = str_from(k->row->user),
                                .roles = str_from(k->row->role),
                                .scopes = str_from(k->row->scopes)};
    cat_grant(c, &k->who);
    if (k->row->limits[0] == '\0') {
        return RC_OK;
    }
    enum rc rc = json_parse(str_from(k->row->limits), &c->arena, &limits, err);
    rc = rc == RC_OK ? conf_read(limits_rows, limits, &c->arena, &k->limits, err) : rc;
    return rc == RC_OK ? rc : err_context(err, "limits of key %s", k->row->id);
}

static enum rc cat_build_keys(struct cat *c, struct err *err)
{
    uint32_t n = keyring_size(c->keys);
    enum rc rc = RC_OK;
    c->by_key = arena_alloc_array(&c->arena, MAX(n, 1u), sizeof(*c->by_key));
    if (c->by_key == NULL) {
        return cat_fail_room(err);
    }
    for (uint32_t i = 0; rc == RC_OK && i < n; i++) {
        c->by_key[i].row = keyring_at(c->keys, i);
        rc = cat_build_key(c, &c->by_key[i], err);
    }
    return rc;
}

/* ---- from the store ---- */

struct cat_reader {
    struct cat *cat;
    const struct cat_kind_row *kind;
    struct conf_list *list;
    uint32_t n_room;
    struct err *err;
};

static enum rc cat_read_object(void *ctx, const struct meta_object *o)
{
    struct cat_reader *r = ctx;
    const struct json *body = NULL;
    struct arena *a = &r->cat->arena;
    if (r->list->n == r->n_room) {
        uint32_t more = MAX(r->n_room, 16u);
        if (r->list->n >= CAT_OBJECTS_MAX || !cat_list_grow(a, r->list, r->kind->size, more)) {
            return cat_fail_room(r->err);
        }
        r->n_room += more;
    }
    struct str text = arena_str(a, o->body); /* numbers of the nodes point into it */
    void *at = (char *)r->list->at + r->list->n * r->kind->size;
    enum rc rc = text.ptr != NULL ? json_parse(text, a, &body, r->err) : cat_fail_room(r->err);
    rc = rc == RC_OK ? conf_read(r->kind->rows, body, a, at, r->err) : rc;
    if (rc != RC_OK) {
        return err_context(r->err, "%s %.*s", r->kind->kind, STR(o->name));
    }
    r->list->n++;
    return RC_OK;
}

static enum rc cat_read_store(struct cat *c, struct meta *m, struct err *err)
{
    enum rc rc = RC_OK;
    for (int i = 0; rc == RC_OK && i < CAT_KINDS_N; i++) {
        struct cat_reader r = {.cat = c,
                               .kind = &cat_kinds[i],
                               .list = (void *)((char *)&c->set + cat_kinds[i].list),
                               .err = err};
        rc = meta_objects_each(m, r.kind->kind, cat_read_object, &r, err);
    }
    return rc;
}

static struct cat *cat_create(void)
{
    struct cat *c = mem_zalloc(sizeof(*c));
    uint64_t seed;
    crypto_random(&seed, sizeof(seed));
    atomic_init(&c->n_refs, 1);
    c->loaded_s = clock_wall_s(clock_system());
    arena_init(&c->arena, CAT_ARENA_BYTES_MAX);
    map_init(&c->organisations, seed);
    map_init(&c->roles, seed);
    map_init(&c->projects, seed);
    map_init(&c->users, seed);
    map_init(&c->upstreams, seed);
    map_init(&c->models, seed);
    return c;
}

enum rc cat_load(struct cat **out, struct meta *m, const struct kms *kms,
                 const struct secret *pepper, const struct cat_local *local, struct err *err)
{
    struct cat *c = cat_create();
    enum rc rc = meta_begin_read(m, err); /* keys and objects of one moment */
    rc = rc == RC_OK ? keyring_load(&c->keys, m, pepper, err) : rc;
    rc = rc == RC_OK ? cat_read_store(c, m, err) : rc;
    meta_rollback(m);
    rc = rc == RC_OK ? cat_build(c, kms, local, err) : rc;
    rc = rc == RC_OK ? cat_build_keys(c, err) : rc;
    if (rc != RC_OK) {
        cat_put(c);
        c = NULL;
    }
    *out = c;
    return rc;
}

enum rc cat_check_store(struct meta *m, const struct cat_local *local, struct err *err)
{
    struct cat_local fast = *local;
    struct cat *c = cat_create();
    enum rc rc = cat_read_store(c, m, err);
    rc = rc == RC_OK ? cat_build(c, NULL, &fast, err) : rc;
    cat_put(c);
    return rc;
}

enum rc cat_check(struct cat_set *set, const struct cat_local *local, struct err *err)
{
    struct cat *c = cat_create();
    c->set = *set; /* lists are borrowed; what is added lies in the new arena */
    enum rc rc = cat_build(c, NULL, local, err);
    cat_put(c);
    return rc;
}

void cat_hold(struct cat *c)
{
    atomic_fetch_add_explicit(&c->n_refs, 1, memory_order_relaxed);
}

void cat_put(struct cat *c)
{
    if (c == NULL || atomic_fetch_sub_explicit(&c->n_refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    const struct cat_upstream *upstreams = c->set.upstreams.at;
    for (uint32_t i = 0; i < c->set.upstreams.n; i++) {
        if (upstreams[i].key.len > 0) {
            mem_wipe((char *)(uintptr_t)upstreams[i].key.ptr, upstreams[i].key.len);
        }
    }
    keyring_destroy(c->keys);
    map_deinit(&c->organisations);
    map_deinit(&c->roles);
    map_deinit(&c->projects);
    map_deinit(&c->users);
    map_deinit(&c->upstreams);
    map_deinit(&c->models);
    arena_deinit(&c->arena);
    mem_free(c);
}

/* ---- looking up ---- */

enum rc cat_key_check(const struct cat_key *k, struct err *err)
{
    if (k->gone) {
        return keyring_refuse(err);
    }
    bool project = k->project == NULL && k->row->project[0] != '\0';
    return !k->orphan
               ? RC_OK
               : err_set(err, RC_FORBIDDEN, "There is no %s `%s`, which your API key is of.",
                         project ? "project" : "user", project ? k->row->project : k->row->user);
}

const struct cat_model *cat_model_find(const struct cat *c, struct str name,
                                       const struct cat_version **version)
{
    struct str rest = name;
    const struct cat_model *m = map_get(&c->models, name);
    *version = NULL;
    if (m != NULL) {
        return m->means;
    }
    struct str base = str_cut(&rest, '@');
    m = rest.len > 0 ? map_get(&c->models, base) : NULL;
    m = m != NULL ? m->means : NULL;
    for (uint32_t i = 0; m != NULL && i < m->versions.n; i++) {
        const struct cat_version *v = (const struct cat_version *)m->versions.at + i;
        if (str_eq(v->name, rest)) {
            *version = v;
            return m;
        }
    }
    return NULL;
}
