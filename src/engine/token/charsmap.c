/* charsmap.c: see charsmap.h.
 *
 *   offset            bytes
 *   0                 4       n: size of the trie in bytes
 *   4                 n       double-array trie, units of 32 bits (github.com/s-yata/darts-clone)
 *   4 + n             rest    replacements, each with a NUL behind it
 *
 * A unit: bits 0–7 and 31 the label, 8 whether a value follows, 9–30 where the children are, bit 9
 * scaling it by 256. The value is the offset of a replacement. Every index comes from the file: one
 * that leads outside ends the walk. Little-endian, as the field's writers leave it. Source:
 * github.com/google/sentencepiece, normalizer.cc. */
#include "engine/token/charsmap.h"

#include "base/mem.h"

#define CHARSMAP_KEY "tokenizer.ggml.precompiled_charsmap"

enum {
    CHARSMAP_BYTES_MAX = 1 << 26,
    CHARSMAP_KEY_BYTES_MAX = 64, /* of a run; the longest of NFKC has 15 */
    CHARSMAP_TEXT_BYTES_MAX = 256,
    CHARSMAP_HEAD_BYTES = 4,
};

struct charsmap {
    unsigned char *bytes; /* owned */
    uint32_t n_units;
    const char *texts;
    size_t n_texts; /* bytes, the last of them 0 */
};

/* ---- loading ---- */

static RC charsmap_check(struct charsmap *c, size_t n_bytes, const char *file, struct err *err)
{
    uint32_t n_trie;
    memcpy(&n_trie, c->bytes, sizeof(n_trie));
    if (n_trie % sizeof(uint32_t) != 0 || n_trie == 0 || n_trie >= n_bytes - CHARSMAP_HEAD_BYTES) {
        return err_set(err, RC_CORRUPT, "gguf %s: " CHARSMAP_KEY " has %zu bytes and a trie of %u",
                       file, n_bytes, n_trie);
    }
    c->n_units = n_trie / (uint32_t)sizeof(uint32_t);
    c->texts = (const char *)c->bytes + CHARSMAP_HEAD_BYTES + n_trie;
    c->n_texts = n_bytes - CHARSMAP_HEAD_BYTES - n_trie;
    size_t len = 0;
    for (size_t i = 0; i < c->n_texts; i++) {
        len = c->texts[i] != '\0' ? len + 1 : 0;
        if (len > CHARSMAP_TEXT_BYTES_MAX) {
            return err_set(err, RC_CORRUPT,
                           "gguf %s: " CHARSMAP_KEY " has a text of more than %d bytes", file,
                           CHARSMAP_TEXT_BYTES_MAX);
        }
    }
    if (len > 0) {
        return err_set(err, RC_CORRUPT, "gguf %s: " CHARSMAP_KEY " ends inside a text", file);
    }
    return RC_OK;
}

RC charsmap_create(struct charsmap **out, const struct gguf *g, struct err *err)
{
    *out = NULL;
    const struct gguf_kv *kv = gguf_find(g, CHARSMAP_KEY);
    if (kv == NULL || (kv->type == GGUF_ARRAY && kv->n == 0)) {
        return RC_OK;
    }
    bool of_bytes = kv->item_type == GGUF_U8 || kv->item_type == GGUF_I8;
    if (kv->type != GGUF_ARRAY || !of_bytes || kv->n > CHARSMAP_BYTES_MAX ||
        kv->n <= CHARSMAP_HEAD_BYTES) {
        return err_set(err, RC_CORRUPT,
                       "gguf %s: " CHARSMAP_KEY " is not an array of %d to %d bytes", gguf_name(g),
                       CHARSMAP_HEAD_BYTES + 1, CHARSMAP_BYTES_MAX);
    }
    struct charsmap *c = mem_zalloc(sizeof(*c));
    c->bytes = mem_try_zalloc((size_t)kv->n);
    if (c->bytes == NULL) {
        charsmap_destroy(c);
        return err_set(err, RC_NOMEM, "gguf %s: no memory for its normaliser", gguf_name(g));
    }
    memcpy(c->bytes, kv->bytes, (size_t)kv->n);
    enum rc rc = charsmap_check(c, (size_t)kv->n, gguf_name(g), err);
    if (rc != RC_OK) {
        charsmap_destroy(c);
        return rc;
    }
    *out = c;
    return RC_OK;
}

void charsmap_destroy(struct charsmap *c)
{
    if (c != NULL) {
        mem_free(c->bytes);
        mem_free(c);
    }
}

/* ---- the trie ---- */

/* 0, which has no label, no value and no children, for an index outside. */
static uint32_t charsmap_unit(const struct charsmap *c, uint32_t at)
{
    uint32_t unit = 0;
    if (at < c->n_units) {
        memcpy(&unit, c->bytes + CHARSMAP_HEAD_BYTES + (size_t)at * sizeof(unit), sizeof(unit));
    }
    return unit;
}

static uint32_t charsmap_label(uint32_t unit)
{
    return unit & (UINT32_C(1) << 31 | 0xff);
}

static uint32_t charsmap_children(uint32_t unit)
{
    return (unit >> 10) << ((unit & UINT32_C(1) << 9) >> 6);
}

/* The replacement at an offset; false, and *to as it was, when there is none or it is no text: the
 * offset may lie inside a character. */
static bool charsmap_text(const struct charsmap *c, uint32_t offset, struct str *to)
{
    if (offset >= c->n_texts) {
        return false;
    }
    struct str text = str_from(c->texts + offset);
    bool valid = str_utf8_valid(text);
    *to = valid ? text : *to;
    return valid;
}

size_t charsmap_find(const struct charsmap *c, struct str text, struct str *to)
{
    uint32_t cp;
    size_t longest = str_utf8_decode(text, &cp);
    *to = str_slice(text, 0, longest);
    if (c == NULL) {
        return longest;
    }
    uint32_t at = charsmap_children(charsmap_unit(c, 0));
    for (size_t n = 0; n < MIN(text.len, (size_t)CHARSMAP_KEY_BYTES_MAX); n++) {
        unsigned char byte = (unsigned char)text.ptr[n];
        at ^= byte;
        uint32_t unit = charsmap_unit(c, at);
        if (byte == 0 || charsmap_label(unit) != byte) {
            break;
        }
        at ^= charsmap_children(unit);
        bool cuts_char = n + 1 < text.len && ((unsigned char)text.ptr[n + 1] & 0xc0) == 0x80;
        if ((unit >> 8 & 1) != 0 && !cuts_char &&
            charsmap_text(c, charsmap_unit(c, at) & INT32_MAX, to)) {
            longest = n + 1;
        }
    }
    return longest;
}
