/* The HTTP client and its pool: the loop here, a scripted upstream on its own thread. */
#include "raw.h"

#include <stdatomic.h>

#include "base/mem.h"
#include "base/thread.h"
#include "net/http_client.h"
#include "net/loop.h"

struct upstream {
    struct addr addr;
    int listen_fd;
    struct thread thread;
    void (*script)(struct upstream *u);
    const char *text; /* for scripts that send one */
    atomic_int n_conns, n_requests;
    atomic_bool saw_end;
    atomic_size_t n_sent;
};

struct call {
    struct loop *loop;
    struct http_call *handle;
    struct buf seen; /* status, body and end as text */
    enum rc rc;
    struct http_call_result result;
    int n_end, n_heads, n_pieces;
    bool pause_each, cancel_on_body;
    struct loop_timer timer;
    int *n_left; /* stops the loop at 0 */
};

/* --- the upstream ------------------------------------------------------------------------- */

static int peer_accept(struct upstream *u)
{
    struct pollfd p = {.fd = u->listen_fd, .events = POLLIN};
    if (poll(&p, 1, RAW_WAIT_MS) <= 0) {
        return -1;
    }
    int fd = accept(u->listen_fd, NULL, NULL);
    atomic_fetch_add(&u->n_conns, fd >= 0 ? 1 : 0);
    return fd;
}

/* Reads one request's head (bodies of these tests are short and come with it). */
static bool peer_request(struct upstream *u, int fd)
{
    struct buf in;
    buf_init(&in, 1 << 20);
    bool ok = raw_until(fd, &in, "\r\n\r\n", 1);
    buf_deinit(&in);
    if (ok) {
        atomic_fetch_add(&u->n_requests, 1);
    } else {
        atomic_store(&u->saw_end, true);
    }
    return ok;
}

/* Serves u->text to every request of every connection, one connection at a time. */
static void script_serve(struct upstream *u)
{
    int fd;
    while ((fd = peer_accept(u)) >= 0) {
        while (peer_request(u, fd) && raw_puts(fd, u->text)) {}
        close(fd);
    }
}

/* One request per connection; then the connection ends. */
static void script_once(struct upstream *u)
{
    int fd;
    while ((fd = peer_accept(u)) >= 0) {
        if (peer_request(u, fd)) {
            raw_puts(fd, u->text);
        }
        close(fd);
    }
}

/* Serves one request, reads the next and closes without a word; then serves again. */
static void script_stale(struct upstream *u)
{
    int fd = peer_accept(u);
    if (peer_request(u, fd)) {
        raw_puts(fd, u->text);
        peer_request(u, fd);
    }
    close(fd);
    script_serve(u);
}

/* Answers, if at all, with u->text, and waits for the client to go. */
static void script_hold(struct upstream *u)
{
    int fd;
    while ((fd = peer_accept(u)) >= 0) {
        struct buf in;
        buf_init(&in, 1 << 20);
        if (peer_request(u, fd) && raw_puts(fd, u->text)) {
            atomic_store(&u->saw_end, raw_to_end(fd, &in));
        }
        buf_deinit(&in);
        close(fd);
    }
}

enum { POUR_BYTES = 20 << 20 };

static void script_pour(struct upstream *u)
{
    int fd = peer_accept(u);
    if (peer_request(u, fd)) {
        char head[80];
        snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", POUR_BYTES);
        raw_puts(fd, head);
        static const char block[65536] = {'b'};
        size_t left = POUR_BYTES;
        while (left > 0 && raw_send(fd, str_make(block, MIN(left, sizeof(block))))) {
            left -= MIN(left, sizeof(block));
            atomic_store(&u->n_sent, POUR_BYTES - left);
        }
    }
    close(fd);
}

/* One byte at a time, so that the response comes in as many reads as it likes. */
static void script_drip(struct upstream *u)
{
    int fd = peer_accept(u);
    while (peer_request(u, fd)) {
        for (const char *c = u->text; *c != '\0'; c++) {
            raw_send(fd, str_make(c, 1));
            usleep(50);
        }
    }
    close(fd);
}

static void peer_run(void *arg)
{
    struct upstream *u = arg;
    u->script(u);
}

static void upstream_start(struct upstream *u, void (*script)(struct upstream *), const char *text)
{
    *u = (struct upstream){.script = script, .text = text};
    u->listen_fd = raw_listen(&u->addr);
    assert_int_equal(thread_start(&u->thread, "upstream", -1, peer_run, u), RC_OK);
}

static void upstream_stop(struct upstream *u)
{
    shutdown(u->listen_fd, SHUT_RDWR); /* wakes accept */
    thread_join(&u->thread);
    close(u->listen_fd);
}

/* --- the calls ---------------------------------------------------------------------------- */

static void on_head(void *ctx, const struct http_head *h)
{
    struct call *c = ctx;
    c->n_heads++;
    buf_add_printf(&c->seen, "%d:", h->status);
}

static void resume(void *ctx)
{
    struct call *c = ctx;
    http_client_resume(c->handle);
}

static void on_body(void *ctx, struct str bytes)
{
    struct call *c = ctx;
    c->n_pieces++;
    buf_add_str(&c->seen, bytes);
    if (c->cancel_on_body) {
        http_client_cancel(c->handle);
        http_client_cancel(c->handle);
    } else if (c->pause_each) {
        http_client_pause(c->handle);
        loop_timer_start(&c->timer, 1);
    }
}

static void on_end(void *ctx, const struct http_call_result *r)
{
    struct call *c = ctx;
    c->n_end++;
    c->rc = r->rc;
    c->result = *r;
    loop_timer_stop(&c->timer);
    assert_non_null(r->what);
    if (--*c->n_left == 0) {
        loop_stop(c->loop);
    }
}

static const struct http_client_events events = {
    .on_head = on_head, .on_body = on_body, .on_end = on_end};

struct rig {
    struct loop *loop;
    struct http_pool *pool;
    int n_left;
};

static void rig_start(struct rig *r, struct http_pool_conf conf)
{
    *r = (struct rig){0};
    assert_int_equal(loop_create(&r->loop, clock_system(), NULL), RC_OK);
    assert_int_equal(http_pool_create(&r->pool, r->loop, &conf, NULL), RC_OK);
}

static void rig_stop(struct rig *r)
{
    http_pool_destroy(r->pool);
    loop_destroy(r->loop);
}

static void call_start(struct rig *r, struct call *c, struct http_client_conf conf)
{
    c->loop = r->loop;
    c->n_left = &r->n_left;
    r->n_left++;
    buf_init(&c->seen, 64 << 20);
    loop_timer_init(&c->timer, r->loop, resume, c);
    if (conf.target.len == 0) {
        conf.target = STR_LIT("/x");
    }
    assert_int_equal(http_client_start(&c->handle, r->pool, &conf, &events, c, NULL), RC_OK);
    assert_int_equal(c->n_end, 0);
}

/* One call from start to end. */
static struct call run_call(struct rig *r, struct http_client_conf conf)
{
    struct call c = {0};
    call_start(r, &c, conf);
    loop_run(r->loop);
    assert_int_equal(c.n_end, 1);
    return c;
}

static void check_call(struct rig *r, struct http_client_conf conf, enum rc rc, const char *seen)
{
    struct call c = run_call(r, conf);
    assert_int_equal(c.rc, rc);
    if (!str_eq(buf_str(&c.seen), str_from(seen))) {
        fail_msg("saw '%.*s', want '%s'", STR(buf_str(&c.seen)), seen);
    }
    buf_deinit(&c.seen);
}

#define OK_KEPT "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* --- tests -------------------------------------------------------------------------------- */

static void reuses_its_connection(void **state)
{
    (void)state;
    struct upstream u;
    struct rig r;
    upstream_start(&u, script_serve, OK_KEPT);
    rig_start(&r, (struct http_pool_conf){.addr = u.addr});
    for (int i = 0; i < 5; i++) {
        check_call(&r, (struct http_client_conf){.method = HTTP_METHOD_POST, .body = STR_LIT("b")},
                   RC_OK, "200:ok");
    }
    struct http_pool_stats st = http_pool_stats(r.pool);
    assert_int_equal(st.n_connects, 1);
    assert_int_equal(st.n_reused, 4);
    assert_int_equal(st.n_idle, 1);
    http_pool_flush(r.pool);
    check_call(&r, (struct http_client_conf){0}, RC_OK, "200:ok");
    assert_int_equal(http_pool_stats(r.pool).n_connects, 2);
    rig_stop(&r);
    upstream_stop(&u);
    assert_int_equal(atomic_load(&u.n_conns), 2);
    assert_int_equal(atomic_load(&u.n_requests), 6);
}

static void reads_every_framing(void **state)
{
    (void)state;
    static const struct {
        enum http_method method;
        const char *text, *seen;
    } rows[] = {
        {HTTP_METHOD_GET,
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
         "200:abcd"},
        {HTTP_METHOD_GET, "HTTP/1.1 200 OK\r\n\r\nto the end", "200:to the end"},
        {HTTP_METHOD_GET, "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", "200:x"},
        {HTTP_METHOD_HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", "200:"},
        {HTTP_METHOD_GET, "HTTP/1.1 204 No Content\r\n\r\n", "204:"},
        {HTTP_METHOD_GET,
         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\n"
         "HTTP/1.1 503 Busy\r\nContent-Length: 1\r\n\r\ny",
         "503:y"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct upstream u;
        struct rig r;
        upstream_start(&u, script_once, rows[i].text);
        rig_start(&r, (struct http_pool_conf){.addr = u.addr});
        check_call(&r, (struct http_client_conf){.method = rows[i].method}, RC_OK, rows[i].seen);
        rig_stop(&r);
        upstream_stop(&u);
    }
}

static void reads_it_byte_by_byte(void **state)
{
    (void)state;
    struct upstream u;
    struct rig r;
    upstream_start(&u, script_drip,
                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n"
                   "0123456789\r\n0\r\nT: x\r\n\r\n");
    rig_start(&r, (struct http_pool_conf){.addr = u.addr});
    for (int i = 0; i < 3; i++) {
        check_call(&r, (struct http_client_conf){0}, RC_OK, "200:abc0123456789");
    }
    assert_int_equal(http_pool_stats(r.pool).n_connects, 1);
    rig_stop(&r);
    upstream_stop(&u);
}

static void refuses_malformed_responses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *seen;
    } rows[] = {
        {"<html>", ""},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx", ""},
        {"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", ""},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "200:abc"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz", "200:abc"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "200:abc"},
        {"HTTP/1.1 200 OK\r\nContent-", ""},
        {"", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct upstream u;
        struct rig r;
        upstream_start(&u, script_once, rows[i].text);
        rig_start(&r, (struct http_pool_conf){.addr = u.addr});
        check_call(&r, (struct http_client_conf){.replayable = true}, RC_UPSTREAM, rows[i].seen);
        rig_stop(&r);
        upstream_stop(&u);
        assert_int_equal(atomic_load(&u.n_requests), 1);
    }
}

static void replaces_a_stale_connection_once(void **state)
{
    (void)state;
    for (int replayable = 0; replayable < 2; replayable++) {
        struct upstream u;
        struct rig r;
        upstream_start(&u, script_stale, OK_KEPT);
        rig_start(&r, (struct http_pool_conf){.addr = u.addr});
        check_call(&r, (struct http_client_conf){0}, RC_OK, "200:ok");
        struct http_client_conf conf = {.replayable = replayable != 0, .body = STR_LIT("again")};
        struct call c = run_call(&r, conf);
        assert_int_equal(c.rc, replayable ? RC_OK : RC_UPSTREAM);
        assert_true(c.result.sent);
        assert_int_equal(c.result.head_seen, replayable);
        assert_int_equal(http_pool_stats(r.pool).n_stale_retries, replayable);
        buf_deinit(&c.seen);
        rig_stop(&r);
        upstream_stop(&u);
    }
}

static void keeps_its_deadlines(void **state)
{
    (void)state;
    struct upstream u;
    struct rig r;
    upstream_start(&u, script_hold, "");
    rig_start(&r, (struct http_pool_conf){.addr = u.addr});
    check_call(&r, (struct http_client_conf){.first_byte_ms = 40}, RC_TIMEOUT, "");
    rig_stop(&r);
    upstream_stop(&u);
    upstream_start(&u, script_hold, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
    rig_start(&r, (struct http_pool_conf){.addr = u.addr});
    check_call(&r, (struct http_client_conf){.idle_ms = 40}, RC_TIMEOUT, "200:abc");
    rig_stop(&r);
    upstream_stop(&u);
    assert_true(atomic_load(&u.saw_end));
}

static void waits_in_line_but_not_for_ever(void **state)
{
    (void)state;
    struct upstream u;
    struct rig r;
    upstream_start(&u, script_serve, OK_KEPT);
    rig_start(&r, (struct http_pool_conf){.addr = u.addr, .conns_max = 1, .waiting_max = 3});
    struct call c[5] = {0};
    for (int i = 0; i < 4; i++) {
        call_start(&r, &c[i], (struct http_client_conf){0});
    }
    struct http_client_conf conf = {.target = STR_LIT("/")};
    struct http_call *none;
    struct err err;
    assert_int_equal(http_client_start(&none, r.pool, &conf, &events, &c[4], &err), RC_OVERLOADED);
    loop_run(r.loop);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(c[i].rc, RC_OK);
        buf_deinit(&c[i].seen);
    }
    assert_int_equal(http_pool_stats(r.pool).n_connects, 1);
    rig_stop(&r);
    upstream_stop(&u);
    upstream_start(&u, script_hold, "");
    rig_start(&r, (struct http_pool_conf){.addr = u.addr, .conns_max = 1, .connect_ms = 40});
    struct call held = {0}, late = {0};
    call_start(&r, &held, (struct http_client_conf){.first_byte_ms = 150});
    call_start(&r, &late, (struct http_client_conf){0});
    loop_run(r.loop);
    assert_int_equal(late.rc, RC_TIMEOUT);
    assert_false(late.result.sent);
    assert_int_equal(held.rc, RC_TIMEOUT);
    assert_true(held.result.sent);
    buf_deinit(&held.seen);
    buf_deinit(&late.seen);
    rig_stop(&r);
    upstream_stop(&u);
}

static void says_when_nobody_listens(void **state)
{
    (void)state;
    struct addr a;
    struct rig r;
    close(raw_listen(&a));
    rig_start(&r, (struct http_pool_conf){.addr = a});
    check_call(&r, (struct http_client_conf){.replayable = true}, RC_UNAVAILABLE, "");
    assert_int_equal(http_pool_stats(r.pool).n_connect_failures, 1);
    rig_stop(&r);
    assert_int_equal(addr_parse(&a, STR_LIT("unix:/nowhere/at/all"), NULL), RC_OK);
    rig_start(&r, (struct http_pool_conf){.addr = a});
    check_call(&r, (struct http_client_conf){0}, RC_UNAVAILABLE, "");
    rig_stop(&r);
}

static void cancel_closes_the_connection(void **state)
{
    (void)state;
    struct upstream u;
    struct rig r;
    upstream_start(&u, script_hold, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
    rig_start(&r, (struct http_pool_conf){.addr = u.addr});
    struct call c = {.cancel_on_body = true};
    call_start(&r, &c, (struct http_client_conf){0});
    loop_run(r.loop);
    assert_int_equal(c.rc, RC_CANCELLED);
    assert_int_equal(c.n_pieces, 1);
    assert_int_equal(c.n_end, 1);
    buf_deinit(&c.seen);
    /* Before anything has happened, and in line. */
    struct call d = {0};
    call_start(&r, &d, (struct http_client_conf){0});
    http_client_cancel(d.handle);
    assert_int_equal(d.n_end, 0);
    loop_run(r.loop);
    assert_int_equal(d.rc, RC_CANCELLED);
    assert_int_equal(d.n_heads, 0);
    buf_deinit(&d.seen);
    rig_stop(&r);
    upstream_stop(&u);
    assert_true(atomic_load(&u.saw_end));
}

static void look(void *ctx)
{
    struct upstream *u = ctx;
    /* Socket buffers and one unread input are all that may have left the upstream. */
    assert_true(atomic_load(&u->n_sent) < POUR_BYTES);
}

static void a_pause_slows_the_upstream(void **state)
{
    (void)state;
    struct upstream u;
    struct rig r;
    upstream_start(&u, script_pour, "");
    rig_start(&r, (struct http_pool_conf){.addr = u.addr});
    struct call c = {.pause_each = true};
    struct loop_timer later;
    loop_timer_init(&later, r.loop, look, &u);
    loop_timer_start(&later, 60);
    call_start(&r, &c, (struct http_client_conf){.idle_ms = 1000});
    loop_run(r.loop);
    loop_timer_stop(&later);
    assert_int_equal(c.rc, RC_OK);
    assert_int_equal(c.seen.len, POUR_BYTES + 4);
    assert_true(c.n_pieces > 100);
    buf_deinit(&c.seen);
    rig_stop(&r);
    upstream_stop(&u);
}

static void destroying_the_pool_ends_its_calls(void **state)
{
    (void)state;
    struct upstream u;
    struct rig r;
    upstream_start(&u, script_hold, "");
    rig_start(&r, (struct http_pool_conf){.addr = u.addr, .conns_max = 1});
    struct call c[3] = {0};
    for (int i = 0; i < 3; i++) {
        call_start(&r, &c[i], (struct http_client_conf){0});
    }
    http_pool_destroy(r.pool);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(c[i].n_end, 0);
    }
    loop_run(r.loop);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(c[i].n_end, 1);
        assert_int_equal(c[i].rc, RC_CANCELLED);
        buf_deinit(&c[i].seen);
    }
    loop_destroy(r.loop);
    upstream_stop(&u);
}

static void stop(void *ctx)
{
    loop_stop(ctx);
}

static void idle_connections_grow_old(void **state)
{
    (void)state;
    struct upstream u;
    struct rig r;
    upstream_start(&u, script_serve, OK_KEPT);
    rig_start(&r, (struct http_pool_conf){.addr = u.addr, .idle_ms = 30});
    check_call(&r, (struct http_client_conf){0}, RC_OK, "200:ok");
    assert_int_equal(http_pool_stats(r.pool).n_idle, 1);
    struct loop_timer t;
    loop_timer_init(&t, r.loop, stop, r.loop);
    loop_timer_start(&t, 80);
    loop_run(r.loop);
    assert_int_equal(http_pool_stats(r.pool).n_idle, 0);
    assert_int_equal(http_pool_stats(r.pool).n_open, 0);
    rig_stop(&r);
    upstream_stop(&u);
}

/* Bytes behind a complete response: the connection must not carry another request. */
static void unasked_bytes_end_a_connection(void **state)
{
    (void)state;
    struct upstream u;
    struct rig r;
    upstream_start(&u, script_serve, OK_KEPT "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    rig_start(&r, (struct http_pool_conf){.addr = u.addr});
    for (int i = 0; i < 3; i++) {
        check_call(&r, (struct http_client_conf){0}, RC_OK, "200:ok");
    }
    assert_int_equal(http_pool_stats(r.pool).n_connects, 3);
    rig_stop(&r);
    upstream_stop(&u);
}

static void refuses_what_may_not_be_sent(void **state)
{
    (void)state;
    struct addr a;
    struct rig r;
    struct http_call *c;
    assert_int_equal(addr_parse(&a, STR_LIT("127.0.0.1:1"), NULL), RC_OK);
    rig_start(&r, (struct http_pool_conf){.addr = a});
    static const struct http_header bad[] = {
        {STR_LIT("a"), STR_LIT("b\r\nc: d")},      {STR_LIT("Host"), STR_LIT("x")},
        {STR_LIT("Content-Length"), STR_LIT("0")}, {STR_LIT("Transfer-Encoding"), STR_LIT("x")},
        {STR_LIT("connection"), STR_LIT("close")}, {STR_LIT("a b"), STR_LIT("c")},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct http_client_conf conf = {.target = STR_LIT("/"), .headers = &bad[i], .n_headers = 1};
        assert_int_equal(http_client_start(&c, r.pool, &conf, &events, NULL, NULL), RC_INVALID);
    }
    struct http_client_conf conf = {.target = STR_LIT("/a b")};
    assert_int_equal(http_client_start(&c, r.pool, &conf, &events, NULL, NULL), RC_INVALID);
    struct http_pool *p;
    struct http_pool_conf pc = {.addr = a, .host = STR_LIT("x\r\ny")};
    assert_int_equal(http_pool_create(&p, r.loop, &pc, NULL), RC_INVALID);
    rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reuses_its_connection),
        cmocka_unit_test(reads_every_framing),
        cmocka_unit_test(reads_it_byte_by_byte),
        cmocka_unit_test(refuses_malformed_responses),
        cmocka_unit_test(replaces_a_stale_connection_once),
        cmocka_unit_test(keeps_its_deadlines),
        cmocka_unit_test(waits_in_line_but_not_for_ever),
        cmocka_unit_test(says_when_nobody_listens),
        cmocka_unit_test(cancel_closes_the_connection),
        cmocka_unit_test(a_pause_slows_the_upstream),
        cmocka_unit_test(destroying_the_pool_ends_its_calls),
        cmocka_unit_test(idle_connections_grow_old),
        cmocka_unit_test(unasked_bytes_end_a_connection),
        cmocka_unit_test(refuses_what_may_not_be_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
