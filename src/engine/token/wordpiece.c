/* wordpiece.c: BERT's tokenizer: clean, lower, strip accents, cut at white space, punctuation and
 * Chinese characters, then the longest token that a word begins with, again and again.
 *
 * Two styles of vocabulary: converted ones have U+2581 before a word's first piece, original ones
 * "##" before the others. A word that no pieces make up, or of more than 100 characters, is the
 * unknown token. Source: github.com/google-research/bert, tokenization.py. */
#include "engine/token/encode.h"
#include "engine/token/unicode.h"

enum { WORDPIECE_CHARS_MAX = 100 };

/* The word in hand: a mark of 0–3 bytes, then its characters, normalised. */
struct wordpiece_word {
    uint32_t n_chars;
    size_t len;
    char text[3 + 4 * WORDPIECE_CHARS_MAX];
};

/* The longest token at `at`, of *n bytes of the word, or TOKEN_NONE. */
static int32_t wordpiece_longest(const struct vocab *v, const struct wordpiece_word *w, size_t at,
                                 size_t *n)
{
    char piece[2 + sizeof(w->text)];
    size_t mark = v->continuation && at > 0 ? 2 : 0;
    size_t longest = MIN(w->len - at, v->text_bytes_max);
    struct str rest = str_make(w->text + at, w->len - at);
    /* A U+2581 of the text's own must not pass for the mark of a word's first piece. */
    if (!v->continuation && at > 0 && str_starts(rest, VOCAB_SPACE_STR)) {
        return TOKEN_NONE;
    }
    memcpy(piece, "##", 2);
    memcpy(piece + mark, w->text + at, longest);
    for (*n = longest; *n > 0; (*n)--) {
        bool cuts_char = at + *n < w->len && ((unsigned char)w->text[at + *n] & 0xc0) == 0x80;
        int32_t id = cuts_char ? TOKEN_NONE : vocab_find_plain(v, str_make(piece, mark + *n));
        if (id != TOKEN_NONE) {
            return id;
        }
    }
    return TOKEN_NONE;
}

static void wordpiece_flush(struct encoder *e, struct wordpiece_word *w)
{
    uint32_t before = e->out.n;
    bool known = w->n_chars <= WORDPIECE_CHARS_MAX;
    for (size_t at = 0, n; w->n_chars > 0 && known && at < w->len; at += n) {
        int32_t id = wordpiece_longest(e->v, w, at, &n);
        known = id != TOKEN_NONE;
        if (known) {
            encoder_add(e, id);
        }
    }
    if (w->n_chars > 0 && !known) {
        e->out.n = before;
        encoder_add(e, e->v->special.unk);
    }
    w->n_chars = 0;
    w->len = 0;
}

static void wordpiece_add_char(const struct vocab *v, struct wordpiece_word *w, uint32_t cp)
{
    if (w->n_chars == 0 && !v->continuation) {
        memcpy(w->text, VOCAB_SPACE, VOCAB_SPACE_STR.len);
        w->len = VOCAB_SPACE_STR.len;
    }
    if (w->n_chars++ < WORDPIECE_CHARS_MAX) {
        w->len += str_utf8_encode(cp, w->text + w->len);
    }
}

static void wordpiece_char(struct encoder *e, struct wordpiece_word *w, uint32_t cp)
{
    unsigned class = unicode_class(cp);
    if ((class & UNICODE_SPACE) != 0) {
        wordpiece_flush(e, w);
        return;
    }
    bool dropped = cp == 0 || cp == 0xfffd || (class & UNICODE_C) != 0;
    if (dropped || (e->v->strip_accents && (class & UNICODE_MN) != 0)) {
        return;
    }
    /* Every ASCII character that is no letter, number or space counts as punctuation. */
    bool alone =
        (class & UNICODE_P) != 0 || (cp < 0x80 && (class & UNICODE_S) != 0) || unicode_is_cjk(cp);
    if (alone) {
        wordpiece_flush(e, w);
    }
    wordpiece_add_char(e->v, w, e->v->lowercase ? unicode_lower(cp) : cp);
    if (alone) {
        wordpiece_flush(e, w);
    }
}

RC wordpiece_encode(struct encoder *e, struct str text, struct err *err)
{
    struct wordpiece_word w = {0};
    for (size_t at = 0; at < text.len;) {
        uint32_t cp, parts[UNICODE_DECOMPOSED_MAX];
        uint32_t n_parts = 1;
        at += str_utf8_decode(str_slice(text, at, text.len), &cp);
        parts[0] = cp;
        if (e->v->strip_accents) {
            n_parts = unicode_decompose(cp, parts);
        }
        for (uint32_t i = 0; i < n_parts; i++) {
            wordpiece_char(e, &w, parts[i]);
        }
    }
    wordpiece_flush(e, &w);
    return encoder_full(e, err);
}
