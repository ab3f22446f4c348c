/* http_pool.h: the kept connections to one upstream, TCP or UNIX (HTTP/1.1).
 *
 * Order of calls: http_pool_create → http_client_start… (http_client.h) → http_pool_destroy. */
#ifndef NET_HTTP_POOL_H
#define NET_HTTP_POOL_H

#include "net/addr.h"

/* Limits; a zero field of http_pool_conf takes the default. */
enum {
    HTTP_POOL_CONNS_MAX = 1024,   /* open at once; further calls wait in line */
    HTTP_POOL_IDLE_MAX = 64,      /* kept without work; the oldest is closed */
    HTTP_POOL_IDLE_MS = 30000,    /* kept so long without work; shorter than servers keep */
    HTTP_POOL_WAITING_MAX = 1024, /* calls in line; past it http_client_start is RC_OVERLOADED */
    HTTP_POOL_CONNECT_MS = 2000,  /* in line and connecting, together: RC_TIMEOUT */
    HTTP_POOL_HOST_BYTES_MAX = 256,
};

struct loop;
struct http_pool;

struct http_pool_conf {
    struct addr addr;
    struct str host; /* of the Host header; "" = from the address; copied */
    uint32_t conns_max, idle_max, waiting_max;
    uint64_t idle_ms, connect_ms;
};

struct http_pool_stats {
    uint64_t n_connects, n_connect_failures;
    uint64_t n_calls, n_reused, n_stale_retries;
    uint32_t n_open, n_idle, n_waiting;
};

RC http_pool_create(struct http_pool **out, struct loop *l, const struct http_pool_conf *conf,
                    struct err *err);
/* Live calls end with RC_CANCELLED in this turn; memory goes back when the loop has turned. NULL
 * is allowed. */
void http_pool_destroy(struct http_pool *p);
/* Closes the kept connections (the upstream was replaced); live calls go on. */
void http_pool_flush(struct http_pool *p);
struct http_pool_stats http_pool_stats(const struct http_pool *p);
const struct addr *http_pool_addr(const struct http_pool *p);

#endif
