/* prompt.h: from a conversation or a text to prompt tokens, through the model's own chat template
 * and vocabulary. Any thread; may take long for long prompts: a worker's job. */
#ifndef SERVER_PROMPT_H
#define SERVER_PROMPT_H

#include "api/chat.h"
#include "base/json.h"
#include "engine/engine.h"

enum {
    PROMPT_TEXT_BYTES_MAX = 32 << 20,   /* rendered */
    PROMPT_ARENA_BYTES_MAX = 512 << 20, /* scratch of one prompt */
};

struct prompt_chat {
    const struct api_message *messages;
    uint32_t n_messages;
    bool add_generation_prompt;
    const struct json *template_kwargs; /* an object, or NULL */
    int64_t now_s;                      /* for strftime_now */
};

/* The rendered conversation in the arena. RC_UNSUPPORTED when the model has no template that can
 * be used; RC_INVALID with the template's own words when it refuses the conversation. */
RC prompt_render(const struct engine *e, const struct prompt_chat *chat, struct arena *a,
                 struct str *out, struct err *err);
/* Tokens of a rendered conversation: the template has written the special tokens itself. */
RC prompt_encode_chat(const struct engine *e, struct str text, struct arena *a,
                      struct token_list *out, struct err *err);
/* Tokens of plain text, begun as the model wants it (BOS). */
RC prompt_encode_text(const struct engine *e, struct str text, struct arena *a,
                      struct token_list *out, struct err *err);

/* RC_CONTEXT naming both counts when prompt and asked output do not fit the context, or all pages
 * together; else *max_tokens is what
 * may be generated: `asked`, or all that is left when asked is 0. */
RC prompt_check_length(const struct engine *e, uint32_t n_prompt, uint32_t asked,
                       uint32_t *max_tokens, struct err *err);

#endif
