/* template_lex.h: template source to tokens, with jinja2's rules of white space (trim_blocks,
 * lstrip_blocks, "-" and "+" at tags), comments and raw blocks. */
#ifndef ENGINE_TOKEN_TEMPLATE_LEX_H
#define ENGINE_TOKEN_TEMPLATE_LEX_H

#include "base/err.h"
#include "base/str.h"
#include "engine/token/template.h"

enum template_token_type {
    TT_EOF,
    TT_DATA,
    TT_OUTPUT_BEGIN,
    TT_OUTPUT_END,
    TT_BLOCK_BEGIN,
    TT_BLOCK_END,
    TT_NAME,
    TT_STRING, /* text between the quotes, escapes as written */
    TT_INT,
    TT_FLOAT,
    TT_ADD,
    TT_SUB,
    TT_MUL,
    TT_DIV,
    TT_FLOORDIV,
    TT_MOD,
    TT_POW,
    TT_TILDE,
    TT_PIPE,
    TT_COMMA,
    TT_COLON,
    TT_DOT,
    TT_ASSIGN,
    TT_EQ,
    TT_NE,
    TT_LT,
    TT_LE,
    TT_GT,
    TT_GE,
    TT_LPAREN,
    TT_RPAREN,
    TT_LBRACKET,
    TT_RBRACKET,
    TT_LBRACE,
    TT_RBRACE,
};

struct template_token {
    enum template_token_type type;
    uint32_t line;
    struct str text; /* points into the source */
};

enum template_lex_mode { LEX_DATA, LEX_OUTPUT, LEX_BLOCK };

struct template_lexer {
    /* private */
    struct str src;
    size_t pos;
    uint32_t line;
    enum template_lex_mode mode;
    bool line_starting; /* the last tag ended with a newline, or nothing came before */
    char closers[TEMPLATE_NEST_MAX];
    uint32_t n_closers;
    struct err *err;
};

/* `src` has "\n" as its only newline; it outlives the lexer and its tokens. */
void template_lex_init(struct template_lexer *l, struct str src, struct err *err);
/* RC_INVALID with the line; TT_EOF forever at the end. */
RC template_lex_next(struct template_lexer *l, struct template_token *out);

#endif
