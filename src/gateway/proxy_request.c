/* proxy_request.c: a request as its server needs it: path, headers, and the body with the few
 * members that must differ; everything else goes on byte for byte. */
#include "api/link.h"
#include "base/json.h"
#include "gateway/splice.h"
#include "gateway/stages.h"

/* Whether the body goes on as it came. */
bool proxy_request_edit(struct gw_attempt *a)
{
    struct gw_request *r = a->request;
    struct splice_edit edits[SPLICE_EDITS_MAX];
    struct str renamed = a->version->model;
    struct buf model;
    char tokens[STR_U64_BYTES];
    uint32_t n = 0;
    bool foreign = a->upstream->kind == CAT_OPENAI;
    buf_init(&model, 8 * API_MODEL_BYTES_MAX);
    renamed = renamed.len > 0 ? renamed : a->model_row->name;
    if (!str_eq(renamed, r->model)) {
        struct json_writer w;
        json_write_init(&w, &model);
        json_write_str(&w, renamed);
        edits[n++] = (struct splice_edit){STR_LIT("model"), buf_str(&model)};
    }
    if (r->clamped) { /* under the name that was used; both may be, and say the same */
        static const struct str old = STR_LIT("max_tokens"), new = STR_LIT("max_completion_tokens");
        struct str value = str_make(tokens, str_put_u64(tokens, r->output_tokens_max));
        /* Who has given no limit has neither, or a null: the old name is set, whatever it was. */
        bool has_new = r->parsed.has_max_tokens && splice_has(buf_str(&r->body), new);
        if (has_new) {
            edits[n++] = (struct splice_edit){new, value};
        }
        if (!has_new || splice_has(buf_str(&r->body), old)) {
            edits[n++] = (struct splice_edit){old, value};
        }
    }
    a->hide_usage = foreign && r->stream && !r->parsed.include_usage;
    if (a->hide_usage) {
        edits[n++] =
            (struct splice_edit){STR_LIT("stream_options"), STR_LIT("{\"include_usage\":true}")};
    }
    stages_unhold(r, &a->edited);
    if (n > 0) {
        size_t before = a->edited.len;
        splice(&a->edited, buf_str(&r->body), edits, n);
        gw_shared_hold_copy(r->gateway->shared, a->edited.len - before);
    }
    buf_deinit(&model);
    return buf_ok(&a->edited);
}

static struct str proxy_path(struct gw_request *r)
{
    static const struct str paths[] = {
        [GW_CHAT] = STR_LIT("/v1/chat/completions"), [GW_COMPLETION] = STR_LIT("/v1/completions"),
        [GW_EMBED] = STR_LIT("/v1/embeddings"),      [GW_RERANK] = STR_LIT("/v1/rerank"),
        [GW_MODELS] = STR_LIT("/v1/models"),         [GW_MODEL] = STR_NULL,
    };
    if (r->kind != GW_MODEL) {
        return paths[r->kind];
    }
    struct str target = http_exchange_head(r->x)->target;
    return str_starts(target, STR_LIT("/v1/")) ? target
                                               : arena_printf(&r->arena, "/v1%.*s", STR(target));
}

struct str proxy_request_target(struct gw_attempt *a)
{
    struct gw_request *r = a->request;
    struct str path = proxy_path(r);
    struct str base = a->upstream->base;
    return base.len == 0 ? path : arena_printf(&r->arena, "%.*s%.*s", STR(base), STR(path));
}

/* Our servers get the link's headers; others get their key, and nothing of ours but the trace. */
uint32_t proxy_request_headers(struct gw_attempt *a, struct http_header *out,
                               struct api_header *texts)
{
    const struct gw_request *r = a->request;
    struct api_link link;
    uint32_t n = 0;
    bool foreign = a->upstream->kind == CAT_OPENAI;
    api_link_init(&link);
    str_copy(link.traceparent, sizeof(link.traceparent), str_from(r->traceparent));
    if (!foreign) {
        str_copy(link.request_id, sizeof(link.request_id), str_from(r->id));
        str_copy(link.tenant, sizeof(link.tenant), str_from(r->tenant));
        link.has_budget = r->budget_tokens > 0;
        link.budget_tokens = (uint32_t)MIN(r->budget_tokens, (uint64_t)UINT32_MAX);
    }
    uint32_t n_link = api_link_headers(&link, texts);
    if (gw_kind_has_body(r->kind)) {
        out[n++] = (struct http_header){STR_LIT("content-type"), STR_LIT("application/json")};
    }
    for (uint32_t i = 0; i < n_link; i++) {
        bool ours = api_link_is_header(str_from(texts[i].name));
        if (!foreign || !ours) {
            out[n++] = (struct http_header){str_from(texts[i].name), str_from(texts[i].value)};
        }
    }
    /* The server's as it is now: the request's own catalogue may know it by another key, which is
     * for nobody at this address. */
    if (a->backend->auth[0] != '\0') {
        out[n++] = (struct http_header){STR_LIT("authorization"), str_from(a->backend->auth)};
    }
    return n;
}
