/* The first bytes describe a small vocabulary, the rest is text: whatever loads must encode, within
 * its arena, and decode to whole characters; a lossless vocabulary gives the text back.
 *
 * byte 0: bits 0-1 the model (0 with bit 7 of byte 1: unigram), bit 2 byte tokens or not, bit 3
 * parse_special, bit 4 add_special, bit 5 an unknown token, bits 6-7 and byte 1: the pre-tokenizer
 * byte 2: n tokens; each: a length and type byte (bits 0-2 length, 3-5 type), then its text
 * then n merges (BPE): a length byte (mod 16) and "LEFT RIGHT"
 * unigram instead of merges: units of a normaliser's trie, a byte; each: where (2 bytes) and itself
 * (4); then a length byte and the trie's texts */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "engine/token/pretok.h"
#include "engine/token/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_BYTES = 1 << 22, GGUF_BYTES = 1 << 20, TOKENS_MAX = 64, UNIGRAM = 4, UNITS = 1024 };

struct input {
    const uint8_t *ptr;
    size_t n;
};

static uint8_t take(struct input *in)
{
    if (in->n == 0) {
        return 0;
    }
    in->n--;
    return *in->ptr++;
}

static struct str take_str(struct input *in, size_t n)
{
    n = MIN(n, in->n);
    struct str s = str_make((const char *)in->ptr, n);
    in->ptr += n;
    in->n -= n;
    return s;
}

/* ---- GGUF bytes ---- */

struct file {
    struct buf bytes;
    uint64_t n_kv;
};

static void put(struct file *f, const void *bytes, size_t n)
{
    buf_add(&f->bytes, bytes, n);
}

static void put_u32(struct file *f, uint32_t x)
{
    put(f, &x, sizeof(x));
}

static void put_u64(struct file *f, uint64_t x)
{
    put(f, &x, sizeof(x));
}

static void put_str(struct file *f, struct str s)
{
    put_u64(f, s.len);
    put(f, s.ptr, s.len);
}

static void put_key(struct file *f, const char *key, enum gguf_type type)
{
    put_str(f, str_from(key));
    put_u32(f, type);
    f->n_kv++;
}

static void put_array(struct file *f, const char *key, enum gguf_type type, uint64_t n)
{
    put_key(f, key, GGUF_ARRAY);
    put_u32(f, type);
    put_u64(f, n);
}

struct shape {
    unsigned model;
    bool with_bytes;
    uint32_t n, n_bytes;
    struct str texts[TOKENS_MAX];
    uint32_t types[TOKENS_MAX];
};

static const char *const models[] = {"llama", "gpt2", "gemma4", "bert", "t5"};

/* GPT-2's mapping, the plain way. */
static size_t byte_text(unsigned model, uint32_t b, char out[8])
{
    if (model != 1) {
        return (size_t)snprintf(out, 8, "<0x%02X>", b);
    }
    uint32_t others = 0;
    for (uint32_t c = 0; c <= b; c++) {
        bool printable = (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c != 0xad);
        if (printable && c == b) {
            return str_utf8_encode(b, out);
        }
        others += !printable;
    }
    return str_utf8_encode(0x100 + others - 1, out);
}

static void put_tokens(struct file *f, const struct shape *s)
{
    put_array(f, "tokenizer.ggml.tokens", GGUF_STRING, s->n_bytes + s->n);
    for (uint32_t b = 0; b < s->n_bytes; b++) {
        char text[8];
        put_str(f, str_make(text, byte_text(s->model, b, text)));
    }
    for (uint32_t i = 0; i < s->n; i++) {
        put_str(f, s->texts[i]);
    }
    put_array(f, "tokenizer.ggml.token_type", GGUF_U32, s->n_bytes + s->n);
    for (uint32_t i = 0; i < s->n_bytes + s->n; i++) {
        uint32_t byte_type = s->model == 1 ? TOKEN_NORMAL : TOKEN_BYTE;
        put_u32(f, i < s->n_bytes ? byte_type : s->types[i - s->n_bytes]);
    }
    put_array(f, "tokenizer.ggml.scores", GGUF_F32, s->n_bytes + s->n);
    for (uint32_t i = 0; i < s->n_bytes + s->n; i++) {
        float score = (float)(i * 7 % 5);
        put(f, &score, sizeof(score));
    }
}

static void put_merges(struct file *f, struct input *in)
{
    uint32_t n = take(in) % 32;
    put_array(f, "tokenizer.ggml.merges", GGUF_STRING, n);
    for (uint32_t i = 0; i < n; i++) {
        put_str(f, take_str(in, take(in) % 16));
    }
}

static void put_charsmap(struct file *f, struct input *in)
{
    uint32_t units[UNITS] = {0};
    uint32_t n_trie = sizeof(units);
    for (uint32_t n = take(in); n > 0; n--) {
        uint32_t at = (uint32_t)take(in) << 8 | take(in);
        struct str unit = take_str(in, sizeof(units[0]));
        memcpy(&units[at % UNITS], unit.ptr, unit.len);
    }
    struct str texts = take_str(in, take(in));
    put_array(f, "tokenizer.ggml.precompiled_charsmap", GGUF_U8,
              sizeof(n_trie) + sizeof(units) + texts.len);
    put(f, &n_trie, sizeof(n_trie));
    put(f, units, sizeof(units));
    put(f, texts.ptr, texts.len);
}

static void put_all(struct file *f, struct shape *s, struct input *in, uint8_t flags)
{
    uint8_t more = take(in);
    uint32_t n_rows = 0, pre = (uint32_t)more << 2 | flags >> 6;
    s->model = s->model == 0 && (more & 128) != 0 ? UNIGRAM : s->model;
    while (pretok_at(n_rows) != NULL) {
        n_rows++;
    }
    put_u32(f, 0x46554747);
    put_u32(f, 3);
    put_u64(f, 0);
    put_u64(f, 0);
    put_key(f, "tokenizer.ggml.model", GGUF_STRING);
    put_str(f, str_from(models[s->model]));
    put_key(f, "tokenizer.ggml.pre", GGUF_STRING);
    put_str(f, str_from(pretok_at(pre % n_rows)->name));
    s->n = take(in) % TOKENS_MAX;
    for (uint32_t i = 0; i < s->n; i++) {
        uint8_t head = take(in);
        s->types[i] = head >> 3 & 7;
        s->texts[i] = take_str(in, head & 7);
    }
    put_tokens(f, s);
    if (s->model == UNIGRAM) {
        put_charsmap(f, in);
    } else {
        put_merges(f, in);
    }
    put_key(f, "tokenizer.ggml.unknown_token_id", GGUF_I32);
    put_u32(f, (flags & 32) != 0 && s->n > 0 ? s->n_bytes : UINT32_MAX);
    memcpy(f->bytes.ptr + 16, &f->n_kv, sizeof(f->n_kv));
}

/* ---- what must hold ---- */

static bool is_lossless(const struct vocab *v, const struct shape *s, struct str text)
{
    struct str space = STR_LIT("\xe2\x96\x81");
    if (!s->with_bytes || s->model == 3 || s->model == UNIGRAM) {
        return false; /* the normaliser of a unigram model takes away */
    }
    /* SPM's text: a U+2581 of the text's own is not told from a space, and without its token a
     * space stays the three bytes of it. */
    return s->model == 1 || (str_find(text, space) == text.len &&
                             vocab_attr(v, vocab_find(v, space)) == TOKEN_NORMAL);
}

static void check_text(const struct vocab *v, const struct shape *s, struct str text, uint8_t flags)
{
    struct arena a;
    struct token_list list = {0};
    struct detok d;
    struct buf out;
    struct err err = {0};
    struct encode_options opt = {.parse_special = (flags & 8) != 0,
                                 .add_special = (flags & 16) != 0};
    arena_init(&a, ARENA_BYTES);
    buf_init(&out, ARENA_BYTES);
    enum rc rc = vocab_encode(v, text, opt, &a, &list, &err);
    ASSERT(rc == RC_OK || rc == RC_TOO_LARGE || rc == RC_INVALID);
    ASSERT(rc == RC_OK || err.msg[0] != '\0');
    ASSERT(rc == RC_OK || list.n == 0);
    bool mixed = opt.add_special; /* special tokens bring spaces of their own */
    detok_init(&d, v, (struct detok_options){.at_start = true});
    for (uint32_t i = 0; i < list.n; i++) {
        size_t from = out.len;
        ASSERT(list.ids[i] >= 0 && (uint32_t)list.ids[i] < vocab_size(v));
        enum token_attr attr = vocab_attr(v, list.ids[i]);
        mixed =
            mixed || attr == TOKEN_USER_DEFINED || attr == TOKEN_CONTROL || attr == TOKEN_UNKNOWN;
        ASSERT(opt.parse_special || opt.add_special || attr != TOKEN_CONTROL ||
               list.ids[i] == vocab_special(v)->unk);
        detok_push(&d, list.ids[i], &out);
        ASSERT(str_utf8_valid(str_slice(buf_str(&out), from, out.len)));
    }
    detok_finish(&d, &out);
    ASSERT(str_utf8_valid(buf_str(&out)));
    if (rc == RC_OK && !mixed && is_lossless(v, s, text)) {
        ASSERT(str_eq(buf_str(&out), text));
    }
    buf_deinit(&out);
    arena_deinit(&a);
}

static enum rc read_at(struct weight_source *s, uint64_t offset, void *out, size_t n,
                       struct err *err)
{
    UNUSED(err);
    memcpy(out, s->map + offset, n);
    return RC_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    uint8_t flags = take(&in);
    struct shape s = {.model = flags & 3, .with_bytes = (flags & 4) != 0};
    struct file f = {0};
    struct gguf *g = NULL;
    struct vocab *v = NULL;
    struct err err = {0};
    s.n_bytes = s.with_bytes ? 256 : 0;
    buf_init(&f.bytes, GGUF_BYTES);
    put_all(&f, &s, &in, flags);
    struct weight_source source = {.size_bytes = f.bytes.len,
                                   .map = (const unsigned char *)f.bytes.ptr,
                                   .name = "fuzz",
                                   .read_at = read_at};
    struct weight_source *sources[] = {&source};
    ASSERT(gguf_open(&g, sources, 1, &err) == RC_OK);
    if (vocab_create(&v, g, &err) == RC_OK) {
        check_text(v, &s, take_str(&in, in.n), flags);
        vocab_destroy(v);
    } else {
        ASSERT(err.code == RC_CORRUPT || err.code == RC_UNSUPPORTED);
        ASSERT(err.msg[0] != '\0');
    }
    gguf_close(g);
    buf_deinit(&f.bytes);
    return 0;
}
