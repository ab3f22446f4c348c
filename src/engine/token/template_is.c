/* template_is.c: the tests behind `is`, as jinja2/tests.py has them. */
#include "base/assert.h"
#include "engine/token/template_call.h"
#include "engine/token/template_char.h"
#include "engine/token/template_op.h"
#include "engine/token/template_text.h"

#define IS(name)                                                                                   \
    static RC is_##name(struct template_run *r, const struct template_value *self,                 \
                        const struct template_args *a, struct template_value *out)

/* ---- types ---- */

IS(defined)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type != TV_UNDEFINED);
    return RC_OK;
}

IS(undefined)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_UNDEFINED);
    return RC_OK;
}

IS(none)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_NONE);
    return RC_OK;
}

IS(boolean)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_BOOL);
    return RC_OK;
}

IS(true)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_BOOL && self->boolean);
    return RC_OK;
}

IS(false)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_BOOL && !self->boolean);
    return RC_OK;
}

IS(integer)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_INT || self->type == TV_BIGINT);
    return RC_OK;
}

IS(float)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_FLOAT);
    return RC_OK;
}

IS(number)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type >= TV_BOOL && self->type <= TV_FLOAT);
    return RC_OK;
}

IS(string)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_STR);
    return RC_OK;
}

IS(mapping)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_DICT);
    return RC_OK;
}

/* Python: it has len() and can be indexed; so dicts and undefined are sequences. */
IS(sequence)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_SEQ ? self->seq->kind <= SEQ_RANGE
                                        : self->type == TV_STR || self->type == TV_DICT ||
                                              self->type == TV_UNDEFINED);
    return RC_OK;
}

IS(iterable)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_SEQ || self->type == TV_STR || self->type == TV_DICT ||
                   self->type == TV_UNDEFINED || self->type == TV_LOOP);
    return RC_OK;
}

IS(callable)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_MACRO || self->type == TV_BUILTIN ||
                   self->type == TV_UNDEFINED || self->type == TV_LOOP);
    return RC_OK;
}

IS(escaped)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_STR && self->safe);
    return RC_OK;
}

IS(filter)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_STR && template_filter_find(self->text) != NULL);
    return RC_OK;
}

IS(test)
{
    UNUSED(r);
    UNUSED(a);
    *out = tv_bool(self->type == TV_STR && template_test_find(self->text) != NULL);
    return RC_OK;
}

/* ---- values ---- */

static RC remainder_is(struct template_run *r, const struct template_value *self, int64_t by,
                       int64_t wanted, struct template_value *out)
{
    struct template_value rest, divisor = tv_int(by), want = tv_int(wanted);
    bool same;
    if (self->type == TV_STR) {
        return template_fail(r, RC_INVALID, "a str has no remainder");
    }
    TRY(template_binary(r, OP_MOD, self, &divisor, &rest));
    TRY(template_equal(r, &rest, &want, &same));
    *out = tv_bool(same);
    return RC_OK;
}

IS(odd)
{
    UNUSED(a);
    return remainder_is(r, self, 2, 1, out);
}

IS(even)
{
    UNUSED(a);
    return remainder_is(r, self, 2, 0, out);
}

IS(divisibleby)
{
    int64_t by;
    TRY(template_arg_int(r, &a->v[0], "divisibleby's number", &by));
    return remainder_is(r, self, by, 0, out);
}

/* str(value).islower() / .isupper(). */
static RC case_is(struct template_run *r, const struct template_value *self, bool upper,
                  struct template_value *out)
{
    struct str text;
    struct template_args none = {0};
    TRY(template_to_str(r, self, &text));
    struct template_value v = tv_str(text);
    struct str name = upper ? STR_LIT("isupper") : STR_LIT("islower");
    return template_row_call(r, template_method_find(&v, name), &v, &none, out);
}

IS(lower)
{
    UNUSED(a);
    return case_is(r, self, false, out);
}

IS(upper)
{
    UNUSED(a);
    return case_is(r, self, true, out);
}

IS(sameas)
{
    UNUSED(r);
    const struct template_value *b = &a->v[0];
    bool same = self->type == b->type;
    switch (self->type) {
    case TV_NONE:
        break;
    case TV_BOOL:
        same = same && self->boolean == b->boolean;
        break;
    case TV_INT:
        same = same && self->integer == b->integer;
        break;
    case TV_STR:
        same = same && str_eq(self->text, b->text);
        break;
    default:
        same = same && self->type >= TV_SEQ && self->address == b->address;
        break;
    }
    *out = tv_bool(same);
    return RC_OK;
}

static RC relate_is(struct template_run *r, enum template_operator op,
                    const struct template_value *x, const struct template_value *y,
                    struct template_value *out)
{
    bool holds;
    TRY(template_relate(r, op, x, y, &holds));
    *out = tv_bool(holds);
    return RC_OK;
}

#define IS_RELATION(name, op)                                                                      \
    IS(name)                                                                                       \
    {                                                                                              \
        return relate_is(r, op, self, &a->v[0], out);                                              \
    }

IS_RELATION(eq, OP_EQ)
IS_RELATION(ne, OP_NE)
IS_RELATION(lt, OP_LT)
IS_RELATION(le, OP_LE)
IS_RELATION(gt, OP_GT)
IS_RELATION(ge, OP_GE)
IS_RELATION(in, OP_IN)

static const struct template_row tests[] = {
    {"defined", "", is_defined},    {"undefined", "", is_undefined},
    {"none", "", is_none},          {"string", "", is_string},
    {"mapping", "", is_mapping},    {"iterable", "", is_iterable},
    {"sequence", "", is_sequence},  {"boolean", "", is_boolean},
    {"true", "", is_true},          {"false", "", is_false},
    {"number", "", is_number},      {"integer", "", is_integer},
    {"float", "", is_float},        {"callable", "", is_callable},
    {"escaped", "", is_escaped},    {"filter", "", is_filter},
    {"test", "", is_test},          {"odd", "", is_odd},
    {"even", "", is_even},          {"divisibleby", "num", is_divisibleby},
    {"lower", "", is_lower},        {"upper", "", is_upper},
    {"sameas", "other", is_sameas}, {"in", "seq", is_in},
    {"eq", "other", is_eq},         {"equalto", "other", is_eq},
    {"==", "other", is_eq},         {"ne", "other", is_ne},
    {"!=", "other", is_ne},         {"lt", "other", is_lt},
    {"lessthan", "other", is_lt},   {"<", "other", is_lt},
    {"le", "other", is_le},         {"<=", "other", is_le},
    {"gt", "other", is_gt},         {"greaterthan", "other", is_gt},
    {">", "other", is_gt},          {"ge", "other", is_ge},
    {">=", "other", is_ge},
};

const struct template_row *template_test_find(struct str name)
{
    return template_row_find(tests, ARRAY_LEN(tests), name);
}

RC template_test_apply(struct template_run *r, const struct template_value *v, struct str name,
                       struct template_args *a, bool *out)
{
    struct template_value result;
    if (name.len == 0) {
        *out = template_truth(v);
        return RC_OK;
    }
    const struct template_row *row = template_test_find(name);
    if (row == NULL) {
        return template_fail(r, RC_INVALID, "no test named '%.*s'", STR(str_slice(name, 0, 60)));
    }
    TRY(template_row_call(r, row, v, a, &result));
    *out = template_truth(&result);
    return RC_OK;
}
