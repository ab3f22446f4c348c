/* Children: how they end, and that a lifeline tells them of their parent's death. */
#include "check.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "net/loop.h"
#include "net/process.h"

struct watch {
    struct loop *loop;
    struct process_exit e;
    int n;
};

static void exited(void *ctx, struct process_exit e)
{
    struct watch *w = ctx;
    w->e = e;
    w->n++;
    loop_stop(w->loop);
}

static struct watch run_shell(const char *script, bool lifeline, int signum)
{
    struct watch w = {0};
    assert_int_equal(loop_create(&w.loop, clock_system(), NULL), RC_OK);
    const char *argv[] = {"sh", "-c", script, NULL};
    struct process_conf conf = {.path = "/bin/sh", .argv = argv, .lifeline = lifeline};
    struct process *p = NULL;
    assert_int_equal(process_start(&p, w.loop, &conf, exited, &w, NULL), RC_OK);
    assert_true(process_pid(p) > 0);
    if (signum != 0) {
        process_kill(p, signum);
    }
    assert_int_equal(w.n, 0);
    loop_run(w.loop);
    assert_int_equal(w.n, 1);
    loop_destroy(w.loop);
    return w;
}

static void tells_how_a_child_ended(void **state)
{
    (void)state;
    struct watch w = run_shell("exit 3", false, 0);
    assert_int_equal(w.e.status, 3);
    assert_int_equal(w.e.signum, 0);
    w = run_shell("exec sleep 60", false, SIGKILL);
    assert_int_equal(w.e.signum, SIGKILL);
    w = run_shell("read x || exit 7", false, 0); /* empty standard input */
    assert_int_equal(w.e.status, 7);
    w = run_shell("test -p /dev/stdin && exit 5", true, 0);
    assert_int_equal(w.e.status, 5);
}

static void says_when_there_is_no_such_program(void **state)
{
    (void)state;
    struct watch w = {0};
    struct err err;
    assert_int_equal(loop_create(&w.loop, clock_system(), NULL), RC_OK);
    const char *argv[] = {"none", NULL};
    struct process_conf conf = {.path = "/nowhere/none", .argv = argv, .lifeline = true};
    struct process *p = NULL;
    assert_int_equal(process_start(&p, w.loop, &conf, exited, &w, &err), RC_NOT_FOUND);
    assert_non_null(strstr(err.msg, "/nowhere/none"));
    loop_destroy(w.loop);
    assert_int_equal(w.n, 0);
}

static void a_forgotten_child_loses_its_lifeline(void **state)
{
    (void)state;
    struct watch w = {0};
    assert_int_equal(loop_create(&w.loop, clock_system(), NULL), RC_OK);
    const char *argv[] = {"cat", NULL}; /* ends at the end of its input */
    struct process_conf conf = {.path = "cat", .argv = argv, .lifeline = true};
    struct process *p = NULL;
    assert_int_equal(process_start(&p, w.loop, &conf, exited, &w, NULL), RC_OK);
    int pid = process_pid(p);
    process_forget(p);
    loop_destroy(w.loop);
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(w.n, 0);
}

static void parent_gone(void *ctx)
{
    loop_stop(ctx);
}

static void a_child_can_watch_its_parent(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct loop *l;
        close(fds[1]);
        dup2(fds[0], STDIN_FILENO);
        close(fds[0]);
        bool ok = loop_create(&l, clock_system(), NULL) == RC_OK &&
                  process_watch_parent(l, parent_gone, l, NULL) == RC_OK;
        if (ok) {
            loop_run(l);
            loop_destroy(l);
        }
        _exit(ok ? 9 : 1);
    }
    close(fds[0]);
    usleep(20000);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    close(fds[1]);
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_how_a_child_ended),
        cmocka_unit_test(says_when_there_is_no_such_program),
        cmocka_unit_test(a_forgotten_child_loses_its_lifeline),
        cmocka_unit_test(a_child_can_watch_its_parent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
