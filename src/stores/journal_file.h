/* journal_file.h: files of the usage journal, made at their full size and mapped (journal.h). */
#ifndef STORES_JOURNAL_FILE_H
#define STORES_JOURNAL_FILE_H

#include <limits.h>
#include <stdatomic.h>

#include "base/err.h"
#include "base/list.h"

enum { JOURNAL_RUN_BYTES = 17, JOURNAL_NAME_BYTES = 48 }; /* 16 hex digits and a NUL */

struct journal_file {
    struct list_node node;
    char path[PATH_MAX];
    char *map; /* NULL while closed */
    size_t bytes;
    uint32_t number; /* from 1; 0 = the live file */
    int fd;
    /* of the lines; stored by the loop, read by the thread */
    _Atomic size_t used;
    _Atomic uint32_t n_open; /* requests begun here and not settled */
    atomic_bool closed;      /* nothing is added any more */
    /* the thread's */
    size_t synced, folded;
};

/* A new file of zeros; all of its blocks are taken now. RC_IO says what the system says. */
RC journal_file_create(struct journal_file **out, const char *dir, const char *name, size_t bytes,
                       struct err *err);
/* Frees it; the file itself stays. NULL is allowed. */
void journal_file_close(struct journal_file *f);
/* The same, and the file goes. */
void journal_file_remove(struct journal_file *f);
/* What was stored is on the disk. */
RC journal_file_sync(struct journal_file *f, struct err *err);

/* The folder's lock: held while runs begin and while dead ones are looked for. -1 = failed. */
int journal_lock(const char *dir, struct err *err);
/* Closes it, which unlocks. */
void journal_unlock(int fd);
/* journal_recover under that lock. */
struct meta;
RC journal_recover_locked(const char *dir, struct meta *m, uint64_t *n, struct err *err);

#endif
