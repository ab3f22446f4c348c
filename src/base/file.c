/* file.c: see file.h. Every error names the path and the system's reason. */
#include "base/file.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static enum rc file_errno(struct err *err, const char *verb, const char *path)
{
    enum rc rc = errno == ENOENT ? RC_NOT_FOUND : RC_IO;
    return err_set(err, rc, "%s: cannot %s: %s", path, verb, strerror(errno));
}

/* ---- mapping ---- */

enum rc file_map_open(struct file_map *m, const char *path, struct err *err)
{
    *m = (struct file_map){0};
    /* Non-blocking, so that a FIFO is refused instead of waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return file_errno(err, "open", path);
    }
    enum rc rc = RC_OK;
    struct stat st;
    if (fstat(fd, &st) != 0) {
        rc = file_errno(err, "stat", path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = err_set(err, RC_INVALID, "%s: not a regular file", path);
    } else if (st.st_size > 0) {
        void *ptr = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (ptr == MAP_FAILED) {
            rc = file_errno(err, "map", path);
        } else {
            *m = (struct file_map){ptr, (size_t)st.st_size};
        }
    }
    close(fd);
    return rc;
}

void file_map_close(struct file_map *m)
{
    if (m->ptr != NULL) {
        munmap((void *)(uintptr_t)m->ptr, m->bytes);
    }
    *m = (struct file_map){0};
}

void file_map_drop(const struct file_map *m, size_t from, size_t n)
{
    ASSERT(from <= m->bytes && n <= m->bytes - from);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t first = (from + page - 1) / page * page;
    size_t last = (from + n) / page * page;
    if (first < last) {
        (void)madvise((void *)(uintptr_t)(m->ptr + first), last - first, MADV_DONTNEED);
    }
}

/* ---- reading and writing ---- */

static enum rc file_read_fd(int fd, const char *path, struct buf *out, struct err *err)
{
    for (;;) {
        size_t step = 65536;
        size_t left = out->cap_bytes - out->len;
        step = MIN(step, left + 1); /* one more than fits tells a file of exactly the cap */
        char chunk[65536];
        ssize_t n = read(fd, chunk, step);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return file_errno(err, "read", path);
        }
        if (n == 0) {
            return RC_OK;
        }
        buf_add(out, chunk, (size_t)n);
        if (!buf_ok(out)) {
            return err_set(err, RC_TOO_LARGE, "%s: larger than %zu bytes", path, out->cap_bytes);
        }
    }
}

enum rc file_read(const char *path, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return file_errno(err, "open", path);
    }
    enum rc rc = file_read_fd(fd, path, out, err);
    close(fd);
    return rc;
}

static bool file_write_all(int fd, struct str bytes)
{
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return false;
        }
        bytes = str_slice(bytes, (size_t)n, bytes.len);
    }
    return true;
}

enum rc file_write_atomic(const char *path, struct str bytes, unsigned mode, struct err *err)
{
    char temp[PATH_MAX];
    int n = snprintf(temp, sizeof(temp), "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof(temp)) {
        return err_set(err, RC_INVALID, "%s: path too long", path);
    }
    int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        return file_errno(err, "create a file beside", path);
    }
    bool ok = fchmod(fd, mode) == 0 && file_write_all(fd, bytes) && fsync(fd) == 0;
    int saved = errno;
    ok = close(fd) == 0 && ok;
    if (ok && rename(temp, path) == 0) {
        return RC_OK;
    }
    errno = ok ? errno : saved;
    enum rc rc = file_errno(err, "write", path);
    unlink(temp);
    return rc;
}

/* ---- paths ---- */

enum rc file_make_dirs(const char *path, struct err *err)
{
    char part[PATH_MAX];
    if (!str_copy(part, sizeof(part), str_from(path))) {
        return err_set(err, RC_INVALID, "%s: path too long", path);
    }
    for (char *p = part + 1; part[0] != '\0'; p++) {
        if (*p != '/' && *p != '\0') {
            continue;
        }
        char saved = *p;
        *p = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            return file_errno(err, "make folder", part);
        }
        *p = saved;
        if (saved == '\0') {
            break;
        }
    }
    return RC_OK;
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool file_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

struct str file_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return str_from(slash == NULL ? path : slash + 1);
}
