/* http_upstream.h: what http_pool.c and http_client.c share: the pool, one of its connections, one
 * call. Users see http_pool.h and http_client.h. */
#ifndef NET_HTTP_UPSTREAM_H
#define NET_HTTP_UPSTREAM_H

#include "base/list.h"
#include "net/conn.h"
#include "net/http1_parse.h"
#include "net/http_client.h"
#include "net/loop.h"

struct http_pool {
    struct loop *loop;
    struct http_pool_conf conf; /* defaults filled in; texts point below; addr unused */
    char host_text[HTTP_POOL_HOST_BYTES_MAX], tls_host_text[HTTP_POOL_HOST_BYTES_MAX];
    struct addr addrs[HTTP_POOL_ADDRS_MAX];
    uint32_t n_addrs, addr_idx; /* the one in use */
    struct http_pool_stats stats;
    struct list upstreams; /* every open or opening connection */
    struct list idle;      /* of them: without a call; the newest last */
    struct list calls;     /* every call not yet ended */
    struct list waiting;   /* of them: without a connection; first come, first served */
    uint32_t n_calls;
    bool destroyed;
    struct loop_task reclaim;
};

/* One connection; has a call, or is idle, or is closing. */
struct http_upstream {
    struct http_pool *pool;
    struct conn *conn;
    struct http1_parser *parser;
    struct arena arena; /* of the response's head */
    struct list_node node, idle_node;
    struct http_call *call;
    uint32_t addr_idx; /* of the pool's addresses */
    bool open;         /* connected */
    bool reused;       /* has served a call before */
    bool closing;
};

struct http_call {
    struct http_pool *pool;
    struct http_upstream *up; /* NULL while waiting, and once ended or cancelled */
    struct list_node node, wait_node;
    const struct http_client_events *ev;
    void *ctx;
    enum http_method method;
    struct buf head; /* the request's, in bytes */
    struct str body;
    uint64_t first_byte_ms, idle_ms;
    struct loop_timer timer;   /* in line and connecting */
    struct loop_task end_task; /* a final callback that must not come at once */
    struct loop_task reclaim;
    struct http_call_result result;
    uint32_t n_interim;
    bool replayable, retried, received, paused, ended;
};

/* http_pool.c */

/* Gives the call a connection now, or a place in line. A retried call gets no kept connection. */
void http_pool_assign(struct http_pool *p, struct http_call *call);
/* The upstream's call is over: it is kept when it may be, else closed; the next in line follows. */
void http_pool_release(struct http_upstream *up, bool keep);
/* The connection is gone: frees `up`. */
void http_pool_upstream_closed(struct http_upstream *up);
/* A call has ended. */
void http_pool_call_ended(struct http_pool *p);

/* http_client.c */

extern const struct conn_events http_upstream_events;
/* The call has its connection: sends the request, at once or when it is open. */
void http_call_attach(struct http_call *call, struct http_upstream *up);
/* Ends the call at the end of this turn, with nothing before it. `what` is static. */
void http_call_end_later(struct http_call *call, enum rc rc, const char *what);

#endif
