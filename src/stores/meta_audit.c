/* meta_audit.c: the audit log's rows in the metadata store; what makes them a chain is auth/audit.
 */
#include "base/assert.h"
#include "stores/meta_private.h"

static enum rc audit_run(struct meta *m, sqlite3_stmt *stmt, struct err *err)
{
    enum rc rc =
        sqlite3_step(stmt) == SQLITE_DONE ? RC_OK : meta_fail(m, "write the audit log", err);
    sqlite3_finalize(stmt);
    return rc;
}

static enum rc audit_mac(sqlite3_stmt *stmt, int column, unsigned char out[META_AUDIT_MAC_BYTES],
                         struct err *err)
{
    if (sqlite3_column_bytes(stmt, column) != META_AUDIT_MAC_BYTES) {
        return err_set(err, RC_CORRUPT, "the audit log has a signature of the wrong size");
    }
    memcpy(out, sqlite3_column_blob(stmt, column), META_AUDIT_MAC_BYTES);
    return RC_OK;
}

enum rc meta_audit_head_get(struct meta *m, struct meta_audit_head *out, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(m, &stmt, "SELECT seq, mac, signature FROM audit_head", err);
    if (rc != RC_OK) {
        return rc;
    }
    int step = sqlite3_step(stmt);
    if (step == SQLITE_ROW) {
        out->seq = sqlite3_column_int64(stmt, 0);
        rc = audit_mac(stmt, 1, out->mac, err);
        rc = rc == RC_OK ? audit_mac(stmt, 2, out->signature, err) : rc;
    } else if (step == SQLITE_DONE) {
        rc = err_set(err, RC_NOT_FOUND, "there is no audit log yet");
    } else {
        rc = meta_fail(m, "read the audit log", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

enum rc meta_audit_add(struct meta *m, const struct meta_audit *entry,
                       const struct meta_audit_head *head, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    ASSERT(meta_is_in_transaction(m));
    ASSERT(entry->seq == head->seq);
    const struct str texts[] = {entry->who,    entry->what,   entry->object,
                                entry->source, entry->before, entry->after};
    enum rc rc =
        meta_prepare(m, &stmt, "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", err);
    if (rc != RC_OK) {
        return rc;
    }
    sqlite3_bind_int64(stmt, 1, entry->seq);
    sqlite3_bind_int64(stmt, 2, entry->time_ms);
    for (int i = 0; i < (int)ARRAY_LEN(texts); i++) {
        meta_bind_str(stmt, 3 + i, texts[i]);
    }
    sqlite3_bind_blob(stmt, 9, entry->mac, META_AUDIT_MAC_BYTES, SQLITE_STATIC);
    rc = audit_run(m, stmt, err);
    rc = rc == RC_OK ? meta_prepare(m, &stmt, "REPLACE INTO audit_head VALUES (1, ?, ?, ?)", err)
                     : rc;
    if (rc != RC_OK) {
        return rc;
    }
    sqlite3_bind_int64(stmt, 1, head->seq);
    sqlite3_bind_blob(stmt, 2, head->mac, META_AUDIT_MAC_BYTES, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 3, head->signature, META_AUDIT_MAC_BYTES, SQLITE_STATIC);
    return audit_run(m, stmt, err);
}

enum rc meta_audit_each(struct meta *m, const struct meta_audit_walk *walk,
                        enum rc (*each)(void *ctx, const struct meta_audit *entry), void *ctx,
                        struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(
        m, &stmt,
        walk->backwards ? "SELECT seq, time_ms, mac, who, what, object, source, before, after"
                          " FROM audit WHERE seq <= ? ORDER BY seq DESC"
                        : "SELECT seq, time_ms, mac, who, what, object, source, before, after"
                          " FROM audit WHERE seq >= ? ORDER BY seq",
        err);
    int step = SQLITE_DONE;
    if (rc == RC_OK) {
        sqlite3_bind_int64(stmt, 1, walk->from);
    }
    while (rc == RC_OK && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct meta_audit e = {.seq = sqlite3_column_int64(stmt, 0),
                               .time_ms = sqlite3_column_int64(stmt, 1)};
        rc = audit_mac(stmt, 2, e.mac, err);
        struct str *const texts[] = {&e.who, &e.what, &e.object, &e.source, &e.before, &e.after};
        for (int i = 0; i < (int)ARRAY_LEN(texts); i++) {
            *texts[i] = meta_column_str(stmt, 3 + i);
        }
        rc = rc == RC_OK ? each(ctx, &e) : rc;
    }
    if (rc == RC_OK && step != SQLITE_DONE) {
        rc = meta_fail(m, "read the audit log", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}
