/* The gateway ↔ server link, and errors as clients see them. */
#include "check.h"

#include <string.h>

#include "api/fail.h"
#include "api/link.h"

static bool takes(struct api_link *link, const char *name, const char *value)
{
    struct err err = {0};
    enum rc rc = api_link_read_header(link, str_from(name), str_from(value), &err);
    assert_true(rc == RC_OK || (rc == RC_INVALID && strcasecmp(err.param, name) == 0));
    return rc == RC_OK;
}

static void link_headers_survive(void **state)
{
    (void)state;
    struct api_link sent, got;
    struct api_header headers[API_LINK_HEADERS_MAX];
    api_link_init(&sent);
    assert_int_equal(api_link_headers(&sent, headers), 0);
    assert_true(takes(&sent, "Bud-Request-Id", " req_aB-9 "));
    assert_true(
        takes(&sent, "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    assert_true(takes(&sent, "bud-tenant", "t1"));
    assert_true(takes(&sent, "bud-class", "batch"));
    assert_true(takes(&sent, "bud-deadline-ms", "18446744073709551615"));
    assert_true(takes(&sent, "bud-budget-tokens", "0"));
    assert_true(takes(&sent, "accept", "anything; at=all"));
    uint32_t n = api_link_headers(&sent, headers);
    assert_int_equal(n, API_LINK_HEADERS_MAX);
    api_link_init(&got);
    for (uint32_t i = 0; i < n; i++) {
        assert_true(takes(&got, headers[i].name, headers[i].value));
    }
    assert_string_equal(got.request_id, "req_aB-9");
    assert_string_equal(got.traceparent, sent.traceparent);
    assert_string_equal(got.tenant, "t1");
    assert_int_equal(got.priority, API_CLASS_BATCH);
    assert_true(got.has_deadline && got.deadline_ms == UINT64_MAX);
    assert_true(got.has_budget && got.budget_tokens == 0);
    assert_string_equal(api_class_name(API_CLASS_INTERACTIVE), "interactive");
}

static void link_refuses_malformed_headers(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"bud-request-id", ""},
        {"bud-request-id", "a b"},
        {"bud-request-id", "a\r\nx: y"},
        {"bud-tenant", "../x"},
        {"bud-class", "urgent"},
        {"bud-deadline-ms", "-1"},
        {"bud-deadline-ms", "1.5"},
        {"bud-deadline-ms", "18446744073709551616"},
        {"bud-budget-tokens", "4294967296"},
        {"bud-budget-tokens", ""},
        {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"},
        {"traceparent", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        {"traceparent", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"},
        {"traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"},
        {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"},
        {"traceparent", "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
    };
    char longest[80];
    struct api_link link;
    api_link_init(&link);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (takes(&link, bad[i][0], bad[i][1])) {
            fail_msg("%s: %s", bad[i][0], bad[i][1]);
        }
    }
    memset(longest, 'a', sizeof(longest));
    longest[72] = '\0';
    assert_false(takes(&link, "bud-request-id", longest));
    longest[71] = '\0';
    assert_true(takes(&link, "bud-request-id", longest));
}

static void link_knows_its_own_headers(void **state)
{
    (void)state;
    assert_true(api_link_is_header(STR_LIT("Bud-Tenant")));
    assert_true(api_link_is_header(STR_LIT("bud-budget-tokens")));
    assert_false(api_link_is_header(STR_LIT("traceparent")));
    assert_false(api_link_is_header(STR_LIT("bud-resume")));
}

static void link_counts_survive(void **state)
{
    (void)state;
    static const char *const bad[] = {": n=1",     ": n=+1", ": n=1+",           ": n=1+2x",
                                      ": n=1+2+3", ":n=1+2", ": n=4294967296+0", "",
                                      ": ping"};
    struct buf out;
    uint32_t prompt = 0, output = 0;
    buf_init(&out, 100);
    api_link_counts_write(&out, 512, UINT32_MAX);
    assert_string_equal(out.ptr, ": n=512+4294967295\n\n");
    struct str line = str_slice(buf_str(&out), 0, out.len - 2);
    assert_true(api_link_counts_read(line, &prompt, &output));
    assert_true(prompt == 512 && output == UINT32_MAX);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(api_link_counts_read(str_from(bad[i]), &prompt, &output));
    }
    buf_deinit(&out);
}

static void body_is(const struct err *err, const char *expected)
{
    struct buf out;
    buf_init(&out, 4096);
    api_fail_write(&out, err);
    assert_string_equal(out.ptr, expected);
    buf_deinit(&out);
}

static void fail_writes_all_four_members(void **state)
{
    (void)state;
    struct err err = {0};
    (void)err_set_param(&err, RC_INVALID, "messages[2].content", "must be \"text\"");
    body_is(&err, "{\"error\":{\"message\":\"must be \\\"text\\\"\","
                  "\"type\":\"invalid_request_error\",\"param\":\"messages[2].content\","
                  "\"code\":\"invalid_value\"}}");
    (void)err_set(&err, RC_CONTEXT, "too long");
    body_is(&err, "{\"error\":{\"message\":\"too long\",\"type\":\"invalid_request_error\","
                  "\"param\":null,\"code\":\"context_length_exceeded\"}}");
    (void)err_set(&err, RC_IO, "open /secret/place: denied");
    body_is(&err, "{\"error\":{\"message\":\"the server failed while it processed the request\","
                  "\"type\":\"server_error\",\"param\":null,\"code\":\"io_error\"}}");
    err = (struct err){.code = RC_OVERLOADED};
    body_is(&err, "{\"error\":{\"message\":\"overloaded\",\"type\":\"overloaded_error\","
                  "\"param\":null,\"code\":\"overloaded\"}}");
}

/* All headers as one text. */
static const char *advice(enum rc code, uint32_t wait_ms)
{
    static char text[512];
    struct api_header headers[API_FAIL_HEADERS_MAX];
    struct err err = {.code = code};
    size_t used = 0;
    uint32_t n = api_fail_headers(&err, wait_ms, headers);
    text[0] = '\0';
    for (uint32_t i = 0; i < n; i++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s: %s\n", headers[i].name,
                                 headers[i].value);
    }
    return text;
}

static void fail_advises_on_retries(void **state)
{
    (void)state;
    assert_string_equal(advice(RC_INVALID, 0), "x-should-retry: false\n");
    assert_string_equal(advice(RC_INTERNAL, 0), "x-should-retry: true\n");
    assert_string_equal(advice(RC_CORRUPT, 0), "x-should-retry: false\n");
    assert_string_equal(advice(RC_RATE_LIMITED, 1200),
                        "x-should-retry: true\nretry-after: 2\nretry-after-ms: 1200\n");
    assert_string_equal(advice(RC_OVERLOADED, 0),
                        "x-should-retry: true\nretry-after: 1\nretry-after-ms: 1000\n");
    assert_string_equal(advice(RC_CONFLICT, 0),
                        "x-should-retry: true\nretry-after: 2\nretry-after-ms: 2000\n");
    assert_string_equal(advice(RC_UNAVAILABLE, 999999),
                        "x-should-retry: true\nretry-after: 120\nretry-after-ms: 120000\n");
    assert_string_equal(advice(RC_UNAUTHENTICATED, 0),
                        "x-should-retry: false\nwww-authenticate: Bearer realm=\"bud\"\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(link_headers_survive),
        cmocka_unit_test(link_refuses_malformed_headers),
        cmocka_unit_test(link_knows_its_own_headers),
        cmocka_unit_test(link_counts_survive),
        cmocka_unit_test(fail_writes_all_four_members),
        cmocka_unit_test(fail_advises_on_retries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
