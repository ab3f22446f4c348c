/* template_value.c: truth, lengths, walking, equality and order of values, as Python has them.
 *
 * Followed: Python's language reference, "Value comparisons" and "Truth value testing"; jinja2's
 * Undefined (false, empty, equal only to another undefined). Not here: texts of values
 * (template_repr.c), attributes and items (template_lookup.c). */
#include "engine/token/template_value.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "engine/token/template_run.h"

/* ---- failing ---- */

enum rc template_fail(const struct template_run *r, enum rc code, const char *fmt, ...)
{
    char msg[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    return err_set(r->err, code, "chat template, line %u: %s", r->line, msg);
}

enum rc template_no_room(const struct template_run *r)
{
    return template_fail(r, RC_TOO_LARGE, "rendering needs more than its memory (%zu bytes)",
                         r->arena->cap_bytes);
}

enum rc template_no_steps(const struct template_run *r)
{
    return template_fail(r, RC_TOO_LARGE, "rendering takes more than %d steps", TEMPLATE_STEPS_MAX);
}

enum rc template_too_deep(const struct template_run *r)
{
    return template_fail(r, RC_TOO_LARGE, "more than %d nested evaluations", TEMPLATE_DEPTH_MAX);
}

/* ---- plain questions ---- */

static const char *const type_names[] = {
    [TV_MISSING] = "missing",
    [TV_UNDEFINED] = "Undefined",
    [TV_NONE] = "NoneType",
    [TV_BOOL] = "bool",
    [TV_INT] = "int",
    [TV_BIGINT] = "int",
    [TV_FLOAT] = "float",
    [TV_STR] = "str",
    [TV_SEQ] = "list",
    [TV_DICT] = "dict",
    [TV_NAMESPACE] = "Namespace",
    [TV_MACRO] = "Macro",
    [TV_BUILTIN] = "function",
    [TV_LOOP] = "LoopContext",
};

static const char *const seq_names[] = {
    [SEQ_LIST] = "list",           [SEQ_TUPLE] = "tuple",        [SEQ_RANGE] = "range",
    [SEQ_KEYS] = "dict_keys",      [SEQ_VALUES] = "dict_values", [SEQ_ITEMS] = "dict_items",
    [SEQ_GENERATOR] = "generator",
};

const char *template_type_name(const struct template_value *v)
{
    return v->type == TV_SEQ ? seq_names[v->seq->kind] : type_names[v->type];
}

bool template_truth(const struct template_value *v)
{
    switch (v->type) {
    case TV_MISSING:
    case TV_UNDEFINED:
    case TV_NONE:
        return false;
    case TV_BOOL:
        return v->boolean;
    case TV_INT:
        return v->integer != 0;
    case TV_FLOAT:
        return v->number != 0.0;
    case TV_STR:
        return v->text.len > 0;
    case TV_SEQ:
        return v->seq->kind == SEQ_GENERATOR || v->seq->n > 0;
    case TV_DICT:
        return v->dict->n > 0;
    default:
        return true;
    }
}

bool template_as_int(const struct template_value *v, int64_t *out)
{
    if (v->type == TV_INT) {
        *out = v->integer;
    } else if (v->type == TV_BOOL) {
        *out = v->boolean ? 1 : 0;
    } else {
        return false;
    }
    return true;
}

bool template_as_float(const struct template_value *v, double *out)
{
    int64_t whole;
    if (template_as_int(v, &whole)) {
        *out = (double)whole;
    } else if (v->type == TV_FLOAT) {
        *out = v->number;
    } else if (v->type == TV_BIGINT) {
        *out = strtod(v->text.ptr, NULL); /* these texts end with a NUL or a non-digit */
    } else {
        return false;
    }
    return true;
}

size_t template_decode(struct str s, uint32_t *cp)
{
    size_t n = str_utf8_decode(s, cp);
    if (n == 0) {
        *cp = 0xFFFD;
        return 1;
    }
    return n;
}

size_t template_text_length(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        n += ((unsigned char)s.ptr[i] & 0xC0) != 0x80;
    }
    return n;
}

/* ---- lists and dicts ---- */

RC template_seq_new(struct template_run *r, enum template_seq_kind kind, size_t size,
                    struct template_seq **out)
{
    struct template_seq *s = arena_alloc(r->arena, sizeof(*s));
    if (s == NULL || size > UINT32_MAX) {
        return template_no_room(r);
    }
    s->kind = kind;
    s->size = (uint32_t)size;
    if (size > 0) {
        s->items = arena_alloc_array(r->arena, size, sizeof(*s->items));
        if (s->items == NULL) {
            return template_no_room(r);
        }
    }
    *out = s;
    return template_spend(r, size / 16);
}

RC template_seq_push(struct template_run *r, struct template_seq *s, const struct template_value *v)
{
    if (s->n >= s->size) {
        size_t size = MAX((size_t)s->n * 2, (size_t)4);
        struct template_value *items = arena_alloc_array(r->arena, size, sizeof(*items));
        if (items == NULL || size > UINT32_MAX) {
            return template_no_room(r);
        }
        if (s->n > 0) {
            memcpy(items, s->items, s->n * sizeof(*items));
        }
        s->items = items;
        s->size = (uint32_t)size;
    }
    s->items[s->n++] = *v;
    return template_spend(r, 1);
}

RC template_dict_new(struct template_run *r, size_t size, struct template_dict **out)
{
    struct template_dict *d = arena_alloc(r->arena, sizeof(*d));
    if (d == NULL || size > UINT32_MAX) {
        return template_no_room(r);
    }
    d->size = (uint32_t)size;
    if (size > 0) {
        d->pairs = arena_alloc_array(r->arena, size, sizeof(*d->pairs));
        if (d->pairs == NULL) {
            return template_no_room(r);
        }
    }
    *out = d;
    return RC_OK;
}

RC template_dict_find_name(struct template_run *r, const struct template_dict *d, struct str name,
                           struct template_pair **out)
{
    *out = NULL;
    for (uint32_t i = 0; i < d->n; i++) {
        if (d->pairs[i].key.type == TV_STR && str_eq(d->pairs[i].key.text, name)) {
            *out = &d->pairs[i];
            return template_spend(r, i / 8);
        }
    }
    return template_spend(r, d->n / 8);
}

static bool value_is_hashable(const struct template_value *v)
{
    return v->type != TV_DICT && !tv_is_seq(v, SEQ_LIST);
}

RC template_dict_find(struct template_run *r, const struct template_dict *d,
                      const struct template_value *key, struct template_pair **out)
{
    if (key->type == TV_STR) {
        return template_dict_find_name(r, d, key->text, out);
    }
    *out = NULL;
    if (!value_is_hashable(key)) {
        return template_fail(r, RC_INVALID, "%s cannot be a key", template_type_name(key));
    }
    for (uint32_t i = 0; i < d->n; i++) {
        bool same;
        TRY(template_equal(r, &d->pairs[i].key, key, &same));
        if (same) {
            *out = &d->pairs[i];
            break;
        }
    }
    return RC_OK;
}

RC template_dict_set(struct template_run *r, struct template_dict *d,
                     const struct template_value *key, const struct template_value *v)
{
    struct template_pair *old;
    TRY(template_dict_find(r, d, key, &old));
    if (old != NULL) {
        old->value = *v;
        return RC_OK;
    }
    if (d->n >= d->size) {
        size_t size = MAX((size_t)d->n * 2, (size_t)4);
        struct template_pair *pairs = arena_alloc_array(r->arena, size, sizeof(*pairs));
        if (pairs == NULL || size > UINT32_MAX) {
            return template_no_room(r);
        }
        if (d->n > 0) {
            memcpy(pairs, d->pairs, d->n * sizeof(*pairs));
        }
        d->pairs = pairs;
        d->size = (uint32_t)size;
    }
    d->pairs[d->n++] = (struct template_pair){*key, *v};
    return RC_OK;
}

/* ---- walking ---- */

RC template_iter_init(struct template_run *r, const struct template_value *v,
                      struct template_iter *it)
{
    *it = (struct template_iter){0};
    switch (v->type) {
    case TV_UNDEFINED:
        return RC_OK;
    case TV_STR:
        it->rest = v->text;
        return RC_OK;
    case TV_SEQ:
        it->seq = v->seq;
        return RC_OK;
    case TV_DICT:
        it->dict = v->dict;
        return RC_OK;
    default:
        return template_fail(r, RC_INVALID, "'%s' object is not iterable", template_type_name(v));
    }
}

bool template_iter_next(struct template_iter *it, struct template_value *out)
{
    if (it->seq != NULL) {
        uint32_t *pos = it->seq->kind == SEQ_GENERATOR ? &it->seq->pos : &it->pos;
        if (*pos >= it->seq->n) {
            return false;
        }
        *out = it->seq->items[(*pos)++];
        return true;
    }
    if (it->dict != NULL) {
        if (it->pos >= it->dict->n) {
            return false;
        }
        *out = it->dict->pairs[it->pos++].key;
        return true;
    }
    if (it->rest.len == 0) {
        return false;
    }
    uint32_t cp;
    size_t n = template_decode(it->rest, &cp);
    *out = tv_str(str_slice(it->rest, 0, n));
    it->rest = str_slice(it->rest, n, it->rest.len);
    return true;
}

RC template_collect(struct template_run *r, const struct template_value *v,
                    struct template_seq **out)
{
    struct template_iter it;
    struct template_value item;
    TRY(template_iter_init(r, v, &it));
    uint32_t n = it.seq != NULL ? it.seq->n - it.seq->pos : it.dict != NULL ? it.dict->n : 0;
    TRY(template_seq_new(r, SEQ_LIST, n, out));
    while (template_iter_next(&it, &item)) {
        TRY(template_seq_push(r, *out, &item));
    }
    return RC_OK;
}

bool template_has_length(const struct template_value *v)
{
    return v->type == TV_UNDEFINED || v->type == TV_STR || v->type == TV_DICT ||
           (v->type == TV_SEQ && v->seq->kind != SEQ_GENERATOR);
}

RC template_length(struct template_run *r, const struct template_value *v, int64_t *out)
{
    if (!template_has_length(v)) {
        return template_fail(r, RC_INVALID, "object of type '%s' has no len()",
                             template_type_name(v));
    }
    *out = v->type == TV_STR    ? (int64_t)template_text_length(v->text)
           : v->type == TV_SEQ  ? (int64_t)v->seq->n
           : v->type == TV_DICT ? (int64_t)v->dict->n
                                : 0;
    return template_spend_bytes(r, v->type == TV_STR ? v->text.len : 0);
}

/* ---- equality ---- */

static RC seq_equal(struct template_run *r, const struct template_seq *a,
                    const struct template_seq *b, bool *out)
{
    *out = a == b;
    if (*out || a->kind != b->kind || a->n != b->n || a->kind > SEQ_RANGE) {
        return RC_OK;
    }
    for (uint32_t i = 0; i < a->n; i++) {
        TRY(template_equal(r, &a->items[i], &b->items[i], out));
        if (!*out) {
            return RC_OK;
        }
    }
    *out = true;
    return RC_OK;
}

static RC dict_equal(struct template_run *r, const struct template_dict *a,
                     const struct template_dict *b, bool *out)
{
    *out = a == b;
    if (*out || a->n != b->n) {
        return RC_OK;
    }
    for (uint32_t i = 0; i < a->n; i++) {
        struct template_pair *other;
        TRY(template_dict_find(r, b, &a->pairs[i].key, &other));
        *out = other != NULL;
        if (*out) {
            TRY(template_equal(r, &a->pairs[i].value, &other->value, out));
        }
        if (!*out) {
            return RC_OK;
        }
    }
    *out = true;
    return RC_OK;
}

static bool number_equal(const struct template_value *a, const struct template_value *b)
{
    int64_t i, j;
    double x, y;
    if (template_as_int(a, &i) && template_as_int(b, &j)) {
        return i == j;
    }
    if (a->type == TV_BIGINT && b->type == TV_BIGINT) {
        return str_eq(a->text, b->text);
    }
    return template_as_float(a, &x) && template_as_float(b, &y) && x == y;
}

RC template_equal(struct template_run *r, const struct template_value *a,
                  const struct template_value *b, bool *out)
{
    enum rc rc = RC_OK;
    TRY(template_enter(r));
    TRY(template_spend(r, 1));
    if (a->type == TV_STR && b->type == TV_STR) {
        *out = str_eq(a->text, b->text);
        rc = template_spend_bytes(r, *out ? a->text.len : 0);
    } else if (a->type == TV_SEQ && b->type == TV_SEQ) {
        rc = seq_equal(r, a->seq, b->seq, out);
    } else if (a->type == TV_DICT && b->type == TV_DICT) {
        rc = dict_equal(r, a->dict, b->dict, out);
    } else if (a->type >= TV_BOOL && a->type <= TV_FLOAT) {
        *out = number_equal(a, b);
    } else {
        bool by_address = a->type >= TV_NAMESPACE;
        *out = a->type == b->type && a->type != TV_STR && (!by_address || a->address == b->address);
    }
    template_leave(r);
    return rc;
}

/* ---- order ---- */

static enum template_order order_of(int less, int more)
{
    return less ? ORDER_LESS : more ? ORDER_MORE : ORDER_SAME;
}

static RC seq_compare(struct template_run *r, const struct template_seq *a,
                      const struct template_seq *b, enum template_order *out)
{
    for (uint32_t i = 0; i < a->n && i < b->n; i++) {
        bool same;
        TRY(template_equal(r, &a->items[i], &b->items[i], &same));
        if (!same) {
            return template_compare(r, &a->items[i], &b->items[i], out);
        }
    }
    *out = order_of(a->n<b->n, a->n> b->n);
    return RC_OK;
}

static bool number_compare(const struct template_value *a, const struct template_value *b,
                           enum template_order *out)
{
    int64_t i, j;
    double x, y;
    if (template_as_int(a, &i) && template_as_int(b, &j)) {
        *out = order_of(i<j, i> j);
        return true;
    }
    if (!template_as_float(a, &x) || !template_as_float(b, &y)) {
        return false;
    }
    *out = isnan(x) || isnan(y) ? ORDER_NONE : order_of(x<y, x> y);
    return true;
}

RC template_compare(struct template_run *r, const struct template_value *a,
                    const struct template_value *b, enum template_order *out)
{
    enum rc rc = RC_OK;
    TRY(template_enter(r));
    TRY(template_spend(r, 1));
    if (a->type == TV_STR && b->type == TV_STR) {
        size_t n = MIN(a->text.len, b->text.len);
        int c = n > 0 ? memcmp(a->text.ptr, b->text.ptr, n) : 0;
        *out = c != 0 ? order_of(c<0, c> 0)
                      : order_of(a->text.len<b->text.len, a->text.len> b->text.len);
        rc = template_spend_bytes(r, n);
    } else if (a->type == TV_SEQ && b->type == TV_SEQ && a->seq->kind == b->seq->kind &&
               a->seq->kind <= SEQ_TUPLE) {
        rc = seq_compare(r, a->seq, b->seq, out);
    } else if (!number_compare(a, b, out)) {
        rc = template_fail(r, RC_INVALID, "'%s' and '%s' have no order", template_type_name(a),
                           template_type_name(b));
    }
    template_leave(r);
    return rc;
}

/* ---- membership ---- */

RC template_contains(struct template_run *r, const struct template_value *container,
                     const struct template_value *item, bool *out)
{
    *out = false;
    if (container->type == TV_STR) {
        if (item->type != TV_STR) {
            return template_fail(r, RC_INVALID, "'in <string>' requires a string, not %s",
                                 template_type_name(item));
        }
        *out = item->text.len == 0 || str_find(container->text, item->text) < container->text.len;
        return template_spend_bytes(r, container->text.len + item->text.len);
    }
    if (container->type == TV_DICT) {
        struct template_pair *pair;
        TRY(template_dict_find(r, container->dict, item, &pair));
        *out = pair != NULL;
        return RC_OK;
    }
    struct template_iter it;
    struct template_value element;
    TRY(template_iter_init(r, container, &it));
    while (!*out && template_iter_next(&it, &element)) {
        TRY(template_equal(r, &element, item, out));
    }
    return RC_OK;
}
