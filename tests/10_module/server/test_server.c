/* The model server's role from the outside, with the model that ships: HTTP over a UNIX socket, the
 * server's loop on its own thread. */
#include "10_module/ask.h"

#include <stdatomic.h>

#include "base/mem.h"
#include "base/thread.h"
#include "net/loop.h"
#include "server/server.h"

#define MODEL_PATH "models/bud-story-4m.gguf"
#define COMPLETE   "POST /v1/completions"
#define CHAT       "POST /v1/chat/completions"

struct rig {
    struct loop *loop;
    struct server *server;
    struct addr addr;
    struct thread thread;
    struct server_model_conf model;
    atomic_int ready; /* 1 = ready, -1 = failed */
    atomic_bool drained;
};

static void rig_on_ready(void *ctx, enum rc rc, const struct err *err)
{
    struct rig *r = ctx;
    if (rc != RC_OK) {
        printf("not ready: %s\n", err->msg);
    }
    atomic_store(&r->ready, rc == RC_OK ? 1 : -1);
}

static void rig_run(void *arg)
{
    loop_run(((struct rig *)arg)->loop);
}

static void rig_open(struct rig *r, struct server_conf conf)
{
    static int n_rigs; /* a failed test leaves its server behind */
    char text[64];
    struct err err = {0};
    check_need_file(MODEL_PATH);
    memset(r, 0, sizeof(*r));
    snprintf(text, sizeof(text), "unix:/tmp/bud-test-server-%d-%d.sock", (int)getpid(), n_rigs++);
    assert_int_equal(addr_parse(&r->addr, str_from(text), NULL), RC_OK);
    r->model = (struct server_model_conf){STR_LIT("story"), STR_LIT(MODEL_PATH)};
    conf.listen = r->addr;
    conf.models = &r->model;
    conf.n_models = 1;
    conf.engine.n_threads = 1;
    conf.engine.kv_type = DTYPE_F16;
    conf.on_ready = rig_on_ready;
    conf.ctx = r;
    assert_int_equal(loop_create(&r->loop, clock_system(), NULL), RC_OK);
    assert_int_equal(server_create(&r->server, r->loop, &conf, &err), RC_OK);
    assert_int_equal(thread_start(&r->thread, "server", -1, rig_run, r), RC_OK);
    while (atomic_load(&r->ready) == 0) {
        usleep(1000);
    }
    assert_int_equal(atomic_load(&r->ready), 1);
}

static void rig_close(struct rig *r)
{
    loop_stop(r->loop);
    thread_join(&r->thread);
    server_destroy(r->server);
    loop_destroy(r->loop);
}

static void rig_drained(void *ctx)
{
    struct rig *r = ctx;
    atomic_store(&r->drained, true);
    loop_stop(r->loop);
}

static void rig_drain(void *ctx)
{
    struct rig *r = ctx;
    server_drain(r->server, 20000, rig_drained, r);
}

/* ---- what one request gets ---- */

static void the_longest_stop_string_is_taken(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    struct buf body;
    rig_open(&r, (struct server_conf){0});
    buf_init(&body, 4096);
    buf_add_cstr(&body, "{\"model\":\"story\",\"prompt\":\"The\",\"max_tokens\":3,"
                        "\"ignore_eos\":true,\"stop\":\"");
    for (int i = 0; i < 1024; i++) {
        buf_add_byte(&body, 'x');
    }
    buf_add_cstr(&body, "\"}");
    ask(&r.addr, COMPLETE, "", body.ptr, &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(answer_i64(a.json, "usage.completion_tokens"), 3);
    answer_free(&a);
    buf_deinit(&body);
    rig_close(&r);
}

/* Every token's text stands where text_offset says, also when a stop string held it back. */
static void check_offsets(const struct json *choice, struct str text, uint64_t *n)
{
    const struct json *tokens = answer_at(choice, "logprobs.tokens");
    const struct json *at = answer_at(choice, "logprobs.text_offset")->first;
    assert_int_equal(tokens->n, answer_at(choice, "logprobs.token_logprobs")->n);
    JSON_EACH(tokens, token)
    {
        int64_t offset = -1;
        assert_true(json_to_i64(at, &offset));
        assert_true(str_starts(str_slice(text, (size_t)offset, text.len), token->text));
        at = at->next;
        (*n)++;
    }
}

static void text_offsets_point_at_their_tokens(void **state)
{
    (void)state;
    struct rig r;
    struct answer whole, stream;
    uint64_t n_whole = 0, n_stream = 0;
    struct buf text;
    rig_open(&r, (struct server_conf){0});
    /* " a" begins a stop string again and again without ever completing it. */
    const char *const fields =
        "\"model\":\"story\",\"prompt\":\"Once\",\"max_tokens\":40,"
        "\"temperature\":0,\"logprobs\":1,\"stop\":[\" aQ\",\". Q\",\"e Q\"]";
    char body[512];
    snprintf(body, sizeof(body), "{%s}", fields);
    ask(&r.addr, COMPLETE, "", body, &whole);
    assert_int_equal(whole.status, 200);
    struct str said = answer_at(whole.json, "choices.0.text")->text;
    check_offsets(answer_at(whole.json, "choices.0"), said, &n_whole);
    assert_true(n_whole > 20);

    snprintf(body, sizeof(body), "{%s,\"stream\":true}", fields);
    ask(&r.addr, COMPLETE, "", body, &stream);
    buf_init(&text, 1 << 20);
    for (int pass = 0; pass < 2; pass++) { /* a token may be told before its last byte is */
        const char *data;
        for (int i = 0; (data = answer_event(&stream, i)) != NULL; i++) {
            const struct json *event;
            if (json_parse(str_from(data), &stream.arena, &event, NULL) != RC_OK) {
                assert_string_equal(data, "[DONE]");
            } else if (pass == 0) {
                buf_add_str(&text, answer_at(event, "choices.0.text")->text);
            } else {
                check_offsets(answer_at(event, "choices.0"), buf_str(&text), &n_stream);
            }
        }
    }
    assert_true(str_eq(buf_str(&text), said));
    assert_int_equal(n_stream, n_whole);
    buf_deinit(&text);
    answer_free(&whole);
    answer_free(&stream);
    rig_close(&r);
}

static void choices_of_a_stream_are_all_told_and_counted(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    rig_open(&r, (struct server_conf){.limits.running_max = 3});
    ask(&r.addr, COMPLETE, "",
        "{\"model\":\"story\",\"prompt\":[\"The fox\",\"A boat\"],\"n\":4,\"max_tokens\":5,"
        "\"ignore_eos\":true,\"echo\":true,\"stream\":true,"
        "\"stream_options\":{\"include_usage\":true}}",
        &a);
    assert_int_equal(a.status, 200);
    assert_true(a.whole);
    int n = answer_n_events(&a);
    bool finished[8] = {false}, echoed[8] = {false};
    const struct json *event;
    for (int i = 0; i < n - 2; i++) {
        assert_int_equal(json_parse(str_from(answer_event(&a, i)), &a.arena, &event, NULL), RC_OK);
        int64_t index = answer_i64(event, "choices.0.index");
        assert_in_range(index, 0, 7);
        struct str text = answer_at(event, "choices.0.text")->text;
        if (!echoed[index]) {
            echoed[index] = true;
            assert_true(str_is(text, index < 4 ? "The fox" : "A boat"));
        }
        assert_false(finished[index]);
        finished[index] = answer_at(event, "choices.0.finish_reason")->type == JSON_STRING;
    }
    for (int i = 0; i < 8; i++) {
        assert_true(finished[i]);
    }
    assert_int_equal(json_parse(str_from(answer_event(&a, n - 2)), &a.arena, &event, NULL), RC_OK);
    assert_int_equal(answer_i64(event, "usage.completion_tokens"), 40);
    assert_string_equal(answer_event(&a, n - 1), "[DONE]");
    answer_free(&a);
    rig_close(&r);
}

/* ---- limits ---- */

static void too_many_requests_are_told_to_come_again(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    rig_open(&r, (struct server_conf){.requests_max = 1});
    int held =
        ask_send(&r.addr, COMPLETE, "expect: 100-continue\r\ncontent-length: 10\r\n", STR_NULL);
    struct buf in;
    buf_init(&in, 4096);
    assert_true(raw_until(held, &in, "100 Continue", 1));
    ask(&r.addr, COMPLETE, "", "{\"model\":\"story\",\"prompt\":\"A\"}", &a);
    assert_int_equal(a.status, 429);
    assert_true(raw_has(&a.bytes, "retry-after: "));
    assert_true(str_is(answer_at(a.json, "error.code")->text, "server_busy"));
    answer_free(&a);
    close(held);
    for (int i = 0; i < 100; i++) { /* the place is free once the hang-up was seen */
        ask(&r.addr, COMPLETE, "", "{\"model\":\"story\",\"prompt\":\"A\",\"max_tokens\":1}", &a);
        int status = a.status;
        answer_free(&a);
        if (status == 200) {
            break;
        }
        assert_int_equal(status, 429);
        assert_true(i < 99);
        usleep(10000);
    }
    buf_deinit(&in);
    rig_close(&r);
}

static void bodies_share_a_bound_of_memory(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    rig_open(&r, (struct server_conf){.bodies_bytes_max = 100000});
    struct buf big;
    buf_init(&big, 1 << 20);
    buf_add_cstr(&big, "{\"model\":\"story\",\"prompt\":\"A\",\"max_tokens\":1");
    while (big.len < 99000) {
        buf_add_cstr(&big, "                                                  ");
    }
    buf_add_cstr(&big, "}");
    for (int i = 0; i < 3; i++) { /* alone each of them fits: what was used comes back */
        ask(&r.addr, COMPLETE, "", big.ptr, &a);
        assert_int_equal(a.status, 200);
        answer_free(&a);
    }
    int held = ask_send(&r.addr, COMPLETE, "content-length: 90000\r\n", STR_NULL);
    raw_send(held, str_slice(buf_str(&big), 0, 80000));
    int status = 0;
    for (int i = 0; i < 100 && status != 503; i++) {
        ask(&r.addr, COMPLETE, "", big.ptr, &a);
        status = a.status;
        answer_free(&a);
    }
    assert_int_equal(status, 503);
    close(held);
    for (int i = 0; i < 100 && status != 200; i++) {
        ask(&r.addr, COMPLETE, "", big.ptr, &a);
        status = a.status;
        answer_free(&a);
        usleep(10000);
    }
    assert_int_equal(status, 200);
    buf_deinit(&big);
    rig_close(&r);
}

/* Two answers of a client that never reads fill what is between; the places are for others. */
static void a_reader_that_stopped_blocks_nobody(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
#ifdef __SANITIZE_THREAD__
    printf("skip: hundreds of tokens take minutes under TSan, and no other thread is at work\n");
    skip();
#endif
    rig_open(&r, (struct server_conf){.limits.running_max = 2});
    int slow = ask_send(&r.addr, CHAT, "",
                        STR_LIT("{\"model\":\"story\",\"messages\":[{\"role\":\"user\",\"content\":"
                                "\"Hi\"}],\"n\":2,\"stream\":true,\"logprobs\":true,"
                                "\"top_logprobs\":20,\"ignore_eos\":true,\"max_tokens\":400}"));
    usleep(300000);
    ask(&r.addr, COMPLETE, "",
        "{\"model\":\"story\",\"prompt\":\"A\",\"max_tokens\":5,\"ignore_eos\":true}", &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(answer_i64(a.json, "usage.completion_tokens"), 5);
    answer_free(&a);
    /* It reads after all, and gets everything. */
    ask_read(slow, &a);
    assert_int_equal(a.status, 200);
    assert_true(a.whole);
    assert_string_equal(answer_event(&a, answer_n_events(&a) - 1), "[DONE]");
    answer_free(&a);
    rig_close(&r);
}

/* The link's headers: class, deadline, budget, tenant. */
static void the_links_limits_are_kept(void **state)
{
    (void)state;
    static const char body[] = "{\"model\":\"story\",\"prompt\":\"The old boat\",\"max_tokens\":30,"
                               "\"ignore_eos\":true,\"n\":2}";
    struct rig r;
    struct answer a;
    rig_open(&r, (struct server_conf){0});
    ask(&r.addr, COMPLETE, "", body, &a);
    int64_t n_prompt = answer_i64(a.json, "usage.prompt_tokens");
    assert_int_equal(answer_i64(a.json, "usage.completion_tokens"), 60);
    answer_free(&a);
    /* Eleven tokens are left for two answers: six and five. */
    char headers[128];
    snprintf(headers, sizeof(headers), "bud-budget-tokens: %d\r\nbud-class: batch\r\n",
             (int)n_prompt + 11);
    ask(&r.addr, COMPLETE, headers, body, &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(answer_i64(a.json, "usage.completion_tokens"), 11);
    assert_true(str_is(answer_at(a.json, "choices.0.finish_reason")->text, "length"));
    answer_free(&a);
    snprintf(headers, sizeof(headers), "bud-budget-tokens: %d\r\n", (int)n_prompt + 1);
    ask(&r.addr, COMPLETE, headers, body, &a);
    assert_int_equal(a.status, 400); /* it would not fit later either: nothing to try again */
    answer_free(&a);
    ask(&r.addr, COMPLETE, "bud-deadline-ms: 0\r\n", body, &a);
    assert_int_equal(a.status, 504);
    answer_free(&a);
    ask(&r.addr, COMPLETE, "bud-deadline-ms: 60000\r\nbud-tenant: t1\r\n", body, &a);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    ask(&r.addr, COMPLETE, "bud-class: urgent\r\n", body, &a);
    assert_int_equal(a.status, 400);
    answer_free(&a);
    rig_close(&r);
}

static void what_fits_in_no_page_is_refused_at_once(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    rig_open(&r, (struct server_conf){.engine.kv_pages = 4});
    ask(&r.addr, COMPLETE, "", "{\"model\":\"story\",\"prompt\":\"A\",\"max_tokens\":128}", &a);
    assert_int_equal(a.status, 400);
    assert_true(str_is(answer_at(a.json, "error.code")->text, "context_length_exceeded"));
    answer_free(&a);
    ask(&r.addr, COMPLETE, "",
        "{\"model\":\"story\",\"prompt\":\"A\",\"max_tokens\":100,\"ignore_eos\":true}", &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(answer_i64(a.json, "usage.completion_tokens"), 100);
    answer_free(&a);
    rig_close(&r);
}

static void a_repeated_prompt_is_found_again(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    struct buf body;
    rig_open(&r, (struct server_conf){0});
    buf_init(&body, 4096);
    buf_add_cstr(&body, "{\"model\":\"story\",\"max_tokens\":3,\"n\":2,\"prompt\":\"");
    for (int i = 0; i < 30; i++) {
        buf_add_cstr(&body, "The boy saw a dog. ");
    }
    buf_add_cstr(&body, "\"}");
    for (int i = 0; i < 2; i++) {
        ask(&r.addr, COMPLETE, "", body.ptr, &a);
        assert_int_equal(a.status, 200);
        int64_t n_prompt = answer_i64(a.json, "usage.prompt_tokens");
        int64_t n_cached = answer_i64(a.json, "usage.prompt_tokens_details.cached_tokens");
        assert_int_equal(n_cached, i == 0 ? 0 : n_prompt - 1);
        answer_free(&a);
    }
    ask(&r.addr, "GET /metrics", "", "", &a);
    assert_true(raw_has(&a.bytes, "bud_prefix_cache_hits_total{model=\"story\"}"));
    assert_true(raw_has(&a.bytes, "bud_requests_running{model=\"story\"} 0"));
    answer_free(&a);
    buf_deinit(&body);
    rig_close(&r);
}

/* ---- ends ---- */

static void hang_ups_at_any_moment_leave_nothing_behind(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    rig_open(&r, (struct server_conf){.limits.running_max = 4});
    struct str request =
        STR_LIT("POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 97\r\n\r\n"
                "{\"model\":\"story\",\"prompt\":\"Once upon\",\"n\":3,\"stream\":true,"
                "\"max_tokens\":200,\"ignore_eos\":true}");
    for (size_t cut = 10; cut < 60; cut++) { /* every byte of the way in, then moments after it */
        int fd = raw_connect(&r.addr);
        raw_send(fd, str_slice(request, 0, cut < 40 ? cut * 4 : request.len));
        usleep(cut < 40 ? 0 : (useconds_t)(cut - 40) * 500);
        close(fd);
    }
    ask(&r.addr, COMPLETE, "", "{\"model\":\"story\",\"prompt\":\"A\",\"max_tokens\":2}", &a);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    assert_int_equal(loop_post(r.loop, rig_drain, &r), RC_OK);
    thread_join(&r.thread);
    assert_true(atomic_load(&r.drained)); /* nothing of them is in work any more */
    server_destroy(r.server);
    loop_destroy(r.loop);
}

static void destroying_under_load_ends_every_request(void **state)
{
    (void)state;
    struct rig r;
    int fds[12];
    rig_open(&r, (struct server_conf){.limits.running_max = 4});
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = ask_send(&r.addr, COMPLETE, "",
                          i % 2 == 0 ? STR_LIT("{\"model\":\"story\",\"prompt\":\"A\",\"stream\":"
                                               "true,\"max_tokens\":900,\"ignore_eos\":true}")
                                     : STR_LIT("{\"model\":\"story\",\"prompt\":\"A\",\"n\":4,"
                                               "\"max_tokens\":900,\"ignore_eos\":true}"));
    }
    usleep(50000);
    rig_close(&r);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        struct answer a;
        ask_read(fds[i], &a);
        assert_false(a.whole && a.status == 200);
        answer_free(&a);
    }
}

static void bad_models_are_refused(void **state)
{
    (void)state;
    struct loop *loop;
    struct server *server;
    struct rig r = {0};
    assert_int_equal(loop_create(&loop, clock_system(), NULL), RC_OK);
    r.model = (struct server_model_conf){STR_LIT("story"), STR_LIT("tests/check.h")};
    r.loop = loop;
    assert_int_equal(addr_parse(&r.addr, STR_LIT("127.0.0.1:0"), NULL), RC_OK);
    struct server_conf conf = {
        .listen = r.addr, .models = &r.model, .n_models = 1, .on_ready = rig_on_ready, .ctx = &r};
    assert_int_equal(server_create(&server, loop, &conf, NULL), RC_OK);
    assert_int_equal(thread_start(&r.thread, "server", -1, rig_run, &r), RC_OK);
    while (atomic_load(&r.ready) == 0) {
        usleep(1000);
    }
    assert_int_equal(atomic_load(&r.ready), -1);
    loop_stop(loop);
    thread_join(&r.thread);
    server_destroy(server);
    loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_stop_string_is_taken),
        cmocka_unit_test(text_offsets_point_at_their_tokens),
        cmocka_unit_test(choices_of_a_stream_are_all_told_and_counted),
        cmocka_unit_test(too_many_requests_are_told_to_come_again),
        cmocka_unit_test(bodies_share_a_bound_of_memory),
        cmocka_unit_test(a_reader_that_stopped_blocks_nobody),
        cmocka_unit_test(the_links_limits_are_kept),
        cmocka_unit_test(what_fits_in_no_page_is_refused_at_once),
        cmocka_unit_test(a_repeated_prompt_is_found_again),
        cmocka_unit_test(hang_ups_at_any_moment_leave_nothing_behind),
        cmocka_unit_test(destroying_under_load_ends_every_request),
        cmocka_unit_test(bad_models_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
