/* HTTP/2 sessions of the server without TLS before them: a client of nghttp2 on a thread, or raw
 * bytes. What the front door does over TLS, h2spec and the SDKs see in tests/50_e2e. */
#include "raw.h"

#include <nghttp2/nghttp2.h>

#include "base/mem.h"
#include "base/thread.h"
#include "net/http2.h"
#include "net/listen.h"
#include "obs/metric.h"

/* --- the server ----------------------------------------------------------------------------- */

struct rig {
    struct loop *loop;
    struct http_server *server;
    struct listener *listener;
    struct addr addr;
    struct loop_timer patience;
    enum http_body_mode mode;
    bool pause;          /* the body's first piece pauses it */
    size_t answer_bytes; /* streamed, as far as it is writable; 0 = echo the body */
    /* what the handler saw */
    struct http_exchange *x;
    struct buf body;
    size_t written;
    int n_requests, n_ends, n_writable, n_close;
    enum rc end_rc, close_rc;
};

static void answer_more(struct rig *r)
{
    static const char block[8192];
    while (r->written < r->answer_bytes && http_exchange_is_writable(r->x)) {
        http_exchange_write(r->x,
                            str_make(block, MIN(sizeof(block), r->answer_bytes - r->written)));
        r->written += MIN(sizeof(block), r->answer_bytes - r->written);
    }
    if (r->written == r->answer_bytes) {
        http_exchange_end(r->x);
    }
}

static void on_body(void *ctx, struct str bytes)
{
    struct rig *r = ctx;
    buf_add_str(&r->body, bytes);
    if (r->pause) {
        http_exchange_body_pause(r->x);
    }
}

static void on_body_end(void *ctx, enum rc rc)
{
    struct rig *r = ctx;
    r->n_ends++;
    r->end_rc = rc;
    struct http_reply reply = {.status = rc == RC_OK ? 200 : 408, .body = buf_str(&r->body)};
    if (r->answer_bytes > 0) {
        assert_int_equal(http_exchange_begin(r->x, &reply, NULL), RC_OK);
        answer_more(r);
    } else {
        assert_int_equal(http_exchange_reply(r->x, &reply, NULL), RC_OK);
    }
}

static void on_writable(void *ctx)
{
    struct rig *r = ctx;
    r->n_writable++;
    answer_more(r);
}

static void on_close(void *ctx, enum rc rc)
{
    struct rig *r = ctx;
    r->n_close++;
    r->close_rc = rc;
}

static void on_request(void *ctx, struct http_exchange *x)
{
    static const struct http_exchange_events ev = {.on_body = on_body,
                                                   .on_body_end = on_body_end,
                                                   .on_writable = on_writable,
                                                   .on_close = on_close};
    struct rig *r = ctx;
    r->n_requests++;
    r->x = x;
    buf_reset(&r->body);
    http_exchange_accept(x, r->mode, 8 << 20, &ev, r);
}

static void accepted(void *ctx, struct conn *c)
{
    http2_session_start(((struct rig *)ctx)->server, c);
}

static void too_slow(void *ctx)
{
    (void)ctx;
    fail_msg("nothing happened for too long");
}

static void rig_open(struct rig *r, struct http_server_conf conf)
{
    struct listen_conf lc = {0};
    assert_int_equal(loop_create(&r->loop, clock_system(), NULL), RC_OK);
    buf_init(&r->body, 64 << 20);
    conf.handler = on_request;
    conf.handler_ctx = r;
    assert_int_equal(http_server_create(&r->server, r->loop, &conf, NULL), RC_OK);
    assert_int_equal(addr_parse(&lc.addr, STR_LIT("127.0.0.1:0"), NULL), RC_OK);
    assert_int_equal(listen_open(&r->listener, r->loop, &lc, accepted, r, NULL), RC_OK);
    r->addr = *listen_addr(r->listener);
    loop_timer_init(&r->patience, r->loop, too_slow, r);
    loop_timer_start(&r->patience, 60000);
}

static void rig_close(struct rig *r)
{
    loop_timer_stop(&r->patience);
    listen_close(r->listener);
    http_server_destroy(r->server);
    loop_destroy(r->loop);
    buf_deinit(&r->body);
}

/* --- the client ----------------------------------------------------------------------------- */

struct client {
    struct rig *rig;
    struct thread thread;
    /* what it is to do */
    struct str body;  /* sent as far as the windows go */
    size_t body_told; /* content-length, if more than body */
    bool no_windows;  /* takes nothing of the answer until told */
    bool silent;      /* says nothing at all */
    int n_requests;
    uint32_t until_stream_ms; /* 0: until every stream has ended */
    /* what it saw */
    size_t sent, got;
    int n_answered, n_closed;
    uint32_t reset_code, goaway_code;
    bool reset, goaway, ended;
    int status;
};

static ssize_t client_body(nghttp2_session *ng, int32_t id, uint8_t *dst, size_t room,
                           uint32_t *flags, nghttp2_data_source *source, void *ctx)
{
    struct client *c = ctx;
    (void)ng;
    (void)id;
    (void)source;
    size_t n = MIN(room, c->body.len - c->sent);
    memcpy(dst, c->body.ptr + c->sent, n);
    c->sent += n;
    if (c->sent == c->body.len && c->body_told <= c->body.len) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (n == 0) {
        return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)n;
}

static int client_frame(nghttp2_session *ng, const nghttp2_frame *f, void *ctx)
{
    struct client *c = ctx;
    (void)ng;
    if (f->hd.type == NGHTTP2_HEADERS) {
        c->n_answered++;
    } else if (f->hd.type == NGHTTP2_RST_STREAM) {
        c->reset = true;
        c->reset_code = f->rst_stream.error_code;
    } else if (f->hd.type == NGHTTP2_GOAWAY) {
        c->goaway = true;
        c->goaway_code = f->goaway.error_code;
    }
    return 0;
}

static int client_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name,
                         size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags,
                         void *ctx)
{
    struct client *c = ctx;
    uint64_t status;
    (void)ng;
    (void)f;
    (void)flags;
    if (str_is(str_make((const char *)name, name_n), ":status") &&
        str_to_u64(str_make((const char *)value, value_n), &status)) {
        c->status = (int)status;
    }
    return 0;
}

static int client_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *bytes,
                       size_t n, void *ctx)
{
    struct client *c = ctx;
    (void)flags;
    (void)bytes;
    c->got += n;
    if (!c->no_windows) {
        nghttp2_session_consume(ng, id, n);
    }
    return 0;
}

static int client_gone(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx)
{
    (void)ng;
    (void)id;
    (void)code;
    ((struct client *)ctx)->n_closed++;
    return 0;
}

static nghttp2_session *client_session(struct client *c)
{
    nghttp2_session_callbacks *cb;
    nghttp2_option *opt;
    nghttp2_session *ng;
    assert_int_equal(nghttp2_session_callbacks_new(&cb), 0);
    assert_int_equal(nghttp2_option_new(&opt), 0);
    nghttp2_option_set_no_auto_window_update(opt, 1);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, client_frame);
    nghttp2_session_callbacks_set_on_header_callback(cb, client_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, client_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, client_gone);
    assert_int_equal(nghttp2_session_client_new2(&ng, cb, c, opt), 0);
    nghttp2_session_callbacks_del(cb);
    nghttp2_option_del(opt);
    return ng;
}

static void client_ask(struct client *c, nghttp2_session *ng)
{
    char length[24];
    size_t told = MAX(c->body_told, c->body.len);
    snprintf(length, sizeof(length), "%zu", told);
#define NV(n, v)                                                                                   \
    {                                                                                              \
        (uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), strlen(n), strlen(v), 0              \
    }
    const nghttp2_nv fields[] = {NV(":method", told > 0 ? "POST" : "GET"), NV(":scheme", "https"),
                                 NV(":path", "/x?y=1"), NV(":authority", "localhost"),
                                 NV("content-length", length)};
    nghttp2_data_provider body = {.read_callback = client_body};
    assert_true(nghttp2_submit_request(ng, NULL, fields, told > 0 ? 5 : 4, told > 0 ? &body : NULL,
                                       NULL) > 0);
}

static void client_stop(void *ctx)
{
    loop_stop(((struct rig *)ctx)->loop);
}

static void client_run(void *ctx)
{
    struct client *c = ctx;
    int fd = raw_connect(&c->rig->addr);
    nghttp2_session *ng = client_session(c);
    struct buf in;
    buf_init(&in, 64 << 20);
    assert_int_equal(nghttp2_submit_settings(ng, 0, NULL, 0), 0);
    for (int i = 0; i < c->n_requests; i++) {
        client_ask(c, ng);
    }
    uint64_t end = raw_now_ms() + (c->until_stream_ms != 0 ? c->until_stream_ms : 20000);
    while (raw_now_ms() < end && (c->n_requests == 0 || c->n_closed < c->n_requests)) {
        const uint8_t *out;
        ssize_t n;
        while (!c->silent && (n = nghttp2_session_mem_send(ng, &out)) > 0) {
            raw_send(fd, str_make((const char *)out, (size_t)n));
        }
        int r = raw_read(fd, &in, 20);
        if (r == 0) {
            c->ended = true;
            break;
        }
        if (r > 0 && nghttp2_session_mem_recv(ng, (uint8_t *)in.ptr, in.len) < 0) {
            break;
        }
        buf_reset(&in);
    }
    nghttp2_session_del(ng);
    buf_deinit(&in);
    close(fd);
    assert_int_equal(loop_post(c->rig->loop, client_stop, c->rig), RC_OK);
}

static void with_client(struct rig *r, struct client *c)
{
    c->rig = r;
    assert_int_equal(thread_start(&c->thread, "client", -1, client_run, c), RC_OK);
    loop_run(r->loop);
    thread_join(&c->thread);
}

static double refusals(const char *reason)
{
    return metric_value(metric_with1(METRIC_HTTP_REFUSED, str_from(reason)));
}

/* --- tests ---------------------------------------------------------------------------------- */

static char big[4 << 20];

static void bodies_come_whole(void **state)
{
    (void)state;
    static const enum http_body_mode modes[] = {HTTP_BODY_COLLECT, HTTP_BODY_STREAM};
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        struct rig r = {.mode = modes[i]};
        struct client c = {.body = str_make(big, sizeof(big)), .n_requests = 1};
        rig_open(&r, (struct http_server_conf){0});
        with_client(&r, &c);
        assert_int_equal(r.body.len, sizeof(big));
        assert_int_equal(r.end_rc, RC_OK);
        assert_int_equal(r.n_close, 1);
        assert_int_equal(r.close_rc, RC_OK);
        assert_int_equal(c.status, 200);
        assert_int_equal(c.got, sizeof(big)); /* echoed */
        rig_close(&r);
    }
}

static void many_requests_on_one_connection(void **state)
{
    (void)state;
    struct rig r = {.mode = HTTP_BODY_DROP, .answer_bytes = 0};
    struct client c = {.n_requests = 50};
    rig_open(&r, (struct http_server_conf){0});
    r.mode = HTTP_BODY_COLLECT;
    with_client(&r, &c);
    assert_int_equal(r.n_requests, 50);
    assert_int_equal(r.n_close, 50);
    assert_int_equal(c.n_answered, 50);
    assert_int_equal(http_server_stats(r.server).n_exchanges_open, 0);
    rig_close(&r);
}

static void a_paused_body_slows_the_client(void **state)
{
    (void)state;
    struct rig r = {.mode = HTTP_BODY_STREAM, .pause = true};
    struct client c = {.body = str_make(big, sizeof(big)), .n_requests = 1, .until_stream_ms = 300};
    rig_open(&r, (struct http_server_conf){0});
    with_client(&r, &c);
    assert_true(c.sent <= HTTP2_WINDOW_BYTES + (64 << 10)); /* and one frame that was taken */
    assert_true(r.body.len < HTTP2_WINDOW_BYTES);
    assert_int_equal(r.n_ends, 0);
    rig_close(&r);
    assert_int_equal(r.close_rc, RC_CANCELLED);
}

static void a_client_without_windows_stops_the_answer(void **state)
{
    (void)state;
    struct rig r = {.mode = HTTP_BODY_COLLECT, .answer_bytes = 16 << 20};
    struct client c = {.n_requests = 1, .no_windows = true, .until_stream_ms = 300};
    rig_open(&r, (struct http_server_conf){0});
    with_client(&r, &c);
    assert_true(c.got <= 65535); /* what every stream starts with */
    assert_true(r.written <= 65535 + HTTP2_OUT_HIGH_BYTES + 8192);
    rig_close(&r);
    struct rig fast = {.mode = HTTP_BODY_COLLECT, .answer_bytes = 16 << 20};
    c = (struct client){.n_requests = 1};
    rig_open(&fast, (struct http_server_conf){0});
    with_client(&fast, &c);
    assert_int_equal(c.got, 16 << 20);
    assert_true(fast.n_writable > 10);
    assert_int_equal(fast.close_rc, RC_OK);
    rig_close(&fast);
}

static void slow_clients_are_ended(void **state)
{
    (void)state;
    double head = refusals("slow_head"), body = refusals("slow_body"),
           all = refusals("slow_exchange");
    struct rig r = {.mode = HTTP_BODY_COLLECT};
    struct client c = {.silent = true};
    rig_open(&r, (struct http_server_conf){.header_ms = 30});
    with_client(&r, &c);
    assert_true(c.ended);
    assert_true(refusals("slow_head") == head + 1);
    rig_close(&r);

    r = (struct rig){.mode = HTTP_BODY_COLLECT};
    c = (struct client){.body = str_make(big, 10), .body_told = 20, .n_requests = 1};
    rig_open(&r, (struct http_server_conf){.body_ms = 30});
    with_client(&r, &c);
    assert_int_equal(r.end_rc, RC_TIMEOUT);
    assert_int_equal(c.status, 408);
    assert_true(refusals("slow_body") == body + 1);
    rig_close(&r);

    r = (struct rig){.mode = HTTP_BODY_COLLECT, .answer_bytes = 16 << 20};
    c = (struct client){.n_requests = 1, .no_windows = true};
    rig_open(&r, (struct http_server_conf){.total_ms = 60});
    with_client(&r, &c);
    assert_int_equal(r.close_rc, RC_TIMEOUT);
    assert_true(c.reset);
    assert_true(refusals("slow_exchange") == all + 1);
    rig_close(&r);
}

static void an_idle_connection_ends(void **state)
{
    (void)state;
    struct rig r = {.mode = HTTP_BODY_COLLECT};
    struct client c = {0};
    rig_open(&r, (struct http_server_conf){.idle_ms = 40});
    with_client(&r, &c);
    assert_true(c.goaway && c.ended);
    assert_int_equal(c.goaway_code, NGHTTP2_NO_ERROR);
    rig_close(&r);
}

static void what_is_no_http2_is_refused(void **state)
{
    (void)state;
    double before = refusals("malformed_frame");
    struct rig r = {.mode = HTTP_BODY_COLLECT};
    rig_open(&r, (struct http_server_conf){0});
    int fd = raw_connect(&r.addr);
    assert_true(raw_puts(fd, "GET / HTTP/1.1\r\nhost: x\r\n\r\n"));
    struct loop_timer tick;
    loop_timer_init(&tick, r.loop, client_stop, &r);
    while (refusals("malformed_frame") == before) {
        loop_timer_start(&tick, 1);
        loop_run(r.loop);
    }
    close(fd);
    loop_timer_stop(&tick);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_come_whole),
        cmocka_unit_test(many_requests_on_one_connection),
        cmocka_unit_test(a_paused_body_slows_the_client),
        cmocka_unit_test(a_client_without_windows_stops_the_answer),
        cmocka_unit_test(slow_clients_are_ended),
        cmocka_unit_test(an_idle_connection_ends),
        cmocka_unit_test(what_is_no_http2_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
