/* raw.h: a peer made of blocking sockets, for tests of net from the other side of the wire. */
#ifndef TESTS_NET_RAW_H
#define TESTS_NET_RAW_H

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "base/buf.h"
#include "net/addr.h"

#define RAW_WAIT_MS 5000

static inline int raw_connect(const struct addr *a)
{
    int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&a->sa, a->sa_bytes), 0);
    return fd;
}

/* A listening TCP socket on a free port of loopback; *a gets its address. */
static inline int raw_listen(struct addr *a)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(addr_parse(a, STR_LIT("127.0.0.1:0"), NULL), RC_OK);
    assert_int_equal(bind(fd, (const struct sockaddr *)&a->sa, a->sa_bytes), 0);
    a->sa_bytes = sizeof(a->sa);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a->sa, &a->sa_bytes), 0);
    assert_int_equal(listen(fd, 16), 0);
    return fd;
}

/* False when the peer does not take it. */
static inline bool raw_send(int fd, struct str s)
{
    while (s.len > 0) {
        ssize_t n = send(fd, s.ptr, s.len, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        s = str_slice(s, (size_t)n, s.len);
    }
    return true;
}

static inline bool raw_puts(int fd, const char *s)
{
    return raw_send(fd, str_from(s));
}

/* Appends what comes within wait_ms; bytes, 0 = end or reset, -1 = nothing came. */
static inline int raw_read(int fd, struct buf *in, int wait_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, wait_ms) <= 0) {
        return -1;
    }
    char bytes[65536];
    ssize_t n = read(fd, bytes, sizeof(bytes));
    if (n <= 0) {
        return 0;
    }
    buf_add(in, bytes, (size_t)n);
    return (int)n;
}

/* Reads until `needle` has come `times` times; false at the end of the stream or of patience. */
static inline bool raw_until(int fd, struct buf *in, const char *needle, int times)
{
    for (;;) {
        int n = 0;
        for (struct str s = buf_str(in); n < times; n++) {
            size_t at = str_find(s, str_from(needle));
            if (at == s.len) {
                break;
            }
            s = str_slice(s, at + strlen(needle), s.len);
        }
        if (n >= times) {
            return true;
        }
        if (raw_read(fd, in, RAW_WAIT_MS) <= 0) {
            return false;
        }
    }
}

/* Reads to the end of the stream; false when it does not come. */
static inline bool raw_to_end(int fd, struct buf *in)
{
    int n;
    while ((n = raw_read(fd, in, RAW_WAIT_MS)) > 0) {}
    return n == 0;
}

static inline bool raw_has(const struct buf *in, const char *needle)
{
    return str_find(buf_str(in), str_from(needle)) < in->len;
}

static inline uint64_t raw_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

#endif
