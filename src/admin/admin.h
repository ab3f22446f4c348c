/* admin.h: the admin listener: health, metrics and the administration of everything, under its own
 * policy (auth/policy.h). What touches the stores runs on a worker, one request after the other. */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "admin/call.h"
#include "auth/jwt_verifier.h"
#include "net/addr.h"
#include "net/http_server.h"

enum { ADMIN_WAITING_MAX = 64 }; /* requests in line for the stores; more get 503 */

/* How a reload went; on the loop. */
typedef void (*admin_reloaded)(void *ctx, const struct err *err);

/* Who asks, found out at once or a little later; lives in the request. */
struct admin_caller {
    struct principal who; /* its texts are good until `done` returns, or as long as `held` */
    void *held;           /* keeps its roles, until it is given to put; NULL = nothing */
    /* When it was not known at once: once, on the loop; err->code says whether it is known now. */
    void (*done)(struct admin_caller *c, const struct err *err);
    /* private: of who authenticates */
    void *authenticator;
    struct addr peer;
    struct jwt_wait wait;
};

struct admin_conf {
    struct addr listen;
    bool metrics_open; /* where only this machine can reach it, /metrics needs no key */
    const struct admin_store *store; /* borrowed until the loop is destroyed */
    struct tls_keep *tls;            /* NULL = plain; must outlive the listener */
    bool (*is_ready)(void *ctx);
    /* Who asks. RC_OK: known, or *later is set and caller->done follows. Else refused. */
    enum rc (*authenticate)(void *ctx, struct http_exchange *x, struct admin_caller *caller,
                            bool *later, struct err *err);
    /* done is not to come any more; fine when it has come or is not to. */
    void (*abandon)(struct admin_caller *caller);
    void (*put)(void *ctx, void *held);
    /* Answers with an error in the API's shape; `allow` is NULL or the methods that there are. */
    void (*reply_error)(struct http_exchange *x, const struct err *err, const char *allow);
    /* Members of an object that says how the gateway is. */
    void (*write_status)(void *ctx, struct json_writer *w);
    void (*drain)(void *ctx);
    /* Calls done once, later. RC_CONFLICT while another is under way: then never. */
    enum rc (*reload)(void *ctx, admin_reloaded done, void *done_ctx, struct err *err);
    void *ctx;
};

struct admin; /* opaque */

/* *bound (may be NULL) gets the address with the picked port. */
RC admin_create(struct admin **out, struct loop *l, const struct admin_conf *conf,
                struct addr *bound, struct err *err);
/* Before loop_destroy, which ends what is on a worker. NULL is allowed. */
void admin_destroy(struct admin *a);

#endif
