/* meta_usage.c: see meta_usage.h. Statements are put together from the fixed texts below only;
 * every value is bound. */
#include "stores/meta_usage.h"

#include <stdio.h>
#include <time.h>

#include "base/assert.h"
#include "base/conf.h"
#include "stores/meta_private.h"
#include "stores/meta_usage_pages.h"
#include "stores/usage_sums.h"

enum { USAGE_SQL_BYTES_MAX = 4096, USAGE_FILTERS_N = 7, USAGE_DAY_MS = 86400000 };

static const char *const usage_bys[META_USAGE_BY_N] = {"day",   "key",      "user",  "project",
                                                       "model", "upstream", "status"};

const char *meta_usage_by_name(uint32_t i)
{
    ASSERT(i < META_USAGE_BY_N);
    return usage_bys[i];
}

/* ---- what is asked for ---- */

/* "2026-11-23" as the second at which that day begins. */
static bool usage_day(struct str s, int64_t *out)
{
    struct str rest = s;
    uint64_t y = 0, m = 0, d = 0;
    if (s.len != 10 || !str_to_u64(str_cut(&rest, '-'), &y) ||
        !str_to_u64(str_cut(&rest, '-'), &m) || !str_to_u64(rest, &d)) {
        return false;
    }
    struct tm tm = {.tm_year = (int)y - 1900, .tm_mon = (int)m - 1, .tm_mday = (int)d};
    struct tm back = {0};
    time_t at = timegm(&tm);
    *out = at;
    return gmtime_r(&at, &back) != NULL && back.tm_mday == (int)d && back.tm_mon == (int)m - 1;
}

static enum rc usage_time(const char *name, struct str value, bool is_end, int64_t *out,
                          struct err *err)
{
    int64_t s = 0;
    bool day = usage_day(value, &s);
    if (!day && (!str_to_i64(value, &s) || s < 0 || s > INT64_MAX / 2000)) {
        return err_set_param(err, RC_INVALID, name,
                             "%s '%.*s': expected a day such as 2026-11-23, or seconds since 1970",
                             name, (int)MIN(value.len, (size_t)40), value.ptr);
    }
    *out = (s + (day && is_end ? 86400 : 0)) * 1000;
    return RC_OK;
}

static enum rc usage_by(struct str value, uint32_t *by, struct err *err)
{
    *by = 0;
    while (value.len > 0) {
        struct str word = str_trim(str_cut(&value, ','));
        uint32_t i = 0;
        while (i < META_USAGE_BY_N && !str_is(word, usage_bys[i])) {
            i++;
        }
        if (i == META_USAGE_BY_N) {
            return err_set_param(
                err, RC_INVALID, "by",
                "by '%.*s': expected day, key, user, project, model, upstream or status",
                (int)MIN(word.len, (size_t)40), word.ptr);
        }
        *by |= 1u << i;
    }
    return RC_OK;
}

struct str *meta_usage_filter(struct meta_usage_query *q, uint32_t i, const char **name)
{
    static const char *const names[USAGE_FILTERS_N] = {"key",      "user",   "project",   "model",
                                                       "upstream", "status", "request_id"};
    struct str *const filters[USAGE_FILTERS_N] = {
        &q->key, &q->user, &q->project, &q->model, &q->upstream, &q->status, &q->request_id};
    *name = i < USAGE_FILTERS_N ? names[i] : NULL;
    return i < USAGE_FILTERS_N ? filters[i] : NULL;
}

enum rc meta_usage_query_set(struct meta_usage_query *q, const char *name, struct str value,
                             struct err *err)
{
    const struct str key = str_from(name);
    const char *known = NULL;
    uint64_t rows = 0;
    for (uint32_t i = 0; i < USAGE_FILTERS_N; i++) {
        struct str *filter = meta_usage_filter(q, i, &known);
        if (str_is(key, known)) {
            *filter = value;
            return RC_OK;
        }
    }
    if (str_is(key, "from")) {
        return usage_time(name, value, false, &q->from_ms, err);
    }
    if (str_is(key, "to")) {
        return usage_time(name, value, true, &q->to_ms, err);
    }
    if (str_is(key, "by")) {
        return usage_by(value, &q->by, err);
    }
    if (!str_is(key, "limit")) {
        return err_set_param(err, RC_UNKNOWN_PARAM, name, "there is no filter '%s'", name);
    }
    if (!str_to_u64(value, &rows) || rows == 0 || rows > META_USAGE_ROWS_MAX) {
        return err_set_param(err, RC_INVALID, name, "limit: expected a number from 1 to %d",
                             META_USAGE_ROWS_MAX);
    }
    q->rows_max = (uint32_t)rows;
    return RC_OK;
}

/* ---- sums ---- */

/* Whole days [from_ms, to_ms) out of their own table; to_ms 0 = no end. */
static void usage_days_where(struct buf *sql, const struct meta_usage_query *q)
{
    struct meta_usage_query copy = *q;
    const char *name = NULL;
    buf_add_cstr(sql, " FROM usage_days WHERE day >= date(?1 / 1000, 'unixepoch')");
    if (q->to_ms > 0) {
        buf_add_cstr(sql, " AND day < date(?2 / 1000, 'unixepoch')");
    }
    for (uint32_t i = 0; i < USAGE_FILTERS_N; i++) {
        if (meta_usage_filter(&copy, i, &name)->len > 0) {
            buf_add_printf(sql, " AND %s = ?%u", name, i + 3);
        }
    }
}

static enum rc usage_days_prepare(struct meta *m, sqlite3_stmt **stmt,
                                  const struct meta_usage_query *q, struct err *err)
{
    struct meta_usage_query copy = *q;
    const char *name = NULL;
    struct buf sql;
    buf_init(&sql, USAGE_SQL_BYTES_MAX);
    buf_add_cstr(&sql, "SELECT ");
    for (uint32_t i = 0; i < META_USAGE_BY_N; i++) {
        buf_add_printf(&sql, "%s, ", (q->by & 1u << i) != 0 ? usage_bys[i] : "''");
    }
    buf_add_cstr(&sql, "requests, failed, estimated, duration_ms, prompt_tokens, cached_tokens, "
                       "output_tokens, images, cost_nano");
    usage_days_where(&sql, q);
    ASSERT(buf_ok(&sql));
    enum rc rc = meta_prepare(m, stmt, sql.ptr, err);
    buf_deinit(&sql);
    if (rc != RC_OK) {
        return rc;
    }
    sqlite3_bind_int64(*stmt, 1, q->from_ms);
    if (q->to_ms > 0) {
        sqlite3_bind_int64(*stmt, 2, q->to_ms);
    }
    for (uint32_t i = 0; i < USAGE_FILTERS_N; i++) {
        const struct str *filter = meta_usage_filter(&copy, i, &name);
        if (filter->len > 0) {
            meta_bind_str(*stmt, (int)i + 3, *filter);
        }
    }
    return RC_OK;
}

static void usage_days_read(sqlite3_stmt *stmt, struct meta_usage_sum *sum)
{
    int64_t *const numbers[] = {&sum->requests,      &sum->failed,        &sum->estimated,
                                &sum->duration_ms,   &sum->prompt_tokens, &sum->cached_tokens,
                                &sum->output_tokens, &sum->images,        &sum->cost_nano};
    for (int i = 0; i < META_USAGE_BY_N; i++) {
        sum->by[i] = meta_column_str(stmt, i);
    }
    for (int i = 0; i < (int)ARRAY_LEN(numbers); i++) {
        *numbers[i] = sqlite3_column_int64(stmt, META_USAGE_BY_N + i);
    }
}

static enum rc usage_sum_days(struct meta *m, const struct meta_usage_query *q,
                              struct usage_sums *sums, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int step = SQLITE_DONE;
    enum rc rc = usage_days_prepare(m, &stmt, q, err);
    while (rc == RC_OK && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct meta_usage_sum sum = {0};
        usage_days_read(stmt, &sum);
        rc = usage_sums_add(sums, &sum, err);
    }
    if (rc == RC_OK && step != SQLITE_DONE) {
        rc = meta_fail(m, "read usage", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

struct usage_part {
    struct usage_sums *sums;
    struct err *err;
};

static enum rc usage_part_add(void *ctx, const struct meta_usage *u)
{
    const struct usage_part *p = ctx;
    return usage_sums_add_row(p->sums, u, p->err);
}

/* A part of a day, out of single records; to_ms 0 = no end. */
static enum rc usage_sum_part(struct meta *m, struct meta_usage_query q, struct usage_sums *sums,
                              struct err *err)
{
    struct usage_part part = {sums, err};
    const int64_t oldest_ms = INT64_MIN;
    return q.to_ms > 0 && q.to_ms <= q.from_ms
               ? RC_OK
               : meta_usage_scan(m, &q, &oldest_ms, usage_part_add, &part, err);
}

static enum rc usage_sum_all(struct meta *m, const struct meta_usage_query *q,
                             struct usage_sums *sums, struct err *err)
{
    struct meta_usage_query days = *q, before = *q, after = *q;
    days.from_ms = (q->from_ms + USAGE_DAY_MS - 1) / USAGE_DAY_MS * USAGE_DAY_MS;
    days.to_ms = q->to_ms / USAGE_DAY_MS * USAGE_DAY_MS;
    if (q->request_id.len > 0 || (q->to_ms > 0 && days.to_ms <= days.from_ms)) {
        return usage_sum_part(m, *q, sums, err); /* no whole day, or more than days know */
    }
    before.to_ms = days.from_ms;
    after.from_ms = days.to_ms;
    enum rc rc = usage_sum_days(m, &days, sums, err);
    if (rc == RC_OK && before.from_ms < before.to_ms) {
        rc = usage_sum_part(m, before, sums, err);
    }
    return rc == RC_OK && q->to_ms > after.from_ms ? usage_sum_part(m, after, sums, err) : rc;
}

enum rc meta_usage_sum(struct meta *m, const struct meta_usage_query *q,
                       enum rc (*each)(void *ctx, const struct meta_usage_sum *sum), void *ctx,
                       struct err *err)
{
    struct usage_sums sums;
    uint32_t rows_max = q->rows_max > 0 ? q->rows_max : META_USAGE_ROWS_MAX;
    usage_sums_init(&sums, q->by);
    enum rc rc = usage_sum_all(m, q, &sums, err);
    rc = rc == RC_OK ? usage_sums_each(&sums, rows_max, each, ctx, err) : rc;
    usage_sums_deinit(&sums);
    return rc;
}

/* ---- as JSON ---- */

static void usage_write_money(struct json_writer *w, int64_t nano)
{
    struct buf text;
    buf_init(&text, 64);
    conf_money_write(&text, MAX(nano, (int64_t)0));
    json_write_name(w, "cost");
    json_write_raw(w, buf_str(&text));
    json_write_member_i64(w, "cost_nano", nano);
    buf_deinit(&text);
}

void meta_usage_sum_write(struct json_writer *w, const struct meta_usage_sum *sum, uint32_t by)
{
    for (uint32_t i = 0; i < META_USAGE_BY_N; i++) {
        if ((by & 1u << i) != 0) {
            json_write_member_str(w, usage_bys[i], sum->by[i]);
        }
    }
    json_write_member_i64(w, "requests", sum->requests);
    json_write_member_i64(w, "failed", sum->failed);
    json_write_member_i64(w, "prompt_tokens", sum->prompt_tokens);
    json_write_member_i64(w, "cached_tokens", sum->cached_tokens);
    json_write_member_i64(w, "output_tokens", sum->output_tokens);
    json_write_member_i64(w, "images", sum->images);
    json_write_member_i64(w, "estimated", sum->estimated);
    json_write_member_i64(w, "duration_ms", sum->duration_ms);
    usage_write_money(w, sum->cost_nano);
}

void meta_usage_write(struct json_writer *w, const struct meta_usage *u)
{
    json_write_member_str(w, "id", u->id);
    json_write_member_str(w, "request_id", u->request_id);
    json_write_member_str(w, "route", u->route);
    json_write_member_str(w, "key", u->key);
    json_write_member_str(w, "user", u->user);
    json_write_member_str(w, "project", u->project);
    json_write_member_str(w, "model", u->model);
    json_write_member_str(w, "version", u->version);
    json_write_member_str(w, "upstream", u->upstream);
    json_write_member_str(w, "hedged", u->hedged);
    json_write_member_str(w, "status", u->status);
    json_write_member_i64(w, "http_status", u->http_status);
    json_write_member_i64(w, "started_ms", u->started_ms);
    json_write_member_i64(w, "duration_ms", u->duration_ms);
    json_write_member_i64(w, "prompt_tokens", u->prompt_tokens);
    json_write_member_i64(w, "cached_tokens", u->cached_tokens);
    json_write_member_i64(w, "output_tokens", u->output_tokens);
    json_write_member_i64(w, "images", u->images);
    json_write_member_bool(w, "estimated", u->estimated);
    usage_write_money(w, u->cost_nano);
}

struct usage_answer {
    struct json_writer w;
    uint32_t by;
};

static enum rc usage_answer_sum(void *ctx, const struct meta_usage_sum *sum)
{
    struct usage_answer *a = ctx;
    json_write_object_begin(&a->w);
    meta_usage_sum_write(&a->w, sum, a->by);
    json_write_object_end(&a->w);
    return RC_OK;
}

static enum rc usage_answer_row(void *ctx, const struct meta_usage *u)
{
    struct usage_answer *a = ctx;
    json_write_object_begin(&a->w);
    meta_usage_write(&a->w, u);
    json_write_object_end(&a->w);
    return RC_OK;
}

enum rc meta_usage_answer(struct meta *m, const struct meta_usage_query *q, bool records,
                          struct buf *out, struct err *err)
{
    struct usage_answer a = {.by = q->by};
    json_write_init(&a.w, out);
    json_write_object_begin(&a.w);
    json_write_member_cstr(&a.w, "object", "list");
    json_write_name(&a.w, "data");
    json_write_array_begin(&a.w);
    enum rc rc = records ? meta_usage_each(m, q, usage_answer_row, &a, err)
                         : meta_usage_sum(m, q, usage_answer_sum, &a, err);
    json_write_array_end(&a.w);
    json_write_object_end(&a.w);
    return rc == RC_OK && !buf_ok(out) ? err_set(err, RC_TOO_LARGE, "ask for fewer rows") : rc;
}

/* ---- decision records ---- */

enum rc meta_decision_find(struct meta *m, struct str id, struct buf *out, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum rc rc = meta_prepare(
        m, &stmt,
        /* Clients choose request ids: one that is a record's does not come before it. */
        "SELECT body FROM decisions WHERE request_id = ?1 OR id = ?1"
        " ORDER BY id = ?1 DESC, n DESC LIMIT 1",
        err);
    if (rc != RC_OK) {
        return rc;
    }
    meta_bind_str(stmt, 1, id);
    int step = sqlite3_step(stmt);
    if (step == SQLITE_ROW) {
        buf_add_str(out, meta_column_str(stmt, 0));
        rc = buf_ok(out) ? RC_OK : err_set(err, RC_TOO_LARGE, "the decision record is too large");
    } else if (step == SQLITE_DONE) {
        rc = err_set(err, RC_NOT_FOUND, "nothing is kept of request %.*s",
                     (int)MIN(id.len, (size_t)80), id.ptr);
    } else {
        rc = meta_fail(m, "read a decision record", err);
    }
    sqlite3_finalize(stmt);
    return rc;
}
