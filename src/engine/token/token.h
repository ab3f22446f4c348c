/* token.h: text to token ids and back.
 *
 * A struct vocab is immutable after vocab_create and shared by threads; encoding takes its
 * scratch from the caller's arena. */
#ifndef ENGINE_TOKEN_TOKEN_H
#define ENGINE_TOKEN_TOKEN_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "engine/format/gguf.h"

enum { TOKEN_NONE = -1 };

enum token_attr {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6,
};

struct vocab; /* opaque */

/* Reads tokenizer.ggml.*; unknown models and unknown `pre` names are RC_UNSUPPORTED naming them. */
RC vocab_create(struct vocab **out, const struct gguf *g, struct err *err);
/* NULL is allowed. */
void vocab_destroy(struct vocab *v);

struct vocab_special {
    int32_t bos, eos, eot, eom, unk, sep, pad; /* TOKEN_NONE when absent */
    bool add_bos, add_eos, add_sep;            /* add_special: BOS, text, EOS or else SEP */
};

uint32_t vocab_size(const struct vocab *v);
const char *vocab_model(const struct vocab *v); /* "llama", "gpt2", "bert", … */
const char *vocab_pre(const struct vocab *v);   /* "" when the model has none */
const struct vocab_special *vocab_special(const struct vocab *v);
/* Whether generation ends with this token: eos, eot, eom and the known end texts. */
bool vocab_is_eog(const struct vocab *v, int32_t id);
enum token_attr vocab_attr(const struct vocab *v, int32_t id);
/* The token's own text as stored in the file; empty for ids out of range. */
struct str vocab_text(const struct vocab *v, int32_t id);
/* The id whose stored text is exactly `text`, or TOKEN_NONE. */
int32_t vocab_find(const struct vocab *v, struct str text);

struct token_list {
    int32_t *ids; /* in the arena */
    uint32_t n;
};

struct encode_options {
    bool add_special;   /* BOS/EOS/SEP as the model wants them */
    bool parse_special; /* control tokens written in the text become themselves */
};

/* RC_INVALID when text is not UTF-8, RC_TOO_LARGE when the arena is full. Time O(n log n). */
RC vocab_encode(const struct vocab *v, struct str text, struct encode_options opt, struct arena *a,
                struct token_list *out, struct err *err);

/* ---- ids to bytes ---- */

/* Appends the bytes of one token. With `special` control tokens give their text, else nothing. */
void vocab_decode_piece(const struct vocab *v, int32_t id, bool special, struct buf *out);

/* Incremental: holds back the bytes of an unfinished UTF-8 character, so that what comes out is
 * always whole characters; bytes that can never become one come out as U+FFFD. */
struct detok {
    /* private */
    const struct vocab *vocab;
    bool special;
    bool at_start; /* SPM: the first piece loses its leading space */
    uint8_t n_held;
    char held[4];
};

/* at_start: the text starts here (SPM's added space is dropped), not in the middle of one. */
struct detok_options {
    bool special;
    bool at_start;
};
void detok_init(struct detok *d, const struct vocab *v, struct detok_options opt);
/* Appends the characters that became whole. */
void detok_push(struct detok *d, int32_t id, struct buf *out);
/* The end: held bytes come out as U+FFFD. */
void detok_finish(struct detok *d, struct buf *out);

#endif
