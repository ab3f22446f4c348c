/* catalog.h: the catalogue in force in this process, and the store's connection behind it. One loop
 * has it; the gateways of all loops read along.
 *
 * The store is looked at every second, on a worker; when keys or objects have changed, the whole
 * catalogue is built anew and put in force at once. One that cannot be built is reported and
 * changes nothing. The same worker notes last uses. */
#ifndef GATEWAY_CATALOG_H
#define GATEWAY_CATALOG_H

#include "gateway/catalog_build.h"
#include "net/loop.h"
#include "net/relay.h"

enum {
    CATALOG_POLL_MS = 1000,
    CATALOG_TOUCHES_MAX = 1024, /* keys whose use is noted in one poll; others wait for the next */
};

struct catalog; /* opaque */

struct catalog_conf {
    const struct secret *pepper;
    const struct kms *kms;  /* borrowed until the catalog is gone; NULL: no sealed keys */
    struct cat_local local; /* models are copied, their strings must stay */
};

/* Takes the store's connection over on success, and loads the first snapshot at once. */
RC catalog_create(struct catalog **out, struct loop *l, struct meta *meta,
                  const struct catalog_conf *conf, struct err *err);
/* Before loop_destroy. A poll under way ends first. NULL is allowed. */
void catalog_destroy(struct catalog *c);
/* The snapshot in force; valid until the loop's next turn, longer with cat_hold. */
struct cat *catalog_now(const struct catalog *c);
/* Every snapshot from now on goes to a loop: on_cat, on that loop, has a reference of it (a struct
 * cat) now. While neither loop runs, or both are the caller's. Ends with relay_destroy, before
 * catalog_destroy. */
RC catalog_follow(struct catalog *c, struct relay **out, struct loop *to,
                  void (*on_cat)(void *ctx, void *cat), void *ctx, struct err *err);
/* Notes that a key was used; written with the next poll. Any thread. */
void catalog_touch(struct catalog *c, struct cat_key *k);

#endif
