/* http2_head.c: a request's head from HTTP/2 header fields (RFC 9113 §8.3).
 *
 * nghttp2 has checked names, values, the order and number of pseudo-headers, connection-specific
 * fields and content-length against DATA. Ours: sizes, known methods, the target's form, one
 * authority, and that the handler sees what an HTTP/1.1 request would have given it. */
#include "net/http2.h"

#include "base/assert.h"

static void head_refuse(struct http2_stream *st, int status)
{
    st->refused = st->refused != 0 ? st->refused : status;
}

static bool head_method(struct str name, enum http_method *out)
{
    for (int m = 0; m < HTTP_METHODS_N; m++) {
        if (str_is(name, http_method_name((enum http_method)m))) {
            *out = (enum http_method)m;
            return true;
        }
    }
    return false;
}

/* ":path" into target, path and query. */
static void head_target(struct http2_stream *st, struct str target)
{
    struct http_head *h = &st->head;
    size_t mark = str_find(target, STR_LIT("?"));
    h->target = target;
    h->path = str_slice(target, 0, mark);
    h->query = str_slice(target, mark + 1, target.len);
    if (target.len > HTTP_TARGET_BYTES_MAX) {
        head_refuse(st, 414);
    }
}

static void head_pseudo(struct http2_stream *st, struct str name, struct str value)
{
    if (str_is(name, ":method")) {
        st->method_seen = head_method(value, &st->head.method);
    } else if (str_is(name, ":path")) {
        head_target(st, value);
    } else if (str_is(name, ":authority")) {
        st->head.host = value;
    }
}

void http2_head_add(struct http2_stream *st, struct str name, struct str value)
{
    struct http_head *h = &st->head;
    struct arena *a = &st->x.arena;
    st->head_bytes += name.len + value.len + 32; /* as RFC 9113 §6.5.2 counts */
    if (st->head_bytes > HTTP_HEAD_BYTES_MAX) {
        head_refuse(st, 431);
        if (st->head_bytes > (size_t)HTTP2_HEAD_SLACK * HTTP_HEAD_BYTES_MAX) {
            http2_session_calm(st->ss, "head_flood");
        }
        return;
    }
    struct str copy = arena_str(a, value);
    if (copy.ptr == NULL) {
        head_refuse(st, 503);
        return;
    }
    if (name.len > 0 && name.ptr[0] == ':') {
        head_pseudo(st, name, copy);
        return;
    }
    if (h->headers == NULL) {
        h->headers = arena_alloc_array(a, HTTP_HEADERS_MAX, sizeof(*h->headers));
    }
    struct str key = arena_str(a, name);
    if (h->headers == NULL || key.ptr == NULL) {
        head_refuse(st, 503);
    } else if (h->n_headers == HTTP_HEADERS_MAX) {
        head_refuse(st, 431);
    } else {
        h->headers[h->n_headers++] = (struct http_header){key, copy};
    }
}

/* The one header of that name; false when there are several. */
static bool head_single(const struct http_head *h, struct str name, struct str *value)
{
    int n = 0;
    for (uint32_t i = 0; i < h->n_headers; i++) {
        if (str_eq_nocase(h->headers[i].name, name)) {
            *value = h->headers[i].value;
            n++;
        }
    }
    return n <= 1;
}

static void head_framing(struct http2_stream *st, bool has_body)
{
    struct http_head *h = &st->head;
    struct str length = STR_NULL;
    if (!head_single(h, STR_LIT("content-length"), &length)) {
        head_refuse(st, 400);
    }
    if (!has_body) {
        h->framing = HTTP_FRAMING_NONE;
    } else if (length.ptr != NULL) {
        if (length.len > 18 || !str_to_u64(length, &h->content_length)) {
            head_refuse(st, 400);
        }
        h->framing = HTTP_FRAMING_LENGTH;
    } else {
        h->framing = HTTP_FRAMING_CHUNKED; /* its end is told when it comes */
    }
}

static bool head_authority_good(struct str a)
{
    for (size_t i = 0; i < a.len; i++) {
        unsigned char c = (unsigned char)a.ptr[i];
        if (c <= 0x20 || c >= 0x7F || strchr("/?#@\\\"<>^`{|},", c) != NULL) {
            return false;
        }
    }
    return a.len > 0;
}

void http2_head_finish(struct http2_stream *st, bool has_body)
{
    struct http_head *h = &st->head;
    struct str host = STR_NULL, expect = STR_NULL;
    h->minor = 1;
    h->keep_alive = true;
    if (!st->method_seen) {
        head_refuse(st, 501);
    }
    bool star = str_is(h->path, "*") && h->method == HTTP_METHOD_OPTIONS && h->query.len == 0;
    if (!star && (str_is(h->path, "*") || !http_target_valid(h->target))) {
        head_refuse(st, 400);
    }
    bool single = head_single(h, STR_LIT("host"), &host);
    if (h->host.ptr == NULL) {
        h->host = host;
    } else if (host.ptr != NULL && !str_eq_nocase(host, h->host)) {
        single = false;
    }
    if (!single || !head_authority_good(h->host)) {
        head_refuse(st, 400);
    }
    if (!head_single(h, STR_LIT("expect"), &expect) ||
        (expect.ptr != NULL && !str_eq_nocase(expect, STR_LIT("100-continue")))) {
        head_refuse(st, 417);
    }
    h->expect_continue = expect.ptr != NULL;
    head_framing(st, has_body);
    st->head_done = true;
}
