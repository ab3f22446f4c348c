/* Answers that are kept: who asks again with the same Idempotency-Key, joins, or goes on behind an
 * event gets what the one call to the model server has made. */
#include "10_module/gateway/rig.h"

#include "gateway/stages.h"

/* Each test is run with one loop and with several: `state` says how many. */
static void rig_open_loops(struct rig *r, void **state, struct gateway_conf conf)
{
    r->n_loops = *(const uint32_t *)*state;
    rig_open_more(r, conf);
}

/* What a test asks with, beside the key. */
struct keyed {
    const char *script, *headers;
    bool stream;
};

static int keyed_send(struct rig *r, struct keyed k)
{
    char headers[1024], body[256];
    snprintf(headers, sizeof(headers), "%s%s", r->auth, k.headers);
    snprintf(body, sizeof(body), "{\"model\":\"m\",\"prompt\":\"p\",\"user\":\"%s\",\"stream\":%s}",
             k.script, k.stream ? "true" : "false");
    return ask_send(&r->addr, COMPLETE, headers, str_from(body));
}

static void keyed_ask(struct rig *r, struct keyed k, struct answer *a)
{
    ask_read(keyed_send(r, k), a);
}

static int calls(struct rig *r)
{
    return atomic_load(&r->fake.n_requests);
}

static void assert_same_body(const struct answer *a, const struct answer *b)
{
    assert_true(a->whole && b->whole && a->body.len > 0);
    assert_int_equal(a->body.len, b->body.len);
    assert_memory_equal(a->body.ptr, b->body.ptr, a->body.len);
}

/* The value of the n-th line that begins with "id: ", counted from 1. */
static void event_id(const struct buf *in, int n, char out[128])
{
    struct str rest = buf_str(in);
    for (int i = 0; i < n; i++) {
        size_t at = str_find(rest, STR_LIT("\nid: "));
        assert_true(at < rest.len);
        rest = str_slice(rest, at + 5, rest.len);
    }
    str_copy(out, 128, str_slice(rest, 0, str_find(rest, STR_LIT("\n"))));
}

/* ---- asked again ---- */

static void the_same_answer_comes_again(void **state)
{
    static const struct keyed cases[] = {{"ok", "idempotency-key: a\r\n", false},
                                         {"stream", "Idempotency-Key: b\r\n", true},
                                         {"lines", "idempotency-key: c d\r\n", true}};
    struct rig r = {0};
    rig_open_loops(&r, state, (struct gateway_conf){0});
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct answer first, again;
        atomic_store(&r.fake.n_requests, 0);
        keyed_ask(&r, cases[i], &first);
        keyed_ask(&r, cases[i], &again);
        assert_int_equal(calls(&r), 1);
        assert_int_equal(first.status, 200);
        assert_int_equal(again.status, 200);
        assert_same_body(&first, &again);
        assert_false(raw_has(&first.bytes, "idempotent-replayed"));
        assert_true(raw_has(&again.bytes, "idempotent-replayed: true\r\n"));
        assert_true(raw_has(&again.bytes, "original-request: req_"));
        assert_true(raw_has(&first.bytes, "proxy;dur="));
        assert_int_equal(raw_has(&first.body, "\nid: "), cases[i].stream);
        answer_free(&first);
        answer_free(&again);
    }
    struct answer plain; /* without the header: a stream has no ids, and is made anew */
    keyed_ask(&r, (struct keyed){"stream", "", true}, &plain);
    assert_int_equal(calls(&r), 2);
    assert_false(raw_has(&plain.body, "id: "));
    answer_free(&plain);
    rig_close(&r);
}

static void wrong_keys_are_refused(void **state)
{
    static const struct {
        struct keyed ask;
        int status;
        const char *code;
    } cases[] = {
        {{"ok", "idempotency-key: k\r\n", false}, 200, NULL},
        {{"stream", "idempotency-key: k\r\n", false},
         409,
         "idempotency_key_reused"}, /* another body */
        {{"ok", "idempotency-key: \r\n", false}, 400, "invalid_value"},
        {{"ok", "idempotency-key: a\tb\r\n", false}, 400, "invalid_value"},
        {{"ok", "idempotency-key: \xc3\xa4\r\n", false}, 400, "invalid_value"},
        {{"ok", "idempotency-key: k\r\nidempotency-key: k\r\n", false}, 400, "invalid_value"},
        {{"ok", "bud-resume: soon\r\n", false}, 400, "invalid_value"},
        {{"ok", "bud-resume: -1\r\n", false}, 400, "invalid_value"},
        {{"ok", "last-event-id: 7\r\n", false}, 404, "not_found"},
        {{"ok",
          "idempotency-key: k\r\nlast-event-id: "
          "00112233445566778899aabbccddeeff.0011223344556677.0\r\n",
          false},
         404,
         "not_found"},
    };
    struct rig r = {0};
    rig_open_loops(&r, state, (struct gateway_conf){0});
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct answer a;
        keyed_ask(&r, cases[i].ask, &a);
        if (a.status != cases[i].status) {
            fail_msg("%s: %d, %s", cases[i].ask.headers, a.status, a.bytes.ptr);
        }
        assert_true(cases[i].code == NULL || answer_is_error(&a, cases[i].code));
        answer_free(&a);
    }
    assert_int_equal(calls(&r), 1);
    char headers[400];
    struct answer a;
    for (int n = 255; n <= 256; n++) {
        snprintf(headers, sizeof(headers), "idempotency-key: %0*d\r\n", n, 1);
        keyed_ask(&r, (struct keyed){"ok", headers, false}, &a);
        assert_int_equal(a.status, n == 255 ? 200 : 400);
        answer_free(&a);
    }
    rig_close(&r);
}

static void failures_are_not_kept(void **state)
{
    static const struct {
        struct keyed ask;
        int status;
    } cases[] = {{{"overloaded", "idempotency-key: a\r\n", false}, 503},
                 {{"500", "idempotency-key: b\r\n", true}, 500},
                 {{"html", "idempotency-key: c\r\n", false}, 502},
                 {{"own-error", "idempotency-key: d\r\n", true}, 200},
                 {{"cut-stream", "idempotency-key: e\r\n", true}, 200}};
    struct rig r = {0};
    rig_open_loops(&r, state, (struct gateway_conf){.ping_ms = 60000});
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        atomic_store(&r.fake.n_requests, 0);
        for (int n = 1; n <= 2; n++) {
            struct answer a;
            keyed_ask(&r, cases[i].ask, &a);
            assert_int_equal(a.status, cases[i].status);
            assert_true(a.whole && raw_has(&a.body, "\"error\":"));
            assert_false(raw_has(&a.bytes, "idempotent-replayed"));
            assert_int_equal(calls(&r), n);
            answer_free(&a);
        }
    }
    rig_close(&r);
}

/* ---- together ---- */

enum { JOINERS = 32 };

static void parallel_ones_share_one_call(void **state)
{
    static const struct keyed cases[] = {{"told", "idempotency-key: a\r\n", false},
                                         {"told-midway", "idempotency-key: b\r\n", true}};
    struct rig r = {0};
    rig_open_loops(&r, state, (struct gateway_conf){0});
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct answer all[JOINERS];
        int fds[JOINERS], n_made = 0;
        atomic_store(&r.fake.n_requests, 0);
        atomic_store(&r.fake.told, false);
        for (int n = 0; n < JOINERS; n++) {
            fds[n] = keyed_send(&r, cases[i]);
        }
        wait_for(&r.fake.n_requests, 1);
        atomic_store(&r.fake.told, true);
        for (int n = 0; n < JOINERS; n++) {
            ask_read(fds[n], &all[n]);
            assert_int_equal(all[n].status, 200);
            assert_same_body(&all[0], &all[n]);
            n_made += raw_has(&all[n].bytes, "idempotent-replayed") ? 0 : 1;
        }
        assert_int_equal(n_made, 1);
        assert_int_equal(calls(&r), 1);
        for (int n = 0; n < JOINERS; n++) {
            answer_free(&all[n]);
        }
    }
    rig_close(&r);
}

/* ---- after a hang-up ---- */

static void what_was_cut_goes_on(void **state)
{
    static const char *const asks[] = {"idempotency-key: a\r\n", "bud-resume: 60\r\n",
                                       "idempotency-key: b\r\nbud-resume: 60\r\n"};
    struct rig r = {0};
    rig_open_loops(&r, state, (struct gateway_conf){0});
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        struct buf seen;
        struct answer rest, more;
        char id[128], headers[256];
        buf_init(&seen, 1 << 20);
        atomic_store(&r.fake.n_requests, 0);
        atomic_store(&r.fake.told, false);
        int fd = keyed_send(&r, (struct keyed){"told-midway", asks[i], true});
        assert_true(raw_until(fd, &seen, "{\"a\":1}\n\n", 1));
        close(fd);
        event_id(&seen, 1, id);
        snprintf(headers, sizeof(headers), "last-event-id: %s\r\n", id);
        fd = keyed_send(&r, (struct keyed){"told-midway", headers, true});
        atomic_store(&r.fake.told, true);
        ask_read(fd, &rest);
        assert_int_equal(rest.status, 200);
        assert_false(raw_has(&rest.body, "{\"a\":1}"));
        assert_true(raw_has(&rest.body, "{\"a\":2}") && raw_has(&rest.body, "{\"a\":3}"));
        assert_true(raw_has(&rest.body, "data: [DONE]\n\n"));
        event_id(&rest.bytes, 2, id);
        snprintf(headers, sizeof(headers), "last-event-id: %s\r\n%s", id, i == 1 ? "" : asks[i]);
        keyed_ask(&r, (struct keyed){"told-midway", headers, true}, &more);
        assert_int_equal(answer_n_events(&more), 1);
        assert_int_equal(calls(&r), 1);
        answer_free(&rest);
        keyed_ask(&r, (struct keyed){"stream", headers, true}, &rest); /* another body */
        assert_int_equal(rest.status, 409);
        answer_free(&rest);
        answer_free(&more);
        buf_deinit(&seen);
    }
    rig_close(&r);
}

static void wait_until_seen(atomic_bool *seen)
{
    for (int i = 0; !atomic_load(seen); i++) {
        assert_true(i < WAIT_ROUNDS);
        usleep(1000);
    }
}

static void nobody_left_ends_the_work(void **state)
{
    static const struct keyed hold = {"hold", "idempotency-key: a\r\nbud-resume: 0\r\n", true};
    struct rig r = {0};
    struct buf seen;
    char id[128], headers[256];
    struct answer a;
    rig_open_loops(&r, state, (struct gateway_conf){0});
    buf_init(&seen, 1 << 20);
    for (int n = 1; n <= 2; n++) { /* and is forgotten: the same key begins anew */
        atomic_store(&r.fake.saw_end, false);
        int fd = keyed_send(&r, hold);
        buf_reset(&seen);
        assert_true(raw_until(fd, &seen, "{\"a\":1}\n\n", 1));
        assert_int_equal(calls(&r), n);
        close(fd);
        wait_until_seen(&r.fake.saw_end);
    }
    event_id(&seen, 1, id);
    snprintf(headers, sizeof(headers), "last-event-id: %s\r\n", id);
    keyed_ask(&r, (struct keyed){"hold", headers, true}, &a);
    assert_int_equal(a.status, 404);
    answer_free(&a);
    /* The policy's maximum holds, whatever the client asks for. */
    rig_close(&r);
    r = (struct rig){0};
    rig_open_loops(&r, state, (struct gateway_conf){.resume_ms_max = 1});
    int fd = keyed_send(&r, (struct keyed){"hold", "bud-resume: 3600\r\n", true});
    buf_reset(&seen);
    assert_true(raw_until(fd, &seen, "{\"a\":1}\n\n", 1));
    close(fd);
    wait_until_seen(&r.fake.saw_end);
    rig_close(&r);
    buf_deinit(&seen);
}

static void the_gateway_goes_while_nobody_reads(void **state)
{
    struct rig r = {0};
    struct buf seen;
    rig_open_loops(&r, state, (struct gateway_conf){0});
    buf_init(&seen, 1 << 20);
    int fd = keyed_send(&r, (struct keyed){"hold", "idempotency-key: a\r\n", true});
    int other = keyed_send(&r, (struct keyed){"hold", "idempotency-key: b\r\n", true});
    assert_true(raw_until(fd, &seen, "{\"a\":1}\n\n", 1));
    buf_reset(&seen);
    assert_true(raw_until(other, &seen, "{\"a\":1}\n\n", 1));
    close(fd);
    rig_close(&r); /* one has a reader, one has not */
    close(other);
    buf_deinit(&seen);
}

/* ---- how much is kept ---- */

static void long_answers_slide_through_the_window(void **state)
{
    struct rig r = {.shared_conf = {.answers = {.answer_bytes_max = 1 << 20}}};
    struct answer a;
    rig_open_loops(&r, state, (struct gateway_conf){0});
    const struct keyed pour = {"pour", "idempotency-key: a\r\n", true};
    keyed_ask(&r, pour, &a);
    assert_true(a.status == 200 && a.whole && raw_has(&a.body, "data: [DONE]"));
    assert_true(a.body.len > 32 << 20);
    assert_true(answers_held(r.gateway->shared->answers) < 2 << 20);
    answer_free(&a);
    keyed_ask(&r, pour, &a); /* its beginning is gone, and it was paid for */
    assert_int_equal(a.status, 409);
    assert_int_equal(calls(&r), 1);
    answer_free(&a);
    rig_close(&r);
}

static void who_does_not_read_holds_back_or_is_cut(void **state)
{
    struct rig r = {.shared_conf = {.answers = {.answer_bytes_max = 1 << 20}}};
    const struct keyed pour = {"pour", "idempotency-key: a\r\n", true};
    struct answer fast, slow;
    rig_open_loops(&r, state, (struct gateway_conf){0});
    int fd = keyed_send(&r, pour);
    size_t sent = 0;
    for (int still = 0; still < 300; still++) { /* nobody reads: the server is held back */
        usleep(1000);
        still = atomic_load(&r.fake.n_sent) == sent && sent > 0 ? still : 0;
        sent = atomic_load(&r.fake.n_sent);
    }
    assert_true(sent < 32 << 20);
    assert_true(answers_held(r.gateway->shared->answers) < 3 << 20);
    keyed_ask(&r, pour, &fast); /* too late for the beginning, or in time and past the other */
    ask_read(fd, &slow);
    assert_true(fast.status == 409 || raw_has(&fast.body, "data: [DONE]"));
    if (fast.status == 200) {
        assert_true(raw_has(&slow.body, "read too slowly"));
    } else {
        assert_true(raw_has(&slow.body, "data: [DONE]"));
    }
    answer_free(&fast);
    answer_free(&slow);
    rig_close(&r);
}

static void a_full_store_refuses(void **state)
{
    struct rig r = {.shared_conf = {.answers = {.bytes_max = 70 << 10}}};
    struct answer a;
    rig_open_loops(&r, state, (struct gateway_conf){0});
    int fd = keyed_send(&r, (struct keyed){"told", "idempotency-key: a\r\n", false});
    wait_for(&r.fake.n_requests, 1);
    keyed_ask(&r, (struct keyed){"ok", "idempotency-key: b\r\n", false}, &a);
    assert_int_equal(a.status, 503);
    assert_true(answer_is_error(&a, "overloaded"));
    answer_free(&a);
    keyed_ask(&r, (struct keyed){"ok", "", false}, &a); /* who asks for nothing is not refused */
    assert_int_equal(a.status, 200);
    answer_free(&a);
    atomic_store(&r.fake.told, true);
    ask_read(fd, &a);
    assert_true(a.status == 200 && a.whole);
    answer_free(&a);
    keyed_ask(&r, (struct keyed){"ok", "idempotency-key: b\r\n", false}, &a);
    assert_int_equal(a.status, 200); /* what is kept is counted as it is, what runs as a reserve */
    answer_free(&a);
    rig_close(&r);
}

static void answers_are_forgotten_in_time(void **state)
{
    struct rig r = {.shared_conf = {.answers = {.keep_ms = 1}}};
    struct answer a;
    rig_open_loops(&r, state, (struct gateway_conf){0});
    for (int n = 1; n <= 2; n++) {
        keyed_ask(&r, (struct keyed){"ok", "idempotency-key: a\r\n", false}, &a);
        assert_int_equal(a.status, 200);
        answer_free(&a);
        usleep(3000);
    }
    assert_int_equal(calls(&r), 2);
    rig_close(&r);
}

#define EACH(test, loops) cmocka_unit_test_prestate(test, loops)

int main(void)
{
    static uint32_t one = 1, three = 3;
    const struct CMUnitTest tests[] = {
        EACH(the_same_answer_comes_again, &one),
        EACH(the_same_answer_comes_again, &three),
        EACH(wrong_keys_are_refused, &one),
        EACH(wrong_keys_are_refused, &three),
        EACH(failures_are_not_kept, &one),
        EACH(failures_are_not_kept, &three),
        EACH(parallel_ones_share_one_call, &one),
        EACH(parallel_ones_share_one_call, &three),
        EACH(what_was_cut_goes_on, &one),
        EACH(what_was_cut_goes_on, &three),
        EACH(nobody_left_ends_the_work, &one),
        EACH(nobody_left_ends_the_work, &three),
        EACH(the_gateway_goes_while_nobody_reads, &one),
        EACH(the_gateway_goes_while_nobody_reads, &three),
        EACH(long_answers_slide_through_the_window, &one),
        EACH(long_answers_slide_through_the_window, &three),
        EACH(who_does_not_read_holds_back_or_is_cut, &one),
        EACH(who_does_not_read_holds_back_or_is_cut, &three),
        EACH(a_full_store_refuses, &one),
        EACH(a_full_store_refuses, &three),
        EACH(answers_are_forgotten_in_time, &one),
        EACH(answers_are_forgotten_in_time, &three),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
