/* The rest of the ground: pools, lists, errors, clocks, random numbers, files, checked sums. */
#include "check.h"

#include <string.h>
#include <sys/stat.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/thread.h"

struct object {
    struct list_node node;
    uint32_t number;
    char bytes[33];
};

static void a_pool_gives_zeroed_objects_up_to_its_cap(void **state)
{
    (void)state;
    struct pool p;
    struct object *o[4];
    pool_init(&p, sizeof(struct object), 3);
    for (int i = 0; i < 3; i++) {
        o[i] = pool_get(&p);
        assert_non_null(o[i]);
        assert_int_equal(o[i]->number, 0);
        memset(o[i], 0xEE, sizeof(*o[i]));
    }
    assert_null(pool_get(&p));
    assert_int_equal(pool_left(&p), 0);
    pool_put(&p, o[1]);
    o[3] = pool_get(&p);
    assert_ptr_equal(o[3], o[1]);
    assert_int_equal(o[3]->number, 0);
    assert_int_equal(o[0]->number, 0xEEEEEEEEu);
    for (int i = 0; i < 3; i++) {
        pool_put(&p, o[i]);
    }
    assert_int_equal(pool_used(&p), 0);
    pool_deinit(&p);
}

static void a_list_keeps_order_and_lets_go(void **state)
{
    (void)state;
    struct list l;
    struct object o[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    list_init(&l);
    assert_true(list_is_empty(&l));
    assert_null(list_pop_front(&l));
    list_push_back(&l, &o[1].node);
    list_push_back(&l, &o[2].node);
    list_push_front(&l, &o[0].node);
    uint32_t seen = 0;
    LIST_EACH(&l, node)
    {
        struct object *it = LIST_ENTRY(node, struct object, node);
        assert_int_equal(it->number, ++seen);
        if (seen == 2) {
            list_remove(node);
        }
    }
    assert_int_equal(seen, 3);
    assert_false(list_is_linked(&o[1].node));
    assert_ptr_equal(list_pop_front(&l), &o[0].node);
    assert_ptr_equal(list_pop_front(&l), &o[2].node);
    assert_true(list_is_empty(&l));
}

static void an_error_is_written_once_and_given_context(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(err_set_param(&err, RC_TOO_LARGE, "messages[2]", "%d bytes", 7), RC_TOO_LARGE);
    assert_string_equal(err.msg, "7 bytes");
    assert_string_equal(err.param, "messages[2]");
    assert_int_equal(err_context(&err, "file %s", "x"), RC_TOO_LARGE);
    assert_string_equal(err.msg, "file x: 7 bytes");
    assert_int_equal(err_set(&err, RC_IO, "again: %s", err.msg), RC_IO);
    assert_string_equal(err.msg, "again: file x: 7 bytes");
    assert_string_equal(err.param, "");
    assert_int_equal(err_set(NULL, RC_IO, "nobody reads this"), RC_IO);
    assert_int_equal(err_row(RC_RATE_LIMITED)->http_status, 429);
    assert_string_equal(err_row(RC_OK)->name, "OK");
    for (int i = 0; i < 300; i++) {
        err_context(&err, "long");
    }
    assert_true(strlen(err.msg) < sizeof(err.msg));
}

static void a_fake_clock_moves_when_told(void **state)
{
    (void)state;
    struct clock_fake f;
    clock_fake_init(&f, 5000000000u);
    uint64_t start = clock_mono_ns(&f.clock);
    assert_int_equal(clock_wall_s(&f.clock), 5);
    clock_fake_advance_ms(&f, 1500);
    assert_int_equal(clock_mono_ns(&f.clock) - start, 1500000000u);
    assert_int_equal(clock_wall_s(&f.clock), 6);
    uint64_t now = clock_mono_ns(clock_system());
    assert_true(clock_mono_ns(clock_system()) >= now);
    assert_true(clock_wall_s(clock_system()) > 1600000000);
}

static void one_seed_gives_one_sequence(void **state)
{
    (void)state;
    struct rng a, b, c;
    uint32_t hits[7] = {0};
    rng_init(&a, 42);
    rng_init(&b, 42);
    rng_init(&c, 43);
    bool differs = false;
    for (int i = 0; i < 70000; i++) {
        uint32_t n = rng_below(&a, 7);
        assert_true(n < 7);
        assert_int_equal(n, rng_below(&b, 7));
        differs |= n != rng_below(&c, 7);
        hits[n]++;
        double u = rng_unit(&c);
        assert_true(u >= 0 && u < 1);
    }
    assert_true(differs);
    for (int i = 0; i < 7; i++) {
        assert_in_range(hits[i], 9500, 10500); /* 10,000 expected, 5 sigma is about 460 */
    }
}

static void files_are_whole_or_not_there(void **state)
{
    (void)state;
    char dir[] = "/tmp/bud-test-XXXXXX";
    char path[64];
    char deep[64];
    struct err err = {0};
    struct buf text;
    struct file_map map;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/f", dir);
    snprintf(deep, sizeof(deep), "%s/a/b", dir);
    buf_init(&text, 5);
    assert_int_equal(file_read(path, &text, &err), RC_NOT_FOUND);
    assert_non_null(strstr(err.msg, path));
    assert_int_equal(file_write_atomic(path, STR_LIT("hello"), 0600, &err), RC_OK);
    assert_int_equal(file_read(path, &text, &err), RC_OK); /* exactly the cap */
    assert_true(str_is(buf_str(&text), "hello"));
    assert_int_equal(file_write_atomic(path, STR_LIT("hello!"), 0640, &err), RC_OK);
    buf_reset(&text);
    assert_int_equal(file_read(path, &text, &err), RC_TOO_LARGE);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(file_map_open(&map, path, &err), RC_OK);
    assert_int_equal(map.bytes, 6);
    assert_memory_equal(map.ptr, "hello!", 6);
    file_map_close(&map);
    file_map_close(&map);
    assert_int_equal(file_map_open(&map, dir, &err), RC_INVALID);
    assert_int_equal(file_write_atomic("/nowhere/at/all", STR_LIT("x"), 0600, &err), RC_NOT_FOUND);
    assert_int_equal(file_make_dirs(deep, &err), RC_OK);
    assert_int_equal(file_make_dirs(deep, &err), RC_OK);
    assert_true(file_is_dir(deep));
    assert_false(file_is_dir(path));
    assert_true(str_is(file_base_name("/a/b.c"), "b.c"));
    assert_true(str_is(file_base_name("b.c"), "b.c"));
    buf_deinit(&text);
    remove(path);
    remove(deep);
    snprintf(deep, sizeof(deep), "%s/a", dir);
    remove(deep);
    assert_int_equal(remove(dir), 0);
}

static void sums_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    uint32_t u;
    uint64_t aligned;
    assert_true(checked_add(1u, 2u, &u));
    assert_int_equal(u, 3);
    assert_false(checked_add(UINT32_MAX, 1u, &u));
    assert_false(checked_sub(1u, 2u, &u));
    assert_false(checked_mul(1u << 16, 1u << 16, &u));
    assert_true(checked_align_up(33, 32, &aligned));
    assert_int_equal(aligned, 64);
    assert_true(checked_align_up(64, 32, &aligned));
    assert_int_equal(aligned, 64);
    assert_false(checked_align_up(UINT64_MAX, 32, &aligned));
    assert_false(checked_align_up(1, 3, &aligned));
    assert_false(checked_align_up(1, 0, &aligned));
}

static void pages_cost_nothing_until_touched(void **state)
{
    (void)state;
    char *p = mem_try_pages((size_t)1 << 36); /* 64 GiB: more than this machine has */
    if (p == NULL) {
        skip(); /* a machine that does not overcommit */
    }
    assert_int_equal((uintptr_t)p % 4096, 0);
    assert_int_equal(p[((size_t)1 << 36) - 1], 0);
    p[12345] = 1;
    mem_free_pages(p);
    mem_free_pages(NULL);
    assert_null(mem_try_pages(SIZE_MAX));
}

static void this_machine_has_cores(void **state)
{
    (void)state;
    int cpus[4] = {-1, -1, -1, -1};
    assert_true(thread_cpus(cpus, 4) >= 1);
    assert_true(cpus[0] >= 0);
    assert_false(thread_pin_self(-1));
    assert_non_null(cpu_name());
    const struct cpu_features *f = cpu_features();
    assert_true(!f->avx512_vnni || f->avx512);
    assert_true(!f->avx512 || f->avx2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_gives_zeroed_objects_up_to_its_cap),
        cmocka_unit_test(a_list_keeps_order_and_lets_go),
        cmocka_unit_test(an_error_is_written_once_and_given_context),
        cmocka_unit_test(a_fake_clock_moves_when_told),
        cmocka_unit_test(one_seed_gives_one_sequence),
        cmocka_unit_test(files_are_whole_or_not_there),
        cmocka_unit_test(sums_that_do_not_fit_are_refused),
        cmocka_unit_test(pages_cost_nothing_until_touched),
        cmocka_unit_test(this_machine_has_cores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
