/* detok.c: ids back to text, one at a time, whole characters only.
 *
 * Invariant: held[0..n_held) is the beginning of a UTF-8 character that more bytes can finish. */
#include "base/assert.h"
#include "engine/token/encode.h"
#include "engine/token/vocab.h"

#define DETOK_REPLACEMENT STR_LIT("\xef\xbf\xbd")

/* ---- one token ---- */

static int detok_hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "<0x0A>" is one byte; a byte token of another shape is its own text. */
static void detok_byte(struct str text, struct buf *out)
{
    if (text.len == 6 && str_starts(text, STR_LIT("<0x")) && text.ptr[5] == '>') {
        int high = detok_hex(text.ptr[3]), low = detok_hex(text.ptr[4]);
        if (high >= 0 && low >= 0) {
            buf_add_byte(out, (char)(high * 16 + low));
            return;
        }
    }
    buf_add_str(out, text);
}

static void detok_unescape(struct str text, struct buf *out)
{
    while (text.len > 0) {
        size_t n = str_find(text, VOCAB_SPACE_STR);
        buf_add(out, text.ptr, n);
        if (n == text.len) {
            return;
        }
        buf_add_byte(out, ' ');
        text = str_slice(text, n + VOCAB_SPACE_STR.len, text.len);
    }
}

/* Byte-level: every character stands for a byte; one that does not is itself. */
static void detok_unmap(struct str text, struct buf *out)
{
    while (text.len > 0) {
        uint32_t cp = 0;
        size_t n = str_utf8_decode(text, &cp);
        int byte = n > 0 ? bpe_byte_of(cp) : -1;
        n = MAX(n, 1);
        if (byte >= 0) {
            buf_add_byte(out, (char)byte);
        } else {
            buf_add(out, text.ptr, n);
        }
        text = str_slice(text, n, text.len);
    }
}

/* WordPiece: a word's first piece brings the space before it, or "##" says that it is not one. */
static void detok_wordpiece(const struct vocab *v, struct str text, struct buf *out)
{
    if (!v->continuation) {
        detok_unescape(text, out);
    } else if (str_starts(text, STR_LIT("##"))) {
        buf_add(out, text.ptr + 2, text.len - 2);
    } else {
        buf_add_byte(out, ' ');
        buf_add_str(out, text);
    }
}

void vocab_decode_piece(const struct vocab *v, int32_t id, bool special, struct buf *out)
{
    struct str text = vocab_text(v, id);
    switch (vocab_attr(v, id)) {
    case TOKEN_UNKNOWN:
    case TOKEN_CONTROL:
        if (special) {
            buf_add_str(out, text);
        }
        return;
    case TOKEN_USER_DEFINED:
        buf_add_str(out, text);
        return;
    case TOKEN_BYTE:
        detok_byte(text, out);
        return;
    case TOKEN_NORMAL:
    case TOKEN_UNUSED:
        break;
    }
    if (v->kind == VOCAB_WORDPIECE) {
        detok_wordpiece(v, text, out);
    } else if (v->kind == VOCAB_SPM || v->spm_text) {
        detok_unescape(text, out);
    } else {
        detok_unmap(text, out);
    }
}

/* ---- many tokens ---- */

/* How many bytes the character at s has and whether they are all there: n > 0: whole; 0: s is a
 * proper beginning; -n: n bytes that never become a character. */
static int detok_char(struct str s)
{
    uint32_t cp;
    size_t whole = str_utf8_decode(s, &cp);
    if (whole > 0) {
        return (int)whole;
    }
    /* Second bytes per first byte: RFC 3629, section 4. */
    unsigned char b = (unsigned char)s.ptr[0];
    int need = b >= 0xc2 && b <= 0xdf   ? 2
               : b >= 0xe0 && b <= 0xef ? 3
               : b >= 0xf0 && b <= 0xf4 ? 4
                                        : 1;
    unsigned char low = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
    unsigned char high = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
    int n = 1;
    while (n < need && (size_t)n < s.len) {
        unsigned char c = (unsigned char)s.ptr[n];
        if (c < low || c > high) {
            break;
        }
        low = 0x80;
        high = 0xbf;
        n++;
    }
    return need > 1 && (size_t)n == s.len ? 0 : -n;
}

void detok_init(struct detok *d, const struct vocab *v, struct detok_options opt)
{
    *d =
        (struct detok){.vocab = v,
                       .special = opt.special,
                       .at_start = opt.at_start && (v->space_prefix || v->kind == VOCAB_WORDPIECE)};
}

static void detok_feed(struct detok *d, char byte, struct buf *out)
{
    ASSERT(d->n_held < sizeof(d->held));
    d->held[d->n_held++] = byte;
    while (d->n_held > 0) {
        int n = detok_char(str_make(d->held, d->n_held));
        if (n == 0) {
            return;
        }
        if (n > 0) {
            buf_add(out, d->held, (size_t)n);
        } else {
            buf_add_str(out, DETOK_REPLACEMENT);
            n = -n;
        }
        d->n_held = (uint8_t)(d->n_held - n);
        memmove(d->held, d->held + n, d->n_held);
    }
}

void detok_push(struct detok *d, int32_t id, struct buf *out)
{
    char piece[VOCAB_TEXT_BYTES_MAX + 1];
    size_t from = out->len;
    vocab_decode_piece(d->vocab, id, d->special, out);
    if (!buf_ok(out) || out->len == from) {
        return;
    }
    if (d->at_start && out->ptr[from] == ' ') {
        memmove(out->ptr + from, out->ptr + from + 1, out->len - from - 1);
        buf_truncate(out, out->len - 1);
    }
    d->at_start = false;
    size_t n = out->len - from;
    if (d->n_held == 0 && str_utf8_valid(str_make(out->ptr + from, n))) {
        return;
    }
    ASSERT(n <= sizeof(piece));
    memcpy(piece, out->ptr + from, n);
    buf_truncate(out, from);
    for (size_t i = 0; i < n; i++) {
        detok_feed(d, piece[i], out);
    }
}

void detok_finish(struct detok *d, struct buf *out)
{
    if (d->n_held > 0) {
        buf_add_str(out, DETOK_REPLACEMENT);
    }
    d->n_held = 0;
}
