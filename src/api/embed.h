/* embed.h: the body of POST /v1/embeddings as a typed, checked request, and its reply.
 *
 * Same rules as chat.h: every member is known, every refusal names its path in err.param
 * (`input[3]`). How many tokens a text may have, only the model server knows. */
#ifndef API_EMBED_H
#define API_EMBED_H

#include "api/types.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum {
    API_EMBED_INPUTS_MAX = 2048,        /* as OpenAI's */
    API_EMBED_DIMENSIONS_MAX = 1 << 18, /* no model has wider vectors */
};

struct api_embed_request {
    struct str model;          /* never empty */
    struct str user;           /* no effect; for usage records. Empty when absent */
    struct api_prompts inputs; /* at most API_EMBED_INPUTS_MAX; none is empty */
    bool base64;               /* vectors as little-endian float32 in base64 */
    bool has_dimensions;
    uint32_t
        dimensions; /* 1 to API_EMBED_DIMENSIONS_MAX: the vector's first so many, unit length */
    struct api_truncate truncate;
};

/* Fails as api_chat_parse does. */
RC api_embed_parse(struct str body, struct arena *a, struct api_embed_request *out,
                   struct err *err);

struct api_embed_reply {
    struct str model;
    const float *vectors; /* [n, n_dims] */
    uint32_t n, n_dims;
    bool base64;
    uint32_t n_tokens; /* of all inputs */
};

/* Appends to `out`; its sticky failure is the result. */
void api_embed_write(struct buf *out, const struct api_embed_reply *reply);

/* Shortens each of n vectors to its first `dimensions` numbers and makes those unit length again:
 * what models trained for it (Matryoshka) ask for. In place: rows move together. A vector of zeros
 * stays one. */
void api_embed_shorten(float *vectors, uint32_t n, uint32_t n_dims, uint32_t dimensions);

#endif
