/* complete.c: POST /v1/completions. Shared members are in generate.c. */
#include "api/complete.h"

#include "api/generate.h"
#include "base/assert.h"

/* A request while it is read. */
struct complete_body {
    struct api_complete_request r;
    uint32_t best_of;
    bool has_best_of;
};

static enum rc read_prompt(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    struct complete_body *body = out;
    struct api_prompts prompts = {0};
    enum rc rc = api_generate_read_prompts(ctx, v, API_CHOICES_MAX, &prompts);
    body->r.prompts = prompts.items;
    body->r.n_prompts = prompts.n;
    return rc;
}

/* ---- the body ---- */

#define ROW(kind, name, ...) API_FIELD_ROW(kind, struct complete_body, name, __VA_ARGS__)

static const struct api_field complete_rows[] = {
    API_FIELD_OWN_ROW("prompt", read_prompt, .required = true),
    ROW(U32, "max_tokens", r.gen.max_tokens, .max = INT32_MAX,
        API_FIELD_HAS(struct complete_body, r.gen.has_max_tokens)),
    ROW(U32, "logprobs", r.gen.top_logprobs, .max = API_LOGPROBS_MAX,
        API_FIELD_HAS(struct complete_body, r.gen.logprobs)),
    ROW(BOOL, "echo", r.echo),
    ROW(U32, "best_of", best_of, .min = 1, .max = API_N_MAX,
        API_FIELD_HAS(struct complete_body, has_best_of)),
    API_FIELD_NOT_SERVED_ROW("suffix", "\"\""),
    API_FIELD_NOT_SERVED_ROW("response_format", "{\"type\":\"text\"}"),
};
#undef ROW

static enum rc check_body(struct api_field_ctx *ctx, const struct complete_body *body)
{
    const struct api_generate *gen = &body->r.gen;
    if (body->has_best_of && body->best_of != gen->n) {
        api_field_down(ctx, STR_LIT("best_of"));
        return api_field_fail(ctx, RC_UNSUPPORTED, "is not supported here unless it equals 'n'");
    }
    if (gen->max_tokens == 0 && !body->r.echo) {
        api_field_down(ctx, STR_LIT("max_tokens"));
        return api_field_fail(ctx, RC_INVALID, "must be at least 1 without 'echo'");
    }
    if (body->r.n_prompts * gen->n > API_CHOICES_MAX) {
        api_field_down(ctx, STR_LIT("n"));
        return api_field_fail(ctx, RC_INVALID, "times the number of prompts is %u, at most %d",
                              body->r.n_prompts * gen->n, API_CHOICES_MAX);
    }
    return api_generate_check(ctx, gen);
}

enum rc api_complete_parse(struct str text, struct arena *a, struct api_complete_request *out,
                           struct err *err)
{
    struct complete_body body = {0};
    struct api_field_ctx ctx = {.a = a, .err = err};
    api_generate_init(&body.r.gen);
    body.r.gen.max_tokens = API_MAX_TOKENS_DEFAULT;
    const struct api_field_table tables[] = {
        {complete_rows, ARRAY_LEN(complete_rows), &body},
        api_generate_table(&body.r.gen),
    };
    enum rc rc = api_field_read_body(&ctx, text, tables, ARRAY_LEN(tables));
    if (rc == RC_OK) {
        body.r.gen.has_max_tokens = true;
        rc = check_body(&ctx, &body);
    }
    *out = body.r;
    return rc;
}
