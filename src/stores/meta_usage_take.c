/* meta_usage_take.c: what the journal tells, into the tables (meta_usage.h), and what is too old
 * out of them. */
#include <stdio.h>

#include "base/assert.h"
#include "stores/meta_private.h"
#include "stores/meta_usage.h"
#include "stores/usage_sums.h"

enum { TAKE_FORGET_N = 16 }; /* pages, days or decisions deleted at once */

static enum rc take_step(struct meta *m, sqlite3_stmt *stmt, struct err *err)
{
    int step = sqlite3_step(stmt);
    sqlite3_reset(stmt);
    return step == SQLITE_DONE ? RC_OK : meta_fail(m, "store usage", err);
}

/* ---- days ---- */

struct take_days {
    struct meta *m;
    sqlite3_stmt *stmt;
    struct err *err;
};

static enum rc take_day(void *ctx, const struct meta_usage_sum *s)
{
    struct take_days *d = ctx;
    const int64_t numbers[] = {s->requests,      s->failed,        s->estimated,
                               s->duration_ms,   s->prompt_tokens, s->cached_tokens,
                               s->output_tokens, s->images,        s->cost_nano};
    for (int i = 0; i < META_USAGE_BY_N; i++) {
        meta_bind_str(d->stmt, i + 1, s->by[i]);
    }
    for (int i = 0; i < (int)ARRAY_LEN(numbers); i++) {
        sqlite3_bind_int64(d->stmt, META_USAGE_BY_N + i + 1, numbers[i]);
    }
    return take_step(d->m, d->stmt, d->err);
}

static enum rc take_days(struct meta *m, struct usage_sums *sums, struct err *err)
{
    struct take_days d = {.m = m, .err = err};
    enum rc rc = meta_prepare(
        m, &d.stmt,
        "INSERT INTO usage_days (day, key, user, project, model, upstream, status, requests,"
        " failed, estimated, duration_ms, prompt_tokens, cached_tokens, output_tokens, images,"
        " cost_nano) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,"
        " failed = failed + excluded.failed, estimated = estimated + excluded.estimated,"
        " duration_ms = duration_ms + excluded.duration_ms,"
        " prompt_tokens = prompt_tokens + excluded.prompt_tokens,"
        " cached_tokens = cached_tokens + excluded.cached_tokens,"
        " output_tokens = output_tokens + excluded.output_tokens,"
        " images = images + excluded.images,"
        /* Prices and counts may be absurd: past its end a sum stays there. */
        " cost_nano = min(cost_nano + excluded.cost_nano, 9223372036854775807)",
        err);
    rc = rc == RC_OK ? usage_sums_each(sums, UINT32_MAX, take_day, &d, err) : rc;
    sqlite3_finalize(d.stmt);
    return rc;
}

/* ---- pages, decisions, how far ---- */

static enum rc take_page(struct meta *m, const struct meta_usage_part *p, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(
        m, &stmt, "INSERT INTO usage_pages (from_ms, to_ms, n, lines) VALUES (?, ?, ?, ?)", err);
    if (rc == RC_OK) {
        sqlite3_bind_int64(stmt, 1, p->from_ms);
        sqlite3_bind_int64(stmt, 2, p->to_ms);
        sqlite3_bind_int64(stmt, 3, p->n_lines);
        meta_bind_str(stmt, 4, p->lines);
        rc = take_step(m, stmt, err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

static enum rc take_notes(struct meta *m, const struct meta_usage_part *p, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    char sql[128];
    enum rc rc = meta_prepare(m, &stmt,
                              "INSERT INTO decisions (id, request_id, body, at_ms) "
                              "VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                              err);
    for (uint32_t i = 0; rc == RC_OK && i < p->n_notes; i++) {
        meta_bind_str(stmt, 1, p->notes[i].id);
        meta_bind_str(stmt, 2, p->notes[i].request_id);
        meta_bind_str(stmt, 3, p->notes[i].body);
        sqlite3_bind_int64(stmt, 4, p->notes[i].at_ms);
        rc = take_step(m, stmt, err);
    }
    sqlite3_finalize(stmt);
    snprintf(sql, sizeof(sql),
             "DELETE FROM decisions WHERE n <= (SELECT max(n) FROM decisions) - %d",
             META_DECISIONS_MAX);
    return rc == RC_OK ? meta_exec(m, sql, "forget old decision records", err) : rc;
}

static enum rc take_upto(struct meta *m, const struct meta_usage_part *p, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(m, &stmt,
                              "INSERT INTO usage_files (run, file, upto) VALUES (?, ?, ?)"
                              " ON CONFLICT DO UPDATE SET upto = excluded.upto",
                              err);
    if (rc == RC_OK) {
        meta_bind_str(stmt, 1, p->run);
        sqlite3_bind_int64(stmt, 2, p->file);
        sqlite3_bind_int64(stmt, 3, (int64_t)p->upto);
        rc = take_step(m, stmt, err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

enum rc meta_usage_take(struct meta *m, const struct meta_usage_part *part, struct err *err)
{
    ASSERT(part->upto <= INT64_MAX);
    ASSERT(part->n_lines == 0 || part->from_ms <= part->to_ms);
    enum rc rc = meta_exec(m, "BEGIN IMMEDIATE", "store usage", err);
    if (rc != RC_OK) {
        return rc;
    }
    rc = take_upto(m, part, err);
    if (rc == RC_OK && part->n_lines > 0) {
        rc = take_page(m, part, err);
        rc = rc == RC_OK ? take_days(m, part->sums, err) : rc;
    }
    if (rc == RC_OK && part->n_notes > 0) {
        rc = take_notes(m, part, err);
    }
    rc = rc == RC_OK ? meta_exec(m, "COMMIT", "store usage", err) : rc;
    if (rc != RC_OK) {
        meta_rollback(m);
    }
    return rc;
}

enum rc meta_usage_taken(struct meta *m, struct str run, uint32_t file, uint64_t *upto,
                         struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    *upto = 0;
    enum rc rc =
        meta_prepare(m, &stmt, "SELECT upto FROM usage_files WHERE run = ? AND file = ?", err);
    if (rc != RC_OK) {
        return rc;
    }
    meta_bind_str(stmt, 1, run);
    sqlite3_bind_int64(stmt, 2, file);
    int step = sqlite3_step(stmt);
    int64_t n = step == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
    *upto = n > 0 ? (uint64_t)n : 0;
    rc = step == SQLITE_ROW || step == SQLITE_DONE ? RC_OK : meta_fail(m, "read usage", err);
    sqlite3_finalize(stmt);
    return rc;
}

enum rc meta_usage_forget_file(struct meta *m, struct str run, uint32_t file, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(
        m, &stmt, "DELETE FROM usage_files WHERE run = ?1 AND (file = ?2 OR ?2 = 0)", err);
    if (rc == RC_OK) {
        meta_bind_str(stmt, 1, run);
        sqlite3_bind_int64(stmt, 2, file);
        rc = take_step(m, stmt, err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

/* ---- what is too old ---- */

/* `sql` has one number, the time. */
static enum rc forget_some(struct meta *m, const char *sql, int64_t before_ms, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = before_ms > 0 ? meta_prepare(m, &stmt, sql, err) : RC_OK;
    if (stmt != NULL) {
        sqlite3_bind_int64(stmt, 1, before_ms);
        sqlite3_bind_int64(stmt, 2, TAKE_FORGET_N);
        rc = take_step(m, stmt, err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

enum rc meta_usage_forget(struct meta *m, int64_t records_ms, int64_t sums_ms, struct err *err)
{
    enum rc rc = forget_some(m,
                             "DELETE FROM usage_pages WHERE rowid IN (SELECT rowid FROM usage_pages"
                             " WHERE to_ms < ?1 ORDER BY to_ms LIMIT ?2)",
                             records_ms, err);
    rc = rc == RC_OK ? forget_some(m,
                                   "DELETE FROM decisions WHERE n IN (SELECT n FROM (SELECT n,"
                                   " at_ms FROM decisions ORDER BY n LIMIT ?2) WHERE at_ms < ?1)",
                                   records_ms, err)
                     : rc;
    return rc == RC_OK
               ? forget_some(m,
                             "DELETE FROM usage_days WHERE (day, key, user, project, model,"
                             " upstream, status) IN (SELECT day, key, user, project, model,"
                             " upstream, status FROM usage_days"
                             " WHERE day < date(?1 / 1000, 'unixepoch') ORDER BY day LIMIT ?2)",
                             sums_ms, err)
               : rc;
}
