/* admin.c: see admin.h. */
#include "admin/admin.h"

#include "admin/health.h"
#include "base/mem.h"
#include "net/http_route.h"
#include "net/loop.h"
#include "obs/metric.h"

enum { ADMIN_PAGE_BYTES_MAX = 16 << 20 };

struct admin {
    struct loop *loop;
    struct admin_conf conf;
    struct http_server *http;
    struct loop_task reclaim;
};

static void admin_metrics(struct admin *a, struct http_exchange *x)
{
    struct err err = {0};
    if (a->conf.may_read_metrics(a->conf.ctx, http_exchange_head(x), &err) != RC_OK) {
        a->conf.reply_error(x, &err);
        return;
    }
    struct buf page;
    buf_init(&page, ADMIN_PAGE_BYTES_MAX);
    metric_expose(&page);
    http_route_reply(x, 200, STR_LIT("text/plain; version=0.0.4; charset=utf-8"), buf_str(&page));
    buf_deinit(&page);
}

static void admin_handle(void *ctx, struct http_exchange *x)
{
    struct admin *a = ctx;
    const struct http_head *head = http_exchange_head(x);
    if (health_handle(x, a->conf.is_ready(a->conf.ctx))) {
        return;
    }
    struct err err = {0};
    if (!str_is(head->path, "/metrics")) {
        err_set(&err, RC_NOT_FOUND, "Unknown request URL: %s %.*s.", http_method_name(head->method),
                (int)MIN(head->path.len, (size_t)200), head->path.ptr);
        a->conf.reply_error(x, &err);
    } else if (!http_route_method(HTTP_METHOD_GET, head->method)) {
        err_set(&err, RC_METHOD, "Use GET.");
        a->conf.reply_error(x, &err);
    } else {
        admin_metrics(a, x);
    }
}

enum rc admin_create(struct admin **out, struct loop *l, const struct admin_conf *conf,
                     struct addr *bound, struct err *err)
{
    *out = NULL;
    struct admin *a = mem_zalloc(sizeof(*a));
    a->loop = l;
    a->conf = *conf;
    struct http_server_conf http = {.handler = admin_handle, .handler_ctx = a};
    struct listen_conf listen = {.addr = conf->listen};
    enum rc rc = http_server_create(&a->http, l, &http, err);
    rc = rc == RC_OK ? http_server_listen(a->http, &listen, bound, err) : rc;
    if (rc != RC_OK) {
        admin_destroy(a);
        return rc;
    }
    *out = a;
    return RC_OK;
}

static void admin_reclaim(void *ctx)
{
    mem_free(ctx);
}

void admin_destroy(struct admin *a)
{
    if (a == NULL) {
        return;
    }
    http_server_destroy(a->http);
    loop_task_init(&a->reclaim, admin_reclaim, a);
    loop_reclaim(a->loop, &a->reclaim);
}
