/* template_loop.h: the state of a for loop, which is also what a template sees as `loop`. */
#ifndef ENGINE_TOKEN_TEMPLATE_LOOP_H
#define ENGINE_TOKEN_TEMPLATE_LOOP_H

#include "engine/token/template_eval.h"

struct template_loop {
    const struct template_node *node; /* TN_FOR */
    struct template_iter iter;
    struct template_env *test_env; /* where the loop's if is evaluated; NULL without */
    struct template_value prev, cur;
    struct template_value ahead; /* TV_MISSING: not looked at yet */
    bool done;                   /* iter has nothing more */
    int64_t index0;
    int64_t length; /* -1: not known yet */
};

/* Begins the loop over `v`, in the current scope. */
RC template_loop_init(struct template_run *r, struct template_loop *l,
                      const struct template_node *node, const struct template_value *v);
/* Moves to the next item that passes the loop's if; *more is false at the end. */
RC template_loop_next(struct template_run *r, struct template_loop *l, bool *more);
/* Whether `loop` has an attribute of that name. */
bool template_loop_has(struct str name);
RC template_loop_attribute(struct template_run *r, struct template_loop *l, struct str name,
                           struct template_value *out);

#endif
