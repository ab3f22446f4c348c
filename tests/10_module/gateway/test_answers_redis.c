/* Answers kept in a real Redis server: two front doors, and what one has made or makes is read,
 * joined and continued at the other, billed once; whichever of the three dies. */
#include "10_module/gateway/rig.h"
#include "10_module/stores/redis_server.h"

#include "gateway/stages.h"

enum { JOINERS = 16 };

struct pair {
    struct redis_server server;
    struct rig a, b;
    char store[80];
};

/* Both know the same key: the second's catalogue has the first's, too. */
static void pair_open_more(struct pair *p, struct answers_conf answers, uint64_t command_ms)
{
    memset(p, 0, sizeof(*p));
    answers.claim_ms = answers.claim_ms != 0 ? answers.claim_ms : 60000;
    redis_server_init(&p->server);
    redis_server_start(&p->server, NULL);
    snprintf(p->store, sizeof(p->store), "%s/meta.db", p->server.dir);
    struct rig *const rigs[] = {&p->a, &p->b};
    for (size_t i = 0; i < 2; i++) {
        rigs[i]->store = p->store;
        rigs[i]->redis_url = p->server.url;
        rigs[i]->n_loops = 2;
        rigs[i]->redis_command_ms = command_ms;
        rigs[i]->shared_conf.answers = answers;
        rig_open_more(rigs[i], (struct gateway_conf){.ping_ms = 60000});
    }
    memcpy(p->b.auth, p->a.auth, sizeof(p->b.auth));
}

/* A busy machine is no death. */
static void pair_open(struct pair *p)
{
    pair_open_more(p, (struct answers_conf){.dead_ms = 60000}, 0);
}

static void pair_close(struct pair *p)
{
    rig_close(&p->a);
    rig_close(&p->b);
    redis_server_end(&p->server);
}

static int keyed_send(struct rig *r, const char *script, const char *more, bool stream)
{
    char headers[1024], body[256];
    snprintf(headers, sizeof(headers), "%s%s", r->auth, more);
    snprintf(body, sizeof(body), "{\"model\":\"m\",\"prompt\":\"p\",\"user\":\"%s\",\"stream\":%s}",
             script, stream ? "true" : "false");
    return ask_send(&r->addr, COMPLETE, headers, str_from(body));
}

static int keyed_ask(struct rig *r, const char *script, const char *more, struct answer *a)
{
    bool whole = strcmp(script, "ok") == 0 || strcmp(script, "told") == 0 ||
                 strcmp(script, "overloaded") == 0 || strcmp(script, "large") == 0;
    ask_read(keyed_send(r, script, more, !whole), a);
    return a->status;
}

static int calls(struct pair *p)
{
    return atomic_load(&p->a.fake.n_requests) + atomic_load(&p->b.fake.n_requests);
}

static void assert_same_body(const struct answer *a, const struct answer *b)
{
    assert_true(a->whole && b->whole && a->body.len > 0);
    assert_int_equal(a->body.len, b->body.len);
    assert_memory_equal(a->body.ptr, b->body.ptr, a->body.len);
}

static void last_id(const struct buf *in, char *out, size_t n)
{
    struct str rest = buf_str(in), id = STR_NULL;
    size_t at;
    while ((at = str_find(rest, STR_LIT("id: "))) < rest.len) {
        rest = str_slice(rest, at + 4, rest.len);
        id = str_slice(rest, 0, str_find(rest, STR_LIT("\n")));
    }
    assert_int_equal(snprintf(out, n, "last-event-id: %.*s\r\n", STR(id)), (int)id.len + 17);
}

/* ---- what the other has made ---- */

static void the_other_replays(void **state)
{
    UNUSED(state);
    static const struct {
        const char *script, *key;
    } cases[] = {{"ok", "idempotency-key: a\r\n"},
                 {"stream", "idempotency-key: b\r\n"},
                 {"lines", "idempotency-key: c\r\n"},
                 {"large", "idempotency-key: e\r\n"}};
    struct pair p;
    pair_open(&p);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct answer first, again, third;
        int before = calls(&p);
        bool large = strcmp(cases[i].script, "large") == 0; /* over what is kept */
        assert_int_equal(keyed_ask(&p.a, cases[i].script, cases[i].key, &first), 200);
        int status = keyed_ask(&p.b, cases[i].script, cases[i].key, &again);
        assert_int_equal(calls(&p), before + 1);
        if (large) { /* … or is still being read as it is cut */
            assert_true(status == 409 || status == 200);
        } else {
            assert_int_equal(status, 200);
            assert_same_body(&first, &again);
            assert_true(raw_has(&again.bytes, "idempotent-replayed: true\r\n"));
            assert_true(raw_has(&again.bytes, "original-request: req_"));
            assert_int_equal(keyed_ask(&p.a, cases[i].script, cases[i].key, &third), 200);
            assert_same_body(&first, &third);
            answer_free(&third);
        }
        answer_free(&first);
        answer_free(&again);
    }
    struct answer other;
    assert_int_equal(keyed_ask(&p.b, "stream", "idempotency-key: a\r\n", &other), 409);
    assert_true(answer_is_error(&other, "idempotency_key_reused"));
    answer_free(&other);
    pair_close(&p);
}

static void failures_begin_anew_elsewhere(void **state)
{
    UNUSED(state);
    static const char *const names[] = {"overloaded", "500", "own-error", "cut-stream"};
    struct pair p;
    char key[64];
    pair_open(&p);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(key, sizeof(key), "idempotency-key: %zu\r\n", i);
        for (int n = 0; n < 4; n++) {
            struct answer a;
            int before = calls(&p);
            keyed_ask(n % 2 == 0 ? &p.a : &p.b, names[i], key, &a);
            assert_true(a.whole && raw_has(&a.body, "\"error\":"));
            /* Redis may not have been told of the end yet: then it is the same failure. */
            assert_int_equal(calls(&p) - before, raw_has(&a.bytes, "replayed") ? 0 : 1);
            answer_free(&a);
        }
    }
    pair_close(&p);
}

/* ---- what the other makes ---- */

static void parallel_ones_share_one_call(void **state)
{
    UNUSED(state);
    static const char *const names[] = {"told", "told-midway"};
    struct pair p;
    pair_open(&p);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct answer all[2 * JOINERS];
        int fds[2 * JOINERS], n_made = 0, before = calls(&p);
        atomic_store(&p.a.fake.told, false);
        atomic_store(&p.b.fake.told, false);
        for (int n = 0; n < 2 * JOINERS; n++) {
            fds[n] =
                keyed_send(n % 2 == 0 ? &p.a : &p.b, names[i],
                           i == 0 ? "idempotency-key: a\r\n" : "idempotency-key: b\r\n", i == 1);
        }
        for (int n = 0; calls(&p) == before; n++) {
            assert_true(n < WAIT_ROUNDS);
            usleep(1000);
        }
        atomic_store(&p.a.fake.told, true);
        atomic_store(&p.b.fake.told, true);
        for (int n = 0; n < 2 * JOINERS; n++) {
            ask_read(fds[n], &all[n]);
            assert_int_equal(all[n].status, 200);
            assert_same_body(&all[0], &all[n]);
            n_made += raw_has(&all[n].bytes, "idempotent-replayed") ? 0 : 1;
        }
        assert_int_equal(n_made, 1);
        assert_int_equal(calls(&p), before + 1);
        for (int n = 0; n < 2 * JOINERS; n++) {
            answer_free(&all[n]);
        }
    }
    pair_close(&p);
}

static void a_cut_stream_goes_on_elsewhere(void **state)
{
    UNUSED(state);
    static const char *const asks[] = {"idempotency-key: a\r\n", "bud-resume: 60\r\n"};
    struct pair p;
    struct buf seen;
    char id[160];
    pair_open(&p);
    buf_init(&seen, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        struct answer rest;
        int before = calls(&p);
        atomic_store(&p.a.fake.told, false);
        buf_reset(&seen);
        int fd = keyed_send(&p.a, "told-midway", asks[i], true);
        assert_true(raw_until(fd, &seen, "{\"a\":1}\n\n", 1));
        close(fd);
        last_id(&seen, id, sizeof(id));
        /* What nobody was given leave for may not be there yet. */
        for (int n = 0; keyed_ask(&p.b, "ok", id, &rest) == 404; n++) {
            assert_true(n < WAIT_ROUNDS);
            answer_free(&rest);
        }
        assert_int_equal(rest.status, 409); /* another body */
        answer_free(&rest);
        fd = keyed_send(&p.b, "told-midway", id, true);
        atomic_store(&p.a.fake.told, true);
        ask_read(fd, &rest);
        assert_int_equal(rest.status, 200);
        assert_false(raw_has(&rest.body, "{\"a\":1}"));
        assert_true(raw_has(&rest.body, "{\"a\":2}") && raw_has(&rest.body, "{\"a\":3}"));
        assert_true(raw_has(&rest.body, "data: [DONE]\n\n"));
        assert_int_equal(calls(&p), before + 1);
        answer_free(&rest);
    }
    struct answer lost;
    assert_int_equal(
        keyed_ask(&p.b, "ok",
                  "last-event-id: 00112233445566778899aabbccddeeff.0011223344556677.0\r\n", &lost),
        404);
    answer_free(&lost);
    buf_deinit(&seen);
    pair_close(&p);
}

/* 32 MiB through a window of 8: who follows is given all of it, or is told that it is too slow, or
 * is cut off when it takes nothing for too long. */
static void long_ones_are_followed(void **state)
{
    UNUSED(state);
    struct pair p;
    struct answer at_a, at_b;
    pair_open(&p);
    int fd = keyed_send(&p.a, "pour", "idempotency-key: a\r\n", true);
    wait_for(&p.a.fake.n_requests, 1);
    int other = keyed_send(&p.b, "pour", "idempotency-key: a\r\n", true);
    ask_read(fd, &at_a);
    ask_read(other, &at_b);
    assert_true(at_a.whole && raw_has(&at_a.body, "data: [DONE]"));
    if (at_b.status == 200 && raw_has(&at_b.body, "data: [DONE]")) {
        assert_same_body(&at_a, &at_b);
    } else if (at_b.status != 409 && !raw_has(&at_b.body, "\"error\":")) {
        assert_true(at_b.status == 200 && !at_b.whole && at_b.body.len < at_a.body.len);
        assert_memory_equal(at_a.body.ptr, at_b.body.ptr, at_b.body.len);
    }
    assert_int_equal(calls(&p), 1);
    answer_free(&at_a);
    answer_free(&at_b);
    pair_close(&p);
}

/* ---- one of them dies ---- */

static void the_writer_dies(void **state)
{
    UNUSED(state);
    struct pair p;
    struct buf seen;
    struct answer done, a;
    char id[160];
    pair_open_more(&p, (struct answers_conf){.dead_ms = 3000}, 0);
    buf_init(&seen, 1 << 20);
    assert_int_equal(keyed_ask(&p.a, "stream", "idempotency-key: done\r\n", &done), 200);
    int fd = keyed_send(&p.a, "hold", "idempotency-key: runs\r\n", true);
    assert_true(raw_until(fd, &seen, "{\"a\":1}\n\n", 1));
    int other = keyed_send(&p.b, "hold", "idempotency-key: runs\r\n", true);
    buf_reset(&seen);
    assert_true(raw_until(other, &seen, "{\"a\":1}\n\n", 1));
    last_id(&seen, id, sizeof(id));
    int silent[2];
    silent[0] = keyed_send(&p.a, "told", "idempotency-key: silent\r\n", false);
    wait_for(&p.a.fake.n_requests, 3);
    silent[1] = keyed_send(&p.b, "told", "idempotency-key: silent\r\n", false);
    /* What was finished must have been told by now: what came after it was. */
    rig_die(&p.a);
    close(fd);
    close(silent[0]);
    ask_read(silent[1], &a);
    assert_int_equal(a.status, 503);
    assert_true(answer_is_error(&a, "interrupted"));
    answer_free(&a);
    while (raw_read(other, &seen, ASK_WAIT_MS) > 0) {}
    close(other);
    assert_true(raw_has(&seen, "\"code\":\"interrupted\""));
    assert_false(raw_has(&seen, "[DONE]"));
    assert_int_equal(keyed_ask(&p.b, "hold", id, &a), 200); /* and nothing more is there */
    assert_true(raw_has(&a.body, "\"code\":\"interrupted\"") && !raw_has(&a.body, "{\"a\":1}"));
    answer_free(&a);
    assert_int_equal(keyed_ask(&p.b, "stream", "idempotency-key: done\r\n", &a), 200);
    assert_same_body(&done, &a);
    answer_free(&a);
    assert_int_equal(atomic_load(&p.b.fake.n_requests), 0);
    fd = keyed_send(&p.b, "hold", "idempotency-key: runs\r\n", true); /* its key begins anew */
    buf_reset(&seen);
    assert_true(raw_until(fd, &seen, "{\"a\":1}\n\n", 1));
    assert_int_equal(atomic_load(&p.b.fake.n_requests), 1);
    close(fd);
    answer_free(&done);
    buf_deinit(&seen);
    pair_close(&p);
}

static void redis_dies(void **state)
{
    UNUSED(state);
    struct pair p;
    struct buf seen, followed;
    struct answer a, first;
    /* A claim that was on its way as Redis died is waited for. */
    pair_open_more(&p, (struct answers_conf){.dead_ms = 60000, .claim_ms = 10000}, 0);
    buf_init(&seen, 1 << 20);
    assert_int_equal(keyed_ask(&p.a, "ok", "idempotency-key: done\r\n", &first), 200);
    int fd = keyed_send(&p.a, "told-midway", "idempotency-key: runs\r\n", true);
    assert_true(raw_until(fd, &seen, "{\"a\":1}\n\n", 1));
    int follower = keyed_send(&p.b, "told-midway", "idempotency-key: runs\r\n", true);
    buf_init(&followed, 1 << 20);
    assert_true(raw_until(follower, &followed, "{\"a\":1}\n\n", 1));
    redis_server_kill(&p.server);
    int before = calls(&p);
    assert_int_equal(keyed_ask(&p.b, "ok", "idempotency-key: done\r\n", &a), 503);
    assert_true(answer_is_error(&a, "unavailable"));
    answer_free(&a);
    assert_int_equal(keyed_ask(&p.a, "ok", "idempotency-key: new\r\n", &a), 503);
    answer_free(&a);
    assert_int_equal(calls(&p), before); /* nothing was billed */
    assert_int_equal(keyed_ask(&p.a, "ok", "idempotency-key: done\r\n", &a), 200);
    assert_same_body(&first, &a); /* it is known here */
    answer_free(&a);
    assert_int_equal(keyed_ask(&p.b, "ok", "", &a), 200);
    answer_free(&a);
    assert_int_equal(keyed_ask(&p.b, "stream", "bud-resume: 60\r\n", &a), 200);
    answer_free(&a);
    atomic_store(&p.a.fake.told, true);
    while (raw_read(fd, &seen, ASK_WAIT_MS) > 0) {}
    close(fd);
    assert_true(raw_has(&seen, "data: [DONE]\n\n")); /* what runs goes on … */
    redis_server_start(&p.server, NULL);
    while (raw_read(follower, &followed, ASK_WAIT_MS) > 0) {} /* … and is told to the new one */
    close(follower);
    assert_true(raw_has(&followed, "{\"a\":3}") && raw_has(&followed, "data: [DONE]\n\n"));
    before = calls(&p);
    assert_int_equal(keyed_ask(&p.b, "ok", "idempotency-key: runs\r\n", &a),
                     409); /* another body */
    answer_free(&a);
    assert_int_equal(calls(&p), before);
    assert_int_equal(keyed_ask(&p.b, "ok", "idempotency-key: new\r\n", &a), 200);
    answer_free(&a);
    answer_free(&first);
    buf_deinit(&seen);
    buf_deinit(&followed);
    pair_close(&p);
}

/* The server stands still while it has the claim: the reply is lost, the claim is not. */
static void a_claim_is_lost(void **state)
{
    UNUSED(state);
    struct pair p;
    struct answer a;
    pair_open_more(&p, (struct answers_conf){.dead_ms = 60000}, 300);
    assert_int_equal(keyed_ask(&p.a, "ok", "idempotency-key: warm\r\n", &a), 200);
    answer_free(&a);
    for (int n = 0; n < 3; n++) {
        char key[64];
        int before = calls(&p);
        snprintf(key, sizeof(key), "idempotency-key: k%d\r\n", n);
        kill(p.server.pid, SIGSTOP);
        int fd = keyed_send(&p.a, "ok", key, false);
        usleep(450000); /* past the command's time: the connection is given up */
        kill(p.server.pid, SIGCONT);
        ask_read(fd, &a);
        assert_true(a.status == 200 || a.status == 503);
        assert_int_equal(calls(&p) - before, a.status == 200 ? 1 : 0);
        bool made = a.status == 200;
        answer_free(&a);
        if (made) {
            assert_int_equal(keyed_ask(&p.b, "ok", key, &a), 200);
            assert_int_equal(calls(&p) - before, 1);
            answer_free(&a);
        }
    }
    pair_close(&p);
}

/* Those who ask go away before Redis has answered: what they have claimed is not left behind. */
static void nobody_waits_for_the_claim(void **state)
{
    UNUSED(state);
    struct pair p;
    struct answer a;
    pair_open(&p);
    for (int n = 0; n < 50; n++) {
        char key[64];
        snprintf(key, sizeof(key), "bud-resume: 0\r\nidempotency-key: k%d\r\n", n);
        for (int i = 0; i < 3; i++) {
            close(keyed_send(&p.a, "ok", key, false));
        }
    }
    for (int n = 0; n < 50; n++) {
        char key[64];
        int status = 503;
        snprintf(key, sizeof(key), "idempotency-key: k%d\r\n", n);
        for (int i = 0; status == 503 && i < WAIT_ROUNDS; i++) { /* it was being dropped */
            status = keyed_ask(&p.b, "ok", key, &a);
            answer_free(&a);
        }
        assert_int_equal(status, 200);
    }
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_other_replays),
        cmocka_unit_test(failures_begin_anew_elsewhere),
        cmocka_unit_test(parallel_ones_share_one_call),
        cmocka_unit_test(a_cut_stream_goes_on_elsewhere),
        cmocka_unit_test(long_ones_are_followed),
        cmocka_unit_test(the_writer_dies),
        cmocka_unit_test(redis_dies),
        cmocka_unit_test(a_claim_is_lost),
        cmocka_unit_test(nobody_waits_for_the_claim),
    };
    cmocka_set_test_filter(getenv("F"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
