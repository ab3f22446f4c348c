/* nearest.h: the known word that a mistyped one was probably meant to be. */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

#include "base/str.h"

/* NULL when none is near (three slips at most, fewer than the name is long). */
const char *nearest_name(struct str word, const char *const *names, uint32_t n);

#endif
