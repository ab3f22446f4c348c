/* prompt.c: see prompt.h. Templates read messages as JSON values, so the typed messages are written
 * as JSON once and parsed back into the arena: one shape for every template. */
#include "server/prompt.h"

#include "engine/token/template.h"

/* ---- messages as the templates see them ---- */

static void prompt_write_calls(struct json_writer *w, const struct api_message *m)
{
    json_write_name(w, "tool_calls");
    json_write_array_begin(w);
    for (uint32_t i = 0; i < m->n_tool_calls; i++) {
        const struct api_tool_call *call = &m->tool_calls[i];
        json_write_object_begin(w);
        json_write_member_str(w, "id", call->id);
        json_write_member_cstr(w, "type", "function");
        json_write_name(w, "function");
        json_write_object_begin(w);
        json_write_member_str(w, "name", call->name);
        json_write_member_str(w, "arguments", call->arguments);
        json_write_object_end(w);
        json_write_object_end(w);
    }
    json_write_array_end(w);
}

static void prompt_write_message(struct json_writer *w, const struct api_message *m)
{
    /* Few templates know "developer"; all know "system", which it replaced. */
    enum api_role role = m->role == API_ROLE_DEVELOPER ? API_ROLE_SYSTEM : m->role;
    json_write_object_begin(w);
    json_write_member_cstr(w, "role", api_role_name(role));
    if (m->has_content) {
        json_write_member_str(w, "content", m->content);
    } else {
        json_write_member_null(w, "content");
    }
    if (m->reasoning.len > 0) {
        json_write_member_str(w, "reasoning_content", m->reasoning);
    }
    if (m->name.len > 0) {
        json_write_member_str(w, "name", m->name);
    }
    if (m->tool_call_id.len > 0) {
        json_write_member_str(w, "tool_call_id", m->tool_call_id);
    }
    if (m->n_tool_calls > 0) {
        prompt_write_calls(w, m);
    }
    json_write_object_end(w);
}

static enum rc prompt_messages(const struct prompt_chat *chat, struct arena *a,
                               const struct json **out, struct err *err)
{
    struct buf text;
    struct json_writer w;
    buf_init(&text, PROMPT_TEXT_BYTES_MAX);
    json_write_init(&w, &text);
    json_write_array_begin(&w);
    for (uint32_t i = 0; i < chat->n_messages; i++) {
        prompt_write_message(&w, &chat->messages[i]);
    }
    json_write_array_end(&w);
    struct str kept = buf_ok(&text) ? arena_str(a, buf_str(&text)) : STR_NULL;
    buf_deinit(&text);
    if (kept.ptr == NULL) {
        return err_set(err, RC_TOO_LARGE, "the conversation is too large");
    }
    return json_parse(kept, a, out, err);
}

/* ---- rendering and encoding ---- */

enum rc prompt_render(const struct engine *e, const struct prompt_chat *chat, struct arena *a,
                      struct str *out, struct err *err)
{
    const struct template *t = engine_template(e);
    if (t == NULL && engine_template_error(e)[0] != '\0') {
        return err_set_param(err, RC_UNSUPPORTED, "messages",
                             "the chat template of model %s cannot be used: %s",
                             engine_info(e)->name, engine_template_error(e));
    }
    if (t == NULL) {
        return err_set_param(err, RC_UNSUPPORTED, "messages",
                             "the model %s has no chat template: use /v1/completions",
                             engine_info(e)->name);
    }
    const struct vocab *v = engine_vocab(e);
    const struct vocab_special *special = vocab_special(v);
    struct template_input in = {
        .extra = chat->template_kwargs,
        .bos_token = vocab_text(v, special->bos),
        .eos_token = vocab_text(v, special->eos),
        .add_generation_prompt = chat->add_generation_prompt,
        .now_s = chat->now_s,
    };
    enum rc rc = prompt_messages(chat, a, &in.messages, err);
    if (rc != RC_OK) {
        return rc;
    }
    struct buf text;
    buf_init(&text, PROMPT_TEXT_BYTES_MAX);
    rc = template_render(t, &in, a, &text, err);
    if (rc == RC_OK) {
        *out = arena_str(a, buf_str(&text));
        rc = out->ptr != NULL ? RC_OK : err_set(err, RC_TOO_LARGE, "the conversation is too large");
    } else if (err != NULL && err->param[0] == '\0') {
        str_copy(err->param, sizeof(err->param), STR_LIT("messages"));
    }
    buf_deinit(&text);
    return rc;
}

enum rc prompt_encode_chat(const struct engine *e, struct str text, struct arena *a,
                           struct token_list *out, struct err *err)
{
    const struct vocab *v = engine_vocab(e);
    struct str bos = vocab_text(v, vocab_special(v)->bos);
    bool has_bos = bos.len > 0 && str_starts(text, bos);
    struct encode_options opt = {.add_special = !has_bos, .parse_special = true};
    return vocab_encode(v, text, opt, a, out, err);
}

enum rc prompt_encode_text(const struct engine *e, struct str text, struct arena *a,
                           struct token_list *out, struct err *err)
{
    struct encode_options opt = {.add_special = true, .parse_special = true};
    return vocab_encode(engine_vocab(e), text, opt, a, out, err);
}

enum rc prompt_check_length(const struct engine *e, uint32_t n_prompt, uint32_t asked,
                            uint32_t *max_tokens, struct err *err)
{
    const struct engine_info *info = engine_info(e);
    uint64_t in_pages = (uint64_t)info->kv_pages * KV_PAGE_TOKENS;
    uint32_t limit = (uint32_t)MIN(in_pages, (uint64_t)info->context_tokens);
    if (n_prompt >= limit || asked > limit - n_prompt) {
        return err_set_param(err, RC_CONTEXT, "messages",
                             "This model's maximum context length is %u tokens. However, you "
                             "requested %llu tokens (%u in the prompt, %u for the completion). "
                             "Please reduce the length of either one.",
                             limit, (unsigned long long)n_prompt + MAX(asked, 1u), n_prompt,
                             MAX(asked, 1u));
    }
    *max_tokens = asked != 0 ? asked : limit - n_prompt;
    return RC_OK;
}
