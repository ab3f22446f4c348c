/* cpu.h: what this processor can do, asked once (CPUID and XCR0 by the compiler's run time). */
#ifndef BASE_CPU_H
#define BASE_CPU_H

#include "base/compiler.h"

struct cpu_features {
    bool avx2;        /* with FMA and F16C */
    bool avx_vnni;    /* 256-bit VNNI without AVX-512 */
    bool avx512;      /* F, BW, VL, DQ */
    bool avx512_vnni; /* implies avx512 */
    bool avx512_bf16; /* implies avx512 */
};

/* Shared, read-only. */
const struct cpu_features *cpu_features(void);
/* The processor's own name, "unknown" when it has none. */
const char *cpu_name(void);

#endif
