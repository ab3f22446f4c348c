/* load_text.h: the requests that `bud load` sends: prompts of plain words, and their JSON.
 *
 * Same seed and number, same request, whichever server gets it. */
#ifndef CLI_LOAD_TEXT_H
#define CLI_LOAD_TEXT_H

#include "base/buf.h"

enum load_api { LOAD_CHAT, LOAD_COMPLETIONS, LOAD_EMBEDDINGS, LOAD_APIS_N };

/* Limits. */
enum { LOAD_WORDS_MAX = 1 << 20, LOAD_INPUTS_MAX = 4096 };

struct load_text {
    enum load_api api;
    struct str model;
    uint32_t n_words;        /* of the request's own */
    uint32_t n_prefix_words; /* before them, the same in every request */
    uint32_t n_inputs;       /* texts of one request; embeddings alone */
    uint32_t max_tokens;
    double temperature;
    bool stream;
    uint64_t seed;
};

/* "chat", "completions", "embeddings". */
const char *load_api_name(enum load_api api);
MUST_CHECK bool load_api_parse(struct str name, enum load_api *out);
/* Behind the API's path: "/chat/completions". */
const char *load_api_target(enum load_api api);

/* Appends the body of request `number`; *out's sticky failure is the result. */
void load_text_body(struct buf *out, const struct load_text *t, uint64_t number);

#endif
