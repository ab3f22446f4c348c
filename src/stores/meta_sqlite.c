/* meta_sqlite.c: the metadata store on SQLite.
 *
 * WAL, so that readers never wait for the writer; synchronous=FULL, because a key that was shown
 * to its owner must survive a power cut; busy timeout instead of retries of our own. */
#include "stores/meta.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "stores/meta_private.h"
#include "stores/migrate.h"

enum { META_BUSY_MS = 5000, META_RETRY_MS = 10 };

enum rc meta_fail(struct meta *m, const char *what, struct err *err)
{
    int code = sqlite3_extended_errcode(m->db);
    enum rc rc = RC_IO;
    if ((code & 0xFF) == SQLITE_FULL) { /* nothing is wrong with the store: its owner is told */
        return err_set(err, RC_UNAVAILABLE, "metadata: cannot %s: the disk is full", what);
    }
    if (code == SQLITE_CONSTRAINT_PRIMARYKEY || code == SQLITE_CONSTRAINT_UNIQUE) {
        rc = RC_CONFLICT;
    } else if ((code & 0xFF) == SQLITE_CORRUPT || (code & 0xFF) == SQLITE_NOTADB) {
        rc = RC_CORRUPT;
    }
    return err_set(err, rc, "metadata: cannot %s: %s", what, sqlite3_errmsg(m->db));
}

enum rc meta_prepare(struct meta *m, sqlite3_stmt **stmt, const char *sql, struct err *err)
{
    if (sqlite3_prepare_v2(m->db, sql, -1, stmt, NULL) != SQLITE_OK) {
        return meta_fail(m, "prepare a statement", err);
    }
    return RC_OK;
}

enum rc meta_exec(struct meta *m, const char *sql, const char *what, struct err *err)
{
    return sqlite3_exec(m->db, sql, NULL, NULL, NULL) == SQLITE_OK ? RC_OK
                                                                   : meta_fail(m, what, err);
}

/* ---- opening ---- */

static enum rc meta_setup(struct meta *m, struct err *err)
{
    static const char *const pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                                       "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;";
    sqlite3_busy_timeout(m->db, META_BUSY_MS);
    /* Turning a new file to WAL does not wait for others that do the same: tried again here. */
    int code = sqlite3_exec(m->db, pragmas, NULL, NULL, NULL);
    for (int waited = 0; code == SQLITE_BUSY && waited < META_BUSY_MS; waited += META_RETRY_MS) {
        usleep(META_RETRY_MS * 1000);
        code = sqlite3_exec(m->db, pragmas, NULL, NULL, NULL);
    }
    if (code != SQLITE_OK) {
        return meta_fail(m, "set up", err);
    }
    return migrate_sqlite(m->db, err);
}

enum rc meta_open(struct meta **out, const char *path, struct err *err)
{
    *out = NULL;
    /* Created here first, so that the file is never readable by others, not for a moment. One that
     * is there is not touched: closing it would take the locks away that this process's other
     * connections have on it (fcntl), and the next program to close the store would remove the
     * log under their feet. */
    if (str_from(path).ptr[0] != ':') {
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno != EEXIST) {
            return err_set(err, RC_IO, "metadata: cannot open %s: %m", path);
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    struct meta *m = mem_zalloc(sizeof(*m));
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    enum rc rc = RC_OK;
    if (sqlite3_open_v2(path, &m->db, flags, NULL) != SQLITE_OK) {
        rc = err_set(err, RC_IO, "metadata: cannot open %s: %s", path, sqlite3_errmsg(m->db));
    } else {
        rc = meta_setup(m, err);
        if (rc != RC_OK) {
            err_context(err, "%s", path);
        }
    }
    if (rc != RC_OK) {
        meta_close(m);
        return rc;
    }
    *out = m;
    return RC_OK;
}

void meta_close(struct meta *m)
{
    if (m != NULL) {
        sqlite3_close(m->db);
        mem_free(m);
    }
}

/* ---- transactions ---- */

enum rc meta_begin(struct meta *m, struct err *err)
{
    return meta_exec(m, "BEGIN IMMEDIATE", "begin a change", err);
}

enum rc meta_begin_read(struct meta *m, struct err *err)
{
    return meta_exec(m, "BEGIN", "begin reading", err);
}

enum rc meta_commit(struct meta *m, struct err *err)
{
    return meta_exec(m, "COMMIT", "write a change", err);
}

void meta_rollback(struct meta *m)
{
    if (meta_is_in_transaction(m)) {
        (void)!meta_exec(m, "ROLLBACK", "take a change back", NULL);
    }
}

bool meta_is_in_transaction(const struct meta *m)
{
    return sqlite3_get_autocommit(m->db) == 0;
}

static enum rc meta_number(struct meta *m, const char *sql, int64_t *out, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(m, &stmt, sql, err);
    if (rc == RC_OK) {
        if (sqlite3_step(stmt) == SQLITE_ROW) {
            *out = sqlite3_column_int64(stmt, 0);
        } else {
            rc = meta_fail(m, "read its version", err);
        }
    }
    sqlite3_finalize(stmt);
    return rc;
}

enum rc meta_data_version(struct meta *m, int64_t *out, struct err *err)
{
    return meta_number(m, "PRAGMA data_version", out, err);
}

enum rc meta_revision(struct meta *m, int64_t *out, struct err *err)
{
    return meta_number(m, "SELECT n FROM revision", out, err);
}

/* ---- settings ---- */

enum rc meta_setting_get(struct meta *m, const char *name, struct buf *out, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(m, &stmt, "SELECT value FROM settings WHERE name = ?", err);
    if (rc != RC_OK) {
        return rc;
    }
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    int step = sqlite3_step(stmt);
    if (step == SQLITE_ROW) {
        buf_add(out, sqlite3_column_blob(stmt, 0), (size_t)sqlite3_column_bytes(stmt, 0));
        rc = buf_ok(out) ? RC_OK : err_set(err, RC_TOO_LARGE, "setting %s is too large", name);
    } else if (step == SQLITE_DONE) {
        rc = err_set(err, RC_NOT_FOUND, "setting %s does not exist", name);
    } else {
        rc = meta_fail(m, "read a setting", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

enum rc meta_setting_put_new(struct meta *m, const char *name, struct str value, bool *stored,
                             struct err *err)
{
    ASSERT(value.len <= META_VALUE_BYTES_MAX);
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(
        m, &stmt, "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", err);
    if (rc != RC_OK) {
        return rc;
    }
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 2, value.ptr, (int)value.len, SQLITE_STATIC);
    if (sqlite3_step(stmt) != SQLITE_DONE) {
        rc = meta_fail(m, "write a setting", err);
    }
    sqlite3_finalize(stmt);
    *stored = rc == RC_OK && sqlite3_changes(m->db) == 1;
    return rc;
}

/* ---- keys ---- */

#define META_KEY_COLUMNS                                                                           \
    "id, name, role, hint, hash, created_s, expires_s, revoked_s, project, user, scopes, limits, " \
    "last_used_s"
#define META_KEY_PLACES "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"

static void meta_key_bind(sqlite3_stmt *stmt, const struct meta_key *key)
{
    sqlite3_bind_text(stmt, 1, key->id, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, key->name, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 3, key->role, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 4, key->hint, -1, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 5, key->hash, META_KEY_HASH_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 6, key->created_s);
    sqlite3_bind_int64(stmt, 7, key->expires_s);
    sqlite3_bind_int64(stmt, 8, key->revoked_s);
    sqlite3_bind_text(stmt, 9, key->project, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 10, key->user, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 11, key->scopes, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 12, key->limits, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 13, key->last_used_s);
}

static enum rc meta_key_write(struct meta *m, const char *sql, const struct meta_key *key,
                              struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(m, &stmt, sql, err);
    if (rc != RC_OK) {
        return rc;
    }
    meta_key_bind(stmt, key);
    if (sqlite3_step(stmt) != SQLITE_DONE) {
        rc = meta_fail(m, "store a key", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

enum rc meta_key_insert(struct meta *m, const struct meta_key *key, struct err *err)
{
    return meta_key_write(m, "INSERT INTO keys (" META_KEY_COLUMNS ") VALUES (" META_KEY_PLACES ")",
                          key, err);
}

enum rc meta_key_insert_first(struct meta *m, const struct meta_key *key, bool *stored,
                              struct err *err)
{
    /* One statement, so one write lock: the emptiness seen is the emptiness written into. */
    enum rc rc = meta_key_write(m,
                                "INSERT INTO keys (" META_KEY_COLUMNS ") "
                                "SELECT " META_KEY_PLACES " "
                                "WHERE NOT EXISTS (SELECT 1 FROM keys)",
                                key, err);
    *stored = rc == RC_OK && sqlite3_changes(m->db) == 1;
    return rc;
}

void meta_column_text(sqlite3_stmt *stmt, int column, char *out, size_t bytes)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    str_copy(out, bytes, str_make(text, (size_t)sqlite3_column_bytes(stmt, column)));
}

static enum rc meta_key_read(sqlite3_stmt *stmt, struct meta_key *key, struct err *err)
{
    *key = (struct meta_key){0};
    meta_column_text(stmt, 0, key->id, sizeof(key->id));
    meta_column_text(stmt, 1, key->name, sizeof(key->name));
    meta_column_text(stmt, 2, key->role, sizeof(key->role));
    meta_column_text(stmt, 3, key->hint, sizeof(key->hint));
    if (sqlite3_column_bytes(stmt, 4) != META_KEY_HASH_BYTES) {
        return err_set(err, RC_CORRUPT, "metadata: key %s has a hash of the wrong size", key->id);
    }
    memcpy(key->hash, sqlite3_column_blob(stmt, 4), META_KEY_HASH_BYTES);
    key->created_s = sqlite3_column_int64(stmt, 5);
    key->expires_s = sqlite3_column_int64(stmt, 6);
    key->revoked_s = sqlite3_column_int64(stmt, 7);
    meta_column_text(stmt, 8, key->project, sizeof(key->project));
    meta_column_text(stmt, 9, key->user, sizeof(key->user));
    meta_column_text(stmt, 10, key->scopes, sizeof(key->scopes));
    meta_column_text(stmt, 11, key->limits, sizeof(key->limits));
    key->last_used_s = sqlite3_column_int64(stmt, 12);
    return RC_OK;
}

enum rc meta_key_each(struct meta *m, enum rc (*each)(void *ctx, const struct meta_key *key),
                      void *ctx, struct err *err)
{
    return meta_key_each_after(m, "", each, ctx, err);
}

enum rc meta_key_each_after(struct meta *m, const char *after,
                            enum rc (*each)(void *ctx, const struct meta_key *key), void *ctx,
                            struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc =
        meta_prepare(m, &stmt,
                     "SELECT " META_KEY_COLUMNS " FROM keys WHERE ?1 = '' OR (created_s, id)"
                     " > (SELECT created_s, id FROM keys WHERE id = ?1)"
                     " ORDER BY created_s, id",
                     err);
    int step = SQLITE_DONE;
    if (rc == RC_OK) {
        sqlite3_bind_text(stmt, 1, after, -1, SQLITE_STATIC);
    }
    while (rc == RC_OK && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct meta_key key;
        rc = meta_key_read(stmt, &key, err);
        rc = rc == RC_OK ? each(ctx, &key) : rc;
    }
    if (rc == RC_OK && step != SQLITE_DONE) {
        rc = meta_fail(m, "read keys", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

enum rc meta_key_get(struct meta *m, const char *id, struct meta_key *out, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(m, &stmt, "SELECT " META_KEY_COLUMNS " FROM keys WHERE id = ?", err);
    if (rc != RC_OK) {
        return rc;
    }
    sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
    int step = sqlite3_step(stmt);
    if (step == SQLITE_ROW) {
        rc = meta_key_read(stmt, out, err);
    } else if (step == SQLITE_DONE) {
        rc = err_set(err, RC_NOT_FOUND, "there is no key %s", id);
    } else {
        rc = meta_fail(m, "read a key", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

enum rc meta_key_update(struct meta *m, const struct meta_key *key, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(m, &stmt,
                              "UPDATE keys SET name = ?, scopes = ?, limits = ?, expires_s = ?"
                              " WHERE id = ? AND revoked_s = 0",
                              err);
    if (rc != RC_OK) {
        return rc;
    }
    sqlite3_bind_text(stmt, 1, key->name, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, key->scopes, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 3, key->limits, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 4, key->expires_s);
    sqlite3_bind_text(stmt, 5, key->id, -1, SQLITE_STATIC);
    if (sqlite3_step(stmt) != SQLITE_DONE) {
        rc = meta_fail(m, "change a key", err);
    } else if (sqlite3_changes(m->db) == 0) {
        rc = err_set(err, RC_NOT_FOUND, "there is no valid key %s", key->id);
    }
    sqlite3_finalize(stmt);
    return rc;
}

enum rc meta_key_delete(struct meta *m, const char *id, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(m, &stmt, "DELETE FROM keys WHERE id = ?", err);
    if (rc != RC_OK) {
        return rc;
    }
    sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
    if (sqlite3_step(stmt) != SQLITE_DONE) {
        rc = meta_fail(m, "delete a key", err);
    } else if (sqlite3_changes(m->db) == 0) {
        rc = err_set(err, RC_NOT_FOUND, "there is no key %s", id);
    }
    sqlite3_finalize(stmt);
    return rc;
}

/* `sql` has a time and an id. */
static enum rc meta_key_set_time(struct meta *m, const char *sql, int64_t time_s, const char *id,
                                 struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(m, &stmt, sql, err);
    if (rc != RC_OK) {
        return rc;
    }
    sqlite3_bind_int64(stmt, 1, time_s);
    sqlite3_bind_text(stmt, 2, id, -1, SQLITE_STATIC);
    if (sqlite3_step(stmt) != SQLITE_DONE) {
        rc = meta_fail(m, "change a key", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

static enum rc meta_key_changed(struct meta *m, enum rc rc, const char *id, struct err *err)
{
    if (rc == RC_OK && sqlite3_changes(m->db) == 0) {
        return err_set(err, RC_NOT_FOUND, "there is no valid key %s", id);
    }
    return rc;
}

enum rc meta_key_revoke(struct meta *m, const char *id, int64_t now_s, struct err *err)
{
    enum rc rc = meta_key_set_time(
        m, "UPDATE keys SET revoked_s = ? WHERE id = ? AND revoked_s = 0", now_s, id, err);
    return meta_key_changed(m, rc, id, err);
}

enum rc meta_key_expire(struct meta *m, const char *id, int64_t at_s, struct err *err)
{
    enum rc rc = meta_key_set_time(
        m, "UPDATE keys SET expires_s = ? WHERE id = ? AND revoked_s = 0", at_s, id, err);
    return meta_key_changed(m, rc, id, err);
}

enum rc meta_key_touch(struct meta *m, const char *id, int64_t now_s, struct err *err)
{
    return meta_key_set_time(m, "UPDATE keys SET last_used_s = max(last_used_s, ?) WHERE id = ?",
                             now_s, id, err);
}
