/* embed_intake.c: from an HTTP request to a job of texts, and back.
 *
 *   body ──worker: parse, tokens──> job submitted ──engine──> job back ──worker: JSON──> reply
 *
 * A request lives while its exchange is open, a worker has it, or its job has not come back:
 * n_holds counts these; the last to leave frees it. A hang-up cancels the job. */
#include "server/embed_intake.h"

#include "base/assert.h"
#include "base/mem.h"
#include "server/embed_tokens.h"
#include "server/request.h"

enum {
    EMBED_ARENA_BYTES_MAX = 768 << 20, /* parsed body and tokens of a request */
    EMBED_REPLY_BYTES_MAX = 48 << 20,  /* below what a connection takes */
    EMBED_HERE_FLOATS_MAX = 1 << 13,   /* a longer reply is written by a worker */
};

struct embed_request {
    struct server *server;
    struct http_exchange *x; /* NULL once closed */
    struct served_model *model;
    enum embed_kind kind;
    uint32_t n_holds;
    bool answered;
    struct api_link link;
    uint64_t arrived_ns; /* monotonic */
    char id[SERVER_ID_BYTES];
    struct arena arena;
    struct body body;
    union {
        struct api_embed_request embed;
        struct api_rerank_request rerank;
    };
    struct embed_texts texts;
    uint32_t n_tokens;
    struct embed_job *job; /* made by the worker */
    bool submitted;        /* and not back yet */
    struct buf reply;
    enum rc work_rc; /* of the worker */
    struct err err;
};

/* ---- life ---- */

static void embed_request_put(struct embed_request *r)
{
    ASSERT(r->n_holds > 0);
    if (--r->n_holds > 0) {
        return;
    }
    struct server *s = r->server;
    embed_job_destroy(r->job);
    body_release(&r->body);
    buf_deinit(&r->reply);
    arena_deinit(&r->arena);
    mem_free(r);
    s->n_requests--;
    server_settle(s);
}

static void embed_fail(struct embed_request *r, const struct err *err)
{
    if (r->x != NULL && !r->answered) {
        r->answered = true;
        reply_send_error(r->x, err);
    }
}

/* ---- the reply ---- */

static void embed_write_vectors(struct embed_request *r, float *out)
{
    uint32_t n_dims = engine_info(r->model->engine)->n_out;
    if (r->embed.has_dimensions) {
        api_embed_shorten(out, r->texts.n, n_dims, r->embed.dimensions);
        n_dims = r->embed.dimensions;
    }
    struct api_embed_reply reply = {
        .model = r->model->id,
        .vectors = out,
        .n = r->texts.n,
        .n_dims = n_dims,
        .base64 = r->embed.base64,
        .n_tokens = r->n_tokens,
    };
    api_embed_write(&r->reply, &reply);
}

static bool embed_write_scores(struct embed_request *r, const float *out)
{
    struct api_rerank_result *results =
        arena_alloc_array(&r->arena, r->rerank.n_documents, sizeof(*results));
    if (results == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < r->rerank.n_documents; i++) {
        results[i] = (struct api_rerank_result){i, out[i]};
    }
    api_rerank_sort(results, r->rerank.n_documents);
    struct api_rerank_reply reply = {
        .id = str_from(r->id),
        .model = r->model->id,
        .results = results,
        .n = r->rerank.top_n,
        .documents = r->rerank.return_documents ? r->rerank.documents : NULL,
        .n_tokens = r->n_tokens,
    };
    api_rerank_write(&r->reply, &reply);
    return true;
}

/* A worker's, when it is long. */
static void embed_write_reply(void *ctx)
{
    struct embed_request *r = ctx;
    float *out = embed_job_out(r->job);
    bool ok = out != NULL;
    if (ok && r->kind == EMBED_VECTORS) {
        embed_write_vectors(r, out);
    } else if (ok) {
        ok = embed_write_scores(r, out);
    }
    ok = ok && buf_ok(&r->reply);
    r->work_rc = ok ? RC_OK : err_set(&r->err, RC_TOO_LARGE, "the answer is too large");
}

static void embed_reply_written(void *ctx, enum rc rc)
{
    struct embed_request *r = ctx;
    if (rc != RC_OK) {
        r->work_rc = err_set(&r->err, RC_UNAVAILABLE, "the server is stopping");
    }
    embed_job_destroy(r->job);
    r->job = NULL;
    if (r->work_rc != RC_OK) {
        embed_fail(r, &r->err);
    } else if (r->x != NULL && !r->answered) {
        r->answered = true;
        reply_send_json(r->x, &r->reply);
    }
    embed_request_put(r);
}

static void embed_job_finished(struct embed_request *r)
{
    struct loop_job job = {.run = embed_write_reply, .done = embed_reply_written, .ctx = r};
    r->submitted = false;
    uint64_t n_floats = (uint64_t)r->texts.n * engine_info(r->model->engine)->n_out;
    if (r->x == NULL || embed_job_out(r->job) == NULL) {
        r->work_rc = embed_job_is_late(r->job)
                         ? err_set(&r->err, RC_TIMEOUT, "The request's deadline has passed.")
                         : err_set(&r->err, RC_UNAVAILABLE, "the server is stopping");
        embed_reply_written(r, RC_OK);
    } else if (n_floats <= EMBED_HERE_FLOATS_MAX ||
               loop_work_start(NULL, r->server->loop, &job, &r->err) != RC_OK) {
        embed_write_reply(r);
        embed_reply_written(r, RC_OK);
    }
}

void embed_intake_finished(struct server *s)
{
    struct embed_job *j;
    while (s->embed != NULL && (j = embed_next(s->embed)) != NULL) {
        embed_job_finished(embed_job_reader(j));
    }
}

/* ---- the worker's part ---- */

static enum rc embed_check_model(const struct embed_request *r, struct err *err)
{
    static const char *const makes[] = {"writes text", "makes embeddings", "ranks documents"};
    static const char *const routes[] = {"/v1/chat/completions", "/v1/embeddings", "/v1/rerank"};
    enum engine_kind have = engine_info(r->model->engine)->kind;
    enum engine_kind want = r->kind == EMBED_VECTORS ? ENGINE_EMBEDDER : ENGINE_RERANKER;
    if (have != want) {
        return err_set_param(err, RC_INVALID, "model",
                             "The model `%.*s` %s: ask it by %s. This route needs one that %s.",
                             (int)MIN(r->model->id.len, (size_t)100), r->model->id.ptr, makes[have],
                             routes[have], makes[want]);
    }
    return RC_OK;
}

static enum rc embed_check_dimensions(const struct embed_request *r, struct err *err)
{
    uint32_t n_out = engine_info(r->model->engine)->n_out;
    if (r->kind == EMBED_VECTORS && r->embed.has_dimensions && r->embed.dimensions > n_out) {
        return err_set_param(err, RC_INVALID, "dimensions",
                             "'dimensions' is %u; this model's vectors have %u.",
                             r->embed.dimensions, n_out);
    }
    return RC_OK;
}

static enum rc embed_check_budget(const struct embed_request *r, struct err *err)
{
    if (r->link.has_budget && r->n_tokens > r->link.budget_tokens) {
        return err_set(err, RC_CONTEXT, "The budget of %u tokens does not cover %u tokens of text.",
                       r->link.budget_tokens, r->n_tokens);
    }
    return RC_OK;
}

static enum rc embed_parse(struct embed_request *r, struct err *err)
{
    struct str body = buf_str(&r->body.bytes);
    bool vectors = r->kind == EMBED_VECTORS;
    enum rc rc = vectors ? api_embed_parse(body, &r->arena, &r->embed, err)
                         : api_rerank_parse(body, &r->arena, &r->rerank, err);
    if (rc != RC_OK) {
        return rc;
    }
    struct str name = vectors ? r->embed.model : r->rerank.model;
    r->model = server_find_model(r->server, name);
    if (r->model == NULL) {
        return err_set_param(err, RC_MODEL_NOT_FOUND, "model", "The model `%.*s` does not exist.",
                             (int)MIN(name.len, (size_t)100), name.ptr);
    }
    rc = embed_check_model(r, err);
    return rc == RC_OK ? embed_check_dimensions(r, err) : rc;
}

/* Of the server it reads only what stays as it is once the models are loaded. */
static void embed_work(void *ctx)
{
    struct embed_request *r = ctx;
    r->work_rc = embed_parse(r, &r->err);
    if (r->work_rc == RC_OK) {
        const struct engine *e = r->model->engine;
        r->work_rc =
            r->kind == EMBED_VECTORS
                ? embed_tokens_inputs(e, &r->embed, &r->arena, &r->texts, &r->n_tokens, &r->err)
                : embed_tokens_pairs(e, &r->rerank, &r->arena, &r->texts, &r->n_tokens, &r->err);
    }
    r->work_rc = r->work_rc == RC_OK ? embed_check_budget(r, &r->err) : r->work_rc;
    if (r->work_rc == RC_OK) {
        r->texts.deadline_ns = server_deadline_ns(&r->link, r->arrived_ns);
        r->work_rc = embed_job_create(&r->job, r->model->embed, &r->texts, r, &r->err);
    }
}

static void embed_work_done(void *ctx, enum rc rc)
{
    struct embed_request *r = ctx;
    struct server *s = r->server;
    rc = rc == RC_OK ? r->work_rc : err_set(&r->err, RC_UNAVAILABLE, "the server is stopping");
    if (rc == RC_OK && r->x != NULL) {
        rc = embed_submit(s->embed, r->job, &r->err);
        if (rc == RC_OK) {
            r->n_holds++;
            r->submitted = true;
            step_ring(s->step);
            if (r->kind == EMBED_VECTORS) { /* documents may be shown in the answer */
                body_release(&r->body);
                arena_deinit(&r->arena);
            }
        }
    }
    if (rc != RC_OK) {
        embed_fail(r, &r->err);
    }
    embed_request_put(r);
}

/* ---- the body ---- */

static void embed_on_body(void *ctx, struct str bytes)
{
    struct embed_request *r = ctx;
    struct err err = {0};
    if (!r->answered && body_add(&r->body, bytes, &err) != RC_OK) {
        embed_fail(r, &err);
        body_release(&r->body);
    }
}

static void embed_on_body_end(void *ctx, enum rc rc)
{
    struct embed_request *r = ctx;
    const struct loop_job job = {.run = embed_work, .done = embed_work_done, .ctx = r};
    struct err err = {0};
    if (r->answered) {
        return;
    }
    if (body_work(&r->body, rc, &job, &err) == RC_OK) {
        r->n_holds++;
    } else {
        embed_fail(r, &err);
    }
}

static void embed_on_close(void *ctx, enum rc rc)
{
    UNUSED(rc);
    struct embed_request *r = ctx;
    r->x = NULL;
    if (r->submitted) {
        embed_cancel(r->job);
        step_ring(r->server->step);
    }
    embed_request_put(r);
}

void embed_intake(struct server *s, struct http_exchange *x, enum embed_kind kind)
{
    static const struct http_exchange_events events = {
        .on_body = embed_on_body,
        .on_body_end = embed_on_body_end,
        .on_close = embed_on_close,
    };
    struct err err = {0};
    if (body_admit(s, &err) != RC_OK) {
        reply_send_error(x, &err);
        return;
    }
    struct embed_request *r = mem_try_zalloc(sizeof(*r));
    if (r == NULL) {
        err_set(&err, RC_NOMEM, "out of memory for a request");
        reply_send_error(x, &err);
        return;
    }
    r->server = s;
    r->x = x;
    r->kind = kind;
    r->n_holds = 1; /* the exchange's */
    s->n_requests++;
    arena_init(&r->arena, EMBED_ARENA_BYTES_MAX);
    body_init(&r->body, s);
    buf_init(&r->reply, EMBED_REPLY_BYTES_MAX);
    server_make_id("rerank", r->id);
    r->arrived_ns = clock_mono_ns(loop_clock(s->loop));
    if (server_read_link(x, &r->link, &err) != RC_OK) {
        reply_send_error(x, &err);
        r->x = NULL;
        embed_request_put(r);
        return;
    }
    http_exchange_accept(x, HTTP_BODY_STREAM, SERVER_BODY_BYTES_MAX, &events, r);
}
