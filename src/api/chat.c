/* chat.c: POST /v1/chat/completions. Tables first: the body's members, a message's, a tool call's;
 * then what has a shape of its own. Shared members are in generate.c. */
#include "api/chat.h"

#include "api/generate.h"
#include "base/assert.h"
#include "base/checked.h"

static const char *const role_names[] = {"system", "developer", "user", "assistant", "tool"};
_Static_assert(ARRAY_LEN(role_names) == API_ROLE_N, "every role has a name");

const char *api_role_name(enum api_role role)
{
    ASSERT((size_t)role < ARRAY_LEN(role_names));
    return role_names[role];
}

/* A message while it is read. */
struct message_body {
    struct api_message m;
    struct str refusal; /* an assistant's: what it said instead of content */
    bool has_refusal;
};

/* A request while it is read. */
struct chat_body {
    struct api_chat_request r;
    uint32_t max_completion_tokens;
    bool has_max_completion_tokens;
    bool has_top_logprobs;
};

/* ---- tool calls in the history ---- */

static enum rc read_call_type(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    UNUSED(out);
    return v->type == JSON_STRING && str_is(v->text, "function")
               ? RC_OK
               : api_field_fail(ctx, RC_INVALID, "must be 'function'");
}

static enum rc read_call_function(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    static const struct api_field rows[] = {
        API_FIELD_ROW(STR, struct api_tool_call, "name", name, .required = true,
                      .max = API_NAME_BYTES_MAX),
        API_FIELD_ROW(STR, struct api_tool_call, "arguments", arguments),
    };
    const struct api_field_table table = {rows, ARRAY_LEN(rows), out};
    return api_field_read(ctx, v, &table, 1);
}

static enum rc read_tool_call(struct api_field_ctx *ctx, const struct json *v,
                              struct api_tool_call *call)
{
    static const struct api_field rows[] = {
        API_FIELD_ROW(STR, struct api_tool_call, "id", id, .required = true,
                      .max = API_NAME_BYTES_MAX),
        API_FIELD_OWN_ROW("type", read_call_type),
        API_FIELD_OWN_ROW("function", read_call_function, .required = true),
    };
    const struct api_field_table table = {rows, ARRAY_LEN(rows), call};
    return api_field_read(ctx, v, &table, 1);
}

static enum rc read_tool_calls(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    struct message_body *body = out;
    if (v->type != JSON_ARRAY) {
        return api_field_fail_type(ctx, v, "an array of tool calls");
    }
    if (v->n > API_TOOL_CALLS_MAX) {
        return api_field_fail(ctx, RC_INVALID, "has %u entries, at most %d are allowed", v->n,
                              API_TOOL_CALLS_MAX);
    }
    struct api_tool_call *calls = arena_alloc_array(ctx->a, v->n, sizeof(*calls));
    if (calls == NULL) {
        return api_field_fail_room(ctx);
    }
    uint32_t n = 0;
    JSON_EACH(v, it)
    {
        api_field_down_idx(ctx, n);
        enum rc rc = read_tool_call(ctx, it, &calls[n++]);
        if (rc != RC_OK) {
            return rc;
        }
        api_field_up(ctx);
    }
    body->m.tool_calls = calls;
    body->m.n_tool_calls = n;
    return RC_OK;
}

/* ---- content ---- */

/* Parts that other models take, and ours not yet. */
static bool is_known_part(struct str type)
{
    static const char *const known[] = {"image_url", "input_audio", "audio_url", "video_url",
                                        "file"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (str_is(type, known[i])) {
            return true;
        }
    }
    return false;
}

/* {"type":"text","text":…}, or an assistant's {"type":"refusal","refusal":…}. */
static enum rc read_part(struct api_field_ctx *ctx, const struct json *v, struct str *text)
{
    struct part {
        struct str type, text;
    } part = {0};
    static const struct api_field text_rows[] = {
        API_FIELD_ROW(STR, struct part, "type", type),
        API_FIELD_ROW(STR, struct part, "text", text),
    };
    static const struct api_field refusal_rows[] = {
        API_FIELD_ROW(STR, struct part, "type", type),
        API_FIELD_ROW(STR, struct part, "refusal", text),
    };
    const struct json *type = json_get_present(v, "type");
    if (v->type != JSON_OBJECT) {
        return api_field_fail_type(ctx, v, "an object");
    }
    bool refusal = type != NULL && str_is(type->text, "refusal");
    bool served = type != NULL && (refusal || str_is(type->text, "text"));
    if (!served) {
        api_field_down(ctx, STR_LIT("type"));
        if (type == NULL) {
            return api_field_fail(ctx, RC_MISSING, "is required");
        }
        bool known = type->type == JSON_STRING && is_known_part(type->text);
        return api_field_fail(ctx, known ? RC_UNSUPPORTED : RC_INVALID,
                              known ? "of this kind is not supported here" : "must be 'text'");
    }
    const char *member = refusal ? "refusal" : "text";
    if (json_get_present(v, member) == NULL) {
        api_field_down(ctx, str_from(member));
        return api_field_fail(ctx, RC_MISSING, "is required");
    }
    const struct api_field_table table = {refusal ? refusal_rows : text_rows, 2, &part};
    enum rc rc = api_field_read(ctx, v, &table, 1);
    *text = part.text;
    return rc;
}

/* The parts' texts, with a newline between two. */
static enum rc join_parts(struct api_field_ctx *ctx, const struct str *parts, uint32_t n,
                          struct str *out)
{
    size_t bytes = n;
    for (uint32_t i = 0; i < n; i++) {
        if (!checked_add(bytes, parts[i].len, &bytes)) {
            return api_field_fail_room(ctx);
        }
    }
    char *text = arena_alloc(ctx->a, bytes);
    if (text == NULL) {
        return api_field_fail_room(ctx);
    }
    size_t len = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0) {
            text[len++] = '\n';
        }
        memcpy(text + len, parts[i].ptr, parts[i].len);
        len += parts[i].len;
    }
    ASSERT(len < bytes);
    *out = str_make(text, len);
    return RC_OK;
}

static enum rc read_parts(struct api_field_ctx *ctx, const struct json *v, struct str *out)
{
    if (v->n == 0 || v->n > API_PARTS_MAX) {
        return api_field_fail(ctx, RC_INVALID, "has %u parts, 1 to %d are allowed", v->n,
                              API_PARTS_MAX);
    }
    struct str *parts = arena_alloc_array(ctx->a, v->n, sizeof(*parts));
    if (parts == NULL) {
        return api_field_fail_room(ctx);
    }
    uint32_t n = 0;
    JSON_EACH(v, it)
    {
        api_field_down_idx(ctx, n);
        enum rc rc = read_part(ctx, it, &parts[n++]);
        if (rc != RC_OK) {
            return rc;
        }
        api_field_up(ctx);
    }
    if (n == 1) {
        *out = parts[0];
        return RC_OK;
    }
    return join_parts(ctx, parts, n, out);
}

static enum rc read_content(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    struct message_body *body = out;
    body->m.has_content = true;
    if (v->type == JSON_ARRAY) {
        return read_parts(ctx, v, &body->m.content);
    }
    if (v->type != JSON_STRING) {
        return api_field_fail_type(ctx, v, "a string or an array of content parts");
    }
    body->m.content = v->text;
    return RC_OK;
}

/* ---- messages ---- */

static enum rc read_role(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    struct message_body *body = out;
    if (v->type != JSON_STRING) {
        return api_field_fail_type(ctx, v, "a string");
    }
    for (size_t i = 0; i < ARRAY_LEN(role_names); i++) {
        if (str_is(v->text, role_names[i])) {
            body->m.role = (enum api_role)i;
            return RC_OK;
        }
    }
    bool old = str_is(v->text, "function");
    return api_field_fail(ctx, old ? RC_UNSUPPORTED : RC_INVALID,
                          "must be system, developer, user, assistant or tool");
}

/* What the members of a message must be to one another. */
static enum rc check_message(struct api_field_ctx *ctx, struct message_body *body)
{
    struct api_message *m = &body->m;
    bool assistant = m->role == API_ROLE_ASSISTANT;
    if (body->has_refusal && assistant && !m->has_content) {
        m->has_content = true;
        m->content = body->refusal;
    }
    if (!m->has_content && !(assistant && m->n_tool_calls > 0)) {
        api_field_down(ctx, STR_LIT("content"));
        return api_field_fail(ctx, RC_MISSING, "is required");
    }
    if (m->n_tool_calls > 0 && !assistant) {
        api_field_down(ctx, STR_LIT("tool_calls"));
        return api_field_fail(ctx, RC_INVALID, "is allowed only in an assistant's message");
    }
    if ((m->role == API_ROLE_TOOL) != (m->tool_call_id.len > 0)) {
        api_field_down(ctx, STR_LIT("tool_call_id"));
        return m->role == API_ROLE_TOOL
                   ? api_field_fail(ctx, RC_MISSING, "is required")
                   : api_field_fail(ctx, RC_INVALID, "is allowed only in a tool's message");
    }
    return RC_OK;
}

static enum rc read_message(struct api_field_ctx *ctx, const struct json *v,
                            struct api_message *out)
{
#define ROW(kind, name, ...) API_FIELD_ROW(kind, struct message_body, name, __VA_ARGS__)
    static const struct api_field rows[] = {
        API_FIELD_OWN_ROW("role", read_role, .required = true),
        API_FIELD_OWN_ROW("content", read_content),
        ROW(STR, "name", m.name, .max = API_NAME_BYTES_MAX),
        API_FIELD_OWN_ROW("tool_calls", read_tool_calls),
        ROW(STR, "tool_call_id", m.tool_call_id, .max = API_NAME_BYTES_MAX),
        ROW(STR, "reasoning_content", m.reasoning),
        ROW(STR, "refusal", refusal, API_FIELD_HAS(struct message_body, has_refusal)),
        API_FIELD_NO_EFFECT_ROW(ARRAY, "annotations"),
        API_FIELD_NOT_SERVED_ROW("audio", NULL),
        API_FIELD_NOT_SERVED_ROW("function_call", NULL),
    };
#undef ROW
    struct message_body body = {0};
    const struct api_field_table table = {rows, ARRAY_LEN(rows), &body};
    enum rc rc = api_field_read(ctx, v, &table, 1);
    if (rc == RC_OK) {
        rc = check_message(ctx, &body);
    }
    *out = body.m;
    return rc;
}

static enum rc read_messages(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    struct chat_body *body = out;
    if (v->type != JSON_ARRAY) {
        return api_field_fail_type(ctx, v, "an array of messages");
    }
    if (v->n == 0 || v->n > API_MESSAGES_MAX) {
        return api_field_fail(ctx, RC_INVALID, "has %u messages, 1 to %d are allowed", v->n,
                              API_MESSAGES_MAX);
    }
    struct api_message *messages = arena_alloc_array(ctx->a, v->n, sizeof(*messages));
    if (messages == NULL) {
        return api_field_fail_room(ctx);
    }
    uint32_t n = 0;
    JSON_EACH(v, it)
    {
        api_field_down_idx(ctx, n);
        enum rc rc = read_message(ctx, it, &messages[n++]);
        if (rc != RC_OK) {
            return rc;
        }
        api_field_up(ctx);
    }
    body->r.messages = messages;
    body->r.n_messages = n;
    return RC_OK;
}

/* ---- the body ---- */

#define ROW(kind, name, ...) API_FIELD_ROW(kind, struct chat_body, name, __VA_ARGS__)

static const struct api_field chat_rows[] = {
    API_FIELD_OWN_ROW("messages", read_messages, .required = true),
    ROW(U32, "max_tokens", r.gen.max_tokens, .min = 1, .max = INT32_MAX,
        API_FIELD_HAS(struct chat_body, r.gen.has_max_tokens)),
    ROW(U32, "max_completion_tokens", max_completion_tokens, .min = 1, .max = INT32_MAX,
        API_FIELD_HAS(struct chat_body, has_max_completion_tokens)),
    ROW(BOOL, "logprobs", r.gen.logprobs),
    ROW(U32, "top_logprobs", r.gen.top_logprobs, .max = API_TOP_LOGPROBS_MAX,
        API_FIELD_HAS(struct chat_body, has_top_logprobs)),
    ROW(OBJECT, "chat_template_kwargs", r.template_kwargs),
    ROW(BOOL, "add_generation_prompt", r.add_generation_prompt),
    API_FIELD_NOT_SERVED_ROW("tools", "[]"),
    API_FIELD_NOT_SERVED_ROW("tool_choice", "\"none\""),
    API_FIELD_NOT_SERVED_ROW("parallel_tool_calls", NULL),
    API_FIELD_NOT_SERVED_ROW("functions", "[]"),
    API_FIELD_NOT_SERVED_ROW("function_call", "\"none\""),
    API_FIELD_NOT_SERVED_ROW("response_format", "{\"type\":\"text\"}"),
    API_FIELD_NOT_SERVED_ROW("modalities", "[\"text\"]"),
    API_FIELD_NOT_SERVED_ROW("audio", NULL),
    API_FIELD_NOT_SERVED_ROW("prediction", NULL),
    API_FIELD_NOT_SERVED_ROW("web_search_options", NULL),
    API_FIELD_NOT_SERVED_ROW("reasoning_effort", "\"none\""),
    API_FIELD_NOT_SERVED_ROW("verbosity", "\"medium\""),
    API_FIELD_NOT_SERVED_ROW("continue_final_message", "false"),
    API_FIELD_NOT_SERVED_ROW("documents", "[]"),
    API_FIELD_NOT_SERVED_ROW("echo", "false"),
    API_FIELD_NOT_SERVED_ROW("best_of", "1"),
};
#undef ROW

/* max_completion_tokens is the newer name of max_tokens. */
static enum rc merge_max_tokens(struct api_field_ctx *ctx, struct chat_body *body)
{
    struct api_generate *gen = &body->r.gen;
    if (!body->has_max_completion_tokens) {
        return RC_OK;
    }
    if (gen->has_max_tokens && gen->max_tokens != body->max_completion_tokens) {
        api_field_down(ctx, STR_LIT("max_completion_tokens"));
        return api_field_fail(ctx, RC_INVALID, "is %u, but 'max_tokens' is %u: give one",
                              body->max_completion_tokens, gen->max_tokens);
    }
    gen->has_max_tokens = true;
    gen->max_tokens = body->max_completion_tokens;
    return RC_OK;
}

enum rc api_chat_parse(struct str text, struct arena *a, struct api_chat_request *out,
                       struct err *err)
{
    struct chat_body body = {.r = {.add_generation_prompt = true}};
    struct api_field_ctx ctx = {.a = a, .err = err};
    api_generate_init(&body.r.gen);
    const struct api_field_table tables[] = {
        {chat_rows, ARRAY_LEN(chat_rows), &body},
        api_generate_table(&body.r.gen),
    };
    enum rc rc = api_field_read_body(&ctx, text, tables, ARRAY_LEN(tables));
    if (rc == RC_OK) {
        rc = merge_max_tokens(&ctx, &body);
    }
    if (rc == RC_OK && body.has_top_logprobs && !body.r.gen.logprobs) {
        api_field_down(&ctx, STR_LIT("top_logprobs"));
        rc = api_field_fail(&ctx, RC_INVALID, "is allowed only when 'logprobs' is true");
    }
    if (rc == RC_OK) {
        rc = api_generate_check(&ctx, &body.r.gen);
    }
    *out = body.r;
    return rc;
}
