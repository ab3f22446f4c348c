/* http1_reply.c: the answer of an exchange in HTTP/1.1 bytes: heads, chunked coding, ends.
 *
 * The server alone writes date, connection, content-length and transfer-encoding: a caller that
 * could set them could make two readers see different messages. */
#include "net/http1.h"

#include <stdio.h>

#include "base/assert.h"

/* A body of the server's own; longer ones are cut to what fitted. */
enum { HTTP1_ERROR_BYTES_MAX = 4 << 10 };

/* --- heads -------------------------------------------------------------------------------- */

static bool is_reserved(struct str name)
{
    return str_eq_nocase(name, STR_LIT("date")) || str_eq_nocase(name, STR_LIT("connection")) ||
           str_eq_nocase(name, STR_LIT("content-length")) ||
           str_eq_nocase(name, STR_LIT("transfer-encoding"));
}

static RC write_caller_headers(struct buf *out, const struct http_reply *r, struct err *err)
{
    for (uint32_t i = 0; i < r->n_headers; i++) {
        if (is_reserved(r->headers[i].name)) {
            return err_set(err, RC_INVALID, "header %.*s is the server's to write",
                           STR(r->headers[i].name));
        }
        enum rc rc = http_write_header(out, r->headers[i].name, r->headers[i].value, err);
        if (rc != RC_OK) {
            return rc;
        }
    }
    return RC_OK;
}

/* Lines that the server adds; `length` < 0: chunked or close-delimited. */
static void write_own_headers(struct http1_session *ss, struct buf *out, int64_t length,
                              bool chunked)
{
    buf_add_str(out, STR_LIT("date: "));
    buf_add_str(out, http_server_date(ss->server));
    buf_add(out, "\r\n", 2);
    if (http1_must_close(ss)) {
        ss->close_after = true;
        buf_add_cstr(out, "connection: close\r\n");
    } else if (ss->x.head->minor == 0) {
        buf_add_cstr(out, "connection: keep-alive\r\n");
    }
    if (chunked) {
        buf_add_cstr(out, "transfer-encoding: chunked\r\n");
    } else if (length >= 0) {
        buf_add_str(out, STR_LIT("content-length: "));
        buf_add_u64(out, (uint64_t)length);
        buf_add(out, "\r\n", 2);
    }
    http_write_end(out);
}

/* Puts the whole head into the scratch buffer; nothing of the exchange has changed on failure. */
static RC write_head(struct http1_session *ss, const struct http_reply *r, int64_t length,
                     bool chunked, struct err *err)
{
    struct buf *out = &ss->server->scratch;
    buf_reset(out);
    if (r->status < 200) {
        return err_set(err, RC_INVALID, "status %d is not a final one", r->status);
    }
    enum rc rc = http_write_status(out, r->status, err);
    rc = rc != RC_OK ? rc : write_caller_headers(out, r, err);
    if (rc != RC_OK) {
        return rc;
    }
    write_own_headers(ss, out, length, chunked);
    if (!buf_ok(out)) {
        return err_set(err, RC_INVALID, "the answer's head is over %d bytes", HTTP_HEAD_BYTES_MAX);
    }
    return RC_OK;
}

static bool status_has_body(int status)
{
    return status != 204 && status != 304;
}

/* --- the handler's calls on the way out ---------------------------------------------------- */

static void exchange_ended(struct http_exchange *x)
{
    struct http1_session *ss = http1_session_of(x);
    x->ended = true;
    loop_defer(ss->server->loop, &ss->check);
}

RC http_exchange_reply(struct http_exchange *x, const struct http_reply *r, struct err *err)
{
    struct http1_session *ss = http1_session_of(x);
    ASSERT(x->live && !x->begun);
    int64_t length = status_has_body(r->status) ? (int64_t)r->body.len : -1;
    enum rc rc = write_head(ss, r, length, false, err);
    if (rc != RC_OK) {
        return rc;
    }
    x->begun = true;
    conn_write(ss->conn, buf_str(&ss->server->scratch));
    if (status_has_body(r->status) && x->head->method != HTTP_METHOD_HEAD) {
        conn_write(ss->conn, r->body);
    }
    exchange_ended(x);
    return RC_OK;
}

RC http_exchange_begin(struct http_exchange *x, const struct http_reply *r, struct err *err)
{
    struct http1_session *ss = http1_session_of(x);
    ASSERT(x->live && !x->begun);
    bool body = status_has_body(r->status);
    bool counted = body && r->length_known;
    bool chunked = body && !counted && x->head->minor == 1;
    bool to_close = body && !counted && !chunked;
    if (counted && r->body_bytes > INT64_MAX) {
        return err_set(err, RC_INVALID, "content-length out of range");
    }
    bool close_before = ss->close_after;
    ss->close_after = ss->close_after || to_close;
    enum rc rc = write_head(ss, r, counted ? (int64_t)r->body_bytes : -1, chunked, err);
    if (rc != RC_OK) {
        ss->close_after = close_before;
        return rc;
    }
    x->begun = true;
    x->no_body = !body || x->head->method == HTTP_METHOD_HEAD;
    x->chunked = chunked;
    x->counted = counted && !x->no_body;
    x->left_bytes = r->body_bytes;
    conn_write(ss->conn, buf_str(&ss->server->scratch));
    return RC_OK;
}

void http_exchange_write(struct http_exchange *x, struct str bytes)
{
    struct http1_session *ss = http1_session_of(x);
    ASSERT(x->begun && !x->ended);
    if (x->no_body || bytes.len == 0) {
        return;
    }
    if (x->counted) {
        if (bytes.len > x->left_bytes) {
            http_exchange_abort(x); /* more than was promised would run into the next answer */
            return;
        }
        x->left_bytes -= bytes.len;
    }
    if (!x->chunked) {
        conn_write(ss->conn, bytes);
        return;
    }
    char size[24];
    int n = snprintf(size, sizeof(size), "%zx\r\n", bytes.len);
    ASSERT(n > 0 && n < (int)sizeof(size));
    conn_write(ss->conn, str_make(size, (size_t)n));
    conn_write(ss->conn, bytes);
    conn_write(ss->conn, STR_LIT("\r\n"));
}

void http_exchange_end(struct http_exchange *x)
{
    struct http1_session *ss = http1_session_of(x);
    ASSERT(x->begun && !x->ended);
    if (x->counted && x->left_bytes > 0) {
        http_exchange_abort(x); /* less than was promised: the client must see the cut */
        return;
    }
    if (x->chunked && !x->no_body) {
        conn_write(ss->conn, STR_LIT("0\r\n\r\n"));
    }
    exchange_ended(x);
}

void http_exchange_abort(struct http_exchange *x)
{
    ASSERT(x->live);
    x->aborted = true;
    conn_close(http1_session_of(x)->conn, RC_CANCELLED);
}

bool http_exchange_has_begun(const struct http_exchange *x)
{
    return x->begun;
}

bool http_exchange_is_writable(const struct http_exchange *x)
{
    return conn_is_writable(http1_session_of(x)->conn);
}

/* --- the server's own answers -------------------------------------------------------------- */

void http1_reply_error(struct http1_session *ss, int status, const char *msg)
{
    struct http_server *s = ss->server;
    struct buf body;
    buf_init(&body, HTTP1_ERROR_BYTES_MAX);
    if (s->conf.error_format != NULL) {
        s->conf.error_format(&body, status, msg);
    } else {
        buf_add_printf(&body, "%s\n", msg);
    }
    struct str date = http_server_date(s);
    buf_reset(&s->scratch);
    buf_add_printf(&s->scratch,
                   "HTTP/1.1 %d %s\r\ncontent-type: %.*s\r\ndate: %.*s\r\nconnection: close\r\n"
                   "content-length: %zu\r\n\r\n",
                   status, http_status_text(status), STR(s->conf.error_type), STR(date), body.len);
    buf_add_str(&s->scratch, buf_str(&body));
    conn_write(ss->conn, buf_str(&s->scratch));
    buf_deinit(&body);
    ss->close_after = true;
    conn_end(ss->conn);
}
