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

static enum rc objects_put(struct meta *m, const char *owner, const struct meta_object *o,
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
    rc = objects_run(m,
                     "INSERT INTO objects (kind, name, owner, body) VALUES (?, ?, ?, ?) "
                     "ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body "
                     "WHERE body <> excluded.body",
                     texts, 4, err);
    return rc == RC_OK ? objects_run(m, "INSERT INTO temp.kept VALUES (?, ?)", texts, 2, err) : rc;
}

static enum rc objects_replace(struct meta *m, const char *owner, const struct meta_object *objects,
                               uint32_t n, struct err *err)
{
    const struct str name = str_from(owner);
    for (uint32_t i = 0; i < n; i++) {
        enum rc rc = objects_put(m, owner, &objects[i], err);
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
    static const char *const what = "write the catalogue";
    enum rc rc = meta_exec(m,
                           "CREATE TEMP TABLE IF NOT EXISTS kept (kind TEXT, name TEXT,"
                           " PRIMARY KEY (kind, name)) WITHOUT ROWID; BEGIN IMMEDIATE;"
                           "DELETE FROM temp.kept;",
                           what, err);
    if (rc != RC_OK) {
        return rc;
    }
    rc = objects_replace(m, owner, objects, n, err);
    rc = rc == RC_OK ? meta_exec(m, "COMMIT", what, err) : rc;
    if (rc != RC_OK) {
        (void)!meta_exec(m, "ROLLBACK", what, NULL);
    }
    return rc;
}

enum rc meta_objects_each(struct meta *m, const char *kind,
                          enum rc (*each)(void *ctx, const struct meta_object *o), void *ctx,
                          struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(
        m, &stmt, "SELECT kind, name, body FROM objects WHERE kind = ? ORDER BY name", err);
    int step = SQLITE_DONE;
    if (rc == RC_OK) {
        meta_bind_str(stmt, 1, str_from(kind));
    }
    while (rc == RC_OK && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
        const struct meta_object o = {.kind = meta_column_str(stmt, 0),
                                      .name = meta_column_str(stmt, 1),
                                      .body = meta_column_str(stmt, 2)};
        rc = each(ctx, &o);
    }
    if (rc == RC_OK && step != SQLITE_DONE) {
        rc = meta_fail(m, "read the catalogue", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}
