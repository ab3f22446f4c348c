/* answer_private.h: shared by answers.c (the store), answer.c (one answer) and answer_mirror.c with
 * its parts (Redis). Everything that is not said to be fixed is guarded by the store's mutex. */
#ifndef GATEWAY_ANSWER_PRIVATE_H
#define GATEWAY_ANSWER_PRIVATE_H

#include <pthread.h>

#include "base/crypto.h"
#include "base/hash.h"
#include "base/map.h"
#include "gateway/answer.h"

struct answer_mirror;

struct answers {
    struct answers_conf conf;     /* fixed; `secret` is below */
    struct answer_mirror *mirror; /* NULL: this process's memory is all there is */
    unsigned char secret[CRYPTO_SHA256_BYTES];
    pthread_mutex_t lock;
    struct map by_name;
    struct list ended; /* oldest first */
    size_t held_bytes;
    uint32_t n_hubs;
};

struct answer_hub {
    struct answers *store;
    struct loop *loop;      /* fixed */
    struct loop_wake *wake; /* fixed */
    struct list news;       /* parties to be called */
    struct list waits;      /* struct answer_wait, to be told what came out */
};

/* What Last-Event-ID says. */
struct answer_last {
    unsigned char name[ANSWER_NAME_BYTES];
    uint64_t tag, number;
};

/* What an ask comes to. */
struct answer_marks {
    unsigned char name[CRYPTO_SHA256_BYTES]; /* ANSWER_NAME_BYTES of it count */
    unsigned char scope[CRYPTO_SHA256_BYTES];
    unsigned char body[CRYPTO_SHA256_BYTES];
    struct answer_last last;
    bool has_key, has_last;
};

/* From `comment` on it is what lies in Redis (answer_wire.h). */
struct answer_block {
    uint32_t n_refs;
    uint32_t n_bytes;
    unsigned char comment; /* 0 or 1 */
    unsigned char tag[CRYPTO_TAG_BYTES];
    unsigned char sealed[];
};
_Static_assert(offsetof(struct answer_block, sealed) ==
                   offsetof(struct answer_block, comment) + 1 + CRYPTO_TAG_BYTES,
               "a block in Redis");

/* An answer's end in Redis; zeroed = it has none. */
struct answer_share {
    struct list_node kept; /* on mirror.mine or .followed, which holds the answer */
    struct list_node due;  /* on mirror.untold or .ended: Redis is to be told of it */
    bool replica;          /* another gateway writes it */
    bool head_sent, end_sent;
    bool again;           /* something was lost: told again from `had` on */
    bool gone;            /* the name is another's by now */
    uint32_t n_under_way; /* commands */
    uint64_t sent, had;   /* the number of the next block to be told; those that are there */
    uint64_t spoke_ms;    /* when Redis was last told of it, or last told of it */
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
    bool dropped;           /* … as if it had never been */
    bool interrupted;       /* … as the gateway that wrote it is gone */
    bool overtaken;         /* … as Redis has let go of what comes next */
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
    struct answer_share share;
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
void answer_block_put(struct answer_block *b);
/* A number's nonce; UINT64_MAX is the head's. */
void answer_nonce(uint64_t number, unsigned char out[CRYPTO_NONCE_BYTES]);
/* Its head is there. RC_TOO_LARGE: the lines. */
RC answer_begin_locked(struct answer *a, const struct answer_head *head);
/* Takes over the block; false: out of memory. */
MUST_CHECK bool answer_push_locked(struct answer *a, struct answer_block *b);
/* Whether a replica holds as much as it may. */
bool answer_is_full_locked(struct answer *a);
/* Sets how it ended and tells its readers. */
void answer_over_locked(struct answer *a, enum answer_how how, bool cut);
/* … and keeps or forgets it: not of a replica, which lasts as long as its readers. */
void answers_end_locked(struct answer *a, enum answer_how how, bool cut);

/* False: what it names cannot be. */
MUST_CHECK bool answers_mark_ask(const struct answers *st, const struct answer_ask *ask,
                                 struct answer_marks *out);
/* What is known here: everything but ANSWER_CLAIMED. */
enum answer_claim answers_look_locked(struct answers *st, const struct answer_marks *m,
                                      struct answer **out, uint64_t *from);
/* Listed, in place of what had its name; with two references, the second the caller's. NULL: out of
 * memory. */
struct answer *answers_new_locked(struct answers *st, const struct answer_marks *m, uint64_t tag);
static inline struct str answers_name(const struct answer *a)
{
    return str_make((const char *)a->name, sizeof(a->name));
}
uint64_t answers_now_ms(const struct answers *st);
static inline bool answers_has_room_locked(const struct answers *st)
{
    return st->held_bytes + ANSWER_RESERVE_BYTES <= st->conf.bytes_max;
}

/* answer_wait.c: on the hub's loop: tells its waits what came out. */
void answer_wait_tell(struct answer_hub *h);
/* answer_tell.c: both may be called whether there is a mirror or not. A new answer
 * of ours, to be told; one of which there is more to be told. */
void answer_mirror_add_locked(struct answer *a);
void answer_mirror_note_locked(struct answer *a);

#endif
