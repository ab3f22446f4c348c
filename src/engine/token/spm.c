/* spm.c: SentencePiece's BPE as Llama 2 files carry it: a token's score is its rank, and any two
 * neighbours whose texts together are a token may merge. Characters without a token become bytes.
 *
 * Source: github.com/google/sentencepiece, bpe_model.cc. */
#include "engine/token/encode.h"

struct spm_word {
    const struct vocab *v;
    const char *text;
};

static uint32_t spm_rank(const void *ctx, const struct merge_pair *pair, int32_t *id)
{
    const struct spm_word *w = ctx;
    struct str text = str_make(w->text + pair->start, pair->end - pair->start);
    *id = vocab_find_plain(w->v, text);
    return *id == TOKEN_NONE ? MERGE_NONE : w->v->tokens[*id].rank;
}

static RC spm_word_encode(struct encoder *e, struct str text, struct err *err)
{
    struct merge *m = &e->merge;
    struct spm_word w = {e->v, text.ptr};
    if (!merge_reserve(m, e->arena, encoder_n_chars(text))) {
        e->full = true;
        return encoder_full(e, err);
    }
    m->n = 0;
    m->end = (uint32_t)text.len;
    m->rank = spm_rank;
    m->ctx = &w;
    for (size_t at = 0; at < text.len;) {
        uint32_t cp;
        size_t n = str_utf8_decode(str_slice(text, at, text.len), &cp);
        int32_t id = vocab_find_plain(e->v, str_slice(text, at, at + n));
        m->syms[m->n++] = (struct merge_sym){.start = (uint32_t)at, .id = id};
        at += n;
    }
    merge_run(m);
    enum rc rc = RC_OK;
    for (uint32_t i = 0; i != MERGE_NONE && rc == RC_OK; i = m->syms[i].next) {
        if (m->syms[i].id != TOKEN_NONE) {
            encoder_add(e, m->syms[i].id);
        } else {
            rc = encoder_add_bytes(e, str_slice(text, m->syms[i].start, merge_sym_end(m, i)), err);
        }
    }
    m->ctx = NULL;
    return rc;
}

/* Runs of spaces become one, and none stays at the ends. ptr is NULL when the arena is full. */
static struct str spm_squeeze(struct encoder *e, struct str text)
{
    char *out = arena_alloc(e->arena, text.len + 1);
    size_t n = 0;
    if (out == NULL) {
        e->full = true;
        return STR_NULL;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != ' ' || (n > 0 && out[n - 1] != ' ')) {
            out[n++] = text.ptr[i];
        }
    }
    n -= n > 0 && out[n - 1] == ' ';
    return str_make(out, n);
}

RC spm_encode(struct encoder *e, struct str text, bool space_prefix, struct err *err)
{
    if (e->v->remove_extra_spaces) {
        text = spm_squeeze(e, text);
    }
    enum rc rc = encoder_full(e, err);
    for (size_t at = 0; at < text.len && rc == RC_OK;) {
        size_t end = encoder_space_word(e->v, text, at);
        struct str word = str_slice(text, at, end);
        bool prefix = space_prefix && at == 0;
        struct encode_word *slot = prefix ? NULL : encoder_word(e, word);
        at = end;
        if (encoder_word_known(e, slot, word)) {
            continue;
        }
        uint32_t out_idx = e->out.n;
        struct str escaped = encoder_escape(e, word, prefix);
        rc = escaped.ptr == NULL ? encoder_full(e, err) : spm_word_encode(e, escaped, err);
        if (slot != NULL) {
            *slot = (struct encode_word){word.ptr, (uint32_t)word.len, out_idx, e->out.n - out_idx};
        }
    }
    return rc;
}
