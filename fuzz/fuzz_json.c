/* Whatever json_parse accepts can be written, read again, and written to the same text. The scan
 * agrees with it, but for repeated names and for names with escapes. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_scan(struct str text, struct arena *a)
{
    struct err err = {0};
    struct str value;
    const struct json *v = NULL, *member = NULL;
    bool ok = json_scan_member(text, STR_LIT("a"), &value);
    enum rc rc = json_parse(text, a, &v, &err);
    if (ok && rc == RC_OK) {
        ASSERT(v->type == JSON_OBJECT);
        ASSERT((json_get(v, "a") != NULL) == (value.ptr != NULL));
        ASSERT(value.ptr == NULL || json_parse(value, a, &member, NULL) == RC_OK);
        ASSERT(value.ptr == NULL || member->type == json_get(v, "a")->type);
    } else if (ok) {
        ASSERT(rc == RC_TOO_LARGE || strstr(err.msg, "is repeated") != NULL);
    } else if (rc == RC_OK) {
        ASSERT(v->type != JSON_OBJECT || memchr(text.ptr, '\\', text.len) != NULL);
    }
    arena_reset(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    struct buf first, second;
    struct err err = {0};
    struct json_writer w;
    const struct json *v = NULL;
    arena_init(&a, 1 << 24);
    buf_init(&first, 1 << 24);
    buf_init(&second, 1 << 24);
    check_scan(str_make((const char *)data, size), &a);
    if (json_parse(str_make((const char *)data, size), &a, &v, &err) == RC_OK) {
        json_write_init(&w, &first);
        json_write_value(&w, v);
        ASSERT(buf_ok(&first));
        JSON_EACH(v, it)
        {
            int64_t i;
            double d;
            bool whole = json_to_i64(it, &i), real = json_to_f64(it, &d);
            ASSERT(!whole || !real || (double)i == d);
        }
        ASSERT(json_parse(buf_str(&first), &a, &v, &err) == RC_OK || err.code == RC_TOO_LARGE);
        if (err.code == RC_OK) {
            json_write_init(&w, &second);
            json_write_value(&w, v);
            ASSERT(str_eq(buf_str(&first), buf_str(&second)));
        }
    } else {
        ASSERT(err.code == RC_SYNTAX || err.code == RC_TOO_LARGE);
        ASSERT(err.msg[0] != '\0');
    }
    buf_deinit(&second);
    buf_deinit(&first);
    arena_deinit(&a);
    return 0;
}
