/* journal_file.c: see journal_file.h. */
#include "stores/journal_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"

static enum rc journal_errno(struct err *err, int code, const char *verb, const char *path)
{
    return err_set(err, RC_IO, "usage journal: cannot %s %s: %s", verb, path, strerror(code));
}

static enum rc journal_file_map(struct journal_file *f, size_t bytes, struct err *err)
{
    f->fd = open(f->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (f->fd < 0) {
        return journal_errno(err, errno, "make", f->path);
    }
    /* A store into a page that the disk has no room for would kill the process: room first. */
    int failed = posix_fallocate(f->fd, 0, (off_t)bytes);
    if (failed != 0) {
        return journal_errno(err, failed, "make room for", f->path);
    }
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
    if (map == MAP_FAILED) {
        return journal_errno(err, errno, "map", f->path);
    }
    f->map = map;
    f->bytes = bytes;
    return RC_OK;
}

enum rc journal_file_create(struct journal_file **out, const char *dir, const char *name,
                            size_t bytes, struct err *err)
{
    *out = NULL;
    struct journal_file *f = mem_zalloc(sizeof(*f));
    int n = snprintf(f->path, sizeof(f->path), "%s/%s", dir, name);
    f->fd = -1;
    enum rc rc = n > 0 && (size_t)n < sizeof(f->path)
                     ? journal_file_map(f, bytes, err)
                     : err_set(err, RC_INVALID, "usage journal: the path %s is too long", dir);
    if (rc != RC_OK) {
        if (f->fd >= 0) {
            (void)unlink(f->path);
        }
        journal_file_close(f);
        return rc;
    }
    *out = f;
    return RC_OK;
}

void journal_file_close(struct journal_file *f)
{
    if (f == NULL) {
        return;
    }
    if (f->map != NULL) {
        munmap(f->map, f->bytes);
    }
    if (f->fd >= 0) {
        close(f->fd);
    }
    mem_free(f);
}

void journal_file_remove(struct journal_file *f)
{
    if (f != NULL) {
        (void)unlink(f->path);
    }
    journal_file_close(f);
}

enum rc journal_file_sync(struct journal_file *f, struct err *err)
{
    return fdatasync(f->fd) == 0 ? RC_OK : journal_errno(err, errno, "sync", f->path);
}

int journal_lock(const char *dir, struct err *err)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s/lock", dir);
    int fd =
        n > 0 && (size_t)n < sizeof(path) ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    int locked = -1;
    if (fd >= 0) {
        do {
            locked = flock(fd, LOCK_EX);
        } while (locked != 0 && errno == EINTR);
    }
    if (locked != 0) {
        (void)journal_errno(err, errno, "lock", dir);
        journal_unlock(fd);
        return -1;
    }
    return fd;
}

void journal_unlock(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}
