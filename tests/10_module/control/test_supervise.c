/* The supervisor over a child that misbehaves on purpose: this program itself, started with the
 * child's mode as an argument. */
#include "10_module/net/raw.h"

#include <signal.h>
#include <sys/wait.h>

#include "control/supervise.h"
#include "net/loop.h"

enum { WAIT_MS = 20000 };

/* ---- the child ---- */

struct child_mode {
    const char *name;
    int n_loading;     /* answers with 503 before the first 200 */
    int n_ready;       /* answers with 200; then … */
    bool then_hang;    /* … it says nothing more, … */
    bool then_refuse;  /* … answers 503 … */
    bool ignores_term; /* … otherwise it exits with 0 */
};

static const struct child_mode child_modes[] = {
    {.name = "good", .n_ready = 1 << 20},
    {.name = "loading", .n_loading = 5, .n_ready = 1 << 20},
    {.name = "leaves", .n_ready = 2},
    {.name = "hangs", .n_ready = 2, .then_hang = true},
    {.name = "drains", .n_ready = 1, .then_refuse = true},
    {.name = "stubborn", .n_ready = 1 << 20, .ignores_term = true},
};

static void child_say(int fd, int status)
{
    char text[128];
    snprintf(text, sizeof(text), "HTTP/1.1 %d x\r\ncontent-length: 0\r\n\r\n", status);
    raw_puts(fd, text);
}

static int child_serve(const struct child_mode *m, const char *path)
{
    struct addr a;
    char text[ADDR_TEXT_BYTES];
    snprintf(text, sizeof(text), "unix:%s", path);
    if (addr_parse(&a, str_from(text), NULL) != RC_OK) {
        return 9;
    }
    unlink(path);
    int listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listen_fd, (const struct sockaddr *)&a.sa, a.sa_bytes) != 0 ||
        listen(listen_fd, 16) != 0) {
        return 9;
    }
    int n = 0;
    for (;;) {
        struct buf in;
        int fd = accept(listen_fd, NULL, NULL);
        buf_init(&in, 1 << 16);
        while (raw_until(fd, &in, "\r\n\r\n", 1)) {
            buf_reset(&in);
            n++;
            if (n > m->n_loading + m->n_ready && m->then_hang) {
                pause();
            } else if (n > m->n_loading + m->n_ready && !m->then_refuse) {
                buf_deinit(&in);
                return 0;
            }
            child_say(fd, n <= m->n_loading || n > m->n_loading + m->n_ready ? 503 : 200);
        }
        buf_deinit(&in);
        close(fd);
    }
}

static int child_main(const char *mode, const char *path)
{
    if (strcmp(mode, "refuses") == 0) {
        return 3;
    }
    if (strcmp(mode, "crashes") == 0) {
        raise(SIGKILL);
    }
    if (strcmp(mode, "deaf") == 0) {
        pause();
    }
    for (size_t i = 0; i < ARRAY_LEN(child_modes); i++) {
        if (strcmp(mode, child_modes[i].name) == 0) {
            signal(SIGTERM, child_modes[i].ignores_term ? SIG_IGN : SIG_DFL);
            return child_serve(&child_modes[i], path);
        }
    }
    return 8;
}

/* ---- the rig ---- */

struct rig {
    struct loop *loop;
    struct supervise *s;
    struct loop_timer tick;
    bool (*done)(struct rig *r);
    uint64_t deadline_ms, since_ms;
    int n_starting, n_ready, n_backoff, n_stopped, refused;
    uint64_t backoff_at_ms[16];
    char path[64];
    const char *argv[5];
    bool in_call;
};

static void rig_state(void *ctx, enum supervise_state state)
{
    struct rig *r = ctx;
    assert_false(r->in_call);
    if (state == SUPERVISE_BACKOFF && r->n_backoff < (int)ARRAY_LEN(r->backoff_at_ms)) {
        r->backoff_at_ms[r->n_backoff] = raw_now_ms();
    }
    int *counts[] = {&r->n_starting, &r->n_ready, &r->n_backoff, &r->n_stopped};
    (*counts[state])++;
}

static void rig_refused(void *ctx, int status)
{
    ((struct rig *)ctx)->refused = status;
}

static void rig_tick(void *ctx)
{
    struct rig *r = ctx;
    if (r->done(r) || raw_now_ms() > r->deadline_ms) {
        loop_stop(r->loop);
    } else {
        loop_timer_start(&r->tick, 2);
    }
}

static void rig_run(struct rig *r, bool (*done)(struct rig *r))
{
    r->done = done;
    r->since_ms = raw_now_ms();
    r->deadline_ms = r->since_ms + WAIT_MS;
    loop_timer_start(&r->tick, 1);
    loop_run(r->loop);
    assert_true(done(r));
}

static void rig_open(struct rig *r, const char *mode, struct supervise_conf conf)
{
    memset(r, 0, sizeof(*r));
    r->refused = -1;
    snprintf(r->path, sizeof(r->path), "/tmp/bud-test-supervise-%d.sock", (int)getpid());
    unlink(r->path);
    char text[80];
    snprintf(text, sizeof(text), "unix:%s", r->path);
    assert_int_equal(addr_parse(&conf.addr, str_from(text), NULL), RC_OK);
    const char *const argv[] = {"/proc/self/exe", "--child", mode, r->path, NULL};
    memcpy(r->argv, argv, sizeof(argv));
    conf.argv = r->argv;
    conf.on_state = rig_state;
    conf.on_refused = rig_refused;
    conf.ctx = r;
    conf.probe_ms = 10;
    conf.live_ms = conf.live_ms != 0 ? conf.live_ms : 20;
    conf.backoff_ms_min = conf.backoff_ms_min != 0 ? conf.backoff_ms_min : 20;
    conf.backoff_ms_max = 80;
    assert_int_equal(loop_create(&r->loop, clock_system(), NULL), RC_OK);
    loop_timer_init(&r->tick, r->loop, rig_tick, r);
    r->in_call = true;
    assert_int_equal(supervise_create(&r->s, r->loop, &conf, NULL), RC_OK);
    r->in_call = false;
    assert_int_equal(supervise_state(r->s), SUPERVISE_STARTING);
}

static void rig_close(struct rig *r)
{
    supervise_destroy(r->s);
    loop_destroy(r->loop);
    unlink(r->path);
}

static void rig_stop(struct rig *r)
{
    r->in_call = true;
    supervise_stop(r->s);
    supervise_stop(r->s);
    r->in_call = false;
}

static bool is_ready(struct rig *r)
{
    return supervise_state(r->s) == SUPERVISE_READY;
}
static bool is_stopped(struct rig *r)
{
    return supervise_state(r->s) == SUPERVISE_STOPPED;
}
static bool died_once(struct rig *r)
{
    return r->n_backoff >= 1;
}
static bool died_often(struct rig *r)
{
    return r->n_backoff >= 5;
}
static bool ready_again(struct rig *r)
{
    return r->n_backoff >= 1 && is_ready(r);
}
static bool some_time_passed(struct rig *r)
{
    return raw_now_ms() >= r->since_ms + 300;
}

/* ---- tests ---- */

static void a_good_child_becomes_ready_stays_and_stops(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, "good", (struct supervise_conf){0});
    rig_run(&r, is_ready);
    int pid = supervise_pid(r.s);
    rig_run(&r, some_time_passed);
    assert_int_equal(supervise_pid(r.s), pid);
    assert_int_equal(r.n_ready, 1);
    rig_stop(&r);
    rig_run(&r, is_stopped);
    assert_int_equal(r.n_stopped, 1);
    assert_int_equal(r.n_backoff, 0);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), -1); /* no zombie is left */
    rig_close(&r);
}

static void a_killed_child_is_replaced(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, "good", (struct supervise_conf){0});
    for (int i = 0; i < 3; i++) {
        rig_run(&r, is_ready);
        int pid = supervise_pid(r.s);
        r.n_backoff = 0;
        kill(pid, SIGKILL);
        rig_run(&r, ready_again);
        assert_int_not_equal(supervise_pid(r.s), pid);
    }
    rig_close(&r);
}

static void loading_is_waited_for_but_silence_is_not(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, "loading", (struct supervise_conf){.silent_ms = 5000});
    rig_run(&r, is_ready);
    assert_int_equal(r.n_backoff, 0);
    rig_close(&r);
    rig_open(&r, "deaf", (struct supervise_conf){.silent_ms = 100});
    rig_run(&r, died_once); /* it never listens: killed while starting */
    rig_close(&r);
}

static void a_hung_child_is_found_and_replaced(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, "hangs", (struct supervise_conf){.silent_ms = 200});
    rig_run(&r, is_ready);
    rig_run(&r, ready_again);
    rig_close(&r);
    rig_open(&r, "good", (struct supervise_conf){.silent_ms = 200});
    rig_run(&r, is_ready);
    kill(supervise_pid(r.s), SIGSTOP);
    rig_run(&r, ready_again);
    rig_close(&r);
}

static void a_child_that_leaves_is_started_again(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, "leaves", (struct supervise_conf){0});
    rig_run(&r, died_often);
    assert_int_equal(r.refused, -1);
    rig_close(&r);
}

static void a_draining_child_gets_no_requests(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, "drains", (struct supervise_conf){0});
    rig_run(&r, is_ready);
    rig_run(&r, some_time_passed);
    assert_int_equal(supervise_state(r.s), SUPERVISE_STARTING);
    assert_int_equal(r.n_backoff, 0);
    rig_close(&r);
}

static void a_first_start_that_is_refused_ends_it(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, "refuses", (struct supervise_conf){0});
    rig_run(&r, is_stopped);
    assert_int_equal(r.refused, 3);
    assert_int_equal(r.n_backoff, 0);
    rig_stop(&r);
    rig_run(&r, some_time_passed);
    assert_int_equal(r.n_stopped, 1);
    rig_close(&r);
}

/* The pauses between deaths double up to the cap, and start over after a healthy time. */
static void deaths_are_answered_more_and_more_slowly(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, "crashes", (struct supervise_conf){0});
    rig_run(&r, died_often);
    static const uint64_t pauses[] = {20, 40, 80, 80};
    for (size_t i = 0; i < ARRAY_LEN(pauses); i++) {
        assert_true(r.backoff_at_ms[i + 1] - r.backoff_at_ms[i] >= pauses[i] - 1);
    }
    rig_close(&r);
    rig_open(&r, "good", (struct supervise_conf){.healthy_ms = 1, .backoff_ms_min = 40});
    for (int i = 0; i < 4; i++) {
        rig_run(&r, is_ready);
        rig_run(&r, some_time_passed);
        uint64_t killed_at = raw_now_ms();
        r.n_backoff = 0;
        kill(supervise_pid(r.s), SIGKILL);
        rig_run(&r, ready_again);
        assert_true(raw_now_ms() - killed_at >= 39);
    }
    assert_true(r.n_starting >= 4);
    rig_close(&r);
}

static void stopping_works_in_every_state(void **state)
{
    (void)state;
    static const struct {
        const char *mode;
        bool (*when)(struct rig *r);
    } cases[] = {
        {"loading", NULL},   {"deaf", NULL},         {"crashes", died_once},
        {"hangs", is_ready}, {"stubborn", is_ready}, {"drains", some_time_passed},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rig r;
        rig_open(&r, cases[i].mode, (struct supervise_conf){.stop_ms = 100});
        if (cases[i].when != NULL) {
            rig_run(&r, cases[i].when);
        }
        rig_stop(&r);
        rig_run(&r, is_stopped);
        assert_int_equal(supervise_pid(r.s), 0);
        assert_int_equal(r.n_stopped, 1);
        rig_close(&r);
    }
}

static void a_program_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    struct loop *loop;
    struct supervise *s;
    struct err err = {0};
    const char *const argv[] = {"/nowhere/bud", NULL};
    struct supervise_conf conf = {.argv = argv, .on_state = rig_state, .on_refused = rig_refused};
    assert_int_equal(addr_parse(&conf.addr, STR_LIT("unix:/tmp/x.sock"), NULL), RC_OK);
    assert_int_equal(loop_create(&loop, clock_system(), NULL), RC_OK);
    assert_int_equal(supervise_create(&s, loop, &conf, &err), RC_NOT_FOUND);
    assert_null(s);
    loop_destroy(loop);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--child") == 0) {
        return child_main(argv[2], argv[3]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_child_becomes_ready_stays_and_stops),
        cmocka_unit_test(a_killed_child_is_replaced),
        cmocka_unit_test(loading_is_waited_for_but_silence_is_not),
        cmocka_unit_test(a_hung_child_is_found_and_replaced),
        cmocka_unit_test(a_child_that_leaves_is_started_again),
        cmocka_unit_test(a_draining_child_gets_no_requests),
        cmocka_unit_test(a_first_start_that_is_refused_ends_it),
        cmocka_unit_test(deaths_are_answered_more_and_more_slowly),
        cmocka_unit_test(stopping_works_in_every_state),
        cmocka_unit_test(a_program_that_is_not_there_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
