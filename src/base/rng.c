/* rng.c: PCG-XSH-RR 64/32 with the reference multiplier and increment. */
#include "base/rng.h"

#include "base/assert.h"

#define RNG_MULTIPLIER 6364136223846793005u
#define RNG_INCREMENT  1442695040888963407u

void rng_init(struct rng *r, uint64_t seed)
{
    r->state = 0;
    (void)rng_u32(r);
    r->state += seed;
    (void)rng_u32(r);
}

uint32_t rng_u32(struct rng *r)
{
    uint64_t old = r->state;
    r->state = old * RNG_MULTIPLIER + RNG_INCREMENT;
    uint32_t mixed = (uint32_t)(((old >> 18) ^ old) >> 27);
    uint32_t rot = (uint32_t)(old >> 59);
    return (mixed >> rot) | (mixed << ((32u - rot) & 31u));
}

uint64_t rng_u64(struct rng *r)
{
    uint64_t high = rng_u32(r);
    return (high << 32) | rng_u32(r);
}

uint32_t rng_below(struct rng *r, uint32_t n)
{
    ASSERT(n > 0);
    uint32_t threshold = (0u - n) % n; /* values below it would make small results likelier */
    for (;;) {
        uint32_t value = rng_u32(r);
        if (value >= threshold) {
            return value % n;
        }
    }
}

double rng_unit(struct rng *r)
{
    return (double)(rng_u64(r) >> 11) * 0x1.0p-53;
}
