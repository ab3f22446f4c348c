/* unigram.c: SentencePiece's unigram model (T5, XLM-RoBERTa): of all ways to cut a text into pieces
 * the one whose scores, log-probabilities, add up to the most (Viterbi).
 *
 * First the text is normalised (charsmap.h), runs of spaces become one, none stays at the ends.
 * Then word by word, since few vocabularies have pieces that reach across a space: from each
 * character all pieces that begin there; where none is that character alone it may be unknown, at
 * ten below the worst score. Unknown ones in a row are one unknown token.
 *
 * Time O(n · longest piece). Source: github.com/google/sentencepiece, unigram_model.cc
 * (EncodeOptimized), normalizer.cc. */
#include <math.h>

#include "base/mem.h"
#include "engine/token/charsmap.h"
#include "engine/token/encode.h"
#include "engine/token/lexicon.h"

static const double unigram_unknown_penalty = 10;

struct unigram {
    struct lexicon pieces;
    struct charsmap *charsmap; /* NULL: none */
    double unknown_score;
    bool has_space; /* U+2581 is a piece: a word that begins with it begins with no unknown */
};

/* The best way to the bytes before this place. */
struct unigram_node {
    double score;
    uint32_t from; /* UNIGRAM_NOWHERE: not reached */
    int32_t id;    /* TOKEN_NONE: unknown */
};

#define UNIGRAM_NOWHERE UINT32_MAX

/* ---- loading ---- */

/* A piece that is not UTF-8 could end inside a character; no text has it. */
static bool unigram_is_piece(const struct vocab *v, int32_t id)
{
    uint8_t attr = v->tokens[id].attr;
    return (attr == TOKEN_NORMAL || attr == TOKEN_USER_DEFINED) &&
           str_utf8_valid(vocab_text(v, id));
}

static RC unigram_load_scores(struct vocab *v, const char *file, struct err *err)
{
    double worst = INFINITY;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        double score = (double)v->tokens[i].score;
        if (!isfinite(score)) {
            return err_set(err, RC_CORRUPT, "gguf %s: the score of token %u is not finite", file,
                           i);
        }
        if (v->tokens[i].attr == TOKEN_NORMAL) {
            worst = MIN(worst, score);
        }
    }
    v->unigram->unknown_score = (isfinite(worst) ? worst : 0) - unigram_unknown_penalty;
    return RC_OK;
}

RC unigram_create(struct vocab *v, const struct gguf *g, struct err *err)
{
    v->unigram = mem_zalloc(sizeof(*v->unigram));
    enum rc rc = unigram_load_scores(v, gguf_name(g), err);
    if (rc == RC_OK) {
        rc = charsmap_create(&v->unigram->charsmap, g, err);
    }
    if (rc == RC_OK && !vocab_lexicon_fill(&v->unigram->pieces, v, unigram_is_piece)) {
        rc = err_set(err, RC_NOMEM, "gguf %s: no memory for its pieces", gguf_name(g));
    }
    int32_t space = vocab_find(v, VOCAB_SPACE_STR);
    v->unigram->has_space = space != TOKEN_NONE && unigram_is_piece(v, space);
    return rc;
}

void unigram_destroy(struct unigram *u)
{
    if (u != NULL) {
        vocab_lexicon_deinit(&u->pieces);
        charsmap_destroy(u->charsmap);
        mem_free(u);
    }
}

/* ---- normalising ---- */

/* What would be written; with ptr NULL only counted. */
struct unigram_text {
    char *ptr;
    size_t len;
    char last;
    bool squeeze;
};

static void unigram_put(struct unigram_text *t, struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (t->squeeze && c == ' ' && (t->len == 0 || t->last == ' ')) {
            continue;
        }
        if (t->ptr != NULL) {
            t->ptr[t->len] = c;
        }
        t->len++;
        t->last = c;
    }
}

static void unigram_put_all(struct unigram_text *t, const struct charsmap *c, struct str text)
{
    for (size_t at = 0; at < text.len;) {
        struct str to;
        at += charsmap_find(c, str_slice(text, at, text.len), &to);
        unigram_put(t, to);
    }
    t->len -= t->squeeze && t->len > 0 && t->last == ' ' ? 1 : 0;
}

/* In the arena; ptr is NULL when it is full. */
static struct str unigram_normalise(struct encoder *e, struct str text)
{
    struct unigram_text count = {.squeeze = e->v->remove_extra_spaces};
    unigram_put_all(&count, e->v->unigram->charsmap, text);
    struct unigram_text out = {.squeeze = count.squeeze,
                               .ptr = arena_alloc(e->arena, count.len + 1)};
    if (out.ptr == NULL) {
        e->full = true;
        return STR_NULL;
    }
    unigram_put_all(&out, e->v->unigram->charsmap, text);
    return str_make(out.ptr, out.len);
}

/* ---- one word ---- */

/* Room for n bytes and the end, all unreached, or NULL (and e->full). */
static struct unigram_node *unigram_nodes(struct encoder *e, size_t n)
{
    if (n + 1 > e->n_nodes) {
        size_t room = MAX(n + 1, MAX(2 * e->n_nodes, 64));
        e->nodes = arena_alloc_array(e->arena, room, sizeof(*e->nodes));
        e->n_nodes = e->nodes != NULL ? room : 0;
        e->full = e->full || e->nodes == NULL;
    }
    for (size_t i = 0; e->nodes != NULL && i <= n; i++) {
        e->nodes[i].from = UNIGRAM_NOWHERE;
    }
    return e->nodes;
}

static void unigram_reach(struct unigram_node *node, uint32_t from, int32_t id, double score)
{
    if (node->from == UNIGRAM_NOWHERE || score > node->score) {
        *node = (struct unigram_node){score, from, id};
    }
}

/* All that begins at `at`. Returns the bytes of the character there. */
static size_t unigram_extend(const struct vocab *v, struct str text, uint32_t at,
                             struct unigram_node *nodes)
{
    const struct unigram *u = v->unigram;
    uint32_t cp;
    size_t n_char = str_utf8_decode(str_slice(text, at, text.len), &cp);
    double score = nodes[at].score;
    bool alone = false;
    int32_t id;
    size_t end = at + 1;
    struct lexicon_walk w = vocab_lexicon_begin(&u->pieces, v, (unsigned char)text.ptr[at], &id);
    for (;;) {
        if (id != TOKEN_NONE) {
            unigram_reach(&nodes[end], at, id, score + (double)v->tokens[id].score);
            alone = alone || end == at + n_char;
        }
        if (w.lo == w.hi || end == text.len) {
            break;
        }
        vocab_lexicon_step(&u->pieces, v, (unsigned char)text.ptr[end], &w, &id);
        end++;
    }
    if (!alone) {
        unigram_reach(&nodes[at + n_char], at, TOKEN_NONE, score + u->unknown_score);
    }
    return n_char;
}

/* The links from the end, turned round: nodes[at].from is then the next place behind `at`. */
static void unigram_turn(struct unigram_node *nodes, size_t len)
{
    uint32_t behind = UNIGRAM_NOWHERE;
    uint32_t at = (uint32_t)len;
    while (at != UNIGRAM_NOWHERE) {
        uint32_t before = at > 0 ? nodes[at].from : UNIGRAM_NOWHERE;
        nodes[at].from = behind;
        behind = at;
        at = before;
    }
}

/* `first`: where this piece's ids begin; a row of unknown ones does not reach further back. */
static RC unigram_word_encode(struct encoder *e, struct str text, uint32_t first, struct err *err)
{
    const struct vocab *v = e->v;
    struct unigram_node *nodes = unigram_nodes(e, text.len);
    if (nodes == NULL) {
        return encoder_full(e, err);
    }
    nodes[0].score = 0;
    for (uint32_t at = 0; at < text.len;) {
        at += (uint32_t)unigram_extend(v, text, at, nodes);
    }
    unigram_turn(nodes, text.len);
    enum rc rc = RC_OK;
    for (uint32_t at = 0; at < text.len && rc == RC_OK; at = nodes[at].from) {
        uint32_t end = nodes[at].from;
        uint32_t before = e->out.n;
        if (nodes[end].id != TOKEN_NONE) {
            encoder_add(e, nodes[end].id);
            continue;
        }
        rc = encoder_add_bytes(e, str_slice(text, at, end), err);
        bool again = before > first && e->out.n == before + 1 &&
                     e->out.ids[before] == v->special.unk &&
                     e->out.ids[before - 1] == v->special.unk;
        e->out.n -= again ? 1 : 0;
    }
    return rc;
}

RC unigram_encode(struct encoder *e, struct str text, struct err *err)
{
    text = unigram_normalise(e, text);
    uint32_t first = e->out.n;
    enum rc rc = encoder_full(e, err);
    for (size_t at = 0; at < text.len && rc == RC_OK;) {
        size_t end = encoder_space_word(e->v, text, at);
        struct str word = str_slice(text, at, end);
        bool cached = at > 0 && e->v->unigram->has_space;
        struct encode_word *slot = cached ? encoder_word(e, word) : NULL;
        bool prefix = at == 0 && e->v->space_prefix;
        at = end;
        if (encoder_word_known(e, slot, word)) {
            continue;
        }
        uint32_t out_idx = e->out.n;
        struct str escaped = encoder_escape(e, word, prefix);
        rc = escaped.ptr == NULL ? encoder_full(e, err)
                                 : unigram_word_encode(e, escaped, first, err);
        if (slot != NULL) {
            *slot = (struct encode_word){word.ptr, (uint32_t)word.len, out_idx, e->out.n - out_idx};
        }
    }
    return rc;
}
