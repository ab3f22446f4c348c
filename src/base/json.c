/* json.c: the reader of json.h (RFC 8259). The writer is in json_write.c.
 *
 * One pass, no recursion: open containers live on a stack of JSON_DEPTH_MAX frames. Each frame
 * refuses a repeated member name: by looking through the members while there are few, through a
 * hash set in the arena when there are many, so that a hostile object costs O(n). */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/json_plain.h"

enum {
    NAMES_LINEAR_MAX = 8,      /* members looked through one by one */
    NUMBER_CHARS_MAX = 512,    /* longer numbers have no value as a double */
    SHOWN_NAME_BYTES_MAX = 64, /* of a name in an error message */
};

struct frame {
    struct json *node; /* the open array or object */
    struct json *last; /* its newest child, or NULL */
    struct json **names;
    uint32_t n_slots; /* of names: a power of two, or 0 while the object is small */
};

struct parser {
    struct str text;
    size_t at;
    struct arena *a;
    struct err *err;
    uint32_t depth;
    struct frame stack[JSON_DEPTH_MAX];
};

/* ---- failures ---- */

static enum rc fail(struct parser *p, size_t at, const char *what)
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at; i++) {
        bool newline = p->text.ptr[i] == '\n';
        line += newline ? 1 : 0;
        column = newline ? 1 : column + 1;
    }
    return err_set(p->err, RC_SYNTAX, "invalid JSON at line %zu, column %zu (byte %zu): %s", line,
                   column, at, what);
}

static enum rc fail_arena(struct parser *p)
{
    return err_set(p->err, RC_TOO_LARGE, "JSON document needs more than its %zu bytes of memory",
                   p->a->cap_bytes);
}

/* ---- strings ---- */

static bool at_end(const struct parser *p)
{
    return p->at >= p->text.len;
}

static char peek(const struct parser *p)
{
    return at_end(p) ? '\0' : p->text.ptr[p->at];
}

/* Most programs write one blank, or none. */
static inline void skip_space(struct parser *p)
{
    const char *at = p->text.ptr + p->at, *end = p->text.ptr + p->text.len;
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) {
        at++;
    }
    p->at = (size_t)(at - p->text.ptr);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* The four digits behind "\u" at `at`; UINT32_MAX when they are not there. */
static uint32_t hex4(const struct parser *p, size_t at)
{
    uint32_t value = 0;
    if (p->text.len < 4 || at > p->text.len - 4) {
        return UINT32_MAX;
    }
    for (size_t i = 0; i < 4; i++) {
        int digit = hex_digit(p->text.ptr[at + i]);
        if (digit < 0) {
            return UINT32_MAX;
        }
        value = (value << 4) | (uint32_t)digit;
    }
    return value;
}

/* p->at is behind "\u"; moves it behind the whole escape, both halves of a surrogate pair. */
static enum rc read_unicode_escape(struct parser *p, uint32_t *cp)
{
    size_t start = p->at - 2;
    uint32_t first = hex4(p, p->at);
    if (first == UINT32_MAX) {
        return fail(p, start, "\\u needs four hexadecimal digits");
    }
    p->at += 4;
    if (first < 0xD800 || first > 0xDFFF) {
        *cp = first;
        return RC_OK;
    }
    bool pair =
        first < 0xDC00 && str_starts(str_slice(p->text, p->at, p->text.len), STR_LIT("\\u"));
    uint32_t second = pair ? hex4(p, p->at + 2) : UINT32_MAX;
    if (second < 0xDC00 || second > 0xDFFF) {
        return fail(p, start, "half of a surrogate pair");
    }
    p->at += 6;
    *cp = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
    return RC_OK;
}

/* p->at is behind the backslash. Writes at most as many bytes as the escape has; returns them in
 * *n. */
static enum rc read_escape(struct parser *p, char *out, size_t *n)
{
    static const char single[256] = {
        ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
        ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t',
    };
    char c = peek(p);
    char hit = single[(unsigned char)c];
    if (hit != '\0') {
        p->at++;
        *out = hit;
        *n = 1;
        return RC_OK;
    }
    if (c != 'u') {
        return fail(p, p->at - 1, "unknown escape in a string");
    }
    p->at++;
    uint32_t cp = 0;
    enum rc rc = read_unicode_escape(p, &cp);
    if (rc == RC_OK) {
        *n = str_utf8_encode(cp, out);
    }
    return rc;
}

/* Moves p->at over bytes that stand for themselves, to the quote or backslash behind them. With
 * `dst` they are copied there too, where JSON_PLAIN_BYTES more than the string's have room. */
static inline __attribute__((always_inline)) enum rc run_plain(struct parser *p, char **dst)
{
    for (;;) {
        size_t n_plain = JSON_PLAIN_BYTES;
        while (n_plain == JSON_PLAIN_BYTES && p->text.len - p->at >= JSON_PLAIN_BYTES) {
            n_plain = json_plain(p->text.ptr + p->at);
            if (dst != NULL) {
                memcpy(*dst, p->text.ptr + p->at, JSON_PLAIN_BYTES);
                *dst += n_plain;
            }
            p->at += n_plain;
        }
        if (at_end(p)) {
            return fail(p, p->at, "the text ends inside a string");
        }
        unsigned char c = (unsigned char)p->text.ptr[p->at];
        if (c == '"' || c == '\\') {
            return RC_OK;
        }
        if (c < 0x20) {
            return fail(p, p->at, "a control character in a string must be escaped");
        }
        uint32_t cp;
        size_t n = 1;
        if (c >= 0x80) {
            n = str_utf8_decode(str_slice(p->text, p->at, p->at + 4), &cp);
        }
        if (n == 0) {
            return fail(p, p->at, "not UTF-8");
        }
        for (size_t i = 0; dst != NULL && i < n; i++) {
            *(*dst)++ = p->text.ptr[p->at + i];
        }
        p->at += n;
    }
}

static enum rc skip_plain(struct parser *p)
{
    return run_plain(p, NULL);
}

static enum rc copy_plain(struct parser *p, char **dst)
{
    return run_plain(p, dst);
}

/* Where the string ends whose first escape is at p->at; the end of the text when it does not. A
 * quote closes it unless an odd number of backslashes stands before it. */
static size_t closing_quote(const struct parser *p)
{
    size_t from = p->at;
    for (;;) {
        const char *quote = memchr(p->text.ptr + from, '"', p->text.len - from);
        if (quote == NULL) {
            return p->text.len;
        }
        size_t at = (size_t)(quote - p->text.ptr), n = 0;
        while (at - n > p->at && quote[-1 - (ptrdiff_t)n] == '\\') {
            n++;
        }
        if (n % 2 == 0) {
            return at;
        }
        from = at + 1;
    }
}

/* The string goes on behind its first escape: copies it, unescaped, into the arena. */
static enum rc read_escaped(struct parser *p, size_t start, struct str *out)
{
    size_t end = closing_quote(p); /* an upper bound of the length */
    if (end >= p->text.len) {
        return fail(p, p->text.len, "the text ends inside a string");
    }
    char *text = arena_alloc(p->a, end - start + JSON_PLAIN_BYTES);
    if (text == NULL) {
        return fail_arena(p);
    }
    memcpy(text, p->text.ptr + start, p->at - start);
    char *dst = text + (p->at - start);
    while (p->text.ptr[p->at++] != '"') {
        size_t n = 0;
        enum rc rc = read_escape(p, dst, &n);
        dst += n;
        rc = rc == RC_OK ? copy_plain(p, &dst) : rc;
        if (rc != RC_OK) {
            return rc;
        }
    }
    ASSERT((size_t)(dst - text) <= end - start);
    *out = str_make(text, (size_t)(dst - text));
    return RC_OK;
}

/* p->at is at the opening quote. */
static enum rc read_string(struct parser *p, struct str *out)
{
    size_t start = ++p->at;
    enum rc rc = skip_plain(p);
    if (rc != RC_OK) {
        return rc;
    }
    if (p->text.ptr[p->at] == '\\') {
        return read_escaped(p, start, out);
    }
    *out = str_slice(p->text, start, p->at++);
    return RC_OK;
}

/* ---- numbers and words ---- */

static size_t skip_digits(struct parser *p)
{
    size_t start = p->at;
    while (peek(p) >= '0' && peek(p) <= '9') {
        p->at++;
    }
    return p->at - start;
}

static enum rc read_number(struct parser *p, struct json *node)
{
    size_t start = p->at;
    p->at += peek(p) == '-' ? 1 : 0;
    bool zero = peek(p) == '0';
    size_t n_digits = skip_digits(p);
    if (n_digits == 0 || (zero && n_digits > 1)) {
        return fail(p, start,
                    n_digits == 0 ? "a digit must follow the minus sign"
                                  : "a number must not start with 0");
    }
    if (peek(p) == '.') {
        p->at++;
        if (skip_digits(p) == 0) {
            return fail(p, p->at, "a digit must follow the decimal point");
        }
    }
    if (peek(p) == 'e' || peek(p) == 'E') {
        p->at++;
        p->at += peek(p) == '-' || peek(p) == '+' ? 1 : 0;
        if (skip_digits(p) == 0) {
            return fail(p, p->at, "a digit must follow the exponent");
        }
    }
    node->type = JSON_NUMBER;
    node->text = str_slice(p->text, start, p->at);
    return RC_OK;
}

static enum rc read_word(struct parser *p, struct json *node)
{
    static const struct {
        struct str word;
        enum json_type type;
        bool boolean;
    } words[] = {
        {STR_LIT("null"), JSON_NULL, false},
        {STR_LIT("true"), JSON_BOOL, true},
        {STR_LIT("false"), JSON_BOOL, false},
    };
    struct str rest = str_slice(p->text, p->at, p->text.len);
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (str_starts(rest, words[i].word)) {
            node->type = words[i].type;
            node->boolean = words[i].boolean;
            p->at += words[i].word.len;
            return RC_OK;
        }
    }
    return fail(p, p->at, at_end(p) ? "the text ends where a value is due" : "a value is due here");
}

/* ---- member names ---- */

static uint32_t name_slot(const struct frame *f, struct str name)
{
    /* The frame's address, which differs from run to run, keeps collisions from being prepared. */
    uint64_t hash = XXH3_64bits_withSeed(name.ptr, name.len, (uintptr_t)f);
    return (uint32_t)hash & (f->n_slots - 1);
}

static struct json **name_find(const struct frame *f, struct str name)
{
    uint32_t i = name_slot(f, name);
    while (f->names[i] != NULL && !str_eq(f->names[i]->name, name)) {
        i = (i + 1) & (f->n_slots - 1);
    }
    return &f->names[i];
}

/* Makes the set large enough for one more name. */
static enum rc names_grow(struct parser *p, struct frame *f)
{
    if (f->n_slots / 2 > f->node->n) {
        return RC_OK;
    }
    uint32_t n_slots = MAX(f->n_slots * 2, 4u * NAMES_LINEAR_MAX);
    struct json **names = arena_alloc_array(p->a, n_slots, sizeof(struct json *));
    if (names == NULL) {
        return fail_arena(p);
    }
    f->names = names;
    f->n_slots = n_slots;
    for (struct json *it = f->node->first; it != NULL; it = it->next) {
        *name_find(f, it->name) = it;
    }
    return RC_OK;
}

/* Names of one length mostly differ in their first byte. */
static bool same_name(const char *a, struct str b)
{
    return b.len == 0 || (a[0] == b.ptr[0] && memcmp(a, b.ptr, b.len) == 0);
}

/* Notes the name of `child`, which is not yet a member; refuses one that is there already. */
static enum rc names_add(struct parser *p, struct frame *f, struct json *child, size_t name_at)
{
    bool twice = false;
    if (f->node->n < NAMES_LINEAR_MAX) {
        for (struct json *it = f->node->first; it != NULL && !twice; it = it->next) {
            twice = it->name.len == child->name.len && same_name(it->name.ptr, child->name);
        }
    } else {
        enum rc rc = names_grow(p, f);
        if (rc != RC_OK) {
            return rc;
        }
        struct json **slot = name_find(f, child->name);
        twice = *slot != NULL;
        *slot = child;
    }
    if (twice) {
        char what[SHOWN_NAME_BYTES_MAX + 32], shown[SHOWN_NAME_BYTES_MAX];
        str_copy(shown, sizeof(shown), child->name);
        snprintf(what, sizeof(what), "the name '%s' is repeated", shown);
        return fail(p, name_at, what);
    }
    return RC_OK;
}

/* ---- the document ---- */

static enum rc frame_push(struct parser *p, struct json *node)
{
    if (p->depth == JSON_DEPTH_MAX) {
        return fail(p, p->at, "nested too deeply");
    }
    node->type = peek(p) == '{' ? JSON_OBJECT : JSON_ARRAY;
    p->stack[p->depth++] = (struct frame){.node = node};
    p->at++;
    return RC_OK;
}

/* Reads `"name" :` into the child. */
static enum rc read_name(struct parser *p, struct frame *f, struct json *child)
{
    size_t name_at = p->at;
    if (peek(p) != '"') {
        return fail(p, p->at, "a member name in double quotes is due here");
    }
    enum rc rc = read_string(p, &child->name);
    if (rc == RC_OK) {
        rc = names_add(p, f, child, name_at);
    }
    if (rc != RC_OK) {
        return rc;
    }
    skip_space(p);
    if (peek(p) != ':') {
        return fail(p, p->at, "a ':' is due after a member name");
    }
    p->at++;
    skip_space(p);
    return RC_OK;
}

/* Reads one value, or only the opening of a container (*opened). The node is appended to the
 * innermost open container. */
static enum rc read_value(struct parser *p, struct json **out, bool *opened)
{
    struct frame *f = p->depth > 0 ? &p->stack[p->depth - 1] : NULL;
    struct json *node = arena_take(p->a, sizeof(*node));
    if (node == NULL) {
        return fail_arena(p);
    }
    *node = (struct json){0};
    if (f != NULL) {
        enum rc rc = f->node->type == JSON_OBJECT ? read_name(p, f, node) : RC_OK;
        if (rc != RC_OK) {
            return rc;
        }
        if (f->last == NULL) {
            f->node->first = node;
        } else {
            f->last->next = node;
        }
        f->last = node;
        f->node->n++;
    }
    *out = node;
    char c = peek(p);
    *opened = c == '{' || c == '[';
    if (*opened) {
        return frame_push(p, node);
    }
    if (c == '"') {
        node->type = JSON_STRING;
        return read_string(p, &node->text);
    }
    return c == '-' || (c >= '0' && c <= '9') ? read_number(p, node) : read_word(p, node);
}

static bool is_closing(const struct parser *p)
{
    return peek(p) == (p->stack[p->depth - 1].node->type == JSON_OBJECT ? '}' : ']');
}

/* Behind a value: closes what closes here. Leaves p->at at the next value or name, or depth 0. */
static enum rc close_and_next(struct parser *p)
{
    while (p->depth > 0) {
        skip_space(p);
        if (is_closing(p)) {
            p->at++;
            p->depth--;
            continue;
        }
        if (peek(p) != ',') {
            bool object = p->stack[p->depth - 1].node->type == JSON_OBJECT;
            return fail(p, p->at,
                        at_end(p) ? "the text ends inside an array or object"
                        : object  ? "a ',' or '}' is due here"
                                  : "a ',' or ']' is due here");
        }
        p->at++;
        skip_space(p);
        return RC_OK;
    }
    return RC_OK;
}

enum rc json_parse(struct str text, struct arena *a, const struct json **out, struct err *err)
{
    struct parser p;
    p.text = text;
    p.at = 0;
    p.a = a;
    p.err = err;
    p.depth = 0;
    if (text.len > UINT32_MAX) { /* so that no count of items can overflow */
        return err_set(err, RC_TOO_LARGE, "JSON document of %zu bytes", text.len);
    }
    struct json *root = NULL, *node = NULL;
    skip_space(&p);
    do {
        bool opened = false;
        enum rc rc = read_value(&p, &node, &opened);
        if (rc != RC_OK) {
            return rc;
        }
        root = root == NULL ? node : root;
        if (opened) {
            skip_space(&p);
            if (!is_closing(&p)) {
                continue;
            }
        }
        rc = close_and_next(&p);
        if (rc != RC_OK) {
            return rc;
        }
    } while (p.depth > 0);
    skip_space(&p);
    if (!at_end(&p)) {
        return fail(&p, p.at, "nothing may follow the value");
    }
    *out = root;
    return RC_OK;
}

/* ---- looking things up ---- */

const struct json *json_find(const struct json *object, struct str name)
{
    if (object == NULL || object->type != JSON_OBJECT) {
        return NULL;
    }
    JSON_EACH(object, it)
    {
        if (it->name.len == name.len && same_name(it->name.ptr, name)) {
            return it;
        }
    }
    return NULL;
}

const char *json_type_name(enum json_type t)
{
    static const char *const names[] = {"null", "boolean", "number", "string", "array", "object"};
    ASSERT((size_t)t < ARRAY_LEN(names));
    return names[t];
}

/* value * 10^scale, whole and within int64_t. */
static bool scale_to_i64(uint64_t value, int64_t scale, bool negative, int64_t *out)
{
    for (; scale < 0 && value != 0; scale++) {
        if (value % 10 != 0) {
            return false;
        }
        value /= 10;
    }
    for (; scale > 0 && value != 0; scale--) {
        if (!checked_mul(value, 10u, &value)) {
            return false;
        }
    }
    if (value > (uint64_t)INT64_MAX + (negative ? 1u : 0u)) {
        return false;
    }
    *out = (int64_t)(negative ? 0 - value : value);
    return true;
}

bool json_to_i64(const struct json *n, int64_t *out)
{
    if (n->type != JSON_NUMBER || n->text.len > NUMBER_CHARS_MAX) {
        return false;
    }
    struct str t = n->text;
    bool negative = t.ptr[0] == '-', behind_point = false;
    uint64_t value = 0;
    int64_t scale = 0, zeros = 0; /* zeros wait until a digit behind them needs them */
    size_t i = negative ? 1 : 0;
    for (; i < t.len && (t.ptr[i] | 0x20) != 'e'; i++) {
        if (t.ptr[i] == '.') {
            behind_point = true;
            continue;
        }
        scale -= behind_point ? 1 : 0;
        zeros++;
        if (t.ptr[i] == '0') {
            continue;
        }
        for (; zeros > 0 && value != 0; zeros--) {
            if (!checked_mul(value, 10u, &value)) {
                return false;
            }
        }
        zeros = 0;
        if (!checked_add(value, (uint64_t)(t.ptr[i] - '0'), &value)) {
            return false;
        }
    }
    int64_t exponent = 0;
    if (i < t.len) {
        i += t.ptr[i + 1] == '+' ? 2 : 1;
        if (!str_to_i64(str_slice(t, i, t.len), &exponent)) {
            exponent = t.ptr[i] == '-' ? -INT32_MAX : INT32_MAX;
        }
        exponent = MAX(MIN(exponent, (int64_t)INT32_MAX), -(int64_t)INT32_MAX);
    }
    return scale_to_i64(value, scale + zeros + exponent, negative, out);
}

bool json_to_f64(const struct json *n, double *out)
{
    char text[NUMBER_CHARS_MAX + 1];
    if (n->type != JSON_NUMBER || n->text.len >= sizeof(text)) {
        return false;
    }
    str_copy(text, sizeof(text), n->text);
    double value = strtod(text, NULL);
    if (!isfinite(value)) {
        return false;
    }
    *out = value;
    return true;
}
