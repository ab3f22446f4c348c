/* Usage records and decision records: written once, summed by group, found again. */
#include "check.h"

#include "stores/meta_usage.h"

#define DAY_MS 86400000

struct seen {
    uint32_t n;
    char lines[16][160];
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

static struct meta *filled(void)
{
    struct meta *m;
    struct meta_usage rows[] = {row("a", "k1", "m1", DAY_MS), row("b", "k1", "m2", DAY_MS + 1),
                                row("c", "k2", "m1", 2 * (int64_t)DAY_MS),
                                row("a", "k9", "m9", 9)}; /* an id that is there already */
    rows[2].status = STR_LIT("interrupted");
    rows[2].estimated = true;
    assert_int_equal(meta_open(&m, ":memory:", NULL), RC_OK);
    assert_int_equal(meta_usage_insert(m, rows, ARRAY_LEN(rows), NULL), RC_OK);
    assert_int_equal(meta_usage_insert(m, rows, ARRAY_LEN(rows), NULL), RC_OK);
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
                                         {STR_LIT("a"), r, STR_LIT("{\"n\":3}"), 3}};
    assert_int_equal(meta_decisions_insert(m, rows, ARRAY_LEN(rows), NULL), RC_OK);
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
        cmocka_unit_test(records_are_listed_newest_first),
        cmocka_unit_test(filters_that_are_wrong_say_so),
        cmocka_unit_test(decisions_are_found_by_either_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
