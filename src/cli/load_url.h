/* load_url.h: where a server is: "http://host:port/v1", "https" refused, "unix:/run/x". */
#ifndef CLI_LOAD_URL_H
#define CLI_LOAD_URL_H

#include "net/addr.h"

/* Limits; longer is RC_INVALID. */
enum { LOAD_HOST_BYTES_MAX = 254, LOAD_PATH_BYTES_MAX = 512 };

struct load_url {
    bool is_unix;
    uint16_t port;
    char host[LOAD_HOST_BYTES_MAX + 2]; /* without brackets; of a UNIX address the socket's path */
    char authority[LOAD_HOST_BYTES_MAX + 16]; /* of the Host header; "localhost" for UNIX */
    char path[LOAD_PATH_BYTES_MAX + 4];       /* of the API, without a slash at its end: "/v1" */
};

/* A URL without a path means "/v1". User names, queries and fragments are refused. */
RC load_url_parse(struct load_url *out, struct str text, struct err *err);
/* Numbers and "localhost" as they stand, other names by the system's resolver (blocks). */
RC load_url_resolve(const struct load_url *u, struct addr *out, struct err *err);

#endif
