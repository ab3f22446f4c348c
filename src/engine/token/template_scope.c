/* template_scope.c: which variable a name means, decided once after parsing.
 *
 * Followed: jinja2/idtracking.py. A template, a loop's body, test and else, a macro, a set or
 * filter block and a generation block each have a scope; an if has none. Within a scope a name that
 * is stored becomes the scope's own variable, loaded when the scope is entered (for a loop: anew
 * with every item) from the outer variable of that name, else from the context, else, if a set
 * comes first in the text, as undefined. A name that is only read means the nearest outer
 * variable. Outer scopes are complete before inner ones are looked at. */
#include "base/assert.h"
#include "engine/token/template.h"
#include "engine/token/template_node.h"

struct resolver {
    struct template_tree *tree;
    struct err *err;
    enum rc rc;
    uint32_t ifs; /* if blocks around, within the scope being looked at */
};

static struct template_variable *scope_own(const struct template_scope *s, struct str name)
{
    for (struct template_variable *v = s->first; v != NULL; v = v->next) {
        if (str_eq(v->name, name)) {
            return v;
        }
    }
    return NULL;
}

/* The variable in s or outwards; *hops scopes away. */
static struct template_variable *scope_find(const struct template_scope *s, struct str name,
                                            uint32_t *hops)
{
    *hops = 0;
    for (; s != NULL; s = s->parent, (*hops)++) {
        struct template_variable *v = scope_own(s, name);
        if (v != NULL) {
            return v;
        }
    }
    return NULL;
}

static void resolver_too_large(struct resolver *r, const char *what)
{
    if (r->rc == RC_OK) {
        r->rc = err_set(r->err, RC_TOO_LARGE, "chat template: %s", what);
    }
}

static struct template_variable *scope_define(struct resolver *r, struct template_scope *s,
                                              struct str name, enum template_load load)
{
    if (r->tree->n_variables >= TEMPLATE_VARIABLES_MAX) {
        resolver_too_large(r, "too many variables");
        return NULL;
    }
    struct template_variable *v = arena_alloc(r->tree->arena, sizeof(*v));
    if (v == NULL) {
        resolver_too_large(r, "the template is too large");
        return NULL;
    }
    r->tree->n_variables++;
    *v = (struct template_variable){.name = name, .load = load, .slot = s->n++};
    if (s->last != NULL) {
        s->last->next = v;
    } else {
        s->first = v;
    }
    s->last = v;
    return v;
}

/* Index of the name among those that a rendering looks up in its context. */
static uint32_t context_index(struct resolver *r, struct str name)
{
    struct template_tree *t = r->tree;
    for (struct template_context_name *c = t->context; c != NULL; c = c->next) {
        if (str_eq(c->name, name)) {
            return c->index;
        }
    }
    struct template_context_name *c = arena_alloc(t->arena, sizeof(*c));
    if (c == NULL) {
        resolver_too_large(r, "the template is too large");
        return 0;
    }
    *c = (struct template_context_name){.name = name, .index = t->n_context++};
    if (t->context_last != NULL) {
        t->context_last->next = c;
    } else {
        t->context = c;
    }
    t->context_last = c;
    return c->index;
}

static void scope_load(struct resolver *r, struct template_scope *s, struct str name)
{
    uint32_t hops;
    if (scope_find(s, name, &hops) == NULL) {
        struct template_variable *v = scope_define(r, s, name, LOAD_CONTEXT);
        if (v != NULL) {
            v->from = context_index(r, name);
        }
    }
}

static void scope_store(struct resolver *r, struct template_scope *s, struct str name)
{
    uint32_t hops = 0;
    if (scope_own(s, name) != NULL) {
        return;
    }
    struct template_variable *outer = s->parent != NULL ? scope_find(s->parent, name, &hops) : NULL;
    if (outer != NULL) {
        struct template_variable *v = scope_define(r, s, name, LOAD_OUTER);
        if (v != NULL) {
            v->from = outer->slot;
            v->hops = hops + 1;
        }
    } else if (r->ifs > 0) {
        scope_load(r, s, name);
    } else {
        scope_define(r, s, name, LOAD_UNDEFINED);
    }
}

/* ---- first walk of a scope: its variables ---- */

enum target_use { TARGET_STORE, TARGET_PARAM };

static void declare_target(struct resolver *r, struct template_scope *s,
                           const struct template_node *n, enum target_use use)
{
    switch (n->kind) {
    case TN_NAME:
        if (use == TARGET_STORE) {
            scope_store(r, s, n->text);
        } else if (scope_own(s, n->text) == NULL) {
            scope_define(r, s, n->text, LOAD_PARAM);
        }
        break;
    case TN_NSREF:
        scope_load(r, s, n->a->text);
        break;
    default:
        NODE_EACH(n->items, it)
        {
            declare_target(r, s, it, use);
        }
    }
}

static void declare(struct resolver *r, struct template_scope *s, const struct template_node *n);

static void declare_all(struct resolver *r, struct template_scope *s,
                        const struct template_node *first)
{
    NODE_EACH(first, it)
    {
        declare(r, s, it);
    }
}

/* Names in n that belong to s; stops where an inner scope begins. */
static void declare(struct resolver *r, struct template_scope *s, const struct template_node *n)
{
    if (n == NULL || r->rc != RC_OK) {
        return;
    }
    switch (n->kind) {
    case TN_NAME:
        scope_load(r, s, n->text);
        return;
    case TN_IF:
        NODE_EACH(n->items, branch)
        {
            /* Every test but the first is inside the if, as elif is an if within else. */
            declare(r, s, branch->a);
            r->ifs += branch == n->items;
            declare_all(r, s, branch->items);
        }
        r->ifs--;
        return;
    case TN_FOR:
        declare(r, s, n->b);
        return;
    case TN_SET:
        declare(r, s, n->b);
        declare_target(r, s, n->a, TARGET_STORE);
        return;
    case TN_SET_BLOCK:
    case TN_MACRO:
        declare_target(r, s, n->a, TARGET_STORE);
        return;
    case TN_FILTERED:
        declare(r, s, n->b);
        return;
    case TN_SCOPE:
        return;
    default:
        declare(r, s, n->a);
        declare(r, s, n->b);
        declare(r, s, n->c);
        declare(r, s, n->d);
        declare_all(r, s, n->items);
    }
}

/* ---- second walk: names to slots, inner scopes ---- */

static void bind(struct resolver *r, struct template_scope *s, struct template_node *n);

static void bind_all(struct resolver *r, struct template_scope *s, struct template_node *first)
{
    for (struct template_node *it = first; it != NULL; it = it->next) {
        bind(r, s, it);
    }
}

static struct template_scope *scope_new(struct resolver *r, struct template_scope *parent)
{
    struct template_scope *s = arena_alloc(r->tree->arena, sizeof(*s));
    if (s == NULL) {
        resolver_too_large(r, "the template is too large");
        return NULL;
    }
    s->parent = parent;
    return s;
}

/* A scope of n's items; `also` is an expression that is evaluated in it too. */
static void bind_scope(struct resolver *r, struct template_scope *parent, struct template_node *n,
                       struct template_node *also)
{
    uint32_t ifs = r->ifs;
    n->scope = scope_new(r, parent);
    r->ifs = 0;
    if (n->scope != NULL) {
        declare_all(r, n->scope, n->items);
        declare(r, n->scope, also);
    }
    r->ifs = ifs;
    if (r->rc == RC_OK) {
        bind_all(r, n->scope, n->items);
        bind(r, n->scope, also);
    }
}

static void bind_for(struct resolver *r, struct template_scope *s, struct template_node *n)
{
    uint32_t ifs = r->ifs;
    bind(r, s, n->b);
    n->scope = scope_new(r, s);
    n->test_scope = n->c != NULL ? scope_new(r, s) : NULL;
    if (r->rc != RC_OK) {
        return;
    }
    r->ifs = 0;
    scope_define(r, n->scope, STR_LIT("loop"), LOAD_PARAM); /* slot 0 */
    declare_target(r, n->scope, n->a, TARGET_PARAM);
    declare_all(r, n->scope, n->items);
    if (n->test_scope != NULL) {
        scope_define(r, n->test_scope, STR_LIT(""), LOAD_PARAM); /* so that slots agree */
        declare_target(r, n->test_scope, n->a, TARGET_PARAM);
        declare(r, n->test_scope, n->c);
    }
    r->ifs = ifs;
    if (r->rc == RC_OK) {
        bind(r, n->scope, n->a);
        bind_all(r, n->scope, n->items);
        if (n->test_scope != NULL) {
            bind(r, n->test_scope, n->c);
        }
    }
    if (r->rc == RC_OK && n->d != NULL) {
        bind_scope(r, s, n->d, NULL);
    }
}

static void bind_macro(struct resolver *r, struct template_scope *s, struct template_node *n)
{
    uint32_t ifs = r->ifs;
    bind(r, s, n->a);
    n->scope = scope_new(r, s);
    r->ifs = 0;
    for (struct template_node *p = n->b->items; p != NULL && r->rc == RC_OK; p = p->next) {
        if (scope_own(n->scope, p->a->text) != NULL) {
            r->rc = err_set(r->err, RC_INVALID, "chat template, line %u: a parameter named twice",
                            n->line);
            return;
        }
        declare_target(r, n->scope, p->a, TARGET_PARAM);
    }
    for (struct template_node *p = n->b->items; p != NULL && r->rc == RC_OK; p = p->next) {
        declare(r, n->scope, p->b);
    }
    if (r->rc == RC_OK) {
        declare_all(r, n->scope, n->items);
    }
    r->ifs = ifs;
    for (struct template_node *p = n->b->items; p != NULL && r->rc == RC_OK; p = p->next) {
        bind(r, n->scope, p->a);
        bind(r, n->scope, p->b);
    }
    if (r->rc == RC_OK) {
        bind_all(r, n->scope, n->items);
    }
}

static void bind(struct resolver *r, struct template_scope *s, struct template_node *n)
{
    struct template_variable *v;
    if (n == NULL || r->rc != RC_OK) {
        return;
    }
    switch (n->kind) {
    case TN_NAME:
        v = scope_find(s, n->text, &n->hops);
        ASSERT(v != NULL); /* declared by the first walk */
        n->slot = v->slot;
        return;
    case TN_FOR:
        bind_for(r, s, n);
        return;
    case TN_MACRO:
        bind_macro(r, s, n);
        return;
    case TN_SCOPE:
        bind_scope(r, s, n, NULL);
        return;
    case TN_SET_BLOCK:
    case TN_FILTERED:
        bind(r, s, n->a);
        bind_scope(r, s, n, n->b);
        return;
    default:
        bind(r, s, n->a);
        bind(r, s, n->b);
        bind(r, s, n->c);
        bind(r, s, n->d);
        bind_all(r, s, n->items);
    }
}

RC template_scope_resolve(struct template_tree *tree, struct err *err)
{
    struct resolver r = {.tree = tree, .err = err};
    bind_scope(&r, NULL, tree->root, NULL);
    return r.rc;
}
