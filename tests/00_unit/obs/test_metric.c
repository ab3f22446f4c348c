#include "check.h"

#include <ctype.h>
#include <string.h>

#include "base/thread.h"
#include "obs/metric.h"

static struct buf page;

static const char *expose(void)
{
    buf_reset(&page);
    metric_expose(&page);
    assert_true(buf_ok(&page));
    return page.ptr;
}

static void has_line(const char *text, const char *line)
{
    struct str rest = str_from(text);
    while (rest.ptr != NULL) {
        if (str_is(str_cut(&rest, '\n'), line)) {
            return;
        }
    }
    fail_msg("no line '%s' in:\n%s", line, text);
}

static void metric_counts(void **state)
{
    (void)state;
    metric_add(metric_status(200), 2);
    metric_add(metric_status(200), 1);
    metric_add(metric_status(429), 1);
    metric_add(metric_with1(METRIC_TOKENS_GENERATED, STR_LIT("a \"b\"\\\n")), 7);
    const struct str both[] = {STR_LIT("m"), STR_LIT("stop")};
    metric_add(metric_with(METRIC_REQUESTS_FINISHED, both), 5);
    metric_set(metric_with1(METRIC_REQUESTS_RUNNING, STR_LIT("m")), 3);
    metric_move(metric_with1(METRIC_REQUESTS_RUNNING, STR_LIT("m")), -0.5);
    assert_true(metric_value(metric_status(200)) == 3);
    const char *text = expose();
    has_line(text, "# HELP http_requests_total HTTP requests answered, by status code.");
    has_line(text, "# TYPE http_requests_total counter");
    has_line(text, "http_requests_total{status=\"200\"} 3");
    has_line(text, "http_requests_total{status=\"429\"} 1");
    has_line(text, "tokens_generated_total{model=\"a \\\"b\\\"\\\\\\n\"} 7");
    has_line(text, "bud_requests_finished_total{model=\"m\",reason=\"stop\"} 5");
    has_line(text, "# TYPE bud_requests_running gauge");
    has_line(text, "bud_requests_running{model=\"m\"} 2.5");
    has_line(text, "bud_build_info{version=\"" BUD_VERSION "\"} 1");
    assert_null(strstr(text, "bud_server_restarts_total")); /* nothing counted, nothing shown */
}

static void metric_buckets_are_cumulative(void **state)
{
    (void)state;
    struct metric_series *s = metric_get(METRIC_HTTP_DURATION);
    metric_observe(s, 1000000);      /* on a bound: belongs to it */
    metric_observe(s, 3000000);      /* 3 ms */
    metric_observe(s, 900000000000); /* above all */
    assert_true(metric_value(s) == 3);
    const char *text = expose();
    has_line(text, "# TYPE http_request_duration_seconds histogram");
    has_line(text, "http_request_duration_seconds_bucket{le=\"0.001\"} 1");
    has_line(text, "http_request_duration_seconds_bucket{le=\"0.0025\"} 1");
    has_line(text, "http_request_duration_seconds_bucket{le=\"0.005\"} 2");
    has_line(text, "http_request_duration_seconds_bucket{le=\"600\"} 2");
    has_line(text, "http_request_duration_seconds_bucket{le=\"+Inf\"} 3");
    has_line(text, "http_request_duration_seconds_sum 900.004");
    has_line(text, "http_request_duration_seconds_count 3");
    metric_observe(metric_with1(METRIC_INTER_TOKEN, STR_LIT("m")), 10);
    has_line(expose(), "bud_inter_token_latency_seconds_bucket{model=\"m\",le=\"0.001\"} 1");
    has_line(page.ptr, "bud_inter_token_latency_seconds_count{model=\"m\"} 1");
}

static void metric_tells_the_process(void **state)
{
    (void)state;
    expose();
    assert_true(metric_value(metric_get(METRIC_PROCESS_MEMORY)) > 100000);
    assert_true(metric_value(metric_get(METRIC_PROCESS_FDS)) >= 3);
    assert_true(metric_value(metric_get(METRIC_PROCESS_START)) > 1.7e9);
    double cpu = metric_value(metric_get(METRIC_PROCESS_CPU));
    assert_true(cpu > 0 && cpu < 1000);
}

/* Every line is a comment, or name, optional labels, space, number; TYPE precedes its samples. */
static void metric_page_is_well_formed(void **state)
{
    (void)state;
    struct str rest = str_from(expose()), type = STR_NULL;
    assert_true(str_ends(rest, STR_LIT("\n")));
    rest.len--;
    while (rest.ptr != NULL) {
        struct str line = str_cut(&rest, '\n');
        if (str_starts(line, STR_LIT("# TYPE "))) {
            type = str_slice(line, 7, line.len);
            type = str_cut(&type, ' ');
        } else if (!str_starts(line, STR_LIT("# HELP "))) {
            double value;
            size_t n = 0;
            while (n < line.len && (isalnum((unsigned char)line.ptr[n]) || line.ptr[n] == '_')) {
                n++;
            }
            assert_true(str_starts(line, type));
            const char *space = memrchr(line.ptr, ' ', line.len);
            assert_non_null(space);
            assert_true(line.ptr[n] == '{' ? space[-1] == '}' : line.ptr + n == space);
            size_t at = (size_t)(space - line.ptr) + 1;
            assert_true(str_to_f64(str_slice(line, at, line.len), &value));
        }
    }
}

static void metric_bounds_its_series(void **state)
{
    (void)state;
    double refused = metric_value(metric_get(METRIC_SERIES_REFUSED));
    for (int i = 0; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof(name), "model-%d", i);
        metric_add(metric_with1(METRIC_MODEL_REQUESTS, str_from(name)), 1);
    }
    uint32_t n = 0;
    for (const char *at = strstr(expose(), "model_requests_total{"); at != NULL;
         at = strstr(at + 1, "\nmodel_requests_total{")) {
        n++;
    }
    assert_int_equal(n, METRIC_SERIES_MAX);
    has_line(page.ptr, "model_requests_total{model=\"other\"} 937");
    assert_true(metric_value(metric_get(METRIC_SERIES_REFUSED)) == refused + 937);
}

enum { N_THREADS = 4, N_ADDS = 20000 };

static void count_a_lot(void *arg)
{
    (void)arg;
    for (int i = 0; i < N_ADDS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "t%d", i % 5);
        metric_add(metric_with1(METRIC_PROMPT_TOKENS, str_from(name)), 1);
        metric_observe(metric_with1(METRIC_FIRST_TOKEN, STR_LIT("t")), 5);
        metric_move(metric_get(METRIC_HTTP_CONNECTIONS), 1);
    }
}

static void metric_loses_no_count_between_threads(void **state)
{
    (void)state;
    struct thread threads[N_THREADS] = {0};
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(thread_start(&threads[i], "count", -1, count_a_lot, NULL), RC_OK);
    }
    for (int i = 0; i < 50; i++) {
        expose();
    }
    double sum = 0;
    for (int i = 0; i < N_THREADS; i++) {
        thread_join(&threads[i]);
    }
    for (int i = 0; i < 5; i++) {
        char name[16];
        snprintf(name, sizeof(name), "t%d", i);
        sum += metric_value(metric_with1(METRIC_PROMPT_TOKENS, str_from(name)));
    }
    assert_true(sum == N_THREADS * N_ADDS);
    assert_true(metric_value(metric_with1(METRIC_FIRST_TOKEN, STR_LIT("t"))) == N_THREADS * N_ADDS);
    assert_true(metric_value(metric_get(METRIC_HTTP_CONNECTIONS)) == N_THREADS * N_ADDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metric_counts),
        cmocka_unit_test(metric_buckets_are_cumulative),
        cmocka_unit_test(metric_tells_the_process),
        cmocka_unit_test(metric_page_is_well_formed),
        cmocka_unit_test(metric_bounds_its_series),
        cmocka_unit_test(metric_loses_no_count_between_threads),
    };
    buf_init(&page, 1 << 22);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    buf_deinit(&page);
    return rc;
}
