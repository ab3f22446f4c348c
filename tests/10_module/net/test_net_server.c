/* The HTTP server from the outside: a loop on its own thread, raw sockets here. */
#include "raw.h"

#include <stdatomic.h>

#include "base/mem.h"
#include "base/thread.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "obs/metric.h"

struct app {
    struct loop *loop;
    struct http_server *server;
    struct addr addr;
    struct thread thread;
    atomic_int n_handled, n_closed, last_rc, last_body_rc, n_live;
    atomic_bool drained;
};

/* What a handler keeps for one exchange; lives until on_close. */
struct job {
    struct app *app;
    struct http_exchange *x;
    struct loop_timer timer;
    int n_left;
    size_t bytes;
    enum rc body_rc;
    bool collected;
};

static void reply_text(struct http_exchange *x, int status, struct str body)
{
    struct http_header h[] = {{STR_LIT("content-type"), STR_LIT("text/plain")}};
    struct http_reply r = {.status = status, .headers = h, .n_headers = 1, .body = body};
    assert_int_equal(http_exchange_reply(x, &r, NULL), RC_OK);
}

static void job_close(void *ctx, enum rc rc)
{
    struct job *j = ctx;
    loop_timer_stop(&j->timer);
    atomic_store(&j->app->last_rc, rc);
    atomic_fetch_sub(&j->app->n_live, 1);
    atomic_fetch_add(&j->app->n_closed, 1);
    mem_free(j);
}

static void job_body(void *ctx, struct str bytes)
{
    struct job *j = ctx;
    j->bytes += bytes.len;
    if (j->n_left > 0) { /* the slow reader: one piece per timer */
        http_exchange_body_pause(j->x);
        loop_timer_start(&j->timer, 2);
    } else if (j->collected) {
        reply_text(j->x, 200, bytes);
    }
}

static void job_body_end(void *ctx, enum rc rc)
{
    struct job *j = ctx;
    j->body_rc = rc;
    if (http_exchange_has_begun(j->x)) {
        atomic_store(&j->app->last_body_rc, rc);
    } else if (rc != RC_OK) {
        reply_text(j->x, rc == RC_TIMEOUT ? 408 : err_row(rc)->http_status,
                   str_from(err_row(rc)->name));
    } else if (!j->collected) {
        char text[32];
        snprintf(text, sizeof(text), "%zu", j->bytes);
        reply_text(j->x, 200, str_from(text));
    }
}

static void job_resume(void *ctx)
{
    struct job *j = ctx;
    http_exchange_body_resume(j->x);
}

static void job_tick(void *ctx)
{
    struct job *j = ctx;
    if (!http_exchange_has_begun(j->x)) {
        struct http_header h[] = {{STR_LIT("content-type"), STR_LIT("text/event-stream")}};
        struct http_reply r = {.status = 200, .headers = h, .n_headers = 1};
        assert_int_equal(http_exchange_begin(j->x, &r, NULL), RC_OK);
    }
    http_exchange_write(j->x, STR_LIT("data: x\n\n"));
    if (--j->n_left > 0) {
        loop_timer_start(&j->timer, 2);
    } else {
        http_exchange_end(j->x);
    }
}

static void job_answer(void *ctx)
{
    struct job *j = ctx;
    reply_text(j->x, 200, STR_LIT("late"));
}

/* Writes while it may; 4 MiB in all. */
static void job_pour(void *ctx)
{
    struct job *j = ctx;
    static const char block[4096] = {'a'};
    while (j->n_left > 0 && http_exchange_is_writable(j->x)) {
        http_exchange_write(j->x, str_make(block, sizeof(block)));
        j->n_left--;
    }
    if (j->n_left == 0) {
        j->n_left = -1;
        http_exchange_end(j->x);
    }
}

static const struct http_exchange_events job_events = {.on_body = job_body,
                                                       .on_body_end = job_body_end,
                                                       .on_writable = job_pour,
                                                       .on_close = job_close};

static struct job *job_new(struct app *app, struct http_exchange *x, void (*timer)(void *))
{
    struct job *j = mem_zalloc(sizeof(*j));
    j->app = app;
    j->x = x;
    loop_timer_init(&j->timer, app->loop, timer, j);
    atomic_fetch_add(&app->n_live, 1);
    return j;
}

static void handle_streams(struct app *app, struct http_exchange *x, struct str path)
{
    if (str_is(path, "/stream")) {
        struct job *j = job_new(app, x, job_tick);
        j->n_left = 3;
        http_exchange_accept(x, HTTP_BODY_DROP, 0, &job_events, j);
        loop_timer_start(&j->timer, 1);
    } else if (str_is(path, "/pour")) {
        struct job *j = job_new(app, x, job_pour);
        j->n_left = 1024;
        http_exchange_accept(x, HTTP_BODY_DROP, 0, &job_events, j);
        struct http_reply r = {.status = 200};
        assert_int_equal(http_exchange_begin(x, &r, NULL), RC_OK);
        loop_timer_start(&j->timer, 0);
    } else if (str_is(path, "/abort")) {
        struct job *j = job_new(app, x, job_tick);
        http_exchange_accept(x, HTTP_BODY_DROP, 0, &job_events, j);
        struct http_reply r = {.status = 200};
        assert_int_equal(http_exchange_begin(x, &r, NULL), RC_OK);
        http_exchange_write(x, STR_LIT("half"));
        http_exchange_abort(x);
    } else {
        reply_text(x, 404, STR_LIT("no such path"));
    }
}

static void handle(void *ctx, struct http_exchange *x)
{
    struct app *app = ctx;
    struct str path = http_exchange_head(x)->path;
    atomic_fetch_add(&app->n_handled, 1);
    if (str_is(path, "/hello")) {
        reply_text(x, 200, STR_LIT("hello"));
    } else if (str_is(path, "/echo")) {
        struct job *j = job_new(app, x, job_tick);
        j->collected = true;
        http_exchange_accept(x, HTTP_BODY_COLLECT, 1000, &job_events, j);
    } else if (str_is(path, "/sink")) {
        struct job *j = job_new(app, x, job_resume);
        j->n_left = 1;
        http_exchange_accept(x, HTTP_BODY_STREAM, 64 << 20, &job_events, j);
    } else if (str_is(path, "/early")) {
        struct job *j = job_new(app, x, job_tick);
        http_exchange_accept(x, HTTP_BODY_STREAM, 1000, &job_events, j);
        reply_text(x, 403, STR_LIT("no"));
    } else if (str_is(path, "/wait")) {
        http_exchange_accept(x, HTTP_BODY_DROP, 0, &job_events, job_new(app, x, job_answer));
    } else if (str_is(path, "/late")) {
        struct job *j = job_new(app, x, job_answer);
        http_exchange_accept(x, HTTP_BODY_DROP, 0, &job_events, j);
        loop_timer_start(&j->timer, 30);
    } else {
        handle_streams(app, x, path);
    }
}

static void run(void *arg)
{
    struct app *app = arg;
    loop_run(app->loop);
}

static void app_start(struct app *app, const char *listen, struct http_server_conf conf)
{
    *app = (struct app){.last_rc = 1};
    conf.handler = handle;
    conf.handler_ctx = app;
    struct err err;
    assert_int_equal(loop_create(&app->loop, clock_system(), &err), RC_OK);
    assert_int_equal(http_server_create(&app->server, app->loop, &conf, &err), RC_OK);
    struct listen_conf lc = {0};
    assert_int_equal(addr_parse(&lc.addr, str_from(listen), &err), RC_OK);
    assert_int_equal(http_server_listen(app->server, &lc, &app->addr, &err), RC_OK);
    assert_int_equal(thread_start(&app->thread, "loop", -1, run, app), RC_OK);
}

static void app_default(struct app *app)
{
    app_start(app, "127.0.0.1:0", (struct http_server_conf){0});
}

static void app_stop(struct app *app)
{
    loop_stop(app->loop);
    thread_join(&app->thread);
    http_server_destroy(app->server);
    loop_destroy(app->loop);
    assert_int_equal(atomic_load(&app->n_live), 0);
}

static void wait_for(atomic_int *v, int want)
{
    for (int i = 0; i < 5000 && atomic_load(v) != want; i++) {
        usleep(1000);
    }
    assert_int_equal(atomic_load(v), want);
}

/* Sends, reads to the end of the stream, returns what came. */
static struct buf talk(struct app *app, const char *request)
{
    struct buf in;
    buf_init(&in, 16 << 20);
    int fd = raw_connect(&app->addr);
    assert_true(raw_puts(fd, request));
    assert_true(raw_to_end(fd, &in));
    close(fd);
    return in;
}

#define CLOSE "Host: h\r\nConnection: close\r\n"

static void answers_and_closes_when_asked(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    struct buf in = talk(&app, "GET /hello HTTP/1.1\r\n" CLOSE "\r\n");
    assert_true(str_starts(buf_str(&in), STR_LIT("HTTP/1.1 200 OK\r\n")));
    assert_true(raw_has(&in, "content-length: 5\r\n"));
    assert_true(raw_has(&in, "connection: close\r\n"));
    assert_true(raw_has(&in, "date: "));
    assert_true(str_ends(buf_str(&in), STR_LIT("\r\n\r\nhello")));
    buf_deinit(&in);
    app_stop(&app);
}

static void serves_pipelined_requests_in_order(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    struct buf in = talk(&app, "GET /late HTTP/1.1\r\nHost: h\r\n\r\n"
                               "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
                               "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n"
                               "GET /hello HTTP/1.1\r\n" CLOSE "\r\n");
    size_t late = str_find(buf_str(&in), STR_LIT("late"));
    size_t echo = str_find(buf_str(&in), STR_LIT("\r\n\r\nabc"));
    size_t stream = str_find(buf_str(&in), STR_LIT("0\r\n\r\n"));
    size_t hello = str_find(buf_str(&in), STR_LIT("\r\n\r\nhello"));
    assert_true(late < echo && echo < stream && stream < hello && hello < in.len);
    assert_true(raw_has(&in, "transfer-encoding: chunked"));
    buf_deinit(&in);
    app_stop(&app);
}

static void same_answers_for_any_split(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    struct str all = STR_LIT("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                             "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n"
                             "GET /hello HTTP/1.1\r\n" CLOSE "\r\n");
    for (size_t cut = 1; cut < all.len; cut++) {
        struct buf in;
        buf_init(&in, 1 << 20);
        int fd = raw_connect(&app.addr);
        assert_true(raw_send(fd, str_slice(all, 0, cut)));
        if (cut % 8 == 0) {
            usleep(300); /* now and then surely in two reads */
        }
        assert_true(raw_send(fd, str_slice(all, cut, all.len)));
        assert_true(raw_to_end(fd, &in));
        assert_true(raw_has(&in, "\r\n\r\nabcde"));
        assert_true(str_ends(buf_str(&in), STR_LIT("\r\n\r\nhello")));
        buf_deinit(&in);
        close(fd);
    }
    app_stop(&app);
}

static void says_continue_before_a_wanted_body(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    struct buf in;
    buf_init(&in, 1 << 20);
    int fd = raw_connect(&app.addr);
    assert_true(raw_puts(fd, "POST /echo HTTP/1.1\r\n" CLOSE
                             "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"));
    assert_true(raw_until(fd, &in, "HTTP/1.1 100 Continue\r\n\r\n", 1));
    assert_true(raw_puts(fd, "ok"));
    assert_true(raw_to_end(fd, &in));
    assert_true(str_ends(buf_str(&in), STR_LIT("\r\n\r\nok")));
    buf_deinit(&in);
    close(fd);
    /* Refused before the body: no 100, and the connection closes. */
    in = talk(&app, "POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n"
                    "Expect: 100-continue\r\n\r\n");
    assert_true(str_starts(buf_str(&in), STR_LIT("HTTP/1.1 404 Not Found")));
    assert_true(raw_has(&in, "connection: close"));
    buf_deinit(&in);
    app_stop(&app);
}

static void an_answer_before_the_body_closes_what_is_unclear(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    /* The client may now send the body or not: the connection can carry nothing more. */
    struct buf in = talk(&app, "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n"
                               "Expect: 100-continue\r\n\r\n");
    assert_true(str_starts(buf_str(&in), STR_LIT("HTTP/1.1 403 ")));
    assert_true(raw_has(&in, "connection: close"));
    assert_int_equal(atomic_load(&app.last_body_rc), RC_CANCELLED);
    buf_deinit(&in);
    /* One that sends it anyway is read to its end and kept. */
    in = talk(&app, "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab"
                    "GET /hello HTTP/1.1\r\n" CLOSE "\r\n");
    assert_true(str_starts(buf_str(&in), STR_LIT("HTTP/1.1 403 ")));
    assert_true(str_ends(buf_str(&in), STR_LIT("hello")));
    assert_int_equal(atomic_load(&app.last_body_rc), RC_OK);
    buf_deinit(&in);
    app_stop(&app);
}

static void refuses_bodies_over_the_limit(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    struct buf in = talk(&app, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\nx");
    assert_true(str_starts(buf_str(&in), STR_LIT("HTTP/1.1 413 ")));
    assert_true(raw_has(&in, "connection: close"));
    buf_deinit(&in);
    /* Chunked: known only when it comes; the client must still be able to read the answer. */
    struct buf out;
    buf_init(&out, 1 << 20);
    buf_add_cstr(&out, "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 300; i++) {
        buf_add_cstr(&out, "10\r\n0123456789abcdef\r\n");
    }
    in = talk(&app, out.ptr);
    assert_true(str_starts(buf_str(&in), STR_LIT("HTTP/1.1 413 ")));
    buf_deinit(&in);
    buf_deinit(&out);
    /* Exactly the limit is fine. */
    buf_init(&out, 1 << 20);
    buf_add_cstr(&out, "POST /echo HTTP/1.1\r\n" CLOSE "Content-Length: 1000\r\n\r\n");
    for (int i = 0; i < 100; i++) {
        buf_add_cstr(&out, "0123456789");
    }
    in = talk(&app, out.ptr);
    assert_true(str_starts(buf_str(&in), STR_LIT("HTTP/1.1 200 ")));
    buf_deinit(&in);
    buf_deinit(&out);
    app_stop(&app);
}

static void drops_unwanted_bodies(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    struct buf in = talk(&app, "POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde"
                               "POST /hello HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
                               "\r\n2\r\nab\r\n0\r\n\r\n"
                               "GET /hello HTTP/1.1\r\n" CLOSE "\r\n");
    size_t n = 0;
    for (struct str s = buf_str(&in); str_find(s, STR_LIT("hello")) < s.len; n++) {
        s = str_slice(s, str_find(s, STR_LIT("hello")) + 5, s.len);
    }
    assert_int_equal(n, 3);
    buf_deinit(&in);
    /* One too long to be read just to keep the connection. */
    in = talk(&app, "POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 900999\r\n\r\nabc");
    assert_true(raw_has(&in, "connection: close"));
    assert_true(str_ends(buf_str(&in), STR_LIT("hello")));
    buf_deinit(&in);
    app_stop(&app);
}

static void slows_the_client_of_a_paused_body(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    struct buf in;
    buf_init(&in, 1 << 20);
    int fd = raw_connect(&app.addr);
    assert_true(raw_puts(fd, "POST /sink HTTP/1.1\r\n" CLOSE "Content-Length: 3000000\r\n\r\n"));
    char *block = mem_zalloc(3000000);
    assert_true(raw_send(fd, str_make(block, 3000000)));
    mem_free(block);
    assert_true(raw_to_end(fd, &in));
    assert_true(str_ends(buf_str(&in), STR_LIT("\r\n\r\n3000000")));
    buf_deinit(&in);
    close(fd);
    app_stop(&app);
}

static void waits_for_a_slow_reader(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    struct buf in;
    buf_init(&in, 16 << 20);
    int fd = raw_connect(&app.addr);
    assert_true(raw_puts(fd, "GET /pour HTTP/1.0\r\n\r\n"));
    usleep(100000); /* the server fills what it may and stops */
    assert_int_equal(atomic_load(&app.n_closed), 0);
    assert_true(raw_to_end(fd, &in));
    assert_int_equal(in.len - str_find(buf_str(&in), STR_LIT("\r\n\r\n")) - 4, 4 << 20);
    assert_false(raw_has(&in, "chunked"));
    wait_for(&app.n_closed, 1);
    assert_int_equal(atomic_load(&app.last_rc), RC_OK);
    buf_deinit(&in);
    close(fd);
    app_stop(&app);
}

static void notices_a_hangup_while_waiting(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    for (int i = 0; i < 2; i++) { /* alone, and with a pipelined request behind it */
        int fd = raw_connect(&app.addr);
        assert_true(raw_puts(fd, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n"));
        if (i == 1) {
            assert_true(raw_puts(fd, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"));
        }
        wait_for(&app.n_live, 1);
        close(fd);
        wait_for(&app.n_closed, i + 1);
        assert_int_equal(atomic_load(&app.last_rc), RC_CANCELLED);
    }
    assert_int_equal(atomic_load(&app.n_handled), 2);
    app_stop(&app);
}

static void abort_is_seen_as_a_cut(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    struct buf in = talk(&app, "GET /abort HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_false(raw_has(&in, "0\r\n\r\n"));
    wait_for(&app.n_closed, 1);
    assert_int_equal(atomic_load(&app.last_rc), RC_CANCELLED);
    buf_deinit(&in);
    app_stop(&app);
}

static void head_requests_get_no_body(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    struct buf in = talk(&app, "HEAD /hello HTTP/1.1\r\nHost: h\r\n\r\n"
                               "HEAD /stream HTTP/1.1\r\n" CLOSE "\r\n");
    assert_true(raw_has(&in, "content-length: 5\r\n"));
    assert_false(raw_has(&in, "\r\n\r\nhello"));
    assert_false(raw_has(&in, "data:"));
    assert_true(str_ends(buf_str(&in), STR_LIT("\r\n\r\n")));
    buf_deinit(&in);
    app_stop(&app);
}

static void old_clients_get_old_http(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    struct buf in = talk(&app, "GET /stream HTTP/1.0\r\n\r\n");
    assert_false(raw_has(&in, "chunked"));
    assert_true(str_ends(buf_str(&in), STR_LIT("\r\n\r\ndata: x\n\ndata: x\n\ndata: x\n\n")));
    buf_deinit(&in);
    in = talk(&app, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
                    "GET /hello HTTP/1.0\r\n\r\n");
    assert_true(raw_has(&in, "connection: keep-alive\r\n"));
    assert_true(raw_has(&in, "connection: close\r\n"));
    buf_deinit(&in);
    app_stop(&app);
}

static void refuses_malformed_heads_by_itself(void **state)
{
    (void)state;
    static const struct {
        const char *request, *status;
    } rows[] = {
        {"GET /hello HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
        {"GET /hello HTTP/1.1\nHost: h\n\n", "HTTP/1.1 400 "},
        {"BREW /hello HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 501 "},
        {"GET /hello HTTP/3.0\r\nHost: h\r\n\r\n", "HTTP/1.1 505 "},
        {"\x16\x03\x01\x02", "HTTP/1.1 400 "},
        {"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: "
         "chunked\r\n\r\n",
         "HTTP/1.1 400 "},
    };
    struct app app;
    app_default(&app);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf in = talk(&app, rows[i].request);
        assert_true(str_starts(buf_str(&in), str_from(rows[i].status)));
        assert_true(raw_has(&in, "connection: close"));
        buf_deinit(&in);
    }
    assert_int_equal(atomic_load(&app.n_handled), 0);
    app_stop(&app);
}

static void bad_chunks_are_the_handlers_to_answer(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    struct buf in =
        talk(&app, "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "3\r\nabc\r\nzz\r\n");
    assert_true(str_starts(buf_str(&in), STR_LIT("HTTP/1.1 400 ")));
    assert_true(str_ends(buf_str(&in), STR_LIT("INVALID")));
    buf_deinit(&in);
    app_stop(&app);
}

static double refusals(const char *reason)
{
    return metric_value(metric_with1(METRIC_HTTP_REFUSED, str_from(reason)));
}

static void slow_clients_are_sent_away(void **state)
{
    (void)state;
    struct app app;
    double heads = refusals("slow_head"), bodies = refusals("slow_body");
    app_start(&app, "127.0.0.1:0",
              (struct http_server_conf){.header_ms = 60, .body_ms = 60, .idle_ms = 120});
    struct buf in = talk(&app, "GET /hello HT");
    assert_true(str_starts(buf_str(&in), STR_LIT("HTTP/1.1 408 ")));
    buf_deinit(&in);
    in = talk(&app, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
    assert_true(str_starts(buf_str(&in), STR_LIT("HTTP/1.1 408 ")));
    assert_true(str_ends(buf_str(&in), STR_LIT("TIMEOUT")));
    buf_deinit(&in);
    uint64_t start = raw_now_ms();
    in = talk(&app, ""); /* idle: closed without a word */
    assert_int_equal(in.len, 0);
    assert_true(raw_now_ms() - start >= 100);
    buf_deinit(&in);
    /* A handler that takes longer than any deadline is nobody's timeout. */
    in = talk(&app, "GET /late HTTP/1.1\r\n" CLOSE "\r\n");
    assert_true(str_ends(buf_str(&in), STR_LIT("late")));
    buf_deinit(&in);
    app_stop(&app);
    assert_true(refusals("slow_head") - heads == 1);
    assert_true(refusals("slow_body") - bodies == 1);
}

/* Each byte comes in time, all of them together do not. */
static void a_trickled_body_is_given_up(void **state)
{
    (void)state;
    struct app app;
    struct buf in;
    double bodies = refusals("slow_body");
    app_start(&app, "127.0.0.1:0",
              (struct http_server_conf){.body_ms = 60000, .body_total_ms = 100});
    int fd = raw_connect(&app.addr);
    assert_true(raw_puts(fd, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n"));
    for (int i = 0; refusals("slow_body") == bodies; i++) {
        assert_true(i < 850);
        (void)!raw_puts(fd, "x");
        usleep(2000);
    }
    buf_init(&in, 1 << 20);
    (void)!raw_to_end(fd, &in); /* a byte that came too late may have reset it */
    assert_true(in.len == 0 || str_starts(buf_str(&in), STR_LIT("HTTP/1.1 408 ")));
    buf_deinit(&in);
    close(fd);
    app_stop(&app);
}

/* The whole of an exchange has an end too, whoever is slow. */
static void an_exchange_that_lasts_too_long_is_cut(void **state)
{
    (void)state;
    struct app app;
    double cut = refusals("slow_exchange");
    app_start(&app, "127.0.0.1:0", (struct http_server_conf){.total_ms = 100});
    struct buf in = talk(&app, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(in.len, 0);
    buf_deinit(&in);
    wait_for(&app.n_closed, 1);
    assert_int_equal(atomic_load(&app.last_rc), RC_TIMEOUT);
    assert_true(refusals("slow_exchange") - cut == 1);
    app_stop(&app);
}

static void note_drained(void *ctx)
{
    struct app *app = ctx;
    atomic_store(&app->drained, true);
}

static void start_drain(void *ctx)
{
    struct app *app = ctx;
    http_server_drain(app->server, 3000, note_drained, app);
}

static void drains_gracefully(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    struct buf in;
    buf_init(&in, 1 << 20);
    int idle = raw_connect(&app.addr);
    int busy = raw_connect(&app.addr);
    assert_true(raw_puts(busy, "GET /late HTTP/1.1\r\nHost: h\r\n\r\n"
                               "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"));
    wait_for(&app.n_live, 1);
    assert_int_equal(loop_post(app.loop, start_drain, &app), RC_OK);
    assert_true(raw_to_end(idle, &in));
    assert_int_equal(in.len, 0);
    assert_true(raw_to_end(busy, &in));
    assert_true(raw_has(&in, "connection: close"));
    assert_true(str_ends(buf_str(&in), STR_LIT("late"))); /* the second was not begun */
    close(idle);
    close(busy);
    for (int i = 0; i < 5000 && !atomic_load(&app.drained); i++) {
        usleep(1000);
    }
    assert_true(atomic_load(&app.drained));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(connect(fd, (struct sockaddr *)&app.addr.sa, app.addr.sa_bytes) != 0);
    close(fd);
    buf_deinit(&in);
    app_stop(&app);
}

static void destroy_cancels_what_is_live(void **state)
{
    (void)state;
    struct app app;
    app_default(&app);
    int fd = raw_connect(&app.addr);
    assert_true(raw_puts(fd, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n"));
    wait_for(&app.n_live, 1);
    app_stop(&app);
    assert_int_equal(app.n_closed, 1);
    assert_int_equal(app.last_rc, RC_CANCELLED);
    close(fd);
}

static void refuses_past_the_connection_cap(void **state)
{
    (void)state;
    struct app app;
    app_start(&app, "127.0.0.1:0", (struct http_server_conf){.conns_max = 2});
    struct buf in;
    buf_init(&in, 1 << 20);
    int a = raw_connect(&app.addr), b = raw_connect(&app.addr);
    assert_true(raw_puts(a, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_true(raw_until(a, &in, "hello", 1));
    assert_true(raw_puts(b, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_true(raw_until(b, &in, "hello", 2));
    int c = raw_connect(&app.addr);
    buf_reset(&in);
    assert_true(raw_to_end(c, &in));
    assert_int_equal(in.len, 0);
    close(c);
    close(a);
    for (int i = 0; i < 200 && !raw_has(&in, "hello"); i++) { /* the place is free again */
        c = raw_connect(&app.addr);
        if (raw_puts(c, "GET /hello HTTP/1.1\r\n" CLOSE "\r\n")) {
            raw_to_end(c, &in);
        }
        close(c);
        usleep(1000);
    }
    assert_true(raw_has(&in, "hello"));
    close(b);
    buf_deinit(&in);
    app_stop(&app);
}

static void serves_unix_sockets(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof(path), "unix:/tmp/bud-net-%d.sock", (int)getpid());
    struct app app;
    app_start(&app, path, (struct http_server_conf){0});
    struct buf in = talk(&app, "GET /hello HTTP/1.1\r\n" CLOSE "\r\n");
    assert_true(str_ends(buf_str(&in), STR_LIT("hello")));
    buf_deinit(&in);
    app_stop(&app);
    assert_int_not_equal(access(path + 5, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_and_closes_when_asked),
        cmocka_unit_test(serves_pipelined_requests_in_order),
        cmocka_unit_test(same_answers_for_any_split),
        cmocka_unit_test(says_continue_before_a_wanted_body),
        cmocka_unit_test(an_answer_before_the_body_closes_what_is_unclear),
        cmocka_unit_test(refuses_bodies_over_the_limit),
        cmocka_unit_test(drops_unwanted_bodies),
        cmocka_unit_test(slows_the_client_of_a_paused_body),
        cmocka_unit_test(waits_for_a_slow_reader),
        cmocka_unit_test(notices_a_hangup_while_waiting),
        cmocka_unit_test(abort_is_seen_as_a_cut),
        cmocka_unit_test(head_requests_get_no_body),
        cmocka_unit_test(old_clients_get_old_http),
        cmocka_unit_test(refuses_malformed_heads_by_itself),
        cmocka_unit_test(bad_chunks_are_the_handlers_to_answer),
        cmocka_unit_test(slow_clients_are_sent_away),
        cmocka_unit_test(a_trickled_body_is_given_up),
        cmocka_unit_test(an_exchange_that_lasts_too_long_is_cut),
        cmocka_unit_test(drains_gracefully),
        cmocka_unit_test(destroy_cancels_what_is_live),
        cmocka_unit_test(refuses_past_the_connection_cap),
        cmocka_unit_test(serves_unix_sockets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
