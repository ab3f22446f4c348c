/* answer_exchange.h: between the stages and the store of answers (answer.h): who writes an answer
 * and who reads one.
 *
 *   client's request ──[answer]──> claimed: a second request, the work, goes on to [limit]…
 *        │                                   its exchange is struct answer_writer: what the stages
 *        │                                   send lands in the store, not on a connection
 *        v                                        │
 *   struct answer_reader <── the store <──────────┘
 *   found: a reader only
 *
 * So the work outlives a hang-up for a while, is limited, billed and logged once, and every client,
 * the first one too, only reads. All on one loop each; the store carries it between loops. */
#ifndef GATEWAY_ANSWER_EXCHANGE_H
#define GATEWAY_ANSWER_EXCHANGE_H

#include "gateway/answer.h"
#include "net/http_exchange.h"

struct gw_request;
struct gateway;

/* ---- answer_writer.c ---- */

/* What the stages of the work write to, as if it was a client. */
struct answer_writer {
    struct http_exchange x; /* first */
    struct list_node node;  /* of gateway.writers */
    struct http_head head;  /* method and path alone */
    struct addr peer;       /* of the client that began it */
    struct gw_request *work;
    struct answer *answer; /* held */
    struct answer_party party;
    struct buf pending;             /* of a stream: what is no whole event yet */
    struct loop_timer unread_timer; /* nobody reads */
    struct loop_task close_task;
    uint64_t unread_ms;
    bool begun, stream, over;
    enum rc closed_with;
};

/* Takes over the caller's hold on `a`. The writer goes by itself, behind the work's on_close. `r`
 * is the client's request, whose work this is. NULL: out of memory, the answer is dropped. */
struct answer_writer *answer_writer_create(struct gw_request *r, struct answer *a,
                                           uint64_t unread_ms);
/* The gateway goes: ends the work of all that still write. */
void answer_writers_give_up(struct gateway *g);

/* ---- answer_reader.c ---- */

struct answer_reader {
    struct answer *answer; /* the party holds it */
    struct answer_party party;
    struct loop_timer ping_timer;
    bool first; /* the client whose request the work does */
    bool sent_head, stream;
};

/* Gives r's client what is in `a` from block `from` on, and holds it. RC_NOMEM. */
RC answer_reader_start(struct gw_request *r, struct answer *a, uint64_t from, bool first);
/* The client can take more, or has gone. */
void answer_reader_writable(struct gw_request *r);
void answer_reader_stop(struct gw_request *r);

#endif
