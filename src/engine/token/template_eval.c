/* template_eval.c: expressions.
 *
 * A table of functions by node kind behind one door, template_eval, where steps and depth are
 * counted. */
#include "engine/token/template_eval.h"

#include "base/assert.h"
#include "engine/token/template_call.h"
#include "engine/token/template_op.h"

typedef enum rc (*eval_fn)(struct template_run *r, const struct template_node *n,
                           struct template_value *out);

/* ---- variables ---- */

RC template_env_new(struct template_run *r, const struct template_scope *scope,
                    struct template_env *parent, struct template_env **out)
{
    struct template_env *env =
        arena_alloc(r->arena, sizeof(*env) + scope->n * sizeof(env->slots[0]));
    if (env == NULL) {
        return template_no_room(r);
    }
    env->parent = parent;
    env->scope = scope;
    *out = env;
    return template_spend(r, scope->n);
}

static struct template_value *env_slot(struct template_env *env, uint32_t hops, uint32_t slot)
{
    while (hops-- > 0) {
        env = env->parent;
    }
    ASSERT_SLOW(slot < env->scope->n);
    return &env->slots[slot];
}

void template_env_load(struct template_run *r, struct template_env *env)
{
    for (const struct template_variable *v = env->scope->first; v != NULL; v = v->next) {
        if (v->load == LOAD_CONTEXT) {
            env->slots[v->slot] = r->context[v->from];
        } else if (v->load == LOAD_OUTER) {
            env->slots[v->slot] = *env_slot(env, v->hops, v->from);
        } else if (v->load == LOAD_UNDEFINED) {
            env->slots[v->slot] = (struct template_value){0};
        }
    }
}

static RC eval_name(struct template_run *r, const struct template_node *n,
                    struct template_value *out)
{
    *out = *env_slot(r->env, n->hops, n->slot);
    if (out->type == TV_MISSING) {
        *out = tv_undefined(n->text);
    }
    return RC_OK;
}

static RC assign_tuple(struct template_run *r, const struct template_node *target,
                       const struct template_value *v)
{
    struct template_iter it;
    struct template_value item;
    TRY(template_iter_init(r, v, &it));
    NODE_EACH(target->items, part)
    {
        if (!template_iter_next(&it, &item)) {
            return template_fail(r, RC_INVALID, "not enough values to unpack: %u are wanted",
                                 target->n);
        }
        TRY(template_assign(r, part, &item));
    }
    if (template_iter_next(&it, &item)) {
        return template_fail(r, RC_INVALID, "too many values to unpack: %u are wanted", target->n);
    }
    return RC_OK;
}

RC template_assign(struct template_run *r, const struct template_node *target,
                   const struct template_value *v)
{
    struct template_value ns;
    if (target->kind == TN_NAME) {
        *env_slot(r->env, target->hops, target->slot) = *v;
        return RC_OK;
    }
    if (target->kind == TN_TUPLE) {
        return assign_tuple(r, target, v);
    }
    ASSERT(target->kind == TN_NSREF);
    TRY(eval_name(r, target->a, &ns));
    if (ns.type != TV_NAMESPACE) {
        return template_fail(r, RC_INVALID, "cannot assign attribute on non-namespace object");
    }
    struct template_value key = tv_str(target->text);
    return template_dict_set(r, ns.dict, &key, v);
}

/* ---- literals ---- */

static RC eval_const(struct template_run *r, const struct template_node *n,
                     struct template_value *out)
{
    UNUSED(r);
    *out = n->value;
    return RC_OK;
}

static RC eval_list(struct template_run *r, const struct template_node *n,
                    struct template_value *out)
{
    struct template_seq *s;
    TRY(template_seq_new(r, n->kind == TN_LIST ? SEQ_LIST : SEQ_TUPLE, n->n, &s));
    NODE_EACH(n->items, it)
    {
        TRY(template_eval(r, it, &s->items[s->n]));
        s->n++;
    }
    *out = tv_seq(s);
    return RC_OK;
}

static RC eval_dict(struct template_run *r, const struct template_node *n,
                    struct template_value *out)
{
    struct template_dict *d;
    struct template_value key, value;
    TRY(template_dict_new(r, n->n, &d));
    NODE_EACH(n->items, it)
    {
        TRY(template_eval(r, it->a, &key));
        TRY(template_eval(r, it->b, &value));
        TRY(template_dict_set(r, d, &key, &value));
    }
    *out = tv_dict(d);
    return RC_OK;
}

static RC eval_captured(struct template_run *r, const struct template_node *n,
                        struct template_value *out)
{
    UNUSED(n);
    *out = tv_str(r->captured);
    return RC_OK;
}

/* ---- operators ---- */

static RC eval_unary(struct template_run *r, const struct template_node *n,
                     struct template_value *out)
{
    struct template_value a;
    TRY(template_eval(r, n->a, &a));
    return template_unary(r, (enum template_operator)n->op, &a, out);
}

enum { CHAIN_MAX = 16 };

/* The texts so far, then the value that is no text, then the rest, pair by pair. */
static RC eval_mixed_chain(struct template_run *r, const struct template_node *const *rest,
                           uint32_t n_rest, const struct template_value *left,
                           struct template_value *out)
{
    struct template_value sum, value;
    const uint32_t line = r->line;
    for (uint32_t i = n_rest; i > 0; i--) {
        sum = i == n_rest ? *left : *out;
        TRY(template_eval(r, rest[i - 1], &value));
        r->line = line;
        TRY(template_binary(r, OP_ADD, &sum, &value, out));
    }
    return RC_OK;
}

/* a + b + c + …: texts are put together once, not pair by pair, since prompts are made of such
 * chains and their parts may be long. parts[] is right to left. */
static RC eval_add(struct template_run *r, const struct template_node *n,
                   struct template_value *out)
{
    const struct template_node *parts[CHAIN_MAX];
    struct str texts[CHAIN_MAX];
    struct template_value value = {0}, sum = tv_str(STR_NULL);
    const uint32_t line = n->line;
    uint32_t k = 0, i = 0;
    for (; n->kind == TN_BINARY && n->op == OP_ADD && k + 1 < CHAIN_MAX; n = n->a) {
        parts[k++] = n->b;
    }
    parts[k++] = n;
    for (; i < k; i++) {
        TRY(template_eval(r, parts[k - 1 - i], &value));
        if (value.type != TV_STR || value.safe) {
            break;
        }
        texts[i] = value.text;
    }
    TRY(template_text_concat(r, texts, i, &sum.text));
    r->line = line;
    *out = sum;
    if (i == k) {
        return RC_OK;
    }
    if (i == 0) {
        sum = value;
    } else {
        TRY(template_binary(r, OP_ADD, &sum, &value, out));
        sum = *out;
    }
    return eval_mixed_chain(r, parts, k - 1 - i, &sum, out);
}

static RC eval_binary(struct template_run *r, const struct template_node *n,
                      struct template_value *out)
{
    struct template_value a, b;
    if (n->op == OP_ADD) {
        return eval_add(r, n, out);
    }
    TRY(template_eval(r, n->a, &a));
    TRY(template_eval(r, n->b, &b));
    r->line = n->line;
    return template_binary(r, (enum template_operator)n->op, &a, &b, out);
}

static RC eval_compare(struct template_run *r, const struct template_node *n,
                       struct template_value *out)
{
    struct template_value left, right;
    bool holds = true;
    TRY(template_eval(r, n->a, &left));
    NODE_EACH(n->items, it)
    {
        TRY(template_eval(r, it->a, &right));
        TRY(template_relate(r, (enum template_operator)it->op, &left, &right, &holds));
        if (!holds) {
            break;
        }
        left = right;
    }
    *out = tv_bool(holds);
    return RC_OK;
}

static RC eval_concat(struct template_run *r, const struct template_node *n,
                      struct template_value *out)
{
    struct template_value v;
    uint32_t i = 0;
    struct str *parts = arena_alloc_array(r->arena, n->n, sizeof(*parts));
    if (parts == NULL) {
        return template_no_room(r);
    }
    NODE_EACH(n->items, it)
    {
        TRY(template_eval(r, it, &v));
        TRY(template_to_str(r, &v, &parts[i++]));
    }
    *out = tv_str(STR_NULL);
    return template_text_concat(r, parts, n->n, &out->text);
}

/* and, or: give the operand that decided. */
static RC eval_logic(struct template_run *r, const struct template_node *n,
                     struct template_value *out)
{
    TRY(template_eval(r, n->a, out));
    if (template_truth(out) == (n->kind == TN_AND)) {
        return template_eval(r, n->b, out);
    }
    return RC_OK;
}

static RC eval_not(struct template_run *r, const struct template_node *n,
                   struct template_value *out)
{
    TRY(template_eval(r, n->a, out));
    *out = tv_bool(!template_truth(out));
    return RC_OK;
}

static RC eval_cond(struct template_run *r, const struct template_node *n,
                    struct template_value *out)
{
    struct template_value test;
    TRY(template_eval(r, n->a, &test));
    if (template_truth(&test)) {
        return template_eval(r, n->b, out);
    }
    if (n->c != NULL) {
        return template_eval(r, n->c, out);
    }
    *out = tv_undefined(STR_LIT("the inline if expression without else"));
    return RC_OK;
}

/* ---- members ---- */

static RC eval_attr(struct template_run *r, const struct template_node *n,
                    struct template_value *out)
{
    struct template_value obj;
    TRY(template_eval(r, n->a, &obj));
    r->line = n->line;
    return template_attribute(r, &obj, n->text, out);
}

static RC eval_item(struct template_run *r, const struct template_node *n,
                    struct template_value *out)
{
    struct template_value obj, key;
    TRY(template_eval(r, n->a, &obj));
    TRY(template_eval(r, n->b, &key));
    r->line = n->line;
    return template_item(r, &obj, &key, out);
}

static RC eval_slice(struct template_run *r, const struct template_node *n,
                     struct template_value *out)
{
    struct template_value obj;
    struct template_slice s = {tv_none(), tv_none(), tv_none()};
    TRY(template_eval(r, n->a, &obj));
    if (n->b != NULL) {
        TRY(template_eval(r, n->b, &s.start));
    }
    if (n->c != NULL) {
        TRY(template_eval(r, n->c, &s.stop));
    }
    if (n->d != NULL) {
        TRY(template_eval(r, n->d, &s.step));
    }
    r->line = n->line;
    return template_slice(r, &obj, &s, out);
}

/* ---- calls ---- */

static RC eval_args(struct template_run *r, const struct template_node *n,
                    struct template_args *out)
{
    *out = (struct template_args){0};
    if (n->n == 0) {
        return RC_OK;
    }
    struct template_value *given = arena_alloc_array(r->arena, n->n, sizeof(*given));
    struct template_pair *named = NULL;
    if (n->last->kind == TN_NAMED) {
        named = arena_alloc_array(r->arena, n->n, sizeof(*named));
    }
    if (given == NULL || (n->last->kind == TN_NAMED && named == NULL)) {
        return template_no_room(r);
    }
    NODE_EACH(n->items, it)
    {
        if (it->kind == TN_NAMED) {
            named[out->n_named].key = tv_str(it->text);
            TRY(template_eval(r, it->a, &named[out->n_named].value));
            out->n_named++;
        } else {
            TRY(template_eval(r, it, &given[out->n]));
            out->n++;
        }
    }
    out->given = given;
    out->named = named;
    return RC_OK;
}

static RC eval_call(struct template_run *r, const struct template_node *n,
                    struct template_value *out)
{
    struct template_value callee;
    struct template_args args;
    TRY(template_eval(r, n->a, &callee));
    TRY(eval_args(r, n, &args));
    r->line = n->line;
    return template_call(r, &callee, &args, out);
}

static RC eval_filter(struct template_run *r, const struct template_node *n,
                      struct template_value *out)
{
    struct template_value self;
    struct template_args args;
    TRY(template_eval(r, n->a, &self));
    TRY(eval_args(r, n, &args));
    r->line = n->line;
    if (n->row == NULL) {
        return template_fail(r, RC_INVALID, "no filter named '%.*s'",
                             STR(str_slice(n->text, 0, 60)));
    }
    return template_row_call(r, n->row, &self, &args, out);
}

static RC eval_test(struct template_run *r, const struct template_node *n,
                    struct template_value *out)
{
    struct template_value self;
    struct template_args args;
    TRY(template_eval(r, n->a, &self));
    TRY(eval_args(r, n, &args));
    r->line = n->line;
    if (n->row == NULL) {
        return template_fail(r, RC_INVALID, "no test named '%.*s'", STR(str_slice(n->text, 0, 60)));
    }
    return template_row_call(r, n->row, &self, &args, out);
}

static const eval_fn eval_table[TN_N] = {
    [TN_CONST] = eval_const,   [TN_NAME] = eval_name,         [TN_ATTR] = eval_attr,
    [TN_ITEM] = eval_item,     [TN_SLICE] = eval_slice,       [TN_CALL] = eval_call,
    [TN_FILTER] = eval_filter, [TN_TEST] = eval_test,         [TN_UNARY] = eval_unary,
    [TN_BINARY] = eval_binary, [TN_COMPARE] = eval_compare,   [TN_CONCAT] = eval_concat,
    [TN_AND] = eval_logic,     [TN_OR] = eval_logic,          [TN_NOT] = eval_not,
    [TN_COND] = eval_cond,     [TN_LIST] = eval_list,         [TN_TUPLE] = eval_list,
    [TN_DICT] = eval_dict,     [TN_CAPTURED] = eval_captured,
};

RC template_eval(struct template_run *r, const struct template_node *n, struct template_value *out)
{
    ASSERT(eval_table[n->kind] != NULL);
    TRY(template_enter(r));
    TRY(template_spend(r, 1));
    r->line = n->line;
    TRY(eval_table[n->kind](r, n, out));
    template_leave(r);
    return RC_OK;
}
