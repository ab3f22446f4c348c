/* file.h: whole files, mapped files and paths. Blocking: never on a loop thread. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/buf.h"
#include "base/err.h"

/* A read-only mapping of a whole file. */
struct file_map {
    const unsigned char *ptr; /* NULL for an empty file */
    size_t bytes;
};

/* Refuses what is not a regular file. Random access is expected (no read-ahead hint). */
RC file_map_open(struct file_map *m, const char *path, struct err *err);
/* May be called twice. */
void file_map_close(struct file_map *m);
/* Says that bytes [from, from + n) are not needed soon: whole pages of them leave this process's
 * memory and come back from the file when they are touched. The range lies in the mapping. */
void file_map_drop(const struct file_map *m, size_t from, size_t n);

/* Appends the file's bytes to `out`; RC_TOO_LARGE when out's cap is passed. "-" is not special. */
RC file_read(const char *path, struct buf *out, struct err *err);
/* Writes a temporary file beside `path` with `mode`, syncs it, renames it over `path`. */
RC file_write_atomic(const char *path, struct str bytes, unsigned mode, struct err *err);
/* Like mkdir -p; new folders get mode 0700. */
RC file_make_dirs(const char *path, struct err *err);
bool file_exists(const char *path);
bool file_is_dir(const char *path);

/* The part behind the last '/'. Borrowed from `path`. */
struct str file_base_name(const char *path);

#endif
