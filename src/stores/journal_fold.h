/* journal_fold.h: lines of the usage journal into the store's tables, in batches. Folding the same
 * line again changes nothing: a record's id is there once. */
#ifndef STORES_JOURNAL_FOLD_H
#define STORES_JOURNAL_FOLD_H

#include "stores/usage_line.h"

enum { JOURNAL_FOLD_ROWS = 256, JOURNAL_FOLD_NOTES = 64 };

/* Large: allocated. */
struct journal_fold {
    struct meta *meta; /* borrowed */
    uint32_t n_rows, n_notes;
    struct meta_usage rows[JOURNAL_FOLD_ROWS];
    struct meta_decision notes[JOURNAL_FOLD_NOTES];
};

static inline bool journal_fold_is_full(const struct journal_fold *f)
{
    return f->n_rows == JOURNAL_FOLD_ROWS || f->n_notes == JOURNAL_FOLD_NOTES;
}
/* Notes a `d` or `x` line, whose bytes stay until journal_fold_write; not when it is full. */
void journal_fold_add(struct journal_fold *f, const struct usage_line *line);
/* Writes what was noted. After a failure the same lines can be noted again. */
RC journal_fold_write(struct journal_fold *f, struct err *err);

#endif
