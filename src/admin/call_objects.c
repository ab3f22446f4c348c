/* call_objects.c: the store's objects: whole ones, and aliases and prices, which are parts of
 * models. */
#include <stdio.h>

#include "admin/call_private.h"
#include "auth/key.h"
#include "auth/scope.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "net/http_head.h"
#include "stores/seal.h"

enum { OBJECTS_NAME_BYTES_MAX = 63, OBJECTS_SEALED_BYTES_MAX = 4096 };

/* ---- places ---- */

static struct str object_member(const struct json *body, const char *name)
{
    const struct json *v = json_get_present(body, name);
    return v != NULL && v->type == JSON_STRING ? v->text : STR_LIT("");
}

/* For reading, whom it is of; for writing, who stands above it. */
static struct call_place object_place(const struct call_kind *kind, enum rbac_action action,
                                      struct str name, const struct json *body)
{
    struct call_place place = {.organisation = object_member(body, "organisation")};
    if (kind->rbac == RBAC_ORGANISATIONS) {
        place.organisation = action == RBAC_READ ? name : STR_LIT("");
    } else if (kind->rbac == RBAC_PROJECTS) {
        place.project = action == RBAC_READ ? name : STR_LIT("");
    } else if (kind->rbac != RBAC_USERS) {
        place.organisation = STR_LIT("");
    }
    return place;
}

/* ---- views ---- */

static bool object_is_in_view(const struct call_kind *kind, const struct json *body)
{
    return kind->view == CALL_WHOLE ||
           json_get_present(body, kind->view == CALL_ALIAS ? "alias" : "price") != NULL;
}

static void object_write_whole(struct json_writer *w, const struct json *body)
{
    JSON_EACH(body, it)
    {
        if (!str_is(it->name, "name") && !str_is(it->name, "sealed_key")) {
            json_write_name_str(w, it->name);
            json_write_value(w, it);
        }
    }
    if (json_get_present(body, "sealed_key") != NULL) {
        json_write_member_bool(w, "has_key", true);
    }
}

static void object_write(struct json_writer *w, const struct call_kind *kind, struct str name,
                         const struct json *body, struct str owner)
{
    const struct json *price = json_get_present(body, "price");
    json_write_object_begin(w);
    json_write_member_cstr(w, "object", kind->label);
    json_write_member_str(w, "name", name);
    if (kind->view == CALL_ALIAS) {
        json_write_member_str(w, "model", object_member(body, "alias"));
    } else if (kind->view == CALL_PRICE && price != NULL) {
        object_write_whole(w, price);
    } else {
        object_write_whole(w, body);
    }
    json_write_member_str(w, "owned_by", owner);
    json_write_object_end(w);
}

/* Roles that are built in stand in no store. */
static void object_write_builtin(struct json_writer *w, struct str name)
{
    uint32_t n = 0;
    const struct str *permissions = rbac_builtin(name, &n);
    json_write_object_begin(w);
    json_write_member_cstr(w, "object", "role");
    json_write_member_str(w, "name", name);
    json_write_name(w, "permissions");
    json_write_array_begin(w);
    for (uint32_t i = 0; i < n; i++) {
        json_write_str(w, permissions[i]);
    }
    json_write_array_end(w);
    json_write_member_cstr(w, "owned_by", "bud");
    json_write_object_end(w);
}

static bool object_is_builtin(const struct call_kind *kind, struct str name)
{
    uint32_t n;
    return kind->rbac == RBAC_ROLES && rbac_builtin(name, &n) != NULL;
}

static enum rc object_absent(struct admin_call *c, const struct call_kind *kind, struct str name)
{
    return err_set(&c->err, RC_NOT_FOUND, "There is no %s '%.*s'.", kind->label,
                   (int)MIN(name.len, (size_t)64), name.ptr);
}

/* ---- looking ---- */

struct objects_walk {
    struct admin_call *call;
    const struct call_kind *kind;
    struct call_page page;
    struct arena arena; /* of one object */
};

static enum rc objects_list_one(void *ctx, const struct meta_object *o)
{
    struct objects_walk *w = ctx;
    const struct json *body = NULL;
    if (w->page.after.len > 0 &&
        (memcmp(o->name.ptr, w->page.after.ptr, MIN(o->name.len, w->page.after.len)) < 0 ||
         (o->name.len <= w->page.after.len &&
          memcmp(o->name.ptr, w->page.after.ptr, o->name.len) == 0))) {
        return RC_OK; /* on a page before */
    }
    arena_reset(&w->arena);
    enum rc rc = json_parse(o->body, &w->arena, &body, &w->call->err);
    if (rc != RC_OK || !object_is_in_view(w->kind, body)) {
        return rc;
    }
    const struct call_place place = object_place(w->kind, RBAC_READ, o->name, body);
    if (!call_sees(w->call, w->kind->rbac, o->name, &place)) {
        return RC_OK;
    }
    if (!call_page_next(&w->page, o->name)) {
        return RC_CANCELLED; /* the page is full: no failure */
    }
    object_write(&w->page.w, w->kind, o->name, body, o->owner);
    return RC_OK;
}

enum rc call_objects_list(struct admin_call *c, const struct call_kind *kind)
{
    struct objects_walk w = {.call = c, .kind = kind};
    static const struct call_place anywhere = {0};
    enum rc rc = call_page_begin(c, &w.page);
    if (rc != RC_OK) {
        return rc;
    }
    arena_init(&w.arena, ADMIN_ARENA_BYTES_MAX);
    const char *name;
    for (uint32_t i = 0;
         kind->rbac == RBAC_ROLES && w.page.after.len == 0 && (name = rbac_builtin_name(i)) != NULL;
         i++) {
        if (call_sees(c, RBAC_ROLES, str_from(name), &anywhere)) {
            object_write_builtin(&w.page.w, str_from(name)); /* beside the page's count */
        }
    }
    rc = meta_objects_each(c->store->meta, kind->kind, objects_list_one, &w, &c->err);
    call_page_end(c, &w.page);
    arena_deinit(&w.arena);
    return rc == RC_CANCELLED ? RC_OK : rc;
}

static enum rc objects_answer(struct admin_call *c, const struct call_kind *kind,
                              const struct call_object *o, int status)
{
    struct json_writer w;
    json_write_init(&w, &c->out);
    object_write(&w, kind, o->name, o->body, o->owner);
    call_etag(o->text, c->etag);
    c->status = status;
    return RC_OK;
}

enum rc call_objects_show(struct admin_call *c, const struct call_kind *kind)
{
    struct call_object o;
    struct str name = c->params[0];
    static const struct call_place anywhere = {0};
    if (object_is_builtin(kind, name)) {
        struct json_writer w;
        enum rc seen = call_may(c, kind->rbac, RBAC_READ, name, &anywhere);
        json_write_init(&w, &c->out);
        object_write_builtin(&w, name);
        c->status = 200;
        return seen;
    }
    enum rc rc = call_object_read(c, kind->kind, name, &o);
    if (rc != RC_OK) {
        return rc;
    }
    const struct call_place place = object_place(kind, RBAC_READ, name, o.body);
    rc = call_may(c, kind->rbac, RBAC_READ, name, &place);
    if (rc != RC_OK) {
        return rc;
    }
    return o.exists && object_is_in_view(kind, o.body) ? objects_answer(c, kind, &o, 200)
                                                       : object_absent(c, kind, name);
}

/* ---- what a new body is ---- */

/* A secret of an upstream travels once, and is stored sealed; without one the old stays where it
 * was. */
static enum rc object_seal_key(struct admin_call *c, const struct call_object *o,
                               struct json_writer *w)
{
    char context[16 + OBJECTS_NAME_BYTES_MAX + 8], hex[2 * OBJECTS_SEALED_BYTES_MAX + 1];
    const struct json *key = json_get(c->body, "key");
    struct str kept = object_member(o->body, "sealed_key");
    if (key == NULL && kept.len > 0 &&
        !str_eq(object_member(o->body, "url"), object_member(c->body, "url"))) {
        /* Else whoever may write upstreams could have it sent to himself. */
        return err_set_param(&c->err, RC_INVALID, "key",
                             "key: send it again for another url, or null for none");
    }
    if (key == NULL) {
        if (kept.len > 0) {
            json_write_member_str(w, "sealed_key", kept);
        }
        return RC_OK;
    }
    if (key->type == JSON_NULL) {
        return RC_OK;
    }
    if (key->type != JSON_STRING || key->text.len == 0 || key->text.len > 1024 ||
        !http_value_valid(key->text)) {
        return err_set_param(&c->err, RC_INVALID, "key",
                             "key: must be a text of 1 to 1024 bytes, on one line");
    }
    struct buf sealed;
    buf_init(&sealed, OBJECTS_SEALED_BYTES_MAX / 2);
    int n = snprintf(context, sizeof(context), "upstreams/%.*s/key", STR(o->name));
    enum rc rc =
        seal_value(c->store->kms, str_make(context, (size_t)n), key->text, &sealed, &c->err);
    if (rc == RC_OK) {
        crypto_hex(sealed.ptr, sealed.len, hex);
        json_write_member_cstr(w, "sealed_key", hex);
    }
    buf_deinit(&sealed);
    return rc;
}

/* Members that are ours to write, so that what was shown can be sent back. */
static bool object_is_ours(const struct call_kind *kind, struct str name)
{
    static const char *const ours[] = {"object", "name", "owned_by"};
    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        if (str_is(name, ours[i])) {
            return true;
        }
    }
    return kind->rbac == RBAC_UPSTREAMS && (str_is(name, "key") || str_is(name, "has_key"));
}

static enum rc object_refused(struct admin_call *c, const struct call_kind *kind,
                              const struct json *it)
{
    char path[64];
    if (kind->rbac != RBAC_UPSTREAMS ||
        !(str_is(it->name, "key_file") || str_is(it->name, "key_env") ||
          str_is(it->name, "sealed_key"))) {
        return RC_OK;
    }
    str_copy(path, sizeof(path), it->name);
    return err_set_param(&c->err, RC_INVALID, path,
                         "%s: belongs in the catalogue file; send the key itself as \"key\"", path);
}

static void object_write_body(struct json_writer *w, const struct call_kind *kind,
                              const struct json *body)
{
    JSON_EACH(body, it)
    {
        if (!object_is_ours(kind, it->name)) {
            json_write_name_str(w, it->name);
            json_write_value(w, it);
        }
    }
}

/* The body to store for a view of the object; *text lies in the arena. */
static enum rc object_new_body(struct admin_call *c, const struct call_kind *kind,
                               const struct call_object *o, struct str *text)
{
    struct json_writer w;
    struct buf b;
    enum rc rc = RC_OK;
    buf_init(&b, ADMIN_BODY_BYTES_MAX + 65536);
    json_write_init(&w, &b);
    json_write_object_begin(&w);
    json_write_member_str(&w, "name", o->name);
    if (kind->view == CALL_ALIAS) {
        struct str model = object_member(c->body, "model");
        rc = model.len > 0 ? RC_OK
                           : err_set_param(&c->err, RC_MISSING, "model",
                                           "model: the model that this name stands for");
        json_write_member_str(&w, "alias", model);
    } else if (kind->view == CALL_PRICE) {
        const struct json *rest = call_without(c, o->body, "price");
        rc = rest != NULL ? RC_OK : call_fail_room(c);
        if (rc == RC_OK) {
            object_write_body(&w, kind, rest);
        }
        json_write_name(&w, "price");
        json_write_object_begin(&w);
        object_write_body(&w, kind, c->body);
        json_write_object_end(&w);
    } else {
        JSON_EACH(c->body, it)
        {
            rc = rc == RC_OK ? object_refused(c, kind, it) : rc;
        }
        object_write_body(&w, kind, c->body);
        rc = rc == RC_OK && kind->rbac == RBAC_UPSTREAMS ? object_seal_key(c, o, &w) : rc;
    }
    json_write_object_end(&w);
    *text = arena_str(&c->arena, buf_str(&b));
    if (rc == RC_OK && (!buf_ok(&b) || text->ptr == NULL)) {
        rc = call_fail_room(c);
    }
    buf_deinit(&b);
    return rc;
}

/* ---- who may make it so ---- */

static enum rc object_may_give_permissions(struct admin_call *c, const struct json *body)
{
    const struct json *list = json_get_present(body, "permissions");
    struct rbac_set set;
    uint32_t n = 0;
    struct str *texts =
        arena_alloc_array(&c->arena, (list != NULL ? list->n : 0) + 1u, sizeof(*texts));
    if (texts == NULL) {
        return call_fail_room(c);
    }
    for (const struct json *it = list != NULL ? list->first : NULL; it != NULL; it = it->next) {
        texts[n++] = it->text; /* what is no text fails below, or in the check of the catalogue */
    }
    enum rc rc = rbac_compile(&set, texts, n, &c->arena, &c->err);
    return rc == RC_OK ? call_may_bind_set(c, &set, c->params[0]) : rc;
}

static enum rc object_may_give_roles(struct admin_call *c, const struct json *user)
{
    const struct json *list = json_get_present(user, "roles");
    enum rc rc = RC_OK;
    for (const struct json *it = list != NULL ? list->first : NULL; rc == RC_OK && it != NULL;
         it = it->next) {
        rc = it->type == JSON_STRING ? call_may_bind(c, it->text) : RC_OK;
    }
    return rc;
}

/* A user's roles narrow what his keys and tokens say. Without them a token's own count, which
 * nobody here has seen: only who may do everything takes that bound away. */
static enum rc object_may_unbind(struct admin_call *c, const struct call_kind *kind,
                                 const struct json *before, const struct json *after)
{
    const struct json *had = json_get_present(before, "roles");
    const struct json *has = json_get_present(after, "roles");
    bool unbinds = kind->rbac == RBAC_USERS && had != NULL && had->n > 0 &&
                   (has == NULL || has->type != JSON_ARRAY || has->n == 0);
    return unbinds ? call_may_bind(c, STR_LIT("owner")) : RC_OK;
}

/* Limits and prices have permissions of their own: writing what they are a part of is not enough
 * to change them. */
static enum rc object_may_change_part(struct admin_call *c, const struct call_kind *kind,
                                      const struct call_object *o, const struct json *after,
                                      enum rbac_kind of)
{
    const char *part = of == RBAC_PRICES ? "price" : "limits";
    struct str had = call_text(c, json_get_present(o->body, part));
    struct str has = call_text(c, json_get_present(after, part));
    const struct call_place place = object_place(kind, RBAC_WRITE, o->name, o->body);
    if (had.ptr == NULL || has.ptr == NULL) {
        return call_fail_room(c);
    }
    return str_eq(had, has) ? RC_OK : call_may(c, of, RBAC_WRITE, o->name, &place);
}

static enum rc object_may_change_parts(struct admin_call *c, const struct call_kind *kind,
                                       const struct call_object *o, const struct json *after)
{
    if (kind->view != CALL_WHOLE || !o->exists) {
        return RC_OK;
    }
    enum rc rc = object_may_change_part(c, kind, o, after, RBAC_LIMITS);
    rc = rc == RC_OK ? object_may_change_part(c, kind, o, after, RBAC_PRICES) : rc;
    return rc == RC_OK ? object_may_unbind(c, kind, o->body, after) : rc;
}

/* Another name lets whoever may invoke that one have the model: who gives it must have it too. */
static enum rc object_may_lead(struct admin_call *c, const struct call_kind *kind)
{
    const char *member = kind->view == CALL_ALIAS ? "model" : "alias";
    struct str model = object_member(c->body, member);
    bool leads = (kind->view == CALL_ALIAS || kind->rbac == RBAC_MODELS) && model.len > 0;
    if (!leads || c->who == NULL ||
        (rbac_allows(&c->who->grants, RBAC_MODELS, RBAC_INVOKE, model) &&
         scope_allows_model(c->who->scopes, model))) {
        return RC_OK;
    }
    return err_set_param(&c->err, RC_FORBIDDEN, member,
                         "You may not use the model '%.*s': another name of it is not yours to "
                         "give.",
                         (int)MIN(model.len, (size_t)64), model.ptr);
}

struct objects_keys {
    struct admin_call *call;
    const char *kind; /* "user" or "project" */
    struct str name;
    bool must_be_none; /* valid keys are a conflict; else the caller must hold their roles */
};

static enum rc objects_check_key(void *ctx, const struct meta_key *k)
{
    struct objects_keys *w = ctx;
    const char *of = strcmp(w->kind, "user") == 0 ? k->user : k->project;
    bool ended = k->revoked_s != 0 || (k->expires_s != 0 && k->expires_s <= w->call->now_ms / 1000);
    if (ended || !str_is(w->name, of)) {
        return RC_OK;
    }
    if (w->must_be_none) {
        return err_set(&w->call->err, RC_CONFLICT, "Key %s belongs to %s '%.*s': end it first.",
                       k->id, w->kind, STR(w->name));
    }
    enum rc rc = call_may_give(w->call, str_from(k->role));
    if (rc == RC_INVALID) { /* a role that is gone allows nothing */
        w->call->err = (struct err){0};
        rc = RC_OK;
    }
    return rc == RC_OK ? call_may_scope(w->call, str_from(k->scopes)) : rc;
}

/* Changing what a user may changes what his keys may; a project that goes takes its limits along.
 */
static enum rc object_check_keys(struct admin_call *c, const struct call_kind *kind,
                                 struct str name, bool removes)
{
    struct objects_keys w = {.call = c, .kind = kind->kind, .name = name, .must_be_none = removes};
    bool concerns = kind->rbac == RBAC_USERS || (kind->rbac == RBAC_PROJECTS && removes);
    return concerns ? meta_key_each(c->store->meta, objects_check_key, &w, &c->err) : RC_OK;
}

/* `body` is what is there, or what shall be. */
static enum rc object_may_write(struct admin_call *c, const struct call_kind *kind, struct str name,
                                const struct json *body)
{
    const struct call_place place = object_place(kind, RBAC_WRITE, name, body);
    enum rc rc = call_may(c, kind->rbac, RBAC_WRITE, name, &place);
    if (rc == RC_OK && kind->rbac == RBAC_ROLES) {
        rc = object_may_give_permissions(c, body);
    } else if (rc == RC_OK && kind->rbac == RBAC_USERS) {
        rc = object_may_give_roles(c, body);
    }
    return rc;
}

/* ---- changing ---- */

static enum rc object_name_check(struct admin_call *c, const struct call_kind *kind,
                                 struct str name)
{
    if (object_is_builtin(kind, name)) {
        return err_set(&c->err, RC_FORBIDDEN, "The role '%.*s' is built in.", STR(name));
    }
    if (name.len == 0 || name.len > OBJECTS_NAME_BYTES_MAX) {
        return err_set_param(&c->err, RC_INVALID, "name", "A name has 1 to %d bytes.",
                             OBJECTS_NAME_BYTES_MAX);
    }
    return RC_OK;
}

static const char *object_act(const struct call_kind *kind, const char *verb, struct admin_call *c)
{
    struct str what = arena_printf(&c->arena, "%s.%s", kind->label, verb);
    return what.ptr != NULL ? what.ptr : verb;
}

/* The whole of it stands there, or nothing, or it is a thing of another view. */
static enum rc object_view_check(struct admin_call *c, const struct call_kind *kind,
                                 const struct call_object *o)
{
    if (kind->view == CALL_PRICE && !o->exists) {
        return err_set(&c->err, RC_NOT_FOUND, "There is no model '%.*s' to have a price.",
                       STR(o->name));
    }
    if (kind->view == CALL_ALIAS && o->exists && !object_is_in_view(kind, o->body)) {
        return err_set(&c->err, RC_CONFLICT, "'%.*s' is a model, not an alias.", STR(o->name));
    }
    return RC_OK;
}

enum rc call_objects_put(struct admin_call *c, const struct call_kind *kind)
{
    struct call_object o;
    struct str name = c->params[0], text = STR_NULL;
    enum rc rc = object_name_check(c, kind, name);
    rc = rc == RC_OK ? call_object_begin(c, kind->kind, name, &o) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    bool existed = o.exists;
    if (existed) {
        rc = object_may_write(c, kind, name, o.body);
        rc = rc == RC_OK ? object_check_keys(c, kind, name, false) : rc;
    }
    rc = rc == RC_OK ? object_view_check(c, kind, &o) : rc;
    rc = rc == RC_OK ? object_may_write(c, kind, name, c->body) : rc;
    rc = rc == RC_OK ? object_may_change_parts(c, kind, &o, c->body) : rc;
    rc = rc == RC_OK ? object_may_lead(c, kind) : rc;
    rc = rc == RC_OK ? object_new_body(c, kind, &o, &text) : rc;
    rc = rc == RC_OK ? call_object_commit(c, &o, text, object_act(kind, "put", c)) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    o.text = text;
    o.owner = STR_LIT("api");
    rc = json_parse(text, &c->arena, &o.body, &c->err);
    return rc == RC_OK ? objects_answer(c, kind, &o, existed ? 200 : 201) : rc;
}

enum rc call_objects_delete(struct admin_call *c, const struct call_kind *kind)
{
    static const struct json nothing = {.type = JSON_OBJECT};
    struct call_object o;
    struct json_writer w;
    struct str name = c->params[0], text = STR_NULL;
    enum rc rc = object_name_check(c, kind, name);
    rc = rc == RC_OK ? call_object_begin(c, kind->kind, name, &o) : rc;
    rc = rc == RC_OK ? object_may_write(c, kind, name, o.body) : rc;
    if (rc == RC_OK && (!o.exists || !object_is_in_view(kind, o.body))) {
        rc = object_absent(c, kind, name);
    }
    rc = rc == RC_OK ? object_check_keys(c, kind, name, true) : rc;
    rc = rc == RC_OK ? object_may_change_parts(c, kind, &o, &nothing) : rc;
    if (rc == RC_OK && kind->view == CALL_PRICE) {
        const struct json *rest = call_without(c, o.body, "price");
        struct buf b;
        buf_init(&b, ADMIN_REPLY_BYTES_MAX);
        json_write_init(&w, &b);
        json_write_value(&w, rest != NULL ? rest : o.body);
        text = arena_str(&c->arena, buf_str(&b));
        rc = rest != NULL && buf_ok(&b) && text.ptr != NULL ? RC_OK : call_fail_room(c);
        buf_deinit(&b);
    }
    rc = rc == RC_OK ? call_object_commit(c, &o, text, object_act(kind, "delete", c)) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    c->etag[0] = '\0';
    json_write_init(&w, &c->out);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "object", kind->label);
    json_write_member_str(&w, "name", name);
    json_write_member_bool(&w, "deleted", true);
    json_write_object_end(&w);
    c->status = 200;
    return RC_OK;
}
