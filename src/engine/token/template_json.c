/* template_json.c: JSON in and out of templates: the conversation's values, and tojson as Python's
 * json.dumps writes it (its separators, floats by repr, NaN and Infinity by name). */
#include <math.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/json.h"
#include "engine/token/template_op.h"
#include "engine/token/template_text.h"

/* ---- reading ---- */

static RC json_number(struct template_run *r, struct str text, struct template_value *out)
{
    bool whole = memchr(text.ptr, '.', text.len) == NULL &&
                 memchr(text.ptr, 'e', text.len) == NULL && memchr(text.ptr, 'E', text.len) == NULL;
    int64_t i;
    if (whole && str_to_i64(text, &i)) {
        *out = tv_int(i);
        return RC_OK;
    }
    struct str copy = arena_str(r->arena, text);
    if (copy.ptr == NULL) {
        return template_no_room(r);
    }
    *out = whole ? (struct template_value){.type = TV_BIGINT, .text = copy}
                 : tv_float(strtod(copy.ptr, NULL));
    return RC_OK;
}

static RC json_array(struct template_run *r, const struct json *j, struct template_value *out)
{
    struct template_seq *s;
    TRY(template_seq_new(r, SEQ_LIST, j->n, &s));
    JSON_EACH(j, it)
    {
        struct template_value v;
        TRY(template_from_json(r, it, &v));
        TRY(template_seq_push(r, s, &v));
    }
    *out = tv_seq(s);
    return RC_OK;
}

/* Names in one object differ already, so the pairs need no search. */
static RC json_object(struct template_run *r, const struct json *j, struct template_value *out)
{
    struct template_dict *d;
    TRY(template_dict_new(r, j->n, &d));
    JSON_EACH(j, it)
    {
        ASSERT(d->n < d->size);
        struct template_pair *pair = &d->pairs[d->n];
        TRY(template_spend(r, 1));
        pair->key = tv_str(it->name);
        TRY(template_from_json(r, it, &pair->value));
        d->n++;
    }
    *out = tv_dict(d);
    return RC_OK;
}

RC template_from_json(struct template_run *r, const struct json *j, struct template_value *out)
{
    enum rc rc = RC_OK;
    TRY(template_enter(r));
    switch (j->type) {
    case JSON_NULL:
        *out = tv_none();
        break;
    case JSON_BOOL:
        *out = tv_bool(j->boolean);
        break;
    case JSON_NUMBER:
        rc = json_number(r, j->text, out);
        break;
    case JSON_STRING:
        *out = tv_str(j->text);
        break;
    case JSON_ARRAY:
        rc = json_array(r, j, out);
        break;
    case JSON_OBJECT:
        rc = json_object(r, j, out);
        break;
    }
    template_leave(r);
    return rc;
}

/* ---- writing ---- */

struct json_out {
    struct template_text *text;
    const struct template_json_options *opt;
    uint32_t level;
};

static void json_escape(struct json_out *o, uint32_t cp)
{
    static const struct {
        char c, escape;
    } short_escapes[] = {{'"', '"'},  {'\\', '\\'}, {'\n', 'n'}, {'\r', 'r'},
                         {'\t', 't'}, {'\f', 'f'},  {'\b', 'b'}};
    for (size_t i = 0; i < ARRAY_LEN(short_escapes); i++) {
        if (cp == (uint32_t)short_escapes[i].c) {
            template_text_printf(o->text, "\\%c", short_escapes[i].escape);
            return;
        }
    }
    if (cp >= 0x10000) {
        uint32_t v = cp - 0x10000;
        template_text_printf(o->text, "\\u%04x\\u%04x", 0xD800 + (v >> 10), 0xDC00 + (v & 0x3FF));
    } else {
        template_text_printf(o->text, "\\u%04x", cp);
    }
}

static bool json_must_escape(const struct json_out *o, unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\' || (o->opt->ensure_ascii && c >= 0x7F);
}

static void json_string(struct json_out *o, struct str s)
{
    template_text_add_byte(o->text, '"');
    size_t from = 0, i = 0;
    while (i < s.len && o->text->rc == RC_OK) {
        if (!json_must_escape(o, (unsigned char)s.ptr[i])) {
            i++;
            continue;
        }
        uint32_t cp = 0;
        template_text_add(o->text, str_slice(s, from, i));
        size_t n = template_decode(str_slice(s, i, s.len), &cp);
        json_escape(o, cp);
        o->text->rc = o->text->rc != RC_OK ? o->text->rc : template_spend(o->text->run, 1);
        i += n;
        from = i;
    }
    template_text_add(o->text, str_slice(s, from, s.len));
    template_text_add_byte(o->text, '"');
}

static void json_newline(struct json_out *o)
{
    if (o->opt->pretty) {
        template_text_add_byte(o->text, '\n');
        for (uint32_t i = 0; i < o->level; i++) {
            template_text_add(o->text, o->opt->indent);
        }
    }
}

static RC json_value(struct json_out *o, const struct template_value *v);

static RC json_seq(struct json_out *o, const struct template_seq *s)
{
    if (s->n == 0) {
        template_text_add(o->text, STR_LIT("[]"));
        return o->text->rc;
    }
    template_text_add_byte(o->text, '[');
    o->level++;
    for (uint32_t i = 0; i < s->n; i++) {
        template_text_add(o->text, i > 0 ? o->opt->item_separator : STR_LIT(""));
        json_newline(o);
        TRY(json_value(o, &s->items[i]));
    }
    o->level--;
    json_newline(o);
    template_text_add_byte(o->text, ']');
    return o->text->rc;
}

/* json.dumps turns None, booleans and numbers that are keys into their JSON text. */
static RC json_key(struct json_out *o, const struct template_value *key)
{
    if (key->type == TV_STR) {
        json_string(o, key->text);
        return o->text->rc;
    }
    if (key->type < TV_NONE || key->type > TV_FLOAT) {
        return template_fail(o->text->run, RC_INVALID,
                             "keys must be str, int, float, bool or None, not %s",
                             template_type_name(key));
    }
    template_text_add_byte(o->text, '"');
    TRY(json_value(o, key));
    template_text_add_byte(o->text, '"');
    return o->text->rc;
}

static RC json_dict(struct json_out *o, const struct template_dict *d)
{
    if (d->n == 0) {
        template_text_add(o->text, STR_LIT("{}"));
        return o->text->rc;
    }
    const struct template_pair *pairs = d->pairs;
    if (o->opt->sort_keys) {
        struct template_dict *sorted;
        TRY(template_dict_sorted(o->text->run, d, &sorted));
        pairs = sorted->pairs;
    }
    template_text_add_byte(o->text, '{');
    o->level++;
    for (uint32_t i = 0; i < d->n; i++) {
        template_text_add(o->text, i > 0 ? o->opt->item_separator : STR_LIT(""));
        json_newline(o);
        TRY(json_key(o, &pairs[i].key));
        template_text_add(o->text, o->opt->key_separator);
        TRY(json_value(o, &pairs[i].value));
    }
    o->level--;
    json_newline(o);
    template_text_add_byte(o->text, '}');
    return o->text->rc;
}

static RC json_scalar(struct json_out *o, const struct template_value *v)
{
    switch (v->type) {
    case TV_NONE:
        template_text_add(o->text, STR_LIT("null"));
        return o->text->rc;
    case TV_BOOL:
        template_text_add(o->text, v->boolean ? STR_LIT("true") : STR_LIT("false"));
        return o->text->rc;
    case TV_FLOAT:
        if (isnan(v->number) || isinf(v->number)) {
            template_text_printf(o->text, "%s",
                                 isnan(v->number) ? "NaN"
                                 : v->number > 0  ? "Infinity"
                                                  : "-Infinity");
            return o->text->rc;
        }
        return template_write_str(o->text, v);
    case TV_INT:
    case TV_BIGINT:
        return template_write_str(o->text, v);
    case TV_STR:
        json_string(o, v->text);
        return o->text->rc;
    default:
        return template_fail(o->text->run, RC_INVALID, "Object of type %s is not JSON serializable",
                             template_type_name(v));
    }
}

static RC json_value(struct json_out *o, const struct template_value *v)
{
    TRY(template_enter(o->text->run));
    TRY(template_spend(o->text->run, 1));
    enum rc rc = tv_is_seq(v, SEQ_LIST) || tv_is_seq(v, SEQ_TUPLE) ? json_seq(o, v->seq)
                 : v->type == TV_DICT                              ? json_dict(o, v->dict)
                                                                   : json_scalar(o, v);
    template_leave(o->text->run);
    return rc;
}

RC template_write_json(struct template_text *t, const struct template_value *v,
                       const struct template_json_options *opt)
{
    struct json_out o = {t, opt, 0};
    return json_value(&o, v);
}
