/* Names looked up beside the loop; what is no name; addresses compared. */
#include "check.h"

#include "net/loop.h"
#include "net/resolve.h"
#include "obs/metric.h"

struct seen {
    struct loop *loop;
    struct addr first;
    uint32_t n, n_calls;
    double failures;
    struct loop_timer timer;
};

static void found(void *ctx, const struct addr *addrs, uint32_t n)
{
    struct seen *s = ctx;
    s->first = addrs[0];
    s->n = n;
    s->n_calls++;
    loop_stop(s->loop);
}

static void look(void *ctx)
{
    struct seen *s = ctx;
    if (metric_value(metric_get(METRIC_RESOLVE_FAILURES)) > s->failures) {
        loop_stop(s->loop);
    }
    loop_timer_start(&s->timer, 1);
}

static void tells_where_a_host_is(void **state)
{
    (void)state;
    struct seen s = {0};
    struct resolve *r = NULL;
    struct addr want;
    assert_int_equal(loop_create(&s.loop, clock_system(), NULL), RC_OK);
    assert_int_equal(resolve_start(&r, s.loop, STR_LIT("localhost:8080"), found, &s, NULL), RC_OK);
    assert_int_equal(s.n_calls, 0);
    loop_run(s.loop);
    assert_int_equal(addr_parse(&want, STR_LIT("127.0.0.1:8080"), NULL), RC_OK);
    assert_int_equal(s.n_calls, 1);
    assert_int_equal(s.n, 1);
    assert_true(addr_eq(&s.first, &want));
    resolve_stop(r);
    resolve_stop(NULL);
    /* Stopped while it asks. */
    assert_int_equal(resolve_start(&r, s.loop, STR_LIT("localhost:1"), found, &s, NULL), RC_OK);
    loop_timer_init(&s.timer, s.loop, look, &s);
    s.failures = -1;
    loop_timer_start(&s.timer, 0);
    loop_run(s.loop);
    resolve_stop(r);
    loop_timer_stop(&s.timer);
    loop_destroy(s.loop);
}

static void counts_what_nobody_knows(void **state)
{
    (void)state;
    struct seen s = {.failures = metric_value(metric_get(METRIC_RESOLVE_FAILURES))};
    struct resolve *r = NULL;
    assert_int_equal(loop_create(&s.loop, clock_system(), NULL), RC_OK);
    /* Not a name at all, so that no name server is asked. */
    assert_int_equal(resolve_start(&r, s.loop, STR_LIT("no name:1"), found, &s, NULL), RC_OK);
    loop_timer_init(&s.timer, s.loop, look, &s);
    loop_timer_start(&s.timer, 1);
    loop_run(s.loop);
    assert_int_equal(s.n_calls, 0);
    loop_timer_stop(&s.timer);
    resolve_stop(r);
    loop_destroy(s.loop);
}

static void knows_names_from_addresses(void **state)
{
    (void)state;
    static const char *const names[] = {"a:1", "api.example.com:443", "x_y-1.local:65535"};
    static const char *const others[] = {"",        "a",          "a:",       "a:x",
                                         "a:65536", "1.2.3.4:80", "[::1]:80", "unix:/x",
                                         "a b:80",  "a/b:80",     ":80",      "::1:80"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_true(addr_is_name(str_from(names[i])));
    }
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        assert_false(addr_is_name(str_from(others[i])));
    }
    struct addr a, b;
    assert_int_equal(addr_parse(&a, STR_LIT("1.2.3.4:80"), NULL), RC_OK);
    assert_int_equal(addr_parse(&b, STR_LIT("1.2.3.4:81"), NULL), RC_OK);
    assert_false(addr_eq(&a, &b));
    assert_true(addr_eq(&a, &a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_where_a_host_is),
        cmocka_unit_test(counts_what_nobody_knows),
        cmocka_unit_test(knows_names_from_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
