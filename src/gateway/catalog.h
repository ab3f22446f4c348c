/* catalog.h: what the gateway knows of tenants: today the API keys, as a snapshot that is swapped
 * whole when the store changes (looked at every second, on a worker). */
#ifndef GATEWAY_CATALOG_H
#define GATEWAY_CATALOG_H

#include "auth/key.h"
#include "net/loop.h"

enum { CATALOG_POLL_MS = 1000 };

struct catalog; /* opaque */

/* Takes the store's connection over on success, and loads the first snapshot at once. */
RC catalog_create(struct catalog **out, struct loop *l, struct meta *meta,
                  const struct secret *pepper, struct err *err);
/* Before loop_destroy. NULL is allowed. */
void catalog_destroy(struct catalog *c);
/* The snapshot in force; valid until the loop's next turn. */
const struct keyring *catalog_keys(const struct catalog *c);

#endif
