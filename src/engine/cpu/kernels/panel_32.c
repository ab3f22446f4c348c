/* panel_32.c: the table of kernels over panels of types with blocks of 32 columns (panel.h). */
#include "engine/cpu/kernels/panel.h"

#if defined(__AVX2__)
#include "engine/cpu/kernels/panel_avx2.h"
#else
#include "engine/cpu/kernels/panel_generic.h"
#define panel_gemm_32 panel_gemm_generic
#endif

#define DEFINE_GEMM(T)                                                                             \
    static void gemm_##T(const struct kern_gemm *g, const struct kern_rows *a)                     \
    {                                                                                              \
        panel_gemm_32(DTYPE_##T, g, a);                                                            \
    }
PANEL_TYPES_32(DEFINE_GEMM)

extern const struct kern_gemm_table KERN_NAME(kern_gemm_32);
const struct kern_gemm_table KERN_NAME(kern_gemm_32) = {
#define ROW_GEMM(T) [DTYPE_##T] = gemm_##T,
    {PANEL_TYPES_32(ROW_GEMM)}
#undef ROW_GEMM
};
