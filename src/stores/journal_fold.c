/* journal_fold.c: see journal_fold.h. */
#include "stores/journal_fold.h"

#include "base/assert.h"

void journal_fold_add(struct journal_fold *f, const struct usage_line *line)
{
    ASSERT(!journal_fold_is_full(f));
    if (line->kind == USAGE_DONE) {
        f->rows[f->n_rows++] = line->row;
    } else if (line->kind == USAGE_NOTE) {
        f->notes[f->n_notes++] = (struct meta_decision){.id = line->row.id,
                                                        .request_id = line->row.request_id,
                                                        .at_ms = line->row.started_ms,
                                                        .body = line->note};
    }
}

enum rc journal_fold_write(struct journal_fold *f, struct err *err)
{
    enum rc rc = f->n_rows > 0 ? meta_usage_insert(f->meta, f->rows, f->n_rows, err) : RC_OK;
    if (rc == RC_OK && f->n_notes > 0) {
        rc = meta_decisions_insert(f->meta, f->notes, f->n_notes, err);
    }
    f->n_rows = f->n_notes = 0;
    return rc;
}
