/* json.h: JSON (RFC 8259), strict, for hostile input and for the hot path.
 *
 * Reading: one pass turns the text into nodes in an arena (no number is rounded: its text is kept;
 * depth, size and UTF-8 are checked; a repeated name in one object and half of a surrogate pair
 * are errors; \u0000 is a NUL inside the string). Numbers and strings without escapes point into
 * the source text, which must outlive the nodes.
 * Writing: append-only into a buf; commas and escapes are the writer's. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum { JSON_DEPTH_MAX = 64 };

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_type type;
    bool boolean;       /* JSON_BOOL */
    uint32_t n;         /* items of an array, members of an object */
    struct str text;    /* JSON_STRING: unescaped; JSON_NUMBER: as written */
    struct str name;    /* the member's name when inside an object */
    struct json *next;  /* the next sibling, or NULL */
    struct json *first; /* the first child, or NULL */
};

/* RC_SYNTAX with line, column and byte offset in the message; RC_TOO_LARGE when the arena's cap
 * is reached. *out lives in the arena. White space around the value is allowed, nothing else. */
RC json_parse(struct str text, struct arena *a, const struct json **out, struct err *err);

/* Whether the text is one object, by the rules of json_parse, of which nothing is kept: for whoever
 * passes it on and needs one member of it. *value is that member's value as written, ptr NULL when
 * absent. Repeated names are seen only where `name` itself is; false too when a name of the
 * outermost object is written with escapes. Then json_parse tells what is wrong, if anything is. */
MUST_CHECK bool json_scan_member(struct str text, struct str name, struct str *value);

/* The member called `name`, or NULL when absent or not an object. */
const struct json *json_find(const struct json *object, struct str name);
static inline const struct json *json_get(const struct json *object, const char *name)
{
    return json_find(object, str_from(name));
}
/* A member that is null counts as absent. */
static inline const struct json *json_get_present(const struct json *object, const char *name)
{
    const struct json *member = json_get(object, name);
    return member != NULL && member->type != JSON_NULL ? member : NULL;
}
const char *json_type_name(enum json_type t);
/* Whether a number is a whole one that fits; 1.0 and 1e2 count as whole. */
MUST_CHECK bool json_to_i64(const struct json *n, int64_t *out);
MUST_CHECK bool json_to_f64(const struct json *n, double *out);

#define JSON_EACH(parent, it)                                                                      \
    for (const struct json *it = (parent)->first; it != NULL; it = it->next)

/* ---- writer ---- */

struct json_writer {
    struct buf *out; /* borrowed; its sticky failure is the writer's */
    /* private */
    uint8_t depth;
    bool need_comma;
    bool after_name;
};

void json_write_init(struct json_writer *w, struct buf *out);
void json_write_object_begin(struct json_writer *w);
void json_write_object_end(struct json_writer *w);
void json_write_array_begin(struct json_writer *w);
void json_write_array_end(struct json_writer *w);
void json_write_name(struct json_writer *w, const char *name);
void json_write_name_str(struct json_writer *w, struct str name);
/* Bytes that are not UTF-8 are written as U+FFFD. */
void json_write_str(struct json_writer *w, struct str s);
void json_write_cstr(struct json_writer *w, const char *s);
void json_write_i64(struct json_writer *w, int64_t v);
void json_write_u64(struct json_writer *w, uint64_t v);
/* Shortest text that reads back the same; NaN and infinities become null. */
void json_write_f64(struct json_writer *w, double v);
/* Nine significant digits, which read back the same float; NaN and infinities become null. */
void json_write_f32(struct json_writer *w, float v);
void json_write_bool(struct json_writer *w, bool v);
void json_write_null(struct json_writer *w);
/* A value already in JSON. */
void json_write_raw(struct json_writer *w, struct str json);
/* Writes a parsed value back, compactly. */
void json_write_value(struct json_writer *w, const struct json *v);

/* name + value in one call. */
void json_write_member_str(struct json_writer *w, const char *name, struct str s);
void json_write_member_cstr(struct json_writer *w, const char *name, const char *s);
void json_write_member_i64(struct json_writer *w, const char *name, int64_t v);
void json_write_member_u64(struct json_writer *w, const char *name, uint64_t v);
void json_write_member_f64(struct json_writer *w, const char *name, double v);
void json_write_member_bool(struct json_writer *w, const char *name, bool v);
void json_write_member_null(struct json_writer *w, const char *name);

#endif
