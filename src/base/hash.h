/* hash.h: fast hashes. Not for secrets; hash_disk alone may be written to a file. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/str.h"

uint64_t hash_bytes(const void *bytes, size_t n);

/* A checksum that is the same for ever and on every machine (XXH64, seed 0). */
uint64_t hash_disk(struct str s);

struct hash128 {
    uint64_t lo, hi;
};

/* Hashes that differ for every seed, so that nobody can prepare two inputs that meet. */
struct hash128 hash128_bytes(const void *bytes, size_t n, uint64_t seed);

static inline bool hash128_eq(struct hash128 a, struct hash128 b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

static inline uint64_t hash_str(struct str s)
{
    return hash_bytes(s.ptr, s.len);
}

/* Mixes all bits of x (the finaliser of SplitMix64). */
static inline uint64_t hash_u64(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

#endif
