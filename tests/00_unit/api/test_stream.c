/* Golden shapes: OpenAI's API reference and what its SDKs read. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "api/models.h"
#include "api/stream.h"
#include "base/json.h"

#define HEAD(id, object)                                                                           \
    "{\"id\":\"" id "\",\"object\":\"" object                                                      \
    "\",\"created\":1700000000,\"model\":\"m \\\"1\\\"\","                                         \
    "\"system_fingerprint\":\"bud-" BUD_VERSION "\","
#define USAGE                                                                                      \
    "\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15,"                 \
    "\"prompt_tokens_details\":{\"cached_tokens\":4,\"audio_tokens\":0},"                          \
    "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,"                    \
    "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}"

static const struct api_usage usage = {
    .prompt_tokens = 10, .completion_tokens = 5, .cached_tokens = 4};
static const struct api_head chat = {.kind = API_KIND_CHAT,
                                     .id = {"chatcmpl-1", 10},
                                     .model = {"m \"1\"", 5},
                                     .created = 1700000000};
static const struct api_head completion = {.kind = API_KIND_COMPLETION,
                                           .id = {"cmpl-1", 6},
                                           .model = {"m \"1\"", 5},
                                           .created = 1700000000};
static struct buf out;

static void wrote(const char *expected)
{
    assert_true(buf_ok(&out));
    assert_string_equal(out.ptr, expected);
    buf_reset(&out);
}

static void stream_writes_whole_replies(void **state)
{
    (void)state;
    const struct api_piece choices[] = {
        {.index = 0, .text = STR_LIT("Hello\n"), .finish = API_FINISH_STOP},
        {.index = 1, .text = STR_LIT(""), .finish = API_FINISH_LENGTH},
    };
    api_reply_write(&out, &chat, choices, 2, &usage);
    wrote(HEAD("chatcmpl-1",
               "chat.completion") "\"choices\":["
                                  "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
                                  "\"Hello\\n\","
                                  "\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"},"
                                  "{\"index\":1,\"message\":{\"role\":\"assistant\",\"content\":"
                                  "\"\",\"refusal\":null},"
                                  "\"logprobs\":null,\"finish_reason\":\"length\"}]," USAGE "}");
    api_reply_write(&out, &completion, choices, 1, &usage);
    wrote(HEAD("cmpl-1", "text_completion") "\"choices\":[{\"index\":0,\"text\":\"Hello\\n\","
                                            "\"logprobs\":null,\"finish_reason\":\"stop\"}]," USAGE
                                            "}");
}

static void stream_writes_chat_events(void **state)
{
    (void)state;
    api_stream_piece(&out, &chat, &(struct api_piece){.first = true});
    wrote(
        "data: " HEAD("chatcmpl-1", "chat.completion.chunk") "\"choices\":[{\"index\":0,"
                                                             "\"delta\":{\"role\":\"assistant\","
                                                             "\"content\":\"\"},\"logprobs\":null,"
                                                             "\"finish_reason\":null}]}\n\n");
    struct api_head counted = chat;
    counted.include_usage = true;
    api_stream_piece(&out, &counted, &(struct api_piece){.index = 2, .text = STR_LIT("a\nb")});
    wrote("data: " HEAD("chatcmpl-1",
                        "chat.completion.chunk") "\"choices\":[{\"index\":2,"
                                                 "\"delta\":{\"content\":\"a\\nb\"},\"logprobs\":"
                                                 "null,\"finish_reason\":null}],"
                                                 "\"usage\":null}\n\n");
    api_stream_piece(&out, &chat, &(struct api_piece){.finish = API_FINISH_LENGTH});
    wrote(
        "data: " HEAD("chatcmpl-1", "chat.completion.chunk") "\"choices\":[{\"index\":0,"
                                                             "\"delta\":{},\"logprobs\":null,"
                                                             "\"finish_reason\":\"length\"}]}\n\n");
    api_stream_usage(&out, &counted, &usage);
    wrote("data: " HEAD("chatcmpl-1", "chat.completion.chunk") "\"choices\":[]," USAGE "}\n\n");
    api_stream_done(&out);
    wrote("data: [DONE]\n\n");
    api_stream_ping(&out);
    wrote(": ping\n\n");
}

static void stream_writes_completion_events(void **state)
{
    (void)state;
    api_stream_piece(&out, &completion,
                     &(struct api_piece){.text = STR_LIT("x"), .finish = API_FINISH_STOP});
    wrote("data: " HEAD("cmpl-1",
                        "text_completion") "\"choices\":[{\"index\":0,\"text\":\"x\","
                                           "\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n");
}

static void stream_fails_inside_a_stream(void **state)
{
    (void)state;
    struct err err = {0};
    (void)err_set(&err, RC_UNAVAILABLE, "the model server ended");
    api_stream_fail(&out, &err);
    wrote("data: {\"error\":{\"message\":\"the model server ended\",\"type\":\"server_error\","
          "\"param\":null,\"code\":\"unavailable\"}}\n\n");
}

static const struct api_alt alts[] = {
    {STR_LIT(" a"), -0.5f}, {STR_LIT("\xE2\x82"), -1.5f}, {STR_LIT(" a"), -2.5f}};
static const struct api_logprob logprobs[] = {
    {.bytes = STR_LIT("\xC3\xA9"), .none = true, .text_offset = 0},
    {.bytes = STR_LIT(" a"), .logprob = -0.5f, .top = alts, .n_top = 3, .text_offset = 1},
    {.bytes = STR_LIT("z"), .logprob = -INFINITY, .top = alts, .n_top = 1, .text_offset = 3},
};

static void stream_writes_chat_logprobs(void **state)
{
    (void)state;
    const struct api_piece piece = {
        .text = STR_LIT(" a"), .has_logprobs = true, .logprobs = &logprobs[1], .n_logprobs = 2};
    api_stream_piece(&out, &chat, &piece);
    wrote("data: " HEAD(
        "chatcmpl-1",
        "chat.completion.chunk") "\"choices\":[{\"index\":0,"
                                 "\"delta\":{\"content\":\" a\"},\"logprobs\":{\"content\":["
                                 "{\"token\":\" "
                                 "a\",\"logprob\":-0.5,\"bytes\":[32,97],\"top_logprobs\":["
                                 "{\"token\":\" a\",\"logprob\":-0.5,\"bytes\":[32,97]},"
                                 "{\"token\":\"\\\\xe2\\\\x82\",\"logprob\":-1.5,\"bytes\":[226,"
                                 "130]},"
                                 "{\"token\":\" a\",\"logprob\":-2.5,\"bytes\":[32,97]}]},"
                                 "{\"token\":\"z\",\"logprob\":-9999,\"bytes\":[122],\"top_"
                                 "logprobs\":["
                                 "{\"token\":\" "
                                 "a\",\"logprob\":-0.5,\"bytes\":[32,97]}]}],\"refusal\":null},"
                                 "\"finish_reason\":null}]}\n\n");
}

static void stream_writes_completion_logprobs(void **state)
{
    (void)state;
    const struct api_piece piece = {.text = STR_LIT("\xC3\xA9 az"),
                                    .has_logprobs = true,
                                    .logprobs = logprobs,
                                    .n_logprobs = 3,
                                    .finish = API_FINISH_STOP};
    api_reply_write(&out, &completion, &piece, 1, &usage);
    wrote(HEAD(
        "cmpl-1",
        "text_completion") "\"choices\":[{\"index\":0,\"text\":\"\xC3\xA9 az\","
                           "\"logprobs\":{\"tokens\":[\"\xC3\xA9\",\" a\",\"z\"],"
                           "\"token_logprobs\":[null,-0.5,-9999],"
                           "\"top_logprobs\":[null,{\" a\":-0.5,\"bytes:\\\\xe2\\\\x82\":-1.5},"
                           "{\" a\":-0.5,\"z\":-9999}],\"text_offset\":[0,1,3]},"
                           "\"finish_reason\":\"stop\"}]," USAGE "}");
}

static void stream_lists_models(void **state)
{
    (void)state;
    const struct api_model models[] = {{STR_LIT("a"), 1700000000, 4096}, {STR_LIT("b"), 1, 0}};
    api_models_write(&out, models, 2);
    wrote("{\"object\":\"list\",\"data\":[{\"id\":\"a\",\"object\":\"model\","
          "\"created\":1700000000,\"owned_by\":\"bud\",\"max_model_len\":4096},"
          "{\"id\":\"b\",\"object\":\"model\",\"created\":1,\"owned_by\":\"bud\"}]}");
    api_models_write(&out, NULL, 0);
    wrote("{\"object\":\"list\",\"data\":[]}");
    api_model_write(&out, &models[1]);
    wrote("{\"id\":\"b\",\"object\":\"model\",\"created\":1,\"owned_by\":\"bud\"}");
}

static void stream_fails_when_the_buffer_is_full(void **state)
{
    (void)state;
    struct buf small;
    buf_init(&small, 100);
    api_stream_piece(&small, &chat, &(struct api_piece){.text = STR_LIT("x")});
    assert_false(buf_ok(&small));
    buf_deinit(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_writes_whole_replies),
        cmocka_unit_test(stream_writes_chat_events),
        cmocka_unit_test(stream_writes_completion_events),
        cmocka_unit_test(stream_fails_inside_a_stream),
        cmocka_unit_test(stream_writes_chat_logprobs),
        cmocka_unit_test(stream_writes_completion_logprobs),
        cmocka_unit_test(stream_lists_models),
        cmocka_unit_test(stream_fails_when_the_buffer_is_full),
    };
    buf_init(&out, 1 << 16);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    buf_deinit(&out);
    return rc;
}
