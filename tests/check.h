/* check.h: what every test binary includes: cmocka, and the rule for absent reference data. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka after the four headers that it needs. */
#include <cmocka.h>

/* Skips the running test, saying what is absent; under CI=true that is a failure. */
static inline void check_skip_absent(const char *what)
{
    const char *ci = getenv("CI");
    printf("skip: %s is absent\n", what);
    if (ci != NULL && ci[0] == 't') {
        fail_msg("%s is absent, and CI requires it", what);
    }
    skip();
}

/* For data in ../shared; tests run from the project's root. */
static inline void check_need_file(const char *path)
{
    if (access(path, R_OK) != 0) {
        check_skip_absent(path);
    }
}

#endif
