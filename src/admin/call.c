/* call.c: the table of what runs for which route, and what every handler needs. */
#include "admin/call.h"

#include <stdio.h>

#include "admin/call_private.h"
#include "api/fail.h"
#include "auth/scope.h"
#include "base/assert.h"
#include "base/crypto.h"
#include "net/http_head.h"

/* ---- the table ---- */

static const struct call_kind call_kinds[] = {
    {"organisation", "organisation", RBAC_ORGANISATIONS, CALL_WHOLE},
    {"project", "project", RBAC_PROJECTS, CALL_WHOLE},
    {"user", "user", RBAC_USERS, CALL_WHOLE},
    {"role", "role", RBAC_ROLES, CALL_WHOLE},
    {"model", "model", RBAC_MODELS, CALL_WHOLE},
    {"model", "alias", RBAC_ALIASES, CALL_ALIAS},
    {"upstream", "upstream", RBAC_UPSTREAMS, CALL_WHOLE},
    {"model", "price", RBAC_PRICES, CALL_PRICE},
};

#define CALL_OBJECTS(ID, idx)                                                                      \
    [POLICY_ROUTE_##ID##_LIST] = {call_objects_list, &call_kinds[idx]},                            \
    [POLICY_ROUTE_##ID##_SHOW] = {call_objects_show, &call_kinds[idx]},                            \
    [POLICY_ROUTE_##ID##_PUT] = {call_objects_put, &call_kinds[idx]},                              \
    [POLICY_ROUTE_##ID##_DELETE] = {call_objects_delete, &call_kinds[idx]}

/* Routes without a row here are the listener's own. */
static const struct {
    call_handler run;
    const struct call_kind *kind;
} call_handlers[POLICY_ROUTE_N] = {
    CALL_OBJECTS(ORGANISATION, 0),
    CALL_OBJECTS(PROJECT, 1),
    CALL_OBJECTS(USER, 2),
    CALL_OBJECTS(ROLE, 3),
    CALL_OBJECTS(MODEL, 4),
    CALL_OBJECTS(ALIAS, 5),
    CALL_OBJECTS(UPSTREAM, 6),
    CALL_OBJECTS(PRICE, 7),
    [POLICY_ROUTE_KEYS] = {call_keys_list, NULL},
    [POLICY_ROUTE_KEY_SHOW] = {call_keys_show, NULL},
    [POLICY_ROUTE_KEY_CREATE] = {call_keys_create, NULL},
    [POLICY_ROUTE_KEY_ROTATE] = {call_keys_rotate, NULL},
    [POLICY_ROUTE_KEY_CHANGE] = {call_keys_change, NULL},
    [POLICY_ROUTE_KEY_REVOKE] = {call_keys_revoke, NULL},
    [POLICY_ROUTE_LIMITS_LIST] = {call_limits_list, NULL},
    [POLICY_ROUTE_LIMITS_SHOW] = {call_limits_show, NULL},
    [POLICY_ROUTE_LIMITS_PUT] = {call_limits_put, NULL},
    [POLICY_ROUTE_LIMITS_DELETE] = {call_limits_delete, NULL},
    [POLICY_ROUTE_DRAIN] = {call_note_act, NULL},
    [POLICY_ROUTE_RELOAD] = {call_note_act, NULL},
    [POLICY_ROUTE_USAGE] = {call_usage_list, NULL},
    [POLICY_ROUTE_REQUEST] = {call_usage_request, NULL},
    [POLICY_ROUTE_AUDIT] = {call_audit_list, NULL},
    [POLICY_ROUTE_AUDIT_VERIFY] = {call_audit_verify, NULL},
};

/* ---- who may ---- */

static bool call_is_of(struct str mine, struct str its)
{
    return mine.len == 0 || str_eq(mine, its);
}

enum rc call_may(struct admin_call *c, enum rbac_kind kind, enum rbac_action action,
                 struct str name, const struct call_place *place)
{
    const struct principal *who = c->who;
    if (who == NULL) {
        return RC_OK;
    }
    if (!rbac_allows(&who->grants, kind, action, name)) {
        return err_set(&c->err, RC_FORBIDDEN,
                       "This needs the permission %s/%.*s:%s, which your roles lack.",
                       rbac_kind_name(kind), (int)MIN(name.len, (size_t)64), name.ptr,
                       rbac_action_name(action));
    }
    bool shared = rbac_kind_is_shared(kind) && action == RBAC_READ;
    if (shared || (call_is_of(who->organisation, place->organisation) &&
                   call_is_of(who->project, place->project))) {
        return RC_OK;
    }
    return action == RBAC_READ
               ? err_set(&c->err, RC_NOT_FOUND, "There is no %.*s in %s for you.",
                         (int)MIN(name.len, (size_t)64), name.ptr, rbac_kind_name(kind))
               : err_set(&c->err, RC_FORBIDDEN,
                         "Your roles hold in your own project or organisation only.");
}

bool call_sees(struct admin_call *c, enum rbac_kind kind, struct str name,
               const struct call_place *place)
{
    struct err before = c->err;
    bool sees = call_may(c, kind, RBAC_READ, name, place) == RC_OK;
    c->err = before;
    return sees;
}

/* Permissions of a role that the store has. */
static enum rc call_role_permissions(struct admin_call *c, struct str role, struct rbac_set *out)
{
    struct call_object o;
    uint32_t n = 0;
    const struct str *permissions = rbac_builtin(role, &n);
    if (permissions != NULL) {
        return rbac_compile(out, permissions, n, &c->arena, &c->err);
    }
    enum rc rc = call_object_read(c, "role", role, &o);
    if (rc != RC_OK) {
        return rc;
    }
    const struct json *list = json_get_present(o.body, "permissions");
    if (!o.exists) {
        return err_set_param(&c->err, RC_INVALID, "role", "There is no role '%.*s'.",
                             (int)MIN(role.len, (size_t)64), role.ptr);
    }
    struct str *texts =
        arena_alloc_array(&c->arena, (list != NULL ? list->n : 0) + 1u, sizeof(*texts));
    if (texts == NULL) {
        return call_fail_room(c);
    }
    for (const struct json *it = list != NULL ? list->first : NULL; it != NULL; it = it->next) {
        texts[n++] = it->text;
    }
    return rbac_compile(out, texts, n, &c->arena, &c->err);
}

static enum rc call_fail_give(struct admin_call *c, struct str role)
{
    return err_set(
        &c->err, RC_FORBIDDEN,
        "The role '%.*s' may do things that you may not: it is not yours to give, change "
        "or take.",
        (int)MIN(role.len, (size_t)64), role.ptr);
}

enum rc call_may_give(struct admin_call *c, struct str role)
{
    struct rbac_set set;
    enum rc rc = call_role_permissions(c, role, &set);
    if (rc != RC_OK || c->who == NULL || rbac_covers(&c->who->grants, &set)) {
        return rc;
    }
    return call_fail_give(c, role);
}

enum rc call_may_bind_set(struct admin_call *c, const struct rbac_set *set, struct str role)
{
    const struct principal *who = c->who;
    bool may =
        who == NULL || (rbac_covers(&who->grants, set) && scope_covers_set(who->scopes, set));
    return may ? RC_OK : call_fail_give(c, role);
}

enum rc call_may_bind(struct admin_call *c, struct str role)
{
    struct rbac_set set;
    enum rc rc = call_role_permissions(c, role, &set);
    return rc == RC_OK ? call_may_bind_set(c, &set, role) : rc;
}

enum rc call_may_scope(struct admin_call *c, struct str scopes)
{
    if (c->who == NULL || scope_covers(c->who->scopes, scopes)) {
        return RC_OK;
    }
    return err_set_param(&c->err, RC_FORBIDDEN, "scopes",
                         "The key may be used for more than you may: its scopes must lie within "
                         "your own, %.*s.",
                         (int)MIN(c->who->scopes.len, (size_t)200), c->who->scopes.ptr);
}

struct str call_organisation_of(struct admin_call *c, const char *kind, struct str name)
{
    struct call_object o;
    struct err before = c->err;
    const struct json *v = NULL;
    if (name.len > 0 && call_object_read(c, kind, name, &o) == RC_OK) {
        v = json_get_present(o.body, "organisation");
    }
    c->err = before;
    return v != NULL && v->type == JSON_STRING ? v->text : STR_LIT("");
}

/* ---- objects of the store ---- */

enum rc call_fail_room(struct admin_call *c)
{
    return err_set(&c->err, RC_TOO_LARGE, "This is too large.");
}

enum rc call_object_read(struct admin_call *c, const char *kind, struct str name,
                         struct call_object *out)
{
    static const struct json empty = {.type = JSON_OBJECT};
    struct buf body, owner;
    *out = (struct call_object){.kind = kind, .name = name, .body = &empty};
    buf_init(&body, ADMIN_REPLY_BYTES_MAX);
    buf_init(&owner, 64);
    enum rc rc = meta_object_get(c->store->meta, kind, name, &body, &owner, &c->err);
    if (rc == RC_OK) {
        out->exists = true;
        out->text = arena_str(&c->arena, buf_str(&body));
        out->owner = arena_str(&c->arena, buf_str(&owner));
        rc = out->text.ptr != NULL && out->owner.ptr != NULL
                 ? json_parse(out->text, &c->arena, &out->body, &c->err)
                 : call_fail_room(c);
    } else if (rc == RC_NOT_FOUND) {
        c->err = (struct err){0};
        rc = RC_OK;
    }
    buf_deinit(&body);
    buf_deinit(&owner);
    return rc;
}

enum rc call_object_begin(struct admin_call *c, const char *kind, struct str name,
                          struct call_object *out)
{
    char etag[ADMIN_ETAG_BYTES] = "";
    enum rc rc = meta_begin(c->store->meta, &c->err);
    rc = rc == RC_OK ? call_object_read(c, kind, name, out) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    if (out->exists && str_is(out->owner, "file")) {
        return err_set(&c->err, RC_FORBIDDEN,
                       "The %s '%.*s' belongs to the catalogue file: change it there.", kind,
                       (int)MIN(name.len, (size_t)64), name.ptr);
    }
    if (out->exists) {
        call_etag(out->text, etag);
    }
    return call_precondition(c, etag);
}

enum rc call_object_commit(struct admin_call *c, const struct call_object *o, struct str text,
                           const char *what)
{
    struct meta *m = c->store->meta;
    const struct meta_object object = {.kind = str_from(o->kind), .name = o->name, .body = text};
    enum rc rc = text.ptr != NULL ? meta_object_put(m, "api", &object, &c->err)
                                  : meta_object_delete(m, o->kind, o->name, &c->err);
    if (rc == RC_OK) {
        rc = c->store->catalogue.check(c->store->catalogue.ctx, m, &c->err);
        if (rc == RC_NOT_FOUND || rc == RC_SYNTAX) {
            c->err.code = rc = RC_INVALID; /* something that the object names */
        }
    }
    if (rc == RC_OK && text.ptr != NULL) {
        call_etag(text, c->etag);
    }
    return rc == RC_OK ? call_commit(c, what, o->kind, o->name, o->text, text) : rc;
}

/* ---- tags, entries ---- */

void call_etag(struct str text, char out[ADMIN_ETAG_BYTES])
{
    char digest[AUDIT_DIGEST_BYTES];
    audit_digest(text, digest);
    out[0] = '"';
    memcpy(out + 1, digest, 16);
    memcpy(out + 17, "\"", 2);
}

static bool call_tag_listed(struct str list, const char *etag)
{
    while (list.len > 0) {
        struct str one = str_trim(str_cut(&list, ','));
        if (etag[0] != '\0' && (str_is(one, "*") || str_is(one, etag))) {
            return true;
        }
    }
    return false;
}

enum rc call_precondition(struct admin_call *c, const char *etag)
{
    if (c->if_match.len > 0 && !call_tag_listed(c->if_match, etag)) {
        return err_set(&c->err, RC_PRECONDITION,
                       "Somebody has changed it since you read it (If-Match).");
    }
    if (c->if_none_match.len > 0 && call_tag_listed(c->if_none_match, etag)) {
        return err_set(&c->err, RC_PRECONDITION, "It exists already (If-None-Match).");
    }
    return RC_OK;
}

enum rc call_commit(struct admin_call *c, const char *what, const char *kind, struct str name,
                    struct str before, struct str after)
{
    char old[AUDIT_DIGEST_BYTES] = "", new[AUDIT_DIGEST_BYTES] = "";
    struct str object = arena_printf(&c->arena, "%s/%.*s", kind, STR(name));
    if (object.ptr == NULL) {
        return call_fail_room(c);
    }
    if (before.len > 0) {
        audit_digest(before, old);
    }
    if (after.len > 0) {
        audit_digest(after, new);
    }
    const struct audit_entry entry = {.time_ms = c->now_ms,
                                      .who = c->actor,
                                      .what = str_from(what),
                                      .object = object,
                                      .source = c->source,
                                      .before = str_from(old),
                                      .after = str_from(new)};
    return audit_commit(c->store->audit, c->store->meta, &entry, &c->err);
}

/* ---- lists ---- */

enum rc call_query(struct admin_call *c, const char *name, struct str *out)
{
    struct str raw;
    *out = STR_LIT("");
    if (!http_query_find(c->query, str_from(name), &raw)) {
        return RC_OK;
    }
    enum rc rc = http_unescape(&c->arena, raw, out, &c->err);
    return rc == RC_OK ? rc : err_set_param(&c->err, RC_INVALID, name, "%s: broken escape", name);
}

enum rc call_page_begin(struct admin_call *c, struct call_page *p)
{
    struct str limit;
    *p = (struct call_page){.limit = ADMIN_PAGE_DEFAULT};
    buf_init(&p->last, 4096);
    enum rc rc = call_query(c, "after", &p->after);
    rc = rc == RC_OK ? call_query(c, "limit", &limit) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    if (limit.len > 0 &&
        (!str_to_u64(limit, &p->limit) || p->limit == 0 || p->limit > ADMIN_PAGE_MAX)) {
        return err_set_param(&c->err, RC_INVALID, "limit", "limit must be 1 to %d.",
                             ADMIN_PAGE_MAX);
    }
    json_write_init(&p->w, &c->out);
    json_write_object_begin(&p->w);
    json_write_member_cstr(&p->w, "object", "list");
    json_write_name(&p->w, "data");
    json_write_array_begin(&p->w);
    return RC_OK;
}

bool call_page_next(struct call_page *p, struct str name)
{
    if (p->n == p->limit) {
        p->more = true;
        return false;
    }
    p->n++;
    buf_reset(&p->last);
    buf_add_str(&p->last, name);
    return true;
}

void call_page_end(struct admin_call *c, struct call_page *p)
{
    json_write_array_end(&p->w);
    json_write_member_bool(&p->w, "has_more", p->more);
    if (p->n > 0) {
        json_write_member_str(&p->w, "last_id", buf_str(&p->last));
    } else {
        json_write_member_null(&p->w, "last_id");
    }
    json_write_object_end(&p->w);
    buf_deinit(&p->last);
    c->status = 200;
}

struct str call_text(struct admin_call *c, const struct json *v)
{
    struct json_writer w;
    struct buf b;
    if (v == NULL) {
        return STR_LIT("");
    }
    buf_init(&b, ADMIN_BODY_BYTES_MAX);
    json_write_init(&w, &b);
    json_write_value(&w, v);
    struct str text = buf_ok(&b) ? arena_str(&c->arena, buf_str(&b)) : STR_NULL;
    buf_deinit(&b);
    return text;
}

const struct json *call_without(struct admin_call *c, const struct json *object, const char *name)
{
    struct json *copy = arena_alloc(&c->arena, sizeof(*copy));
    if (copy == NULL) {
        return NULL;
    }
    *copy = (struct json){.type = JSON_OBJECT, .name = object->name};
    struct json **end = &copy->first;
    JSON_EACH(object, it)
    {
        struct json *one = arena_alloc(&c->arena, sizeof(*one));
        if (one == NULL) {
            return NULL;
        }
        if (str_is(it->name, name)) {
            continue;
        }
        *one = *it;
        one->next = NULL;
        *end = one;
        end = &one->next;
        copy->n++;
    }
    return copy;
}

/* ---- the walk ---- */

void admin_call_init(struct admin_call *c)
{
    *c = (struct admin_call){0};
    arena_init(&c->arena, ADMIN_ARENA_BYTES_MAX);
    buf_init(&c->out, ADMIN_REPLY_BYTES_MAX);
}

void admin_call_deinit(struct admin_call *c)
{
    arena_deinit(&c->arena);
    buf_deinit(&c->out);
}

static enum rc call_prepare(struct admin_call *c)
{
    static const struct json empty = {.type = JSON_OBJECT};
    enum rc rc = RC_OK;
    c->body = &empty;
    for (uint32_t i = 0; rc == RC_OK && i < c->match.n_params; i++) {
        rc = http_unescape(&c->arena, c->match.params[i], &c->params[i], &c->err);
    }
    if (rc == RC_OK && str_trim(c->text).len > 0) {
        rc = json_parse(c->text, &c->arena, &c->body, &c->err);
    }
    if (rc == RC_OK && c->body->type != JSON_OBJECT) {
        rc = err_set(&c->err, RC_INVALID, "The body must be a JSON object.");
    }
    return rc;
}

void admin_call_run(struct admin_call *c)
{
    call_handler run = call_handlers[c->match.id].run;
    ASSERT(run != NULL);
    enum rc rc = call_prepare(c);
    rc = rc == RC_OK ? run(c, call_handlers[c->match.id].kind) : rc;
    meta_rollback(c->store->meta);
    if (rc == RC_OK && !buf_ok(&c->out)) {
        rc = call_fail_room(c);
    }
    if (rc == RC_OK) {
        ASSERT(c->status != 0);
        return;
    }
    c->status = err_row(rc)->http_status;
    c->etag[0] = '\0';
    buf_reset(&c->out);
    api_fail_write(&c->out, &c->err);
}
