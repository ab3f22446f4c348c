/* relay.h: the newest of something counted by reference, handed from the loop that owns it to
 * another one: a catalogue, a TLS context, an issuer's keys.
 *
 *   relay_send ──> pending (one; an older one that nobody took is let go of) ──wake──> on_value
 *
 * Never full and never late by more than a turn; values in between may be passed over. A relay is
 * made and destroyed while neither loop runs, or by the reader's thread with no sender left. */
#ifndef NET_RELAY_H
#define NET_RELAY_H

#include "base/err.h"
#include "base/list.h"

struct loop;
struct relay; /* opaque */

struct relay_conf {
    struct loop *to;
    struct list *readers;                     /* the sender's, which the relay joins */
    void (*on_value)(void *ctx, void *value); /* on the reader's loop; has the reference now */
    void *ctx;
    void (*put)(void *value); /* lets go of a reference; any thread */
};

RC relay_create(struct relay **out, const struct relay_conf *conf, struct err *err);
/* No on_value after this. NULL is allowed. */
void relay_destroy(struct relay *r);
/* To every reader, each with a reference that `get` makes. The thread of the list's owner. */
void relay_send(const struct list *readers, void *value, void *(*get)(void *value));

#endif
