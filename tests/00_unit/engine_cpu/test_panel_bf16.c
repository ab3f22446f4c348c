/* The BF16 kernel of AVX512-BF16, its eight instructions written out in plain C: what it reads,
 * rounds, adds and stores, on machines that lack them. Where they exist, test_panels runs it. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "engine/tensor/half.h"

/* ---- the instructions ---- */

#pragma GCC diagnostic ignored "-Wpsabi" /* only inlined: how vectors are passed does not matter   \
                                          */

typedef float __m512 __attribute__((vector_size(64), aligned(64)));
typedef long long __m512i __attribute__((vector_size(64), aligned(64)));
typedef short __m512bh __attribute__((vector_size(64), aligned(64)));
typedef short __m256bh __attribute__((vector_size(32), aligned(32)));
typedef uint16_t __mmask16;

#define BY_HAND static inline __attribute__((always_inline))

BY_HAND __m512 _mm512_setzero_ps(void)
{
    return (__m512){0};
}

BY_HAND __m512 _mm512_loadu_ps(const void *p)
{
    __m512 v;
    memcpy(&v, p, sizeof(v));
    return v;
}

BY_HAND __m512 _mm512_maskz_loadu_ps(__mmask16 seen, const float *p)
{
    __m512 v = {0};
    for (int i = 0; i < 16; i++) {
        if ((seen >> i & 1) != 0) {
            v[i] = p[i];
        }
    }
    return v;
}

BY_HAND __m512i _mm512_loadu_si512(const void *p)
{
    __m512i v;
    memcpy(&v, p, sizeof(v));
    return v;
}

BY_HAND void _mm512_storeu_ps(void *p, __m512 v)
{
    memcpy(p, &v, sizeof(v));
}

BY_HAND __m512i _mm512_set1_epi32(int x)
{
    int all[16];
    for (int i = 0; i < 16; i++) {
        all[i] = x;
    }
    return _mm512_loadu_si512(all);
}

BY_HAND __m256bh _mm512_cvtneps_pbh(__m512 v)
{
    __m256bh out = {0};
    for (int i = 0; i < 16; i++) {
        out[i] = (short)half_bf16_from_f32(v[i]);
    }
    return out;
}

/* The odd element first, one rounding each (Intel SDM, VDPBF16PS). */
BY_HAND __m512 _mm512_dpbf16_ps(__m512 acc, __m512bh a, __m512bh b)
{
    for (int i = 0; i < 16; i++) {
        for (int k = 2 * i + 1; k >= 2 * i; k--) {
            acc[i] =
                fmaf(half_bf16_to_f32((uint16_t)a[k]), half_bf16_to_f32((uint16_t)b[k]), acc[i]);
        }
    }
    return acc;
}

#define PANEL_BY_HAND
#define ISA by_hand
#include "engine/cpu/kernels/panel_bf16.c"

/* ---- the test ---- */

enum { OUTPUTS = 32, ROWS = 13, COLS_MAX = 2 * PANEL_BF16_COLS + 33, STRIDE = 20 };

static uint16_t weights[OUTPUTS][COLS_MAX];
static float rows[ROWS][COLS_MAX];
static _Alignas(64) unsigned char panels[OUTPUTS * (COLS_MAX + 1) * 2];
static float want[ROWS][OUTPUTS];

static float random_unit(struct rng *r)
{
    return (float)rng_u32(r) * 0x1p-31f - 1.0f;
}

static float scalar(const uint16_t *w, const float *x, uint32_t n)
{
    float acc = 0.0f;
    for (uint32_t c = 0; c < n; c += 2) {
        if (c + 1 < n) {
            float odd = half_bf16_to_f32(half_bf16_from_f32(x[c + 1]));
            acc = fmaf(half_bf16_to_f32(w[c + 1]), odd, acc);
        }
        acc = fmaf(half_bf16_to_f32(w[c]), half_bf16_to_f32(half_bf16_from_f32(x[c])), acc);
    }
    return acc;
}

static void check_rows(uint32_t n_cols, uint32_t n_rows, bool two)
{
    static _Alignas(64) unsigned char scratch[KERN_SCRATCH_BYTES];
    static float out[2][(ROWS + 1) * STRIDE];
    for (uint32_t i = 0; i < 2 * (ROWS + 1) * STRIDE; i++) {
        out[i / ((ROWS + 1) * STRIDE)][i % ((ROWS + 1) * STRIDE)] = -5.5f;
    }
    struct kern_gemm g = {
        .panel = {panels, two ? panels + pack_panel_bytes(DTYPE_BF16, n_cols) : NULL},
        .n_cols = n_cols,
        .out = {out[0], out[1]},
        .out_stride = STRIDE,
        .scratch = scratch,
    };
    struct kern_rows a = {.f32 = rows[0], .f32_stride = COLS_MAX, .n = n_rows};
    kern_gemm_bf16_by_hand.gemm[DTYPE_BF16](&g, &a);
    for (uint32_t i = 0; i < 2 * (ROWS + 1) * STRIDE; i++) {
        uint32_t p = i / ((ROWS + 1) * STRIDE), t = i / STRIDE % (ROWS + 1), c = i % STRIDE;
        bool inside = t < n_rows && c < PACK_ROWS && (p == 0 || two);
        float have = out[p][t * STRIDE + c];
        float right = inside ? want[t][p * PACK_ROWS + c] : -5.5f;
        if (memcmp(&have, &right, sizeof(have)) != 0) {
            fail_msg("%u columns, %u rows: panel %u row %u output %u is %a, not %a", n_cols, n_rows,
                     p, t, c, (double)have, (double)right);
        }
    }
}

static void products_are_those_of_rounded_numbers(void **state)
{
    (void)state;
    static const uint32_t widths[] = {1, 2, 7, 64, 333, PANEL_BF16_COLS, COLS_MAX};
    struct rng r;
    rng_init(&r, 9);
    for (uint32_t i = 0; i < OUTPUTS * COLS_MAX; i++) {
        weights[i / COLS_MAX][i % COLS_MAX] = half_bf16_from_f32(random_unit(&r));
    }
    for (uint32_t i = 0; i < ROWS * COLS_MAX; i++) {
        rows[i / COLS_MAX][i % COLS_MAX] = random_unit(&r);
    }
    for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
        struct pack_source src = {DTYPE_BF16, (const void *)weights, sizeof(weights[0]), OUTPUTS,
                                  widths[i]};
        pack_panels(&src, 0, 2, panels);
        for (uint32_t k = 0; k < ROWS * OUTPUTS; k++) {
            want[k / OUTPUTS][k % OUTPUTS] =
                scalar(weights[k % OUTPUTS], rows[k / OUTPUTS], widths[i]);
        }
        for (uint32_t n = 1; n <= ROWS; n++) {
            check_rows(widths[i], n, n % 3 != 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_those_of_rounded_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
