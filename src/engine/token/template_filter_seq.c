/* template_filter_seq.c: filters of lists and dicts, as jinja2/filters.py has them.
 *
 * Where jinja2 gives a generator (map, select, unique, items, reverse, …) so do these: it can be
 * walked once and has no length, and tojson refuses it. Its items are computed at once, though. */
#include "base/assert.h"
#include "engine/token/template_call.h"
#include "engine/token/template_op.h"
#include "engine/token/template_text.h"

#define FILTER(name)                                                                               \
    static RC filter_##name(struct template_run *r, const struct template_value *self,             \
                            const struct template_args *a, struct template_value *out)

static const struct template_value no_value = {.type = TV_MISSING};

/* ---- counting and picking ---- */

FILTER(length)
{
    int64_t n;
    UNUSED(a);
    TRY(template_length(r, self, &n));
    *out = tv_int(n);
    return RC_OK;
}

FILTER(list)
{
    UNUSED(a);
    struct template_seq *s;
    TRY(template_collect(r, self, &s));
    *out = tv_seq(s);
    return RC_OK;
}

FILTER(first)
{
    struct template_iter it;
    UNUSED(a);
    TRY(template_iter_init(r, self, &it));
    if (!template_iter_next(&it, out)) {
        *out = tv_undefined(STR_LIT("first item"));
    }
    return RC_OK;
}

FILTER(last)
{
    struct template_seq *s;
    UNUSED(a);
    if (!template_has_length(self)) {
        return template_fail(r, RC_INVALID, "'%s' object is not reversible",
                             template_type_name(self));
    }
    TRY(template_collect(r, self, &s));
    *out = s->n > 0 ? s->items[s->n - 1] : tv_undefined(STR_LIT("last item"));
    return RC_OK;
}

FILTER(reverse)
{
    struct template_seq *s;
    struct template_slice whole = {tv_none(), tv_none(), tv_int(-1)};
    UNUSED(a);
    if (self->type == TV_STR) {
        return template_slice(r, self, &whole, out);
    }
    TRY(template_collect(r, self, &s));
    struct template_value all = tv_seq(s);
    TRY(template_slice(r, &all, &whole, out));
    out->seq->kind = SEQ_GENERATOR;
    return RC_OK;
}

FILTER(items)
{
    struct template_args none = {0};
    UNUSED(a);
    if (self->type == TV_UNDEFINED) {
        *out = tv_undefined(STR_NULL);
        struct template_seq *empty;
        TRY(template_seq_new(r, SEQ_GENERATOR, 0, &empty));
        *out = tv_seq(empty);
        return RC_OK;
    }
    if (self->type != TV_DICT) {
        return template_fail(r, RC_INVALID, "Can only get item pairs from a mapping.");
    }
    TRY(template_row_call(r, template_method_find(self, STR_LIT("items")), self, &none, out));
    out->seq->kind = SEQ_GENERATOR;
    return RC_OK;
}

/* join(d='', attribute=None) */
FILTER(join)
{
    struct template_iter it;
    struct template_value item;
    struct template_text t;
    struct str between = STR_LIT(""), text;
    uint32_t n = 0;
    if (template_arg_given(&a->v[0])) {
        TRY(template_to_str(r, &a->v[0], &between));
    }
    template_text_init(&t, r);
    TRY(template_iter_init(r, self, &it));
    while (template_iter_next(&it, &item)) {
        if (template_arg_given(&a->v[1]) && a->v[1].type != TV_NONE) {
            struct template_value whole = item;
            TRY(template_path(r, &whole, &a->v[1], &no_value, &item));
        }
        TRY(template_to_str(r, &item, &text));
        template_text_add(&t, n++ > 0 ? between : STR_LIT(""));
        template_text_add(&t, text);
        TRY(template_spend(r, 1));
    }
    *out = tv_str(STR_NULL);
    return template_text_done(&t, &out->text);
}

/* ---- map, select ---- */

/* The rest of the arguments, for the filter or test named by the first `skip`. */
static struct template_args args_after(const struct template_args *a, uint32_t skip)
{
    struct template_args rest = *a;
    rest.given = a->n > skip ? a->given + skip : NULL;
    rest.n = a->n > skip ? a->n - skip : 0;
    return rest;
}

static RC map_attribute(struct template_run *r, const struct template_value *self,
                        const struct template_args *a, struct template_seq *to)
{
    struct template_iter it;
    struct template_value item, picked, path = {0}, otherwise = {0};
    for (uint32_t i = 0; i < a->n_named; i++) {
        struct str name = a->named[i].key.text;
        if (str_is(name, "attribute")) {
            path = a->named[i].value;
        } else if (str_is(name, "default")) {
            otherwise = a->named[i].value;
            otherwise.type = otherwise.type == TV_NONE ? TV_MISSING : otherwise.type;
        } else {
            return template_fail(r, RC_INVALID, "map was given an argument it does not have");
        }
    }
    if (path.type == TV_MISSING) {
        return template_fail(r, RC_INVALID, "map requires a filter argument");
    }
    TRY(template_iter_init(r, self, &it));
    while (template_iter_next(&it, &item)) {
        TRY(template_path(r, &item, &path, &otherwise, &picked));
        TRY(template_seq_push(r, to, &picked));
    }
    return RC_OK;
}

static RC map_filter(struct template_run *r, const struct template_value *self,
                     const struct template_args *a, struct template_seq *to)
{
    struct template_iter it;
    struct template_value item, mapped;
    struct str name;
    TRY(template_arg_str(r, &a->given[0], "the filter's name", &name));
    const struct template_row *row = template_filter_find(name);
    if (row == NULL) {
        return template_fail(r, RC_INVALID, "no filter named '%.*s'", STR(str_slice(name, 0, 60)));
    }
    TRY(template_iter_init(r, self, &it));
    while (template_iter_next(&it, &item)) {
        struct template_args rest = args_after(a, 1);
        TRY(template_row_call(r, row, &item, &rest, &mapped));
        TRY(template_seq_push(r, to, &mapped));
    }
    return RC_OK;
}

/* map(filter, …) or map(attribute=…, default=…) */
FILTER(map)
{
    struct template_seq *to;
    TRY(template_seq_new(r, SEQ_GENERATOR, 0, &to));
    *out = tv_seq(to);
    if (!template_truth(self)) {
        return RC_OK;
    }
    return a->n > 0 ? map_filter(r, self, a, to) : map_attribute(r, self, a, to);
}

struct pick {
    bool by_attribute; /* the first argument is the attribute that is tested */
    bool keep;         /* what passes, or what fails */
};

static RC pick(struct template_run *r, const struct template_value *self,
               const struct template_args *a, struct pick how, struct template_value *out)
{
    struct template_iter it;
    struct template_value item, tested;
    struct template_seq *to;
    struct str test = STR_LIT("");
    uint32_t skip = how.by_attribute ? 1 : 0;
    TRY(template_seq_new(r, SEQ_GENERATOR, 0, &to));
    *out = tv_seq(to);
    if (!template_truth(self)) {
        return RC_OK;
    }
    if (a->n < skip) {
        return template_fail(r, RC_INVALID, "missing parameter for attribute name");
    }
    if (a->n > skip) {
        TRY(template_arg_str(r, &a->given[skip], "the test's name", &test));
    }
    TRY(template_iter_init(r, self, &it));
    while (template_iter_next(&it, &item)) {
        bool passes;
        struct template_args rest = args_after(a, skip + 1);
        tested = item;
        if (how.by_attribute) {
            TRY(template_path(r, &item, &a->given[0], &no_value, &tested));
        }
        TRY(template_test_apply(r, &tested, test, &rest, &passes));
        TRY(template_spend(r, 1));
        if (passes == how.keep) {
            TRY(template_seq_push(r, to, &item));
        }
    }
    return RC_OK;
}

FILTER(select)
{
    return pick(r, self, a, (struct pick){false, true}, out);
}

FILTER(reject)
{
    return pick(r, self, a, (struct pick){false, false}, out);
}

FILTER(selectattr)
{
    return pick(r, self, a, (struct pick){true, true}, out);
}

FILTER(rejectattr)
{
    return pick(r, self, a, (struct pick){true, false}, out);
}

/* ---- ordering ---- */

/* What each item is compared by: itself or its attribute. */
static RC sort_keys(struct template_run *r, const struct template_seq *s,
                    const struct template_value *attribute, struct template_seq **out)
{
    TRY(template_seq_new(r, SEQ_LIST, s->n, out));
    for (uint32_t i = 0; i < s->n; i++) {
        (*out)->items[i] = s->items[i];
        if (attribute->type != TV_MISSING && attribute->type != TV_NONE) {
            TRY(template_path(r, &s->items[i], attribute, &no_value, &(*out)->items[i]));
        }
    }
    (*out)->n = s->n;
    return template_spend(r, s->n);
}

/* sort(attribute='a,b') compares lists of attributes; without attribute, lists of the item. So
 * equal items need no order of their own. */
static RC multi_keys(struct template_run *r, const struct template_seq *s,
                     const struct template_value *attribute, bool case_sensitive,
                     struct template_seq *keys)
{
    for (uint32_t i = 0; i < s->n; i++) {
        struct template_seq *key, *one;
        struct str rest = attribute->type == TV_STR ? attribute->text : STR_NULL;
        struct template_seq item = {.kind = SEQ_LIST, .n = 1, .items = &s->items[i]};
        TRY(template_seq_new(r, SEQ_LIST, 1, &key));
        do {
            struct template_value path = attribute->type == TV_STR ? tv_str(str_cut(&rest, ','))
                                                                   : *attribute,
                                  folded;
            TRY(sort_keys(r, &item, &path, &one));
            folded = one->items[0];
            if (!case_sensitive) {
                TRY(template_fold_case(r, &one->items[0], &folded));
            }
            TRY(template_seq_push(r, key, &folded));
        } while (rest.ptr != NULL);
        keys->items[i] = tv_seq(key);
    }
    return RC_OK;
}

/* sort(reverse=False, case_sensitive=False, attribute=None) */
FILTER(sort)
{
    struct template_seq *s, *keys;
    struct template_sort_options opt = {template_arg_flag(&a->v[0], false), true};
    TRY(template_collect(r, self, &s));
    TRY(template_seq_new(r, SEQ_LIST, s->n, &keys));
    TRY(multi_keys(r, s, &a->v[2], template_arg_flag(&a->v[1], false), keys));
    TRY(template_sort(r, s->items, keys->items, s->n, opt));
    *out = tv_seq(s);
    return RC_OK;
}

/* dictsort(case_sensitive=False, by='key', reverse=False) */
FILTER(dictsort)
{
    struct template_args none = {0};
    struct template_value items, by = tv_int(0);
    struct template_seq *s, *keys;
    struct template_sort_options opt = {template_arg_flag(&a->v[2], false),
                                        template_arg_flag(&a->v[0], false)};
    if (self->type != TV_DICT) {
        return template_fail(r, RC_INVALID, "dictsort wants a dict, not %s",
                             template_type_name(self));
    }
    if (template_arg_given(&a->v[1])) {
        struct str word;
        TRY(template_arg_str(r, &a->v[1], "by", &word));
        if (!str_is(word, "key") && !str_is(word, "value")) {
            return template_fail(r, RC_INVALID, "You can only sort by either \"key\" or \"value\"");
        }
        by = tv_int(str_is(word, "value") ? 1 : 0);
    }
    TRY(template_row_call(r, template_method_find(self, STR_LIT("items")), self, &none, &items));
    TRY(template_collect(r, &items, &s));
    TRY(sort_keys(r, s, &by, &keys));
    TRY(template_sort(r, s->items, keys->items, s->n, opt));
    *out = tv_seq(s);
    return RC_OK;
}

/* unique(case_sensitive=False, attribute=None): the first of each. */
FILTER(unique)
{
    struct template_seq *s, *keys, *kept;
    struct template_dict *seen;
    struct template_value key;
    bool case_sensitive = template_arg_flag(&a->v[0], false);
    TRY(template_collect(r, self, &s));
    TRY(sort_keys(r, s, &a->v[1], &keys));
    TRY(template_dict_new(r, 0, &seen));
    TRY(template_seq_new(r, SEQ_GENERATOR, 0, &kept));
    for (uint32_t i = 0; i < s->n; i++) {
        struct template_pair *old;
        key = keys->items[i];
        if (!case_sensitive) {
            TRY(template_fold_case(r, &keys->items[i], &key));
        }
        TRY(template_dict_find(r, seen, &key, &old));
        if (old == NULL) {
            TRY(template_dict_set(r, seen, &key, &key));
            TRY(template_seq_push(r, kept, &s->items[i]));
        }
    }
    *out = tv_seq(kept);
    return RC_OK;
}

static RC extreme(struct template_run *r, const struct template_value *self,
                  const struct template_args *a, enum template_order wanted,
                  struct template_value *out)
{
    struct template_seq *s, *keys;
    struct template_value best = {0}, key;
    bool case_sensitive = template_arg_flag(&a->v[0], false);
    TRY(template_collect(r, self, &s));
    TRY(sort_keys(r, s, &a->v[1], &keys));
    *out = tv_undefined(STR_LIT("the extreme of an empty sequence"));
    for (uint32_t i = 0; i < s->n; i++) {
        enum template_order order = wanted;
        key = keys->items[i];
        if (!case_sensitive) {
            TRY(template_fold_case(r, &keys->items[i], &key));
        }
        if (i > 0) {
            TRY(template_compare(r, &key, &best, &order));
        }
        if (order == wanted) {
            best = key;
            *out = s->items[i];
        }
    }
    return RC_OK;
}

FILTER(min)
{
    return extreme(r, self, a, ORDER_LESS, out);
}

FILTER(max)
{
    return extreme(r, self, a, ORDER_MORE, out);
}

/* sum(attribute=None, start=0) */
FILTER(sum)
{
    struct template_seq *s, *parts;
    struct template_value total = template_arg_given(&a->v[1]) ? a->v[1] : tv_int(0);
    TRY(template_collect(r, self, &s));
    TRY(sort_keys(r, s, &a->v[0], &parts));
    for (uint32_t i = 0; i < parts->n; i++) {
        struct template_value before = total;
        if (parts->items[i].type == TV_STR) {
            return template_fail(r, RC_INVALID, "sum of texts: use |join");
        }
        TRY(template_binary(r, OP_ADD, &before, &parts->items[i], &total));
    }
    *out = total;
    return RC_OK;
}

const struct template_row template_filters_seq[] = {
    {"length", "", filter_length},
    {"count", "", filter_length},
    {"join", "d? attribute?", filter_join},
    {"items", "", filter_items},
    {"list", "", filter_list},
    {"selectattr", "*", filter_selectattr},
    {"rejectattr", "*", filter_rejectattr},
    {"select", "*", filter_select},
    {"reject", "*", filter_reject},
    {"map", "*", filter_map},
    {"dictsort", "case_sensitive? by? reverse?", filter_dictsort},
    {"sort", "reverse? case_sensitive? attribute?", filter_sort},
    {"unique", "case_sensitive? attribute?", filter_unique},
    {"first", "", filter_first},
    {"last", "", filter_last},
    {"reverse", "", filter_reverse},
    {"min", "case_sensitive? attribute?", filter_min},
    {"max", "case_sensitive? attribute?", filter_max},
    {"sum", "attribute? start?", filter_sum},
};
const size_t template_filters_seq_n = ARRAY_LEN(template_filters_seq);
