/* admin.h: the admin listener: health, and metrics for those who may read them. */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "net/addr.h"
#include "net/http_server.h"

struct admin_conf {
    struct addr listen;
    bool (*is_ready)(void *ctx);
    /* RC_OK when the request may read metrics; else why not. */
    enum rc (*may_read_metrics)(void *ctx, const struct http_head *head, struct err *err);
    /* Answers with an error in the API's shape. */
    void (*reply_error)(struct http_exchange *x, const struct err *err);
    void *ctx;
};

struct admin; /* opaque */

/* *bound (may be NULL) gets the address with the picked port. */
RC admin_create(struct admin **out, struct loop *l, const struct admin_conf *conf,
                struct addr *bound, struct err *err);
/* NULL is allowed. */
void admin_destroy(struct admin *a);

#endif
