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

static RC write_caller_headers(struct buf *out, const struct http_reply *r, struct err *err)
{
    for (uint32_t i = 0; i < r->n_headers; i++) {
        if (http_exchange_is_reserved(r->headers[i].name)) {
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

/* --- the exchange's ops ---------------------------------------------------------------------- */

static RC reply_head(struct http_exchange *x, const struct http_reply *r, int64_t length,
                     struct err *err)
{
    struct http1_session *ss = http1_session_of(x);
    bool open_ended = length < 0 && r->status != 204 && r->status != 304;
    bool chunked = open_ended && x->head->minor == 1;
    bool close_before = ss->close_after;
    ss->close_after = ss->close_after || (open_ended && !chunked);
    enum rc rc = write_head(ss, r, length, chunked, err);
    if (rc != RC_OK) {
        ss->close_after = close_before;
        return rc;
    }
    x->chunked = chunked;
    conn_write(ss->conn, buf_str(&ss->server->scratch));
    return RC_OK;
}

static void reply_body(struct http_exchange *x, struct str bytes)
{
    struct conn *c = x->conn;
    if (!x->chunked) {
        conn_write(c, bytes);
        return;
    }
    char size[24];
    int n = snprintf(size, sizeof(size), "%zx\r\n", bytes.len);
    ASSERT(n > 0 && n < (int)sizeof(size));
    conn_write(c, str_make(size, (size_t)n));
    conn_write(c, bytes);
    conn_write(c, STR_LIT("\r\n"));
}

static void reply_end(struct http_exchange *x)
{
    struct http1_session *ss = http1_session_of(x);
    if (x->chunked && !x->no_body) {
        conn_write(x->conn, STR_LIT("0\r\n\r\n"));
    }
    loop_defer(ss->server->loop, &ss->check);
}

static void reply_abort(struct http_exchange *x)
{
    conn_close(x->conn, RC_CANCELLED);
}

static bool reply_is_writable(const struct http_exchange *x)
{
    return conn_is_writable(x->conn);
}

const struct http_exchange_ops http1_exchange_ops = {
    .head = reply_head,
    .body = reply_body,
    .end = reply_end,
    .abort = reply_abort,
    .resume = http1_body_resume,
    .is_writable = reply_is_writable,
};

/* --- the server's own answers -------------------------------------------------------------- */

void http1_reply_error(struct http1_session *ss, int status, const char *msg)
{
    struct http_server *s = ss->server;
    struct buf body;
    buf_init(&body, HTTP1_ERROR_BYTES_MAX);
    http_exchange_error_body(s, &body, status, msg);
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
