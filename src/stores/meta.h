/* meta.h: the metadata store: API keys, the catalogue, settings and the audit log, in SQLite.
 *
 * Several processes may open one file together (WAL, busy timeout). Every statement is
 * parametrised. Calls block; a struct meta is used by one thread at a time. */
#ifndef STORES_META_H
#define STORES_META_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

struct meta; /* opaque: one connection */

/* Opens or creates the file with mode 0600 and brings its schema up to date. ":memory:" works. */
RC meta_open(struct meta **out, const char *path, struct err *err);
/* NULL is allowed. */
void meta_close(struct meta *m);
/* Changes whenever another connection has changed the file: cheap, and often for nothing. */
RC meta_data_version(struct meta *m, int64_t *out, struct err *err);
/* Grows with every change to keys and catalogue, whoever made it. */
RC meta_revision(struct meta *m, int64_t *out, struct err *err);

/* ---- transactions ---- */

/* Takes the write lock at once: what is read until the end is what is written upon. Every function
 * below may be called inside; none ends it. */
RC meta_begin(struct meta *m, struct err *err);
/* Reads only, all of them of one moment. */
RC meta_begin_read(struct meta *m, struct err *err);
RC meta_commit(struct meta *m, struct err *err);
/* Fine without a transaction. */
void meta_rollback(struct meta *m);
bool meta_is_in_transaction(const struct meta *m);

/* ---- settings: small named values ---- */

enum { META_VALUE_BYTES_MAX = 64 * 1024 };

/* Appends the value; RC_NOT_FOUND when there is none. */
RC meta_setting_get(struct meta *m, const char *name, struct buf *out, struct err *err);
/* Writes unless the name exists already; *stored says which. Atomic between processes. */
RC meta_setting_put_new(struct meta *m, const char *name, struct str value, bool *stored,
                        struct err *err);

/* ---- API keys ---- */

enum {
    META_KEY_ID_BYTES = 32,
    META_KEY_NAME_BYTES = 64,
    META_KEY_HASH_BYTES = 32,
    META_KEY_SCOPES_BYTES = 256,
    META_KEY_LIMITS_BYTES = 512,
};

struct meta_key {
    char id[META_KEY_ID_BYTES];     /* "key_…" */
    char name[META_KEY_NAME_BYTES]; /* for people */
    char role[32];                  /* "owner" */
    char hint[16];                  /* the key's first characters, for lists */
    unsigned char hash[META_KEY_HASH_BYTES];
    int64_t created_s;
    int64_t expires_s;                  /* 0 = never */
    int64_t revoked_s;                  /* 0 = valid */
    int64_t last_used_s;                /* 0 = never; coarse */
    char project[META_KEY_NAME_BYTES];  /* "" = none */
    char user[META_KEY_NAME_BYTES];     /* "" = none */
    char scopes[META_KEY_SCOPES_BYTES]; /* separated by spaces; "" = all */
    char limits[META_KEY_LIMITS_BYTES]; /* a JSON object, or "" */
};

/* RC_CONFLICT when the id or the hash exists. */
RC meta_key_insert(struct meta *m, const struct meta_key *key, struct err *err);
/* Inserts only when there is no key at all; *stored says whether. Several starting together make
 * one key. */
RC meta_key_insert_first(struct meta *m, const struct meta_key *key, bool *stored, struct err *err);
/* Calls each(ctx, key) for every key, oldest first; stops at the first failure it returns. */
RC meta_key_each(struct meta *m, enum rc (*each)(void *ctx, const struct meta_key *key), void *ctx,
                 struct err *err);
/* The same from the one behind `after` on ("" = from the first). */
RC meta_key_each_after(struct meta *m, const char *after,
                       enum rc (*each)(void *ctx, const struct meta_key *key), void *ctx,
                       struct err *err);
/* RC_NOT_FOUND when there is none. */
RC meta_key_get(struct meta *m, const char *id, struct meta_key *out, struct err *err);
/* Name, scopes, limits and end of a key that is not revoked; RC_NOT_FOUND when there is none. */
RC meta_key_update(struct meta *m, const struct meta_key *key, struct err *err);
/* Forgets a key altogether: for one that nobody has seen. RC_NOT_FOUND when there is none. */
RC meta_key_delete(struct meta *m, const char *id, struct err *err);
/* RC_NOT_FOUND when there is no such key. */
RC meta_key_revoke(struct meta *m, const char *id, int64_t now_s, struct err *err);
/* Sets when a key ends, sooner or later than before; RC_NOT_FOUND when there is no valid one. */
RC meta_key_expire(struct meta *m, const char *id, int64_t at_s, struct err *err);
/* Notes a use; moves neither time back nor the revision. */
RC meta_key_touch(struct meta *m, const char *id, int64_t now_s, struct err *err);

/* ---- catalogue objects: a kind, a name, a JSON body ---- */

struct meta_object {
    struct str kind, name, body;
    struct str owner; /* "file" or "api"; read only */
};

/* In one transaction: what `owner` had and is not among these is gone, these are its now. An
 * object of another owner is RC_CONFLICT, and nothing changed. What is the same is not written. */
RC meta_objects_replace(struct meta *m, const char *owner, const struct meta_object *objects,
                        uint32_t n, struct err *err);
/* Every object of a kind, by name; strings are borrowed during the call. Stops at a failure. */
RC meta_objects_each(struct meta *m, const char *kind,
                     enum rc (*each)(void *ctx, const struct meta_object *o), void *ctx,
                     struct err *err);
/* Appends body and owner (each may be NULL); RC_NOT_FOUND when there is none. */
RC meta_object_get(struct meta *m, const char *kind, struct str name, struct buf *body,
                   struct buf *owner, struct err *err);
/* Makes or changes one; RC_CONFLICT when another owner has it. */
RC meta_object_put(struct meta *m, const char *owner, const struct meta_object *o, struct err *err);
RC meta_object_delete(struct meta *m, const char *kind, struct str name, struct err *err);

/* ---- audit log: entries in order, and the head that signs the last (auth/audit.h) ---- */

enum { META_AUDIT_MAC_BYTES = 32, META_AUDIT_TEXT_BYTES_MAX = 512 };

struct meta_audit {
    int64_t seq, time_ms;
    struct str who, what, object, source, before, after;
    unsigned char mac[META_AUDIT_MAC_BYTES];
};
struct meta_audit_head {
    int64_t seq;
    unsigned char mac[META_AUDIT_MAC_BYTES], signature[META_AUDIT_MAC_BYTES];
};

/* RC_NOT_FOUND while there is none. */
RC meta_audit_head_get(struct meta *m, struct meta_audit_head *out, struct err *err);
/* Inside a transaction: the entry, and the head that says that it is the last. RC_CONFLICT when
 * the number is taken. */
RC meta_audit_add(struct meta *m, const struct meta_audit *entry,
                  const struct meta_audit_head *head, struct err *err);
/* Entries in order from `from` on; or backwards from it. Strings are borrowed during the call;
 * stops at the first failure that `each` returns. */
struct meta_audit_walk {
    int64_t from;
    bool backwards;
};
RC meta_audit_each(struct meta *m, const struct meta_audit_walk *walk,
                   enum rc (*each)(void *ctx, const struct meta_audit *entry), void *ctx,
                   struct err *err);

#endif
