/* cmocka.h: the few names of cmocka that tests of kernels use, so that they can be linked without
 * shared libraries. The first failure ends the program. */
#ifndef TOOLS_EMULATE_CMOCKA_H
#define TOOLS_EMULATE_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

#define cmocka_unit_test(f)                                                                        \
    {                                                                                              \
#f, f                                                                                      \
    }
#define print_message(...) ((void)printf(__VA_ARGS__))
#define fail_msg(...)      ((void)printf(__VA_ARGS__), (void)printf("\nFAILED\n"), exit(1))
#define assert_true(x)     ((x) ? (void)0 : fail_msg("%s:%d: %s", __FILE__, __LINE__, #x))
#define assert_null(x)     assert_true((x) == NULL)
#define assert_non_null(x) assert_true((x) != NULL)
#define skip()             return

#define assert_int_equal(a, b)          assert_true((a) == (b))
#define assert_in_range(x, low, high)   assert_true((x) >= (low) && (x) <= (high))
#define assert_memory_equal(a, b, n)    assert_true(memcmp(a, b, n) == 0)
#define cmocka_run_group_tests(t, a, b) cmocka_run(t, sizeof(t) / sizeof((t)[0]))

static int cmocka_run(const struct CMUnitTest *tests, size_t n)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    for (size_t i = 0; i < n; i++) {
        void *state = NULL;
        printf("%s\n", tests[i].name);
        tests[i].run(&state);
    }
    printf("all %zu passed\n", n);
    return 0;
}

#endif
