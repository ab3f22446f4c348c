#include "check.h"

#include "base/map.h"
#include "base/rng.h"

enum { N_KEYS = 700 };

static void map_holds_what_was_put(void **state)
{
    (void)state;
    struct map m = {0};
    map_deinit(&m);
    map_init(&m, 1);
    int one = 1, two = 2;
    void *old = &two;
    assert_null(map_get(&m, STR_LIT("a")));
    assert_null(map_remove(&m, STR_LIT("a")));
    assert_true(map_put(&m, STR_LIT("a"), &one, &old));
    assert_null(old);
    assert_ptr_equal(map_get(&m, STR_LIT("a")), &one);
    assert_true(map_put(&m, STR_LIT("a"), &two, &old));
    assert_ptr_equal(old, &one);
    assert_true(map_put(&m, STR_LIT(""), &one, NULL));
    assert_true(map_put(&m, str_make("a\0b", 3), &one, NULL));
    assert_int_equal(map_count(&m), 3);
    assert_ptr_equal(map_get(&m, STR_NULL), &one);
    assert_ptr_equal(map_remove(&m, STR_LIT("a")), &two);
    assert_null(map_get(&m, STR_LIT("a")));
    map_clear(&m);
    assert_int_equal(map_count(&m), 0);
    assert_null(map_get(&m, STR_LIT("")));
    map_deinit(&m);
    map_deinit(&m);
}

/* A plain array of presence flags is the model. */
static void map_agrees_with_an_array(void **state)
{
    (void)state;
    static char names[N_KEYS][16];
    static int values[N_KEYS];
    bool present[N_KEYS] = {false};
    uint32_t n_present = 0;
    struct map m;
    struct rng r;
    rng_init(&r, 3);
    map_init(&m, 99);
    for (uint32_t i = 0; i < N_KEYS; i++) {
        snprintf(names[i], sizeof(names[i]), "key%u", i);
    }
    for (uint32_t step = 0; step < 60000; step++) {
        /* Growing, shrinking and growing again. */
        uint32_t key = rng_below(&r, N_KEYS), chance = step / 15000 % 2 == 0 ? 7 : 3;
        struct str name = str_from(names[key]);
        assert_ptr_equal(map_get(&m, name), present[key] ? &values[key] : NULL);
        if (rng_below(&r, 10) < chance) {
            void *old = NULL;
            assert_true(map_put(&m, name, &values[key], &old));
            assert_int_equal(old != NULL, present[key]);
            n_present += present[key] ? 0 : 1;
            present[key] = true;
        } else {
            assert_int_equal(map_remove(&m, name) != NULL, present[key]);
            n_present -= present[key] ? 1 : 0;
            present[key] = false;
        }
        assert_int_equal(map_count(&m), n_present);
    }
    for (uint32_t key = 0; key < N_KEYS; key++) {
        assert_ptr_equal(map_get(&m, str_from(names[key])), present[key] ? &values[key] : NULL);
    }
    uint32_t at = 0, n_seen = 0;
    struct str key;
    void *value = NULL;
    while (map_next(&m, &at, &key, &value)) {
        size_t idx = (size_t)((int *)value - values);
        assert_true(present[idx]);
        assert_true(str_is(key, names[idx]));
        n_seen++;
    }
    assert_int_equal(n_seen, n_present);
    map_deinit(&m);
}

static void map_reserves(void **state)
{
    (void)state;
    struct map m;
    map_init(&m, 5);
    assert_true(map_reserve(&m, 1000));
    uint32_t n_slots = m.n_slots;
    assert_true(n_slots >= 1334);
    static char keys[1000][8];
    for (uint32_t i = 0; i < 1000; i++) {
        snprintf(keys[i], sizeof(keys[i]), "%u", i);
        assert_true(map_put(&m, str_from(keys[i]), keys[i], NULL));
    }
    assert_int_equal(m.n_slots, n_slots);
    assert_false(map_reserve(&m, UINT32_MAX));
    map_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_holds_what_was_put),
        cmocka_unit_test(map_agrees_with_an_array),
        cmocka_unit_test(map_reserves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
