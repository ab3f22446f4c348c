/* listen.h: a listening socket, TCP or UNIX, under a connection cap.
 *
 * Order of calls: listen_open → on_accept per connection → listen_close. Connections outlive the
 * listener. A UNIX socket has mode 0600, a stale one is replaced, one that somebody listens on is
 * RC_CONFLICT; peers of another user (root excepted) are refused. */
#ifndef NET_LISTEN_H
#define NET_LISTEN_H

#include "net/conn.h"

/* Limits; a zero field of listen_conf takes the default. */
enum {
    LISTEN_CONNS_MAX = 1024, /* open connections of one listener; more are closed and counted */
    LISTEN_BACKLOG = 1024,   /* the kernel's queue */
    LISTEN_TURN_MAX = 64,    /* accepted per loop turn; the rest in the next */
};

struct listener;
struct listen_group;
struct tls_keep;

struct listen_conf {
    struct addr addr;
    struct listen_group *group; /* listeners of other loops on the same address; NULL = alone */
    uint32_t conns_max;         /* those that still shake hands included */
    /* TLS under what it has in force when a connection comes; must outlive the listener. NULL =
     * plain. on_accept comes when the handshake is done. */
    struct tls_keep *tls;
    struct conn_conf conn;
};

struct listen_stats {
    uint64_t n_accepted;
    uint64_t n_refused_cap;  /* closed at the cap */
    uint64_t n_refused_peer; /* UNIX peer of another user */
    uint64_t n_greeted;      /* TLS handshakes done */
    uint32_t n_open;
};

/* Listeners of several loops on one address, with at most conns_max connections together, exactly.
 * The first one that opens binds it for itself alone, so that a second process is refused, and
 * picks the port; the others join it: by SO_REUSEPORT, where the kernel spreads connections by
 * their hash; a UNIX socket is one socket, of which whoever is quickest accepts. They open one
 * after the other while the first stays open. */
void listen_group_create(struct listen_group **out, uint32_t conns_max);
/* Each listener has a reference of its own. NULL is allowed. */
void listen_group_put(struct listen_group *g);

/* `c` is the callee's: it gives it events (conn_set_events) before returning, or closes it. */
typedef void (*listen_accept_cb)(void *ctx, struct conn *c);

/* RC_CONFLICT: the address is in use; RC_FORBIDDEN: not allowed to; RC_INVALID: no such address
 * here. */
RC listen_open(struct listener **out, struct loop *l, const struct listen_conf *conf,
               listen_accept_cb cb, void *ctx, struct err *err);
/* No on_accept after this; removes the UNIX socket's file. NULL is allowed. */
void listen_close(struct listener *ln);
/* What was bound, with the port the system picked. */
const struct addr *listen_addr(const struct listener *ln);
struct listen_stats listen_stats(const struct listener *ln);

#endif
