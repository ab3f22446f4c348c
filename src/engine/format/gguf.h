/* gguf.h: reader of GGUF v2 and v3 files, split ones too. Hostile input: every count, offset and
 * type is checked before use; what is wrong is said with the file's name and the byte offset.
 * Source: github.com/ggml-org/ggml docs/gguf.md.
 *
 * Refused: nested arrays, keys or names twice, names with control characters, overlapping tensors,
 * big-endian files, a key or array that says it holds more than the file's bytes.
 *
 * A struct gguf is immutable after gguf_open and may be shared by threads. Strings and arrays of
 * metadata point into its own memory. */
#ifndef ENGINE_FORMAT_GGUF_H
#define ENGINE_FORMAT_GGUF_H

#include "base/err.h"
#include "base/str.h"
#include "engine/tensor/dtype.h"
#include "engine/tensor/weight_source.h"

enum gguf_type {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12,
};

enum { GGUF_DIMS_MAX = 4 };

struct gguf; /* opaque */

struct gguf_kv {
    struct str key;
    uint64_t offset;            /* of the key in the first part, for messages */
    enum gguf_type type;        /* GGUF_ARRAY: see item_type */
    enum gguf_type item_type;   /* arrays only */
    uint64_t n;                 /* items of an array, else 1 */
    const unsigned char *bytes; /* little-endian items; strings: see gguf_kv_str */
    const struct str *strings;  /* for strings and arrays of strings, n of them */
};

struct gguf_tensor {
    struct str name;
    enum dtype type;
    uint32_t n_dims;
    uint64_t dims[GGUF_DIMS_MAX]; /* dims[0] is the contiguous one (columns); unused are 1 */
    uint32_t source_idx;          /* which part holds it */
    uint64_t offset;              /* of its first byte in that part */
    uint64_t n_bytes;
};

/* `sources` stay the caller's and must outlive the gguf. */
RC gguf_open(struct gguf **out, struct weight_source *const *sources, uint32_t n_sources,
             struct err *err);
/* NULL is allowed. */
void gguf_close(struct gguf *g);

uint32_t gguf_n_kv(const struct gguf *g);
const struct gguf_kv *gguf_kv_at(const struct gguf *g, uint32_t idx);
uint32_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, uint32_t idx);
uint32_t gguf_version(const struct gguf *g);
/* The first part's name, for messages. */
const char *gguf_name(const struct gguf *g);
struct weight_source *gguf_source(const struct gguf *g, uint32_t source_idx);

/* O(log n); NULL when absent. */
const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name);

/* Typed access. Integers of any width convert when the value fits; the default is used when the
 * key is absent; a key of another kind is RC_CORRUPT naming it. */
RC gguf_get_u32(const struct gguf *g, const char *key, uint32_t fallback, uint32_t *out,
                struct err *err);
RC gguf_get_f32(const struct gguf *g, const char *key, float fallback, float *out, struct err *err);
RC gguf_get_bool(const struct gguf *g, const char *key, bool fallback, bool *out, struct err *err);
RC gguf_get_str(const struct gguf *g, const char *key, struct str fallback, struct str *out,
                struct err *err);
/* As the above, but absence is RC_CORRUPT naming the key. */
RC gguf_need_u32(const struct gguf *g, const char *key, uint32_t *out, struct err *err);
RC gguf_need_str(const struct gguf *g, const char *key, struct str *out, struct err *err);

/* One item of an array (or of a scalar, idx 0); the caller checked idx < kv->n and the type. */
int64_t gguf_kv_i64(const struct gguf_kv *kv, uint64_t idx);
double gguf_kv_f64(const struct gguf_kv *kv, uint64_t idx);
struct str gguf_kv_str(const struct gguf_kv *kv, uint64_t idx);
const char *gguf_type_name(enum gguf_type t);

#endif
