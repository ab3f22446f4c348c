/* fetch.h: one HTTP request to somebody else's server, start to end, on a worker thread (libcurl):
 * for slow paths such as key sets, stores and hubs; never the road of requests.
 *
 * Bounded in bytes and time. https with the server's certificate checked, or plain http where the
 * address turns out to be loopback (or `http` says that it is wanted). An address inside a private,
 * loopback, link-local or other special range is refused once it is resolved, unless `inside` says
 * that an operator chose this URL. Redirects are not followed; environment proxies are not used. */
#ifndef NET_FETCH_H
#define NET_FETCH_H

#include <stdatomic.h>

#include "base/buf.h"
#include "base/err.h"

/* Limits. */
enum {
    FETCH_CONNECT_MS = 5000,
    FETCH_URL_BYTES_MAX = 4096,
    FETCH_HEADERS_MAX = 32,
};

/* All strings end with a NUL. */
struct fetch_conf {
    const char *url;
    const char *method;         /* NULL = GET, or POST where there is a body */
    const char *const *headers; /* "name: value", NULL-terminated; may be NULL */
    struct str body;            /* ptr NULL = none */
    const char *ca_file;        /* NULL = the system's authorities */
    bool inside;                /* any address is allowed */
    bool http;                  /* plain http is allowed to others than loopback */
    uint32_t timeout_ms;        /* of the whole; must not be 0 */
    const atomic_bool *stop;    /* turns true: the request ends within a second; may be NULL */
};

struct fetch_reply {
    int status;
    struct buf body;    /* initialised by the caller: its cap bounds what is taken */
    bool has_max_age;   /* cache-control */
    uint32_t max_age_s; /* 0: no-store and no-cache too */
};

/* Blocks. RC_OK whatever the status; RC_INVALID: a URL that is not taken; RC_FORBIDDEN: an address
 * inside; RC_TIMEOUT, RC_TOO_LARGE, RC_CANCELLED, else RC_UNAVAILABLE. */
RC fetch_run(const struct fetch_conf *conf, struct fetch_reply *reply, struct err *err);

/* Whether an address is of a special range: not one of the public internet (RFC 6890). */
struct sockaddr;
bool fetch_addr_is_inside(const struct sockaddr *sa);

#endif
