/* template_loop.c: walking a for loop, and the attributes of `loop`.
 *
 * Followed: jinja2/runtime.py LoopContext. The loop's if is asked item by item, as late as
 * possible: one item ahead only when the template asks for loop.last or loop.nextitem, all of them
 * when it asks for the length of a filtered loop. */
#include "engine/token/template_loop.h"

#include "base/assert.h"

RC template_loop_init(struct template_run *r, struct template_loop *l,
                      const struct template_node *node, const struct template_value *v)
{
    *l = (struct template_loop){.node = node, .index0 = -1, .length = -1};
    TRY(template_iter_init(r, v, &l->iter));
    if (node->c != NULL) {
        return template_env_new(r, node->test_scope, r->env, &l->test_env);
    }
    if (template_has_length(v)) {
        return template_length(r, v, &l->length);
    }
    return RC_OK;
}

static RC loop_passes(struct template_run *r, struct template_loop *l,
                      const struct template_value *item, bool *out)
{
    struct template_value test;
    struct template_env *env = r->env;
    if (l->test_env == NULL) {
        *out = true;
        return RC_OK;
    }
    r->env = l->test_env;
    template_env_load(r, r->env);
    TRY(template_assign(r, l->node->a, item));
    TRY(template_eval(r, l->node->c, &test));
    r->env = env;
    *out = template_truth(&test);
    return RC_OK;
}

/* The next item that passes, or TV_MISSING. */
static RC loop_fetch(struct template_run *r, struct template_loop *l, struct template_value *out)
{
    while (!l->done) {
        bool passes;
        if (!template_iter_next(&l->iter, out)) {
            l->done = true;
            break;
        }
        TRY(template_spend(r, 1));
        TRY(loop_passes(r, l, out, &passes));
        if (passes) {
            return RC_OK;
        }
    }
    *out = (struct template_value){0};
    return RC_OK;
}

RC template_loop_next(struct template_run *r, struct template_loop *l, bool *more)
{
    struct template_value next = l->ahead;
    l->ahead = (struct template_value){0};
    if (next.type == TV_MISSING) {
        TRY(loop_fetch(r, l, &next));
    }
    l->prev = l->cur;
    l->cur = next;
    l->index0++;
    *more = next.type != TV_MISSING;
    return RC_OK;
}

/* ---- attributes ---- */

static RC loop_look_ahead(struct template_run *r, struct template_loop *l)
{
    return l->ahead.type == TV_MISSING ? loop_fetch(r, l, &l->ahead) : RC_OK;
}

/* Counts what is left of a filtered loop, or of a generator, by taking it all. */
static RC loop_count(struct template_run *r, struct template_loop *l)
{
    if (l->length >= 0) {
        return RC_OK;
    }
    struct template_seq *rest;
    struct template_value item;
    int64_t before = l->index0 + 1 + (l->ahead.type != TV_MISSING ? 1 : 0);
    TRY(template_seq_new(r, SEQ_LIST, 0, &rest));
    for (;;) {
        TRY(loop_fetch(r, l, &item));
        if (item.type == TV_MISSING) {
            break;
        }
        TRY(template_seq_push(r, rest, &item));
    }
    l->iter = (struct template_iter){.seq = rest};
    l->test_env = NULL;
    l->done = false;
    l->length = before + (int64_t)rest->n;
    return RC_OK;
}

enum loop_attribute {
    LOOP_INDEX,
    LOOP_INDEX0,
    LOOP_FIRST,
    LOOP_LAST,
    LOOP_LENGTH,
    LOOP_REVINDEX,
    LOOP_REVINDEX0,
    LOOP_PREVITEM,
    LOOP_NEXTITEM,
    LOOP_DEPTH,
    LOOP_DEPTH0,
    LOOP_N,
};

static const char *const loop_names[LOOP_N] = {
    [LOOP_INDEX] = "index",         [LOOP_INDEX0] = "index0",     [LOOP_FIRST] = "first",
    [LOOP_LAST] = "last",           [LOOP_LENGTH] = "length",     [LOOP_REVINDEX] = "revindex",
    [LOOP_REVINDEX0] = "revindex0", [LOOP_PREVITEM] = "previtem", [LOOP_NEXTITEM] = "nextitem",
    [LOOP_DEPTH] = "depth",         [LOOP_DEPTH0] = "depth0",
};

static enum loop_attribute loop_find(struct str name)
{
    int i = 0;
    while (i < LOOP_N && !str_is(name, loop_names[i])) {
        i++;
    }
    return (enum loop_attribute)i;
}

bool template_loop_has(struct str name)
{
    return loop_find(name) != LOOP_N;
}

RC template_loop_attribute(struct template_run *r, struct template_loop *l, struct str name,
                           struct template_value *out)
{
    switch (loop_find(name)) {
    case LOOP_INDEX:
        *out = tv_int(l->index0 + 1);
        return RC_OK;
    case LOOP_INDEX0:
        *out = tv_int(l->index0);
        return RC_OK;
    case LOOP_FIRST:
        *out = tv_bool(l->index0 == 0);
        return RC_OK;
    case LOOP_LAST:
        TRY(loop_look_ahead(r, l));
        *out = tv_bool(l->ahead.type == TV_MISSING);
        return RC_OK;
    case LOOP_LENGTH:
        TRY(loop_count(r, l));
        *out = tv_int(l->length);
        return RC_OK;
    case LOOP_REVINDEX:
        TRY(loop_count(r, l));
        *out = tv_int(l->length - l->index0);
        return RC_OK;
    case LOOP_REVINDEX0:
        TRY(loop_count(r, l));
        *out = tv_int(l->length - l->index0 - 1);
        return RC_OK;
    case LOOP_PREVITEM:
        *out = l->index0 > 0 ? l->prev : tv_undefined(STR_LIT("previtem"));
        return RC_OK;
    case LOOP_NEXTITEM:
        TRY(loop_look_ahead(r, l));
        *out = l->ahead.type != TV_MISSING ? l->ahead : tv_undefined(STR_LIT("nextitem"));
        return RC_OK;
    case LOOP_DEPTH:
        *out = tv_int(1);
        return RC_OK;
    case LOOP_DEPTH0:
        *out = tv_int(0);
        return RC_OK;
    default:
        return template_fail(r, RC_INTERNAL, "no such loop attribute");
    }
}
