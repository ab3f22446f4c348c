/* tls_keep.h: the TLS context in force on one loop, and how another one takes its place: when asked
 * (SIGHUP), when a file has changed, and each TLS_KEEP_S so that ticket keys grow not old.
 *
 * Files are read on a worker. One that cannot be read or does not fit leaves the old context in
 * force; the failure is logged and counted, and the next look tries again. */
#ifndef NET_TLS_KEEP_H
#define NET_TLS_KEEP_H

#include "net/tls.h"

struct loop;
struct tls_keep; /* opaque */

/* Limits; a zero field of tls_keep_conf takes the default. */
enum {
    TLS_KEEP_LOOK_MS = 10000, /* between looks at the files */
    TLS_KEEP_S = 12 * 3600,   /* a context's age at most */
};

struct tls_keep_conf {
    struct tls_conf tls; /* copied */
    uint64_t look_ms;
    /* Not loaded by create, but on a worker at once; until then tls_keep_now is NULL. */
    bool later;
    void (*on_load)(void *ctx); /* another context is in force; may be NULL */
    void *ctx;
};

/* Without `later` it blocks, and fails as tls_ctx_load does. */
RC tls_keep_create(struct tls_keep **out, struct loop *l, const struct tls_keep_conf *conf,
                   struct err *err);
/* One on another loop that has in force what `leader` has, which must outlive it: one context for
 * all loops, so that a session's ticket is good at each. While neither loop runs. */
RC tls_keep_follow(struct tls_keep **out, struct loop *l, struct tls_keep *leader, struct err *err);
/* No on_load after this. Connections keep what they have. NULL is allowed. */
void tls_keep_destroy(struct tls_keep *k);
/* Borrowed for the turn; NULL while nothing is loaded. */
struct tls_ctx *tls_keep_now(const struct tls_keep *k);
/* Loads anew, changed or not. Not for one that follows. */
void tls_keep_reload(struct tls_keep *k);
/* Loads so far that took effect, the first included. */
uint64_t tls_keep_loads(const struct tls_keep *k);

#endif
