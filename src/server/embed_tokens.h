/* embed_tokens.h: from the texts of an embeddings or rerank request to the engine's tokens, with
 * the model's special tokens and limits. Any thread; may take long: a worker's job. */
#ifndef SERVER_EMBED_TOKENS_H
#define SERVER_EMBED_TOKENS_H

#include "api/embed.h"
#include "api/rerank.h"
#include "server/embed.h"

/* One text for each input. RC_CONTEXT naming the input when it is longer than the model takes and
 * the request does not ask to cut it. *out points into the arena; *n_tokens is all of them. */
RC embed_tokens_inputs(const struct engine *e, const struct api_embed_request *r, struct arena *a,
                       struct embed_texts *out, uint32_t *n_tokens, struct err *err);

/* One text for each document: the query, then the document, as the model was made to read pairs.
 * A document is cut where it does not fit beside the query; a query that leaves no room for one is
 * RC_CONTEXT. */
RC embed_tokens_pairs(const struct engine *e, const struct api_rerank_request *r, struct arena *a,
                      struct embed_texts *out, uint32_t *n_tokens, struct err *err);

#endif
