/* crash.c: see crash.h. The handler calls nothing that could take a lock or allocate: write(2) and
 * backtrace_symbols_fd. Addresses in the report are resolved with addr2line -e build/bud. */
#include "obs/crash.h"

#include <execinfo.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/str.h"
#include "obs/log.h"

enum { CRASH_FRAMES_MAX = 64, CRASH_STACK_BYTES = 64 << 10 };

static const struct {
    int number;
    const char *name;
} crash_signals[] = {
    {SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"},   {SIGFPE, "SIGFPE"},
    {SIGILL, "SIGILL"},   {SIGABRT, "SIGABRT"},
};

static void say(const char *text)
{
    size_t n = strlen(text);
    while (n > 0) {
        ssize_t done = write(STDERR_FILENO, text, n);
        if (done <= 0) {
            return;
        }
        text += done;
        n -= (size_t)done;
    }
}

static void say_number(uint64_t value, uint32_t base)
{
    char text[32];
    size_t at = sizeof(text) - 1;
    text[at] = '\0';
    do {
        text[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    say(text + at);
}

static void on_fatal(int number, siginfo_t *info, void *context)
{
    void *frames[CRASH_FRAMES_MAX];
    char thread[17] = {0};
    const char *name = "signal";
    UNUSED(context);
    for (size_t i = 0; i < ARRAY_LEN(crash_signals); i++) {
        name = crash_signals[i].number == number ? crash_signals[i].name : name;
    }
    prctl(PR_GET_NAME, thread);
    say("\n--- bud " BUD_VERSION " crashed: ");
    say(name);
    if (number != SIGABRT) {
        say(" at address 0x");
        say_number((uintptr_t)info->si_addr, 16);
    }
    say(", process ");
    say_number((uint64_t)getpid(), 10);
    say(", thread ");
    say(thread);
    say("\n");
    backtrace_symbols_fd(frames, backtrace(frames, CRASH_FRAMES_MAX), STDERR_FILENO);
    say("--- end of crash report\n");
    log_flush_dying();
    raise(number); /* the handler is gone (SA_RESETHAND): the usual course */
}

void crash_init(void)
{
    /* The first call loads the unwinder, which allocates: not in the handler. */
    void *frame[1];
    ASSERT(backtrace(frame, 1) >= 0);
    stack_t stack = {.ss_sp = mem_map(CRASH_STACK_BYTES), .ss_size = CRASH_STACK_BYTES};
    if (stack.ss_sp != NULL) {
        ASSERT(sigaltstack(&stack, NULL) == 0);
    }
    struct sigaction action = {.sa_sigaction = on_fatal,
                               .sa_flags = (int)(SA_SIGINFO | SA_ONSTACK | SA_RESETHAND)};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_LEN(crash_signals); i++) {
        ASSERT(sigaction(crash_signals[i].number, &action, NULL) == 0);
    }
}
