/* template_exec.c: statements, and macros being called.
 *
 * Output goes to r->out; blocks and macros that give a text swap it for a builder of their own.
 * break and continue set r->flow, which ends every body on the way to their loop. */
#include "base/assert.h"
#include "engine/token/template_call.h"
#include "engine/token/template_eval.h"
#include "engine/token/template_loop.h"

typedef enum rc (*exec_fn)(struct template_run *r, const struct template_node *n);

RC template_capture(struct template_run *r, const struct template_node *first, struct str *out)
{
    struct template_text text, *before = r->out;
    template_text_init(&text, r);
    r->out = &text;
    TRY(template_exec(r, first));
    r->out = before;
    return template_text_done(&text, out);
}

static RC exec_data(struct template_run *r, const struct template_node *n)
{
    template_text_add(r->out, n->text);
    return r->out->rc;
}

static RC exec_output(struct template_run *r, const struct template_node *n)
{
    struct template_value v;
    TRY(template_eval(r, n->a, &v));
    r->line = n->line;
    return template_write_str(r->out, &v);
}

static RC exec_if(struct template_run *r, const struct template_node *n)
{
    NODE_EACH(n->items, branch)
    {
        struct template_value test = tv_bool(true);
        if (branch->a != NULL) {
            TRY(template_eval(r, branch->a, &test));
        }
        if (template_truth(&test)) {
            return template_exec(r, branch->items);
        }
    }
    return RC_OK;
}

/* Runs `first` with a new scope's variables in sight. */
static RC exec_inside(struct template_run *r, const struct template_scope *scope,
                      const struct template_node *first)
{
    struct template_env *before = r->env;
    TRY(template_env_new(r, scope, before, &r->env));
    template_env_load(r, r->env);
    TRY(template_exec(r, first));
    r->env = before;
    return RC_OK;
}

static RC exec_scope(struct template_run *r, const struct template_node *n)
{
    return exec_inside(r, n->scope, n->items);
}

static RC exec_for(struct template_run *r, const struct template_node *n)
{
    struct template_value v;
    struct template_env *before = r->env, *env;
    bool any = false, more;
    struct template_loop *loop = arena_alloc(r->arena, sizeof(*loop));
    if (loop == NULL) {
        return template_no_room(r);
    }
    TRY(template_eval(r, n->b, &v));
    TRY(template_loop_init(r, loop, n, &v));
    TRY(template_env_new(r, n->scope, before, &env));
    r->env = env;
    for (;;) {
        TRY(template_loop_next(r, loop, &more));
        if (!more) {
            break;
        }
        env->slots[0] = (struct template_value){.type = TV_LOOP, .loop = loop};
        TRY(template_assign(r, n->a, &loop->cur));
        template_env_load(r, env);
        TRY(template_spend(r, n->scope->n));
        TRY(template_exec(r, n->items));
        bool stop = r->flow == FLOW_BREAK;
        /* jinja2's else asks whether any item's body was run to its end. */
        any = any || r->flow == FLOW_NEXT;
        r->flow = FLOW_NEXT;
        if (stop) {
            break;
        }
    }
    r->env = before;
    if (!any && n->d != NULL) {
        return exec_scope(r, n->d);
    }
    return RC_OK;
}

static RC exec_set(struct template_run *r, const struct template_node *n)
{
    struct template_value v;
    TRY(template_eval(r, n->b, &v));
    r->line = n->line;
    return template_assign(r, n->a, &v);
}

/* The block's text, through its filters. */
static RC block_text(struct template_run *r, const struct template_node *n,
                     struct template_value *out)
{
    struct template_env *before = r->env;
    struct str text;
    TRY(template_env_new(r, n->scope, before, &r->env));
    template_env_load(r, r->env);
    TRY(template_capture(r, n->items, &text));
    r->captured = text;
    TRY(template_eval(r, n->b, out));
    r->env = before;
    return RC_OK;
}

static RC exec_set_block(struct template_run *r, const struct template_node *n)
{
    struct template_value v;
    TRY(block_text(r, n, &v));
    return r->flow == FLOW_NEXT ? template_assign(r, n->a, &v) : RC_OK;
}

static RC exec_filtered(struct template_run *r, const struct template_node *n)
{
    struct template_value v;
    TRY(block_text(r, n, &v));
    return template_write_str(r->out, &v);
}

static RC exec_macro(struct template_run *r, const struct template_node *n)
{
    struct template_macro *m = arena_alloc(r->arena, sizeof(*m));
    if (m == NULL) {
        return template_no_room(r);
    }
    *m = (struct template_macro){n, r->env};
    struct template_value v = {.type = TV_MACRO, .macro = m};
    return template_assign(r, n->a, &v);
}

static RC exec_break(struct template_run *r, const struct template_node *n)
{
    UNUSED(n);
    r->flow = FLOW_BREAK;
    return RC_OK;
}

static RC exec_continue(struct template_run *r, const struct template_node *n)
{
    UNUSED(n);
    r->flow = FLOW_CONTINUE;
    return RC_OK;
}

static const exec_fn exec_table[TN_N] = {
    [TN_DATA] = exec_data,         [TN_OUTPUT] = exec_output,     [TN_IF] = exec_if,
    [TN_FOR] = exec_for,           [TN_SET] = exec_set,           [TN_SET_BLOCK] = exec_set_block,
    [TN_FILTERED] = exec_filtered, [TN_MACRO] = exec_macro,       [TN_SCOPE] = exec_scope,
    [TN_BREAK] = exec_break,       [TN_CONTINUE] = exec_continue,
};

RC template_exec(struct template_run *r, const struct template_node *first)
{
    TRY(template_enter(r));
    for (const struct template_node *n = first; n != NULL && r->flow == FLOW_NEXT; n = n->next) {
        ASSERT(exec_table[n->kind] != NULL);
        TRY(template_spend(r, 1));
        r->line = n->line;
        TRY(exec_table[n->kind](r, n));
    }
    template_leave(r);
    return RC_OK;
}

/* ---- macros ---- */

/* Positional arguments, then named ones, into the macro's parameters. */
static RC macro_bind(struct template_run *r, const struct template_macro *m,
                     const struct template_args *a)
{
    uint32_t i = 0, used = 0;
    struct str name = str_slice(m->node->text, 0, 60);
    if (a->n > m->node->b->n) {
        return template_fail(r, RC_INVALID, "macro '%.*s' takes not more than %u arguments",
                             STR(name), m->node->b->n);
    }
    NODE_EACH(m->node->b->items, param)
    {
        const struct template_value *given = i < a->n ? &a->given[i] : NULL;
        for (uint32_t k = 0; k < a->n_named; k++) {
            if (i >= a->n && str_eq(a->named[k].key.text, param->a->text)) {
                given = &a->named[k].value;
                used++;
            }
        }
        i++;
        if (given != NULL) {
            TRY(template_assign(r, param->a, given));
        }
    }
    if (used != a->n_named) {
        return template_fail(r, RC_INVALID, "macro '%.*s' was given an argument it does not have",
                             STR(name));
    }
    return RC_OK;
}

/* Defaults are evaluated at every call, in the macro's own scope. */
static RC macro_defaults(struct template_run *r, const struct template_macro *m)
{
    NODE_EACH(m->node->b->items, param)
    {
        struct template_value *slot = &r->env->slots[param->a->slot], v;
        if (slot->type != TV_MISSING) {
            continue;
        }
        v = tv_undefined(param->a->text);
        if (param->b != NULL) {
            TRY(template_eval(r, param->b, &v));
        }
        *slot = v;
    }
    return RC_OK;
}

RC template_macro_call(struct template_run *r, const struct template_macro *m,
                       struct template_args *a, struct template_value *out)
{
    struct template_env *before = r->env;
    TRY(template_env_new(r, m->node->scope, m->env, &r->env));
    template_env_load(r, r->env);
    TRY(macro_bind(r, m, a));
    TRY(macro_defaults(r, m));
    *out = tv_str(STR_NULL);
    TRY(template_capture(r, m->node->items, &out->text));
    r->env = before;
    return RC_OK;
}
