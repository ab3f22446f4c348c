/* gguf_make.h: GGUF files made in memory, right or wrong on purpose, for tests and fuzz seeds.
 *
 *     struct gguf_make m;
 *     gguf_make_begin(&m, 3, n_tensors, n_kv);
 *     gguf_make_kv_u32(&m, "general.alignment", 32);
 *     gguf_make_tensor(&m, "a", DTYPE_F32, 1, (uint64_t[]){32}, 0);
 *     gguf_make_data(&m, 128);
 *     struct gguf_make_source src;
 *     gguf_make_source_init(&src, "a.gguf", m.bytes.ptr, m.bytes.len);
 *     gguf_make_end(&m); */
#ifndef TESTS_GGUF_MAKE_H
#define TESTS_GGUF_MAKE_H

#include "base/buf.h"
#include "engine/format/gguf.h"

struct gguf_make {
    struct buf bytes;
};

static inline void gguf_make_u32(struct gguf_make *m, uint32_t v)
{
    buf_add(&m->bytes, &v, sizeof(v));
}

static inline void gguf_make_u64(struct gguf_make *m, uint64_t v)
{
    buf_add(&m->bytes, &v, sizeof(v));
}

static inline void gguf_make_str(struct gguf_make *m, const char *s)
{
    gguf_make_u64(m, strlen(s));
    buf_add_cstr(&m->bytes, s);
}

static inline void gguf_make_begin(struct gguf_make *m, uint32_t version, uint64_t n_tensors,
                                   uint64_t n_kv)
{
    buf_init(&m->bytes, 1 << 26);
    buf_add_cstr(&m->bytes, "GGUF");
    gguf_make_u32(m, version);
    gguf_make_u64(m, n_tensors);
    gguf_make_u64(m, n_kv);
}

static inline void gguf_make_key(struct gguf_make *m, const char *key, uint32_t type)
{
    gguf_make_str(m, key);
    gguf_make_u32(m, type);
}

static inline void gguf_make_kv_u32(struct gguf_make *m, const char *key, uint32_t v)
{
    gguf_make_key(m, key, GGUF_U32);
    gguf_make_u32(m, v);
}

static inline void gguf_make_kv_str(struct gguf_make *m, const char *key, const char *v)
{
    gguf_make_key(m, key, GGUF_STRING);
    gguf_make_str(m, v);
}

/* offset is relative to the data, as in the file. */
static inline void gguf_make_tensor(struct gguf_make *m, const char *name, uint32_t type,
                                    uint32_t n_dims, const uint64_t *dims, uint64_t offset)
{
    gguf_make_str(m, name);
    gguf_make_u32(m, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) {
        gguf_make_u64(m, dims[i]);
    }
    gguf_make_u32(m, type);
    gguf_make_u64(m, offset);
}

/* Zeros up to the alignment of 32, then n bytes of data. */
static inline void gguf_make_data(struct gguf_make *m, size_t n)
{
    while (m->bytes.len % 32 != 0) {
        buf_add_byte(&m->bytes, 0);
    }
    for (size_t i = 0; i < n; i++) {
        buf_add_byte(&m->bytes, (char)(i & 0x3F));
    }
}

static inline void gguf_make_end(struct gguf_make *m)
{
    buf_deinit(&m->bytes);
}

/* A source over bytes that stay the caller's; `mapped` false makes it one that is only read. */
struct gguf_make_source {
    struct weight_source source;
    const unsigned char *bytes;
};

static inline enum rc gguf_make_read_at(struct weight_source *s, uint64_t offset, void *out,
                                        size_t n, struct err *err)
{
    (void)err;
    if (n > 0) {
        memcpy(out, CONTAINER_OF(s, struct gguf_make_source, source)->bytes + offset, n);
    }
    return RC_OK;
}

static inline void gguf_make_close(struct weight_source *s)
{
    (void)s;
}

static inline void gguf_make_source_init(struct gguf_make_source *src, const char *name,
                                         const void *bytes, size_t n)
{
    *src = (struct gguf_make_source){
        .source = {.size_bytes = n,
                   .map = bytes,
                   .name = name,
                   .read_at = gguf_make_read_at,
                   .close = gguf_make_close},
        .bytes = bytes,
    };
}

#endif
