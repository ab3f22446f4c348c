#include "check.h"

#include <string.h>

#include "api/chat.h"
#include "base/json.h"

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static struct arena arena;
static struct err err;
static struct api_chat_request request;

static enum rc parse(const char *body)
{
    arena_reset(&arena);
    err = (struct err){0};
    enum rc rc = api_chat_parse(str_from(body), &arena, &request, &err);
    assert_int_equal(rc, err.code);
    return rc;
}

static void accepts(const char *body)
{
    if (parse(body) != RC_OK) {
        fail_msg("%s: %s", body, err.msg);
    }
}

static void refuses(const char *body, enum rc code, const char *param)
{
    enum rc rc = parse(body);
    if (rc != code || strcmp(err.param, param) != 0) {
        fail_msg("%s: code %d, param '%s', message '%s'", body, rc, err.param, err.msg);
    }
    assert_true(err.msg[0] != '\0');
}

/* A body with one more member. */
static const char *with(const char *member)
{
    static char body[4096];
    snprintf(body, sizeof(body), "{\"model\":\"m\"," HI ",%s}", member);
    return body;
}

static void chat_fills_in_defaults(void **state)
{
    (void)state;
    accepts("{\"model\":\"tiny\"," HI "}");
    const struct api_generate *g = &request.gen;
    assert_true(str_is(g->model, "tiny"));
    assert_int_equal(g->n, 1);
    assert_false(g->has_max_tokens);
    assert_false(g->stream || g->include_usage || g->logprobs || g->ignore_eos);
    assert_true(g->sampling.temperature == 1 && g->sampling.top_p == 1);
    assert_true(g->sampling.repetition_penalty == 1 && g->sampling.min_p == 0);
    assert_false(g->sampling.has_seed);
    assert_int_equal(g->n_stops + g->n_stop_tokens + g->sampling.n_biases, 0);
    assert_true(request.add_generation_prompt);
    assert_null(request.template_kwargs);
    assert_int_equal(request.n_messages, 1);
    assert_int_equal(request.messages[0].role, API_ROLE_USER);
    assert_true(str_is(request.messages[0].content, "hi"));
}

static void chat_reads_all_members(void **state)
{
    (void)state;
    accepts("{\"model\":\"m\"," HI ",\"n\":3,\"max_completion_tokens\":50,\"max_tokens\":50.0,"
            "\"stream\":true,\"stream_options\":{\"include_usage\":true,"
            "\"include_obfuscation\":false},\"temperature\":0.5,\"top_p\":0.9,\"top_k\":40,"
            "\"min_p\":0.05,\"presence_penalty\":-1,\"frequency_penalty\":2,"
            "\"repetition_penalty\":1.1,\"seed\":-9223372036854775808,"
            "\"stop\":[\"END\",\"\\n\\n\"],\"logit_bias\":{\"0\":-100,\"17\":2.5},"
            "\"logprobs\":true,\"top_logprobs\":20,\"min_tokens\":5,\"ignore_eos\":true,"
            "\"stop_token_ids\":[2,3],\"chat_template_kwargs\":{\"enable_thinking\":false},"
            "\"add_generation_prompt\":false,\"user\":\"u\",\"metadata\":{\"a\":\"b\"},"
            "\"store\":false,\"service_tier\":\"auto\",\"safety_identifier\":\"s\","
            "\"prompt_cache_key\":\"k\",\"prompt_cache_retention\":\"24h\"}");
    const struct api_generate *g = &request.gen;
    assert_int_equal(g->n, 3);
    assert_true(g->has_max_tokens && g->max_tokens == 50 && g->min_tokens == 5);
    assert_true(g->stream && g->include_usage && g->logprobs && g->ignore_eos);
    assert_int_equal(g->top_logprobs, 20);
    assert_true(g->sampling.temperature == 0.5 && g->sampling.top_p == 0.9);
    assert_true(g->sampling.min_p == 0.05 && g->sampling.repetition_penalty == 1.1);
    assert_true(g->sampling.presence_penalty == -1 && g->sampling.frequency_penalty == 2);
    assert_int_equal(g->sampling.top_k, 40);
    assert_true(g->sampling.has_seed && g->sampling.seed == INT64_MIN);
    assert_int_equal(g->n_stops, 2);
    assert_true(str_is(g->stops[1], "\n\n"));
    assert_int_equal(g->sampling.n_biases, 2);
    assert_int_equal(g->sampling.biases[1].token, 17);
    assert_true(g->sampling.biases[1].bias == 2.5f);
    assert_int_equal(g->n_stop_tokens, 2);
    assert_int_equal(g->stop_tokens[1], 3);
    assert_false(json_get(request.template_kwargs, "enable_thinking")->boolean);
    assert_false(request.add_generation_prompt);
    assert_true(str_is(g->user, "u"));
    accepts(with("\"stop\":\"END\",\"top_k\":-1,\"temperature\":0,\"stop_token_ids\":[]"));
    assert_int_equal(request.gen.n_stops, 1);
    assert_int_equal(request.gen.sampling.top_k, 0);
}

static void chat_takes_null_for_absent(void **state)
{
    (void)state;
    accepts(with("\"max_tokens\":null,\"seed\":null,\"stop\":null,\"tools\":null,"
                 "\"stream_options\":null,\"response_format\":null,\"user\":null,\"n\":null"));
    assert_false(request.gen.has_max_tokens || request.gen.sampling.has_seed);
    assert_int_equal(request.gen.n, 1);
}

static void chat_reads_messages(void **state)
{
    (void)state;
    accepts("{\"model\":\"m\",\"messages\":["
            "{\"role\":\"system\",\"content\":\"be brief\",\"name\":\"boss\"},"
            "{\"role\":\"developer\",\"content\":[{\"type\":\"text\",\"text\":\"one\"}]},"
            "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\\u0041\"},"
            "{\"text\":\"b\",\"type\":\"text\"},{\"type\":\"text\",\"text\":\"\"}]},"
            "{\"role\":\"assistant\",\"content\":null,\"refusal\":null,\"annotations\":[],"
            "\"audio\":null,\"function_call\":null,\"reasoning_content\":\"hm\",\"tool_calls\":[{"
            "\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
            "\"arguments\":\"{}\"}}]},"
            "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"42\"},"
            "{\"role\":\"assistant\",\"content\":null,\"refusal\":\"no\"},"
            "{\"role\":\"assistant\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"never\"}]},"
            "{\"role\":\"user\",\"content\":\"\"}]}");
    const struct api_message *m = request.messages;
    assert_int_equal(request.n_messages, 8);
    assert_int_equal(m[0].role, API_ROLE_SYSTEM);
    assert_true(str_is(m[0].name, "boss"));
    assert_int_equal(m[1].role, API_ROLE_DEVELOPER);
    assert_true(str_is(m[1].content, "one"));
    assert_true(str_is(m[2].content, "aA\nb\n"));
    assert_false(m[3].has_content);
    assert_true(str_is(m[3].reasoning, "hm"));
    assert_int_equal(m[3].n_tool_calls, 1);
    assert_true(str_is(m[3].tool_calls[0].name, "f"));
    assert_true(str_is(m[3].tool_calls[0].arguments, "{}"));
    assert_int_equal(m[4].role, API_ROLE_TOOL);
    assert_true(str_is(m[4].tool_call_id, "c1"));
    assert_true(str_is(m[5].content, "no"));
    assert_true(str_is(m[6].content, "never"));
    assert_true(m[7].has_content && m[7].content.len == 0);
    assert_string_equal(api_role_name(m[4].role), "tool");
}

static void chat_refuses_what_is_not_known(void **state)
{
    (void)state;
    refuses(with("\"temprature\":1"), RC_UNKNOWN_PARAM, "temprature");
    refuses(with("\"temprature\":null"), RC_UNKNOWN_PARAM, "temprature");
    refuses(with("\"\":1"), RC_UNKNOWN_PARAM, "");
    refuses(with("\"stream\":true,\"stream_options\":{\"usage\":true}"), RC_UNKNOWN_PARAM,
            "stream_options.usage");
    refuses("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"x\":1}]}",
            RC_UNKNOWN_PARAM, "messages[0].x");
    refuses(with("\"suffix\":\"x\""), RC_UNKNOWN_PARAM, "suffix"); /* completions only */
}

static void chat_refuses_what_is_not_served(void **state)
{
    (void)state;
    static const char *const members[] = {
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "modalities",
        "audio",
        "response_format",
        "prediction",
        "web_search_options",
        "verbosity",
        "guided_json",
        "reasoning_effort",
        "grammar",
        "prompt_logprobs",
        "best_of",
        "cache_salt",
        "priority",
        "mirostat",
    };
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        char member[64];
        snprintf(member, sizeof(member), "\"%s\":[{\"type\":\"json_object\"}]", members[i]);
        refuses(with(member), RC_UNSUPPORTED, members[i]);
    }
    refuses(with("\"response_format\":{\"type\":\"json_object\"}"), RC_UNSUPPORTED,
            "response_format");
    refuses(with("\"modalities\":[\"text\",\"audio\"]"), RC_UNSUPPORTED, "modalities");
    accepts(with("\"response_format\": { \"type\" : \"text\" },\"modalities\":[\"text\"],"
                 "\"tools\":[],\"tool_choice\":\"none\",\"verbosity\":\"medium\""));
    refuses("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":["
            "{\"type\":\"text\",\"text\":\"a\"},"
            "{\"type\":\"image_url\",\"image_url\":{\"url\":\"u\"}}]}]}",
            RC_UNSUPPORTED, "messages[0].content[1].type");
    refuses("{\"model\":\"m\",\"messages\":[{\"role\":\"function\",\"content\":\"a\"}]}",
            RC_UNSUPPORTED, "messages[0].role");
}

static void chat_checks_types_and_ranges(void **state)
{
    (void)state;
    static const struct {
        const char *member;
        const char *param;
    } bad[] = {
        {"\"n\":0", "n"},
        {"\"n\":17", "n"},
        {"\"n\":1.5", "n"},
        {"\"n\":\"1\"", "n"},
        {"\"n\":1e400", "n"},
        {"\"max_tokens\":0", "max_tokens"},
        {"\"max_tokens\":-1", "max_tokens"},
        {"\"max_tokens\":4294967296", "max_tokens"},
        {"\"max_tokens\":5,\"max_completion_tokens\":6", "max_completion_tokens"},
        {"\"temperature\":2.01", "temperature"},
        {"\"temperature\":-0.1", "temperature"},
        {"\"temperature\":1e999", "temperature"},
        {"\"temperature\":\"hot\"", "temperature"},
        {"\"top_p\":1.1", "top_p"},
        {"\"top_k\":-2", "top_k"},
        {"\"top_k\":1.5", "top_k"},
        {"\"min_p\":2", "min_p"},
        {"\"presence_penalty\":2.1", "presence_penalty"},
        {"\"frequency_penalty\":-2.1", "frequency_penalty"},
        {"\"repetition_penalty\":0", "repetition_penalty"},
        {"\"seed\":1.5", "seed"},
        {"\"seed\":9223372036854775808", "seed"},
        {"\"stream\":1", "stream"},
        {"\"stream_options\":{}", "stream_options"},
        {"\"stream\":true,\"stream_options\":[]", "stream_options"},
        {"\"stream\":true,\"stream_options\":{\"include_usage\":1}",
         "stream_options.include_usage"},
        {"\"stop\":5", "stop"},
        {"\"stop\":\"\"", "stop"},
        {"\"stop\":[\"a\",7]", "stop[1]"},
        {"\"stop\":[\"a\",\"\"]", "stop[1]"},
        {"\"stop\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]", "stop"},
        {"\"logit_bias\":[]", "logit_bias"},
        {"\"logit_bias\":{\"a\":1}", "logit_bias.a"},
        {"\"logit_bias\":{\"05\":1}", "logit_bias.05"},
        {"\"logit_bias\":{\"5\":101}", "logit_bias.5"},
        {"\"logit_bias\":{\"99999999999\":1}", "logit_bias.99999999999"},
        {"\"logprobs\":5", "logprobs"},
        {"\"top_logprobs\":2", "top_logprobs"},
        {"\"logprobs\":true,\"top_logprobs\":21", "top_logprobs"},
        {"\"stop_token_ids\":[1,-1]", "stop_token_ids[1]"},
        {"\"stop_token_ids\":3", "stop_token_ids"},
        {"\"min_tokens\":9,\"max_tokens\":8", "min_tokens"},
        {"\"user\":5", "user"},
        {"\"metadata\":\"x\"", "metadata"},
        {"\"store\":\"yes\"", "store"},
        {"\"chat_template_kwargs\":[]", "chat_template_kwargs"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        refuses(with(bad[i].member), RC_INVALID, bad[i].param);
    }
    accepts(with("\"n\":1.6e1,\"temperature\":2,\"top_p\":0"));
}

static void message_refused(const char *message, enum rc code, const char *param)
{
    char body[1024];
    snprintf(body, sizeof(body), "{\"model\":\"m\",\"messages\":[%s]}", message);
    refuses(body, code, param);
}

static void chat_checks_messages(void **state)
{
    (void)state;
    message_refused("", RC_INVALID, "messages");
    message_refused("5", RC_INVALID, "messages[0]");
    message_refused("{\"content\":\"a\"}", RC_MISSING, "messages[0].role");
    message_refused("{\"role\":\"user\"}", RC_MISSING, "messages[0].content");
    message_refused("{\"role\":\"user\",\"content\":null}", RC_MISSING, "messages[0].content");
    message_refused("{\"role\":\"assistant\",\"content\":null}", RC_MISSING, "messages[0].content");
    message_refused("{\"role\":\"king\",\"content\":\"a\"}", RC_INVALID, "messages[0].role");
    message_refused("{\"role\":1,\"content\":\"a\"}", RC_INVALID, "messages[0].role");
    message_refused("{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":7}",
                    RC_INVALID, "messages[1].content");
    message_refused("{\"role\":\"user\",\"content\":[]}", RC_INVALID, "messages[0].content");
    message_refused("{\"role\":\"user\",\"content\":[\"a\"]}", RC_INVALID,
                    "messages[0].content[0]");
    message_refused("{\"role\":\"user\",\"content\":[{\"text\":\"a\"}]}", RC_MISSING,
                    "messages[0].content[0].type");
    message_refused("{\"role\":\"user\",\"content\":[{\"type\":\"poem\"}]}", RC_INVALID,
                    "messages[0].content[0].type");
    message_refused("{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}", RC_MISSING,
                    "messages[0].content[0].text");
    message_refused("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":1}]}", RC_INVALID,
                    "messages[0].content[0].text");
    message_refused("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\",\"x\":1}]}",
                    RC_UNKNOWN_PARAM, "messages[0].content[0].x");
    message_refused("{\"role\":\"tool\",\"content\":\"a\"}", RC_MISSING,
                    "messages[0].tool_call_id");
    message_refused("{\"role\":\"user\",\"content\":\"a\",\"tool_call_id\":\"c\"}", RC_INVALID,
                    "messages[0].tool_call_id");
    message_refused("{\"role\":\"user\",\"content\":\"a\",\"tool_calls\":[{\"id\":\"1\","
                    "\"function\":{\"name\":\"f\"}}]}",
                    RC_INVALID, "messages[0].tool_calls");
    message_refused("{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\",\"function\":{}}]}",
                    RC_MISSING, "messages[0].tool_calls[0].function.name");
    message_refused("{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"tool\","
                    "\"function\":{\"name\":\"f\"}}]}",
                    RC_INVALID, "messages[0].tool_calls[0].type");
    message_refused("{\"role\":\"assistant\",\"content\":\"a\",\"audio\":{\"id\":\"x\"}}",
                    RC_UNSUPPORTED, "messages[0].audio");
}

static void chat_checks_the_body(void **state)
{
    (void)state;
    refuses("", RC_SYNTAX, "");
    refuses("{\"model\":\"m\",", RC_SYNTAX, "");
    assert_non_null(strstr(err.msg, "line 1, column 14 (byte 13)"));
    refuses("[]", RC_INVALID, "");
    refuses("{" HI "}", RC_MISSING, "model");
    refuses("{\"model\":null," HI "}", RC_MISSING, "model");
    refuses("{\"model\":\"\"," HI "}", RC_INVALID, "model");
    refuses("{\"model\":7," HI "}", RC_INVALID, "model");
    refuses("{\"model\":\"m\"}", RC_MISSING, "messages");
    refuses("{\"model\":\"m\",\"messages\":\"hi\"}", RC_INVALID, "messages");
    refuses("{\"model\":\"m\",\"model\":\"n\"," HI "}", RC_SYNTAX, "");
    char body[800];
    snprintf(body, sizeof(body), "{\"model\":\"%0600d\"," HI "}", 1);
    refuses(body, RC_INVALID, "model");
    snprintf(body, sizeof(body), "{\"model\":\"m\"," HI ",\"%0600d\":1}", 1);
    assert_int_equal(parse(body), RC_UNKNOWN_PARAM);
    assert_int_equal(strlen(err.param), sizeof(err.param) - 1); /* cut to fit */
}

static void chat_stays_within_its_arena(void **state)
{
    (void)state;
    const char *body = with("\"stop\":[\"a\",\"b\"],\"logit_bias\":{\"1\":1},\"user\":\"\\u0041\"");
    uint32_t n_refused = 0;
    for (size_t cap = 0; cap < 4096; cap += 16) {
        struct arena small;
        arena_init(&small, cap);
        err = (struct err){0};
        enum rc rc = api_chat_parse(str_from(body), &small, &request, &err);
        assert_true(rc == RC_OK || rc == RC_TOO_LARGE);
        n_refused += rc == RC_TOO_LARGE ? 1 : 0;
        arena_deinit(&small);
    }
    assert_true(n_refused > 20 && n_refused < 200);
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
        cmocka_unit_test(chat_fills_in_defaults),
        cmocka_unit_test(chat_reads_all_members),
        cmocka_unit_test(chat_takes_null_for_absent),
        cmocka_unit_test(chat_reads_messages),
        cmocka_unit_test(chat_refuses_what_is_not_known),
        cmocka_unit_test(chat_refuses_what_is_not_served),
        cmocka_unit_test(chat_checks_types_and_ranges),
        cmocka_unit_test(chat_checks_messages),
        cmocka_unit_test(chat_checks_the_body),
        cmocka_unit_test(chat_stays_within_its_arena),
    };
    return cmocka_run_group_tests(tests, make_arena, drop_arena);
}
