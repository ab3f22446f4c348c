/* chat.h: the body of POST /v1/chat/completions as a typed, checked request.
 *
 * Every member of the body is known: served, accepted without effect, or refused with its path
 * (`messages[2].content`, `stop[1]`) in err.param. Nothing is ignored in silence. */
#ifndef API_CHAT_H
#define API_CHAT_H

#include "api/types.h"
#include "base/arena.h"
#include "base/err.h"

struct json;

enum api_role {
    API_ROLE_SYSTEM,
    API_ROLE_DEVELOPER, /* templates that know no developer take it as system */
    API_ROLE_USER,
    API_ROLE_ASSISTANT,
    API_ROLE_TOOL,
    API_ROLE_N,
};

/* One call in an assistant's message of the history. */
struct api_tool_call {
    struct str id;
    struct str name;
    struct str arguments; /* JSON in a string, as the model wrote it; not checked */
};

struct api_message {
    enum api_role role;
    bool has_content;        /* false: null or absent, beside tool calls */
    struct str content;      /* text parts are joined by newlines */
    struct str reasoning;    /* reasoning_content of an assistant's message; empty when absent */
    struct str name;         /* empty when absent */
    struct str tool_call_id; /* API_ROLE_TOOL only, never empty there */
    const struct api_tool_call *tool_calls;
    uint32_t n_tool_calls;
};

struct api_chat_request {
    struct api_generate gen;
    const struct api_message *messages; /* at least one */
    uint32_t n_messages;
    bool add_generation_prompt;         /* true unless the body says otherwise */
    const struct json *template_kwargs; /* chat_template_kwargs: an object, or NULL */
};

/* Fails with RC_SYNTAX, RC_INVALID, RC_MISSING, RC_UNKNOWN_PARAM, RC_UNSUPPORTED, or RC_TOO_LARGE
 * (the arena's cap). O(bytes of the body). */
RC api_chat_parse(struct str body, struct arena *a, struct api_chat_request *out, struct err *err);

/* "system", "developer", "user", "assistant", "tool". */
const char *api_role_name(enum api_role role);

#endif
