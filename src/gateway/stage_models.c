/* stage_models.c: GET /v1/models and /v1/models/ID from the catalogue: what the caller may ask for.
 */
#include "api/models.h"
#include "gateway/stages.h"

enum { MODELS_BYTES_MAX = 4 << 20 };

static enum gw_result models_list(struct gw_request *r, struct buf *out)
{
    const struct cat_model *models = r->cat->set.models.at;
    uint32_t n = 0, n_max = r->cat->set.models.n;
    struct api_model *list = arena_alloc_array(&r->arena, MAX(n_max, 1u), sizeof(*list));
    if (list == NULL) {
        err_set(&r->err, RC_TOO_LARGE, "The list of models is too long.");
        return GW_FAIL;
    }
    for (uint32_t i = 0; i < n_max; i++) {
        if (stage_parse_allows(r, models[i].name)) {
            list[n++] = (struct api_model){.id = models[i].name, .created = r->cat->loaded_s};
        }
    }
    api_models_write(out, list, n);
    return GW_DONE;
}

enum gw_result stage_route_models(struct gw_request *r)
{
    struct buf out;
    enum gw_result result = GW_DONE;
    buf_init(&out, MODELS_BYTES_MAX);
    if (r->kind == GW_MODELS) {
        result = models_list(r, &out);
    } else {
        const struct api_model one = {.id = r->model, .created = r->cat->loaded_s};
        api_model_write(&out, &one);
    }
    if (result == GW_DONE) {
        r->attempt->status = 200;
        gw_reply_whole(r, buf_str(&out));
    }
    buf_deinit(&out);
    return result;
}
