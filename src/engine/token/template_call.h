/* template_call.h: what a template can call by name: filters, tests, methods, functions.
 *
 * All are rows of one shape in sorted-by-purpose tables; one binder gives positional and named
 * arguments to parameters, so that no row reads them by itself. */
#ifndef ENGINE_TOKEN_TEMPLATE_CALL_H
#define ENGINE_TOKEN_TEMPLATE_CALL_H

#include "engine/token/template_run.h"

enum { TEMPLATE_PARAMS_MAX = 5 };

struct template_args {
    const struct template_value *given; /* positional */
    uint32_t n;
    const struct template_pair *named; /* keys are texts */
    uint32_t n_named;
    struct template_value v[TEMPLATE_PARAMS_MAX]; /* bound; TV_MISSING where not given */
};

/* `self` is what a filter or test is applied to, or the method's object. */
typedef enum rc (*template_fn)(struct template_run *r, const struct template_value *self,
                               const struct template_args *a, struct template_value *out);

struct template_row {
    const char *name;
    const char *params; /* "old new count?", in order; "*" takes any and binds none */
    template_fn fn;     /* NULL: known to Python, not served here */
};

/* Binds the arguments and calls. RC_INVALID for a missing, unknown or superfluous argument. */
RC template_row_call(struct template_run *r, const struct template_row *row,
                     const struct template_value *self, struct template_args *a,
                     struct template_value *out);
/* value(args): functions, methods, macros; RC_INVALID for the rest. */
RC template_call(struct template_run *r, const struct template_value *callee,
                 struct template_args *a, struct template_value *out);

/* NULL when unknown. */
const struct template_row *template_row_find(const struct template_row *rows, size_t n,
                                             struct str name);
const struct template_row *template_filter_find(struct str name);
const struct template_row *template_test_find(struct str name);
const struct template_row *template_function_find(struct str name);
/* Methods of the value's type. */
const struct template_row *template_method_find(const struct template_value *v, struct str name);

/* Applies a test by name; an empty name is truth. Used by select, reject and their kin. */
RC template_test_apply(struct template_run *r, const struct template_value *v, struct str name,
                       struct template_args *a, bool *out);

/* In their own files, used by the tables. */
extern const struct template_row template_filters_text[];
extern const size_t template_filters_text_n;
extern const struct template_row template_methods_str[];
extern const size_t template_methods_str_n;
extern const struct template_row template_filters_seq[];
extern const size_t template_filters_seq_n;
RC template_macro_call(struct template_run *r, const struct template_macro *m,
                       struct template_args *a, struct template_value *out);
/* Python's `format % args`. */
RC template_format_percent(struct template_run *r, struct str format,
                           const struct template_value *args, struct template_value *out);
/* Python's format.format(*given, **named). */
RC template_format_braces(struct template_run *r, struct str format, const struct template_args *a,
                          struct template_value *out);
/* The time as strftime of the C locale writes it, in UTC. */
RC template_strftime(struct template_run *r, struct str format, int64_t now_s,
                     struct template_value *out);

/* ---- arguments ---- */

/* An argument that must be a text / a whole number / None; `what` is named in the error. */
RC template_arg_str(struct template_run *r, const struct template_value *v, const char *what,
                    struct str *out);
RC template_arg_int(struct template_run *r, const struct template_value *v, const char *what,
                    int64_t *out);
static inline bool template_arg_given(const struct template_value *v)
{
    return v->type != TV_MISSING;
}
/* The truth of an optional flag. */
static inline bool template_arg_flag(const struct template_value *v, bool otherwise)
{
    return v->type == TV_MISSING ? otherwise : template_truth(v);
}

#endif
