/* The processor device on a made-up /proc and control group, and on the real ones. */
#include "check.h"

#include <string.h>

#include "base/file.h"
#include "device/device.h"

struct place {
    char root[64];
};

static void place_write(const struct place *p, const char *path, const char *text)
{
    char full[256];
    char folder[256];
    snprintf(full, sizeof(full), "%s%s", p->root, path);
    snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(full, '/') - full), full);
    assert_int_equal(file_make_dirs(folder, NULL), RC_OK);
    assert_int_equal(file_write_atomic(full, str_from(text), 0600, NULL), RC_OK);
}

static int place_make(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    snprintf(p->root, sizeof(p->root), "/tmp/bud-test-XXXXXX");
    *state = p;
    return mkdtemp(p->root) == NULL;
}

static int place_remove(void **state)
{
    struct place *p = *state;
    static const char *const paths[] = {
        "/proc/meminfo",
        "/proc/stat",
        "/proc",
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory.current",
        "/sys/fs/cgroup",
        "/sys/fs",
        "/sys",
        "",
    };
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        char full[256];
        snprintf(full, sizeof(full), "%s%s", p->root, paths[i]);
        assert_int_equal(remove(full), 0);
    }
    free(p);
    return 0;
}

static void limits_of_the_group_count(void **state)
{
    struct place *p = *state;
    struct device *d;
    struct device_load load;
    struct err err = {0};
    place_write(p, "/proc/meminfo", "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   800 kB\n");
    place_write(p, "/proc/stat", "cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1 2 3 4\n");
    place_write(p, "/sys/fs/cgroup/memory.max", "512000\n");
    place_write(p, "/sys/fs/cgroup/memory.current", "500000\n");
    assert_int_equal(device_cpu_open(&d, p->root, &err), RC_OK);
    assert_string_equal(device_info(d)->kind, "cpu");
    assert_int_equal(device_info(d)->memory_total_bytes, 512000);
    assert_true(device_info(d)->n_cores >= 1);
    assert_int_equal(device_load(d, &load, &err), RC_OK);
    assert_int_equal(load.memory_free_bytes, 12000);
    assert_true(load.utilization > 0.199 && load.utilization < 0.201);

    place_write(p, "/proc/stat", "cpu  60 0 10 120 10 0 0 0 0 0\n");
    place_write(p, "/sys/fs/cgroup/memory.max", "max\n");
    assert_int_equal(device_load(d, &load, &err), RC_OK);
    assert_int_equal(load.memory_free_bytes, 800 * 1024);
    assert_true(load.utilization > 0.499 && load.utilization < 0.501);

    place_write(p, "/proc/stat", "cpu  1 0 1 1 0 0 0 0\n");
    assert_int_equal(device_load(d, &load, &err), RC_OK);
    assert_true(load.utilization == 0);

    place_write(p, "/proc/stat", "nonsense\n");
    assert_int_equal(device_load(d, &load, &err), RC_CORRUPT);
    device_close(d);
    place_write(p, "/proc/meminfo", "MemTotal: lots\n");
    assert_int_equal(device_cpu_open(&d, p->root, &err), RC_CORRUPT);
    assert_null(d);
}

static void this_machine_has_figures(void **state)
{
    (void)state;
    struct device *d;
    struct device_load load;
    assert_int_equal(device_cpu_open(&d, "", NULL), RC_OK);
    assert_true(device_info(d)->memory_total_bytes > 1 << 20);
    assert_int_equal(device_load(d, &load, NULL), RC_OK);
    assert_true(load.memory_free_bytes <= device_info(d)->memory_total_bytes);
    assert_true(load.utilization >= 0 && load.utilization <= 1);
    device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(limits_of_the_group_count, place_make, place_remove),
        cmocka_unit_test(this_machine_has_figures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
