/* sched.h: which sequences run in the next step, and with how many tokens each.
 *
 * Pure code: no tensor, no socket, no thread, no clock of its own; thousands of simulated requests
 * a second in its tests. Every decoding sequence gets its row in each step; prompts fill what is
 * left of a budget in nanoseconds (cost.h), shortest first; drafts of coming tokens ride along
 * where they cost less than they gain.
 *
 *   submit ──> waiting ──admit──> running ──sched_remove──> (gone)
 *                 ^                  |
 *                 └────preempt───────┘
 *
 * Admission goes by level, then by tenant (fair.h), then by arrival. A level is the class of the
 * request, one better for every aging_ns that it has been here: 0 is the best. Who needs a place
 * or pages takes them from paused sequences, then from the worst level, there from who was
 * admitted last; what was computed stays in the prefix cache.
 *
 * Files: sched.c (lines, admission), sched_prefix.c (with the prefix cache), sched_plan.c (a
 * step's rows). */
#ifndef SERVER_SCHED_H
#define SERVER_SCHED_H

#include "base/list.h"
#include "server/cost.h"
#include "server/fair.h"
#include "server/prefix.h"

enum { SCHED_CLASSES = 3, SCHED_DRAFT_MAX = 7 };

/* One timeline as the scheduler sees it; embedded in the owner's sequence. */
struct sched_seq {
    /* The owner's. */
    const int32_t *tokens;      /* known ones, and n_draft behind them */
    uint32_t n_tokens;          /* known so far: prompt and output */
    uint32_t n_tokens_max;      /* the longest this sequence may get */
    uint32_t *page_ids;         /* room for n_pages_max */
    struct hash128 *keys;       /* of whole pages of known tokens, in the chain; as page_ids */
    uint32_t n_pages_max;       /* enough for n_tokens_max */
    struct hash128 root;        /* the tenant's (prefix_root) */
    struct fair_tenant *tenant; /* held by the owner */
    uint32_t class;             /* 0 = served first */
    uint32_t n_draft;           /* guesses for the next tokens; at most SCHED_DRAFT_MAX */
    float draft_chance;         /* of a guess being right, 0 to 1 */
    bool paused; /* its reader is slow: no rows; place and pages go to who needs them */

    /* The scheduler's. */
    struct list_node node;
    uint32_t n_prompt; /* n_tokens when submitted */
    uint32_t n_cached; /* tokens in the pages: n_cached < n_tokens while running */
    uint32_t n_pages;  /* held */
    uint32_t n_keys;
    uint32_t n_hit;      /* tokens found in the prefix cache when it was first admitted */
    uint32_t n_to_read;  /* as expected when submitted: prompt tokens not in the cache */
    uint32_t n_charged;  /* tokens that the tenant was charged for, or got from the cache */
    uint64_t arrived_ns; /* monotonic */
    uint64_t order;      /* of arrival */
    uint64_t stamp;      /* of first admission; 0 = not yet */
    uint64_t set_aside;  /* the turn in which it was: passed over, or its prompt is planned */
    bool running;
};

struct sched_conf {
    uint32_t rows_max;           /* of one step */
    uint32_t logits_max;         /* rows of one step whose logits can be had; >= running_max */
    uint32_t running_max;        /* sequences with pages */
    uint32_t tenant_running_max; /* … of one tenant; 0 = all */
    uint32_t waiting_max;        /* unpaused sequences in line; one tenant: three quarters */
    uint64_t aging_ns;           /* of waiting for the next better level; > 0 */
    bool copies;                 /* pages can be copied: prefixes are used to the last token */
};

/* Figures since the start. */
struct sched_counts {
    uint64_t n_preempted;
    uint64_t n_looked_up_tokens; /* in the prefix cache, at first admissions … */
    uint64_t n_hit_tokens;       /* … and found */
};

/* What one sequence does in the next step: its tokens [n_cached, n_cached + n_rows). */
struct sched_row {
    struct sched_seq *seq;
    uint32_t n_rows;
    uint32_t n_draft;  /* of them: guesses at the end */
    bool wants_logits; /* of the last known token and of the guesses: 1 + n_draft rows */
};

/* Page `from` is to be copied to `to` before the step's rows run, in the order of the array. */
struct sched_copy {
    kv_page_id from, to;
};

struct sched_plan {
    struct sched_row *rows; /* room for running_max; the scheduler's memory, as the next */
    struct sched_copy *copies;
    uint32_t n_rows, n_copies;
    struct cost_load load;
    double predicted_ns;
};

struct sched {
    /* private */
    struct sched_conf conf;
    struct kv_pages *pages;
    struct prefix *prefix;
    struct cost *cost;
    struct sched_plan plan;
    struct list waiting, running; /* by order; by stamp */
    uint32_t n_waiting, n_running;
    uint64_t now_ns; /* of the plan */
    uint64_t turn, next_order, next_stamp;
    double growth;      /* share of its possible output that a sequence is expected to make */
    double output_mean; /* tokens of the answers that ended lately */
    struct sched_counts counts;
};

/* Everything is borrowed for the scheduler's life. */
void sched_init(struct sched *s, const struct sched_conf *conf, struct prefix *prefix,
                struct cost *cost);
/* No sequence may be left. */
void sched_deinit(struct sched *s);

/* Puts a sequence in line. Its longest form must fit in all pages together (asserted). False when
 * the line is full for its tenant. */
MUST_CHECK bool sched_submit(struct sched *s, struct sched_seq *seq, uint64_t now_ns);
/* Takes a sequence out, whatever its state; its pages go back. */
void sched_remove(struct sched *s, struct sched_seq *seq);

/* Plans a step of about budget_ns while somebody decodes, of four times that else: admits and
 * preempts as needed, and gives every planned sequence the pages its rows need. No rows = nothing
 * can run now. Valid until the next call. */
const struct sched_plan *sched_plan(struct sched *s, uint64_t now_ns, uint64_t budget_ns);
/* The plan has run: its rows but the guesses are cached, and found by others from now on. */
void sched_done(struct sched *s);
/* Behind sched_done, for each guess that proved right, once it is a known token (n_tokens counts
 * it): its row counts. */
void sched_accept(struct sched *s, struct sched_seq *seq);

/* The level of a sequence at a time. */
uint32_t sched_level(const struct sched *s, const struct sched_seq *seq, uint64_t now_ns);
/* Tokens of the prompt that would have to be computed if it were admitted now. */
uint32_t sched_n_to_read(struct sched *s, struct sched_seq *seq);
uint32_t sched_n_waiting(const struct sched *s);
uint32_t sched_n_running(const struct sched *s);
const struct sched_counts *sched_counts(const struct sched *s);
/* Walks the invariants; asserts on a broken one. For tests and debug builds. */
void sched_check(const struct sched *s);

#endif
