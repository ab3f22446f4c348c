#include "check.h"

#include <math.h>
#include <string.h>

#include "api/embed.h"
#include "base/json.h"

static struct arena arena;
static struct err err;
static struct api_embed_request request;

static enum rc parse(const char *members)
{
    char body[4096];
    snprintf(body, sizeof(body), "{\"model\":\"m\"%s%s}", members[0] != '\0' ? "," : "", members);
    arena_reset(&arena);
    err = (struct err){0};
    return api_embed_parse(str_from(body), &arena, &request, &err);
}

static void accepts(const char *members)
{
    if (parse(members) != RC_OK) {
        fail_msg("%s: %s", members, err.msg);
    }
}

static void refuses(const char *members, enum rc code, const char *param)
{
    enum rc rc = parse(members);
    if (rc != code || strcmp(err.param, param) != 0) {
        fail_msg("%s: code %d, param '%s', message '%s'", members, rc, err.param, err.msg);
    }
}

static void embed_reads_every_kind_of_input(void **state)
{
    (void)state;
    accepts("\"input\":\"Once\"");
    assert_int_equal(request.inputs.n, 1);
    assert_true(str_is(request.inputs.items[0].text, "Once"));
    assert_false(request.base64 || request.has_dimensions || request.truncate.asked);
    accepts("\"input\":[\"a\",\" \"]");
    assert_int_equal(request.inputs.n, 2);
    accepts("\"input\":[5,6,7]");
    assert_int_equal(request.inputs.n, 1);
    assert_int_equal(request.inputs.items[0].n_tokens, 3);
    accepts("\"input\":[[5],[6,7]]");
    assert_int_equal(request.inputs.items[1].tokens[1], 7);
}

static void embed_refuses_bad_inputs(void **state)
{
    (void)state;
    refuses("", RC_MISSING, "input");
    refuses("\"input\":null", RC_MISSING, "input");
    refuses("\"input\":[]", RC_INVALID, "input");
    refuses("\"input\":\"\"", RC_INVALID, "input");
    refuses("\"input\":[\"a\",\"\"]", RC_INVALID, "input[1]");
    refuses("\"input\":[[]]", RC_INVALID, "input[0]");
    refuses("\"input\":[1,\"a\"]", RC_INVALID, "input[1]");
    refuses("\"input\":[\"a\",5]", RC_INVALID, "input[1]");
    refuses("\"input\":{\"text\":\"a\"}", RC_INVALID, "input");
}

static void embed_counts_its_inputs(void **state)
{
    (void)state;
    struct buf body;
    for (int n = API_EMBED_INPUTS_MAX; n <= API_EMBED_INPUTS_MAX + 1; n++) {
        buf_init(&body, 1 << 20);
        buf_add_cstr(&body, "{\"model\":\"m\",\"input\":[");
        for (int i = 0; i < n; i++) {
            buf_add_cstr(&body, i == 0 ? "\"a\"" : ",\"a\"");
        }
        buf_add_cstr(&body, "]}");
        arena_reset(&arena);
        enum rc rc = api_embed_parse(buf_str(&body), &arena, &request, &err);
        assert_int_equal(rc, n == API_EMBED_INPUTS_MAX ? RC_OK : RC_INVALID);
        buf_deinit(&body);
    }
    assert_string_equal(err.msg, "'input' has 2049 entries, at most 2048 are allowed");
}

static void embed_reads_its_other_members(void **state)
{
    (void)state;
    accepts("\"input\":\"a\",\"encoding_format\":\"base64\",\"dimensions\":64,\"user\":\"u\","
            "\"truncate_prompt_tokens\":128,\"normalize\":true,\"embd_normalize\":2");
    assert_true(request.base64 && request.has_dimensions && request.truncate.asked);
    assert_int_equal(request.dimensions, 64);
    assert_int_equal(request.truncate.n_tokens, 128);
    accepts("\"input\":\"a\",\"encoding_format\":\"float\",\"truncate_prompt_tokens\":-1");
    assert_true(!request.base64 && request.truncate.asked && request.truncate.n_tokens == 0);
    refuses("\"input\":\"a\",\"encoding_format\":\"int8\"", RC_INVALID, "encoding_format");
    refuses("\"input\":\"a\",\"encoding_format\":5", RC_INVALID, "encoding_format");
    refuses("\"input\":\"a\",\"dimensions\":0", RC_INVALID, "dimensions");
    refuses("\"input\":\"a\",\"truncate_prompt_tokens\":0", RC_INVALID, "truncate_prompt_tokens");
    refuses("\"input\":\"a\",\"normalize\":false", RC_UNSUPPORTED, "normalize");
    refuses("\"input\":\"a\",\"inputs\":[]", RC_UNKNOWN_PARAM, "inputs");
    refuses("\"input\":\"a\",\"user\":7", RC_INVALID, "user");
}

static void writes(bool base64, const char *expected)
{
    static const float vectors[] = {0.5f, -1.0f, 0.1f, 0.0f};
    struct api_embed_reply reply = {.model = STR_LIT("m\""),
                                    .vectors = vectors,
                                    .n = 2,
                                    .n_dims = 2,
                                    .base64 = base64,
                                    .n_tokens = 7};
    struct buf out;
    buf_init(&out, 4096);
    api_embed_write(&out, &reply);
    assert_true(buf_ok(&out));
    assert_string_equal(out.ptr, expected);
    buf_deinit(&out);
}

static void embed_writes_both_formats(void **state)
{
    (void)state;
    writes(false, "{\"object\":\"list\",\"data\":["
                  "{\"object\":\"embedding\",\"index\":0,\"embedding\":[0.5,-1]},"
                  "{\"object\":\"embedding\",\"index\":1,\"embedding\":[0.100000001,0]}],"
                  "\"model\":\"m\\\"\",\"usage\":{\"prompt_tokens\":7,\"total_tokens\":7}}");
    writes(true, "{\"object\":\"list\",\"data\":["
                 "{\"object\":\"embedding\",\"index\":0,\"embedding\":\"AAAAPwAAgL8=\"},"
                 "{\"object\":\"embedding\",\"index\":1,\"embedding\":\"zczMPQAAAAA=\"}],"
                 "\"model\":\"m\\\"\",\"usage\":{\"prompt_tokens\":7,\"total_tokens\":7}}");
}

static void embed_shortens_to_unit_length(void **state)
{
    (void)state;
    float v[] = {3, 4, 12, 0, 0, 5, 6, 8, 1};
    api_embed_shorten(v, 3, 3, 2);
    static const double expected[] = {0.6, 0.8, 0, 0, 0.6, 0.8};
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        assert_true(fabs((double)v[i] - expected[i]) < 1e-7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embed_reads_every_kind_of_input),
        cmocka_unit_test(embed_refuses_bad_inputs),
        cmocka_unit_test(embed_counts_its_inputs),
        cmocka_unit_test(embed_reads_its_other_members),
        cmocka_unit_test(embed_writes_both_formats),
        cmocka_unit_test(embed_shortens_to_unit_length),
    };
    arena_init(&arena, 1 << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_deinit(&arena);
    return failed;
}
