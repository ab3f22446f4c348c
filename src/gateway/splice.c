/* splice.c: see splice.h. It walks the top level only: strings and nesting are skipped over. */
#include "gateway/splice.h"

#include "base/assert.h"

/* Behind the string whose opening quote is at `i`. Texts are most of a long body: they are left at
 * memchr's speed. A quote counts unless an odd number of backslashes stands before it. */
static size_t splice_skip_string(struct str s, size_t i)
{
    const char *start = s.ptr + i + 1, *end = s.ptr + s.len, *quote = start;
    while (quote < end && (quote = memchr(quote, '"', (size_t)(end - quote))) != NULL) {
        const char *run = quote;
        while (run > start && run[-1] == '\\') {
            run--;
        }
        quote++;
        if ((quote - 1 - run) % 2 == 0) {
            return (size_t)(quote - s.ptr);
        }
    }
    return s.len;
}

/* Behind the value that begins at `i`: to the comma or bracket of the level it stands in. */
static size_t splice_skip_value(struct str s, size_t i)
{
    unsigned depth = 0;
    while (i < s.len) {
        char c = s.ptr[i];
        if (c == '"') {
            i = splice_skip_string(s, i);
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}')) {
            return i;
        }
        depth += c == '{' || c == '[' ? 1 : 0;
        depth -= c == '}' || c == ']' ? 1 : 0;
        i++;
    }
    return i;
}

static size_t splice_skip_to(struct str s, size_t i, const char *stops)
{
    while (i < s.len && (s.ptr[i] == '\0' || strchr(stops, s.ptr[i]) == NULL)) {
        i++;
    }
    return i;
}

/* The character of the escape whose backslash is at *i, which moves to its last byte; NUL for all
 * that no name of ours has. */
static char splice_unescape(struct str s, size_t *i)
{
    static const char digits[] = "0123456789abcdef";
    char c = ++*i < s.len ? s.ptr[*i] : '\0';
    if (c != 'u') {
        return c == '"' || c == '\\' || c == '/' ? c : '\0';
    }
    unsigned code = 0;
    for (int n = 0; n < 4; n++) {
        char digit = ++*i < s.len ? s.ptr[*i] : '\0';
        const char *at = digit != '\0' ? strchr(digits, digit >= 'A' ? digit | 0x20 : digit) : NULL;
        code = code * 16 + (at != NULL ? (unsigned)(at - digits) : 0);
    }
    return code < 0x80 ? (char)code : '\0';
}

/* A name may be written with escapes and is still the same. */
static bool splice_name_is(struct str written, struct str name)
{
    size_t at = 0;
    for (size_t i = 0; i < written.len; i++) {
        char c = written.ptr[i] == '\\' ? splice_unescape(written, &i) : written.ptr[i];
        if (at == name.len || c != name.ptr[at++]) {
            return false;
        }
    }
    return at == name.len;
}

static uint32_t splice_find(struct str name, const struct splice_edit *edits, uint32_t n)
{
    uint32_t i = 0;
    while (i < n && !splice_name_is(name, edits[i].name)) {
        i++;
    }
    return i;
}

static void splice_add_rest(struct buf *out, const struct splice_edit *edits, uint32_t n,
                            uint32_t done)
{
    for (uint32_t i = 0; i < n; i++) {
        if ((done & (1u << i)) == 0) {
            buf_add_str(out, STR_LIT(",\""));
            buf_add_str(out, edits[i].name);
            buf_add_str(out, STR_LIT("\":"));
            buf_add_str(out, edits[i].value);
        }
    }
}

struct splice_member {
    struct str name;
    size_t value, behind; /* of the value */
};

/* The member whose name's quote is at *i; *i moves to the next one's, or to the end. */
static bool splice_next(struct str s, size_t *i, struct splice_member *m)
{
    if (*i >= s.len || s.ptr[*i] != '"') {
        return false;
    }
    size_t end = splice_skip_string(s, *i);
    m->name = str_slice(s, *i + 1, end - 1);
    m->value = splice_skip_to(s, end, ":") + 1;
    m->behind = splice_skip_value(s, m->value);
    *i = m->behind < s.len && s.ptr[m->behind] == ',' ? splice_skip_to(s, m->behind, "\"") : s.len;
    return true;
}

bool splice_has(struct str object, struct str name)
{
    struct splice_member m;
    size_t i = splice_skip_to(object, 0, "\"");
    while (splice_next(object, &i, &m)) {
        if (splice_name_is(m.name, name)) {
            return true;
        }
    }
    return false;
}

void splice(struct buf *out, struct str object, const struct splice_edit *edits, uint32_t n)
{
    ASSERT(n <= SPLICE_EDITS_MAX);
    if (buf_reserve(out, object.len) == NULL) { /* at once: it may be long */
        return;
    }
    uint32_t done = 0;
    size_t kept = 0; /* copied so far */
    size_t i = splice_skip_to(object, 0, "\"");
    size_t last = i;
    struct splice_member m;
    while (splice_next(object, &i, &m)) {
        uint32_t at = splice_find(m.name, edits, n);
        if (at < n) {
            buf_add_str(out, str_slice(object, kept, m.value));
            buf_add_str(out, edits[at].value);
            kept = m.behind;
            done |= 1u << at;
        }
        last = m.behind;
    }
    buf_add_str(out, str_slice(object, kept, MAX(kept, last)));
    splice_add_rest(out, edits, n, done);
    buf_add_str(out, str_slice(object, MAX(kept, last), object.len));
}
