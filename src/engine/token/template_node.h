/* template_node.h: the syntax tree of a template.
 *
 * One struct for all nodes; which members a kind uses stands beside it. Nodes live in the
 * template's arena and are never changed after template_scope_resolve. Invariant: height is at
 * most TEMPLATE_NEST_MAX, so every walk of the tree may recurse. */
#ifndef ENGINE_TOKEN_TEMPLATE_NODE_H
#define ENGINE_TOKEN_TEMPLATE_NODE_H

#include "base/arena.h"
#include "base/err.h"
#include "engine/token/template_value.h"

enum template_kind {
    /* expressions */
    TN_CONST,    /* value */
    TN_NAME,     /* text; hops, slot */
    TN_ATTR,     /* a.text */
    TN_ITEM,     /* a[b] */
    TN_SLICE,    /* a[b:c:d] */
    TN_CALL,     /* a(items; TN_NAMED last) */
    TN_FILTER,   /* a|text(items), row */
    TN_TEST,     /* a is text(items), row */
    TN_NAMED,    /* text=a, among the items of a call */
    TN_UNARY,    /* op a */
    TN_BINARY,   /* a op b */
    TN_COMPARE,  /* a, items: TN_OPERAND */
    TN_OPERAND,  /* op a */
    TN_CONCAT,   /* items ~ … */
    TN_AND,      /* a and b */
    TN_OR,       /* a or b */
    TN_NOT,      /* not a */
    TN_COND,     /* b if a else c (c may be NULL) */
    TN_LIST,     /* items */
    TN_TUPLE,    /* items; also a target */
    TN_DICT,     /* items: TN_PAIR */
    TN_PAIR,     /* a: b */
    TN_CAPTURED, /* the text of the block whose filters these are */
    TN_NSREF,    /* a (a name) . text, as a target */
    /* statements */
    TN_DATA,      /* text */
    TN_OUTPUT,    /* a */
    TN_IF,        /* items: TN_BRANCH */
    TN_BRANCH,    /* a (NULL for else): items */
    TN_FOR,       /* for a in b if c: items; scope, test_scope; d: TN_SCOPE of else, or NULL */
    TN_SET,       /* a = b */
    TN_SET_BLOCK, /* a = items through b (filters of TN_CAPTURED); scope */
    TN_FILTERED,  /* items through b (the same); scope */
    TN_MACRO,     /* a (its name) (b: list of TN_PARAM): items; scope */
    TN_PARAM,     /* a (a name) = b (may be NULL) */
    TN_SCOPE,     /* items; scope: the template, a generation block, the else of a loop */
    TN_BREAK,
    TN_CONTINUE,
    TN_N,
};

/* How a variable gets its value when its scope is entered. */
enum template_load {
    LOAD_PARAM,     /* whoever enters the scope sets it */
    LOAD_CONTEXT,   /* from the template's context */
    LOAD_OUTER,     /* from an outer scope's variable */
    LOAD_UNDEFINED, /* by a set further down */
};

struct template_variable {
    struct str name;
    enum template_load load;
    uint32_t slot;
    uint32_t from; /* LOAD_CONTEXT: index of the context name; LOAD_OUTER: slot */
    uint32_t hops; /* LOAD_OUTER: scopes outwards */
    struct template_variable *next;
};

struct template_scope {
    uint32_t n;
    struct template_variable *first, *last;
    struct template_scope *parent;
};

struct template_context_name {
    struct str name;
    uint32_t index;
    struct template_context_name *next;
};

struct template_node {
    enum template_kind kind;
    uint32_t line;
    uint32_t height;
    uint32_t op; /* enum template_operator */
    uint32_t hops, slot;
    uint32_t n; /* items */
    struct str text;
    struct template_value value;
    struct template_node *a, *b, *c, *d;
    struct template_node *items, *last, *next;
    struct template_scope *scope, *test_scope;
    const struct template_row *row; /* NULL: no such filter or test */
};

#define NODE_EACH(first, it)                                                                       \
    for (const struct template_node *it = (first); it != NULL; it = it->next)

struct template_tree {
    struct arena *arena;
    struct template_node *root; /* TN_SCOPE */
    struct template_context_name *context, *context_last;
    uint32_t n_context;
    uint32_t n_variables;
};

/* Parses normalised source (template_source). The tree points into it. */
RC template_parse(struct template_tree *tree, struct str source, struct err *err);
/* Decides, once and for all, which variable every name means. */
RC template_scope_resolve(struct template_tree *tree, struct err *err);

#endif
