/* journal.c: see journal.h.
 *
 * Invariants
 * 1. The current file has room for n_lines lines: the `d` lines of all requests under way and the
 *    `o` lines of those that are being begun. A new one begins only when that stays true, in this
 *    file or in the next one, which is empty.
 * 2. `used` of a file moves only behind a whole line: the thread reads whole lines.
 * 3. A file goes once nothing is added to it, all its lines are in the store, and no request begun
 *    in it is open: so each open request has its `o` line in some file, for whoever recovers.
 * 4. The list of files is the thread's; writers have the current one and take the next one. */
#include "stores/journal.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/crypto.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/thread.h"
#include "obs/log.h"
#include "obs/metric.h"
#include "stores/journal_file.h"
#include "stores/journal_fold.h"

#define JOURNAL_DAY_MS INT64_C(86400000)

struct journal {
    char dir[PATH_MAX];
    char run[JOURNAL_RUN_BYTES];
    struct journal_conf conf;
    _Atomic uint64_t n_ids;
    /* the writers', under `writing` */
    pthread_mutex_t writing;
    struct journal_file *now;
    uint32_t n_open;
    uint32_t n_lines; /* whose room is set aside */
    uint32_t *free_slots;
    uint32_t n_free;
    struct journal_stats stats;
    /* shared */
    _Atomic(struct journal_file *) next; /* made ready by the thread, taken by the loop */
    struct journal_file *live;           /* eight bytes for each slot */
    /* the thread's */
    struct thread thread;
    struct meta *meta;
    struct journal_fold fold;
    struct list files; /* oldest first; the last one may be `next` */
    uint32_t n_files, number;
    size_t live_synced; /* a count of what may have changed */
    uint64_t folded_ms;
    bool is_full; /* the last attempt to make a file failed */
    /* under the lock */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    bool stopping;
    uint64_t flush_asked, flush_done;
    struct err flush_err;
};

/* ---- writers ---- */

static _Atomic uint64_t *journal_slot(struct journal *j, uint32_t slot)
{
    return (_Atomic uint64_t *)(void *)j->live->map + slot;
}

/* Whether `bytes` more and n_lines lines fit; goes on to the next file. Under the lock. */
static bool journal_room(struct journal *j, size_t bytes, uint32_t n_lines)
{
    size_t need = bytes + (size_t)n_lines * USAGE_LINE_BYTES_MAX;
    struct journal_file *f = j->now;
    if (need <= f->bytes - atomic_load_explicit(&f->used, memory_order_relaxed)) {
        return true;
    }
    struct journal_file *next = atomic_load_explicit(&j->next, memory_order_acquire);
    if (next == NULL || need > next->bytes) {
        return false;
    }
    atomic_store_explicit(&j->next, NULL, memory_order_release);
    atomic_store_explicit(&f->closed, true, memory_order_release);
    j->now = next;
    return true;
}

/* Under the lock. */
static void journal_append(struct journal *j, struct str line)
{
    struct journal_file *f = j->now;
    size_t used = atomic_load_explicit(&f->used, memory_order_relaxed);
    ASSERT(line.len <= f->bytes - used);
    memcpy(f->map + used, line.ptr, line.len);
    atomic_store_explicit(&f->used, used + line.len, memory_order_release);
}

/* Empty when it does not fit. */
static void journal_format(struct buf *out, const struct usage_line *line)
{
    buf_init(out, USAGE_NOTE_BYTES_MAX);
    if (buf_reserve(out, USAGE_LINE_BYTES_MAX) != NULL) { /* one piece for the usual line */
        usage_line_write(out, line);
    }
    if (!buf_ok(out)) {
        buf_reset(out);
    }
}

/* A place for the counts, and room for both lines. */
static bool journal_take_slot(struct journal *j, uint32_t *slot)
{
    pthread_mutex_lock(&j->writing);
    bool can = j->n_free > 0 && journal_room(j, 0, j->n_lines + 2);
    if (can) {
        *slot = j->free_slots[--j->n_free];
        j->n_lines += 2;
    }
    pthread_mutex_unlock(&j->writing);
    return can;
}

enum rc journal_begin(struct journal *j, struct journal_ticket *t, const struct meta_usage *row,
                      const struct usage_price *price, struct err *err)
{
    *t = (struct journal_ticket){0};
    uint64_t n = atomic_fetch_add_explicit(&j->n_ids, 1, memory_order_relaxed) + 1;
    _Static_assert(sizeof(t->id) >= sizeof(j->run) + STR_U64_BYTES + 1, "room for both and a dash");
    memcpy(t->id, j->run, sizeof(j->run) - 1);
    t->id[sizeof(j->run) - 1] = '-';
    t->id[sizeof(j->run) + str_put_u64(t->id + sizeof(j->run), n)] = '\0';
    if (!journal_take_slot(j, &t->slot)) {
        return err_set(err, RC_UNAVAILABLE, "Usage cannot be written down at the moment.");
    }
    struct usage_line line = {.kind = USAGE_OPEN, .price = *price, .row = *row};
    struct buf text;
    line.slot = t->slot;
    line.row.id = str_from(t->id);
    atomic_store_explicit(journal_slot(j, t->slot), 0, memory_order_relaxed);
    journal_format(&text, &line);
    pthread_mutex_lock(&j->writing);
    journal_append(j, buf_str(&text));
    j->n_lines--;
    t->file = j->now;
    atomic_fetch_add_explicit(&t->file->n_open, 1, memory_order_relaxed);
    j->n_open++;
    j->stats.n_begun++;
    pthread_mutex_unlock(&j->writing);
    buf_deinit(&text);
    return RC_OK;
}

void journal_count(struct journal *j, const struct journal_ticket *t, uint32_t prompt_tokens,
                   uint32_t output_tokens, bool estimated)
{
    if (t->file != NULL) {
        atomic_store_explicit(journal_slot(j, t->slot),
                              usage_counts_pack(prompt_tokens, output_tokens, estimated),
                              memory_order_relaxed);
    }
}

/* Under the lock. False: there was no room. */
static bool journal_close_line(struct journal *j, struct journal_ticket *t, struct str text)
{
    bool open = t->file != NULL;
    if (!open && !journal_room(j, text.len, j->n_lines)) {
        j->stats.n_lost++;
        return false;
    }
    journal_append(j, text);
    j->stats.n_settled++;
    if (open) {
        ASSERT(j->n_open > 0 && j->n_lines > 0);
        j->n_open--;
        j->n_lines--;
        j->free_slots[j->n_free++] = t->slot;
        atomic_fetch_sub_explicit(&t->file->n_open, 1, memory_order_release);
        t->file = NULL;
    }
    return true;
}

void journal_settle(struct journal *j, struct journal_ticket *t, const struct meta_usage *row)
{
    struct usage_line line = {.kind = USAGE_DONE, .row = *row};
    struct buf text;
    line.row.id = str_from(t->id);
    journal_format(&text, &line);
    pthread_mutex_lock(&j->writing);
    bool written = journal_close_line(j, t, buf_str(&text));
    pthread_mutex_unlock(&j->writing);
    buf_deinit(&text);
    metric_add(metric_get(written ? METRIC_USAGE_RECORDS : METRIC_USAGE_LOST), 1);
}

bool journal_note(struct journal *j, struct str id, struct str request_id, int64_t at_ms,
                  struct str json)
{
    const struct usage_line line = {
        .kind = USAGE_NOTE,
        .row = {.id = id, .request_id = request_id, .started_ms = at_ms},
        .note = json};
    struct buf text = {0};
    if (json.len <= META_DECISION_BYTES_MAX) {
        journal_format(&text, &line);
    }
    pthread_mutex_lock(&j->writing);
    bool written = text.len > 0 && journal_room(j, text.len, j->n_lines);
    if (written) {
        journal_append(j, buf_str(&text));
    } else {
        j->stats.n_notes_dropped++;
    }
    pthread_mutex_unlock(&j->writing);
    buf_deinit(&text);
    return written;
}

struct journal_stats journal_stats(struct journal *j)
{
    pthread_mutex_lock(&j->writing);
    struct journal_stats stats = j->stats;
    pthread_mutex_unlock(&j->writing);
    return stats;
}

/* ---- the thread ---- */

static void journal_complain(const struct err *err)
{
    log_event(LOG_USAGE_FAIL, log_err(err), log_err_code(err));
}

static void journal_sync(struct journal *j)
{
    struct err err = {0};
    size_t written = 0;
    LIST_EACH(&j->files, node)
    {
        struct journal_file *f = LIST_ENTRY(node, struct journal_file, node);
        size_t used = atomic_load_explicit(&f->used, memory_order_acquire);
        written += used;
        if (used != f->synced) {
            f->synced = used;
            if (journal_file_sync(f, &err) != RC_OK) {
                journal_complain(&err);
            }
        }
    }
    /* Counts move without lines: while something is open they are written out as often. */
    bool open = false;
    LIST_EACH(&j->files, node)
    {
        const struct journal_file *f = LIST_ENTRY(node, struct journal_file, node);
        open = open || atomic_load_explicit(&f->n_open, memory_order_relaxed) > 0;
    }
    if ((open || written != j->live_synced) && journal_file_sync(j->live, &err) != RC_OK) {
        journal_complain(&err);
    }
    j->live_synced = written;
}

static enum rc journal_make_file(struct journal *j, struct journal_file **out, struct err *err)
{
    char name[JOURNAL_NAME_BYTES];
    if (j->n_files >= JOURNAL_FILES_MAX) {
        return err_set(err, RC_OVERLOADED, "usage journal: %u files wait for requests to end",
                       j->n_files);
    }
    snprintf(name, sizeof(name), "%s-%08u.log", j->run, j->number + 1);
    enum rc rc = journal_file_create(out, j->dir, name, j->conf.file_bytes, err);
    if (rc == RC_OK) {
        (*out)->number = ++j->number;
        j->n_files++;
        list_push_back(&j->files, &(*out)->node);
    }
    return rc;
}

/* False when the disk, or the number of files, does not allow it. */
static bool journal_prepare(struct journal *j)
{
    struct err err = {0};
    struct journal_file *f = NULL;
    if (atomic_load_explicit(&j->next, memory_order_acquire) != NULL) {
        return true;
    }
    if (journal_make_file(j, &f, &err) != RC_OK) {
        journal_complain(&err);
        return false;
    }
    atomic_store_explicit(&j->next, f, memory_order_release);
    return true;
}

static enum rc journal_fold_file(struct journal *j, struct journal_file *f, struct err *err)
{
    size_t used = atomic_load_explicit(&f->used, memory_order_acquire);
    const struct str bytes = {f->map, used};
    enum rc rc = RC_OK;
    while (rc == RC_OK && f->folded < used) {
        struct usage_line line;
        struct str text;
        size_t at = f->folded;
        while (rc == RC_OK && !journal_fold_is_full(&j->fold) &&
               usage_line_next_settled(bytes, &at, &line, &text)) {
            rc = journal_fold_add(&j->fold, &line, text, err);
        }
        rc = rc == RC_OK ? journal_fold_write(&j->fold, f->number, at, err) : rc;
        f->folded = rc == RC_OK ? at : f->folded;
    }
    return rc;
}

/* What is gone is not folded again: no matter when the store learns of it. */
static void journal_file_done(struct journal *j, struct journal_file *f)
{
    struct err err = {0};
    uint32_t number = f->number;
    list_remove(&f->node);
    j->n_files--;
    journal_file_remove(f);
    if (meta_usage_forget_file(j->meta, str_from(j->run), number, &err) != RC_OK) {
        journal_complain(&err);
    }
}

/* Everything that was settled goes into the store, and what is done with goes. */
static enum rc journal_fold_all(struct journal *j, struct err *err)
{
    enum rc rc = RC_OK;
    LIST_EACH(&j->files, node)
    {
        struct journal_file *f = LIST_ENTRY(node, struct journal_file, node);
        /* In this order: what is settled by now lies in lines that are folded below. */
        bool closed = atomic_load_explicit(&f->closed, memory_order_acquire);
        bool open = atomic_load_explicit(&f->n_open, memory_order_acquire) > 0;
        rc = rc == RC_OK ? journal_fold_file(j, f, err) : rc;
        size_t used = atomic_load_explicit(&f->used, memory_order_acquire);
        if (rc == RC_OK && closed && !open && f->folded == used) {
            journal_file_done(j, f);
        }
    }
    return rc;
}

/* What is older than it is to be kept; a little each time. */
static void journal_forget(struct journal *j)
{
    struct err err = {0};
    int64_t now_ms = (int64_t)(clock_wall_ns(clock_system()) / 1000000u);
    int64_t records = j->conf.keep_days != 0 ? now_ms - j->conf.keep_days * JOURNAL_DAY_MS : 0;
    int64_t sums =
        j->conf.keep_sums_days != 0 ? now_ms - j->conf.keep_sums_days * JOURNAL_DAY_MS : 0;
    if (meta_usage_forget(j->meta, records, sums, &err) != RC_OK) {
        journal_complain(&err);
    }
}

static void journal_tick(struct journal *j, bool fold_now, struct err *err)
{
    uint64_t now_ms = clock_mono_ms(clock_system());
    bool due = fold_now || now_ms - j->folded_ms >= j->conf.fold_ms;
    journal_sync(j);
    if (due) {
        j->folded_ms = now_ms;
        if (journal_fold_all(j, err) != RC_OK) {
            journal_complain(err);
        }
        journal_forget(j);
    }
    /* A disk that was full is asked again when usage is folded, not ten times a second. */
    if (due || !j->is_full) {
        j->is_full = !journal_prepare(j);
    }
}

static void journal_sleep(struct journal *j)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + (uint64_t)j->conf.sync_ms * 1000000u;
    until.tv_sec += (time_t)(ns / 1000000000u);
    until.tv_nsec = (long)(ns % 1000000000u);
    (void)pthread_cond_timedwait(&j->wake, &j->lock, &until);
}

static void journal_run(void *arg)
{
    struct journal *j = arg;
    bool stopping = false;
    thread_yield_to_others(); /* a fold of milliseconds must not stand before a request */
    pthread_mutex_lock(&j->lock);
    while (!stopping) {
        if (!j->stopping && j->flush_asked == j->flush_done) {
            journal_sleep(j);
        }
        struct err err = {0};
        uint64_t asked = j->flush_asked;
        stopping = j->stopping;
        bool fold_now = stopping || asked != j->flush_done;
        pthread_mutex_unlock(&j->lock);
        journal_tick(j, fold_now, &err);
        pthread_mutex_lock(&j->lock);
        if (fold_now) {
            j->flush_done = asked;
            j->flush_err = err;
            pthread_cond_broadcast(&j->done);
        }
    }
    pthread_mutex_unlock(&j->lock);
}

enum rc journal_flush(struct journal *j, struct err *err)
{
    pthread_mutex_lock(&j->lock);
    uint64_t asked = ++j->flush_asked;
    pthread_cond_signal(&j->wake);
    while (j->flush_done < asked) {
        pthread_cond_wait(&j->done, &j->lock);
    }
    const struct err failed = j->flush_err;
    pthread_mutex_unlock(&j->lock);
    return failed.code == RC_OK ? RC_OK : err_set(err, failed.code, "%s", failed.msg);
}

/* ---- life ---- */

static void journal_init(struct journal *j, const struct journal_conf *conf)
{
    pthread_condattr_t attr;
    unsigned char run[(JOURNAL_RUN_BYTES - 1) / 2];
    j->conf = *conf;
    j->conf.file_bytes = conf->file_bytes != 0 ? conf->file_bytes : JOURNAL_FILE_BYTES;
    j->conf.open_max = conf->open_max != 0 ? conf->open_max : JOURNAL_OPEN_MAX;
    j->conf.sync_ms = conf->sync_ms != 0 ? conf->sync_ms : JOURNAL_SYNC_MS;
    j->conf.fold_ms = conf->fold_ms != 0 ? conf->fold_ms : JOURNAL_FOLD_MS;
    ASSERT(j->conf.file_bytes / USAGE_LINE_BYTES_MAX > j->conf.open_max + 2u);
    crypto_random(run, sizeof(run));
    crypto_hex(run, sizeof(run), j->run);
    list_init(&j->files);
    j->free_slots = mem_zalloc_array(j->conf.open_max, sizeof(*j->free_slots));
    while (j->n_free < j->conf.open_max) {
        j->free_slots[j->n_free] = j->conf.open_max - 1 - j->n_free;
        j->n_free++;
    }
    pthread_mutex_init(&j->lock, NULL);
    pthread_mutex_init(&j->writing, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->wake, &attr);
    pthread_cond_init(&j->done, NULL);
    pthread_condattr_destroy(&attr);
}

/* Under the folder's lock: a live file is never seen unlocked while its process lives. */
static enum rc journal_begin_run(struct journal *j, struct err *err)
{
    char name[JOURNAL_NAME_BYTES];
    snprintf(name, sizeof(name), "%s.live", j->run);
    enum rc rc = journal_recover_locked(j->dir, j->meta, NULL, err);
    rc = rc == RC_OK ? journal_file_create(&j->live, j->dir, name,
                                           (size_t)j->conf.open_max * sizeof(uint64_t), err)
                     : rc;
    if (rc == RC_OK && flock(j->live->fd, LOCK_EX | LOCK_NB) != 0) {
        rc = err_set(err, RC_IO, "usage journal: cannot lock %s: %m", j->live->path);
    }
    return rc;
}

static enum rc journal_start(struct journal *j, struct err *err)
{
    enum rc rc = file_make_dirs(j->dir, err);
    rc = rc == RC_OK ? meta_open(&j->meta, j->conf.meta_path, err) : rc;
    int lock = rc == RC_OK ? journal_lock(j->dir, err) : -1;
    rc = rc == RC_OK && lock < 0 ? RC_IO : rc;
    rc = rc == RC_OK ? journal_begin_run(j, err) : rc;
    journal_unlock(lock);
    if (rc == RC_OK) {
        journal_fold_init(&j->fold, j->meta, j->run);
        rc = journal_make_file(j, &j->now, err);
    }
    if (rc == RC_OK && !journal_prepare(j)) {
        rc = err_set(err, RC_IO, "usage journal: there is no room in %s", j->dir);
    }
    if (rc == RC_OK && thread_start(&j->thread, "usage", -1, journal_run, j) != RC_OK) {
        rc = err_set(err, RC_NOMEM, "usage journal: cannot start its thread");
    }
    return rc;
}

enum rc journal_open(struct journal **out, const struct journal_conf *conf, struct err *err)
{
    *out = NULL;
    struct journal *j = mem_zalloc(sizeof(*j));
    journal_init(j, conf);
    enum rc rc = str_copy(j->dir, sizeof(j->dir), str_from(conf->dir))
                     ? journal_start(j, err)
                     : err_set(err, RC_INVALID, "usage journal: the path is too long");
    if (rc != RC_OK) {
        journal_close(j);
        return rc;
    }
    *out = j;
    return RC_OK;
}

/* What is in the store goes; what is not waits for the next start. */
static void journal_remove_files(struct journal *j)
{
    bool all = j->n_open == 0;
    LIST_EACH(&j->files, node)
    {
        const struct journal_file *f = LIST_ENTRY(node, struct journal_file, node);
        all = all && f->folded == atomic_load_explicit(&f->used, memory_order_relaxed);
    }
    LIST_EACH(&j->files, node)
    {
        struct journal_file *f = LIST_ENTRY(node, struct journal_file, node);
        list_remove(node);
        (all ? journal_file_remove : journal_file_close)(f);
    }
    (all ? journal_file_remove : journal_file_close)(j->live);
    if (all && j->meta != NULL) {
        (void)!meta_usage_forget_file(j->meta, str_from(j->run), META_USAGE_FILES_ALL, NULL);
    }
}

void journal_close(struct journal *j)
{
    if (j == NULL) {
        return;
    }
    pthread_mutex_lock(&j->lock);
    j->stopping = true;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
    thread_join(&j->thread);
    journal_remove_files(j);
    meta_close(j->meta);
    pthread_cond_destroy(&j->wake);
    pthread_cond_destroy(&j->done);
    pthread_mutex_destroy(&j->lock);
    pthread_mutex_destroy(&j->writing);
    journal_fold_deinit(&j->fold);
    mem_free(j->free_slots);
    mem_free(j);
}
