/* link.h: what gateway and model server tell each other beside the OpenAI shapes: extra request
 * headers, and a comment with token counts behind each event of a stream (ARCHITECTURE.md §3a).
 *
 * A gateway strips these headers from what clients send (api_link_is_header). */
#ifndef API_LINK_H
#define API_LINK_H

#include "api/types.h"
#include "base/buf.h"
#include "base/err.h"

enum { API_LINK_HEADERS_MAX = 6 };

enum api_class { API_CLASS_INTERACTIVE, API_CLASS_NORMAL, API_CLASS_BATCH, API_CLASS_N };

/* Texts end in a NUL; empty = header absent. */
struct api_link {
    char request_id[72];  /* bud-request-id: letters, digits, '-', '_' */
    char traceparent[56]; /* W3C trace context, version 00 */
    char tenant[72]; /* bud-tenant: salt of the prefix cache, unit of fairness; as request_id */
    enum api_class priority; /* bud-class: interactive, normal [default], batch */
    bool has_deadline;
    uint64_t deadline_ms; /* bud-deadline-ms: time left when sent, so that clocks need not agree */
    bool has_budget;
    uint32_t budget_tokens; /* bud-budget-tokens: prompt + output at most */
};

/* No header given yet. */
void api_link_init(struct api_link *link);
/* Whether `name` (any case) is one of the link's own headers (all but traceparent). */
bool api_link_is_header(struct str name);
/* Takes one request header in; names that are not the link's are passed over. RC_INVALID, with the
 * header's name in err.param, when the value is not well-formed. */
RC api_link_read_header(struct api_link *link, struct str name, struct str value, struct err *err);
/* The headers to send; absent ones are left out. Returns how many. */
uint32_t api_link_headers(const struct api_link *link, struct api_header out[API_LINK_HEADERS_MAX]);

/* The comment ": n=<prompt>+<output>" and its empty line: tokens used so far. */
void api_link_counts_write(struct buf *out, uint32_t prompt_tokens, uint32_t output_tokens);
/* Whether `line` (without its line end) is such a comment. */
MUST_CHECK bool api_link_counts_read(struct str line, uint32_t *prompt_tokens,
                                     uint32_t *output_tokens);

const char *api_class_name(enum api_class priority);

#endif
