/* Any template over any conversation: no crash, no hang, a message with every error, and the same
 * text twice. The input is a template, a NUL byte, and JSON of the messages (absent or malformed:
 * a fixed conversation). */
#include "base/assert.h"
#include "engine/token/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUT_BYTES = 1 << 20, SCRATCH_BYTES = 8 << 20, JSON_BYTES = 1 << 20 };

static const char conversation[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be \\u00e9xact\"},"
    "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\\nthere\"}]},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"abcdefghi\",\"type\":"
    "\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1,\"b\":2.5,\"c\":[true,null]}}"
    "}]},"
    "{\"role\":\"tool\",\"content\":\"<think>1</think>2\",\"tool_call_id\":\"abcdefghi\"}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"default\":"
    "18446744073709551616}},\"required\":[\"a\"]}}}],\"extra\":{\"enable_thinking\":false}}";

static enum rc render(const struct template *t, const struct json *root, struct buf *out,
                      struct err *err)
{
    struct arena scratch;
    arena_init(&scratch, SCRATCH_BYTES);
    struct template_input in = {
        .messages = json_get(root, "messages"),
        .tools = json_get_present(root, "tools"),
        .extra = json_get_present(root, "extra"),
        .bos_token = STR_LIT("<s>"),
        .eos_token = STR_LIT("</s>"),
        .add_generation_prompt = true,
        .now_s = 1721000000,
    };
    enum rc rc = template_render(t, &in, &scratch, out, err);
    arena_deinit(&scratch);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    struct buf first, second;
    struct err err = {0}, err2 = {0};
    struct template *t = NULL;
    const struct json *root = NULL;
    struct str rest = str_make((const char *)data, size);
    struct str source = str_cut(&rest, '\0');
    arena_init(&a, JSON_BYTES);
    buf_init(&first, OUT_BYTES);
    buf_init(&second, OUT_BYTES);
    if (rest.len == 0 || json_parse(rest, &a, &root, &err) != RC_OK ||
        json_get(root, "messages") == NULL) {
        ASSERT(json_parse(STR_LIT(conversation), &a, &root, &err) == RC_OK);
    }
    enum rc rc = template_compile(&t, source, &err);
    if (rc == RC_OK) {
        rc = render(t, root, &first, &err);
        ASSERT(render(t, root, &second, &err2) == rc);
        ASSERT(rc != RC_OK || str_eq(buf_str(&first), buf_str(&second)));
        ASSERT(rc != RC_OK || str_utf8_valid(buf_str(&first)));
    }
    ASSERT(rc == RC_OK || rc == RC_INVALID || rc == RC_TOO_LARGE || rc == RC_SYNTAX);
    ASSERT(rc == RC_OK || err.file != NULL);
    template_destroy(t);
    buf_deinit(&first);
    buf_deinit(&second);
    arena_deinit(&a);
    return 0;
}
