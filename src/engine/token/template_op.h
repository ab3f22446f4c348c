/* template_op.h: operators, attributes, items and slices of template values. */
#ifndef ENGINE_TOKEN_TEMPLATE_OP_H
#define ENGINE_TOKEN_TEMPLATE_OP_H

#include "engine/token/template_run.h"

enum template_operator {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_NEG,
    OP_POS,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN,
};

/* OP_ADD … OP_POW, as Python computes them; RC_INVALID for wrong types, division by zero and
 * results over 64 bits. */
RC template_binary(struct template_run *r, enum template_operator op,
                   const struct template_value *a, const struct template_value *b,
                   struct template_value *out);
/* OP_NEG, OP_POS. */
RC template_unary(struct template_run *r, enum template_operator op, const struct template_value *a,
                  struct template_value *out);
/* OP_EQ … OP_NOT_IN. */
RC template_relate(struct template_run *r, enum template_operator op,
                   const struct template_value *a, const struct template_value *b, bool *out);
/* HTML-escapes & < > ' " as markupsafe does. */
RC template_escape(struct template_run *r, struct str s, struct str *out);

/* obj.name as jinja2 resolves it: attributes (methods) first, then items; undefined when neither.
 * RC_INVALID on an undefined obj. */
RC template_attribute(struct template_run *r, const struct template_value *obj, struct str name,
                      struct template_value *out);
/* obj[key]: items first, then attributes. */
RC template_item(struct template_run *r, const struct template_value *obj,
                 const struct template_value *key, struct template_value *out);
/* "a.b.0" as map(attribute=…) and sort(attribute=…) walk it; `path` may be a number. What is
 * undefined on the way becomes `otherwise`, unless that is TV_MISSING. */
RC template_path(struct template_run *r, const struct template_value *obj,
                 const struct template_value *path, const struct template_value *otherwise,
                 struct template_value *out);

struct template_slice {
    struct template_value start, stop, step; /* TV_NONE where left out */
};
/* obj[start:stop:step]; RC_INVALID for what cannot be sliced. */
RC template_slice(struct template_run *r, const struct template_value *obj,
                  const struct template_slice *s, struct template_value *out);

struct template_sort_options {
    bool reverse;
    bool case_sensitive;
};
/* Stable; keys[i] is what items[i] is ordered by, and both are permuted. */
RC template_sort(struct template_run *r, struct template_value *items, struct template_value *keys,
                 uint32_t n, struct template_sort_options opt);
/* A copy with its pairs in the order of the keys. */
RC template_dict_sorted(struct template_run *r, const struct template_dict *d,
                        struct template_dict **out);
/* A text in lower case (str.lower); other values as they are. */
RC template_fold_case(struct template_run *r, const struct template_value *v,
                      struct template_value *out);

#endif
