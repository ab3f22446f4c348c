/* The embeddings parser on any body: what is accepted keeps to its limits and can be answered,
 * what is refused says why. */
#include "api/embed.h"
#include "api/fail.h"
#include "base/assert.h"
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_request(const struct api_embed_request *r)
{
    ASSERT(r->model.len > 0 && r->model.len <= API_MODEL_BYTES_MAX);
    ASSERT(r->inputs.n >= 1 && r->inputs.n <= API_EMBED_INPUTS_MAX);
    ASSERT(!r->has_dimensions || r->dimensions >= 1);
    for (uint32_t i = 0; i < r->inputs.n; i++) {
        const struct api_prompt *p = &r->inputs.items[i];
        ASSERT(p->is_tokens ? p->n_tokens > 0 : p->text.len > 0 && str_utf8_valid(p->text));
    }
}

/* The body's own bytes as numbers: every float has a form in JSON. */
static void check_reply(struct arena *a, const uint8_t *data, size_t size, bool base64)
{
    float vector[8] = {0};
    struct buf out;
    const struct json *v = NULL;
    memcpy(vector, data, MIN(size, sizeof(vector)));
    struct api_embed_reply reply = {
        .model = STR_LIT("m"), .vectors = vector, .n = 2, .n_dims = 4, .base64 = base64};
    buf_init(&out, 1 << 16);
    api_embed_write(&out, &reply);
    ASSERT(buf_ok(&out) && json_parse(buf_str(&out), a, &v, NULL) == RC_OK);
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    struct err err = {0};
    struct api_embed_request r;
    arena_init(&a, 1 << 20);
    enum rc rc = api_embed_parse(str_make((const char *)data, size), &a, &r, &err);
    if (rc == RC_OK) {
        check_request(&r);
    } else {
        ASSERT(rc == err.code && (err_row(rc)->http_status == 400 || rc == RC_TOO_LARGE));
    }
    arena_reset(&a);
    check_reply(&a, data, size, size % 2 == 0);
    arena_deinit(&a);
    return 0;
}
