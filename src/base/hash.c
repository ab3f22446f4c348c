/* hash.c: XXH3, the fastest good hash of the field, behind our name. */
#include "base/hash.h"

#include <xxhash.h>

uint64_t hash_bytes(const void *bytes, size_t n)
{
    return XXH3_64bits(bytes, n);
}

uint64_t hash_disk(struct str s)
{
    return XXH64(s.ptr, s.len, 0);
}

struct hash128 hash128_bytes(const void *bytes, size_t n, uint64_t seed)
{
    XXH128_hash_t h = XXH3_128bits_withSeed(bytes, n, seed);
    return (struct hash128){h.low64, h.high64};
}
