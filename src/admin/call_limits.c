/* call_limits.c: limits by whom or what they bind: a part of keys, users, projects and models. */
#include "admin/call_private.h"

static const struct limits_kind {
    const char *path; /* in the route */
    const char *kind; /* in the store; NULL = keys, which have a table of their own */
} limits_kinds[] = {
    {"keys", NULL}, {"users", "user"}, {"projects", "project"}, {"models", "model"}};

static const struct limits_kind *limits_find(struct admin_call *c)
{
    for (size_t i = 0; i < ARRAY_LEN(limits_kinds); i++) {
        if (str_is(c->params[0], limits_kinds[i].path)) {
            return &limits_kinds[i];
        }
    }
    err_set(&c->err, RC_NOT_FOUND, "Limits are of keys, users, projects or models.");
    return NULL;
}

/* For reading, whom it is of; for writing, who stands above it. */
static struct call_place limits_place(const struct limits_kind *kind, enum rbac_action action,
                                      struct str name, const struct json *body)
{
    const struct json *of = json_get_present(body, "organisation");
    struct call_place place = {0};
    bool project = str_is(STR_LIT("projects"), kind->path);
    if (of != NULL && of->type == JSON_STRING) {
        place.organisation = of->text;
    }
    if (project && action == RBAC_READ) {
        place.project = name;
    }
    return place;
}

static void limits_write(struct json_writer *w, const char *kind, struct str name, struct str json)
{
    json_write_object_begin(w);
    json_write_member_cstr(w, "object", "limits");
    json_write_member_cstr(w, "kind", kind);
    json_write_member_str(w, "name", name);
    json_write_name(w, "limits");
    json_write_raw(w, json.len > 0 ? json : STR_LIT("{}"));
    json_write_object_end(w);
}

static enum rc limits_answer(struct admin_call *c, struct str json)
{
    struct json_writer w;
    char kind[16];
    str_copy(kind, sizeof(kind), c->params[0]);
    json_write_init(&w, &c->out);
    limits_write(&w, kind, c->params[1], json);
    c->status = 200;
    return RC_OK;
}

/* ---- looking ---- */

enum rc call_limits_show(struct admin_call *c, const struct call_kind *unused)
{
    const struct limits_kind *kind = limits_find(c);
    struct call_object o;
    UNUSED(unused);
    if (kind == NULL) {
        return c->err.code;
    }
    if (kind->kind == NULL) {
        struct meta_key k;
        enum rc rc = call_key_find(c, c->params[1], RBAC_LIMITS, RBAC_READ, &k);
        if (rc == RC_OK) {
            call_key_etag(&k, c->etag);
        }
        return rc == RC_OK ? limits_answer(c, str_from(k.limits)) : rc;
    }
    enum rc rc = call_object_read(c, kind->kind, c->params[1], &o);
    if (rc != RC_OK) {
        return rc;
    }
    const struct call_place place = limits_place(kind, RBAC_READ, o.name, o.body);
    rc = call_may(c, RBAC_LIMITS, RBAC_READ, o.name, &place);
    if (rc == RC_OK && !o.exists) {
        rc = err_set(&c->err, RC_NOT_FOUND, "There is no %s '%.*s'.", kind->kind, STR(o.name));
    }
    if (rc != RC_OK) {
        return rc;
    }
    call_etag(o.text, c->etag);
    return limits_answer(c, call_text(c, json_get_present(o.body, "limits")));
}

struct limits_walk {
    struct admin_call *call;
    const struct limits_kind *kind;
    struct call_page page;
    struct arena arena; /* of one object */
    bool past;          /* the one that the page follows */
};

static bool limits_next(struct limits_walk *w, struct str name, const struct call_place *place)
{
    if (!w->past) {
        w->past = str_eq(name, w->page.after);
        return false;
    }
    return call_sees(w->call, RBAC_LIMITS, name, place) && call_page_next(&w->page, name);
}

static enum rc limits_list_key(void *ctx, const struct meta_key *k)
{
    struct limits_walk *w = ctx;
    if (k->limits[0] == '\0' || k->revoked_s != 0) {
        return RC_OK;
    }
    const struct call_place place = call_key_place(w->call, k);
    if (limits_next(w, str_from(k->id), &place)) {
        limits_write(&w->page.w, w->kind->path, str_from(k->id), str_from(k->limits));
    }
    return w->page.more ? RC_CANCELLED : RC_OK;
}

static enum rc limits_list_object(void *ctx, const struct meta_object *o)
{
    struct limits_walk *w = ctx;
    const struct json *body = NULL;
    arena_reset(&w->arena);
    enum rc rc = json_parse(o->body, &w->arena, &body, &w->call->err);
    const struct json *limits = rc == RC_OK ? json_get_present(body, "limits") : NULL;
    if (limits == NULL) {
        return rc;
    }
    const struct call_place place = limits_place(w->kind, RBAC_READ, o->name, body);
    if (limits_next(w, o->name, &place)) {
        limits_write(&w->page.w, w->kind->path, o->name, call_text(w->call, limits));
    }
    return w->page.more ? RC_CANCELLED : RC_OK;
}

/* All kinds in one list, or of one with ?kind=, where a page may follow another. */
enum rc call_limits_list(struct admin_call *c, const struct call_kind *unused)
{
    struct limits_walk w = {.call = c};
    struct str only;
    UNUSED(unused);
    enum rc rc = call_query(c, "kind", &only);
    rc = rc == RC_OK ? call_page_begin(c, &w.page) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    w.past = w.page.after.len == 0;
    if (!w.past && only.len == 0) {
        buf_deinit(&w.page.last);
        return err_set_param(&c->err, RC_INVALID, "after",
                             "after needs kind: names may be shared.");
    }
    arena_init(&w.arena, ADMIN_ARENA_BYTES_MAX);
    for (size_t i = 0; rc == RC_OK && i < ARRAY_LEN(limits_kinds); i++) {
        w.kind = &limits_kinds[i];
        if (only.len > 0 && !str_is(only, w.kind->path)) {
            continue;
        }
        rc = w.kind->kind == NULL
                 ? meta_key_each(c->store->meta, limits_list_key, &w, &c->err)
                 : meta_objects_each(c->store->meta, w.kind->kind, limits_list_object, &w, &c->err);
    }
    call_page_end(c, &w.page);
    arena_deinit(&w.arena);
    return rc == RC_CANCELLED ? RC_OK : rc;
}

/* ---- changing; NULL = none any more ---- */

static enum rc limits_set_key(struct admin_call *c, struct str limits)
{
    char etag[ADMIN_ETAG_BYTES];
    struct meta_key old;
    enum rc rc = meta_begin(c->store->meta, &c->err);
    rc = rc == RC_OK ? call_key_find(c, c->params[1], RBAC_LIMITS, RBAC_WRITE, &old) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    struct meta_key new = old;
    call_key_etag(&old, etag);
    rc = call_precondition(c, etag);
    if (rc == RC_OK && !str_copy(new.limits, sizeof(new.limits), limits)) {
        rc = call_fail_room(c);
    }
    rc = rc == RC_OK ? meta_key_update(c->store->meta, &new, &c->err) : rc;
    rc = rc == RC_OK ? call_key_commit(c, &old, &new, "limits.put") : rc;
    if (rc == RC_OK) {
        call_key_etag(&new, c->etag);
    }
    return rc == RC_OK ? limits_answer(c, limits) : rc;
}

static enum rc limits_set_object(struct admin_call *c, const struct limits_kind *kind,
                                 struct str limits)
{
    struct call_object o;
    struct json_writer w;
    struct buf b;
    enum rc rc = call_object_begin(c, kind->kind, c->params[1], &o);
    if (rc != RC_OK) {
        return rc;
    }
    const struct call_place place = limits_place(kind, RBAC_WRITE, o.name, o.body);
    rc = call_may(c, RBAC_LIMITS, RBAC_WRITE, o.name, &place);
    if (rc == RC_OK && !o.exists) {
        rc = err_set(&c->err, RC_NOT_FOUND, "There is no %s '%.*s'.", kind->kind, STR(o.name));
    }
    const struct json *rest = rc == RC_OK ? call_without(c, o.body, "limits") : o.body;
    if (rc != RC_OK || rest == NULL) {
        return rc != RC_OK ? rc : call_fail_room(c);
    }
    buf_init(&b, ADMIN_REPLY_BYTES_MAX);
    json_write_init(&w, &b);
    json_write_object_begin(&w);
    JSON_EACH(rest, it)
    {
        json_write_name_str(&w, it->name);
        json_write_value(&w, it);
    }
    if (limits.len > 0) {
        json_write_name(&w, "limits");
        json_write_raw(&w, limits);
    }
    json_write_object_end(&w);
    struct str text = arena_str(&c->arena, buf_str(&b));
    rc = buf_ok(&b) && text.ptr != NULL ? RC_OK : call_fail_room(c);
    buf_deinit(&b);
    rc = rc == RC_OK ? call_object_commit(c, &o, text, "limits.put") : rc;
    return rc == RC_OK ? limits_answer(c, limits) : rc;
}

static enum rc limits_set(struct admin_call *c, struct str limits)
{
    const struct limits_kind *kind = limits_find(c);
    if (kind == NULL) {
        return c->err.code;
    }
    return kind->kind == NULL ? limits_set_key(c, limits) : limits_set_object(c, kind, limits);
}

enum rc call_limits_put(struct admin_call *c, const struct call_kind *unused)
{
    UNUSED(unused);
    const struct admin_catalogue *catalogue = &c->store->catalogue;
    struct str text = call_text(c, c->body);
    enum rc rc = catalogue->check_limits(catalogue->ctx, c->body, &c->err);
    if (rc == RC_OK && text.ptr == NULL) {
        rc = call_fail_room(c);
    }
    return rc == RC_OK ? limits_set(c, text) : rc;
}

enum rc call_limits_delete(struct admin_call *c, const struct call_kind *unused)
{
    UNUSED(unused);
    return limits_set(c, STR_LIT(""));
}
