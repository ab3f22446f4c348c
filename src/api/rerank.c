/* rerank.c: POST /v1/rerank. */
#include "api/rerank.h"

#include <stdlib.h>

#include "api/field.h"
#include "api/generate.h"

/* ---- the body ---- */

/* A text, or an object that has one: {"text":"…"}. */
static enum rc read_document(struct api_field_ctx *ctx, const struct json *v, struct str *out)
{
    static const struct api_field rows[] = {
        {.name = STR_LIT("text"), .kind = API_FIELD_STR, .required = true},
    };
    const struct api_field_table table = {rows, ARRAY_LEN(rows), out};
    if (v->type == JSON_STRING) {
        *out = v->text;
        return RC_OK;
    }
    if (v->type != JSON_OBJECT) {
        return api_field_fail_type(ctx, v, "a string or an object with a text");
    }
    return api_field_read(ctx, v, &table, 1);
}

static enum rc read_documents(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    struct api_rerank_request *r = out;
    if (v->type != JSON_ARRAY) {
        return api_field_fail_type(ctx, v, "an array");
    }
    if (v->n == 0 || v->n > API_RERANK_DOCUMENTS_MAX) {
        return api_field_fail(ctx, RC_INVALID, "has %u entries, 1 to %d are allowed", v->n,
                              API_RERANK_DOCUMENTS_MAX);
    }
    struct str *documents = arena_alloc_array(ctx->a, v->n, sizeof(*documents));
    if (documents == NULL) {
        return api_field_fail_room(ctx);
    }
    uint32_t n = 0;
    JSON_EACH(v, it)
    {
        api_field_down_idx(ctx, n);
        enum rc rc = read_document(ctx, it, &documents[n++]);
        if (rc != RC_OK) {
            return rc;
        }
        api_field_up(ctx);
    }
    r->documents = documents;
    r->n_documents = n;
    return RC_OK;
}

static enum rc read_truncate(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    struct api_rerank_request *r = out;
    return api_generate_read_truncate(ctx, v, &r->truncate);
}

#define ROW(kind, name, member, ...)                                                               \
    API_FIELD_ROW(kind, struct api_rerank_request, name, member, __VA_ARGS__)

static const struct api_field rerank_rows[] = {
    ROW(STR, "model", model, .required = true, .max = API_MODEL_BYTES_MAX),
    ROW(STR, "query", query, .required = true),
    API_FIELD_OWN_ROW("documents", read_documents, .required = true),
    ROW(U32, "top_n", top_n, .min = 1, .max = INT32_MAX),
    ROW(BOOL, "return_documents", return_documents),
    ROW(U32, "max_tokens_per_doc", doc_tokens_max, .min = 1, .max = INT32_MAX),
    ROW(STR, "user", user, .max = API_NAME_BYTES_MAX),
    /* vLLM's extensions. */
    API_FIELD_OWN_ROW("truncate_prompt_tokens", read_truncate),
    API_FIELD_NOT_SERVED_ROW("priority", "0"),
    /* Cohere's, of older models that read structured documents. */
    API_FIELD_NOT_SERVED_ROW("rank_fields", "[\"text\"]"),
    API_FIELD_NOT_SERVED_ROW("max_chunks_per_doc", "1"),
};
#undef ROW

enum rc api_rerank_parse(struct str body, struct arena *a, struct api_rerank_request *out,
                         struct err *err)
{
    *out = (struct api_rerank_request){.top_n = UINT32_MAX};
    struct api_field_ctx ctx = {.a = a, .err = err};
    const struct api_field_table table = {rerank_rows, ARRAY_LEN(rerank_rows), out};
    enum rc rc = api_field_read_body(&ctx, body, &table, 1);
    out->top_n = MIN(out->top_n, out->n_documents);
    return rc;
}

/* ---- the reply ---- */

static int compare_results(const void *left, const void *right)
{
    const struct api_rerank_result *a = left, *b = right;
    if (a->relevance != b->relevance) {
        return a->relevance > b->relevance ? -1 : 1;
    }
    return a->index < b->index ? -1 : 1;
}

void api_rerank_sort(struct api_rerank_result *results, uint32_t n)
{
    qsort(results, n, sizeof(*results), compare_results);
}

void api_rerank_write(struct buf *out, const struct api_rerank_reply *r)
{
    struct json_writer w;
    json_write_init(&w, out);
    json_write_object_begin(&w);
    json_write_member_str(&w, "id", r->id);
    json_write_member_str(&w, "model", r->model);
    json_write_name(&w, "results");
    json_write_array_begin(&w);
    for (uint32_t i = 0; i < r->n; i++) {
        json_write_object_begin(&w);
        json_write_member_u64(&w, "index", r->results[i].index);
        json_write_name(&w, "relevance_score");
        json_write_f32(&w, r->results[i].relevance);
        if (r->documents != NULL) {
            json_write_name(&w, "document");
            json_write_object_begin(&w);
            json_write_member_str(&w, "text", r->documents[r->results[i].index]);
            json_write_object_end(&w);
        }
        json_write_object_end(&w);
    }
    json_write_array_end(&w);
    json_write_name(&w, "usage");
    json_write_object_begin(&w);
    json_write_member_u64(&w, "prompt_tokens", r->n_tokens);
    json_write_member_u64(&w, "total_tokens", r->n_tokens);
    json_write_object_end(&w);
    json_write_object_end(&w);
}
