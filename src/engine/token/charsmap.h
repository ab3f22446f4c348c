/* charsmap.h: SentencePiece's precompiled normaliser: what the longest run of characters that a
 * text begins with is replaced by (NFKC and its like, as a table in the model's file).
 *
 * Immutable after creation, shared by threads. */
#ifndef ENGINE_TOKEN_CHARSMAP_H
#define ENGINE_TOKEN_CHARSMAP_H

#include "base/err.h"
#include "engine/format/gguf.h"

struct charsmap;

/* tokenizer.ggml.precompiled_charsmap; *out is NULL when it is absent or empty. RC_CORRUPT when it
 * is not a table, or when a text in it is longer than any real one. */
RC charsmap_create(struct charsmap **out, const struct gguf *g, struct err *err);
/* NULL is allowed. */
void charsmap_destroy(struct charsmap *c);

/* How many bytes of text (not empty, UTF-8) are replaced and by what: by itself, one character,
 * where the table says nothing. `to` is UTF-8; it points into the table or into text. O(1). */
size_t charsmap_find(const struct charsmap *c, struct str text, struct str *to);

#endif
