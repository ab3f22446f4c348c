/* conf.c: see conf.h. */
#include "base/conf.h"

#include "base/assert.h"
#include "base/nearest.h"

enum { CONF_KEYS_MAX = 64, CONF_PATH_BYTES = 120 };

struct conf_reader {
    struct arena *arena;
    struct err *err;
    char path[CONF_PATH_BYTES]; /* of the value being read */
};

static void *conf_field(const struct conf_row *row, void *out)
{
    return (char *)out + row->offset;
}

static const void *conf_value(const struct conf_row *row, const void *conf)
{
    return (const char *)conf + row->offset;
}

/* ---- money ---- */

bool conf_money_read(struct str text, int64_t *nano)
{
    struct str rest = text;
    struct str whole = str_cut(&rest, '.');
    bool point = rest.ptr != NULL;
    uint64_t units = 0;
    uint64_t parts = 0;
    if (whole.len > 10 || !str_to_u64(whole, &units) || units > 9000000000u || rest.len > 9 ||
        (point && !str_to_u64(rest, &parts))) {
        return false;
    }
    for (size_t i = rest.len; point && i < 9; i++) {
        parts *= 10;
    }
    *nano = (int64_t)(units * CONF_NANO_PER_UNIT + parts);
    return true;
}

void conf_money_write(struct buf *out, int64_t nano)
{
    ASSERT(nano >= 0);
    char digits[10];
    uint64_t parts = (uint64_t)nano % CONF_NANO_PER_UNIT;
    size_t n = 9;
    for (size_t i = 9; i > 0; i--) {
        digits[i - 1] = (char)('0' + parts % 10);
        parts /= 10;
    }
    while (n > 0 && digits[n - 1] == '0') {
        n--;
    }
    buf_add_u64(out, (uint64_t)nano / CONF_NANO_PER_UNIT);
    if (n > 0) {
        buf_add_byte(out, '.');
        buf_add(out, digits, n);
    }
}

/* ---- errors ---- */

/* `what` is a sentence without its subject: "must be a number". */
static enum rc conf_fail(struct conf_reader *c, enum rc rc, const char *what, const char *detail)
{
    return err_set_param(c->err, rc, c->path, "%s: %s%s", c->path, what, detail);
}

static enum rc conf_fail_room(struct conf_reader *c)
{
    return conf_fail(c, RC_TOO_LARGE, "no room for it", "");
}

/* Adds a step to the path; returns its length before. */
static size_t conf_down(struct conf_reader *c, struct str key)
{
    size_t n = strlen(c->path);
    size_t dot = n > 0 ? 1 : 0;
    if (n + dot < sizeof(c->path) - 1) {
        str_copy(c->path + n, sizeof(c->path) - n, dot != 0 ? STR_LIT(".") : STR_LIT(""));
        str_copy(c->path + n + dot, sizeof(c->path) - n - dot, key);
    }
    return n;
}

static size_t conf_down_idx(struct conf_reader *c, uint32_t idx)
{
    char text[STR_U64_BYTES + 3] = "[";
    size_t n = strlen(c->path);
    size_t digits = str_put_u64(text + 1, idx);
    text[1 + digits] = ']';
    str_copy(c->path + n, sizeof(c->path) - n, str_make(text, digits + 2));
    return n;
}

static void conf_up(struct conf_reader *c, size_t n)
{
    c->path[n] = '\0';
}

/* ---- values ---- */

static enum rc conf_read_number(struct conf_reader *c, const struct conf_row *row,
                                const struct json *v, uint64_t *out)
{
    int64_t n = -1;
    char range[80];
    if (v->type != JSON_NUMBER || !json_to_i64(v, &n) || n < 0) {
        return conf_fail(c, RC_INVALID, "must be a whole number, not negative", "");
    }
    if ((uint64_t)n < row->min || (uint64_t)n > row->max) {
        struct buf b;
        buf_init(&b, sizeof(range));
        buf_add_u64(&b, row->min);
        buf_add_cstr(&b, " to ");
        buf_add_u64(&b, row->max);
        str_copy(range, sizeof(range), buf_str(&b));
        buf_deinit(&b);
        return conf_fail(c, RC_INVALID, "must be from ", range);
    }
    *out = (uint64_t)n;
    return RC_OK;
}

static enum rc conf_read_word(struct conf_reader *c, const struct conf_row *row,
                              const struct json *v, uint32_t *out)
{
    uint32_t n = 0;
    for (; row->words[n] != NULL; n++) {
        if (v->type == JSON_STRING && str_is(v->text, row->words[n])) {
            *out = n;
            return RC_OK;
        }
    }
    struct buf b;
    buf_init(&b, 512);
    for (uint32_t i = 0; i < n; i++) {
        buf_add_cstr(&b, i == 0 ? "" : i + 1 == n ? " or " : ", ");
        buf_add_cstr(&b, row->words[i]);
    }
    enum rc rc = conf_fail(c, RC_INVALID, "must be ", b.ptr != NULL ? b.ptr : "");
    buf_deinit(&b);
    return rc;
}

static enum rc conf_read_text(struct conf_reader *c, const struct conf_row *row,
                              const struct json *v, struct str *out)
{
    if (v->type != JSON_STRING) {
        return conf_fail(c, RC_INVALID, "must be a text",
                         v->type == JSON_NUMBER || v->type == JSON_BOOL ? ": put it in quotes"
                                                                        : "");
    }
    if (row->type == CONF_T_TEXT && v->text.len > row->max) {
        return conf_fail(c, RC_INVALID, "is too long", "");
    }
    *out = arena_str(c->arena, v->text);
    return out->ptr != NULL ? RC_OK : conf_fail_room(c);
}

static enum rc conf_read_object(struct conf_reader *c, const struct conf_row *rows,
                                const struct json *object, void *out, uint32_t depth);

static enum rc conf_read_list(struct conf_reader *c, const struct conf_row *row,
                              const struct json *v, struct conf_list *out, uint32_t depth)
{
    bool texts = row->type == CONF_T_TEXTS;
    size_t size = texts ? sizeof(struct str) : row->size;
    uint32_t idx = 0;
    enum rc rc = RC_OK;
    if (v->type != JSON_ARRAY) {
        return conf_fail(c, RC_INVALID, "must be a list", "");
    }
    if (v->n > row->max) {
        return conf_fail(c, RC_TOO_LARGE, "has too many entries", "");
    }
    out->at = v->n > 0 ? arena_alloc_array(c->arena, v->n, size) : NULL;
    if (v->n > 0 && out->at == NULL) {
        return conf_fail_room(c);
    }
    JSON_EACH(v, it)
    {
        char *at = (char *)out->at + idx * size;
        size_t up = conf_down_idx(c, idx++);
        rc = texts ? conf_read_text(c, row, it, (struct str *)(void *)at)
                   : conf_read_object(c, row->rows, it, at, depth + 1);
        if (rc != RC_OK) {
            return rc;
        }
        conf_up(c, up);
    }
    out->n = idx;
    return RC_OK;
}

static enum rc conf_read_value(struct conf_reader *c, const struct conf_row *row,
                               const struct json *v, void *out, uint32_t depth)
{
    void *field = conf_field(row, out);
    switch (row->type) {
    case CONF_T_BOOL:
        if (v->type != JSON_BOOL) {
            return conf_fail(c, RC_INVALID, "must be true or false", "");
        }
        *(bool *)field = v->boolean;
        return RC_OK;
    case CONF_T_NUMBER:
        return conf_read_number(c, row, v, field);
    case CONF_T_WORD:
        return conf_read_word(c, row, v, field);
    case CONF_T_MONEY:
        if ((v->type != JSON_NUMBER && v->type != JSON_STRING) ||
            !conf_money_read(v->text, field)) {
            return conf_fail(c, RC_INVALID, "must be an amount such as 12.50", "");
        }
        return RC_OK;
    case CONF_T_TEXT:
        return conf_read_text(c, row, v, field);
    case CONF_T_GROUP:
        return conf_read_object(c, row->rows, v, field, depth + 1);
    case CONF_T_TEXTS:
    case CONF_T_GROUPS:
        break;
    }
    return conf_read_list(c, row, v, field, depth);
}

/* ---- objects ---- */

static enum rc conf_unknown(struct conf_reader *c, const struct conf_row *rows, struct str name)
{
    const char *names[CONF_KEYS_MAX];
    uint32_t n = 0;
    for (const struct conf_row *row = rows; row->key != NULL; row++) {
        ASSERT(n < CONF_KEYS_MAX);
        names[n++] = row->key;
    }
    const char *near = nearest_name(name, names, n);
    conf_down(c, name);
    return near != NULL ? conf_fail(c, RC_UNKNOWN_PARAM, "unknown key; did you mean ", near)
                        : conf_fail(c, RC_UNKNOWN_PARAM, "unknown key", "");
}

static enum rc conf_default(struct conf_reader *c, const struct conf_row *row, void *out,
                            uint32_t depth)
{
    static const struct json none = {.type = JSON_OBJECT};
    if (row->type == CONF_T_GROUP) {
        return conf_read_object(c, row->rows, &none, conf_field(row, out), depth + 1);
    }
    if (row->fallback == NULL) {
        return RC_OK;
    }
    bool text = row->type == CONF_T_TEXT || row->type == CONF_T_WORD;
    struct json v = {.type = text                       ? JSON_STRING
                             : row->type == CONF_T_BOOL ? JSON_BOOL
                                                        : JSON_NUMBER,
                     .boolean = strcmp(row->fallback, "true") == 0,
                     .text = str_from(row->fallback)};
    return conf_read_value(c, row, &v, out, depth);
}

static enum rc conf_read_row(struct conf_reader *c, const struct conf_row *row,
                             const struct json *object, void *out, uint32_t depth)
{
    const struct json *v = json_get_present(object, row->key);
    size_t up = conf_down(c, str_from(row->key));
    if (v == NULL && row->required) {
        return conf_fail(c, RC_MISSING, "is required", "");
    }
    enum rc rc =
        v != NULL ? conf_read_value(c, row, v, out, depth) : conf_default(c, row, out, depth);
    if (rc == RC_OK) {
        conf_up(c, up);
    }
    return rc;
}

static enum rc conf_read_object(struct conf_reader *c, const struct conf_row *rows,
                                const struct json *object, void *out, uint32_t depth)
{
    ASSERT(depth < JSON_DEPTH_MAX); /* the tables' own depth, not the input's */
    if (object->type != JSON_OBJECT) {
        return conf_fail(c, RC_INVALID, "must be a group of keys", "");
    }
    JSON_EACH(object, it)
    {
        const struct conf_row *row = rows;
        while (row->key != NULL && !str_is(it->name, row->key)) {
            row++;
        }
        if (row->key == NULL) {
            return conf_unknown(c, rows, it->name);
        }
    }
    for (const struct conf_row *row = rows; row->key != NULL; row++) {
        enum rc rc = conf_read_row(c, row, object, out, depth);
        if (rc != RC_OK) {
            return rc;
        }
    }
    return RC_OK;
}

enum rc conf_read(const struct conf_row *rows, const struct json *object, struct arena *a,
                  void *out, struct err *err)
{
    struct conf_reader c = {.arena = a, .err = err};
    return conf_read_object(&c, rows, object, out, 0);
}

enum rc conf_set(const struct conf_row *rows, const char *key, struct str value, struct arena *a,
                 void *out, struct err *err)
{
    struct conf_reader c = {.arena = a, .err = err};
    for (const struct conf_row *row = rows; row->key != NULL; row++) {
        if (strcmp(row->key, key) != 0) {
            continue;
        }
        struct json v = {.type = JSON_STRING, .text = value};
        conf_down(&c, str_from(key));
        if (row->type == CONF_T_BOOL && (str_is(value, "true") || str_is(value, "false"))) {
            v.type = JSON_BOOL;
            v.boolean = str_is(value, "true");
        } else if (row->type == CONF_T_NUMBER) {
            v.type = JSON_NUMBER;
        }
        return conf_read_value(&c, row, &v, out, 0);
    }
    return err_set_param(err, RC_UNKNOWN_PARAM, key, "%s: unknown key", key);
}

/* ---- showing ---- */

static bool conf_same_list(const struct conf_row *row, const struct conf_list *a,
                           const struct conf_list *b);

static bool conf_same(const struct conf_row *row, const void *a, const void *b)
{
    switch (row->type) {
    case CONF_T_BOOL:
        return *(const bool *)a == *(const bool *)b;
    case CONF_T_NUMBER:
        return *(const uint64_t *)a == *(const uint64_t *)b;
    case CONF_T_WORD:
        return *(const uint32_t *)a == *(const uint32_t *)b;
    case CONF_T_MONEY:
        return *(const int64_t *)a == *(const int64_t *)b;
    case CONF_T_TEXT:
        return str_eq(*(const struct str *)a, *(const struct str *)b);
    case CONF_T_GROUP:
        for (const struct conf_row *r = row->rows; r->key != NULL; r++) {
            if (!conf_same(r, conf_value(r, a), conf_value(r, b))) {
                return false;
            }
        }
        return true;
    case CONF_T_TEXTS:
    case CONF_T_GROUPS:
        break;
    }
    return conf_same_list(row, a, b);
}

static bool conf_same_list(const struct conf_row *row, const struct conf_list *a,
                           const struct conf_list *b)
{
    struct conf_row one = *row;
    one.type = row->type == CONF_T_TEXTS ? CONF_T_TEXT : CONF_T_GROUP;
    size_t size = row->type == CONF_T_TEXTS ? sizeof(struct str) : row->size;
    for (uint32_t i = 0; a->n == b->n && i < a->n; i++) {
        if (!conf_same(&one, (const char *)a->at + i * size, (const char *)b->at + i * size)) {
            return false;
        }
    }
    return a->n == b->n;
}

const struct conf_row *conf_fixed_change(const struct conf_row *rows, const void *a, const void *b)
{
    for (const struct conf_row *row = rows; row->key != NULL; row++) {
        if (!row->reload && !conf_same(row, conf_value(row, a), conf_value(row, b))) {
            return row;
        }
    }
    return NULL;
}

static void conf_show_quoted(struct buf *out, struct str s)
{
    struct json_writer w;
    json_write_init(&w, out);
    json_write_str(&w, s); /* a JSON string is a YAML one */
}

static void conf_show_scalar(const struct conf_row *row, const void *v, struct buf *out)
{
    switch (row->type) {
    case CONF_T_BOOL:
        buf_add_cstr(out, *(const bool *)v ? "true" : "false");
        break;
    case CONF_T_NUMBER:
        buf_add_u64(out, *(const uint64_t *)v);
        break;
    case CONF_T_WORD:
        conf_show_quoted(out, str_from(row->words[*(const uint32_t *)v]));
        break;
    case CONF_T_MONEY:
        conf_money_write(out, *(const int64_t *)v);
        break;
    case CONF_T_TEXT:
    case CONF_T_TEXTS:
    case CONF_T_GROUP:
    case CONF_T_GROUPS:
        conf_show_quoted(out, *(const struct str *)v);
        break;
    }
}

static void conf_show_texts(const struct conf_list *list, struct buf *out)
{
    const struct str *texts = list->at;
    buf_add_byte(out, '[');
    for (uint32_t i = 0; i < list->n; i++) {
        buf_add_cstr(out, i > 0 ? ", " : "");
        conf_show_quoted(out, texts[i]);
    }
    buf_add_byte(out, ']');
}

static void conf_show_at(const struct conf_row *rows, const void *conf, const void *other,
                         struct buf *out, unsigned indent)
{
    for (const struct conf_row *row = rows; row->key != NULL; row++) {
        const void *v = conf_value(row, conf);
        const void *o = other != NULL ? conf_value(row, other) : NULL;
        if (o != NULL && conf_same(row, v, o)) {
            continue;
        }
        buf_add_printf(out, "%*s%s:", (int)indent, "", row->key);
        if (row->type == CONF_T_GROUP) {
            buf_add_byte(out, '\n');
            conf_show_at(row->rows, v, o, out, indent + 2);
            continue;
        }
        buf_add_byte(out, ' ');
        const struct conf_list *list = v;
        if (row->type == CONF_T_TEXTS) {
            conf_show_texts(list, out);
        } else if (row->type != CONF_T_GROUPS) {
            conf_show_scalar(row, v, out);
        }
        for (uint32_t i = 0; row->type == CONF_T_GROUPS && i < list->n; i++) {
            buf_add_printf(out, "\n%*s-\n", (int)indent + 2, "");
            conf_show_at(row->rows, (const char *)list->at + i * row->size, NULL, out, indent + 4);
        }
        buf_add_byte(out, '\n');
    }
}

void conf_show(const struct conf_row *rows, const void *conf, const void *other, struct buf *out)
{
    conf_show_at(rows, conf, other, out, 0);
}

static const char *conf_type_text(const struct conf_row *row)
{
    static const char *const texts[] = {
        [CONF_T_BOOL] = "true, false", [CONF_T_NUMBER] = "number", [CONF_T_WORD] = "word",
        [CONF_T_MONEY] = "amount",     [CONF_T_TEXT] = "text",     [CONF_T_TEXTS] = "texts",
        [CONF_T_GROUP] = "group",      [CONF_T_GROUPS] = "list",
    };
    return texts[row->type];
}

void conf_document(const struct conf_row *rows, const char *prefix, struct buf *out)
{
    for (const struct conf_row *row = rows; row->key != NULL; row++) {
        char path[CONF_PATH_BYTES];
        struct buf b;
        buf_init(&b, sizeof(path) - 1);
        buf_add_printf(&b, "%s%s%s", prefix, row->key, row->type == CONF_T_GROUPS ? "[]" : "");
        str_copy(path, sizeof(path), buf_str(&b));
        buf_deinit(&b);
        if (row->rows != NULL) {
            buf_add_printf(out, "| `%s` | %s | | %s |\n", path, conf_type_text(row), row->help);
            str_copy(path + strlen(path), sizeof(path) - strlen(path), STR_LIT("."));
            conf_document(row->rows, path, out);
            continue;
        }
        buf_add_printf(out, "| `%s` | %s%s%s | %s | %s", path, conf_type_text(row),
                       row->unit != NULL ? ", " : "", row->unit != NULL ? row->unit : "",
                       row->fallback != NULL ? row->fallback : "", row->help);
        for (uint32_t i = 0; row->words != NULL && row->words[i] != NULL; i++) {
            buf_add_printf(out, "%s`%s`", i == 0 ? ": " : ", ", row->words[i]);
        }
        buf_add_cstr(out, row->required ? " (required) |\n" : " |\n");
    }
}
