/* The AVX2-VNNI kernels on machines without AVX-VNNI: the same source with vpdpbusd spelt out in
 * AVX2 instructions, against the AVX2 kernels bit for bit. Types that cover every way through
 * panel_avx2.h; test_panels runs all of them where the instruction is there. */
#include "check.h"

#if defined(__x86_64__) && !defined(__clang__) /* for its target pragma */
#define SPELT_OUT_HERE 1
/* Compiling for speed would take a minute and show no more. */
#pragma GCC optimize("O1")
#pragma GCC target("avx2,fma,f16c")
#include <immintrin.h>
#define __AVX2__    1
#define __AVXVNNI__ 1

/* acc + w · x of each four bytes, w unsigned, x signed. */
static inline __attribute__((always_inline)) __m256i spelt_out(__m256i acc, __m256i w, __m256i x)
{
    __m256i w_even = _mm256_and_si256(w, _mm256_set1_epi16(255));
    __m256i w_odd = _mm256_srli_epi16(w, 8);
    __m256i x_even = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
    __m256i x_odd = _mm256_srai_epi16(x, 8);
    __m256i sum =
        _mm256_add_epi32(_mm256_madd_epi16(w_even, x_even), _mm256_madd_epi16(w_odd, x_odd));
    return _mm256_add_epi32(acc, sum);
}
#define _mm256_dpbusd_avx_epi32 spelt_out

#include "engine/cpu/kernels/panel_avx2.h"
#endif

#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/pack.h"

#if defined(SPELT_OUT_HERE)

enum { ROWS_MAX = 9, COLS_MAX = 512 + 96 };

#define SPELT_OUT(T, family)                                                                       \
    static void gemm_##T(const struct kern_gemm *g, const struct kern_rows *a)                     \
    {                                                                                              \
        panel_gemm_##family(DTYPE_##T, g, a);                                                      \
    }
SPELT_OUT(Q5_1, 32)
SPELT_OUT(Q8_0, 32)
SPELT_OUT(Q4_K, k)
SPELT_OUT(Q6_K, k)

static const struct {
    enum dtype type;
    kern_gemm_fn fn;
} kernels_under_test[] = {
    {DTYPE_Q5_1, gemm_Q5_1},
    {DTYPE_Q8_0, gemm_Q8_0},
    {DTYPE_Q4_K, gemm_Q4_K},
    {DTYPE_Q6_K, gemm_Q6_K},
};

struct activations {
    int8_t q8[ROWS_MAX * COLS_MAX];
    float d[ROWS_MAX * COLS_MAX / 32];
    int16_t sums[ROWS_MAX * COLS_MAX / 16];
};

static struct kern_rows random_rows(struct activations *in, enum dtype type, uint32_t n_cols,
                                    struct rng *r)
{
    uint32_t per_sum = kernels_form(type) == KERN_Q32 ? 32 : 16;
    for (uint32_t i = 0; i < ROWS_MAX * n_cols; i++) {
        in->q8[i] = (int8_t)(rng_u32(r) % 3 == 0 ? 127 : (int)(rng_u32(r) % 255) - 127);
    }
    for (uint32_t i = 0; i < ROWS_MAX * n_cols / per_sum; i++) {
        int sum = 0;
        for (uint32_t c = 0; c < per_sum; c++) {
            sum += in->q8[i * per_sum + c];
        }
        in->sums[i] = (int16_t)sum;
    }
    for (uint32_t i = 0; i < ARRAY_LEN(in->d); i++) {
        in->d[i] = (float)(rng_u32(r) % 1000) * 1e-4f;
    }
    return (struct kern_rows){.q8 = in->q8,
                              .d = in->d,
                              .sums = in->sums,
                              .q_stride = n_cols,
                              .d_stride = n_cols / 32,
                              .sums_stride = n_cols / per_sum};
}

/* Two panels of random blocks; their F16 scales are made finite. */
static unsigned char *random_panels(enum dtype type, uint32_t n_cols, struct rng *r)
{
    const struct pack_layout l = pack_layouts[type];
    size_t bytes = pack_panel_bytes(type, n_cols);
    unsigned char *panels = mem_try_aligned(PACK_ALIGN, 2 * bytes);
    assert_non_null(panels);
    for (size_t i = 0; i < 2 * bytes; i++) {
        panels[i] = (unsigned char)rng_u32(r);
    }
    for (size_t at = 0; at < 2 * bytes;) {
        uint32_t col = (uint32_t)(at % bytes / pack_chunk_bytes(l, 8)) * PACK_CHUNK_COLS;
        uint32_t n_blocks = MIN(n_cols - col, (uint32_t)PACK_CHUNK_COLS) / 32;
        struct pack_parts p = pack_parts(l, n_blocks);
        size_t halves = l.supers != 0 ? p.supers : p.scales;
        for (size_t i = halves + 1; i < p.supers + l.supers; i += 2) {
            panels[at + i] &= 0xBF; /* an exponent below 16 */
        }
        for (size_t i = p.scales; l.supers != 0 && i < p.supers && type != DTYPE_Q6_K; i++) {
            panels[at + i] &= 31; /* integer scales of five bits */
        }
        at += pack_chunk_bytes(l, n_blocks);
    }
    return panels;
}

static void check_type(const struct kernels *avx2, enum dtype type, kern_gemm_fn fn,
                       uint32_t n_cols, struct rng *r)
{
    static _Alignas(64) unsigned char scratch[KERN_SCRATCH_BYTES];
    static struct activations in;
    static float want[2][ROWS_MAX * PACK_ROWS], have[2][ROWS_MAX * PACK_ROWS];
    unsigned char *panels = random_panels(type, n_cols, r);
    struct kern_rows rows = random_rows(&in, type, n_cols, r);
    struct kern_gemm g = {.panel = {panels, panels + pack_panel_bytes(type, n_cols)},
                          .n_cols = n_cols,
                          .out_stride = PACK_ROWS,
                          .scratch = scratch};
    for (rows.n = 1; rows.n <= ROWS_MAX; rows.n++) {
        memset(want, 0xA5, sizeof(want));
        memset(have, 0xA5, sizeof(have));
        g.out[0] = want[0];
        g.out[1] = want[1];
        kernels_gemm(avx2, type)(&g, &rows);
        g.out[0] = have[0];
        g.out[1] = have[1];
        fn(&g, &rows);
        if (memcmp(want, have, sizeof(want)) != 0) {
            fail_msg("%s: %u columns, %u rows", dtype_row(type)->name, n_cols, rows.n);
        }
    }
    mem_free(panels);
}

static void vnni_kernels_equal_those_of_avx2(void **state)
{
    (void)state;
    const struct kernels *avx2 = kernels_choose("avx2");
    if (avx2 == NULL) {
        print_message("no AVX2 on this machine\n");
        skip();
    }
    struct rng r;
    rng_init(&r, 6);
    for (size_t i = 0; i < ARRAY_LEN(kernels_under_test); i++) {
        bool k = kernels_form(kernels_under_test[i].type) == KERN_Q256;
        check_type(avx2, kernels_under_test[i].type, kernels_under_test[i].fn, 256, &r);
        check_type(avx2, kernels_under_test[i].type, kernels_under_test[i].fn, k ? 512 : COLS_MAX,
                   &r);
    }
}

#else

static void vnni_kernels_equal_those_of_avx2(void **state)
{
    (void)state;
    print_message("not gcc on an x86-64 machine\n");
    skip();
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(vnni_kernels_equal_those_of_avx2)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
