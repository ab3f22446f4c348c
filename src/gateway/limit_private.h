/* limit_private.h: the inside of a limiter, for limit.c, limit_lease.c and the lease_ files.
 * Everything here is behind limiter.lock. */
#ifndef GATEWAY_LIMIT_PRIVATE_H
#define GATEWAY_LIMIT_PRIVATE_H

#include <pthread.h>

#include "base/list.h"
#include "gateway/limit.h"
#include "gateway/limit_lows.h"

#define LIMIT_MINUTE_NS 60000000000u
#define LIMIT_DAY_S     86400

/* What is leased, in the order of the script's arguments (lease_wire.c). */
enum limit_unit {
    LIMIT_UNIT_REQUESTS, /* of a minute */
    LIMIT_UNIT_TOKENS,   /* of a minute */
    LIMIT_UNIT_DAY,      /* tokens */
    LIMIT_UNIT_MONEY,    /* of the month, billionths */
    LIMIT_UNIT_SLOTS,    /* requests at once */
    LIMIT_UNITS,
};

/* A subject's units of one kind that this process has. idle + reserved is at most what the store
 * has down for us; sums of clamped int64_t, hence wider. */
struct limit_lease {
    __int128 idle;     /* to be had here without asking */
    __int128 reserved; /* by tickets; 0 for minutes, whose units count as used at once */
    __int128 used;     /* and not told yet */
    __int128 back;     /* minutes: of what was told as used, not told yet either */
    __int128 sent_used, sent_back; /* told, and not answered yet */
    uint64_t taken, taken_before;  /* in this window and the last */
    uint64_t free;                 /* in the store, when it last answered */
    bool spent;                    /* it gave less than was needed */
    bool tight;                    /* little is left: nothing is kept idle */
    bool elsewhere;                /* other gateways had some idle */
};

/* Units times nanoseconds: `n` of a limit fill n * LIMIT_MINUTE_NS; each ns drains the limit. */
struct limit_meter {
    uint64_t level;
    uint64_t at_ns;
    uint64_t limit; /* under which it was filled */
};

/* What all gateways together had used, as the store said last: it is told so if it loses that. */
struct limit_heard {
    uint64_t epoch; /* of the store's count; 0 = nothing was heard yet */
    struct limit_meter requests, tokens;
    int64_t day, month; /* which these are of */
    uint64_t day_used, month_used;
};

struct limit_leases {
    struct limit_bucket *bucket;
    struct limit_heard heard;
    struct limit_lease of[LIMIT_UNITS];
    struct cat_limits limits; /* as last seen */
    struct list_node live;    /* on limiter.live while anything above is not 0 */
    uint64_t seq;             /* of what was told last */
    uint64_t window;          /* of taken */
    bool sent;                /* seq is not answered yet */
    bool stale;               /* the store may have forgotten what is reserved */
    bool in_batch;
    __int128 need[LIMIT_UNITS]; /* of who waits, while it is being asked for */
    __int128 kept[LIMIT_UNITS]; /* idle when it was sent */
    uint64_t wanted[LIMIT_UNITS];
};

struct limit_bucket {
    char name[LIMIT_NAME_BYTES];
    struct limit_meter requests, tokens;
    struct limit_lows lows; /* of tokens */
    uint32_t n_running;
    int64_t day, month; /* which the counts below are of */
    uint64_t day_used, day_reserved;
    int64_t month_used;
    __int128 month_reserved;     /* one ticket alone may fill an int64_t */
    struct limit_leases *leases; /* NULL: this process counts alone */
};

enum limit_mode {
    LIMIT_ALONE,  /* no store is shared */
    LIMIT_LEASED, /* what is idle here is ours; more is to be asked for */
    LIMIT_SHUT,   /* the store is away: what is idle here, until valid_ns; else refused */
    LIMIT_OPEN,   /* the store is away: this process's share of each limit */
};

struct limiter {
    pthread_mutex_t lock; /* of the map and of every bucket */
    struct map buckets;   /* by name */
    enum limit_mode mode;
    enum limit_mode away; /* what leased becomes without answers: LIMIT_SHUT or LIMIT_OPEN */
    uint64_t valid_ns;    /* leases may be used until then */
    uint64_t n_gateways;  /* LIMIT_OPEN: the share is one of so many */
    uint32_t n_live;
    struct list live; /* limit_leases in use */
};

/* limit.c; the lock is held. `last`: cut to what is idle here, or refuse; else LIMIT_ASK. */
MUST_CHECK bool limit_reserve_all(struct limiter *l, const struct limit_subject *subjects,
                                  uint32_t n, const struct limit_ask *ask, struct limit_time now,
                                  bool last, struct limit_ticket *t, struct limit_result *r);
bool limit_is_none(const struct cat_limits *l);
struct limit_bucket *limit_bucket_find(struct limiter *l, struct str name);
bool limit_refuse(struct limit_result *r, enum limit_kind kind, uint64_t limit, uint64_t left,
                  uint64_t retry_ns);
bool limit_cut(uint64_t left, const struct limit_ask *ask, uint64_t *output);
bool limit_cut_money(int64_t left, const struct limit_ask *ask, uint64_t *output);
uint64_t limit_day_end_ns(struct limit_time now);
/* Whole units that have not drained. */
uint64_t limit_meter_units(const struct limit_meter *m, uint64_t limit, uint64_t now_ns);
/* Holds so many from now on. */
void limit_meter_set(struct limit_meter *m, uint64_t limit, uint64_t units, uint64_t now_ns);

/* limit_lease.c */
MUST_CHECK bool limit_lease_open(struct limit_bucket *b);
MUST_CHECK bool limit_lease_check(struct limiter *l, struct limit_bucket *b,
                                  const struct cat_limits *limits, const struct limit_ask *ask,
                                  struct limit_time now, bool last, uint64_t *output,
                                  struct limit_result *r);
void limit_lease_take(struct limiter *l, struct limit_bucket *b, const struct limit_ticket *t);
/* `back`: units of the minute that have not drained. */
void limit_lease_settle(struct limiter *l, struct limit_bucket *b, const struct limit_ticket *t,
                        uint64_t tokens, int64_t cost, uint64_t back);
/* What a request may come to, in each unit. */
void limit_lease_needs(const struct limit_ask *ask, uint64_t output, uint64_t need[LIMIT_UNITS]);
uint64_t limit_lease_limit(const struct cat_limits *l, enum limit_unit unit);
/* What the whole limit has left, as far as is known here. */
uint64_t limit_lease_left(const struct limit_lease *lease, uint64_t limit);
enum limit_mode limit_mode_now(const struct limiter *l, uint64_t now_ns);

#endif
