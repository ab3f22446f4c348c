/* complete.h: the body of POST /v1/completions as a typed, checked request. Same rules as chat.h:
 * every member is known, every refusal names its path in err.param. */
#ifndef API_COMPLETE_H
#define API_COMPLETE_H

#include "api/types.h"
#include "base/arena.h"
#include "base/err.h"

struct api_complete_request {
    struct api_generate gen;          /* has_max_tokens is always true here */
    const struct api_prompt *prompts; /* at least one; prompts * n <= API_CHOICES_MAX */
    uint32_t n_prompts;
    bool echo; /* the prompt's text comes before the completion's; max_tokens may be 0 then */
};

/* The index of a choice in the reply. */
static inline uint32_t api_complete_choice_idx(const struct api_complete_request *r,
                                               uint32_t prompt_idx, uint32_t nth)
{
    return prompt_idx * r->gen.n + nth;
}

/* Fails as api_chat_parse does. */
RC api_complete_parse(struct str body, struct arena *a, struct api_complete_request *out,
                      struct err *err);

#endif
