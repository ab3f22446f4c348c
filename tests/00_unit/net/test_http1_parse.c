/* The parser: what it reads, what it refuses, and that pieces make no difference. */
#include "check.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "net/http1_parse.h"

/* Runs one parser over a stream of messages in pieces of `piece` bytes (0 = `cut`, then the rest)
 * and writes what it saw as text, so that two runs can be compared. */
struct run {
    enum http1_kind kind;
    bool to_head;
    size_t piece, cut;
    bool eof;
};

static void write_head(struct buf *out, enum http1_kind kind, const struct http_head *h)
{
    if (kind == HTTP1_REQUEST) {
        buf_add_printf(out, "%s [%.*s] [%.*s] host=%.*s 1.%d keep=%d expect=%d",
                       http_method_name(h->method), STR(h->path), STR(h->query), STR(h->host),
                       h->minor, h->keep_alive, h->expect_continue);
    } else {
        buf_add_printf(out, "%d 1.%d keep=%d", h->status, h->minor, h->keep_alive);
    }
    buf_add_printf(out, " framing=%d\n", h->framing);
    for (uint32_t i = 0; i < h->n_headers; i++) {
        buf_add_printf(out, "%.*s=%.*s\n", STR(h->headers[i].name), STR(h->headers[i].value));
    }
}

/* Steps as far as `in` goes; false when the stream failed. */
static bool drive(struct http1_parser *p, struct arena *a, const struct run *r, struct str in,
                  size_t *used, struct buf *out)
{
    for (;;) {
        struct http1_step s;
        enum rc rc = http1_parse_step(p, str_slice(in, *used, in.len), &s, NULL);
        if (rc != RC_OK) {
            buf_add_printf(out, "\nFAILED %s %d\n", err_row(rc)->name, http1_parse_status(p));
            return false;
        }
        *used += s.n_used;
        if (s.event == HTTP1_MORE) {
            return true;
        }
        if (s.event == HTTP1_HEAD) {
            write_head(out, r->kind, http1_parse_head(p));
        } else if (s.event == HTTP1_BODY) {
            buf_add_str(out, s.body);
        } else {
            buf_add_cstr(out, "\nEND\n");
            http1_parse_next(p, r->to_head);
            arena_reset(a);
        }
    }
}

static void run_stream(const struct run *r, struct str all, struct buf *out)
{
    struct arena a;
    struct http1_parser *p;
    arena_init(&a, 1 << 20);
    assert_int_equal(http1_parse_create(&p, r->kind, &a, NULL), RC_OK);
    http1_parse_next(p, r->to_head);
    size_t used = 0, given = r->piece == 0 ? r->cut : MIN(r->piece, all.len);
    bool ok = true;
    for (;;) {
        /* A fresh copy of exactly the given bytes: a read past them is seen by ASan. */
        char *copy = mem_alloc(given - used + 1);
        memcpy(copy, all.ptr + used, given - used);
        size_t n = 0;
        ok = drive(p, &a, r, str_make(copy, given - used), &n, out);
        used += n;
        mem_free(copy);
        if (!ok || given == all.len) {
            break;
        }
        given = r->piece == 0 ? all.len : MIN(given + r->piece, all.len);
    }
    struct http1_step s;
    if (ok && r->eof) {
        enum rc rc = http1_parse_eof(p, &s, NULL);
        buf_add_cstr(out, rc != RC_OK ? "\nCUT\n" : s.event == HTTP1_END ? "\nEND\n" : "");
    }
    http1_parse_destroy(p);
    arena_deinit(&a);
}

static struct buf whole(enum http1_kind kind, struct str all, bool eof)
{
    struct buf out;
    buf_init(&out, 1 << 22);
    struct run r = {.kind = kind, .cut = all.len, .eof = eof};
    run_stream(&r, all, &out);
    return out;
}

static void check_is(enum http1_kind kind, struct str all, const char *want)
{
    struct buf out = whole(kind, all, true);
    buf_add_byte(&out, '\0');
    assert_string_equal(out.ptr, want);
    buf_deinit(&out);
}

static void reads_requests(void **state)
{
    (void)state;
    check_is(
        HTTP1_REQUEST,
        STR_LIT("GET /a/b?x=1&y=%20 HTTP/1.1\r\nHost: h:80\r\nAccept:  */*  \r\nEmpty:\r\n\r\n"
                "\r\nPOST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\nExpect: 100-Continue\r\n"
                "\r\nabc"
                "OPTIONS * HTTP/1.0\r\n\r\n"),
        "GET [/a/b] [x=1&y=%20] host=h:80 1.1 keep=1 expect=0 framing=0\n"
        "Host=h:80\nAccept=*/*\nEmpty=\n\nEND\n"
        "POST [/] [] host=h 1.1 keep=1 expect=1 framing=1\n"
        "host=h\ncontent-length=3\nExpect=100-Continue\nabc\nEND\n"
        "OPTIONS [*] [] host= 1.0 keep=0 expect=0 framing=0\n\nEND\n");
    check_is(HTTP1_REQUEST,
             STR_LIT("GET http://H.x/p?q HTTP/1.1\r\nHost: h.X\r\nConnection: a, CLOSE\r\n\r\n"),
             "GET [/p] [q] host=H.x 1.1 keep=0 expect=0 framing=0\nHost=h.X\nConnection=a, "
             "CLOSE\n\nEND\n");
    check_is(
        HTTP1_REQUEST,
        STR_LIT("GET http://h HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        "GET [/] [] host=h 1.1 keep=1 expect=0 "
        "framing=0\nHost=h\nUpgrade=x\nConnection=upgrade\n\nEND\n");
}

static void reads_chunked_bodies(void **state)
{
    (void)state;
    check_is(
        HTTP1_REQUEST,
        STR_LIT("PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
                "5\r\nhello\r\nA;ext=\"v\";y\r\n 0123456\r\n\r\n00\r\nTrailer: dropped\r\n\r\n"),
        "PUT [/c] [] host=h 1.1 keep=1 expect=0 framing=2\nHost=h\nTransfer-Encoding=Chunked\n"
        "hello 0123456\r\n\nEND\n");
}

static void reads_responses(void **state)
{
    (void)state;
    check_is(HTTP1_RESPONSE,
             STR_LIT("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                     "HTTP/1.1 204\r\n\r\nHTTP/1.1 200 \r\n\r\nto the end"),
             "100 1.1 keep=1 framing=0\n\nEND\n"
             "200 1.1 keep=1 framing=1\nContent-Length=2\nok\nEND\n"
             "204 1.1 keep=1 framing=0\n\nEND\n"
             "200 1.1 keep=0 framing=3\nto the end\nEND\n");
    struct buf out;
    buf_init(&out, 1 << 16);
    struct run r = {.kind = HTTP1_RESPONSE, .to_head = true, .piece = 7, .eof = true};
    run_stream(&r,
               STR_LIT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n"),
               &out);
    buf_add_byte(&out, '\0');
    assert_string_equal(out.ptr, "200 1.1 keep=1 framing=0\nTransfer-Encoding=chunked\n\nEND\n"
                                 "200 1.0 keep=0 framing=0\nContent-Length=9\n\nEND\n");
    buf_deinit(&out);
}

static void says_when_a_message_is_cut(void **state)
{
    (void)state;
    static const char *const cut[] = {
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: h\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(cut); i++) {
        struct buf out = whole(HTTP1_REQUEST, str_from(cut[i]), true);
        assert_true(str_ends(buf_str(&out), STR_LIT("CUT\n")));
        buf_deinit(&out);
    }
    check_is(HTTP1_REQUEST, STR_LIT(""), "\0");
}

#define G "GET / HTTP/1.1\r\nHost: h\r\n"
#define P "POST / HTTP/1.1\r\nHost: h\r\n"
#define K P "Transfer-Encoding: chunked\r\n\r\n"

/* Every way known to make two readers disagree, and plain noise. */
static const struct {
    const char *in;
    int status;
} refused[] = {
    /* lengths */
    {P "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {P "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400},
    {P "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", 400},
    {P "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", 400},
    {P "Content-Length: 3, 3\r\n\r\n", 400},
    {P "Content-Length: +3\r\n\r\n", 400},
    {P "Content-Length: -3\r\n\r\n", 400},
    {P "Content-Length: 0x3\r\n\r\n", 400},
    {P "Content-Length: 3 3\r\n\r\n", 400},
    {P "Content-Length: 3a\r\n\r\n", 400},
    {P "Content-Length:\r\n\r\n", 400},
    {P "Content-Length: 18446744073709551617\r\n\r\n", 400},
    {P "Content-Length: 9999999999999999999\r\n\r\n", 400},
    /* transfer codings */
    {P "Transfer-Encoding: gzip, chunked\r\n\r\n", 400},
    {P "Transfer-Encoding: chunked, gzip\r\n\r\n", 400},
    {P "Transfer-Encoding: chunked, chunked\r\n\r\n", 400},
    {P "Transfer-Encoding: identity\r\n\r\n", 400},
    {P "Transfer-Encoding: xchunked\r\n\r\n", 400},
    {P "Transfer-Encoding: \"chunked\"\r\n\r\n", 400},
    {P "Transfer-Encoding: chunked;q=1\r\n\r\n", 400},
    {P "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {P "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", 400},
    {P "Transfer-Encoding:\r\n\r\n", 400},
    {P "Transfer-Encoding: \x0b"
       "chunked\r\n\r\n",
     400},
    {P "Transfer-Encoding : chunked\r\n\r\n", 400},
    {P "Transfer-Encoding\t: chunked\r\n\r\n", 400},
    {P " Transfer-Encoding: chunked\r\n\r\n", 400},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    /* lines */
    {"GET / HTTP/1.1\nHost: h\n\n", 400},
    {"GET / HTTP/1.1\r\nHost: h\n\r\n", 400},
    {G "A: b\r\n\n", 400},
    {G "A: b\rC: d\r\n\r\n", 400},
    {G "A: b\r\r\n\r\n", 400},
    {G "A: b\r\n c\r\n\r\n", 400},
    {G "A: b\r\n\tc\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400},
    {G "A b: c\r\n\r\n", 400},
    {G "A(: c\r\n\r\n", 400},
    {G ": c\r\n\r\n", 400},
    {G "no colon\r\n\r\n", 400},
    {G "A: \x01\r\n\r\n", 400},
    {G "A: \x7f\r\n\r\n", 400},
    /* hosts and targets */
    {"GET / HTTP/1.1\r\n\r\n", 400},
    {G "Host: h\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400},
    {"GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"OPTIONS http://h* HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"GET /\x80 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    /* first lines */
    {"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 501},
    {"BREW / HTTP/1.1\r\nHost: h\r\n\r\n", 501},
    {"PRI * HTTP/2.0\r\n\r\n", 505},
    {"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505},
    {"GET / HTTP/0.9\r\n\r\n", 505},
    {"GET /\r\n\r\n", 400},
    {"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"GET /  HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", 400},
    {"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"GET / http/1.1\r\nHost: h\r\n\r\n", 400},
    {"get / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {" GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"\x16\x03\x01", 400},
    /* expectations */
    {G "Expect: magic\r\n\r\n", 417},
    {G "Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n", 417},
    /* chunks */
    {K "\r\n", 400},
    {K "g\r\n", 400},
    {K "0x3\r\nabc\r\n", 400},
    {K "+3\r\nabc\r\n", 400},
    {K " 3\r\nabc\r\n", 400},
    {K "3 \r\nabc\r\n", 400},
    {K "3\nabc\r\n", 400},
    {K "3\r\nabcd\r\n", 400},
    {K "3\r\nabc\n", 400},
    {K "3\r\nabc\r\r\n", 400},
    {K "3\r\nabc0\r\n\r\n", 400},
    {K "3;a\nb\r\nabc\r\n", 400},
    {K "3;\x01\r\nabc\r\n", 400},
    {K "3\rabc\r\n", 400},
    {K "1000000000000000\r\n", 400},
    {K "ffffffffffffffffff\r\n", 400},
    {K "0\r\nA: b\n\r\n", 400},
    {K "0\r\n A: b\r\n\r\n", 400},
    {K "0\r\nA b\r\n\r\n", 400},
    {K "0\r\nA : b\r\n\r\n", 400},
    {K "0\r\nA: b\r\n\n", 400},
    {K "0\r\n\rX", 400},
};

static void refuses_what_could_be_read_in_two_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        char want[64];
        int status = refused[i].status;
        struct buf out = whole(HTTP1_REQUEST, str_from(refused[i].in), false);
        snprintf(want, sizeof(want), "\nFAILED %s %d\n",
                 status == 501 || status == 505 ? "UNSUPPORTED" : "INVALID", status);
        if (!str_ends(buf_str(&out), str_from(want))) {
            fail_msg("row %zu: %s gave: %.*s", i, refused[i].in, STR(buf_str(&out)));
        }
        /* Nothing behind the fault is taken for another message. */
        assert_true(str_find(buf_str(&out), STR_LIT("END")) == out.len);
        buf_deinit(&out);
    }
    struct buf out = whole(HTTP1_REQUEST, STR_LIT(G "A: \0\r\n\r\n"), false);
    assert_true(str_ends(buf_str(&out), STR_LIT("FAILED INVALID 400\n")));
    buf_deinit(&out);
}

static void refuses_bad_responses(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "HTTP/1.1 99 x\r\n\r\n",
        "HTTP/1.1 600 x\r\n\r\n",
        "HTTP/1.1 2000 x\r\n\r\n",
        "HTTP/1.1 +20 x\r\n\r\n",
        "HTTP/1.1  200 x\r\n\r\n",
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "<html>",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = whole(HTTP1_RESPONSE, str_from(rows[i]), false);
        if (str_find(buf_str(&out), STR_LIT("FAILED")) == out.len) {
            fail_msg("accepted: %s", rows[i]);
        }
        buf_deinit(&out);
    }
}

/* "GET /aaa… HTTP/1.1", headers of given count and size. */
static struct buf make(size_t target, int n_headers, size_t value)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_add_cstr(&b, "GET /");
    for (size_t i = 1; i < target; i++) {
        buf_add_byte(&b, 'a');
    }
    buf_add_cstr(&b, " HTTP/1.1\r\nHost: h\r\n");
    for (int i = 1; i < n_headers; i++) {
        buf_add_printf(&b, "x%d: ", i);
        for (size_t k = 0; k < value; k++) {
            buf_add_byte(&b, 'v');
        }
        buf_add_cstr(&b, "\r\n");
    }
    buf_add_cstr(&b, "\r\n");
    return b;
}

static void keeps_its_limits(void **state)
{
    (void)state;
    static const struct {
        size_t target;
        int n_headers;
        size_t value;
        const char *end;
    } rows[] = {
        {HTTP_TARGET_BYTES_MAX, 1, 0, "\nEND\n"},
        {HTTP_TARGET_BYTES_MAX + 1, 1, 0, "\nFAILED HEADERS_TOO_LARGE 414\n"},
        {HTTP_TARGET_BYTES_MAX * 8, 1, 0, "\nFAILED HEADERS_TOO_LARGE 414\n"},
        {1, HTTP_HEADERS_MAX, 3, "\nEND\n"},
        {1, HTTP_HEADERS_MAX + 1, 3, "\nFAILED HEADERS_TOO_LARGE 431\n"},
        {1, 2, HTTP_HEAD_BYTES_MAX - 36, "\nEND\n"},
        {1, 2, HTTP_HEAD_BYTES_MAX, "\nFAILED HEADERS_TOO_LARGE 431\n"},
        {1, 40, 1000, "\nFAILED HEADERS_TOO_LARGE 431\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf in = make(rows[i].target, rows[i].n_headers, rows[i].value);
        for (int split = 0; split < 2; split++) {
            struct buf out;
            buf_init(&out, 1 << 22);
            struct run r = {.kind = HTTP1_REQUEST, .piece = split == 0 ? in.len : 999};
            run_stream(&r, buf_str(&in), &out);
            if (!str_ends(buf_str(&out), str_from(rows[i].end))) {
                fail_msg("row %zu ended: %.*s", i,
                         STR(str_slice(buf_str(&out), out.len - 40, out.len)));
            }
            buf_deinit(&out);
        }
        buf_deinit(&in);
    }
    /* Chunk extensions and trailers over their caps. */
    for (int trailer = 0; trailer < 2; trailer++) {
        struct buf in;
        buf_init(&in, 1 << 20);
        buf_add_cstr(&in, trailer ? K "0\r\nA: " : K "3;");
        for (int i = 0; i < 9000; i++) {
            buf_add_byte(&in, 'x');
        }
        struct buf out = whole(HTTP1_REQUEST, buf_str(&in), false);
        assert_true(str_ends(buf_str(&out), STR_LIT("FAILED INVALID 400\n")));
        buf_deinit(&out);
        buf_deinit(&in);
    }
}

static void pieces_make_no_difference(void **state)
{
    (void)state;
    struct str streams[ARRAY_LEN(refused) + 2];
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        streams[i] = str_from(refused[i].in);
    }
    streams[ARRAY_LEN(refused)] = STR_LIT("\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n" P
                                          "Content-Length: 4\r\n\r\nabcdGET /b HTTP/1.0\r\n\r\n");
    streams[ARRAY_LEN(refused) + 1] =
        STR_LIT(K "3;x\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nT: u\r\n\r\n" G "\r\n");
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        struct buf want = whole(HTTP1_REQUEST, streams[i], true);
        for (size_t cut = 0; cut <= streams[i].len; cut++) {
            struct buf out;
            buf_init(&out, 1 << 20);
            struct run r = {.kind = HTTP1_REQUEST, .cut = cut, .piece = cut == 0, .eof = true};
            run_stream(&r, streams[i], &out);
            if (!str_eq(buf_str(&out), buf_str(&want))) {
                fail_msg("stream %zu cut at %zu:\n%.*s\nwant:\n%.*s", i, cut, STR(buf_str(&out)),
                         STR(buf_str(&want)));
            }
            buf_deinit(&out);
        }
        buf_deinit(&want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_requests),
        cmocka_unit_test(reads_chunked_bodies),
        cmocka_unit_test(reads_responses),
        cmocka_unit_test(says_when_a_message_is_cut),
        cmocka_unit_test(refuses_what_could_be_read_in_two_ways),
        cmocka_unit_test(refuses_bad_responses),
        cmocka_unit_test(keeps_its_limits),
        cmocka_unit_test(pieces_make_no_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
