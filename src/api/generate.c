/* generate.c: the table of members that chat and plain completions share, and those of vLLM's and
 * llama.cpp's extensions that are known but not served. */
#include "api/generate.h"

#include <math.h>

#include "base/assert.h"

enum { TOP_K_MAX = INT32_MAX };

void api_generate_init(struct api_generate *gen)
{
    *gen = (struct api_generate){
        .n = 1,
        .sampling = {.temperature = 1, .top_p = 1, .repetition_penalty = 1},
    };
}

/* ---- members with a shape of their own ---- */

enum rc api_generate_read_tokens(struct api_field_ctx *ctx, const struct json *v,
                                 const uint32_t **out, uint32_t *n)
{
    uint32_t *tokens = arena_alloc_array(ctx->a, v->n, sizeof(*tokens));
    uint32_t idx = 0;
    if (tokens == NULL) {
        return api_field_fail_room(ctx);
    }
    JSON_EACH(v, it)
    {
        int64_t token = -1;
        if (!json_to_i64(it, &token) || token < 0 || token > INT32_MAX) {
            api_field_down_idx(ctx, idx);
            return api_field_fail(ctx, RC_INVALID, "must be a token id");
        }
        tokens[idx++] = (uint32_t)token;
    }
    ASSERT(idx == v->n);
    *out = tokens;
    *n = idx;
    return RC_OK;
}

static enum rc read_one_prompt(struct api_field_ctx *ctx, const struct json *v,
                               struct api_prompt *out)
{
    if (v->type == JSON_STRING) {
        out->text = v->text;
        return RC_OK;
    }
    if (v->type != JSON_ARRAY) {
        return api_field_fail_type(ctx, v, "a string or an array of token ids");
    }
    if (v->n == 0) {
        return api_field_fail(ctx, RC_INVALID, "must not be empty");
    }
    out->is_tokens = true;
    return api_generate_read_tokens(ctx, v, &out->tokens, &out->n_tokens);
}

static enum rc read_prompt_list(struct api_field_ctx *ctx, const struct json *v, uint32_t n_max,
                                struct api_prompts *out)
{
    if (v->n > n_max) {
        return api_field_fail(ctx, RC_INVALID, "has %u entries, at most %u are allowed", v->n,
                              n_max);
    }
    struct api_prompt *prompts = arena_alloc_array(ctx->a, v->n, sizeof(*prompts));
    if (prompts == NULL) {
        return api_field_fail_room(ctx);
    }
    uint32_t n = 0;
    JSON_EACH(v, it)
    {
        api_field_down_idx(ctx, n);
        enum rc rc = read_one_prompt(ctx, it, &prompts[n++]);
        if (rc != RC_OK) {
            return rc;
        }
        api_field_up(ctx);
    }
    *out = (struct api_prompts){prompts, n};
    return RC_OK;
}

enum rc api_generate_read_prompts(struct api_field_ctx *ctx, const struct json *v, uint32_t n_max,
                                  struct api_prompts *out)
{
    if (v->type != JSON_STRING && v->type != JSON_ARRAY) {
        return api_field_fail_type(ctx, v, "a string or an array");
    }
    bool tokens = v->type == JSON_ARRAY && v->first != NULL && v->first->type == JSON_NUMBER;
    if (v->type == JSON_ARRAY && v->n > 0 && !tokens) {
        return read_prompt_list(ctx, v, n_max, out);
    }
    struct api_prompt *prompt = arena_alloc(ctx->a, sizeof(*prompt));
    if (prompt == NULL) {
        return api_field_fail_room(ctx);
    }
    *out = (struct api_prompts){prompt, 1};
    return read_one_prompt(ctx, v, prompt);
}

enum rc api_generate_read_truncate(struct api_field_ctx *ctx, const struct json *v,
                                   struct api_truncate *out)
{
    int64_t n = 0;
    if (!json_to_i64(v, &n) || n < -1 || n == 0 || n > INT32_MAX) {
        return api_field_fail(ctx, RC_INVALID, "must be -1 or a whole number from 1 to %d",
                              INT32_MAX);
    }
    *out = (struct api_truncate){.asked = true, .n_tokens = n > 0 ? (uint32_t)n : 0};
    return RC_OK;
}

static enum rc read_stop_tokens(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    struct api_generate *gen = out;
    if (v->type != JSON_ARRAY) {
        return api_field_fail_type(ctx, v, "an array of token ids");
    }
    if (v->n > API_STOP_TOKENS_MAX) {
        return api_field_fail(ctx, RC_INVALID, "has %u entries, at most %d are allowed", v->n,
                              API_STOP_TOKENS_MAX);
    }
    return api_generate_read_tokens(ctx, v, &gen->stop_tokens, &gen->n_stop_tokens);
}

static enum rc check_stop(struct api_field_ctx *ctx, const struct json *v)
{
    if (v->type != JSON_STRING) {
        return api_field_fail_type(ctx, v, "a string");
    }
    if (v->text.len == 0) {
        return api_field_fail(ctx, RC_INVALID, "must not be empty");
    }
    if (v->text.len > API_STOP_BYTES_MAX) {
        return api_field_fail(ctx, RC_INVALID, "is longer than %d bytes", API_STOP_BYTES_MAX);
    }
    return RC_OK;
}

/* A string, or an array of strings. */
static enum rc read_stop(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    struct api_generate *gen = out;
    bool array = v->type == JSON_ARRAY;
    uint32_t n = array ? v->n : 1, idx = 0;
    if (!array && v->type != JSON_STRING) {
        return api_field_fail_type(ctx, v, "a string or an array of strings");
    }
    if (n > API_STOPS_MAX) {
        return api_field_fail(ctx, RC_INVALID, "has %u entries, at most %d are allowed", n,
                              API_STOPS_MAX);
    }
    struct str *stops = arena_alloc_array(ctx->a, n, sizeof(*stops));
    if (stops == NULL) {
        return api_field_fail_room(ctx);
    }
    for (const struct json *it = array ? v->first : v; idx < n; it = it->next, idx++) {
        if (array) {
            api_field_down_idx(ctx, idx);
        }
        enum rc rc = check_stop(ctx, it);
        if (rc != RC_OK) {
            return rc;
        }
        if (array) {
            api_field_up(ctx);
        }
        stops[idx] = it->text;
    }
    gen->stops = stops;
    gen->n_stops = n;
    return RC_OK;
}

/* "17": -5.0. A token's number is written in one way only, so no token comes twice. */
static enum rc read_bias(struct api_field_ctx *ctx, const struct json *v, struct api_bias *out)
{
    uint64_t token = 0;
    double bias = 0;
    bool canonical = v->name.len == 1 || (v->name.len > 1 && v->name.ptr[0] != '0');
    if (!canonical || !str_to_u64(v->name, &token) || token > INT32_MAX) {
        return api_field_fail(ctx, RC_INVALID, "is not named by a token id");
    }
    if (!json_to_f64(v, &bias) || fabs(bias) > 100) {
        return api_field_fail(ctx, RC_INVALID, "must be a number from -100 to 100");
    }
    *out = (struct api_bias){.token = (uint32_t)token, .bias = (float)bias};
    return RC_OK;
}

static enum rc read_logit_bias(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    struct api_sampling *sampling = &((struct api_generate *)out)->sampling;
    if (v->type != JSON_OBJECT) {
        return api_field_fail_type(ctx, v, "an object of token ids and numbers");
    }
    if (v->n > API_BIASES_MAX) {
        return api_field_fail(ctx, RC_INVALID, "has %u entries, at most %d are allowed", v->n,
                              API_BIASES_MAX);
    }
    struct api_bias *biases = arena_alloc_array(ctx->a, v->n, sizeof(*biases));
    if (biases == NULL) {
        return api_field_fail_room(ctx);
    }
    uint32_t n = 0;
    JSON_EACH(v, it)
    {
        api_field_down(ctx, it->name);
        enum rc rc = read_bias(ctx, it, &biases[n++]);
        if (rc != RC_OK) {
            return rc;
        }
        api_field_up(ctx);
    }
    sampling->biases = biases;
    sampling->n_biases = n;
    return RC_OK;
}

/* -1, vLLM's way to say "all tokens", becomes 0. */
static enum rc read_top_k(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    struct api_generate *gen = out;
    int64_t value = 0;
    if (!json_to_i64(v, &value) || value < -1 || value > TOP_K_MAX) {
        return api_field_fail(ctx, RC_INVALID, "must be a whole number from -1 to %d", TOP_K_MAX);
    }
    gen->sampling.top_k = value < 0 ? 0 : (uint32_t)value;
    return RC_OK;
}

static enum rc read_stream_options(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    static const struct api_field rows[] = {
        API_FIELD_ROW(BOOL, struct api_generate, "include_usage", include_usage),
        API_FIELD_NO_EFFECT_ROW(BOOL, "include_obfuscation"),
    };
    const struct api_field_table table = {rows, ARRAY_LEN(rows), out};
    ((struct api_generate *)out)->has_stream_options = true;
    return api_field_read(ctx, v, &table, 1);
}

/* ---- the table ---- */

#define ROW(kind, name, member, ...)                                                               \
    API_FIELD_ROW(kind, struct api_generate, name, member, __VA_ARGS__)

static const struct api_field generate_rows[] = {
    ROW(STR, "model", model, .required = true, .max = API_MODEL_BYTES_MAX),
    ROW(STR, "user", user, .max = API_NAME_BYTES_MAX),
    ROW(U32, "n", n, .min = 1, .max = API_N_MAX),
    ROW(BOOL, "stream", stream),
    API_FIELD_OWN_ROW("stream_options", read_stream_options),
    API_FIELD_OWN_ROW("stop", read_stop),
    ROW(I64, "seed", sampling.seed, API_FIELD_HAS(struct api_generate, sampling.has_seed)),
    ROW(F64, "temperature", sampling.temperature, .max = 2),
    ROW(F64, "top_p", sampling.top_p, .max = 1),
    ROW(F64, "presence_penalty", sampling.presence_penalty, .min = -2, .max = 2),
    ROW(F64, "frequency_penalty", sampling.frequency_penalty, .min = -2, .max = 2),
    API_FIELD_OWN_ROW("logit_bias", read_logit_bias),
    /* Extensions. */
    API_FIELD_OWN_ROW("top_k", read_top_k),
    ROW(F64, "min_p", sampling.min_p, .max = 1),
    ROW(F64, "repetition_penalty", sampling.repetition_penalty, .min = 0.01, .max = 100),
    ROW(U32, "min_tokens", min_tokens, .max = INT32_MAX),
    ROW(BOOL, "ignore_eos", ignore_eos),
    API_FIELD_OWN_ROW("stop_token_ids", read_stop_tokens),
    /* Accepted without effect. */
    API_FIELD_NO_EFFECT_ROW(OBJECT, "metadata"),
    API_FIELD_NO_EFFECT_ROW(BOOL, "store"),
    API_FIELD_NO_EFFECT_ROW(STR, "service_tier", .max = API_NAME_BYTES_MAX),
    API_FIELD_NO_EFFECT_ROW(STR, "safety_identifier", .max = API_NAME_BYTES_MAX),
    API_FIELD_NO_EFFECT_ROW(STR, "prompt_cache_key", .max = API_NAME_BYTES_MAX),
    API_FIELD_NO_EFFECT_ROW(STR, "prompt_cache_retention", .max = API_NAME_BYTES_MAX),
    /* Known, not served. */
    API_FIELD_NOT_SERVED_ROW("guided_json", NULL),
    API_FIELD_NOT_SERVED_ROW("guided_regex", NULL),
    API_FIELD_NOT_SERVED_ROW("guided_choice", NULL),
    API_FIELD_NOT_SERVED_ROW("guided_grammar", NULL),
    API_FIELD_NOT_SERVED_ROW("structured_outputs", NULL),
    API_FIELD_NOT_SERVED_ROW("grammar", NULL),
    API_FIELD_NOT_SERVED_ROW("json_schema", NULL),
    API_FIELD_NOT_SERVED_ROW("cache_salt", NULL),
    API_FIELD_NOT_SERVED_ROW("priority", "0"),
    API_FIELD_NOT_SERVED_ROW("prompt_logprobs", NULL),
    API_FIELD_NOT_SERVED_ROW("use_beam_search", "false"),
    API_FIELD_NOT_SERVED_ROW("length_penalty", "1"),
    API_FIELD_NOT_SERVED_ROW("bad_words", "[]"),
    API_FIELD_NOT_SERVED_ROW("allowed_token_ids", NULL),
    API_FIELD_NOT_SERVED_ROW("skip_special_tokens", "true"),
    API_FIELD_NOT_SERVED_ROW("spaces_between_special_tokens", "true"),
    API_FIELD_NOT_SERVED_ROW("include_stop_str_in_output", "false"),
    API_FIELD_NOT_SERVED_ROW("truncate_prompt_tokens", NULL),
    API_FIELD_NOT_SERVED_ROW("add_special_tokens", NULL),
    API_FIELD_NOT_SERVED_ROW("repeat_penalty", "1"),
    API_FIELD_NOT_SERVED_ROW("typical_p", "1"),
    API_FIELD_NOT_SERVED_ROW("mirostat", "0"),
    API_FIELD_NOT_SERVED_ROW("cache_prompt", "true"),
    API_FIELD_NOT_SERVED_ROW("id_slot", "-1"),
    API_FIELD_NOT_SERVED_ROW("timings_per_token", "false"),
};

struct api_field_table api_generate_table(struct api_generate *gen)
{
    return (struct api_field_table){generate_rows, ARRAY_LEN(generate_rows), gen};
}

enum rc api_generate_check(struct api_field_ctx *ctx, const struct api_generate *gen)
{
    ASSERT(ctx->depth == 0);
    if (gen->has_stream_options && !gen->stream) {
        api_field_down(ctx, STR_LIT("stream_options"));
        return api_field_fail(ctx, RC_INVALID, "is allowed only when 'stream' is true");
    }
    if (gen->has_max_tokens && gen->min_tokens > gen->max_tokens) {
        api_field_down(ctx, STR_LIT("min_tokens"));
        return api_field_fail(ctx, RC_INVALID, "is %u, more than the %u tokens at most asked for",
                              gen->min_tokens, gen->max_tokens);
    }
    return RC_OK;
}
