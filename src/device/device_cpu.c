/* device_cpu.c: the processor and its memory, from /proc and the control group's files.
 *
 * Control groups come in two versions (memory.max, or memory.limit_in_bytes) and in both at once;
 * the smallest limit found counts. Source: Linux Documentation/admin-guide/cgroup-v2.rst, proc(5).
 */
#include "device/device.h"

#include <limits.h>
#include <stdio.h>

#include "base/cpu.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/thread.h"

enum { DEVICE_FILE_BYTES_MAX = 256 << 10 };

struct device {
    struct device_info info;
    char root[256];
    uint64_t busy_ticks, all_ticks; /* at the last look */
};

/* ---- small kernel files ---- */

static enum rc device_read(const struct device *d, const char *path, struct buf *out,
                           struct err *err)
{
    char full[PATH_MAX];
    snprintf(full, sizeof(full), "%s%s", d->root, path);
    buf_init(out, DEVICE_FILE_BYTES_MAX);
    return file_read(full, out, err);
}

/* A file that holds one number; `fallback` when it is absent or says "max". */
static uint64_t device_read_u64(const struct device *d, const char *path, uint64_t fallback)
{
    struct buf text;
    uint64_t value = fallback;
    if (device_read(d, path, &text, NULL) == RC_OK &&
        !str_to_u64(str_trim(buf_str(&text)), &value)) {
        value = fallback;
    }
    buf_deinit(&text);
    return value;
}

/* "MemTotal:       24 kB" → bytes. */
static bool device_meminfo(struct str text, const char *name, uint64_t *bytes)
{
    while (text.len > 0) {
        struct str line = str_cut(&text, '\n');
        struct str key = str_cut(&line, ':');
        uint64_t kib;
        if (!str_is(key, name)) {
            continue;
        }
        line = str_trim(line);
        struct str number = str_cut(&line, ' ');
        if (!str_to_u64(number, &kib) || kib > UINT64_MAX / 1024) {
            return false;
        }
        *bytes = kib * 1024;
        return true;
    }
    return false;
}

static uint64_t device_group_left(const struct device *d)
{
    static const struct {
        const char *limit, *used;
    } groups[] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes",
         "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
    };
    uint64_t left = UINT64_MAX;
    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        uint64_t limit = device_read_u64(d, groups[i].limit, UINT64_MAX);
        uint64_t used = device_read_u64(d, groups[i].used, 0);
        if (limit != UINT64_MAX) {
            left = MIN(left, limit > used ? limit - used : 0);
        }
    }
    return left;
}

static enum rc device_memory(const struct device *d, uint64_t *total, uint64_t *available,
                             struct err *err)
{
    struct buf text;
    enum rc rc = device_read(d, "/proc/meminfo", &text, err);
    if (rc == RC_OK && (!device_meminfo(buf_str(&text), "MemTotal", total) ||
                        !device_meminfo(buf_str(&text), "MemAvailable", available))) {
        rc = err_set(err, RC_CORRUPT, "/proc/meminfo: no MemTotal or MemAvailable");
    }
    buf_deinit(&text);
    return rc;
}

/* "cpu  user nice system idle iowait irq softirq steal …" in ticks. */
static enum rc device_ticks(const struct device *d, uint64_t *busy, uint64_t *all, struct err *err)
{
    struct buf text;
    enum rc rc = device_read(d, "/proc/stat", &text, err);
    struct str rest = buf_str(&text);
    struct str line = str_cut(&rest, '\n');
    bool ok = rc == RC_OK && str_is(str_cut(&line, ' '), "cpu");
    *busy = *all = 0;
    for (uint32_t field = 0; ok && field < 8; field++) {
        uint64_t ticks;
        line = str_trim(line);
        ok = str_to_u64(str_cut(&line, ' '), &ticks);
        bool idle = field == 3 || field == 4;
        *all += ok ? ticks : 0;
        *busy += ok && !idle ? ticks : 0;
    }
    buf_deinit(&text);
    if (rc == RC_OK && !ok) {
        rc = err_set(err, RC_CORRUPT, "/proc/stat: its first line is not understood");
    }
    return rc;
}

/* ---- device ---- */

enum rc device_cpu_open(struct device **out, const char *root, struct err *err)
{
    *out = NULL;
    int cpus[1];
    uint64_t available = 0;
    struct device *d = mem_zalloc(sizeof(*d));
    str_copy(d->root, sizeof(d->root), str_from(root));
    str_copy(d->info.kind, sizeof(d->info.kind), STR_LIT("cpu"));
    str_copy(d->info.name, sizeof(d->info.name), str_trim(str_from(cpu_name())));
    d->info.n_cores = thread_cpus(cpus, 1);
    enum rc rc = device_memory(d, &d->info.memory_total_bytes, &available, err);
    if (rc != RC_OK) {
        device_close(d);
        return rc;
    }
    uint64_t limit = device_read_u64(d, "/sys/fs/cgroup/memory.max", UINT64_MAX);
    uint64_t limit_v1 =
        device_read_u64(d, "/sys/fs/cgroup/memory/memory.limit_in_bytes", UINT64_MAX);
    limit = MIN(limit, limit_v1);
    d->info.memory_total_bytes = MIN(d->info.memory_total_bytes, limit);
    *out = d;
    return RC_OK;
}

uint64_t device_cpu_memory_bytes(void)
{
    struct device *d = NULL;
    uint64_t bytes = device_cpu_open(&d, "", NULL) == RC_OK ? d->info.memory_total_bytes : 0;
    device_close(d);
    return bytes;
}

/* "max 100000", or "150000 100000": so many microseconds in each period (cgroup v2). */
static uint64_t device_quota(const struct device *d)
{
    struct buf text;
    uint64_t quota = 0, period = 0;
    bool set = false;
    if (device_read(d, "/sys/fs/cgroup/cpu.max", &text, NULL) == RC_OK) {
        struct str rest = str_trim(buf_str(&text));
        set = str_to_u64(str_cut(&rest, ' '), &quota) && str_to_u64(str_trim(rest), &period);
    }
    buf_deinit(&text);
    if (!set) {
        quota = device_read_u64(d, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", 0); /* v1: -1 = none */
        period = device_read_u64(d, "/sys/fs/cgroup/cpu/cpu.cfs_period_us", 0);
    }
    bool known = quota > 0 && period > 0 && quota <= UINT64_MAX - period;
    return known ? (quota + period - 1) / period : UINT32_MAX;
}

uint32_t device_cpu_share(const char *root)
{
    struct device d = {0};
    int cpus[1];
    str_copy(d.root, sizeof(d.root), str_from(root));
    uint64_t cores = MIN((uint64_t)thread_cpus(cpus, 1), device_quota(&d));
    return (uint32_t)MAX(cores, (uint64_t)1);
}

void device_close(struct device *d)
{
    mem_free(d);
}

const struct device_info *device_info(const struct device *d)
{
    return &d->info;
}

enum rc device_load(struct device *d, struct device_load *out, struct err *err)
{
    uint64_t total = 0;
    uint64_t available = 0;
    uint64_t busy = 0;
    uint64_t all = 0;
    enum rc rc = device_memory(d, &total, &available, err);
    rc = rc == RC_OK ? device_ticks(d, &busy, &all, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    uint64_t left = device_group_left(d);
    out->memory_free_bytes = MIN(available, left);
    /* Counters of a container may jump back: then nothing is known of this span. */
    bool forward = all > d->all_ticks && busy >= d->busy_ticks;
    out->utilization = forward ? (double)(busy - d->busy_ticks) / (double)(all - d->all_ticks) : 0;
    d->busy_ticks = busy;
    d->all_ticks = all;
    return RC_OK;
}
