/* rope.h: rotary position embedding: frequencies once per model, cosines and sines per batch.
 *
 * Sources: RoFormer (Su et al. 2021), YaRN (Peng et al. 2023), LongRoPE (Ding et al. 2024),
 * Llama 3.1's frequency factors (carried by the file as a tensor). Angles are taken in double:
 * at position 10⁶ a float angle is wrong in the second digit. */
#ifndef ENGINE_MODEL_ROPE_H
#define ENGINE_MODEL_ROPE_H

#include "engine/model/weights.h"

enum rope_set_index { ROPE_GLOBAL, ROPE_LOCAL, ROPE_SETS };

/* One set of frequencies. */
struct rope_set {
    double *inv_freq; /* [n_rot / 2], radians per position; NULL: the set is not used */
    double magnitude; /* cos and sin times this */
};

struct rope_tables {
    uint32_t n_rot;
    struct rope_set sets[ROPE_SETS];
};

/* context_tokens is the limit in force: it decides between long and short factors. RC_CORRUPT when
 * a factor is not a positive number. */
RC rope_tables_init(struct rope_tables *r, const struct modelconf *c, const struct weights *w,
                    uint32_t context_tokens, struct err *err);
/* May be called twice and on a zeroed struct. */
void rope_tables_deinit(struct rope_tables *r);
/* out[t, i] = {cos, sin}(positions[t] * inv_freq[i]) * magnitude; the set must be in use. */
void rope_tables_fill(const struct rope_tables *r, enum rope_set_index set,
                      const uint32_t *positions, uint32_t n_tokens, float *out);

#endif
