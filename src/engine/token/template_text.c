/* template_text.c: building texts, and Python's str() and repr().
 *
 * Followed: CPython's unicode_repr (quotes, escapes of what is not printable), float_repr_style
 * short, list, tuple and dict reprs. */
#include "engine/token/template_text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/checked.h"
#include "engine/token/template_char.h"

enum { TEXT_BYTES_MIN = 128, FLOAT_DIGITS_MAX = 17, FLOAT_FIXED_EXP_MAX = 16 };

/* ---- building ---- */

void template_text_init(struct template_text *t, struct template_run *r)
{
    *t = (struct template_text){.run = r};
}

void template_text_init_direct(struct template_text *t, struct template_run *r, struct buf *out)
{
    *t = (struct template_text){.run = r, .direct = out};
}

/* Room for n more bytes, or NULL and a noted failure. */
static char *text_room(struct template_text *t, size_t n)
{
    size_t need;
    if (t->rc != RC_OK) {
        return NULL;
    }
    t->rc = template_spend_bytes(t->run, n);
    if (t->rc != RC_OK) {
        return NULL;
    }
    if (n <= t->size - t->len) {
        return t->ptr + t->len;
    }
    if (!checked_add(t->len, n, &need)) {
        t->rc = template_no_room(t->run);
        return NULL;
    }
    size_t size = MAX(MAX(need, t->size * 2), (size_t)TEXT_BYTES_MIN);
    char *ptr = arena_alloc(t->run->arena, size);
    if (ptr == NULL) {
        t->rc = template_no_room(t->run);
        return NULL;
    }
    if (t->len > 0) {
        memcpy(ptr, t->ptr, t->len);
    }
    t->ptr = ptr;
    t->size = size;
    return t->ptr + t->len;
}

void template_text_add(struct template_text *t, struct str s)
{
    if (t->direct != NULL) {
        if (t->rc == RC_OK) {
            t->rc = template_spend_bytes(t->run, s.len);
            buf_add_str(t->direct, s);
        }
        if (t->rc == RC_OK && !buf_ok(t->direct)) {
            t->rc = template_fail(t->run, RC_TOO_LARGE, "the prompt is longer than its buffer");
        }
        return;
    }
    char *room = s.len > 0 ? text_room(t, s.len) : NULL;
    if (room != NULL) {
        memcpy(room, s.ptr, s.len);
        t->len += s.len;
    }
}

void template_text_add_byte(struct template_text *t, char c)
{
    template_text_add(t, str_make(&c, 1));
}

void template_text_add_char(struct template_text *t, uint32_t cp)
{
    char bytes[4];
    template_text_add(t, str_make(bytes, str_utf8_encode(cp, bytes)));
}

void template_text_fill(struct template_text *t, char c, size_t n)
{
    char bytes[64];
    memset(bytes, c, sizeof(bytes));
    while (n > 0 && t->rc == RC_OK) {
        size_t part = MIN(n, sizeof(bytes));
        template_text_add(t, str_make(bytes, part));
        n -= part;
    }
}

void template_text_printf(struct template_text *t, const char *fmt, ...)
{
    char bytes[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(bytes, sizeof(bytes), fmt, ap);
    va_end(ap);
    ASSERT(n >= 0 && (size_t)n < sizeof(bytes));
    template_text_add(t, str_make(bytes, (size_t)n));
}

RC template_text_done(struct template_text *t, struct str *out)
{
    ASSERT(t->direct == NULL);
    *out = str_make(t->ptr != NULL ? t->ptr : "", t->len);
    return t->rc;
}

RC template_text_concat(struct template_run *r, const struct str *parts, size_t n, struct str *out)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        if (!checked_add(total, parts[i].len, &total)) {
            return template_no_room(r);
        }
    }
    TRY(template_spend_bytes(r, total));
    char *ptr = arena_alloc(r->arena, total);
    if (ptr == NULL) {
        return template_no_room(r);
    }
    *out = str_make(ptr, total);
    for (size_t i = 0; i < n; i++) {
        if (parts[i].len > 0) {
            memcpy(ptr, parts[i].ptr, parts[i].len);
            ptr += parts[i].len;
        }
    }
    return RC_OK;
}

/* ---- floats ---- */

/* The shortest digits that read back the same, without the point; *exp10 is of the first one. */
static int float_digits(double d, char digits[FLOAT_DIGITS_MAX + 1], int *exp10)
{
    char sci[40];
    for (int n = 1; n <= FLOAT_DIGITS_MAX; n++) {
        snprintf(sci, sizeof(sci), "%.*e", n - 1, d);
        if (strtod(sci, NULL) == d || n == FLOAT_DIGITS_MAX) {
            int k = 0;
            char *p = sci;
            for (; *p != 'e'; p++) {
                if (*p >= '0' && *p <= '9') {
                    digits[k++] = *p;
                }
            }
            *exp10 = (int)strtol(p + 1, NULL, 10);
            digits[k] = '\0';
            return k;
        }
    }
    return 0;
}

void template_write_float(struct template_text *t, double d)
{
    char digits[FLOAT_DIGITS_MAX + 1];
    int exp10 = 0;
    if (isnan(d) || isinf(d)) {
        template_text_printf(t, "%s", isnan(d) ? "nan" : d > 0 ? "inf" : "-inf");
        return;
    }
    if (signbit(d)) {
        template_text_add_byte(t, '-');
        d = -d;
    }
    int n = float_digits(d, digits, &exp10);
    if (exp10 < -4 || exp10 >= FLOAT_FIXED_EXP_MAX) {
        template_text_printf(t, "%c%s%se%c%02d", digits[0], n > 1 ? "." : "", digits + 1,
                             exp10 < 0 ? '-' : '+', abs(exp10));
    } else if (exp10 < 0) {
        template_text_printf(t, "0.%.*s%s", -exp10 - 1, "000", digits);
    } else if (n <= exp10 + 1) {
        template_text_printf(t, "%s%.*s.0", digits, exp10 + 1 - n, "0000000000000000");
    } else {
        template_text_printf(t, "%.*s.%s", exp10 + 1, digits, digits + exp10 + 1);
    }
}

/* ---- str and repr ---- */

static void repr_char(struct template_text *t, uint32_t cp, char quote)
{
    static const struct {
        char c, escape;
    } short_escapes[] = {{'\\', '\\'}, {'\t', 't'}, {'\n', 'n'}, {'\r', 'r'}};
    for (size_t i = 0; i < ARRAY_LEN(short_escapes); i++) {
        if (cp == (uint32_t)short_escapes[i].c) {
            template_text_printf(t, "\\%c", short_escapes[i].escape);
            return;
        }
    }
    if (cp == (uint32_t)quote) {
        template_text_printf(t, "\\%c", quote);
    } else if (template_char_is_printable(cp)) {
        template_text_add_char(t, cp);
    } else if (cp < 0x100) {
        template_text_printf(t, "\\x%02x", cp);
    } else if (cp < 0x10000) {
        template_text_printf(t, "\\u%04x", cp);
    } else {
        template_text_printf(t, "\\U%08x", cp);
    }
}

static void repr_text(struct template_text *t, struct str s)
{
    bool single = s.len > 0 && memchr(s.ptr, '\'', s.len) != NULL;
    bool twofold = s.len > 0 && memchr(s.ptr, '"', s.len) != NULL;
    char quote = single && !twofold ? '"' : '\'';
    uint32_t cp = 0;
    template_text_add_byte(t, quote);
    while (s.len > 0 && t->rc == RC_OK) {
        size_t n = template_decode(s, &cp);
        repr_char(t, cp, quote);
        t->rc = t->rc != RC_OK ? t->rc : template_spend(t->run, 1);
        s = str_slice(s, n, s.len);
    }
    template_text_add_byte(t, quote);
}

static RC repr_seq(struct template_text *t, const struct template_seq *s)
{
    static const char *const open[] = {
        [SEQ_LIST] = "[",
        [SEQ_TUPLE] = "(",
        [SEQ_KEYS] = "dict_keys([",
        [SEQ_VALUES] = "dict_values([",
        [SEQ_ITEMS] = "dict_items([",
    };
    static const char *const close[] = {
        [SEQ_LIST] = "]",    [SEQ_TUPLE] = ")",  [SEQ_KEYS] = "])",
        [SEQ_VALUES] = "])", [SEQ_ITEMS] = "])",
    };
    if (s->kind == SEQ_RANGE) {
        /* A range prints as its bounds; with the step known these are an equal range's. */
        int64_t first = s->n > 0 ? s->items[0].integer : 0;
        int64_t step = s->n > 1 ? s->items[1].integer - first : 1;
        template_text_printf(t, "range(%lld, %lld", (long long)first,
                             (long long)(first + step * (int64_t)s->n));
        if (step != 1) {
            template_text_printf(t, ", %lld", (long long)step);
        }
        template_text_add_byte(t, ')');
        return t->rc;
    }
    if (s->kind == SEQ_GENERATOR) {
        return template_fail(t->run, RC_INVALID, "a generator has no text: use |list or |join");
    }
    template_text_add(t, str_from(open[s->kind]));
    for (uint32_t i = 0; i < s->n; i++) {
        template_text_add(t, i > 0 ? STR_LIT(", ") : STR_LIT(""));
        TRY(template_write_repr(t, &s->items[i]));
    }
    template_text_add(t, s->kind == SEQ_TUPLE && s->n == 1 ? STR_LIT(",") : STR_LIT(""));
    template_text_add(t, str_from(close[s->kind]));
    return t->rc;
}

static RC repr_dict(struct template_text *t, const struct template_dict *d)
{
    template_text_add_byte(t, '{');
    for (uint32_t i = 0; i < d->n; i++) {
        template_text_add(t, i > 0 ? STR_LIT(", ") : STR_LIT(""));
        TRY(template_write_repr(t, &d->pairs[i].key));
        template_text_add(t, STR_LIT(": "));
        TRY(template_write_repr(t, &d->pairs[i].value));
    }
    template_text_add_byte(t, '}');
    return t->rc;
}

RC template_write_repr(struct template_text *t, const struct template_value *v)
{
    enum rc rc = RC_OK;
    TRY(template_enter(t->run));
    TRY(template_spend(t->run, 1));
    switch (v->type) {
    case TV_STR:
        template_text_add(t, v->safe ? STR_LIT("Markup(") : STR_LIT(""));
        repr_text(t, v->text);
        template_text_add(t, v->safe ? STR_LIT(")") : STR_LIT(""));
        break;
    case TV_UNDEFINED:
        template_text_add(t, STR_LIT("Undefined"));
        break;
    case TV_SEQ:
        rc = repr_seq(t, v->seq);
        break;
    case TV_DICT:
        rc = repr_dict(t, v->dict);
        break;
    case TV_NAMESPACE:
        template_text_add(t, STR_LIT("<Namespace "));
        rc = repr_dict(t, v->dict);
        template_text_add_byte(t, '>');
        break;
    default:
        rc = template_write_str(t, v);
        break;
    }
    template_leave(t->run);
    return rc != RC_OK ? rc : t->rc;
}

RC template_write_str(struct template_text *t, const struct template_value *v)
{
    switch (v->type) {
    case TV_UNDEFINED:
        break;
    case TV_NONE:
        template_text_add(t, STR_LIT("None"));
        break;
    case TV_BOOL:
        template_text_add(t, v->boolean ? STR_LIT("True") : STR_LIT("False"));
        break;
    case TV_INT:
        template_text_printf(t, "%lld", (long long)v->integer);
        break;
    case TV_FLOAT:
        template_write_float(t, v->number);
        break;
    case TV_STR:
    case TV_BIGINT:
        template_text_add(t, v->text);
        break;
    case TV_SEQ:
    case TV_DICT:
    case TV_NAMESPACE:
        return template_write_repr(t, v);
    default:
        return template_fail(t->run, RC_INVALID, "a %s has no text", template_type_name(v));
    }
    return t->rc;
}

RC template_to_str(struct template_run *r, const struct template_value *v, struct str *out)
{
    if (v->type == TV_STR) {
        *out = v->text;
        return RC_OK;
    }
    struct template_text t;
    template_text_init(&t, r);
    TRY(template_write_str(&t, v));
    return template_text_done(&t, out);
}
