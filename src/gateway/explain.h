/* explain.h: why requests went as they did: a decision record for each, kept in a ring in memory;
 * those of failed, slow and a share of other requests go to the store as well, by the journal.
 *
 * While a request is under way its notes lie in struct gw_why; at its end they become one row.
 * Requests of whoever is not known are not kept. Never a prompt, a reply or a key.
 * Any thread. */
#ifndef GATEWAY_EXPLAIN_H
#define GATEWAY_EXPLAIN_H

#include "base/json.h"
#include "gateway/limit.h"

struct gw_attempt;
struct gw_request;
struct explain; /* opaque */

/* Limits. */
enum {
    EXPLAIN_ROWS = 2048,        /* in memory; the oldest go */
    EXPLAIN_TRIES_MAX = 4,      /* of a request; the last one stays */
    EXPLAIN_SLOW_MS = 10000,    /* to the first event, or the whole reply: kept in the store */
    EXPLAIN_STORED_PER_S = 10,  /* of requests that are neither failed nor slow */
    EXPLAIN_FAILED_PER_S = 100, /* of those that are */
    EXPLAIN_WHAT_BYTES = 64,
};

/* Why a version was taken. */
enum explain_version {
    EXPLAIN_VERSION_NONE,
    EXPLAIN_VERSION_ONLY,     /* there is no other */
    EXPLAIN_VERSION_ASKED,    /* model@version */
    EXPLAIN_VERSION_WEIGHT,   /* drawn */
    EXPLAIN_VERSION_OTHER,    /* the one drawn had no server that was well */
    EXPLAIN_VERSION_FALLBACK, /* the model had none at all */
};

struct explain_try {
    char upstream[CAT_NAME_BYTES_MAX + 1];
    char what[EXPLAIN_WHAT_BYTES]; /* how it broke; "" = it did not */
    uint64_t started_ns, ended_ns; /* ended 0 = under way */
    int status;                    /* 0 = no head came */
};

/* In struct gw_request. */
struct gw_why {
    enum explain_version version;
    uint32_t n_well, n_servers; /* of the version's servers, when one was chosen */
    uint32_t outstanding;       /* at the one chosen */
    bool limited;               /* [limit] was run; the rest is how */
    struct limit_result limit;
    uint64_t asked_output_tokens;
    struct explain_try tries[EXPLAIN_TRIES_MAX];
    uint32_t n_tries; /* also those that have no room above */
};

void explain_create(struct explain **out);
/* NULL is allowed. */
void explain_destroy(struct explain *e);

/* An attempt begins, and ends: `what` NULL = well. */
void explain_try_begin(struct gw_attempt *a);
void explain_try_end(struct gw_attempt *a, const char *what);
/* The request is over; http_status as the access line tells it. */
void explain_put(struct gw_request *r, int http_status);
/* The newest row of that request or record as a JSON object; false when it is not in memory. */
bool explain_find(struct explain *e, struct str id, struct buf *out);

#endif
