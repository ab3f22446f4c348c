/* template_op.c: arithmetic, text and list operators, comparison operators, sorting.
 *
 * Integers are 64 bits wide and overflow is an error; division and remainder round towards minus
 * infinity, as Python's do. */
#include "engine/token/template_op.h"

#include <math.h>

#include "base/assert.h"
#include "base/checked.h"
#include "engine/token/template_call.h"
#include "engine/token/template_char.h"
#include "engine/token/template_text.h"

static const char *const op_names[] = {
    [OP_ADD] = "+", [OP_SUB] = "-",  [OP_MUL] = "*", [OP_DIV] = "/", [OP_FLOORDIV] = "//",
    [OP_MOD] = "%", [OP_POW] = "**", [OP_NEG] = "-", [OP_POS] = "+",
};

static RC op_types(struct template_run *r, enum template_operator op,
                   const struct template_value *a, const struct template_value *b)
{
    if (a->type == TV_UNDEFINED || b->type == TV_UNDEFINED) {
        struct str name = a->type == TV_UNDEFINED ? a->text : b->text;
        return template_fail(r, RC_INVALID, "'%.*s' is undefined", STR(name));
    }
    return template_fail(r, RC_INVALID, "unsupported operand types for %s: '%s' and '%s'",
                         op_names[op], template_type_name(a), template_type_name(b));
}

/* ---- whole numbers ---- */

static RC int_power(struct template_run *r, int64_t base, int64_t exp, struct template_value *out)
{
    int64_t result = 1;
    if (exp < 0) {
        if (base == 0) {
            return template_fail(r, RC_INVALID, "0 to a negative power");
        }
        *out = tv_float(pow((double)base, (double)exp));
        return RC_OK;
    }
    bool fits = true;
    while (exp > 0 && fits) {
        if ((exp & 1) != 0) {
            fits = checked_mul(result, base, &result);
        }
        exp >>= 1;
        fits = fits && (exp == 0 || checked_mul(base, base, &base));
    }
    if (!fits) {
        return template_fail(r, RC_INVALID, "a result of ** over 64 bits");
    }
    *out = tv_int(result);
    return RC_OK;
}

static RC int_divide(struct template_run *r, enum template_operator op, const int64_t x[2],
                     struct template_value *out)
{
    if (x[1] == 0) {
        return template_fail(r, RC_INVALID, "division by zero");
    }
    if (op == OP_DIV) {
        *out = tv_float((double)x[0] / (double)x[1]);
        return RC_OK;
    }
    if (x[1] == -1) { /* INT64_MIN / -1 does not fit */
        if (x[0] == INT64_MIN && op == OP_FLOORDIV) {
            return template_fail(r, RC_INVALID, "a result of // over 64 bits");
        }
        *out = tv_int(op == OP_MOD ? 0 : -x[0]);
        return RC_OK;
    }
    int64_t q = x[0] / x[1], rest = x[0] % x[1];
    bool down = rest != 0 && (rest < 0) != (x[1] < 0);
    *out = tv_int(op == OP_MOD ? rest + (down ? x[1] : 0) : q - (down ? 1 : 0));
    return RC_OK;
}

static RC int_binary(struct template_run *r, enum template_operator op, const int64_t x[2],
                     struct template_value *out)
{
    int64_t result = 0;
    bool fits;
    switch (op) {
    case OP_ADD:
        fits = checked_add(x[0], x[1], &result);
        break;
    case OP_SUB:
        fits = checked_sub(x[0], x[1], &result);
        break;
    case OP_MUL:
        fits = checked_mul(x[0], x[1], &result);
        break;
    case OP_POW:
        return int_power(r, x[0], x[1], out);
    default:
        return int_divide(r, op, x, out);
    }
    if (!fits) {
        return template_fail(r, RC_INVALID, "a result of %s over 64 bits", op_names[op]);
    }
    *out = tv_int(result);
    return RC_OK;
}

/* ---- floats ---- */

/* CPython's float_divmod: the quotient is rounded down, the remainder has the divisor's sign. */
static double float_divide(enum template_operator op, double x, double y)
{
    double rest = fmod(x, y);
    double div = (x - rest) / y;
    if (rest == 0.0) {
        rest = copysign(0.0, y);
    } else if ((rest < 0.0) != (y < 0.0)) {
        rest += y;
        div -= 1.0;
    }
    if (op == OP_MOD) {
        return rest;
    }
    double down = floor(div);
    return div == 0.0 ? copysign(0.0, x / y) : down + (div - down > 0.5 ? 1.0 : 0.0);
}

static RC float_binary(struct template_run *r, enum template_operator op, const double x[2],
                       struct template_value *out)
{
    double result = 0.0;
    bool divides = op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD;
    if ((divides && x[1] == 0.0) || (op == OP_POW && x[0] == 0.0 && x[1] < 0.0)) {
        return template_fail(r, RC_INVALID, "division by zero");
    }
    switch (op) {
    case OP_ADD:
        result = x[0] + x[1];
        break;
    case OP_SUB:
        result = x[0] - x[1];
        break;
    case OP_MUL:
        result = x[0] * x[1];
        break;
    case OP_DIV:
        result = x[0] / x[1];
        break;
    case OP_POW:
        result = pow(x[0], x[1]);
        if (!isfinite(result) && isfinite(x[0]) && isfinite(x[1])) {
            return template_fail(r, RC_INVALID, "a power that is no real number");
        }
        break;
    default:
        result = float_divide(op, x[0], x[1]);
        break;
    }
    *out = tv_float(result);
    return RC_OK;
}

/* ---- texts and lists ---- */

RC template_escape(struct template_run *r, struct str s, struct str *out)
{
    static const struct {
        char c;
        struct str to;
    } map[] = {{'&', {"&amp;", 5}},
               {'<', {"&lt;", 4}},
               {'>', {"&gt;", 4}},
               {'\'', {"&#39;", 5}},
               {'"', {"&#34;", 5}}};
    struct template_text t;
    template_text_init(&t, r);
    for (size_t i = 0, k; i < s.len; i++) {
        for (k = 0; k < ARRAY_LEN(map) && map[k].c != s.ptr[i]; k++) {}
        template_text_add(&t, k < ARRAY_LEN(map) ? map[k].to : str_make(s.ptr + i, 1));
    }
    return template_text_done(&t, out);
}

static RC text_add(struct template_run *r, const struct template_value *a,
                   const struct template_value *b, struct template_value *out)
{
    struct str parts[2] = {a->text, b->text};
    if (a->safe != b->safe) {
        TRY(template_escape(r, parts[a->safe ? 1 : 0], &parts[a->safe ? 1 : 0]));
    }
    out->safe = a->safe || b->safe;
    out->type = TV_STR;
    return template_text_concat(r, parts, 2, &out->text);
}

static RC seq_add(struct template_run *r, const struct template_seq *a,
                  const struct template_seq *b, struct template_value *out)
{
    struct template_seq *s;
    TRY(template_seq_new(r, a->kind, (size_t)a->n + b->n, &s));
    if (a->n > 0) {
        memcpy(s->items, a->items, a->n * sizeof(*s->items));
    }
    if (b->n > 0) {
        memcpy(s->items + a->n, b->items, b->n * sizeof(*s->items));
    }
    s->n = a->n + b->n;
    *out = tv_seq(s);
    return RC_OK;
}

/* "ab" * 3, [x] * 3. */
static RC repeat(struct template_run *r, const struct template_value *v, int64_t times,
                 struct template_value *out)
{
    uint64_t n = times > 0 ? (uint64_t)times : 0, total;
    uint64_t each = v->type == TV_STR ? v->text.len : v->seq->n;
    if (!checked_mul(n, each, &total) || total > UINT32_MAX) {
        return template_no_room(r);
    }
    TRY(template_spend(r, n));
    if (v->type == TV_STR) {
        struct template_text t;
        template_text_init(&t, r);
        for (uint64_t i = 0; i < n && each > 0; i++) {
            template_text_add(&t, v->text);
        }
        *out = tv_str(STR_NULL);
        return template_text_done(&t, &out->text);
    }
    struct template_seq *s;
    TRY(template_seq_new(r, v->seq->kind, total, &s));
    for (uint64_t i = 0; i < total; i++) {
        s->items[s->n++] = v->seq->items[i % each];
    }
    *out = tv_seq(s);
    return RC_OK;
}

static bool can_repeat(const struct template_value *v)
{
    return v->type == TV_STR || tv_is_seq(v, SEQ_LIST) || tv_is_seq(v, SEQ_TUPLE);
}

RC template_binary(struct template_run *r, enum template_operator op,
                   const struct template_value *a, const struct template_value *b,
                   struct template_value *out)
{
    int64_t i[2];
    double d[2];
    *out = (struct template_value){0};
    if (template_as_int(a, &i[0]) && template_as_int(b, &i[1])) {
        return int_binary(r, op, i, out);
    }
    if (op == OP_MOD && a->type == TV_STR) {
        return template_format_percent(r, a->text, b, out);
    }
    if (a->type == TV_BIGINT || b->type == TV_BIGINT) {
        return template_fail(r, RC_INVALID, "arithmetic on a whole number over 64 bits");
    }
    if (template_as_float(a, &d[0]) && template_as_float(b, &d[1])) {
        return float_binary(r, op, d, out);
    }
    if (op == OP_ADD && a->type == TV_STR && b->type == TV_STR) {
        return text_add(r, a, b, out);
    }
    if (op == OP_ADD && a->type == TV_SEQ && b->type == TV_SEQ && a->seq->kind == b->seq->kind &&
        a->seq->kind <= SEQ_TUPLE) {
        return seq_add(r, a->seq, b->seq, out);
    }
    if (op == OP_MUL && can_repeat(a) && template_as_int(b, &i[0])) {
        return repeat(r, a, i[0], out);
    }
    if (op == OP_MUL && can_repeat(b) && template_as_int(a, &i[0])) {
        return repeat(r, b, i[0], out);
    }
    return op_types(r, op, a, b);
}

RC template_unary(struct template_run *r, enum template_operator op, const struct template_value *a,
                  struct template_value *out)
{
    int64_t i;
    if (template_as_int(a, &i)) {
        if (op == OP_NEG && i == INT64_MIN) {
            return template_fail(r, RC_INVALID, "a result of - over 64 bits");
        }
        *out = tv_int(op == OP_NEG ? -i : i);
        return RC_OK;
    }
    if (a->type == TV_FLOAT) {
        *out = tv_float(op == OP_NEG ? -a->number : a->number);
        return RC_OK;
    }
    return template_fail(r, RC_INVALID, "bad operand type for unary %s: '%s'", op_names[op],
                         template_type_name(a));
}

/* ---- comparison operators ---- */

RC template_relate(struct template_run *r, enum template_operator op,
                   const struct template_value *a, const struct template_value *b, bool *out)
{
    if (op == OP_EQ || op == OP_NE) {
        TRY(template_equal(r, a, b, out));
        *out = *out == (op == OP_EQ);
        return RC_OK;
    }
    if (op == OP_IN || op == OP_NOT_IN) {
        TRY(template_contains(r, b, a, out));
        *out = *out == (op == OP_IN);
        return RC_OK;
    }
    enum template_order order;
    TRY(template_compare(r, a, b, &order));
    *out = (op == OP_LT && order == ORDER_LESS) || (op == OP_GT && order == ORDER_MORE) ||
           (op == OP_LE && (order == ORDER_LESS || order == ORDER_SAME)) ||
           (op == OP_GE && (order == ORDER_MORE || order == ORDER_SAME));
    return RC_OK;
}

/* ---- sorting ---- */

RC template_fold_case(struct template_run *r, const struct template_value *v,
                      struct template_value *out)
{
    if (v->type != TV_STR) {
        *out = *v;
        return RC_OK;
    }
    struct template_args none = {0};
    return template_row_call(r, template_method_find(v, STR_LIT("lower")), v, &none, out);
}

struct sort_entry {
    struct template_value key;
    uint32_t from;
};

/* Bottom-up merge sort: stable, and no deeper than a loop. */
static RC sort_entries(struct template_run *r, struct sort_entry *e, struct sort_entry *tmp,
                       uint32_t n, bool reverse)
{
    for (uint64_t width = 1; width < n; width *= 2) {
        for (uint64_t lo = 0; lo < n; lo += 2 * width) {
            uint64_t mid = MIN(lo + width, (uint64_t)n), hi = MIN(lo + 2 * width, (uint64_t)n);
            uint64_t i = lo, j = mid;
            for (uint64_t k = lo; k < hi; k++) {
                bool right = i >= mid;
                if (!right && j < hi) {
                    enum template_order order;
                    TRY(template_compare(r, &e[j].key, &e[i].key, &order));
                    right = order == (reverse ? ORDER_MORE : ORDER_LESS);
                }
                tmp[k] = right ? e[j++] : e[i++];
            }
        }
        memcpy(e, tmp, n * sizeof(*e));
    }
    return RC_OK;
}

RC template_sort(struct template_run *r, struct template_value *items, struct template_value *keys,
                 uint32_t n, struct template_sort_options opt)
{
    struct sort_entry *e = arena_alloc_array(r->arena, (size_t)n * 2, sizeof(*e));
    struct template_value *old = arena_alloc_array(r->arena, n, sizeof(*old));
    if (e == NULL || old == NULL) {
        return template_no_room(r);
    }
    for (uint32_t i = 0; i < n; i++) {
        e[i] = (struct sort_entry){keys[i], i};
        old[i] = items[i];
        if (!opt.case_sensitive) {
            TRY(template_fold_case(r, &keys[i], &e[i].key));
        }
    }
    TRY(sort_entries(r, e, e + n, n, opt.reverse));
    for (uint32_t i = 0; i < n; i++) {
        items[i] = old[e[i].from];
        keys[i] = e[i].key;
    }
    return RC_OK;
}

RC template_dict_sorted(struct template_run *r, const struct template_dict *d,
                        struct template_dict **out)
{
    struct template_seq *keys, *rows;
    TRY(template_dict_new(r, d->n, out));
    TRY(template_seq_new(r, SEQ_LIST, d->n, &keys));
    TRY(template_seq_new(r, SEQ_LIST, d->n, &rows));
    for (uint32_t i = 0; i < d->n; i++) {
        keys->items[i] = d->pairs[i].key;
        rows->items[i] = tv_int((int64_t)i);
    }
    TRY(template_sort(r, rows->items, keys->items, d->n,
                      (struct template_sort_options){.case_sensitive = true}));
    for (uint32_t i = 0; i < d->n; i++) {
        (*out)->pairs[i] = d->pairs[rows->items[i].integer];
    }
    (*out)->n = d->n;
    return RC_OK;
}
