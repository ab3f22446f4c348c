/* addr.h: socket addresses as people write them: "127.0.0.1:8080", "[::1]:8080", "unix:/run/x".
 *
 * Plain data. Numeric hosts and "localhost", where not said otherwise. */
#ifndef NET_ADDR_H
#define NET_ADDR_H

#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"
#include "base/str.h"

/* Limits. */
enum {
    ADDR_TEXT_BYTES = 128, /* room for any written address */
    ADDR_UNIX_PATH_MAX = sizeof(((struct sockaddr_un *)0)->sun_path) - 1, /* longer is refused */
};

struct addr {
    struct sockaddr_storage sa;
    socklen_t sa_bytes; /* 0 = no address */
};

/* RC_INVALID with a sentence that quotes the text and says what is wrong. Port 0 is allowed (the
 * system picks). */
RC addr_parse(struct addr *a, struct str text, struct err *err);
/* As addr_parse, and names of hosts too: the first address that the system's resolver gives.
 * Blocks: never on a loop. RC_UNAVAILABLE when the name has none. */
RC addr_resolve(struct addr *a, struct str text, struct err *err);
/* The same for all addresses it gives, at most *n; *n becomes how many. */
RC addr_resolve_all(struct addr *a, uint32_t *n, struct str text, struct err *err);
/* HOST:PORT of a name that addr_parse does not take; whether the name may be one of a host. */
bool addr_is_name(struct str text);
bool addr_eq(const struct addr *a, const struct addr *b);
bool addr_is_unix(const struct addr *a);
/* Reachable from this machine only: loopback or UNIX. */
bool addr_is_local(const struct addr *a);
/* 0 for UNIX. */
uint16_t addr_port(const struct addr *a);
/* The path of a UNIX address, borrowed; "" otherwise. */
const char *addr_unix_path(const struct addr *a);
/* As addr_parse reads it; always NUL-terminated. Returns dst. */
const char *addr_format(const struct addr *a, char dst[ADDR_TEXT_BYTES]);
/* The host alone ("127.0.0.1", "::1"), "unix" for UNIX: for logs and peers. Returns dst. */
const char *addr_format_host(const struct addr *a, char dst[ADDR_TEXT_BYTES]);

#endif
