/* Limits, scopes, models and routes through the whole front door, with several servers. */
#include "10_module/gateway/rig.h"

#include <sqlite3.h>

#include "obs/metric.h"

/* ---- a catalogue over two fakes ---- */

static struct fake second;

static char bodies[8][1024];
static struct meta_object objects[8];

static void object(struct rig *r, const char *kind, const char *name, const char *body)
{
    str_copy(bodies[r->n_objects], sizeof(bodies[0]), str_from(body));
    objects[r->n_objects] = (struct meta_object){
        .kind = str_from(kind), .name = str_from(name), .body = str_from(bodies[r->n_objects])};
    r->n_objects++;
    r->objects = objects;
}

static void object_second(struct rig *r, const char *kind, const char *more)
{
    char body[1024], where[ADDR_TEXT_BYTES];
    snprintf(body, sizeof(body), "{\"name\":\"two\",\"url\":\"http://%s\",\"kind\":\"%s\"%s}",
             addr_format(&second.addr, where), kind, more);
    object(r, "upstream", "two", body);
}

static int post(struct rig *r, const char *model, const char *script, const char *more)
{
    char body[512];
    snprintf(body, sizeof(body), "{\"model\":\"%s\",\"prompt\":\"p\",\"user\":\"%s\"%s}", model,
             script, more);
    return ask_send(&r->addr, COMPLETE, r->auth, str_from(body));
}

static void want(struct rig *r, const char *model, const char *script, int status)
{
    struct answer a;
    ask_read(post(r, model, script, ""), &a);
    assert_int_equal(a.status, status);
    answer_free(&a);
}

/* ---- limits ---- */

static void limits_are_told_and_kept(void **state)
{
    (void)state;
    struct rig r = {.limits = "{\"requests_per_minute\":3,\"tokens_per_minute\":10000}"};
    struct answer a;
    rig_open_more(&r, (struct gateway_conf){0});
    for (int i = 2; i >= 0; i--) {
        char left[64];
        snprintf(left, sizeof(left), "x-ratelimit-remaining-requests: %d\r\n", i);
        ask_read(post(&r, "m", "ok", ""), &a);
        assert_int_equal(a.status, 200);
        assert_non_null(strstr(a.bytes.ptr, "x-ratelimit-limit-requests: 3\r\n"));
        assert_non_null(strstr(a.bytes.ptr, left));
        assert_non_null(strstr(a.bytes.ptr, "x-ratelimit-limit-tokens: 10000\r\n"));
        answer_free(&a);
    }
    ask_read(post(&r, "m", "ok", ""), &a);
    assert_int_equal(a.status, 429);
    assert_true(answer_is_error(&a, "rate_limit_exceeded"));
    assert_non_null(strstr(a.bytes.ptr, "retry-after: 20\r\n"));
    assert_non_null(strstr(a.bytes.ptr, "x-should-retry: true\r\n"));
    answer_free(&a);
    assert_int_equal(atomic_load(&r.fake.n_requests), 3);
    rig_close(&r);
}

static void what_is_left_is_all_that_is_asked_for(void **state)
{
    (void)state;
    struct rig r = {.limits = "{\"tokens_per_day\":200}"};
    struct answer a;
    rig_open_more(&r, (struct gateway_conf){0});
    ask_read(post(&r, "m", "ok", ",\"max_tokens\":500"), &a); /* uses 7 of 200 */
    assert_int_equal(a.status, 200);
    answer_free(&a);
    pthread_mutex_lock(&r.fake.lock);
    const char *body = strstr(r.fake.last.ptr, "\r\n\r\n{");
    assert_non_null(strstr(r.fake.last.ptr, "bud-budget-tokens: 200\r\n"));
    assert_non_null(body);
    assert_non_null(strstr(body, "\"user\":\"ok\",\"max_tokens\":14"));
    pthread_mutex_unlock(&r.fake.lock);
    for (int i = 0; i < 17; i++) { /* 62 bytes of prompt leave no room below 63 */
        want(&r, "m", "ok", i * 7 + 7 + 62 < 200 ? 200 : 429);
    }
    ask_read(post(&r, "m", "ok", ",\"max_tokens\":100000"), &a);
    answer_free(&a);
    ask_read(post(&r, "m", "ok",
                  ",\"max_tokens\":1,\"stop\":[\"a longer request that needs more of "
                  "what is left of the day than there still is, far more\"]"),
             &a);
    assert_int_equal(a.status, 429);
    assert_true(answer_is_error(&a, "insufficient_quota"));
    assert_non_null(strstr(a.bytes.ptr, "x-should-retry: false\r\n"));
    answer_free(&a);
    rig_close(&r);
}

static void want_asked(struct rig *r, const char *more, const char *asked)
{
    struct answer a;
    char text[256];
    snprintf(text, sizeof(text),
             "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"p\"}],"
             "\"user\":\"ok\"%s}",
             more);
    ask_read(ask_send(&r->addr, "POST /v1/chat/completions", r->auth, str_from(text)), &a);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    pthread_mutex_lock(&r->fake.lock);
    const char *body = strstr(r->fake.last.ptr, "\r\n\r\n{");
    assert_non_null(body);
    const char *found = strstr(body, "\"max_tokens\"");
    assert_true(asked == NULL ? found == NULL : found != NULL && strstr(found, asked) == found);
    pthread_mutex_unlock(&r->fake.lock);
}

/* A server refuses what is more than it can make: the model says how much that is. */
static void a_model_says_what_is_asked_for(void **state)
{
    (void)state;
    static const char *const limits[] = {"{\"tokens_per_day\":100000}", NULL};
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct rig r = {.limits = limits[i]};
        object(&r, "model", "m",
               "{\"name\":\"m\",\"max_tokens\":77,\"versions\":[{\"name\":\"1\","
               "\"upstreams\":[\"local\"]}]}");
        rig_open_more(&r, (struct gateway_conf){0});
        want_asked(&r, "", limits[i] != NULL ? "\"max_tokens\":77}" : NULL);
        want_asked(&r, ",\"max_tokens\":100", "\"max_tokens\":100}");
        want_asked(&r, ",\"max_tokens\":10", "\"max_tokens\":10}");
        rig_close(&r);
    }
}

/* ---- scopes and lists ---- */

static void scopes_and_projects_hide_models(void **state)
{
    (void)state;
    struct rig r = {.scopes = "completions model:m*", .project = "small"};
    struct answer a;
    object(&r, "project", "small", "{\"name\":\"small\",\"models\":[\"m\",\"m-2\"]}");
    object(&r, "model", "m-2", "{\"name\":\"m-2\",\"alias\":\"m\"}");
    object(&r, "model", "m-3", "{\"name\":\"m-3\",\"alias\":\"m\"}");
    object(&r, "model", "x", "{\"name\":\"x\",\"alias\":\"m\"}");
    rig_open_more(&r, (struct gateway_conf){0});
    want(&r, "m", "ok", 200);
    want(&r, "m-2", "ok", 200);
    want(&r, "m-3", "ok", 404); /* not the project's */
    want(&r, "x", "ok", 404);   /* not the key's */
    want(&r, "y", "ok", 404);
    ask_read(ask_send(&r.addr, "POST /v1/chat/completions", r.auth, STR_LIT("{}")), &a);
    assert_int_equal(a.status, 403);
    answer_free(&a);
    ask_read(ask_send(&r.addr, "GET /v1/models", r.auth, STR_NULL), &a);
    assert_int_equal(a.status, 403);
    answer_free(&a);
    rig_close(&r);
}

/* With no model but the own server's, which would tell of all it has. */
static void a_list_of_models_is_the_callers(void **state)
{
    (void)state;
    struct rig r = {.project = "small"};
    struct answer a;
    object(&r, "project", "small", "{\"name\":\"small\",\"models\":[\"x\"]}");
    rig_open_more(&r, (struct gateway_conf){0});
    ask_read(ask_send(&r.addr, "GET /v1/models", r.auth, STR_NULL), &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(answer_at(a.json, "data")->n, 0);
    answer_free(&a);
    assert_int_equal(atomic_load(&r.fake.n_requests), 0);
    rig_close(&r);
}

/* ---- versions, fallback, other servers ---- */

static void versions_share_by_weight_and_can_be_named(void **state)
{
    (void)state;
    struct rig r = {0};
    fake_open(&second);
    object_second(&r, "bud", "");
    object(&r, "model", "w",
           "{\"name\":\"w\",\"versions\":[{\"name\":\"old\",\"weight\":3,\"upstreams\":[\"local\"],"
           "\"model\":\"m\"},{\"name\":\"new\",\"weight\":1,\"upstreams\":[\"two\"]}]}");
    rig_open_more(&r, (struct gateway_conf){0});
    for (int i = 0; i < 80; i++) {
        want(&r, "w", "ok", 200);
    }
    int n_second = atomic_load(&second.n_requests); /* with a probe or two */
    assert_in_range(n_second, 8, 36);
    int n_first = atomic_load(&r.fake.n_requests);
    want(&r, "w@old", "ok", 200);
    assert_int_equal(atomic_load(&r.fake.n_requests), n_first + 1);
    pthread_mutex_lock(&r.fake.lock);
    assert_non_null(strstr(r.fake.last.ptr, "\"model\":\"m\""));
    pthread_mutex_unlock(&r.fake.lock);
    want(&r, "w@none", "ok", 404);
    rig_close(&r);
    fake_close(&second);
}

static void a_foreign_server_gets_its_key_and_gives_its_usage(void **state)
{
    (void)state;
    struct rig r = {.limits = "{\"money_per_month\":0.00085}"};
    struct answer a;
    fake_open(&second);
    object_second(&r, "openai", ",\"price\":{\"input\":10,\"output\":20}");
    object(&r, "model", "far",
           "{\"name\":\"far\",\"versions\":[{\"name\":\"1\",\"upstreams\":[\"two\"],"
           "\"model\":\"far/away\"}]}");
    rig_open_more(&r, (struct gateway_conf){0});
    wait_for(&second.n_requests, 1); /* its first health check: `last` is ours from here on */
    ask_read(post(&r, "far", "usage-stream", ",\"stream\":true,\"max_tokens\":9"), &a);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.bytes.ptr, "[DONE]"));
    assert_null(strstr(a.bytes.ptr, "prompt_tokens")); /* nobody asked for that chunk */
    answer_free(&a);
    pthread_mutex_lock(&second.lock);
    const char *sent = second.last.ptr;
    assert_non_null(strstr(sent, "\"model\":\"far/away\""));
    assert_non_null(strstr(sent, "\"stream_options\":{\"include_usage\":true}"));
    assert_null(strstr(sent, "bud-tenant"));
    assert_null(strstr(sent, "bud-budget"));
    pthread_mutex_unlock(&second.lock);
    want(&r, "far", "usage-stream",
         429); /* 31 in and 5 out cost 0.00041 of it: 51 bytes may cost more */
    rig_close(&r);
    fake_close(&second);
}

static void a_dead_server_is_passed_over(void **state)
{
    (void)state;
    struct rig r = {0};
    fake_open(&second);
    object_second(&r, "bud", "");
    object(&r, "model", "w",
           "{\"name\":\"w\",\"balance\":\"round_robin\",\"versions\":[{\"name\":\"1\","
           "\"upstreams\":[\"local\",\"two\"],\"model\":\"m\"}]}");
    object(&r, "model", "f",
           "{\"name\":\"f\",\"fallback\":[\"m\"],\"versions\":[{\"name\":\"1\","
           "\"upstreams\":[\"two\"]}]}");
    rig_open_more(&r, (struct gateway_conf){.wait_ms = 3000});
    for (int i = 0; i < 10; i++) {
        want(&r, "w", "ok", 200);
    }
    int seen = atomic_load(&second.n_requests);
    assert_in_range(seen, 5, 7);
    shutdown(second.listen_fd, SHUT_RDWR);
    atomic_store(&second.stopping, true);
    uint64_t start = raw_now_ms();
    for (int i = 0; i < 40; i++) {
        want(&r, "w", "ok", 200); /* at most a try each on the dead one, until its breaker opens */
        want(&r, "f", "ok", 200);
    }
    assert_true(raw_now_ms() - start < 8000); /* none waited for its turn in line */
    rig_close(&r);
    fake_close(&second);
}

/* What others are asked for between does not take its turns. */
static void each_model_takes_turns_of_its_own(void **state)
{
    (void)state;
    struct rig r = {0};
    fake_open(&second);
    object_second(&r, "bud", "");
    object(&r, "model", "w",
           "{\"name\":\"w\",\"balance\":\"round_robin\",\"versions\":[{\"name\":\"1\","
           "\"upstreams\":[\"local\",\"two\"],\"model\":\"m\"}]}");
    rig_open_more(&r, (struct gateway_conf){0});
    for (int i = 0; i < 10; i++) {
        want(&r, "w", "ok", 200);
        want(&r, "m", "ok", 200);
    }
    assert_in_range(atomic_load(&second.n_requests), 5, 7); /* health checks count, too */
    rig_close(&r);
    fake_close(&second);
}

/* It is the caller's to have, and its own limits hold. */
static void a_fallback_is_a_model_like_any_other(void **state)
{
    (void)state;
    static const struct rig rigs[] = {
        {.role = "owner"}, {.scopes = "model:f"}, {.project = "narrow"}};
    for (size_t i = 0; i < ARRAY_LEN(rigs); i++) {
        struct rig r = rigs[i];
        object(&r, "project", "narrow", "{\"name\":\"narrow\",\"models\":[\"f\"]}");
        object(&r, "upstream", "gone", "{\"name\":\"gone\",\"url\":\"http://127.0.0.1:1\"}");
        object(&r, "model", "f",
               "{\"name\":\"f\",\"fallback\":[\"m\"],\"versions\":[{\"name\":\"1\","
               "\"upstreams\":[\"gone\"]}]}");
        object(&r, "model", "m",
               "{\"name\":\"m\",\"limits\":{\"requests_per_minute\":1},\"versions\":[{"
               "\"name\":\"1\",\"upstreams\":[\"local\"]}]}");
        rig_open_more(&r, (struct gateway_conf){.wait_ms = 600});
        want(&r, "f", "ok", i == 0 ? 200 : 503);
        want(&r, "f", "ok", 503); /* one a minute */
        want(&r, "m", "ok", i == 0 ? 429 : 404);
        assert_int_equal(atomic_load(&r.fake.n_requests), i == 0 ? 1 : 0);
        rig_close(&r);
    }
}

/* Too much to do, broken, not on terms with us: as long as there is another, the client sees none
 * of it. */
static void a_server_that_says_no_is_passed_over(void **state)
{
    (void)state;
    static const char *const refusals[] = {"500", "401", "302", "overloaded", "html"};
    struct rig r = {0};
    struct answer a;
    fake_open(&second);
    object_second(&r, "openai", "");
    object(&r, "model", "f",
           "{\"name\":\"f\",\"fallback\":[\"g\"],\"versions\":[{\"name\":\"1\","
           "\"upstreams\":[\"local\"],\"model\":\"m\"}]}");
    object(&r, "model", "g",
           "{\"name\":\"g\",\"versions\":[{\"name\":\"1\",\"upstreams\":[\"two\"]}]}");
    rig_open_more(&r, (struct gateway_conf){0});
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        atomic_store(&second.n_requests, 0);
        want(&r, "f", "ok", 200);
        ask_read(post(&r, "f", refusals[i], ""),
                 &a); /* both say no: the third word is the first's */
        assert_true(a.status >= 500);
        assert_in_range(atomic_load(&second.n_requests), 1,
                        3); /* a health check may be among them */
        answer_free(&a);
    }
    atomic_store(&r.fake.n_requests, 0);
    atomic_store(&second.n_requests, 1); /* only the first attempt there says no */
    want(&r, "f", "429-once", 200);
    assert_int_equal(atomic_load(&r.fake.n_requests), 1);
    rig_close(&r);
    fake_close(&second);
}

/* One event and then nothing: within two seconds the others are asked instead, while it lasts. */
static void a_server_that_stops_in_a_stream_is_passed_over(void **state)
{
    (void)state;
    struct rig r = {0};
    struct buf in;
    fake_open(&second);
    object_second(&r, "bud", "");
    object(&r, "model", "w",
           "{\"name\":\"w\",\"balance\":\"round_robin\",\"versions\":[{\"name\":\"1\","
           "\"upstreams\":[\"local\",\"two\"],\"model\":\"m\"}]}");
    object(
        &r, "model", "t",
        "{\"name\":\"t\",\"versions\":[{\"name\":\"1\",\"upstreams\":[\"two\"],\"model\":\"m\"}]}");
    rig_open_more(&r, (struct gateway_conf){0});
    double before = metric_value(metric_get(METRIC_UPSTREAM_SUSPECTS));
    int fd = post(&r, "t", "hold", ",\"stream\":true");
    buf_init(&in, 1 << 16);
    assert_true(raw_until(fd, &in, "data: {\"a\":1}", 1));
    for (int i = 0; metric_value(metric_get(METRIC_UPSTREAM_SUSPECTS)) == before; i++) {
        assert_true(i < WAIT_ROUNDS);
        usleep(1000);
    }
    int seen = atomic_load(&second.n_requests);
    for (int i = 0; i < 6; i++) {
        want(&r, "w", "ok", 200);
    }
    assert_int_equal(atomic_load(&second.n_requests), seen);
    close(fd);
    want(&r, "t", "ok", 200); /* there is no other: it is asked, and answers */
    for (int i = 0; i < 4; i++) {
        want(&r, "w", "ok", 200);
    }
    assert_true(atomic_load(&second.n_requests) > seen + 1); /* which made it well again */
    buf_deinit(&in);
    rig_close(&r);
    fake_close(&second);
}

/* ---- roles ---- */

static void a_role_allows_what_it_names(void **state)
{
    (void)state;
    struct rig r = {.role = "few"};
    struct answer a;
    object(&r, "role", "few",
           "{\"name\":\"few\",\"permissions\":[\"models/m*:invoke\",\"models/m:read\"]}");
    object(&r, "model", "mm", "{\"name\":\"mm\",\"alias\":\"m\"}");
    object(&r, "model", "other", "{\"name\":\"other\",\"alias\":\"m\"}");
    rig_open_more(&r, (struct gateway_conf){0});
    want(&r, "m", "ok", 200);
    want(&r, "mm", "ok", 200);
    want(&r, "other", "ok", 404); /* as if there were none */
    ask_read(ask_send(&r.addr, "GET /v1/models", r.auth, STR_NULL), &a);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.bytes.ptr, "\"id\":\"m\""));
    assert_null(strstr(a.bytes.ptr, "\"id\":\"mm\""));
    answer_free(&a);
    rig_close(&r);
}

static void no_role_allows_nothing(void **state)
{
    (void)state;
    static const char *const roles[] = {"", "nobody", "billing"};
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        struct rig r = {.role = roles[i]};
        rig_open_more(&r, (struct gateway_conf){0});
        want(&r, "m", "ok", 403);
        rig_close(&r);
    }
}

static void a_key_does_no_more_than_its_user(void **state)
{
    (void)state;
    struct rig r = {.user = "kim"};
    object(&r, "role", "few", "{\"name\":\"few\",\"permissions\":[\"models/mm:invoke\"]}");
    object(&r, "user", "kim", "{\"name\":\"kim\",\"roles\":[\"few\",\"billing\"]}");
    object(&r, "model", "mm", "{\"name\":\"mm\",\"alias\":\"m\"}");
    rig_open_more(&r, (struct gateway_conf){0}); /* the key's own role is owner */
    want(&r, "mm", "ok", 200);
    want(&r, "m", "ok", 404);
    rig_close(&r);
}

/* What bounded it went with its user or project: it must not be the wider for that. */
static void a_key_whose_user_or_project_is_gone_is_refused(void **state)
{
    (void)state;
    static const struct rig rigs[] = {{.user = "kim"}, {.project = "search"}};
    for (size_t i = 0; i < ARRAY_LEN(rigs); i++) {
        struct rig r = rigs[i];
        struct answer a;
        rig_open_more(&r, (struct gateway_conf){0});
        ask_read(post(&r, "m", "ok", ""), &a);
        assert_int_equal(a.status, 403);
        assert_non_null(strstr(a.bytes.ptr, i == 0 ? "no user `kim`" : "no project `search`"));
        answer_free(&a);
        assert_int_equal(atomic_load(&r.fake.n_requests), 0);
        rig_close(&r);
    }
}

static void until_refused(struct rig *r)
{
    int status = 200;
    for (int i = 0; status == 200; i++) {
        struct answer a;
        assert_true(i < WAIT_ROUNDS);
        ask_read(post(r, "m", "ok", ""), &a);
        status = a.status;
        answer_free(&a);
        usleep(1000);
    }
    assert_int_equal(status, 401);
}

static void store_remove(const char *path)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        char file[64];
        snprintf(file, sizeof(file), "%s%s", path, ends[i]);
        unlink(file);
    }
}

/* Made wrong behind our back, as by a program of another version. */
static void a_revoked_key_ends_under_a_catalogue_that_cannot_be_built(void **state)
{
    (void)state;
    char path[] = "/tmp/bud-test-XXXXXX";
    close(mkstemp(path));
    struct rig r = {.store = path};
    struct meta *meta;
    const struct meta_object bad = {.kind = STR_LIT("model"),
                                    .name = STR_LIT("bad"),
                                    .body = STR_LIT("{\"name\":\"bad\",\"alias\":\"gone\"}")};
    rig_open_more(&r, (struct gateway_conf){0});
    want(&r, "m", "ok", 200);
    assert_int_equal(meta_open(&meta, path, NULL), RC_OK);
    assert_int_equal(meta_objects_replace(meta, "other", &bad, 1, NULL), RC_OK);
    assert_int_equal(meta_key_revoke(meta, r.key_id, 5, NULL), RC_OK);
    meta_close(meta);
    until_refused(&r);
    rig_close(&r);
    store_remove(path);
}

static void change(const char *path, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* What could not be read at its moment is not forgotten. */
static void a_store_that_could_not_be_read_is_read_again(void **state)
{
    (void)state;
    char path[] = "/tmp/bud-test-XXXXXX";
    close(mkstemp(path));
    struct rig r = {.store = path};
    rig_open_more(&r, (struct gateway_conf){0});
    want(&r, "m", "ok", 200);
    change(path, "BEGIN; UPDATE keys SET revoked_s = 5; ALTER TABLE keys RENAME TO away; COMMIT");
    usleep(2000 * CATALOG_POLL_MS); /* it has looked; if not, this shows less */
    change(path, "ALTER TABLE away RENAME TO keys");
    until_refused(&r);
    rig_close(&r);
    store_remove(path);
}

/* Its health is asked for elsewhere from then on. */
static void a_changed_upstream_is_made_anew(void **state)
{
    (void)state;
    char path[] = "/tmp/bud-test-XXXXXX";
    close(mkstemp(path));
    struct rig r = {.store = path};
    fake_open(&second);
    object_second(&r, "bud", "");
    rig_open_more(&r, (struct gateway_conf){0});
    wait_for(&second.n_requests, 1);
    change(path, "UPDATE objects SET body = json_set(body, '$.health_path', '/elsewhere')");
    wait_for(&second.n_requests, 2);
    pthread_mutex_lock(&second.lock);
    assert_non_null(strstr(second.last.ptr, "GET /elsewhere "));
    pthread_mutex_unlock(&second.lock);
    rig_close(&r);
    fake_close(&second);
    store_remove(path);
}

static void a_catalogue_that_is_wrong_says_where(void **state)
{
    (void)state;
    static const struct {
        const char *kind, *body, *says;
    } cases[] = {
        {"model", "{\"name\":\"a\",\"alias\":\"b\"}", "there is no model 'b'"},
        {"model", "{\"name\":\"a\",\"alias\":\"a\"}", "circle"},
        {"model", "{\"name\":\"a\"}", "alias, or a version"},
        {"model", "{\"name\":\"a b\",\"alias\":\"m\"}", "no spaces"},
        {"model", "{\"name\":\"a\",\"versions\":[{\"name\":\"1\",\"upstreams\":[\"q\"]}]}",
         "no upstream 'q'"},
        {"model", "{\"name\":\"a\",\"alias\":\"m\",\"limits\":{\"request_per_minute\":1}}",
         "did you mean requests_per_minute"},
        {"model",
         "{\"name\":\"a\",\"versions\":[{\"name\":\"1\",\"upstreams\":[\"local\"],"
         "\"hedge_ms\":9}]}",
         "at least 10"},
        {"upstream", "{\"name\":\"a\",\"url\":\"https://x\",\"tls_pins\":[\"x\"]}", "sha256//"},
        {"upstream", "{\"name\":\"a\",\"url\":\"https://x\",\"tls_cert\":\"x\"}", "together"},
        {"upstream", "{\"name\":\"a\",\"url\":\"http://x\",\"tls_ca\":\"x\"}", "https://"},
        {"upstream", "{\"name\":\"a\",\"url\":\"http://x y\"}", "IPv4"},
        {"upstream", "{\"name\":\"a\",\"url\":\"nonsense\"}", "HOST:PORT"},
        {"upstream", "{\"name\":\"a\",\"url\":\"http://x/a b\"}", "no request can carry"},
        {"upstream", "{\"name\":\"a\",\"url\":\"http://x/a?b=c\"}", "no request can carry"},
        {"upstream", "{\"name\":\"a\",\"url\":\"http://x\",\"health_path\":\"/a\\r\\nb: c\"}",
         "health_path"},
        {"upstream", "{\"name\":\"a\",\"url\":\"http://x\",\"health_path\":\"health\"}",
         "health_path"},
        {"project", "{\"name\":\"a\",\"limits\":{\"concurrent\":0}}", "from 1 to"},
        {"role", "{\"name\":\"owner\",\"permissions\":[]}", "built in"},
        {"role", "{\"name\":\"a\",\"permissions\":[\"models:run\"]}", "the action is"},
        {"user", "{\"name\":\"a\",\"roles\":[\"b\"]}", "no role 'b'"},
        {"user", "{\"name\":\"a\",\"organisation\":\"b\"}", "no organisation 'b'"},
        {"project", "{\"name\":\"a\",\"organisation\":\"b\"}", "no organisation 'b'"},
        {"user", "{\"name\":\"a\",\"limits\":{\"money_per_month\":\"1,5\"}}", "amount"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct meta *meta;
        struct cat *cat = NULL;
        struct err err = {0};
        struct secret pepper = {0};
        struct str model = STR_LIT("m");
        struct cat_local local = {.models = &model, .n_models = 1};
        const struct meta_object o = {
            .kind = str_from(cases[i].kind), .name = STR_LIT("a"), .body = str_from(cases[i].body)};
        assert_int_equal(addr_parse(&local.addr, STR_LIT("127.0.0.1:1"), NULL), RC_OK);
        assert_true(secret_set(&pepper, STR_LIT("0123456789abcdef0123456789abcdef")));
        assert_int_equal(meta_open(&meta, ":memory:", NULL), RC_OK);
        assert_int_equal(meta_objects_replace(meta, "test", &o, 1, NULL), RC_OK);
        assert_int_not_equal(cat_load(&cat, meta, NULL, &pepper, &local, &err), RC_OK);
        if (strstr(err.msg, cases[i].says) == NULL) {
            fail_msg("'%s' does not say '%s'", err.msg, cases[i].says);
        }
        meta_close(meta);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_told_and_kept),
        cmocka_unit_test(a_model_says_what_is_asked_for),
        cmocka_unit_test(what_is_left_is_all_that_is_asked_for),
        cmocka_unit_test(scopes_and_projects_hide_models),
        cmocka_unit_test(a_list_of_models_is_the_callers),
        cmocka_unit_test(versions_share_by_weight_and_can_be_named),
        cmocka_unit_test(a_foreign_server_gets_its_key_and_gives_its_usage),
        cmocka_unit_test(each_model_takes_turns_of_its_own),
        cmocka_unit_test(a_dead_server_is_passed_over),
        cmocka_unit_test(a_fallback_is_a_model_like_any_other),
        cmocka_unit_test(a_server_that_says_no_is_passed_over),
        cmocka_unit_test(a_server_that_stops_in_a_stream_is_passed_over),
        cmocka_unit_test(a_role_allows_what_it_names),
        cmocka_unit_test(no_role_allows_nothing),
        cmocka_unit_test(a_key_does_no_more_than_its_user),
        cmocka_unit_test(a_key_whose_user_or_project_is_gone_is_refused),
        cmocka_unit_test(a_revoked_key_ends_under_a_catalogue_that_cannot_be_built),
        cmocka_unit_test(a_store_that_could_not_be_read_is_read_again),
        cmocka_unit_test(a_changed_upstream_is_made_anew),
        cmocka_unit_test(a_catalogue_that_is_wrong_says_where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
