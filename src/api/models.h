/* models.h: the bodies of GET /v1/models and GET /v1/models/{id}. */
#ifndef API_MODELS_H
#define API_MODELS_H

#include "base/buf.h"

struct api_model {
    struct str id;
    int64_t created;        /* seconds since 1970 */
    uint32_t max_model_len; /* tokens of context; 0 = not known, left out */
};

/* Append to `out`; its sticky failure is the result. */
void api_models_write(struct buf *out, const struct api_model *models, uint32_t n_models);
void api_model_write(struct buf *out, const struct api_model *model);

#endif
