/* answer.h: answers that outlive their exchange: kept for who asks again with the same
 * Idempotency-Key, joins while it is written, or was cut off and goes on.
 *
 *   answers_claim ──> claimed: the caller writes it   answer_begin → answer_append… → answer_end
 *        │      └───> found: it is read only               │ wakes
 *        v                                                 v
 *   answer_join ───────────────────────────────────> answer_read… → answer_leave
 *
 * An answer is a head and numbered blocks (events of a stream, pieces of a whole reply), sealed
 * each by itself under a key of the answer's own, so that no plain text lies in memory. It is found
 * by its name: a keyed hash of who asks for what with which key, or random where no key was given.
 *
 * The window: an answer is kept whole up to answer_bytes_max. Past it, or when all answers together
 * reach bytes_max, blocks that every reader has had make way, and it can be read from its beginning
 * no more (ANSWER_OVERRUN). Where nothing can make way the writer waits (answer_is_full); but a
 * reader that stands still while another has got half a window ahead of it is cut off.
 *
 * How it ends: ANSWER_DONE is kept for keep_ms. ANSWER_FAILED (broken off: its last block says why)
 * stays for who has the number of one of its events; the next claim of the name begins anew.
 * ANSWER_DROPPED (an error from the beginning, or nobody left) is forgotten at once.
 *
 * Across gateways (answer_mirror.h): names, blocks and ends lie in Redis too. Whoever has a key or
 * an event's number that is not known here asks there (ANSWER_ASK, answer_wait_start), and reads
 * what another gateway writes as if it were written here.
 *
 * Any thread; one mutex, held for a few pointers. Readers and writers belong to the loop of their
 * hub and are called there. Who claimed and who joined hold the answer. */
#ifndef GATEWAY_ANSWER_H
#define GATEWAY_ANSWER_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"

/* Limits; a zero field of answers_conf takes the default. */
enum {
    ANSWER_BYTES_MAX = 8 << 20,      /* of one answer: see the window above */
    ANSWERS_BYTES_MAX = 256 << 20,   /* of all: ANSWER_NO_ROOM */
    ANSWER_KEEP_MS = 600000,         /* behind its end */
    ANSWER_DEAD_MS = 5000,           /* a gateway of which Redis hears nothing counts as dead */
    ANSWER_CLAIM_MS = 1000,          /* from asking Redis to ANSWER_AWAY */
    ANSWER_RESERVE_BYTES = 64 << 10, /* set aside for each that is being written */
    ANSWER_HEAD_BYTES_MAX = 8 << 10, /* of its header lines */
    ANSWER_KEY_BYTES_MAX = 255,      /* of an Idempotency-Key: ANSWER_BAD_KEY */
    ANSWER_NAME_BYTES = 16,          /* 128 bits */
    ANSWER_EVENT_ID_BYTES = 32 + 1 + 16 + 1 + 20 + 1,
};

struct loop;
struct answers;    /* the store */
struct answer;     /* counted */
struct answer_hub; /* a loop's end of it */

struct answers_conf {
    size_t bytes_max, answer_bytes_max;
    uint64_t keep_ms, dead_ms, claim_ms;
    const struct clock *clock; /* borrowed */
    struct str secret;         /* what names and seals come from; "" = random */
};

void answers_create(struct answers **out, const struct answers_conf *conf);
/* Every hub is closed. NULL is allowed. */
void answers_destroy(struct answers *st);
/* Forgets what was kept for long enough. */
void answers_sweep(struct answers *st);
/* Held by all answers, in bytes. */
size_t answers_held(struct answers *st);

/* Wakes the readers and writers of a loop. Theirs alone. */
RC answer_hub_open(struct answer_hub **out, struct answers *st, struct loop *l, struct err *err);
/* Every reader and writer of it has left. NULL is allowed. */
void answer_hub_close(struct answer_hub *h);

/* ---- who has an answer to what ---- */

struct answer_ask {
    struct str scope; /* project, API key and route, as one text */
    struct str key;   /* Idempotency-Key; ptr NULL = none */
    struct str last;  /* Last-Event-ID; ptr NULL = none */
    struct str body;
};

enum answer_claim {
    ANSWER_CLAIMED, /* the caller is its writer: answer_end follows */
    ANSWER_FOUND,   /* read it from *from on */
    ANSWER_OTHER_BODY,
    ANSWER_LOST,    /* what `last` names is not here, or not any more */
    ANSWER_OVERRUN, /* there is one, but its beginning has made way */
    ANSWER_NO_ROOM,
    ANSWER_ASK,  /* it is not here: answer_wait_start says what Redis knows */
    ANSWER_AWAY, /* which does not answer */
};

/* CLAIMED and FOUND: *out is held; answer_put lets go of it. */
enum answer_claim answers_claim(struct answers *st, const struct answer_ask *ask,
                                struct answer **out, uint64_t *from);
/* Whether a client's key may be one: printable ASCII, 1 to ANSWER_KEY_BYTES_MAX bytes. */
bool answer_key_ok(struct str key);
/* NULL is allowed. */
void answer_put(struct answer *a);

struct answer_wait; /* opaque */

/* `a` as answers_claim hands it out. */
typedef void (*answer_wait_cb)(void *ctx, enum answer_claim how, struct answer *a, uint64_t from);

/* After ANSWER_ASK, with the same `ask`: done comes once, later, on the hub's loop, and never with
 * ANSWER_ASK. NULL: out of memory. */
struct answer_wait *answer_wait_start(struct answer_hub *hub, const struct answer_ask *ask,
                                      answer_wait_cb done, void *ctx);
/* Done comes no more; what was claimed is dropped. Before done has come. */
void answer_wait_cancel(struct answer_wait *w);

/* ---- readers ---- */

/* Embedded in its owner; zeroed = has not joined. One that writes is a party too. */
struct answer_party {
    uint64_t at; /* the number of the next block; to be read only */
    /* private */
    struct list_node at_answer, at_hub;
    struct answer *answer; /* held */
    struct answer_hub *hub;
    bool cut;
    void (*on_news)(void *ctx);
    void *ctx;
};

/* Reads from block `from` on; on_news(ctx) on the hub's loop once soon, then whenever there may be
 * more. */
void answer_join(struct answer_party *p, struct answer *a, struct answer_hub *hub, uint64_t from,
                 void (*on_news)(void *ctx), void *ctx);
/* No on_news any more. Fine when it has not joined. */
void answer_leave(struct answer_party *p);

struct answer_head {
    int status;
    int64_t length; /* of the body; -1 = not known before */
    bool stream;
    struct str lines; /* "name: value\n"…; as long as the answer is held */
};

/* False while it has not begun. */
bool answer_head(struct answer *a, struct answer_head *out);

enum answer_next {
    ANSWER_BLOCK, /* appended to *out */
    ANSWER_WAIT,  /* on_news tells */
    ANSWER_END,
    ANSWER_BROKEN,      /* it has no end, or what was kept of it cannot be opened */
    ANSWER_CUT,         /* this reader was too slow: what comes next has made way */
    ANSWER_INTERRUPTED, /* it has no end: the gateway that wrote it is gone */
};

/* It has ended without having begun. *why: as answer_read would say, of any that has ended. */
bool answer_is_broken(struct answer *a, enum answer_next *why);

/* *comment: it is no event of its stream. */
enum answer_next answer_read(struct answer_party *p, struct buf *out, bool *comment);
/* What Last-Event-ID then says of a block; NUL-terminated. */
void answer_event_id(const struct answer *a, uint64_t number, char out[ANSWER_EVENT_ID_BYTES]);

/* ---- the writer ---- */

/* on_news: there is room again, or the number of readers has become 0. */
void answer_write(struct answer_party *p, struct answer *a, struct answer_hub *hub,
                  void (*on_news)(void *ctx), void *ctx);
/* Once. RC_TOO_LARGE: the lines. */
RC answer_begin(struct answer *a, const struct answer_head *head);
/* Behind answer_begin. RC_NOMEM: nothing was added. */
RC answer_append(struct answer *a, struct str bytes, bool comment);
/* True: append when on_news has told of room; what is appended all the same is kept. */
bool answer_is_full(struct answer *a);
uint32_t answer_n_readers(struct answer *a);

enum answer_how { ANSWER_DONE, ANSWER_FAILED, ANSWER_DROPPED };

/* Once, last; behind it the writer's on_news comes no more. `cut`: readers are to see that the end
 * is missing. */
void answer_end(struct answer_party *p, enum answer_how how, bool cut);

#endif
