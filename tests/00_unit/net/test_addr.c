/* Addresses as people write them. */
#include "check.h"

#include <string.h>

#include "net/addr.h"

static void reads_and_prints(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out, *host;
        bool local, is_unix;
        int port;
    } rows[] = {
        {"127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1", true, false, 8080},
        {"127.9.9.9:1", "127.9.9.9:1", "127.9.9.9", true, false, 1},
        {"localhost:0", "127.0.0.1:0", "127.0.0.1", true, false, 0},
        {"0.0.0.0:65535", "0.0.0.0:65535", "0.0.0.0", false, false, 65535},
        {"10.0.0.1:80", "10.0.0.1:80", "10.0.0.1", false, false, 80},
        {"[::1]:8080", "[::1]:8080", "::1", true, false, 8080},
        {"[::]:8080", "[::]:8080", "::", false, false, 8080},
        {"[::ffff:127.0.0.1]:5", "[::ffff:127.0.0.1]:5", "::ffff:127.0.0.1", true, false, 5},
        {"[2001:db8::1]:443", "[2001:db8::1]:443", "2001:db8::1", false, false, 443},
        {"unix:/run/bud.sock", "unix:/run/bud.sock", "unix", true, true, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct addr a;
        char text[ADDR_TEXT_BYTES];
        assert_int_equal(addr_parse(&a, str_from(rows[i].in), NULL), RC_OK);
        assert_string_equal(addr_format(&a, text), rows[i].out);
        assert_string_equal(addr_format_host(&a, text), rows[i].host);
        assert_int_equal(addr_is_local(&a), rows[i].local);
        assert_int_equal(addr_is_unix(&a), rows[i].is_unix);
        assert_int_equal(addr_port(&a), rows[i].port);
    }
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *in, *word;
    } rows[] = {
        {"", "HOST:PORT"},          {"127.0.0.1", "HOST:PORT"},  {"8080", "HOST:PORT"},
        {"127.0.0.1:", "port"},     {"127.0.0.1:65536", "port"}, {"127.0.0.1:-1", "port"},
        {"127.0.0.1:80x", "port"},  {"127.0.0.1: 80", "port"},   {":8080", "host"},
        {"example.com:80", "host"}, {"127.0.0.1.1:80", "host"},  {"::1:8080", "HOST:PORT"},
        {"[::1]", "HOST:PORT"},     {"[127.0.0.1]:80", "host"},  {"[::1:80", "HOST:PORT"},
        {"unix:", "path"},          {"[::1]x:80", "HOST:PORT"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct addr a;
        struct err err = {0};
        assert_int_equal(addr_parse(&a, str_from(rows[i].in), &err), RC_INVALID);
        if (strstr(err.msg, rows[i].word) == NULL || strstr(err.msg, rows[i].in) == NULL) {
            fail_msg("'%s' gave: %s", rows[i].in, err.msg);
        }
    }
    char path[200] = "unix:/";
    memset(path + 6, 'a', sizeof(path) - 7);
    path[sizeof(path) - 1] = '\0';
    struct addr a;
    struct err err = {0};
    assert_int_equal(addr_parse(&a, str_from(path), &err), RC_INVALID);
    assert_int_equal(addr_parse(&a, str_make(path, 5 + ADDR_UNIX_PATH_MAX), &err), RC_OK);
    char text[ADDR_TEXT_BYTES];
    assert_int_equal(strlen(addr_format(&a, text)), 5 + ADDR_UNIX_PATH_MAX);
    assert_int_equal(addr_parse(&a, STR_LIT("unix:/a\0b"), &err), RC_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_prints),
        cmocka_unit_test(says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
