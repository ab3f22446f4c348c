/* http1_chunk.h: the chunked transfer coding (RFC 9112 §7.1), strict, for http1_parse.c. */
#ifndef NET_HTTP1_CHUNK_H
#define NET_HTTP1_CHUNK_H

#include "base/str.h"

/* Limits; past any of them the body is malformed. */
enum {
    HTTP1_CHUNK_DIGITS_MAX = 15,         /* hex digits of a size: below 2^60 */
    HTTP1_CHUNK_EXT_BYTES_MAX = 4 << 10, /* extensions of all chunks of one body together */
    HTTP1_TRAILER_BYTES_MAX = 8 << 10,
};

enum http1_chunk_event {
    HTTP1_CHUNK_MORE, /* all input used */
    HTTP1_CHUNK_DATA, /* *data is a piece, borrowed from the input */
    HTTP1_CHUNK_END,  /* the body is complete; input behind it is untouched */
    HTTP1_CHUNK_BAD,  /* *fault says why; final */
};

struct http1_chunk {
    /* private; zeroed = before the first chunk */
    int state;
    uint32_t n_digits;
    uint64_t left_bytes;
    uint32_t ext_bytes, trailer_bytes;
    bool colon;
};

/* One event; *n_used input bytes were taken. Extensions and trailers are checked and dropped. */
enum http1_chunk_event http1_chunk_step(struct http1_chunk *k, struct str in, size_t *n_used,
                                        struct str *data, const char **fault);

#endif
