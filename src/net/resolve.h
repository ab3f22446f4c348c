/* resolve.h: where a named host is, looked up on a worker again and again; what was found stays
 * good while the resolver is away.
 *
 * The system's resolver tells no lifetime: names are asked for every RESOLVE_MS, after a failure
 * every RESOLVE_RETRY_MS. */
#ifndef NET_RESOLVE_H
#define NET_RESOLVE_H

#include "net/addr.h"

struct loop;
struct resolve; /* opaque */

enum {
    RESOLVE_MS = 30000,
    RESOLVE_RETRY_MS = 2000,
    RESOLVE_ADDRS_MAX = 8, /* of one name; more are dropped */
};

/* What a name has become; never before resolve_start has returned, and only when it differs from
 * what was told last. */
typedef void (*resolve_cb)(void *ctx, const struct addr *addrs, uint32_t n);

/* `text` is HOST:PORT, at most 300 bytes; copied. */
RC resolve_start(struct resolve **out, struct loop *l, struct str text, resolve_cb cb, void *ctx,
                 struct err *err);
/* No callback after this. NULL is allowed. */
void resolve_stop(struct resolve *r);

#endif
