/* limit.h: how much each key, user, project, model and upstream may use: reserve, then settle.
 *
 *   limit_reserve ──refused──> 429, nothing was counted
 *        │ a ticket: the most that the request may use is set aside, at every subject or at none
 *        v
 *   limit_settle: what was not used goes back, what was used stays
 *
 * Minutes are a leaky bucket that holds one minute's worth and drains steadily (GCRA, ITU-T I.371
 * annex A, in integers without rounding: a level is counted in units times nanoseconds). Days and
 * months follow the UTC calendar. Money is in billionths.
 *
 * Exact: whatever runs at the same time, what is set aside and used together never passes a limit,
 * as long as no request uses more than its ticket says. Counters belong to one process, unless
 * it leases its part of each limit from a store that several share (lease.h). Not here: who the
 * subjects are. Pure: time comes in as an argument. Any thread: one lock, held for microseconds. */
#ifndef GATEWAY_LIMIT_H
#define GATEWAY_LIMIT_H

#include "base/map.h"
#include "gateway/catalog_rows.h"

enum {
    LIMIT_SUBJECTS_MAX = 5,      /* of one request */
    LIMIT_BUCKETS_MAX = 1 << 20, /* subjects remembered; past it a request is refused */
    LIMIT_NAME_BYTES = 96,
};

struct limiter; /* opaque */

struct limit_time {
    uint64_t mono_ns;
    int64_t wall_s;
};

struct limit_subject {
    struct str name; /* unique: "key:…"; copied */
    const struct cat_limits *limits;
    bool here; /* looked at by this process alone, whatever it shares with others */
};

/* What a request may come to. */
struct limit_ask {
    uint64_t prompt_tokens; /* at most */
    uint64_t output_tokens; /* at most; fewer may be granted, one at least unless 0 are asked */
    struct cat_price price;
};

/* Borrowed by limiter until it is settled. Zeroed = nothing is set aside. */
struct limit_ticket {
    /* private */
    struct limit_bucket *buckets[LIMIT_SUBJECTS_MAX];
    uint64_t per_minute[LIMIT_SUBJECTS_MAX]; /* tokens, when it was reserved */
    uint64_t put[LIMIT_SUBJECTS_MAX];        /* of these */
    bool leased[LIMIT_SUBJECTS_MAX];         /* its units are of a lease */
    uint32_t n;
    uint64_t tokens;
    int64_t cost;
};

enum limit_kind {
    LIMIT_NONE,
    LIMIT_REQUESTS,
    LIMIT_TOKENS,
    LIMIT_DAY,
    LIMIT_CONCURRENT,
    LIMIT_MONEY,
    LIMIT_ROOM, /* LIMIT_BUCKETS_MAX */
    LIMIT_ASK,  /* too little is leased: lease_wait_start asks for more */
    LIMIT_AWAY, /* the store that is shared does not answer, and policy is to refuse then */
};

/* How a reservation came out. */
struct limit_result {
    enum limit_kind refused; /* LIMIT_NONE: granted */
    uint32_t subject;        /* which refused */
    uint64_t limit, left;    /* of what refused, in its unit */
    uint64_t retry_ns;       /* when the same may be granted, if nothing else happens */
    uint64_t output_tokens;  /* granted */
};

/* What headers tell: the subject with the least left. has_* false: no such limit. */
struct limit_state {
    bool has_requests, has_tokens;
    uint64_t requests_limit, requests_left, requests_reset_ns;
    uint64_t tokens_limit, tokens_left, tokens_reset_ns;
};

void limiter_create(struct limiter **out, uint64_t seed);
/* Every ticket was settled. NULL is allowed. */
void limiter_destroy(struct limiter *l);

/* All or nothing. Subjects without limits are skipped. *r always tells; true when granted. */
MUST_CHECK bool limit_reserve(struct limiter *l, const struct limit_subject *subjects, uint32_t n,
                              const struct limit_ask *ask, struct limit_time now,
                              struct limit_ticket *t, struct limit_result *r);
/* What the request has used. The ticket is empty afterwards; an empty one is fine. */
void limit_settle(struct limiter *l, struct limit_ticket *t, uint64_t tokens, int64_t cost,
                  struct limit_time now);
/* For headers: as things stand. */
void limit_look(struct limiter *l, const struct limit_subject *subjects, uint32_t n,
                struct limit_time now, struct limit_state *out);
/* Adds what was used of the running day and month before this process began. False at
 * LIMIT_BUCKETS_MAX. */
MUST_CHECK bool limit_load(struct limiter *l, struct str name, uint64_t day_tokens,
                           int64_t month_cost, struct limit_time now);
/* Tokens times price, rounded up to a billionth; saturates. */
int64_t limit_cost(const struct cat_price *p, uint64_t input, uint64_t cached, uint64_t output);
/* Months since year 0, and the second in which the next one begins. */
int64_t limit_month(int64_t wall_s);
int64_t limit_month_end(int64_t wall_s);
/* The second in which this one began. */
int64_t limit_month_start(int64_t wall_s);

#endif
