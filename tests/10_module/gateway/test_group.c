/* Three loops as one front door: limits are exact, and what is decided on the first loop (keys,
 * servers, the end) reaches the others. Kept connections stand on all loops: the kernel spreads
 * them by their ports, and that 64 miss one of three loops happens once in 10^11 times. */
#include "10_module/gateway/rig.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LOOPS = 3, KEPT = 64 };

/* ---- kept connections ---- */

struct kept {
    struct rig rig;
    int fds[KEPT];
    char store[64];
};

/* Sends a request and reads its answer whole; its status, 0 when the connection was closed. */
static int kept_ask(const struct kept *k, int fd)
{
    static const char body[] = "{\"model\":\"m\",\"prompt\":\"p\",\"user\":\"ok\"}";
    char text[512];
    struct buf in;
    int status = 0;
    snprintf(text, sizeof(text), "%s HTTP/1.1\r\nhost: test\r\n%scontent-length: %zu\r\n\r\n%s",
             COMPLETE, k->rig.auth, sizeof(body) - 1, body);
    buf_init(&in, 1 << 20);
    if (raw_puts(fd, text) && raw_until(fd, &in, "\r\n\r\n", 1)) {
        struct str all = buf_str(&in);
        size_t head = str_find(all, STR_LIT("\r\n\r\n")) + 4;
        size_t at = str_find(all, STR_LIT("content-length: "));
        size_t bytes = at < head ? strtoul(all.ptr + at + 16, NULL, 10) : 0;
        status = (int)strtol(all.ptr + 9, NULL, 10);
        while (in.len < head + bytes && raw_read(fd, &in, ASK_WAIT_MS) > 0) {}
        assert_int_equal(in.len, head + bytes);
    }
    buf_deinit(&in);
    return status;
}

static void kept_open(struct kept *k)
{
    memset(k, 0, sizeof(*k));
    str_copy(k->store, sizeof(k->store), STR_LIT("/tmp/bud-test-XXXXXX"));
    int fd = mkstemp(k->store);
    assert_true(fd >= 0);
    close(fd);
    k->rig.store = k->store;
    k->rig.n_loops = LOOPS;
    rig_open_more(&k->rig, (struct gateway_conf){0});
    for (int i = 0; i < KEPT; i++) {
        k->fds[i] = raw_connect(&k->rig.addr);
        assert_int_equal(kept_ask(k, k->fds[i]), 200);
    }
}

static void kept_close(struct kept *k)
{
    for (int i = 0; i < KEPT; i++) {
        close(k->fds[i]);
    }
    rig_close(&k->rig);
    for (size_t i = 0; i < 3; i++) {
        static const char *const ends[] = {"", "-wal", "-shm"};
        char path[96];
        snprintf(path, sizeof(path), "%s%s", k->store, ends[i]);
        (void)unlink(path);
    }
}

static void a_revoked_key_ends_on_every_loop(void **state)
{
    (void)state;
    struct kept k;
    struct meta *m = NULL;
    kept_open(&k);
    assert_int_equal(meta_open(&m, k.store, NULL), RC_OK);
    assert_int_equal(meta_key_revoke(m, k.rig.key_id, 2, NULL), RC_OK);
    meta_close(m);
    for (int i = 0; i < KEPT; i++) {
        int status = 200;
        for (int n = 0; status == 200; n++) {
            assert_true(n < WAIT_ROUNDS);
            status = kept_ask(&k, k.fds[i]);
            usleep(1000);
        }
        assert_int_equal(status, 401);
    }
    kept_close(&k);
}

/* ---- the own model server ---- */

static void every_loop_hears_of_the_server(void **state)
{
    (void)state;
    enum { N = 32 };
    struct kept k;
    struct answer a;
    int fds[N];
    kept_open(&k);
    rig_ready(&k.rig, false);
    for (int i = 0; i < N; i++) {
        fds[i] = rig_send(&k.rig, "ok", false);
    }
    rig_ready(&k.rig, true); /* whoever stood in line is answered */
    for (int i = 0; i < N; i++) {
        ask_read(fds[i], &a);
        assert_int_equal(a.status, 200);
        answer_free(&a);
    }
    for (int i = 0; i < KEPT; i++) {
        assert_int_equal(kept_ask(&k, k.fds[i]), 200);
    }
    kept_close(&k);
}

/* ---- the end ---- */

static void group_drained(void *ctx)
{
    struct rig *r = ctx;
    assert_false(atomic_exchange(&r->drained, true)); /* once */
    loop_stop(r->loop);
}

static void group_do_drain(void *ctx)
{
    struct rig *r = ctx;
    gateway_group_drain(r->group, 30000, group_drained, r);
}

static void draining_ends_every_loop(void **state)
{
    (void)state;
    enum { N = 24 };
    struct kept k;
    struct answer a;
    int fds[N];
    kept_open(&k);
    atomic_store(&k.rig.fake.n_requests, 0);
    for (int i = 0; i < N; i++) {
        fds[i] = rig_send(&k.rig, "slow-stream", true);
    }
    wait_for(&k.rig.fake.n_requests, N);
    assert_int_equal(loop_post(k.rig.loop, group_do_drain, &k.rig), RC_OK);
    for (int i = 0; i < N; i++) {
        ask_read(fds[i], &a);
        assert_int_equal(a.status, 200);
        assert_true(a.whole);
        answer_free(&a);
    }
    thread_join(&k.rig.thread);
    assert_true(atomic_load(&k.rig.drained));
    for (int i = 0; i < KEPT; i++) { /* idle ones were closed */
        struct buf in;
        buf_init(&in, 1 << 16);
        assert_int_equal(raw_read(k.fds[i], &in, ASK_WAIT_MS), 0);
        buf_deinit(&in);
    }
    kept_close(&k);
}

/* ---- limits ---- */

enum { CLIENTS = 64, BUDGET = 7000, USED = 7 /* of each request: REPLY */ };

struct client {
    struct rig *rig;
    atomic_int *spent;
    struct thread thread;
};

/* Until there is nothing left: a refusal while others hold the rest back is none. */
static void client_run(void *arg)
{
    const struct client *c = arg;
    int status = 200;
    for (int n = 0; n < BUDGET && (status == 200 || atomic_load(c->spent) < BUDGET * 95 / 100);
         n++) {
        static const char body[] =
            "{\"model\":\"m\",\"prompt\":\"p\",\"user\":\"ok\",\"max_tokens\":10}";
        struct answer a;
        ask(&c->rig->addr, COMPLETE, c->rig->auth, body, &a);
        status = a.status;
        atomic_fetch_add(c->spent, status == 200 ? USED : 0);
        answer_free(&a);
    }
}

static void a_budget_holds_for_all_loops(void **state)
{
    (void)state;
    struct rig r = {.limits = "{\"tokens_per_day\":7000}", .n_loops = LOOPS};
    struct client *clients = calloc(CLIENTS, sizeof(*clients));
    atomic_int spent = 0;
    assert_non_null(clients);
    rig_open_more(&r, (struct gateway_conf){0});
    for (int i = 0; i < CLIENTS; i++) {
        clients[i].rig = &r;
        clients[i].spent = &spent;
        assert_int_equal(thread_start(&clients[i].thread, "client", -1, client_run, &clients[i]),
                         RC_OK);
    }
    for (int i = 0; i < CLIENTS; i++) {
        thread_join(&clients[i].thread);
    }
    assert_in_range(atomic_load(&spent), BUDGET * 95 / 100, BUDGET);
    rig_close(&r);
    free(clients);
}

static bool is_closed(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static void connections_are_capped_together(void **state)
{
    (void)state;
    enum { N = 48 };
    struct rig r = {.n_loops = LOOPS};
    int fds[2 * N], n_open = 2 * N;
    rig_open_more(&r, (struct gateway_conf){.conns_max = N});
    for (int i = 0; i < 2 * N; i++) {
        fds[i] = raw_connect(&r.addr);
    }
    for (int n = 0; n_open > N; n++) {
        assert_true(n < WAIT_ROUNDS);
        for (int i = 0; i < 2 * N; i++) {
            if (fds[i] >= 0 && is_closed(fds[i])) {
                close(fds[i]);
                fds[i] = -1;
                n_open--;
            }
        }
        usleep(1000);
    }
    assert_int_equal(n_open, N); /* exactly, whichever loops they are on */
    for (int i = 0; i < 2 * N; i++) {
        if (fds[i] >= 0) {
            assert_false(is_closed(fds[i]));
            close(fds[i]);
        }
    }
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_revoked_key_ends_on_every_loop),
        cmocka_unit_test(every_loop_hears_of_the_server),
        cmocka_unit_test(draining_ends_every_loop),
        cmocka_unit_test(a_budget_holds_for_all_loops),
        cmocka_unit_test(connections_are_capped_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
