/* template_lex.c: the tokenizer.
 *
 * Followed: jinja2/lexer.py (3.1). In data it looks for the next tag and trims the text before it;
 * inside a tag it gives names, numbers, strings and operators until the tag's end, which counts as
 * such only outside brackets (a dict in an output ends with "}}}"). */
#include "engine/token/template_lex.h"

#include "engine/token/template_char.h"

void template_lex_init(struct template_lexer *l, struct str src, struct err *err)
{
    *l = (struct template_lexer){.src = src, .line = 1, .line_starting = true, .err = err};
}

static void lex_advance(struct template_lexer *l, size_t n)
{
    for (size_t end = l->pos + n; l->pos < end; l->pos++) {
        l->line += l->src.ptr[l->pos] == '\n';
    }
}

static struct str lex_rest(const struct template_lexer *l)
{
    return str_slice(l->src, l->pos, l->src.len);
}

static bool lex_sees(const struct template_lexer *l, size_t at, const char *what)
{
    return str_starts(str_slice(l->src, at, l->src.len), str_from(what));
}

static size_t lex_space(const struct template_lexer *l, size_t at)
{
    struct str rest = str_slice(l->src, at, l->src.len);
    return rest.len - template_char_strip(rest, true, false).len;
}

/* ---- data ---- */

/* The bytes of a tag's end "-%}", "+%}" or "%}" (for `close` = '%') at `at`, with the white space
 * it takes along; 0 when there is none. */
static size_t lex_tag_end(const struct template_lexer *l, size_t at, char close)
{
    char plain[3] = {close, '}', '\0'}, minus[4] = {'-', close, '}', '\0'};
    if (lex_sees(l, at, minus)) {
        return 3 + lex_space(l, at + 3);
    }
    bool plus = close != '}' && lex_sees(l, at, "+") && lex_sees(l, at + 1, plain);
    if (plus) {
        return 3;
    }
    if (!lex_sees(l, at, plain)) {
        return 0;
    }
    return close != '}' && lex_sees(l, at + 2, "\n") ? 3 : 2;
}

/* Text before a tag whose sign is `sign`: "-" takes all white space before it, "+" none, and a
 * block or comment alone on its line takes the line's indentation. */
static struct str lex_trim_before(const struct template_lexer *l, struct str text, char sign,
                                  bool output)
{
    if (sign == '-') {
        return template_char_strip(text, false, true);
    }
    if (sign == '+' || output) {
        return text;
    }
    size_t line = text.len;
    while (line > 0 && text.ptr[line - 1] != '\n') {
        line--;
    }
    bool alone = line > 0 || l->line_starting;
    struct str indent = str_slice(text, line, text.len);
    if (alone && template_char_strip(indent, true, false).len == 0) {
        return str_slice(text, 0, line);
    }
    return text;
}

static void lex_take_tag(struct template_lexer *l, size_t n)
{
    lex_advance(l, n);
    l->line_starting = n > 0 && l->src.ptr[l->pos - 1] == '\n';
}

static RC lex_comment(struct template_lexer *l)
{
    for (size_t at = l->pos; at < l->src.len; at++) {
        size_t end = lex_tag_end(l, at, '#');
        if (end > 0) {
            lex_take_tag(l, at + end - l->pos);
            return RC_OK;
        }
    }
    return err_set(l->err, RC_INVALID, "chat template, line %u: missing end of comment", l->line);
}

/* The bytes of a "{%- word %}" tag at `at`, or 0; *sign is its sign. A raw tag takes no newline
 * along, an endraw tag does. */
static size_t lex_word_tag(const struct template_lexer *l, size_t at, const char *word, char *sign)
{
    size_t from = at;
    if (!lex_sees(l, at, "{%")) {
        return 0;
    }
    at += 2;
    *sign = at < l->src.len ? l->src.ptr[at] : '\0';
    at += *sign == '-' || *sign == '+' ? 1 : 0;
    at += lex_space(l, at);
    if (!lex_sees(l, at, word)) {
        return 0;
    }
    at += strlen(word);
    at += lex_space(l, at);
    size_t end = lex_tag_end(l, at, '%');
    if (end == 3 && word[0] == 'r' && lex_sees(l, at, "%}\n")) {
        end = 2;
    }
    return end > 0 ? at + end - from : 0;
}

static RC lex_raw(struct template_lexer *l, struct template_token *out)
{
    char sign;
    for (size_t at = l->pos; at < l->src.len; at++) {
        size_t n = lex_word_tag(l, at, "endraw", &sign);
        if (n > 0) {
            out->text = lex_trim_before(l, str_slice(l->src, l->pos, at), sign, false);
            lex_take_tag(l, at + n - l->pos);
            return RC_OK;
        }
    }
    return err_set(l->err, RC_INVALID, "chat template, line %u: missing end of raw block", l->line);
}

/* The next tag's first byte, or the end. */
static size_t lex_find_tag(const struct template_lexer *l)
{
    size_t at = l->pos;
    while (at + 1 < l->src.len) {
        const char *hit = memchr(l->src.ptr + at, '{', l->src.len - at - 1);
        if (hit == NULL) {
            break;
        }
        at = (size_t)(hit - l->src.ptr);
        if (hit[1] == '%' || hit[1] == '{' || hit[1] == '#') {
            return at;
        }
        at++;
    }
    return l->src.len;
}

/* Data up to the next tag, or that tag's beginning. A comment gives an empty TT_DATA. */
static RC lex_data(struct template_lexer *l, struct template_token *out)
{
    char sign = '\0';
    size_t at = lex_find_tag(l);
    struct str text = str_slice(l->src, l->pos, at);
    *out = (struct template_token){TT_DATA, l->line, text};
    if (at == l->src.len) {
        out->type = text.len > 0 ? TT_DATA : TT_EOF;
        lex_advance(l, text.len);
        return RC_OK;
    }
    char kind = l->src.ptr[at + 1];
    size_t raw = lex_word_tag(l, at, "raw", &sign);
    sign = at + 2 < l->src.len ? l->src.ptr[at + 2] : '\0';
    out->text = lex_trim_before(l, text, sign, kind == '{');
    if (text.len > 0) {
        lex_advance(l, text.len); /* the tag itself comes with the next call */
        return RC_OK;
    }
    if (raw > 0) {
        lex_take_tag(l, raw);
        return lex_raw(l, out);
    }
    lex_take_tag(l, sign == '-' || sign == '+' ? 3 : 2);
    if (kind == '#') {
        return lex_comment(l);
    }
    out->type = kind == '{' ? TT_OUTPUT_BEGIN : TT_BLOCK_BEGIN;
    l->mode = kind == '{' ? LEX_OUTPUT : LEX_BLOCK;
    return RC_OK;
}

/* ---- inside tags ---- */

static bool lex_is_digit(char c, int base)
{
    int v = c >= '0' && c <= '9'   ? c - '0'
            : c >= 'a' && c <= 'f' ? c - 'a' + 10
            : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                   : 99;
    return v < base;
}

/* Digits with single underscores between them. */
static size_t lex_digits(struct str s, size_t at, int base)
{
    size_t n = at;
    while (n < s.len && lex_is_digit(s.ptr[n], base)) {
        n++;
        if (n + 1 < s.len && s.ptr[n] == '_' && lex_is_digit(s.ptr[n + 1], base)) {
            n++;
        }
    }
    return n - at;
}

static void lex_number(struct template_lexer *l, struct template_token *out)
{
    struct str s = lex_rest(l);
    char mark = s.len > 1 && s.ptr[0] == '0' ? (char)(s.ptr[1] | 0x20) : '\0';
    int base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
    out->type = TT_INT;
    if (base != 10 && lex_digits(s, 2, base) > 0) {
        out->text = str_slice(s, 0, 2 + lex_digits(s, 2, base));
        lex_advance(l, out->text.len);
        return;
    }
    size_t n = lex_digits(s, 0, 10);
    bool after_dot = l->pos > 0 && l->src.ptr[l->pos - 1] == '.';
    size_t fraction = !after_dot && n < s.len && s.ptr[n] == '.' ? lex_digits(s, n + 1, 10) : 0;
    size_t end = n + (fraction > 0 ? fraction + 1 : 0);
    if (!after_dot && end < s.len && (s.ptr[end] | 0x20) == 'e') {
        size_t sign = end + 1 < s.len && (s.ptr[end + 1] == '+' || s.ptr[end + 1] == '-') ? 1 : 0;
        size_t exponent = lex_digits(s, end + 1 + sign, 10);
        end += exponent > 0 ? 1 + sign + exponent : 0;
    }
    out->type = end > n ? TT_FLOAT : TT_INT;
    out->text = str_slice(s, 0, end);
    lex_advance(l, end);
}

static RC lex_string(struct template_lexer *l, struct template_token *out)
{
    struct str s = lex_rest(l);
    size_t n = 1;
    while (n < s.len && s.ptr[n] != s.ptr[0]) {
        n += s.ptr[n] == '\\' ? 2 : 1;
    }
    if (n >= s.len) {
        return err_set(l->err, RC_INVALID, "chat template, line %u: a string does not end",
                       l->line);
    }
    out->type = TT_STRING;
    out->text = str_slice(s, 1, n);
    lex_advance(l, n + 1);
    return RC_OK;
}

static size_t lex_name_length(struct str s)
{
    size_t n = 0;
    uint32_t cp;
    while (n < s.len) {
        size_t k = str_utf8_decode(str_slice(s, n, s.len), &cp);
        if (k == 0 || !template_char_is_name(cp)) {
            break;
        }
        n += k;
    }
    return n;
}

/* Longer ones first. */
static const struct {
    const char *text;
    enum template_token_type type;
} lex_operators[] = {
    {"//", TT_FLOORDIV}, {"**", TT_POW},     {"==", TT_EQ},      {"!=", TT_NE},    {"<=", TT_LE},
    {">=", TT_GE},       {"+", TT_ADD},      {"-", TT_SUB},      {"*", TT_MUL},    {"/", TT_DIV},
    {"%", TT_MOD},       {"~", TT_TILDE},    {"|", TT_PIPE},     {",", TT_COMMA},  {":", TT_COLON},
    {".", TT_DOT},       {"=", TT_ASSIGN},   {"<", TT_LT},       {">", TT_GT},     {"(", TT_LPAREN},
    {")", TT_RPAREN},    {"[", TT_LBRACKET}, {"]", TT_RBRACKET}, {"{", TT_LBRACE}, {"}", TT_RBRACE},
};

/* Brackets must close in the order they were opened. */
static RC lex_balance(struct template_lexer *l, char c)
{
    char closer = c == '(' ? ')' : c == '[' ? ']' : c == '{' ? '}' : '\0';
    if (closer != '\0') {
        if (l->n_closers >= TEMPLATE_NEST_MAX) {
            return err_set(l->err, RC_TOO_LARGE,
                           "chat template, line %u: more than %d brackets open", l->line,
                           TEMPLATE_NEST_MAX);
        }
        l->closers[l->n_closers++] = closer;
    } else if (c == ')' || c == ']' || c == '}') {
        if (l->n_closers == 0 || l->closers[l->n_closers - 1] != c) {
            return err_set(l->err, RC_INVALID, "chat template, line %u: unexpected '%c'", l->line,
                           c);
        }
        l->n_closers--;
    }
    return RC_OK;
}

static RC lex_operator(struct template_lexer *l, struct template_token *out)
{
    for (size_t i = 0; i < ARRAY_LEN(lex_operators); i++) {
        if (lex_sees(l, l->pos, lex_operators[i].text)) {
            size_t n = strlen(lex_operators[i].text);
            enum rc rc = lex_balance(l, l->src.ptr[l->pos]);
            if (rc != RC_OK) {
                return rc;
            }
            out->type = lex_operators[i].type;
            out->text = str_slice(lex_rest(l), 0, n);
            lex_advance(l, n);
            return RC_OK;
        }
    }
    return err_set(l->err, RC_INVALID, "chat template, line %u: unexpected character '%.*s'",
                   l->line, STR(str_slice(lex_rest(l), 0, 1)));
}

static RC lex_tag(struct template_lexer *l, struct template_token *out)
{
    lex_advance(l, lex_space(l, l->pos));
    *out = (struct template_token){TT_EOF, l->line, lex_rest(l)};
    if (out->text.len == 0) {
        return RC_OK;
    }
    size_t end = lex_tag_end(l, l->pos, l->mode == LEX_OUTPUT ? '}' : '%');
    if (end > 0 && l->n_closers == 0) {
        out->type = l->mode == LEX_OUTPUT ? TT_OUTPUT_END : TT_BLOCK_END;
        lex_take_tag(l, end);
        l->mode = LEX_DATA;
        return RC_OK;
    }
    char c = out->text.ptr[0];
    size_t name = lex_name_length(out->text);
    if (c >= '0' && c <= '9') {
        lex_number(l, out);
        return RC_OK;
    }
    if (name > 0) {
        out->type = TT_NAME;
        out->text = str_slice(out->text, 0, name);
        lex_advance(l, name);
        return RC_OK;
    }
    return c == '"' || c == '\'' ? lex_string(l, out) : lex_operator(l, out);
}

RC template_lex_next(struct template_lexer *l, struct template_token *out)
{
    enum rc rc;
    if (l->mode != LEX_DATA) {
        return lex_tag(l, out);
    }
    do {
        rc = lex_data(l, out);
    } while (rc == RC_OK && out->type == TT_DATA && out->text.len == 0);
    return rc;
}
