/* vocab.c: the table of tokens: text to id and id to text. What the model makes of them (kinds,
 * special ids, attributes) is vocab_load.c.
 *
 * Invariants: 1. every id below n_tokens has its text in `texts`; 2. two ids never share a text,
 * except the empty one, which is in no table. */
#include "engine/token/vocab.h"

#include "base/assert.h"
#include "base/checked.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/token/encode.h"

/* ---- text to id ---- */

struct vocab_slot {
    uint32_t tag; /* other bits of the hash: most wrong slots are told without their text */
    int32_t id;   /* TOKEN_NONE: empty */
};

static struct str vocab_own_text(const struct vocab *v, int32_t id)
{
    const struct vocab_token *t = &v->tokens[id];
    return str_make(v->texts + t->offset, t->len);
}

/* The slot that holds the text or would; NULL when its chain is longer than the limit. */
static struct vocab_slot *vocab_slot_of(const struct vocab *v, struct str text, uint64_t hash)
{
    uint32_t at = (uint32_t)hash & v->table_mask, tag = (uint32_t)(hash >> 32);
    for (uint32_t n = 0; n < VOCAB_PROBES_MAX; n++) {
        struct vocab_slot *slot = &v->table[at];
        if (slot->id == TOKEN_NONE ||
            (slot->tag == tag && str_eq(vocab_own_text(v, slot->id), text))) {
            return slot;
        }
        at = (at + 1) & v->table_mask;
    }
    return NULL;
}

int32_t vocab_find(const struct vocab *v, struct str text)
{
    if (text.len == 0 || text.len > v->text_bytes_max) {
        return TOKEN_NONE;
    }
    const struct vocab_slot *slot = vocab_slot_of(v, text, hash_str(text));
    return slot == NULL ? TOKEN_NONE : slot->id;
}

int32_t vocab_find_plain(const struct vocab *v, struct str text)
{
    int32_t id = vocab_find(v, text);
    return id != TOKEN_NONE && vocab_attr_is_plain(v->tokens[id].attr) ? id : TOKEN_NONE;
}

/* ---- loading the texts ---- */

static RC vocab_table_fill(struct vocab *v, const char *file, struct err *err)
{
    uint32_t n_slots = 16;
    while (n_slots < 2 * v->n_tokens) {
        n_slots *= 2;
    }
    v->table = mem_try_zalloc_array(n_slots, sizeof(*v->table));
    if (v->table == NULL) {
        return err_set(err, RC_NOMEM, "gguf %s: no memory for %u tokens", file, v->n_tokens);
    }
    memset(v->table, 0xff, n_slots * sizeof(*v->table));
    v->table_mask = n_slots - 1;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        struct str text = vocab_own_text(v, (int32_t)i);
        if (text.len == 0) {
            continue;
        }
        uint64_t hash = hash_str(text);
        struct vocab_slot *slot = vocab_slot_of(v, text, hash);
        if (slot == NULL) {
            return err_set(err, RC_CORRUPT, "gguf %s: token texts are made to collide", file);
        }
        if (slot->id != TOKEN_NONE) {
            return err_set(err, RC_CORRUPT, "gguf %s: tokens %d and %u have the same text", file,
                           slot->id, i);
        }
        *slot = (struct vocab_slot){(uint32_t)(hash >> 32), (int32_t)i};
    }
    return RC_OK;
}

static RC vocab_texts_copy(struct vocab *v, const struct gguf_kv *kv, const char *file,
                           struct err *err)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        struct str text = gguf_kv_str(kv, i);
        if (text.len > VOCAB_TEXT_BYTES_MAX || !checked_add(total, (uint32_t)text.len, &total)) {
            return err_set(err, RC_CORRUPT, "gguf %s: the text of token %u has %zu bytes, limit %d",
                           file, i, text.len, VOCAB_TEXT_BYTES_MAX);
        }
        v->text_bytes_max = MAX(v->text_bytes_max, (uint32_t)text.len);
    }
    v->tokens = mem_try_zalloc_array(v->n_tokens, sizeof(*v->tokens));
    v->texts = mem_try_zalloc(total);
    if (v->tokens == NULL || v->texts == NULL) {
        return err_set(err, RC_NOMEM, "gguf %s: no memory for %u tokens", file, v->n_tokens);
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        struct str text = gguf_kv_str(kv, i);
        v->tokens[i] = (struct vocab_token){
            .offset = at, .len = (uint16_t)text.len, .attr = TOKEN_NORMAL, .rank = UINT32_MAX};
        if (text.len > 0) {
            memcpy(v->texts + at, text.ptr, text.len);
        }
        at += (uint32_t)text.len;
    }
    return RC_OK;
}

static RC vocab_load_texts(struct vocab *v, const struct gguf *g, struct err *err)
{
    static const char key[] = "tokenizer.ggml.tokens";
    const struct gguf_kv *kv = gguf_find(g, key);
    if (kv == NULL || kv->type != GGUF_ARRAY || kv->item_type != GGUF_STRING) {
        return err_set(err, RC_CORRUPT, "gguf %s: %s %s", gguf_name(g), key,
                       kv == NULL ? "is absent" : "is not an array of strings");
    }
    if (kv->n == 0 || kv->n > VOCAB_TOKENS_MAX) {
        return err_set(err, RC_CORRUPT, "gguf %s: %s has %llu items, limit %d", gguf_name(g), key,
                       (unsigned long long)kv->n, VOCAB_TOKENS_MAX);
    }
    v->n_tokens = (uint32_t)kv->n;
    enum rc rc = vocab_texts_copy(v, kv, gguf_name(g), err);
    return rc != RC_OK ? rc : vocab_table_fill(v, gguf_name(g), err);
}

/* ---- single bytes ---- */

/* SPM and BPE over SPM text name bytes "<0x0A>"; byte-level BPE has one character for each. */
static void vocab_load_bytes(struct vocab *v)
{
    static const char hex[] = "0123456789ABCDEF";
    bool byte_level = v->kind == VOCAB_BPE && !v->spm_text;
    for (uint32_t b = 0; b < 256; b++) {
        char text[6] = {'<', '0', 'x', hex[b >> 4], hex[b & 15], '>'};
        size_t len = sizeof(text);
        if (byte_level) {
            len = str_utf8_encode(bpe_char_of((uint8_t)b), text);
        }
        v->byte_id[b] = vocab_find(v, str_make(text, len));
    }
}

/* Which bytes may stand before U+2581 within one token (see vocab.joins_space). */
static void vocab_load_joins(struct vocab *v)
{
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        struct str text = vocab_own_text(v, (int32_t)i);
        size_t from = 1;
        while (from < text.len && vocab_attr_is_plain(v->tokens[i].attr)) {
            size_t at = from + str_find(str_slice(text, from, text.len), VOCAB_SPACE_STR);
            if (at < text.len) {
                v->joins_space[(unsigned char)text.ptr[at - 1]] = true;
            }
            from = at + 1;
        }
    }
}

/* ---- life ---- */

static RC vocab_load(struct vocab *v, const struct gguf *g, struct err *err)
{
    enum rc rc = vocab_load_model(v, g, err);
    if (rc == RC_OK) {
        rc = vocab_load_texts(v, g, err);
    }
    if (rc == RC_OK) {
        rc = vocab_load_attrs(v, g, err);
    }
    if (rc == RC_OK) {
        rc = vocab_load_special(v, g, err);
    }
    if (rc != RC_OK) {
        return rc;
    }
    vocab_load_bytes(v);
    if (v->spm_text) {
        vocab_load_joins(v);
    }
    if (v->kind == VOCAB_BPE) {
        rc = bpe_merges_create(v, g, err);
    } else if (v->kind == VOCAB_UNIGRAM) {
        rc = unigram_create(v, g, err);
    }
    return rc != RC_OK ? rc : vocab_specials_create(v, err);
}

RC vocab_create(struct vocab **out, const struct gguf *g, struct err *err)
{
    struct vocab *v = mem_zalloc(sizeof(*v));
    enum rc rc = vocab_load(v, g, err);
    if (rc != RC_OK) {
        vocab_destroy(v);
        return rc;
    }
    *out = v;
    return RC_OK;
}

void vocab_destroy(struct vocab *v)
{
    if (v == NULL) {
        return;
    }
    vocab_specials_destroy(v->specials);
    bpe_merges_destroy(v->merges);
    unigram_destroy(v->unigram);
    mem_free(v->table);
    mem_free(v->texts);
    mem_free(v->tokens);
    mem_free(v);
}

/* ---- questions ---- */

static bool vocab_has(const struct vocab *v, int32_t id)
{
    return id >= 0 && (uint32_t)id < v->n_tokens;
}

uint32_t vocab_size(const struct vocab *v)
{
    return v->n_tokens;
}

const char *vocab_model(const struct vocab *v)
{
    return v->model;
}

const char *vocab_pre(const struct vocab *v)
{
    return v->pre;
}

const struct vocab_special *vocab_special(const struct vocab *v)
{
    return &v->special;
}

bool vocab_is_eog(const struct vocab *v, int32_t id)
{
    return vocab_has(v, id) && v->tokens[id].eog;
}

enum token_attr vocab_attr(const struct vocab *v, int32_t id)
{
    return vocab_has(v, id) ? (enum token_attr)v->tokens[id].attr : TOKEN_UNKNOWN;
}

struct str vocab_text(const struct vocab *v, int32_t id)
{
    return vocab_has(v, id) ? vocab_own_text(v, id) : STR_NULL;
}
