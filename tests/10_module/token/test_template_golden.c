/* Chat templates against Python's jinja2: every template of ../shared/chat-templates over the
 * conversations of tests/golden/templates.json, and the snippets there. Texts must be equal byte
 * for byte; a refusal must carry the template's own words, a failure must be one here too. */
#include "check.h"

#include "base/file.h"
#include "base/json.h"
#include "engine/token/template.h"

#define GOLDEN    "tests/golden/templates.json"
#define TEMPLATES "../shared/chat-templates"

enum { FILE_BYTES = 1 << 24, OUT_BYTES = 1 << 20, NOW_S = 1767605407 /* 2026-01-05 09:30:07 */ };

struct golden {
    struct buf file;
    struct arena arena;
    struct arena scratch;
    struct buf out;
    const struct json *root;
};

static void setup(struct golden *g)
{
    struct err err = {0};
    check_need_file(GOLDEN);
    *g = (struct golden){0};
    buf_init(&g->file, FILE_BYTES);
    buf_init(&g->out, OUT_BYTES);
    arena_init(&g->arena, FILE_BYTES);
    arena_init(&g->scratch, TEMPLATE_SCRATCH_BYTES);
    assert_int_equal(file_read(GOLDEN, &g->file, &err), RC_OK);
    assert_int_equal(json_parse(buf_str(&g->file), &g->arena, &g->root, &err), RC_OK);
    assert_true(str_is(json_get(g->root, "now")->text, "2026-01-05T09:30:07"));
}

static void teardown(struct golden *g)
{
    buf_deinit(&g->file);
    buf_deinit(&g->out);
    arena_deinit(&g->arena);
    arena_deinit(&g->scratch);
}

/* Renders and compares with what `want` (a case or a snippet) says. */
static void check(struct golden *g, struct str source, const struct template_input *in,
                  const struct json *want)
{
    struct template *t = NULL;
    struct err err = {0};
    buf_reset(&g->out);
    arena_reset(&g->scratch);
    enum rc rc = template_compile(&t, source, &err);
    if (rc == RC_OK) {
        rc = template_render(t, in, &g->scratch, &g->out, &err);
    }
    const struct json *text = json_get(want, "text"), *raised = json_get(want, "raised");
    if (text != NULL && (rc != RC_OK || !str_eq(buf_str(&g->out), text->text))) {
        fail_msg("%.*s\nwants %.*s\ngives %.*s %s", STR(str_slice(source, 0, 300)), STR(text->text),
                 STR(buf_str(&g->out)), err.msg);
    }
    if (text == NULL && rc != RC_INVALID) {
        fail_msg("%.*s\nshould fail, gives %.*s", STR(str_slice(source, 0, 300)),
                 STR(buf_str(&g->out)));
    }
    if (raised != NULL) {
        assert_true(str_eq(str_from(err.msg), str_slice(raised->text, 0, sizeof(err.msg) - 1)));
    }
    template_destroy(t);
}

static void every_template_renders_as_jinja2_does(void **state)
{
    struct golden g;
    struct buf source;
    struct err err = {0};
    uint32_t n = 0;
    (void)state;
    check_need_file(TEMPLATES);
    setup(&g);
    buf_init(&source, TEMPLATE_SOURCE_BYTES_MAX);
    JSON_EACH(json_get(g.root, "cases"), it)
    {
        char path[200], name[80];
        snprintf(path, sizeof(path), TEMPLATES "/%.*s", STR(json_get(it, "template")->text));
        assert_true(str_copy(name, sizeof(name), json_get(it, "conversation")->text));
        buf_reset(&source);
        if (file_read(path, &source, &err) != RC_OK) {
            fail_msg("%s", err.msg);
        }
        const struct json *c = json_get(json_get(g.root, "conversations"), name);
        struct template_input in = {
            .messages = json_get(c, "messages"),
            .tools = json_get_present(c, "tools"),
            .extra = json_get(c, "kwargs"),
            .bos_token = json_get(c, "bos_token")->text,
            .eos_token = json_get(c, "eos_token")->text,
            .add_generation_prompt = json_get(it, "add_generation_prompt")->boolean,
            .now_s = NOW_S,
        };
        check(&g, buf_str(&source), &in, it);
        n++;
    }
    assert_true(n >= 29 * 13);
    buf_deinit(&source);
    teardown(&g);
}

static void every_snippet_renders_as_jinja2_does(void **state)
{
    struct golden g;
    struct err err = {0};
    uint32_t n = 0;
    const struct json *none = NULL;
    (void)state;
    setup(&g);
    assert_int_equal(json_parse(STR_LIT("[]"), &g.arena, &none, &err), RC_OK);
    struct template_input in = {
        .messages = none, .extra = json_get(g.root, "context"), .now_s = NOW_S};
    JSON_EACH(json_get(g.root, "snippets"), it)
    {
        check(&g, json_get(it, "source")->text, &in, it);
        n++;
    }
    assert_true(n >= 100);
    teardown(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_template_renders_as_jinja2_does),
        cmocka_unit_test(every_snippet_renders_as_jinja2_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
