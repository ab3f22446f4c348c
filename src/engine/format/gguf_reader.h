/* gguf_reader.h: bounded little-endian reading of one source, front to back. Private to the GGUF
 * parser. Every failure names the source and the byte offset and is RC_CORRUPT. */
#ifndef ENGINE_FORMAT_GGUF_READER_H
#define ENGINE_FORMAT_GGUF_READER_H

#include "base/arena.h"
#include "base/err.h"
#include "engine/tensor/weight_source.h"

struct gguf_reader {
    struct weight_source *source;
    uint64_t pos;     /* next byte to read */
    struct err *err;  /* may be NULL */
    const char *what; /* what is being read, for messages about a file that ends */
    /* private: bytes [window_at, window_at + window_len) of a source that is not mapped */
    unsigned char *window;
    uint64_t window_at;
    size_t window_len;
};

RC gguf_reader_init(struct gguf_reader *r, struct weight_source *source, struct err *err);
void gguf_reader_deinit(struct gguf_reader *r);

/* Says "NAME: at byte AT: MESSAGE"; returns RC_CORRUPT. */
enum rc gguf_reader_fail(struct gguf_reader *r, uint64_t at, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

uint64_t gguf_reader_left(const struct gguf_reader *r);
RC gguf_reader_bytes(struct gguf_reader *r, void *out, size_t n);
RC gguf_reader_u32(struct gguf_reader *r, uint32_t *out);
RC gguf_reader_u64(struct gguf_reader *r, uint64_t *out);
/* A 64-bit length and that many bytes, copied into the arena with a NUL behind them. */
RC gguf_reader_str(struct gguf_reader *r, struct arena *a, struct str *out);

#endif
