/* template_run.h: one rendering: its arena, its budgets, its one error.
 *
 * Invariants: (1) every loop over data of the template's choosing spends steps; (2) every
 * recursion enters and leaves; (3) an error ends the rendering, so nothing is undone on the way. */
#ifndef ENGINE_TOKEN_TEMPLATE_RUN_H
#define ENGINE_TOKEN_TEMPLATE_RUN_H

#include "base/arena.h"
#include "base/err.h"
#include "engine/token/template.h"
#include "engine/token/template_value.h"

struct template_text;

enum template_flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

struct template_run {
    const struct template_input *in;
    struct arena *arena;
    struct err *err;
    struct template_text *out;            /* where output goes: the prompt, or a block's capture */
    struct template_env *env;             /* variables in sight */
    struct str captured;                  /* a block's text, for the filters that follow it */
    const struct template_value *context; /* values of the template's context names */
    uint64_t steps_left;
    uint32_t depth;
    uint32_t line; /* of the node being evaluated, for messages */
    enum template_flow flow;
};

/* Leaves the calling function with a failure. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        enum rc try_rc = (call);                                                                   \
        if (try_rc != RC_OK) {                                                                     \
            return try_rc;                                                                         \
        }                                                                                          \
    } while (0)

/* "chat template, line N: …"; returns `code`. */
COLD enum rc template_fail(const struct template_run *r, enum rc code, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* The arena is full. */
COLD enum rc template_no_room(const struct template_run *r);
COLD enum rc template_no_steps(const struct template_run *r);
COLD enum rc template_too_deep(const struct template_run *r);

MUST_CHECK static inline enum rc template_spend(struct template_run *r, uint64_t steps)
{
    if (UNLIKELY(steps > r->steps_left)) {
        return template_no_steps(r);
    }
    r->steps_left -= steps;
    return RC_OK;
}

/* Handling n bytes of text. */
MUST_CHECK static inline enum rc template_spend_bytes(struct template_run *r, size_t n)
{
    return template_spend(r, n / 16);
}

MUST_CHECK static inline enum rc template_enter(struct template_run *r)
{
    if (UNLIKELY(r->depth >= TEMPLATE_DEPTH_MAX)) {
        return template_too_deep(r);
    }
    r->depth++;
    return RC_OK;
}

static inline void template_leave(struct template_run *r)
{
    r->depth--;
}

/* ---- making values ---- */

/* An empty list (or another kind) with room for `size`. */
RC template_seq_new(struct template_run *r, enum template_seq_kind kind, size_t size,
                    struct template_seq **out);
RC template_seq_push(struct template_run *r, struct template_seq *s,
                     const struct template_value *v);
RC template_dict_new(struct template_run *r, size_t size, struct template_dict **out);
/* Replaces the value of an equal key; RC_INVALID for a key that cannot be hashed. */
RC template_dict_set(struct template_run *r, struct template_dict *d,
                     const struct template_value *key, const struct template_value *v);
/* *out is NULL when absent. */
RC template_dict_find(struct template_run *r, const struct template_dict *d,
                      const struct template_value *key, struct template_pair **out);
/* The same by name, for keys that are texts. */
RC template_dict_find_name(struct template_run *r, const struct template_dict *d, struct str name,
                           struct template_pair **out);

/* ---- asking values ---- */

/* RC_INVALID when it cannot be iterated. */
RC template_iter_init(struct template_run *r, const struct template_value *v,
                      struct template_iter *it);
/* False at the end. */
bool template_iter_next(struct template_iter *it, struct template_value *out);
/* Everything that is left of it, as a list. */
RC template_collect(struct template_run *r, const struct template_value *v,
                    struct template_seq **out);
/* Python's len(); RC_INVALID when it has none. */
RC template_length(struct template_run *r, const struct template_value *v, int64_t *out);
/* Whether len() would work. */
bool template_has_length(const struct template_value *v);

/* Python's ==. */
RC template_equal(struct template_run *r, const struct template_value *a,
                  const struct template_value *b, bool *out);

enum template_order { ORDER_LESS = -1, ORDER_SAME = 0, ORDER_MORE = 1, ORDER_NONE = 2 };
/* Python's <, ==, >; ORDER_NONE where NaN takes part; RC_INVALID when they have no order. */
RC template_compare(struct template_run *r, const struct template_value *a,
                    const struct template_value *b, enum template_order *out);
/* Python's `item in container`. */
RC template_contains(struct template_run *r, const struct template_value *container,
                     const struct template_value *item, bool *out);

#endif
