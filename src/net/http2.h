/* http2.h: what http_server.c and the http2_ files share: HTTP/2 on one connection of a server
 * (RFC 9113), over nghttp2. Users see http_server.h. */
#ifndef NET_HTTP2_H
#define NET_HTTP2_H

#include <nghttp2/nghttp2.h>

#include "net/http_exchange.h"

/* Limits. What passes one of those without a remark ends the connection with ENHANCE_YOUR_CALM and
 * is counted. */
enum {
    HTTP2_STREAMS_MAX = 100,           /* open at once; more are refused (REFUSED_STREAM) */
    HTTP2_WINDOW_BYTES = 256 << 10,    /* of a stream's body that nobody has taken yet */
    HTTP2_CONN_WINDOW_BYTES = 1 << 20, /* of all bodies under way */
    HTTP2_HEAD_SLACK = 4,              /* a head of so many times HTTP_HEAD_BYTES_MAX */
    HTTP2_RESETS_BURST = 200,          /* streams that the client broke off … */
    HTTP2_RESETS_PER_S = 33,           /* … and how fast that is forgiven */
    HTTP2_CONTINUATIONS_MAX = 8,       /* of one head */
    HTTP2_SETTINGS_MAX = 32,           /* entries in one frame */
    HTTP2_ACKS_MAX = 200,              /* answers to PING and SETTINGS not yet taken */
    HTTP2_IDLE_FRAMES_MAX = 1000,      /* frames that move nothing, within … */
    HTTP2_IDLE_FRAMES_MS = 10000,      /* … so long */
    HTTP2_OUT_HIGH_BYTES = 256 << 10,  /* of an answer, from which it is not writable */
    HTTP2_OUT_LOW_BYTES = 64 << 10,    /* on_writable when it falls to this */
    HTTP2_OUT_BYTES_MAX = 64 << 20,    /* of an answer; past it the stream is reset */
    HTTP2_LINGER_MS = 1000,            /* an answered request may go on for so long: NO_ERROR */
    HTTP2_SEEN_MAX = 64,               /* latest streams remembered, to know one never opened */
    HTTP2_TURN_BYTES_MAX = 256 << 10,  /* given to the connection before others have their turn */
};

struct http2_session {
    struct http_session_link link;
    struct http_server *server;
    struct conn *conn;
    nghttp2_session *ng;
    struct list streams;
    uint32_t n_streams;
    struct loop_task pump; /* sends what nghttp2 has */
    bool greeted;          /* the client's preface has come */
    bool ending;           /* no more requests; the connection ends when the streams have */
    uint64_t calm_from_ms; /* idle frames are counted since */
    uint32_t n_idle_frames;
    int32_t seen[HTTP2_SEEN_MAX]; /* a ring of ids, rising */
    uint32_t n_seen;
};

/* One request and its answer. */
struct http2_stream {
    struct list_node node;
    struct http2_session *ss;
    int32_t id;
    struct http_head head;
    struct http_exchange x;
    /* the request's head while it comes */
    size_t head_bytes;
    int refused; /* status of an answer of our own; 0 = none */
    bool head_done, method_seen, body_done;
    /* the answer */
    struct buf out; /* of it [0, out_at) is gone */
    size_t out_at;
    bool was_full, out_last, submitted;
    bool lingers;             /* the answer is out, the request is not */
    bool reset;               /* RST_STREAM is on its way; nothing of ours follows */
    struct loop_timer timer;  /* body, stall, total: the next */
    struct loop_task deliver; /* what came while the handler had paused; on_writable */
    enum rc why;              /* how the exchange ends if not well */
};

static inline struct http2_stream *http2_stream_of(const struct http_exchange *x)
{
    return CONTAINER_OF((uintptr_t)x, struct http2_stream, x);
}

/* Takes over an accepted connection; closes it when the server is full. */
void http2_session_start(struct http_server *s, struct conn *c);
/* Sends at the end of this turn. */
void http2_session_pump(struct http2_session *ss);
/* Ends the connection for what the client does: GOAWAY, and a count. */
void http2_session_calm(struct http2_session *ss, const char *reason);
/* Resets the stream; its exchange ends with `why`. */
void http2_stream_reset(struct http2_stream *st, uint32_t code, enum rc why);
/* Sets the timer to the stream's next deadline. */
void http2_stream_time(struct http2_stream *st);

/* http2_head.c: one header; the whole. Failures are statuses of our own answer. */
void http2_head_add(struct http2_stream *st, struct str name, struct str value);
void http2_head_finish(struct http2_stream *st, bool has_body);

/* http2_reply.c */
extern const struct http_exchange_ops http2_exchange_ops;
/* nghttp2 takes bytes of the answer. */
ssize_t http2_reply_read(nghttp2_session *ng, int32_t id, uint8_t *dst, size_t room,
                         uint32_t *flags, nghttp2_data_source *source, void *ctx);
/* An answer of the server's own. */
void http2_reply_error(struct http2_stream *st, int status, const char *msg);

#endif
