/* upstream.c: the smallest server that a gateway can stand before, and the clients before that, for
 * the bench: HTTP/1.1 with keep-alive, one thread, epoll, answers that never change.
 *
 *   upstream PORT     any POST: a chat completion; with "stream":true in the body: CHUNKS events
 *   a line on stdin: PORT RATE SECONDS FILE
 *                     requests (FILE: one whole, sent as it is) to that port, which begin at even
 * times whatever became of those before (an open loop). Prints `n`, `p50_us`, `p99_us`, `p999_us`,
 * `done 1`: how long each took from the time at which it was to begin.
 *
 * Both are one thread because they share one core: two would take turns at it, which cost more than
 * what is measured, and queue for it. While requests are sent it never sleeps. Up to CLIENTS_MAX
 * kept connections; when all are taken a request waits, and its waiting counts; the first WARM_N do
 * not count. It trusts its peer (only a proxy on this machine talks to it) and reads bodies by
 * their content-length; a request must fit REQUEST_BYTES_MAX. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_BYTES_MAX = 2 << 20, EVENTS_MAX = 256, CHUNKS = 100 };
enum { CLIENTS_MAX = 64, WARM_N = 256, ASK_BYTES_MAX = 64 << 10, REPLY_BYTES_MAX = 16 << 10 };

#define WHOLE                                                                                      \
    "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"bench\"," \
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hello there, "    \
    "how may I help you today?\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{"      \
    "\"prompt_tokens\":12,\"completion_tokens\":9,\"total_tokens\":21}}"
#define CHUNK                                                                                      \
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1,"         \
    "\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},"             \
    "\"logprobs\":null,\"finish_reason\":null}]}\n\n"

struct bench_conn {
    int fd;
    bool is_client;
    uint64_t due_ns; /* clients: of the request under way; 0 = it does not count */
    char *in;
    size_t n_in;
    int chunks_left; /* of the stream under way */
    struct bench_conn *next_streaming;
};

struct bench {
    int epoll_fd, listen_fd;
    char whole[2048], chunk[1024];
    size_t whole_bytes, chunk_bytes;
    struct bench_conn *streaming; /* every one gets one event a turn */
    /* the clients */
    char ask[ASK_BYTES_MAX];
    size_t ask_bytes;
    struct bench_conn clients[CLIENTS_MAX], *idle[CLIENTS_MAX];
    int n_idle;
    uint64_t *taken_ns;
    size_t n_begun, n_done, n_wanted;
    uint64_t start_ns;
    double gap_ns;
};

static void bench_die(const char *what)
{
    perror(what);
    exit(1);
}

static void bench_write(struct bench_conn *c, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(c->fd, bytes, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            usleep(50);
            continue;
        }
        if (sent <= 0) {
            return; /* the reading side learns of it */
        }
        bytes += sent;
        n -= (size_t)sent;
    }
}

static void bench_close(struct bench *b, struct bench_conn *c)
{
    struct bench_conn **at = &b->streaming;
    while (*at != NULL && *at != c) {
        at = &(*at)->next_streaming;
    }
    if (*at == c) {
        *at = c->next_streaming;
    }
    close(c->fd);
    free(c->in);
    free(c);
}

static void bench_answer(struct bench *b, struct bench_conn *c, const char *body)
{
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                               "transfer-encoding: chunked\r\n\r\n";
    if (strstr(body, "\"stream\":true") == NULL && strstr(body, "\"stream\": true") == NULL) {
        bench_write(c, b->whole, b->whole_bytes);
        return;
    }
    bench_write(c, head, sizeof(head) - 1);
    c->chunks_left = CHUNKS;
    c->next_streaming = b->streaming;
    b->streaming = c;
}

/* A whole request at the front of `in` is answered and removed; false when there is none yet. */
static bool bench_take(struct bench *b, struct bench_conn *c)
{
    c->in[c->n_in] = '\0';
    char *end = strstr(c->in, "\r\n\r\n");
    if (end == NULL) {
        return false;
    }
    *end = '\0';
    const char *length = strcasestr(c->in, "\r\ncontent-length:");
    size_t body_bytes = length != NULL ? strtoul(length + 17, NULL, 10) : 0;
    *end = '\r';
    size_t whole = (size_t)(end + 4 - c->in) + body_bytes;
    if (c->n_in < whole) {
        return false;
    }
    char kept = c->in[whole];
    c->in[whole] = '\0';
    bench_answer(b, c, end + 4);
    c->in[whole] = kept;
    memmove(c->in, c->in + whole, c->n_in - whole);
    c->n_in -= whole;
    return true;
}

static void bench_read(struct bench *b, struct bench_conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->n_in, REQUEST_BYTES_MAX - c->n_in, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        bench_close(b, c);
        return;
    }
    c->n_in += n > 0 ? (size_t)n : 0;
    while (c->chunks_left == 0 && bench_take(b, c)) {}
}

static void bench_accept(struct bench *b)
{
    int one = 1;
    int fd = accept4(b->listen_fd, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    struct bench_conn *c = calloc(1, sizeof(*c));
    c->fd = fd;
    c->in = malloc(REQUEST_BYTES_MAX + 1);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

/* One event for every stream. */
static void bench_stream(struct bench *b)
{
    static const char end[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    struct bench_conn **at = &b->streaming;
    while (*at != NULL) {
        struct bench_conn *c = *at;
        bench_write(c, b->chunk, b->chunk_bytes);
        if (--c->chunks_left > 0) {
            at = &c->next_streaming;
            continue;
        }
        *at = c->next_streaming;
        bench_write(c, end, sizeof(end) - 1);
        while (c->chunks_left == 0 && bench_take(b, c)) {}
    }
}

/* ---- clients ---- */

static uint64_t bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void client_connect(struct bench *b, struct bench_conn *c, int port)
{
    int one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *c = (struct bench_conn){.is_client = true, .in = c->in};
    c->in = c->in != NULL ? c->in : malloc(REPLY_BYTES_MAX + 1);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        bench_die("connect");
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, c->fd, &ev);
    b->idle[b->n_idle++] = c;
}

/* Whether the answer is here, to its last byte. */
static bool client_is_answered(struct bench_conn *c)
{
    c->in[c->n_in] = '\0';
    char *end = strstr(c->in, "\r\n\r\n");
    if (end == NULL) {
        return false;
    }
    const char *length = strcasestr(c->in, "\r\ncontent-length:");
    if (strncmp(c->in, "HTTP/1.1 200", 12) != 0 || length == NULL || length > end) {
        fprintf(stderr, "not the answer that was asked for: %s\n", c->in);
        exit(1);
    }
    return c->n_in >= (size_t)(end + 4 - c->in) + strtoul(length + 17, NULL, 10);
}

static void client_read(struct bench *b, struct bench_conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->n_in, REPLY_BYTES_MAX - c->n_in, MSG_DONTWAIT);
    if (n <= 0) {
        bench_die("a client's connection ended");
    }
    c->n_in += (size_t)n;
    if (client_is_answered(c)) {
        b->taken_ns[b->n_done++] = c->due_ns != 0 ? bench_now() - c->due_ns : 0;
        c->n_in = 0;
        b->idle[b->n_idle++] = c;
    }
}

/* Begins what is due, as far as there are connections. */
static void clients_begin(struct bench *b)
{
    uint64_t now = bench_now();
    while (b->n_idle > 0 && b->n_begun < b->n_wanted) {
        uint64_t due = b->start_ns + (uint64_t)((double)b->n_begun * b->gap_ns);
        if (due > now) {
            return;
        }
        struct bench_conn *c = b->idle[--b->n_idle];
        c->due_ns = b->n_begun++ < WARM_N ? 0 : due;
        if (send(c->fd, b->ask, b->ask_bytes, MSG_NOSIGNAL) != (ssize_t)b->ask_bytes) {
            bench_die("send");
        }
    }
}

static int clients_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void clients_start(struct bench *b, char *line)
{
    char *at = line;
    int port = (int)strtol(at, &at, 10);
    double rate = strtod(at, &at), seconds = strtod(at, &at);
    at += strspn(at, " ");
    at[strcspn(at, "\n")] = '\0';
    FILE *f = rate > 0 && seconds > 0 ? fopen(at, "rb") : NULL;
    if (f == NULL) {
        bench_die("PORT RATE SECONDS FILE");
    }
    b->ask_bytes = fread(b->ask, 1, sizeof(b->ask), f);
    fclose(f);
    b->gap_ns = 1e9 / rate;
    b->n_begun = b->n_done = 0;
    b->n_idle = 0;
    b->n_wanted = (size_t)(rate * seconds) + WARM_N;
    b->taken_ns = calloc(b->n_wanted, sizeof(*b->taken_ns));
    for (int i = 0; i < CLIENTS_MAX; i++) {
        client_connect(b, &b->clients[i], port);
    }
    b->start_ns = bench_now() + 1000000;
}

static void clients_end(struct bench *b)
{
    qsort(b->taken_ns, b->n_done, sizeof(*b->taken_ns), clients_order);
    const uint64_t *counted = b->taken_ns + WARM_N; /* those that do not count are 0 */
    size_t n = b->n_done - WARM_N;
    printf("n %zu\np50_us %.1f\np99_us %.1f\np999_us %.1f\ndone 1\n", n,
           (double)counted[n / 2] / 1e3, (double)counted[n * 99 / 100] / 1e3,
           (double)counted[n * 999 / 1000] / 1e3);
    fflush(stdout);
    for (int i = 0; i < CLIENTS_MAX; i++) {
        close(b->clients[i].fd);
    }
    free(b->taken_ns);
    b->taken_ns = NULL;
}

/* A line on stdin; its end is none. */
static void bench_told(struct bench *b)
{
    char line[1024];
    ssize_t n = read(STDIN_FILENO, line, sizeof(line) - 1);
    if (n <= 0) {
        epoll_ctl(b->epoll_fd, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
        return;
    }
    line[n] = '\0';
    clients_start(b, line);
}

/* ---- both ---- */

static void bench_listen(struct bench *b, int port)
{
    int one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    b->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(b->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(b->listen_fd, (struct sockaddr *)&a, sizeof(a)) != 0 ||
        listen(b->listen_fd, 1024) != 0) {
        bench_die("listen");
    }
    b->epoll_fd = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, b->listen_fd, &ev);
    struct epoll_event told = {.events = EPOLLIN, .data.ptr = b};
    epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &told); /* refused for /dev/null */
}

static void bench_turn(struct bench *b)
{
    struct epoll_event events[EVENTS_MAX];
    bool busy = b->streaming != NULL || b->taken_ns != NULL;
    int n = epoll_wait(b->epoll_fd, events, EVENTS_MAX, busy ? 0 : -1);
    for (int i = 0; i < n; i++) {
        struct bench_conn *c = events[i].data.ptr;
        if (c == NULL) {
            bench_accept(b);
        } else if ((void *)c == b) {
            bench_told(b);
        } else if (c->is_client) {
            client_read(b, c);
        } else {
            bench_read(b, c);
        }
    }
    bench_stream(b);
    if (b->taken_ns != NULL) {
        clients_begin(b);
        if (b->n_done == b->n_wanted) {
            clients_end(b);
        }
    }
}

int main(int argc, char **argv)
{
    struct bench *b = calloc(1, sizeof(*b));
    signal(SIGPIPE, SIG_IGN);
    if (argc != 2) {
        fprintf(stderr, "usage: upstream PORT\n");
        return 2;
    }
    b->whole_bytes = (size_t)snprintf(b->whole, sizeof(b->whole),
                                      "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                                      "content-length: %zu\r\n\r\n%s",
                                      sizeof(WHOLE) - 1, WHOLE);
    b->chunk_bytes =
        (size_t)snprintf(b->chunk, sizeof(b->chunk), "%zx\r\n%s\r\n", sizeof(CHUNK) - 1, CHUNK);
    bench_listen(b, (int)strtol(argv[1], NULL, 10));
    for (;;) {
        bench_turn(b);
    }
}
