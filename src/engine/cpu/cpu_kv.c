/* cpu_kv.c: memory of keys and values of the "cpu" backend, in pages. */
#include "engine/cpu/cpu_attn.h"

#include <string.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/mem.h"

enum rc backend_cpu_kv_alloc(struct backend *b, const struct kv_shape *shape, void **kv,
                             struct err *err)
{
    UNUSED(b);
    ASSERT(shape->d_head <= ATTEND_HEAD_MAX);
    struct cpu_kv *k = mem_zalloc(sizeof(*k));
    k->shape = *shape;
    bool known = attend_layout_init(&k->layout, shape->type, shape->d_head);
    ASSERT(known);
    if (!checked_mul(k->layout.block_bytes, shape->n_kv_heads, &k->n_bytes) ||
        !checked_mul(k->n_bytes, shape->n_pages, &k->n_bytes) ||
        !checked_mul(k->n_bytes, shape->n_layers, &k->n_bytes) ||
        (k->bytes = mem_map(k->n_bytes)) == NULL) {
        mem_free(k);
        return err_set(err, RC_NOMEM, "no memory for %u key/value pages", shape->n_pages);
    }
    *kv = k;
    return RC_OK;
}

void backend_cpu_kv_free(struct backend *b, void *kv)
{
    UNUSED(b);
    struct cpu_kv *k = kv;
    if (k != NULL) {
        mem_unmap(k->bytes, k->n_bytes);
        mem_free(k);
    }
}

void backend_cpu_kv_copy(struct backend *b, void *kv, uint32_t from_page, uint32_t to_page)
{
    UNUSED(b);
    const struct cpu_kv *k = kv;
    const size_t bytes = k->layout.block_bytes;
    ASSERT(from_page < k->shape.n_pages && to_page < k->shape.n_pages);
    for (uint32_t layer = 0; layer < k->shape.n_layers; layer++) {
        for (uint32_t head = 0; head < k->shape.n_kv_heads; head++) {
            unsigned char *pages = cpu_kv_head(k, layer, head);
            memmove(pages + to_page * bytes, pages + from_page * bytes, bytes);
        }
    }
}
