/* rng.h: a small, fast, seedable generator (PCG-XSH-RR 64/32, O'Neill 2014). For sampling, jitter
 * and tests; never for secrets (base/crypto.h). */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include "base/compiler.h"

struct rng {
    uint64_t state;
};

/* Same seed, same sequence, on every machine. */
void rng_init(struct rng *r, uint64_t seed);
uint32_t rng_u32(struct rng *r);
uint64_t rng_u64(struct rng *r);
/* Uniform in [0, n), n > 0, without bias. */
uint32_t rng_below(struct rng *r, uint32_t n);
/* Uniform in [0, 1). */
double rng_unit(struct rng *r);

#endif
