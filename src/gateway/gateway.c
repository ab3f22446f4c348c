/* gateway.c: the role: routes of the API listener, the model server's state, drain. */
#include "gateway/gateway.h"

#include "admin/health.h"
#include "api/fail.h"
#include "api/fail_status.h"
#include "base/assert.h"
#include "base/mem.h"
#include "gateway/stages.h"
#include "net/http_route.h"

/* ---- routing ---- */

struct gateway_route {
    enum http_method method;
    const char *path; /* below /v1, or without it; one that ends in '/' takes a model's id */
    enum gw_kind kind;
};

static const struct gateway_route gateway_routes[] = {
    {HTTP_METHOD_POST, "/chat/completions", GW_CHAT},
    {HTTP_METHOD_POST, "/completions", GW_COMPLETION},
    {HTTP_METHOD_GET, "/models", GW_MODELS},
    {HTTP_METHOD_GET, "/models/", GW_MODEL},
};

void gateway_reply_error(struct http_exchange *x, const struct err *err)
{
    struct buf body;
    buf_init(&body, 64 << 10);
    api_fail_write(&body, err);
    http_route_reply(x, err_row(err->code)->http_status, STR_LIT("application/json"),
                     buf_str(&body));
    buf_deinit(&body);
}

/* People paste a base URL with or without /v1: both work. */
static struct str gateway_path(const struct http_head *head)
{
    bool prefixed = str_starts(head->path, STR_LIT("/v1/"));
    return prefixed ? str_slice(head->path, 3, head->path.len) : head->path;
}

/* A request that no route takes; `allow` names the methods of its path, "" = an unknown path. */
static void gateway_refuse(struct http_exchange *x, const char *allow)
{
    const struct http_head *head = http_exchange_head(x);
    const char *method = http_method_name(head->method);
    int n = (int)MIN(head->path.len, (size_t)200);
    char id[GW_ID_BYTES];
    struct err err = {0};
    struct buf body;
    if (allow[0] != '\0') {
        err_set(&err, RC_METHOD, "Not allowed: %s %.*s.", method, n, head->path.ptr);
    } else {
        err_set(&err, RC_NOT_FOUND, "Unknown request URL: %s %.*s.", method, n, head->path.ptr);
    }
    gw_request_id(head, id);
    buf_init(&body, 64 << 10);
    api_fail_write(&body, &err);
    struct http_header headers[] = {
        {STR_LIT("content-type"), STR_LIT("application/json")},
        {STR_LIT("x-request-id"), str_from(id)},
        {STR_LIT("allow"), str_from(allow)},
    };
    struct http_reply reply = {.status = err_row(err.code)->http_status,
                               .headers = headers,
                               .n_headers = allow[0] != '\0' ? 3 : 2,
                               .body = buf_str(&body)};
    if (http_exchange_reply(x, &reply, NULL) != RC_OK) {
        http_exchange_abort(x);
    }
    buf_deinit(&body);
}

static void gateway_handle(void *ctx, struct http_exchange *x)
{
    struct gateway *g = ctx;
    const struct http_head *head = http_exchange_head(x);
    if (health_handle(x, g->ready)) {
        return;
    }
    struct str path = gateway_path(head);
    const char *allow = "";
    for (size_t i = 0; i < ARRAY_LEN(gateway_routes); i++) {
        const struct gateway_route *route = &gateway_routes[i];
        struct str rest;
        if (!http_route_match(route->path, path, &rest)) {
            continue;
        }
        allow = route->method == HTTP_METHOD_GET ? "GET, HEAD" : "POST";
        if (http_route_method(route->method, head->method)) {
            struct str model = STR_LIT("");
            if (route->kind == GW_MODEL &&
                http_unescape(http_exchange_arena(x), rest, &model, NULL) != RC_OK) {
                gateway_refuse(x, ""); /* no such path: its escapes mean nothing */
                return;
            }
            stages_start(g, x, route->kind, model);
            return;
        }
    }
    gateway_refuse(x, allow);
}

/* ---- the model server's state ---- */

void gateway_set_ready(struct gateway *g, bool ready)
{
    g->ready = ready;
    if (!ready) {
        http_pool_flush(g->pool);
        return;
    }
    /* Those that wait now; what fails again and comes back to the line waits for the next time. */
    struct list line;
    list_init(&line);
    struct list_node *node;
    while ((node = list_pop_front(&g->waiting)) != NULL) {
        list_push_back(&line, node);
    }
    while ((node = list_pop_front(&line)) != NULL) {
        struct gw_request *r = LIST_ENTRY(node, struct gw_request, waiting);
        loop_timer_stop(&r->wait_timer);
        stages_resume(r, GW_NEXT);
    }
}

bool gateway_is_ready(const struct gateway *g)
{
    return g->ready;
}

/* ---- life ---- */

static enum rc gateway_open(struct gateway *g, struct addr *bound, struct err *err)
{
    struct http_server_conf http = {.handler = gateway_handle,
                                    .handler_ctx = g,
                                    .error_format = api_fail_status,
                                    .error_type = STR_LIT("application/json")};
    struct http_pool_conf pool = {.addr = g->conf.server};
    struct listen_conf listen = {.addr = g->conf.listen};
    enum rc rc = http_pool_create(&g->pool, g->loop, &pool, err);
    rc = rc == RC_OK ? http_server_create(&g->http, g->loop, &http, err) : rc;
    return rc == RC_OK ? http_server_listen(g->http, &listen, bound, err) : rc;
}

enum rc gateway_create(struct gateway **out, struct loop *l, const struct gateway_conf *conf,
                       struct catalog *catalog, struct addr *bound, struct err *err)
{
    *out = NULL;
    if (conf->n_models > GATEWAY_MODELS_MAX) {
        return err_set(err, RC_INVALID, "at most %d models", GATEWAY_MODELS_MAX);
    }
    struct gateway *g = mem_zalloc(sizeof(*g));
    g->loop = l;
    g->conf = *conf;
    g->catalog = catalog;
    list_init(&g->waiting);
    for (uint32_t i = 0; i < conf->n_models; i++) {
        g->models[i] = conf->models[i];
    }
    enum rc rc = gateway_open(g, bound, err);
    if (rc != RC_OK) {
        gateway_destroy(g);
        return rc;
    }
    *out = g;
    return RC_OK;
}

void gateway_drain(struct gateway *g, uint64_t max_ms, void (*on_drained)(void *ctx), void *ctx)
{
    http_server_drain(g->http, max_ms, on_drained, ctx);
}

static void gateway_reclaim(void *ctx)
{
    mem_free(ctx);
}

void gateway_destroy(struct gateway *g)
{
    if (g == NULL) {
        return;
    }
    http_server_destroy(g->http);
    http_pool_destroy(g->pool);
    /* What still runs ends in this turn and looks at the gateway once more. */
    loop_task_init(&g->reclaim, gateway_reclaim, g);
    loop_reclaim(g->loop, &g->reclaim);
}
