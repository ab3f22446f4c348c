/* journal_fold.h: lines of the usage journal into the store, part by part of a file. Each part is
 * one transaction with the byte up to which the file was taken in: whoever folds the file again,
 * after a crash, begins there. */
#ifndef STORES_JOURNAL_FOLD_H
#define STORES_JOURNAL_FOLD_H

#include "stores/journal_file.h"
#include "stores/usage_line.h"
#include "stores/usage_sums.h"

/* Limits of a part. */
enum {
    JOURNAL_FOLD_BYTES = 256 << 10, /* of records, which become one page of the store */
    JOURNAL_FOLD_GROUPS = 4096,     /* days, keys, models … that they go to */
    JOURNAL_FOLD_NOTES = 64,
    JOURNAL_FOLD_END = 0, /* the number, instead of a file's, of what a dead run had open */
};

struct journal_fold {
    struct meta *meta; /* borrowed */
    char run[JOURNAL_RUN_BYTES];
    /* private */
    struct buf lines;
    struct usage_sums sums;
    int64_t from_ms, to_ms;
    uint32_t n_lines, n_notes;
    struct meta_decision notes[JOURNAL_FOLD_NOTES];
};

void journal_fold_init(struct journal_fold *f, struct meta *m, const char *run);
/* May be called on a zeroed struct. */
void journal_fold_deinit(struct journal_fold *f);

bool journal_fold_is_full(const struct journal_fold *f);
/* Notes a `d` or `x` line; `text` is the line without its LF. The bytes of notes stay where they
 * are until journal_fold_write. A failure forgets what was noted, as one of journal_fold_write. */
RC journal_fold_add(struct journal_fold *f, const struct usage_line *line, struct str text,
                    struct err *err);
/* Writes what was noted, if there is anything. After a failure the same lines can be noted again.
 */
RC journal_fold_write(struct journal_fold *f, uint32_t file, uint64_t upto, struct err *err);
/* The same as a transaction even when nothing was noted: that it was done is what counts. */
RC journal_fold_write_all(struct journal_fold *f, uint32_t file, uint64_t upto, struct err *err);

#endif
