/* migrate.c: the schema, as the list of steps that made it. A step is never edited once released;
 * a change is a new step. PRAGMA user_version counts the steps that a file has seen. */
#include "stores/migrate.h"

#include <stdio.h>

#define MIGRATE_FIELD(column) " || char(9) || " column

static const char *const migrate_steps[] = {
    /* 1: settings and keys */
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;"
    "CREATE TABLE keys ("
    " id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, hint TEXT NOT NULL,"
    " hash BLOB NOT NULL UNIQUE, created_s INTEGER NOT NULL,"
    " expires_s INTEGER NOT NULL DEFAULT 0, revoked_s INTEGER NOT NULL DEFAULT 0) STRICT;",

    /* 2: whose a key is and what it may; the catalogue. `revision` moves with every change
     * that a gateway must see, and with no other: not with a key's last use. */
    "ALTER TABLE keys ADD COLUMN project TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE keys ADD COLUMN user TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE keys ADD COLUMN scopes TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE keys ADD COLUMN limits TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE keys ADD COLUMN last_used_s INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE objects (kind TEXT NOT NULL, name TEXT NOT NULL, owner TEXT NOT NULL,"
    " body TEXT NOT NULL, PRIMARY KEY (kind, name)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE revision (n INTEGER NOT NULL) STRICT;"
    "INSERT INTO revision VALUES (1);"
    "CREATE TRIGGER keys_added AFTER INSERT ON keys BEGIN UPDATE revision SET n = n + 1; END;"
    "CREATE TRIGGER keys_gone AFTER DELETE ON keys BEGIN UPDATE revision SET n = n + 1; END;"
    "CREATE TRIGGER keys_changed AFTER UPDATE OF name, role, hash, expires_s, revoked_s, project,"
    " user, scopes, limits ON keys BEGIN UPDATE revision SET n = n + 1; END;"
    "CREATE TRIGGER objects_added AFTER INSERT ON objects BEGIN UPDATE revision SET n = n + 1; END;"
    "CREATE TRIGGER objects_gone AFTER DELETE ON objects BEGIN UPDATE revision SET n = n + 1; END;"
    "CREATE TRIGGER objects_changed AFTER UPDATE ON objects"
    " BEGIN UPDATE revision SET n = n + 1; END;",

    /* 3: the audit log */
    "CREATE TABLE audit (seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, who TEXT NOT NULL,"
    " what TEXT NOT NULL, object TEXT NOT NULL, source TEXT NOT NULL, before TEXT NOT NULL,"
    " after TEXT NOT NULL, mac BLOB NOT NULL) STRICT;"
    "CREATE TABLE audit_head (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL,"
    " mac BLOB NOT NULL, signature BLOB NOT NULL) STRICT;",

    /* 4: usage, one row per request, and why single requests went as they did. `revision` does not
     * move with them. */
    "CREATE TABLE usage (id TEXT PRIMARY KEY, request_id TEXT NOT NULL, route TEXT NOT NULL,"
    " key TEXT NOT NULL, user TEXT NOT NULL, project TEXT NOT NULL, model TEXT NOT NULL,"
    " version TEXT NOT NULL, upstream TEXT NOT NULL, status TEXT NOT NULL,"
    " http_status INTEGER NOT NULL, started_ms INTEGER NOT NULL, duration_ms INTEGER NOT NULL,"
    " prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,"
    " output_tokens INTEGER NOT NULL, images INTEGER NOT NULL, cost_nano INTEGER NOT NULL,"
    " estimated INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE INDEX usage_by_time ON usage (started_ms);"
    "CREATE INDEX usage_by_request ON usage (request_id);"
    "CREATE TABLE decisions (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " request_id TEXT NOT NULL, at_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT;"
    "CREATE INDEX decisions_by_request ON decisions (request_id);",

    /* 5: usage by day, single records as lines of thousands (usage_line.h, without checksums), and
     * how far the journal's files were taken in. */
    "CREATE TABLE usage_days (day TEXT NOT NULL, key TEXT NOT NULL, user TEXT NOT NULL,"
    " project TEXT NOT NULL, model TEXT NOT NULL, upstream TEXT NOT NULL, status TEXT NOT NULL,"
    " requests INTEGER NOT NULL, failed INTEGER NOT NULL, estimated INTEGER NOT NULL,"
    " duration_ms INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,"
    " cached_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, images INTEGER NOT NULL,"
    " cost_nano INTEGER NOT NULL,"
    " PRIMARY KEY (day, key, user, project, model, upstream, status)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE usage_pages (from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL,"
    " n INTEGER NOT NULL, lines TEXT NOT NULL) STRICT;"
    "CREATE INDEX usage_pages_by_time ON usage_pages (to_ms);"
    "CREATE TABLE usage_files (run TEXT NOT NULL, file INTEGER NOT NULL, upto INTEGER NOT NULL,"
    " PRIMARY KEY (run, file)) STRICT, WITHOUT ROWID;"
    "INSERT INTO usage_days SELECT date(started_ms / 1000, 'unixepoch'), key, user, project,"
    " model, upstream, status, count(*), sum(status <> 'ok'), sum(estimated), sum(duration_ms),"
    " sum(prompt_tokens), sum(cached_tokens), sum(output_tokens), sum(images), sum(cost_nano)"
    " FROM usage GROUP BY 1, 2, 3, 4, 5, 6, 7;"
    "INSERT INTO usage_pages SELECT min(started_ms), max(started_ms), count(*),"
    " group_concat('d'" MIGRATE_FIELD("id") MIGRATE_FIELD("request_id") MIGRATE_FIELD("route")
        MIGRATE_FIELD("key") MIGRATE_FIELD("user") MIGRATE_FIELD("project") MIGRATE_FIELD("model")
            MIGRATE_FIELD("version") MIGRATE_FIELD("upstream") MIGRATE_FIELD("status")
                MIGRATE_FIELD("http_status") MIGRATE_FIELD("started_ms")
                    MIGRATE_FIELD("duration_ms") MIGRATE_FIELD("prompt_tokens")
                        MIGRATE_FIELD("cached_tokens") MIGRATE_FIELD("output_tokens")
                            MIGRATE_FIELD("images") MIGRATE_FIELD("cost_nano") MIGRATE_FIELD(
                                "estimated") " || char(10), '')"
                                             " FROM usage GROUP BY started_ms / 60000;"
                                             "DROP TABLE usage;",
};

static enum rc migrate_exec(sqlite3 *db, const char *sql, struct err *err)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        return err_set(err, RC_IO, "metadata schema: %s", sqlite3_errmsg(db));
    }
    return RC_OK;
}

static enum rc migrate_version(sqlite3 *db, int *version, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &stmt, NULL) != SQLITE_OK ||
        sqlite3_step(stmt) != SQLITE_ROW) {
        sqlite3_finalize(stmt);
        return err_set(err, RC_IO, "metadata schema: %s", sqlite3_errmsg(db));
    }
    *version = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    return RC_OK;
}

static enum rc migrate_apply(sqlite3 *db, struct err *err)
{
    int version = 0;
    enum rc rc = migrate_version(db, &version, err);
    if (rc != RC_OK) {
        return rc;
    }
    int newest = (int)ARRAY_LEN(migrate_steps);
    if (version > newest) {
        return err_set(err, RC_UNSUPPORTED,
                       "the metadata has schema %d, this program knows %d: use a newer program",
                       version, newest);
    }
    for (int step = version; step < newest; step++) {
        char pragma[48];
        snprintf(pragma, sizeof(pragma), "PRAGMA user_version = %d", step + 1);
        rc = migrate_exec(db, migrate_steps[step], err);
        rc = rc == RC_OK ? migrate_exec(db, pragma, err) : rc;
        if (rc != RC_OK) {
            return rc;
        }
    }
    return RC_OK;
}

enum rc migrate_sqlite(sqlite3 *db, struct err *err)
{
    enum rc rc = migrate_exec(db, "BEGIN IMMEDIATE", err);
    if (rc != RC_OK) {
        return rc;
    }
    rc = migrate_apply(db, err);
    if (rc == RC_OK) {
        rc = migrate_exec(db, "COMMIT", err);
    }
    if (rc != RC_OK) {
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    }
    return rc;
}
