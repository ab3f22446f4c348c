#include "check.h"

#include <string.h>

#include "api/rerank.h"

static struct arena arena;
static struct err err;
static struct api_rerank_request request;

static enum rc parse(const char *members)
{
    char body[4096];
    snprintf(body, sizeof(body), "{\"model\":\"m\"%s%s}", members[0] != '\0' ? "," : "", members);
    arena_reset(&arena);
    err = (struct err){0};
    return api_rerank_parse(str_from(body), &arena, &request, &err);
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

static void rerank_reads_documents(void **state)
{
    (void)state;
    accepts("\"query\":\"q\",\"documents\":[\"a\",{\"text\":\"b\"},\"\"]");
    assert_int_equal(request.n_documents, 3);
    assert_int_equal(request.top_n, 3);
    assert_true(str_is(request.documents[1], "b"));
    assert_false(request.return_documents);
    accepts("\"query\":\"q\",\"documents\":[\"a\",\"b\"],\"top_n\":1,\"return_documents\":true,"
            "\"max_tokens_per_doc\":64,\"truncate_prompt_tokens\":32,\"rank_fields\":[\"text\"]");
    assert_int_equal(request.top_n, 1);
    assert_int_equal(request.doc_tokens_max, 64);
    assert_int_equal(request.truncate.n_tokens, 32);
    assert_true(request.return_documents);
    accepts("\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":50");
    assert_int_equal(request.top_n, 1);
}

static void rerank_refuses(void **state)
{
    (void)state;
    refuses("\"documents\":[\"a\"]", RC_MISSING, "query");
    refuses("\"query\":\"\",\"documents\":[\"a\"]", RC_INVALID, "query");
    refuses("\"query\":\"q\"", RC_MISSING, "documents");
    refuses("\"query\":\"q\",\"documents\":[]", RC_INVALID, "documents");
    refuses("\"query\":\"q\",\"documents\":\"a\"", RC_INVALID, "documents");
    refuses("\"query\":\"q\",\"documents\":[\"a\",5]", RC_INVALID, "documents[1]");
    refuses("\"query\":\"q\",\"documents\":[{}]", RC_MISSING, "documents[0].text");
    refuses("\"query\":\"q\",\"documents\":[{\"text\":\"a\",\"x\":1}]", RC_UNKNOWN_PARAM,
            "documents[0].x");
    refuses("\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":0", RC_INVALID, "top_n");
    refuses("\"query\":\"q\",\"documents\":[\"a\"],\"rank_fields\":[\"x\"]", RC_UNSUPPORTED,
            "rank_fields");
    refuses("\"query\":\"q\",\"documents\":[\"a\"],\"texts\":[]", RC_UNKNOWN_PARAM, "texts");
}

static void rerank_sorts_and_writes(void **state)
{
    (void)state;
    static const struct str documents[] = {STR_LIT("a"), STR_LIT("b"), STR_LIT("c")};
    struct api_rerank_result results[] = {{0, 0.25f}, {1, 0.75f}, {2, 0.75f}};
    api_rerank_sort(results, 3);
    struct api_rerank_reply reply = {.id = STR_LIT("rerank-1"),
                                     .model = STR_LIT("m"),
                                     .results = results,
                                     .n = 2,
                                     .documents = documents,
                                     .n_tokens = 9};
    struct buf out;
    buf_init(&out, 4096);
    api_rerank_write(&out, &reply);
    assert_string_equal(out.ptr,
                        "{\"id\":\"rerank-1\",\"model\":\"m\",\"results\":["
                        "{\"index\":1,\"relevance_score\":0.75,\"document\":{\"text\":\"b\"}},"
                        "{\"index\":2,\"relevance_score\":0.75,\"document\":{\"text\":\"c\"}}],"
                        "\"usage\":{\"prompt_tokens\":9,\"total_tokens\":9}}");
    buf_reset(&out);
    reply.documents = NULL;
    reply.n = 1;
    api_rerank_write(&out, &reply);
    assert_non_null(strstr(out.ptr, "[{\"index\":1,\"relevance_score\":0.75}]"));
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rerank_reads_documents),
        cmocka_unit_test(rerank_refuses),
        cmocka_unit_test(rerank_sorts_and_writes),
    };
    arena_init(&arena, 1 << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_deinit(&arena);
    return failed;
}
