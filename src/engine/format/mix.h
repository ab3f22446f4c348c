/* mix.h: which type each tensor of a quantised model gets. A mix is a base type with exceptions:
 * the tensors that suffer most keep more bits. Names and choices are those of llama.cpp's
 * llama-quantize, so that "Q4_K_M" means what users expect. */
#ifndef ENGINE_FORMAT_MIX_H
#define ENGINE_FORMAT_MIX_H

#include "base/str.h"
#include "engine/tensor/dtype.h"

struct mix {
    const char *name;
    enum dtype base;
    uint32_t file_type; /* general.file_type */
};

/* By name, case ignored; "Q4_K" means Q4_K_M, "Q5_K" Q5_K_M, "Q3_K" Q3_K_M. NULL when unknown. */
const struct mix *mix_find(struct str name);
/* All of them, in the order of the table; NULL past the end. */
const struct mix *mix_at(uint32_t idx);

/* What the choice depends on, beside the tensor itself. */
struct mix_model {
    uint32_t n_layers;
    uint32_t n_gqa;     /* query heads per key head; 1 when unknown */
    uint32_t n_experts; /* 0 = dense */
    bool tied;          /* no output.weight: the embedding is also the output */
};

/* Whether the tensor is a weight matrix that mixes apply to; others (norms, biases, routers,
 * vectors, positions) stay as they are. */
bool mix_applies(struct str name, uint32_t n_dims);

/* The type for a weight matrix whose rows have n_cols weights. A type whose block does not divide
 * n_cols falls back: Q2_K, Q3_K and IQ4_XS to IQ4_NL, Q4_K to Q5_0, Q5_K to Q5_1, Q6_K to Q8_0,
 * and what 32 does not divide to F16. *fell_back (may be NULL) tells. */
enum dtype mix_choose(const struct mix *m, const struct mix_model *model, struct str name,
                      uint64_t n_cols, bool *fell_back);

#endif
