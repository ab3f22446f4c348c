/* json_write.c: the writer of json.h. It puts the commas; the caller keeps names and values in
 * turn, which the asserts check. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/json.h"

void json_write_init(struct json_writer *w, struct buf *out)
{
    *w = (struct json_writer){.out = out};
}

/* ---- structure ---- */

static void before_value(struct json_writer *w)
{
    if (w->need_comma && !w->after_name) {
        buf_add_byte(w->out, ',');
    }
    w->need_comma = true;
    w->after_name = false;
}

static void open_with(struct json_writer *w, char c)
{
    ASSERT(w->depth < UINT8_MAX);
    before_value(w);
    buf_add_byte(w->out, c);
    w->depth++;
    w->need_comma = false;
}

static void close_with(struct json_writer *w, char c)
{
    ASSERT(w->depth > 0);
    ASSERT(!w->after_name);
    buf_add_byte(w->out, c);
    w->depth--;
    w->need_comma = true;
}

void json_write_object_begin(struct json_writer *w)
{
    open_with(w, '{');
}

void json_write_object_end(struct json_writer *w)
{
    close_with(w, '}');
}

void json_write_array_begin(struct json_writer *w)
{
    open_with(w, '[');
}

void json_write_array_end(struct json_writer *w)
{
    close_with(w, ']');
}

/* ---- strings ---- */

/* A byte that must be escaped; n bytes of not-UTF-8 never come here. */
static void add_escape(struct buf *out, unsigned char c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *hit = c != '\0' ? strchr(from, c) : NULL;
    if (hit != NULL) {
        char two[2] = {'\\', to[hit - from]};
        buf_add(out, two, sizeof(two));
    } else {
        buf_add_printf(out, "\\u%04x", c);
    }
}

/* How many bytes of whole words, eight at a time, need no look: neither quote, backslash, control
 * nor beyond ASCII. Borrows can only mark bytes above a true one. */
static size_t plain_before(struct str s)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    size_t at = 0;
    while (s.len - at >= sizeof(ones)) {
        uint64_t w;
        memcpy(&w, s.ptr + at, sizeof(w));
        uint64_t quote = w ^ (ones * '"'), slash = w ^ (ones * '\\');
        uint64_t hit = ((quote - ones) & ~quote) | ((slash - ones) & ~slash) | (w - ones * 0x20);
        if (((hit | w) & high) != 0) {
            break;
        }
        at += sizeof(w);
    }
    return at;
}

static void add_quoted(struct buf *out, struct str s)
{
    size_t from = 0, i = 0;
    buf_add_byte(out, '"');
    while (i < s.len) {
        i += plain_before(str_slice(s, i, s.len));
        if (i == s.len) {
            break;
        }
        unsigned char c = (unsigned char)s.ptr[i];
        if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
            i++;
            continue;
        }
        uint32_t cp;
        size_t n = c >= 0x80 ? str_utf8_decode(str_slice(s, i, s.len), &cp) : 0;
        if (n > 0) {
            i += n;
            continue;
        }
        buf_add(out, s.ptr + from, i - from);
        if (c >= 0x80) {
            buf_add_cstr(out, "\xEF\xBF\xBD");
        } else {
            add_escape(out, c);
        }
        from = ++i;
    }
    if (i > from) {
        buf_add(out, s.ptr + from, i - from);
    }
    buf_add_byte(out, '"');
}

void json_write_name_str(struct json_writer *w, struct str name)
{
    ASSERT(w->depth > 0);
    ASSERT(!w->after_name);
    if (w->need_comma) {
        buf_add_byte(w->out, ',');
    }
    add_quoted(w->out, name);
    buf_add_byte(w->out, ':');
    w->after_name = true;
}

void json_write_name(struct json_writer *w, const char *name)
{
    json_write_name_str(w, str_from(name));
}

void json_write_str(struct json_writer *w, struct str s)
{
    before_value(w);
    add_quoted(w->out, s);
}

void json_write_cstr(struct json_writer *w, const char *s)
{
    json_write_str(w, str_from(s));
}

/* ---- other values ---- */

void json_write_raw(struct json_writer *w, struct str json)
{
    before_value(w);
    buf_add_str(w->out, json);
}

/* Digits of `magnitude`, with a minus sign when asked for. */
static void write_digits(struct json_writer *w, uint64_t magnitude, bool negative)
{
    char text[1 + STR_U64_BYTES] = "-";
    size_t n = str_put_u64(text + 1, magnitude);
    json_write_raw(w, negative ? str_make(text, n + 1) : str_make(text + 1, n));
}

void json_write_u64(struct json_writer *w, uint64_t v)
{
    write_digits(w, v, false);
}

void json_write_i64(struct json_writer *w, int64_t v)
{
    write_digits(w, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, v < 0);
}

void json_write_f64(struct json_writer *w, double v)
{
    if (!isfinite(v)) {
        json_write_null(w);
        return;
    }
    /* Fifteen digits survive any decimal that was short to begin with; seventeen always do. */
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, v);
        if (strtod(text, NULL) == v) {
            break;
        }
    }
    json_write_raw(w, str_from(text));
}

/* m / 10^(8 + scale) for scale 0 to 4, without zeros at the end. Returns the characters written. */
static size_t write_decimal(char *out, uint32_t m, int scale)
{
    char digits[9];
    size_t n = 0;
    for (int i = 8; i >= 0; i--, m /= 10) {
        digits[i] = (char)('0' + m % 10);
    }
    out[n++] = scale == 0 ? digits[0] : '0';
    out[n++] = '.';
    for (int i = 1; i < scale; i++) {
        out[n++] = '0';
    }
    for (int i = scale == 0 ? 1 : 0; i < 9; i++) {
        out[n++] = digits[i];
    }
    while (out[n - 1] == '0') {
        n--;
    }
    return out[n - 1] == '.' ? n - 1 : n;
}

void json_write_f32(struct json_writer *w, float v)
{
    /* Vectors have thousands of these: printf would take longer than the model that made them.
     * Half a unit of the ninth digit is far less than half the step between two floats, so the
     * product need not be exact. */
    static const double powers[] = {1e8, 1e9, 1e10, 1e11, 1e12};
    static const float least[] = {1.0f, 0.1f, 0.01f, 0.001f, 0.0001f};
    char text[32];
    float size = fabsf(v);
    if (!(size >= least[4] && size < 9.5f)) {
        if (isfinite(v)) {
            snprintf(text, sizeof(text), "%.9g", (double)v);
        }
        json_write_raw(w, isfinite(v) ? str_from(text) : STR_LIT("null"));
        return;
    }
    int scale = 0;
    while (size < least[scale]) {
        scale++;
    }
    uint32_t m = (uint32_t)((double)size * powers[scale] + 0.5);
    size_t sign = v < 0 ? 1 : 0;
    text[0] = '-';
    json_write_raw(w, str_make(text, sign + write_decimal(text + sign, m, scale)));
}

void json_write_bool(struct json_writer *w, bool v)
{
    json_write_raw(w, v ? STR_LIT("true") : STR_LIT("false"));
}

void json_write_null(struct json_writer *w)
{
    json_write_raw(w, STR_LIT("null"));
}

/* ---- parsed values ---- */

/* A container's opening, or the whole of a scalar. */
static void write_shallow(struct json_writer *w, const struct json *v)
{
    switch (v->type) {
    case JSON_NULL:
        json_write_null(w);
        break;
    case JSON_BOOL:
        json_write_bool(w, v->boolean);
        break;
    case JSON_NUMBER:
        json_write_raw(w, v->text);
        break;
    case JSON_STRING:
        json_write_str(w, v->text);
        break;
    case JSON_ARRAY:
        json_write_array_begin(w);
        break;
    case JSON_OBJECT:
        json_write_object_begin(w);
        break;
    }
}

void json_write_value(struct json_writer *w, const struct json *v)
{
    const struct json *open[JSON_DEPTH_MAX]; /* containers around `it` */
    uint32_t depth = 0;
    const struct json *it = v;
    for (;;) {
        if (depth > 0 && open[depth - 1]->type == JSON_OBJECT) {
            json_write_name_str(w, it->name);
        }
        write_shallow(w, it);
        if (it->type == JSON_ARRAY || it->type == JSON_OBJECT) {
            ASSERT(depth < JSON_DEPTH_MAX);
            open[depth++] = it;
            if (it->first != NULL) {
                it = it->first;
                continue;
            }
            it = NULL; /* empty: closed at once below */
        }
        while (depth > 0 && (it == NULL || it->next == NULL)) {
            it = open[--depth];
            close_with(w, it->type == JSON_OBJECT ? '}' : ']');
            if (depth == 0) {
                return;
            }
        }
        if (depth == 0) {
            return;
        }
        it = it->next;
    }
}

/* ---- name and value together ---- */

void json_write_member_str(struct json_writer *w, const char *name, struct str s)
{
    json_write_name(w, name);
    json_write_str(w, s);
}

void json_write_member_cstr(struct json_writer *w, const char *name, const char *s)
{
    json_write_name(w, name);
    json_write_cstr(w, s);
}

void json_write_member_i64(struct json_writer *w, const char *name, int64_t v)
{
    json_write_name(w, name);
    json_write_i64(w, v);
}

void json_write_member_u64(struct json_writer *w, const char *name, uint64_t v)
{
    json_write_name(w, name);
    json_write_u64(w, v);
}

void json_write_member_f64(struct json_writer *w, const char *name, double v)
{
    json_write_name(w, name);
    json_write_f64(w, v);
}

void json_write_member_bool(struct json_writer *w, const char *name, bool v)
{
    json_write_name(w, name);
    json_write_bool(w, v);
}

void json_write_member_null(struct json_writer *w, const char *name)
{
    json_write_name(w, name);
    json_write_null(w);
}
