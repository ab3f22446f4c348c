/* http1_parse.h: HTTP/1.x messages out of bytes, strict (RFC 9112), llhttp with checks of our own.
 *
 * A pull parser: http1_parse_step is called with unread input and says one event and how many
 * bytes it used; a caller that wants to wait just does not call. Events of one message:
 * HEAD, BODY…, END; then http1_parse_next. The same bytes give the same events' content in
 * whatever pieces they come (bodies are cut differently).
 *
 * Refused, all of them: bare CR or LF, obs-fold, space around a header name, NUL and control
 * bytes, no or several Host in HTTP/1.1, Host unlike an absolute target, several or malformed
 * Content-Length, Content-Length with Transfer-Encoding, a Transfer-Encoding other than exactly
 * one "chunked", Transfer-Encoding in HTTP/1.0, CONNECT and unknown methods, versions other than
 * 1.0 and 1.1. Trailers and chunk extensions are bounded, checked and dropped. Upgrade is ignored.
 */
#ifndef NET_HTTP1_PARSE_H
#define NET_HTTP1_PARSE_H

#include "net/http_head.h"

/* Limits: http_head.h for heads, http1_chunk.h for chunked framing. */
enum {
    HTTP1_INTERIM_MAX = 8, /* 1xx responses a client skips before the final one */
};

enum http1_kind { HTTP1_REQUEST, HTTP1_RESPONSE };

enum http1_event {
    HTTP1_MORE, /* needs more input; what was not used comes again, with more behind it */
    HTTP1_HEAD, /* step.head is complete */
    HTTP1_BODY, /* step.body is a piece, borrowed from the input */
    HTTP1_END,  /* the message is complete; the input behind it is untouched */
};

struct http1_parser;

struct http1_step {
    enum http1_event event;
    size_t n_used;
    struct str body;
};

/* `arena` takes heads; it must outlive their use and is reset by its owner between messages. */
RC http1_parse_create(struct http1_parser **out, enum http1_kind kind, struct arena *arena,
                      struct err *err);
void http1_parse_destroy(struct http1_parser *p);
/* Ready for the next message; also before the first of a reused connection. `to_head`: the request
 * was HEAD, so that the response has no body whatever it says. */
void http1_parse_next(struct http1_parser *p, bool to_head);

/* One event. Errors are final for this parser until http1_parse_next on a new connection:
 * RC_HEADERS_TOO_LARGE, RC_INVALID, RC_UNSUPPORTED (method or version), RC_TOO_LARGE (arena).
 * http1_parse_status says which HTTP status the failure deserves (400, 414, 431, 501, 505). */
RC http1_parse_step(struct http1_parser *p, struct str in, struct http1_step *out, struct err *err);
/* The peer ended its side: HTTP1_END when a close-delimited body is thereby complete, RC_INVALID
 * when a message is cut, HTTP1_MORE when nothing of a message had come. */
RC http1_parse_eof(struct http1_parser *p, struct http1_step *out, struct err *err);

int http1_parse_status(const struct http1_parser *p);
/* After HTTP1_HEAD, until http1_parse_next. */
const struct http_head *http1_parse_head(const struct http1_parser *p);
/* Whether bytes of the current message have been seen. */
bool http1_parse_begun(const struct http1_parser *p);

#endif
