/* Usage records and decision records: written once, summed by group, found again. */
#include "check.h"

#include <sqlite3.h>
#include <unistd.h>

#include "stores/journal_fold.h"
#include "stores/meta_usage.h"

#define DAY_MS 86400000

struct seen {
    uint32_t n;
    char lines[32][160];
};

static enum rc seen_sum(void *ctx, const struct meta_usage_sum *s)
{
    struct seen *seen = ctx;
    assert_true(seen->n < ARRAY_LEN(seen->lines));
    snprintf(seen->lines[seen->n++], sizeof(seen->lines[0]), "%.*s|%.*s|%.*s %lld %lld %lld %lld",
             STR(s->by[0]), STR(s->by[1]), STR(s->by[4]), (long long)s->requests,
             (long long)s->failed, (long long)s->output_tokens, (long long)s->cost_nano);
    return RC_OK;
}

static enum rc seen_row(void *ctx, const struct meta_usage *u)
{
    struct seen *seen = ctx;
    assert_true(seen->n < ARRAY_LEN(seen->lines));
    snprintf(seen->lines[seen->n++], sizeof(seen->lines[0]), "%.*s %.*s %d", STR(u->id),
             STR(u->status), u->estimated);
    return RC_OK;
}

static struct meta_usage row(const char *id, const char *key, const char *model, int64_t at_ms)
{
    return (struct meta_usage){.id = str_from(id),
                               .request_id = STR_LIT("req_1"),
                               .route = STR_LIT("chat"),
                               .key = str_from(key),
                               .user = STR_LIT(""),
                               .project = STR_LIT("p"),
                               .model = str_from(model),
                               .version = STR_LIT("1"),
                               .upstream = STR_LIT("local"),
                               .status = STR_LIT("ok"),
                               .http_status = 200,
                               .started_ms = at_ms,
                               .duration_ms = 5,
                               .prompt_tokens = 10,
                               .output_tokens = 3,
                               .cost_nano = 7};
}

static const char run[] = "0123456789abcdef";

/* As the journal does it: one part of file `file`. */
static void put(struct meta *m, const struct meta_usage *rows, size_t n, uint32_t file)
{
    struct journal_fold fold;
    struct err err = {0};
    journal_fold_init(&fold, m, run);
    for (size_t i = 0; i < n; i++) {
        const struct usage_line line = {.kind = USAGE_DONE, .row = rows[i]};
        struct buf text;
        buf_init(&text, USAGE_LINE_BYTES_MAX + 1);
        usage_line_write(&text, &line);
        assert_int_equal(journal_fold_add(&fold, &line, str_make(text.ptr, text.len - 1), &err),
                         RC_OK);
        buf_deinit(&text);
    }
    if (journal_fold_write(&fold, file, n, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    journal_fold_deinit(&fold);
}

static struct meta *filled(void)
{
    struct meta *m;
    struct meta_usage rows[] = {row("a", "k1", "m1", DAY_MS), row("b", "k1", "m2", DAY_MS + 1),
                                row("c", "k2", "m1", 2 * (int64_t)DAY_MS)};
    rows[2].status = STR_LIT("interrupted");
    rows[2].estimated = true;
    assert_int_equal(meta_open(&m, ":memory:", NULL), RC_OK);
    put(m, &rows[1], 2, 1); /* two pages, whose times overlap no more than they must */
    put(m, &rows[0], 1, 2);
    return m;
}

static void sums(struct meta *m, const struct meta_usage_query *q, struct seen *seen)
{
    struct err err = {0};
    *seen = (struct seen){0};
    assert_int_equal(meta_usage_sum(m, q, seen_sum, seen, &err), RC_OK);
}

static void set(struct meta_usage_query *q, const char *name, const char *value)
{
    assert_int_equal(meta_usage_query_set(q, name, str_from(value), NULL), RC_OK);
}

static void records_are_summed_by_group(void **state)
{
    (void)state;
    struct meta *m = filled();
    struct meta_usage_query q = {0};
    struct seen seen;
    sums(m, &q, &seen);
    assert_int_equal(seen.n, 1);
    assert_string_equal(seen.lines[0], "|| 3 1 9 21");
    set(&q, "by", "key, day");
    sums(m, &q, &seen);
    assert_int_equal(seen.n, 2);
    assert_string_equal(seen.lines[0], "1970-01-02|k1| 2 0 6 14");
    assert_string_equal(seen.lines[1], "1970-01-03|k2| 1 1 3 7");
    q = (struct meta_usage_query){0};
    set(&q, "by", "model");
    set(&q, "to", "1970-01-02"); /* that day included */
    sums(m, &q, &seen);
    assert_int_equal(seen.n, 2);
    assert_string_equal(seen.lines[0], "||m1 1 0 3 7");
    set(&q, "model", "m2' OR '1'='1");
    sums(m, &q, &seen);
    assert_int_equal(seen.n, 0);
    q = (struct meta_usage_query){0};
    set(&q, "from", "86401");
    set(&q, "by", "model");
    set(&q, "limit", "1");
    sums(m, &q, &seen);
    assert_int_equal(seen.n, 1);
    meta_close(m);
}

/* Days come from their sums, parts of days from records. */
static void parts_of_days_are_summed_too(void **state)
{
    (void)state;
    struct meta *m = filled();
    struct meta_usage_query q = {.by = META_USAGE_BY_DAY};
    struct seen seen;
    const struct meta_usage late = row("d", "k1", "m1", 2 * (int64_t)DAY_MS + 5000);
    put(m, &late, 1, 3);
    q.from_ms = DAY_MS + 1; /* not a's, which began with its day */
    sums(m, &q, &seen);
    assert_int_equal(seen.n, 2);
    assert_string_equal(seen.lines[0], "1970-01-02|| 1 0 3 7");
    assert_string_equal(seen.lines[1], "1970-01-03|| 2 1 6 14");
    q.to_ms = 2 * (int64_t)DAY_MS + 5000; /* not d's */
    sums(m, &q, &seen);
    assert_int_equal(seen.n, 2);
    assert_string_equal(seen.lines[1], "1970-01-03|| 1 1 3 7");
    q.to_ms = DAY_MS + 2; /* within one day */
    sums(m, &q, &seen);
    assert_int_equal(seen.n, 1);
    assert_string_equal(seen.lines[0], "1970-01-02|| 1 0 3 7");
    q = (struct meta_usage_query){.request_id = STR_LIT("req_1")};
    sums(m, &q, &seen);
    assert_string_equal(seen.lines[0], "|| 4 1 12 28");
    meta_close(m);
}

static void the_same_part_of_a_file_is_known(void **state)
{
    (void)state;
    struct meta *m = filled();
    uint64_t upto = 9;
    assert_int_equal(meta_usage_taken(m, str_from(run), 1, &upto, NULL), RC_OK);
    assert_int_equal(upto, 2);
    assert_int_equal(meta_usage_taken(m, str_from(run), 7, &upto, NULL), RC_OK);
    assert_int_equal(upto, 0);
    assert_int_equal(meta_usage_forget_file(m, str_from(run), 1, NULL), RC_OK);
    assert_int_equal(meta_usage_taken(m, str_from(run), 1, &upto, NULL), RC_OK);
    assert_int_equal(upto, 0);
    assert_int_equal(meta_usage_taken(m, str_from(run), 2, &upto, NULL), RC_OK);
    assert_int_equal(upto, 1);
    assert_int_equal(meta_usage_forget_file(m, str_from(run), META_USAGE_FILES_ALL, NULL), RC_OK);
    assert_int_equal(meta_usage_taken(m, str_from(run), 2, &upto, NULL), RC_OK);
    assert_int_equal(upto, 0);
    meta_close(m);
}

/* Absurd costs end at the largest number, in a day's row as in a sum of days. */
static void sums_do_not_overflow(void **state)
{
    (void)state;
    struct meta *m;
    struct meta_usage rows[] = {row("a", "k", "m", DAY_MS), row("b", "k", "m", DAY_MS),
                                row("c", "k", "m", 2 * (int64_t)DAY_MS)};
    struct meta_usage_query q = {0};
    struct seen seen;
    assert_int_equal(meta_open(&m, ":memory:", NULL), RC_OK);
    for (uint32_t i = 0; i < ARRAY_LEN(rows); i++) {
        rows[i].cost_nano = INT64_MAX;
        put(m, &rows[i], 1, i + 1);
    }
    sums(m, &q, &seen);
    assert_string_equal(seen.lines[0], "|| 3 0 9 9223372036854775807");
    meta_close(m);
}

/* Single records go first, a few pages a call; sums stay until they are too old themselves. */
static void what_is_too_old_goes(void **state)
{
    (void)state;
    struct meta *m = filled();
    struct meta_usage_query q = {0};
    struct seen seen = {0};
    const int64_t third_ms = 2 * (int64_t)DAY_MS;
    const struct meta_usage old = row("e", "k1", "m1", 5);
    for (uint32_t i = 0; i < 20; i++) { /* more pages than go at once */
        put(m, &old, 1, 10 + i);
    }
    assert_int_equal(meta_usage_forget(m, 0, 0, NULL), RC_OK);
    assert_int_equal(meta_usage_each(m, &q, seen_row, &(struct seen){0}, NULL), RC_OK);
    assert_int_equal(meta_usage_forget(m, third_ms, 0, NULL), RC_OK);
    assert_int_equal(meta_usage_each(m, &q, seen_row, &seen, NULL), RC_OK);
    assert_in_range(seen.n, 3, 15);
    assert_int_equal(meta_usage_forget(m, third_ms, 0, NULL), RC_OK);
    seen.n = 0;
    assert_int_equal(meta_usage_each(m, &q, seen_row, &seen, NULL), RC_OK);
    assert_int_equal(seen.n, 2); /* b is in a page with c */
    sums(m, &q, &seen);
    assert_string_equal(seen.lines[0], "|| 23 1 69 161");
    assert_int_equal(meta_usage_forget(m, third_ms, third_ms, NULL), RC_OK);
    sums(m, &q, &seen);
    assert_string_equal(seen.lines[0], "|| 1 1 3 7");
    meta_close(m);
}

/* More than the list takes, in pages that overlap: the newest are told, in their order. */
static void the_newest_of_many_are_told(void **state)
{
    (void)state;
    struct meta *m;
    struct meta_usage_query q = {.rows_max = 3};
    struct seen seen = {0};
    assert_int_equal(meta_open(&m, ":memory:", NULL), RC_OK);
    for (uint32_t i = 0; i < 8; i++) {
        char ids[2][8];
        snprintf(ids[0], sizeof(ids[0]), "n%u", i);
        snprintf(ids[1], sizeof(ids[1]), "o%u", i);
        const struct meta_usage rows[] = {row(ids[0], "k", "m", 1000 + i),
                                          row(ids[1], "k", "m", 500 + 10 * i)};
        put(m, rows, 2, i + 1);
    }
    assert_int_equal(meta_usage_each(m, &q, seen_row, &seen, NULL), RC_OK);
    assert_int_equal(seen.n, 3);
    assert_string_equal(seen.lines[0], "n7 ok 0");
    assert_string_equal(seen.lines[2], "n5 ok 0");
    q.to_ms = 571;
    q.rows_max = 2;
    seen.n = 0;
    assert_int_equal(meta_usage_each(m, &q, seen_row, &seen, NULL), RC_OK);
    assert_int_equal(seen.n, 2);
    assert_string_equal(seen.lines[0], "o7 ok 0");
    assert_string_equal(seen.lines[1], "o6 ok 0");
    meta_close(m);
}

/* A store of the schema before, with one row per record. */
static void rows_of_before_are_taken_over(void **state)
{
    (void)state;
    char path[] = "/tmp/bud-test-XXXXXX";
    int fd = mkstemp(path);
    struct meta *m;
    sqlite3 *db;
    struct meta_usage_query q = {0};
    struct seen seen = {0};
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(meta_open(&m, path, NULL), RC_OK);
    meta_close(m);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(
            db,
            "DROP TABLE usage_days; DROP TABLE usage_pages; DROP TABLE usage_files;"
            "CREATE TABLE usage (id, request_id, route, key, user, project, model, version,"
            " upstream, status, http_status, started_ms, duration_ms, prompt_tokens,"
            " cached_tokens, output_tokens, images, cost_nano, estimated);"
            "INSERT INTO usage VALUES ('a', 'r', 'chat', 'k', '', 'p', 'm,1', '1', 'u',"
            " 'ok', 200, 86400000, 5, 1, 0, 2, 0, 7, 0), ('b', 'r', 'chat', 'k', '', 'p',"
            " 'm,1', '1', 'u', 'failed', 502, 86400001, 5, 1, 0, 2, 0, 7, 1);"
            "PRAGMA user_version = 4;",
            NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(meta_open(&m, path, NULL), RC_OK);
    assert_int_equal(meta_usage_each(m, &q, seen_row, &seen, NULL), RC_OK);
    assert_int_equal(seen.n, 2);
    assert_string_equal(seen.lines[0], "b failed 1");
    q.by = META_USAGE_BY_MODEL | META_USAGE_BY_DAY;
    sums(m, &q, &seen);
    assert_int_equal(seen.n, 1);
    assert_string_equal(seen.lines[0], "1970-01-02||m,1 2 1 4 14");
    meta_close(m);
    unlink(path);
    char more[64];
    for (size_t i = 0; i < 2; i++) {
        snprintf(more, sizeof(more), "%s%s", path, i == 0 ? "-wal" : "-shm");
        unlink(more);
    }
}

static void records_are_listed_newest_first(void **state)
{
    (void)state;
    struct meta *m = filled();
    struct meta_usage_query q = {0};
    struct seen seen = {0};
    assert_int_equal(meta_usage_each(m, &q, seen_row, &seen, NULL), RC_OK);
    assert_int_equal(seen.n, 3);
    assert_string_equal(seen.lines[0], "c interrupted 1");
    assert_string_equal(seen.lines[2], "a ok 0");
    seen.n = 0;
    set(&q, "request_id", "req_1");
    set(&q, "key", "k1");
    set(&q, "limit", "1");
    assert_int_equal(meta_usage_each(m, &q, seen_row, &seen, NULL), RC_OK);
    assert_int_equal(seen.n, 1);
    assert_string_equal(seen.lines[0], "b ok 0");
    meta_close(m);
}

static void filters_that_are_wrong_say_so(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"from", "2026-02-30"}, {"from", "yesterday"}, {"to", "-1"},
        {"by", "keys"},         {"limit", "0"},        {"limit", "10001"},
        {"colour", "red"},      {"from", "2026-1-02"}, {"to", "99999999999999999"},
    };
    struct meta_usage_query q = {0};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = {0};
        enum rc rc = meta_usage_query_set(&q, bad[i][0], str_from(bad[i][1]), &err);
        assert_int_equal(rc, i == 6 ? RC_UNKNOWN_PARAM : RC_INVALID);
        assert_string_equal(err.param, bad[i][0]);
    }
    assert_int_equal(q.from_ms + q.to_ms, 0);
    set(&q, "from", "2026-11-23");
    assert_int_equal(q.from_ms, 1795392000000);
}

/* What did not fit is noted again from its beginning: nothing of it may be there already. */
static void a_part_that_failed_is_noted_anew(void **state)
{
    (void)state;
    struct meta *m;
    struct journal_fold fold;
    struct err err = {0};
    struct seen seen;
    struct buf text;
    const struct meta_usage_query q = {0};
    const struct usage_line line = {.kind = USAGE_DONE, .row = row("a", "k", "m", DAY_MS)};
    assert_int_equal(meta_open(&m, ":memory:", NULL), RC_OK);
    buf_init(&text, USAGE_LINE_BYTES_MAX + 1);
    usage_line_write(&text, &line);
    const struct str one = str_make(text.ptr, text.len - 1);
    journal_fold_init(&fold, m, run);
    size_t cap = fold.lines.cap_bytes;
    fold.lines.cap_bytes = 3 * one.len / 2; /* room for one and a half */
    assert_int_equal(journal_fold_add(&fold, &line, one, &err), RC_OK);
    assert_int_equal(journal_fold_add(&fold, &line, one, &err), RC_NOMEM);
    fold.lines.cap_bytes = cap;
    assert_int_equal(journal_fold_add(&fold, &line, one, &err), RC_OK);
    assert_int_equal(journal_fold_write(&fold, 1, 9, &err), RC_OK);
    sums(m, &q, &seen);
    assert_int_equal(seen.n, 1);
    assert_string_equal(seen.lines[0], "|| 1 0 3 7");
    journal_fold_deinit(&fold);
    buf_deinit(&text);
    meta_close(m);
}

static void decisions_are_found_by_either_id(void **state)
{
    (void)state;
    struct meta *m = filled();
    struct buf out;
    buf_init(&out, 1 << 16);
    const struct str r = STR_LIT("req_1");
    assert_int_equal(meta_decision_find(m, r, &out, NULL), RC_NOT_FOUND);
    const struct meta_decision rows[] = {{STR_LIT("a"), r, STR_LIT("{\"n\":1}"), 1},
                                         {STR_LIT("b"), r, STR_LIT("{\"n\":2}"), 2},
                                         {STR_LIT("a"), r, STR_LIT("{\"n\":3}"), 3},
                                         /* A client's own id that is another's record. */
                                         {STR_LIT("c"), STR_LIT("a"), STR_LIT("{\"n\":4}"), 4}};
    const struct meta_usage_part part = {
        .run = str_from(run), .file = 9, .notes = rows, .n_notes = ARRAY_LEN(rows)};
    assert_int_equal(meta_usage_take(m, &part, NULL), RC_OK);
    assert_int_equal(meta_decision_find(m, r, &out, NULL), RC_OK);
    assert_int_equal(meta_decision_find(m, STR_LIT("a"), &out, NULL), RC_OK);
    assert_string_equal(out.ptr, "{\"n\":2}{\"n\":1}");
    buf_deinit(&out);
    meta_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_summed_by_group),
        cmocka_unit_test(parts_of_days_are_summed_too),
        cmocka_unit_test(the_same_part_of_a_file_is_known),
        cmocka_unit_test(sums_do_not_overflow),
        cmocka_unit_test(what_is_too_old_goes),
        cmocka_unit_test(the_newest_of_many_are_told),
        cmocka_unit_test(rows_of_before_are_taken_over),
        cmocka_unit_test(records_are_listed_newest_first),
        cmocka_unit_test(filters_that_are_wrong_say_so),
        cmocka_unit_test(a_part_that_failed_is_noted_anew),
        cmocka_unit_test(decisions_are_found_by_either_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
