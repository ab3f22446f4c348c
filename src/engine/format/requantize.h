/* requantize.h: a model's weights into another type or mix, as a new GGUF file. */
#ifndef ENGINE_FORMAT_REQUANTIZE_H
#define ENGINE_FORMAT_REQUANTIZE_H

#include "base/err.h"
#include "engine/format/gguf.h"

struct requantize_conf {
    const char *mix;       /* a name of mix.h, "Q4_K_M" */
    uint32_t n_threads;    /* 0 = one per usable core */
    bool allow_requantize; /* take weights that are quantised already: quality is lost twice */
    /* After each tensor, on the calling thread; may be NULL. */
    void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_ctx;
};

struct requantize_result {
    uint64_t bytes_before; /* of the tensors */
    uint64_t bytes_after;
    uint32_t n_quantized; /* tensors that got another type */
    uint32_t n_kept;
    uint32_t n_fallback; /* of the quantised: width does not divide, see mix_choose */
};

/* Writes `in` to the file `path`, which appears only when all went well. Norms, biases, routers
 * and vectors are copied. Updates general.file_type and general.quantization_version; a split
 * model becomes one file. `result` may be NULL. RC_INVALID: unknown mix (with the list of known
 * ones), weights already quantised, or a weight that is not finite (with tensor and offset). */
RC requantize_model(const struct gguf *in, const char *path, const struct requantize_conf *conf,
                    struct requantize_result *result, struct err *err);

#endif
