/* answer_private.h: shared by answers.c (the store) and answer.c (one answer). Everything that is
 * not said to be fixed is guarded by the store's mutex. */
#ifndef GATEWAY_ANSWER_PRIVATE_H
#define GATEWAY_ANSWER_PRIVATE_H

#include <pthread.h>

#include "base/crypto.h"
#include "base/hash.h"
#include "base/map.h"
#include "gateway/answer.h"

struct answers {
    struct answers_conf conf; /* fixed; `secret` is below */
    unsigned char secret[CRYPTO_SHA256_BYTES];
    pthread_mutex_t lock;
    struct map by_name;
    struct list ended; /* oldest first */
    size_t held_bytes;
    uint32_t n_hubs;
};

struct answer_hub {
    struct answers *store;
    struct loop_wake *wake; /* fixed */
    struct list news;       /* parties to be called */
};

struct answer_block {
    uint32_t n_refs;
    uint32_t n_bytes;
    bool comment;
    unsigned char tag[CRYPTO_TAG_BYTES];
    unsigned char sealed[];
};

struct answer {
    struct answers *store;
    uint32_t n_refs;
    bool listed;            /* in by_name, which holds it */
    struct list_node ended; /* in answers.ended, which holds it */
    uint64_t ended_ms;
    /* fixed */
    unsigned char name[ANSWER_NAME_BYTES];
    uint64_t tag; /* another answer of the same name has another */
    unsigned char scope[CRYPTO_SHA256_BYTES];
    unsigned char body[CRYPTO_SHA256_BYTES];
    unsigned char key[CRYPTO_KEY_BYTES];
    /* fixed once begun */
    struct answer_head head;
    struct buf lines;
    bool begun;
    bool over, failed, cut; /* it has ended; with an error; without its end */
    bool overrun;           /* its first block is gone */
    bool writer_waits;
    struct list readers;
    uint32_t n_readers;
    struct answer_party *writer; /* NULL once over */
    struct answer_block **blocks;
    uint32_t n_gone, n_blocks; /* of `blocks`: unused ones, and those behind them */
    uint32_t n_room;
    uint64_t first;    /* the number of blocks[n_gone] */
    size_t held_bytes; /* its share of the store's: blocks, or what is reserved for them */
    size_t block_bytes;
};

static inline void answers_lock(struct answers *st)
{
    pthread_mutex_lock(&st->lock);
}
static inline void answers_unlock(struct answers *st)
{
    pthread_mutex_unlock(&st->lock);
}

/* All below: under the lock. */
void answer_free_locked(struct answer *a);
struct answer *answer_hold_locked(struct answer *a);
void answer_put_locked(struct answer *a);
/* Out of by_name. */
void answer_unlist_locked(struct answer *a);
/* The store's count follows what it holds. */
void answer_count_locked(struct answer *a);
void answer_tell_locked(struct answer_party *p);

#endif
