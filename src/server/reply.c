/* reply.c: from a job's updates to the bytes of an answer: server-sent events as they come, or one
 * whole reply at the end.
 *
 * A streamed answer begins with its first update, so that a refusal by the scheduler still gets a
 * status of its own. Behind every event goes the link's comment with the counts so far. */
#include "api/fail.h"
#include "base/assert.h"
#include "base/mem.h"
#include "net/http_route.h"
#include "server/request.h"

/* Of one write: below what a connection takes (CONN_WRITE_BYTES_MAX). */
enum { REPLY_BYTES_MAX = 48 << 20 };

/* ---- whole replies ---- */

void reply_send_json(struct http_exchange *x, const struct buf *body)
{
    http_route_reply(x, 200, STR_LIT("application/json"), buf_str(body));
}

void reply_send_error(struct http_exchange *x, const struct err *err)
{
    struct api_header extra[API_FAIL_HEADERS_MAX];
    struct http_header headers[1 + API_FAIL_HEADERS_MAX];
    struct buf body;
    buf_init(&body, 64 << 10);
    api_fail_write(&body, err);
    uint32_t n = api_fail_headers(err, err->retry_ms, extra);
    headers[0] = (struct http_header){STR_LIT("content-type"), STR_LIT("application/json")};
    for (uint32_t i = 0; i < n; i++) {
        headers[1 + i] = (struct http_header){str_from(extra[i].name), str_from(extra[i].value)};
    }
    struct http_reply reply = {.status = err_row(err->code)->http_status,
                               .headers = headers,
                               .n_headers = n + 1,
                               .body = buf_str(&body)};
    if (http_exchange_reply(x, &reply, NULL) != RC_OK) {
        http_exchange_abort(x);
    }
    buf_deinit(&body);
}

/* ---- parts of an answer ---- */

static struct api_head reply_head(const struct request *r)
{
    return (struct api_head){
        .kind = r->kind,
        .id = str_from(r->id),
        .model = r->model->id,
        .created = r->created_s,
        .include_usage = r->gen->include_usage,
    };
}

static enum api_finish reply_finish(enum job_finish finish)
{
    switch (finish) {
    case JOB_STOP:
        return API_FINISH_STOP;
    case JOB_LENGTH:
        return API_FINISH_LENGTH;
    case JOB_RUNNING:
    case JOB_CANCELLED:
    case JOB_FAILED:
        break;
    }
    return API_FINISH_NONE;
}

/* A prompt counts once however many choices it has: so does what the first of them found. */
static struct api_usage reply_usage(const struct request *r)
{
    struct api_usage usage = {.prompt_tokens = r->n_prompt_tokens};
    for (uint32_t i = 0; i < r->n_choices; i++) {
        usage.completion_tokens += r->choices[i].n_output;
        usage.cached_tokens += i % r->gen->n == 0 ? r->choices[i].n_cached : 0;
    }
    return usage;
}

/* A control token has a text here, although it is none of the answer's. */
static struct str reply_token_text(const struct request *r, struct arena *a, int32_t token)
{
    struct buf text;
    buf_init(&text, 1 << 20);
    vocab_decode_piece(engine_vocab(r->model->engine), token, true, &text);
    struct str kept = arena_str(a, buf_str(&text));
    buf_deinit(&text);
    return kept;
}

/* Characters, not bytes: text_offset counts what a client's string holds. */
static uint32_t reply_n_chars(struct str text)
{
    uint32_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        n += ((unsigned char)text.ptr[i] & 0xC0) != 0x80 ? 1 : 0;
    }
    return n;
}

/* Moves the choice's n_chars behind these tokens. NULL when the arena is full. */
static const struct api_logprob *reply_logprobs(struct choice *c, const struct job_token *tokens,
                                                uint32_t n)
{
    struct request *r = c->request;
    struct arena *a = &r->news;
    struct api_logprob *out = arena_alloc_array(a, (size_t)n + 1, sizeof(*out));
    for (uint32_t i = 0; out != NULL && i < n; i++) {
        const struct job_token *t = &tokens[i];
        struct api_alt *top = arena_alloc_array(a, (size_t)t->n_top + 1, sizeof(*top));
        if (top == NULL) {
            return NULL;
        }
        for (uint32_t k = 0; k < t->n_top; k++) {
            top[k] = (struct api_alt){reply_token_text(r, a, t->top[k].token), t->top[k].logprob};
        }
        out[i] = (struct api_logprob){.bytes = reply_token_text(r, a, t->id),
                                      .logprob = t->logprob,
                                      .top = top,
                                      .n_top = t->n_top,
                                      .text_offset = c->n_chars};
        c->n_chars += reply_n_chars(out[i].bytes);
    }
    return out;
}

/* ---- streams ---- */

static bool reply_begin_stream(struct request *r)
{
    static const struct http_header headers[] = {
        {{"content-type", 12}, {"text/event-stream", 17}},
        {{"cache-control", 13}, {"no-cache", 8}},
        {{"x-accel-buffering", 17}, {"no", 2}},
    };
    struct http_reply reply = {.status = 200, .headers = headers, .n_headers = ARRAY_LEN(headers)};
    r->begun = true;
    if (http_exchange_begin(r->x, &reply, NULL) != RC_OK) {
        http_exchange_abort(r->x);
        return false;
    }
    return true;
}

static void reply_event(struct choice *c, struct buf *out, const struct api_piece *piece)
{
    struct request *r = c->request;
    struct api_head head = reply_head(r);
    api_stream_piece(out, &head, piece);
    struct api_usage usage = reply_usage(r);
    api_link_counts_write(out, usage.prompt_tokens, usage.completion_tokens);
}

static void reply_echo(struct choice *c, struct buf *out)
{
    struct request *r = c->request;
    if (r->kind != API_KIND_COMPLETION || !r->complete.echo) {
        return;
    }
    struct str text = r->prompt_texts[c->index / r->gen->n];
    c->n_chars += reply_n_chars(text);
    if (!r->stream) {
        buf_add_str(&c->text, text);
    } else if (text.len > 0) {
        struct api_piece piece = {.index = c->index, .first = true, .text = text};
        reply_event(c, out, &piece);
        c->started = true;
    }
}

static void reply_stream(struct choice *c, const struct job_update *u)
{
    struct request *r = c->request;
    struct buf out;
    if (!r->begun && !reply_begin_stream(r)) {
        return;
    }
    buf_init(&out, REPLY_BYTES_MAX);
    if (!c->started) {
        reply_echo(c, &out);
    }
    struct api_piece piece = {
        .index = c->index,
        .first = !c->started,
        .finish = c->finish,
        .text = u->text,
        .has_logprobs = r->gen->logprobs,
        .logprobs = reply_logprobs(c, u->tokens, u->n_tokens),
        .n_logprobs = u->n_tokens,
    };
    bool silent = u->text.len == 0 && u->n_tokens == 0 && c->finish == API_FINISH_NONE;
    if (piece.logprobs != NULL && (!silent || !c->started)) {
        reply_event(c, &out, &piece);
    }
    c->started = true;
    if (piece.logprobs != NULL && buf_ok(&out)) {
        http_exchange_write(r->x, buf_str(&out));
    } else {
        struct err err;
        err_set(&err, RC_TOO_LARGE, "an event of the answer is too large");
        reply_fail(r, &err);
    }
    buf_deinit(&out);
    arena_reset(&r->news);
}

static void reply_end_stream(struct request *r)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    if (r->gen->include_usage) {
        struct api_head head = reply_head(r);
        struct api_usage usage = reply_usage(r);
        api_stream_usage(&out, &head, &usage);
    }
    api_stream_done(&out);
    http_exchange_write(r->x, buf_str(&out));
    http_exchange_end(r->x);
    buf_deinit(&out);
}

/* ---- whole replies ---- */

static void reply_collect(struct choice *c, const struct job_update *u)
{
    if (!c->started) {
        c->started = true;
        reply_echo(c, NULL);
    }
    buf_add_str(&c->text, u->text);
    if (u->n_tokens == 0) {
        return;
    }
    if (c->n_tokens + u->n_tokens > c->n_room) {
        c->n_room = MAX(2 * c->n_room, c->n_tokens + u->n_tokens);
        c->tokens = mem_realloc(c->tokens, c->n_room * sizeof(*c->tokens));
    }
    memcpy(c->tokens + c->n_tokens, u->tokens, u->n_tokens * sizeof(*c->tokens));
    c->n_tokens += u->n_tokens;
}

static void reply_whole(struct request *r)
{
    struct buf out;
    struct api_head head = reply_head(r);
    struct api_usage usage = reply_usage(r);
    struct api_piece *pieces = arena_alloc_array(&r->news, r->n_choices, sizeof(*pieces));
    bool ok = pieces != NULL;
    for (uint32_t i = 0; ok && i < r->n_choices; i++) {
        struct choice *c = &r->choices[i];
        pieces[i] = (struct api_piece){
            .index = i,
            .finish = c->finish,
            .text = buf_str(&c->text),
            .has_logprobs = r->gen->logprobs,
            .logprobs = reply_logprobs(c, c->tokens, c->n_tokens),
            .n_logprobs = c->n_tokens,
        };
        ok = buf_ok(&c->text) && pieces[i].logprobs != NULL;
    }
    buf_init(&out, REPLY_BYTES_MAX);
    if (ok) {
        api_reply_write(&out, &head, pieces, r->n_choices, &usage);
    }
    if (ok && buf_ok(&out)) {
        reply_send_json(r->x, &out);
    } else {
        struct err err;
        err_set(&err, RC_TOO_LARGE, "the answer is too large");
        reply_send_error(r->x, &err);
    }
    buf_deinit(&out);
    arena_reset(&r->news);
}

/* ---- updates ---- */

void reply_fail(struct request *r, const struct err *err)
{
    request_cancel_jobs(r);
    if (r->x == NULL || r->failed) {
        return;
    }
    r->failed = true;
    if (!r->begun) {
        reply_send_error(r->x, err);
        return;
    }
    struct buf out;
    buf_init(&out, 64 << 10);
    api_stream_fail(&out, err);
    http_exchange_write(r->x, buf_str(&out));
    http_exchange_end(r->x);
    buf_deinit(&out);
}

static void reply_finished(struct request *r)
{
    r->n_finished++;
    if (r->x == NULL || r->failed || r->n_finished < r->n_choices) {
        return;
    }
    if (r->stream) {
        reply_end_stream(r);
    } else {
        reply_whole(r);
    }
}

void reply_update(struct choice *c)
{
    struct request *r = c->request;
    ASSERT(c->job != NULL);
    bool alive = r->x != NULL && !r->failed;
    if (alive && r->begun && !http_exchange_is_writable(r->x)) {
        c->waiting = true; /* what the job holds back slows the sequence down */
        return;
    }
    struct job_update u;
    step_take(r->server->step, c->job, &u);
    c->waiting = false;
    c->n_output = u.n_output;
    c->n_cached = u.n_cached;
    c->finish = reply_finish(u.finish);
    if (alive && u.finish == JOB_FAILED) {
        reply_fail(r, u.err);
    } else if (alive && u.finish == JOB_CANCELLED) {
        struct err err;
        err_set(&err, RC_UNAVAILABLE, "the server is stopping");
        reply_fail(r, &err);
    } else if (alive && r->stream) {
        reply_stream(c, &u);
    } else if (alive) {
        reply_collect(c, &u);
    }
    if (u.finish != JOB_RUNNING) {
        job_destroy(c->job);
        c->job = NULL;
        reply_finished(r);
        request_put(r);
    }
}

void reply_waiting(struct request *r)
{
    /* Held, since the last choice's end may let the request go. */
    r->n_holds++;
    for (uint32_t i = 0; i < r->n_choices; i++) {
        if (r->choices[i].waiting && r->choices[i].job != NULL) {
            reply_update(&r->choices[i]);
        }
    }
    request_put(r);
}
