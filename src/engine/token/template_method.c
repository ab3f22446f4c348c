/* template_method.c: methods of dict, list, tuple and the loop, and finding a method by name.
 *
 * Every public method name of Python's types is in the tables, served or not, since `x.name` must
 * not fall through to a dict's key where Python finds a method. The sandbox of jinja2 forbids what
 * changes a value; append and pop are served nevertheless, as templates in the wild use them. */
#include "base/assert.h"
#include "engine/token/template_call.h"
#include "engine/token/template_loop.h"

#define METHOD(name)                                                                               \
    static RC method_##name(struct template_run *r, const struct template_value *self,             \
                            const struct template_args *a, struct template_value *out)

/* ---- dict ---- */

METHOD(get)
{
    struct template_pair *pair;
    TRY(template_dict_find(r, self->dict, &a->v[0], &pair));
    *out = pair != NULL ? pair->value : template_arg_given(&a->v[1]) ? a->v[1] : tv_none();
    return RC_OK;
}

static RC dict_view(struct template_run *r, const struct template_dict *d,
                    enum template_seq_kind kind, struct template_value *out)
{
    struct template_seq *view;
    TRY(template_seq_new(r, kind, d->n, &view));
    TRY(template_spend(r, d->n / 4));
    for (; view->n < d->n; view->n++) {
        const struct template_pair *pair = &d->pairs[view->n];
        struct template_value *v = &view->items[view->n];
        if (kind == SEQ_ITEMS) {
            struct template_seq *item;
            TRY(template_seq_new(r, SEQ_TUPLE, 2, &item));
            item->items[0] = pair->key;
            item->items[1] = pair->value;
            item->n = 2;
            *v = tv_seq(item);
        } else {
            *v = kind == SEQ_KEYS ? pair->key : pair->value;
        }
    }
    *out = tv_seq(view);
    return RC_OK;
}

METHOD(items)
{
    UNUSED(a);
    return dict_view(r, self->dict, SEQ_ITEMS, out);
}

METHOD(keys)
{
    UNUSED(a);
    return dict_view(r, self->dict, SEQ_KEYS, out);
}

METHOD(values)
{
    UNUSED(a);
    return dict_view(r, self->dict, SEQ_VALUES, out);
}

METHOD(dict_copy)
{
    struct template_dict *d;
    UNUSED(a);
    TRY(template_dict_new(r, self->dict->n, &d));
    TRY(template_spend(r, self->dict->n / 4));
    if (self->dict->n > 0) {
        memcpy(d->pairs, self->dict->pairs, self->dict->n * sizeof(*d->pairs));
    }
    d->n = self->dict->n;
    *out = tv_dict(d);
    return RC_OK;
}

METHOD(dict_pop)
{
    struct template_pair *pair;
    struct template_dict *d = self->dict;
    TRY(template_dict_find(r, d, &a->v[0], &pair));
    if (pair == NULL) {
        *out = a->v[1];
        return template_arg_given(&a->v[1]) ? RC_OK : template_fail(r, RC_INVALID, "no such key");
    }
    *out = pair->value;
    size_t at = (size_t)(pair - d->pairs);
    memmove(pair, pair + 1, (d->n - at - 1) * sizeof(*pair));
    d->n--;
    return template_spend(r, d->n / 8);
}

static const struct template_row dict_methods[] = {
    {"items", "", method_items},
    {"get", "key default?", method_get},
    {"keys", "", method_keys},
    {"values", "", method_values},
    {"pop", "key default?", method_dict_pop},
    {"copy", "", method_dict_copy},
    {"clear", "", NULL},
    {"fromkeys", "*", NULL},
    {"popitem", "", NULL},
    {"setdefault", "*", NULL},
    {"update", "*", NULL},
};

/* ---- list, tuple ---- */

METHOD(append)
{
    TRY(template_seq_push(r, self->seq, &a->v[0]));
    *out = tv_none();
    return RC_OK;
}

/* Slots behind the end are given up: a slice made before may still see them. */
METHOD(list_pop)
{
    struct template_seq *s = self->seq;
    int64_t at = -1;
    if (template_arg_given(&a->v[0])) {
        TRY(template_arg_int(r, &a->v[0], "the index", &at));
    }
    at += at < 0 ? (int64_t)s->n : 0;
    if (at < 0 || at >= (int64_t)s->n) {
        return template_fail(r, RC_INVALID, "pop index out of range");
    }
    *out = s->items[at];
    if (at + 1 < (int64_t)s->n) {
        struct template_seq *copy;
        TRY(template_collect(r, self, &copy));
        memmove(copy->items + at, copy->items + at + 1,
                (s->n - (size_t)at - 1) * sizeof(*copy->items));
        s->items = copy->items;
    }
    s->n--;
    s->size = 0;
    return RC_OK;
}

METHOD(seq_count)
{
    int64_t n = 0;
    for (uint32_t i = 0; i < self->seq->n; i++) {
        bool same;
        TRY(template_equal(r, &self->seq->items[i], &a->v[0], &same));
        n += same;
    }
    *out = tv_int(n);
    return RC_OK;
}

METHOD(seq_index)
{
    for (uint32_t i = 0; i < self->seq->n; i++) {
        bool same;
        TRY(template_equal(r, &self->seq->items[i], &a->v[0], &same));
        if (same) {
            *out = tv_int((int64_t)i);
            return RC_OK;
        }
    }
    return template_fail(r, RC_INVALID, "value is not in list");
}

METHOD(list_copy)
{
    UNUSED(a);
    out->type = TV_SEQ;
    return template_collect(r, self, &out->seq);
}

static const struct template_row list_methods[] = {
    {"append", "object", method_append},
    {"pop", "index?", method_list_pop},
    {"count", "value", method_seq_count},
    {"index", "value", method_seq_index},
    {"copy", "", method_list_copy},
    {"clear", "", NULL},
    {"extend", "*", NULL},
    {"insert", "*", NULL},
    {"remove", "*", NULL},
    {"reverse", "*", NULL},
    {"sort", "*", NULL},
};

static const struct template_row tuple_methods[] = {
    {"count", "value", method_seq_count},
    {"index", "value", method_seq_index},
};

/* ---- loop ---- */

METHOD(cycle)
{
    if (a->n == 0) {
        return template_fail(r, RC_INVALID, "no items for cycling given");
    }
    *out = a->given[self->loop->index0 % (int64_t)a->n];
    return RC_OK;
}

static const struct template_row loop_methods[] = {
    {"cycle", "*", method_cycle},
    {"changed", "*", NULL},
};

const struct template_row *template_method_find(const struct template_value *v, struct str name)
{
    if (v->type == TV_STR) {
        return template_row_find(template_methods_str, template_methods_str_n, name);
    }
    if (v->type == TV_DICT) {
        return template_row_find(dict_methods, ARRAY_LEN(dict_methods), name);
    }
    if (tv_is_seq(v, SEQ_LIST)) {
        return template_row_find(list_methods, ARRAY_LEN(list_methods), name);
    }
    if (tv_is_seq(v, SEQ_TUPLE) || tv_is_seq(v, SEQ_RANGE)) {
        return template_row_find(tuple_methods, ARRAY_LEN(tuple_methods), name);
    }
    if (v->type == TV_LOOP) {
        return template_row_find(loop_methods, ARRAY_LEN(loop_methods), name);
    }
    return NULL;
}
