/* reply.c: the head fields that every answer of the front door carries, and its errors. */
#include "api/fail.h"
#include "base/clock.h"
#include "gateway/stages.h"

/* "auth;dur=0.012, ", the time in milliseconds. */
static size_t gw_timing(char *out, struct str name, uint64_t ns)
{
    uint64_t us = ns / 1000u;
    size_t n = name.len;
    memcpy(out, name.ptr, n);
    memcpy(out + n, ";dur=", 5);
    n += 5;
    n += str_put_u64(out + n, us / 1000u);
    out[n++] = '.';
    out[n++] = (char)('0' + us / 100u % 10u);
    out[n++] = (char)('0' + us / 10u % 10u);
    out[n++] = (char)('0' + us % 10u);
    memcpy(out + n, ", ", 2);
    return n + 2;
}

/* The longest name and number of every stage, and of the total. */
_Static_assert(sizeof(((struct gw_headers *)0)->timing) >= (GW_STAGE_N + 1) * (8 + 5 + 24 + 2),
               "room");

/* Of every stage so far, with ", " behind each. */
static size_t gw_timings(char *out, const struct gw_request *r, uint64_t now)
{
    size_t used = 0;
    for (unsigned i = 0; i < GW_STAGE_N; i++) {
        uint64_t ns = r->stage_ns[i] + (i == r->stage ? now - r->stage_started_ns : 0);
        used += gw_timing(out + used, stages_name(i), ns);
    }
    return used;
}

void gw_timing_comment(struct buf *out, const struct gw_request *r)
{
    char text[GW_TIMING_BYTES];
    uint64_t now = clock_mono_ns(loop_clock(r->gateway->loop));
    size_t used = gw_timings(text, r, now);
    used += gw_timing(text + used, STR_LIT("total"), now - r->started_ns);
    buf_add_cstr(out, ": server-timing ");
    buf_add_str(out, str_make(text, used - 2));
    buf_add_cstr(out, "\n\n");
}

void gw_headers_init(struct gw_headers *h, const struct gw_request *r, const char *content_type)
{
    uint64_t now = clock_mono_ns(loop_clock(r->gateway->loop));
    size_t used = gw_timings(h->timing, r, now);
    h->n = 0;
    size_t n_ms = str_put_u64(h->processing_ms, (now - r->started_ns) / 1000000u);
    gw_header(h, "content-type", content_type);
    gw_header(h, "x-request-id", r->id);
    gw_header(h, "openai-version", "2020-10-01");
    gw_header_str(h, STR_LIT("openai-processing-ms"), str_make(h->processing_ms, n_ms));
    gw_header_str(h, STR_LIT("server-timing"), str_make(h->timing, used - 2)); /* no last comma */
    stage_limit_headers(r, h);
}

static void gw_reply_send(struct gw_request *r, const struct gw_headers *h, int status,
                          struct str body)
{
    struct http_reply reply = {
        .status = status, .headers = h->rows, .n_headers = h->n, .body = body};
    if (http_exchange_reply(r->x, &reply, NULL) != RC_OK) {
        http_exchange_abort(r->x);
    }
}

void gw_reply_whole(struct gw_request *r, struct str body)
{
    struct gw_headers h;
    const struct gw_attempt *a = r->attempt;
    gw_headers_init(&h, r, "application/json");
    for (uint32_t i = 0; i < a->n_headers; i++) {
        gw_header(&h, a->headers[i].name, a->headers[i].value);
    }
    gw_reply_send(r, &h, a->status, body);
}

void gw_reply_last_event(struct gw_request *r, struct str json)
{
    struct buf timing;
    buf_init(&timing, 1024);
    if (r->reader == NULL) { /* else its empty line would count as an event (answer_reader.c) */
        gw_timing_comment(&timing, r);
    }
    http_exchange_write(r->x, buf_str(&timing));
    buf_deinit(&timing);
    http_exchange_write(r->x, STR_LIT("data: "));
    http_exchange_write(r->x, json);
    http_exchange_write(r->x, STR_LIT("\n\n"));
    http_exchange_end(r->x);
}

/* A stream that has begun ends with the failure as its last event, never silently. */
static void gw_reply_error_event(struct gw_request *r)
{
    struct buf out;
    buf_init(&out, 64 << 10);
    api_fail_write(&out, &r->err);
    gw_reply_last_event(r, buf_str(&out));
    buf_deinit(&out);
}

static uint32_t gw_wait_ms(const struct gw_request *r)
{
    return (uint32_t)MIN((r->retry_ns + 999999u) / 1000000u, (uint64_t)API_FAIL_WAIT_MS_MAX);
}

void gw_reply_error(struct gw_request *r)
{
    if (r->begun) {
        gw_reply_error_event(r);
        return;
    }
    struct gw_headers h;
    struct api_header extra[API_FAIL_HEADERS_MAX];
    struct buf body;
    gw_headers_init(&h, r, "application/json");
    uint32_t n = api_fail_headers(&r->err, gw_wait_ms(r), extra);
    for (uint32_t i = 0; i < n && h.n < GW_HEADERS_MAX; i++) {
        gw_header(&h, extra[i].name, extra[i].value);
    }
    buf_init(&body, 64 << 10);
    api_fail_write(&body, &r->err);
    gw_reply_send(r, &h, err_row(r->err.code)->http_status, buf_str(&body));
    buf_deinit(&body);
}
