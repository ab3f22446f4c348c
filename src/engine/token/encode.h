/* encode.h: what the tokenizers of this folder share while they encode one text. */
#ifndef ENGINE_TOKEN_ENCODE_H
#define ENGINE_TOKEN_ENCODE_H

#include "engine/token/merge.h"
#include "engine/token/vocab.h"

/* A word that was met before: its ids are copied instead of merged anew. */
struct encode_word {
    const char *ptr;
    uint32_t len; /* 0: empty slot */
    uint32_t out_idx, n_ids;
};

struct unigram_node;

struct encoder {
    const struct vocab *v;
    struct arena *arena;
    struct token_list out; /* grows by doubling, in the arena */
    uint32_t out_cap;
    bool full; /* the arena ran out; sticky */
    struct merge merge;
    char *scratch; /* one word, its spaces escaped or its bytes mapped */
    size_t scratch_bytes;
    struct unigram_node *nodes; /* unigram.c's scratch for one word */
    size_t n_nodes;
    struct encode_word *words;
    uint32_t words_mask;
};

void encoder_add(struct encoder *e, int32_t id);
/* At least n bytes of scratch for one word, or NULL (and e->full). Contents are lost. */
char *encoder_scratch(struct encoder *e, size_t n);

/* Where a word's ids are remembered; NULL when there is no memory of words. */
struct encode_word *encoder_word(struct encoder *e, struct str word);
/* Whether the slot held this very word, whose ids are then in the output. */
bool encoder_word_known(struct encoder *e, const struct encode_word *slot, struct str word);

/* Each appends the ids of one piece of text without special tokens. RC_TOO_LARGE: arena full. */
RC spm_encode(struct encoder *e, struct str text, bool space_prefix, struct err *err);
RC bpe_encode(struct encoder *e, struct str text, struct err *err);
RC wordpiece_encode(struct encoder *e, struct str text, struct err *err);
RC unigram_encode(struct encoder *e, struct str text, struct err *err);

/* A symbol without a token goes out as its bytes' tokens, or as the unknown one. */
RC encoder_add_bytes(struct encoder *e, struct str symbol, struct err *err);

/* The next word of text that has U+2581 for spaces, as it stands before escaping: it ends before a
 * space that no token can reach across (vocab.joins_space), or at the end. */
size_t encoder_space_word(const struct vocab *v, struct str text, size_t from);
/* The word with every space as U+2581, after one more of them with `prefix`; ptr is NULL when the
 * arena is full. Valid until the scratch is used again. */
struct str encoder_escape(struct encoder *e, struct str word, bool prefix);

size_t encoder_n_chars(struct str text);

RC encoder_full(const struct encoder *e, struct err *err);

/* unigram.c at load: pieces, scores, normaliser */
RC unigram_create(struct vocab *v, const struct gguf *g, struct err *err);
/* NULL is allowed. */
void unigram_destroy(struct unigram *u);

/* bpe.c at load */
RC bpe_merges_create(struct vocab *v, const struct gguf *g, struct err *err);
void bpe_merges_destroy(struct bpe_merges *m);
/* The byte that a code point stands for in byte-level texts, or -1. */
int bpe_byte_of(uint32_t cp);
uint32_t bpe_char_of(uint8_t byte);

#endif
