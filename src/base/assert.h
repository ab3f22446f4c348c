/* assert.h: a broken assert is a programmer's mistake and ends the process (STYLE.md E26).
 *
 * ASSERT stays on in release builds. ASSERT_SLOW is for checks too dear for the data path and is
 * compiled in debug and sanitizer builds only. What the outside world can cause is an error, never
 * an assert. */
#ifndef BASE_ASSERT_H
#define BASE_ASSERT_H

#include "base/compiler.h"

/* Writes what failed and where to standard error, then aborts. Safe in any thread. */
NORETURN COLD void assert_fail(const char *cond, const char *file, int line);

#define ASSERT(cond) (LIKELY(cond) ? (void)0 : assert_fail(#cond, __FILE__, __LINE__))

#ifdef BUD_DEBUG
#define ASSERT_SLOW(cond) ASSERT(cond)
#else
#define ASSERT_SLOW(cond) ((void)sizeof(cond))
#endif

#endif
