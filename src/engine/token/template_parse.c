/* template_parse.c: the parser's token window and node making, and the statements.
 *
 * Tags are a table of words and functions. Unknown tags, and tags of jinja2 outside the subset, are
 * refused by name. */
#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"
#include "engine/token/template_parser.h"

/* ---- failing ---- */

struct template_node *template_parser_fail(struct template_parser *p, enum rc rc, const char *fmt,
                                           ...)
{
    if (p->rc == RC_OK) {
        char msg[300];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(msg, sizeof(msg), fmt, ap);
        va_end(ap);
        p->rc = err_set(p->err, rc, "chat template, line %u: %s", p->cur.line, msg);
    }
    return NULL;
}

struct template_node *template_parser_unexpected(struct template_parser *p, const char *wanted)
{
    struct str text = str_slice(p->cur.text, 0, 40);
    while (text.len > 0 && !str_utf8_valid(text)) { /* not in the middle of a character */
        text.len--;
    }
    if (p->cur.type == TT_EOF) {
        return template_parser_fail(p, RC_INVALID, "the template ends where %s is wanted", wanted);
    }
    if (p->cur.type == TT_BLOCK_END || p->cur.type == TT_OUTPUT_END) {
        return template_parser_fail(p, RC_INVALID, "the tag ends where %s is wanted", wanted);
    }
    return template_parser_fail(p, RC_INVALID, "unexpected '%.*s' where %s is wanted", STR(text),
                                wanted);
}

/* ---- tokens ---- */

void template_parser_next(struct template_parser *p)
{
    if (p->rc != RC_OK) {
        return;
    }
    if (p->has_ahead) {
        p->cur = p->ahead;
        p->has_ahead = false;
        return;
    }
    p->rc = template_lex_next(&p->lexer, &p->cur);
}

const struct template_token *template_parser_ahead(struct template_parser *p)
{
    if (!p->has_ahead && p->rc == RC_OK) {
        p->rc = template_lex_next(&p->lexer, &p->ahead);
        p->has_ahead = p->rc == RC_OK;
    }
    return &p->ahead;
}

bool template_parser_is_word(const struct template_parser *p, const char *word)
{
    return template_parser_is(p, TT_NAME) && str_is(p->cur.text, word);
}

bool template_parser_take(struct template_parser *p, enum template_token_type t)
{
    if (!template_parser_is(p, t)) {
        return false;
    }
    template_parser_next(p);
    return true;
}

bool template_parser_take_word(struct template_parser *p, const char *word)
{
    if (!template_parser_is_word(p, word)) {
        return false;
    }
    template_parser_next(p);
    return true;
}

void template_parser_want(struct template_parser *p, enum template_token_type t, const char *what)
{
    if (p->rc == RC_OK && !template_parser_take(p, t)) {
        template_parser_unexpected(p, what);
    }
}

void template_parser_want_word(struct template_parser *p, const char *word)
{
    if (p->rc == RC_OK && !template_parser_take_word(p, word)) {
        template_parser_unexpected(p, word);
    }
}

struct str template_parser_name(struct template_parser *p)
{
    struct str name = p->cur.text;
    template_parser_want(p, TT_NAME, "a name");
    return p->rc == RC_OK ? name : STR_NULL;
}

bool template_parser_enter(struct template_parser *p)
{
    if (p->rc == RC_OK && p->depth >= TEMPLATE_NEST_MAX) {
        template_parser_fail(p, RC_TOO_LARGE, "nested more than %d levels deep", TEMPLATE_NEST_MAX);
    }
    p->depth += p->rc == RC_OK;
    return p->rc == RC_OK;
}

void template_parser_leave(struct template_parser *p)
{
    ASSERT(p->depth > 0);
    p->depth--;
}

/* ---- nodes ---- */

struct template_node *template_parser_node(struct template_parser *p, enum template_kind kind)
{
    struct template_node *n = p->rc == RC_OK ? arena_alloc(p->arena, sizeof(*n)) : NULL;
    if (n == NULL) {
        return template_parser_fail(p, RC_TOO_LARGE, "the template is too large");
    }
    n->kind = kind;
    n->line = p->cur.line;
    n->height = 1;
    return n;
}

static void node_raise(struct template_parser *p, struct template_node *n,
                       const struct template_node *child)
{
    if (child != NULL && child->height >= n->height) {
        n->height = child->height + 1;
    }
    if (n->height > TEMPLATE_NEST_MAX) {
        template_parser_fail(p, RC_TOO_LARGE, "nested more than %d levels deep", TEMPLATE_NEST_MAX);
    }
}

struct template_node *template_parser_join(struct template_parser *p, struct template_node *n,
                                           struct template_node *a, struct template_node *b,
                                           struct template_node *c)
{
    if (p->rc != RC_OK) {
        return NULL;
    }
    n->a = a;
    n->b = b;
    n->c = c;
    node_raise(p, n, a);
    node_raise(p, n, b);
    node_raise(p, n, c);
    return p->rc == RC_OK ? n : NULL;
}

void template_parser_append(struct template_parser *p, struct template_node *n,
                            struct template_node *item)
{
    if (p->rc != RC_OK) {
        return;
    }
    ASSERT(item->next == NULL);
    if (n->last != NULL) {
        n->last->next = item;
    } else {
        n->items = item;
    }
    n->last = item;
    n->n++;
    node_raise(p, n, item);
}

/* ---- bodies ---- */

static struct template_node *parse_statement(struct template_parser *p);

static bool at_end_word(const struct template_parser *p, const char *const *ends)
{
    for (size_t i = 0; ends != NULL && ends[i] != NULL; i++) {
        if (template_parser_is_word(p, ends[i])) {
            return true;
        }
    }
    return false;
}

/* Items of `into` up to a tag whose word is in `ends` (NULL-ended; NULL: up to the template's end),
 * which becomes the current token. */
static void parse_items(struct template_parser *p, struct template_node *into,
                        const char *const *ends)
{
    while (p->rc == RC_OK && p->cur.type != TT_EOF) {
        struct template_node *n = NULL;
        if (p->cur.type == TT_DATA) {
            n = template_parser_node(p, TN_DATA);
            if (n != NULL) {
                n->text = p->cur.text;
            }
            template_parser_next(p);
        } else if (template_parser_take(p, TT_OUTPUT_BEGIN)) {
            n = template_parser_node(p, TN_OUTPUT);
            struct template_node *value =
                template_parse_tuple(p, (struct template_tuple_options){0});
            n = template_parser_join(p, n, value, NULL, NULL);
            template_parser_want(p, TT_OUTPUT_END, "the end of the output");
        } else {
            template_parser_want(p, TT_BLOCK_BEGIN, "a tag");
            if (at_end_word(p, ends)) {
                return;
            }
            n = parse_statement(p);
            template_parser_want(p, TT_BLOCK_END, "the end of the tag");
        }
        template_parser_append(p, into, n);
    }
    if (p->rc == RC_OK && ends != NULL) {
        template_parser_unexpected(p, ends[0]);
    }
}

/* The tag's end, then the body up to one of the words, which is not taken. */
static void parse_body(struct template_parser *p, struct template_node *into,
                       const char *const *ends)
{
    if (!template_parser_enter(p)) {
        return;
    }
    template_parser_take(p, TT_COLON);
    template_parser_want(p, TT_BLOCK_END, "the end of the tag");
    parse_items(p, into, ends);
    template_parser_leave(p);
}

/* ---- statements: called after their word ---- */

static struct template_node *parse_if(struct template_parser *p)
{
    static const char *const ends[] = {"endif", "elif", "else", NULL};
    struct template_node *n = template_parser_node(p, TN_IF);
    bool otherwise = false;
    while (p->rc == RC_OK) {
        struct template_node *branch = template_parser_node(p, TN_BRANCH), *test = NULL;
        if (!otherwise) {
            test = template_parse_tuple(p, (struct template_tuple_options){.no_cond = true});
        }
        branch = template_parser_join(p, branch, test, NULL, NULL);
        parse_body(p, branch, otherwise ? (const char *const[]){"endif", NULL} : ends);
        template_parser_append(p, n, branch);
        if (template_parser_take_word(p, "endif")) {
            return n;
        }
        otherwise = template_parser_is_word(p, "else");
        template_parser_next(p);
    }
    return NULL;
}

static struct template_node *parse_for(struct template_parser *p)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    struct template_node *n = template_parser_node(p, TN_FOR), *test = NULL;
    p->loops++; /* the target may not be "loop" either */
    struct template_node *target = template_parse_target(p, false);
    p->loops--;
    template_parser_want_word(p, "in");
    struct template_node *iter = template_parse_tuple(
        p, (struct template_tuple_options){.no_cond = true, .end_word = "recursive"});
    if (template_parser_take_word(p, "if")) {
        test = template_parse_expression(p);
    }
    if (template_parser_is_word(p, "recursive")) {
        return template_parser_fail(p, RC_INVALID, "recursive loops are not served");
    }
    n = template_parser_join(p, n, target, iter, test);
    if (n == NULL) {
        return NULL;
    }
    p->loops++;
    parse_body(p, n, ends);
    p->loops--;
    if (template_parser_take_word(p, "else")) {
        n->d = template_parser_node(p, TN_SCOPE);
        if (n->d != NULL) {
            parse_body(p, n->d, (const char *const[]){"endfor", NULL});
            node_raise(p, n, n->d);
        }
    }
    template_parser_want_word(p, "endfor");
    return n;
}

static struct template_node *parse_set(struct template_parser *p)
{
    struct template_node *n = template_parser_node(p, TN_SET);
    struct template_node *target = template_parse_target(p, true);
    if (template_parser_take(p, TT_ASSIGN)) {
        struct template_node *value = template_parse_tuple(p, (struct template_tuple_options){0});
        return template_parser_join(p, n, target, value, NULL);
    }
    struct template_node *filters =
        template_parse_filters(p, template_parser_node(p, TN_CAPTURED), false);
    n = template_parser_join(p, n, target, filters, NULL);
    if (n == NULL) {
        return NULL;
    }
    n->kind = TN_SET_BLOCK;
    parse_body(p, n, (const char *const[]){"endset", NULL});
    template_parser_want_word(p, "endset");
    return n;
}

static struct template_node *parse_filter_block(struct template_parser *p)
{
    struct template_node *n = template_parser_node(p, TN_FILTERED);
    struct template_node *filters =
        template_parse_filters(p, template_parser_node(p, TN_CAPTURED), true);
    n = template_parser_join(p, n, NULL, filters, NULL);
    if (n != NULL) {
        parse_body(p, n, (const char *const[]){"endfilter", NULL});
        template_parser_want_word(p, "endfilter");
    }
    return n;
}

/* "(a, b=1)" as a list of TN_PARAM in a TN_LIST. */
static struct template_node *parse_parameters(struct template_parser *p)
{
    struct template_node *list = template_parser_node(p, TN_LIST);
    bool defaults = false;
    template_parser_want(p, TT_LPAREN, "'('");
    while (p->rc == RC_OK && p->cur.type != TT_RPAREN) {
        if (list->n > 0) {
            template_parser_want(p, TT_COMMA, "','");
        }
        struct template_node *param = template_parser_node(p, TN_PARAM), *value = NULL;
        struct template_node *name = template_parser_node(p, TN_NAME);
        struct str text = template_parser_name(p);
        if (template_parser_take(p, TT_ASSIGN)) {
            value = template_parse_expression(p);
            defaults = true;
        } else if (defaults) {
            return template_parser_fail(p, RC_INVALID,
                                        "a parameter without default after one with");
        }
        if (p->rc == RC_OK) {
            name->text = text;
        }
        template_parser_append(p, list, template_parser_join(p, param, name, value, NULL));
    }
    template_parser_want(p, TT_RPAREN, "')'");
    return list;
}

static struct template_node *parse_macro(struct template_parser *p)
{
    struct template_node *n = template_parser_node(p, TN_MACRO);
    struct template_node *name = template_parser_node(p, TN_NAME);
    struct str text = template_parser_name(p);
    struct template_node *params = parse_parameters(p);
    n = template_parser_join(p, n, name, params, NULL);
    if (n == NULL) {
        return NULL;
    }
    name->text = text;
    n->text = text;
    uint32_t loops = p->loops;
    p->loops = 0;
    parse_body(p, n, (const char *const[]){"endmacro", NULL});
    p->loops = loops;
    template_parser_want_word(p, "endmacro");
    return n;
}

/* Marks the assistant's text for training; renders as its content, in a scope of its own. */
static struct template_node *parse_generation(struct template_parser *p)
{
    struct template_node *n = template_parser_node(p, TN_SCOPE);
    if (n == NULL) {
        return NULL;
    }
    uint32_t loops = p->loops;
    p->loops = 0;
    parse_body(p, n, (const char *const[]){"endgeneration", NULL});
    p->loops = loops;
    template_parser_want_word(p, "endgeneration");
    return n;
}

static struct template_node *parse_leap(struct template_parser *p, enum template_kind kind)
{
    if (p->loops == 0) {
        return template_parser_fail(p, RC_INVALID, "break or continue outside a loop");
    }
    return template_parser_node(p, kind);
}

static struct template_node *parse_break(struct template_parser *p)
{
    return parse_leap(p, TN_BREAK);
}

static struct template_node *parse_continue(struct template_parser *p)
{
    return parse_leap(p, TN_CONTINUE);
}

static const struct {
    const char *word;
    struct template_node *(*parse)(struct template_parser *p);
} statements[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"break", parse_break},
    {"continue", parse_continue},
    {"filter", parse_filter_block},
    {"generation", parse_generation},
};

static struct template_node *parse_statement(struct template_parser *p)
{
    for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
        if (template_parser_take_word(p, statements[i].word)) {
            return statements[i].parse(p);
        }
    }
    if (template_parser_is(p, TT_NAME)) {
        return template_parser_fail(p, RC_INVALID, "the tag '%.*s' is not served",
                                    STR(str_slice(p->cur.text, 0, 40)));
    }
    return template_parser_unexpected(p, "a tag's name");
}

RC template_parse(struct template_tree *tree, struct str source, struct err *err)
{
    struct template_parser p = {.arena = tree->arena, .err = err};
    template_lex_init(&p.lexer, source, err);
    p.cur.line = 1;
    tree->root = template_parser_node(&p, TN_SCOPE);
    template_parser_next(&p);
    if (p.rc == RC_OK) {
        parse_items(&p, tree->root, NULL);
    }
    return p.rc;
}
