/* The Redis client against real servers: pipelining, scripts, databases, passwords, TLS, servers
 * that stop, hang, come back and talk nonsense. */
#include "redis_server.h"

#include <poll.h>
#include <stdatomic.h>

#include "../net/certs.h"
#include "base/mem.h"
#include "base/thread.h"
#include "net/loop.h"
#include "stores/redis.h"

static const char script_add[] = "return redis.call('INCRBY', KEYS[1], ARGV[1])";

struct rig {
    struct redis_server server;
    struct loop *loop;
    struct redis *redis;
    struct loop_timer patience;
    uint32_t script;
    int n_ready, n_away;
    bool stop_when_ready, stop_when_away;
    /* answers */
    int n_left; /* stops the loop at 0 */
    int n_ok, n_lost;
    enum rc rc;
    char text[64];
    int64_t integer, sum;
    enum redis_type type;
};

static void rig_out_of_patience(void *ctx)
{
    UNUSED(ctx);
    fail_msg("nothing happens any more");
}

static void rig_on_state(void *ctx, bool ready)
{
    struct rig *g = ctx;
    g->n_ready += ready ? 1 : 0;
    g->n_away += ready ? 0 : 1;
    if ((ready && g->stop_when_ready) || (!ready && g->stop_when_away)) {
        loop_stop(g->loop);
    }
}

static void rig_on_reply(void *ctx, enum rc rc, const struct redis_reply *reply)
{
    struct rig *g = ctx;
    g->rc = rc;
    if (rc == RC_OK) {
        g->n_ok++;
        g->type = reply->type;
        g->integer = reply->integer;
        g->sum += reply->integer;
        str_copy(g->text, sizeof(g->text), reply->text);
    } else {
        assert_null(reply);
        g->n_lost++;
    }
    if (--g->n_left == 0) {
        loop_stop(g->loop);
    }
}

static void rig_open(struct rig *g, const struct redis_conf *conf)
{
    struct redis_conf c = *conf;
    c.on_state = rig_on_state;
    c.ctx = g;
    c.url = c.url.len > 0 ? c.url : str_from(g->server.url);
    assert_int_equal(loop_create(&g->loop, clock_system(), NULL), RC_OK);
    loop_timer_init(&g->patience, g->loop, rig_out_of_patience, g);
    loop_timer_start(&g->patience, 60000);
    assert_int_equal(redis_create(&g->redis, g->loop, &c, NULL), RC_OK);
    g->script = redis_script_add(g->redis, script_add);
}

static void rig_until_ready(struct rig *g)
{
    if (!redis_is_ready(g->redis)) {
        g->stop_when_ready = true;
        loop_run(g->loop);
        g->stop_when_ready = false;
    }
    assert_true(redis_is_ready(g->redis));
}

static void rig_until_away(struct rig *g)
{
    if (redis_is_ready(g->redis)) {
        g->stop_when_away = true;
        loop_run(g->loop);
        g->stop_when_away = false;
    }
}

static void rig_close(struct rig *g)
{
    redis_destroy(g->redis);
    loop_timer_stop(&g->patience);
    loop_destroy(g->loop);
    redis_server_end(&g->server);
}

/* Words are separated by one space. */
static enum rc rig_send(struct rig *g, const char *line)
{
    struct str words[16], rest = str_from(line);
    uint32_t n = 0;
    while (rest.len > 0) {
        words[n++] = str_cut(&rest, ' ');
    }
    g->n_left++;
    enum rc rc = redis_send(g->redis, words, n, rig_on_reply, g);
    g->n_left -= rc == RC_OK ? 0 : 1;
    return rc;
}

static void rig_ask(struct rig *g, const char *line)
{
    assert_int_equal(rig_send(g, line), RC_OK);
    loop_run(g->loop);
    assert_int_equal(g->rc, RC_OK);
}

static enum rc rig_eval(struct rig *g, const char *by)
{
    const struct str words[] = {STR_LIT("sum"), str_from(by)};
    g->n_left++;
    enum rc rc = redis_eval(g->redis, g->script, words, 2, 1, rig_on_reply, g);
    g->n_left -= rc == RC_OK ? 0 : 1;
    return rc;
}

static void test_commands_are_answered_in_order(void **state)
{
    struct rig g = {0};
    UNUSED(state);
    redis_server_init(&g.server);
    redis_server_start(&g.server, NULL);
    rig_open(&g, &(struct redis_conf){0});
    assert_int_equal(rig_send(&g, "PING"), RC_UNAVAILABLE); /* not called yet */
    rig_until_ready(&g);
    rig_ask(&g, "SET a 41");
    assert_int_equal(g.type, REDIS_STATUS);
    rig_ask(&g, "INCR a");
    assert_int_equal(g.integer, 42);
    rig_ask(&g, "NOTHING");
    assert_int_equal(g.type, REDIS_FAILED);
    rig_ask(&g, "GET absent");
    assert_int_equal(g.type, REDIS_NIL);
    g.sum = g.n_ok = 0;
    for (int i = 0; i < 1000; i++) { /* 1 + 2 + … 1000, in order */
        assert_int_equal(rig_send(&g, "INCR n"), RC_OK);
    }
    loop_run(g.loop);
    assert_int_equal(g.n_ok, 1000);
    assert_int_equal(g.integer, 1000);
    assert_int_equal(g.sum, 500500);
    rig_close(&g);
}

static void test_scripts_survive_their_loss(void **state)
{
    struct rig g = {0};
    UNUSED(state);
    redis_server_init(&g.server);
    redis_server_start(&g.server, NULL);
    rig_open(&g, &(struct redis_conf){0});
    rig_until_ready(&g);
    assert_int_equal(rig_eval(&g, "5"), RC_OK);
    loop_run(g.loop);
    assert_int_equal(g.integer, 5);
    rig_ask(&g, "SCRIPT FLUSH");
    assert_int_equal(rig_eval(&g, "5"), RC_OK);
    loop_run(g.loop);
    assert_int_equal(g.rc, RC_UNAVAILABLE); /* and was not done */
    rig_until_away(&g);
    rig_until_ready(&g);
    assert_int_equal(rig_eval(&g, "5"), RC_OK);
    loop_run(g.loop);
    assert_int_equal(g.integer, 10);
    rig_close(&g);
}

static void test_a_server_that_dies_and_comes_back(void **state)
{
    struct rig g = {0};
    UNUSED(state);
    redis_server_init(&g.server);
    redis_server_start(&g.server, NULL);
    rig_open(&g, &(struct redis_conf){0});
    rig_until_ready(&g);
    rig_ask(&g, "PING");
    redis_server_kill(&g.server);
    rig_until_away(&g);
    assert_int_equal(rig_send(&g, "PING"), RC_UNAVAILABLE); /* at once */
    redis_server_start(&g.server, NULL);
    rig_until_ready(&g);
    rig_ask(&g, "PING");
    assert_string_equal(g.text, "PONG");
    assert_int_equal(g.n_ready, 2);
    assert_int_equal(g.n_away, 1);
    rig_close(&g);
}

static void test_a_server_that_hangs_is_left_in_time(void **state)
{
    struct rig g = {0};
    UNUSED(state);
    redis_server_init(&g.server);
    redis_server_start(&g.server, NULL);
    rig_open(&g, &(struct redis_conf){.command_ms = 50, .connect_ms = 200});
    rig_until_ready(&g);
    kill(g.server.pid, SIGSTOP);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(rig_send(&g, "INCR n"), RC_OK);
    }
    loop_run(g.loop); /* until every one has ended */
    assert_int_equal(g.n_lost, 10);
    assert_int_equal(g.rc, RC_TIMEOUT);
    kill(g.server.pid, SIGCONT);
    rig_until_ready(&g);
    rig_ask(&g, "PING");
    rig_close(&g);
}

static void test_passwords_and_databases(void **state)
{
    const char *const words[] = {"--requirepass", "sesame", NULL};
    struct rig g = {0};
    char url[160];
    UNUSED(state);
    redis_server_init(&g.server);
    redis_server_start(&g.server, words);
    rig_open(&g, &(struct redis_conf){.password = STR_LIT("wrong")});
    g.stop_when_away = true;
    loop_run(g.loop);
    assert_false(redis_is_ready(g.redis));
    redis_destroy(g.redis);
    loop_timer_stop(&g.patience);
    loop_destroy(g.loop);
    g.stop_when_away = false;
    rig_open(&g, &(struct redis_conf){.user = STR_LIT("default"), .password = STR_LIT("sesame")});
    rig_until_ready(&g);
    rig_ask(&g, "PING");
    redis_server_kill(&g.server);
    redis_destroy(g.redis);
    loop_timer_stop(&g.patience);
    loop_destroy(g.loop);

    char port[8];
    snprintf(port, sizeof(port), "%u", redis_server_free_port());
    const char *const tcp[] = {"--bind", "127.0.0.1", "--port", port, NULL};
    redis_server_start(&g.server, tcp);
    snprintf(url, sizeof(url), "redis://127.0.0.1:%s/3", port);
    rig_open(&g, &(struct redis_conf){.url = str_from(url)});
    rig_until_ready(&g);
    rig_ask(&g, "SET a b");
    rig_ask(&g, "SELECT 0");
    rig_ask(&g, "GET a");
    assert_int_equal(g.type, REDIS_NIL);
    rig_close(&g);
}

static void test_tls(void **state)
{
    struct rig g = {0};
    struct certs certs;
    char port[8], url[64], ca[128], cert[128], key[128], wrong[128];
    UNUSED(state);
    certs_init(&certs);
    certs_make(&certs, "redis", "localhost", false, 3600);
    redis_server_init(&g.server);
    snprintf(port, sizeof(port), "%u", redis_server_free_port());
    const char *const words[] = {"--tls-port",
                                 port,
                                 "--tls-cert-file",
                                 certs_path(&certs, "redis.pem", cert),
                                 "--tls-key-file",
                                 certs_path(&certs, "redis.key", key),
                                 "--tls-ca-cert-file",
                                 certs_path(&certs, "ca.pem", ca),
                                 "--tls-auth-clients",
                                 "no",
                                 NULL};
    redis_server_start(&g.server, words);
    snprintf(url, sizeof(url), "rediss://localhost:%s", port);
    rig_open(&g, &(struct redis_conf){.url = str_from(url), .tls.ca = str_from(ca)});
    rig_until_ready(&g);
    rig_ask(&g, "PING");
    assert_string_equal(g.text, "PONG");
    redis_destroy(g.redis);
    loop_timer_stop(&g.patience);
    loop_destroy(g.loop);
    certs_path(&certs, "other-ca.pem", wrong);
    rig_open(&g, &(struct redis_conf){.url = str_from(url), .tls.ca = str_from(wrong)});
    g.stop_when_away = true;
    loop_run(g.loop);
    assert_false(redis_is_ready(g.redis));
    rig_close(&g);
    certs_deinit(&certs);
}

static void test_urls(void **state)
{
    static const char *const bad[] = {"",
                                      "localhost:6379",
                                      "http://localhost:6379",
                                      "redis://",
                                      "redis://localhost",
                                      "redis://localhost:0x50",
                                      "redis://u:p@localhost:6379",
                                      "redis://localhost:6379/x",
                                      "redis://localhost:6379/65536",
                                      "redis://localhost:6379/0/1"};
    static const char *const good[] = {"redis://127.0.0.1:6379", "redis://cache.example.com:6379/5",
                                       "rediss://[::1]:6380/0", "unix:/run/redis.sock"};
    UNUSED(state);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(redis_url_check(str_from(bad[i]), NULL), RC_INVALID);
    }
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(redis_url_check(str_from(good[i]), NULL), RC_OK);
    }
}

/* ---- a server that is none ---- */

struct liar {
    int listen_fd;
    const char *answer;
    atomic_bool stop;
};

static void liar_run(void *arg)
{
    struct liar *l = arg;
    while (!atomic_load(&l->stop)) {
        struct pollfd p = {.fd = l->listen_fd, .events = POLLIN};
        int fd = poll(&p, 1, 20) > 0 ? accept(l->listen_fd, NULL, NULL) : -1;
        if (fd >= 0) {
            char in[512];
            (void)!read(fd, in, sizeof(in));
            (void)!write(fd, l->answer, strlen(l->answer));
            close(fd);
        }
    }
}

static void test_nonsense_is_survived(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\n\r\n",
        "+OK\r\n$40\r\nshort\r\n",
        "+OK\r\n+OK\r\n+OK\r\n+OK\r\n",
        "*1000000000\r\n",
        "$99999999999999999999\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"};
    UNUSED(state);
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct rig g = {.stop_when_away = true};
        struct liar liar = {.answer = answers[i]};
        struct thread thread = {0};
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        redis_server_init(&g.server);
        memcpy(a.sun_path, g.server.path, strlen(g.server.path) + 1);
        liar.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(liar.listen_fd, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(listen(liar.listen_fd, 8), 0);
        assert_int_equal(thread_start(&thread, "liar", -1, liar_run, &liar), RC_OK);
        rig_open(&g, &(struct redis_conf){.connect_ms = 500});
        loop_run(g.loop);
        assert_false(redis_is_ready(g.redis));
        assert_int_equal(g.n_ready, 0);
        atomic_store(&liar.stop, true);
        thread_join(&thread);
        close(liar.listen_fd);
        rig_close(&g);
    }
}

static void destroy_on_reply(void *ctx, enum rc rc, const struct redis_reply *reply)
{
    struct rig *g = ctx;
    UNUSED(reply);
    g->n_ok += rc == RC_OK ? 1 : 0;
    g->n_lost += rc == RC_CANCELLED ? 1 : 0;
    redis_destroy(g->redis);
    loop_stop(g->loop);
}

static void test_destroyed_in_a_callback(void **state)
{
    const struct str ping[] = {STR_LIT("PING")};
    struct rig g = {0};
    UNUSED(state);
    redis_server_init(&g.server);
    redis_server_start(&g.server, NULL);
    rig_open(&g, &(struct redis_conf){0});
    rig_until_ready(&g);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(redis_send(g.redis, ping, 1, destroy_on_reply, &g), RC_OK);
    }
    loop_run(g.loop);
    assert_int_equal(g.n_ok, 1);
    assert_int_equal(g.n_lost, 2);
    loop_timer_stop(&g.patience);
    loop_destroy(g.loop);
    redis_server_end(&g.server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands_are_answered_in_order),
        cmocka_unit_test(test_scripts_survive_their_loss),
        cmocka_unit_test(test_a_server_that_dies_and_comes_back),
        cmocka_unit_test(test_a_server_that_hangs_is_left_in_time),
        cmocka_unit_test(test_passwords_and_databases),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_nonsense_is_survived),
        cmocka_unit_test(test_destroyed_in_a_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
