/* http_exchange.c: the handler's calls, and the rules of an exchange that no protocol changes: who
 * may call what when, how long an answer's body is, what becomes of a request's body. */
#include "net/http_exchange.h"

#include "base/assert.h"
#include "obs/metric.h"

/* --- the protocols' side ------------------------------------------------------------------- */

void http_exchange_handle(struct http_server *s, struct http_exchange *x)
{
    x->live = true;
    x->handling = true;
    x->begun_ms = loop_now_ms(s->loop);
    s->stats.n_requests++;
    s->stats.n_exchanges_open++;
    s->conf.handler(s->conf.handler_ctx, x);
    x->handling = false;
    ASSERT(x->begun || x->ev != NULL || x->aborted); /* the handler's promise */
    if (http_exchange_wants_body(x)) {
        buf_init(&x->body, x->body_bytes_max);
    }
}

void http_exchange_close(struct http_server *s, struct http_exchange *x, enum rc rc)
{
    ASSERT(x->live);
    x->live = false;
    s->stats.n_exchanges_open--;
    if (x->ev != NULL) {
        x->ev->on_close(x->ctx, rc);
    }
}

RC http_exchange_take_body(struct http_exchange *x, struct str piece)
{
    if (x->body_seen_bytes > x->body_bytes_max) {
        return RC_TOO_LARGE;
    }
    if (x->mode == HTTP_BODY_STREAM) {
        x->ev->on_body(x->ctx, piece);
        return RC_OK;
    }
    buf_add_str(&x->body, piece);
    return buf_ok(&x->body) ? RC_OK : RC_NOMEM;
}

void http_exchange_end_body(struct http_exchange *x, enum rc rc)
{
    if (!http_exchange_wants_body(x)) {
        return;
    }
    if (rc == RC_OK && x->mode == HTTP_BODY_COLLECT) {
        x->ev->on_body(x->ctx, buf_str(&x->body));
    }
    x->ev->on_body_end(x->ctx, rc);
}

uint64_t http_exchange_left_ms(const struct http_server *s, const struct http_exchange *x)
{
    uint64_t lasted = loop_now_ms(s->loop) - x->begun_ms;
    return s->conf.total_ms - MIN(lasted, s->conf.total_ms);
}

bool http_exchange_is_reserved(struct str name)
{
    switch (name.len) { /* most names differ in length already */
    case 4:
        return str_eq_nocase(name, STR_LIT("date"));
    case 10:
        return str_eq_nocase(name, STR_LIT("connection"));
    case 14:
        return str_eq_nocase(name, STR_LIT("content-length"));
    case 17:
        return str_eq_nocase(name, STR_LIT("transfer-encoding"));
    default:
        return false;
    }
}

void http_exchange_error_body(const struct http_server *s, struct buf *out, int status,
                              const char *msg)
{
    if (s->conf.error_format != NULL) {
        s->conf.error_format(out, status, msg);
    } else {
        buf_add_printf(out, "%s\n", msg);
    }
}

void http_server_note_refusal(const char *reason)
{
    metric_add(metric_with1(METRIC_HTTP_REFUSED, str_from(reason)), 1);
}

/* --- the handler's calls on the way in ----------------------------------------------------- */

const struct http_head *http_exchange_head(const struct http_exchange *x)
{
    return x->head;
}

struct arena *http_exchange_arena(struct http_exchange *x)
{
    return &x->arena;
}

const struct addr *http_exchange_peer(const struct http_exchange *x)
{
    return x->conn != NULL ? conn_peer(x->conn) : x->peer;
}

void http_exchange_accept(struct http_exchange *x, enum http_body_mode mode, size_t body_bytes_max,
                          const struct http_exchange_events *ev, void *ctx)
{
    ASSERT(x->live && x->ev == NULL && x->handling);
    ASSERT(ev->on_close != NULL);
    ASSERT(mode == HTTP_BODY_DROP || (ev->on_body != NULL && ev->on_body_end != NULL));
    x->mode = mode;
    x->body_bytes_max = body_bytes_max;
    x->ev = ev;
    x->ctx = ctx;
}

void http_exchange_body_pause(struct http_exchange *x)
{
    x->body_paused = true;
}

void http_exchange_body_resume(struct http_exchange *x)
{
    x->body_paused = false;
    x->ops->resume(x);
}

/* --- the handler's calls on the way out ---------------------------------------------------- */

static bool status_has_body(int status)
{
    return status != 204 && status != 304;
}

static RC answer_head(struct http_exchange *x, const struct http_reply *r, int64_t length,
                      struct err *err)
{
    ASSERT(x->live && !x->begun);
    if (r->status < 200) {
        return err_set(err, RC_INVALID, "status %d is not a final one", r->status);
    }
    x->no_body = !status_has_body(r->status) || x->head->method == HTTP_METHOD_HEAD;
    enum rc rc = x->ops->head(x, r, length, err);
    x->begun = rc == RC_OK;
    return rc;
}

RC http_exchange_reply(struct http_exchange *x, const struct http_reply *r, struct err *err)
{
    int64_t length = status_has_body(r->status) ? (int64_t)r->body.len : -1;
    enum rc rc = answer_head(x, r, length, err);
    if (rc != RC_OK) {
        return rc;
    }
    if (!x->no_body && r->body.len > 0) {
        x->ops->body(x, r->body);
    }
    x->ended = true;
    x->ops->end(x);
    return RC_OK;
}

RC http_exchange_begin(struct http_exchange *x, const struct http_reply *r, struct err *err)
{
    bool counted = status_has_body(r->status) && r->length_known;
    if (counted && r->body_bytes > INT64_MAX) {
        return err_set(err, RC_INVALID, "content-length out of range");
    }
    enum rc rc = answer_head(x, r, counted ? (int64_t)r->body_bytes : -1, err);
    x->counted = rc == RC_OK && counted && !x->no_body;
    x->left_bytes = r->body_bytes;
    return rc;
}

void http_exchange_write(struct http_exchange *x, struct str bytes)
{
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
    x->ops->body(x, bytes);
}

void http_exchange_end(struct http_exchange *x)
{
    ASSERT(x->begun && !x->ended);
    if (x->counted && x->left_bytes > 0) {
        http_exchange_abort(x); /* less than was promised: the client must see the cut */
        return;
    }
    x->ended = true;
    x->ops->end(x);
}

void http_exchange_abort(struct http_exchange *x)
{
    ASSERT(x->live);
    x->aborted = true;
    x->ops->abort(x);
}

bool http_exchange_has_begun(const struct http_exchange *x)
{
    return x->begun;
}

bool http_exchange_is_writable(const struct http_exchange *x)
{
    return x->ops->is_writable(x);
}
