/* template_eval.h: evaluating expressions and running statements. */
#ifndef ENGINE_TOKEN_TEMPLATE_EVAL_H
#define ENGINE_TOKEN_TEMPLATE_EVAL_H

#include "engine/token/template_node.h"
#include "engine/token/template_run.h"
#include "engine/token/template_text.h"

/* The variables of one entered scope. */
struct template_env {
    struct template_env *parent;
    const struct template_scope *scope;
    struct template_value slots[];
};

/* A new environment whose parent is `parent`; its slots are missing. */
RC template_env_new(struct template_run *r, const struct template_scope *scope,
                    struct template_env *parent, struct template_env **out);
/* Gives every variable but the parameters its first value; again for every item of a loop. */
void template_env_load(struct template_run *r, struct template_env *env);

RC template_eval(struct template_run *r, const struct template_node *n, struct template_value *out);
/* Runs statements in a row; stops early when r->flow says so. */
RC template_exec(struct template_run *r, const struct template_node *first);
/* Stores into a name, a namespace's attribute, or unpacks into a tuple of such. */
RC template_assign(struct template_run *r, const struct template_node *target,
                   const struct template_value *v);
/* Runs statements and gives their output. */
RC template_capture(struct template_run *r, const struct template_node *first, struct str *out);

#endif
