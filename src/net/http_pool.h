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
    HTTP_POOL_ADDRS_MAX = 8, /* of one upstream; one that cannot be reached makes way */
};

struct loop;
struct http_pool;
struct tls_keep;

struct http_pool_conf {
    struct addr addr; /* sa_bytes 0: none yet, see http_pool_set_addrs; then `host` is given */
    struct str host;  /* of the Host header; "" = from the address; copied */
    /* TLS under what it has in force (nothing yet: calls are RC_UNAVAILABLE), to a peer that proves
     * to be tls_host (copied). `tls` must outlive the pool; NULL = plain. */
    struct tls_keep *tls;
    struct str tls_host;
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
/* Where it is from now on: new connections go there, kept ones to elsewhere are closed, live calls
 * go on. 0 < n <= HTTP_POOL_ADDRS_MAX. */
void http_pool_set_addrs(struct http_pool *p, const struct addr *addrs, uint32_t n);
/* Closes the kept connections (the upstream was replaced); live calls go on. */
void http_pool_flush(struct http_pool *p);
struct http_pool_stats http_pool_stats(const struct http_pool *p);
const struct addr *http_pool_addr(const struct http_pool *p);

#endif
