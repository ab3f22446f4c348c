/* pretok.h: how byte-level BPE cuts a text into words before it merges.
 *
 * A vocabulary names its pre-tokenizer (tokenizer.ggml.pre). The field writes them as regular
 * expressions; they come down to a few families, and each row here is an ordered list of stages,
 * built from shared splitting rules: a stage cuts the pieces that the stage before it made. */
#ifndef ENGINE_TOKEN_PRETOK_H
#define ENGINE_TOKEN_PRETOK_H

#include "base/str.h"

enum { PRETOK_STAGES_MAX = 6 };

struct pretok_stage; /* pretok_rules.h */

struct pretok_row {
    const char *name;
    const struct pretok_stage *stages;
    uint32_t n_stages;
    /* What else goes with the name. */
    bool ignore_merges, add_bos, add_sep;
    bool spm_text; /* spaces are U+2581 and there is no byte mapping */
};

/* NULL when the name is not known. "" is the row of files from before the key existed. */
const struct pretok_row *pretok_find(const char *name);
/* Row i, NULL behind the last: for lists and tests. */
const struct pretok_row *pretok_at(uint32_t i);

struct pretok {
    /* private */
    const struct pretok_row *row;
    struct str text;
    size_t at;                     /* what is before is done */
    size_t end[PRETOK_STAGES_MAX]; /* of the piece that each stage has in hand */
};

/* `text` is valid UTF-8 and outlives the walk. */
void pretok_init(struct pretok *p, const struct pretok_row *row, struct str text);
/* The next word; false at the end. Words are not empty and cover the text. O(length of the word),
 * summed over all words. */
bool pretok_next(struct pretok *p, struct str *word);

#endif
