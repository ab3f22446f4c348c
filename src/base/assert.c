/* assert.c: the end of a process whose own code is wrong. */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void assert_fail(const char *cond, const char *file, int line)
{
    fprintf(stderr, "bud: assertion failed: %s (%s:%d)\n", cond, file, line);
    abort();
}
