/* load_answer.h: what an OpenAI-compatible server answered, as far as `bud load` counts it.
 *
 * Answers come from any server: nothing in them is trusted, and what is absent is left at zero. */
#ifndef CLI_LOAD_ANSWER_H
#define CLI_LOAD_ANSWER_H

#include "base/arena.h"
#include "base/err.h"

/* Limits. */
enum { LOAD_ERROR_BYTES_MAX = 160 };

struct load_answer {
    bool has_text; /* generated text, thoughts or a tool call are in it */
    bool has_usage;
    uint64_t prompt_tokens, completion_tokens;
};

/* One JSON reply, or one event of a stream. RC_UPSTREAM with the server's words when it is an
 * error; RC_SYNTAX when it is no JSON object. `arena` is reset before. */
RC load_answer_parse(struct load_answer *out, struct str json, struct arena *arena,
                     struct err *err);
/* The message in the body of an error reply, or the status alone: "429 Too Many Requests: …", cut
 * to LOAD_ERROR_BYTES_MAX, printable. */
void load_answer_error(char out[LOAD_ERROR_BYTES_MAX], int status, struct str body,
                       struct arena *arena);
/* The id of the first model of a /v1/models reply. */
RC load_answer_model(char *out, size_t out_bytes, struct str body, struct arena *arena,
                     struct err *err);

#endif
