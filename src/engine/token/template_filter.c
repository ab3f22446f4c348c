/* template_filter.c: filters of texts and single values, as jinja2/filters.py has them, with the
 * tojson of transformers; and finding a filter by name. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/json.h"
#include "engine/token/template_call.h"
#include "engine/token/template_char.h"
#include "engine/token/template_op.h"
#include "engine/token/template_text.h"

#define FILTER(name)                                                                               \
    static RC filter_##name(struct template_run *r, const struct template_value *self,             \
                            const struct template_args *a, struct template_value *out)

/* ---- JSON ---- */

/* The indentation of one level: a number of spaces, or a text. */
static RC json_indent(struct template_run *r, const struct template_value *v,
                      struct template_json_options *opt)
{
    int64_t n;
    struct template_text t;
    if (v->type == TV_MISSING || v->type == TV_NONE) {
        return RC_OK;
    }
    opt->pretty = true;
    opt->item_separator = STR_LIT(",");
    if (v->type == TV_STR) {
        opt->indent = v->text;
        return RC_OK;
    }
    TRY(template_arg_int(r, v, "indent", &n));
    TRY(template_spend(r, n > 0 ? (uint64_t)n : 0));
    template_text_init(&t, r);
    template_text_fill(&t, ' ', n > 0 ? (size_t)n : 0);
    return template_text_done(&t, &opt->indent);
}

/* tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False) */
FILTER(tojson)
{
    struct template_json_options opt = {
        .ensure_ascii = template_arg_flag(&a->v[0], false),
        .sort_keys = template_arg_flag(&a->v[3], false),
        .item_separator = STR_LIT(", "),
        .key_separator = STR_LIT(": "),
    };
    struct template_text t;
    TRY(json_indent(r, &a->v[1], &opt));
    if (a->v[2].type != TV_MISSING && a->v[2].type != TV_NONE) {
        struct template_seq *pair;
        TRY(template_collect(r, &a->v[2], &pair));
        if (pair->n != 2) {
            return template_fail(r, RC_INVALID, "separators must be two");
        }
        TRY(template_arg_str(r, &pair->items[0], "a separator", &opt.item_separator));
        TRY(template_arg_str(r, &pair->items[1], "a separator", &opt.key_separator));
    }
    template_text_init(&t, r);
    TRY(template_write_json(&t, self, &opt));
    *out = tv_str(STR_NULL);
    return template_text_done(&t, &out->text);
}

FILTER(from_json)
{
    struct str text;
    const struct json *j;
    struct err why = {0};
    UNUSED(a);
    TRY(template_arg_str(r, self, "from_json's text", &text));
    TRY(template_spend(r, text.len / 4));
    if (json_parse(text, r->arena, &j, &why) != RC_OK) {
        return template_fail(r, why.code, "from_json: %.300s", why.msg);
    }
    return template_from_json(r, j, out);
}

/* ---- texts ---- */

/* Many filters are the str method of the same name, applied to str(value). */
static RC as_method(struct template_run *r, const struct template_value *self, struct str name,
                    struct template_args *a, struct template_value *out)
{
    struct template_value text = {.type = TV_STR, .safe = self->type == TV_STR && self->safe};
    TRY(template_to_str(r, self, &text.text));
    return template_row_call(r, template_method_find(&text, name), &text, a, out);
}

FILTER(trim)
{
    struct template_args chars = {.given = a->v, .n = template_arg_given(&a->v[0]) ? 1 : 0};
    return as_method(r, self, STR_LIT("strip"), &chars, out);
}

FILTER(lower)
{
    struct template_args none = {0};
    UNUSED(a);
    return as_method(r, self, STR_LIT("lower"), &none, out);
}

FILTER(upper)
{
    struct template_args none = {0};
    UNUSED(a);
    return as_method(r, self, STR_LIT("upper"), &none, out);
}

FILTER(capitalize)
{
    struct template_args none = {0};
    UNUSED(a);
    return as_method(r, self, STR_LIT("capitalize"), &none, out);
}

FILTER(center)
{
    struct template_value width = template_arg_given(&a->v[0]) ? a->v[0] : tv_int(80);
    struct template_args args = {.given = &width, .n = 1};
    return as_method(r, self, STR_LIT("center"), &args, out);
}

/* jinja2's title: words begin after white space, "-", "(", "{", "[" and "<". */
FILTER(title)
{
    struct str s;
    struct template_text t;
    uint32_t cp, to[3];
    bool starts = true;
    UNUSED(a);
    TRY(template_to_str(r, self, &s));
    TRY(template_spend(r, s.len / 4));
    template_text_init(&t, r);
    for (size_t at = 0; at < s.len;) {
        at += template_decode(str_slice(s, at, s.len), &cp);
        uint32_t n = template_char_map(cp, starts ? CASE_UPPER : CASE_LOWER, to);
        for (uint32_t i = 0; i < n; i++) {
            template_text_add_char(&t, to[i]);
        }
        starts =
            template_char_is_space(cp) || (cp < 0x80 && cp > 0 && strchr("-({[<", (int)cp) != NULL);
    }
    *out = tv_str(STR_NULL);
    return template_text_done(&t, &out->text);
}

FILTER(string)
{
    UNUSED(a);
    *out = (struct template_value){.type = TV_STR, .safe = self->type == TV_STR && self->safe};
    return template_to_str(r, self, &out->text);
}

FILTER(safe)
{
    UNUSED(a);
    *out = (struct template_value){.type = TV_STR, .safe = true};
    return template_to_str(r, self, &out->text);
}

FILTER(escape)
{
    struct str text;
    UNUSED(a);
    if (self->type == TV_STR && self->safe) {
        *out = *self;
        return RC_OK;
    }
    TRY(template_to_str(r, self, &text));
    *out = (struct template_value){.type = TV_STR, .safe = true};
    return template_escape(r, text, &out->text);
}

/* Arguments are made texts too, as jinja2 does. */
FILTER(replace)
{
    struct template_value texts[3] = {tv_str(STR_NULL), tv_str(STR_NULL), a->v[2]};
    struct template_value plain = tv_str(STR_NULL);
    bool counted = template_arg_given(&a->v[2]) && a->v[2].type != TV_NONE;
    struct template_args args = {.given = texts, .n = counted ? 3 : 2};
    TRY(template_to_str(r, &a->v[0], &texts[0].text));
    TRY(template_to_str(r, &a->v[1], &texts[1].text));
    TRY(template_to_str(r, self, &plain.text));
    return as_method(r, &plain, STR_LIT("replace"), &args, out);
}

/* value % args, or value % named. */
FILTER(format)
{
    struct template_seq args = {.kind = SEQ_TUPLE, .n = a->n};
    struct template_dict *named;
    struct template_value v = tv_seq(&args);
    struct str text;
    TRY(template_to_str(r, self, &text));
    if (a->n > 0 && a->n_named > 0) {
        return template_fail(r, RC_INVALID, "format takes positional or named arguments, not both");
    }
    args.items = arena_alloc_array(r->arena, a->n, sizeof(*args.items));
    if (args.items == NULL) {
        return template_no_room(r);
    }
    for (uint32_t i = 0; i < a->n; i++) {
        args.items[i] = a->given[i];
    }
    if (a->n_named > 0) {
        TRY(template_dict_new(r, a->n_named, &named));
        for (uint32_t i = 0; i < a->n_named; i++) {
            TRY(template_dict_set(r, named, &a->named[i].key, &a->named[i].value));
        }
        v = tv_dict(named);
    }
    return template_format_percent(r, text, &v, out);
}

/* indent(width=4, first=False, blank=False) */
FILTER(indent)
{
    struct template_value text = tv_str(STR_NULL), lines;
    struct template_args none = {0};
    struct template_text t;
    struct str indent;
    struct template_json_options width = {0};
    bool first = template_arg_flag(&a->v[1], false), blank = template_arg_flag(&a->v[2], false);
    struct template_value four = tv_int(4);
    TRY(json_indent(r, template_arg_given(&a->v[0]) ? &a->v[0] : &four, &width));
    indent = width.indent;
    TRY(template_arg_str(r, self, "what is indented", &text.text)); /* as jinja2: no str() */
    TRY(template_text_concat(r, (const struct str[]){text.text, STR_LIT("\n")}, 2, &text.text));
    TRY(template_row_call(r, template_method_find(&text, STR_LIT("splitlines")), &text, &none,
                          &lines));
    template_text_init(&t, r);
    template_text_add(&t, first ? indent : STR_LIT(""));
    for (uint32_t i = 0; i < lines.seq->n; i++) {
        struct str line = lines.seq->items[i].text;
        template_text_add(&t, i > 0 ? STR_LIT("\n") : STR_LIT(""));
        template_text_add(&t, i > 0 && (blank || line.len > 0) ? indent : STR_LIT(""));
        template_text_add(&t, line);
    }
    *out = tv_str(STR_NULL);
    return template_text_done(&t, &out->text);
}

FILTER(wordcount)
{
    struct str s;
    int64_t n = 0;
    bool inside = false;
    UNUSED(a);
    TRY(template_to_str(r, self, &s));
    TRY(template_spend(r, s.len / 4));
    for (size_t at = 0; at < s.len;) {
        uint32_t cp;
        at += template_decode(str_slice(s, at, s.len), &cp);
        bool word = template_char_is_name(cp) || template_char_is_numeric(cp);
        n += word && !inside;
        inside = word;
    }
    *out = tv_int(n);
    return RC_OK;
}

/* ---- numbers ---- */

static RC not_undefined(struct template_run *r, const struct template_value *v)
{
    return v->type != TV_UNDEFINED ? RC_OK
                                   : template_fail(r, RC_INVALID, "'%.*s' is undefined",
                                                   STR(str_slice(v->text, 0, 60)));
}

/* Copies a number's text without the white space around it and the single underscores between its
 * digits, which Python allows; false when it is empty, too long or has them elsewhere. */
static bool number_text(struct str s, char *out, size_t out_bytes)
{
    size_t n = 0;
    s = template_char_strip(s, true, true);
    for (size_t i = 0; i < s.len; i++) {
        bool between = i > 0 && i + 1 < s.len && isalnum((unsigned char)s.ptr[i - 1]) &&
                       isalnum((unsigned char)s.ptr[i + 1]);
        if (s.ptr[i] == '_' && between) {
            continue;
        }
        if (n + 1 >= out_bytes || s.ptr[i] == '\0' || isspace((unsigned char)s.ptr[i])) {
            return false;
        }
        out[n++] = s.ptr[i];
    }
    out[n] = '\0';
    return n > 0;
}

/* A text as Python's float() reads it; C's hexadecimal floats and nan(…) are not among them. */
static bool text_to_float(struct str s, double *out)
{
    char text[400], *end;
    if (!number_text(s, text, sizeof(text)) || strpbrk(text, "xX(") != NULL) {
        return false;
    }
    *out = strtod(text, &end);
    return *end == '\0';
}

/* A text as Python's int(text, base) reads it; over 64 bits counts as none. */
static bool text_to_int(struct str s, int64_t base, int64_t *out)
{
    char text[80], *end;
    if (base < 2 || base > 36 || !number_text(s, text, sizeof(text))) {
        return false;
    }
    bool sign = text[0] == '-' || text[0] == '+';
    char *digits = text + (sign ? 1 : 0);
    char mark = digits[0] == '0' ? (char)(digits[1] | 0x20) : '\0';
    int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    digits += marked == base ? 2 : 0;
    if (!isalnum((unsigned char)digits[0])) {
        return false;
    }
    errno = 0;
    long long v = strtoll(digits, &end, (int)base);
    *out = text[0] == '-' ? -(int64_t)v : (int64_t)v;
    return *end == '\0' && errno == 0;
}

static RC float_to_int(struct template_run *r, double d, struct template_value *out)
{
    if (!(d > -9.2e18 && d < 9.2e18)) {
        return template_fail(r, RC_INVALID, "a whole number over 64 bits");
    }
    *out = tv_int((int64_t)d);
    return RC_OK;
}

/* int(default=0, base=10); "42.5" gives 42. */
FILTER(int)
{
    int64_t base = 10, i;
    double d;
    TRY(not_undefined(r, self));
    if (template_arg_given(&a->v[1])) {
        TRY(template_arg_int(r, &a->v[1], "base", &base));
    }
    *out = template_arg_given(&a->v[0]) ? a->v[0] : tv_int(0);
    if (self->type == TV_STR) {
        if (text_to_int(self->text, base, &i)) {
            *out = tv_int(i);
            return RC_OK;
        }
        return text_to_float(self->text, &d) && isfinite(d) ? float_to_int(r, d, out) : RC_OK;
    }
    if (self->type == TV_FLOAT) {
        return isfinite(self->number) ? float_to_int(r, self->number, out) : RC_OK;
    }
    if (self->type == TV_BIGINT) {
        *out = *self;
    } else if (template_as_int(self, &i)) {
        *out = tv_int(i);
    }
    return RC_OK;
}

FILTER(float)
{
    double d;
    TRY(not_undefined(r, self));
    bool ok = self->type == TV_STR ? text_to_float(self->text, &d) : template_as_float(self, &d);
    *out = ok ? tv_float(d) : template_arg_given(&a->v[0]) ? a->v[0] : tv_float(0.0);
    return RC_OK;
}

FILTER(abs)
{
    int64_t i;
    UNUSED(a);
    if (template_as_int(self, &i) && i != INT64_MIN) {
        *out = tv_int(i < 0 ? -i : i);
        return RC_OK;
    }
    if (self->type == TV_FLOAT) {
        *out = tv_float(fabs(self->number));
        return RC_OK;
    }
    return template_fail(r, RC_INVALID, "bad operand type for abs(): '%s'",
                         template_type_name(self));
}

/* Round half to even at a decimal place, by the decimal text, as CPython does. */
static double round_at(double d, int64_t precision)
{
    char text[400];
    if (precision < 0) {
        double scale = pow(10.0, (double)-precision);
        return nearbyint(d / scale) * scale;
    }
    int n = snprintf(text, sizeof(text), "%.*f", (int)precision, d);
    return n > 0 && (size_t)n < sizeof(text) ? strtod(text, NULL) : d;
}

/* round(precision=0, method='common') */
FILTER(round)
{
    int64_t precision = 0, whole;
    double d;
    struct str method = STR_LIT("common");
    if (template_arg_given(&a->v[0])) {
        TRY(template_arg_int(r, &a->v[0], "precision", &precision));
    }
    if (template_arg_given(&a->v[1])) {
        TRY(template_arg_str(r, &a->v[1], "method", &method));
    }
    precision = MIN(MAX(precision, -300), 60);
    if (!template_as_float(self, &d)) {
        return template_fail(r, RC_INVALID, "a %s cannot be rounded", template_type_name(self));
    }
    double scale = pow(10.0, (double)precision);
    if (str_is(method, "ceil") || str_is(method, "floor")) {
        double v = str_is(method, "ceil") ? ceil(d * scale) : floor(d * scale);
        *out = tv_float(v / scale);
        return RC_OK;
    }
    if (!str_is(method, "common")) {
        return template_fail(r, RC_INVALID, "method must be common, ceil or floor");
    }
    if (template_as_int(self, &whole) && precision >= 0) {
        *out = tv_int(whole);
        return RC_OK;
    }
    double v = isfinite(d) ? round_at(d, precision) : d;
    if (template_as_int(self, &whole)) {
        return float_to_int(r, v, out);
    }
    *out = tv_float(v);
    return RC_OK;
}

/* ---- any value ---- */

/* default(default_value='', boolean=False) */
FILTER(default)
{
    UNUSED(r);
    bool falsy = template_arg_flag(&a->v[1], false) && !template_truth(self);
    *out = self->type != TV_UNDEFINED && !falsy ? *self
           : template_arg_given(&a->v[0])       ? a->v[0]
                                                : tv_str(STR_LIT(""));
    return RC_OK;
}

const struct template_row template_filters_text[] = {
    {"tojson", "ensure_ascii? indent? separators? sort_keys?", filter_tojson},
    {"trim", "chars?", filter_trim},
    {"string", "", filter_string},
    {"default", "default_value? boolean?", filter_default},
    {"d", "default_value? boolean?", filter_default},
    {"lower", "", filter_lower},
    {"upper", "", filter_upper},
    {"replace", "old new count?", filter_replace},
    {"safe", "", filter_safe},
    {"indent", "width? first? blank?", filter_indent},
    {"int", "default? base?", filter_int},
    {"float", "default?", filter_float},
    {"capitalize", "", filter_capitalize},
    {"title", "", filter_title},
    {"center", "width?", filter_center},
    {"format", "*", filter_format},
    {"from_json", "", filter_from_json},
    {"escape", "", filter_escape},
    {"e", "", filter_escape},
    {"abs", "", filter_abs},
    {"round", "precision? method?", filter_round},
    {"wordcount", "", filter_wordcount},
};
const size_t template_filters_text_n = ARRAY_LEN(template_filters_text);

const struct template_row *template_filter_find(struct str name)
{
    const struct template_row *row =
        template_row_find(template_filters_text, template_filters_text_n, name);
    return row != NULL ? row
                       : template_row_find(template_filters_seq, template_filters_seq_n, name);
}
