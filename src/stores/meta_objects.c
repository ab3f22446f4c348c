/* meta_objects.c: catalogue objects in the metadata store. */
#include "base/assert.h"
#include "stores/meta_private.h"

/* One statement with up to four texts, run to its end. */
static enum rc objects_run(struct meta *m, const char *sql, const struct str *texts, int n,
                           struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(m, &stmt, sql, err);
    if (rc != RC_OK) {
        return rc;
    }
    for (int i = 0; i < n; i++) {
        meta_bind_str(stmt, i + 1, texts[i]);
    }
    if (sqlite3_step(stmt) != SQLITE_DONE) {
        rc = meta_fail(m, "write the catalogue", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

enum rc meta_object_put(struct meta *m, const char *owner, const struct meta_object *o,
                        struct err *err)
{
    const struct str texts[] = {o->kind, o->name, str_from(owner), o->body};
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(
        m, &stmt, "SELECT 1 FROM objects WHERE kind = ? AND name = ? AND owner <> ?", err);
    if (rc != RC_OK) {
        return rc;
    }
    for (int i = 0; i < 3; i++) {
        meta_bind_str(stmt, i + 1, texts[i]);
    }
    int step = sqlite3_step(stmt);
    sqlite3_finalize(stmt);
    if (step == SQLITE_ROW) {
        return err_set(err, RC_CONFLICT, "%.*s %.*s exists already, made elsewhere", STR(o->kind),
                       STR(o->name));
    }
    return objects_run(m,
                       "INSERT INTO objects (kind, name, owner, body) VALUES (?, ?, ?, ?) "
                       "ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body "
                       "WHERE body <> excluded.body",
                       texts, 4, err);
}

static enum rc objects_replace(struct meta *m, const char *owner, const struct meta_object *objects,
                               uint32_t n, struct err *err)
{
    const struct str name = str_from(owner);
    for (uint32_t i = 0; i < n; i++) {
        const struct str texts[] = {objects[i].kind, objects[i].name};
        enum rc rc = meta_object_put(m, owner, &objects[i], err);
        rc =
            rc == RC_OK ? objects_run(m, "INSERT INTO temp.kept VALUES (?, ?)", texts, 2, err) : rc;
        if (rc != RC_OK) {
            return rc;
        }
    }
    return objects_run(m,
                       "DELETE FROM objects WHERE owner = ? AND NOT EXISTS (SELECT 1 FROM "
                       "temp.kept k WHERE k.kind = objects.kind AND k.name = objects.name)",
                       &name, 1, err);
}

enum rc meta_objects_replace(struct meta *m, const char *owner, const struct meta_object *objects,
                             uint32_t n, struct err *err)
{
    bool outer = meta_is_in_transaction(m);
    enum rc rc = outer ? RC_OK : meta_begin(m, err);
    rc = rc == RC_OK ? meta_exec(m,
                                 "CREATE TEMP TABLE IF NOT EXISTS kept (kind TEXT, name TEXT,"
                                 " PRIMARY KEY (kind, name)) WITHOUT ROWID; DELETE FROM temp.kept;",
                                 "write the catalogue", err)
                     : rc;
    rc = rc == RC_OK ? objects_replace(m, owner, objects, n, err) : rc;
    rc = rc == RC_OK && !outer ? meta_commit(m, err) : rc;
    if (rc != RC_OK && !outer) {
        meta_rollback(m);
    }
    return rc;
}

enum rc meta_objects_each(struct meta *m, const char *kind,
                          enum rc (*each)(void *ctx, const struct meta_object *o), void *ctx,
                          struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(
        m, &stmt, "SELECT kind, name, body, owner FROM objects WHERE kind = ? ORDER BY name", err);
    int step = SQLITE_DONE;
    if (rc == RC_OK) {
        meta_bind_str(stmt, 1, str_from(kind));
    }
    while (rc == RC_OK && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
        const struct meta_object o = {.kind = meta_column_str(stmt, 0),
                                      .name = meta_column_str(stmt, 1),
                                      .body = meta_column_str(stmt, 2),
                                      .owner = meta_column_str(stmt, 3)};
        rc = each(ctx, &o);
    }
    if (rc == RC_OK && step != SQLITE_DONE) {
        rc = meta_fail(m, "read the catalogue", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

enum rc meta_object_get(struct meta *m, const char *kind, struct str name, struct buf *body,
                        struct buf *owner, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc =
        meta_prepare(m, &stmt, "SELECT body, owner FROM objects WHERE kind = ? AND name = ?", err);
    if (rc != RC_OK) {
        return rc;
    }
    meta_bind_str(stmt, 1, str_from(kind));
    meta_bind_str(stmt, 2, name);
    int step = sqlite3_step(stmt);
    if (step == SQLITE_DONE) {
        rc = err_set(err, RC_NOT_FOUND, "there is no %s %.*s", kind, STR(name));
    } else if (step != SQLITE_ROW) {
        rc = meta_fail(m, "read the catalogue", err);
    } else {
        struct buf *const into[] = {body, owner};
        for (int i = 0; i < 2; i++) {
            if (into[i] != NULL) {
                buf_add_str(into[i], meta_column_str(stmt, i));
                rc = buf_ok(into[i]) ? rc : err_set(err, RC_TOO_LARGE, "%s is too large", kind);
            }
        }
    }
    sqlite3_finalize(stmt);
    return rc;
}

enum rc meta_object_delete(struct meta *m, const char *kind, struct str name, struct err *err)
{
    const struct str texts[] = {str_from(kind), name};
    enum rc rc = objects_run(m, "DELETE FROM objects WHERE kind = ? AND name = ?", texts, 2, err);
    if (rc == RC_OK && sqlite3_changes(m->db) == 0) {
        rc = err_set(err, RC_NOT_FOUND, "there is no %s %.*s", kind, STR(name));
    }
    return rc;
}
