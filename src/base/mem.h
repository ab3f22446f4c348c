/* mem.h: the only door to the system's allocator (STYLE.md D19).
 *
 * mem_alloc family: boot and long-lived objects; running out ends the process. mem_try_ family:
 * sizes that a request or a file decides; running out returns NULL. All memory goes back by
 * mem_free, mapped memory by mem_unmap. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include "base/compiler.h"

/* Never NULL; zero bytes gives a valid pointer. Contents undefined / zeroed. */
void *mem_alloc(size_t bytes);
void *mem_zalloc(size_t bytes);
/* n * size with overflow ending the process. Zeroed. */
void *mem_zalloc_array(size_t n, size_t size);
/* Grows or shrinks; never NULL. */
void *mem_realloc(void *ptr, size_t bytes);
char *mem_strdup(const char *s);

/* NULL when there is not enough memory or n * size overflows. Zeroed, mem_try_alloc excepted. */
MUST_CHECK void *mem_try_alloc(size_t bytes);
MUST_CHECK void *mem_try_zalloc(size_t bytes);
MUST_CHECK void *mem_try_zalloc_array(size_t n, size_t size);
MUST_CHECK void *mem_try_realloc(void *ptr, size_t bytes);

/* Aligned to `align` (power of two, multiple of 8), contents zeroed; NULL when out of memory. */
MUST_CHECK void *mem_try_aligned(size_t align, size_t bytes);

/* NULL is allowed. */
void mem_free(void *ptr);

/* Whole pages, page-aligned and zero, that cost memory only where they are touched: for buffers
 * sized for the largest case. NULL when there is no room. Given back by mem_free_pages alone. */
MUST_CHECK void *mem_try_pages(size_t bytes);
/* NULL is allowed. */
void mem_free_pages(void *ptr);

/* Anonymous zero pages straight from the kernel, asked to be huge ones; NULL when refused. */
MUST_CHECK void *mem_map(size_t bytes);
void mem_unmap(void *ptr, size_t bytes);

/* Of what is freed up to `bytes` stay with the process for whoever asks next: giving pages back and
 * taking new ones costs more than a long request itself. Once, at start. */
void mem_keep(size_t bytes);

/* Overwrites and is never optimised away. */
void mem_wipe(void *ptr, size_t bytes);

#endif
