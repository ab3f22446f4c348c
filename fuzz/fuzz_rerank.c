/* The rerank parser on any body: what is accepted keeps to its limits and can be answered, what
 * is refused says why. */
#include "api/rerank.h"
#include "base/assert.h"
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_reply(struct arena *a, const struct api_rerank_request *r)
{
    struct buf out;
    const struct json *v = NULL;
    struct api_rerank_result *results = arena_alloc_array(a, r->n_documents, sizeof(*results));
    if (results == NULL) {
        return;
    }
    for (uint32_t i = 0; i < r->n_documents; i++) {
        results[i] = (struct api_rerank_result){i, (float)(r->documents[i].len % 7)};
    }
    api_rerank_sort(results, r->n_documents);
    struct api_rerank_reply reply = {.id = STR_LIT("id"),
                                     .model = r->model,
                                     .results = results,
                                     .n = r->top_n,
                                     .documents = r->return_documents ? r->documents : NULL};
    buf_init(&out, 1 << 24);
    api_rerank_write(&out, &reply);
    ASSERT(buf_ok(&out));
    enum rc rc = json_parse(buf_str(&out), a, &v, NULL);
    ASSERT(rc == RC_OK || rc == RC_TOO_LARGE);
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    struct err err = {0};
    struct api_rerank_request r;
    arena_init(&a, 1 << 20);
    enum rc rc = api_rerank_parse(str_make((const char *)data, size), &a, &r, &err);
    if (rc == RC_OK) {
        ASSERT(r.model.len > 0 && r.query.len > 0);
        ASSERT(r.n_documents >= 1 && r.n_documents <= API_RERANK_DOCUMENTS_MAX);
        ASSERT(r.top_n >= 1 && r.top_n <= r.n_documents);
        check_reply(&a, &r);
    } else {
        ASSERT(rc == err.code && (err_row(rc)->http_status == 400 || rc == RC_TOO_LARGE));
    }
    arena_deinit(&a);
    return 0;
}
