/* attend_panel.h: C[rows, columns] += A[rows, k] · B[k, columns] with B in panels of 16 columns, as
 * blocks of keys and values hold them (engine/cpu/attend.h).
 *
 * For scores A is q, k the channel and a column a position; for values A is p, k the position and a
 * column a channel. Each sum runs over k in order, whatever the number of rows and panels taken at
 * once. Steps go two k at a time; the lines of the page to come are asked for on the way. */
#ifndef ENGINE_CPU_KERNELS_ATTEND_PANEL_H
#define ENGINE_CPU_KERNELS_ATTEND_PANEL_H

#include "engine/cpu/attend.h"
#include "engine/cpu/kernels/wide.h"

enum panel_kind { PANEL_F32, PANEL_F16, PANEL_BF16, PANEL_Q8 };

/* Rows that one pass keeps in registers; up to PANEL_PAIR_ROWS take two panels at once. */
#if defined(__AVX512F__)
enum { PANEL_ROWS = 8, PANEL_PAIR_ROWS = 8 };
#elif defined(__AVX2__)
enum { PANEL_ROWS = 6, PANEL_PAIR_ROWS = 2 };
#else
enum { PANEL_ROWS = 2, PANEL_PAIR_ROWS = 0 };
#endif

struct panel_call {
    const void *a; /* floats, or 16-bit numbers where panel_narrow says so */
    size_t a_stride;
    const unsigned char *b;
    size_t panel_bytes;
    uint32_t n_panels;
    ptrdiff_t ahead; /* from a byte of b to what is read soon; 0 = nothing known */
    uint32_t k0, k1; /* multiples of 2 */
    float *c;        /* [rows, 16 * n_panels] */
    size_t c_stride;
    const float *scale; /* Q8 values: c += scale[row] * Σ */
};

KERN_INLINE bool panel_narrow(enum panel_kind kind)
{
    return kind == PANEL_Q8;
}

/* What is done with the sums: scores replace c (Q8: as bits of int32), values add to it. */
enum panel_use { PANEL_SCORES, PANEL_VALUES };

/* ---- one step ---- */

/* Rows k (half 0) or k + 1 (half 1) of vector v of a panel; `at` is where the two begin. Narrow
 * kinds: pairs of both rows, as bits. */
KERN_INLINE wide panel_load(enum panel_kind kind, const unsigned char *at, int v, int half)
{
    wide x;
    size_t i = (size_t)(half * WIDE_GROUP + WIDE * v);
    if (kind == PANEL_F32) {
        memcpy(&x, at + 4 * i, sizeof(x));
        return x;
    }
    if (kind == PANEL_F16) {
        return wide_load_f16(at + 2 * i);
    }
    if (kind == PANEL_BF16) {
        wide_int both;
        memcpy(&both, at + 4 * WIDE * (size_t)v, sizeof(both));
        return half == 0 ? (wide)(both << 16) : (wide)(both & (int32_t)0xFFFF0000);
    }
    const unsigned char *from = at + 2 * WIDE * (size_t)v;
#if defined(__AVX512F__)
    return (wide)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)from));
#elif defined(__AVX2__)
    return (wide)_mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)from));
#else
    typedef int8_t bytes __attribute__((vector_size(2 * WIDE)));
    typedef int16_t words __attribute__((vector_size(4 * WIDE)));
    bytes b;
    memcpy(&b, from, sizeof(b));
    return (wide) __builtin_convertvector(b, words);
#endif
}

/* Sum of the products of 16-bit pairs, exact. */
KERN_INLINE wide panel_madd(wide acc, wide pairs, int32_t a)
{
#if defined(__AVX512VNNI__)
    return (wide)_mm512_dpwssd_epi32((__m512i)acc, (__m512i)pairs, _mm512_set1_epi32(a));
#elif defined(__AVX512F__)
    __m512i sum = _mm512_madd_epi16((__m512i)pairs, _mm512_set1_epi32(a));
    return (wide)_mm512_add_epi32((__m512i)acc, sum);
#elif defined(__AVXVNNI__)
    return (wide)_mm256_dpwssd_avx_epi32((__m256i)acc, (__m256i)pairs, _mm256_set1_epi32(a));
#elif defined(__AVX2__)
    __m256i sum = _mm256_madd_epi16((__m256i)pairs, _mm256_set1_epi32(a));
    return (wide)_mm256_add_epi32((__m256i)acc, sum);
#else
    wide_int low = (wide_int)pairs << 16 >> 16;
    wide_int high = (wide_int)pairs >> 16;
    return (wide)((wide_int)acc + low * (int32_t)(int16_t)a + high * (a >> 16));
#endif
}

KERN_INLINE wide panel_step(enum panel_kind kind, wide acc, wide b, const void *a, size_t at)
{
    if (!panel_narrow(kind)) {
        return wide_fma(wide_all(((const float *)a)[at]), b, acc);
    }
    int32_t pair;
    memcpy(&pair, (const int16_t *)a + at, sizeof(pair));
    return panel_madd(acc, b, pair);
}

/* ---- a tile ---- */

enum { PANEL_VECS_MAX = 2 * WIDE_VECS };

KERN_INLINE void panel_begin(enum panel_kind kind, enum panel_use use, int n_rows, int n_vecs,
                             const struct panel_call *c, wide acc[][PANEL_VECS_MAX])
{
    for (int r = 0; r < n_rows; r++) {
        for (int v = 0; v < n_vecs; v++) {
            const float *from = c->c + (size_t)r * c->c_stride + WIDE * (size_t)v;
            acc[r][v] = use == PANEL_VALUES && kind != PANEL_Q8 ? wide_load(from) : wide_all(0.0f);
        }
    }
}

KERN_INLINE void panel_end(enum panel_kind kind, enum panel_use use, int n_rows, int n_vecs,
                           const struct panel_call *c, wide acc[][PANEL_VECS_MAX])
{
    for (int r = 0; r < n_rows; r++) {
        for (int v = 0; v < n_vecs; v++) {
            float *to = c->c + (size_t)r * c->c_stride + WIDE * (size_t)v;
            wide x = acc[r][v];
            if (use == PANEL_VALUES && kind == PANEL_Q8) {
                x = wide_fma(wide_from_int((wide_int)x), wide_all(c->scale[r]), wide_load(to));
            }
            wide_store(to, x);
        }
    }
}

/* n_rows rows, n_panels (1 or 2) panels: both constants where this is inlined. */
KERN_INLINE void panel_tile(enum panel_kind kind, enum panel_use use, int n_rows, int n_panels,
                            const struct panel_call *c)
{
    static const uint32_t pair_bytes[] = {8, 4, 4, 2};
    const size_t step = WIDE_GROUP * (size_t)pair_bytes[kind];
    const int n_vecs = n_panels * WIDE_VECS;
    wide acc[PANEL_ROWS][PANEL_VECS_MAX];
    panel_begin(kind, use, n_rows, n_vecs, c, acc);
    for (uint32_t k = c->k0; k < c->k1; k += 2) {
        const unsigned char *at = c->b + k / 2 * step;
        for (int p = 0; p < n_panels && kind != PANEL_F32; p++) {
            __builtin_prefetch(at + (size_t)p * c->panel_bytes + c->ahead);
        }
        for (int half = 0; half < (panel_narrow(kind) ? 1 : 2); half++) {
            wide b[PANEL_VECS_MAX];
            for (int v = 0; v < n_vecs; v++) {
                const unsigned char *panel = at + (size_t)(v / WIDE_VECS) * c->panel_bytes;
                b[v] = panel_load(kind, panel, v % WIDE_VECS, half);
            }
            for (int r = 0; r < n_rows; r++) {
                size_t from = (size_t)r * c->a_stride + k + (size_t)half;
                for (int v = 0; v < n_vecs; v++) {
                    acc[r][v] = panel_step(kind, acc[r][v], b[v], c->a, from);
                }
            }
        }
    }
    panel_end(kind, use, n_rows, n_vecs, c, acc);
}

/* ---- all panels of a few rows, all rows ---- */

KERN_INLINE void panel_rows(enum panel_kind kind, enum panel_use use, int n_rows,
                            struct panel_call c)
{
    uint32_t p = 0;
    if (n_rows <= PANEL_PAIR_ROWS) {
        for (; p + 2 <= c.n_panels; p += 2) {
            panel_tile(kind, use, n_rows, 2, &c);
            c.b += 2 * c.panel_bytes;
            c.c += 2 * WIDE_GROUP;
        }
    }
    for (; p < c.n_panels; p++) {
        panel_tile(kind, use, n_rows, 1, &c);
        c.b += c.panel_bytes;
        c.c += WIDE_GROUP;
    }
}

/* Rows in passes of nearly equal size, so that none is left with one or two. */
KERN_INLINE void panel_all(enum panel_kind kind, enum panel_use use, uint32_t n_rows,
                           struct panel_call c)
{
    const size_t a_bytes = panel_narrow(kind) ? sizeof(int16_t) : sizeof(float);
    uint32_t n_passes = (n_rows + PANEL_ROWS - 1) / PANEL_ROWS;
    for (; n_passes > 0; n_passes--) {
        uint32_t n = (n_rows + n_passes - 1) / n_passes;
        switch (n) {
#define PANEL_CASE(rows)                                                                           \
    case (rows):                                                                                   \
        panel_rows(kind, use, rows, c);                                                            \
        break;
            PANEL_CASE(1)
            PANEL_CASE(2)
#if defined(__AVX2__)
            PANEL_CASE(3)
            PANEL_CASE(4)
            PANEL_CASE(5)
            PANEL_CASE(6)
#endif
#if defined(__AVX512F__)
            PANEL_CASE(7)
            PANEL_CASE(8)
#endif
#undef PANEL_CASE
        }
        n_rows -= n;
        c.a = (const unsigned char *)c.a + n * c.a_stride * a_bytes;
        c.c += n * c.c_stride;
        c.scale = c.scale != NULL ? c.scale + n : NULL;
        c.ahead = 0;
    }
}

#endif
