/* lexicon.h: some of a vocabulary's texts in order, walked along byte by byte: which of them does
 * a text begin with? Used by special.c (what is cut out first) and unigram.c (every piece that
 * begins at a place).
 *
 * Filled at load, read-only afterwards. A step narrows a range of sorted texts by two binary
 * searches: O(log n), no memory beside the ids. */
#ifndef ENGINE_TOKEN_LEXICON_H
#define ENGINE_TOKEN_LEXICON_H

#include "engine/token/vocab.h"

struct lexicon {
    int32_t *ids; /* owned; sorted by text */
    uint32_t n;
    uint32_t first[257]; /* ids[first[b] … first[b + 1]) begin with byte b */
};

/* Which tokens belong to it; a text of no bytes never does. */
typedef bool lexicon_wants_fn(const struct vocab *v, int32_t id);

/* False when memory is short. `l` is zeroed. O(n log n). */
MUST_CHECK bool vocab_lexicon_fill(struct lexicon *l, const struct vocab *v,
                                   lexicon_wants_fn *wants);
/* May be called twice and on a zeroed struct. */
void vocab_lexicon_deinit(struct lexicon *l);

/* The texts that begin with the bytes walked so far: ids[lo … hi). */
struct lexicon_walk {
    uint32_t lo, hi;
    uint32_t n_bytes;
};

/* From a text's first byte; *id is the token of exactly that text, or TOKEN_NONE. */
struct lexicon_walk vocab_lexicon_begin(const struct lexicon *l, const struct vocab *v,
                                        unsigned char byte, int32_t *id);
/* One byte on. lo == hi: nothing begins so, and nothing will. */
void vocab_lexicon_step(const struct lexicon *l, const struct vocab *v, unsigned char byte,
                        struct lexicon_walk *w, int32_t *id);

#endif
