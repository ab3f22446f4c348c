/* checked.h: arithmetic on sizes that came from outside (STYLE.md D22).
 *
 * Each returns true and stores the result, or false when it does not fit the type of *out. */
#ifndef BASE_CHECKED_H
#define BASE_CHECKED_H

#include "base/compiler.h"

#define checked_add(a, b, out) (!__builtin_add_overflow((a), (b), (out)))
#define checked_sub(a, b, out) (!__builtin_sub_overflow((a), (b), (out)))
#define checked_mul(a, b, out) (!__builtin_mul_overflow((a), (b), (out)))

/* Rounds `a` up to a multiple of `align` (a power of two). */
MUST_CHECK static inline bool checked_align_up(uint64_t a, uint64_t align, uint64_t *out)
{
    uint64_t sum;
    if (align == 0 || (align & (align - 1)) != 0 || !checked_add(a, align - 1, &sum)) {
        return false;
    }
    *out = sum & ~(align - 1);
    return true;
}

#endif
