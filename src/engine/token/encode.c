/* encode.c: text to ids: special tokens are cut out first, what lies between them goes to the
 * vocabulary's tokenizer, BOS, EOS and SEP come round it.
 *
 * Also the encoder's scratch: growing output, one word's bytes, and the memory of words, which
 * makes common words cost one look-up. All of it lies in the caller's arena. */
#include "engine/token/encode.h"

#include "base/assert.h"
#include "base/hash.h"

enum {
    ENCODE_WORDS_MAX = 4096,    /* slots of the word memory */
    ENCODE_WORD_BYTES_MAX = 64, /* longer words seldom come twice */
    ENCODE_TEXT_BYTES_MAX = 1 << 30,
};

/* ---- output ---- */

void encoder_add(struct encoder *e, int32_t id)
{
    ASSERT(id >= 0 && (uint32_t)id < e->v->n_tokens);
    if (e->out.n == e->out_cap && !e->full) {
        uint32_t cap = 2 * e->out_cap + 64;
        int32_t *ids = arena_alloc_array(e->arena, cap, sizeof(*ids));
        e->full = ids == NULL;
        if (ids != NULL) {
            memcpy(ids, e->out.ids, e->out.n * sizeof(*ids));
            e->out.ids = ids;
            e->out_cap = cap;
        }
    }
    if (!e->full) {
        e->out.ids[e->out.n++] = id;
    }
}

RC encoder_full(const struct encoder *e, struct err *err)
{
    if (!e->full) {
        return RC_OK;
    }
    return err_set(err, RC_TOO_LARGE,
                   "the text is too large to tokenize: after %u tokens there "
                   "is no memory left for it",
                   e->out.n);
}

RC encoder_add_bytes(struct encoder *e, struct str symbol, struct err *err)
{
    const struct vocab *v = e->v;
    bool all = true;
    for (size_t i = 0; i < symbol.len; i++) {
        all = all && v->byte_id[(unsigned char)symbol.ptr[i]] != TOKEN_NONE;
    }
    if (!all && v->special.unk == TOKEN_NONE) {
        return err_set(err, RC_INVALID, "the vocabulary has no token for \"%.*s\"", STR(symbol));
    }
    if (!all) {
        encoder_add(e, v->special.unk);
        return RC_OK;
    }
    for (size_t i = 0; i < symbol.len; i++) {
        encoder_add(e, v->byte_id[(unsigned char)symbol.ptr[i]]);
    }
    return RC_OK;
}

/* ---- scratch ---- */

char *encoder_scratch(struct encoder *e, size_t n)
{
    if (n > e->scratch_bytes) {
        size_t bytes = MAX(n, MAX(2 * e->scratch_bytes, 256));
        e->scratch = arena_alloc(e->arena, bytes);
        e->scratch_bytes = e->scratch != NULL ? bytes : 0;
        e->full = e->full || e->scratch == NULL;
    }
    return e->scratch;
}

struct encode_word *encoder_word(struct encoder *e, struct str word)
{
    if (e->words == NULL || word.len == 0 || word.len > ENCODE_WORD_BYTES_MAX) {
        return NULL;
    }
    return &e->words[hash_str(word) & e->words_mask];
}

bool encoder_word_known(struct encoder *e, const struct encode_word *slot, struct str word)
{
    if (slot == NULL || slot->len == 0 || !str_eq(str_make(slot->ptr, slot->len), word)) {
        return false;
    }
    for (uint32_t i = 0; i < slot->n_ids; i++) {
        encoder_add(e, e->out.ids[slot->out_idx + i]);
    }
    return true;
}

/* ---- words of text that has U+2581 for spaces ---- */

size_t encoder_space_word(const struct vocab *v, struct str text, size_t from)
{
    for (size_t at = from + 1; at < text.len; at++) {
        unsigned char before = (unsigned char)text.ptr[at - 1];
        if (text.ptr[at] == ' ' && before != ' ' && !v->joins_space[before]) {
            return at;
        }
    }
    return text.len;
}

struct str encoder_escape(struct encoder *e, struct str word, bool prefix)
{
    char *out = encoder_scratch(e, 3 * (word.len + 1));
    size_t n = 0;
    if (out == NULL) {
        return STR_NULL;
    }
    if (prefix) {
        memcpy(out, VOCAB_SPACE, 3);
        n = 3;
    }
    for (size_t i = 0; i < word.len; i++) {
        if (word.ptr[i] == ' ') {
            memcpy(out + n, VOCAB_SPACE, 3);
            n += 3;
        } else {
            out[n++] = word.ptr[i];
        }
    }
    return str_make(out, n);
}

size_t encoder_n_chars(struct str text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        n += ((unsigned char)text.ptr[i] & 0xc0) != 0x80;
    }
    return n;
}

/* ---- the whole text ---- */

static RC encode_piece(struct encoder *e, struct str text, bool after_special, struct err *err)
{
    switch (e->v->kind) {
    case VOCAB_SPM:
        return spm_encode(e, text, after_special && e->v->space_prefix, err);
    case VOCAB_BPE:
        return bpe_encode(e, text, err);
    case VOCAB_WORDPIECE:
        return wordpiece_encode(e, text, err);
    case VOCAB_UNIGRAM:
        return unigram_encode(e, text, err);
    }
    return RC_INTERNAL;
}

static bool encode_is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Phi-3 (vocab.strip_after_special): all but its unknown, first and filling tokens. */
static bool encode_strips(const struct vocab *v, int32_t id)
{
    const struct vocab_special *s = &v->special;
    return v->strip_after_special && id != s->bos && id != s->unk && id != s->pad;
}

static RC encode_body(struct encoder *e, struct str text, bool parse_special, struct err *err)
{
    size_t at = 0;
    bool after_special = true; /* SPM: the start counts as one */
    while (at < text.len) {
        struct special_match m = vocab_specials_find(e->v, text, at, parse_special);
        if (m.at > at) {
            enum rc rc = encode_piece(e, str_slice(text, at, m.at), after_special, err);
            if (rc != RC_OK) {
                return rc;
            }
            after_special = false;
        }
        at = m.at;
        if (m.id != TOKEN_NONE) {
            encoder_add(e, m.id);
            at += e->v->tokens[m.id].len;
            after_special = true;
            while (encode_strips(e->v, m.id) && at < text.len && encode_is_space(text.ptr[at])) {
                at++;
            }
        }
    }
    return encoder_full(e, err);
}

static RC encoder_init(struct encoder *e, const struct vocab *v, size_t n_bytes, struct arena *a)
{
    *e = (struct encoder){.v = v, .arena = a};
    e->out_cap = (uint32_t)(n_bytes / 3 + 16);
    e->out.ids = arena_alloc_array(a, e->out_cap, sizeof(*e->out.ids));
    e->full = e->out.ids == NULL;
    uint32_t n_words = 0;
    while (n_words < ENCODE_WORDS_MAX && n_words < n_bytes / 16) {
        n_words = MAX(16, 2 * n_words);
    }
    if (n_words > 0 && !e->full) {
        e->words = arena_alloc_array(a, n_words, sizeof(*e->words));
        e->words_mask = n_words - 1;
        e->full = e->words == NULL;
    }
    return e->full ? RC_TOO_LARGE : RC_OK;
}

RC vocab_encode(const struct vocab *v, struct str text, struct encode_options opt, struct arena *a,
                struct token_list *out, struct err *err)
{
    struct encoder e;
    *out = (struct token_list){0};
    if (text.len > ENCODE_TEXT_BYTES_MAX) {
        return err_set(err, RC_TOO_LARGE, "a text of %zu bytes is too large to tokenize", text.len);
    }
    if (!str_utf8_valid(text)) {
        return err_set(err, RC_INVALID, "the text is not valid UTF-8");
    }
    if (encoder_init(&e, v, text.len, a) != RC_OK) {
        return encoder_full(&e, err);
    }
    if (opt.add_special && v->special.add_bos) {
        encoder_add(&e, v->special.bos);
    }
    enum rc rc = encode_body(&e, text, opt.parse_special, err);
    /* One of them: with both, SEP stands between two texts (XLM-RoBERTa: <s>A</s></s>B</s>). */
    if (opt.add_special && (v->special.add_eos || v->special.add_sep)) {
        encoder_add(&e, v->special.add_eos ? v->special.eos : v->special.sep);
    }
    if (rc == RC_OK) {
        rc = encoder_full(&e, err);
    }
    if (rc == RC_OK) {
        *out = e.out;
    }
    return rc;
}
