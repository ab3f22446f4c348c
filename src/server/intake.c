/* intake.c: from an HTTP request to jobs.
 *
 *   body ──worker: parse, template, tokens──> lengths checked ──> jobs submitted
 *
 * The head alone decides the route; the body is collected on the loop, and parsed, rendered and
 * tokenized on a worker, since a long one may take many milliseconds. */
#include "api/fail.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "server/prompt.h"
#include "server/request.h"

enum {
    INTAKE_ARENA_BYTES_MAX = 768 << 20, /* parsed body, rendered text and tokens of a request */
    INTAKE_NEWS_BYTES_MAX = 64 << 20,
};

/* What the API lets through, the sampler and the matcher take: they assert it. */
_Static_assert((int)API_STOPS_MAX <= (int)STOP_STRINGS_MAX, "every stop string has a place");
_Static_assert((int)API_STOP_BYTES_MAX <= (int)STOP_BYTES_MAX, "the longest stop string fits");
_Static_assert((int)API_TOP_LOGPROBS_MAX <= (int)SAMPLE_TOP_LOGPROBS_MAX,
               "every alternative has a place");

/* ---- life ---- */

/* The parsed request is of no more use. May be called twice. */
static void request_release_input(struct request *r)
{
    body_release(&r->body);
    arena_deinit(&r->arena);
    r->prompts = NULL;
}

void request_put(struct request *r)
{
    ASSERT(r->n_holds > 0);
    if (--r->n_holds > 0) {
        return;
    }
    for (uint32_t i = 0; i < r->n_choices; i++) {
        ASSERT(r->choices[i].job == NULL);
        buf_deinit(&r->choices[i].text);
        mem_free(r->choices[i].tokens);
    }
    mem_free(r->choices);
    request_release_input(r);
    arena_deinit(&r->news);
    struct server *s = r->server;
    mem_free(r);
    s->n_requests--;
    server_settle(s);
}

void request_cancel_jobs(struct request *r)
{
    for (uint32_t i = 0; i < r->n_choices; i++) {
        if (r->choices[i].job != NULL) {
            step_cancel(r->server->step, r->choices[i].job);
        }
    }
}

/* ---- jobs ---- */

static void intake_job_params(const struct request *r, struct job_params *out,
                              struct sample_bias *biases, int32_t *stop_tokens)
{
    const struct api_generate *g = r->gen;
    const struct api_sampling *s = &g->sampling;
    for (uint32_t i = 0; i < s->n_biases; i++) {
        biases[i] = (struct sample_bias){(int32_t)s->biases[i].token, s->biases[i].bias};
    }
    for (uint32_t i = 0; i < g->n_stop_tokens; i++) {
        stop_tokens[i] = (int32_t)g->stop_tokens[i];
    }
    *out = (struct job_params){
        .sample = {.temperature = (float)s->temperature,
                   .top_k = s->top_k,
                   .top_p = (float)s->top_p,
                   .min_p = (float)s->min_p,
                   .repetition_penalty = (float)s->repetition_penalty,
                   .presence_penalty = (float)s->presence_penalty,
                   .frequency_penalty = (float)s->frequency_penalty,
                   .biases = biases,
                   .n_biases = s->n_biases,
                   .seed = (uint64_t)s->seed,
                   .n_top_logprobs = g->top_logprobs,
                   .want_logprob = g->logprobs,
                   .ignore_eos = g->ignore_eos,
                   .min_tokens = g->min_tokens},
        .stops = g->stops,
        .n_stops = g->n_stops,
        .stop_tokens = stop_tokens,
        .n_stop_tokens = g->n_stop_tokens,
        .tenant = str_from(r->link.tenant),
        .priority = (uint32_t)r->link.priority,
    };
    out->deadline_ns = server_deadline_ns(&r->link, r->arrived_ns);
    if (!s->has_seed) {
        crypto_random(&out->sample.seed, sizeof(out->sample.seed));
    }
}

/* Token ids from outside are checked here, where the vocabulary is known. */
static enum rc intake_check_ids(const struct request *r, struct err *err)
{
    uint32_t n_vocab = engine_info(r->model->engine)->n_vocab;
    const struct api_generate *g = r->gen;
    for (uint32_t i = 0; i < g->sampling.n_biases; i++) {
        if (g->sampling.biases[i].token >= n_vocab) {
            return err_set_param(err, RC_INVALID, "logit_bias",
                                 "token %u is not in the vocabulary of %u",
                                 g->sampling.biases[i].token, n_vocab);
        }
    }
    for (uint32_t i = 0; i < g->n_stop_tokens; i++) {
        if (g->stop_tokens[i] >= n_vocab) {
            return err_set_param(err, RC_INVALID, "stop_token_ids",
                                 "token %u is not in the vocabulary of %u", g->stop_tokens[i],
                                 n_vocab);
        }
    }
    return RC_OK;
}

/* What the budget leaves for one choice's output; the first ones get what does not divide. */
static enum rc intake_check_budget(const struct request *r, uint32_t idx, uint32_t *max_tokens,
                                   struct err *err)
{
    if (!r->link.has_budget) {
        return RC_OK;
    }
    uint32_t budget = r->link.budget_tokens;
    uint32_t left = budget > r->n_prompt_tokens ? budget - r->n_prompt_tokens : 0;
    if (left < r->n_choices) {
        return err_set(
            err, RC_CONTEXT,
            "The budget of %u tokens does not cover a prompt of %u tokens and an answer.", budget,
            r->n_prompt_tokens);
    }
    uint32_t share = left / r->n_choices + (idx < left % r->n_choices ? 1 : 0);
    *max_tokens = MIN(*max_tokens, share);
    return RC_OK;
}

static enum rc intake_start_choice(struct request *r, struct choice *c, struct job_params *params,
                                   struct err *err)
{
    const struct token_list *prompt = &r->prompts[c->index / r->gen->n];
    params->prompt = prompt->ids;
    params->n_prompt = prompt->n;
    uint32_t asked = r->gen->has_max_tokens ? r->gen->max_tokens : 0;
    enum rc rc = prompt_check_length(r->model->engine, prompt->n, asked, &params->max_tokens, err);
    if (rc != RC_OK) {
        str_copy(err->param, sizeof(err->param),
                 str_from(r->kind == API_KIND_CHAT ? "messages" : "prompt"));
        return rc;
    }
    rc = intake_check_budget(r, c->index, &params->max_tokens, err);
    if (rc != RC_OK) {
        return rc;
    }
    /* Choices of one request differ although they share its seed. */
    struct job_params own = *params;
    own.sample.seed += c->index % r->gen->n;
    rc = job_create(&c->job, &own, c, err);
    if (rc != RC_OK) {
        return rc;
    }
    rc = step_submit(r->server->step, r->model->model, c->job, err);
    if (rc != RC_OK) {
        job_destroy(c->job);
        c->job = NULL;
        return rc;
    }
    r->n_holds++;
    return RC_OK;
}

static enum rc intake_start(struct request *r, struct err *err)
{
    const struct api_generate *g = r->gen;
    struct job_params params;
    struct sample_bias *biases =
        arena_alloc_array(&r->arena, g->sampling.n_biases + 1, sizeof(*biases));
    int32_t *stop_tokens = arena_alloc_array(&r->arena, g->n_stop_tokens + 1, sizeof(*stop_tokens));
    r->choices = mem_try_zalloc_array((size_t)r->n_prompts * g->n, sizeof(*r->choices));
    if (biases == NULL || stop_tokens == NULL || r->choices == NULL) {
        return err_set(err, RC_TOO_LARGE, "the request is too large");
    }
    r->n_choices = r->n_prompts * g->n;
    for (uint32_t i = 0; i < r->n_prompts; i++) {
        r->n_prompt_tokens += r->prompts[i].n;
    }
    for (uint32_t i = 0; i < r->n_choices; i++) {
        r->choices[i] = (struct choice){.request = r, .index = i};
        buf_init(&r->choices[i].text, PROMPT_TEXT_BYTES_MAX);
    }
    enum rc rc = intake_check_ids(r, err);
    intake_job_params(r, &params, biases, stop_tokens);
    for (uint32_t i = 0; i < r->n_choices && rc == RC_OK; i++) {
        rc = intake_start_choice(r, &r->choices[i], &params, err);
    }
    bool echo = r->kind == API_KIND_COMPLETION && r->complete.echo;
    if (rc == RC_OK && !echo) {
        request_release_input(r);
    }
    return rc;
}

/* ---- the worker's part ---- */

static enum rc intake_encode_chat(struct request *r, struct err *err)
{
    const struct engine *e = r->model->engine;
    struct prompt_chat chat = {
        .messages = r->chat.messages,
        .n_messages = r->chat.n_messages,
        .add_generation_prompt = r->chat.add_generation_prompt,
        .template_kwargs = r->chat.template_kwargs,
        .now_s = r->created_s,
    };
    struct str text;
    enum rc rc = prompt_render(e, &chat, &r->arena, &text, err);
    return rc == RC_OK ? prompt_encode_chat(e, text, &r->arena, &r->prompts[0], err) : rc;
}

static enum rc intake_copy_ids(struct request *r, uint32_t idx, struct err *err)
{
    const struct api_prompt *p = &r->complete.prompts[idx];
    uint32_t n_vocab = engine_info(r->model->engine)->n_vocab;
    int32_t *ids = arena_alloc_array(&r->arena, p->n_tokens, sizeof(*ids));
    if (ids == NULL) {
        return err_set_param(err, RC_TOO_LARGE, "prompt", "the prompt is too large");
    }
    for (uint32_t i = 0; i < p->n_tokens; i++) {
        if (p->tokens[i] >= n_vocab) {
            return err_set_param(err, RC_INVALID, "prompt",
                                 "token %u is not in the vocabulary of %u", p->tokens[i], n_vocab);
        }
        ids[i] = (int32_t)p->tokens[i];
    }
    r->prompts[idx] = (struct token_list){ids, p->n_tokens};
    return RC_OK;
}

/* The text that echo shows: as given, or what given ids mean. */
static enum rc intake_echo_text(struct request *r, uint32_t idx, struct err *err)
{
    const struct api_prompt *p = &r->complete.prompts[idx];
    if (!p->is_tokens) {
        r->prompt_texts[idx] = p->text;
        return RC_OK;
    }
    struct buf text;
    buf_init(&text, PROMPT_TEXT_BYTES_MAX);
    for (uint32_t i = 0; i < p->n_tokens; i++) {
        vocab_decode_piece(engine_vocab(r->model->engine), (int32_t)p->tokens[i], false, &text);
    }
    r->prompt_texts[idx] = buf_ok(&text) ? arena_str(&r->arena, buf_str(&text)) : STR_NULL;
    buf_deinit(&text);
    return r->prompt_texts[idx].ptr != NULL
               ? RC_OK
               : err_set_param(err, RC_TOO_LARGE, "prompt", "the prompt is too large");
}

static enum rc intake_encode_complete(struct request *r, struct err *err)
{
    const struct engine *e = r->model->engine;
    enum rc rc = RC_OK;
    for (uint32_t i = 0; i < r->n_prompts && rc == RC_OK; i++) {
        const struct api_prompt *p = &r->complete.prompts[i];
        rc = p->is_tokens ? intake_copy_ids(r, i, err)
                          : prompt_encode_text(e, p->text, &r->arena, &r->prompts[i], err);
        if (rc == RC_OK && r->prompts[i].n == 0) {
            rc = err_set_param(err, RC_INVALID, "prompt", "the prompt has no tokens");
        }
        rc = rc == RC_OK && r->complete.echo ? intake_echo_text(r, i, err) : rc;
    }
    return rc;
}

static enum rc intake_parse(struct request *r, struct err *err)
{
    enum rc rc;
    struct str body = buf_str(&r->body.bytes);
    if (r->kind == API_KIND_CHAT) {
        rc = api_chat_parse(body, &r->arena, &r->chat, err);
        r->gen = &r->chat.gen;
        r->n_prompts = 1;
    } else {
        rc = api_complete_parse(body, &r->arena, &r->complete, err);
        r->gen = &r->complete.gen;
        r->n_prompts = r->complete.n_prompts;
        if (rc == RC_OK && r->complete.echo && r->gen->logprobs) {
            rc = err_set_param(err, RC_UNSUPPORTED, "echo",
                               "echo together with logprobs is not supported");
        }
        if (rc == RC_OK && r->gen->max_tokens == 0) {
            rc = err_set_param(err, RC_UNSUPPORTED, "max_tokens", "max_tokens must be at least 1");
        }
    }
    if (rc != RC_OK) {
        return rc;
    }
    r->stream = r->gen->stream;
    r->model = server_find_model(r->server, r->gen->model);
    if (r->model == NULL) {
        return err_set_param(err, RC_MODEL_NOT_FOUND, "model", "The model `%.*s` does not exist.",
                             (int)MIN(r->gen->model.len, (size_t)100), r->gen->model.ptr);
    }
    if (r->model->model == NULL) {
        bool ranks = engine_info(r->model->engine)->kind == ENGINE_RERANKER;
        return err_set_param(err, RC_INVALID, "model", "The model `%.*s` %s: ask it by %s.",
                             (int)MIN(r->gen->model.len, (size_t)100), r->gen->model.ptr,
                             ranks ? "ranks documents" : "makes embeddings",
                             ranks ? "/v1/rerank" : "/v1/embeddings");
    }
    return RC_OK;
}

static enum rc intake_encode(struct request *r, struct err *err)
{
    r->prompts = arena_alloc_array(&r->arena, r->n_prompts, sizeof(*r->prompts));
    r->prompt_texts = arena_alloc_array(&r->arena, r->n_prompts, sizeof(*r->prompt_texts));
    if (r->prompts == NULL || r->prompt_texts == NULL) {
        return err_set(err, RC_TOO_LARGE, "the request is too large");
    }
    return r->kind == API_KIND_CHAT ? intake_encode_chat(r, err) : intake_encode_complete(r, err);
}

/* Of the server it reads only what stays as it is once the models are loaded. */
static void intake_work(void *ctx)
{
    struct request *r = ctx;
    r->work_rc = intake_parse(r, &r->err);
    r->work_rc = r->work_rc == RC_OK ? intake_encode(r, &r->err) : r->work_rc;
}

static void intake_work_done(void *ctx, enum rc rc)
{
    struct request *r = ctx;
    rc = rc == RC_OK ? r->work_rc : err_set(&r->err, RC_UNAVAILABLE, "the server is stopping");
    if (r->x != NULL && rc == RC_OK) {
        rc = intake_start(r, &r->err);
    }
    if (rc != RC_OK) {
        reply_fail(r, &r->err);
    }
    request_put(r);
}

/* ---- the body ---- */

static void intake_on_body(void *ctx, struct str bytes)
{
    struct request *r = ctx;
    struct err err = {0};
    if (!r->failed && body_add(&r->body, bytes, &err) != RC_OK) {
        reply_fail(r, &err);
        request_release_input(r);
    }
}

static void intake_on_body_end(void *ctx, enum rc rc)
{
    struct request *r = ctx;
    const struct loop_job job = {.run = intake_work, .done = intake_work_done, .ctx = r};
    struct err err = {0};
    if (r->failed) {
        return;
    }
    if (body_work(&r->body, rc, &job, &err) == RC_OK) {
        r->n_holds++;
    } else {
        reply_fail(r, &err);
    }
}

static void intake_on_writable(void *ctx)
{
    reply_waiting(ctx);
}

static void intake_on_close(void *ctx, enum rc rc)
{
    UNUSED(rc);
    struct request *r = ctx;
    r->x = NULL;
    request_cancel_jobs(r);
    reply_waiting(r);
    request_put(r);
}

void intake_generate(struct server *s, struct http_exchange *x, enum api_kind kind)
{
    static const struct http_exchange_events events = {
        .on_body = intake_on_body,
        .on_body_end = intake_on_body_end,
        .on_writable = intake_on_writable,
        .on_close = intake_on_close,
    };
    struct err err = {0};
    if (body_admit(s, &err) != RC_OK) {
        reply_send_error(x, &err);
        return;
    }
    struct request *r = mem_try_zalloc(sizeof(*r));
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
    r->created_s = clock_wall_s(loop_clock(s->loop));
    r->arrived_ns = clock_mono_ns(loop_clock(s->loop));
    arena_init(&r->arena, INTAKE_ARENA_BYTES_MAX);
    arena_init(&r->news, INTAKE_NEWS_BYTES_MAX);
    body_init(&r->body, s);
    server_make_id(kind == API_KIND_CHAT ? "chatcmpl" : "cmpl", r->id);
    if (server_read_link(x, &r->link, &err) != RC_OK) {
        reply_send_error(x, &err);
        r->x = NULL;
        request_put(r);
        return;
    }
    http_exchange_accept(x, HTTP_BODY_STREAM, SERVER_BODY_BYTES_MAX, &events, r);
}
