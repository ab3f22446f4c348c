/* conn_tls.c: TLS of one connection: its handshake, opening what comes, sealing what goes. */
#include "base/assert.h"
#include "net/conn_private.h"
#include "obs/log.h"
#include "obs/metric.h"

void conn_note_refusal(const struct conn *c, enum tls_why why)
{
    char peer[ADDR_TEXT_BYTES];
    const char *side = c->on_ready != NULL ? "server" : "client";
    const struct str labels[] = {str_from(side), str_from(tls_why_name(why))};
    metric_add(metric_with(METRIC_TLS_REFUSED, labels), 1);
    log_event(LOG_TLS_REFUSED, log_cstr("side", side), log_cstr("reason", tls_why_name(why)),
              log_cstr(LOG_KEY_ADDRESS, addr_format_host(&c->peer, peer)));
}

/* A browser or a proxy that was told http:// learns so in words that it understands. */
#define CONN_PLAIN_ANSWER                                                                          \
    "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n"                \
    "content-length: 48\r\n\r\nThis port speaks HTTPS: use https:// to reach it"

/* The handshake has failed. The peer is told; an accepted connection then ends like any other, so
 * that unread input does not destroy the alert. */
static void conn_greet_failed(struct conn *c)
{
    enum tls_why why = tls_link_why(c->tls);
    conn_note_refusal(c, why);
    c->greeting = false;
    loop_timer_stop(&c->timer);
    if (why == TLS_WHY_PLAIN) {
        buf_reset(tls_link_wire(c->tls));
        buf_add_cstr(tls_link_wire(c->tls), CONN_PLAIN_ANSWER);
    }
    conn_flush(c);
    if (c->on_ready != NULL) {
        conn_end(c);
    } else {
        conn_close(c, RC_UNAVAILABLE);
    }
}

bool conn_greet(struct conn *c)
{
    enum tls_step step = tls_link_greet(c->tls);
    if (step == TLS_FAILED) {
        conn_greet_failed(c);
        return false;
    }
    conn_flush(c);
    if (step != TLS_OPEN || c->closing) {
        return false;
    }
    c->greeting = false;
    loop_timer_stop(&c->timer);
    if (c->writing) { /* of the handshake's last words */
        loop_timer_start(&c->timer, c->conf.write_stall_ms);
    }
    if (c->on_ready != NULL) {
        list_remove(&c->stranger);
        c->on_ready(c->release_ctx, c);
        ASSERT(c->ev != NULL || c->closing);
    } else if (c->ev->on_open != NULL) {
        c->ev->on_open(c->ctx);
    }
    loop_defer(c->loop, &c->turn); /* what was written while greeting */
    return !c->closing;
}

void conn_unseal(struct conn *c, struct str wire)
{
    if (tls_link_why(c->tls) != TLS_WHY_NOTHING) {
        return; /* ends: what the peer still says is nobody's */
    }
    tls_link_feed(c->tls, wire);
    if (c->greeting && !conn_greet(c)) {
        return;
    }
    enum tls_step step = TLS_OPEN;
    while (step == TLS_OPEN && !c->closing) {
        size_t n;
        step = tls_link_read(c->tls, loop_scratch_plain(c->loop), LOOP_SCRATCH_BYTES, &n);
        if (step == TLS_OPEN && !c->ending) { /* input of an ending connection is dropped */
            conn_input(c, str_make(loop_scratch_plain(c->loop), n));
        }
    }
    if (step == TLS_ENDED) {
        uv_read_stop(&c->uv.stream);
        c->reading = false;
        c->eof = true;
    } else if (step == TLS_FAILED) {
        log_event(LOG_CONN_FAIL, log_cstr("reason", tls_why_name(tls_link_why(c->tls))));
        conn_close(c, c->shut ? RC_OK : RC_CANCELLED);
    }
}

bool conn_was_cut(const struct conn *c)
{
    return c->tls != NULL && c->on_ready == NULL && !c->greeting && !c->ending;
}

struct buf *conn_seal(struct conn *c)
{
    if (!c->greeting && c->out.len > 0) {
        enum rc rc = tls_link_write(c->tls, buf_str(&c->out));
        conn_buf_renew(c, &c->out);
        if (rc != RC_OK) {
            conn_close(c, rc == RC_NOMEM ? RC_NOMEM : RC_CANCELLED);
        }
    }
    return tls_link_wire(c->tls);
}
