/* YAML as nodes, and tables of settings over them. */
#include "check.h"

#include <string.h>

#include "base/conf.h"
#include "base/yaml.h"

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_deinit(&arena);
    return 0;
}

/* ---- YAML ---- */

static void yaml_gives_json(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *json;
    } cases[] = {
        {"", "{}"},
        {"# nothing\n---\n", "{}"},
        {"a: 1\nb: [x, \"2\", true, ~, no, 1.5]\n",
         "{\"a\":1,\"b\":[\"x\",\"2\",true,null,\"no\",1.5]}"},
        {"c:\n  - d: 'e'\n    f:\n  - -3\n", "{\"c\":[{\"d\":\"e\",\"f\":null},-3]}"},
        {"{a: 0x10, b: .5, c: 1e3, d: 2026-01-01, e: 01, f: '', g: \"\\u00e9\"}",
         "{\"a\":\"0x10\",\"b\":\".5\",\"c\":1e3,\"d\":\"2026-01-01\",\"e\":\"01\",\"f\":\"\","
         "\"g\":\"\xc3\xa9\"}"},
        {"a: |\n  x\n  y\n", "{\"a\":\"x\\ny\\n\"}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct json *root = NULL;
        struct json_writer w;
        struct buf out;
        struct err err = {0};
        buf_init(&out, 1 << 16);
        if (yaml_parse(str_from(cases[i].yaml), &arena, &root, &err) != RC_OK) {
            fail_msg("'%s': %s", cases[i].yaml, err.msg);
        }
        json_write_init(&w, &out);
        json_write_value(&w, root);
        assert_string_equal(out.ptr, cases[i].json);
        buf_deinit(&out);
    }
}

static void yaml_refuses_what_is_doubtful(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *says;
    } cases[] = {
        {"a: &x 1\nb: *x", "line 2, column 5: aliases"},
        {"a: 1\na: 2", "line 2, column 1: this key stands here twice"},
        {"a: [1", "line 2"},
        {"--- a\n--- b", "more than one document"},
        {"a: !!str 1", "tags are not allowed"},
        {"? [a]\n: b", "a key must be a text"},
        {"a: \"x", "closing quote"},
        {"\tx: 1", "line 1"},
        {":\n%0=\xA0", "UTF-8"},
        {"%YAML 1.2\n---\na: 1\n", "directives"},
        {"\xEF\xBB\xBF%0", "directives"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct json *root = NULL;
        struct err err = {0};
        assert_int_equal(yaml_parse(str_from(cases[i].yaml), &arena, &root, &err), RC_SYNTAX);
        if (strstr(err.msg, cases[i].says) == NULL) {
            fail_msg("'%s' gives '%s'", cases[i].yaml, err.msg);
        }
    }
    char deep[200];
    const struct json *root = NULL;
    struct err err = {0};
    assert_int_equal(yaml_parse(STR_LIT("a: 1\n\0b: 2\n"), &arena, &root, &err), RC_SYNTAX);
    assert_non_null(strstr(err.msg, "byte 5 is zero"));
    memset(deep, '[', sizeof(deep));
    assert_int_not_equal(yaml_parse(str_make(deep, sizeof(deep)), &arena, &root, NULL), RC_OK);
}

/* ---- rows ---- */

struct inner {
    uint64_t count;
    int64_t price;
};
struct outer {
    bool on;
    uint64_t size;
    uint32_t word;
    struct str text;
    struct conf_list names, groups;
    struct inner one;
};

static const char *const words[] = {"red", "green", "blue", NULL};
static const struct conf_row inner_rows[] = {
    CONF_NUMBER(struct inner, count, "7", 1, 9, "things", "how many"),
    CONF_MONEY(struct inner, price, "what it costs"),
    {0},
};
static const struct conf_row outer_rows[] = {
    {.key = "on",
     .type = CONF_T_BOOL,
     .offset = offsetof(struct outer, on),
     .fallback = "true",
     .reload = true,
     .help = "whether"},
    CONF_NUMBER(struct outer, size, "64", 1, 100, "bytes", "how large"),
    CONF_WORD(struct outer, word, "green", words, "which colour"),
    CONF_TEXT(struct outer, text, NULL, 10, "some text"),
    CONF_TEXTS(struct outer, names, 3, "some names"),
    CONF_GROUP(struct outer, one, inner_rows, "one of them"),
    CONF_GROUPS(struct outer, groups, struct inner, inner_rows, 2, "several of them"),
    {0},
};

static enum rc read_outer(const char *yaml, struct outer *out, struct err *err)
{
    const struct json *root = NULL;
    assert_int_equal(yaml_parse(str_from(yaml), &arena, &root, NULL), RC_OK);
    *out = (struct outer){0};
    return conf_read(outer_rows, root, &arena, out, err);
}

static void rows_fill_a_struct_and_show_it_again(void **state)
{
    (void)state;
    struct outer o, defaults, again;
    struct buf shown;
    assert_int_equal(read_outer("", &defaults, NULL), RC_OK);
    assert_true(defaults.on && defaults.size == 64 && defaults.word == 1);
    assert_int_equal(defaults.one.count, 7);
    assert_int_equal(
        read_outer("on: false\nword: blue\ntext: hm\nnames: [a, \"b c\"]\n"
                   "one: {price: 12.5}\ngroups: [{count: 2}, {price: \"0.000000001\"}]",
                   &o, NULL),
        RC_OK);
    assert_true(!o.on && o.word == 2 && o.names.n == 2 && o.groups.n == 2);
    assert_int_equal(o.one.price, 12500000000);
    const struct inner *groups = o.groups.at;
    assert_true(groups[0].count == 2 && groups[1].count == 7 && groups[1].price == 1);

    buf_init(&shown, 1 << 16);
    conf_show(outer_rows, &o, NULL, &shown);
    assert_int_equal(read_outer(shown.ptr, &again, NULL), RC_OK);
    struct buf twice;
    buf_init(&twice, 1 << 16);
    conf_show(outer_rows, &again, NULL, &twice);
    assert_string_equal(shown.ptr, twice.ptr);
    buf_reset(&twice);
    conf_show(outer_rows, &o, &again, &twice);
    assert_int_equal(twice.len, 0);
    assert_null(conf_fixed_change(outer_rows, &o, &again));
    again.on = !again.on;
    assert_null(conf_fixed_change(outer_rows, &o, &again)); /* it may change */
    again.one.count = 1;
    assert_string_equal(conf_fixed_change(outer_rows, &o, &again)->key, "one");
    buf_reset(&twice);
    conf_document(outer_rows, "", &twice);
    assert_non_null(strstr(twice.ptr, "| `groups[].count` | number, things | 7 | how many |"));
    assert_non_null(strstr(twice.ptr, "`red`, `green`, `blue`"));
    buf_deinit(&twice);
    buf_deinit(&shown);
}

static void rows_say_what_is_wrong_and_where(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *says;
    } cases[] = {
        {"sise: 1", "sise: unknown key; did you mean size"},
        {"one: {cuont: 1}", "one.cuont: unknown key; did you mean count"},
        {"xyzzy: 1", "xyzzy: unknown key"},
        {"size: 0", "size: must be from 1 to 100"},
        {"size: 1.5", "whole number"},
        {"size: -1", "whole number"},
        {"size: \"5\"", "whole number"},
        {"on: yes", "on: must be true or false"},
        {"word: pink", "word: must be red, green or blue"},
        {"text: 5", "put it in quotes"},
        {"text: far too long a text", "too long"},
        {"names: a", "names: must be a list"},
        {"names: [a, b, c, d]", "too many"},
        {"names: [a, [b]]", "names[1]: must be a text"},
        {"groups: [{}, {price: 1.0000000001}]", "groups[1].price: must be an amount"},
        {"one: 5", "one: must be a group"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct outer o;
        struct err err = {0};
        assert_int_not_equal(read_outer(cases[i].yaml, &o, &err), RC_OK);
        if (strstr(err.msg, cases[i].says) == NULL) {
            fail_msg("'%s' gives '%s'", cases[i].yaml, err.msg);
        }
    }
    struct outer o = {0};
    assert_int_equal(conf_set(outer_rows, "size", STR_LIT("9"), &arena, &o, NULL), RC_OK);
    assert_int_equal(o.size, 9);
    assert_int_equal(conf_set(outer_rows, "size", STR_LIT("nine"), &arena, &o, NULL), RC_INVALID);
    assert_int_equal(conf_set(outer_rows, "none", STR_LIT("9"), &arena, &o, NULL),
                     RC_UNKNOWN_PARAM);
}

static void money_is_exact(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t nano; /* -1 = refused */
    } cases[] = {
        {"0", 0},
        {"12.5", 12500000000},
        {"0.000000001", 1},
        {"007.1", 7100000000},
        {"9000000000", 9000000000000000000},
        {"9000000001", -1},
        {"1.0000000001", -1},
        {"-1", -1},
        {"", -1},
        {"1.", -1},
        {".5", -1},
        {"1e3", -1},
        {"1,5", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t nano = -1;
        bool ok = conf_money_read(str_from(cases[i].text), &nano);
        if (ok != (cases[i].nano >= 0) || (ok && nano != cases[i].nano)) {
            fail_msg("'%s' gives %lld", cases[i].text, (long long)nano);
        }
    }
    struct buf out;
    buf_init(&out, 64);
    conf_money_write(&out, 1000000001);
    buf_add_byte(&out, ' ');
    conf_money_write(&out, 500000000);
    buf_add_byte(&out, ' ');
    conf_money_write(&out, 0);
    assert_string_equal(out.ptr, "1.000000001 0.5 0");
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(yaml_gives_json, setup, teardown),
        cmocka_unit_test_setup_teardown(yaml_refuses_what_is_doubtful, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_fill_a_struct_and_show_it_again, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_say_what_is_wrong_and_where, setup, teardown),
        cmocka_unit_test(money_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
