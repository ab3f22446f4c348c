/* backend.c: the list of backends that this build has. */
#include "engine/tensor/backend.h"

#include <string.h>

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
