/* json_scan.c: checks a JSON object without making nodes of it, and finds one member (json.h).
 *
 * The grammar is json.c's; whoever needs to know what is wrong asks that one. Open containers are
 * bits: 1 for an object, the innermost lowest. */
#include "base/json.h"
#include "base/json_plain.h"

_Static_assert(JSON_DEPTH_MAX <= 64, "a bit for each open container");

struct scan {
    const char *at, *end;
    struct str wanted;
    struct str *value;
    const char *value_at; /* where the wanted value began; NULL = not inside it */
    uint64_t objects;
    uint32_t depth;
};

static void scan_space(struct scan *s)
{
    while (s->at < s->end &&
           (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t')) {
        s->at++;
    }
}

static bool scan_is(const struct scan *s, char c)
{
    return s->at < s->end && *s->at == c;
}

/* ---- strings ---- */

/* The four digits at `at`; UINT32_MAX when they are not there. */
static uint32_t scan_hex4(const char *at, const char *end)
{
    uint32_t value = 0;
    if (end - at < 4) {
        return UINT32_MAX;
    }
    for (int i = 0; i < 4; i++) {
        char c = at[i], lower = (char)(c | 0x20);
        bool digit = c >= '0' && c <= '9', letter = lower >= 'a' && lower <= 'f';
        if (!digit && !letter) {
            return UINT32_MAX;
        }
        value = value << 4 | (uint32_t)(digit ? c - '0' : lower - 'a' + 10);
    }
    return value;
}

/* s->at is at the backslash. */
static bool scan_escape(struct scan *s)
{
    if (s->end - s->at < 2) {
        return false;
    }
    char c = s->at[1];
    s->at += 2;
    if (c != 'u') {
        return c != '\0' && strchr("\"\\/bfnrt", c) != NULL;
    }
    uint32_t first = scan_hex4(s->at, s->end);
    if (first == UINT32_MAX) {
        return false;
    }
    s->at += 4;
    if (first < 0xD800 || first > 0xDFFF) {
        return true;
    }
    if (first > 0xDBFF || s->end - s->at < 2 || s->at[0] != '\\' || s->at[1] != 'u') {
        return false;
    }
    uint32_t second = scan_hex4(s->at + 2, s->end);
    if (second < 0xDC00 || second > 0xDFFF) {
        return false;
    }
    s->at += 6;
    return true;
}

/* s->at is behind the opening quote, and then behind the closing one. */
static bool scan_string(struct scan *s)
{
    for (;;) {
        size_t n = JSON_PLAIN_BYTES;
        while (n == JSON_PLAIN_BYTES && s->end - s->at >= JSON_PLAIN_BYTES) {
            n = json_plain(s->at);
            s->at += n;
        }
        if (s->at >= s->end) {
            return false;
        }
        unsigned char c = (unsigned char)*s->at;
        if (c == '"') {
            s->at++;
            return true;
        }
        if (c == '\\') {
            if (!scan_escape(s)) {
                return false;
            }
            continue;
        }
        uint32_t cp;
        n = c < 0x20   ? 0
            : c < 0x80 ? 1
                       : str_utf8_decode(str_make(s->at, (size_t)(s->end - s->at)), &cp);
        if (n == 0) {
            return false;
        }
        s->at += n;
    }
}

/* `"name" :`; of the outermost object it is compared, and must not be written with escapes. */
static bool scan_name(struct scan *s)
{
    if (!scan_is(s, '"')) {
        return false;
    }
    const char *start = ++s->at;
    if (!scan_string(s)) {
        return false;
    }
    struct str name = str_make(start, (size_t)(s->at - 1 - start));
    scan_space(s);
    if (!scan_is(s, ':')) {
        return false;
    }
    s->at++;
    scan_space(s);
    if (s->depth > 1) {
        return true;
    }
    if (str_eq(name, s->wanted)) {
        s->value_at = s->at;
        return s->value->ptr == NULL; /* else it is repeated */
    }
    return name.len == 0 || memchr(name.ptr, '\\', name.len) == NULL;
}

/* ---- numbers and words ---- */

static bool scan_digits(struct scan *s)
{
    const char *start = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') {
        s->at++;
    }
    return s->at > start;
}

static bool scan_number(struct scan *s)
{
    s->at += scan_is(s, '-') ? 1 : 0;
    const char *start = s->at;
    if (!scan_digits(s) || (*start == '0' && s->at - start > 1)) {
        return false;
    }
    if (scan_is(s, '.')) {
        s->at++;
        if (!scan_digits(s)) {
            return false;
        }
    }
    if (scan_is(s, 'e') || scan_is(s, 'E')) {
        s->at++;
        s->at += scan_is(s, '-') || scan_is(s, '+') ? 1 : 0;
        return scan_digits(s);
    }
    return true;
}

static bool scan_scalar(struct scan *s)
{
    static const struct str words[] = {STR_LIT("null"), STR_LIT("true"), STR_LIT("false")};
    char c = s->at < s->end ? *s->at : '\0';
    if (c == '"') {
        s->at++;
        return scan_string(s);
    }
    if (c == '-' || (c >= '0' && c <= '9')) {
        return scan_number(s);
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (str_starts(str_make(s->at, (size_t)(s->end - s->at)), words[i])) {
            s->at += words[i].len;
            return true;
        }
    }
    return false;
}

/* ---- the document ---- */

static char scan_closing(const struct scan *s)
{
    return (s->objects & 1) != 0 ? '}' : ']';
}

/* Behind the bracket or the comma: the name, where there must be one. */
static bool scan_due(struct scan *s)
{
    return (s->objects & 1) == 0 || scan_name(s);
}

/* One value, or as far as the first one in it that is not a container. *empty: it was an empty
 * container, whose end is next. */
static bool scan_value(struct scan *s, bool *empty)
{
    *empty = false;
    while (scan_is(s, '{') || scan_is(s, '[')) {
        if (s->depth == JSON_DEPTH_MAX) {
            return false;
        }
        s->objects = s->objects << 1 | (*s->at == '{' ? 1 : 0);
        s->depth++;
        s->at++;
        scan_space(s);
        if (scan_is(s, scan_closing(s))) {
            *empty = true;
            return true;
        }
        if (!scan_due(s)) {
            return false;
        }
    }
    return scan_scalar(s);
}

static void scan_note_end(struct scan *s)
{
    if (s->depth == 1 && s->value_at != NULL) {
        *s->value = str_make(s->value_at, (size_t)(s->at - s->value_at));
        s->value_at = NULL;
    }
}

/* Behind a value: closes what closes here, to the next value or to the end of all. */
static bool scan_next(struct scan *s)
{
    for (;;) {
        scan_space(s);
        if (scan_is(s, scan_closing(s))) {
            s->at++;
            s->depth--;
            s->objects >>= 1;
            scan_note_end(s);
            if (s->depth == 0) {
                return true;
            }
            continue;
        }
        if (!scan_is(s, ',')) {
            return false;
        }
        s->at++;
        scan_space(s);
        return scan_due(s);
    }
}

bool json_scan_member(struct str text, struct str name, struct str *value)
{
    *value = STR_NULL;
    if (text.len == 0) {
        return false;
    }
    struct scan s = {.at = text.ptr, .end = text.ptr + text.len, .wanted = name, .value = value};
    scan_space(&s);
    if (!scan_is(&s, '{')) {
        return false;
    }
    do {
        bool empty;
        if (!scan_value(&s, &empty)) {
            return false;
        }
        if (!empty) {
            scan_note_end(&s);
        }
        if (!scan_next(&s)) {
            return false;
        }
    } while (s.depth > 0);
    scan_space(&s);
    return s.at == s.end;
}
