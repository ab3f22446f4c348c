/* vocab.h: the inside of struct vocab, shared by this folder alone; token.h is the door.
 *
 * Everything is filled in by vocab_create and read-only afterwards. */
#ifndef ENGINE_TOKEN_VOCAB_H
#define ENGINE_TOKEN_VOCAB_H

#include "engine/token/token.h"

enum {
    VOCAB_TOKENS_MAX = 1 << 23,
    VOCAB_TEXT_BYTES_MAX = 4096, /* of one token; the longest seen in the field has 512 */
    VOCAB_PROBES_MAX = 4096,     /* a longer chain means texts chosen to collide */
    VOCAB_NAME_BYTES = 64,
};

enum vocab_kind { VOCAB_SPM, VOCAB_BPE, VOCAB_WORDPIECE, VOCAB_UNIGRAM };

/* U+2581, which stands for a space inside SPM texts. */
#define VOCAB_SPACE     "\xe2\x96\x81"
#define VOCAB_SPACE_STR STR_LIT(VOCAB_SPACE)

struct vocab_token {
    uint32_t offset; /* of its text in vocab.texts */
    uint16_t len;
    uint8_t attr; /* enum token_attr */
    bool eog;
    union {
        uint32_t rank; /* SPM: order of its score, the best first */
        float score;   /* unigram: finite */
    };
};

struct vocab_slot;     /* vocab.c */
struct bpe_merges;     /* bpe.c */
struct pretok_row;     /* pretok.h */
struct vocab_specials; /* special.c */
struct unigram;        /* unigram.c */

struct vocab {
    char model[VOCAB_NAME_BYTES];
    char pre[VOCAB_NAME_BYTES];
    enum vocab_kind kind;
    uint32_t n_tokens;
    struct vocab_token *tokens;
    char *texts;
    uint32_t text_bytes_max;  /* of the longest token */
    struct vocab_slot *table; /* text → id, open addressing */
    uint32_t table_mask;
    struct vocab_special special;
    struct vocab_specials *specials; /* what splits a text before everything else */
    int32_t byte_id[256];            /* the token of one byte, or TOKEN_NONE */
    bool spm_text;                   /* a space is U+2581 in texts */
    bool space_prefix;               /* SPM: text begins with a space of its own */
    bool remove_extra_spaces;
    bool strip_after_special; /* Phi-3: white space after a special token belongs to it */
    bool ignore_merges;       /* a word that is a token needs no merging */
    bool lowercase, strip_accents, continuation; /* WordPiece; continuation: the "##" style */
    /* spm_text: last bytes of what may stand before U+2581 inside one token; after any other byte
     * a space begins a word that no merge can reach across. */
    bool joins_space[256];
    const struct pretok_row *pretok;
    struct bpe_merges *merges;
    struct unigram *unigram;
};

/* The id of a text that plain text may become: not a control, unknown or byte token. */
int32_t vocab_find_plain(const struct vocab *v, struct str text);
static inline bool vocab_attr_is_plain(uint8_t attr)
{
    return attr != TOKEN_CONTROL && attr != TOKEN_UNKNOWN && attr != TOKEN_BYTE;
}

/* vocab_load.c: models, ids, attributes, end texts; `v` has its tokens already. */
RC vocab_load_model(struct vocab *v, const struct gguf *g, struct err *err);
RC vocab_load_attrs(struct vocab *v, const struct gguf *g, struct err *err);
RC vocab_load_special(struct vocab *v, const struct gguf *g, struct err *err);

/* ---- special.c: tokens that are cut out of the text before it is tokenized ---- */

RC vocab_specials_create(struct vocab *v, struct err *err);
void vocab_specials_destroy(struct vocab_specials *s);

struct special_match {
    size_t at; /* byte offset; text.len when there is none */
    int32_t id;
};

/* The leftmost special token at or after `from`, the longest of those that begin there.
 * User-defined ones always count, control and unknown ones only with parse_special. */
struct special_match vocab_specials_find(const struct vocab *v, struct str text, size_t from,
                                         bool parse_special);

#endif
