/* A child process dies on purpose; its last words come through a pipe. */
#include "check.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/assert.h"
#include "obs/crash.h"

static char report[1 << 16];

/* Runs `die` in a child after crash_init; returns the signal that ended it. */
static int last_words(void (*die)(void))
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        dup2(ends[1], STDERR_FILENO);
        for (int number = 1; number < 32; number++) {
            signal(number, SIG_DFL); /* cmocka's own handlers */
        }
        crash_init();
        die();
        _exit(0);
    }
    close(ends[1]);
    size_t len = 0;
    ssize_t n;
    while ((n = read(ends[0], report + len, sizeof(report) - 1 - len)) > 0) {
        len += (size_t)n;
    }
    report[len] = '\0';
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void bad_address(void)
{
    volatile uintptr_t where = 8;
    *(volatile int *)where = 1;
}

static void failed_assert(void)
{
    volatile int two = 2;
    ASSERT(two == 3);
}

static void nothing(void)
{
}

static void says(const char *part)
{
    if (strstr(report, part) == NULL) {
        fail_msg("'%s' is not in:\n%s", part, report);
    }
}

static void crash_reports_a_bad_address(void **state)
{
    (void)state;
    assert_int_equal(last_words(bad_address), SIGSEGV);
    says("--- bud " BUD_VERSION " crashed: SIGSEGV at address 0x8, process ");
    says(", thread ");
    says("libcmocka"); /* a frame of the backtrace */
    says("--- end of crash report\n");
}

static void crash_reports_a_failed_assert(void **state)
{
    (void)state;
    assert_int_equal(last_words(failed_assert), SIGABRT);
    says("two == 3");
    says("crashed: SIGABRT, process ");
}

static void crash_stays_silent_otherwise(void **state)
{
    (void)state;
    assert_int_equal(last_words(nothing), 0);
    assert_string_equal(report, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash_reports_a_bad_address),
        cmocka_unit_test(crash_reports_a_failed_assert),
        cmocka_unit_test(crash_stays_silent_otherwise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
