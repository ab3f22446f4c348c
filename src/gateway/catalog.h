/* catalog.h: the catalogue in force at one gateway, and the store's connection behind it.
 *
 * The store is looked at every second, on a worker; when keys or objects have changed, the whole
 * catalogue is built anew and put in force at once. One that cannot be built is reported and
 * changes nothing. The same worker notes last uses. */
#ifndef GATEWAY_CATALOG_H
#define GATEWAY_CATALOG_H

#include "gateway/catalog_build.h"
#include "net/loop.h"

enum {
    CATALOG_POLL_MS = 1000,
    CATALOG_TOUCHES_MAX = 1024, /* keys whose use is noted in one poll; others wait for the next */
};

struct catalog; /* opaque */

struct catalog_conf {
    const struct secret *pepper;
    const struct kms *kms;        /* borrowed until the catalog is gone; NULL: no sealed keys */
    struct cat_local local;       /* models are copied, their strings must stay */
    void (*on_change)(void *ctx); /* another snapshot is in force; may be NULL */
    void *ctx;
};

/* Takes the store's connection over on success, and loads the first snapshot at once. */
RC catalog_create(struct catalog **out, struct loop *l, struct meta *meta,
                  const struct catalog_conf *conf, struct err *err);
/* Before loop_destroy. A poll under way ends first. NULL is allowed. */
void catalog_destroy(struct catalog *c);
/* The snapshot in force; valid until the loop's next turn, longer with cat_hold. */
struct cat *catalog_now(const struct catalog *c);
/* Names who is told of changes; NULLs for nobody. */
void catalog_set_owner(struct catalog *c, void (*on_change)(void *ctx), void *ctx);
/* Notes that a key was used; written with the next poll. */
void catalog_touch(struct catalog *c, const char *key_id);

#endif
