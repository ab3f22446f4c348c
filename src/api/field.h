/* field.h: request bodies by table: one row for each member that a body may have.
 *
 * For the parsers of this folder. A row says what kind of value the member takes, its range, where
 * it goes, and its class: served; accepted without effect (its kind is still checked); or known
 * but not served (refused, except for null and a value that asks for nothing). Members without a
 * row are refused as unknown, so nothing is ignored in silence. null counts as absent. */
#ifndef API_FIELD_H
#define API_FIELD_H

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"

enum { API_FIELD_DEPTH_MAX = 12 };

enum api_field_kind {
    API_FIELD_ANY,
    API_FIELD_BOOL,   /* bool */
    API_FIELD_U32,    /* uint32_t, whole number from min to max */
    API_FIELD_I64,    /* int64_t, any */
    API_FIELD_F64,    /* double, from min to max */
    API_FIELD_STR,    /* struct str, at most max bytes (0 = any length) */
    API_FIELD_ARRAY,  /* not stored */
    API_FIELD_OBJECT, /* const struct json * */
    API_FIELD_OWN,    /* .read takes it */
};

enum api_field_class { API_FIELD_SERVED, API_FIELD_NO_EFFECT, API_FIELD_NOT_SERVED };

/* One step of the path to the value being read. */
struct api_field_step {
    struct str name; /* ptr NULL: an index */
    uint32_t idx;
};

/* What a parse carries along. */
struct api_field_ctx {
    struct arena *a;
    struct err *err;
    uint32_t depth;
    struct api_field_step path[API_FIELD_DEPTH_MAX];
};

typedef enum rc (*api_field_read_fn)(struct api_field_ctx *ctx, const struct json *v, void *out);

struct api_field {
    struct str name;
    enum api_field_kind kind;
    enum api_field_class class;
    bool required;
    double min, max;
    size_t offset;            /* of the value in the struct being filled; served rows */
    size_t has;               /* offset of a bool that becomes true, plus 1; 0 = none */
    api_field_read_fn read;   /* API_FIELD_OWN; gets the whole struct */
    const char *asks_nothing; /* not served: this value, as compact JSON, is accepted */
};

/* Rows and the struct that they fill. */
struct api_field_table {
    const struct api_field *rows;
    size_t n_rows;
    void *out;
};

/* Shorthands for rows; `T` is the struct being filled. */
#define API_FIELD_ROW(k, T, field_name, member, ...)                                               \
    {                                                                                              \
        .name = STR_LIT(field_name), .kind = API_FIELD_##k, .offset = offsetof(T, member),         \
        __VA_ARGS__                                                                                \
    }
#define API_FIELD_HAS(T, member) .has = offsetof(T, member) + 1
#define API_FIELD_OWN_ROW(field_name, fn, ...)                                                     \
    {                                                                                              \
        .name = STR_LIT(field_name), .kind = API_FIELD_OWN, .read = (fn), __VA_ARGS__              \
    }
#define API_FIELD_NO_EFFECT_ROW(k, field_name, ...)                                                \
    {                                                                                              \
        .name = STR_LIT(field_name), .kind = API_FIELD_##k, .class = API_FIELD_NO_EFFECT,          \
        __VA_ARGS__                                                                                \
    }
#define API_FIELD_NOT_SERVED_ROW(field_name, nothing)                                              \
    {                                                                                              \
        .name = STR_LIT(field_name), .class = API_FIELD_NOT_SERVED, .asks_nothing = (nothing)      \
    }

/* Parses `body`, which must be an object, and reads it by the tables. */
RC api_field_read_body(struct api_field_ctx *ctx, struct str body,
                       const struct api_field_table *tables, size_t n_tables);
/* Reads an object by the tables; RC_MISSING when a required member is absent. */
RC api_field_read(struct api_field_ctx *ctx, const struct json *object,
                  const struct api_field_table *tables, size_t n_tables);

/* Steps of the path. Every step is undone by api_field_up, except on failure. */
void api_field_down(struct api_field_ctx *ctx, struct str name);
void api_field_down_idx(struct api_field_ctx *ctx, uint32_t idx);
void api_field_up(struct api_field_ctx *ctx);

/* Fails at the present path, which becomes err.param and starts the message, in quotes. */
enum rc api_field_fail(struct api_field_ctx *ctx, enum rc code, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* The value has the wrong type: says which one is due. */
enum rc api_field_fail_type(struct api_field_ctx *ctx, const struct json *v, const char *due);
/* The arena is full. */
enum rc api_field_fail_room(struct api_field_ctx *ctx);

#endif
