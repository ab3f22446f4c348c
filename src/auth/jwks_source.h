/* jwks_source.h: where an issuer's keys come from: files read at start, or a URL that is asked
 * again and again.
 *
 *   absent ──fetched──> fresh ──max-age──> asked again; what is there stays in force (stale while
 *      ^                                   error) until JWKS_STALE_S after the last answer
 *      └──────── too old ──────────────────┘
 *
 * One request at a time, on a worker. A token with an unknown key may ask for one more, but not
 * within JWKS_PAUSE_MS of the last, so that nobody can make us knock at an issuer's door at will.
 * Belongs to one loop. One on another loop may follow it: it has the same keys a moment later, and
 * what it wants fetched, the first one fetches, by the same rules. */
#ifndef AUTH_JWKS_SOURCE_H
#define AUTH_JWKS_SOURCE_H

#include "auth/jwt.h"
#include "net/loop.h"

/* Limits; a zero field of jwks_source_conf takes the default. */
enum {
    JWKS_PAUSE_MS = 30000,  /* between two requests, however many unknown keys are named */
    JWKS_TIMEOUT_MS = 5000, /* of one request */
    JWKS_RETRY_MS = 30000,  /* after a failure; doubles up to JWKS_RETRY_MS_MAX */
    JWKS_RETRY_MS_MAX = 300000,
    JWKS_STALE_S = 86400,  /* keys are used that long behind the last good answer */
    JWKS_FRESH_S_MIN = 60, /* of what cache-control says */
};

struct jwks_source_conf {
    const struct jwt_issuer *issuer; /* copied */
    uint64_t pause_ms, timeout_ms, retry_ms, stale_ms;
    void (*on_done)(void *ctx); /* a request is over, well or not, or keys have become too old */
    void *ctx;
};

struct jwks_source; /* opaque */

/* Reads the files (blocks), or begins the first request: jwks_source_keys is NULL until its end. */
RC jwks_source_create(struct jwks_source **out, struct loop *l, const struct jwks_source_conf *conf,
                      struct err *err);
/* One on another loop that follows `leader`, which must outlive it. Of conf, on_done and ctx alone
 * are read. While neither loop runs. */
RC jwks_source_follow(struct jwks_source **out, struct loop *l, struct jwks_source *leader,
                      const struct jwks_source_conf *conf, struct err *err);
/* A request under way is stopped; memory goes back when it has ended. NULL is allowed. */
void jwks_source_destroy(struct jwks_source *s);
/* Borrowed until the loop's next turn; NULL = none are known. */
struct jwks *jwks_source_keys(const struct jwks_source *s);
/* Counts up whenever other keys are in force: what was proved by older ones is to be proved anew.
 */
uint32_t jwks_source_version(const struct jwks_source *s);
/* A key is not among those in force. True: a request is under way now, on_done will come. */
bool jwks_source_refresh(struct jwks_source *s);
bool jwks_source_is_asking(const struct jwks_source *s);

#endif
