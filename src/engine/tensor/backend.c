/* backend.c: the list of backends that this build has, and the types of keys and values. */
#include "engine/tensor/backend.h"

#include <string.h>

#include "base/assert.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/ref.h"

static const struct backend_ops *const backends[] = {&backend_cpu_ops, &ref_backend_ops, NULL};

const struct backend_ops *const *backend_all(void)
{
    return backends;
}

const struct backend_ops *backend_find(const char *name)
{
    for (const struct backend_ops *const *b = backends; *b != NULL; b++) {
        if ((name == NULL || strcmp((*b)->name, name) == 0) && (*b)->available()) {
            return *b;
        }
    }
    return NULL;
}

/* ---- keys and values ---- */

static const struct kv_type_row {
    const char *name;
    enum dtype type;
    uint8_t channel_bytes, head_bytes;
} kv_types[] = {
    {"f16", DTYPE_F16, 2, 0},
    {"f32", DTYPE_F32, 4, 0},
    {"bf16", DTYPE_BF16, 2, 0},
    {"q8", DTYPE_Q8_0, 1, sizeof(float)},
};

static const struct kv_type_row *find_kv_type(enum dtype type)
{
    for (size_t i = 0; i < ARRAY_LEN(kv_types); i++) {
        if (kv_types[i].type == type) {
            return &kv_types[i];
        }
    }
    return NULL;
}

bool backend_kv_type(enum dtype type)
{
    return find_kv_type(type) != NULL;
}

bool backend_kv_type_parse(struct str name, enum dtype *out)
{
    for (size_t i = 0; i < ARRAY_LEN(kv_types); i++) {
        if (str_eq_nocase(name, str_from(kv_types[i].name))) {
            *out = kv_types[i].type;
            return true;
        }
    }
    return false;
}

const char *backend_kv_type_name(enum dtype type)
{
    ASSERT(backend_kv_type(type));
    return find_kv_type(type)->name;
}

uint64_t backend_kv_position_bytes(const struct kv_shape *shape)
{
    const struct kv_type_row *row = find_kv_type(shape->type);
    ASSERT(row != NULL);
    uint64_t d = ((uint64_t)shape->d_head + 15) / 16 * 16;
    uint64_t head = d * row->channel_bytes + row->head_bytes;
    return 2 * head * shape->n_kv_heads * shape->n_layers;
}
