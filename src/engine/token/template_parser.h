/* template_parser.h: what the two halves of the parser share: the token window, making nodes, and
 * one sticky failure. Functions that give a node give NULL after a failure. */
#ifndef ENGINE_TOKEN_TEMPLATE_PARSER_H
#define ENGINE_TOKEN_TEMPLATE_PARSER_H

#include "engine/token/template_lex.h"
#include "engine/token/template_node.h"

struct template_parser {
    struct template_lexer lexer;
    struct template_token cur, ahead;
    bool has_ahead;
    struct arena *arena;
    struct err *err;
    enum rc rc;
    uint32_t depth;
    uint32_t loops; /* for blocks around, within one macro or generation block */
};

/* Notes a failure at the current token's line, if it is the first; returns NULL. */
COLD struct template_node *template_parser_fail(struct template_parser *p, enum rc rc,
                                                const char *fmt, ...) PRINTF_LIKE(3, 4);
COLD struct template_node *template_parser_unexpected(struct template_parser *p,
                                                      const char *wanted);

void template_parser_next(struct template_parser *p);
/* The token after the current one. */
const struct template_token *template_parser_ahead(struct template_parser *p);
static inline bool template_parser_is(const struct template_parser *p, enum template_token_type t)
{
    return p->rc == RC_OK && p->cur.type == t;
}
bool template_parser_is_word(const struct template_parser *p, const char *word);
/* Takes the token if it is that one. */
bool template_parser_take(struct template_parser *p, enum template_token_type t);
bool template_parser_take_word(struct template_parser *p, const char *word);
/* Takes it or fails. */
void template_parser_want(struct template_parser *p, enum template_token_type t, const char *what);
void template_parser_want_word(struct template_parser *p, const char *word);
/* Takes a name; empty after a failure. */
struct str template_parser_name(struct template_parser *p);

/* Bounds recursion; false (and a failure) at the limit. Every enter that gave true is left. */
MUST_CHECK bool template_parser_enter(struct template_parser *p);
void template_parser_leave(struct template_parser *p);

/* A node at the current line. */
struct template_node *template_parser_node(struct template_parser *p, enum template_kind kind);
/* Sets n->a, n->b, n->c and the height that follows; any may be NULL. */
struct template_node *template_parser_join(struct template_parser *p, struct template_node *n,
                                           struct template_node *a, struct template_node *b,
                                           struct template_node *c);
/* Appends to n's items. */
void template_parser_append(struct template_parser *p, struct template_node *n,
                            struct template_node *item);

/* ---- expressions (template_expr.c) ---- */

/* With the inline if. */
struct template_node *template_parse_expression(struct template_parser *p);
/* Without it. */
struct template_node *template_parse_or(struct template_parser *p);

struct template_tuple_options {
    bool no_cond;         /* no inline if inside */
    bool in_parentheses;  /* "()" is the empty tuple */
    const char *end_word; /* a name that ends it, or NULL */
};
/* One expression, or several with commas as a tuple. */
struct template_node *template_parse_tuple(struct template_parser *p,
                                           struct template_tuple_options opt);
/* A name, ns.attribute, or a tuple of such. */
struct template_node *template_parse_target(struct template_parser *p, bool attributes);
/* Filters applied to `n`; first_inline: the first has no "|" before it. */
struct template_node *template_parse_filters(struct template_parser *p, struct template_node *n,
                                             bool first_inline);

#endif
