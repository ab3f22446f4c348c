/* conf.h: settings and catalogue objects as tables: one row per key says its name, type, limits,
 * default and meaning. Reading, showing and the reference page all come from the rows.
 *
 *   static const struct conf_row pool_rows[] = {
 *       CONF_NUMBER(struct pool_conf, idle_max, "64", 1, 4096, "connections", "kept without work"),
 *       ...
 *       {0},
 *   };
 *
 * Strict: an unknown key is refused with the nearest known one, a value of the wrong type or out of
 * range with its path ("upstreams[2].connect_ms"). Amounts of money are decimals, held as integers
 * of a billionth. What is read lies in the arena and is immutable from then on. */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include "base/json.h"

#define CONF_NANO_PER_UNIT 1000000000

enum conf_type {
    CONF_T_BOOL,   /* bool */
    CONF_T_NUMBER, /* uint64_t in [min, max] */
    CONF_T_WORD,   /* uint32_t: the index in `words` */
    CONF_T_MONEY,  /* int64_t, billionths; not negative */
    CONF_T_TEXT,   /* struct str; "" when absent; at most `max` bytes */
    CONF_T_TEXTS,  /* struct conf_list of struct str; at most `max` of them */
    CONF_T_GROUP,  /* a struct of its own, with `rows` */
    CONF_T_GROUPS, /* struct conf_list of such structs; at most `max` of them */
};

/* A list in the arena. */
struct conf_list {
    void *at;
    uint32_t n;
};

struct conf_row {
    const char *key; /* NULL ends a table */
    enum conf_type type;
    bool required;
    bool reload;          /* may change while the process runs */
    size_t offset;        /* of the field */
    const char *fallback; /* the default, as written in a file; NULL = zero, empty */
    uint64_t min, max;
    const char *const *words; /* CONF_T_WORD: NULL-terminated */
    const struct conf_row *rows;
    size_t size; /* of one group */
    const char *unit, *help;
};

#define CONF_BOOL(s, f, def, help_)                                                                \
    {                                                                                              \
        .key = #f, .type = CONF_T_BOOL, .offset = offsetof(s, f), .fallback = def, .help = help_   \
    }
#define CONF_NUMBER(s, f, def, min_, max_, unit_, help_)                                           \
    {                                                                                              \
        .key = #f, .type = CONF_T_NUMBER, .offset = offsetof(s, f), .fallback = def, .min = min_,  \
        .max = max_, .unit = unit_, .help = help_                                                  \
    }
#define CONF_WORD(s, f, def, words_, help_)                                                        \
    {                                                                                              \
        .key = #f, .type = CONF_T_WORD, .offset = offsetof(s, f), .fallback = def,                 \
        .words = words_, .help = help_                                                             \
    }
#define CONF_MONEY(s, f, help_)                                                                    \
    {                                                                                              \
        .key = #f, .type = CONF_T_MONEY, .offset = offsetof(s, f), .help = help_                   \
    }
#define CONF_TEXT(s, f, def, max_, help_)                                                          \
    {                                                                                              \
        .key = #f, .type = CONF_T_TEXT, .offset = offsetof(s, f), .fallback = def, .max = max_,    \
        .help = help_                                                                              \
    }
#define CONF_TEXTS(s, f, max_, help_)                                                              \
    {                                                                                              \
        .key = #f, .type = CONF_T_TEXTS, .offset = offsetof(s, f), .max = max_, .help = help_      \
    }
#define CONF_GROUP(s, f, rows_, help_)                                                             \
    {                                                                                              \
        .key = #f, .type = CONF_T_GROUP, .offset = offsetof(s, f), .rows = rows_, .help = help_    \
    }
#define CONF_GROUPS(s, f, type_, rows_, max_, help_)                                               \
    {                                                                                              \
        .key = #f, .type = CONF_T_GROUPS, .offset = offsetof(s, f), .rows = rows_,                 \
        .size = sizeof(type_), .max = max_, .help = help_                                          \
    }

/* Fills the zeroed struct `out` from an object: every row gets its value or its default. Texts are
 * copied into the arena. err->param is the path of what is wrong. */
RC conf_read(const struct conf_row *rows, const struct json *object, struct arena *a, void *out,
             struct err *err);
/* One value of the top level, as text (an environment variable, a flag). */
RC conf_set(const struct conf_row *rows, const char *key, struct str value, struct arena *a,
            void *out, struct err *err);

/* Appends `key: value` lines that conf_read reads back, in the table's order; only those that
 * differ from `other` when that is not NULL. */
void conf_show(const struct conf_row *rows, const void *conf, const void *other, struct buf *out);
/* The first row whose value differs and may not change while the process runs; NULL = none. */
const struct conf_row *conf_fixed_change(const struct conf_row *rows, const void *a, const void *b);
/* Appends one table row of Markdown for each key, nested ones with their path. */
void conf_document(const struct conf_row *rows, const char *prefix, struct buf *out);

/* "12.5" → 12500000000; at most nine decimals, not negative, below 9.2e9. */
MUST_CHECK bool conf_money_read(struct str text, int64_t *nano);
/* Without needless zeros: "12.5", "0". */
void conf_money_write(struct buf *out, int64_t nano);

#endif
