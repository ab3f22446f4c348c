/* load.c: see load.h.
 *
 *   ask for the model -> start calls -> [head -> pieces…] -> end -> start the next … -> all ended
 *
 * A call belongs to load.calls from its start to on_end; it is then used again. */
#include "cli/load.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cli/load_answer.h"
#include "net/http_client.h"
#include "net/loop.h"
#include "net/tls_keep.h"
#include "net/sse.h"

enum { LOAD_HEADERS_MAX = 3, LOAD_TARGET_BYTES = LOAD_PATH_BYTES_MAX + 64 };

struct load;

struct load_call {
    struct load *load;
    struct http_call *http; /* NULL = free */
    struct buf body, reply;
    struct sse sse;
    uint64_t due_ns, last_ns; /* last: of the latest piece of text */
    uint64_t n_pieces, prompt_tokens, completion_tokens;
    int status;
    bool is_stream, has_usage, failed, done;
    char error[LOAD_ERROR_BYTES_MAX];
};

struct load {
    const struct load_conf *conf;
    struct load_text text;
    struct load_report *r;
    struct loop *loop;
    struct http_pool *pool;
    struct tls_keep *tls; /* NULL: plain */
    struct arena arena;
    struct rng rng;
    struct http_header headers[LOAD_HEADERS_MAX];
    uint32_t n_headers;
    char target[LOAD_TARGET_BYTES], key[1024];
    struct load_call *calls; /* LOAD_CLIENTS_MAX */
    uint64_t n_started;
    uint32_t n_live;
    uint64_t start_ns, end_ns, beat_ns;
    double due_s; /* open loop: since start_ns, of the next request */
    struct loop_timer arrival, beat;
    struct err model_err;
    enum rc model_rc;
    bool stopping;
};

static uint64_t load_now(void)
{
    return clock_mono_ns(clock_system());
}

static double load_cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* ---- counting ---- */

static void load_count_error(struct load_report *r, const char *what)
{
    r->n_failed++;
    for (uint32_t i = 0; i < r->n_errors; i++) {
        if (strcmp(r->errors[i].what, what) == 0) {
            r->errors[i].n++;
            return;
        }
    }
    if (r->n_errors == LOAD_ERRORS_MAX) {
        struct load_error *last = &r->errors[LOAD_ERRORS_MAX - 1];
        (void)str_copy(last->what, sizeof(last->what), STR_LIT("other errors"));
        last->n++;
        return;
    }
    struct load_error *e = &r->errors[r->n_errors++];
    (void)str_copy(e->what, sizeof(e->what), str_from(what));
    e->n = 1;
}

static void load_call_fail(struct load_call *c, const char *what)
{
    if (!c->failed) {
        c->failed = true;
        (void)str_copy(c->error, sizeof(c->error), str_from(what));
    }
}

static void load_count_ok(struct load *l, const struct load_call *c, uint64_t now)
{
    struct load_report *r = l->r;
    r->n_ok++;
    r->n_texts += l->text.n_inputs;
    r->prompt_tokens += c->prompt_tokens;
    r->completion_tokens += c->has_usage ? c->completion_tokens : c->n_pieces;
    r->usage_told = r->usage_told && c->has_usage;
    load_hist_add(&r->latency, now - c->due_ns);
}

/* ---- answers ---- */

static void load_take(struct load_call *c, struct str json)
{
    struct load *l = c->load;
    struct load_answer a;
    struct err err = {0};
    if (load_answer_parse(&a, json, &l->arena, &err) != RC_OK) {
        load_call_fail(c, err.msg);
        return;
    }
    if (a.has_usage) {
        c->has_usage = true;
        c->prompt_tokens = a.prompt_tokens;
        c->completion_tokens = a.completion_tokens;
    }
    if (a.has_text && c->is_stream) {
        uint64_t now = load_now();
        if (c->n_pieces == 0) {
            load_hist_add(&l->r->ttft, now - c->due_ns);
        } else {
            load_hist_add(&l->r->gap, now - c->last_ns);
        }
        c->last_ns = now;
    }
    c->n_pieces += a.has_text;
}

static void load_events(struct load_call *c, struct str bytes)
{
    struct sse_item item;
    while (!c->failed && sse_next(&c->sse, &bytes, &item)) {
        if (item.kind != SSE_EVENT || item.data.len == 0) {
            continue;
        }
        if (str_is(item.data, "[DONE]")) {
            c->done = true;
        } else {
            load_take(c, item.data);
        }
    }
    if (sse_failed(&c->sse) != RC_OK) {
        load_call_fail(c, "an event larger than any answer");
    }
}

static void load_on_head(void *ctx, const struct http_head *head)
{
    struct load_call *c = ctx;
    struct str type = http_head_value(head, STR_LIT("content-type"));
    c->status = head->status;
    c->is_stream = str_starts(type, STR_LIT("text/event-stream"));
}

static void load_on_body(void *ctx, struct str bytes)
{
    struct load_call *c = ctx;
    if (c->status == 200 && c->is_stream) {
        load_events(c, bytes);
    } else {
        buf_add_str(&c->reply, bytes);
    }
}

/* What a complete response was worth. */
static void load_judge(struct load_call *c)
{
    if (c->status != 200) {
        char text[LOAD_ERROR_BYTES_MAX];
        load_answer_error(text, c->status, buf_str(&c->reply), &c->load->arena);
        load_call_fail(c, text);
    } else if (c->is_stream && !c->done) {
        load_call_fail(c, "the stream ended without [DONE]");
    } else if (!buf_ok(&c->reply)) {
        load_call_fail(c, "the answer is larger than 64 MiB");
    } else if (!c->is_stream && !c->failed) {
        load_take(c, buf_str(&c->reply));
    }
}

static void load_next(struct load *l);

static void load_on_end(void *ctx, const struct http_call_result *result)
{
    struct load_call *c = ctx;
    struct load *l = c->load;
    uint64_t now = load_now();
    c->http = NULL;
    l->n_live--;
    l->end_ns = now;
    if (result->rc == RC_OK) {
        load_judge(c);
    } else {
        load_call_fail(c, result->what);
    }
    if (result->rc == RC_CANCELLED && l->stopping) {
        /* Cut off by the one who asked: neither a success nor the server's failure. */
    } else if (c->failed) {
        load_count_error(l->r, c->error);
    } else {
        load_count_ok(l, c, now);
    }
    sse_deinit(&c->sse);
    load_next(l);
}

static const struct http_client_events load_events_table = {
    .on_head = load_on_head, .on_body = load_on_body, .on_end = load_on_end};

/* ---- requests ---- */

static struct load_call *load_free_call(struct load *l)
{
    for (uint32_t i = 0; i < LOAD_CLIENTS_MAX; i++) {
        if (l->calls[i].http == NULL) {
            return &l->calls[i];
        }
    }
    return NULL;
}

static void load_start(struct load *l, uint64_t due_ns)
{
    uint64_t number = l->n_started++;
    struct load_call *c = load_free_call(l);
    if (c == NULL) {
        load_count_error(l->r, "the load generator has too many requests in flight");
        return;
    }
    struct buf body = c->body;
    struct buf reply = c->reply;
    *c = (struct load_call){.load = l, .body = body, .reply = reply, .due_ns = due_ns};
    buf_reset(&c->body);
    buf_reset(&c->reply);
    sse_init(&c->sse, SSE_ITEM_BYTES_MAX);
    load_text_body(&c->body, &l->text, number);
    struct http_client_conf conf = {.method = HTTP_METHOD_POST,
                                    .target = str_from(l->target),
                                    .headers = l->headers,
                                    .n_headers = l->n_headers,
                                    .body = buf_str(&c->body),
                                    .first_byte_ms = l->conf->timeout_ms,
                                    .idle_ms = l->conf->timeout_ms};
    struct err err = {0};
    enum rc rc = RC_TOO_LARGE;
    if (buf_ok(&c->body)) {
        rc = http_client_start(&c->http, l->pool, &conf, &load_events_table, c, &err);
    }
    if (rc != RC_OK) {
        c->http = NULL;
        sse_deinit(&c->sse);
        load_count_error(l->r, err.msg[0] != '\0' ? err.msg : "the request is too large");
        return;
    }
    l->n_live++;
}

static bool load_may_start(struct load *l)
{
    bool hopeless = l->r->n_ok == 0 && l->r->n_failed >= LOAD_GIVE_UP;
    uint64_t limit_ns = l->conf->seconds_max * 1000000000u;
    bool late = limit_ns > 0 && load_now() - l->start_ns >= limit_ns;
    if (hopeless || late) {
        l->n_started = l->conf->n_requests;
    }
    return !l->stopping && l->n_started < l->conf->n_requests;
}

static void load_maybe_end(struct load *l)
{
    if (l->n_live == 0 && !load_may_start(l)) {
        loop_stop(l->loop);
    }
}

/* Starts what is due of an open loop. */
static void load_arrive(void *ctx)
{
    struct load *l = ctx;
    uint64_t now = load_now();
    while (load_may_start(l)) {
        uint64_t due = l->start_ns + (uint64_t)(l->due_s * 1e9);
        if (due > now) {
            loop_timer_start(&l->arrival, (due - now) / 1000000u + 1);
            return;
        }
        load_start(l, due);
        l->due_s += -log1p(-rng_unit(&l->rng)) / l->conf->rate;
    }
    load_maybe_end(l);
}

static void load_next(struct load *l)
{
    while (l->conf->rate <= 0 && l->n_live < l->conf->n_clients && load_may_start(l)) {
        load_start(l, load_now());
    }
    load_maybe_end(l);
}

/* ---- the generator's own lateness ---- */

static void load_beat(void *ctx)
{
    struct load *l = ctx;
    uint64_t now = load_now();
    uint64_t due = l->beat_ns + LOAD_BEAT_MS * 1000000u;
    load_hist_add(&l->r->beat_late, now > due ? now - due : 0);
    l->beat_ns = now;
    loop_timer_start(&l->beat, LOAD_BEAT_MS);
}

static void load_interrupt(void *ctx, int signum)
{
    struct load *l = ctx;
    UNUSED(signum);
    l->stopping = true;
    l->r->interrupted = true;
    for (uint32_t i = 0; i < LOAD_CLIENTS_MAX; i++) {
        if (l->calls[i].http != NULL) {
            http_client_cancel(l->calls[i].http);
        }
    }
    load_maybe_end(l);
}

/* ---- the model's name ---- */

static void load_model_end(void *ctx, const struct http_call_result *result)
{
    struct load_call *c = ctx;
    struct load *l = c->load;
    char text[LOAD_ERROR_BYTES_MAX];
    c->http = NULL;
    if (result->rc != RC_OK) {
        l->model_rc =
            err_set(&l->model_err, result->rc, "%s: %s", l->conf->url.authority, result->what);
    } else if (c->status != 200) {
        load_answer_error(text, c->status, buf_str(&c->reply), &l->arena);
        l->model_rc = err_set(&l->model_err, RC_UPSTREAM, "GET %s: %s", l->target, text);
    } else {
        l->model_rc = load_answer_model(l->r->model, sizeof(l->r->model), buf_str(&c->reply),
                                        &l->arena, &l->model_err);
    }
    loop_stop(l->loop);
}

static enum rc load_ask_model(struct load *l, struct err *err)
{
    static const struct http_client_events events = {
        .on_head = load_on_head, .on_body = load_on_body, .on_end = load_model_end};
    struct load_call *c = &l->calls[0];
    snprintf(l->target, sizeof(l->target), "%s/models", l->conf->url.path);
    struct http_client_conf conf = {.method = HTTP_METHOD_GET,
                                    .target = str_from(l->target),
                                    .headers = l->headers,
                                    .n_headers = l->n_headers,
                                    .first_byte_ms = l->conf->timeout_ms,
                                    .idle_ms = l->conf->timeout_ms};
    c->load = l;
    buf_reset(&c->reply);
    enum rc rc = http_client_start(&c->http, l->pool, &conf, &events, c, err);
    if (rc != RC_OK) {
        c->http = NULL;
        return rc;
    }
    loop_run(l->loop);
    if (l->r->interrupted) {
        return err_set(err, RC_CANCELLED, "interrupted before the server had named its models");
    }
    if (l->model_rc != RC_OK && err != NULL) {
        *err = l->model_err;
    }
    return l->model_rc;
}

/* ---- run ---- */

static enum rc load_open(struct load *l, struct err *err)
{
    const struct load_conf *conf = l->conf;
    struct addr addr;
    arena_init(&l->arena, LOAD_REPLY_BYTES_MAX);
    l->calls = mem_zalloc_array(LOAD_CLIENTS_MAX, sizeof(*l->calls));
    for (uint32_t i = 0; i < LOAD_CLIENTS_MAX; i++) {
        buf_init(&l->calls[i].body, LOAD_REPLY_BYTES_MAX);
        buf_init(&l->calls[i].reply, LOAD_REPLY_BYTES_MAX);
    }
    l->headers[l->n_headers++] =
        (struct http_header){STR_LIT("content-type"), STR_LIT("application/json")};
    if (conf->key != NULL) {
        snprintf(l->key, sizeof(l->key), "Bearer %s", conf->key);
        l->headers[l->n_headers++] =
            (struct http_header){STR_LIT("authorization"), str_from(l->key)};
    }
    rng_init(&l->rng, conf->text.seed);
    enum rc rc = load_url_resolve(&conf->url, &addr, err);
    if (rc != RC_OK) {
        return rc;
    }
    rc = loop_create(&l->loop, clock_system(), err);
    rc = rc == RC_OK ? load_trust_open(&conf->trust, &conf->url, l->loop, &l->tls, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    struct http_pool_conf pool = {.addr = addr,
                                  .host = str_from(conf->url.authority),
                                  .tls = l->tls,
                                  .tls_host = str_from(conf->url.host),
                                  .conns_max = LOAD_CLIENTS_MAX,
                                  .idle_max = LOAD_CLIENTS_MAX};
    loop_timer_init(&l->arrival, l->loop, load_arrive, l);
    loop_timer_init(&l->beat, l->loop, load_beat, l);
    rc = loop_signal(l->loop, SIGINT, load_interrupt, l, err);
    return rc == RC_OK ? http_pool_create(&l->pool, l->loop, &pool, err) : rc;
}

static void load_close(struct load *l)
{
    loop_timer_stop(&l->arrival);
    loop_timer_stop(&l->beat);
    http_pool_destroy(l->pool);
    tls_keep_destroy(l->tls);
    loop_destroy(l->loop);
    for (uint32_t i = 0; l->calls != NULL && i < LOAD_CLIENTS_MAX; i++) {
        buf_deinit(&l->calls[i].body);
        buf_deinit(&l->calls[i].reply);
    }
    mem_free(l->calls);
    arena_deinit(&l->arena);
}

static void load_measure(struct load *l)
{
    struct load_report *r = l->r;
    l->text.model = str_from(r->model);
    l->text.n_inputs = l->text.api == LOAD_EMBEDDINGS ? l->text.n_inputs : 1;
    snprintf(l->target, sizeof(l->target), "%s%s", l->conf->url.path, load_api_target(l->text.api));
    double cpu_s = load_cpu_s();
    l->start_ns = l->end_ns = l->beat_ns = load_now();
    loop_timer_start(&l->beat, LOAD_BEAT_MS);
    if (l->conf->rate > 0) {
        load_arrive(l);
    } else {
        load_next(l);
    }
    loop_run(l->loop);
    r->wall_s = (double)(l->end_ns - l->start_ns) * 1e-9;
    r->cpu_s = load_cpu_s() - cpu_s;
}

enum rc load_run(const struct load_conf *conf, struct load_report *r, struct err *err)
{
    struct load l = {.conf = conf, .text = conf->text, .r = r};
    *r = (struct load_report){.usage_told = true};
    enum rc rc = load_open(&l, err);
    if (rc == RC_OK && conf->text.model.len > 0) {
        if (!str_copy(r->model, sizeof(r->model), conf->text.model)) {
            rc = err_set(err, RC_INVALID, "--model: the name is too long");
        }
    } else if (rc == RC_OK) {
        rc = load_ask_model(&l, err);
    }
    if (rc == RC_OK) {
        load_measure(&l);
    }
    load_close(&l);
    return rc;
}
