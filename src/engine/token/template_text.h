/* template_text.h: a text being built in the rendering's arena, and values turned into text.
 *
 * Failure is sticky, as with struct buf: writers write on, and template_text_done says at the end
 * whether all of it is there. */
#ifndef ENGINE_TOKEN_TEMPLATE_TEXT_H
#define ENGINE_TOKEN_TEMPLATE_TEXT_H

#include "engine/token/template_run.h"

struct template_text {
    /* private */
    struct template_run *run;
    struct buf *direct; /* not NULL: bytes go there instead of into the arena */
    char *ptr;
    size_t len, size;
    enum rc rc;
};

void template_text_init(struct template_text *t, struct template_run *r);
/* Appends to a buffer of the caller. */
void template_text_init_direct(struct template_text *t, struct template_run *r, struct buf *out);
void template_text_add(struct template_text *t, struct str s);
void template_text_add_byte(struct template_text *t, char c);
void template_text_add_char(struct template_text *t, uint32_t cp);
void template_text_fill(struct template_text *t, char c, size_t n);
void template_text_printf(struct template_text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* What was built; not for direct texts. Valid as long as the arena. */
RC template_text_done(struct template_text *t, struct str *out);

/* All parts in one text. */
RC template_text_concat(struct template_run *r, const struct str *parts, size_t n, struct str *out);

/* Python's str(). A text gives itself. */
RC template_to_str(struct template_run *r, const struct template_value *v, struct str *out);
/* Appends str(v) / repr(v). RC_INVALID where Python's text would hold an address. */
RC template_write_str(struct template_text *t, const struct template_value *v);
RC template_write_repr(struct template_text *t, const struct template_value *v);
/* repr of a float: the shortest text that reads back the same. */
void template_write_float(struct template_text *t, double d);

struct template_json_options {
    bool ensure_ascii;
    bool sort_keys;
    bool pretty;       /* newlines and `indent` before every item */
    struct str indent; /* of one level */
    struct str item_separator, key_separator;
};

/* Python's json.dumps. RC_INVALID for what JSON cannot say (Undefined, functions, …). */
RC template_write_json(struct template_text *t, const struct template_value *v,
                       const struct template_json_options *opt);
/* A JSON value as a template value; texts are borrowed from `j`. */
RC template_from_json(struct template_run *r, const struct json *j, struct template_value *out);

#endif
