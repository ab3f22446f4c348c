/* admin.c: see admin.h.
 *
 *   head ──> who asks? ──> may it? ──> the whole body ──> answered here, or in line for the worker
 *            └ a token may take a moment: the body is not read meanwhile
 *
 * A request is freed when its exchange has closed and nothing is under way for it. One request at a
 * time is on the worker: the store's connection belongs to it. */
#include "admin/admin.h"

#include "admin/health.h"
#include "admin/openapi.h"
#include "auth/scope.h"
#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"
#include "net/http_route.h"
#include "net/loop.h"
#include "obs/metric.h"

enum { ADMIN_PAGE_BYTES_MAX = 16 << 20 };

struct admin {
    struct loop *loop;
    struct admin_conf conf;
    struct http_server *http;
    struct addr bound;
    struct list waiting; /* requests whose bodies are there */
    uint32_t n_waiting, n_open;
    bool busy, destroyed;
};

struct admin_request {
    struct admin *admin;
    struct http_exchange *x; /* NULL once closed */
    struct admin_call call;
    struct admin_caller caller;
    struct principal who; /* texts in the call's arena, roles in what the caller holds */
    struct buf body;
    struct list_node node;
    bool known;      /* who asks may ask this */
    bool body_there; /* the whole of it */
    bool working;    /* in line, on the worker, or being reloaded */
    bool answered;
    char source[ADDR_TEXT_BYTES];
};

/* ---- life ---- */

static void admin_settle(struct admin *a)
{
    if (a->destroyed && a->n_open == 0) {
        mem_free(a);
    }
}

static void admin_release(struct admin_request *r)
{
    struct admin *a = r->admin;
    if (r->x != NULL || r->working) {
        return;
    }
    if (r->caller.held != NULL) {
        a->conf.put(a->conf.ctx, r->caller.held);
    }
    admin_call_deinit(&r->call);
    buf_deinit(&r->body);
    mem_free(r);
    a->n_open--;
    admin_settle(a);
}

/* ---- answering ---- */

static void admin_fail(struct admin_request *r, const struct err *err)
{
    if (r->x != NULL && !r->answered) {
        r->answered = true;
        r->admin->conf.reply_error(r->x, err, NULL);
    }
}

static void admin_answer(struct admin_request *r)
{
    struct admin_call *c = &r->call;
    struct http_header headers[3] = {{STR_LIT("content-type"), STR_LIT("application/json")},
                                     {STR_LIT("cache-control"), STR_LIT("no-store")},
                                     {STR_LIT("etag"), str_from(c->etag)}};
    struct http_reply reply = {.status = c->status,
                               .headers = headers,
                               .n_headers = c->etag[0] != '\0' ? 3 : 2,
                               .body = buf_str(&c->out)};
    if (r->x == NULL || r->answered) {
        return;
    }
    r->answered = true;
    if (c->err.code != RC_OK) {
        r->admin->conf.reply_error(r->x, &c->err, NULL);
    } else if (http_exchange_reply(r->x, &reply, NULL) != RC_OK) {
        http_exchange_abort(r->x);
    }
}

/* ---- the worker's line ---- */

static void admin_next(struct admin *a);

static void admin_on_reloaded(void *ctx, const struct err *err)
{
    struct admin_request *r = ctx;
    r->call.err = *err;
    r->call.status = 200;
    r->working = false;
    admin_answer(r);
    admin_release(r);
}

/* What the store has noted is done now. True when the answer comes later. */
static bool admin_act(struct admin_request *r)
{
    struct admin *a = r->admin;
    if (r->call.err.code != RC_OK || a->destroyed) {
        return false;
    }
    if (r->call.match.id == POLICY_ROUTE_DRAIN) {
        a->conf.drain(a->conf.ctx);
    }
    return r->call.match.id == POLICY_ROUTE_RELOAD &&
           a->conf.reload(a->conf.ctx, admin_on_reloaded, r, &r->call.err) == RC_OK;
}

static void admin_work(void *ctx)
{
    struct admin_request *r = ctx;
    admin_call_run(&r->call);
}

static void admin_worked(void *ctx, enum rc rc)
{
    struct admin_request *r = ctx;
    struct admin *a = r->admin;
    a->busy = false;
    if (rc != RC_OK) {
        err_set(&r->call.err, RC_UNAVAILABLE, "The server is stopping.");
    }
    if (!admin_act(r)) {
        r->working = false;
        admin_answer(r);
    }
    admin_next(a);
    admin_release(r);
}

static void admin_next(struct admin *a)
{
    if (a->busy || list_is_empty(&a->waiting)) {
        return;
    }
    struct admin_request *r = LIST_ENTRY(list_first(&a->waiting), struct admin_request, node);
    struct loop_job job = {.run = admin_work, .done = admin_worked, .ctx = r, .slow = true};
    struct err err = {0};
    list_remove(&r->node);
    a->n_waiting--;
    a->busy = loop_work_start(NULL, a->loop, &job, &err) == RC_OK;
    if (!a->busy) {
        r->working = false;
        admin_fail(r, &err);
        admin_release(r);
    }
}

/* ---- who may ---- */

/* Things of the whole installation, which one project's or organisation's people have no part in.
 */
static bool admin_is_for_all(const struct policy_row *row)
{
    return row->need == POLICY_PERMISSION &&
           (row->kind == RBAC_METRICS || row->kind == RBAC_GATEWAY || row->kind == RBAC_CONFIG ||
            row->kind == RBAC_AUDIT);
}

static enum rc admin_permit(const struct policy_row *row, const struct principal *who,
                            struct err *err)
{
    bool narrow = who->organisation.len > 0 || who->project.len > 0;
    if (!scope_allows_route(who->scopes, str_from(row->scope))) {
        return err_set(err, RC_FORBIDDEN, "The scopes do not have '%s'.", row->scope);
    }
    if (row->need == POLICY_PERMISSION &&
        (!rbac_allows_some(&who->grants, row->kind, row->action) ||
         (narrow && admin_is_for_all(row)))) {
        return err_set(err, RC_FORBIDDEN, "This needs the permission %s:%s, which your roles lack.",
                       rbac_kind_name(row->kind), rbac_action_name(row->action));
    }
    return RC_OK;
}

/* ---- routes of the listener itself ---- */

static void admin_metrics(struct http_exchange *x)
{
    struct buf page;
    buf_init(&page, ADMIN_PAGE_BYTES_MAX);
    metric_expose(&page);
    http_route_reply(x, 200, STR_LIT("text/plain; version=0.0.4; charset=utf-8"), buf_str(&page));
    buf_deinit(&page);
}

static void admin_json(struct admin *a, struct http_exchange *x, enum policy_id id)
{
    struct json_writer w;
    struct buf page;
    buf_init(&page, ADMIN_PAGE_BYTES_MAX);
    if (id == POLICY_ROUTE_OPENAPI) {
        openapi_write(&page);
    } else {
        json_write_init(&w, &page);
        json_write_object_begin(&w);
        json_write_member_cstr(&w, "object", "health");
        json_write_member_bool(&w, "ready", a->conf.is_ready(a->conf.ctx));
        a->conf.write_status(a->conf.ctx, &w);
        json_write_object_end(&w);
    }
    http_route_reply(x, 200, STR_LIT("application/json"), buf_str(&page));
    buf_deinit(&page);
}

/* False when the route is one of the stores'. */
static bool admin_handle_here(struct admin *a, struct http_exchange *x, enum policy_id id)
{
    if (id == POLICY_ROUTE_METRICS) {
        admin_metrics(x);
    } else if (id == POLICY_ROUTE_OPENAPI || id == POLICY_ROUTE_STATUS) {
        admin_json(a, x, id);
    } else {
        return false;
    }
    return true;
}

/* ---- a request ---- */

/* The worker outlives the exchange: what it reads is copied. False when there is no room. */
static bool admin_copy(struct admin_request *r, const struct principal *who,
                       const struct http_head *head)
{
    struct arena *a = &r->call.arena;
    r->who = *who;
    const struct {
        struct str from;
        struct str *to;
    } texts[] = {
        {who->id, &r->who.id},
        {who->organisation, &r->who.organisation},
        {who->project, &r->who.project},
        {who->user, &r->who.user},
        {who->roles, &r->who.roles},
        {who->scopes, &r->who.scopes},
        {head->query, &r->call.query},
        {http_head_value(head, STR_LIT("if-match")), &r->call.if_match},
        {http_head_value(head, STR_LIT("if-none-match")), &r->call.if_none_match},
        {r->call.match.params[0], &r->call.match.params[0]},
        {r->call.match.params[1], &r->call.match.params[1]},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        *texts[i].to = arena_str(a, texts[i].from);
        if (texts[i].to->ptr == NULL) {
            return false;
        }
    }
    return true;
}

/* Known and there as a whole: it is answered here, or stands in line for the worker. */
static void admin_go(struct admin_request *r)
{
    struct admin *a = r->admin;
    struct err err = {0};
    if (!r->known || !r->body_there || r->answered) {
        return;
    }
    if (admin_handle_here(a, r->x, r->call.match.id)) {
        r->answered = true;
        return;
    }
    if (a->n_waiting >= ADMIN_WAITING_MAX) {
        err_set(&err, RC_OVERLOADED, "Too many administrative requests are in line.");
        admin_fail(r, &err);
        return;
    }
    r->call.text = buf_str(&r->body);
    r->working = true;
    a->n_waiting++;
    list_push_back(&a->waiting, &r->node);
    admin_next(a);
}

static void admin_on_body(void *ctx, struct str bytes)
{
    struct admin_request *r = ctx;
    buf_add_str(&r->body, bytes);
}

static void admin_on_body_end(void *ctx, enum rc rc)
{
    struct admin_request *r = ctx;
    struct err err = {0};
    if (rc == RC_TOO_LARGE) {
        err_set(&err, rc, "The request body is larger than %d bytes.", ADMIN_BODY_BYTES_MAX);
    } else if (rc != RC_OK || !buf_ok(&r->body)) {
        err_set(&err, RC_INVALID, "The request body did not arrive whole.");
    }
    if (err.code != RC_OK) {
        admin_fail(r, &err);
        return;
    }
    r->body_there = true;
    admin_go(r);
}

static void admin_on_close(void *ctx, enum rc rc)
{
    struct admin_request *r = ctx;
    UNUSED(rc);
    r->x = NULL;
    r->admin->conf.abandon(&r->caller);
    admin_release(r);
}

/* It is known who asks: whether that one may, and what the worker is to read. */
static enum rc admin_know(struct admin_request *r, struct err *err)
{
    const struct principal *who = &r->caller.who;
    enum rc rc = admin_permit(policy_row(r->call.match.id), who, err);
    if (rc == RC_OK && !admin_copy(r, who, http_exchange_head(r->x))) {
        rc = err_set(err, RC_TOO_LARGE, "The request is too large.");
    }
    r->call.actor = r->who.id;
    r->known = rc == RC_OK;
    return rc;
}

static void admin_on_caller(struct admin_caller *c, const struct err *why)
{
    struct admin_request *r = CONTAINER_OF(c, struct admin_request, caller);
    struct err err = *why;
    if (err.code == RC_OK) {
        (void)!admin_know(r, &err);
    }
    if (err.code != RC_OK) {
        admin_fail(r, &err);
        return;
    }
    http_exchange_body_resume(r->x);
    admin_go(r);
}

static struct admin_request *admin_request_create(struct admin *a, struct http_exchange *x,
                                                  const struct policy_match *match)
{
    struct admin_request *r = mem_zalloc(sizeof(*r));
    a->n_open++;
    r->admin = a;
    r->x = x;
    r->caller.done = admin_on_caller;
    buf_init(&r->body, ADMIN_BODY_BYTES_MAX);
    admin_call_init(&r->call);
    addr_format_host(http_exchange_peer(x), r->source);
    r->call.match = *match;
    r->call.store = a->conf.store;
    r->call.who = &r->who;
    r->call.source = str_from(r->source);
    r->call.now_ms = (int64_t)(clock_wall_ns(loop_clock(a->loop)) / 1000000u);
    return r;
}

static void admin_route(struct admin *a, struct http_exchange *x, const struct policy_match *match)
{
    static const struct http_exchange_events events = {
        .on_body = admin_on_body, .on_body_end = admin_on_body_end, .on_close = admin_on_close};
    struct err err = {0};
    bool later = false;
    if (match->id == POLICY_ROUTE_METRICS && a->conf.metrics_open && addr_is_local(&a->bound)) {
        admin_metrics(x);
        return;
    }
    struct admin_request *r = admin_request_create(a, x, match);
    enum rc rc = a->conf.authenticate(a->conf.ctx, x, &r->caller, &later, &err);
    rc = rc == RC_OK && !later ? admin_know(r, &err) : rc;
    if (rc != RC_OK) {
        a->conf.reply_error(x, &err, NULL);
        r->x = NULL;
        admin_release(r);
        return;
    }
    http_exchange_accept(x, HTTP_BODY_STREAM, ADMIN_BODY_BYTES_MAX, &events, r);
    if (later) {
        http_exchange_body_pause(x);
    }
}

static void admin_handle(void *ctx, struct http_exchange *x)
{
    struct admin *a = ctx;
    const struct http_head *head = http_exchange_head(x);
    struct policy_match match = {0};
    char allow[POLICY_ALLOW_BYTES];
    struct err err = {0};
    if (health_handle(x, a->conf.is_ready(a->conf.ctx))) {
        return;
    }
    enum rc rc = policy_find(POLICY_ADMIN, head->method, head->path, &match, allow);
    if (rc == RC_OK) {
        admin_route(a, x, &match);
        return;
    }
    err_set(&err, rc, "%s: %s %.*s.", rc == RC_METHOD ? "Not allowed" : "Unknown request URL",
            http_method_name(head->method), (int)MIN(head->path.len, (size_t)200), head->path.ptr);
    a->conf.reply_error(x, &err, rc == RC_METHOD ? allow : NULL);
}

enum rc admin_create(struct admin **out, struct loop *l, const struct admin_conf *conf,
                     struct addr *bound, struct err *err)
{
    *out = NULL;
    struct admin *a = mem_zalloc(sizeof(*a));
    a->loop = l;
    a->conf = *conf;
    list_init(&a->waiting);
    struct http_server_conf http = {.handler = admin_handle, .handler_ctx = a};
    struct listen_conf listen = {.addr = conf->listen, .tls = conf->tls};
    enum rc rc = http_server_create(&a->http, l, &http, err);
    rc = rc == RC_OK ? http_server_listen(a->http, &listen, &a->bound, err) : rc;
    if (rc != RC_OK) {
        admin_destroy(a);
        return rc;
    }
    if (bound != NULL) {
        *bound = a->bound;
    }
    *out = a;
    return RC_OK;
}

void admin_destroy(struct admin *a)
{
    if (a == NULL) {
        return;
    }
    a->n_open++; /* until the last line */
    http_server_destroy(a->http);
    a->destroyed = true;
    while (!list_is_empty(&a->waiting)) {
        struct admin_request *r = LIST_ENTRY(list_first(&a->waiting), struct admin_request, node);
        list_remove(&r->node);
        a->n_waiting--;
        r->working = false;
        admin_release(r);
    }
    a->n_open--;
    admin_settle(a);
}
