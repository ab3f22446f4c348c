/* gguf_parse.h: one part of a GGUF file, from bytes to tables. Private to gguf.c.
 *
 * Layout (little-endian), offsets in bytes:
 *    0 magic "GGUF"      4 version u32     8 tensor count u64    16 key count u64
 *   24 keys:    name (u64 length, bytes), type u32, value
 *      tensors: name, dimension count u32, dimensions u64 each, type u32, offset u64
 *      zeros up to a multiple of general.alignment, then the tensors' bytes */
#ifndef ENGINE_FORMAT_GGUF_PARSE_H
#define ENGINE_FORMAT_GGUF_PARSE_H

#include "base/arena.h"
#include "engine/format/gguf.h"

struct gguf_part {
    uint32_t version;
    uint32_t n_kv;
    uint32_t n_tensors;
    struct gguf_kv *kv;          /* owned */
    struct gguf_tensor *tensors; /* owned; offsets are absolute in the source */
};

/* Strings and arrays are copied into `a`. On failure *part is as after gguf_part_deinit. */
RC gguf_part_parse(struct gguf_part *part, struct arena *a, struct weight_source *source,
                   struct err *err);
/* May be called twice. */
void gguf_part_deinit(struct gguf_part *part);

/* Bytes of one item of a fixed-size type, 0 for strings and arrays. */
uint32_t gguf_type_bytes(enum gguf_type t);

#endif
