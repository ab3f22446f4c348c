#include "check.h"

#include <fcntl.h>
#include <string.h>

#include "base/json.h"
#include "obs/log.h"
#include "obs/metric.h"

static struct clock_fake fake;
static int ends[2]; /* a pipe: what is logged comes out of ends[0] */
static char seen[1 << 16];

static void begin(enum log_format format)
{
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    clock_fake_init(&fake, 1700000000123000000u);
    log_init(&(struct log_options){.service = "bud-test",
                                   .fd = ends[1],
                                   .level = LOG_LEVEL_INFO,
                                   .format = format,
                                   .clock = &fake.clock});
}

static const char *logged(void)
{
    ssize_t n = read(ends[0], seen, sizeof(seen) - 1);
    seen[n > 0 ? n : 0] = '\0';
    return seen;
}

static void end(void)
{
    log_deinit();
    close(ends[0]);
    close(ends[1]);
}

static void log_writes_ecs_json(void **state)
{
    (void)state;
    begin(LOG_FORMAT_AUTO);
    struct err err = {0};
    (void)err_set(&err, RC_TIMEOUT, "no \"answer\"");
    log_event(LOG_LISTEN, log_cstr(LOG_KEY_ADDRESS, "127.0.0.1"), log_u64("server.port", 8080),
              log_i64("a", -1), log_f64("b", 0.5), log_bool("c", true), log_err(&err),
              log_err_code(&err));
    assert_string_equal(
        logged(),
        "{\"@timestamp\":\"2023-11-14T22:13:20.123Z\",\"log.level\":\"info\","
        "\"message\":\"listening\",\"ecs.version\":\"8.11.0\","
        "\"service.name\":\"bud-test\",\"service.version\":\"" BUD_VERSION "\","
        "\"log.logger\":\"net\",\"event.action\":\"listen\","
        "\"server.address\":\"127.0.0.1\",\"server.port\":8080,\"a\":-1,\"b\":0.5,"
        "\"c\":true,\"error.message\":\"no \\\"answer\\\"\",\"error.code\":\"TIMEOUT\"}\n");
    end();
}

static void log_writes_text_for_people(void **state)
{
    (void)state;
    begin(LOG_FORMAT_TEXT);
    log_event(LOG_CHILD_EXIT, log_u64(LOG_KEY_PID, 7), log_cstr("why", "killed by signal 9"),
              log_cstr("name", "m-1"), log_cstr("empty", ""), log_str("none", STR_NULL));
    assert_string_equal(logged(), "2023-11-14T22:13:20.123Z warn  supervise child-exit "
                                  "process.pid=7 why=\"killed by signal 9\" name=m-1 empty=\"\" "
                                  "none=\"\"\n");
    log_event(LOG_PROCESS_READY);
    assert_string_equal(logged(), "2023-11-14T22:13:20.123Z info  process process-ready\n");
    end();
}

static void log_keeps_to_its_level(void **state)
{
    (void)state;
    enum log_level level = LOG_LEVEL_OFF;
    begin(LOG_FORMAT_TEXT);
    assert_false(log_enabled(LOG_CONN_FAIL)); /* debug */
    log_event(LOG_CONN_FAIL);
    assert_string_equal(logged(), "");
    assert_true(log_level_from(STR_LIT("debug"), &level));
    assert_int_equal(level, LOG_LEVEL_DEBUG);
    assert_false(log_level_from(STR_LIT("loud"), &level));
    end();
}

static uint32_t n_lines(const char *text)
{
    uint32_t n = 0;
    for (; *text != '\0'; text++) {
        n += *text == '\n' ? 1 : 0;
    }
    return n;
}

static void log_limits_each_event_rate(void **state)
{
    (void)state;
    begin(LOG_FORMAT_TEXT);
    double dropped = metric_value(metric_get(METRIC_LOG_DROPPED));
    for (int i = 0; i < 8; i++) {
        log_event(LOG_LOOP_SLOW); /* five a second */
        log_event(LOG_ACCESS);    /* no limit */
    }
    assert_int_equal(n_lines(logged()), 5 + 8);
    assert_true(metric_value(metric_get(METRIC_LOG_DROPPED)) == dropped + 3);
    clock_fake_advance_ms(&fake, 1000);
    log_event(LOG_LOOP_SLOW);
    assert_non_null(strstr(logged(), "loop-slow log.suppressed=3\n"));
    end();
}

static void log_cuts_what_is_long(void **state)
{
    (void)state;
    static char text[3 * LOG_VALUE_BYTES_MAX];
    memset(text, 'x', sizeof(text) - 1);
    begin(LOG_FORMAT_JSON);
    log_event(LOG_ACCESS, log_cstr("a", text));
    assert_true(strlen(logged()) > LOG_VALUE_BYTES_MAX);
    assert_true(strlen(seen) < LOG_VALUE_BYTES_MAX + 400);
    log_event(LOG_ACCESS, log_cstr("a", text), log_cstr("b", text), log_cstr("c", text),
              log_cstr("d", text));
    assert_non_null(strstr(logged(), ",\"log.truncated\":true}\n"));
    assert_true(strlen(seen) <= LOG_LINE_BYTES_MAX);
    end();
}

static void log_never_waits_for_its_reader(void **state)
{
    (void)state;
    begin(LOG_FORMAT_JSON);
    assert_int_equal(fcntl(ends[1], F_SETFL, 0), 0); /* a write could block */
    double dropped = metric_value(metric_get(METRIC_LOG_DROPPED));
    for (int i = 0; i < 2000; i++) {
        log_event(LOG_ACCESS, log_cstr("url.path", "/v1/chat/completions"));
    }
    assert_true(metric_value(metric_get(METRIC_LOG_DROPPED)) > dropped);
    struct arena a;
    const struct json *line = NULL;
    arena_init(&a, 1 << 20);
    struct str rest = str_from(logged());
    while (rest.len > 0) { /* what was written is whole */
        struct str one = str_cut(&rest, '\n');
        if (rest.ptr != NULL) {
            assert_int_equal(json_parse(one, &a, &line, NULL), RC_OK);
            arena_reset(&a);
        }
    }
    arena_deinit(&a);
    end();
}

static void log_gathers_until_it_is_told(void **state)
{
    (void)state;
    begin(LOG_FORMAT_TEXT);
    log_init(&(struct log_options){.service = "bud-test",
                                   .fd = ends[1],
                                   .format = LOG_FORMAT_TEXT,
                                   .level = LOG_LEVEL_INFO,
                                   .clock = &fake.clock,
                                   .gather = true});
    log_event(LOG_ACCESS, log_u64("n", 1));
    log_event(LOG_ACCESS, log_u64("n", 2));
    assert_string_equal(logged(), "");
    log_flush();
    assert_non_null(strstr(logged(), "n=1\n"));
    assert_non_null(strstr(seen, "n=2\n"));
    log_event(LOG_ACCESS, log_u64("n", 3));
    log_event(LOG_AUTH_FAIL, log_u64("n", 4)); /* a warning waits for nobody, and keeps its place */
    const char *three = strstr(logged(), "n=3\n");
    assert_non_null(three);
    assert_non_null(strstr(three, "n=4\n"));
    log_event(LOG_ACCESS, log_u64("n", 5));
    end(); /* what is held goes out before the sink changes */
    log_flush();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_writes_ecs_json),
        cmocka_unit_test(log_writes_text_for_people),
        cmocka_unit_test(log_keeps_to_its_level),
        cmocka_unit_test(log_limits_each_event_rate),
        cmocka_unit_test(log_cuts_what_is_long),
        cmocka_unit_test(log_never_waits_for_its_reader),
        cmocka_unit_test(log_gathers_until_it_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
