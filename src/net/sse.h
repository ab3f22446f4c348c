/* sse.h: server-sent events out of bytes (WHATWG HTML §9.2.6), in whatever pieces they come.
 *
 * LF, CR and CRLF end lines; a leading byte order mark is skipped. Comments are items too, since
 * the link between gateway and server counts in them. An event that has no data line is still an
 * item when it has a name or id; an unfinished item at the end of the stream is dropped. */
#ifndef NET_SSE_H
#define NET_SSE_H

#include "base/buf.h"
#include "base/err.h"

/* Limits. */
enum {
    SSE_ITEM_BYTES_MAX = 4 << 20, /* default cap of one event or comment: RC_TOO_LARGE, final */
};

enum sse_kind { SSE_EVENT, SSE_COMMENT };

struct sse_item {
    enum sse_kind kind;
    struct str name; /* of the event field; "" when absent */
    struct str data; /* data lines joined by LF; for a comment its text, one leading space cut */
    struct str id;   /* "" when absent */
};

struct sse {
    /* private */
    struct buf line; /* the unfinished line, or the one last given out as a comment */
    struct buf data, name, id;
    size_t item_bytes_max;
    bool has_data, has_fields;
    bool after_cr; /* an LF that follows belongs to the CR before it */
    bool bom_done;
    bool gave_event, gave_line; /* lent out until the next call */
    enum rc failed;
};

void sse_init(struct sse *s, size_t item_bytes_max);
/* May be called twice and on a zeroed struct. */
void sse_deinit(struct sse *s);
/* Takes bytes from the front of *in until one item is complete. true: *out is it, borrowed until
 * the next call; call again with what is left of *in. false: *in is used up, or the stream failed
 * (sse_failed). */
bool sse_next(struct sse *s, struct str *in, struct sse_item *out);
/* RC_OK, RC_TOO_LARGE. */
enum rc sse_failed(const struct sse *s);

#endif
