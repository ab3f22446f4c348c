/* embed.c: POST /v1/embeddings. */
#include "api/embed.h"

#include <math.h>
#include <string.h>

#include "api/generate.h"
#include "base/assert.h"
#include "base/base64.h"
#include "base/json.h"

/* ---- the body ---- */

static enum rc read_input(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    struct api_embed_request *r = out;
    enum rc rc = api_generate_read_prompts(ctx, v, API_EMBED_INPUTS_MAX, &r->inputs);
    for (uint32_t i = 0; rc == RC_OK && i < r->inputs.n; i++) {
        const struct api_prompt *p = &r->inputs.items[i];
        if (!p->is_tokens && p->text.len == 0) {
            if (v->type == JSON_ARRAY) {
                api_field_down_idx(ctx, i);
            }
            rc = api_field_fail(ctx, RC_INVALID, "must not be an empty string");
        }
    }
    return rc;
}

static enum rc read_format(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    struct api_embed_request *r = out;
    r->base64 = v->type == JSON_STRING && str_is(v->text, "base64");
    if (v->type != JSON_STRING || (!r->base64 && !str_is(v->text, "float"))) {
        return api_field_fail(ctx, RC_INVALID, "must be \"float\" or \"base64\"");
    }
    return RC_OK;
}

static enum rc read_truncate(struct api_field_ctx *ctx, const struct json *v, void *out)
{
    struct api_embed_request *r = out;
    return api_generate_read_truncate(ctx, v, &r->truncate);
}

#define ROW(kind, name, member, ...)                                                               \
    API_FIELD_ROW(kind, struct api_embed_request, name, member, __VA_ARGS__)

static const struct api_field embed_rows[] = {
    ROW(STR, "model", model, .required = true, .max = API_MODEL_BYTES_MAX),
    ROW(STR, "user", user, .max = API_NAME_BYTES_MAX),
    API_FIELD_OWN_ROW("input", read_input, .required = true),
    API_FIELD_OWN_ROW("encoding_format", read_format),
    ROW(U32, "dimensions", dimensions, .min = 1, .max = API_EMBED_DIMENSIONS_MAX,
        API_FIELD_HAS(struct api_embed_request, has_dimensions)),
    /* vLLM's and llama.cpp's extensions. */
    API_FIELD_OWN_ROW("truncate_prompt_tokens", read_truncate),
    API_FIELD_NOT_SERVED_ROW("add_special_tokens", "true"),
    API_FIELD_NOT_SERVED_ROW("normalize", "true"),
    API_FIELD_NOT_SERVED_ROW("embd_normalize", "2"),
    API_FIELD_NOT_SERVED_ROW("priority", "0"),
    API_FIELD_NOT_SERVED_ROW("messages", NULL),
};
#undef ROW

enum rc api_embed_parse(struct str body, struct arena *a, struct api_embed_request *out,
                        struct err *err)
{
    *out = (struct api_embed_request){0};
    struct api_field_ctx ctx = {.a = a, .err = err};
    const struct api_field_table table = {embed_rows, ARRAY_LEN(embed_rows), out};
    return api_field_read_body(&ctx, body, &table, 1);
}

/* ---- the reply ---- */

static void write_base64(struct json_writer *w, struct buf *out, const float *v, uint32_t n)
{
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire's order is ours");
    size_t n_bytes = n * sizeof(*v), n_chars = base64_len(n_bytes);
    json_write_raw(w, STR_LIT("\""));
    char *room = buf_reserve(out, n_chars + 1);
    if (room != NULL) {
        base64_encode(v, n_bytes, room);
        room[n_chars] = '"';
        buf_commit(out, n_chars + 1);
    }
}

static void write_floats(struct json_writer *w, const float *v, uint32_t n)
{
    json_write_array_begin(w);
    for (uint32_t i = 0; i < n; i++) {
        json_write_f32(w, v[i]);
    }
    json_write_array_end(w);
}

void api_embed_write(struct buf *out, const struct api_embed_reply *r)
{
    struct json_writer w;
    json_write_init(&w, out);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "object", "list");
    json_write_name(&w, "data");
    json_write_array_begin(&w);
    for (uint32_t i = 0; i < r->n; i++) {
        const float *v = r->vectors + (size_t)i * r->n_dims;
        json_write_object_begin(&w);
        json_write_member_cstr(&w, "object", "embedding");
        json_write_member_u64(&w, "index", i);
        json_write_name(&w, "embedding");
        if (r->base64) {
            write_base64(&w, out, v, r->n_dims);
        } else {
            write_floats(&w, v, r->n_dims);
        }
        json_write_object_end(&w);
    }
    json_write_array_end(&w);
    json_write_member_str(&w, "model", r->model);
    json_write_name(&w, "usage");
    json_write_object_begin(&w);
    json_write_member_u64(&w, "prompt_tokens", r->n_tokens);
    json_write_member_u64(&w, "total_tokens", r->n_tokens);
    json_write_object_end(&w);
    json_write_object_end(&w);
}

void api_embed_shorten(float *vectors, uint32_t n, uint32_t n_dims, uint32_t dimensions)
{
    ASSERT(dimensions > 0 && dimensions <= n_dims);
    for (uint32_t i = 0; i < n; i++) {
        const float *from = vectors + (size_t)i * n_dims;
        float *to = vectors + (size_t)i * dimensions;
        double square = 0;
        for (uint32_t k = 0; k < dimensions; k++) {
            square += (double)from[k] * (double)from[k];
        }
        double scale = square > 0 ? 1 / sqrt(square) : 0;
        for (uint32_t k = 0; k < dimensions; k++) {
            to[k] = (float)((double)from[k] * scale);
        }
    }
}
