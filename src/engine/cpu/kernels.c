/* kernels.c: which kernels this machine gets. */
#include "engine/cpu/kernels.h"

#include <string.h>

#include "base/cpu.h"

#define KERN_SET(isa)                                                                              \
    extern const struct kern_linear_table kern_linear_##isa;                                       \
    extern const struct kern_attend_table kern_attend_##isa;                                       \
    extern const struct kern_float_table kern_floats_##isa;                                        \
    static const struct kernels kernels_##isa = {#isa, &kern_linear_##isa, &kern_attend_##isa,     \
                                                 &kern_floats_##isa};

#if defined(__x86_64__)
KERN_SET(avx2)
#endif
KERN_SET(generic)

const struct kernels *kernels_choose(const char *isa)
{
#if defined(__x86_64__)
    if (cpu_features()->avx2 && (isa == NULL || strcmp(isa, "avx2") == 0)) {
        return &kernels_avx2;
    }
#endif
    return isa == NULL || strcmp(isa, "generic") == 0 ? &kernels_generic : NULL;
}
