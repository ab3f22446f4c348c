/* Hand cases, and jansson as the oracle on random and on damaged documents. */
#include "check.h"

#include <math.h>
#include <string.h>
/* Both libraries have enumerators of these names. */
#define JSON_OBJECT  JANSSON_OBJECT
#define JSON_ARRAY   JANSSON_ARRAY
#define JSON_STRING  JANSSON_STRING
#define JSON_INTEGER JANSSON_INTEGER
#define JSON_REAL    JANSSON_REAL
#define JSON_TRUE    JANSSON_TRUE
#define JSON_FALSE   JANSSON_FALSE
#define JSON_NULL    JANSSON_NULL
#include <jansson.h>
#undef JSON_OBJECT
#undef JSON_ARRAY
#undef JSON_STRING
#undef JSON_INTEGER
#undef JSON_REAL
#undef JSON_TRUE
#undef JSON_FALSE
#undef JSON_NULL

#include "base/json.h"
#include "base/rng.h"

static struct arena arena;
static struct err err;

static const struct json *parse(struct str text)
{
    const struct json *v = NULL;
    arena_reset(&arena);
    err = (struct err){0};
    enum rc rc = json_parse(text, &arena, &v, &err);
    assert_int_equal(rc, err.code);
    return rc == RC_OK ? v : NULL;
}

static void refuses(const char *text, const char *message_part)
{
    assert_null(parse(str_from(text)));
    assert_int_equal(err.code, RC_SYNTAX);
    if (strstr(err.msg, message_part) == NULL) {
        fail_msg("%s: '%s' lacks '%s'", text, err.msg, message_part);
    }
}

/* Parsed and written back. */
static void becomes(const char *text, const char *expected)
{
    const struct json *v = parse(str_from(text));
    if (v == NULL) {
        fail_msg("%s: %s", text, err.msg);
        return;
    }
    struct buf out;
    struct json_writer w;
    buf_init(&out, 1 << 20);
    json_write_init(&w, &out);
    json_write_value(&w, v);
    assert_true(buf_ok(&out));
    assert_string_equal(out.ptr, expected);
    buf_deinit(&out);
}

static void json_reads_each_type(void **state)
{
    (void)state;
    becomes(" null ", "null");
    becomes("true", "true");
    becomes("\t[ false ,\r\n-0.5e+3]", "[false,-0.5e+3]");
    becomes("{}", "{}");
    becomes("[]", "[]");
    becomes("[[],{},[[]],{\"a\":{}}]", "[[],{},[[]],{\"a\":{}}]");
    becomes("{\"a\" : 1 , \"b\":[1,{\"c\":\"d\"}],\"\":null}",
            "{\"a\":1,\"b\":[1,{\"c\":\"d\"}],\"\":null}");
    becomes("\"\\u00e9\\ud83d\\ude00\\/\\\"\\\\\\b\\f\\n\\r\\t\\u0001\"",
            "\"\xC3\xA9\xF0\x9F\x98\x80/\\\"\\\\\\b\\f\\n\\r\\t\\u0001\"");
    becomes("\"a plain string of more than eight bytes\"",
            "\"a plain string of more than eight bytes\"");
    becomes("\"1234567\xC3\xA9 then \\u0041\"", "\"1234567\xC3\xA9 then A\"");
    const struct json *v = parse(STR_LIT("\"a\\u0000b\""));
    assert_non_null(v);
    assert_true(str_eq(v->text, str_make("a\0b", 3)));
}

static void json_finds_members(void **state)
{
    (void)state;
    const struct json *v = parse(STR_LIT("{\"a\":1,\"b\":null,\"c\":[1,2,3]}"));
    assert_non_null(v);
    assert_int_equal(v->n, 3);
    assert_int_equal(json_get(v, "c")->n, 3);
    assert_non_null(json_get(v, "b"));
    assert_null(json_get_present(v, "b"));
    assert_null(json_get(v, "d"));
    assert_null(json_get(json_get(v, "a"), "a"));
    assert_null(json_get(NULL, "a"));
    assert_string_equal(json_type_name(json_get(v, "c")->type), "array");
}

static void json_refuses_with_position(void **state)
{
    (void)state;
    refuses("", "line 1, column 1 (byte 0): the text ends where a value is due");
    refuses("  \n\n {\"a\": tru}", "line 3, column 8 (byte 11): a value is due here");
    refuses("{\"a\":1,}", "byte 7): a member name");
    refuses("[1,]", "byte 3): a value");
    refuses("[1", "byte 2): the text ends inside");
    refuses("[1 2]", "byte 3): a ',' or ']'");
    refuses("{\"a\" 1}", "byte 5): a ':'");
    refuses("{\"a\":1]", "byte 6): a ',' or '}'");
    refuses("{a:1}", "byte 1): a member name");
    refuses("1 2", "byte 2): nothing may follow");
    refuses("nul", "byte 0)");
    refuses("'a'", "byte 0)");
    refuses("\xEF\xBB\xBF{}", "byte 0)");
    refuses("[NaN]", "byte 1)");
    refuses("// c\n1", "byte 0)");
}

static void json_refuses_bad_scalars(void **state)
{
    (void)state;
    refuses("01", "start with 0");
    refuses("-", "minus");
    refuses("+1", "value is due");
    refuses(".5", "value is due");
    refuses("1.", "decimal point");
    refuses("1.e5", "decimal point");
    refuses("1e", "exponent");
    refuses("1e+", "exponent");
    refuses("\"a", "ends inside a string");
    refuses("\"a\\", "ends inside a string");
    refuses("\"\\u12", "ends inside a string");
    refuses("\"\\u12G4\"", "hexadecimal");
    refuses("\"\\x41\"", "unknown escape");
    refuses("\"\\ud83d\"", "half of a surrogate pair");
    refuses("\"\\ud83d\\u0041\"", "half of a surrogate pair");
    refuses("\"\\ude00\\ud83d\"", "half of a surrogate pair");
    refuses("\"a\nb\"", "control character");
    refuses("\"\xFF\"", "not UTF-8");
    refuses("\"12345678\xC0\x80\"", "not UTF-8");
    refuses("\"\xED\xA0\x80\"", "not UTF-8");
    refuses("\"\xE2\x82\"", "not UTF-8");
    refuses("{\"\xFF\":1}", "not UTF-8");
}

static void json_refuses_repeated_names(void **state)
{
    (void)state;
    refuses("{\"a\":1,\"b\":2,\"a\":3}", "byte 13): the name 'a' is repeated");
    refuses("{\"a\":1,\"\\u0061\":3}", "'a' is repeated");
    becomes("{\"a\":{\"a\":1},\"b\":{\"a\":1}}", "{\"a\":{\"a\":1},\"b\":{\"a\":1}}");
    for (uint32_t n = 2; n < 200; n += 3) { /* past the change from linear search to a set */
        struct buf b;
        buf_init(&b, 1 << 20);
        buf_add_byte(&b, '{');
        for (uint32_t i = 0; i < n; i++) {
            buf_add_printf(&b, "\"k%u\":%u,", i, i);
        }
        size_t mark = b.len;
        buf_add_printf(&b, "\"k%u\":0}", n);
        const struct json *v = parse(buf_str(&b));
        assert_non_null(v);
        assert_int_equal(v->n, n + 1);
        buf_truncate(&b, mark);
        buf_add_printf(&b, "\"k%u\":0}", n / 2);
        assert_null(parse(buf_str(&b)));
        assert_non_null(strstr(err.msg, "is repeated"));
        buf_deinit(&b);
    }
}

static void json_limits_depth_and_memory(void **state)
{
    (void)state;
    char text[4 * JSON_DEPTH_MAX];
    for (size_t depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        text[2 * depth] = '\0';
        if (depth == JSON_DEPTH_MAX) {
            becomes(text, text);
        } else {
            refuses(text, "byte 64): nested too deeply");
        }
    }
    struct arena small;
    const struct json *v = NULL;
    arena_init(&small, 256);
    err = (struct err){0};
    assert_int_equal(json_parse(STR_LIT("[1,2,3,4,5,6,7,8]"), &small, &v, &err), RC_TOO_LARGE);
    assert_int_equal(err.code, RC_TOO_LARGE);
    arena_deinit(&small);
}

static void json_reads_whole_numbers_exactly(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool whole;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"1.0", true, 1},
        {"1e2", true, 100},
        {"-12.50e1", true, -125},
        {"120e-1", true, 12},
        {"1.5", false, 0},
        {"1e-1", false, 0},
        {"0.001e3", true, 1},
        {"100000000000000000000000e-22", true, 10},
        {"1.000000000000000000000000000000000", true, 1},
        {"9223372036854775807", true, INT64_MAX},
        {"9223372036854775808", false, 0},
        {"-9223372036854775808", true, INT64_MIN},
        {"-9223372036854775809", false, 0},
        {"9007199254740993", true, 9007199254740993},
        {"0e999999999999999999999", true, 0},
        {"1e999999999999999999999", false, 0},
        {"1e-999999999999999999999", false, 0},
        {"1e+3", true, 1000},
        {"\"1\"", false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct json *v = parse(str_from(cases[i].text));
        assert_non_null(v);
        int64_t value = 0;
        if (json_to_i64(v, &value) != cases[i].whole || value != cases[i].value) {
            fail_msg("%s gave %lld", cases[i].text, (long long)value);
        }
    }
    double d = 0;
    assert_true(json_to_f64(parse(STR_LIT("-1.25e-3")), &d));
    assert_true(d == -1.25e-3);
    assert_false(json_to_f64(parse(STR_LIT("1e400")), &d));
    assert_false(json_to_f64(parse(STR_LIT("true")), &d));
}

static void json_writes(void **state)
{
    (void)state;
    struct buf out;
    struct json_writer w;
    buf_init(&out, 1 << 16);
    json_write_init(&w, &out);
    json_write_object_begin(&w);
    json_write_member_str(&w, "s", str_make("a\"\\\n\x01\x7F\xFF\xC3\xA9\xE2\x82", 11));
    json_write_member_i64(&w, "min", INT64_MIN);
    json_write_member_u64(&w, "max", UINT64_MAX);
    json_write_member_f64(&w, "tenth", 0.1);
    json_write_member_f64(&w, "third", 1.0 / 3);
    json_write_member_f64(&w, "nan", NAN);
    json_write_member_f64(&w, "inf", -INFINITY);
    json_write_member_bool(&w, "yes", true);
    json_write_member_null(&w, "none");
    json_write_name(&w, "list");
    json_write_array_begin(&w);
    json_write_i64(&w, -1);
    json_write_array_begin(&w);
    json_write_array_end(&w);
    json_write_raw(&w, STR_LIT("{\"x\":1}"));
    json_write_array_end(&w);
    json_write_object_end(&w);
    assert_string_equal(out.ptr, "{\"s\":\"a\\\"\\\\\\n\\u0001\x7F\xEF\xBF\xBD\xC3\xA9\xEF\xBF\xBD"
                                 "\xEF\xBF\xBD\",\"min\":-9223372036854775808,"
                                 "\"max\":18446744073709551615,\"tenth\":0.1,"
                                 "\"third\":0.3333333333333333,\"nan\":null,\"inf\":null,"
                                 "\"yes\":true,\"none\":null,\"list\":[-1,[],{\"x\":1}]}");
    buf_deinit(&out);
    buf_init(&out, 4);
    json_write_init(&w, &out);
    json_write_cstr(&w, "does not fit");
    assert_false(buf_ok(&out));
    buf_deinit(&out);
}

static void json_doubles_survive(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 7);
    struct buf out;
    buf_init(&out, 1 << 10);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = rng_u64(&r);
        double value, back = 0;
        memcpy(&value, &bits, sizeof(value));
        if (!isfinite(value)) {
            continue;
        }
        struct json_writer w;
        buf_reset(&out);
        json_write_init(&w, &out);
        json_write_f64(&w, value);
        const struct json *v = parse(buf_str(&out));
        assert_non_null(v);
        assert_true(json_to_f64(v, &back));
        assert_memory_equal(&back, &value, sizeof(back));
    }
    buf_deinit(&out);
}

/* ---- jansson as the oracle ---- */

static void same_value(const struct json *ours, const json_t *theirs)
{
    int64_t i64 = 0;
    double f64 = 0;
    switch (json_typeof(theirs)) {
    case JANSSON_OBJECT:
        assert_int_equal(ours->type, JSON_OBJECT);
        assert_int_equal(ours->n, json_object_size(theirs));
        JSON_EACH(ours, it)
        {
            same_value(it, json_object_getn(theirs, it->name.ptr, it->name.len));
        }
        break;
    case JANSSON_ARRAY: {
        size_t idx = 0;
        assert_int_equal(ours->type, JSON_ARRAY);
        assert_int_equal(ours->n, json_array_size(theirs));
        JSON_EACH(ours, it)
        {
            same_value(it, json_array_get(theirs, idx++));
        }
        break;
    }
    case JANSSON_STRING:
        assert_int_equal(ours->type, JSON_STRING);
        assert_true(
            str_eq(ours->text, str_make(json_string_value(theirs), json_string_length(theirs))));
        break;
    case JANSSON_INTEGER:
        assert_true(json_to_i64(ours, &i64));
        assert_true(i64 == json_integer_value(theirs));
        break;
    case JANSSON_REAL:
        assert_true(json_to_f64(ours, &f64));
        assert_true(f64 == json_real_value(theirs));
        break;
    case JANSSON_TRUE:
    case JANSSON_FALSE:
        assert_int_equal(ours->type, JSON_BOOL);
        assert_int_equal(ours->boolean, json_typeof(theirs) == JANSSON_TRUE);
        break;
    case JANSSON_NULL:
        assert_int_equal(ours->type, JSON_NULL);
        break;
    }
}

static void random_space(struct rng *r, struct buf *b)
{
    while (rng_below(r, 5) == 0) {
        buf_add_byte(b, " \t\r\n"[rng_below(r, 4)]);
    }
}

static void random_string(struct rng *r, struct buf *b)
{
    static const char *const pieces[] = {"a",
                                         "word ",
                                         "\xC3\xA9",
                                         "\xE6\x97\xA5",
                                         "\\n",
                                         "\\\"",
                                         "\xF0\x9F\x98\x80",
                                         "\\u00e9",
                                         "\\u4E2d",
                                         "\\ud83D\\uDe00",
                                         "a longer run of text",
                                         "\\/"};
    buf_add_byte(b, '"');
    for (uint32_t n = rng_below(r, 8); n > 0; n--) {
        buf_add_cstr(b, pieces[rng_below(r, ARRAY_LEN(pieces))]);
    }
    buf_add_printf(b, "%u\"", rng_below(r, 100000));
}

static void random_value(struct rng *r, struct buf *b, uint32_t depth)
{
    uint32_t kind = rng_below(r, depth > 0 ? 8 : 6);
    random_space(r, b);
    if (kind == 0) {
        buf_add_cstr(b, (const char *[]){"null", "true", "false"}[rng_below(r, 3)]);
    } else if (kind == 1) {
        buf_add_printf(b, "%d", (int)rng_u32(r));
    } else if (kind == 2) {
        buf_add_printf(b, "%.*e", (int)rng_below(r, 18), (rng_unit(r) - 0.5) * 1e10);
    } else if (kind == 3) {
        buf_add_printf(b, "-%u.%uE-%u", rng_below(r, 100), rng_u32(r), rng_below(r, 40));
    } else if (kind < 6) {
        random_string(r, b);
    } else {
        bool object = kind == 7;
        buf_add_byte(b, object ? '{' : '[');
        uint32_t n = rng_below(r, 14);
        for (uint32_t i = 0; i < n; i++) {
            if (i > 0) {
                buf_add_byte(b, ',');
            }
            random_space(r, b);
            if (object) {
                random_string(r, b);
                random_space(r, b);
                buf_add_byte(b, ':');
            }
            random_value(r, b, depth - 1);
        }
        buf_add_byte(b, object ? '}' : ']');
    }
    random_space(r, b);
}

/* Both accept with equal values or both refuse. What jansson refuses by choice (a NUL in a name, a
 * number out of its range) is not compared. */
static bool same_verdict(struct str text)
{
    json_error_t why;
    json_t *theirs = json_loadb(text.ptr, text.len,
                                JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    const struct json *ours = parse(text);
    enum json_error_code code = theirs == NULL ? json_error_code(&why) : json_error_unknown;
    bool choice = code == json_error_numeric_overflow || code == json_error_null_byte_in_key;
    if (!choice && (ours == NULL) != (theirs == NULL)) {
        fail_msg("ours '%s', jansson '%s': %.*s", ours == NULL ? err.msg : "accepts",
                 theirs == NULL ? why.text : "accepts", STR(text));
    }
    if (ours != NULL && theirs != NULL) {
        same_value(ours, theirs);
    }
    json_decref(theirs);
    return ours != NULL;
}

static void json_agrees_with_jansson(void **state)
{
    (void)state;
    struct rng r;
    struct buf b;
    uint32_t accepted = 0, damaged_accepted = 0;
    rng_init(&r, 20240611);
    buf_init(&b, 1 << 22);
    for (int i = 0; i < 3000; i++) {
        buf_reset(&b);
        random_value(&r, &b, 4);
        assert_true(buf_ok(&b));
        accepted += same_verdict(buf_str(&b)) ? 1 : 0;
        for (int damage = 0; damage < 4 && b.len > 0; damage++) {
            static const char bytes[] = "{}[]\",:\\0159-+.eEu \x01\xFF\xC3";
            size_t at = rng_below(&r, (uint32_t)b.len);
            b.ptr[at] = bytes[rng_below(&r, sizeof(bytes) - 1)];
            buf_truncate(&b, rng_below(&r, 8) == 0 ? at : b.len);
            damaged_accepted += same_verdict(buf_str(&b)) ? 1 : 0;
        }
    }
    assert_true(accepted > 2000);
    assert_true(damaged_accepted > 100);
    buf_deinit(&b);
}

static int make_arena(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 26);
    return 0;
}

static int drop_arena(void **state)
{
    (void)state;
    arena_deinit(&arena);
    return 0;
}

static void written_as(float v, const char *expected)
{
    struct buf out;
    struct json_writer w;
    buf_init(&out, 256);
    json_write_init(&w, &out);
    json_write_f32(&w, v);
    assert_string_equal(out.ptr, expected);
    buf_deinit(&out);
}

static void floats_read_back_the_same(void **state)
{
    (void)state;
    written_as(0, "0");
    written_as(1, "1");
    written_as(-0.5f, "-0.5");
    written_as(0.1f, "0.100000001");
    written_as(0.01f, "0.0099999998");
    written_as(0.001f, "0.00100000005");
    written_as(-0.00012345f, "-0.000123449994");
    written_as(9.4999990f, "9.49999905");
    written_as(1e-20f, "9.99999968e-21");
    written_as(NAN, "null");
    written_as(-INFINITY, "null");
    struct rng rng;
    struct buf out;
    struct json_writer w;
    rng_init(&rng, 9);
    buf_init(&out, 256);
    for (int i = 0; i < 200000; i++) {
        uint32_t bits = rng_u32(&rng);
        /* Half of them in the range of unit vectors. */
        bits = i % 2 == 0 ? bits : (bits & 0x807fffffu) | (112u + bits % 20) << 23;
        float v;
        memcpy(&v, &bits, sizeof(v));
        buf_reset(&out);
        json_write_init(&w, &out);
        json_write_f32(&w, v);
        if (isfinite(v) && strtof(out.ptr, NULL) != v) {
            fail_msg("%a is written as %s", (double)v, out.ptr);
        }
    }
    buf_deinit(&out);
}

/* Strings are written in words: whatever a byte and its place, what is read back is what was meant.
 */
static void any_text_is_read_back(void **state)
{
    (void)state;
    struct arena own;
    struct buf out;
    arena_init(&own, 1 << 20);
    buf_init(&out, 1 << 10);
    for (int c = 0; c < 256; c++) {
        for (size_t at = 0; at < 19; at++) {
            char text[19];
            const struct json *root = NULL;
            struct json_writer w;
            memset(text, 'a', sizeof(text));
            text[at] = (char)c;
            buf_reset(&out);
            arena_reset(&own);
            json_write_init(&w, &out);
            json_write_str(&w, str_make(text, sizeof(text)));
            assert_int_equal(json_parse(buf_str(&out), &own, &root, NULL), RC_OK);
            bool same = str_eq(root->text, str_make(text, sizeof(text)));
            assert_int_equal(same, c < 0x80); /* others are no UTF-8: U+FFFD */
            assert_int_equal(root->text.len, c < 0x80 ? 19 : 21);
        }
    }
    buf_deinit(&out);
    arena_deinit(&own);
}

/* What the scan says of "u": its value's text, "-" when absent, "!" when it is none of its
 * business.
 */
static void scans(const char *text, const char *expected)
{
    struct str value;
    bool ok = json_scan_member(str_from(text), STR_LIT("u"), &value);
    const char *got = !ok ? "!" : value.ptr == NULL ? "-" : NULL;
    if (got != NULL ? strcmp(got, expected) != 0 : !str_is(value, expected)) {
        fail_msg("%s: '%.*s', not '%s'", text, got != NULL ? 1 : (int)value.len,
                 got != NULL ? got : value.ptr, expected);
    }
}

static void scan_finds_a_member(void **state)
{
    (void)state;
    scans("{}", "-");
    scans(" { \"u\" : 1 } ", "1");
    scans("{\"u\":{\"a\":[1,{}]},\"b\":2}", "{\"a\":[1,{}]}");
    scans("{\"b\":{\"u\":2},\"u\":[]}", "[]");
    scans("{\"b\":[{\"u\":2}],\"u\":\"}\\\"\"}", "\"}\\\"\"");
    scans("{\"u\":{}}", "{}");
    scans("{\"u\":-0.5e+3,\"v\":null}", "-0.5e+3");
    scans("{\"b\":{\"c\":1,\"c\":2}}", "-"); /* looked for by json_parse only */
    scans("{\"u\":1,\"u\":2}", "!");
    scans("{\"\\u0075\":1}", "!");
    scans("", "!");
    scans("[]", "!");
    scans("1", "!");
    scans("{\"u\":1}}", "!");
    scans("{\"u\":1]", "!");
    scans("{\"u\":[1}", "!");
    scans("{\"u\":01}", "!");
    scans("{\"u\":1.}", "!");
    scans("{\"u\":1,}", "!");
    scans("{\"u\":\"\n\"}", "!");
    scans("{\"u\":\"\\x\"}", "!");
    scans("{\"u\":\"\\", "!");
    scans("{\"u\":\"\\u12", "!");
    scans("{\"u\":\"\\ud83d\"}", "!");
    scans("{\"u\":\"\\ude00\"}", "!");
    scans("{\"u\":\"\\ud83d\\ude00\"}", "\"\\ud83d\\ude00\"");
    scans("{\"u\":\"\xC3\"}", "!");
    scans("{\"u\":tru}", "!");
    scans("{\"u\"", "!");
}

/* Nesting to the limit and one more. */
static void scan_deep(uint32_t depth, bool fits)
{
    struct buf b;
    struct str value;
    buf_init(&b, 4096);
    buf_add_cstr(&b, "{\"u\":");
    for (uint32_t i = 1; i < depth; i++) {
        buf_add_byte(&b, '[');
    }
    for (uint32_t i = 1; i < depth; i++) {
        buf_add_byte(&b, ']');
    }
    buf_add_byte(&b, '}');
    assert_int_equal(json_scan_member(buf_str(&b), STR_LIT("u"), &value), fits);
    assert_int_equal(parse(buf_str(&b)) != NULL, fits);
    buf_deinit(&b);
}

/* Both say the same of whole and of damaged objects, repeated names apart. */
static void scan_same_verdict(struct str text, uint32_t *n_ok)
{
    struct str value;
    bool ok = json_scan_member(text, STR_LIT("u"), &value);
    const struct json *v = parse(text);
    if (v == NULL) {
        assert_true(!ok || strstr(err.msg, "is repeated") != NULL);
    } else if (!ok) {
        assert_true(v->type != JSON_OBJECT || memchr(text.ptr, '\\', text.len) != NULL);
    } else {
        assert_int_equal(json_get(v, "u") != NULL, value.ptr != NULL);
        *n_ok += 1;
    }
}

static void scan_agrees_with_the_reader(void **state)
{
    (void)state;
    struct rng r;
    struct buf b;
    uint32_t n_ok = 0;
    rng_init(&r, 11);
    buf_init(&b, 1 << 20);
    scan_deep(JSON_DEPTH_MAX, true);
    scan_deep(JSON_DEPTH_MAX + 1, false);
    for (int round = 0; round < 3000; round++) {
        buf_reset(&b);
        buf_add_cstr(&b, "{\"a\":");
        random_value(&r, &b, 3);
        buf_add_cstr(&b, ",\"u\":");
        random_value(&r, &b, 3);
        buf_add_byte(&b, '}');
        scan_same_verdict(buf_str(&b), &n_ok);
        for (int damage = 0; damage < 3; damage++) {
            b.ptr[rng_below(&r, (uint32_t)b.len)] = (char)rng_below(&r, 256);
            scan_same_verdict(buf_str(&b), &n_ok);
        }
    }
    assert_true(n_ok > 1000);
    buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_text_is_read_back),
        cmocka_unit_test(floats_read_back_the_same),
        cmocka_unit_test(json_reads_each_type),
        cmocka_unit_test(json_finds_members),
        cmocka_unit_test(json_refuses_with_position),
        cmocka_unit_test(json_refuses_bad_scalars),
        cmocka_unit_test(json_refuses_repeated_names),
        cmocka_unit_test(json_limits_depth_and_memory),
        cmocka_unit_test(json_reads_whole_numbers_exactly),
        cmocka_unit_test(json_writes),
        cmocka_unit_test(json_doubles_survive),
        cmocka_unit_test(json_agrees_with_jansson),
        cmocka_unit_test(scan_finds_a_member),
        cmocka_unit_test(scan_agrees_with_the_reader),
    };
    return cmocka_run_group_tests(tests, make_arena, drop_arena);
}
