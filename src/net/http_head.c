/* http_head.c: looking into parsed heads, writing heads that nothing can be smuggled into. */
#include "net/http_head.h"

#include <stdio.h>
#include <time.h>

#include "base/assert.h"

/* --- looking ------------------------------------------------------------------------------ */

const struct http_header *http_head_find(const struct http_head *h, struct str name)
{
    for (uint32_t i = 0; i < h->n_headers; i++) {
        if (str_eq_nocase(h->headers[i].name, name)) {
            return &h->headers[i];
        }
    }
    return NULL;
}

struct str http_head_value(const struct http_head *h, struct str name)
{
    const struct http_header *found = http_head_find(h, name);
    return found != NULL ? found->value : STR_LIT("");
}

bool http_head_has_token(const struct http_head *h, struct str name, struct str token)
{
    for (uint32_t i = 0; i < h->n_headers; i++) {
        if (!str_eq_nocase(h->headers[i].name, name)) {
            continue;
        }
        struct str rest = h->headers[i].value;
        while (rest.len > 0) {
            if (str_eq_nocase(str_trim(str_cut(&rest, ',')), token)) {
                return true;
            }
        }
    }
    return false;
}

const char *http_method_name(enum http_method m)
{
    static const char *const names[HTTP_METHODS_N] = {
        [HTTP_METHOD_GET] = "GET",         [HTTP_METHOD_HEAD] = "HEAD",
        [HTTP_METHOD_POST] = "POST",       [HTTP_METHOD_PUT] = "PUT",
        [HTTP_METHOD_DELETE] = "DELETE",   [HTTP_METHOD_PATCH] = "PATCH",
        [HTTP_METHOD_OPTIONS] = "OPTIONS",
    };
    ASSERT(m < HTTP_METHODS_N);
    return names[m];
}

const char *http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } rows[] = {
        {100, "Continue"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {424, "Failed Dependency"},
        {425, "Too Early"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {529, "Overloaded"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].status == status) {
            return rows[i].text;
        }
    }
    return "Unknown";
}

/* --- what may be written ------------------------------------------------------------------ */

/* RFC 9110 §5.6.2. */
static const bool token_bytes[256] = {
    ['0' ... '9'] = true,  ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['!'] = true,
    ['#' ... '\''] = true, ['*'] = true,         ['+'] = true,         ['-'] = true,
    ['.'] = true,          ['^' ... '`'] = true, ['|'] = true,         ['~'] = true,
};

bool http_name_valid(struct str name)
{
    bool all = name.len > 0;
    for (size_t i = 0; i < name.len; i++) {
        all &= token_bytes[(unsigned char)name.ptr[i]];
    }
    return all;
}

/* Whether any of eight bytes is a control byte, TAB included. Borrows of the subtraction can mark
 * bytes above a true one only. */
static bool value_word_has_control(const char *ptr)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t w;
    memcpy(&w, ptr, sizeof(w));
    uint64_t del = w ^ (ones * 0x7F);
    return ((((w - ones * 0x20) & ~w) | ((del - ones) & ~del)) & high) != 0;
}

bool http_value_valid(struct str value)
{
    size_t start = 0;
    while (value.len - start >= 8 && !value_word_has_control(value.ptr + start)) {
        start += 8;
    }
    if (value.len >= 8 && value.len - start < 8 &&
        !value_word_has_control(value.ptr + value.len - 8)) {
        return true; /* the last word overlaps what was seen */
    }
    for (size_t i = start; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        if ((c < 0x20 && c != '\t') || c == 0x7F) {
            return false;
        }
    }
    return true;
}

bool http_target_valid(struct str target)
{
    if (target.len == 0 || target.len > HTTP_TARGET_BYTES_MAX ||
        (target.ptr[0] != '/' && !str_is(target, "*"))) {
        return false;
    }
    for (size_t i = 0; i < target.len; i++) {
        unsigned char c = (unsigned char)target.ptr[i];
        if (c <= 0x20 || c >= 0x7F || c == '#') {
            return false;
        }
    }
    return true;
}

/* --- writing ------------------------------------------------------------------------------ */

RC http_write_request(struct buf *out, enum http_method m, struct str target, struct err *err)
{
    if (!http_target_valid(target)) {
        return err_set(err, RC_INVALID, "request target of %zu bytes may not be sent", target.len);
    }
    buf_add_cstr(out, http_method_name(m));
    buf_add_byte(out, ' ');
    buf_add_str(out, target);
    buf_add_str(out, STR_LIT(" HTTP/1.1\r\n"));
    return RC_OK;
}

RC http_write_status(struct buf *out, int status, struct err *err)
{
    if (status < 100 || status > 599) {
        return err_set(err, RC_INVALID, "status %d may not be sent", status);
    }
    buf_add_str(out, STR_LIT("HTTP/1.1 "));
    buf_add_u64(out, (uint64_t)status);
    buf_add_byte(out, ' ');
    buf_add_cstr(out, http_status_text(status));
    buf_add(out, "\r\n", 2);
    return RC_OK;
}

RC http_write_header(struct buf *out, struct str name, struct str value, struct err *err)
{
    if (!http_name_valid(name)) {
        return err_set(err, RC_INVALID, "a header name of %zu bytes may not be sent", name.len);
    }
    if (!http_value_valid(value)) {
        return err_set(err, RC_INVALID, "header %.*s: the value has control bytes", STR(name));
    }
    size_t n = name.len + value.len + 4; /* both lie in memory: no overflow */
    char *at = buf_reserve(out, n);
    if (at != NULL) { /* else the buffer says that it failed */
        memcpy(at, name.ptr, name.len);
        memcpy(at + name.len, ": ", 2);
        if (value.len > 0) {
            memcpy(at + name.len + 2, value.ptr, value.len);
        }
        memcpy(at + n - 2, "\r\n", 2);
        buf_commit(out, n);
    }
    return RC_OK;
}

void http_write_end(struct buf *out)
{
    buf_add(out, "\r\n", 2);
}

void http_date_format(char dst[HTTP_DATE_BYTES], int64_t unix_s)
{
    /* strftime would follow the locale. */
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t t = (time_t)unix_s;
    struct tm tm;
    if (unix_s < 0 || unix_s > 253402300799 || gmtime_r(&t, &tm) == NULL) {
        t = 0;
        gmtime_r(&t, &tm);
    }
    int n = snprintf(dst, HTTP_DATE_BYTES, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[tm.tm_wday],
                     (unsigned)tm.tm_mday % 100u, months[tm.tm_mon],
                     (unsigned)(tm.tm_year + 1900) % 10000u, (unsigned)tm.tm_hour % 100u,
                     (unsigned)tm.tm_min % 100u, (unsigned)tm.tm_sec % 100u);
    ASSERT(n == HTTP_DATE_BYTES - 1);
}

/* --- percent-encoding and queries --------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

RC http_unescape(struct arena *a, struct str in, struct str *out, struct err *err)
{
    char *dst = arena_alloc(a, in.len + 1);
    if (dst == NULL) {
        return err_set(err, RC_TOO_LARGE, "percent-decoding: no room for %zu bytes", in.len);
    }
    size_t n = 0;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        if (c == '%') {
            int hi = in.len - i > 2 ? hex_digit(in.ptr[i + 1]) : -1;
            int lo = hi >= 0 ? hex_digit(in.ptr[i + 2]) : -1;
            if (lo < 0) {
                return err_set(err, RC_INVALID, "broken percent-escape at byte %zu", i);
            }
            c = (char)(hi * 16 + lo);
            i += 2;
        }
        if (c == '\0') {
            return err_set(err, RC_INVALID, "NUL at byte %zu", i);
        }
        dst[n++] = c;
    }
    *out = str_make(dst, n);
    return RC_OK;
}

bool http_query_find(struct str query, struct str name, struct str *raw_value)
{
    while (query.len > 0) {
        struct str value = str_cut(&query, '&');
        struct str key = str_cut(&value, '=');
        if (str_eq(key, name)) {
            *raw_value = value.ptr != NULL ? value : STR_LIT("");
            return true;
        }
    }
    return false;
}
