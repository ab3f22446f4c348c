/* meta_usage.h: usage in the metadata store: sums by day, single records, and decision records,
 * which explain single requests.
 *
 *   usage_days    one row for each day, key, user, project, model, upstream and status: kept long
 *   usage_pages   records as lines, some thousands in one row: kept for weeks, read from the newest
 *   usage_files   how far each file of the journal was taken in; moves in the same transaction, so
 *                 that nothing is counted twice
 *
 * A row and an index entry for each request cost the gateway's core five times what it costs to
 * write lines down whole (docs/performance.md), and single records are asked for seldom.
 *
 * Records come from the journal (journal_fold.h) and are never changed. Money is in billionths,
 * times are milliseconds since 1970, UTC. Strings are borrowed: of arguments, and by callbacks for
 * the time of the call. Calls block, as all of meta.h. */
#ifndef STORES_META_USAGE_H
#define STORES_META_USAGE_H

#include "base/json.h"
#include "stores/meta.h"

enum {
    META_USAGE_ROWS_MAX = 10000, /* of one answer; more are cut off */
    META_DECISIONS_MAX = 20000,  /* kept; the oldest go */
    META_DECISION_BYTES_MAX = 8 << 10,
};

/* ---- records ---- */

struct meta_usage {
    struct str id;         /* of the record: unique */
    struct str request_id; /* x-request-id; clients may choose it, so that several may share one */
    struct str route;      /* "chat", "completions", "embeddings", "rerank", "images" */
    struct str key, user, project, model, version, upstream; /* "" = none */
    struct str hedged; /* asked as well as `upstream`, which was the first to begin; "" = none */
    struct str status; /* "ok", "failed", "cancelled", "interrupted" */
    int64_t http_status, started_ms, duration_ms;
    int64_t prompt_tokens, cached_tokens, output_tokens, images, cost_nano;
    bool estimated; /* the server told no counts */
};

enum meta_usage_by { /* a set of these */
                     META_USAGE_BY_DAY = 1 << 0,
                     META_USAGE_BY_KEY = 1 << 1,
                     META_USAGE_BY_USER = 1 << 2,
                     META_USAGE_BY_PROJECT = 1 << 3,
                     META_USAGE_BY_MODEL = 1 << 4,
                     META_USAGE_BY_UPSTREAM = 1 << 5,
                     META_USAGE_BY_STATUS = 1 << 6,
                     META_USAGE_BY_N = 7,
};

/* What is asked for; zeroed = everything, in one sum. */
struct meta_usage_query {
    struct str key, user, project, model, upstream, status, request_id; /* "" = any */
    int64_t from_ms, to_ms; /* [from, to); to 0 = no end */
    uint32_t by;
    uint32_t rows_max; /* 0 = META_USAGE_ROWS_MAX */
};

/* Sets one filter by its name, as flags and query strings give it: key, user, project, model,
 * upstream, status, request_id; from and to (a day as 2026-11-23, which `to` includes, or seconds
 * since 1970); by (names separated by commas, such as "project,day"); limit (rows). `value` is
 * borrowed. RC_INVALID says what would be right. */
RC meta_usage_query_set(struct meta_usage_query *q, const char *name, struct str value,
                        struct err *err);

struct meta_usage_sum {
    struct str by[META_USAGE_BY_N]; /* by the bit's number; "" = not grouped by */
    int64_t requests, failed, estimated, duration_ms;
    int64_t prompt_tokens, cached_tokens, output_tokens, images, cost_nano;
};
/* "day", "key", …; i < META_USAGE_BY_N. */
const char *meta_usage_by_name(uint32_t i);

/* One call per group, ordered by the groups' names. Stops at a failure. Whole days come from their
 * sums; parts of days, and sums of one request id, from single records, as long as those are kept.
 */
RC meta_usage_sum(struct meta *m, const struct meta_usage_query *q,
                  enum rc (*each)(void *ctx, const struct meta_usage_sum *sum), void *ctx,
                  struct err *err);
/* Single records, the newest first; `by` means nothing here. Reads what was kept of that time. */
RC meta_usage_each(struct meta *m, const struct meta_usage_query *q,
                   enum rc (*each)(void *ctx, const struct meta_usage *u), void *ctx,
                   struct err *err);
/* Members of an object, as every JSON answer has them. */
void meta_usage_sum_write(struct json_writer *w, const struct meta_usage_sum *sum, uint32_t by);
void meta_usage_write(struct json_writer *w, const struct meta_usage *u);
/* The whole answer, {"object":"list","data":[…]}: sums, or with `records` single records. */
RC meta_usage_answer(struct meta *m, const struct meta_usage_query *q, bool records,
                     struct buf *out, struct err *err);

/* ---- decision records: why a request went as it did ---- */

struct meta_decision {
    struct str id, request_id; /* as struct meta_usage */
    struct str body;           /* a JSON object */
    int64_t at_ms;
};

/* Appends the newest of that request id, or of that record; RC_NOT_FOUND when there is none. */
RC meta_decision_find(struct meta *m, struct str id, struct buf *out, struct err *err);

/* ---- writing ---- */

struct usage_sums;

/* What a part of a file of the journal tells. */
struct meta_usage_part {
    struct str run;         /* whose file, */
    uint32_t file;          /* its number, */
    uint64_t upto;          /* and the byte up to which it has been taken in with this */
    struct str lines;       /* records: usage_line_body of each, and LF */
    int64_t from_ms, to_ms; /* the first and the last start among them */
    uint32_t n_lines;
    struct usage_sums *sums;           /* of the same records, by all */
    const struct meta_decision *notes; /* past META_DECISIONS_MAX the oldest in the store go */
    uint32_t n_notes;
};

/* All or nothing, in one transaction. */
RC meta_usage_take(struct meta *m, const struct meta_usage_part *part, struct err *err);
/* How far a file was taken in; 0 = not at all. */
RC meta_usage_taken(struct meta *m, struct str run, uint32_t file, uint64_t *upto, struct err *err);
/* A file is gone; with `file` META_USAGE_FILES_ALL all those of the run. */
enum { META_USAGE_FILES_ALL = 0 };
RC meta_usage_forget_file(struct meta *m, struct str run, uint32_t file, struct err *err);
/* Deletes some of what began before these times: a few pages, days and decisions a call, so that
 * nobody waits for it. 0 = nothing is too old. */
RC meta_usage_forget(struct meta *m, int64_t records_ms, int64_t sums_ms, struct err *err);

#endif
