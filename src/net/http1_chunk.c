/* http1_chunk.c: see http1_chunk.h. A state machine over single bytes; data is taken whole.
 *
 *   SIZE -hex-> SIZE -;-> EXT -CR-> SIZE_LF -LF-> DATA … DATA_CR -> DATA_LF -> SIZE
 *                  \------CR-------^      \-LF, size 0-> TRAILER_START
 *   TRAILER_START -token-> TRAILER -CR-> TRAILER_LF -LF-> TRAILER_START -CR-> LAST_LF -LF-> END
 *
 * llhttp reads heads only: it lets blanks stand around a size, and where it stops for each chunk
 * its count of used bytes would have to be trusted twice. */
#include "net/http1_chunk.h"

#include "base/assert.h"
#include "net/http_head.h"

enum state {
    SIZE,
    EXT,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_START,
    TRAILER,
    TRAILER_LF,
    LAST_LF,
    END,
};

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_text(char c)
{
    return http_value_valid(str_make(&c, 1));
}

static bool is_token(char c)
{
    return http_name_valid(str_make(&c, 1));
}

/* NULL, or what is wrong. */
static const char *step_size(struct http1_chunk *k, char c)
{
    int v = hex_value(c);
    if (v >= 0) {
        k->left_bytes = k->left_bytes * 16 + (uint64_t)v;
        return ++k->n_digits <= HTTP1_CHUNK_DIGITS_MAX ? NULL : "chunk size too large";
    }
    if (k->n_digits == 0 || (c != ';' && c != '\r')) {
        return "malformed chunk size";
    }
    k->state = c == ';' ? EXT : SIZE_LF;
    return NULL;
}

static const char *step_ext(struct http1_chunk *k, char c)
{
    if (c == '\r') {
        k->state = SIZE_LF;
        return NULL;
    }
    if (!is_text(c)) {
        return "control byte in a chunk extension";
    }
    return ++k->ext_bytes <= HTTP1_CHUNK_EXT_BYTES_MAX ? NULL : "chunk extensions too long";
}

static const char *step_trailer(struct http1_chunk *k, char c)
{
    if (++k->trailer_bytes > HTTP1_TRAILER_BYTES_MAX) {
        return "trailers too long";
    }
    if (k->state == TRAILER_START) {
        k->colon = false;
        k->state = c == '\r' ? LAST_LF : TRAILER;
        return c == '\r' || is_token(c) ? NULL : "malformed trailer";
    }
    if (c == '\r') {
        k->state = TRAILER_LF;
        return k->colon ? NULL : "malformed trailer";
    }
    if (!k->colon && c == ':') {
        k->colon = true;
        return NULL;
    }
    return (k->colon ? is_text(c) : is_token(c)) ? NULL : "malformed trailer";
}

/* A fixed byte of the framing. */
static const char *step_expect(struct http1_chunk *k, char c, char want, enum state next)
{
    k->state = (int)next;
    return c == want ? NULL : "a line of chunked framing does not end in CRLF";
}

static const char *step_byte(struct http1_chunk *k, char c)
{
    switch ((enum state)k->state) {
    case SIZE:
        return step_size(k, c);
    case EXT:
        return step_ext(k, c);
    case SIZE_LF:
        k->n_digits = 0;
        return step_expect(k, c, '\n', k->left_bytes > 0 ? DATA : TRAILER_START);
    case DATA_CR:
        return step_expect(k, c, '\r', DATA_LF);
    case DATA_LF:
        return step_expect(k, c, '\n', SIZE);
    case TRAILER_START:
    case TRAILER:
        return step_trailer(k, c);
    case TRAILER_LF:
        return step_expect(k, c, '\n', TRAILER_START);
    case LAST_LF:
        return step_expect(k, c, '\n', END);
    case DATA:
    case END:
        break;
    }
    ASSERT(false); /* these two take no single bytes */
    return NULL;
}

enum http1_chunk_event http1_chunk_step(struct http1_chunk *k, struct str in, size_t *n_used,
                                        struct str *data, const char **fault)
{
    size_t i = 0;
    while (i < in.len && k->state != DATA && k->state != END) {
        *fault = step_byte(k, in.ptr[i++]);
        if (*fault != NULL) {
            *n_used = i;
            return HTTP1_CHUNK_BAD;
        }
    }
    if (k->state == DATA && i < in.len) {
        size_t n = (size_t)MIN(k->left_bytes, (uint64_t)(in.len - i));
        *data = str_slice(in, i, i + n);
        k->left_bytes -= n;
        k->state = k->left_bytes > 0 ? DATA : DATA_CR;
        *n_used = i + n;
        return HTTP1_CHUNK_DATA;
    }
    *n_used = i;
    return k->state == END ? HTTP1_CHUNK_END : HTTP1_CHUNK_MORE;
}
