/* load_url.c: see load_url.h. */
#include "cli/load_url.h"

#include <netdb.h>
#include <stdio.h>

#include "net/tls_keep.h"

static enum rc load_url_bad(struct str text, const char *why, struct err *err)
{
    return err_set(err, RC_INVALID, "%.*s: %s", (int)MIN(text.len, (size_t)200), text.ptr, why);
}

/* Printable ASCII without what would change the meaning of a request line. */
static bool load_url_plain(struct str s, const char *refused)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c <= ' ' || c >= 0x7F || strchr(refused, c) != NULL) {
            return false;
        }
    }
    return true;
}

static enum rc load_url_unix(struct load_url *out, struct str text, struct str path,
                             struct err *err)
{
    bool holds_nul = path.len > 0 && memchr(path.ptr, '\0', path.len) != NULL;
    if (path.len == 0 || holds_nul || !str_copy(out->host, sizeof(out->host), path)) {
        return load_url_bad(text, "the path of a UNIX socket is missing, too long or no path", err);
    }
    out->is_unix = true;
    (void)str_copy(out->authority, sizeof(out->authority), STR_LIT("localhost"));
    (void)str_copy(out->path, sizeof(out->path), STR_LIT("/v1"));
    return RC_OK;
}

/* "host", "host:80", "[::1]:80" */
static enum rc load_url_authority(struct load_url *out, struct str text, struct str authority,
                                  struct err *err)
{
    struct str host = authority;
    struct str port = STR_NULL;
    if (authority.len > 0 && authority.ptr[0] == '[') {
        size_t end = str_find(authority, STR_LIT("]"));
        host = str_slice(authority, 1, end);
        port = str_slice(authority, end + 1, authority.len);
        if (end == authority.len || (port.len > 0 && port.ptr[0] != ':')) {
            return load_url_bad(text, "the address in brackets does not end", err);
        }
        port = str_slice(port, 1, port.len);
    } else {
        size_t colon = str_find(authority, STR_LIT(":"));
        host = str_slice(authority, 0, colon);
        port = str_slice(authority, colon + 1, authority.len);
    }
    uint64_t number = out->is_tls ? 443 : 80;
    if (port.len > 0 && (!str_to_u64(port, &number) || number < 1 || number > 65535)) {
        return load_url_bad(text, "the port is no number from 1 to 65535", err);
    }
    if (host.len == 0 || host.len > LOAD_HOST_BYTES_MAX || !load_url_plain(host, "@/?#[]\\\"<>")) {
        return load_url_bad(text, "there is no host in it that could be called", err);
    }
    (void)str_copy(out->host, sizeof(out->host), host);
    out->port = (uint16_t)number;
    bool v6 = str_find(host, STR_LIT(":")) < host.len;
    snprintf(out->authority, sizeof(out->authority), v6 ? "[%s]:%u" : "%s:%u", out->host,
             (unsigned)number);
    return RC_OK;
}

enum rc load_url_parse(struct load_url *out, struct str text, struct err *err)
{
    *out = (struct load_url){0};
    if (str_starts(text, STR_LIT("unix:"))) {
        return load_url_unix(out, text, str_slice(text, 5, text.len), err);
    }
    out->is_tls = str_starts(text, STR_LIT("https://"));
    if (!out->is_tls && !str_starts(text, STR_LIT("http://"))) {
        return load_url_bad(text, "expected https://HOST:PORT, http://HOST:PORT or unix:PATH", err);
    }
    struct str rest = str_slice(text, out->is_tls ? 8 : 7, text.len);
    size_t slash = str_find(rest, STR_LIT("/"));
    struct str path = str_slice(rest, slash, rest.len);
    while (path.len > 0 && path.ptr[path.len - 1] == '/') {
        path.len--;
    }
    path = path.len > 0 ? path : STR_LIT("/v1");
    if (path.len > LOAD_PATH_BYTES_MAX || !load_url_plain(path, "?#\\\"<>")) {
        return load_url_bad(text, "the path is too long or holds what a path may not", err);
    }
    (void)str_copy(out->path, sizeof(out->path), path);
    return load_url_authority(out, text, str_slice(rest, 0, slash), err);
}

enum rc load_url_resolve(const struct load_url *u, struct addr *out, struct err *err)
{
    char text[LOAD_HOST_BYTES_MAX + 16];
    char service[8];
    if (u->is_unix) {
        snprintf(text, sizeof(text), "unix:%s", u->host);
        return addr_parse(out, str_from(text), err);
    }
    if (addr_parse(out, str_from(u->authority), NULL) == RC_OK) {
        return RC_OK;
    }
    struct addrinfo *found = NULL;
    struct addrinfo want = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    snprintf(service, sizeof(service), "%u", (unsigned)u->port);
    int rc = getaddrinfo(u->host, service, &want, &found);
    if (rc != 0 || found->ai_addrlen > sizeof(out->sa)) {
        return err_set(err, RC_UNAVAILABLE, "%s: %s", u->host, gai_strerror(rc));
    }
    *out = (struct addr){.sa_bytes = found->ai_addrlen};
    memcpy(&out->sa, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return RC_OK;
}

/* ---- TLS ---- */

enum rc load_trust_read(struct load_trust *out, const struct load_url *u, const struct args *a,
                        struct err *err)
{
    unsigned char digest[32];
    const char *pin;
    enum rc rc = RC_OK;
    *out = (struct load_trust){.ca = str_from(args_str(a, "--ca", ""))};
    while (rc == RC_OK && (pin = args_nth(a, "--pin", out->n_pins)) != NULL) {
        if (out->n_pins == TLS_PINS_MAX) {
            return err_set(err, RC_INVALID, "--pin: at most %d", TLS_PINS_MAX);
        }
        rc = tls_pin_parse(str_from(pin), digest, err);
        out->pins[out->n_pins++] = str_from(pin);
    }
    if (rc == RC_OK && !u->is_tls && (out->ca.len > 0 || out->n_pins > 0)) {
        return err_set(err, RC_INVALID, "--ca and --pin belong to a URL of https://");
    }
    return rc;
}

enum rc load_trust_open(const struct load_trust *t, const struct load_url *u, struct loop *l,
                        struct tls_keep **out, struct err *err)
{
    const struct tls_keep_conf conf = {.tls = {.ca = t->ca, .pins = t->pins, .n_pins = t->n_pins}};
    *out = NULL;
    return u->is_tls ? tls_keep_create(out, l, &conf, err) : RC_OK;
}
