/* http1_parse.c: see http1_parse.h. RFC 9112; llhttp reads the grammar, the checks here close what
 * a lenient reader could be made to see differently.
 *
 * A head is not handed to llhttp before it is complete: it stays with the caller while lines are
 * scanned (each ends in CRLF, none begins with a blank, limits), is copied into the arena once, and
 * parsed in one piece. So its strings need no putting together and the outcome cannot depend on
 * how the bytes came. Length-delimited bodies are counted here, chunked ones are http1_chunk.c's.
 *
 * Invariants
 * 1. Scanning looks at bytes in their order, each once: the first fault decides.
 * 2. llhttp sees exactly the head of each message, after the scan and the first line's check.
 * 3. After a failure p->phase is FAILED and every step returns it again. */
#include "net/http1_parse.h"

#include <llhttp.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/http1_chunk.h"

/* Method, two spaces, "HTTP/1.1" and CRLF around the longest target. */
#define REQUEST_LINE_BYTES_MAX (HTTP_TARGET_BYTES_MAX + 32u)

enum phase {
    PHASE_HEAD,
    PHASE_BODY_LENGTH,
    PHASE_BODY_CHUNKED,
    PHASE_BODY_CLOSE,
    PHASE_COMPLETE, /* HTTP1_END is owed */
    PHASE_DONE,     /* and was given */
    PHASE_FAILED,
};

struct http1_parser {
    llhttp_t ll;
    struct arena *arena;
    struct http_head head;
    enum http1_kind kind;
    enum phase phase;
    enum rc failed;
    int status;
    bool to_head;

    /* head: positions in the caller's unread input */
    size_t skipped; /* an empty line before the request */
    size_t line_start, scanned;
    uint32_t n_lines;
    bool begun;

    /* what llhttp's callbacks saw */
    bool head_done, too_many;

    /* body */
    uint64_t body_left;
    struct http1_chunk chunk;
};

/* --- failing ------------------------------------------------------------------------------ */

static RC parse_fail(struct http1_parser *p, int status, const char *what, struct err *err)
{
    p->phase = PHASE_FAILED;
    p->status = status;
    p->failed = status == 431 || status == 414   ? RC_HEADERS_TOO_LARGE
                : status == 501 || status == 505 ? RC_UNSUPPORTED
                : status == 503                  ? RC_TOO_LARGE
                                                 : RC_INVALID;
    return err_set(err, p->failed, "HTTP: %s", what);
}

/* --- llhttp's callbacks ------------------------------------------------------------------- */

static struct http1_parser *parser_of(llhttp_t *ll)
{
    return CONTAINER_OF(ll, struct http1_parser, ll);
}

/* Pieces of one string follow each other in memory, since the head is parsed in one piece. */
static void extend(struct str *s, const char *at, size_t n)
{
    if (s->ptr == NULL) {
        s->ptr = at;
    }
    ASSERT(s->ptr + s->len == at);
    s->len += n;
}

static int ll_url(llhttp_t *ll, const char *at, size_t n)
{
    extend(&parser_of(ll)->head.target, at, n);
    return 0;
}

static int ll_field(llhttp_t *ll, const char *at, size_t n)
{
    struct http1_parser *p = parser_of(ll);
    struct http_head *h = &p->head;
    if (h->n_headers == 0 || h->headers[h->n_headers - 1].value.ptr != NULL) {
        ASSERT(h->n_headers + 2 < p->n_lines); /* each has a line of its own: room for it */
        if (h->n_headers == HTTP_HEADERS_MAX) {
            p->too_many = true;
            return -1;
        }
        h->headers[h->n_headers++] = (struct http_header){0};
    }
    extend(&h->headers[h->n_headers - 1].name, at, n);
    return 0;
}

static int ll_value(llhttp_t *ll, const char *at, size_t n)
{
    struct http1_parser *p = parser_of(ll);
    ASSERT(p->head.n_headers > 0);
    extend(&p->head.headers[p->head.n_headers - 1].value, at, n);
    return 0;
}

static int ll_value_complete(llhttp_t *ll)
{
    struct http1_parser *p = parser_of(ll);
    struct http_header *last = &p->head.headers[p->head.n_headers - 1];
    /* An empty value has no piece; a pointer marks it as seen. */
    last->value = last->value.ptr != NULL ? str_trim(last->value) : STR_LIT("");
    return 0;
}

static int ll_headers_complete(llhttp_t *ll)
{
    struct http1_parser *p = parser_of(ll);
    p->head_done = true;
    /* A server may ignore Upgrade (RFC 9110 §7.8); llhttp would stop there. */
    ll->upgrade = 0;
    return p->to_head ? 1 : 0;
}

static const llhttp_settings_t ll_settings = {
    .on_url = ll_url,
    .on_header_field = ll_field,
    .on_header_value = ll_value,
    .on_header_value_complete = ll_value_complete,
    .on_headers_complete = ll_headers_complete,
};

/* --- scanning a head ---------------------------------------------------------------------- */

enum scan { SCAN_MORE, SCAN_COMPLETE, SCAN_FAILED };

/* One complete line, from its first byte to its LF. */
static enum scan scan_line(struct http1_parser *p, struct str line, struct err *err)
{
    if (line.len < 2 || line.ptr[line.len - 2] != '\r') {
        (void)!parse_fail(p, 400, "a line ends in a bare LF", err);
        return SCAN_FAILED;
    }
    if (memchr(line.ptr, '\r', line.len - 2) != NULL) {
        (void)!parse_fail(p, 400, "a bare CR", err);
        return SCAN_FAILED;
    }
    if (p->n_lines > 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t')) {
        (void)!parse_fail(p, 400, "a folded header line", err);
        return SCAN_FAILED;
    }
    p->n_lines++;
    return line.len == 2 ? SCAN_COMPLETE : SCAN_MORE;
}

/* Whether position `end` of the head is past a limit. */
static bool scan_over(struct http1_parser *p, size_t end, struct err *err)
{
    if (p->n_lines == 0 && p->kind == HTTP1_REQUEST && end - p->skipped > REQUEST_LINE_BYTES_MAX) {
        (void)!parse_fail(p, 414, "request line too long", err);
        return true;
    }
    if (end - p->skipped > HTTP_HEAD_BYTES_MAX) {
        (void)!parse_fail(p, 431, "headers over 32 KiB", err);
        return true;
    }
    return false;
}

/* The first byte tells a request or response from TLS and other noise, without waiting for a line
 * that may never end. One empty line before a request is allowed (RFC 9112 §2.2). */
static enum scan scan_start(struct http1_parser *p, struct str in, struct err *err)
{
    if (p->kind == HTTP1_REQUEST && in.ptr[0] == '\r') {
        if (in.len == 1) {
            return SCAN_MORE;
        }
        p->skipped = in.ptr[1] == '\n' ? 2 : 0;
    }
    if (in.len == p->skipped) {
        return SCAN_MORE;
    }
    char c = in.ptr[p->skipped];
    bool ok = p->kind == HTTP1_REQUEST ? (c >= 'A' && c <= 'Z') : c == 'H';
    if (!ok) {
        (void)!parse_fail(p, 400, "this is not HTTP/1", err);
        return SCAN_FAILED;
    }
    p->scanned = p->line_start = p->skipped;
    return SCAN_COMPLETE;
}

/* Goes on where it stopped; `in` is the unread input from the first byte of the message. */
static enum scan scan_head(struct http1_parser *p, struct str in, struct err *err)
{
    p->begun = p->begun || in.len > 0;
    if (p->scanned == 0) {
        enum scan s = in.len == 0 ? SCAN_MORE : scan_start(p, in, err);
        if (s != SCAN_COMPLETE) {
            return s;
        }
    }
    while (p->scanned < in.len) {
        const char *from = in.ptr + p->scanned;
        const char *lf = memchr(from, '\n', in.len - p->scanned);
        p->scanned = lf != NULL ? (size_t)(lf - in.ptr) + 1 : in.len;
        if (scan_over(p, p->scanned, err)) {
            return SCAN_FAILED;
        }
        if (lf == NULL) {
            return SCAN_MORE;
        }
        enum scan s = scan_line(p, str_slice(in, p->line_start, p->scanned), err);
        if (s != SCAN_MORE) {
            return s;
        }
        p->line_start = p->scanned;
    }
    return SCAN_MORE;
}

/* --- the head's meaning ------------------------------------------------------------------- */

static bool method_find(struct str name, enum http_method *out)
{
    for (enum http_method m = 0; m < HTTP_METHODS_N; m++) {
        if (str_is(name, http_method_name(m))) {
            *out = m;
            return true;
        }
    }
    return false;
}

/* "METHOD SP target SP HTTP/1.x", before llhttp sees it: two spaces, no other blanks. */
static RC check_request_line(struct http1_parser *p, struct str line, struct err *err)
{
    struct str rest = line;
    struct str method = str_cut(&rest, ' ');
    struct str target = str_cut(&rest, ' ');
    struct str version = rest;
    for (size_t i = 0; i < line.len; i++) {
        unsigned char c = (unsigned char)line.ptr[i];
        if (c < 0x20 || c >= 0x7F) {
            return parse_fail(p, 400, "a byte that no request line may have", err);
        }
    }
    if (!http_name_valid(method) || target.len == 0 || !str_starts(version, STR_LIT("HTTP/")) ||
        version.len != 8) {
        return parse_fail(p, 400, "malformed request line", err);
    }
    if (!str_is(version, "HTTP/1.1") && !str_is(version, "HTTP/1.0")) {
        return parse_fail(p, 505, "version is neither 1.0 nor 1.1", err);
    }
    if (!method_find(method, &p->head.method)) {
        return parse_fail(p, 501, "unknown method", err);
    }
    if (target.len > HTTP_TARGET_BYTES_MAX) {
        return parse_fail(p, 414, "request target too long", err);
    }
    return RC_OK;
}

static RC check_status_line(struct http1_parser *p, struct str line, struct err *err)
{
    if (!str_starts(line, STR_LIT("HTTP/1.1 ")) && !str_starts(line, STR_LIT("HTTP/1.0 "))) {
        return parse_fail(p, 505, "version is neither 1.0 nor 1.1", err);
    }
    uint64_t status = 0;
    struct str digits = str_slice(line, 9, 12);
    if (digits.len != 3 || !str_to_u64(digits, &status) || status < 100 || status > 599 ||
        (line.len > 12 && line.ptr[12] != ' ') || !http_value_valid(line)) {
        return parse_fail(p, 400, "malformed status line", err);
    }
    p->head.status = (int)status;
    return RC_OK;
}

/* The only header of that name: 0, 1, or -1 for several. */
static int find_single(const struct http_head *h, struct str name, struct str *value)
{
    int n = 0;
    for (uint32_t i = 0; i < h->n_headers; i++) {
        if (str_eq_nocase(h->headers[i].name, name)) {
            *value = h->headers[i].value;
            n++;
        }
    }
    return n > 1 ? -1 : n;
}

static RC check_headers(struct http1_parser *p, struct err *err)
{
    for (uint32_t i = 0; i < p->head.n_headers; i++) {
        if (!http_name_valid(p->head.headers[i].name)) {
            return parse_fail(p, 400, "malformed header name", err);
        }
        if (!http_value_valid(p->head.headers[i].value)) {
            return parse_fail(p, 400, "control byte in a header value", err);
        }
    }
    return RC_OK;
}

/* RFC 9112 §6: how long the body is. The two ways of telling it never meet. */
static RC check_framing(struct http1_parser *p, struct err *err)
{
    struct http_head *h = &p->head;
    struct str length = STR_NULL, coding = STR_NULL;
    int n_length = find_single(h, STR_LIT("content-length"), &length);
    int n_coding = find_single(h, STR_LIT("transfer-encoding"), &coding);
    if (n_length != 0 && n_coding != 0) {
        return parse_fail(p, 400, "both Content-Length and Transfer-Encoding", err);
    }
    if (n_length < 0 || n_coding < 0) {
        return parse_fail(p, 400, "repeated Content-Length or Transfer-Encoding", err);
    }
    if (n_coding == 1 && (h->minor == 0 || !str_eq_nocase(coding, STR_LIT("chunked")))) {
        return parse_fail(p, 400, "a Transfer-Encoding other than 'chunked'", err);
    }
    if (n_length == 1) {
        bool digits = length.len > 0 && length.len <= 18;
        for (size_t i = 0; digits && i < length.len; i++) {
            digits = length.ptr[i] >= '0' && length.ptr[i] <= '9';
        }
        if (!digits || !str_to_u64(length, &h->content_length)) {
            return parse_fail(p, 400, "malformed Content-Length", err);
        }
    }
    bool no_body = p->kind == HTTP1_RESPONSE &&
                   (p->to_head || h->status / 100 == 1 || h->status == 204 || h->status == 304);
    h->framing = no_body         ? HTTP_FRAMING_NONE
                 : n_coding == 1 ? HTTP_FRAMING_CHUNKED
                 : n_length == 1 ? (h->content_length > 0 ? HTTP_FRAMING_LENGTH : HTTP_FRAMING_NONE)
                 : p->kind == HTTP1_REQUEST ? HTTP_FRAMING_NONE
                                            : HTTP_FRAMING_CLOSE;
    bool close = http_head_has_token(h, STR_LIT("connection"), STR_LIT("close"));
    bool keep = http_head_has_token(h, STR_LIT("connection"), STR_LIT("keep-alive"));
    h->keep_alive = !close && (h->minor == 1 || keep) && h->framing != HTTP_FRAMING_CLOSE;
    return RC_OK;
}

/* An authority: something, without blanks, user part or path. */
static bool authority_valid(struct str a)
{
    static const bool wrong[256] = {
        [0 ... 0x20] = true, [0x7F ... 0xFF] = true, ['/'] = true,  ['?'] = true,
        ['#'] = true,        ['@'] = true,           ['\\'] = true, ['"'] = true,
        ['<'] = true,        ['>'] = true,           ['^'] = true,  ['`'] = true,
        ['{'] = true,        ['|'] = true,           ['}'] = true,  [','] = true,
    };
    bool any = false;
    for (size_t i = 0; i < a.len; i++) {
        any |= wrong[(unsigned char)a.ptr[i]];
    }
    return !any;
}

/* RFC 9112 §3.2: origin-form, absolute-form (whose authority must be Host's), '*' for OPTIONS. */
static RC check_target(struct http1_parser *p, struct err *err)
{
    struct http_head *h = &p->head;
    struct str host = STR_LIT("");
    int n_host = find_single(h, STR_LIT("host"), &host);
    if (n_host < 0 || (n_host == 0 && h->minor == 1) || !authority_valid(host)) {
        return parse_fail(p, 400, "exactly one valid Host header is required", err);
    }
    h->host = host;
    struct str rest = h->target;
    size_t scheme = str_starts(rest, STR_LIT("http://"))    ? 7
                    : str_starts(rest, STR_LIT("https://")) ? 8
                                                            : 0;
    if (scheme > 0) {
        rest = str_slice(rest, scheme, rest.len);
        size_t end = 0;
        while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?') {
            end++;
        }
        struct str authority = str_slice(rest, 0, end);
        if (authority.len == 0 || !authority_valid(authority) ||
            (n_host == 1 && !str_eq_nocase(authority, host))) {
            return parse_fail(p, 400, "absolute target does not match Host", err);
        }
        h->host = authority;
        rest = str_slice(rest, end, rest.len);
    }
    size_t mark = str_find(rest, STR_LIT("?"));
    h->path = str_slice(rest, 0, mark);
    h->query = str_slice(rest, mark + 1, rest.len);
    if (scheme > 0 && h->path.len == 0) {
        h->path = STR_LIT("/");
    }
    bool star = str_is(h->target, "*") && h->method == HTTP_METHOD_OPTIONS;
    if (!star && !http_target_valid(h->path)) {
        return parse_fail(p, 400, "malformed request target", err);
    }
    return !star && str_is(h->path, "*") ? parse_fail(p, 400, "malformed request target", err)
                                         : RC_OK;
}

static RC check_expect(struct http1_parser *p, struct err *err)
{
    struct str value;
    int n = find_single(&p->head, STR_LIT("expect"), &value);
    if (n == 0 || p->head.minor == 0) {
        return RC_OK;
    }
    if (n < 0 || !str_eq_nocase(value, STR_LIT("100-continue"))) {
        return parse_fail(p, 417, "unknown expectation", err);
    }
    p->head.expect_continue = true;
    return RC_OK;
}

/* Runs the whole head through llhttp; its strings point into `text`, which the arena holds. */
static RC read_head(struct http1_parser *p, struct str text, struct err *err)
{
    /* Lines without the first and the empty one; more than the limit is refused below. */
    uint32_t room = MIN(p->n_lines, (uint32_t)HTTP_HEADERS_MAX);
    p->head.headers = arena_alloc_array(p->arena, room, sizeof(struct http_header));
    if (p->head.headers == NULL) {
        return parse_fail(p, 503, "no memory for the headers", err);
    }
    llhttp_errno_t e = llhttp_execute(&p->ll, text.ptr, text.len);
    if (p->too_many) {
        return parse_fail(p, 431, "more than 100 headers", err);
    }
    if (e != HPE_OK || !p->head_done) {
        const char *reason = llhttp_get_error_reason(&p->ll);
        return parse_fail(p, 400, reason != NULL ? reason : "malformed head", err);
    }
    p->head.minor = llhttp_get_http_minor(&p->ll);
    return RC_OK;
}

static RC parse_head(struct http1_parser *p, struct str raw, struct err *err)
{
    struct str text = arena_str(p->arena, raw);
    if (text.ptr == NULL) {
        return parse_fail(p, 503, "no memory for the headers", err);
    }
    struct str line = str_slice(text, 0, str_find(text, STR_LIT("\r\n")));
    enum rc rc = p->kind == HTTP1_REQUEST ? check_request_line(p, line, err)
                                          : check_status_line(p, line, err);
    rc = rc != RC_OK ? rc : read_head(p, text, err);
    rc = rc != RC_OK ? rc : check_headers(p, err);
    rc = rc != RC_OK ? rc : check_framing(p, err);
    if (p->kind == HTTP1_REQUEST) {
        rc = rc != RC_OK ? rc : check_target(p, err);
        rc = rc != RC_OK ? rc : check_expect(p, err);
    }
    if (rc != RC_OK) {
        return rc;
    }
    static const enum phase next[] = {
        [HTTP_FRAMING_NONE] = PHASE_COMPLETE,
        [HTTP_FRAMING_LENGTH] = PHASE_BODY_LENGTH,
        [HTTP_FRAMING_CHUNKED] = PHASE_BODY_CHUNKED,
        [HTTP_FRAMING_CLOSE] = PHASE_BODY_CLOSE,
    };
    p->phase = next[p->head.framing];
    p->body_left = p->head.framing == HTTP_FRAMING_LENGTH ? p->head.content_length : 0;
    return RC_OK;
}

/* --- steps -------------------------------------------------------------------------------- */

static RC step_head(struct http1_parser *p, struct str in, struct http1_step *out, struct err *err)
{
    enum scan s = scan_head(p, in, err);
    if (s != SCAN_COMPLETE) {
        return s == SCAN_MORE ? RC_OK : p->failed;
    }
    enum rc rc = parse_head(p, str_slice(in, p->skipped, p->scanned), err);
    if (rc == RC_OK) {
        out->n_used = p->scanned;
        out->event = HTTP1_HEAD;
    }
    return rc;
}

static void step_plain_body(struct http1_parser *p, struct str in, struct http1_step *out)
{
    bool counted = p->phase == PHASE_BODY_LENGTH;
    size_t n = counted ? (size_t)MIN(p->body_left, (uint64_t)in.len) : in.len;
    if (n == 0) {
        return;
    }
    out->event = HTTP1_BODY;
    out->body = str_slice(in, 0, n);
    out->n_used = n;
    if (counted) {
        p->body_left -= n;
        p->phase = p->body_left > 0 ? PHASE_BODY_LENGTH : PHASE_COMPLETE;
    }
}

static RC step_chunked_body(struct http1_parser *p, struct str in, struct http1_step *out,
                            struct err *err)
{
    const char *fault = NULL;
    switch (http1_chunk_step(&p->chunk, in, &out->n_used, &out->body, &fault)) {
    case HTTP1_CHUNK_MORE:
        return RC_OK;
    case HTTP1_CHUNK_DATA:
        out->event = HTTP1_BODY;
        return RC_OK;
    case HTTP1_CHUNK_END:
        p->phase = PHASE_DONE;
        out->event = HTTP1_END;
        return RC_OK;
    case HTTP1_CHUNK_BAD:
        break;
    }
    return parse_fail(p, 400, fault, err);
}

RC http1_parse_step(struct http1_parser *p, struct str in, struct http1_step *out, struct err *err)
{
    *out = (struct http1_step){.event = HTTP1_MORE};
    switch (p->phase) {
    case PHASE_HEAD:
        return step_head(p, in, out, err);
    case PHASE_BODY_LENGTH:
    case PHASE_BODY_CLOSE:
        step_plain_body(p, in, out);
        return RC_OK;
    case PHASE_BODY_CHUNKED:
        return step_chunked_body(p, in, out, err);
    case PHASE_COMPLETE:
        p->phase = PHASE_DONE;
        out->event = HTTP1_END;
        return RC_OK;
    case PHASE_FAILED:
        return err_set(err, p->failed, "HTTP: the message was refused before");
    case PHASE_DONE:
        break;
    }
    ASSERT(false); /* http1_parse_next was forgotten */
    return RC_INTERNAL;
}

RC http1_parse_eof(struct http1_parser *p, struct http1_step *out, struct err *err)
{
    *out = (struct http1_step){.event = HTTP1_MORE};
    switch (p->phase) {
    case PHASE_BODY_CLOSE:
    case PHASE_COMPLETE:
        p->phase = PHASE_DONE;
        out->event = HTTP1_END;
        return RC_OK;
    case PHASE_HEAD:
    case PHASE_DONE:
        if (p->phase == PHASE_DONE || !p->begun) {
            return RC_OK;
        }
        break;
    default:
        break;
    }
    return parse_fail(p, 400, "the connection ended inside a message", err);
}

/* --- life --------------------------------------------------------------------------------- */

void http1_parse_next(struct http1_parser *p, bool to_head)
{
    llhttp_init(&p->ll, p->kind == HTTP1_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE, &ll_settings);
    *p = (struct http1_parser){
        .ll = p->ll, .arena = p->arena, .kind = p->kind, .to_head = to_head, .status = 400};
}

RC http1_parse_create(struct http1_parser **out, enum http1_kind kind, struct arena *arena,
                      struct err *err)
{
    struct http1_parser *p = mem_try_zalloc(sizeof(*p));
    if (p == NULL) {
        return err_set(err, RC_NOMEM, "HTTP parser: out of memory");
    }
    p->kind = kind;
    p->arena = arena;
    http1_parse_next(p, false);
    *out = p;
    return RC_OK;
}

void http1_parse_destroy(struct http1_parser *p)
{
    mem_free(p);
}

int http1_parse_status(const struct http1_parser *p)
{
    return p->status;
}

const struct http_head *http1_parse_head(const struct http1_parser *p)
{
    return &p->head;
}

bool http1_parse_begun(const struct http1_parser *p)
{
    return p->begun;
}
