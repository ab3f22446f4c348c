/* mem.c: wrappers round the C library's allocator; nothing else calls it. */
#include "base/mem.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"

static NORETURN COLD void mem_exhausted(size_t bytes)
{
    fprintf(stderr, "bud: out of memory (%zu bytes asked)\n", bytes);
    abort();
}

void *mem_alloc(size_t bytes)
{
    void *ptr = malloc(bytes == 0 ? 1 : bytes);
    if (ptr == NULL) {
        mem_exhausted(bytes);
    }
    return ptr;
}

void *mem_try_alloc(size_t bytes)
{
    return malloc(bytes == 0 ? 1 : bytes);
}

void *mem_try_zalloc(size_t bytes)
{
    return calloc(1, bytes == 0 ? 1 : bytes);
}

void *mem_zalloc(size_t bytes)
{
    void *ptr = mem_try_zalloc(bytes);
    if (ptr == NULL) {
        mem_exhausted(bytes);
    }
    return ptr;
}

void *mem_try_zalloc_array(size_t n, size_t size)
{
    size_t bytes;
    return checked_mul(n, size, &bytes) ? mem_try_zalloc(bytes) : NULL;
}

void *mem_zalloc_array(size_t n, size_t size)
{
    void *ptr = mem_try_zalloc_array(n, size);
    if (ptr == NULL) {
        mem_exhausted(n);
    }
    return ptr;
}

void *mem_try_realloc(void *ptr, size_t bytes)
{
    return realloc(ptr, bytes == 0 ? 1 : bytes);
}

void *mem_realloc(void *ptr, size_t bytes)
{
    void *moved = mem_try_realloc(ptr, bytes);
    if (moved == NULL) {
        mem_exhausted(bytes);
    }
    return moved;
}

char *mem_strdup(const char *s)
{
    size_t bytes = strlen(s) + 1;
    return memcpy(mem_alloc(bytes), s, bytes);
}

void *mem_try_aligned(size_t align, size_t bytes)
{
    void *ptr = NULL;
    if (posix_memalign(&ptr, align, bytes == 0 ? align : bytes) != 0) {
        return NULL;
    }
    return memset(ptr, 0, bytes);
}

void mem_free(void *ptr)
{
    free(ptr);
}

/* The page before the one handed out holds the mapping's size. */
enum { MEM_PAGE_BYTES = 4096 };

void *mem_try_pages(size_t bytes)
{
    size_t total;
    if (!checked_add(bytes, (size_t)MEM_PAGE_BYTES, &total)) {
        return NULL;
    }
    void *base = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        return NULL;
    }
    memcpy(base, &total, sizeof(total));
    return (char *)base + MEM_PAGE_BYTES;
}

void mem_free_pages(void *ptr)
{
    if (ptr == NULL) {
        return;
    }
    void *base = (char *)ptr - MEM_PAGE_BYTES;
    size_t total;
    memcpy(&total, base, sizeof(total));
    munmap(base, total);
}

/* At an address where huge pages can begin: maps more than asked for and cuts both ends off. */
static void *mem_map_aligned(size_t bytes, size_t align)
{
    if (bytes > SIZE_MAX - align) {
        return MAP_FAILED;
    }
    char *all =
        mmap(NULL, bytes + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) {
        return MAP_FAILED;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t before = (align - (uintptr_t)all % align) % align;
    size_t end = before + (bytes + page - 1) / page * page;
    if (before > 0) {
        munmap(all, before);
    }
    if (end < bytes + align) {
        munmap(all + end, bytes + align - end);
    }
    return all + before;
}

void *mem_map(size_t bytes)
{
    enum { HUGE_PAGE_BYTES = 2 << 20 };
    void *ptr = bytes >= HUGE_PAGE_BYTES
                    ? mem_map_aligned(bytes, HUGE_PAGE_BYTES)
                    : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ptr == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(ptr, bytes, MADV_HUGEPAGE); /* a hint: kernels without THP refuse it */
    return ptr;
}

void mem_unmap(void *ptr, size_t bytes)
{
    if (ptr != NULL) {
        munmap(ptr, bytes);
    }
}

void mem_wipe(void *ptr, size_t bytes)
{
    explicit_bzero(ptr, bytes);
}

void mem_keep(size_t bytes)
{
    int kept = (int)MIN(bytes, (size_t)INT32_MAX);
    mallopt(M_TRIM_THRESHOLD, kept);
    mallopt(M_MMAP_THRESHOLD, kept / 4); /* larger ones come from the kernel and go back to it */
}
