/* server.c: the role's life: listen, load on a worker, start the engine thread, answer, drain.
 *
 *   create ──> LOADING ──all models open──> READY ──drain──> DRAINING
 *                 └──────a model fails──────> FAILED
 */
#include "server/server.h"

#include <stdio.h>

#include "api/fail.h"
#include "api/fail_status.h"
#include "api/models.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/json.h"
#include "base/mem.h"
#include "device/device.h"
#include "net/http_route.h"
#include "obs/metric.h"
#include "server/embed_intake.h"
#include "server/request.h"

void server_make_id(const char *prefix, char out[SERVER_ID_BYTES])
{
    unsigned char random[12];
    char hex[2 * sizeof(random) + 1];
    crypto_random(random, sizeof(random));
    crypto_hex(random, sizeof(random), hex);
    snprintf(out, SERVER_ID_BYTES, "%s-%s", prefix, hex);
}

struct served_model *server_find_model(struct server *s, struct str id)
{
    for (uint32_t i = 0; i < s->n_models; i++) {
        if (str_eq(s->models[i].id, id)) {
            return &s->models[i];
        }
    }
    return NULL;
}

/* ---- small routes ---- */

static void server_reply_state(struct server *s, struct http_exchange *x, bool ready_only)
{
    static const char *const names[] = {"loading", "ready", "draining", "failed"};
    struct buf body;
    struct json_writer w;
    buf_init(&body, 4096);
    json_write_init(&w, &body);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "status", names[s->state]);
    if (s->state == SERVER_LOADING) {
        json_write_member_i64(&w, "loaded_bytes", (int64_t)atomic_load(&s->loaded_bytes));
        json_write_member_i64(&w, "total_bytes", (int64_t)atomic_load(&s->total_bytes));
    }
    json_write_object_end(&w);
    int status = ready_only && s->state != SERVER_READY ? 503 : 200;
    http_route_reply(x, status, STR_LIT("application/json"), buf_str(&body));
    buf_deinit(&body);
}

static void server_route_live(struct server *s, struct http_exchange *x, struct str rest)
{
    UNUSED(rest);
    server_reply_state(s, x, false);
}

static void server_route_ready(struct server *s, struct http_exchange *x, struct str rest)
{
    UNUSED(rest);
    server_reply_state(s, x, true);
}

static void server_route_metrics(struct server *s, struct http_exchange *x, struct str rest)
{
    UNUSED(s);
    UNUSED(rest);
    struct buf body;
    buf_init(&body, 16 << 20);
    metric_expose(&body);
    http_route_reply(x, 200, STR_LIT("text/plain; version=0.0.4; charset=utf-8"), buf_str(&body));
    buf_deinit(&body);
}

static struct api_model server_api_model(const struct served_model *m)
{
    return (struct api_model){m->id, m->created_s, engine_info(m->engine)->context_tokens};
}

static void server_route_models(struct server *s, struct http_exchange *x, struct str rest)
{
    UNUSED(rest);
    struct api_model models[STEP_MODELS_MAX];
    struct buf body;
    for (uint32_t i = 0; i < s->n_models; i++) {
        models[i] = server_api_model(&s->models[i]);
    }
    buf_init(&body, 1 << 20);
    api_models_write(&body, models, s->n_models);
    reply_send_json(x, &body);
    buf_deinit(&body);
}

static void server_route_model(struct server *s, struct http_exchange *x, struct str rest)
{
    struct err err = {0};
    struct str id = STR_NULL;
    const struct served_model *m = NULL;
    if (http_unescape(http_exchange_arena(x), rest, &id, &err) == RC_OK) {
        m = server_find_model(s, id);
    }
    if (m == NULL) {
        err_set_param(&err, RC_MODEL_NOT_FOUND, "model", "The model `%.*s` does not exist.",
                      (int)MIN(id.len, (size_t)100), id.ptr != NULL ? id.ptr : "");
        reply_send_error(x, &err);
        return;
    }
    struct api_model model = server_api_model(m);
    struct buf body;
    buf_init(&body, 1 << 20);
    api_model_write(&body, &model);
    reply_send_json(x, &body);
    buf_deinit(&body);
}

static void server_route_chat(struct server *s, struct http_exchange *x, struct str rest)
{
    UNUSED(rest);
    intake_generate(s, x, API_KIND_CHAT);
}

static void server_route_complete(struct server *s, struct http_exchange *x, struct str rest)
{
    UNUSED(rest);
    intake_generate(s, x, API_KIND_COMPLETION);
}

static void server_route_embed(struct server *s, struct http_exchange *x, struct str rest)
{
    UNUSED(rest);
    embed_intake(s, x, EMBED_VECTORS);
}

static void server_route_rerank(struct server *s, struct http_exchange *x, struct str rest)
{
    UNUSED(rest);
    embed_intake(s, x, EMBED_SCORES);
}

/* ---- the link ---- */

enum rc server_read_link(struct http_exchange *x, struct api_link *link, struct err *err)
{
    const struct http_head *head = http_exchange_head(x);
    api_link_init(link);
    enum rc rc = RC_OK;
    for (uint32_t i = 0; i < head->n_headers && rc == RC_OK; i++) {
        rc = api_link_read_header(link, head->headers[i].name, head->headers[i].value, err);
    }
    return rc;
}

uint64_t server_deadline_ns(const struct api_link *link, uint64_t arrived_ns)
{
    enum { DEADLINE_MS_MAX = 1 << 30 };
    uint64_t left_ms = MIN(link->deadline_ms, (uint64_t)DEADLINE_MS_MAX);
    return link->has_deadline ? arrived_ns + left_ms * 1000000 : 0;
}

/* ---- routing ---- */

struct server_route {
    enum http_method method;
    const char *path; /* one that ends in '/' takes what follows as `rest` */
    bool needs_models;
    void (*run)(struct server *s, struct http_exchange *x, struct str rest);
};

static const struct server_route server_routes[] = {
    {HTTP_METHOD_POST, "/v1/chat/completions", true, server_route_chat},
    {HTTP_METHOD_POST, "/v1/completions", true, server_route_complete},
    {HTTP_METHOD_POST, "/v1/embeddings", true, server_route_embed},
    {HTTP_METHOD_POST, "/v1/rerank", true, server_route_rerank},
    {HTTP_METHOD_GET, "/v1/models", true, server_route_models},
    {HTTP_METHOD_GET, "/v1/models/", true, server_route_model},
    {HTTP_METHOD_GET, "/livez", false, server_route_live},
    {HTTP_METHOD_GET, "/readyz", false, server_route_ready},
    {HTTP_METHOD_GET, "/health", false, server_route_ready},
    {HTTP_METHOD_GET, "/metrics", false, server_route_metrics},
};

static void server_run_route(struct server *s, struct http_exchange *x,
                             const struct server_route *route, struct str rest)
{
    struct err err = {0};
    if (route->needs_models && s->state == SERVER_LOADING) {
        err_set(&err, RC_UNAVAILABLE, "The model is still loading.");
        reply_send_error(x, &err);
    } else if (route->needs_models && s->state != SERVER_READY) {
        err_set(&err, RC_UNAVAILABLE, "The server is stopping.");
        reply_send_error(x, &err);
    } else {
        route->run(s, x, rest);
    }
}

static void server_handle(void *ctx, struct http_exchange *x)
{
    struct server *s = ctx;
    const struct http_head *head = http_exchange_head(x);
    struct err err = {0};
    bool path_known = false;
    for (size_t i = 0; i < ARRAY_LEN(server_routes); i++) {
        const struct server_route *route = &server_routes[i];
        struct str rest;
        if (!http_route_match(route->path, head->path, &rest)) {
            continue;
        }
        if (http_route_method(route->method, head->method)) {
            server_run_route(s, x, route, rest);
            return;
        }
        path_known = true;
    }
    if (path_known) {
        err_set(&err, RC_METHOD, "%s is not allowed here.", http_method_name(head->method));
    } else {
        err_set(&err, RC_NOT_FOUND, "Unknown request URL: %s %.*s.", http_method_name(head->method),
                (int)MIN(head->path.len, (size_t)200), head->path.ptr);
    }
    reply_send_error(x, &err);
}

/* ---- updates from the engine thread ---- */

static void server_wake(void *ctx)
{
    struct server *s = ctx;
    loop_wake_send(s->wake);
}

static void server_on_updates(void *ctx)
{
    struct server *s = ctx;
    struct job *job;
    while (s->step != NULL && (job = step_next(s->step)) != NULL) {
        reply_update(job_reader(job));
    }
    embed_intake_finished(s);
}

/* ---- loading ---- */

static void server_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct server *s = ctx;
    atomic_store(&s->loaded_bytes, done);
    atomic_store(&s->total_bytes, total);
}

static enum rc server_load_model(struct server *s, uint32_t idx, struct err *err)
{
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n_sources = 0;
    char path[4096];
    if (!str_copy(path, sizeof(path), s->models[idx].path)) {
        return err_set(err, RC_INVALID, "path too long");
    }
    enum rc rc = weight_source_open_model(sources, &n_sources, path, err);
    if (rc != RC_OK) {
        return rc;
    }
    struct engine_conf conf = s->conf.engine;
    conf.progress = server_progress;
    conf.progress_ctx = s;
    conf.memory_bytes_max = device_cpu_memory_bytes();
    if (conf.kv_pages == 0) {
        /* Enough for one sequence of the longest context, and for several usual ones. */
        uint32_t context = conf.context_tokens != 0 ? conf.context_tokens : ENGINE_CONTEXT_DEFAULT;
        uint32_t one = (context + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
        conf.kv_pages = MAX(one, (uint32_t)SERVER_KV_PAGES_DEFAULT);
    }
    return engine_open(&s->models[idx].engine, sources, n_sources, &conf, err);
}

/* Pages are reserved here and paid where they are touched: what can never be paid is refused. */
static enum rc server_check_memory(const struct server *s, uint32_t n_loaded, struct err *err)
{
    struct device *cpu;
    if (device_cpu_open(&cpu, "", NULL) != RC_OK) {
        return RC_OK; /* not known here */
    }
    uint64_t total_bytes = device_info(cpu)->memory_total_bytes;
    device_close(cpu);
    uint64_t need_bytes = 0;
    for (uint32_t i = 0; i < n_loaded; i++) {
        need_bytes += engine_info(s->models[i].engine)->kv_bytes;
    }
    const struct engine_info *last = engine_info(s->models[n_loaded - 1].engine);
    if (need_bytes > total_bytes) {
        return err_set(
            err, RC_INVALID,
            "keys and values of %u pages (%u tokens) for model %.*s bring their memory to "
            "%llu MiB, this machine has %llu MiB: lower --kv-tokens or --ctx",
            last->kv_pages, last->kv_pages * KV_PAGE_TOKENS,
            (int)MIN(s->models[n_loaded - 1].id.len, (size_t)100), s->models[n_loaded - 1].id.ptr,
            (unsigned long long)(need_bytes >> 20), (unsigned long long)(total_bytes >> 20));
    }
    return RC_OK;
}

static void server_load(void *ctx)
{
    struct server *s = ctx;
    for (uint32_t i = 0; i < s->n_models && s->load_rc == RC_OK; i++) {
        s->load_rc = server_load_model(s, i, &s->load_err);
        if (s->load_rc == RC_OK) {
            s->load_rc = server_check_memory(s, i + 1, &s->load_err);
        }
    }
}

static enum rc server_start_step(struct server *s, struct err *err)
{
    for (uint32_t i = 0; i < s->n_models; i++) {
        struct served_model *m = &s->models[i];
        m->created_s = clock_wall_s(loop_clock(s->loop));
        bool embeds = engine_info(m->engine)->kind != ENGINE_GENERATOR;
        enum rc rc = embeds ? embed_add_model(s->embed, &m->embed, m->engine, err)
                            : step_add_model(s->step, &m->model, m->engine, err);
        if (rc != RC_OK) {
            return rc;
        }
        if (embeds) {
            embed_name_model(m->embed, m->id);
        } else {
            step_name_model(m->model, m->id);
        }
    }
    s->stepping = true;
    return step_start(s->step, err);
}

static void server_loaded(void *ctx, enum rc rc)
{
    struct server *s = ctx;
    s->loading = false;
    if (s->destroyed) {
        server_settle(s);
        return;
    }
    if (rc != RC_OK || s->state == SERVER_DRAINING) {
        return; /* the loop is ending, or will */
    }
    rc = s->load_rc;
    if (rc == RC_OK) {
        rc = server_start_step(s, &s->load_err);
    }
    s->state = rc == RC_OK ? SERVER_READY : SERVER_FAILED;
    if (s->conf.on_ready != NULL) {
        s->conf.on_ready(s->conf.ctx, rc, &s->load_err);
    }
}

/* ---- life ---- */

static enum rc server_open(struct server *s, struct err *err)
{
    const struct server_limits *limits = &s->conf.limits;
    struct step_conf step = {.clock = loop_clock(s->loop),
                             .running_max = limits->running_max,
                             .tenant_running_max = limits->tenant_running_max,
                             .waiting_max = limits->waiting_max,
                             .waiting_ms_max = limits->waiting_ms_max,
                             .budget_ms = limits->budget_ms,
                             .no_prefix_cache = limits->no_prefix_cache,
                             .no_speculation = limits->no_speculation,
                             .calibrate = true,
                             .wake = server_wake,
                             .wake_ctx = s};
    struct embed_conf embed = {.clock = loop_clock(s->loop),
                               .batch_texts = s->conf.limits.batch_texts,
                               .batch_ms = s->conf.limits.batch_ms,
                               .no_batch_wait = s->conf.limits.no_batch_wait,
                               .wake = server_wake,
                               .wake_ctx = s};
    struct http_server_conf http = {.handler = server_handle,
                                    .handler_ctx = s,
                                    .error_format = api_fail_status,
                                    .error_type = STR_LIT("application/json")};
    struct listen_conf listen = {.addr = s->conf.listen, .tls = s->conf.tls};
    struct loop_job job = {.run = server_load, .done = server_loaded, .ctx = s, .slow = true};
    enum rc rc = loop_wake_create(&s->wake, s->loop, server_on_updates, s, err);
    rc = rc == RC_OK ? embed_create(&s->embed, &embed, err) : rc;
    step.embed = s->embed;
    rc = rc == RC_OK ? step_create(&s->step, &step, err) : rc;
    rc = rc == RC_OK ? http_server_create(&s->http, s->loop, &http, err) : rc;
    rc = rc == RC_OK ? http_server_listen(s->http, &listen, NULL, err) : rc;
    rc = rc == RC_OK ? loop_work_start(NULL, s->loop, &job, err) : rc;
    s->loading = rc == RC_OK;
    return rc;
}

enum rc server_create(struct server **out, struct loop *l, const struct server_conf *conf,
                      struct err *err)
{
    *out = NULL;
    if (conf->n_models == 0 || conf->n_models > STEP_MODELS_MAX) {
        return err_set(err, RC_INVALID, "a server holds 1 to %d models, not %u", STEP_MODELS_MAX,
                       conf->n_models);
    }
    struct server *s = mem_zalloc(sizeof(*s));
    s->loop = l;
    s->conf = *conf;
    s->conf.requests_max = conf->requests_max != 0 ? conf->requests_max : SERVER_REQUESTS_MAX;
    s->conf.bodies_bytes_max =
        conf->bodies_bytes_max != 0 ? conf->bodies_bytes_max : SERVER_BODIES_BYTES_MAX;
    s->n_models = conf->n_models;
    for (uint32_t i = 0; i < s->n_models; i++) {
        s->models[i].id = conf->models[i].id;
        s->models[i].path = conf->models[i].path;
    }
    enum rc rc = server_open(s, err);
    if (rc != RC_OK) {
        server_destroy(s);
        return rc;
    }
    *out = s;
    return RC_OK;
}

void server_drain(struct server *s, uint64_t max_ms, void (*on_drained)(void *ctx), void *ctx)
{
    s->state = SERVER_DRAINING;
    http_server_drain(s->http, max_ms, on_drained, ctx);
}

void server_settle(struct server *s)
{
    if (!s->destroyed || s->loading || s->n_requests > 0) {
        return;
    }
    for (uint32_t i = 0; i < s->n_models; i++) {
        if (s->models[i].model == NULL && s->models[i].embed == NULL) {
            engine_close(s->models[i].engine);
        }
    }
    step_destroy(s->step);
    embed_destroy(s->embed);
    mem_free(s);
}

void server_destroy(struct server *s)
{
    if (s == NULL) {
        return;
    }
    http_server_destroy(s->http);
    if (s->stepping) {
        step_stop(s->step);
        server_on_updates(s); /* the finishes of cancelled jobs let their requests go */
    }
    loop_wake_destroy(s->wake);
    s->destroyed = true;
    server_settle(s);
}
