/* The front door between clients of raw sockets and a model server that misbehaves on purpose
 * (fake.h). No request may be lost, none answered twice; what has not begun is tried again, what
 * has begun ends with an error event. */
#include "10_module/gateway/rig.h"

#include "gateway/stages.h"

/* ---- what a client gets ---- */

struct whole_case {
    const char *script;
    int status, n_attempts;
    const char *code; /* of the error, or NULL */
};

static void whole_replies_come_through_or_are_tried_again(void **state)
{
    (void)state;
    static const struct whole_case cases[] = {
        {"ok", 200, 1, NULL},
        {"close", 502, 3, "upstream_error"},
        {"close-once", 200, 2, NULL},
        {"half-head", 502, 3, "upstream_error"},
        {"garbage-head", 502, 3, "upstream_error"},
        {"half-body", 502, 3, "upstream_error"},
        {"half-body-once", 200, 2, NULL},
        {"500", 500, 1, "internal_error"},
        {"401", 502, 1, "upstream_error"},
        {"302", 502, 1, "upstream_error"},
        {"429-once", 429, 1, NULL},
        {"overloaded", 503, 1, "overloaded"},
        {"unavailable-once", 200, 2, NULL},
        {"html", 502, 1, "upstream_error"},
        {"no-json", 502, 1, "upstream_error"},
        {"odd-status", 502, 3, "upstream_error"},
    };
    struct rig r;
    rig_open(&r, (struct gateway_conf){.ping_ms = 60000}); /* no head for its silence */
    for (size_t i = 0; i < 2 * ARRAY_LEN(cases); i++) {
        /* Asked as a stream too: what has not begun as one is answered with its status, and what
         * should have is an error. */
        const struct whole_case *c = &cases[i / 2];
        bool stream = i % 2 == 1;
        int status = stream && c->status == 200 ? 502 : c->status;
        struct answer a;
        rig_ask(&r, c->script, stream, &a);
        if (a.status != status || !a.whole || atomic_load(&r.fake.n_requests) != c->n_attempts) {
            fail_msg("%s: status %d after %d attempts: %s", c->script, a.status,
                     atomic_load(&r.fake.n_requests), a.bytes.ptr);
        }
        assert_true(c->code == NULL || answer_is_error(&a, c->code));
        assert_true(raw_has(&a.bytes, "x-request-id: req_"));
        assert_false(raw_has(&a.bytes, "sk-of-ours"));
        assert_true(strcmp(c->script, "overloaded") != 0 || raw_has(&a.bytes, "retry-after: 7"));
        answer_free(&a);
    }
    rig_close(&r);
}

struct stream_case {
    const char *script;
    int n_attempts, n_events; /* the closing one included */
    bool fails;               /* the last event is an error, else [DONE] */
};

static void streams_end_with_done_or_an_error(void **state)
{
    (void)state;
    static const struct stream_case cases[] = {
        {"stream", 1, 3, false},         {"cut-stream", 1, 2, true},
        {"no-done", 1, 2, true},         {"cut-before-event-once", 2, 3, false},
        {"own-error", 1, 2, true},       {"done-then-cut", 1, 2, false},
        {"done-then-hold", 1, 2, false}, {"lines", 1, 2, false},
        {"giant", 1, 2, true},           {"slow-stream", 1, 3, false},
        {"slow-400", 1, 1, true},        {"slow-cut-once", 2, 3, false},
    };
    struct rig r;
    rig_open(&r, (struct gateway_conf){0});
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct stream_case *c = &cases[i];
        struct answer a;
        rig_ask(&r, c->script, true, &a);
        int n = answer_n_events(&a);
        if (a.status != 200 || !a.whole || n != c->n_events ||
            atomic_load(&r.fake.n_requests) != c->n_attempts) {
            fail_msg("%s: status %d, %d events after %d attempts: %.2000s", c->script, a.status, n,
                     atomic_load(&r.fake.n_requests), a.bytes.ptr);
        }
        const char *last = answer_event(&a, n - 1);
        assert_true(str_starts(str_from(last), STR_LIT("{\"error\":")) == c->fails);
        assert_true((strcmp(last, "[DONE]") == 0) != c->fails);
        assert_false(raw_has(&a.body, "n=3+"));
        bool slow = strncmp(c->script, "slow", 4) == 0;
        assert_true(!slow || raw_has(&a.body, ": ping\n\n")); /* a loaded machine pings more */
        answer_free(&a);
    }
    rig_close(&r);
}

static void an_error_behind_an_early_head_keeps_its_words(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    rig_open(&r, (struct gateway_conf){0});
    rig_ask(&r, "slow-400", true, &a);
    assert_string_equal(answer_event(&a, 0),
                        "{\"error\":{\"message\":\"too long\",\"code\":\"context\"}}");
    answer_free(&a);
    rig_ask(&r, "lines", true, &a);
    assert_true(raw_has(&a.body, "data: {\"a\":\ndata: 1}\n\n: hm\n\n"));
    answer_free(&a);
    /* A stream without one event has not begun: it is tried again, and is an error with a status.
     */
    rig_ask(&r, "empty-stream", true, &a);
    assert_int_equal(a.status, 502);
    assert_int_equal(atomic_load(&r.fake.n_requests), 3);
    answer_free(&a);
    rig_close(&r);
}

static void what_is_wrong_in_the_request_never_reaches_the_server(void **state)
{
    (void)state;
    static const struct {
        const char *start, *body;
        bool key;
        int status;
        const char *has;
    } cases[] = {
        {COMPLETE, "{\"model\":\"m\",\"prompt\":\"p\"}", false, 401, "www-authenticate: Bearer"},
        {COMPLETE, "{\"model\":\"m\",", true, 400, "invalid_json"},
        {COMPLETE, "{\"model\":\"other\",\"prompt\":\"p\"}", true, 404, "model_not_found"},
        {COMPLETE, "", true, 400, "error"},
        {"GET /v1/completions", "", true, 405, "allow: POST"},
        {"POST /v1/embeddings", "{\"model\":\"m\",\"input\":[]}", true, 400, "\"param\":\"input\""},
        {"POST /v1/rerank", "{\"model\":\"m\",\"query\":\"q\"}", true, 400, "documents"},
        {"POST /v1/rerank", "{\"model\":\"o\",\"query\":\"q\",\"documents\":[\"d\"]}", true, 404,
         "model_not_found"},
        {"POST /v1/models", "{}", true, 405, "allow: GET"},
        {"GET /v1/models/%zz", "", true, 404, "x-request-id: req_"},
        {"GET /v1/models/other", "", true, 404, "model_not_found"},
        {"GET /v1/nothing", "", true, 404, "not_found"},
    };
    struct rig r;
    rig_open(&r, (struct gateway_conf){0});
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct answer a;
        ask(&r.addr, cases[i].start, cases[i].key ? r.auth : "", cases[i].body, &a);
        assert_int_equal(a.status, cases[i].status);
        assert_true(raw_has(&a.bytes, cases[i].has));
        answer_free(&a);
    }
    assert_int_equal(atomic_load(&r.fake.n_requests), 0);
    rig_close(&r);
}

static void texts_go_to_routes_of_their_own(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"POST /v1/embeddings", "{\"model\":\"m\",\"input\":\"p\",\"user\":\"ok\"}"},
        {"POST /v1/rerank",
         "{\"model\":\"m\",\"query\":\"q\",\"documents\":[\"d\"],\"user\":\"ok\"}"},
    };
    struct rig r;
    rig_open(&r, (struct gateway_conf){0});
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct answer a;
        ask(&r.addr, cases[i][0], r.auth, cases[i][1], &a);
        assert_int_equal(a.status, 200);
        assert_true(raw_has(&r.fake.last, cases[i][0]));
        answer_free(&a);
    }
    rig_close(&r);
}

static void headers_of_the_link_are_the_gateways_own(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    char headers[512];
    rig_open(&r, (struct gateway_conf){0});
    snprintf(headers, sizeof(headers),
             "%straceparent: nonsense\r\nbud-tenant: root\r\nx-request-id: mine-1\r\n", r.auth);
    ask(&r.addr, COMPLETE, headers, "{\"model\":\"m\",\"prompt\":\"p\",\"user\":\"ok\"}", &a);
    assert_int_equal(a.status, 200);
    assert_true(raw_has(&a.bytes, "x-request-id: mine-1"));
    assert_true(raw_has(&r.fake.last, "bud-request-id: mine-1"));
    assert_false(raw_has(&r.fake.last, "bud-tenant: root"));
    assert_false(raw_has(&r.fake.last, "traceparent"));
    assert_false(raw_has(&r.fake.last, r.key));
    answer_free(&a);
    snprintf(headers, sizeof(headers), "%straceparent: %s\r\n", r.auth,
             "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    ask(&r.addr, COMPLETE, headers, "{\"model\":\"m\",\"prompt\":\"p\",\"user\":\"ok\"}", &a);
    assert_true(raw_has(&r.fake.last, "traceparent: 00-0af7651916cd43dd8448eb211c80319c-"));
    answer_free(&a);
    rig_close(&r);
}

/* ---- the line ---- */

static void waiting_requests_are_answered_when_the_server_is_back(void **state)
{
    (void)state;
    enum { N = 8 };
    struct rig r;
    struct answer a;
    int fds[N];
    r = (struct rig){.shared_conf = {.waiting_max = N}};
    rig_open_more(&r, (struct gateway_conf){0});
    rig_ready(&r, false);
    for (int i = 0; i < N; i++) {
        fds[i] = rig_send(&r, i % 2 == 0 ? "ok" : "stream", i % 2 == 1);
    }
    int status = 0;
    for (int i = 0; i < WAIT_ROUNDS && status != 503; i++) { /* the line is full in a moment */
        int gone = rig_send(&r, "ok", false);
        struct buf in;
        buf_init(&in, 1 << 16);
        if (raw_read(gone, &in, 50) > 0) {
            status = (int)strtol(in.ptr + 9, NULL, 10);
            assert_true(raw_has(&in, "retry-after: "));
        }
        buf_deinit(&in);
        close(gone);
    }
    assert_int_equal(status, 503);
    assert_int_equal(atomic_load(&r.fake.n_requests), 0);
    rig_ready(&r, true);
    for (int i = 0; i < N; i++) {
        ask_read(fds[i], &a);
        assert_true(a.status == 200 || a.status == 503); /* a prober may have been before it */
        assert_true(a.whole);
        answer_free(&a);
    }
    /* Those that hung up in line were never sent. */
    assert_true(atomic_load(&r.fake.n_requests) <= N);
    rig_close(&r);
}

static void nobody_waits_for_ever(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    rig_open(&r, (struct gateway_conf){.wait_ms = 50});
    rig_ready(&r, false);
    for (int i = 0; i < 2; i++) {
        ask_read(rig_send(&r, "ok", i == 1), &a);
        assert_int_equal(a.status, 503);
        assert_true(answer_is_error(&a, "unavailable"));
        answer_free(&a);
    }
    rig_close(&r);
}

/* One that says for a second that it is not ready costs no attempt; for ever, it is an error. */
static void a_server_that_has_not_begun_is_waited_for(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    rig_open(&r, (struct gateway_conf){0});
    rig_ask(&r, "unavailable-six-times", false, &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(atomic_load(&r.fake.n_requests), 7);
    answer_free(&a);
    rig_close(&r);

    rig_open(&r, (struct gateway_conf){.wait_ms = 250});
    shutdown(r.fake.listen_fd, SHUT_RDWR); /* connections are refused from here on */
    rig_ask(&r, "ok", false, &a);
    assert_int_equal(a.status, 503);
    assert_true(answer_is_error(&a, "unavailable"));
    assert_int_equal(atomic_load(&r.fake.n_requests), 0);
    answer_free(&a);
    rig_close(&r);
}

/* ---- clients that go, and slow ones ---- */

static void a_hang_up_ends_the_call(void **state)
{
    (void)state;
    struct rig r;
    struct buf in;
    rig_open(&r, (struct gateway_conf){0});
    buf_init(&in, 1 << 16);
    int fd = rig_send(&r, "hold", true);
    assert_true(raw_until(fd, &in, "data: {\"a\":1}", 1));
    close(fd);
    for (int i = 0; !atomic_load(&r.fake.saw_end); i++) {
        assert_true(i < WAIT_ROUNDS);
        usleep(1000);
    }
    buf_deinit(&in);
    rig_close(&r);
}

static void hang_ups_at_any_moment_lose_nothing(void **state)
{
    (void)state;
    static const char *const names[] = {"ok", "stream", "close", "slow-stream", "giant", "hold"};
    struct rig r;
    struct answer a;
    rig_open(&r, (struct gateway_conf){0});
    for (int i = 0; i < 120; i++) {
        rig_ready(&r, i % 7 != 3);
        int fd = rig_send(&r, names[(size_t)i % ARRAY_LEN(names)], i % 3 != 0);
        usleep((useconds_t)(i % 11) * 300);
        close(fd);
    }
    rig_ready(&r, true);
    rig_ask(&r, "ok", false, &a);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    rig_close(&r);
}

static void a_slow_client_slows_the_server_down(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    rig_open(&r, (struct gateway_conf){0});
    int fd = rig_send(&r, "pour", true);
    size_t before = 1, after = 0;
    while (before != after) { /* until it stands still */
        before = after;
        usleep(300000);
        after = atomic_load(&r.fake.n_sent);
    }
    assert_true(after < 24 << 20);
    ask_read(fd, &a);
    assert_true(a.whole);
    assert_int_equal(answer_n_events(&a), 513);
    answer_free(&a);
    rig_close(&r);
}

/* ---- memory ---- */

static struct str padded(struct buf *body, const char *script, size_t n)
{
    buf_reset(body);
    buf_add_printf(body, "{\"model\":\"m\",\"user\":\"%s\",\"prompt\":\"", script);
    while (body->len < n) {
        buf_add_cstr(body, "a long prompt is parsed on a worker, this one is long in words too; ");
    }
    buf_add_cstr(body, "\"}");
    return buf_str(body);
}

static void long_bodies_are_parsed_aside_and_bounded_together(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    struct buf body;
    r = (struct rig){.shared_conf = {.held_bytes_max = 3 << 20}};
    rig_open_more(&r, (struct gateway_conf){0});
    buf_init(&body, 16 << 20);
    for (int i = 0; i < 4; i++) { /* one after the other there is room for each */
        int status = 0;
        close(ask_send(&r.addr, COMPLETE, r.auth, padded(&body, "ok", 2 << 20)));
        for (int n = 0; status != 200; n++) { /* the one that hung up is gone in a moment */
            assert_true(n < WAIT_ROUNDS);
            ask_read(ask_send(&r.addr, COMPLETE, r.auth, padded(&body, "ok", 2 << 20)), &a);
            status = a.status;
            answer_free(&a);
        }
        assert_true(r.fake.last.len > 2 << 20);
    }
    atomic_store(&r.fake.n_requests, 0);
    int held = ask_send(&r.addr, COMPLETE, r.auth, padded(&body, "told", 2 << 20));
    wait_for(&r.fake.n_requests, 1);
    ask_read(ask_send(&r.addr, COMPLETE, r.auth, buf_str(&body)), &a);
    assert_true(a.status == 503 || a.status == 0); /* cut where the rest was not taken */
    assert_true(a.status == 0 || answer_is_error(&a, "overloaded"));
    answer_free(&a);
    atomic_store(&r.fake.told, true);
    ask_read(held, &a);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    buf_deinit(&body);
    rig_close(&r);
}

/* A client that takes nothing of a large answer: what lies in its connection counts, so that the
 * next such answer has no room, and small ones do. */
static void answers_that_nobody_takes_are_bounded_together(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    int status = 0;
    r = (struct rig){.shared_conf = {.held_bytes_max = 40 << 20}};
    rig_open_more(&r, (struct gateway_conf){0});
    int slow = rig_send(&r, "large", false);
    struct pollfd first = {.fd = slow, .events = POLLIN};
    assert_int_equal(poll(&first, 1, 20000), 1);
    rig_ask(&r, "large", false, &a);
    assert_int_equal(a.status, 503);
    assert_true(answer_is_error(&a, "overloaded"));
    answer_free(&a);
    rig_ask(&r, "ok", false, &a);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    close(slow);
    for (int n = 0; status != 200; n++) { /* it is gone in a moment */
        assert_true(n < WAIT_ROUNDS);
        rig_ask(&r, "large", false, &a);
        status = a.status;
        answer_free(&a);
    }
    rig_close(&r);
}

/* ---- ends ---- */

static void rig_drained(void *ctx)
{
    struct rig *r = ctx;
    atomic_store(&r->drained, true);
    loop_stop(r->loop);
}

static void rig_do_drain(void *ctx)
{
    struct rig *r = ctx;
    gateway_drain(r->gateway, 10000, rig_drained, r);
    assert_false(gateway_is_ready(r->gateway));
}

static void rig_do_look(void *ctx)
{
    struct rig *r = ctx;
    atomic_store(&r->n_waiting, (int)gw_shared_n_waiting(r->gateway->shared));
}

/* Until n requests stand in line for a server. */
static void rig_wait_line(struct rig *r, int n)
{
    int seen = -1;
    for (int i = 0; seen < n; i++) {
        assert_true(i < WAIT_ROUNDS);
        atomic_store(&r->n_waiting, -1);
        assert_int_equal(loop_post(r->loop, rig_do_look, r), RC_OK);
        while ((seen = atomic_load(&r->n_waiting)) < 0) {
            usleep(1000);
        }
    }
}

static void draining_answers_what_runs_and_what_waits(void **state)
{
    (void)state;
    enum { N = 6 };
    struct rig r;
    struct answer a;
    int fds[2 * N];
    rig_open(&r, (struct gateway_conf){0});
    for (int i = 0; i < N; i++) {
        fds[i] = rig_send(&r, "slow-stream", true);
    }
    wait_for(&r.fake.n_requests, N);
    rig_ready(&r, false);
    for (int i = 0; i < N; i++) {
        fds[N + i] = rig_send(&r, "ok", false);
    }
    rig_wait_line(&r, N);
    assert_int_equal(loop_post(r.loop, rig_do_drain, &r), RC_OK);
    rig_ready(&r, true);
    for (int i = 0; i < 2 * N; i++) {
        ask_read(fds[i], &a);
        assert_int_equal(a.status, 200);
        assert_true(a.whole);
        answer_free(&a);
    }
    thread_join(&r.thread);
    assert_true(atomic_load(&r.drained));
    rig_close(&r);
}

static void destroying_under_load_frees_everything(void **state)
{
    (void)state;
    static const char *const names[] = {"hold", "slow-stream", "ok", "pour"};
    enum { N = 12 };
    struct rig r;
    struct buf body;
    int fds[N + 2];
    rig_open(&r, (struct gateway_conf){0});
    buf_init(&body, 16 << 20);
    for (size_t i = 0; i < N; i++) {
        fds[i] = rig_send(&r, names[i % ARRAY_LEN(names)], true);
    }
    rig_ready(&r, false);
    fds[N] = rig_send(&r, "ok", false); /* in line */
    fds[N + 1] = ask_send(&r.addr, COMPLETE, r.auth, padded(&body, "ok", 4 << 20));
    usleep(20000);
    rig_close(&r);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
    buf_deinit(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_replies_come_through_or_are_tried_again),
        cmocka_unit_test(streams_end_with_done_or_an_error),
        cmocka_unit_test(an_error_behind_an_early_head_keeps_its_words),
        cmocka_unit_test(what_is_wrong_in_the_request_never_reaches_the_server),
        cmocka_unit_test(texts_go_to_routes_of_their_own),
        cmocka_unit_test(headers_of_the_link_are_the_gateways_own),
        cmocka_unit_test(waiting_requests_are_answered_when_the_server_is_back),
        cmocka_unit_test(nobody_waits_for_ever),
        cmocka_unit_test(a_server_that_has_not_begun_is_waited_for),
        cmocka_unit_test(a_hang_up_ends_the_call),
        cmocka_unit_test(hang_ups_at_any_moment_lose_nothing),
        cmocka_unit_test(a_slow_client_slows_the_server_down),
        cmocka_unit_test(long_bodies_are_parsed_aside_and_bounded_together),
        cmocka_unit_test(answers_that_nobody_takes_are_bounded_together),
        cmocka_unit_test(draining_answers_what_runs_and_what_waits),
        cmocka_unit_test(destroying_under_load_frees_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
