/* template_call.c: arguments to parameters, calling, and the functions of the context: what
 * transformers adds to jinja2 (raise_exception, strftime_now), and of jinja2's own range,
 * namespace and dict. */
#include "engine/token/template_call.h"

#include "base/assert.h"
#include "engine/token/template_op.h"
#include "engine/token/template_text.h"

/* ---- arguments ---- */

/* The i-th word of "a b c?": its name, and whether it may be left out. False past the end. */
static bool param_at(const char *params, uint32_t i, struct str *name, bool *optional)
{
    struct str rest = str_from(params), word = STR_NULL;
    for (uint32_t k = 0; k <= i; k++) {
        if (rest.len == 0) {
            return false;
        }
        word = str_cut(&rest, ' ');
    }
    *optional = str_ends(word, STR_LIT("?"));
    *name = str_slice(word, 0, word.len - (*optional ? 1 : 0));
    return true;
}

static RC args_bind(struct template_run *r, const struct template_row *row, struct template_args *a)
{
    uint32_t n = 0, used = 0;
    struct str name;
    bool optional;
    for (; param_at(row->params, n, &name, &optional); n++) {
        ASSERT(n < TEMPLATE_PARAMS_MAX);
        a->v[n] = n < a->n ? a->given[n] : (struct template_value){0};
        for (uint32_t k = 0; k < a->n_named && n >= a->n; k++) {
            if (str_eq(a->named[k].key.text, name)) {
                a->v[n] = a->named[k].value;
                used++;
            }
        }
        if (a->v[n].type == TV_MISSING && !optional) {
            return template_fail(r, RC_INVALID, "%s: the argument '%.*s' is missing", row->name,
                                 STR(name));
        }
    }
    if (a->n > n) {
        return template_fail(r, RC_INVALID, "%s takes at most %u arguments, not %u", row->name, n,
                             a->n);
    }
    if (used != a->n_named) {
        return template_fail(r, RC_INVALID, "%s was given an argument it does not have", row->name);
    }
    return RC_OK;
}

RC template_row_call(struct template_run *r, const struct template_row *row,
                     const struct template_value *self, struct template_args *a,
                     struct template_value *out)
{
    if (row->fn == NULL) {
        return template_fail(r, RC_INVALID, "'%s' is not served", row->name);
    }
    if (row->params[0] != '*') {
        TRY(args_bind(r, row, a));
    }
    TRY(template_enter(r));
    TRY(row->fn(r, self, a, out));
    template_leave(r);
    return RC_OK;
}

RC template_call(struct template_run *r, const struct template_value *callee,
                 struct template_args *a, struct template_value *out)
{
    if (callee->type == TV_MACRO) {
        return template_macro_call(r, callee->macro, a, out);
    }
    if (callee->type == TV_BUILTIN) {
        return template_row_call(r, callee->bound->row, &callee->bound->self, a, out);
    }
    if (callee->type == TV_UNDEFINED) {
        return template_fail(r, RC_INVALID, "'%.*s' is undefined",
                             STR(str_slice(callee->text, 0, 60)));
    }
    return template_fail(r, RC_INVALID, "'%s' object is not callable", template_type_name(callee));
}

const struct template_row *template_row_find(const struct template_row *rows, size_t n,
                                             struct str name)
{
    for (size_t i = 0; i < n; i++) {
        if (str_is(name, rows[i].name)) {
            return &rows[i];
        }
    }
    return NULL;
}

RC template_arg_str(struct template_run *r, const struct template_value *v, const char *what,
                    struct str *out)
{
    if (v->type != TV_STR) {
        return template_fail(r, RC_INVALID, "%s must be a str, not %s", what,
                             template_type_name(v));
    }
    *out = v->text;
    return RC_OK;
}

RC template_arg_int(struct template_run *r, const struct template_value *v, const char *what,
                    int64_t *out)
{
    if (!template_as_int(v, out)) {
        return template_fail(r, RC_INVALID, "%s must be a whole number, not %s", what,
                             template_type_name(v));
    }
    return RC_OK;
}

/* ---- functions ---- */

static RC fn_raise_exception(struct template_run *r, const struct template_value *self,
                             const struct template_args *a, struct template_value *out)
{
    struct str text;
    UNUSED(self);
    UNUSED(out);
    TRY(template_to_str(r, &a->v[0], &text));
    return err_set(r->err, RC_INVALID, "%.*s", STR(str_slice(text, 0, 4096)));
}

static RC fn_strftime_now(struct template_run *r, const struct template_value *self,
                          const struct template_args *a, struct template_value *out)
{
    struct str format;
    UNUSED(self);
    TRY(template_arg_str(r, &a->v[0], "strftime_now's format", &format));
    return template_strftime(r, format, r->in->now_s, out);
}

/* How many numbers range(start, stop, step) has. */
static uint64_t range_count(int64_t start, int64_t stop, int64_t step)
{
    uint64_t gap, stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    if (step > 0 ? start >= stop : start <= stop) {
        return 0;
    }
    gap = step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    return (gap - 1) / stride + 1;
}

static RC fn_range(struct template_run *r, const struct template_value *self,
                   const struct template_args *a, struct template_value *out)
{
    int64_t start = 0, stop, step = 1;
    struct template_seq *s;
    UNUSED(self);
    TRY(template_arg_int(r, &a->v[0], "range's argument", &stop));
    if (template_arg_given(&a->v[1])) {
        start = stop;
        TRY(template_arg_int(r, &a->v[1], "range's argument", &stop));
    }
    if (template_arg_given(&a->v[2])) {
        TRY(template_arg_int(r, &a->v[2], "range's step", &step));
    }
    if (step == 0) {
        return template_fail(r, RC_INVALID, "range's step must not be zero");
    }
    uint64_t n = range_count(start, stop, step);
    if (n > TEMPLATE_RANGE_MAX) {
        return template_fail(r, RC_TOO_LARGE, "range of more than %d numbers", TEMPLATE_RANGE_MAX);
    }
    TRY(template_spend(r, n));
    TRY(template_seq_new(r, SEQ_RANGE, n, &s));
    for (; s->n < n; s->n++) {
        s->items[s->n] = tv_int(start);
        start += s->n + 1 < n ? step : 0;
    }
    *out = tv_seq(s);
    return RC_OK;
}

/* dict(mapping or pairs, **named), into d. */
static RC dict_from(struct template_run *r, const struct template_args *a,
                    struct template_dict **out)
{
    struct template_iter it;
    struct template_value item;
    struct template_seq *pair;
    TRY(template_dict_new(r, a->n_named, out));
    if (a->n > 1) {
        return template_fail(r, RC_INVALID, "dict takes at most 1 positional argument");
    }
    if (a->n == 1 && (a->given[0].type == TV_DICT)) {
        for (uint32_t i = 0; i < a->given[0].dict->n; i++) {
            const struct template_pair *p = &a->given[0].dict->pairs[i];
            TRY(template_dict_set(r, *out, &p->key, &p->value));
        }
    } else if (a->n == 1) {
        TRY(template_iter_init(r, &a->given[0], &it));
        while (template_iter_next(&it, &item)) {
            TRY(template_collect(r, &item, &pair));
            if (pair->n != 2) {
                return template_fail(r, RC_INVALID, "dict wants pairs");
            }
            TRY(template_dict_set(r, *out, &pair->items[0], &pair->items[1]));
        }
    }
    for (uint32_t i = 0; i < a->n_named; i++) {
        TRY(template_dict_set(r, *out, &a->named[i].key, &a->named[i].value));
    }
    return RC_OK;
}

static RC fn_dict(struct template_run *r, const struct template_value *self,
                  const struct template_args *a, struct template_value *out)
{
    UNUSED(self);
    out->type = TV_DICT;
    return dict_from(r, a, &out->dict);
}

static RC fn_namespace(struct template_run *r, const struct template_value *self,
                       const struct template_args *a, struct template_value *out)
{
    UNUSED(self);
    out->type = TV_NAMESPACE;
    return dict_from(r, a, &out->dict);
}

static const struct template_row functions[] = {
    {"namespace", "*", fn_namespace},
    {"raise_exception", "message", fn_raise_exception},
    {"range", "start stop? step?", fn_range},
    {"strftime_now", "format", fn_strftime_now},
    {"dict", "*", fn_dict},
};

const struct template_row *template_function_find(struct str name)
{
    return template_row_find(functions, ARRAY_LEN(functions), name);
}
