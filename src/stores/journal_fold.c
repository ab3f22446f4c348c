/* journal_fold.c: see journal_fold.h. */
#include "stores/journal_fold.h"

#include "base/assert.h"

enum {
    FOLD_ALL = META_USAGE_BY_DAY | META_USAGE_BY_KEY | META_USAGE_BY_USER | META_USAGE_BY_PROJECT |
               META_USAGE_BY_MODEL | META_USAGE_BY_UPSTREAM | META_USAGE_BY_STATUS
};

/* What a dead run had open is one part, whatever it comes to: the buffer has room for it. */
enum { FOLD_BYTES_MAX = 1 << 30 };

void journal_fold_init(struct journal_fold *f, struct meta *m, const char *run)
{
    *f = (struct journal_fold){.meta = m};
    (void)str_copy(f->run, sizeof(f->run), str_from(run));
    buf_init(&f->lines, FOLD_BYTES_MAX);
    usage_sums_init(&f->sums, FOLD_ALL);
}

void journal_fold_deinit(struct journal_fold *f)
{
    buf_deinit(&f->lines);
    usage_sums_deinit(&f->sums);
}

static void fold_reset(struct journal_fold *f)
{
    f->n_lines = f->n_notes = 0;
    buf_reset(&f->lines);
    usage_sums_reset(&f->sums);
}

bool journal_fold_is_full(const struct journal_fold *f)
{
    return f->lines.len >= JOURNAL_FOLD_BYTES || f->n_notes == JOURNAL_FOLD_NOTES ||
           usage_sums_count(&f->sums) >= JOURNAL_FOLD_GROUPS;
}

static enum rc fold_add_row(struct journal_fold *f, const struct meta_usage *u, struct str text,
                            struct err *err)
{
    f->from_ms = f->n_lines == 0 ? u->started_ms : MIN(f->from_ms, u->started_ms);
    f->to_ms = f->n_lines == 0 ? u->started_ms : MAX(f->to_ms, u->started_ms);
    f->n_lines++;
    buf_add_str(&f->lines, usage_line_body(text));
    buf_add_byte(&f->lines, '\n');
    return buf_ok(&f->lines) ? usage_sums_add_row(&f->sums, u, err)
                             : err_set(err, RC_NOMEM, "usage journal: out of memory");
}

enum rc journal_fold_add(struct journal_fold *f, const struct usage_line *line, struct str text,
                         struct err *err)
{
    if (line->kind == USAGE_DONE) {
        enum rc rc = fold_add_row(f, &line->row, text, err);
        if (rc != RC_OK) {
            fold_reset(f); /* all of the part is noted again */
        }
        return rc;
    }
    if (line->kind == USAGE_NOTE) {
        ASSERT(f->n_notes < JOURNAL_FOLD_NOTES);
        f->notes[f->n_notes++] = (struct meta_decision){.id = line->row.id,
                                                        .request_id = line->row.request_id,
                                                        .at_ms = line->row.started_ms,
                                                        .body = line->note};
    }
    return RC_OK;
}

enum rc journal_fold_write_all(struct journal_fold *f, uint32_t file, uint64_t upto,
                               struct err *err)
{
    const struct meta_usage_part part = {.run = str_from(f->run),
                                         .file = file,
                                         .upto = upto,
                                         .lines = buf_str(&f->lines),
                                         .from_ms = f->from_ms,
                                         .to_ms = f->to_ms,
                                         .n_lines = f->n_lines,
                                         .sums = &f->sums,
                                         .notes = f->notes,
                                         .n_notes = f->n_notes};
    enum rc rc = meta_usage_take(f->meta, &part, err);
    fold_reset(f);
    return rc;
}

enum rc journal_fold_write(struct journal_fold *f, uint32_t file, uint64_t upto, struct err *err)
{
    bool any = f->n_lines > 0 || f->n_notes > 0;
    return any ? journal_fold_write_all(f, file, upto, err) : RC_OK;
}
