/* answer_reader.c: a client that is given what lies in an answer, as it comes: the first one, one
 * that joins, one that asks again, one that goes on behind an event it has seen. Streams carry the
 * number of each event as its id.
 *
 * A comment is a line of the block that comes next, without an empty line of its own: clients keep
 * the last id, and official SDKs take an empty line behind any as an event, one without data. */
#include "gateway/answer_exchange.h"

#include "api/stream.h"
#include "base/assert.h"
#include "base/mem.h"
#include "gateway/stages.h"

enum {
    READER_HEADERS_MAX = 2 * GW_HEADERS_MAX,
    READER_BLOCK_BYTES_MAX = 64 << 20,
};

/* ---- the head ---- */

/* Whether a line that was kept is sent again: not what is said anew of this request. */
static bool reader_repeats(const struct gw_headers *own, struct str name)
{
    for (uint32_t i = 0; i < own->n; i++) {
        if (str_eq(own->rows[i].name, name)) {
            return false;
        }
    }
    return !str_starts(name, STR_LIT("x-ratelimit-"));
}

/* The first client gets the lines as they were; others their own, and which request's these are. */
static uint32_t reader_lines(struct gw_request *r, const struct answer_head *head,
                             struct http_header out[READER_HEADERS_MAX], struct gw_headers *own)
{
    bool first = r->reader->first;
    struct str rest = head->lines;
    uint32_t n = 0;
    own->n = 0;
    if (!first) {
        gw_headers_init(own, r, head->stream ? GW_STREAM_TYPE : "application/json");
        gw_header(own, "idempotent-replayed", "true");
        memcpy(out, own->rows, own->n * sizeof(out[0]));
        n = own->n;
    }
    while (rest.len > 0 && n < READER_HEADERS_MAX) {
        struct str value = str_cut(&rest, '\n');
        struct str name = str_cut(&value, ':');
        value = str_slice(value, 1, value.len);
        if (first || reader_repeats(own, name)) {
            out[n++] = (struct http_header){name, value};
        } else if (str_is(name, "x-request-id")) {
            out[n++] = (struct http_header){STR_LIT("original-request"), value};
        }
    }
    return n;
}

static void reader_begin(struct gw_request *r, const struct answer_head *head)
{
    struct http_header lines[READER_HEADERS_MAX];
    struct gw_headers own;
    struct http_reply reply = {.status = head->status,
                               .headers = lines,
                               .n_headers = reader_lines(r, head, lines, &own),
                               .length_known = head->length >= 0,
                               .body_bytes = head->length >= 0 ? (uint64_t)head->length : 0};
    r->reader->sent_head = true;
    r->reader->stream = r->begun = head->stream;
    r->attempt->status = head->status;
    r->failed = head->status >= 400;
    if (http_exchange_begin(r->x, &reply, NULL) != RC_OK) {
        http_exchange_abort(r->x);
        r->ended = true;
    }
}

/* ---- the blocks ---- */

static void reader_restart_silence(struct gw_request *r)
{
    if (r->reader->stream) {
        loop_timer_start(&r->reader->ping_timer, r->gateway->conf.ping_ms);
    }
}

static void reader_on_silence(void *ctx)
{
    struct gw_request *r = ctx;
    if (r->x == NULL || r->ended) {
        return;
    }
    struct buf out;
    buf_init(&out, 1024);
    api_stream_ping(&out);
    http_exchange_write(r->x, str_slice(buf_str(&out), 0, out.len - 1));
    buf_deinit(&out);
    reader_restart_silence(r);
}

/* The next block with its id before it, written at once: "id: …\ndata: …\n\n". */
static enum answer_next reader_send(struct gw_request *r, struct buf *out)
{
    struct answer_reader *reader = r->reader;
    bool comment = false;
    char id[ANSWER_EVENT_ID_BYTES];
    buf_reset(out);
    if (reader->stream) {
        answer_event_id(reader->answer, reader->party.at, id);
        buf_add_cstr(out, "id: ");
        buf_add_cstr(out, id);
        buf_add_byte(out, '\n');
    }
    size_t line = out->len;
    enum answer_next next = answer_read(&reader->party, out, &comment);
    if (next == ANSWER_BLOCK) {
        struct str event = buf_str(out);
        http_exchange_write(r->x, comment ? str_slice(event, line, out->len - 1) : event);
    }
    return next;
}

static void reader_fail(struct gw_request *r, enum answer_next why)
{
    if (why == ANSWER_CUT) {
        err_set(&r->err, RC_OVERLOADED,
                "The answer was read too slowly: what comes next is not kept any more.");
    } else if (why == ANSWER_INTERRUPTED) {
        err_set(&r->err, RC_INTERRUPTED,
                "The answer was interrupted: the gateway that made it has gone, or what comes next "
                "is not kept any more. The same request begins it anew.");
    } else {
        err_set(&r->err, RC_UNAVAILABLE, "The request that made this answer was given up.");
    }
    if (r->reader->sent_head && (!r->reader->stream || why == ANSWER_BROKEN)) {
        http_exchange_abort(r->x); /* the client must see the cut */
        r->failed = r->ended = true;
        return;
    }
    stages_resume(r, GW_FAIL);
}

static void reader_end(struct gw_request *r)
{
    http_exchange_end(r->x);
    stages_resume(r, GW_DONE);
}

static void reader_take(struct gw_request *r)
{
    enum answer_next next = ANSWER_BLOCK;
    struct buf block;
    buf_init(&block, READER_BLOCK_BYTES_MAX);
    while (next == ANSWER_BLOCK && !r->ended && http_exchange_is_writable(r->x)) {
        next = reader_send(r, &block);
    }
    buf_deinit(&block);
    if (next == ANSWER_END) {
        reader_end(r);
    } else if (next != ANSWER_BLOCK && next != ANSWER_WAIT) {
        reader_fail(r, next);
    } else {
        reader_restart_silence(r);
    }
}

static void reader_on_news(void *ctx)
{
    struct gw_request *r = ctx;
    struct answer_head head;
    enum answer_next why;
    if (r->x == NULL || r->ended) {
        return;
    }
    if (!r->reader->sent_head && answer_head(r->reader->answer, &head)) {
        reader_begin(r, &head);
    }
    if (r->reader->sent_head && !r->ended) {
        reader_take(r);
    } else if (!r->ended && answer_is_broken(r->reader->answer, &why)) {
        reader_fail(r, why);
    }
}

void answer_reader_writable(struct gw_request *r)
{
    if (r->reader->sent_head) {
        reader_on_news(r);
    }
}

/* ---- life ---- */

RC answer_reader_start(struct gw_request *r, struct answer *a, uint64_t from, bool first)
{
    ASSERT(r->reader == NULL);
    r->reader = mem_try_zalloc(sizeof(*r->reader));
    if (r->reader == NULL) {
        return RC_NOMEM;
    }
    r->reader->answer = a;
    r->reader->first = first;
    loop_timer_init(&r->reader->ping_timer, r->gateway->loop, reader_on_silence, r);
    answer_join(&r->reader->party, a, r->gateway->hub, from, reader_on_news, r);
    return RC_OK;
}

void answer_reader_stop(struct gw_request *r)
{
    if (r->reader != NULL) {
        loop_timer_stop(&r->reader->ping_timer);
        answer_leave(&r->reader->party);
        mem_free(r->reader);
        r->reader = NULL;
    }
}
