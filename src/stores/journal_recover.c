/* journal_recover.c: what processes that are gone have left of their usage journals (journal.h).
 *
 * A run whose live file can be locked has no process any more. Its lines that are not in the store
 * yet are folded, what is open after the last line is settled with its counts, and the files go
 * once that is in the store: the live file last, so that an interrupted recovery is repeated. The
 * store knows how far each file was taken in, and whether what was open was: nothing is doubled. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/crypto.h"
#include "base/file.h"
#include "base/map.h"
#include "base/mem.h"
#include "obs/log.h"
#include "stores/journal.h"
#include "stores/journal_file.h"
#include "stores/journal_fold.h"

enum { RECOVER_FILES_MAX = 4 * JOURNAL_FILES_MAX };

/* One run's files, mapped until it is settled: open lines are borrowed from them. */
struct recover {
    const char *dir;
    char run[JOURNAL_RUN_BYTES];
    char (*names)[JOURNAL_NAME_BYTES]; /* of RECOVER_FILES_MAX */
    struct file_map *maps;
    uint32_t n;
    struct map open; /* id -> the first byte of its line */
    struct meta *meta;
    struct journal_fold fold;
    uint64_t n_interrupted, n_torn;
};

static bool recover_path(const char *dir, const char *name, char out[PATH_MAX])
{
    int n = snprintf(out, PATH_MAX, "%s/%s", dir, name);
    return n > 0 && n < PATH_MAX;
}

/* "RUN" and "live" or "00000001.log" out of a file's name. */
static bool recover_is_of(const char *name, const char *run, const char *suffix)
{
    struct str s = str_from(name);
    size_t at = JOURNAL_RUN_BYTES - 1;
    return s.len < JOURNAL_NAME_BYTES && s.len > at && str_starts(s, str_from(run)) &&
           str_ends(s, str_from(suffix));
}

static int recover_order(const void *a, const void *b)
{
    return strcmp(a, b); /* numbers have leading zeros */
}

static enum rc recover_list(struct recover *r, struct err *err)
{
    DIR *d = opendir(r->dir);
    if (d == NULL) {
        return err_set(err, RC_IO, "usage journal: cannot list %s: %m", r->dir);
    }
    enum rc rc = RC_OK;
    r->n = 0;
    for (const struct dirent *e = readdir(d); e != NULL && rc == RC_OK; e = readdir(d)) {
        if (!recover_is_of(e->d_name, r->run, ".log")) {
            continue;
        }
        if (r->n == RECOVER_FILES_MAX) {
            rc = err_set(err, RC_TOO_LARGE, "usage journal: more than %d files of one run",
                         RECOVER_FILES_MAX);
        } else {
            str_copy(r->names[r->n++], JOURNAL_NAME_BYTES, str_from(e->d_name));
        }
    }
    closedir(d);
    qsort(r->names, r->n, sizeof(r->names[0]), recover_order);
    return rc;
}

/* ---- lines ---- */

/* `is_new`: it is not in the store yet. */
static enum rc recover_line(struct recover *r, const struct usage_line *line, struct str text,
                            bool is_new, struct err *err)
{
    if (line->kind == USAGE_OPEN) {
        return map_put(&r->open, line->row.id, (void *)(uintptr_t)text.ptr, NULL)
                   ? RC_OK
                   : err_set(err, RC_NOMEM, "usage journal: out of memory");
    }
    if (line->kind == USAGE_DONE) {
        (void)map_remove(&r->open, line->row.id);
    }
    return is_new ? journal_fold_add(&r->fold, line, text, err) : RC_OK;
}

/* The number in "RUN-00000001.log"; 0 = none. */
static uint32_t recover_number(const char *name)
{
    uint64_t number = 0;
    struct str s = str_from(name);
    bool ok = s.len > JOURNAL_RUN_BYTES + 4 &&
              str_to_u64(str_slice(s, JOURNAL_RUN_BYTES, s.len - 4), &number);
    return ok && number <= UINT32_MAX ? (uint32_t)number : 0;
}

static enum rc recover_file(struct recover *r, uint32_t i, struct err *err)
{
    char path[PATH_MAX];
    struct usage_line line;
    struct str text;
    size_t at = 0;
    uint64_t taken = 0;
    uint32_t number = recover_number(r->names[i]);
    if (!recover_path(r->dir, r->names[i], path) || number == JOURNAL_FOLD_END) {
        return err_set(err, RC_INVALID, "usage journal: %s is no name of ours", r->names[i]);
    }
    enum rc rc = file_map_open(&r->maps[i], path, err);
    rc = rc == RC_OK ? meta_usage_taken(r->meta, str_from(r->run), number, &taken, err) : rc;
    const struct str bytes = {(const char *)r->maps[i].ptr, r->maps[i].bytes};
    while (rc == RC_OK && usage_line_next(bytes, &at, &line, &text, &r->n_torn)) {
        rc = recover_line(r, &line, text, at > taken, err);
        if (rc == RC_OK && journal_fold_is_full(&r->fold)) {
            rc = journal_fold_write(&r->fold, number, at, err);
        }
    }
    return rc == RC_OK ? journal_fold_write(&r->fold, number, at, err) : rc;
}

/* ---- what was open ---- */

static uint64_t recover_counts(const struct file_map *live, uint32_t slot)
{
    uint64_t counts = 0;
    if (slot < live->bytes / sizeof(counts)) {
        memcpy(&counts, live->ptr + (size_t)slot * sizeof(counts), sizeof(counts));
    }
    return counts;
}

static enum rc recover_interrupt(struct recover *r, const struct file_map *live, const char *start,
                                 struct err *err)
{
    struct usage_line line;
    struct buf text;
    const char *end = strchr(start, '\n'); /* it was read as a line before */
    ASSERT(end != NULL);
    bool whole = usage_line_read(str_make(start, (size_t)(end - start)), &line);
    ASSERT(whole && line.kind == USAGE_OPEN);
    struct meta_usage *u = &line.row;
    usage_counts_unpack(recover_counts(live, line.slot), u);
    u->status = STR_LIT("interrupted");
    u->version = u->upstream = STR_LIT("");
    u->cost_nano =
        usage_cost(&line.price, (uint64_t)u->prompt_tokens, 0, (uint64_t)u->output_tokens, 0);
    line.kind = USAGE_DONE;
    r->n_interrupted++;
    buf_init(&text, USAGE_LINE_BYTES_MAX + 1);
    usage_line_write(&text, &line);
    ASSERT(buf_ok(&text) && text.len > 0);
    enum rc rc = journal_fold_add(&r->fold, &line, str_make(text.ptr, text.len - 1), err);
    buf_deinit(&text);
    return rc;
}

/* All in one part, which is there or not. */
static enum rc recover_open(struct recover *r, const struct file_map *live, struct err *err)
{
    uint32_t at = 0;
    void *start = NULL;
    enum rc rc = RC_OK;
    while (rc == RC_OK && map_next(&r->open, &at, NULL, &start)) {
        rc = recover_interrupt(r, live, start, err);
    }
    return rc == RC_OK ? journal_fold_write_all(&r->fold, JOURNAL_FOLD_END, 1, err) : rc;
}

/* ---- runs ---- */

/* Everything into the store, unless that is done and only the files are left. */
static enum rc recover_fold(struct recover *r, const struct file_map *live, struct err *err)
{
    uint64_t done = 0;
    enum rc rc = meta_usage_taken(r->meta, str_from(r->run), JOURNAL_FOLD_END, &done, err);
    for (uint32_t i = 0; rc == RC_OK && done == 0 && i < r->n; i++) {
        rc = recover_file(r, i, err);
    }
    return rc == RC_OK && done == 0 ? recover_open(r, live, err) : rc;
}

static enum rc recover_settle(struct recover *r, const char *live_path, struct err *err)
{
    struct file_map live = {0};
    char path[PATH_MAX];
    map_init(&r->open, 0);
    journal_fold_init(&r->fold, r->meta, r->run);
    enum rc rc = recover_list(r, err);
    rc = rc == RC_OK ? file_map_open(&live, live_path, err) : rc;
    rc = rc == RC_OK ? recover_fold(r, &live, err) : rc;
    file_map_close(&live);
    for (uint32_t i = 0; i < r->n; i++) {
        file_map_close(&r->maps[i]);
        if (rc == RC_OK && recover_path(r->dir, r->names[i], path)) {
            (void)unlink(path);
        }
    }
    if (rc == RC_OK) {
        (void)unlink(live_path);
        rc = meta_usage_forget_file(r->meta, str_from(r->run), META_USAGE_FILES_ALL, err);
    }
    journal_fold_deinit(&r->fold);
    map_deinit(&r->open);
    return rc;
}

static enum rc recover_run(struct recover *r, const char *live_name, struct err *err)
{
    char path[PATH_MAX];
    str_copy(r->run, sizeof(r->run), str_from(live_name));
    if (!recover_path(r->dir, live_name, path)) {
        return err_set(err, RC_INVALID, "usage journal: a path is too long");
    }
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return err_set(err, RC_IO, "usage journal: cannot open %s: %m", path);
    }
    enum rc rc = RC_OK;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        rc = recover_settle(r, path, err);
    } else if (errno != EWOULDBLOCK) {
        rc = err_set(err, RC_IO, "usage journal: cannot lock %s: %m", path);
    }
    close(fd);
    return rc;
}

/* Names first: files go while runs are settled. */
static enum rc recover_runs(struct recover *r, struct err *err)
{
    static const char *const suffix = ".live";
    enum rc rc = RC_OK;
    DIR *d = opendir(r->dir);
    if (d == NULL) {
        return err_set(err, RC_IO, "usage journal: cannot list %s: %m", r->dir);
    }
    char(*runs)[JOURNAL_NAME_BYTES] = mem_zalloc_array(RECOVER_FILES_MAX, sizeof(*runs));
    uint32_t n = 0;
    for (const struct dirent *e = readdir(d); e != NULL && n < RECOVER_FILES_MAX; e = readdir(d)) {
        if (recover_is_of(e->d_name, "", suffix)) {
            str_copy(runs[n++], sizeof(runs[0]), str_from(e->d_name));
        }
    }
    closedir(d);
    for (uint32_t i = 0; rc == RC_OK && i < n; i++) {
        rc = recover_run(r, runs[i], err);
    }
    mem_free(runs);
    return rc;
}

enum rc journal_recover_locked(const char *dir, struct meta *m, uint64_t *n, struct err *err)
{
    struct recover r = {.dir = dir, .meta = m};
    r.names = mem_zalloc_array(RECOVER_FILES_MAX, sizeof(r.names[0]));
    r.maps = mem_zalloc_array(RECOVER_FILES_MAX, sizeof(r.maps[0]));
    enum rc rc = recover_runs(&r, err);
    if (r.n_interrupted > 0 || r.n_torn > 0) {
        log_event(LOG_USAGE_RECOVERED, log_u64("requests", r.n_interrupted),
                  log_u64("torn_lines", r.n_torn));
    }
    if (n != NULL) {
        *n = r.n_interrupted;
    }
    mem_free(r.maps);
    mem_free(r.names);
    return rc;
}

enum rc journal_recover(const char *dir, struct meta *m, uint64_t *n, struct err *err)
{
    if (n != NULL) {
        *n = 0;
    }
    if (!file_is_dir(dir)) {
        return RC_OK;
    }
    int lock = journal_lock(dir, err);
    if (lock < 0) {
        return RC_IO;
    }
    enum rc rc = journal_recover_locked(dir, m, n, err);
    journal_unlock(lock);
    return rc;
}
