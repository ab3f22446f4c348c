/* stage_parse.c: the body as a typed, checked request; the model must be one that is served. The
 * body itself goes on unchanged: the model server parses it again, as it would anybody's. */
#include "gateway/stages.h"

#include "api/chat.h"
#include "api/complete.h"
#include "api/rerank.h"
#include "auth/scope.h"
#include "base/hash.h"

enum {
    PARSE_HERE_BYTES_MAX = 256 << 10, /* a longer body would hold the loop for milliseconds */
    PARSE_ARENA_BYTES_MAX = 768 << 20,
    PARSE_PREFIX_BYTES = 1024,
    PARSE_BEGUN_BYTES = 64 << 10,      /* of a body that have come: then it is believed … */
    PARSE_RESERVE_BYTES_MAX = 4 << 20, /* … how long it says it is */
};

bool stage_parse_allows(const struct gw_request *r, struct str model)
{
    const struct policy_row *row = gw_kind_policy(r->kind);
    const struct cat_project *project = r->project;
    const struct str *patterns = project != NULL ? project->models.at : NULL;
    bool allowed = project == NULL || project->models.n == 0;
    for (uint32_t i = 0; !allowed && i < project->models.n; i++) {
        allowed = str_matches(patterns[i], model);
    }
    return allowed && rbac_allows(&r->who.grants, row->kind, row->action, model) &&
           scope_allows_model(r->who.scopes, model);
}

static enum gw_result parse_check_model(struct gw_request *r)
{
    if (r->kind == GW_MODELS) {
        return GW_NEXT;
    }
    r->wanted = cat_model_find(r->cat, r->model, &r->pinned);
    if (r->wanted == NULL || !stage_parse_allows(r, r->model)) {
        err_set_param(&r->err, RC_MODEL_NOT_FOUND, "model",
                      "The model `%.*s` does not exist or you do not have access to it.",
                      (int)MIN(r->model.len, (size_t)100), r->model.ptr);
        return GW_FAIL;
    }
    return GW_NEXT;
}

/* Of the prompt's first bytes: enough to tell conversations apart, not to keep them together. */
static uint64_t parse_prefix(struct str text)
{
    return hash_str(str_slice(text, 0, PARSE_PREFIX_BYTES));
}

static void parse_note_chat(struct gw_parsed *p, const struct api_chat_request *chat)
{
    size_t left = PARSE_PREFIX_BYTES;
    p->n_choices = chat->gen.n;
    for (uint32_t i = 0; i < chat->n_messages && left > 0; i++) {
        struct str text = str_slice(chat->messages[i].content, 0, left);
        p->prefix = hash_u64(p->prefix ^ parse_prefix(text));
        left -= text.len;
    }
}

static void parse_note_completion(struct gw_parsed *p, const struct api_complete_request *c)
{
    const struct api_prompt *first = &c->prompts[0];
    p->n_choices = c->gen.n * c->n_prompts;
    p->prefix = first->is_tokens
                    ? parse_prefix(str_make((const char *)(const void *)first->tokens,
                                            (size_t)first->n_tokens * sizeof(first->tokens[0])))
                    : parse_prefix(first->text);
}

static enum rc parse_by_kind(enum gw_kind kind, struct str body, struct arena *scratch,
                             struct str *model, struct gw_parsed *p)
{
    union {
        struct api_chat_request chat;
        struct api_complete_request complete;
        struct api_embed_request embed;
        struct api_rerank_request rerank;
    } u;
    enum rc rc = RC_OK;
    if (kind == GW_EMBED) {
        rc = api_embed_parse(body, scratch, &u.embed, &p->err);
        *model = u.embed.model;
        return rc;
    }
    if (kind == GW_RERANK) {
        rc = api_rerank_parse(body, scratch, &u.rerank, &p->err);
        *model = u.rerank.model;
        return rc;
    }
    const struct api_generate *gen = kind == GW_CHAT ? &u.chat.gen : &u.complete.gen;
    rc = kind == GW_CHAT ? api_chat_parse(body, scratch, &u.chat, &p->err)
                         : api_complete_parse(body, scratch, &u.complete, &p->err);
    *model = gen->model;
    if (rc == RC_OK) {
        p->stream = gen->stream;
        p->include_usage = gen->include_usage;
        p->has_max_tokens = gen->has_max_tokens;
        p->max_tokens = gen->max_tokens;
        if (kind == GW_CHAT) {
            parse_note_chat(p, &u.chat);
        } else {
            parse_note_completion(p, &u.complete);
        }
    }
    return rc;
}

/* Touches nothing but the body, the arenas and `parsed`. What was parsed is of no use later: the
 * bytes go on. */
static void parse_body(struct gw_request *r, struct arena *scratch)
{
    struct gw_parsed *p = &r->parsed;
    struct str model = STR_NULL;
    p->rc = parse_by_kind(r->kind, buf_str(&r->body), scratch, &model, p);
    if (p->rc == RC_OK) {
        p->model = arena_str(&r->arena, model);
        p->rc = p->model.ptr != NULL ? RC_OK : err_set(&p->err, RC_NOMEM, "out of memory");
    }
}

/* Any thread. */
static void parse_on_worker(void *ctx)
{
    struct arena scratch;
    arena_init(&scratch, PARSE_ARENA_BYTES_MAX);
    parse_body(ctx, &scratch);
    arena_deinit(&scratch);
}

static void parse_done(struct gw_request *r)
{
    if (r->parsed.rc != RC_OK) {
        r->err = r->parsed.err;
        stages_resume(r, GW_FAIL);
        return;
    }
    r->model = r->parsed.model;
    r->stream = r->parsed.stream;
    stages_resume(r, parse_check_model(r));
}

static void parse_on_worker_done(void *ctx, enum rc rc)
{
    struct gw_request *r = ctx;
    r->parsing = false;
    if (r->x == NULL) {
        stages_release(r);
        return;
    }
    if (rc != RC_OK) {
        r->parsed.rc = err_set(&r->parsed.err, RC_UNAVAILABLE, "The server is stopping.");
    }
    parse_done(r);
}

static void parse_fail(struct gw_request *r)
{
    stages_resume(r, GW_FAIL);
    stages_release(r);
}

/* Room for all of a long body, which else would be moved each time it has doubled. */
static enum rc parse_reserve(struct gw_request *r)
{
    const struct http_head *head = http_exchange_head(r->x);
    uint64_t length = head->framing == HTTP_FRAMING_LENGTH ? head->content_length : 0;
    if (r->body.len < PARSE_BEGUN_BYTES || length > PARSE_RESERVE_BYTES_MAX ||
        length <= r->body.len || buf_reserve(&r->body, (size_t)length - r->body.len) != NULL) {
        return RC_OK;
    }
    return err_set(&r->err, RC_OVERLOADED, "There is no memory for a request as large as this.");
}

void stage_parse_body(void *ctx, struct str bytes)
{
    struct gw_request *r = ctx;
    if (r->ended) {
        return; /* the rest of a body that was refused */
    }
    if (parse_reserve(r) != RC_OK || stages_hold(r, &r->body, bytes, &r->err) != RC_OK) {
        parse_fail(r);
    }
}

void stage_parse_body_end(void *ctx, enum rc rc)
{
    struct gw_request *r = ctx;
    if (r->ended) {
        return;
    }
    if (rc == RC_TOO_LARGE) {
        err_set(&r->err, rc, "The request body is larger than %d bytes.", GATEWAY_BODY_BYTES_MAX);
        parse_fail(r);
        return;
    }
    if (rc != RC_OK) {
        err_set(&r->err, rc, "The request body did not arrive whole.");
        parse_fail(r);
        return;
    }
    if (r->body.len <= PARSE_HERE_BYTES_MAX) {
        parse_body(r, &r->gateway->scratch);
        arena_reset(&r->gateway->scratch);
        parse_done(r);
        return;
    }
    struct loop_job job = {
        .run = parse_on_worker, .done = parse_on_worker_done, .ctx = r, .slow = true};
    if (loop_work_start(NULL, r->gateway->loop, &job, &r->err) != RC_OK) {
        parse_fail(r);
        return;
    }
    r->parsing = true;
}

enum gw_result stage_parse(struct gw_request *r)
{
    return gw_kind_has_body(r->kind) ? GW_WAIT : parse_check_model(r);
}
