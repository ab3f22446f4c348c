/* usage_line.h: the lines of the usage journal (journal.h).
 *
 *   checksum(16 hex) TAB kind TAB field TAB … LF      one line; fields by kind:
 *   o  slot, id, request_id, route, key, user, project, model, started_ms, price x 4
 *   d  id, request_id, route, key, user, project, model, version, upstream, status,
 *      http_status, started_ms, duration_ms, prompt, cached, output, images, cost, estimated,
 *      hedged (where a second server was asked)
 *   x  id, request_id, at_ms, a JSON object without line ends and tabs
 *
 * A request's `o` is written when its tokens are set aside, its `d` when it is settled; `x` says
 * why it went as it did. The checksum is hash_disk of everything behind its TAB, without the LF:
 * what a crash has torn is told from what is whole. */
#ifndef STORES_USAGE_LINE_H
#define STORES_USAGE_LINE_H

#include "stores/meta_usage.h"

enum {
    USAGE_SUM_BYTES = 16,                                 /* of the checksum */
    USAGE_ID_BYTES = 40,                                  /* of a record's id, with its NUL */
    USAGE_LINE_BYTES_MAX = 1024,                          /* of `o` and `d`; longer texts are cut */
    USAGE_TEXT_BYTES_MAX = 71,                            /* of one text in them */
    USAGE_NOTE_BYTES_MAX = META_DECISION_BYTES_MAX + 256, /* of `x` */
};

/* Billionths for a million tokens, or for one image. */
struct usage_price {
    int64_t input, cached_input, output, image;
};

enum usage_kind { USAGE_OPEN, USAGE_DONE, USAGE_NOTE };

struct usage_line {
    enum usage_kind kind;
    uint32_t slot;            /* USAGE_OPEN: where its counts are */
    struct usage_price price; /* USAGE_OPEN */
    struct meta_usage row;    /* of USAGE_NOTE: id, request_id, started_ms */
    struct str note;          /* USAGE_NOTE */
};

/* Appends one line. Control characters in texts become '?'. */
void usage_line_write(struct buf *out, const struct usage_line *line);
/* Reads one line without its LF; texts are borrowed from it. False when it is torn or none. */
MUST_CHECK bool usage_line_read(struct str text, struct usage_line *out);
/* A line without its checksum, as the store keeps it; and such a one read again. */
static inline struct str usage_line_body(struct str text)
{
    return str_slice(text, USAGE_SUM_BYTES + 1, text.len);
}
MUST_CHECK bool usage_line_read_body(struct str body, struct usage_line *out);
/* The next line in the bytes of a journal file from *at on; *at moves behind it. False at the end.
 * Bytes that are no whole line are passed over and counted in *n_torn (may be NULL), runs of NUL
 * are not counted. *text (may be NULL) is the line. */
MUST_CHECK bool usage_line_next(struct str bytes, size_t *at, struct usage_line *out,
                                struct str *text, uint64_t *n_torn);

/* The same for a living journal, whose lines are all whole: passes over `o` lines without a look at
 * what is in them. */
MUST_CHECK bool usage_line_next_settled(struct str bytes, size_t *at, struct usage_line *out,
                                        struct str *text);

/* The counts of a request under way in eight bytes, which a process can store at once; prompts of
 * 2^31 tokens and more count as one less. */
uint64_t usage_counts_pack(uint32_t prompt_tokens, uint32_t output_tokens, bool estimated);
void usage_counts_unpack(uint64_t counts, struct meta_usage *row);

/* Tokens and images times prices, rounded up to a billionth; saturates. A cached price of 0 means
 * that cached tokens cost as others. */
int64_t usage_cost(const struct usage_price *p, uint64_t input, uint64_t cached, uint64_t output,
                   uint64_t images);

#endif
