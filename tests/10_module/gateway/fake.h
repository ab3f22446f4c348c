/* fake.h: a model server that misbehaves on purpose, on raw sockets, a thread for each connection.
 *
 * What it does with a request stands in the request's "user" field, as the name of a script, unless
 * it has a script of its own. */
#ifndef TESTS_GATEWAY_FAKE_H
#define TESTS_GATEWAY_FAKE_H

#include "10_module/ask.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "base/thread.h"

#define REPLY "{\"object\":\"x\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}"

enum { PEERS_MAX = 512, SILENCE_MS = 1500 };

/* ---- the fake model server ---- */

struct fake {
    struct addr addr;
    int listen_fd;
    struct thread thread;
    atomic_bool stopping;
    _Atomic(const char *)
        script;                 /* for whatever is asked with a body; NULL = as the request says */
    atomic_int n_requests;      /* since the last script_reset */
    atomic_int n_posts, n_done; /* requests with a body; those of them whose script is over */
    atomic_bool saw_end;        /* the gateway closed a connection that was being answered */
    atomic_bool told;           /* what "told" waits for */
    atomic_size_t n_sent;
    pthread_mutex_t lock;
    struct buf last; /* the last request, whole */
    pthread_t peers[PEERS_MAX];
    uint32_t n_peers;
};

struct peer {
    struct fake *fake;
    int fd;
    int attempt; /* 1 = the first request since the reset */
};

static bool say(struct peer *p, const char *text)
{
    return raw_puts(p->fd, text);
}

static bool say_whole(struct peer *p, const char *status, const char *headers, const char *body)
{
    char head[512];
    snprintf(head, sizeof(head),
             "HTTP/1.1 %s\r\ncontent-type: application/json\r\n%scontent-length: %zu\r\n\r\n",
             status, headers, strlen(body));
    return say(p, head) && say(p, body);
}

static bool say_stream_head(struct peer *p)
{
    return say(p, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                  "transfer-encoding: chunked\r\n\r\n");
}

static bool say_chunk(struct peer *p, const char *text)
{
    char size[32];
    snprintf(size, sizeof(size), "%zx\r\n", strlen(text));
    return say(p, size) && say(p, text) && say(p, "\r\n");
}

/* Scripts return whether the connection goes on. */

static bool script_ok(struct peer *p)
{
    return say_whole(p, "200 OK", "", REPLY);
}

static bool script_stream(struct peer *p)
{
    return say_stream_head(p) && say_chunk(p, "data: {\"a\":1}\n\n: n=3+1\n\n") &&
           say_chunk(p, "data: {\"a\":2}\n\n: n=3+2\n\nda") && say_chunk(p, "ta: [DONE]\n\n") &&
           say(p, "0\r\n\r\n");
}

static bool script_usage_stream(struct peer *p)
{
    return say_stream_head(p) && say_chunk(p, "data: {\"choices\":[{}],\"usage\":null}\n\n") &&
           say_chunk(p, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":31,"
                        "\"completion_tokens\":5}}\n\ndata: [DONE]\n\n") &&
           say(p, "0\r\n\r\n");
}

static bool script_close(struct peer *p)
{
    (void)p;
    return false;
}

static bool script_close_once(struct peer *p)
{
    return p->attempt > 1 && script_ok(p);
}

static bool script_half_head(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\ncontent-ty");
    return false;
}

static bool script_garbage_head(struct peer *p)
{
    say(p, "\x16\x03\x01 hello\r\n\r\n");
    return false;
}

static bool script_half_body(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"object\":");
    return false;
}

static bool script_half_body_once(struct peer *p)
{
    return p->attempt > 1 ? script_ok(p) : script_half_body(p);
}

static bool script_cut_stream(struct peer *p)
{
    say_stream_head(p);
    say_chunk(p, "data: {\"a\":1}\n\n: n=3+1\n\n");
    return false;
}

static bool script_cut_before_event_once(struct peer *p)
{
    if (p->attempt > 1) {
        return script_stream(p);
    }
    say_stream_head(p);
    say_chunk(p, "data: {\"a\"");
    return false;
}

/* Counts and no event; then a stream that counts nothing. */
static bool script_counted_cut_once(struct peer *p)
{
    say_stream_head(p);
    if (p->attempt == 1) {
        say_chunk(p, ": n=300+0\n\n");
        return false;
    }
    return say_chunk(p, "data: {\"a\":1}\n\ndata: {\"a\":2}\n\ndata: [DONE]\n\n") &&
           say(p, "0\r\n\r\n");
}

static bool script_empty_stream(struct peer *p)
{
    return say_stream_head(p) && say(p, "0\r\n\r\n");
}

static bool script_no_done(struct peer *p)
{
    return say_stream_head(p) && say_chunk(p, "data: {\"a\":1}\n\n") && say(p, "0\r\n\r\n");
}

static bool script_done_then_cut(struct peer *p)
{
    say_stream_head(p);
    say_chunk(p, "data: {\"a\":1}\n\ndata: [DONE]\n\ndata: {\"late\":1}\n\n");
    return false;
}

/* [DONE], but never the end of the body. */
static bool script_done_then_hold(struct peer *p)
{
    struct buf in;
    buf_init(&in, 1 << 20);
    say_stream_head(p);
    say_chunk(p, "data: {\"a\":1}\n\ndata: [DONE]\n\n");
    (void)raw_to_end(p->fd, &in);
    buf_deinit(&in);
    return false;
}

static bool script_own_error(struct peer *p)
{
    return say_stream_head(p) && say_chunk(p, "data: {\"a\":1}\n\n") &&
           say_chunk(p, "data: {\"error\":{\"message\":\"own\",\"code\":\"overloaded\"}}\n\n") &&
           say(p, "0\r\n\r\n");
}

static bool script_lines(struct peer *p)
{
    return say_stream_head(p) &&
           say_chunk(p, "event: x\n\nevent: y\ndata: {\"a\":\ndata: 1}\n\n: hm\n\n") &&
           say_chunk(p, "data: [DONE]\n\n") && say(p, "0\r\n\r\n");
}

/* An event without an end: 6 MiB. */
static bool script_giant(struct peer *p)
{
    static const char line[65537] = {[0 ... 65535] = 'x'};
    bool ok = say_stream_head(p) && say_chunk(p, "data: {\"a\":1}\n\ndata: ");
    for (int i = 0; ok && i < 96; i++) {
        ok = say_chunk(p, line);
    }
    return ok && say(p, "0\r\n\r\n");
}

static bool script_500(struct peer *p)
{
    return say_whole(p, "500 Internal Server Error", "",
                     "{\"error\":{\"message\":\"inner\",\"code\":\"internal_error\"}}");
}

static bool script_401(struct peer *p)
{
    return say_whole(p, "401 Unauthorized", "", "{\"error\":{\"message\":\"sk-of-ours\"}}");
}

static bool script_302(struct peer *p)
{
    return say_whole(p, "302 Found", "location: /login\r\n", "{}");
}

static bool script_429_once(struct peer *p)
{
    return p->attempt > 1 ? script_ok(p) : say_whole(p, "429 Too Many Requests", "", "{}");
}

static bool script_overloaded(struct peer *p)
{
    return say_whole(p, "503 Service Unavailable", "retry-after: 7\r\nx-should-retry: true\r\n",
                     "{\"error\":{\"message\":\"full\",\"code\":\"overloaded\"}}");
}

static bool say_unavailable(struct peer *p)
{
    return say_whole(p, "503 Service Unavailable", "",
                     "{\"error\":{\"message\":\"?\",\"code\":\"unavailable\"}}");
}

static bool script_unavailable_once(struct peer *p)
{
    return p->attempt > 1 ? script_ok(p) : say_unavailable(p);
}

static bool script_unavailable_six_times(struct peer *p)
{
    return p->attempt > 6 ? script_ok(p) : say_unavailable(p);
}

static bool script_html(struct peer *p)
{
    return say_whole(p, "502 Bad Gateway", "", "<html>nginx</html>");
}

static bool script_no_json(struct peer *p)
{
    return say_whole(p, "200 OK", "", "{\"object\":");
}

static bool script_odd_status(struct peer *p)
{
    return say_whole(p, "799 Odd", "", REPLY);
}

/* Waits long enough that the stream's head goes out for its silence. */
static void be_silent(struct peer *p)
{
    struct pollfd poll_fd = {.fd = p->fd, .events = POLLRDHUP};
    if (poll(&poll_fd, 1, SILENCE_MS) > 0) {
        atomic_store(&p->fake->saw_end, true);
    }
}

static bool script_slow_stream(struct peer *p)
{
    be_silent(p);
    return script_stream(p);
}

static bool script_slow_400(struct peer *p)
{
    be_silent(p);
    return say_whole(p, "400 Bad Request", "",
                     "{\"error\":{\n\"message\":\"too long\",\n\"code\":\"context\"}}");
}

static bool script_slow_cut_once(struct peer *p)
{
    if (p->attempt == 1) {
        be_silent(p);
        return false;
    }
    return script_stream(p);
}

/* Reads until the gateway goes. */
static bool be_left(struct peer *p)
{
    struct buf in;
    buf_init(&in, 1 << 20);
    if (raw_to_end(p->fd, &in)) {
        atomic_store(&p->fake->saw_end, true);
    }
    buf_deinit(&in);
    return false;
}

/* Says one event and then nothing until the gateway goes. */
static bool script_hold(struct peer *p)
{
    say_stream_head(p);
    say_chunk(p, "data: {\"a\":1}\n\n");
    return be_left(p);
}

static bool script_mute(struct peer *p)
{
    return be_left(p);
}

/* A stream with nothing in it; the gateway may have gone before that is said. */
static bool script_mute_stream(struct peer *p)
{
    if (say_stream_head(p)) {
        say_chunk(p, ": hm\n\n: n=900+0\n\n");
    }
    return be_left(p);
}

/* All at once, so that the gateway has the rest in hand when it reads the error. */
static bool script_error_first(struct peer *p)
{
    return say_stream_head(p) &&
           say_chunk(p, "data: {\"error\":{\"message\":\"own\",\"code\":\"overloaded\"}}\n\n"
                        "data: {\"a\":9}\n\n: n=3+9\n\ndata: [DONE]\n\n") &&
           say(p, "0\r\n\r\n");
}

static void be_told(struct peer *p)
{
    while (!atomic_load(&p->fake->told) && !atomic_load(&p->fake->stopping)) {
        usleep(1000);
    }
}

static bool script_told(struct peer *p)
{
    be_told(p);
    return script_ok(p);
}

static bool script_told_stream(struct peer *p)
{
    be_told(p);
    return script_stream(p);
}

static bool script_told_half_head(struct peer *p)
{
    be_told(p);
    return script_half_head(p);
}

/* One event; the rest when told. */
static bool script_told_midway(struct peer *p)
{
    bool ok = say_stream_head(p) && say_chunk(p, "data: {\"a\":1}\n\n: n=3+1\n\n");
    be_told(p);
    return ok && say_chunk(p, "data: {\"a\":2}\n\n: n=3+2\n\n") &&
           say_chunk(p, "data: {\"a\":3}\n\n: n=3+3\n\ndata: [DONE]\n\n") && say(p, "0\r\n\r\n");
}

/* 32 MiB of events, as fast as they are taken. */
static bool script_pour(struct peer *p)
{
    char event[65536];
    memset(event, 'y', sizeof(event));
    memcpy(event, "data: ", 6);
    memcpy(event + sizeof(event) - 3, "\n\n", 3);
    bool ok = say_stream_head(p);
    for (int i = 0; ok && i < 512; i++) {
        ok = say_chunk(p, event);
        atomic_fetch_add(&p->fake->n_sent, sizeof(event));
    }
    return ok && say_chunk(p, "data: [DONE]\n\n") && say(p, "0\r\n\r\n");
}

/* A whole answer of 24 MiB. */
static bool script_large(struct peer *p)
{
    static const char piece[65537] = {[0 ... 65535] = 'y'};
    bool ok = say(p, "HTTP/1.1 200 OK\r\ncontent-length: 25165832\r\n\r\n{\"x\":\"");
    for (int i = 0; ok && i < 384; i++) {
        ok = say(p, piece);
    }
    return ok && say(p, "\"}");
}

static const struct {
    const char *name;
    bool (*run)(struct peer *p);
} scripts[] = {
    {"ok", script_ok},
    {"stream", script_stream},
    {"usage-stream", script_usage_stream},
    {"close", script_close},
    {"close-once", script_close_once},
    {"half-head", script_half_head},
    {"garbage-head", script_garbage_head},
    {"half-body", script_half_body},
    {"half-body-once", script_half_body_once},
    {"cut-stream", script_cut_stream},
    {"cut-before-event-once", script_cut_before_event_once},
    {"counted-cut-once", script_counted_cut_once},
    {"empty-stream", script_empty_stream},
    {"no-done", script_no_done},
    {"done-then-cut", script_done_then_cut},
    {"done-then-hold", script_done_then_hold},
    {"own-error", script_own_error},
    {"lines", script_lines},
    {"giant", script_giant},
    {"500", script_500},
    {"401", script_401},
    {"302", script_302},
    {"429-once", script_429_once},
    {"overloaded", script_overloaded},
    {"unavailable-once", script_unavailable_once},
    {"unavailable-six-times", script_unavailable_six_times},
    {"html", script_html},
    {"no-json", script_no_json},
    {"odd-status", script_odd_status},
    {"slow-stream", script_slow_stream},
    {"slow-400", script_slow_400},
    {"slow-cut-once", script_slow_cut_once},
    {"hold", script_hold},
    {"mute", script_mute},
    {"mute-stream", script_mute_stream},
    {"error-first", script_error_first},
    {"told", script_told},
    {"told-stream", script_told_stream},
    {"told-half-head", script_told_half_head},
    {"told-midway", script_told_midway},
    {"pour", script_pour},
    {"large", script_large},
};

/* Reads one whole request into `in`; false at the end of the connection. */
static bool fake_read(struct peer *p, struct buf *in)
{
    while (!atomic_load(&p->fake->stopping)) {
        struct str all = buf_str(in);
        size_t head = str_find(all, STR_LIT("\r\n\r\n"));
        size_t at = str_find(all, STR_LIT("content-length: "));
        size_t body = at < all.len ? strtoul(all.ptr + at + 16, NULL, 10) : 0;
        if (head < all.len && all.len >= head + 4 + body) {
            return true;
        }
        if (raw_read(p->fd, in, 100) == 0) {
            return false;
        }
    }
    return false;
}

static bool fake_answer(struct peer *p, struct str request)
{
    size_t at = str_find(request, STR_LIT("\"user\":\""));
    struct str rest = str_slice(request, at + 8, request.len);
    struct str name = str_slice(rest, 0, str_find(rest, STR_LIT("\"")));
    const char *own = atomic_load(&p->fake->script);
    name = own != NULL && name.len > 0 ? str_from(own) : name;
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
        if (str_is(name, scripts[i].name)) {
            return scripts[i].run(p);
        }
    }
    return script_ok(p); /* requests without a body */
}

static void *fake_peer(void *arg)
{
    struct peer *p = arg;
    struct buf in;
    bool more = true;
    buf_init(&in, 64 << 20);
    while (more && fake_read(p, &in)) {
        pthread_mutex_lock(&p->fake->lock);
        buf_reset(&p->fake->last);
        buf_add_str(&p->fake->last, buf_str(&in));
        pthread_mutex_unlock(&p->fake->lock);
        p->attempt = 1 + atomic_fetch_add(&p->fake->n_requests, 1);
        bool post = str_starts(buf_str(&in), STR_LIT("POST "));
        atomic_fetch_add(&p->fake->n_posts, post ? 1 : 0);
        more = fake_answer(p, buf_str(&in));
        atomic_fetch_add(&p->fake->n_done, post ? 1 : 0);
        buf_reset(&in);
    }
    buf_deinit(&in);
    close(p->fd);
    mem_free(p);
    return NULL;
}

static void fake_run(void *arg)
{
    struct fake *f = arg;
    while (!atomic_load(&f->stopping)) {
        struct pollfd poll_fd = {.fd = f->listen_fd, .events = POLLIN};
        int fd = poll(&poll_fd, 1, 50) > 0 ? accept(f->listen_fd, NULL, NULL) : -1;
        if (fd < 0) {
            continue;
        }
        struct peer *p = mem_zalloc(sizeof(*p));
        *p = (struct peer){.fake = f, .fd = fd};
        assert_true(f->n_peers < PEERS_MAX);
        assert_int_equal(pthread_create(&f->peers[f->n_peers++], NULL, fake_peer, p), 0);
    }
}

static inline void fake_open(struct fake *f)
{
    memset(f, 0, sizeof(*f));
    pthread_mutex_init(&f->lock, NULL);
    buf_init(&f->last, 64 << 20);
    f->listen_fd = raw_listen(&f->addr);
    assert_int_equal(listen(f->listen_fd, 256), 0);
    assert_int_equal(thread_start(&f->thread, "fake", -1, fake_run, f), RC_OK);
}

/* Whoever is connected has gone. */
static inline void fake_close(struct fake *f)
{
    atomic_store(&f->stopping, true);
    thread_join(&f->thread);
    for (uint32_t i = 0; i < f->n_peers; i++) {
        pthread_join(f->peers[i], NULL);
    }
    close(f->listen_fd);
    buf_deinit(&f->last);
    pthread_mutex_destroy(&f->lock);
}

#endif
