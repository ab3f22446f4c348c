/* yaml.c: see yaml.h. The only file that calls libfyaml. */
#include "base/yaml.h"

#include <libfyaml.h>

#include "base/assert.h"

struct yaml_reader {
    struct arena *arena;
    struct err *err;
};

/* ---- errors ---- */

static enum rc yaml_fail(struct yaml_reader *y, struct fy_node *node, const char *what)
{
    struct fy_token *token = fy_node_get_scalar_token(node);
    const struct fy_mark *mark = token != NULL ? fy_token_start_mark(token) : NULL;
    if (mark != NULL) {
        return err_set(y->err, RC_SYNTAX, "line %d, column %d: %s", mark->line + 1,
                       mark->column + 1, what);
    }
    return err_set(y->err, RC_SYNTAX, "%s", what);
}

static enum rc yaml_fail_room(struct yaml_reader *y)
{
    return err_set(y->err, RC_TOO_LARGE, "the file is too large");
}

/* The parser's first complaint. */
static enum rc yaml_fail_parse(struct fy_diag *diag, struct err *err)
{
    void *at = NULL;
    const struct fy_diag_error *e = fy_diag_errors_iterate(diag, &at);
    if (e == NULL) {
        return err_set(err, RC_SYNTAX, "this is not YAML");
    }
    return err_set(err, RC_SYNTAX, "line %d, column %d: %s", e->line, e->column, e->msg);
}

/* ---- nodes ---- */

static enum json_type yaml_plain_type(struct str text, struct arena *arena)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    static const char *const bools[] = {"true", "True", "TRUE", "false", "False", "FALSE"};
    for (size_t i = 0; i < ARRAY_LEN(nulls); i++) {
        if (str_is(text, nulls[i])) {
            return JSON_NULL;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(bools); i++) {
        if (str_is(text, bools[i])) {
            return JSON_BOOL;
        }
    }
    const struct json *number = NULL;
    bool digit = text.ptr[0] == '-' || (text.ptr[0] >= '0' && text.ptr[0] <= '9');
    if (digit && json_parse(text, arena, &number, NULL) == RC_OK && number->type == JSON_NUMBER) {
        return JSON_NUMBER;
    }
    return JSON_STRING;
}

static enum rc yaml_text(struct yaml_reader *y, struct fy_node *node, struct str *out)
{
    size_t n = 0;
    const char *text = fy_node_get_scalar(node, &n);
    struct str s = str_make(text != NULL ? text : "", text != NULL ? n : 0);
    if (!str_utf8_valid(s)) {
        return yaml_fail(y, node, "not UTF-8");
    }
    *out = arena_str(y->arena, s);
    return out->ptr != NULL ? RC_OK : yaml_fail_room(y);
}

static enum rc yaml_scalar(struct yaml_reader *y, struct fy_node *node, struct json *out)
{
    enum rc rc = yaml_text(y, node, &out->text);
    if (rc == RC_OK) {
        bool plain = fy_node_get_style(node) == FYNS_PLAIN || out->text.len == 0;
        bool quoted = fy_node_get_style(node) == FYNS_SINGLE_QUOTED ||
                      fy_node_get_style(node) == FYNS_DOUBLE_QUOTED;
        out->type = plain && !quoted ? yaml_plain_type(out->text, y->arena) : JSON_STRING;
        out->boolean = out->type == JSON_BOOL && (out->text.ptr[0] | 0x20) == 't';
    }
    return rc;
}

static enum rc yaml_node(struct yaml_reader *y, struct fy_node *node, struct json *out,
                         uint32_t depth);

/* A new last child of `parent`; NULL when there is no room. */
static struct json *yaml_child(struct yaml_reader *y, struct json *parent, struct json **last)
{
    struct json *child = arena_alloc(y->arena, sizeof(*child));
    if (child == NULL) {
        (void)!yaml_fail_room(y);
        return NULL;
    }
    *(*last == NULL ? &parent->first : &(*last)->next) = child;
    *last = child;
    parent->n++;
    return child;
}

static enum rc yaml_sequence(struct yaml_reader *y, struct fy_node *node, struct json *out,
                             uint32_t depth)
{
    void *at = NULL;
    struct json *last = NULL;
    struct fy_node *item;
    enum rc rc = RC_OK;
    out->type = JSON_ARRAY;
    while (rc == RC_OK && (item = fy_node_sequence_iterate(node, &at)) != NULL) {
        struct json *child = yaml_child(y, out, &last);
        rc = child != NULL ? yaml_node(y, item, child, depth + 1) : RC_TOO_LARGE;
    }
    return rc;
}

static enum rc yaml_member(struct yaml_reader *y, struct fy_node_pair *pair, struct json *parent,
                           struct json **last, uint32_t depth)
{
    struct fy_node *key = fy_node_pair_key(pair);
    struct fy_node *value = fy_node_pair_value(pair);
    struct str name;
    if (key == NULL || fy_node_get_type(key) != FYNT_SCALAR || fy_node_is_alias(key)) {
        return yaml_fail(y, key != NULL ? key : value, "a key must be a text");
    }
    enum rc rc = yaml_text(y, key, &name);
    for (const struct json *it = parent->first; rc == RC_OK && it != NULL; it = it->next) {
        if (str_eq(it->name, name)) {
            rc = yaml_fail(y, key, "this key stands here twice");
        }
    }
    struct json *child = rc == RC_OK ? yaml_child(y, parent, last) : NULL;
    if (child == NULL) {
        return rc != RC_OK ? rc : RC_TOO_LARGE;
    }
    child->name = name;
    return yaml_node(y, value, child, depth + 1);
}

static enum rc yaml_mapping(struct yaml_reader *y, struct fy_node *node, struct json *out,
                            uint32_t depth)
{
    void *at = NULL;
    struct json *last = NULL;
    struct fy_node_pair *pair;
    enum rc rc = RC_OK;
    out->type = JSON_OBJECT;
    while (rc == RC_OK && (pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        rc = yaml_member(y, pair, out, &last, depth);
    }
    return rc;
}

static enum rc yaml_node(struct yaml_reader *y, struct fy_node *node, struct json *out,
                         uint32_t depth)
{
    if (node == NULL) {
        out->type = JSON_NULL;
        return RC_OK;
    }
    if (depth > YAML_DEPTH_MAX) {
        return err_set(y->err, RC_TOO_LARGE, "nested deeper than %d levels", YAML_DEPTH_MAX);
    }
    if (fy_node_is_alias(node)) {
        return yaml_fail(y, node, "aliases are not allowed: write it out");
    }
    if (fy_node_get_tag(node, NULL) != NULL) {
        return yaml_fail(y, node, "tags are not allowed");
    }
    switch (fy_node_get_type(node)) {
    case FYNT_SEQUENCE:
        return yaml_sequence(y, node, out, depth);
    case FYNT_MAPPING:
        return yaml_mapping(y, node, out, depth);
    case FYNT_SCALAR:
        break;
    }
    return yaml_scalar(y, node, out);
}

/* ---- the document ---- */

static enum rc yaml_document(struct yaml_reader *y, struct fy_document *doc, struct json *root)
{
    struct fy_node *node = fy_document_root(doc);
    enum rc rc = yaml_node(y, node, root, 0);
    if (rc == RC_OK && root->type == JSON_NULL) {
        root->type = JSON_OBJECT;
    }
    return rc;
}

/* Blank lines and comments make no document at all, which is no mistake. */
static bool yaml_is_blank(struct str text)
{
    while (text.len > 0) {
        struct str line = str_trim(str_cut(&text, '\n'));
        if (line.len > 0 && line.ptr[0] != '#' && !str_is(line, "---")) {
            return false;
        }
    }
    return true;
}

/* libfyaml reads on for ever in a directive that is not text, and no file of ours needs one. At a
 * zero it stops as at the end: a file that a power cut has left full of them would say nothing. */
static enum rc yaml_check_text(struct str text, struct err *err)
{
    if (!str_utf8_valid(text)) {
        return err_set(err, RC_SYNTAX, "not valid UTF-8");
    }
    static const char mark[] = "\xEF\xBB\xBF";
    size_t start = str_starts(text, STR_LIT(mark)) ? sizeof(mark) - 1 : 0;
    for (size_t i = start; i < text.len; i++) {
        if (text.ptr[i] == '\0') {
            return err_set(err, RC_SYNTAX, "byte %zu is zero: not a text", i);
        }
        bool begins = i == start || text.ptr[i - 1] == '\n' || text.ptr[i - 1] == '\r';
        if (begins && text.ptr[i] == '%') {
            return err_set(err, RC_SYNTAX, "a line begins with '%%': directives are not taken");
        }
    }
    return RC_OK;
}

static enum rc yaml_load(struct yaml_reader *y, struct fy_parser *parser, struct fy_diag *diag,
                         struct json *root)
{
    struct fy_document *doc = fy_parse_load_document(parser);
    enum rc rc = doc != NULL ? yaml_document(y, doc, root) : yaml_fail_parse(diag, y->err);
    struct fy_document *second = rc == RC_OK ? fy_parse_load_document(parser) : NULL;
    if (second != NULL) {
        rc = err_set(y->err, RC_SYNTAX, "more than one document");
    } else if (rc == RC_OK && fy_parser_get_stream_error(parser)) {
        rc = yaml_fail_parse(diag, y->err);
    }
    fy_document_destroy(second);
    fy_document_destroy(doc);
    return rc;
}

enum rc yaml_parse(struct str text, struct arena *a, const struct json **out, struct err *err)
{
    if (text.len > YAML_BYTES_MAX) {
        return err_set(err, RC_TOO_LARGE, "over %d bytes", YAML_BYTES_MAX);
    }
    enum rc rc = yaml_check_text(text, err);
    if (rc != RC_OK) {
        return rc;
    }
    struct yaml_reader y = {.arena = a, .err = err};
    struct json *root = arena_alloc(a, sizeof(*root));
    if (root == NULL) {
        return yaml_fail_room(&y);
    }
    *out = root;
    if (yaml_is_blank(text)) {
        root->type = JSON_OBJECT;
        return RC_OK;
    }
    struct fy_diag_cfg diag_cfg;
    fy_diag_cfg_default(&diag_cfg);
    diag_cfg.fp = NULL;
    diag_cfg.level = FYET_ERROR;
    struct fy_diag *diag = fy_diag_create(&diag_cfg);
    ASSERT(diag != NULL); /* memory at start-up */
    fy_diag_set_collect_errors(diag, true);
    struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG |
                                        FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE |
                                        FYPCF_ALLOW_DUPLICATE_KEYS,
                               .diag = diag};
    struct fy_parser *parser = fy_parser_create(&cfg);
    if (parser == NULL || fy_parser_set_string(parser, text.ptr, text.len) != 0) {
        rc = err_set(err, RC_NOMEM, "out of memory");
    } else {
        rc = yaml_load(&y, parser, diag, root);
    }
    fy_parser_destroy(parser);
    fy_diag_destroy(diag);
    return rc;
}
