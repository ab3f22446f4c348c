/* `bud load` without a network: addresses, requests, answers, and the counting of times. */
#include "check.h"

#include "base/arena.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cli/load_answer.h"
#include "cli/load_hist.h"
#include "cli/load_text.h"
#include "cli/load_url.h"

/* ---- addresses ---- */

static void test_url_parts(void **state)
{
    static const struct {
        const char *text, *host, *authority, *path;
        uint16_t port;
    } rows[] = {
        {"http://localhost:8080", "localhost", "localhost:8080", "/v1", 8080},
        {"http://127.0.0.1:1/", "127.0.0.1", "127.0.0.1:1", "/v1", 1},
        {"http://example.org", "example.org", "example.org:80", "/v1", 80},
        {"http://h:9/openai/v1//", "h", "h:9", "/openai/v1", 9},
        {"http://[::1]:65535/v2", "::1", "[::1]:65535", "/v2", 65535},
        {"http://[fe80::1]", "fe80::1", "[fe80::1]:80", "/v1", 80},
        {"https://h", "h", "h:443", "/v1", 443},
    };
    UNUSED(state);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct load_url u;
        assert_int_equal(load_url_parse(&u, str_from(rows[i].text), NULL), RC_OK);
        assert_string_equal(u.host, rows[i].host);
        assert_string_equal(u.authority, rows[i].authority);
        assert_string_equal(u.path, rows[i].path);
        assert_int_equal(u.port, rows[i].port);
        assert_false(u.is_unix);
    }
}

static void test_url_refused(void **state)
{
    static const char *const rows[] = {
        "",           "localhost:8080", "https://",      "ftp://h",        "http://",
        "http:///v1", "http://:80",     "http://h:0",    "http://h:65536", "http://h:port",
        "http://a@h", "http://h/v1?x",  "http://h/v1#x", "http://h/a b",   "http://[::1",
        "http://[]",  "http://[::1]80", "http://h\x01/", "unix:",          "http://h:80:80",
    };
    UNUSED(state);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct load_url u;
        struct err err = {0};
        assert_int_equal(load_url_parse(&u, str_from(rows[i]), &err), RC_INVALID);
        assert_true(strlen(err.msg) > 0);
    }
}

static void test_url_too_long(void **state)
{
    char text[2048] = "http://h/";
    struct load_url u;
    UNUSED(state);
    memset(text + 9, 'a', 1000);
    assert_int_equal(load_url_parse(&u, str_from(text), NULL), RC_INVALID);
    memcpy(text, "http://aa", 9);
    assert_int_equal(load_url_parse(&u, str_from(text), NULL), RC_INVALID);
    memcpy(text, "unix:/aaa", 9);
    assert_int_equal(load_url_parse(&u, str_from(text), NULL), RC_INVALID);
}

static void test_url_resolve(void **state)
{
    struct load_url u;
    struct addr a;
    struct err err = {0};
    UNUSED(state);
    assert_int_equal(load_url_parse(&u, STR_LIT("http://127.0.0.1:81"), NULL), RC_OK);
    assert_int_equal(load_url_resolve(&u, &a, NULL), RC_OK);
    assert_int_equal(addr_port(&a), 81);
    assert_int_equal(load_url_parse(&u, STR_LIT("unix:\0\0dun/ock"), NULL), RC_INVALID);
    assert_int_equal(load_url_parse(&u, STR_LIT("unix:/tmp/x.sock"), NULL), RC_OK);
    assert_int_equal(load_url_resolve(&u, &a, NULL), RC_OK);
    assert_string_equal(addr_unix_path(&a), "/tmp/x.sock");
    assert_int_equal(load_url_parse(&u, STR_LIT("http://no.such.host.invalid"), NULL), RC_OK);
    assert_int_equal(load_url_resolve(&u, &a, &err), RC_UNAVAILABLE);
    assert_non_null(strstr(err.msg, "no.such.host.invalid"));
}

/* ---- requests ---- */

static const struct json *body_of(const struct load_text *t, uint64_t number, struct buf *buf,
                                  struct arena *arena)
{
    const struct json *root = NULL;
    buf_reset(buf);
    load_text_body(buf, t, number);
    assert_true(buf_ok(buf));
    assert_int_equal(json_parse(buf_str(buf), arena, &root, NULL), RC_OK);
    return root;
}

static struct str chat_prompt(const struct json *root)
{
    return json_get(json_get(root, "messages")->first, "content")->text;
}

static uint32_t words_of(struct str s)
{
    uint32_t n = 0;
    while (s.ptr != NULL) {
        n += str_cut(&s, ' ').len > 0;
    }
    return n;
}

static void test_text_bodies(void **state)
{
    struct load_text t = {.api = LOAD_CHAT,
                          .model = STR_LIT("a \"b\""),
                          .n_words = 20,
                          .n_prefix_words = 30,
                          .max_tokens = 7,
                          .temperature = 0.5,
                          .stream = true,
                          .seed = 3,
                          .n_inputs = 1};
    struct arena arena;
    struct buf buf;
    UNUSED(state);
    arena_init(&arena, 1 << 20);
    buf_init(&buf, 1 << 20);
    const struct json *one = body_of(&t, 0, &buf, &arena);
    assert_true(str_is(json_get(one, "model")->text, "a \"b\""));
    assert_true(json_get(one, "stream")->boolean);
    assert_true(json_get(json_get(one, "stream_options"), "include_usage")->boolean);
    assert_true(str_is(json_get(one, "max_tokens")->text, "7"));
    assert_true(str_is(json_get(one, "temperature")->text, "0.5"));
    assert_int_equal(words_of(chat_prompt(one)), 50);
    t.api = LOAD_COMPLETIONS;
    t.stream = false;
    t.n_prefix_words = 0;
    const struct json *plain = body_of(&t, 0, &buf, &arena);
    assert_null(json_get(plain, "stream"));
    assert_int_equal(words_of(json_get(plain, "prompt")->text), 20);
    t.api = LOAD_EMBEDDINGS;
    t.n_inputs = 5;
    const struct json *many = body_of(&t, 0, &buf, &arena);
    assert_int_equal(json_get(many, "input")->n, 5);
    assert_null(json_get(many, "max_tokens"));
    buf_deinit(&buf);
    arena_deinit(&arena);
}

static void test_text_prefix_is_shared(void **state)
{
    struct load_text t = {.api = LOAD_CHAT, .n_words = 10, .n_prefix_words = 40, .n_inputs = 1};
    struct arena arena;
    struct buf a, b;
    UNUSED(state);
    arena_init(&arena, 1 << 20);
    buf_init(&a, 1 << 20);
    buf_init(&b, 1 << 20);
    struct str one = chat_prompt(body_of(&t, 0, &a, &arena));
    struct str two = chat_prompt(body_of(&t, 1, &b, &arena));
    size_t same = 0;
    while (same < MIN(one.len, two.len) && one.ptr[same] == two.ptr[same]) {
        same++;
    }
    assert_in_range(words_of(str_slice(one, 0, same)), 40, 44);
    assert_false(str_eq(one, two));
    /* The same number again, and the same seed, say the same. */
    assert_true(str_eq(one, chat_prompt(body_of(&t, 0, &b, &arena))));
    t.seed = 9;
    assert_false(str_eq(one, chat_prompt(body_of(&t, 0, &b, &arena))));
    buf_deinit(&a);
    buf_deinit(&b);
    arena_deinit(&arena);
}

static void test_text_apis(void **state)
{
    enum load_api api;
    UNUSED(state);
    for (uint32_t i = 0; i < LOAD_APIS_N; i++) {
        assert_true(load_api_parse(str_from(load_api_name((enum load_api)i)), &api));
        assert_int_equal(api, i);
        assert_int_equal(load_api_target(api)[0], '/');
    }
    assert_false(load_api_parse(STR_LIT("images"), &api));
}

/* ---- answers ---- */

static void test_answers(void **state)
{
    static const struct {
        const char *json;
        bool text, usage;
        uint64_t prompt, completion;
    } rows[] = {
        {"{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}]}", 0, 0, 0, 0},
        {"{\"choices\":[{\"delta\":{\"content\":\"\"}}]}", 0, 0, 0, 0},
        {"{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}", 1, 0, 0, 0},
        {"{\"choices\":[{\"delta\":{\"reasoning_content\":\"x\"}}]}", 1, 0, 0, 0},
        {"{\"choices\":[{\"delta\":{\"tool_calls\":[{}]}}]}", 1, 0, 0, 0},
        {"{\"choices\":[{\"text\":\"x\"}],\"usage\":null}", 1, 0, 0, 0},
        {"{\"choices\":[{\"message\":{\"content\":\"x\"}}],"
         "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}",
         1, 1, 3, 4},
        {"{\"choices\":[],\"usage\":{\"prompt_tokens\":-3,\"completion_tokens\":\"4\"}}", 0, 1, 0,
         0},
        {"{\"choices\":{},\"usage\":[]}", 0, 1, 0, 0},
        {"{\"choices\":[3,[],{\"delta\":[]}]}", 0, 0, 0, 0},
        {"{}", 0, 0, 0, 0},
    };
    struct arena arena;
    UNUSED(state);
    arena_init(&arena, 1 << 16);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct load_answer a;
        assert_int_equal(load_answer_parse(&a, str_from(rows[i].json), &arena, NULL), RC_OK);
        assert_int_equal(a.has_text, rows[i].text);
        assert_int_equal(a.has_usage, rows[i].usage);
        assert_int_equal(a.prompt_tokens, rows[i].prompt);
        assert_int_equal(a.completion_tokens, rows[i].completion);
    }
    arena_deinit(&arena);
}

static void test_answers_that_are_errors(void **state)
{
    struct arena arena;
    struct load_answer a;
    struct err err = {0};
    UNUSED(state);
    arena_init(&arena, 1 << 16);
    assert_int_equal(
        load_answer_parse(&a, STR_LIT("{\"error\":{\"message\":\"too hot\"}}"), &arena, &err),
        RC_UPSTREAM);
    assert_string_equal(err.msg, "too hot");
    assert_int_equal(load_answer_parse(&a, STR_LIT("{\"error\":7}"), &arena, &err), RC_UPSTREAM);
    assert_string_equal(err.msg, "an error without a message");
    assert_int_equal(load_answer_parse(&a, STR_LIT("[]"), &arena, &err), RC_SYNTAX);
    assert_int_equal(load_answer_parse(&a, STR_LIT("{"), &arena, &err), RC_SYNTAX);
    char text[LOAD_ERROR_BYTES_MAX];
    load_answer_error(text, 429, STR_LIT("{\"error\":{\"message\":\"slow\\u001b down\"}}"), &arena);
    assert_string_equal(text, "429 Too Many Requests: slow\\x1b down");
    load_answer_error(text, 503, STR_LIT("<html>"), &arena);
    assert_string_equal(text, "503 Service Unavailable");
    arena_deinit(&arena);
}

static void test_answer_model(void **state)
{
    char model[8];
    struct arena arena;
    UNUSED(state);
    arena_init(&arena, 1 << 16);
    assert_int_equal(load_answer_model(model, sizeof(model),
                                       STR_LIT("{\"data\":[{\"id\":\"m1\"},{\"id\":\"m2\"}]}"),
                                       &arena, NULL),
                     RC_OK);
    assert_string_equal(model, "m1");
    static const char *const bad[] = {"{\"data\":[]}", "{\"data\":{}}", "{}",
                                      "{\"data\":[{\"id\":7}]}", "{\"data\":[{\"id\":\"\"}]}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(load_answer_model(model, sizeof(model), str_from(bad[i]), &arena, NULL),
                         RC_NOT_FOUND);
    }
    assert_int_equal(load_answer_model(model, sizeof(model),
                                       STR_LIT("{\"data\":[{\"id\":\"12345678\"}]}"), &arena, NULL),
                     RC_TOO_LARGE);
    arena_deinit(&arena);
}

/* ---- times ---- */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Against sorting, over ten powers of ten. */
static void test_hist_quantiles(void **state)
{
    enum { N = 20000 };
    static uint64_t values[N];
    struct load_hist *h = mem_zalloc(sizeof(*h));
    struct rng rng;
    double sum = 0;
    UNUSED(state);
    rng_init(&rng, 5);
    for (uint32_t i = 0; i < N; i++) {
        values[i] = rng_u64(&rng) >> (24 + rng_below(&rng, 38));
        sum += (double)values[i];
        load_hist_add(h, values[i]);
    }
    qsort(values, N, sizeof(values[0]), compare_u64);
    static const double quantiles[] = {0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.9999, 1};
    for (size_t i = 0; i < ARRAY_LEN(quantiles); i++) {
        double rank = quantiles[i] * N;
        double want = (double)values[rank < 1 ? 0 : (size_t)rank - (rank == (double)(size_t)rank)];
        double got = load_hist_quantile_ns(h, quantiles[i]);
        assert_true(got >= want * 0.992 - 1 && got <= want * 1.008 + 1);
    }
    assert_int_equal(h->max_ns, values[N - 1]);
    assert_true(load_hist_mean_ns(h) > sum / N * 0.999 && load_hist_mean_ns(h) < sum / N * 1.001);
    mem_free(h);
}

static void test_hist_ends(void **state)
{
    struct load_hist *h = mem_zalloc(sizeof(*h));
    UNUSED(state);
    assert_true(load_hist_quantile_ns(h, 0.5) == 0 && load_hist_mean_ns(h) == 0);
    load_hist_add(h, 0);
    assert_true(load_hist_quantile_ns(h, 1) == 0);
    load_hist_add(h, UINT64_MAX / 2);
    assert_int_equal(h->max_ns, UINT64_MAX / 2);
    assert_true(load_hist_quantile_ns(h, 0.5) == 0);
    assert_true(load_hist_quantile_ns(h, 1) > 1e14);
    mem_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_url_parts),
        cmocka_unit_test(test_url_refused),
        cmocka_unit_test(test_url_too_long),
        cmocka_unit_test(test_url_resolve),
        cmocka_unit_test(test_text_bodies),
        cmocka_unit_test(test_text_prefix_is_shared),
        cmocka_unit_test(test_text_apis),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_answers_that_are_errors),
        cmocka_unit_test(test_answer_model),
        cmocka_unit_test(test_hist_quantiles),
        cmocka_unit_test(test_hist_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
