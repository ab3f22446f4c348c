/* http2_reply.c: the answer of an exchange over HTTP/2: its head as header fields, its body out of
 * the stream's own buffer as fast as the client's windows and the connection take it. */
#include "net/http2.h"

#include "base/assert.h"

enum { HTTP2_FIELDS_MAX = HTTP_HEADERS_MAX + 4, HTTP2_ERROR_BYTES_MAX = 4 << 10 };

static struct str out_left(const struct http2_stream *st)
{
    return str_slice(buf_str(&st->out), st->out_at, st->out.len);
}

/* ---- heads ---- */

static nghttp2_nv field(struct str name, struct str value)
{
    /* nghttp2 copies both. */
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name.ptr, (uint8_t *)(uintptr_t)value.ptr, name.len,
                        value.len, NGHTTP2_NV_FLAG_NONE};
}

/* In HTTP/2 names are lower-case on the wire. */
static struct str lower(struct arena *a, struct str name)
{
    struct str copy = arena_str(a, name);
    for (size_t i = 0; copy.ptr != NULL && i < copy.len; i++) {
        char c = name.ptr[i];
        ((char *)(uintptr_t)copy.ptr)[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    return copy;
}

static RC caller_fields(struct http2_stream *st, const struct http_reply *r, nghttp2_nv *out,
                        size_t *n, struct err *err)
{
    for (uint32_t i = 0; i < r->n_headers; i++) {
        struct str name = r->headers[i].name, value = r->headers[i].value;
        if (http_exchange_is_reserved(name)) {
            return err_set(err, RC_INVALID, "header %.*s is the server's to write", STR(name));
        }
        if (!http_name_valid(name) || !http_value_valid(value) || i == HTTP_HEADERS_MAX) {
            return err_set(err, RC_INVALID, "header %.*s may not be sent",
                           (int)MIN(name.len, (size_t)64), name.ptr);
        }
        name = lower(&st->x.arena, name);
        if (name.ptr == NULL) {
            return err_set(err, RC_NOMEM, "answer's head: out of memory");
        }
        out[(*n)++] = field(name, value);
    }
    return RC_OK;
}

static RC reply_head(struct http_exchange *x, const struct http_reply *r, int64_t length,
                     struct err *err)
{
    struct http2_stream *st = http2_stream_of(x);
    nghttp2_nv fields[HTTP2_FIELDS_MAX];
    char status[STR_U64_BYTES + 1], bytes[STR_U64_BYTES + 1];
    size_t n = 0;
    fields[n++] =
        field(STR_LIT(":status"), str_make(status, str_put_u64(status, (uint64_t)r->status)));
    fields[n++] = field(STR_LIT("date"), http_server_date(st->ss->server));
    if (length >= 0) {
        size_t len = str_put_u64(bytes, (uint64_t)length);
        fields[n++] = field(STR_LIT("content-length"), str_make(bytes, len));
    }
    enum rc rc = caller_fields(st, r, fields, &n, err);
    if (rc != RC_OK) {
        return rc;
    }
    nghttp2_data_provider body = {.source = {.ptr = st}, .read_callback = http2_reply_read};
    int e = nghttp2_submit_response(st->ss->ng, st->id, fields, n, x->no_body ? NULL : &body);
    if (e != 0) {
        return err_set(err, RC_NOMEM, "answer: %s", nghttp2_strerror(e));
    }
    st->submitted = true;
    http2_session_pump(st->ss);
    return RC_OK;
}

/* ---- bodies ---- */

ssize_t http2_reply_read(nghttp2_session *ng, int32_t id, uint8_t *dst, size_t room,
                         uint32_t *flags, nghttp2_data_source *source, void *ctx)
{
    struct http2_stream *st = source->ptr;
    struct str left = out_left(st);
    UNUSED(ng);
    UNUSED(id);
    UNUSED(ctx);
    size_t n = MIN(room, left.len);
    if (n == 0 && !st->out_last) {
        return NGHTTP2_ERR_DEFERRED;
    }
    memcpy(dst, left.ptr, n);
    st->out_at += n;
    if (st->out_at == st->out.len) {
        buf_deinit(&st->out);
        buf_init(&st->out, HTTP2_OUT_BYTES_MAX);
        st->out_at = 0;
        *flags |= st->out_last ? NGHTTP2_DATA_FLAG_EOF : 0;
    } else if (st->out_at >= HTTP2_OUT_HIGH_BYTES) {
        buf_drop_front(&st->out, st->out_at);
        st->out_at = 0;
    }
    http2_stream_time(st);
    if (st->was_full && out_left(st).len <= HTTP2_OUT_LOW_BYTES) {
        loop_defer(st->ss->server->loop, &st->deliver);
    }
    return (ssize_t)n;
}

static void reply_more(struct http2_stream *st)
{
    if (st->submitted) {
        /* Not deferred, or its stream is closing: both are well. */
        (void)nghttp2_session_resume_data(st->ss->ng, st->id);
        http2_session_pump(st->ss);
        http2_stream_time(st);
    }
}

static bool reply_is_writable(const struct http_exchange *x)
{
    return out_left(http2_stream_of(x)).len < HTTP2_OUT_HIGH_BYTES;
}

static void reply_body(struct http_exchange *x, struct str bytes)
{
    struct http2_stream *st = http2_stream_of(x);
    if (st->reset) {
        return; /* on_close tells */
    }
    buf_add_str(&st->out, bytes);
    if (!buf_ok(&st->out)) {
        http_server_note_refusal("slow_reader");
        http2_stream_reset(st, NGHTTP2_INTERNAL_ERROR, RC_OVERLOADED);
        return;
    }
    st->was_full = st->was_full || !reply_is_writable(x);
    reply_more(st);
}

static void reply_end(struct http_exchange *x)
{
    struct http2_stream *st = http2_stream_of(x);
    st->out_last = true;
    reply_more(st);
}

static void reply_abort(struct http_exchange *x)
{
    http2_stream_reset(http2_stream_of(x), NGHTTP2_INTERNAL_ERROR, RC_CANCELLED);
}

static void body_resume(struct http_exchange *x)
{
    struct http2_stream *st = http2_stream_of(x);
    loop_defer(st->ss->server->loop, &st->deliver);
}

const struct http_exchange_ops http2_exchange_ops = {
    .head = reply_head,
    .body = reply_body,
    .end = reply_end,
    .abort = reply_abort,
    .resume = body_resume,
    .is_writable = reply_is_writable,
};

void http2_reply_error(struct http2_stream *st, int status, const char *msg)
{
    const struct http_server *s = st->ss->server;
    struct http_header type = {STR_LIT("content-type"), s->conf.error_type};
    struct buf body;
    buf_init(&body, HTTP2_ERROR_BYTES_MAX);
    http_exchange_error_body(s, &body, status, msg);
    struct http_reply reply = {.status = status, .headers = &type, .n_headers = 1};
    if (reply_head(&st->x, &reply, (int64_t)body.len, NULL) == RC_OK) {
        buf_add_str(&st->out, buf_str(&body));
        st->x.ended = true;
        reply_end(&st->x);
    } else {
        http2_stream_reset(st, NGHTTP2_INTERNAL_ERROR, RC_NOMEM);
    }
    buf_deinit(&body);
}
