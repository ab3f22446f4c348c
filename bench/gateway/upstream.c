/* upstream.c: the smallest server that a gateway can stand before, for the bench: HTTP/1.1 with
 * keep-alive, one thread, epoll, answers that never change.
 *
 *   upstream PORT     any POST: a chat completion; with "stream":true in the body: CHUNKS events
 *
 * It trusts its peer (only a proxy on this machine talks to it) and reads bodies by their
 * content-length; a request must fit REQUEST_BYTES_MAX. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNS_MAX = 4096, REQUEST_BYTES_MAX = 2 << 20, EVENTS_MAX = 256, CHUNKS = 100 };

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
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    signal(SIGPIPE, SIG_IGN);
    if (argc != 2) {
        fprintf(stderr, "usage: upstream PORT\n");
        return 2;
    }
    b.whole_bytes = (size_t)snprintf(b.whole, sizeof(b.whole),
                                     "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                                     "content-length: %zu\r\n\r\n%s",
                                     sizeof(WHOLE) - 1, WHOLE);
    b.chunk_bytes =
        (size_t)snprintf(b.chunk, sizeof(b.chunk), "%zx\r\n%s\r\n", sizeof(CHUNK) - 1, CHUNK);
    bench_listen(&b, (int)strtol(argv[1], NULL, 10));
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int n = epoll_wait(b.epoll_fd, events, EVENTS_MAX, b.streaming != NULL ? 0 : -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL) {
                bench_accept(&b);
            } else {
                bench_read(&b, events[i].data.ptr);
            }
        }
        bench_stream(&b);
    }
}
