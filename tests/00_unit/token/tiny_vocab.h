/* tiny_vocab.h: vocabularies of a few tokens for tests, made as GGUF bytes in memory and read back
 * by the real reader. A test describes one, changes what it wants to break, and opens it. */
#ifndef TESTS_TINY_VOCAB_H
#define TESTS_TINY_VOCAB_H

#include <string.h>

#include "base/buf.h"
#include "engine/format/gguf.h"
#include "engine/token/token.h"

struct tiny_token {
    const char *text; /* NULL ends the list */
    float score;
    int type; /* 0: normal */
};

struct tiny_id {
    const char *key; /* behind "tokenizer.ggml."; NULL ends the list */
    int64_t id;
};

struct tiny_flag {
    const char *key;
    bool value;
};

enum { TINY_LIST_MAX = 8 };

struct tiny_vocab {
    const char *model, *pre, *arch;  /* NULL: no key */
    const struct tiny_token *tokens; /* NULL: no key */
    const char *const *merges;       /* ends with NULL; NULL: no key */
    struct tiny_id ids[TINY_LIST_MAX];
    struct tiny_flag flags[TINY_LIST_MAX];
    bool no_scores, no_types;
    uint32_t scores_cut, types_cut; /* so many items fewer */
    const void *charsmap;           /* precompiled_charsmap; NULL: no key */
    uint32_t charsmap_bytes;
    bool with_bytes; /* <0x00> to <0xFF> come first, or the mapped bytes ("gpt2") */
    /* private */
    struct buf bytes;
    uint32_t n_kv;
    struct weight_source source;
    struct weight_source *source_ptr;
    struct gguf *gguf;
    struct vocab *vocab;
};

/* ---- writing GGUF ---- */

static inline void tiny_u32(struct tiny_vocab *t, uint32_t x)
{
    buf_add(&t->bytes, &x, sizeof(x));
}

static inline void tiny_u64(struct tiny_vocab *t, uint64_t x)
{
    buf_add(&t->bytes, &x, sizeof(x));
}

static inline void tiny_str(struct tiny_vocab *t, const char *s, size_t n)
{
    tiny_u64(t, n);
    buf_add(&t->bytes, s, n);
}

static inline void tiny_key(struct tiny_vocab *t, const char *prefix, const char *key,
                            uint32_t type)
{
    char full[128];
    int n = snprintf(full, sizeof(full), "%s%s", prefix, key);
    tiny_str(t, full, (size_t)n);
    tiny_u32(t, type);
    t->n_kv++;
}

static inline void tiny_array(struct tiny_vocab *t, const char *key, uint32_t item_type, uint64_t n)
{
    tiny_key(t, "tokenizer.ggml.", key, GGUF_ARRAY);
    tiny_u32(t, item_type);
    tiny_u64(t, n);
}

static inline void tiny_string_key(struct tiny_vocab *t, const char *prefix, const char *key,
                                   const char *value)
{
    if (value != NULL) {
        tiny_key(t, prefix, key, GGUF_STRING);
        tiny_str(t, value, strlen(value));
    }
}

/* The text of byte token b in the vocabulary's style. */
static inline size_t tiny_byte_text(const struct tiny_vocab *t, uint32_t b, char out[8])
{
    if (t->model != NULL && strcmp(t->model, "gpt2") == 0) {
        static const char others[] =
            "\x7f\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f"
            "\x90\x91\x92\x93\x94\x95\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f"
            "\xa0\xad";
        const char *nth = b <= 0x20 ? NULL : memchr(others, (int)b, sizeof(others) - 1);
        uint32_t cp = b <= 0x20 ? 0x100 + b : nth == NULL ? b : 0x121 + (uint32_t)(nth - others);
        return str_utf8_encode(cp, out);
    }
    return (size_t)snprintf(out, 8, "<0x%02X>", b);
}

static inline void tiny_write_tokens(struct tiny_vocab *t, uint32_t n, uint32_t n_bytes)
{
    bool mapped = t->model != NULL && strcmp(t->model, "gpt2") == 0;
    tiny_array(t, "tokens", GGUF_STRING, n_bytes + n);
    for (uint32_t b = 0; b < n_bytes; b++) {
        char text[8];
        tiny_str(t, text, tiny_byte_text(t, b, text));
    }
    for (uint32_t i = 0; i < n; i++) {
        tiny_str(t, t->tokens[i].text, strlen(t->tokens[i].text));
    }
    if (!t->no_scores) {
        tiny_array(t, "scores", GGUF_F32, n_bytes + n - t->scores_cut);
        for (uint32_t i = 0; i < n_bytes + n - t->scores_cut; i++) {
            float score = i < n_bytes ? 0.0f : t->tokens[i - n_bytes].score;
            buf_add(&t->bytes, &score, sizeof(score));
        }
    }
    if (!t->no_types) {
        tiny_array(t, "token_type", GGUF_I32, n_bytes + n - t->types_cut);
        for (uint32_t i = 0; i < n_bytes + n - t->types_cut; i++) {
            int type = i < n_bytes ? (mapped ? 0 : TOKEN_BYTE) : t->tokens[i - n_bytes].type;
            tiny_u32(t, (uint32_t)(type == 0 ? TOKEN_NORMAL : type));
        }
    }
}

static inline void tiny_write_keys(struct tiny_vocab *t)
{
    uint32_t n = 0;
    tiny_string_key(t, "general.", "architecture", t->arch);
    tiny_string_key(t, "tokenizer.ggml.", "model", t->model);
    tiny_string_key(t, "tokenizer.ggml.", "pre", t->pre);
    if (t->tokens != NULL) {
        while (t->tokens[n].text != NULL) {
            n++;
        }
        tiny_write_tokens(t, n, t->with_bytes ? 256 : 0);
    }
    if (t->merges != NULL) {
        for (n = 0; t->merges[n] != NULL;) {
            n++;
        }
        tiny_array(t, "merges", GGUF_STRING, n);
        for (uint32_t i = 0; i < n; i++) {
            tiny_str(t, t->merges[i], strlen(t->merges[i]));
        }
    }
    if (t->charsmap != NULL) {
        tiny_array(t, "precompiled_charsmap", GGUF_U8, t->charsmap_bytes);
        buf_add(&t->bytes, t->charsmap, t->charsmap_bytes);
    }
    for (n = 0; n < TINY_LIST_MAX && t->ids[n].key != NULL; n++) {
        tiny_key(t, "tokenizer.ggml.", t->ids[n].key, GGUF_I64);
        tiny_u64(t, (uint64_t)t->ids[n].id);
    }
    for (n = 0; n < TINY_LIST_MAX && t->flags[n].key != NULL; n++) {
        tiny_key(t, "tokenizer.ggml.", t->flags[n].key, GGUF_BOOL);
        buf_add_byte(&t->bytes, t->flags[n].value);
    }
}

/* ---- opening ---- */

static inline enum rc tiny_read_at(struct weight_source *s, uint64_t offset, void *out, size_t n,
                                   struct err *err)
{
    UNUSED(err);
    memcpy(out, s->map + offset, n);
    return RC_OK;
}

/* Fails the test when the bytes are no GGUF; what vocab_create says is the answer. */
static inline enum rc tiny_try(struct tiny_vocab *t, struct err *err)
{
    buf_init(&t->bytes, 1 << 24);
    t->n_kv = 0;
    tiny_u32(t, 0x46554747); /* "GGUF" */
    tiny_u32(t, 3);
    tiny_u64(t, 0);
    tiny_u64(t, 0);
    tiny_write_keys(t);
    assert_true(buf_ok(&t->bytes));
    uint64_t n_kv = t->n_kv;
    memcpy(t->bytes.ptr + 16, &n_kv, sizeof(n_kv));
    t->source = (struct weight_source){.size_bytes = t->bytes.len,
                                       .map = (const unsigned char *)t->bytes.ptr,
                                       .name = "tiny.gguf",
                                       .read_at = tiny_read_at};
    t->source_ptr = &t->source;
    if (gguf_open(&t->gguf, &t->source_ptr, 1, err) != RC_OK) {
        fail_msg("the test's own file: %s", err->msg);
    }
    return vocab_create(&t->vocab, t->gguf, err);
}

static inline void tiny_close(struct tiny_vocab *t)
{
    vocab_destroy(t->vocab);
    gguf_close(t->gguf);
    buf_deinit(&t->bytes);
    t->vocab = NULL;
    t->gguf = NULL;
}

static inline const struct vocab *tiny_open(struct tiny_vocab *t)
{
    struct err err = {0};
    if (tiny_try(t, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    return t->vocab;
}

/* Opening must fail with `rc` and a message that holds `part`. */
static inline void tiny_refused(struct tiny_vocab *t, enum rc rc, const char *part)
{
    struct err err = {0};
    enum rc got = tiny_try(t, &err);
    if (got != rc || strstr(err.msg, part) == NULL) {
        fail_msg("%s: \"%s\", not %s: \"%s\"", err_row(got)->name, err.msg, err_row(rc)->name,
                 part);
    }
    tiny_close(t);
}

/* ---- checks ---- */

/* The pieces of `text`'s tokens, joined by '|', are `want`. */
static inline void tiny_pieces(const struct vocab *v, const char *text, struct encode_options opt,
                               const char *want)
{
    struct arena a;
    struct token_list list;
    struct err err = {0};
    struct buf got;
    arena_init(&a, 1 << 20);
    buf_init(&got, 1 << 20);
    if (vocab_encode(v, str_from(text), opt, &a, &list, &err) != RC_OK) {
        fail_msg("\"%s\": %s", text, err.msg);
    }
    for (uint32_t i = 0; i < list.n; i++) {
        if (i > 0) {
            buf_add_byte(&got, '|');
        }
        buf_add_str(&got, vocab_text(v, list.ids[i]));
    }
    buf_add_byte(&got, '\0');
    assert_string_equal(got.ptr, want);
    buf_deinit(&got);
    arena_deinit(&a);
}

/* decode(encode(text)), as one text. */
static inline void tiny_round(const struct vocab *v, const char *text, const char *want)
{
    struct arena a;
    struct token_list list;
    struct detok d;
    struct buf got;
    arena_init(&a, 1 << 20);
    buf_init(&got, 1 << 20);
    assert_int_equal(vocab_encode(v, str_from(text), (struct encode_options){0}, &a, &list, NULL),
                     RC_OK);
    detok_init(&d, v, (struct detok_options){.at_start = true});
    for (uint32_t i = 0; i < list.n; i++) {
        detok_push(&d, list.ids[i], &got);
    }
    detok_finish(&d, &got);
    buf_add_byte(&got, '\0');
    assert_string_equal(got.ptr, want);
    buf_deinit(&got);
    arena_deinit(&a);
}

#endif
