/* paced.c: requests that begin at even times, whatever became of those before (an open loop), and
 * how long each took from the time at which it was to begin.
 *
 *   paced PORT RATE SECONDS FILE     FILE: one whole HTTP/1.1 request, sent as it is
 *
 * One thread, up to CONNS_MAX kept connections; when all are taken a request waits, and its waiting
 * counts. Prints `n`, `p50_us`, `p99_us`. An answer that is not 200 ends the program. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNS_MAX = 64, REPLY_BYTES_MAX = 16 << 10, REQUEST_BYTES_MAX = 64 << 10 };

struct paced_conn {
    int fd;
    uint64_t due_ns; /* of the request under way */
    size_t n_in;
    char in[REPLY_BYTES_MAX + 1];
};

struct paced {
    int epoll_fd;
    uint16_t port;
    char request[REQUEST_BYTES_MAX];
    size_t request_bytes;
    struct paced_conn conns[CONNS_MAX];
    struct paced_conn *idle[CONNS_MAX];
    int n_idle;
    uint64_t *taken_ns;
    size_t n_begun, n_done, n_wanted;
    uint64_t start_ns;
    double gap_ns;
};

static void paced_die(const char *what)
{
    fprintf(stderr, "paced: %s: %s\n", what, errno != 0 ? strerror(errno) : "");
    exit(1);
}

static uint64_t paced_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t paced_due(const struct paced *p, size_t i)
{
    return p->start_ns + (uint64_t)((double)i * p->gap_ns);
}

static void paced_connect(struct paced *p, struct paced_conn *c)
{
    int one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(p->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        paced_die("connect");
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, c->fd, &ev);
}

/* Whether the answer is here, to its last byte. */
static bool paced_is_whole(struct paced_conn *c)
{
    c->in[c->n_in] = '\0';
    char *end = strstr(c->in, "\r\n\r\n");
    if (end == NULL) {
        return false;
    }
    const char *length = strcasestr(c->in, "\r\ncontent-length:");
    if (strncmp(c->in, "HTTP/1.1 200", 12) != 0 || length == NULL || length > end) {
        errno = 0;
        fprintf(stderr, "%s\n", c->in);
        paced_die("not the answer that was asked for");
    }
    return c->n_in >= (size_t)(end + 4 - c->in) + strtoul(length + 17, NULL, 10);
}

static void paced_read(struct paced *p, struct paced_conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->n_in, REPLY_BYTES_MAX - c->n_in, MSG_DONTWAIT);
    if (n <= 0) {
        paced_die("the connection ended");
    }
    c->n_in += (size_t)n;
    if (paced_is_whole(c)) {
        p->taken_ns[p->n_done++] = paced_now() - c->due_ns;
        c->n_in = 0;
        p->idle[p->n_idle++] = c;
    }
}

/* Begins what is due, as far as there are connections. */
static void paced_begin(struct paced *p)
{
    uint64_t now = paced_now();
    while (p->n_idle > 0 && p->n_begun < p->n_wanted && paced_due(p, p->n_begun) <= now) {
        struct paced_conn *c = p->idle[--p->n_idle];
        c->due_ns = paced_due(p, p->n_begun++);
        if (send(c->fd, p->request, p->request_bytes, MSG_NOSIGNAL) != (ssize_t)p->request_bytes) {
            paced_die("send");
        }
    }
}

static void paced_wait(struct paced *p)
{
    struct epoll_event events[CONNS_MAX];
    struct timespec left = {.tv_sec = 1};
    if (p->n_idle > 0 && p->n_begun < p->n_wanted) {
        uint64_t now = paced_now(), due = paced_due(p, p->n_begun);
        left.tv_sec = 0;
        left.tv_nsec = due > now ? (long)(due - now) : 0;
        left.tv_nsec = left.tv_nsec < 999999999 ? left.tv_nsec : 999999999;
    }
    int n = epoll_pwait2(p->epoll_fd, events, CONNS_MAX, &left, NULL);
    for (int i = 0; i < n; i++) {
        paced_read(p, events[i].data.ptr);
    }
}

static int paced_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void paced_load(struct paced *p, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        paced_die(path);
    }
    p->request_bytes = fread(p->request, 1, sizeof(p->request), f);
    fclose(f);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: paced PORT RATE SECONDS FILE\n");
        return 2;
    }
    struct paced *p = calloc(1, sizeof(*p));
    double rate = strtod(argv[2], NULL);
    prctl(PR_SET_TIMERSLACK, 1);
    p->port = (uint16_t)strtoul(argv[1], NULL, 10);
    p->gap_ns = 1e9 / rate;
    p->n_wanted = (size_t)(rate * strtod(argv[3], NULL));
    p->taken_ns = calloc(p->n_wanted + 1, sizeof(*p->taken_ns));
    p->epoll_fd = epoll_create1(0);
    paced_load(p, argv[4]);
    for (int i = 0; i < CONNS_MAX; i++) {
        paced_connect(p, &p->conns[i]);
        p->idle[p->n_idle++] = &p->conns[i];
    }
    p->start_ns = paced_now() + 1000000;
    while (p->n_done < p->n_wanted) {
        paced_begin(p);
        paced_wait(p);
    }
    qsort(p->taken_ns, p->n_done, sizeof(*p->taken_ns), paced_order);
    printf("n %zu\n", p->n_done);
    printf("p50_us %.1f\n", (double)p->taken_ns[p->n_done / 2] / 1e3);
    printf("p99_us %.1f\n", (double)p->taken_ns[p->n_done * 99 / 100] / 1e3);
    free(p->taken_ns);
    free(p);
    return 0;
}
