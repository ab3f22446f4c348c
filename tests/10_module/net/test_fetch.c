/* Requests to a server on loopback, and those that are refused before or on their way. */
#include "check.h"

#include <netinet/in.h>
#include <string.h>

#include "base/thread.h"
#include "net/addr.h"
#include "net/fetch.h"
#include "net/http_server.h"
#include "net/loop.h"

struct rig {
    struct loop *loop;
    struct http_server *http;
    struct thread thread;
    struct addr addr;
    struct buf reply_body;
};

static void ignore_body(void *ctx, struct str bytes)
{
    UNUSED(bytes);
    UNUSED(ctx);
}

static void answer(void *ctx, enum rc rc)
{
    UNUSED(rc);
    struct http_exchange *x = ctx;
    const struct http_head *h = http_exchange_head(x);
    struct str cache = http_head_value(h, STR_LIT("x-cache"));
    struct http_header headers[] = {{STR_LIT("cache-control"), cache},
                                    {STR_LIT("location"), STR_LIT("/elsewhere")}};
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_add_printf(&b, "%s %.*s", http_method_name(h->method), STR(h->path));
    for (int i = 0; str_is(h->path, "/large") && i < 10000; i++) {
        buf_add_cstr(&b, "0123456789");
    }
    struct http_reply reply = {.status = str_is(h->path, "/moved") ? 302 : 200,
                               .headers = headers,
                               .n_headers = 2,
                               .body = buf_str(&b)};
    assert_int_equal(http_exchange_reply(x, &reply, NULL), RC_OK);
    buf_deinit(&b);
}

static void ignore_close(void *ctx, enum rc rc)
{
    UNUSED(ctx);
    UNUSED(rc);
}

static void handle(void *ctx, struct http_exchange *x)
{
    static const struct http_exchange_events events = {
        .on_body = ignore_body, .on_body_end = answer, .on_close = ignore_close};
    UNUSED(ctx);
    bool silent = str_is(http_exchange_head(x)->path, "/silent");
    http_exchange_accept(x, silent ? HTTP_BODY_DROP : HTTP_BODY_COLLECT, 1 << 20, &events, x);
}

static void rig_run(void *ctx)
{
    loop_run(ctx);
}

static int rig_make(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct http_server_conf http = {.handler = handle, .handler_ctx = r};
    struct listen_conf listen = {0};
    assert_int_equal(loop_create(&r->loop, clock_system(), NULL), RC_OK);
    assert_int_equal(addr_parse(&listen.addr, STR_LIT("127.0.0.1:0"), NULL), RC_OK);
    assert_int_equal(http_server_create(&r->http, r->loop, &http, NULL), RC_OK);
    assert_int_equal(http_server_listen(r->http, &listen, &r->addr, NULL), RC_OK);
    assert_int_equal(thread_start(&r->thread, "server", -1, rig_run, r->loop), RC_OK);
    *state = r;
    return 0;
}

static int rig_remove(void **state)
{
    struct rig *r = *state;
    loop_stop(r->loop);
    thread_join(&r->thread);
    http_server_destroy(r->http);
    loop_destroy(r->loop);
    free(r);
    return 0;
}

static enum rc ask(struct rig *r, const char *scheme, const char *path, struct fetch_conf conf,
                   struct fetch_reply *reply, struct err *err)
{
    char url[200], text[ADDR_TEXT_BYTES];
    snprintf(url, sizeof(url), "%s://%s%s", scheme, addr_format(&r->addr, text), path);
    conf.url = url;
    conf.timeout_ms = conf.timeout_ms != 0 ? conf.timeout_ms : 30000;
    buf_init(&reply->body, 64 << 10);
    return fetch_run(&conf, reply, err);
}

static void an_answer_comes_whole(void **state)
{
    static const char *const headers[] = {"x-cache: public, max-age=90", NULL};
    struct fetch_reply reply;
    struct fetch_conf conf = {.inside = true, .headers = headers};
    assert_int_equal(ask(*state, "http", "/keys", conf, &reply, NULL), RC_OK);
    assert_int_equal(reply.status, 200);
    assert_true(str_is(buf_str(&reply.body), "GET /keys"));
    assert_true(reply.has_max_age && reply.max_age_s == 90);
    buf_deinit(&reply.body);

    conf = (struct fetch_conf){.inside = true, .body = STR_LIT("{}"), .method = "PUT"};
    assert_int_equal(ask(*state, "http", "/x", conf, &reply, NULL), RC_OK);
    assert_true(str_is(buf_str(&reply.body), "PUT /x"));
    assert_false(reply.has_max_age);
    buf_deinit(&reply.body);

    static const char *const never[] = {"x-cache: max-age=90, no-store", NULL};
    conf = (struct fetch_conf){.inside = true, .body = STR_LIT(""), .headers = never};
    assert_int_equal(ask(*state, "http", "/moved", conf, &reply, NULL), RC_OK);
    assert_int_equal(reply.status, 302); /* not followed */
    assert_true(str_is(buf_str(&reply.body), "POST /moved"));
    assert_true(reply.has_max_age && reply.max_age_s == 0);
    buf_deinit(&reply.body);
}

static void bounds_hold(void **state)
{
    struct fetch_reply reply;
    struct err err = {0};
    atomic_bool stop;
    atomic_init(&stop, true);
    struct fetch_conf conf = {.inside = true};
    assert_int_equal(ask(*state, "http", "/large", conf, &reply, &err), RC_TOO_LARGE);
    buf_deinit(&reply.body);
    conf.timeout_ms = 50;
    assert_int_equal(ask(*state, "http", "/silent", conf, &reply, &err), RC_TIMEOUT);
    buf_deinit(&reply.body);
    conf = (struct fetch_conf){.inside = true, .stop = &stop};
    assert_int_equal(ask(*state, "http", "/silent", conf, &reply, &err), RC_CANCELLED);
    buf_deinit(&reply.body);
}

static void what_leads_inside_is_refused(void **state)
{
    static const char *const urls[] = {"http://localhost:1/", "http://[::1]:1/",
                                       "http://127.1:1/",     "http://0x7f000001:1/",
                                       "http://10.0.0.1/",    "https://169.254.169.254/latest"};
    struct fetch_reply reply;
    struct err err = {0};
    assert_int_equal(ask(*state, "http", "/keys", (struct fetch_conf){0}, &reply, &err),
                     RC_FORBIDDEN);
    buf_deinit(&reply.body);
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct fetch_conf conf = {.url = urls[i], .timeout_ms = 1000};
        buf_init(&reply.body, 1000);
        if (fetch_run(&conf, &reply, &err) != RC_FORBIDDEN) {
            fail_msg("%s: %s", urls[i], err.msg);
        }
        buf_deinit(&reply.body);
    }
}

static void plain_http_goes_no_further_than_loopback(void **state)
{
    struct fetch_reply reply;
    struct fetch_conf conf = {.url = "http://10.255.255.1/", .inside = true, .timeout_ms = 1000};
    UNUSED(state);
    buf_init(&reply.body, 1000);
    assert_int_equal(fetch_run(&conf, &reply, NULL), RC_FORBIDDEN);
    buf_deinit(&reply.body);
}

static void other_urls_are_refused(void **state)
{
    static const char *const urls[] = {
        "",        "file:///etc/passwd", "ftp://x/",   "HTTP://x/", "x", "https://",
        "https:x", "http://[::/",        "gopher://x/"};
    UNUSED(state);
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct fetch_reply reply;
        struct fetch_conf conf = {.url = urls[i], .inside = true, .timeout_ms = 1000};
        struct err err = {0};
        buf_init(&reply.body, 1000);
        assert_int_not_equal(fetch_run(&conf, &reply, &err), RC_OK);
        assert_true(err.msg[0] != '\0');
        buf_deinit(&reply.body);
    }
}

static void a_server_without_tls_is_no_https(void **state)
{
    struct fetch_reply reply;
    struct err err = {0};
    struct fetch_conf conf = {.inside = true};
    assert_int_equal(ask(*state, "https", "/keys", conf, &reply, &err), RC_UNAVAILABLE);
    buf_deinit(&reply.body);
}

static void special_ranges_are_known(void **state)
{
    static const struct {
        const char *addr;
        bool inside;
    } rows[] = {
        {"8.8.8.8:1", false},
        {"10.1.2.3:1", true},
        {"100.64.0.1:1", true},
        {"100.128.0.1:1", false},
        {"127.0.0.1:1", true},
        {"169.254.169.254:1", true},
        {"172.16.0.1:1", true},
        {"172.32.0.1:1", false},
        {"192.168.1.1:1", true},
        {"192.0.2.1:1", true},
        {"198.18.0.1:1", true},
        {"198.20.0.1:1", false},
        {"224.0.0.1:1", true},
        {"255.255.255.255:1", true},
        {"0.0.0.0:1", true},
        {"[::1]:1", true},
        {"[::]:1", true},
        {"[fe80::1]:1", true},
        {"[fd00::1]:1", true},
        {"[ff02::1]:1", true},
        {"[2001:4860:4860::8888]:1", false},
        {"[2001:db8::1]:1", true},
        {"[2001::1]:1", true},
        {"[2002:a00:1::]:1", true},
        {"[::ffff:10.0.0.1]:1", true},
        {"[::ffff:8.8.8.8]:1", false},
        {"[64:ff9b::a00:1]:1", true},
    };
    UNUSED(state);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct addr a;
        assert_int_equal(addr_parse(&a, str_from(rows[i].addr), NULL), RC_OK);
        if (fetch_addr_is_inside((struct sockaddr *)&a.sa) != rows[i].inside) {
            fail_msg("%s", rows[i].addr);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_comes_whole),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(what_leads_inside_is_refused),
        cmocka_unit_test(plain_http_goes_no_further_than_loopback),
        cmocka_unit_test(other_urls_are_refused),
        cmocka_unit_test(a_server_without_tls_is_no_https),
        cmocka_unit_test(special_ranges_are_known),
    };
    return cmocka_run_group_tests(tests, rig_make, rig_remove);
}
