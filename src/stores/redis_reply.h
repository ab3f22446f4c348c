/* redis_reply.h: what a Redis server answers (RESP 2), read from bytes in whatever pieces they
 * come. The protocol is hiredis's; memory and sizes are ours.
 *
 * The server is not trusted with our memory: a reply that is too long, too deep or has too many
 * items fails the reader for good. */
#ifndef STORES_REDIS_REPLY_H
#define STORES_REDIS_REPLY_H

#include "base/err.h"
#include "base/str.h"

/* Limits: past one the reader fails. */
enum {
    REDIS_REPLY_BYTES_MAX = 64 << 20, /* of one reply, as it comes and as it is held */
    REDIS_REPLY_ITEMS_MAX = 1 << 18,  /* of one reply, nested ones together */
    REDIS_REPLY_DEPTH_MAX = 7,        /* arrays that an item may lie in */
};

enum redis_type {
    REDIS_NIL,
    REDIS_TEXT,   /* a string, binary or not */
    REDIS_STATUS, /* "OK" */
    REDIS_FAILED, /* an error reply: `text` says what */
    REDIS_INTEGER,
    REDIS_ARRAY,
};

struct redis_reply {
    enum redis_type type;
    int64_t integer;
    struct str text;                 /* ends with a NUL that is not counted */
    const struct redis_reply *items; /* `n` of them */
    uint32_t n;
};

struct redis_reader; /* opaque */

void redis_reader_create(struct redis_reader **out);
/* NULL is allowed. */
void redis_reader_destroy(struct redis_reader *r);
/* RC_CORRUPT or RC_TOO_LARGE: the reader has failed, now or before. */
RC redis_reader_feed(struct redis_reader *r, struct str bytes, struct err *err);
/* The next whole reply, valid until the next call; *out is NULL when more bytes are needed. */
RC redis_reader_next(struct redis_reader *r, const struct redis_reply **out, struct err *err);

#endif
