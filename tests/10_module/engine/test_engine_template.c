/* A model's chat template: compiled at open; one that cannot be compiled costs chat, not the
 * model. */
#include "golden.h"

#include "engine/engine.c"
#include "gguf_make.h"

/* What engine_open makes of a file with this template. */
static void open_with(struct engine *e, const char *source)
{
    struct gguf_make m;
    struct gguf_make_source src;
    gguf_make_begin(&m, 3, 0, source != NULL ? 1 : 0);
    if (source != NULL) {
        gguf_make_kv_str(&m, "tokenizer.chat_template", source);
    }
    gguf_make_source_init(&src, "t.gguf", m.bytes.ptr, m.bytes.len);
    struct weight_source *list[] = {&src.source};
    *e = (struct engine){0};
    assert_int_equal(gguf_open(&e->gguf, list, 1, NULL), RC_OK);
    assert_int_equal(open_template(e, NULL), RC_OK);
    gguf_close(e->gguf);
    gguf_make_end(&m);
}

static void templates_are_compiled_or_explained(void **state)
{
    (void)state;
    struct engine e;
    open_with(&e, NULL);
    assert_null(engine_template(&e));
    assert_string_equal(engine_template_error(&e), "");
    open_with(&e, "{{ messages[0].content }}");
    assert_non_null(engine_template(&e));
    assert_string_equal(engine_template_error(&e), "");
    template_destroy(e.template);
    open_with(&e, "{% if %}");
    assert_null(engine_template(&e));
    assert_true(strlen(engine_template_error(&e)) > 0);
}

static void the_bundled_model_has_one(void **state)
{
    (void)state;
    struct engine_conf conf = {0};
    struct engine *e = golden_open("models/bud-story-4m.gguf", &conf);
    assert_non_null(engine_template(e));
    assert_string_equal(engine_template_error(e), "");
    engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates_are_compiled_or_explained),
        cmocka_unit_test(the_bundled_model_has_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
