/* field.c: see field.h. The path is kept as steps and turned into text only when something fails.
 */
#include "api/field.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"

enum { NOTHING_BYTES_MAX = 64 };

/* ---- the path and failures ---- */

void api_field_down(struct api_field_ctx *ctx, struct str name)
{
    ASSERT(ctx->depth < API_FIELD_DEPTH_MAX);
    ASSERT(name.ptr != NULL);
    ctx->path[ctx->depth++] = (struct api_field_step){.name = name};
}

void api_field_down_idx(struct api_field_ctx *ctx, uint32_t idx)
{
    ASSERT(ctx->depth < API_FIELD_DEPTH_MAX);
    ctx->path[ctx->depth++] = (struct api_field_step){.idx = idx};
}

void api_field_up(struct api_field_ctx *ctx)
{
    ASSERT(ctx->depth > 0);
    ctx->depth--;
}

/* `messages[2].content`, cut to fit. */
static void format_path(const struct api_field_ctx *ctx, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < ctx->depth && used < size; i++) {
        const struct api_field_step *step = &ctx->path[i];
        int n;
        if (step->name.ptr == NULL) {
            n = snprintf(out + used, size - used, "[%u]", step->idx);
        } else {
            struct str shown = str_slice(step->name, 0, size);
            n = snprintf(out + used, size - used, "%s%.*s", i > 0 ? "." : "", STR(shown));
        }
        used += n > 0 ? (size_t)n : 0;
    }
}

enum rc api_field_fail(struct api_field_ctx *ctx, enum rc code, const char *fmt, ...)
{
    char path[sizeof(ctx->err->param)], what[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    format_path(ctx, path, sizeof(path));
    return err_set_param(ctx->err, code, path, "'%s' %s", path, what);
}

enum rc api_field_fail_type(struct api_field_ctx *ctx, const struct json *v, const char *due)
{
    return api_field_fail(ctx, RC_INVALID, "must be %s, not %s", due, json_type_name(v->type));
}

enum rc api_field_fail_room(struct api_field_ctx *ctx)
{
    return err_set(ctx->err, RC_TOO_LARGE, "the request needs more than its %zu bytes of memory",
                   ctx->a->cap_bytes);
}

/* ---- values ---- */

static enum rc read_u32(struct api_field_ctx *ctx, const struct api_field *f, const struct json *v,
                        uint32_t *out)
{
    int64_t value = 0;
    if (v->type != JSON_NUMBER) {
        return api_field_fail_type(ctx, v, "a whole number");
    }
    if (!json_to_i64(v, &value) || (double)value < f->min || (double)value > f->max) {
        return api_field_fail(ctx, RC_INVALID, "must be a whole number from %.0f to %.0f", f->min,
                              f->max);
    }
    *out = (uint32_t)value;
    return RC_OK;
}

static enum rc read_f64(struct api_field_ctx *ctx, const struct api_field *f, const struct json *v,
                        double *out)
{
    double value = 0;
    if (v->type != JSON_NUMBER) {
        return api_field_fail_type(ctx, v, "a number");
    }
    if (!json_to_f64(v, &value) || value < f->min || value > f->max) {
        return api_field_fail(ctx, RC_INVALID, "must be a number from %g to %g", f->min, f->max);
    }
    *out = value;
    return RC_OK;
}

static enum rc read_str(struct api_field_ctx *ctx, const struct api_field *f, const struct json *v,
                        struct str *out)
{
    if (v->type != JSON_STRING) {
        return api_field_fail_type(ctx, v, "a string");
    }
    if (f->max > 0 && (double)v->text.len > f->max) {
        return api_field_fail(ctx, RC_INVALID, "is longer than %.0f bytes", f->max);
    }
    if (f->required && v->text.len == 0) {
        return api_field_fail(ctx, RC_INVALID, "must not be empty");
    }
    *out = v->text;
    return RC_OK;
}

/* Into `slot`, which has the type that goes with the row's kind. */
static enum rc read_plain(struct api_field_ctx *ctx, const struct api_field *f,
                          const struct json *v, void *slot)
{
    switch (f->kind) {
    case API_FIELD_BOOL:
        *(bool *)slot = v->boolean;
        return v->type == JSON_BOOL ? RC_OK : api_field_fail_type(ctx, v, "true or false");
    case API_FIELD_U32:
        return read_u32(ctx, f, v, slot);
    case API_FIELD_I64:
        return json_to_i64(v, slot) ? RC_OK
                                    : api_field_fail(ctx, RC_INVALID, "must be a whole number");
    case API_FIELD_F64:
        return read_f64(ctx, f, v, slot);
    case API_FIELD_STR:
        return read_str(ctx, f, v, slot);
    case API_FIELD_ARRAY:
        return v->type == JSON_ARRAY ? RC_OK : api_field_fail_type(ctx, v, "an array");
    case API_FIELD_OBJECT:
        *(const struct json **)slot = v;
        return v->type == JSON_OBJECT ? RC_OK : api_field_fail_type(ctx, v, "an object");
    case API_FIELD_ANY:
    case API_FIELD_OWN:
        break;
    }
    return RC_OK;
}

/* Whether the value is the one that asks for nothing. */
static bool asks_nothing(const struct api_field *f, const struct json *v)
{
    struct buf b;
    struct json_writer w;
    if (f->asks_nothing == NULL) {
        return false;
    }
    buf_init(&b, NOTHING_BYTES_MAX);
    json_write_init(&w, &b);
    json_write_value(&w, v);
    bool same = buf_ok(&b) && str_is(buf_str(&b), f->asks_nothing);
    buf_deinit(&b);
    return same;
}

static enum rc read_member(struct api_field_ctx *ctx, const struct api_field *f,
                           const struct json *v, void *out)
{
    union {
        bool boolean;
        uint32_t u32;
        int64_t i64;
        double f64;
        struct str str;
        const struct json *json;
    } unused;
    switch (f->class) {
    case API_FIELD_NOT_SERVED:
        return asks_nothing(f, v) ? RC_OK
                                  : api_field_fail(ctx, RC_UNSUPPORTED, "is not supported here");
    case API_FIELD_NO_EFFECT:
        return read_plain(ctx, f, v, &unused);
    case API_FIELD_SERVED:
        break;
    }
    if (f->has > 0) {
        *(bool *)((char *)out + f->has - 1) = true;
    }
    return f->kind == API_FIELD_OWN ? f->read(ctx, v, out)
                                    : read_plain(ctx, f, v, (char *)out + f->offset);
}

/* ---- objects ---- */

static const struct api_field *find_row(const struct api_field_table *table, struct str name)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const struct str row = table->rows[i].name; /* of one length, mostly another first byte */
        if (row.len == name.len && name.len > 0 && row.ptr[0] == name.ptr[0] && str_eq(row, name)) {
            return &table->rows[i];
        }
    }
    return NULL;
}

static enum rc read_named(struct api_field_ctx *ctx, const struct json *v,
                          const struct api_field_table *tables, size_t n_tables)
{
    api_field_down(ctx, v->name);
    for (size_t i = 0; i < n_tables; i++) {
        const struct api_field *f = find_row(&tables[i], v->name);
        if (f == NULL) {
            continue;
        }
        enum rc rc = v->type == JSON_NULL ? RC_OK : read_member(ctx, f, v, tables[i].out);
        if (rc == RC_OK) {
            api_field_up(ctx);
        }
        return rc;
    }
    return api_field_fail(ctx, RC_UNKNOWN_PARAM, "is not a known parameter");
}

static enum rc check_required(struct api_field_ctx *ctx, const struct json *object,
                              const struct api_field_table *table)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const struct api_field *f = &table->rows[i];
        if (f->required && json_get_present(object, f->name.ptr) == NULL) {
            api_field_down(ctx, f->name);
            return api_field_fail(ctx, RC_MISSING, "is required");
        }
    }
    return RC_OK;
}

enum rc api_field_read(struct api_field_ctx *ctx, const struct json *object,
                       const struct api_field_table *tables, size_t n_tables)
{
    if (object->type != JSON_OBJECT) {
        return api_field_fail_type(ctx, object, "an object");
    }
    JSON_EACH(object, it)
    {
        enum rc rc = read_named(ctx, it, tables, n_tables);
        if (rc != RC_OK) {
            return rc;
        }
    }
    for (size_t i = 0; i < n_tables; i++) {
        enum rc rc = check_required(ctx, object, &tables[i]);
        if (rc != RC_OK) {
            return rc;
        }
    }
    return RC_OK;
}

enum rc api_field_read_body(struct api_field_ctx *ctx, struct str body,
                            const struct api_field_table *tables, size_t n_tables)
{
    const struct json *root = NULL;
    enum rc rc = json_parse(body, ctx->a, &root, ctx->err);
    if (rc != RC_OK) {
        return rc;
    }
    if (root->type != JSON_OBJECT) {
        return err_set(ctx->err, RC_INVALID, "the body must be a JSON object, not %s",
                       json_type_name(root->type));
    }
    return api_field_read(ctx, root, tables, n_tables);
}
