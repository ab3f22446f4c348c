#include "check.h"

#include <string.h>

#include "api/complete.h"

static struct arena arena;
static struct err err;
static struct api_complete_request request;

static enum rc parse(const char *members)
{
    char body[4096];
    snprintf(body, sizeof(body), "{\"model\":\"m\"%s%s}", members[0] != '\0' ? "," : "", members);
    arena_reset(&arena);
    err = (struct err){0};
    return api_complete_parse(str_from(body), &arena, &request, &err);
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

static void complete_reads_every_kind_of_prompt(void **state)
{
    (void)state;
    accepts("\"prompt\":\"Once\"");
    assert_int_equal(request.n_prompts, 1);
    assert_false(request.prompts[0].is_tokens);
    assert_true(str_is(request.prompts[0].text, "Once"));
    assert_true(request.gen.has_max_tokens);
    assert_int_equal(request.gen.max_tokens, API_MAX_TOKENS_DEFAULT);
    accepts("\"prompt\":[\"a\",\"\",\"c\"],\"n\":2");
    assert_int_equal(request.n_prompts, 3);
    assert_true(str_is(request.prompts[2].text, "c"));
    assert_int_equal(api_complete_choice_idx(&request, 2, 1), 5);
    accepts("\"prompt\":[1,2,3]");
    assert_int_equal(request.n_prompts, 1);
    assert_true(request.prompts[0].is_tokens);
    assert_int_equal(request.prompts[0].n_tokens, 3);
    assert_int_equal(request.prompts[0].tokens[2], 3);
    accepts("\"prompt\":[[1,2],[3]]");
    assert_int_equal(request.n_prompts, 2);
    assert_int_equal(request.prompts[1].tokens[0], 3);
    accepts("\"prompt\":[[1,2],\"mixed\"]");
    assert_true(request.prompts[0].is_tokens && !request.prompts[1].is_tokens);
}

static void complete_refuses_bad_prompts(void **state)
{
    (void)state;
    refuses("", RC_MISSING, "prompt");
    refuses("\"prompt\":null", RC_MISSING, "prompt");
    refuses("\"prompt\":5", RC_INVALID, "prompt");
    refuses("\"prompt\":{}", RC_INVALID, "prompt");
    refuses("\"prompt\":[]", RC_INVALID, "prompt");
    refuses("\"prompt\":[[]]", RC_INVALID, "prompt[0]");
    refuses("\"prompt\":[1,\"a\"]", RC_INVALID, "prompt[1]");
    refuses("\"prompt\":[1,-2]", RC_INVALID, "prompt[1]");
    refuses("\"prompt\":[1,2.5]", RC_INVALID, "prompt[1]");
    refuses("\"prompt\":[\"a\",null]", RC_INVALID, "prompt[1]");
    refuses("\"prompt\":[[1],[2,true]]", RC_INVALID, "prompt[1][1]");
    refuses("\"n\":16,\"prompt\":[\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\"]", RC_INVALID, "n");
}

static void complete_reads_its_own_members(void **state)
{
    (void)state;
    accepts("\"prompt\":\"a\",\"logprobs\":0,\"echo\":true,\"max_tokens\":0,\"best_of\":1,"
            "\"suffix\":\"\",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    assert_true(request.gen.logprobs && request.echo);
    assert_int_equal(request.gen.top_logprobs, 0);
    assert_int_equal(request.gen.max_tokens, 0);
    accepts("\"best_of\":2,\"prompt\":\"a\",\"n\":2,\"logprobs\":5");
    assert_int_equal(request.gen.top_logprobs, 5);
    accepts("\"prompt\":\"a\",\"logprobs\":null");
    assert_false(request.gen.logprobs);
    refuses("\"prompt\":\"a\",\"logprobs\":6", RC_INVALID, "logprobs");
    refuses("\"prompt\":\"a\",\"logprobs\":true", RC_INVALID, "logprobs");
    refuses("\"prompt\":\"a\",\"best_of\":3,\"n\":2", RC_UNSUPPORTED, "best_of");
    refuses("\"prompt\":\"a\",\"max_tokens\":0", RC_INVALID, "max_tokens");
    refuses("\"prompt\":\"a\",\"suffix\":\"end\"", RC_UNSUPPORTED, "suffix");
    refuses("\"prompt\":\"a\",\"max_completion_tokens\":5", RC_UNKNOWN_PARAM,
            "max_completion_tokens");
    refuses("\"prompt\":\"a\",\"messages\":[]", RC_UNKNOWN_PARAM, "messages");
    refuses("\"prompt\":\"a\",\"min_tokens\":17", RC_INVALID, "min_tokens");
}

static int make_arena(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 22);
    return 0;
}

static int drop_arena(void **state)
{
    (void)state;
    arena_deinit(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(complete_reads_every_kind_of_prompt),
        cmocka_unit_test(complete_refuses_bad_prompts),
        cmocka_unit_test(complete_reads_its_own_members),
    };
    return cmocka_run_group_tests(tests, make_arena, drop_arena);
}
