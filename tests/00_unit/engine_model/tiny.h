/* tiny.h: a one-layer llama made in memory, whole or broken on purpose. */
#ifndef TESTS_ENGINE_MODEL_TINY_H
#define TESTS_ENGINE_MODEL_TINY_H

#include "gguf_make.h"

enum { TINY_EMBD = 8, TINY_HEADS = 2, TINY_FF = 16, TINY_VOCAB = 5, TINY_ITEMS_MAX = 48 };

/* One key; is_text or a whole number. */
struct tiny_key {
    const char *name;
    const char *text;
    uint32_t number;
};

struct tiny_tensor {
    const char *name;
    enum dtype type;
    uint32_t n_dims;
    uint64_t dims[3];
};

struct tiny {
    struct tiny_key keys[TINY_ITEMS_MAX];
    uint32_t n_keys;
    struct tiny_tensor tensors[TINY_ITEMS_MAX];
    uint32_t n_tensors;
    struct gguf_make make;
    struct gguf_make_source source;
    struct gguf *gguf;
};

/* The number of a key, added when it is new. */
static inline void tiny_set(struct tiny *t, const char *name, uint32_t number)
{
    uint32_t i = 0;
    while (i < t->n_keys && strcmp(t->keys[i].name, name) != 0) {
        i++;
    }
    t->keys[i] = (struct tiny_key){name, NULL, number};
    t->n_keys = MAX(t->n_keys, i + 1);
}

static inline void tiny_set_text(struct tiny *t, const char *name, const char *text)
{
    tiny_set(t, name, 0);
    for (uint32_t i = 0; i < t->n_keys; i++) {
        if (strcmp(t->keys[i].name, name) == 0) {
            t->keys[i].text = text;
        }
    }
}

static inline void tiny_drop_key(struct tiny *t, const char *name)
{
    for (uint32_t i = 0; i < t->n_keys; i++) {
        if (strcmp(t->keys[i].name, name) == 0) {
            t->keys[i] = t->keys[--t->n_keys];
        }
    }
}

/* The shape of a tensor, added when it is new; unused dimensions are 0. */
static inline void tiny_shape(struct tiny *t, const char *name, uint64_t cols, uint64_t rows)
{
    uint32_t i = 0;
    while (i < t->n_tensors && strcmp(t->tensors[i].name, name) != 0) {
        i++;
    }
    t->tensors[i] = (struct tiny_tensor){name, DTYPE_F32, rows > 0 ? 2 : 1, {cols, rows, 0}};
    t->n_tensors = MAX(t->n_tensors, i + 1);
}

static inline void tiny_drop(struct tiny *t, const char *name)
{
    for (uint32_t i = 0; i < t->n_tensors; i++) {
        if (strcmp(t->tensors[i].name, name) == 0) {
            t->tensors[i] = t->tensors[--t->n_tensors];
        }
    }
}

/* A whole model; change it before tiny_open. */
static inline void tiny_begin(struct tiny *t)
{
    *t = (struct tiny){0};
    tiny_set_text(t, "general.architecture", "llama");
    tiny_set(t, "llama.block_count", 1);
    tiny_set(t, "llama.embedding_length", TINY_EMBD);
    tiny_set(t, "llama.context_length", 64);
    tiny_set(t, "llama.feed_forward_length", TINY_FF);
    tiny_set(t, "llama.attention.head_count", TINY_HEADS);
    tiny_shape(t, "token_embd.weight", TINY_EMBD, TINY_VOCAB);
    tiny_shape(t, "output_norm.weight", TINY_EMBD, 0);
    tiny_shape(t, "blk.0.attn_norm.weight", TINY_EMBD, 0);
    tiny_shape(t, "blk.0.ffn_norm.weight", TINY_EMBD, 0);
    tiny_shape(t, "blk.0.attn_q.weight", TINY_EMBD, TINY_EMBD);
    tiny_shape(t, "blk.0.attn_k.weight", TINY_EMBD, TINY_EMBD);
    tiny_shape(t, "blk.0.attn_v.weight", TINY_EMBD, TINY_EMBD);
    tiny_shape(t, "blk.0.attn_output.weight", TINY_EMBD, TINY_EMBD);
    tiny_shape(t, "blk.0.ffn_gate.weight", TINY_EMBD, TINY_FF);
    tiny_shape(t, "blk.0.ffn_up.weight", TINY_EMBD, TINY_FF);
    tiny_shape(t, "blk.0.ffn_down.weight", TINY_FF, TINY_EMBD);
}

/* Makes and reads the file. */
static inline struct gguf *tiny_open(struct tiny *t)
{
    gguf_make_begin(&t->make, 3, t->n_tensors, t->n_keys);
    for (uint32_t i = 0; i < t->n_keys; i++) {
        const struct tiny_key *k = &t->keys[i];
        if (k->text != NULL) {
            gguf_make_kv_str(&t->make, k->name, k->text);
        } else {
            gguf_make_kv_u32(&t->make, k->name, k->number);
        }
    }
    uint64_t offset = 0;
    for (uint32_t i = 0; i < t->n_tensors; i++) {
        const struct tiny_tensor *w = &t->tensors[i];
        gguf_make_tensor(&t->make, w->name, w->type, w->n_dims, w->dims, offset);
        uint64_t n = w->dims[0] * MAX(w->dims[1], (uint64_t)1) * MAX(w->dims[2], (uint64_t)1);
        offset += (n * sizeof(float) + 31) & ~(uint64_t)31;
    }
    gguf_make_data(&t->make, offset);
    gguf_make_source_init(&t->source, "tiny.gguf", t->make.bytes.ptr, t->make.bytes.len);
    struct weight_source *list[] = {&t->source.source};
    struct err err = {0};
    if (gguf_open(&t->gguf, list, 1, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    return t->gguf;
}

static inline void tiny_end(struct tiny *t)
{
    gguf_close(t->gguf);
    gguf_make_end(&t->make);
}

#endif
