/* From a conversation to a prompt: a model whose template cannot be compiled says why. */
#include "check.h"

#include <unistd.h>

#include "base/file.h"
#include "server/prompt.h"

static struct engine *open_model(const char *path)
{
    struct err err = {0};
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n_sources = 0;
    struct engine *e = NULL;
    struct engine_conf conf = {.backend = "ref", .kv_type = DTYPE_F16, .kv_pages = 1};
    if (weight_source_open_model(sources, &n_sources, path, &err) != RC_OK ||
        engine_open(&e, sources, n_sources, &conf, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    return e;
}

static enum rc render_hello(const struct engine *e, struct arena *a, struct str *text,
                            struct err *err)
{
    const struct api_message hello = {
        .role = API_ROLE_USER, .has_content = true, .content = STR_LIT("Hello")};
    struct prompt_chat chat = {.messages = &hello, .n_messages = 1, .add_generation_prompt = true};
    return prompt_render(e, &chat, a, text, err);
}

static void a_broken_template_says_why(void **state)
{
    (void)state;
    struct err err = {0};
    struct buf bytes;
    struct arena arena;
    struct str text;
    char path[] = "/tmp/bud-test-prompt-XXXXXX";
    buf_init(&bytes, 16u << 20);
    arena_init(&arena, 1u << 28);
    assert_int_equal(file_read("models/bud-story-4m.gguf", &bytes, &err), RC_OK);
    size_t at = str_find(buf_str(&bytes), STR_LIT("tokenizer.chat_template"));
    struct str rest = str_slice(buf_str(&bytes), at, bytes.len);
    at += str_find(rest, STR_LIT("for"));
    assert_true(at < bytes.len);
    memcpy(bytes.ptr + at, "fur", 3); /* no tag of this name */
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(file_write_atomic(path, buf_str(&bytes), 0600, &err), RC_OK);

    struct engine *e = open_model(path);
    assert_null(engine_template(e));
    assert_int_equal(render_hello(e, &arena, &text, &err), RC_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "cannot be used: "));
    assert_non_null(strstr(err.msg, "fur"));
    assert_string_equal(err.param, "messages");
    engine_close(e);

    e = open_model("models/bud-story-4m.gguf");
    assert_string_equal(engine_template_error(e), "");
    assert_int_equal(render_hello(e, &arena, &text, &err), RC_OK);
    assert_true(str_find(text, STR_LIT("Hello")) < text.len);
    engine_close(e);
    unlink(path);
    arena_deinit(&arena);
    buf_deinit(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broken_template_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
