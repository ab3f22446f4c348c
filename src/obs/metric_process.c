/* metric_process.c: reads /proc/self; see proc(5) for the fields. */
#include "obs/metric_process.h"

#include <dirent.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"

enum { PROC_FILE_BYTES_MAX = 16384 };

/* Field `idx` (0 = the first) of white-space-separated text. */
static uint64_t field_u64(struct str text, uint32_t idx)
{
    uint64_t value = 0;
    struct str field = STR_NULL;
    for (uint32_t i = 0; i <= idx; i++) {
        field = str_cut(&text, ' ');
    }
    return str_to_u64(str_trim(field), &value) ? value : 0;
}

static struct str read_proc(struct buf *b, const char *path)
{
    buf_reset(b);
    return file_read(path, b, NULL) == RC_OK ? buf_str(b) : STR_NULL;
}

static uint32_t count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint32_t n = 0;
    if (dir == NULL) {
        return 0;
    }
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        n += e->d_name[0] != '.' ? 1 : 0;
    }
    closedir(dir);
    return n - 1; /* the one just used */
}

/* Seconds since 1970 at which the machine was started. */
static double boot_time_s(struct buf *b)
{
    struct str text = read_proc(b, "/proc/stat");
    size_t at = str_find(text, STR_LIT("\nbtime "));
    text = str_slice(text, at + 7, text.len);
    uint64_t seconds = 0;
    return str_to_u64(str_cut(&text, '\n'), &seconds) ? (double)seconds : 0;
}

void metric_process_read(struct metric_process *p)
{
    struct buf b;
    struct timespec cpu = {0};
    *p = (struct metric_process){0};
    buf_init(&b, PROC_FILE_BYTES_MAX);
    p->resident_bytes =
        field_u64(read_proc(&b, "/proc/self/statm"), 1) * (uint64_t)sysconf(_SC_PAGESIZE);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    p->cpu_ns = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
    p->n_fds = count_fds();
    /* Field 22 of stat, in clock ticks since boot; the second, a name in brackets, may hold spaces.
     */
    struct str stat = read_proc(&b, "/proc/self/stat");
    size_t bracket = str_find(stat, STR_LIT(") "));
    uint64_t ticks = field_u64(str_slice(stat, bracket + 2, stat.len), 19);
    p->start_s = boot_time_s(&b) + (double)ticks / (double)sysconf(_SC_CLK_TCK);
    buf_deinit(&b);
}
