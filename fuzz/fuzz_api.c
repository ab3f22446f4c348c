/* Both request parsers on any body: what is accepted keeps to its limits, what is refused says why
 * and can be written as an error. */
#include "api/chat.h"
#include "api/complete.h"
#include "api/fail.h"
#include "base/assert.h"
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_generate(const struct api_generate *g)
{
    ASSERT(g->model.len > 0 && g->model.len <= API_MODEL_BYTES_MAX);
    ASSERT(g->n >= 1 && g->n <= API_N_MAX);
    ASSERT(g->n_stops <= API_STOPS_MAX);
    ASSERT(g->top_logprobs <= API_TOP_LOGPROBS_MAX);
    ASSERT(!g->has_max_tokens || g->min_tokens <= g->max_tokens);
    ASSERT(g->sampling.temperature >= 0 && g->sampling.temperature <= 2);
    ASSERT(g->sampling.top_p >= 0 && g->sampling.top_p <= 1);
    for (uint32_t i = 0; i < g->n_stops; i++) {
        ASSERT(g->stops[i].len > 0);
        ASSERT(str_utf8_valid(g->stops[i]));
    }
}

static void check_refusal(struct arena *a, enum rc rc, const struct err *err)
{
    struct buf out;
    const struct json *v = NULL;
    ASSERT(rc == err->code);
    ASSERT(err_row(rc)->http_status == 400 || rc == RC_TOO_LARGE);
    buf_init(&out, 1 << 16);
    api_fail_write(&out, err);
    arena_reset(a);
    ASSERT(json_parse(buf_str(&out), a, &v, NULL) == RC_OK);
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str body = str_make((const char *)data, size);
    struct arena a;
    struct err err = {0};
    struct api_chat_request chat;
    struct api_complete_request complete;
    arena_init(&a, 1 << 20);
    enum rc rc = api_chat_parse(body, &a, &chat, &err);
    if (rc == RC_OK) {
        check_generate(&chat.gen);
        ASSERT(chat.n_messages >= 1 && chat.n_messages <= API_MESSAGES_MAX);
        for (uint32_t i = 0; i < chat.n_messages; i++) {
            ASSERT(str_utf8_valid(chat.messages[i].content));
            ASSERT(api_role_name(chat.messages[i].role) != NULL);
        }
    } else {
        check_refusal(&a, rc, &err);
    }
    arena_reset(&a);
    err = (struct err){0};
    rc = api_complete_parse(body, &a, &complete, &err);
    if (rc == RC_OK) {
        check_generate(&complete.gen);
        ASSERT(complete.gen.has_max_tokens);
        ASSERT(complete.n_prompts >= 1);
        ASSERT(complete.n_prompts * complete.gen.n <= API_CHOICES_MAX);
    } else {
        check_refusal(&a, rc, &err);
    }
    arena_deinit(&a);
    return 0;
}
