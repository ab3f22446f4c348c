/* bpe.c: byte-pair encoding by a ranked list of merges, on bytes (GPT-2 and most after it) or on
 * SPM's text (Gemma 4). A text is cut into words by its pre-tokenizer, and each word is merged.
 *
 * Merges are kept as pairs of ids: (left, right) → rank and the id of both, 16 bytes a slot of an
 * open-addressing table. Invariant: a merge's result is a token that plain text may become.
 * Source: github.com/openai/gpt-2, src/encoder.py (the byte mapping and the merging). */
#include "base/hash.h"
#include "base/mem.h"
#include "engine/token/encode.h"
#include "engine/token/pretok.h"

enum {
    BPE_MERGES_MAX = 1 << 24,
    BPE_SPACES_TRIED_MAX = 8, /* in one merge */
};
#define BPE_EMPTY UINT64_MAX

struct bpe_merge {
    uint64_t key; /* left id << 32 | right id */
    uint32_t rank;
    int32_t id;
};

struct bpe_merges {
    struct bpe_merge *slots;
    uint32_t mask;
};

/* ---- bytes as characters: the printable ones are themselves, the others U+0100 and up ---- */

static bool bpe_is_printable(uint32_t cp)
{
    return (cp >= 0x21 && cp <= 0x7e) || (cp >= 0xa1 && cp <= 0xff && cp != 0xad);
}

/* The 68 others in their order: 0x00–0x20, 0x7f–0xa0, 0xad. */
uint32_t bpe_char_of(uint8_t byte)
{
    if (bpe_is_printable(byte)) {
        return byte;
    }
    if (byte == 0xad) {
        return 0x100 + 67;
    }
    return 0x100 + (byte <= 0x20 ? byte : UINT32_C(33) + byte - 0x7f);
}

int bpe_byte_of(uint32_t cp)
{
    if (bpe_is_printable(cp)) {
        return (int)cp;
    }
    if (cp < 0x100 || cp > 0x100 + 67) {
        return -1;
    }
    uint32_t nth = cp - 0x100;
    return (int)(nth == 67 ? 0xad : nth <= 0x20 ? nth : 0x7f + nth - 33);
}

/* ---- merges at load ---- */

static struct bpe_merge *bpe_slot(const struct bpe_merges *m, uint64_t key)
{
    uint32_t slot = (uint32_t)hash_u64(key) & m->mask;
    for (uint32_t n = 0; n < VOCAB_PROBES_MAX; n++) {
        struct bpe_merge *s = &m->slots[slot];
        if (s->key == key || s->key == BPE_EMPTY) {
            return s;
        }
        slot = (slot + 1) & m->mask;
    }
    return NULL;
}

/* Two ids and what they become, or false: not "LEFT RIGHT" of known tokens. Texts may hold spaces
 * themselves, so each space is tried, but not the first byte. */
static bool bpe_parse(const struct vocab *v, struct str text, uint64_t *key, int32_t *id)
{
    char joined[2 * VOCAB_TEXT_BYTES_MAX];
    uint32_t n_tried = 0;
    if (text.len > sizeof(joined)) {
        return false;
    }
    for (size_t at = 1; at + 1 < text.len && n_tried < BPE_SPACES_TRIED_MAX; at++) {
        if (text.ptr[at] != ' ') {
            continue;
        }
        n_tried++;
        struct str left = str_slice(text, 0, at), right = str_slice(text, at + 1, text.len);
        int32_t l = vocab_find(v, left), r = vocab_find(v, right);
        memcpy(joined, left.ptr, left.len);
        memcpy(joined + left.len, right.ptr, right.len);
        *id = vocab_find(v, str_make(joined, left.len + right.len));
        if (l != TOKEN_NONE && r != TOKEN_NONE && *id != TOKEN_NONE) {
            *key = (uint64_t)l << 32 | (uint32_t)r;
            return true;
        }
    }
    return false;
}

static RC bpe_merges_fill(struct vocab *v, const struct gguf_kv *kv, const char *file,
                          struct err *err)
{
    for (uint32_t rank = 0; rank < kv->n; rank++) {
        struct str text = gguf_kv_str(kv, rank);
        uint64_t key;
        int32_t id;
        if (!bpe_parse(v, text, &key, &id)) {
            return err_set(err, RC_CORRUPT, "gguf %s: merge %u, \"%.*s\", does not join two tokens",
                           file, rank, STR(str_slice(text, 0, 64)));
        }
        if (!vocab_attr_is_plain(v->tokens[id].attr)) {
            continue; /* plain text must not add up to a control token */
        }
        struct bpe_merge *slot = bpe_slot(v->merges, key);
        if (slot == NULL) {
            return err_set(err, RC_CORRUPT, "gguf %s: merges are made to collide", file);
        }
        if (slot->key == BPE_EMPTY) { /* the first of equal ones has the better rank */
            *slot = (struct bpe_merge){key, rank, id};
        }
    }
    return RC_OK;
}

RC bpe_merges_create(struct vocab *v, const struct gguf *g, struct err *err)
{
    static const char name[] = "tokenizer.ggml.merges";
    const struct gguf_kv *kv = gguf_find(g, name);
    if (kv == NULL || kv->type != GGUF_ARRAY || kv->item_type != GGUF_STRING) {
        return err_set(err, RC_CORRUPT, "gguf %s: %s %s", gguf_name(g), name,
                       kv == NULL ? "is absent" : "is not an array of strings");
    }
    if (kv->n > BPE_MERGES_MAX) {
        return err_set(err, RC_CORRUPT, "gguf %s: %s has %llu items, limit %d", gguf_name(g), name,
                       (unsigned long long)kv->n, BPE_MERGES_MAX);
    }
    uint32_t n_slots = 16;
    while (n_slots < kv->n + kv->n / 2) {
        n_slots *= 2;
    }
    v->merges = mem_zalloc(sizeof(*v->merges));
    v->merges->mask = n_slots - 1;
    v->merges->slots = mem_try_zalloc_array(n_slots, sizeof(*v->merges->slots));
    if (v->merges->slots == NULL) {
        return err_set(err, RC_NOMEM, "gguf %s: no memory for %u merges", gguf_name(g),
                       (uint32_t)kv->n);
    }
    for (uint32_t i = 0; i < n_slots; i++) {
        v->merges->slots[i].key = BPE_EMPTY;
    }
    return bpe_merges_fill(v, kv, gguf_name(g), err);
}

void bpe_merges_destroy(struct bpe_merges *m)
{
    if (m != NULL) {
        mem_free(m->slots);
        mem_free(m);
    }
}

/* ---- one word ---- */

static uint32_t bpe_rank(const void *ctx, const struct merge_pair *pair, int32_t *id)
{
    const struct bpe_merges *m = ctx;
    if (pair->left == TOKEN_NONE || pair->right == TOKEN_NONE) {
        return MERGE_NONE;
    }
    uint64_t key = (uint64_t)pair->left << 32 | (uint32_t)pair->right;
    const struct bpe_merge *slot = bpe_slot(m, key);
    if (slot == NULL || slot->key != key) {
        return MERGE_NONE;
    }
    *id = slot->id;
    return slot->rank;
}

/* The token whose text is the word's, its bytes mapped to characters, or TOKEN_NONE. */
static int32_t bpe_whole_word(struct encoder *e, struct str word)
{
    char *mapped = word.len > e->v->text_bytes_max ? NULL : encoder_scratch(e, 4 * word.len);
    if (mapped == NULL) {
        return TOKEN_NONE;
    }
    size_t n = 0;
    for (size_t i = 0; i < word.len; i++) {
        n += str_utf8_encode(bpe_char_of((uint8_t)word.ptr[i]), mapped + n);
    }
    return vocab_find_plain(e->v, str_make(mapped, n));
}

/* The symbols that a word starts as: its bytes, or the characters of SPM's text. */
static bool bpe_symbols(struct encoder *e, struct str text)
{
    struct merge *m = &e->merge;
    if (!merge_reserve(m, e->arena, e->v->spm_text ? encoder_n_chars(text) : text.len)) {
        e->full = true;
        return false;
    }
    m->n = 0;
    m->end = (uint32_t)text.len;
    for (size_t at = 0; at < text.len;) {
        struct merge_sym *sym = &m->syms[m->n++];
        size_t n = 1;
        sym->start = (uint32_t)at;
        if (e->v->spm_text) {
            uint32_t cp;
            n = str_utf8_decode(str_slice(text, at, text.len), &cp);
            sym->id = vocab_find_plain(e->v, str_slice(text, at, at + n));
        } else {
            sym->id = e->v->byte_id[(unsigned char)text.ptr[at]];
        }
        at += n;
    }
    return true;
}

static RC bpe_merge_word(struct encoder *e, struct str text, struct err *err)
{
    struct merge *m = &e->merge;
    if (!bpe_symbols(e, text)) {
        return encoder_full(e, err);
    }
    m->rank = bpe_rank;
    m->ctx = e->v->merges;
    merge_run(m);
    enum rc rc = RC_OK;
    for (uint32_t i = 0; i != MERGE_NONE && rc == RC_OK; i = m->syms[i].next) {
        if (m->syms[i].id != TOKEN_NONE) {
            encoder_add(e, m->syms[i].id);
        } else {
            rc = encoder_add_bytes(e, str_slice(text, m->syms[i].start, merge_sym_end(m, i)), err);
        }
    }
    return rc;
}

static RC bpe_word_encode(struct encoder *e, struct str word, struct err *err)
{
    struct encode_word *slot = encoder_word(e, word);
    if (encoder_word_known(e, slot, word)) {
        return RC_OK;
    }
    uint32_t out_idx = e->out.n;
    int32_t whole = TOKEN_NONE;
    if (e->v->spm_text && word.ptr[0] == '\n') {
        whole = vocab_find_plain(e->v, word); /* no merge list holds all the runs of newlines */
    } else if (e->v->ignore_merges) {
        whole = bpe_whole_word(e, word);
    }
    enum rc rc = RC_OK;
    if (whole != TOKEN_NONE) {
        encoder_add(e, whole);
    } else {
        struct str text = e->v->spm_text ? encoder_escape(e, word, false) : word;
        rc = text.ptr == NULL ? encoder_full(e, err) : bpe_merge_word(e, text, err);
    }
    if (slot != NULL && rc == RC_OK && !e->full) {
        *slot = (struct encode_word){word.ptr, (uint32_t)word.len, out_idx, e->out.n - out_idx};
    }
    return rc;
}

/* ---- a text ---- */

RC bpe_encode(struct encoder *e, struct str text, struct err *err)
{
    struct pretok p;
    struct str word;
    enum rc rc = RC_OK;
    pretok_init(&p, e->v->pretok, text);
    while (rc == RC_OK && pretok_next(&p, &word)) {
        if (!e->v->spm_text) {
            rc = bpe_word_encode(e, word, err);
            continue;
        }
        for (size_t at = 0, end; rc == RC_OK && at < word.len; at = end) {
            end = encoder_space_word(e->v, word, at);
            rc = bpe_word_encode(e, str_slice(word, at, end), err);
        }
    }
    return rc;
}
