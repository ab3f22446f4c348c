/* models.c: see models.h. The shape is OpenAI's, with vLLM's max_model_len. */
#include "api/models.h"

#include "base/json.h"

static void write_model(struct json_writer *w, const struct api_model *model)
{
    json_write_object_begin(w);
    json_write_member_str(w, "id", model->id);
    json_write_member_cstr(w, "object", "model");
    json_write_member_i64(w, "created", model->created);
    json_write_member_cstr(w, "owned_by", "bud");
    if (model->max_model_len > 0) {
        json_write_member_i64(w, "max_model_len", model->max_model_len);
    }
    json_write_object_end(w);
}

void api_models_write(struct buf *out, const struct api_model *models, uint32_t n_models)
{
    struct json_writer w;
    json_write_init(&w, out);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "object", "list");
    json_write_name(&w, "data");
    json_write_array_begin(&w);
    for (uint32_t i = 0; i < n_models; i++) {
        write_model(&w, &models[i]);
    }
    json_write_array_end(&w);
    json_write_object_end(&w);
}

void api_model_write(struct buf *out, const struct api_model *model)
{
    struct json_writer w;
    json_write_init(&w, out);
    write_model(&w, model);
}
