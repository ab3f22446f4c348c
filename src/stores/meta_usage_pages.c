/* meta_usage_pages.c: see meta_usage_pages.h; and the list of the newest records, made of it.
 *
 * A page holds what ended within a second or so, but a record's time is its beginning: pages
 * overlap. The list keeps the newest so far and ends before the first page that has none of them.
 */
#include "stores/meta_usage_pages.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "stores/meta_private.h"
#include "stores/usage_line.h"

/* ---- pages ---- */

static bool pages_fits(const struct meta_usage_query *q, int64_t to_ms, const struct meta_usage *u)
{
    const struct str *const wanted[] = {&q->key,      &q->user,   &q->project,   &q->model,
                                        &q->upstream, &q->status, &q->request_id};
    const struct str *const is[] = {&u->key,      &u->user,   &u->project,   &u->model,
                                    &u->upstream, &u->status, &u->request_id};
    bool fits = u->started_ms >= q->from_ms && u->started_ms < to_ms;
    for (size_t i = 0; fits && i < ARRAY_LEN(wanted); i++) {
        fits = wanted[i]->len == 0 || str_eq(*wanted[i], *is[i]);
    }
    return fits;
}

static enum rc pages_lines(struct str lines, const struct meta_usage_query *q, int64_t to_ms,
                           enum rc (*each)(void *ctx, const struct meta_usage *u), void *ctx)
{
    enum rc rc = RC_OK;
    if (str_find(lines, q->request_id) == lines.len) {
        return RC_OK; /* most pages, when one request is looked for */
    }
    while (rc == RC_OK && lines.len > 0) {
        struct usage_line line;
        struct str text = str_cut(&lines, '\n');
        if (usage_line_read_body(text, &line) && pages_fits(q, to_ms, &line.row)) {
            rc = each(ctx, &line.row);
        }
    }
    return rc;
}

enum rc meta_usage_scan(struct meta *m, const struct meta_usage_query *q, const int64_t *oldest_ms,
                        enum rc (*each)(void *ctx, const struct meta_usage *u), void *ctx,
                        struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int64_t to_ms = q->to_ms > 0 ? q->to_ms : INT64_MAX;
    int step = SQLITE_DONE;
    enum rc rc =
        meta_prepare(m, &stmt,
                     "SELECT to_ms, lines FROM usage_pages WHERE to_ms >= ? AND from_ms < ?"
                     " ORDER BY to_ms DESC",
                     err);
    if (rc != RC_OK) {
        return rc;
    }
    sqlite3_bind_int64(stmt, 1, q->from_ms);
    sqlite3_bind_int64(stmt, 2, to_ms);
    while (rc == RC_OK && (step = sqlite3_step(stmt)) == SQLITE_ROW &&
           sqlite3_column_int64(stmt, 0) >= *oldest_ms) {
        rc = pages_lines(meta_column_str(stmt, 1), q, to_ms, each, ctx);
    }
    if (rc == RC_OK && step != SQLITE_DONE && step != SQLITE_ROW) {
        rc = meta_fail(m, "read usage", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

/* ---- the newest ---- */

struct pages_row {
    int64_t started_ms;
    char *line; /* owned: its body, as in a page */
    uint32_t bytes;
};

struct pages_newest {
    struct pages_row *rows; /* of 2 * n_max: sorted, and cut to n_max, when full or half full */
    uint32_t n, n_max;
    int64_t oldest_ms; /* of those that count, once there are n_max */
    struct buf line;
};

/* The newest first; of those that began together, the last one that ended. */
static int pages_order(const void *a, const void *b)
{
    const struct pages_row *x = a, *y = b;
    int by_time = (x->started_ms < y->started_ms) - (x->started_ms > y->started_ms);
    if (by_time != 0) {
        return by_time;
    }
    int by_line = memcmp(y->line, x->line, MIN(x->bytes, y->bytes));
    return by_line != 0 ? by_line : (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static void pages_cut(struct pages_newest *p)
{
    qsort(p->rows, p->n, sizeof(*p->rows), pages_order);
    while (p->n > p->n_max) {
        mem_free(p->rows[--p->n].line);
    }
    p->oldest_ms = p->n == p->n_max ? p->rows[p->n - 1].started_ms : INT64_MIN;
}

static enum rc pages_note(void *ctx, const struct meta_usage *u)
{
    struct pages_newest *p = ctx;
    const struct usage_line line = {.kind = USAGE_DONE, .row = *u};
    if (u->started_ms < p->oldest_ms) {
        return RC_OK;
    }
    buf_reset(&p->line);
    usage_line_write(&p->line, &line);
    struct str body = usage_line_body(buf_str(&p->line));
    body.len -= body.len > 0 ? 1 : 0; /* its LF */
    char *copy = mem_try_alloc(body.len + 1);
    if (copy == NULL || !buf_ok(&p->line)) {
        mem_free(copy);
        return RC_NOMEM;
    }
    (void)str_copy(copy, body.len + 1, body);
    p->rows[p->n++] = (struct pages_row){u->started_ms, copy, (uint32_t)body.len};
    if (p->n == p->n_max || p->n == 2 * p->n_max) {
        pages_cut(p);
    }
    return RC_OK;
}

static enum rc pages_tell(const struct pages_newest *p,
                          enum rc (*each)(void *ctx, const struct meta_usage *u), void *ctx)
{
    enum rc rc = RC_OK;
    for (uint32_t i = 0; rc == RC_OK && i < p->n; i++) {
        struct usage_line line;
        bool whole = usage_line_read_body(str_make(p->rows[i].line, p->rows[i].bytes), &line);
        ASSERT(whole);
        rc = each(ctx, &line.row);
    }
    return rc;
}

enum rc meta_usage_each(struct meta *m, const struct meta_usage_query *q,
                        enum rc (*each)(void *ctx, const struct meta_usage *u), void *ctx,
                        struct err *err)
{
    struct pages_newest p = {.n_max = q->rows_max > 0 ? q->rows_max : META_USAGE_ROWS_MAX,
                             .oldest_ms = INT64_MIN};
    ASSERT(p.n_max <= META_USAGE_ROWS_MAX);
    p.rows = mem_try_zalloc_array((size_t)2 * p.n_max, sizeof(*p.rows));
    buf_init(&p.line, USAGE_LINE_BYTES_MAX + 1);
    enum rc rc =
        p.rows == NULL ? RC_NOMEM : meta_usage_scan(m, q, &p.oldest_ms, pages_note, &p, err);
    rc = rc == RC_NOMEM ? err_set(err, rc, "usage: out of memory") : rc;
    pages_cut(&p);
    rc = rc == RC_OK ? pages_tell(&p, each, ctx) : rc;
    for (uint32_t i = 0; i < p.n; i++) {
        mem_free(p.rows[i].line);
    }
    buf_deinit(&p.line);
    mem_free(p.rows);
    return rc;
}
