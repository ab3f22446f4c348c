/* sched.h: which sequences run in the next step, and with how many tokens each.
 *
 * Pure code: no tensor, no socket, no thread. The policy of this file is first come, first served:
 * every decoding sequence gets one row of each step, the oldest prompts fill the rest; when pages
 * run out, a paused or else the youngest running sequence gives its pages back and is computed
 * again later.
 *
 *   submit ──> waiting ──admit──> running ──sched_remove──> (gone)
 *                 ^                  |
 *                 └────preempt───────┘
 */
#ifndef SERVER_SCHED_H
#define SERVER_SCHED_H

#include "base/list.h"
#include "server/prefix.h"

/* One timeline as the scheduler sees it; embedded in the owner's sequence. */
struct sched_seq {
    struct list_node node;
    uint32_t n_tokens; /* known so far: prompt and output */
    uint32_t n_cached; /* of them, in the pages: n_cached < n_tokens while running */
    const int32_t *tokens;
    uint32_t *page_ids;   /* room for n_pages_max; the owner's memory */
    struct hash128 *keys; /* of whole pages of known tokens, in the chain; as page_ids */
    uint32_t n_keys;
    struct hash128 root;  /* the tenant's (prefix_root) */
    uint32_t n_hit;       /* tokens found in the prefix cache when it was first admitted */
    uint32_t n_pages;     /* held */
    uint32_t n_pages_max; /* enough for the longest this sequence may get */
    bool paused;          /* its reader is slow: no rows; place and pages go to who needs them */
    bool running;
    bool admitted;  /* at least once */
    uint64_t order; /* arrival: lower is older */
};

struct sched_conf {
    uint32_t rows_max;         /* rows of one step */
    uint32_t prefill_rows_max; /* prompt rows of a step in which others decode */
    uint32_t running_max;      /* sequences with pages */
    uint32_t waiting_max;      /* unpaused sequences in line; past it sched_submit refuses */
    bool copies;               /* pages can be copied: a prefix is used up to its last token */
};

/* Figures since the start. */
struct sched_counts {
    uint64_t n_preempted;
    uint64_t n_looked_up_tokens; /* in the prefix cache, at first admissions … */
    uint64_t n_hit_tokens;       /* … and found */
};

/* Page `from` is to be copied to `to` before the step's rows run, in the order of the array. */
struct sched_copy {
    kv_page_id from, to;
};

struct sched {
    /* private */
    struct sched_conf conf;
    struct kv_pages *pages;
    struct prefix *prefix;
    struct sched_copy *copies; /* room for running_max */
    uint32_t n_copies;
    struct list waiting, running; /* both oldest first */
    uint32_t n_waiting, n_running;
    uint64_t next_order;
    struct sched_counts counts;
};

/* What one sequence does in the next step: its tokens [n_cached, n_cached + n_rows). */
struct sched_row {
    struct sched_seq *seq;
    uint32_t n_rows;
    bool wants_logits; /* the rows reach its last known token */
};

void sched_init(struct sched *s, const struct sched_conf *conf, struct kv_pages *pages,
                struct prefix *prefix);
/* No sequence may be left. */
void sched_deinit(struct sched *s);

/* Puts a sequence in line. Its longest form must fit in all pages together (asserted). False when
 * the line is full. */
MUST_CHECK bool sched_submit(struct sched *s, struct sched_seq *seq);
/* Takes a sequence out, whatever its state; its pages go back. */
void sched_remove(struct sched *s, struct sched_seq *seq);

/* Fills rows[0…n) (room for conf.running_max), admits and preempts as needed, and gives every
 * planned sequence the pages its rows need. Returns n; 0 = nothing can run now. */
uint32_t sched_plan(struct sched *s, struct sched_row *rows);
/* The pages to copy before those rows run. */
const struct sched_copy *sched_copies(const struct sched *s, uint32_t *n);
/* The step has run: the rows are cached, and found by others from now on. */
void sched_done(struct sched *s, const struct sched_row *rows, uint32_t n);

uint32_t sched_n_waiting(const struct sched *s);
uint32_t sched_n_running(const struct sched *s);
const struct sched_counts *sched_counts(const struct sched *s);
/* Walks the invariants; asserts on a broken one. For tests and debug builds. */
void sched_check(const struct sched *s);

#endif
