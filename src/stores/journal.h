/* journal.h: the usage journal: one durable record per request, none lost, none doubled.
 *
 *   loop                                    thread of its own
 *   journal_begin ── o line ──┐             each 100 ms: fdatasync
 *   journal_count ── slot ────┤ mapped      each second: d and x lines ──> the store (meta_usage.h)
 *   journal_settle ── d line ─┘ files       next file made ready; files all of whose requests are
 *                                           settled and in the store: removed; what is older there
 *                                           than it is to be kept: deleted, some of it each second
 *
 * Files, in one folder: RUN.live, locked while the process lives, has eight bytes for each request
 * under way, its counts; RUN-00000001.log and on, each made at its full size, have the lines
 * (usage_line.h). Both are mapped: what the loop stores is the kernel's at once and survives
 * kill -9; a power cut loses 100 ms at most. journal_open and journal_recover settle what dead
 * processes left open, with the last counts and the status "interrupted".
 *
 * Room for a request's `d` line is set aside with its `o` line, so that whatever begins can be
 * settled. A full disk is found out when the next file is made ready, a whole file ahead:
 * journal_begin fails with RC_UNAVAILABLE from then on, until there is room again.
 *
 * Folder and database lie on a local file system. Any thread calls begin to stats: lines are
 * written out beside one another, and one lock is held while one is copied in. */
#ifndef STORES_JOURNAL_H
#define STORES_JOURNAL_H

#include "base/clock.h"
#include "stores/usage_line.h"

/* Limits. */
enum {
    JOURNAL_FILE_BYTES = 16 << 20, /* of one file; two are there at least */
    JOURNAL_OPEN_MAX = 12288,      /* requests under way; more: RC_UNAVAILABLE */
    JOURNAL_SYNC_MS = 100,
    JOURNAL_FOLD_MS = 1000,
    JOURNAL_FILES_MAX = 256, /* kept for requests that never end; more: as a full disk */
};

struct journal; /* opaque */
struct journal_file;

struct journal_conf {
    const char *dir;       /* made when it is not there */
    const char *meta_path; /* of the metadata store */
    size_t file_bytes;     /* 0 = the defaults above */
    uint32_t open_max, sync_ms, fold_ms;
    uint32_t keep_days, keep_sums_days; /* single records and decisions; sums; 0 = for ever */
};

/* A request under way; zeroed = none. */
struct journal_ticket {
    char id[USAGE_ID_BYTES]; /* of its record */
    /* private */
    struct journal_file *file;
    uint32_t slot;
};

struct journal_stats {
    uint64_t n_begun, n_settled;
    uint64_t n_lost; /* requests that were served without a record */
    uint64_t n_notes_dropped;
};

/* Recovers first, then begins a run of its own. Blocks. */
RC journal_open(struct journal **out, const struct journal_conf *conf, struct err *err);
/* Writes what is left into the store. Blocks. NULL is allowed. */
void journal_close(struct journal *j);

/* Settles what processes that are gone have left in the folder; *n (may be NULL) is how many
 * requests they had left open. Fine beside living ones, and when there is no folder. Blocks. */
RC journal_recover(const char *dir, struct meta *m, uint64_t *n, struct err *err);

/* Opens a record; the ticket gets its id even when this fails. `row`: id, version, upstream and
 * what is known only later are not read. */
RC journal_begin(struct journal *j, struct journal_ticket *t, const struct meta_usage *row,
                 const struct usage_price *price, struct err *err);
/* The counts so far: one store to memory. Nothing when the ticket is not open. */
void journal_count(struct journal *j, const struct journal_ticket *t, uint32_t prompt_tokens,
                   uint32_t output_tokens, bool estimated);
/* Closes the record with all of `row` but its id. A ticket that is not open gets its line when
 * there is room, else it counts as lost. */
void journal_settle(struct journal *j, struct journal_ticket *t, const struct meta_usage *row);
/* Hands over a decision record; false when there was no room for it. */
bool journal_note(struct journal *j, struct str id, struct str request_id, int64_t at_ms,
                  struct str json);
struct journal_stats journal_stats(struct journal *j);
/* Any thread: waits until all that was written before is in the store. For tests and the end. */
RC journal_flush(struct journal *j, struct err *err);

#endif
