/* answer_wire.h: answers as they lie in Redis: three scripts, what they are told and what they say.
 *
 * `bud:answer:{NAME}`, a hash: tag scope body (marks) state beat doubt (ms of Redis's clock) first
 * n bytes cut head; `bud:answer:{NAME}:blocks`, a list: blocks first … n - 1. A block is a byte (1
 * = a comment), its seal's tag and the sealed bytes. States: r being written, d done, f failed, x
 * dropped; to who reads also i, r without a beat for too long.
 *
 * Pure. What Redis says is not trusted: lengths and numbers are checked here, contents by seals. */
#ifndef GATEWAY_ANSWER_WIRE_H
#define GATEWAY_ANSWER_WIRE_H

#include "gateway/answer_private.h"
#include "stores/redis_reply.h"

/* KEYS: the hash, the list. */
extern const char answer_script_claim[]; /* tag, scope, body, last tag or "", from, max, keep */
extern const char answer_script_tell[];  /* tag, scope, body, from, anew, state, cut, head, keep,
                                            max, cap, blocks… */
extern const char answer_script_read[];  /* tag, from, wants head, max */

enum {
    ANSWER_WIRE_KEY_BYTES = 64,
    ANSWER_WIRE_TAG_BYTES = 8,
    ANSWER_WIRE_HEAD_BYTES = ANSWER_HEAD_BYTES_MAX + 64 + CRYPTO_TAG_BYTES,
    ANSWER_WIRE_BLOCK_MIN = 1 + CRYPTO_TAG_BYTES,
};

struct answer_keys {
    char hash[ANSWER_WIRE_KEY_BYTES], blocks[ANSWER_WIRE_KEY_BYTES];
};
void answer_wire_keys(const unsigned char *name, struct answer_keys *out);

/* Big endian. */
void answer_wire_tag(uint64_t tag, char out[ANSWER_WIRE_TAG_BYTES]);

/* A head that has begun, sealed; appended. */
RC answer_wire_seal_head(const struct answer *a, struct buf *out);
/* out->lines lie in `text`. RC_CORRUPT. */
RC answer_wire_open_head(const struct answer *a, struct str sealed, struct buf *text,
                         struct answer_head *out);

static inline struct str answer_wire_block(const struct answer_block *b)
{
    return str_make((const char *)b + offsetof(struct answer_block, comment),
                    ANSWER_WIRE_BLOCK_MIN + b->n_bytes);
}
/* With one reference. NULL: out of memory, or none. */
struct answer_block *answer_wire_take_block(struct str bytes);

enum answer_wire_claim {
    ANSWER_WIRE_NEW,
    ANSWER_WIRE_FOUND,
    ANSWER_WIRE_OTHER_BODY,
    ANSWER_WIRE_LOST,
    ANSWER_WIRE_OVERRUN,
    ANSWER_WIRE_N,
};
struct answer_claimed {
    enum answer_wire_claim how;
    uint64_t tag, first; /* of what was found */
};
/* False: not an answer to that script. */
MUST_CHECK bool answer_wire_read_claim(const struct redis_reply *reply, struct answer_claimed *out);

enum { ANSWER_TOLD_GONE = -1, ANSWER_TOLD_GAP = -2 };
/* *n: blocks that are there, or one of the above. */
MUST_CHECK bool answer_wire_read_told(const struct redis_reply *reply, int64_t *n);

struct answer_news {
    char state; /* '-': there is no such answer */
    uint64_t first, n;
    bool cut;
    struct str head; /* sealed; "" = not asked for, or not there */
    const struct redis_reply *blocks;
    uint32_t n_blocks;
};
MUST_CHECK bool answer_wire_read_news(const struct redis_reply *reply, struct answer_news *out);

#endif
