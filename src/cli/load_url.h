/* load_url.h: where a server is: "http://host:port/v1", "https://host", "unix:/run/x", and how an
 * https:// one has to prove that it is the one meant. */
#ifndef CLI_LOAD_URL_H
#define CLI_LOAD_URL_H

#include "cli/args.h"
#include "net/addr.h"
#include "net/tls.h"

/* Limits; longer is RC_INVALID. */
enum { LOAD_HOST_BYTES_MAX = 254, LOAD_PATH_BYTES_MAX = 512 };

struct load_url {
    bool is_unix, is_tls;
    uint16_t port;
    char host[LOAD_HOST_BYTES_MAX + 2]; /* without brackets; of a UNIX address the socket's path */
    char authority[LOAD_HOST_BYTES_MAX + 16]; /* of the Host header; "localhost" for UNIX */
    char path[LOAD_PATH_BYTES_MAX + 4];       /* of the API, without a slash at its end: "/v1" */
};

/* A URL without a path means "/v1". User names, queries and fragments are refused. */
RC load_url_parse(struct load_url *out, struct str text, struct err *err);
/* Numbers and "localhost" as they stand, other names by the system's resolver (blocks). */
RC load_url_resolve(const struct load_url *u, struct addr *out, struct err *err);

/* Options of a command that calls such a server. */
#define LOAD_URL_OPTIONS                                                                           \
    {"--ca", 0, "FILE", "https: authorities (PEM) that its certificate is checked against"},       \
    {                                                                                              \
        "--pin", 0, "PIN", "https: its public key, as `bud cert pin` prints it; may be repeated"   \
    }

/* Whom to believe at an https:// URL: the system's authorities, or those of a file; one of the pins
 * too, where there are any. Strings are the options'. */
struct load_trust {
    struct str ca;
    struct str pins[TLS_PINS_MAX];
    uint32_t n_pins;
};
struct loop;
struct tls_keep;

/* RC_INVALID: the options make no sense for this URL, or a pin is none. */
RC load_trust_read(struct load_trust *out, const struct load_url *u, const struct args *a,
                   struct err *err);
/* For the pool to that server; *out is NULL where the URL is not https://. Blocks. */
RC load_trust_open(const struct load_trust *t, const struct load_url *u, struct loop *l,
                   struct tls_keep **out, struct err *err);

#endif
