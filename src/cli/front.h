/* front.h: the front door as `bud serve` and `bud gateway` run it: settings, stores, first key,
 * catalogue, API and admin listeners, reload on SIGHUP. One loop is here and has all of that; the
 * gateway may have more, each on a thread of its own. */
#ifndef CLI_FRONT_H
#define CLI_FRONT_H

#include <limits.h>

#include "admin/admin.h"
#include "cli/settings.h"
#include "gateway/group.h"

struct jwt_verifier;
struct tls_keep;

struct front {
    const struct args *args;
    struct settings settings;
    char home[PATH_MAX];
    char meta_path[PATH_MAX + 16];
    struct loop *loop;
    struct gateway_group *gateway; /* NULL until front_start is through that */
    struct addr bound, admin_bound;
    char first_key[KEY_TEXT_BYTES]; /* "" once it was shown, or when there were keys already */
    /* private */
    struct addr listen, admin_listen;
    struct tls_keep *api_tls, *admin_tls; /* NULL = plain */
    struct meta *meta;
    struct kms *kms;
    struct secret pepper;
    struct catalog *catalog;
    struct cat_local local;
    struct journal *journal;
    struct admin *admin;
    struct jwt_verifier *jwt; /* NULL: no issuers */
    struct redis *redis;      /* NULL: none is named */
    struct audit *audit;
    struct meta *admin_meta; /* the administration's own connection */
    struct admin_store admin_store;
    admin_reloaded on_reloaded; /* who waits for the reload under way; NULL = nobody */
    void *on_reloaded_ctx;
    struct loop_timer log_timer;
    char first_key_id[META_KEY_ID_BYTES];
    bool makes_key, reloading;
    bool one_loop;         /* unless the settings say how many: the cores are somebody else's */
    struct settings fresh; /* being applied */
    struct err reload_err;
};

/* Settings and data folder; logging is set up. */
RC front_init(struct front *f, const struct args *a, struct err *err);
/* Stores and keys. makes_key: a first key is made when there is none and no file names one. */
RC front_open_stores(struct front *f, bool makes_key, struct err *err);
/* Loop, catalogue (its file is applied first), listeners. `local` is copied, its strings stay. */
RC front_start(struct front *f, const struct cat_local *local, struct err *err);
/* Prints where it listens and, once ever, the first key. */
void front_announce(struct front *f);
/* Forwards from front_init on; a first key that nobody has seen is taken back. Fine when half
 * built. */
void front_end(struct front *f);

/* front_redis.c: the Redis client, before the gateway is made, and how limits are shared in it. */
RC front_start_redis(struct front *f, struct err *err);
void front_lease_conf(const struct front *f, struct lease_conf *out, char store[LEASE_ID_BYTES]);

/* The folder of the usage journal. */
void front_usage_dir(const char *home, char out[PATH_MAX + 16]);

/* Stores for commands that look in or change something beside a running front door. */
struct front_stores {
    struct meta *meta;
    struct kms *kms;
    struct secret pepper;
    struct audit *audit;
    struct admin_store admin; /* of all these */
};
RC front_stores_open(struct front_stores *s, struct err *err);
/* The same, with the records settled that ended processes left open. */
RC front_stores_open_settled(struct front_stores *s, struct err *err);
void front_stores_close(struct front_stores *s);

#endif
