/* stream.h: what a model server answers: whole replies, and server-sent events of a stream.
 *
 * All functions append to `out`; its sticky failure is the result. Nothing keeps state: a stream's
 * head stays the same for all its events. The order of a stream's events:
 *   for each choice: a piece with `first`, pieces with text, a piece with `finish` (one piece may
 *   be several of these at once); then api_stream_usage if it was asked for; api_stream_done.
 * After a failure: api_stream_fail, and the connection ends without [DONE]. */
#ifndef API_STREAM_H
#define API_STREAM_H

#include "api/types.h"
#include "base/buf.h"
#include "base/err.h"

enum api_kind { API_KIND_CHAT, API_KIND_COMPLETION };

enum api_finish {
    API_FINISH_NONE, /* goes on */
    API_FINISH_STOP,
    API_FINISH_LENGTH,
    API_FINISH_TOOL_CALLS,
    API_FINISH_CONTENT_FILTER,
    API_FINISH_N,
};

/* What all events of one reply share. */
struct api_head {
    enum api_kind kind;
    struct str id;      /* "chatcmpl-…", "cmpl-…" */
    struct str model;   /* the name that the client asked for */
    int64_t created;    /* seconds since 1970 */
    bool include_usage; /* events carry "usage":null, and api_stream_usage follows */
};

/* A candidate token. */
struct api_alt {
    struct str bytes; /* the token's text; need not be whole UTF-8 */
    float logprob;
};

struct api_logprob {
    struct str bytes; /* of the chosen token */
    float logprob;
    bool none;                 /* the first token of an echoed prompt has no logprob: null */
    const struct api_alt *top; /* most likely first */
    uint32_t n_top;
    uint32_t text_offset; /* completions: characters of the choice's text before this token */
};

/* One choice, or a piece of one. */
struct api_piece {
    uint32_t index; /* the choice */
    bool first;     /* streams: the choice's first piece */
    enum api_finish finish;
    struct str text;
    bool has_logprobs;                  /* they were asked for */
    const struct api_logprob *logprobs; /* of the tokens in `text` */
    uint32_t n_logprobs;
};

/* ---- not streamed ---- */

void api_reply_write(struct buf *out, const struct api_head *head, const struct api_piece *choices,
                     uint32_t n_choices, const struct api_usage *usage);

/* ---- streamed: each is one whole event ---- */

void api_stream_piece(struct buf *out, const struct api_head *head, const struct api_piece *piece);
/* The extra event with no choices. */
void api_stream_usage(struct buf *out, const struct api_head *head, const struct api_usage *usage);
void api_stream_done(struct buf *out);
void api_stream_fail(struct buf *out, const struct err *err);
/* A line that clients skip: keeps proxies from closing an idle stream. */
void api_stream_ping(struct buf *out);

/* "stop", "length", …; NULL for API_FINISH_NONE. */
const char *api_finish_name(enum api_finish finish);

#endif
