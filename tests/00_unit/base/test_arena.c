#include "check.h"

#include <string.h>

#include "base/arena.h"

static void arena_gives_zeroed_aligned_memory(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    for (size_t n = 0; n < 5000; n += 333) {
        unsigned char *p = arena_alloc(&a, n);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(p[i], 0);
        }
        memset(p, 0xFF, n);
    }
    arena_reset(&a);
    unsigned char *again = arena_alloc(&a, 4096);
    assert_non_null(again);
    assert_int_equal(again[0], 0);
    assert_int_equal(again[4095], 0);
    arena_deinit(&a);
    arena_deinit(&a);
}

static void arena_refuses_past_its_cap(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1000);
    assert_non_null(arena_alloc(&a, 600));
    assert_null(arena_alloc(&a, 600));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc_array(&a, SIZE_MAX / 2, 3));
    assert_non_null(arena_alloc(&a, 300));
    arena_deinit(&a);
}

static void arena_copies_strings(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 16);
    struct str s = arena_printf(&a, "%d-%s", 42, "x");
    assert_true(str_is(s, "42-x"));
    struct str copy = arena_str(&a, s);
    assert_true(str_eq(copy, s));
    assert_ptr_not_equal(copy.ptr, s.ptr);
    assert_int_equal(copy.ptr[copy.len], '\0');
    arena_deinit(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_gives_zeroed_aligned_memory),
        cmocka_unit_test(arena_refuses_past_its_cap),
        cmocka_unit_test(arena_copies_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
