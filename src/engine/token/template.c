/* template.c: the door of the chat templates: compiling a source, rendering a conversation.
 *
 * The way: source → template_lex (tokens) → template_parse, template_expr (tree) → template_scope
 * (names to variables) | per rendering: template_exec (statements) → template_eval (expressions)
 * → template_call (filters, tests, methods, functions) → template_text (output). */
#include "engine/token/template.h"

#include "base/assert.h"
#include "base/mem.h"
#include "engine/token/template_call.h"
#include "engine/token/template_eval.h"

enum { TEMPLATE_TREE_BYTES_MAX = 64 << 20 };

struct template
{
    struct arena arena; /* the source, the tree */
    struct template_tree tree;
};

/* ---- compiling ---- */

/* A copy whose newlines are all "\n" and without one at the end, as jinja2 reads a source. */
static RC source_normalise(struct arena *a, struct str source, struct str *out, struct err *err)
{
    char *text = arena_alloc(a, source.len);
    size_t n = 0;
    if (text == NULL) {
        return err_set(err, RC_NOMEM, "no memory for a chat template");
    }
    for (size_t i = 0; i < source.len; i++) {
        if (source.ptr[i] != '\r') {
            text[n++] = source.ptr[i];
        } else if (i + 1 >= source.len || source.ptr[i + 1] != '\n') {
            text[n++] = '\n';
        }
    }
    n -= n > 0 && text[n - 1] == '\n' ? 1 : 0;
    *out = str_make(text, n);
    return RC_OK;
}

RC template_compile(struct template **out, struct str source, struct err *err)
{
    struct str text;
    *out = NULL;
    if (source.len > TEMPLATE_SOURCE_BYTES_MAX) {
        return err_set(err, RC_TOO_LARGE, "a chat template of %zu bytes, at most %d are read",
                       source.len, TEMPLATE_SOURCE_BYTES_MAX);
    }
    if (!str_utf8_valid(source)) {
        return err_set(err, RC_INVALID, "the chat template is not UTF-8");
    }
    struct template *t = mem_try_zalloc(sizeof(*t));
    if (t == NULL) {
        return err_set(err, RC_NOMEM, "no memory for a chat template");
    }
    arena_init(&t->arena, TEMPLATE_TREE_BYTES_MAX);
    t->tree.arena = &t->arena;
    enum rc rc = source_normalise(&t->arena, source, &text, err);
    rc = rc == RC_OK ? template_parse(&t->tree, text, err) : rc;
    rc = rc == RC_OK ? template_scope_resolve(&t->tree, err) : rc;
    if (rc != RC_OK) {
        template_destroy(t);
        return rc;
    }
    *out = t;
    return RC_OK;
}

void template_destroy(struct template *t)
{
    if (t != NULL) {
        arena_deinit(&t->arena);
        mem_free(t);
    }
}

/* ---- rendering ---- */

static RC context_set(struct template_run *r, struct template_dict *d, struct str name,
                      struct template_value v)
{
    struct template_value key = tv_str(name);
    return template_dict_set(r, d, &key, &v);
}

static RC context_set_json(struct template_run *r, struct template_dict *d, struct str name,
                           const struct json *j)
{
    struct template_value v = tv_none();
    if (j != NULL) {
        TRY(template_from_json(r, j, &v));
    }
    return context_set(r, d, name, v);
}

static RC context_set_token(struct template_run *r, struct template_dict *d, struct str name,
                            struct str text)
{
    if (text.ptr == NULL) {
        return RC_OK;
    }
    if (!str_utf8_valid(text)) {
        return template_fail(r, RC_INVALID, "the text of %.*s is not UTF-8", STR(name));
    }
    return context_set(r, d, name, tv_str(text));
}

/* The variables that transformers passes: tools and documents are None when absent. */
static RC context_fill(struct template_run *r, struct template_dict *d)
{
    const struct template_input *in = r->in;
    TRY(context_set_token(r, d, STR_LIT("bos_token"), in->bos_token));
    TRY(context_set_token(r, d, STR_LIT("eos_token"), in->eos_token));
    TRY(context_set_json(r, d, STR_LIT("documents"), NULL));
    if (in->extra != NULL && in->extra->type != JSON_OBJECT) {
        return err_set_param(r->err, RC_INVALID, "chat_template_kwargs",
                             "chat_template_kwargs is not an object");
    }
    if (in->extra != NULL) {
        JSON_EACH(in->extra, it)
        {
            if (str_is(it->name, "messages") || str_is(it->name, "tools") ||
                str_is(it->name, "add_generation_prompt")) {
                return err_set_param(r->err, RC_INVALID, "chat_template_kwargs",
                                     "chat_template_kwargs may not hold %.*s", STR(it->name));
            }
            TRY(context_set_json(r, d, it->name, it));
        }
    }
    TRY(context_set_json(r, d, STR_LIT("messages"), in->messages));
    TRY(context_set_json(r, d, STR_LIT("tools"), in->tools));
    return context_set(r, d, STR_LIT("add_generation_prompt"), tv_bool(in->add_generation_prompt));
}

/* What each context name of the template means: a variable, else a function, else nothing. */
static RC context_resolve(struct template_run *r, const struct template_tree *tree,
                          const struct template_dict *d)
{
    struct template_value *values = arena_alloc_array(r->arena, tree->n_context, sizeof(*values));
    if (values == NULL) {
        return template_no_room(r);
    }
    for (const struct template_context_name *c = tree->context; c != NULL; c = c->next) {
        struct template_pair *pair;
        const struct template_row *row = template_function_find(c->name);
        TRY(template_dict_find_name(r, d, c->name, &pair));
        if (pair != NULL) {
            values[c->index] = pair->value;
        } else if (row != NULL) {
            struct template_bound *bound = arena_alloc(r->arena, sizeof(*bound));
            if (bound == NULL) {
                return template_no_room(r);
            }
            bound->row = row;
            values[c->index] = (struct template_value){.type = TV_BUILTIN, .bound = bound};
        }
    }
    r->context = values;
    return RC_OK;
}

RC template_render(const struct template *t, const struct template_input *in, struct arena *scratch,
                   struct buf *out, struct err *err)
{
    struct template_text text;
    struct template_dict *context;
    struct template_run r = {
        .in = in, .arena = scratch, .err = err, .out = &text, .steps_left = TEMPLATE_STEPS_MAX};
    ASSERT(in->messages != NULL);
    template_text_init_direct(&text, &r, out);
    TRY(template_dict_new(&r, 16, &context));
    TRY(context_fill(&r, context));
    TRY(context_resolve(&r, &t->tree, context));
    TRY(template_env_new(&r, t->tree.root->scope, NULL, &r.env));
    template_env_load(&r, r.env);
    TRY(template_exec(&r, t->tree.root->items));
    return text.rc;
}
