/* gateway.h: the front door's role on one loop: API listener, stages, servers behind it. */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "admin/admin.h"
#include "gateway/catalog.h"
#include "net/http_server.h"

/* Limits; a zero field of gateway_conf takes the default. */
enum {
    GATEWAY_BODY_BYTES_MAX = 32 << 20,   /* of a request: 413 */
    GATEWAY_EDIT_BYTES_MAX = 4 << 10,    /* that our edits add to a body */
    GATEWAY_REPLY_BYTES_MAX = 48 << 20,  /* of a whole reply from a model server: 502 */
    GATEWAY_WAIT_MS = 30000,             /* in line, and asking one that does not begin: 503 */
    GATEWAY_ATTEMPTS_MAX = 3,            /* before the first event reached the client */
    GATEWAY_PING_MS = 10000,             /* of silence on a stream: head and a comment are sent */
    GATEWAY_RESUME_MS = 30000,           /* a kept answer goes on when nobody reads it */
    GATEWAY_RESUME_MS_MAX = 600000,      /* as long as a client may ask for */
    GATEWAY_RETRIES_MAX = 1000,          /* saved up; one in five requests may be tried again */
    GATEWAY_RETRY_COST = 5,              /* requests that earn one retry */
    GATEWAY_SCRATCH_BYTES_MAX = 1 << 30, /* of one body or whole reply, parsed */
};

struct gateway_conf {
    struct addr listen;
    struct tls_keep *tls;         /* NULL = plain; must outlive the gateway's connections */
    struct gw_shared *shared;     /* of all gateways of the process; held by the gateway */
    struct lease_keeper *leases;  /* of shared's limiter, borrowed; NULL: it counts alone */
    uint32_t n_loops;             /* of the process that have a gateway; 0 = this one alone */
    struct listen_group *address; /* their common address and its cap; NULL = alone */
    uint32_t conns_max;           /* 0 = HTTP_SERVER_CONNS_MAX */
    uint64_t wait_ms, ping_ms;
    uint64_t resume_ms_max; /* a kept answer is worked on for nobody, as long as a client may ask */
    struct journal *journal;  /* borrowed; where usage is written down; NULL = nowhere */
    bool serve_unwritten;     /* requests go on when it cannot be; else 503 */
    struct jwt_verifier *jwt; /* borrowed until the gateway is gone; NULL: keys alone are taken */
};

struct gateway; /* opaque */
struct gw_shared;
struct lease_keeper;
struct journal;

/* Borrows the catalog until it is destroyed, and follows it. *bound (may be NULL) gets the address
 * with the picked port. */
RC gateway_create(struct gateway **out, struct loop *l, const struct gateway_conf *conf,
                  struct catalog *catalog, struct addr *bound, struct err *err);
/* Tells whether this machine's own model server answers; waiting requests go on when it does. */
void gateway_set_ready(struct gateway *g, bool ready);
/* Whether a new request would be answered: not while draining. */
bool gateway_is_ready(const struct gateway *g);
/* Counts what the store says was used of the running day and month. Before loop_run. Blocks. */
RC gateway_load_usage(struct gateway *g, struct meta *m, struct err *err);
/* Why a request went as it did, as a JSON object: by its x-request-id, or its record's id. False
 * when it is not in memory any more, or was not this process's: ask meta_decision_find then. */
bool gateway_explain(const struct gateway *g, struct str id, struct buf *out);
/* Finishes live requests, takes no new ones; on_drained once. Not called twice. */
void gateway_drain(struct gateway *g, uint64_t max_ms, void (*on_drained)(void *ctx), void *ctx);
/* NULL is allowed. */
void gateway_destroy(struct gateway *g);

/* An error in the API's shape, for requests that no stage has seen; `allow` is NULL, or the methods
 * that there are. */
void gateway_reply_error(struct http_exchange *x, const struct err *err, const char *allow);

/* Who asks, for the admin listener: the API's keys, tokens and lock-out. What the caller holds is a
 * struct cat, which cat_put lets go of. RC_OK with *later: caller->done follows, unless
 * gateway_authenticate_end comes first. */
RC gateway_authenticate(struct gateway *g, struct http_exchange *x, struct admin_caller *caller,
                        bool *later, struct err *err);
void gateway_authenticate_end(struct admin_caller *caller);
/* Members of an object that says how the gateway and the servers behind it are. */
void gateway_write_status(struct gateway *g, struct json_writer *w);

#endif
