/* template_value.h: the values of a template and the rules of Python that hold for them.
 *
 * A value is 32 bytes, passed by pointer; what it points to lives in the rendering's arena or in
 * the compiled template. Texts are always valid UTF-8. Lists and dicts may be shared: a slice
 * points into its list, and only append and pop change one. */
#ifndef ENGINE_TOKEN_TEMPLATE_VALUE_H
#define ENGINE_TOKEN_TEMPLATE_VALUE_H

#include "base/str.h"

struct template_run;
struct template_node;
struct template_env;
struct template_loop;
struct template_row;

enum template_type {
    TV_MISSING, /* no value at all: an argument that was not given; never seen by a template */
    TV_UNDEFINED,
    TV_NONE,
    TV_BOOL,
    TV_INT,
    TV_BIGINT, /* a whole number over 64 bits: canonical decimal text */
    TV_FLOAT,
    TV_STR,
    TV_SEQ,
    TV_DICT,
    TV_NAMESPACE,
    TV_MACRO,
    TV_BUILTIN, /* a function, or a method bound to its object */
    TV_LOOP,
};

enum template_seq_kind {
    SEQ_LIST,
    SEQ_TUPLE,
    SEQ_RANGE,
    SEQ_KEYS,
    SEQ_VALUES,
    SEQ_ITEMS,
    SEQ_GENERATOR, /* what map, select, … give: can be walked once, has no length */
};

struct template_value {
    enum template_type type;
    bool safe; /* TV_STR that went through |safe: "+" escapes the other side, as Markup does */
    union {
        bool boolean;
        int64_t integer;
        double number;
        struct str text; /* TV_STR; TV_BIGINT; TV_UNDEFINED: the name that is undefined */
        struct template_seq *seq;
        struct template_dict *dict; /* TV_DICT, TV_NAMESPACE */
        struct template_macro *macro;
        struct template_bound *bound;
        struct template_loop *loop;
        const void *address;
    };
};

struct template_seq {
    enum template_seq_kind kind;
    uint32_t n;
    uint32_t size;                /* slots owned at items; 0: they belong to someone else */
    uint32_t pos;                 /* SEQ_GENERATOR: how many are gone */
    struct template_value *items; /* n */
};

struct template_pair {
    struct template_value key, value;
};

/* In order of insertion. */
struct template_dict {
    uint32_t n, size;
    struct template_pair *pairs;
};

struct template_macro {
    const struct template_node *node;
    struct template_env *env; /* where it was defined */
};

struct template_bound {
    struct template_value self; /* TV_MISSING for a function */
    const struct template_row *row;
};

/* A walk over anything iterable. */
struct template_iter {
    struct template_seq *seq;
    const struct template_dict *dict;
    struct str rest;
    uint32_t pos;
};

static inline struct template_value tv_none(void)
{
    return (struct template_value){.type = TV_NONE};
}
static inline struct template_value tv_bool(bool b)
{
    return (struct template_value){.type = TV_BOOL, .boolean = b};
}
static inline struct template_value tv_int(int64_t i)
{
    return (struct template_value){.type = TV_INT, .integer = i};
}
static inline struct template_value tv_float(double d)
{
    return (struct template_value){.type = TV_FLOAT, .number = d};
}
static inline struct template_value tv_str(struct str s)
{
    return (struct template_value){.type = TV_STR, .text = s};
}
static inline struct template_value tv_undefined(struct str name)
{
    return (struct template_value){.type = TV_UNDEFINED, .text = name};
}
static inline struct template_value tv_seq(struct template_seq *s)
{
    return (struct template_value){.type = TV_SEQ, .seq = s};
}
static inline struct template_value tv_dict(struct template_dict *d)
{
    return (struct template_value){.type = TV_DICT, .dict = d};
}
static inline bool tv_is_seq(const struct template_value *v, enum template_seq_kind kind)
{
    return v->type == TV_SEQ && v->seq->kind == kind;
}

/* Python's name of the type: "str", "list", "NoneType", … */
const char *template_type_name(const struct template_value *v);
bool template_truth(const struct template_value *v);
/* bool and int as int64; false for anything else. */
MUST_CHECK bool template_as_int(const struct template_value *v, int64_t *out);
/* bool, int, big int and float as double; false for anything else. */
MUST_CHECK bool template_as_float(const struct template_value *v, double *out);
/* The character at the start of a text that is not empty, and its bytes; U+FFFD and 1 byte where
 * it is not UTF-8, which only a careless caller of the renderer can bring about. */
size_t template_decode(struct str s, uint32_t *cp);
/* Code points of a text; O(bytes). */
size_t template_text_length(struct str s);

#endif
