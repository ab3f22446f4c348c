/* template_expr.c: expressions, by recursive descent with jinja2's precedence (jinja2/parser.py):
 * inline if, or, and, not, comparisons, + -, ~, * / // %, **, unary, postfix, filters and tests. */
#include <stdlib.h>

#include "base/assert.h"
#include "engine/token/template_call.h"
#include "engine/token/template_op.h"
#include "engine/token/template_parser.h"

static struct template_node *parse_unary(struct template_parser *p, bool with_filters);
static struct template_node *parse_primary(struct template_parser *p);
static struct template_node *parse_postfix(struct template_parser *p, struct template_node *n);

static struct template_node *expr_const(struct template_parser *p, struct template_value v)
{
    struct template_node *n = template_parser_node(p, TN_CONST);
    if (n != NULL) {
        n->value = v;
    }
    return n;
}

/* ---- literals ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* A code point of up to n digits of the base, at s[*at]; n exactly when hexadecimal. */
static bool escape_code(struct str s, size_t *at, uint32_t n, uint32_t base, uint32_t *cp)
{
    uint32_t k = 0;
    *cp = 0;
    while (k < n && *at < s.len) {
        int d = hex_digit(s.ptr[*at]);
        if (d < 0 || (uint32_t)d >= base) {
            break;
        }
        *cp = *cp * base + (uint32_t)d;
        (*at)++;
        k++;
    }
    return (base == 8 || k == n) && *cp <= 0x10FFFF && (*cp < 0xD800 || *cp > 0xDFFF);
}

/* One escape after the backslash at s[*at - 1]; writes to out and returns the bytes, or -1. */
static int escape_decode(struct str s, size_t *at, char out[4])
{
    static const char plain[] = "\\'\"abfnrtv", meant[] = "\\'\"\a\b\f\n\r\t\v";
    char c = s.ptr[(*at)++];
    const char *hit = c != '\0' ? strchr(plain, c) : NULL;
    uint32_t cp;
    if (c == '\n') {
        return 0;
    }
    if (hit != NULL) {
        out[0] = meant[hit - plain];
        return 1;
    }
    if (c >= '0' && c <= '7') {
        (*at)--;
        return escape_code(s, at, 3, 8, &cp) ? (int)str_utf8_encode(cp, out) : -1;
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        uint32_t n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        return escape_code(s, at, n, 16, &cp) ? (int)str_utf8_encode(cp, out) : -1;
    }
    if (c == 'N') {
        return -1;
    }
    out[0] = '\\';
    out[1] = c;
    return 2;
}

/* What the text between quotes means; escapes only shrink a text, never below half of it. */
static struct str string_decode(struct template_parser *p, struct str s)
{
    if (s.len == 0 || memchr(s.ptr, '\\', s.len) == NULL) {
        return s;
    }
    char *out = arena_alloc(p->arena, s.len + 4);
    if (out == NULL) {
        template_parser_fail(p, RC_TOO_LARGE, "the template is too large");
        return STR_NULL;
    }
    size_t n = 0, at = 0;
    while (at < s.len) {
        char c = s.ptr[at++];
        if (c != '\\') {
            out[n++] = c;
            continue;
        }
        ASSERT(at < s.len); /* the lexer takes two bytes at every backslash */
        int k = escape_decode(s, &at, out + n);
        if (k < 0) {
            template_parser_fail(p, RC_INVALID, "a string has an escape that is not served");
            return STR_NULL;
        }
        n += (size_t)k;
    }
    return str_make(out, n);
}

/* Neighbouring strings are one. */
static struct template_node *parse_string(struct template_parser *p)
{
    struct template_node *n = expr_const(p, tv_str(string_decode(p, p->cur.text)));
    template_parser_next(p);
    while (template_parser_is(p, TT_STRING)) {
        struct str head = n->value.text, tail = string_decode(p, p->cur.text);
        char *both = p->rc == RC_OK ? arena_alloc(p->arena, head.len + tail.len) : NULL;
        if (both == NULL) {
            return template_parser_fail(p, RC_TOO_LARGE, "the template is too large");
        }
        if (head.len > 0) {
            memcpy(both, head.ptr, head.len);
        }
        if (tail.len > 0) {
            memcpy(both + head.len, tail.ptr, tail.len);
        }
        n->value.text = str_make(both, head.len + tail.len);
        template_parser_next(p);
    }
    return n;
}

static struct template_node *parse_number(struct template_parser *p)
{
    char digits[400];
    size_t n = 0;
    struct str s = p->cur.text;
    bool whole = p->cur.type == TT_INT;
    char mark = s.len > 1 ? (char)(s.ptr[1] | 0x20) : '\0';
    int base = !whole ? 10 : mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
    for (size_t i = base != 10 ? 2 : 0; i < s.len && n + 1 < sizeof(digits); i++) {
        if (s.ptr[i] != '_') {
            digits[n++] = s.ptr[i];
        }
    }
    digits[n] = '\0';
    bool zero = strspn(digits, "0") == n;
    if (n + 1 >= sizeof(digits) || (whole && base == 10 && digits[0] == '0' && !zero)) {
        return template_parser_fail(p, RC_INVALID, "a malformed number");
    }
    struct template_value v = tv_float(whole ? 0.0 : strtod(digits, NULL));
    int64_t i = 0;
    if (whole && base == 10 && !str_to_i64(zero ? STR_LIT("0") : str_make(digits, n), &i)) {
        v = (struct template_value){.type = TV_BIGINT};
        v.text = arena_str(p->arena, str_make(digits, n));
    } else if (whole) {
        v = tv_int(base == 10 ? i : (int64_t)strtoll(digits, NULL, base));
    }
    struct template_node *node = expr_const(p, v);
    template_parser_next(p);
    return node;
}

/* ---- brackets ---- */

static struct template_node *parse_list(struct template_parser *p)
{
    struct template_node *n = template_parser_node(p, TN_LIST);
    template_parser_next(p);
    while (p->rc == RC_OK && p->cur.type != TT_RBRACKET) {
        if (n->n > 0) {
            template_parser_want(p, TT_COMMA, "','");
            if (template_parser_is(p, TT_RBRACKET)) {
                break;
            }
        }
        template_parser_append(p, n, template_parse_expression(p));
    }
    template_parser_want(p, TT_RBRACKET, "']'");
    return n;
}

static struct template_node *parse_dict(struct template_parser *p)
{
    struct template_node *n = template_parser_node(p, TN_DICT);
    template_parser_next(p);
    while (p->rc == RC_OK && p->cur.type != TT_RBRACE) {
        if (n->n > 0) {
            template_parser_want(p, TT_COMMA, "','");
            if (template_parser_is(p, TT_RBRACE)) {
                break;
            }
        }
        struct template_node *pair = template_parser_node(p, TN_PAIR);
        struct template_node *key = template_parse_expression(p);
        template_parser_want(p, TT_COLON, "':'");
        struct template_node *value = template_parse_expression(p);
        template_parser_append(p, n, template_parser_join(p, pair, key, value, NULL));
    }
    template_parser_want(p, TT_RBRACE, "'}'");
    return n;
}

static bool tuple_ends(const struct template_parser *p, const char *end_word)
{
    return p->rc != RC_OK || p->cur.type == TT_OUTPUT_END || p->cur.type == TT_BLOCK_END ||
           p->cur.type == TT_RPAREN || (end_word != NULL && template_parser_is_word(p, end_word));
}

struct template_node *template_parse_tuple(struct template_parser *p,
                                           struct template_tuple_options opt)
{
    struct template_node *n = template_parser_node(p, TN_TUPLE);
    bool comma = false;
    while (!tuple_ends(p, opt.end_word)) {
        template_parser_append(p, n,
                               opt.no_cond ? template_parse_or(p) : template_parse_expression(p));
        if (!template_parser_take(p, TT_COMMA)) {
            break;
        }
        comma = true;
    }
    if (p->rc != RC_OK || comma) {
        return n;
    }
    if (n->n == 1) {
        return n->items;
    }
    return opt.in_parentheses ? n : template_parser_unexpected(p, "an expression");
}

static struct template_node *parse_primary(struct template_parser *p)
{
    static const struct {
        const char *word;
        struct template_value value;
    } words[] = {
        {"true", {.type = TV_BOOL, .boolean = true}},
        {"True", {.type = TV_BOOL, .boolean = true}},
        {"false", {.type = TV_BOOL, .boolean = false}},
        {"False", {.type = TV_BOOL, .boolean = false}},
        {"none", {.type = TV_NONE}},
        {"None", {.type = TV_NONE}},
    };
    struct template_node *n;
    switch (p->rc == RC_OK ? p->cur.type : TT_EOF) {
    case TT_NAME:
        n = template_parser_node(p, TN_NAME);
        for (size_t i = 0; n != NULL && i < ARRAY_LEN(words); i++) {
            if (str_is(p->cur.text, words[i].word)) {
                n->kind = TN_CONST;
                n->value = words[i].value;
            }
        }
        if (n != NULL) {
            n->text = p->cur.text;
        }
        template_parser_next(p);
        return n;
    case TT_STRING:
        return parse_string(p);
    case TT_INT:
    case TT_FLOAT:
        return parse_number(p);
    case TT_LPAREN:
        template_parser_next(p);
        n = template_parse_tuple(p, (struct template_tuple_options){.in_parentheses = true});
        template_parser_want(p, TT_RPAREN, "')'");
        return n;
    case TT_LBRACKET:
        return parse_list(p);
    case TT_LBRACE:
        return parse_dict(p);
    default:
        return template_parser_unexpected(p, "an expression");
    }
}

/* ---- calls, items, filters, tests ---- */

/* "(a, b, c=d)" into n's items. */
static void parse_arguments(struct template_parser *p, struct template_node *n)
{
    bool named = false;
    template_parser_want(p, TT_LPAREN, "'('");
    while (p->rc == RC_OK && p->cur.type != TT_RPAREN) {
        if (n->n > 0) {
            template_parser_want(p, TT_COMMA, "','");
            if (template_parser_is(p, TT_RPAREN)) {
                break;
            }
        }
        if (p->cur.type == TT_NAME && template_parser_ahead(p)->type == TT_ASSIGN) {
            struct template_node *arg = template_parser_node(p, TN_NAMED);
            struct str name = template_parser_name(p);
            template_parser_next(p);
            struct template_node *value = template_parse_expression(p);
            if (arg != NULL) {
                arg->text = name;
            }
            template_parser_append(p, n, template_parser_join(p, arg, value, NULL, NULL));
            named = true;
        } else if (named) {
            template_parser_unexpected(p, "a named argument");
        } else {
            template_parser_append(p, n, template_parse_expression(p));
        }
    }
    template_parser_want(p, TT_RPAREN, "')'");
}

static struct template_node *parse_call(struct template_parser *p, struct template_node *callee)
{
    struct template_node *n = template_parser_node(p, TN_CALL);
    if (n == NULL) {
        return NULL;
    }
    n = template_parser_join(p, n, callee, NULL, NULL);
    if (n != NULL) {
        parse_arguments(p, n);
    }
    return n;
}

static bool slice_part_follows(const struct template_parser *p)
{
    return p->rc == RC_OK && p->cur.type != TT_COLON && p->cur.type != TT_RBRACKET;
}

/* What stands in "[ ]" after `obj`. */
static struct template_node *parse_subscript(struct template_parser *p, struct template_node *obj)
{
    struct template_node *n = template_parser_node(p, TN_ITEM);
    struct template_node *start = NULL, *stop = NULL, *step = NULL;
    if (!template_parser_is(p, TT_COLON)) {
        start = template_parse_expression(p);
    }
    if (!template_parser_is(p, TT_COLON)) {
        template_parser_want(p, TT_RBRACKET, "']'");
        return template_parser_join(p, n, obj, start, NULL);
    }
    template_parser_next(p);
    if (slice_part_follows(p)) {
        stop = template_parse_expression(p);
    }
    if (template_parser_take(p, TT_COLON) && slice_part_follows(p)) {
        step = template_parse_expression(p);
    }
    template_parser_want(p, TT_RBRACKET, "']'");
    n = template_parser_join(p, n, obj, start, stop);
    if (n != NULL) {
        n->kind = TN_SLICE;
        n->d = step;
        n->height = MAX(n->height, step != NULL ? step->height + 1 : 0);
    }
    return n;
}

/* ".name" or ".0". */
static struct template_node *parse_dot(struct template_parser *p, struct template_node *obj)
{
    struct template_node *n = template_parser_node(p, TN_ATTR);
    if (template_parser_is(p, TT_INT)) {
        struct template_node *key = parse_number(p);
        if (n != NULL) {
            n->kind = TN_ITEM;
        }
        return template_parser_join(p, n, obj, key, NULL);
    }
    struct str name = template_parser_name(p);
    if (n != NULL) {
        n->text = name;
    }
    return template_parser_join(p, n, obj, NULL, NULL);
}

static struct template_node *parse_postfix(struct template_parser *p, struct template_node *n)
{
    while (p->rc == RC_OK) {
        if (template_parser_take(p, TT_DOT)) {
            n = parse_dot(p, n);
        } else if (template_parser_take(p, TT_LBRACKET)) {
            n = parse_subscript(p, n);
        } else if (template_parser_is(p, TT_LPAREN)) {
            n = parse_call(p, n);
        } else {
            return n;
        }
    }
    return NULL;
}

struct template_node *template_parse_filters(struct template_parser *p, struct template_node *n,
                                             bool first_inline)
{
    while (p->rc == RC_OK && (first_inline || template_parser_take(p, TT_PIPE))) {
        struct template_node *f = template_parser_node(p, TN_FILTER);
        struct str name = template_parser_name(p);
        first_inline = false;
        f = template_parser_join(p, f, n, NULL, NULL);
        if (f != NULL) {
            f->text = name;
            f->row = template_filter_find(name);
        }
        if (template_parser_is(p, TT_LPAREN)) {
            parse_arguments(p, f);
        }
        n = f;
    }
    return p->rc == RC_OK ? n : NULL;
}

/* Whether a test's single argument follows without parentheses: "is divisibleby 3". */
static bool bare_argument_follows(const struct template_parser *p)
{
    switch (p->rc == RC_OK ? p->cur.type : TT_EOF) {
    case TT_NAME:
        return !template_parser_is_word(p, "else") && !template_parser_is_word(p, "or") &&
               !template_parser_is_word(p, "and") && !template_parser_is_word(p, "is");
    case TT_STRING:
    case TT_INT:
    case TT_FLOAT:
    case TT_LBRACKET:
    case TT_LBRACE:
        return true;
    default:
        return false;
    }
}

static struct template_node *parse_test(struct template_parser *p, struct template_node *n)
{
    template_parser_next(p);
    struct template_node *not = NULL, *t;
    if (template_parser_is_word(p, "not")) {
        not = template_parser_node(p, TN_NOT);
        template_parser_next(p);
    }
    t = template_parser_join(p, template_parser_node(p, TN_TEST), n, NULL, NULL);
    struct str name = template_parser_name(p);
    if (p->rc != RC_OK) {
        return NULL;
    }
    t->text = name;
    t->row = template_test_find(name);
    if (template_parser_is(p, TT_LPAREN)) {
        parse_arguments(p, t);
    } else if (bare_argument_follows(p)) {
        struct template_node *arg = parse_primary(p);
        template_parser_append(p, t, parse_postfix(p, arg));
    }
    return not != NULL ? template_parser_join(p, not, t, NULL, NULL) : t;
}

static struct template_node *parse_filters_and_tests(struct template_parser *p,
                                                     struct template_node *n)
{
    while (p->rc == RC_OK) {
        if (p->cur.type == TT_PIPE) {
            n = template_parse_filters(p, n, false);
        } else if (template_parser_is_word(p, "is")) {
            n = parse_test(p, n);
        } else if (p->cur.type == TT_LPAREN) {
            n = parse_call(p, n);
        } else {
            return n;
        }
    }
    return NULL;
}

/* ---- operators ---- */

static struct template_node *parse_unary(struct template_parser *p, bool with_filters)
{
    struct template_node *n;
    if (!template_parser_enter(p)) {
        return NULL;
    }
    if (template_parser_is(p, TT_SUB) || template_parser_is(p, TT_ADD)) {
        n = template_parser_node(p, TN_UNARY);
        if (n != NULL) {
            n->op = p->cur.type == TT_SUB ? OP_NEG : OP_POS;
        }
        template_parser_next(p);
        n = template_parser_join(p, n, parse_unary(p, false), NULL, NULL);
    } else {
        n = parse_primary(p);
    }
    n = parse_postfix(p, n);
    n = with_filters ? parse_filters_and_tests(p, n) : n;
    template_parser_leave(p);
    return n;
}

struct expr_level {
    struct {
        enum template_token_type token;
        enum template_operator op;
    } ops[4];
    uint32_t n;
};

/* From loose to tight; "~" stands between the first and the second. */
static const struct expr_level expr_levels[] = {
    {{{TT_ADD, OP_ADD}, {TT_SUB, OP_SUB}}, 2},
    {{{TT_MUL, OP_MUL}, {TT_DIV, OP_DIV}, {TT_FLOORDIV, OP_FLOORDIV}, {TT_MOD, OP_MOD}}, 4},
    {{{TT_POW, OP_POW}}, 1},
};

static struct template_node *parse_concat(struct template_parser *p);

static struct template_node *parse_level(struct template_parser *p, uint32_t level)
{
    if (level == ARRAY_LEN(expr_levels)) {
        return parse_unary(p, true);
    }
    struct template_node *left = level == 0 ? parse_concat(p) : parse_level(p, level + 1);
    while (p->rc == RC_OK) {
        const struct expr_level *l = &expr_levels[level];
        uint32_t i = 0;
        while (i < l->n && p->cur.type != l->ops[i].token) {
            i++;
        }
        if (i == l->n) {
            return left;
        }
        struct template_node *n = template_parser_node(p, TN_BINARY);
        template_parser_next(p);
        struct template_node *right = level == 0 ? parse_concat(p) : parse_level(p, level + 1);
        n = template_parser_join(p, n, left, right, NULL);
        if (n != NULL) {
            n->op = l->ops[i].op;
        }
        left = n;
    }
    return NULL;
}

static struct template_node *parse_concat(struct template_parser *p)
{
    struct template_node *first = parse_level(p, 1), *n = NULL;
    while (template_parser_take(p, TT_TILDE)) {
        if (n == NULL) {
            n = template_parser_node(p, TN_CONCAT);
            template_parser_append(p, n, first);
        }
        template_parser_append(p, n, parse_level(p, 1));
    }
    return n != NULL ? n : first;
}

/* The comparison operator at hand, taken; false when there is none. */
static bool take_comparison(struct template_parser *p, uint32_t *op)
{
    static const struct {
        enum template_token_type token;
        enum template_operator op;
    } map[] = {{TT_EQ, OP_EQ}, {TT_NE, OP_NE}, {TT_LT, OP_LT},
               {TT_LE, OP_LE}, {TT_GT, OP_GT}, {TT_GE, OP_GE}};
    for (size_t i = 0; i < ARRAY_LEN(map); i++) {
        if (template_parser_take(p, map[i].token)) {
            *op = map[i].op;
            return true;
        }
    }
    if (template_parser_take_word(p, "in")) {
        *op = OP_IN;
        return true;
    }
    if (template_parser_is_word(p, "not") && template_parser_ahead(p)->type == TT_NAME &&
        str_is(p->ahead.text, "in")) {
        template_parser_next(p);
        template_parser_next(p);
        *op = OP_NOT_IN;
        return true;
    }
    return false;
}

static struct template_node *parse_compare(struct template_parser *p)
{
    struct template_node *first = parse_level(p, 0), *n = NULL;
    uint32_t op;
    while (p->rc == RC_OK && take_comparison(p, &op)) {
        if (n == NULL) {
            n = template_parser_join(p, template_parser_node(p, TN_COMPARE), first, NULL, NULL);
        }
        struct template_node *operand = template_parser_node(p, TN_OPERAND);
        operand = template_parser_join(p, operand, parse_level(p, 0), NULL, NULL);
        if (operand != NULL) {
            operand->op = op;
        }
        template_parser_append(p, n, operand);
    }
    return n != NULL ? n : first;
}

static struct template_node *parse_not(struct template_parser *p)
{
    if (!template_parser_is_word(p, "not")) {
        return parse_compare(p);
    }
    if (!template_parser_enter(p)) {
        return NULL;
    }
    struct template_node *n = template_parser_node(p, TN_NOT);
    template_parser_next(p);
    n = template_parser_join(p, n, parse_not(p), NULL, NULL);
    template_parser_leave(p);
    return n;
}

static struct template_node *parse_and(struct template_parser *p)
{
    struct template_node *left = parse_not(p);
    while (template_parser_take_word(p, "and")) {
        struct template_node *n = template_parser_node(p, TN_AND);
        left = template_parser_join(p, n, left, parse_not(p), NULL);
    }
    return left;
}

struct template_node *template_parse_or(struct template_parser *p)
{
    struct template_node *left = parse_and(p);
    while (template_parser_take_word(p, "or")) {
        struct template_node *n = template_parser_node(p, TN_OR);
        left = template_parser_join(p, n, left, parse_and(p), NULL);
    }
    return left;
}

struct template_node *template_parse_expression(struct template_parser *p)
{
    if (!template_parser_enter(p)) {
        return NULL;
    }
    struct template_node *value = template_parse_or(p);
    while (template_parser_take_word(p, "if")) {
        struct template_node *n = template_parser_node(p, TN_COND);
        struct template_node *test = template_parse_or(p), *otherwise = NULL;
        if (template_parser_take_word(p, "else")) {
            otherwise = template_parse_expression(p);
        }
        value = template_parser_join(p, n, test, value, otherwise);
    }
    template_parser_leave(p);
    return value;
}

/* ---- targets ---- */

static struct template_node *parse_target_one(struct template_parser *p, bool attributes)
{
    struct template_node *n = NULL;
    if (template_parser_take(p, TT_LPAREN)) {
        if (!template_parser_enter(p)) {
            return NULL;
        }
        n = template_parse_target(p, attributes);
        template_parser_want(p, TT_RPAREN, "')'");
        template_parser_leave(p);
        return n;
    }
    if (!template_parser_is(p, TT_NAME)) {
        return template_parser_unexpected(p, "a name to assign to");
    }
    n = parse_primary(p);
    if (n != NULL && n->kind != TN_NAME) {
        return template_parser_fail(p, RC_INVALID, "cannot assign to a constant");
    }
    if (attributes && template_parser_take(p, TT_DOT)) {
        struct template_node *ref = template_parser_node(p, TN_NSREF);
        struct str attr = template_parser_name(p);
        if (ref != NULL) {
            ref->text = attr;
        }
        return template_parser_join(p, ref, n, NULL, NULL);
    }
    if (n != NULL && p->loops > 0 && str_is(n->text, "loop")) {
        return template_parser_fail(p, RC_INVALID, "cannot assign to loop inside a for");
    }
    return n;
}

struct template_node *template_parse_target(struct template_parser *p, bool attributes)
{
    struct template_node *first = parse_target_one(p, attributes), *n = NULL;
    while (template_parser_take(p, TT_COMMA)) {
        if (n == NULL) {
            n = template_parser_node(p, TN_TUPLE);
            template_parser_append(p, n, first);
        }
        bool more = template_parser_is(p, TT_NAME) || template_parser_is(p, TT_LPAREN);
        if (!more || template_parser_is_word(p, "in")) {
            break;
        }
        template_parser_append(p, n, parse_target_one(p, attributes));
    }
    return p->rc != RC_OK ? NULL : n != NULL ? n : first;
}
