/* meta_private.h: what the files of the SQLite metadata store share. */
#ifndef STORES_META_PRIVATE_H
#define STORES_META_PRIVATE_H

#include <sqlite3.h>

#include "stores/meta.h"

struct meta {
    sqlite3 *db;
};

/* The connection's last failure as an error: "metadata: cannot <what>: …". */
enum rc meta_fail(struct meta *m, const char *what, struct err *err);
RC meta_prepare(struct meta *m, sqlite3_stmt **stmt, const char *sql, struct err *err);
void meta_column_text(sqlite3_stmt *stmt, int column, char *out, size_t bytes);
static inline void meta_bind_str(sqlite3_stmt *stmt, int at, struct str s)
{
    sqlite3_bind_text(stmt, at, s.ptr != NULL ? s.ptr : "", (int)s.len, SQLITE_STATIC);
}
static inline struct str meta_column_str(sqlite3_stmt *stmt, int column)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    return str_make(text != NULL ? text : "", (size_t)sqlite3_column_bytes(stmt, column));
}
RC meta_exec(struct meta *m, const char *sql, const char *what, struct err *err);

#endif
