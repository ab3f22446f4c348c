/* addr.c: parsing and printing of socket addresses. */
#include "net/addr.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>

#include "base/assert.h"

static const struct sockaddr_in *addr_v4(const struct addr *a)
{
    return (const struct sockaddr_in *)(const void *)&a->sa;
}

static const struct sockaddr_in6 *addr_v6(const struct addr *a)
{
    return (const struct sockaddr_in6 *)(const void *)&a->sa;
}

static const struct sockaddr_un *addr_un(const struct addr *a)
{
    return (const struct sockaddr_un *)(const void *)&a->sa;
}

static RC parse_unix(struct addr *a, struct str text, struct str path, struct err *err)
{
    struct sockaddr_un *un = (struct sockaddr_un *)(void *)&a->sa;
    if (path.len == 0) {
        return err_set(err, RC_INVALID, "address '%.*s': no path behind 'unix:'", STR(text));
    }
    if (path.len > ADDR_UNIX_PATH_MAX) {
        return err_set(err, RC_INVALID, "address 'unix:…': path of %zu bytes, the system allows %d",
                       path.len, (int)ADDR_UNIX_PATH_MAX);
    }
    if (memchr(path.ptr, '\0', path.len) != NULL) {
        return err_set(err, RC_INVALID, "address 'unix:…': NUL in the path");
    }
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path.ptr, path.len);
    a->sa_bytes = sizeof(*un);
    return RC_OK;
}

/* Host and port of "H:P" or "[H]:P"; false when the shape is wrong. */
static bool split_host_port(struct str text, struct str *host, struct str *port)
{
    if (text.len > 0 && text.ptr[0] == '[') {
        size_t end = str_find(text, STR_LIT("]:"));
        *host = str_slice(text, 1, end);
        *port = str_slice(text, end + 2, text.len);
        return end < text.len;
    }
    size_t colon = str_find(text, STR_LIT(":"));
    *host = str_slice(text, 0, colon);
    *port = str_slice(text, colon + 1, text.len);
    return colon < text.len && memchr(port->ptr, ':', port->len) == NULL;
}

RC addr_parse(struct addr *a, struct str text, struct err *err)
{
    *a = (struct addr){0};
    if (str_starts(text, STR_LIT("unix:"))) {
        return parse_unix(a, text, str_slice(text, 5, text.len), err);
    }
    struct str host, port_text;
    if (!split_host_port(text, &host, &port_text)) {
        return err_set(err, RC_INVALID, "address '%.*s': want HOST:PORT, [IPV6]:PORT or unix:PATH",
                       (int)MIN(text.len, 100), text.ptr);
    }
    uint64_t port;
    if (!str_to_u64(port_text, &port) || port > UINT16_MAX) {
        return err_set(err, RC_INVALID, "address '%.*s': the port is a number from 0 to 65535",
                       (int)MIN(text.len, 100), text.ptr);
    }
    char host_text[INET6_ADDRSTRLEN];
    struct str name = str_is(host, "localhost") ? STR_LIT("127.0.0.1") : host;
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&a->sa;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&a->sa;
    bool fits = str_copy(host_text, sizeof(host_text), name);
    if (fits && text.ptr[0] != '[' && inet_pton(AF_INET, host_text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        a->sa_bytes = sizeof(*v4);
    } else if (fits && text.ptr[0] == '[' && inet_pton(AF_INET6, host_text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        a->sa_bytes = sizeof(*v6);
    } else {
        return err_set(
            err, RC_INVALID,
            "address '%.*s': the host is not an IPv4 address, [IPv6 address] or localhost",
            (int)MIN(text.len, 100), text.ptr);
    }
    return RC_OK;
}

bool addr_is_name(struct str text)
{
    struct str host, port;
    uint64_t number;
    if (text.len == 0 || text.ptr[0] == '[' || str_starts(text, STR_LIT("unix:")) ||
        !split_host_port(text, &host, &port) || host.len == 0 || host.len > 253 ||
        !str_to_u64(port, &number) || number > UINT16_MAX) {
        return false;
    }
    bool letter = false;
    for (size_t i = 0; i < host.len; i++) {
        char c = host.ptr[i];
        bool alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        letter = letter || alpha;
        if (!alpha && !(c >= '0' && c <= '9') && c != '-' && c != '.') {
            return false;
        }
    }
    return letter;
}

RC addr_resolve_all(struct addr *a, uint32_t *n, struct str text, struct err *err)
{
    struct str host, port;
    char host_text[256], port_text[8];
    enum rc rc = addr_parse(a, text, err);
    uint32_t n_max = *n;
    *n = 1;
    if (rc == RC_OK || !addr_is_name(text)) {
        return rc;
    }
    if (!split_host_port(text, &host, &port) || !str_copy(host_text, sizeof(host_text), host) ||
        !str_copy(port_text, sizeof(port_text), port)) {
        return rc;
    }
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG};
    struct addrinfo *found = NULL;
    int r = getaddrinfo(host_text, port_text, &hints, &found);
    if (r != 0) {
        return err_set(err, RC_UNAVAILABLE, "host %s: %s", host_text, gai_strerror(r));
    }
    *n = 0;
    for (const struct addrinfo *f = found; f != NULL && *n < n_max; f = f->ai_next) {
        if (f->ai_addrlen <= sizeof(a->sa)) {
            a[*n] = (struct addr){.sa_bytes = f->ai_addrlen};
            memcpy(&a[(*n)++].sa, f->ai_addr, f->ai_addrlen);
        }
    }
    freeaddrinfo(found);
    return *n > 0 ? RC_OK : err_set(err, RC_UNAVAILABLE, "host %s: no address", host_text);
}

RC addr_resolve(struct addr *a, struct str text, struct err *err)
{
    uint32_t n = 1;
    return addr_resolve_all(a, &n, text, err);
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
    return a->sa_bytes == b->sa_bytes && memcmp(&a->sa, &b->sa, a->sa_bytes) == 0;
}

bool addr_is_unix(const struct addr *a)
{
    return a->sa.ss_family == AF_UNIX;
}

bool addr_is_local(const struct addr *a)
{
    switch (a->sa.ss_family) {
    case AF_UNIX:
        return true;
    case AF_INET:
        return (ntohl(addr_v4(a)->sin_addr.s_addr) >> 24) == 127;
    case AF_INET6: {
        const struct in6_addr *v6 = &addr_v6(a)->sin6_addr;
        return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
    }
    default:
        return false;
    }
}

uint16_t addr_port(const struct addr *a)
{
    if (a->sa.ss_family == AF_INET) {
        return ntohs(addr_v4(a)->sin_port);
    }
    return a->sa.ss_family == AF_INET6 ? ntohs(addr_v6(a)->sin6_port) : 0;
}

const char *addr_unix_path(const struct addr *a)
{
    /* An unnamed UNIX peer carries no path bytes at all. */
    bool named = addr_is_unix(a) && a->sa_bytes > offsetof(struct sockaddr_un, sun_path);
    return named ? addr_un(a)->sun_path : "";
}

/* Every access line has one: inet_ntop would print it with sprintf. */
static const char *addr_put_v4(const struct sockaddr_in *v4, char dst[ADDR_TEXT_BYTES])
{
    unsigned char bytes[4];
    char text[4 * (STR_U64_BYTES + 1)];
    size_t n = 0;
    memcpy(bytes, &v4->sin_addr, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++) {
        n += str_put_u64(text + n, bytes[i]);
        text[n++] = '.';
    }
    return str_copy(dst, ADDR_TEXT_BYTES, str_make(text, n - 1)) ? dst : NULL;
}

const char *addr_format_host(const struct addr *a, char dst[ADDR_TEXT_BYTES])
{
    const char *done = NULL;
    if (a->sa.ss_family == AF_INET) {
        done = addr_put_v4(addr_v4(a), dst);
    } else if (a->sa.ss_family == AF_INET6) {
        done = inet_ntop(AF_INET6, &addr_v6(a)->sin6_addr, dst, ADDR_TEXT_BYTES);
    }
    if (done == NULL) {
        str_copy(dst, ADDR_TEXT_BYTES, str_from(addr_is_unix(a) ? "unix" : ""));
    }
    return dst;
}

const char *addr_format(const struct addr *a, char dst[ADDR_TEXT_BYTES])
{
    char host[ADDR_TEXT_BYTES];
    addr_format_host(a, host);
    int n = 0;
    if (addr_is_unix(a)) {
        n = snprintf(dst, ADDR_TEXT_BYTES, "unix:%s", addr_unix_path(a));
    } else if (a->sa.ss_family == AF_INET6) {
        n = snprintf(dst, ADDR_TEXT_BYTES, "[%.*s]:%u", INET6_ADDRSTRLEN, host, addr_port(a));
    } else {
        n = snprintf(dst, ADDR_TEXT_BYTES, "%.*s:%u", INET_ADDRSTRLEN, host, addr_port(a));
    }
    ASSERT(n > 0 && n < ADDR_TEXT_BYTES);
    return dst;
}
