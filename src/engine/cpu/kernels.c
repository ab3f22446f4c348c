/* kernels.c: which kernels this machine gets.
 *
 * A set is one row below: each table from the objects of its own instruction set, or from those of
 * a lesser one where it gains nothing (mk/isa.mk compiles the same files). A set joins the rows
 * only once tests/00_unit/engine_cpu/test_panels.c has passed on it, on a machine or under
 * tools/emulate. AVX512-BF16, whose rounding no emulator at hand shows, has passed with its
 * instructions written out in C (test_panel_bf16.c): it is there for who asks for it. */
#include "engine/cpu/kernels.h"

#include <string.h>

#include "base/cpu.h"
#include "engine/cpu/pack.h"

#define KERN_TABLES(isa)                                                                           \
    extern const struct kern_attend_table kern_attend_##isa;                                       \
    extern const struct kern_float_table kern_floats_##isa;
#define KERN_GEMM_INT(isa)                                                                         \
    extern const struct kern_gemm_table kern_gemm_32_##isa, kern_gemm_k_##isa;
#define KERN_GEMM_FLOAT(isa) extern const struct kern_gemm_table kern_gemm_float_##isa;

KERN_TABLES(generic)
KERN_GEMM_INT(generic)
KERN_GEMM_FLOAT(generic)

static bool kernels_run_anywhere(const struct cpu_features *f)
{
    UNUSED(f);
    return true;
}

#if defined(__x86_64__)
KERN_TABLES(avx2)
KERN_GEMM_INT(avx2)
KERN_GEMM_FLOAT(avx2)
KERN_GEMM_INT(avx2vnni)
KERN_GEMM_INT(avx512)
KERN_GEMM_FLOAT(avx512)
extern const struct kern_attend_table kern_attend_avx512;
extern const struct kern_gemm_table kern_gemm_bf16_avx512bf16;

static bool kernels_run_avx512bf16(const struct cpu_features *f)
{
    return f->avx512_vnni && f->avx512_bf16;
}

static bool kernels_run_avx512(const struct cpu_features *f)
{
    return f->avx512_vnni;
}

static bool kernels_run_avx2(const struct cpu_features *f)
{
    return f->avx2;
}

static bool kernels_run_avx2vnni(const struct cpu_features *f)
{
    return f->avx2 && f->avx_vnni;
}
#endif

struct kernels_row {
    bool (*runs)(const struct cpu_features *f);
    bool on_request; /* never chosen unnamed */
    struct kernels set;
};

/* From the fastest to the slowest. */
static const struct kernels_row kernels_rows[] = {
#if defined(__x86_64__)
    {kernels_run_avx512bf16,
     true,
     {.isa = "avx512bf16",
      .attend = &kern_attend_avx512,
      .floats = &kern_floats_avx2,
      .gemm_32 = &kern_gemm_32_avx512,
      .gemm_k = &kern_gemm_k_avx512,
      .gemm_float = &kern_gemm_float_avx512,
      .gemm_bf16 = &kern_gemm_bf16_avx512bf16}},
    {kernels_run_avx512,
     false,
     {.isa = "avx512",
      .attend = &kern_attend_avx512,
      .floats = &kern_floats_avx2,
      .gemm_32 = &kern_gemm_32_avx512,
      .gemm_k = &kern_gemm_k_avx512,
      .gemm_float = &kern_gemm_float_avx512}},
    {kernels_run_avx2vnni,
     false,
     {.isa = "avx2vnni",
      .attend = &kern_attend_avx2,
      .floats = &kern_floats_avx2,
      .gemm_32 = &kern_gemm_32_avx2vnni,
      .gemm_k = &kern_gemm_k_avx2vnni,
      .gemm_float = &kern_gemm_float_avx2}},
    {kernels_run_avx2,
     false,
     {.isa = "avx2",
      .attend = &kern_attend_avx2,
      .floats = &kern_floats_avx2,
      .gemm_32 = &kern_gemm_32_avx2,
      .gemm_k = &kern_gemm_k_avx2,
      .gemm_float = &kern_gemm_float_avx2}},
#endif
    {kernels_run_anywhere,
     false,
     {.isa = "generic",
      .attend = &kern_attend_generic,
      .floats = &kern_floats_generic,
      .gemm_32 = &kern_gemm_32_generic,
      .gemm_k = &kern_gemm_k_generic,
      .gemm_float = &kern_gemm_float_generic}},
};

const struct kernels *kernels_choose(const char *isa)
{
    for (size_t i = 0; i < ARRAY_LEN(kernels_rows); i++) {
        const struct kernels_row *row = &kernels_rows[i];
        bool meant = isa == NULL ? !row->on_request : strcmp(isa, row->set.isa) == 0;
        if (meant && row->runs(cpu_features())) {
            return &row->set;
        }
    }
    return NULL;
}

enum kern_form kernels_form(enum dtype type)
{
    if (pack_layouts[type].codes == 0) {
        return KERN_F32;
    }
    return pack_layouts[type].supers == 0 ? KERN_Q32 : KERN_Q256;
}

kern_gemm_fn kernels_gemm(const struct kernels *k, enum dtype type)
{
    const struct kern_gemm_table *tables[KERN_FORMS] = {
        [KERN_F32] = k->gemm_float, [KERN_Q32] = k->gemm_32, [KERN_Q256] = k->gemm_k};
    if (type == DTYPE_BF16 && k->gemm_bf16 != NULL) {
        return k->gemm_bf16->gemm[type];
    }
    return tables[kernels_form(type)]->gemm[type];
}
