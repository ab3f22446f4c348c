/* answer_writer.c: an exchange whose client is the store of answers. The stages call it as they
 * call any (net/http_exchange.h); what they send becomes the answer's blocks. Comments that only
 * keep a connection awake are not kept: readers make their own. */
#include "gateway/answer_exchange.h"

#include "api/stream.h"
#include "base/assert.h"
#include "base/mem.h"
#include "gateway/stages.h"

enum {
    ANSWER_PIECE_BYTES = 256 << 10,      /* of a whole reply */
    ANSWER_PENDING_BYTES_MAX = 64 << 20, /* the stages write whole events */
};

static struct answer_writer *writer_of(const struct http_exchange *x)
{
    return CONTAINER_OF(x, struct answer_writer, x);
}

/* ---- its end ---- */

static void writer_close(void *ctx)
{
    struct answer_writer *w = ctx;
    list_remove(&w->node);
    w->x.live = false;
    w->x.ev->on_close(w->x.ctx, w->closed_with);
    loop_timer_stop(&w->unread_timer);
    buf_deinit(&w->pending);
    answer_put(w->answer);
    mem_free(w);
}

/* on_close comes at the end of the turn, as from any exchange. */
static void writer_finish(struct answer_writer *w, enum answer_how how, bool cut, enum rc rc)
{
    w->over = true;
    w->closed_with = rc;
    answer_end(&w->party, how, cut);
    loop_timer_stop(&w->unread_timer);
    loop_defer(w->work->gateway->loop, &w->close_task);
}

static void writer_abort(struct http_exchange *x)
{
    struct answer_writer *w = writer_of(x);
    if (!w->over) {
        writer_finish(w, w->begun ? ANSWER_FAILED : ANSWER_DROPPED, true, RC_CANCELLED);
    }
}

/* What may be different the next time is not kept: who asks again is to have a chance. */
static enum answer_how writer_how(const struct answer_writer *w, int status)
{
    const struct gw_request *r = w->work;
    if (w->stream) {
        return r->failed ? ANSWER_FAILED : ANSWER_DONE;
    }
    bool passing = status >= 500 || status == 429 || status == 408 || r->err.code != RC_OK;
    return passing ? ANSWER_DROPPED : ANSWER_DONE;
}

static void writer_end(struct http_exchange *x)
{
    struct answer_writer *w = writer_of(x);
    struct answer_head head;
    if (!w->over) {
        bool begun = answer_head(w->answer, &head);
        ASSERT(begun);
        writer_finish(w, writer_how(w, head.status), false, RC_OK);
    }
}

/* ---- what the stages send ---- */

static RC writer_head(struct http_exchange *x, const struct http_reply *r, int64_t length,
                      struct err *err)
{
    struct answer_writer *w = writer_of(x);
    struct buf lines;
    buf_init(&lines, ANSWER_HEAD_BYTES_MAX);
    for (uint32_t i = 0; i < r->n_headers; i++) {
        const struct http_header *h = &r->headers[i];
        w->stream = w->stream || (str_is(h->name, "content-type") &&
                                  str_starts(h->value, STR_LIT("text/event-stream")));
        buf_add_str(&lines, h->name);
        buf_add_cstr(&lines, ": ");
        buf_add_str(&lines, h->value);
        buf_add_byte(&lines, '\n');
    }
    const struct answer_head head = {
        .status = r->status, .length = length, .stream = w->stream, .lines = buf_str(&lines)};
    enum rc rc = buf_ok(&lines) && !w->over ? answer_begin(w->answer, &head) : RC_TOO_LARGE;
    buf_deinit(&lines);
    w->begun = rc == RC_OK;
    return rc == RC_OK ? rc : err_set(err, rc, "a head that cannot be kept");
}

static void writer_append(struct answer_writer *w, struct str bytes, bool comment)
{
    if (!w->over && answer_append(w->answer, bytes, comment) != RC_OK) {
        http_exchange_abort(&w->x);
    }
}

static bool writer_is_ping(struct str block)
{
    struct buf ping;
    buf_init(&ping, 64);
    api_stream_ping(&ping);
    bool is = str_eq(block, buf_str(&ping));
    buf_deinit(&ping);
    return is;
}

/* An event or comment ends with an empty line. */
static void writer_stream(struct answer_writer *w)
{
    struct str rest = buf_str(&w->pending);
    size_t end;
    while ((end = str_find(rest, STR_LIT("\n\n"))) < rest.len) {
        struct str block = str_slice(rest, 0, end + 2);
        bool comment = block.ptr[0] == ':';
        if (!comment || !writer_is_ping(block)) {
            writer_append(w, block, comment);
        }
        rest = str_slice(rest, end + 2, rest.len);
    }
    buf_drop_front(&w->pending, w->pending.len - rest.len);
}

static void writer_body(struct http_exchange *x, struct str bytes)
{
    struct answer_writer *w = writer_of(x);
    if (w->over) {
        return;
    }
    if (w->stream) {
        buf_add_str(&w->pending, bytes);
        if (buf_ok(&w->pending)) {
            writer_stream(w);
        } else {
            http_exchange_abort(x);
        }
        return;
    }
    while (bytes.len > 0) {
        writer_append(w, str_slice(bytes, 0, ANSWER_PIECE_BYTES), false);
        bytes = str_slice(bytes, ANSWER_PIECE_BYTES, bytes.len);
    }
}

static bool writer_is_writable(const struct http_exchange *x)
{
    const struct answer_writer *w = writer_of(x);
    return w->over || !answer_is_full(w->answer);
}

static void writer_resume(struct http_exchange *x)
{
    UNUSED(x); /* its body has been read */
}

static const struct http_exchange_ops writer_ops = {.head = writer_head,
                                                    .body = writer_body,
                                                    .end = writer_end,
                                                    .abort = writer_abort,
                                                    .resume = writer_resume,
                                                    .is_writable = writer_is_writable};

/* ---- its readers ---- */

static void writer_on_news(void *ctx)
{
    struct answer_writer *w = ctx;
    if (w->over) {
        return;
    }
    if (answer_n_readers(w->answer) == 0) {
        loop_timer_start(&w->unread_timer, w->unread_ms);
    }
    if (!answer_is_full(w->answer)) {
        w->x.ev->on_writable(w->x.ctx);
    }
}

static void writer_on_unread(void *ctx)
{
    struct answer_writer *w = ctx;
    if (!w->over && answer_n_readers(w->answer) == 0) {
        w->x.aborted = true;
        writer_finish(w, ANSWER_DROPPED, true, RC_CANCELLED);
    }
}

void answer_writers_give_up(struct gateway *g)
{
    LIST_EACH(&g->writers, n)
    {
        struct answer_writer *w = LIST_ENTRY(n, struct answer_writer, node);
        if (!w->over) {
            http_exchange_abort(&w->x);
        }
        loop_task_cancel(&w->close_task);
        writer_close(w);
    }
}

/* ---- its beginning ---- */

static void writer_drop(struct answer *a, struct answer_hub *hub)
{
    struct answer_party p;
    answer_write(&p, a, hub, NULL, NULL);
    answer_end(&p, ANSWER_DROPPED, true);
    answer_put(a);
}

struct answer_writer *answer_writer_create(struct gw_request *r, struct answer *a,
                                           uint64_t unread_ms)
{
    struct gateway *g = r->gateway;
    struct answer_writer *w = mem_try_zalloc(sizeof(*w));
    struct gw_request *work = w != NULL ? stages_fork(r, &w->x) : NULL;
    if (work == NULL) {
        mem_free(w);
        writer_drop(a, g->hub);
        return NULL;
    }
    const struct http_head *head = http_exchange_head(r->x);
    w->head =
        (struct http_head){.method = head->method, .path = arena_str(&work->arena, head->path)};
    if (w->head.path.ptr == NULL) {
        w->head.path = STR_LIT("");
    }
    w->peer = *http_exchange_peer(r->x);
    w->x.ops = &writer_ops;
    w->x.head = &w->head;
    w->x.peer = &w->peer;
    w->x.live = true;
    w->x.ev = stages_events();
    w->x.ctx = work;
    w->work = work;
    w->answer = a;
    w->unread_ms = unread_ms;
    buf_init(&w->pending, ANSWER_PENDING_BYTES_MAX);
    loop_timer_init(&w->unread_timer, g->loop, writer_on_unread, w);
    loop_task_init(&w->close_task, writer_close, w);
    answer_write(&w->party, a, g->hub, writer_on_news, w);
    list_push_back(&g->writers, &w->node);
    return w;
}
