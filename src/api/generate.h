/* generate.h: the members that chat and plain completions share (struct api_generate). For the
 * parsers of this folder. */
#ifndef API_GENERATE_H
#define API_GENERATE_H

#include "api/field.h"
#include "api/types.h"

/* Fills in what a body leaves out. */
void api_generate_init(struct api_generate *gen);
/* Rows for `gen`. */
struct api_field_table api_generate_table(struct api_generate *gen);
/* After all members are read: what they must be to one another. */
RC api_generate_check(struct api_field_ctx *ctx, const struct api_generate *gen);

/* A string, an array of strings, an array of token ids, or an array of such arrays: at most n_max
 * texts, none without tokens. May return empty text. */
RC api_generate_read_prompts(struct api_field_ctx *ctx, const struct json *v, uint32_t n_max,
                             struct api_prompts *out);
/* An array of token ids, or a failure at the present path. *n becomes their count. */
RC api_generate_read_tokens(struct api_field_ctx *ctx, const struct json *v, const uint32_t **out,
                            uint32_t *n);

/* truncate_prompt_tokens: -1 or a count of at least 1. */
RC api_generate_read_truncate(struct api_field_ctx *ctx, const struct json *v,
                              struct api_truncate *out);

#endif
