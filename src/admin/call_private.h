/* call_private.h: what the files behind call.h share. Handlers run one request each; the
 * transaction that one leaves open is rolled back. */
#ifndef ADMIN_CALL_PRIVATE_H
#define ADMIN_CALL_PRIVATE_H

#include "admin/call.h"

/* Where an object belongs: "" = to the installation. */
struct call_place {
    struct str organisation, project;
};

/* RC_FORBIDDEN without the permission; RC_NOT_FOUND where the object is of another organisation or
 * project, as if there were none. */
RC call_may(struct admin_call *c, enum rbac_kind kind, enum rbac_action action, struct str name,
            const struct call_place *place);
/* Whether a list shows it. */
bool call_sees(struct admin_call *c, enum rbac_kind kind, struct str name,
               const struct call_place *place);
/* RC_FORBIDDEN when the role has a permission that the caller lacks; RC_INVALID when there is no
 * such role. For keys, which scopes narrow: see call_may_scope too. */
RC call_may_give(struct admin_call *c, struct str role);
/* The same for holders whom no scopes narrow: the caller's own scopes must leave him all of it. */
RC call_may_bind(struct admin_call *c, struct str role);
/* RC_FORBIDDEN when the permissions are more than the caller's, scopes and all. */
RC call_may_bind_set(struct admin_call *c, const struct rbac_set *set, struct str role);
/* RC_FORBIDDEN when a key of these scopes could be used for what the caller's may not. */
RC call_may_scope(struct admin_call *c, struct str scopes);
/* The organisation that a project or user says it belongs to; "" = none, or no such object. */
struct str call_organisation_of(struct admin_call *c, const char *kind, struct str name);

/* The object of the store that the request is about. */
struct call_object {
    const char *kind;
    struct str name;
    bool exists;
    struct str text;         /* its body as stored */
    const struct json *body; /* parsed; an empty object when there is none */
    struct str owner;
};
/* Reads it. RC_NOT_FOUND never: see `exists`. */
RC call_object_read(struct admin_call *c, const char *kind, struct str name,
                    struct call_object *out);
/* The same in a new transaction, for changing it: what the file owns is RC_FORBIDDEN, a failed
 * If-Match or If-None-Match RC_PRECONDITION. */
RC call_object_begin(struct admin_call *c, const char *kind, struct str name,
                     struct call_object *out);
/* Writes it (text NULL: removes it), checks the catalogue, notes the act, commits. */
RC call_object_commit(struct admin_call *c, const struct call_object *o, struct str text,
                      const char *what);

/* Preconditions of the request against the object's present tag ("" = there is none). */
RC call_precondition(struct admin_call *c, const char *etag);
void call_etag(struct str text, char out[ADMIN_ETAG_BYTES]);
/* The act's entry and the commit. `kind` as in paths. */
RC call_commit(struct admin_call *c, const char *what, const char *kind, struct str name,
               struct str before, struct str after);

/* Of the query: RC_INVALID when it is none. */
struct call_page {
    struct str after;
    uint64_t limit, n;
    bool more;
    struct json_writer w;
    struct buf last; /* the last one's name */
};
RC call_page_begin(struct admin_call *c, struct call_page *p);
/* Whether there is room for another: then its value is to be written with p->w. */
bool call_page_next(struct call_page *p, struct str name);
void call_page_end(struct admin_call *c, struct call_page *p);
/* A parameter of the query, decoded; "" = absent. */
RC call_query(struct admin_call *c, const char *name, struct str *out);
/* A value as text in the arena; "" for NULL, STR_NULL without room. */
struct str call_text(struct admin_call *c, const struct json *v);
/* A copy of an object without one member. */
const struct json *call_without(struct admin_call *c, const struct json *object, const char *name);
enum rc call_fail_room(struct admin_call *c);

/* ---- handlers: c->err says why they fail ---- */

enum call_view { CALL_WHOLE, CALL_ALIAS, CALL_PRICE };

/* A group of four routes over one kind of the store's objects. */
struct call_kind {
    const char *kind;  /* in the store */
    const char *label; /* member "object" of what is shown */
    enum rbac_kind rbac;
    enum call_view view;
};

typedef enum rc (*call_handler)(struct admin_call *c, const struct call_kind *kind);
enum rc call_objects_list(struct admin_call *c, const struct call_kind *kind);
enum rc call_objects_show(struct admin_call *c, const struct call_kind *kind);
enum rc call_objects_put(struct admin_call *c, const struct call_kind *kind);
enum rc call_objects_delete(struct admin_call *c, const struct call_kind *kind);
enum rc call_keys_list(struct admin_call *c, const struct call_kind *kind);
enum rc call_keys_show(struct admin_call *c, const struct call_kind *kind);
enum rc call_keys_create(struct admin_call *c, const struct call_kind *kind);
enum rc call_keys_rotate(struct admin_call *c, const struct call_kind *kind);
enum rc call_keys_change(struct admin_call *c, const struct call_kind *kind);
enum rc call_keys_revoke(struct admin_call *c, const struct call_kind *kind);
enum rc call_limits_list(struct admin_call *c, const struct call_kind *kind);
enum rc call_limits_show(struct admin_call *c, const struct call_kind *kind);
enum rc call_limits_put(struct admin_call *c, const struct call_kind *kind);
enum rc call_limits_delete(struct admin_call *c, const struct call_kind *kind);
enum rc call_audit_list(struct admin_call *c, const struct call_kind *kind);
enum rc call_audit_verify(struct admin_call *c, const struct call_kind *kind);
enum rc call_usage_list(struct admin_call *c, const struct call_kind *kind);
enum rc call_usage_request(struct admin_call *c, const struct call_kind *kind);
enum rc call_note_act(struct admin_call *c, const struct call_kind *kind);

/* Key limits from the limits routes: RC_NOT_FOUND, RC_FORBIDDEN as for keys. */
RC call_key_find(struct admin_call *c, struct str id, enum rbac_kind kind, enum rbac_action action,
                 struct meta_key *out);
RC call_key_commit(struct admin_call *c, const struct meta_key *before,
                   const struct meta_key *after, const char *what);
void call_key_write(struct json_writer *w, const struct meta_key *k, int64_t now_s);
void call_key_etag(const struct meta_key *k, char out[ADMIN_ETAG_BYTES]);
struct call_place call_key_place(struct admin_call *c, const struct meta_key *k);

#endif
