/* An HTTP/2 session of the server takes whatever bytes come, over a real socket: it answers, or
 * ends the connection; every exchange that began is closed once. Inputs follow the client's
 * preface, unless their first byte is odd: then they are all there is. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "net/http2.h"
#include "net/listen.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct fuzz {
    struct loop *loop;
    struct http_server *server;
    struct addr addr;
    struct loop_timer tick;
    uint64_t n_started;
    int n_live;
} fuzz;

static void on_body(void *ctx, struct str bytes)
{
    struct http_exchange *x = ctx;
    if (bytes.len % 3 == 1) {
        http_exchange_body_pause(x);
        http_exchange_body_resume(x);
    }
}

static void on_body_end(void *ctx, enum rc rc)
{
    struct http_exchange *x = ctx;
    struct http_reply reply = {.status = rc == RC_OK ? 200 : 400, .body = STR_LIT("whole")};
    if (http_exchange_has_begun(x)) {
        http_exchange_write(x, STR_LIT("the rest"));
        http_exchange_end(x);
    } else {
        ASSERT(http_exchange_reply(x, &reply, NULL) == RC_OK);
    }
}

static void on_close(void *ctx, enum rc rc)
{
    UNUSED(ctx);
    UNUSED(rc);
    ASSERT(fuzz.n_live > 0);
    fuzz.n_live--;
}

static void on_request(void *ctx, struct http_exchange *x)
{
    static const struct http_exchange_events ev = {
        .on_body = on_body, .on_body_end = on_body_end, .on_close = on_close};
    const struct http_head *h = http_exchange_head(x);
    UNUSED(ctx);
    ASSERT(h->host.len > 0 && h->path.len > 0 && h->n_headers <= HTTP_HEADERS_MAX);
    fuzz.n_live++;
    http_exchange_accept(x, h->path.len % 2 == 0 ? HTTP_BODY_STREAM : HTTP_BODY_COLLECT, 4096, &ev,
                         x);
    if (h->path.len % 3 == 0) {
        struct http_reply reply = {.status = 200};
        ASSERT(http_exchange_begin(x, &reply, NULL) == RC_OK);
    }
}

static void on_accept(void *ctx, struct conn *c)
{
    UNUSED(ctx);
    fuzz.n_started++;
    http2_session_start(fuzz.server, c);
}

static void on_tick(void *ctx)
{
    UNUSED(ctx);
    if (fuzz.n_started > 0 && http_server_stats(fuzz.server).n_conns_open == 0) {
        loop_stop(fuzz.loop);
    } else {
        loop_timer_start(&fuzz.tick, 1);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static struct listener *listener;
    struct http_server_conf conf = {.handler = on_request};
    struct listen_conf lc = {0};
    char path[64];
    UNUSED(argc);
    UNUSED(argv);
    snprintf(path, sizeof(path), "unix:/tmp/bud-fuzz-http2-%d.sock", (int)getpid());
    ASSERT(loop_create(&fuzz.loop, clock_system(), NULL) == RC_OK);
    ASSERT(http_server_create(&fuzz.server, fuzz.loop, &conf, NULL) == RC_OK);
    ASSERT(addr_parse(&lc.addr, str_from(path), NULL) == RC_OK);
    ASSERT(listen_open(&listener, fuzz.loop, &lc, on_accept, NULL, NULL) == RC_OK);
    fuzz.addr = *listen_addr(listener);
    loop_timer_init(&fuzz.tick, fuzz.loop, on_tick, NULL);
    return 0;
}

static void send_all(int fd, const void *bytes, size_t n)
{
    /* A peer that has closed already takes the rest of it nowhere. */
    (void)!send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    if (size == 0 || size > 60000) {
        return 0;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT(fd >= 0);
    ASSERT(connect(fd, (const struct sockaddr *)&fuzz.addr.sa, fuzz.addr.sa_bytes) == 0);
    if (data[0] % 2 == 0) {
        send_all(fd, preface, sizeof(preface) - 1);
    }
    send_all(fd, data + 1, size - 1);
    shutdown(fd, SHUT_WR);
    fuzz.n_started = 0;
    loop_timer_start(&fuzz.tick, 0);
    loop_run(fuzz.loop);
    close(fd);
    ASSERT(fuzz.n_live == 0);
    return 0;
}
