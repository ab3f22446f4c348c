/* call_keys.c: API keys: listed, made, rotated, changed, ended. */
#include "admin/call_private.h"
#include "auth/key.h"
#include "auth/scope.h"
#include "base/conf.h"
#include "base/mem.h"

enum { KEYS_LIFE_S_MAX = 24000 * 86400, KEYS_SCOPES_MAX = 32 }; /* 65 years */

/* What a request says of a key; limits are read apart. */
struct key_request {
    struct str name, role, project, user;
    struct conf_list scopes;
    uint64_t expires_in, overlap; /* seconds */
};

static const struct conf_row key_create_rows[] = {
    CONF_TEXT(struct key_request, name, NULL, META_KEY_NAME_BYTES - 1, "for people"),
    CONF_TEXT(struct key_request, role, "developer", 31, "what it may"),
    CONF_TEXT(struct key_request, project, NULL, META_KEY_NAME_BYTES - 1, "whose it is"),
    CONF_TEXT(struct key_request, user, NULL, META_KEY_NAME_BYTES - 1, "whose it is"),
    CONF_TEXTS(struct key_request, scopes, KEYS_SCOPES_MAX, "what it is narrowed to"),
    CONF_NUMBER(struct key_request, expires_in, "0", 0, KEYS_LIFE_S_MAX, "s", "0 = never"),
    {0},
};
static const struct conf_row key_rotate_rows[] = {
    CONF_NUMBER(struct key_request, overlap, "86400", 0, KEYS_LIFE_S_MAX, "s",
                "the old key stays valid"),
    {0},
};
static const struct conf_row key_change_rows[] = {
    CONF_TEXT(struct key_request, name, NULL, META_KEY_NAME_BYTES - 1, "for people"),
    CONF_TEXTS(struct key_request, scopes, KEYS_SCOPES_MAX, "what it is narrowed to"),
    CONF_NUMBER(struct key_request, expires_in, "0", 0, KEYS_LIFE_S_MAX, "s", "0 = never"),
    {0},
};

static int64_t key_now_s(const struct admin_call *c)
{
    return c->now_ms / 1000;
}

/* ---- showing ---- */

static const char *key_state(const struct meta_key *k, int64_t now_s)
{
    if (k->revoked_s != 0) {
        return "revoked";
    }
    return k->expires_s != 0 && k->expires_s <= now_s ? "expired" : "valid";
}

/* All but the state and the last use, which change by themselves. */
static void key_write_fixed(struct json_writer *w, const struct meta_key *k)
{
    json_write_member_cstr(w, "object", "key");
    json_write_member_cstr(w, "id", k->id);
    json_write_member_cstr(w, "name", k->name);
    json_write_member_cstr(w, "role", k->role);
    json_write_member_cstr(w, "hint", k->hint);
    json_write_member_cstr(w, "project", k->project);
    json_write_member_cstr(w, "user", k->user);
    json_write_member_cstr(w, "scopes", k->scopes);
    json_write_name(w, "limits");
    json_write_raw(w, k->limits[0] != '\0' ? str_from(k->limits) : STR_LIT("{}"));
    json_write_member_i64(w, "created", k->created_s);
    json_write_member_i64(w, "expires", k->expires_s);
    json_write_member_i64(w, "revoked", k->revoked_s);
}

static void key_write_members(struct json_writer *w, const struct meta_key *k, int64_t now_s)
{
    key_write_fixed(w, k);
    json_write_member_cstr(w, "state", key_state(k, now_s));
    json_write_member_i64(w, "last_used", k->last_used_s);
}

void call_key_write(struct json_writer *w, const struct meta_key *k, int64_t now_s)
{
    json_write_object_begin(w);
    key_write_members(w, k, now_s);
    json_write_object_end(w);
}

/* What digests and tags are made of. */
static void key_text(const struct meta_key *k, struct buf *out)
{
    struct json_writer w;
    buf_init(out, 8192);
    json_write_init(&w, out);
    json_write_object_begin(&w);
    key_write_fixed(&w, k);
    json_write_object_end(&w);
}

void call_key_etag(const struct meta_key *k, char out[ADMIN_ETAG_BYTES])
{
    struct buf text;
    key_text(k, &text);
    call_etag(buf_str(&text), out);
    buf_deinit(&text);
}

/* The key as the answer; `text` is a new one's, shown this once, NULL otherwise. */
static enum rc key_answer(struct admin_call *c, const struct meta_key *k, const char *text,
                          int status)
{
    struct json_writer w;
    json_write_init(&w, &c->out);
    json_write_object_begin(&w);
    key_write_members(&w, k, key_now_s(c));
    if (text != NULL) {
        json_write_member_cstr(&w, "key", text);
    }
    json_write_object_end(&w);
    call_key_etag(k, c->etag);
    c->status = status;
    return RC_OK;
}

/* ---- finding ---- */

struct call_place call_key_place(struct admin_call *c, const struct meta_key *k)
{
    struct call_place place = {.project = str_from(k->project)};
    place.organisation = call_organisation_of(c, "project", place.project);
    if (place.organisation.len == 0) {
        place.organisation = call_organisation_of(c, "user", str_from(k->user));
    }
    return place;
}

enum rc call_key_find(struct admin_call *c, struct str id, enum rbac_kind kind,
                      enum rbac_action action, struct meta_key *out)
{
    char text[META_KEY_ID_BYTES];
    if (!str_copy(text, sizeof(text), id)) {
        return err_set(&c->err, RC_NOT_FOUND, "There is no such key.");
    }
    enum rc rc = meta_key_get(c->store->meta, text, out, &c->err);
    if (rc != RC_OK) {
        return rc;
    }
    const struct call_place place = call_key_place(c, out);
    return call_may(c, kind, action, str_from(out->id), &place);
}

/* In a transaction, for a change: who changes a key must hold what it may do. */
static enum rc key_begin(struct admin_call *c, struct meta_key *out)
{
    char etag[ADMIN_ETAG_BYTES];
    enum rc rc = meta_begin(c->store->meta, &c->err);
    rc = rc == RC_OK ? call_key_find(c, c->params[0], RBAC_KEYS, RBAC_WRITE, out) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    call_key_etag(out, etag);
    rc = call_precondition(c, etag);
    rc = rc == RC_OK ? call_may_scope(c, str_from(out->scopes)) : rc;
    return rc == RC_OK ? call_may_give(c, str_from(out->role)) : rc;
}

/* A key whose role is gone may nothing, and anybody may end it. */
static enum rc key_begin_end(struct admin_call *c, struct meta_key *out)
{
    enum rc rc = key_begin(c, out);
    if (rc == RC_INVALID) {
        c->err = (struct err){0};
        rc = RC_OK;
    }
    return rc;
}

enum rc call_key_commit(struct admin_call *c, const struct meta_key *before,
                        const struct meta_key *after, const char *what)
{
    struct buf old, new;
    buf_init(&old, 8192);
    if (before != NULL) {
        key_text(before, &old);
    }
    key_text(after, &new);
    enum rc rc = call_commit(c, what, "key", str_from(after->id), buf_str(&old), buf_str(&new));
    buf_deinit(&old);
    buf_deinit(&new);
    return rc;
}

/* ---- reading a request ---- */

static enum rc key_take_scopes(struct admin_call *c, const struct conf_list *list,
                               char out[META_KEY_SCOPES_BYTES])
{
    const struct str *words = list->at;
    struct buf b;
    buf_init(&b, 65536);
    for (uint32_t i = 0; i < list->n; i++) {
        buf_add_cstr(&b, i > 0 ? " " : "");
        buf_add_str(&b, words[i]);
    }
    enum rc rc = scope_check(buf_str(&b), &c->err);
    if (rc == RC_OK && (!buf_ok(&b) || !str_copy(out, META_KEY_SCOPES_BYTES, buf_str(&b)))) {
        rc = err_set_param(&c->err, RC_TOO_LARGE, "scopes", "The scopes are too long.");
    }
    buf_deinit(&b);
    return rc;
}

static enum rc key_take_limits(struct admin_call *c, const struct json *limits,
                               char out[META_KEY_LIMITS_BYTES])
{
    struct json_writer w;
    struct buf b;
    out[0] = '\0';
    if (limits == NULL || limits->n == 0) {
        return RC_OK;
    }
    enum rc rc = c->store->catalogue.check_limits(c->store->catalogue.ctx, limits, &c->err);
    buf_init(&b, 65536);
    json_write_init(&w, &b);
    json_write_value(&w, limits);
    if (rc == RC_OK && (!buf_ok(&b) || !str_copy(out, META_KEY_LIMITS_BYTES, buf_str(&b)))) {
        rc = err_set_param(&c->err, RC_TOO_LARGE, "limits", "The limits are too long.");
    }
    buf_deinit(&b);
    return rc;
}

static enum rc key_read(struct admin_call *c, const struct conf_row *rows, struct key_request *out)
{
    const struct json *rest = call_without(c, c->body, "limits");
    *out = (struct key_request){0};
    return rest != NULL ? conf_read(rows, rest, &c->arena, out, &c->err) : call_fail_room(c);
}

/* ---- making ---- */

static enum rc key_insert(struct admin_call *c, const struct key_options *opt,
                          const struct meta_key *rotated, const char *what)
{
    char text[KEY_TEXT_BYTES];
    struct meta_key row;
    key_make(c->store->pepper, opt, text, &row);
    enum rc rc = meta_key_insert(c->store->meta, &row, &c->err);
    if (rc == RC_OK && rotated != NULL) {
        rc = meta_key_expire(c->store->meta, rotated->id, rotated->expires_s, &c->err);
    }
    rc = rc == RC_OK ? call_key_commit(c, rotated, &row, what) : rc;
    rc = rc == RC_OK ? key_answer(c, &row, text, 201) : rc;
    mem_wipe(text, sizeof(text));
    return rc;
}

/* Whom a key shall belong to is of one organisation: the caller's, if he has one. Who is not there
 * yet is of none; until he is, gateways refuse the key. */
static enum rc key_check_owner(struct admin_call *c, const char *kind, struct str name,
                               struct str *organisation)
{
    if (name.len == 0) {
        return RC_OK;
    }
    struct str its = call_organisation_of(c, kind, name);
    if (c->who != NULL && c->who->organisation.len > 0 && !str_eq(c->who->organisation, its)) {
        return err_set(&c->err, RC_FORBIDDEN, "The %s '%.*s' is not of your organisation.", kind,
                       (int)MIN(name.len, (size_t)64), name.ptr);
    }
    if (organisation->len > 0 && its.len > 0 && !str_eq(*organisation, its)) {
        return err_set_param(&c->err, RC_INVALID, kind,
                             "The project and the user are of different organisations.");
    }
    *organisation = its.len > 0 ? its : *organisation;
    return RC_OK;
}

static enum rc key_check_owners(struct admin_call *c, const struct key_request *q)
{
    struct str organisation = STR_LIT("");
    enum rc rc = key_check_owner(c, "project", q->project, &organisation);
    return rc == RC_OK ? key_check_owner(c, "user", q->user, &organisation) : rc;
}

enum rc call_keys_create(struct admin_call *c, const struct call_kind *kind)
{
    struct key_request q;
    char scopes[META_KEY_SCOPES_BYTES], limits[META_KEY_LIMITS_BYTES];
    int64_t now_s = key_now_s(c);
    UNUSED(kind);
    enum rc rc = key_read(c, key_create_rows, &q);
    rc = rc == RC_OK ? key_take_scopes(c, &q.scopes, scopes) : rc;
    rc = rc == RC_OK ? key_take_limits(c, json_get_present(c->body, "limits"), limits) : rc;
    rc = rc == RC_OK ? meta_begin(c->store->meta, &c->err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    struct meta_key probe = {0};
    str_copy(probe.project, sizeof(probe.project), q.project);
    str_copy(probe.user, sizeof(probe.user), q.user);
    const struct call_place place = call_key_place(c, &probe);
    const struct key_options opt = {.name = q.name.ptr,
                                    .role = q.role.ptr,
                                    .created_s = now_s,
                                    .expires_s =
                                        q.expires_in > 0 ? now_s + (int64_t)q.expires_in : 0,
                                    .project = q.project.ptr,
                                    .user = q.user.ptr,
                                    .scopes = scopes,
                                    .limits = limits};
    rc = call_may(c, RBAC_KEYS, RBAC_WRITE, STR_LIT(""), &place);
    rc = rc == RC_OK ? key_check_owners(c, &q) : rc;
    rc = rc == RC_OK ? call_may_give(c, q.role) : rc;
    rc = rc == RC_OK ? call_may_scope(c, str_from(scopes)) : rc;
    return rc == RC_OK ? key_insert(c, &opt, NULL, "key.create") : rc;
}

/* A new key with the old one's rights; the old one ends after the overlap. */
enum rc call_keys_rotate(struct admin_call *c, const struct call_kind *kind)
{
    struct key_request q;
    struct meta_key old;
    int64_t now_s = key_now_s(c);
    UNUSED(kind);
    enum rc rc = key_read(c, key_rotate_rows, &q);
    rc = rc == RC_OK ? key_begin(c, &old) : rc;
    if (rc == RC_OK && !str_is(str_from(key_state(&old, now_s)), "valid")) {
        rc = err_set(&c->err, RC_CONFLICT, "Key %s is %s.", old.id, key_state(&old, now_s));
    }
    if (rc != RC_OK) {
        return rc;
    }
    const struct key_options opt = {.name = old.name,
                                    .role = old.role,
                                    .created_s = now_s,
                                    .expires_s = old.expires_s,
                                    .project = old.project,
                                    .user = old.user,
                                    .scopes = old.scopes,
                                    .limits = old.limits};
    struct meta_key ended = old;
    int64_t end_s = now_s + (int64_t)q.overlap;
    ended.expires_s = old.expires_s != 0 ? MIN(end_s, old.expires_s) : end_s;
    return key_insert(c, &opt, &ended, "key.rotate");
}

/* ---- changing, ending ---- */

enum rc call_keys_change(struct admin_call *c, const struct call_kind *kind)
{
    struct key_request q;
    struct meta_key old;
    UNUSED(kind);
    enum rc rc = key_read(c, key_change_rows, &q);
    rc = rc == RC_OK ? key_begin(c, &old) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    struct meta_key new = old;
    if (json_get(c->body, "name") != NULL) {
        str_copy(new.name, sizeof(new.name), q.name);
    }
    if (json_get(c->body, "expires_in") != NULL) {
        new.expires_s = q.expires_in > 0 ? key_now_s(c) + (int64_t)q.expires_in : 0;
    }
    if (json_get(c->body, "scopes") != NULL) {
        rc = key_take_scopes(c, &q.scopes, new.scopes);
        rc = rc == RC_OK ? call_may_scope(c, str_from(new.scopes)) : rc;
    }
    if (rc == RC_OK && json_get(c->body, "limits") != NULL) {
        const struct call_place place = call_key_place(c, &old);
        rc = call_may(c, RBAC_LIMITS, RBAC_WRITE, str_from(old.id), &place);
        rc = rc == RC_OK ? key_take_limits(c, json_get_present(c->body, "limits"), new.limits) : rc;
    }
    rc = rc == RC_OK ? meta_key_update(c->store->meta, &new, &c->err) : rc;
    rc = rc == RC_OK ? call_key_commit(c, &old, &new, "key.change") : rc;
    return rc == RC_OK ? key_answer(c, &new, NULL, 200) : rc;
}

enum rc call_keys_revoke(struct admin_call *c, const struct call_kind *kind)
{
    struct meta_key old;
    UNUSED(kind);
    enum rc rc = key_begin_end(c, &old);
    struct meta_key new = old;
    new.revoked_s = key_now_s(c);
    rc = rc == RC_OK ? meta_key_revoke(c->store->meta, old.id, new.revoked_s, &c->err) : rc;
    rc = rc == RC_OK ? call_key_commit(c, &old, &new, "key.revoke") : rc;
    return rc == RC_OK ? key_answer(c, &new, NULL, 200) : rc;
}

/* ---- looking ---- */

enum rc call_keys_show(struct admin_call *c, const struct call_kind *kind)
{
    struct meta_key k;
    UNUSED(kind);
    enum rc rc = call_key_find(c, c->params[0], RBAC_KEYS, RBAC_READ, &k);
    return rc == RC_OK ? key_answer(c, &k, NULL, 200) : rc;
}

struct keys_walk {
    struct admin_call *call;
    struct call_page page;
};

static enum rc keys_list_one(void *ctx, const struct meta_key *k)
{
    struct keys_walk *w = ctx;
    const struct call_place place = call_key_place(w->call, k);
    if (!call_sees(w->call, RBAC_KEYS, str_from(k->id), &place)) {
        return RC_OK;
    }
    if (!call_page_next(&w->page, str_from(k->id))) {
        return RC_CANCELLED; /* the page is full: no failure */
    }
    call_key_write(&w->page.w, k, key_now_s(w->call));
    return RC_OK;
}

enum rc call_keys_list(struct admin_call *c, const struct call_kind *kind)
{
    struct keys_walk w = {.call = c};
    char after[META_KEY_ID_BYTES];
    UNUSED(kind);
    enum rc rc = call_page_begin(c, &w.page);
    if (rc != RC_OK) {
        return rc;
    }
    if (!str_copy(after, sizeof(after), w.page.after)) {
        buf_deinit(&w.page.last);
        return err_set_param(&c->err, RC_INVALID, "after", "after is no key's id.");
    }
    rc = meta_key_each_after(c->store->meta, after, keys_list_one, &w, &c->err);
    call_page_end(c, &w.page);
    return rc == RC_CANCELLED ? RC_OK : rc;
}
