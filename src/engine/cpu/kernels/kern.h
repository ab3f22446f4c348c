/* kern.h: what the kernel files share: the name of the instruction set they are compiled for. */
#ifndef ENGINE_CPU_KERNELS_KERN_H
#define ENGINE_CPU_KERNELS_KERN_H

#include "engine/cpu/kernels.h"

#define KERN_PASTE(name, isa)  name##_##isa
#define KERN_EXPAND(name, isa) KERN_PASTE(name, isa)
/* KERN_NAME(kern_floats) is kern_floats_avx2 in the objects for AVX2. */
#define KERN_NAME(name) KERN_EXPAND(name, ISA)

#define KERN_INLINE static inline __attribute__((always_inline))

#endif
