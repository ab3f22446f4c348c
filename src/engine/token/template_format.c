/* template_format.c: "…" % args, "…".format(…) and strftime.
 *
 * Both languages of formatting meet in one struct format_spec. Widths and precisions are bounded;
 * str.format serves fields by position and name with a plain specification, and neither attributes
 * nor nested fields. strftime is done letter by letter, so that no directive can ask for more than
 * a few bytes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/assert.h"
#include "engine/token/template_call.h"
#include "engine/token/template_text.h"

enum { FORMAT_WIDTH_MAX = 10000, FORMAT_PRECISION_MAX = 100 };

struct format_spec {
    char align; /* '<', '>', '^', '=' (after the sign) or 0 */
    char sign;  /* '+', ' ' or 0 */
    bool alternate;
    bool zero;
    int64_t width;
    int64_t precision; /* -1: none */
    char type;         /* 0: by the value */
    uint32_t fill;
};

/* ---- one value ---- */

/* `text` in a field: its sign, if any, is sign_bytes long. */
static RC format_pad(struct template_text *t, struct str text, size_t sign_bytes,
                     const struct format_spec *s)
{
    int64_t n = (int64_t)template_text_length(text);
    int64_t more = s->width > n ? s->width - n : 0;
    int64_t before = s->align == '>' ? more : s->align == '^' ? more / 2 : 0;
    int64_t middle = s->align == '=' ? more : 0;
    uint32_t fill = s->fill != 0 ? s->fill : ' ';
    for (int64_t i = 0; i < before; i++) {
        template_text_add_char(t, fill);
    }
    template_text_add(t, str_slice(text, 0, sign_bytes));
    for (int64_t i = 0; i < middle; i++) {
        template_text_add_char(t, fill);
    }
    template_text_add(t, str_slice(text, sign_bytes, text.len));
    for (int64_t i = before + middle; i < more; i++) {
        template_text_add_char(t, fill);
    }
    return t->rc;
}

static RC format_number_text(struct template_text *t, const char *digits, bool negative,
                             const struct format_spec *spec)
{
    char text[512];
    struct format_spec s = *spec;
    const char *sign = negative ? "-" : s.sign == '+' ? "+" : s.sign == ' ' ? " " : "";
    const char *prefix = !s.alternate    ? ""
                         : s.type == 'x' ? "0x"
                         : s.type == 'X' ? "0X"
                         : s.type == 'o' ? "0o"
                                         : "";
    int n = snprintf(text, sizeof(text), "%s%s%s", sign, prefix, digits);
    ASSERT(n >= 0 && (size_t)n < sizeof(text));
    if (s.zero && s.align == 0) {
        s.align = '=';
        s.fill = '0';
    }
    s.align = s.align == 0 ? '>' : s.align;
    return format_pad(t, str_make(text, (size_t)n), strlen(sign) + strlen(prefix), &s);
}

static RC format_whole(struct template_text *t, const struct template_value *v,
                       const struct format_spec *s)
{
    char digits[FORMAT_PRECISION_MAX + 80], body[72];
    int64_t i;
    if (v->type == TV_FLOAT && isfinite(v->number) && fabs(v->number) < 9.2e18) {
        i = (int64_t)v->number;
    } else if (!template_as_int(v, &i)) {
        return template_fail(t->run, RC_INVALID, "%%%c format: a whole number is required, not %s",
                             s->type, template_type_name(v));
    }
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    const char *fmt = s->type == 'x' ? "%llx" : s->type == 'X' ? "%llX" : "%llo";
    if (s->type == 'x' || s->type == 'X' || s->type == 'o') {
        snprintf(body, sizeof(body), fmt, (unsigned long long)u);
    } else {
        snprintf(body, sizeof(body), "%llu", (unsigned long long)u);
    }
    int zeros = s->precision > (int64_t)strlen(body) ? (int)s->precision - (int)strlen(body) : 0;
    snprintf(digits, sizeof(digits), "%.*s%s", zeros,
             "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
             "000000000000000",
             body);
    return format_number_text(t, digits, i < 0, s);
}

static RC format_float(struct template_text *t, const struct template_value *v,
                       const struct format_spec *s)
{
    char digits[FORMAT_PRECISION_MAX + 330], fmt[8] = "%.*f";
    double d;
    if (!template_as_float(v, &d)) {
        return template_fail(t->run, RC_INVALID, "must be a real number, not %s",
                             template_type_name(v));
    }
    bool percent = s->type == '%';
    fmt[3] = percent ? 'f' : s->type;
    int precision = s->precision < 0 ? 6 : (int)s->precision;
    int n = 0;
    /* The letter is one of eEfFgG, so the format is as good as literal. */
    switch (fmt[3]) {
    case 'e':
        n = snprintf(digits, sizeof(digits), "%.*e", precision, fabs(d));
        break;
    case 'E':
        n = snprintf(digits, sizeof(digits), "%.*E", precision, fabs(d));
        break;
    case 'g':
        n = snprintf(digits, sizeof(digits), "%.*g", precision, fabs(d));
        break;
    case 'G':
        n = snprintf(digits, sizeof(digits), "%.*G", precision, fabs(d));
        break;
    default:
        n = snprintf(digits, sizeof(digits), percent ? "%.*f%%" : "%.*f", precision,
                     fabs(d) * (percent ? 100.0 : 1.0));
        break;
    }
    ASSERT(n >= 0 && (size_t)n < sizeof(digits));
    return format_number_text(t, digits, signbit(d) && !isnan(d), s);
}

static struct str first_chars(struct str s, int64_t n)
{
    size_t at = 0;
    uint32_t cp;
    for (; n > 0 && at < s.len; n--) {
        at += template_decode(str_slice(s, at, s.len), &cp);
    }
    return str_slice(s, 0, at);
}

static RC format_text(struct template_text *t, struct str text, const struct format_spec *spec,
                      char align)
{
    struct format_spec s = *spec;
    s.align = s.align == 0 ? align : s.align;
    return format_pad(t, s.precision >= 0 ? first_chars(text, s.precision) : text, 0, &s);
}

static RC to_repr(struct template_run *r, const struct template_value *v, struct str *out)
{
    struct template_text t;
    template_text_init(&t, r);
    TRY(template_write_repr(&t, v));
    return template_text_done(&t, out);
}

/* ---- % ---- */

struct percent_args {
    const struct template_value *all;
    uint32_t next;
};

static RC percent_next(struct template_run *r, struct percent_args *p, struct template_value *out)
{
    bool tuple = tv_is_seq(p->all, SEQ_TUPLE);
    uint32_t n = tuple ? p->all->seq->n : 1;
    if (p->next >= n) {
        return template_fail(r, RC_INVALID, "not enough arguments for format string");
    }
    *out = tuple ? p->all->seq->items[p->next] : *p->all;
    p->next++;
    return RC_OK;
}

static RC percent_number(struct template_run *r, struct percent_args *p, struct str *s,
                         int64_t *out)
{
    struct template_value v;
    if (s->len > 0 && s->ptr[0] == '*') {
        *s = str_slice(*s, 1, s->len);
        TRY(percent_next(r, p, &v));
        return template_arg_int(r, &v, "*", out);
    }
    for (*out = 0; s->len > 0 && s->ptr[0] >= '0' && s->ptr[0] <= '9';
         *s = str_slice(*s, 1, s->len)) {
        *out = MIN(*out * 10 + (s->ptr[0] - '0'), (int64_t)FORMAT_WIDTH_MAX + 1);
    }
    return RC_OK;
}

/* Flags, width and precision; *s is left at the letter. */
static RC percent_spec(struct template_run *r, struct percent_args *p, struct str *s,
                       struct format_spec *out)
{
    *out = (struct format_spec){.precision = -1};
    for (; s->len > 0 && strchr("-+ #0", s->ptr[0]) != NULL && s->ptr[0] != '\0';
         *s = str_slice(*s, 1, s->len)) {
        char c = s->ptr[0];
        out->align = c == '-' ? '<' : out->align;
        out->sign = c == '+' || (c == ' ' && out->sign == 0) ? c : out->sign;
        out->alternate = out->alternate || c == '#';
        out->zero = out->zero || c == '0';
    }
    TRY(percent_number(r, p, s, &out->width));
    if (out->width < 0) {
        out->align = '<';
        out->width = out->width < -FORMAT_WIDTH_MAX ? FORMAT_WIDTH_MAX + 1 : -out->width;
    }
    if (s->len > 0 && s->ptr[0] == '.') {
        *s = str_slice(*s, 1, s->len);
        TRY(percent_number(r, p, s, &out->precision));
        out->precision = MAX(out->precision, 0);
    }
    while (s->len > 0 && (s->ptr[0] == 'h' || s->ptr[0] == 'l' || s->ptr[0] == 'L')) {
        *s = str_slice(*s, 1, s->len);
    }
    if (out->width > FORMAT_WIDTH_MAX || out->precision > FORMAT_PRECISION_MAX) {
        return template_fail(r, RC_TOO_LARGE, "a format field too wide");
    }
    return s->len > 0 ? RC_OK : template_fail(r, RC_INVALID, "incomplete format");
}

static RC percent_value(struct template_text *t, const struct template_value *v,
                        const struct format_spec *s)
{
    struct str text;
    switch (s->type) {
    case 's':
        TRY(template_to_str(t->run, v, &text));
        return format_text(t, text, s, '>');
    case 'r':
    case 'a':
        TRY(to_repr(t->run, v, &text));
        return format_text(t, text, s, '>');
    case 'd':
    case 'i':
    case 'u':
        if (v->type == TV_BIGINT) {
            return format_text(t, v->text, s, '>');
        }
        return format_whole(t, v, s);
    case 'x':
    case 'X':
    case 'o':
        return format_whole(t, v, s);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        return format_float(t, v, s);
    default:
        return template_fail(t->run, RC_INVALID, "unsupported format character");
    }
}

/* One directive, after its '%'. */
static RC percent_directive(struct template_text *t, struct percent_args *p, struct str *s)
{
    struct format_spec spec;
    struct template_value v = {0};
    if (s->len > 0 && s->ptr[0] == '(') {
        size_t end = str_find(*s, STR_LIT(")"));
        struct template_value key = tv_str(str_slice(*s, 1, end));
        struct template_pair *pair = NULL;
        if (p->all->type != TV_DICT || end == s->len) {
            return template_fail(t->run, RC_INVALID, "format requires a mapping");
        }
        TRY(template_dict_find(t->run, p->all->dict, &key, &pair));
        if (pair == NULL) {
            return template_fail(t->run, RC_INVALID, "the mapping lacks a key of the format");
        }
        v = pair->value;
        p->next = 1;
        *s = str_slice(*s, end + 1, s->len);
    }
    TRY(percent_spec(t->run, p, s, &spec));
    spec.type = s->ptr[0];
    *s = str_slice(*s, 1, s->len);
    if (spec.type == '%') {
        template_text_add_byte(t, '%');
        return t->rc;
    }
    if (v.type == TV_MISSING) {
        TRY(percent_next(t->run, p, &v));
    }
    return percent_value(t, &v, &spec);
}

RC template_format_percent(struct template_run *r, struct str format,
                           const struct template_value *args, struct template_value *out)
{
    struct template_text t;
    struct percent_args p = {args, 0};
    template_text_init(&t, r);
    while (format.len > 0) {
        size_t at = str_find(format, STR_LIT("%"));
        template_text_add(&t, str_slice(format, 0, at));
        if (at == format.len) {
            break;
        }
        format = str_slice(format, at + 1, format.len);
        TRY(template_spend(r, 1));
        TRY(percent_directive(&t, &p, &format));
    }
    /* What can be indexed by a key is allowed to have more than the format takes. */
    bool mapping = args->type == TV_DICT || args->type == TV_UNDEFINED ||
                   tv_is_seq(args, SEQ_LIST) || tv_is_seq(args, SEQ_RANGE);
    bool left = tv_is_seq(args, SEQ_TUPLE) ? p.next < args->seq->n : p.next == 0 && !mapping;
    if (left) {
        return template_fail(r, RC_INVALID, "not all arguments converted during string formatting");
    }
    *out = tv_str(STR_NULL);
    return template_text_done(&t, &out->text);
}

/* ---- str.format ---- */

static RC braces_spec(struct template_run *r, struct str s, struct format_spec *out)
{
    uint32_t cp = 0;
    size_t n = s.len > 0 ? template_decode(s, &cp) : 0;
    *out = (struct format_spec){.precision = -1};
    if (s.len > n && n > 0 && strchr("<>^=", s.ptr[n]) != NULL && s.ptr[n] != '\0') {
        out->fill = cp;
        out->align = s.ptr[n];
        s = str_slice(s, n + 1, s.len);
    } else if (n > 0 && cp > 0 && cp < 0x80 && strchr("<>^=", (int)cp) != NULL) {
        out->align = s.ptr[0];
        s = str_slice(s, 1, s.len);
    }
    char align = out->align;
    struct percent_args none = {&(const struct template_value){.type = TV_NONE}, 1};
    if (s.len == 0) {
        return RC_OK;
    }
    if (s.ptr[0] == '*' || s.ptr[0] == '-') {
        return template_fail(r, RC_INVALID, "invalid format specifier");
    }
    /* A letter may be missing at the end, which "%" does not allow. */
    char last = s.ptr[s.len - 1];
    bool letter = strchr("sdxXoeEfFgG%", last) != NULL && last != '\0';
    struct str body = str_slice(s, 0, s.len - (letter ? 1 : 0));
    struct str probe;
    TRY(template_text_concat(r, (const struct str[]){body, STR_LIT("s")}, 2, &probe));
    uint32_t fill = out->fill;
    TRY(percent_spec(r, &none, &probe, out));
    if (!str_eq(probe, STR_LIT("s"))) {
        return template_fail(r, RC_INVALID, "a format specification that is not served");
    }
    out->fill = fill;
    out->align = align;
    out->type = letter ? last : '\0';
    return RC_OK;
}

static RC braces_value(struct template_text *t, const struct template_value *v,
                       struct format_spec *s)
{
    struct str text;
    bool number = v->type == TV_INT || v->type == TV_FLOAT;
    if (s->type == '\0' && v->type == TV_INT) {
        s->type = 'd';
    }
    if (s->type == '\0' && v->type == TV_FLOAT && s->precision >= 0) {
        s->type = 'g';
    }
    if (s->type == '%') {
        return format_float(t, v, s);
    }
    if (s->type == '\0' || s->type == 's') {
        TRY(template_to_str(t->run, v, &text));
        return format_text(t, text, s, number ? '>' : '<');
    }
    if (v->type == TV_STR) {
        return template_fail(t->run, RC_INVALID, "unknown format code for a str");
    }
    return percent_value(t, v, s);
}

/* The value that a field's name means; *automatic counts the nameless ones. */
static RC braces_find(struct template_run *r, struct str name, const struct template_args *a,
                      uint32_t *automatic, struct template_value *out)
{
    uint64_t at = *automatic;
    if (name.len == 0) {
        (*automatic)++;
    }
    if (name.len == 0 || str_to_u64(name, &at)) {
        if (at >= a->n) {
            return template_fail(r, RC_INVALID, "format: too few positional arguments");
        }
        *out = a->given[at];
        return RC_OK;
    }
    for (uint32_t i = 0; i < a->n_named; i++) {
        if (str_eq(a->named[i].key.text, name)) {
            *out = a->named[i].value;
            return RC_OK;
        }
    }
    return template_fail(r, RC_INVALID, "format: no argument named '%.*s'",
                         STR(str_slice(name, 0, 60)));
}

/* A field "name!r:spec", without its braces. */
static RC braces_field(struct template_text *t, struct str field, const struct template_args *a,
                       uint32_t *automatic)
{
    struct template_value v;
    struct format_spec s;
    size_t colon = str_find(field, STR_LIT(":"));
    struct str name = str_slice(field, 0, colon);
    size_t bang = str_find(name, STR_LIT("!"));
    struct str conversion = str_slice(name, bang, name.len);
    TRY(braces_find(t->run, str_slice(name, 0, bang), a, automatic, &v));
    if (str_is(conversion, "!r") || str_is(conversion, "!s")) {
        struct str text;
        TRY(conversion.ptr[1] == 'r' ? to_repr(t->run, &v, &text)
                                     : template_to_str(t->run, &v, &text));
        v = tv_str(text);
    } else if (conversion.len > 0) {
        return template_fail(t->run, RC_INVALID, "format: unknown conversion");
    }
    TRY(braces_spec(t->run, str_slice(field, colon + 1, field.len), &s));
    return braces_value(t, &v, &s);
}

RC template_format_braces(struct template_run *r, struct str format, const struct template_args *a,
                          struct template_value *out)
{
    struct template_text t;
    uint32_t automatic = 0;
    template_text_init(&t, r);
    while (format.len > 0) {
        size_t at = 0;
        while (at < format.len && format.ptr[at] != '{' && format.ptr[at] != '}') {
            at++;
        }
        template_text_add(&t, str_slice(format, 0, at));
        format = str_slice(format, at, format.len);
        if (format.len == 0) {
            break;
        }
        TRY(template_spend(r, 1));
        if (format.len > 1 && format.ptr[1] == format.ptr[0]) {
            template_text_add_byte(&t, format.ptr[0]);
            format = str_slice(format, 2, format.len);
            continue;
        }
        size_t end = str_find(format, STR_LIT("}"));
        struct str field = str_slice(format, 1, end);
        if (format.ptr[0] == '}' || end == format.len ||
            str_find(field, STR_LIT("{")) < field.len) {
            return template_fail(r, RC_INVALID, "format: a brace that does not match");
        }
        TRY(braces_field(&t, field, a, &automatic));
        format = str_slice(format, end + 1, format.len);
    }
    *out = tv_str(STR_NULL);
    return template_text_done(&t, &out->text);
}

/* ---- strftime ---- */

RC template_strftime(struct template_run *r, struct str format, int64_t now_s,
                     struct template_value *out)
{
    static const char letters[] = "aAbBcCdDeFgGhHIjklmMnprRStTuUVwWxXyY";
    struct template_text t;
    struct tm tm;
    time_t now = (time_t)now_s;
    if (gmtime_r(&now, &tm) == NULL) {
        return template_fail(r, RC_INVALID, "the clock is out of range");
    }
    template_text_init(&t, r);
    for (size_t i = 0; i < format.len; i++) {
        char one[4] = {'%', '\0'}, text[64];
        char c = format.ptr[i];
        TRY(template_spend(r, 1));
        if (c != '%' || i + 1 >= format.len) {
            template_text_add_byte(&t, c);
            continue;
        }
        bool bare = format.ptr[i + 1] == '-' && i + 2 < format.len; /* "%-d": no leading zero */
        i += bare ? 2 : 1;
        c = format.ptr[i];
        memcpy(one + 1, (const char[3]){bare ? '-' : c, bare ? c : '\0', '\0'}, 3);
        if (c == '%') {
            template_text_add_byte(&t, '%');
        } else if (c == 'f') {
            template_text_add(&t, STR_LIT("000000"));
        } else if (c != '\0' && strchr(letters, c) != NULL) {
            template_text_add(&t, str_make(text, strftime(text, sizeof(text), one, &tm)));
        } else if (c != 'z' && c != 'Z') { /* a time without zone has neither */
            template_text_add(&t, str_from(one));
        }
    }
    *out = tv_str(STR_NULL);
    return template_text_done(&t, &out->text);
}
