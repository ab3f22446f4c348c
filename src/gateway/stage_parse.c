/* stage_parse.c: the body as a typed, checked request; the model must be one that is served. The
 * body itself goes on unchanged: the model server parses it again, as it would anybody's. */
#include "gateway/stages.h"

static bool parse_model_known(const struct gw_request *r)
{
    for (uint32_t i = 0; i < r->gateway->conf.n_models; i++) {
        if (str_eq(r->gateway->models[i], r->model)) {
            return true;
        }
    }
    return false;
}

static enum gw_result parse_check_model(struct gw_request *r)
{
    if (r->kind != GW_MODELS && !parse_model_known(r)) {
        err_set_param(&r->err, RC_MODEL_NOT_FOUND, "model",
                      "The model `%.*s` does not exist or you do not have access to it.",
                      (int)MIN(r->model.len, (size_t)100), r->model.ptr);
        return GW_FAIL;
    }
    return GW_NEXT;
}

static enum rc parse_body(struct gw_request *r)
{
    const struct api_generate *gen = NULL;
    struct api_chat_request chat;
    struct api_complete_request complete;
    enum rc rc;
    if (r->kind == GW_CHAT) {
        rc = api_chat_parse(buf_str(&r->body), &r->arena, &chat, &r->err);
        gen = &chat.gen;
    } else {
        rc = api_complete_parse(buf_str(&r->body), &r->arena, &complete, &r->err);
        gen = &complete.gen;
    }
    if (rc != RC_OK) {
        return rc;
    }
    r->model = arena_str(&r->arena, gen->model);
    r->stream = gen->stream;
    r->include_usage = gen->include_usage;
    return r->model.ptr != NULL ? RC_OK : err_set(&r->err, RC_NOMEM, "out of memory");
}

void stage_parse_body(void *ctx, struct str bytes)
{
    struct gw_request *r = ctx;
    buf_add_str(&r->body, bytes);
}

void stage_parse_body_end(void *ctx, enum rc rc)
{
    struct gw_request *r = ctx;
    if (r->stage != GW_STAGE_PARSE) {
        return;
    }
    if (rc == RC_TOO_LARGE || (rc == RC_OK && !buf_ok(&r->body))) {
        rc = err_set(&r->err, RC_TOO_LARGE, "The request body is larger than %d bytes.",
                     GATEWAY_BODY_BYTES_MAX);
    } else if (rc != RC_OK) {
        rc = err_set(&r->err, rc, "The request body did not arrive whole.");
    } else {
        rc = parse_body(r);
    }
    stages_resume(r, rc == RC_OK ? parse_check_model(r) : GW_FAIL);
}

enum gw_result stage_parse(struct gw_request *r)
{
    bool has_body = r->kind == GW_CHAT || r->kind == GW_COMPLETION;
    return has_body ? GW_WAIT : parse_check_model(r);
}
