/* template.h: chat templates, the subset of Jinja2 that models carry, rendered byte for byte as
 * Hugging Face transformers renders it (jinja2 3.1, sandboxed, trim_blocks, lstrip_blocks,
 * loop controls, {% generation %}).
 *
 * A compiled template is immutable and shared between threads. Sources and conversations are
 * hostile: size, nesting, variables, evaluation steps, call depth, memory and output are bounded,
 * and each bound is an error that names it.
 *
 * Beyond transformers, because models in the wild use it: list.append, list.pop, dict.pop and the
 * filter from_json. Not in the subset, refused when compiled or reached: include, import, extends,
 * block, call, with, do, autoescape, recursive loops, *args and **kwargs; whole numbers over 64
 * bits can be printed and compared, not computed with. */
#ifndef ENGINE_TOKEN_TEMPLATE_H
#define ENGINE_TOKEN_TEMPLATE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

enum {
    TEMPLATE_SOURCE_BYTES_MAX = 256 << 10, /* the largest known one has 17 KB */
    TEMPLATE_NEST_MAX = 200,               /* levels of brackets, operators and tags */
    TEMPLATE_VARIABLES_MAX = 2048,         /* names, summed over all scopes */
    TEMPLATE_STEPS_MAX = 1 << 26,          /* nodes evaluated, and 16 bytes each of text handled */
    TEMPLATE_DEPTH_MAX = 1000,             /* nested evaluations; they fit a stack of 1 MiB */
    TEMPLATE_RANGE_MAX = 100000,           /* numbers that range() makes, as in jinja2's sandbox */
};

/* What a scratch arena for one rendering should be allowed to hold. */
#define TEMPLATE_SCRATCH_BYTES ((size_t)64 << 20)

struct template; /* opaque */

/* Copies what it needs of `source`. RC_INVALID (not UTF-8, not in the subset: the message names
 * the line), RC_TOO_LARGE (over a limit), RC_NOMEM. */
RC template_compile(struct template **out, struct str source, struct err *err);
/* NULL is allowed. */
void template_destroy(struct template *t);

struct template_input {
    const struct json *messages; /* an array */
    const struct json *tools;    /* NULL is None, as in transformers */
    const struct json *extra;    /* object: more variables (chat_template_kwargs); may be NULL */
    struct str bos_token, eos_token; /* a NULL ptr leaves the name undefined */
    bool add_generation_prompt;
    int64_t now_s; /* since 1970-01-01 UTC, for strftime_now */
};

/* Appends the prompt to *out. The arena's contents belong to the rendering: reset it afterwards.
 * RC_INVALID: the template raised (the message is the template's own) or misused a value (the
 * message names the line). RC_TOO_LARGE: steps, depth, the arena's or the buffer's cap; then *out
 * may hold a part. */
RC template_render(const struct template *t, const struct template_input *in, struct arena *scratch,
                   struct buf *out, struct err *err);

#endif
