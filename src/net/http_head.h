/* http_head.h: the head of an HTTP message: method and target or status, and the headers.
 *
 * A parsed head and all its strings live in the arena it was parsed into. Header names compare
 * without case. Writing refuses what could split a message (RFC 9110 §5.5, RFC 9112). */
#ifndef NET_HTTP_HEAD_H
#define NET_HTTP_HEAD_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

/* Limits. At each the message is refused: RC and HTTP status behind it. */
enum {
    HTTP_HEAD_BYTES_MAX = 32 << 10,  /* RC_HEADERS_TOO_LARGE, 431 */
    HTTP_HEADERS_MAX = 100,          /* RC_HEADERS_TOO_LARGE, 431 */
    HTTP_TARGET_BYTES_MAX = 8 << 10, /* 414 */
    HTTP_DATE_BYTES = 30,
};

enum http_method {
    HTTP_METHOD_GET,
    HTTP_METHOD_HEAD,
    HTTP_METHOD_POST,
    HTTP_METHOD_PUT,
    HTTP_METHOD_DELETE,
    HTTP_METHOD_PATCH,
    HTTP_METHOD_OPTIONS,
    HTTP_METHODS_N
};

struct http_header {
    struct str name, value;
};

/* How the body's end is told. */
enum http_framing {
    HTTP_FRAMING_NONE,    /* no body */
    HTTP_FRAMING_LENGTH,  /* content_length bytes */
    HTTP_FRAMING_CHUNKED, /* chunked transfer coding */
    HTTP_FRAMING_CLOSE,   /* until the peer closes (responses only) */
};

struct http_head {
    /* request */
    enum http_method method;
    struct str target; /* as received */
    struct str path;   /* still percent-encoded; "*" for OPTIONS * */
    struct str query;  /* without '?'; "" when absent */
    struct str host;   /* authority: of an absolute target, else of Host; "" in HTTP/1.0 */
    bool expect_continue;
    /* response */
    int status;
    /* both */
    uint8_t minor;   /* HTTP/1.minor */
    bool keep_alive; /* what the peer's version and Connection header ask for */
    enum http_framing framing;
    uint64_t content_length; /* framing LENGTH */
    struct http_header *headers;
    uint32_t n_headers;
};

/* The first header of that name, or NULL. O(n). */
const struct http_header *http_head_find(const struct http_head *h, struct str name);
/* Its value, or "" when absent. */
struct str http_head_value(const struct http_head *h, struct str name);
/* Whether any header of that name lists `token` (comma-separated, without case). */
bool http_head_has_token(const struct http_head *h, struct str name, struct str token);

/* "GET"; never NULL. */
const char *http_method_name(enum http_method m);
/* "Not Found"; "Unknown" for a status it does not know. */
const char *http_status_text(int status);
/* RFC 9110 §5.1 token, and a value without control bytes other than tab. */
bool http_name_valid(struct str name);
bool http_value_valid(struct str value);
/* Origin-form or "*": printable ASCII without spaces. */
bool http_target_valid(struct str target);

/* Append start line and headers without the closing empty line, so that a caller can add its own
 * lines with http_write_header; http_write_end closes. RC_INVALID: a name, value or target that
 * may not be sent, *out then holds a broken head and must be dropped. */
RC http_write_request(struct buf *out, enum http_method m, struct str target, struct err *err);
RC http_write_status(struct buf *out, int status, struct err *err);
RC http_write_header(struct buf *out, struct str name, struct str value, struct err *err);
void http_write_end(struct buf *out);

/* IMF-fixdate (RFC 9110 §5.6.7), e.g. "Sun, 06 Nov 1994 08:49:37 GMT", NUL-terminated. */
void http_date_format(char dst[HTTP_DATE_BYTES], int64_t unix_s);

/* Percent-decoded copy; '+' stays. RC_INVALID: broken escape or NUL; RC_TOO_LARGE: arena. */
RC http_unescape(struct arena *a, struct str in, struct str *out, struct err *err);
/* Raw value of `name` in "a=1&b=2"; false when absent. */
bool http_query_find(struct str query, struct str name, struct str *raw_value);

#endif
