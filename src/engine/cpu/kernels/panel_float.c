/* panel_float.c: the table of kernels over panels of float weights, for every instruction set.
 *
 * acc = fmaf(w, x, acc) down the columns, for each row and output: sixteen outputs are one vector,
 * which the compiler maps to one, two or four registers. Tiles of up to PANEL_FLOAT_ROWS rows hold
 * their sums in registers, those of two panels as long as there are enough of them. */
#include "engine/cpu/kernels/panel.h"

#include <math.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

/* Most rows of a tile, and those up to which it takes two panels: sums fill 12 registers of 512
 * bits, or 12 and 8 of 256. */
#if defined(__AVX512F__)
enum { PANEL_FLOAT_ROWS = 6, PANEL_FLOAT_PAIRED = 6 };
#elif defined(__AVX2__)
enum { PANEL_FLOAT_ROWS = 6, PANEL_FLOAT_PAIRED = 2 };
#else
enum { PANEL_FLOAT_ROWS = 2, PANEL_FLOAT_PAIRED = 2 };
#endif

/* ---- sixteen floats ---- */

#if defined(__AVX512F__)
typedef __m512 panel_f16;

KERN_INLINE panel_f16 panel_fma(panel_f16 a, float x, panel_f16 c)
{
    return _mm512_fmadd_ps(a, _mm512_set1_ps(x), c);
}

KERN_INLINE panel_f16 panel_load(enum dtype type, const unsigned char *at)
{
    return type == DTYPE_F32 ? _mm512_loadu_ps(at)
                             : _mm512_cvtph_ps(_mm256_loadu_si256((const void *)at));
}

KERN_INLINE panel_f16 panel_bf16(const unsigned char *at, uint32_t odd)
{
    __m512i v = _mm512_loadu_si512(at);
    v = odd ? _mm512_and_si512(v, _mm512_set1_epi32((int)0xFFFF0000)) : _mm512_slli_epi32(v, 16);
    return _mm512_castsi512_ps(v);
}

KERN_INLINE panel_f16 panel_nothing(void)
{
    return _mm512_setzero_ps();
}

KERN_INLINE void panel_store(float *out, panel_f16 v)
{
    _mm512_storeu_ps(out, v);
}
#elif defined(__AVX2__)
typedef struct {
    __m256 low, high;
} panel_f16;

KERN_INLINE panel_f16 panel_fma(panel_f16 a, float x, panel_f16 c)
{
    __m256 b = _mm256_set1_ps(x);
    return (panel_f16){_mm256_fmadd_ps(a.low, b, c.low), _mm256_fmadd_ps(a.high, b, c.high)};
}

KERN_INLINE panel_f16 panel_load(enum dtype type, const unsigned char *at)
{
    if (type == DTYPE_F32) {
        const float *w = (const void *)at;
        return (panel_f16){_mm256_loadu_ps(w), _mm256_loadu_ps(w + 8)};
    }
    return (panel_f16){_mm256_cvtph_ps(_mm_loadu_si128((const void *)at)),
                       _mm256_cvtph_ps(_mm_loadu_si128((const void *)(at + 16)))};
}

/* Shifts alone: a mask would take the last register. */
KERN_INLINE __m256 panel_bf16_half(const unsigned char *at, uint32_t odd)
{
    __m256i v = _mm256_loadu_si256((const void *)at);
    v = odd ? _mm256_srli_epi32(v, 16) : v;
    return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
}

KERN_INLINE panel_f16 panel_bf16(const unsigned char *at, uint32_t odd)
{
    return (panel_f16){panel_bf16_half(at, odd), panel_bf16_half(at + 32, odd)};
}

KERN_INLINE panel_f16 panel_nothing(void)
{
    return (panel_f16){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

KERN_INLINE void panel_store(float *out, panel_f16 v)
{
    _mm256_storeu_ps(out, v.low);
    _mm256_storeu_ps(out + 8, v.high);
}
#else
typedef struct {
    float lane[PACK_ROWS];
} panel_f16;

KERN_INLINE panel_f16 panel_fma(panel_f16 a, float x, panel_f16 c)
{
    for (uint32_t r = 0; r < PACK_ROWS; r++) {
        c.lane[r] = fmaf(a.lane[r], x, c.lane[r]);
    }
    return c;
}

KERN_INLINE panel_f16 panel_load(enum dtype type, const unsigned char *at)
{
    panel_f16 v;
    for (uint32_t r = 0; r < PACK_ROWS; r++) {
        if (type == DTYPE_F32) {
            memcpy(&v.lane[r], at + 4 * r, sizeof(float));
        } else {
            v.lane[r] = panel_half(at, r);
        }
    }
    return v;
}

KERN_INLINE panel_f16 panel_bf16(const unsigned char *at, uint32_t odd)
{
    panel_f16 v;
    for (uint32_t r = 0; r < PACK_ROWS; r++) {
        uint16_t h[2];
        memcpy(h, at + 4 * r, sizeof(h));
        v.lane[r] = half_bf16_to_f32(h[odd]);
    }
    return v;
}

KERN_INLINE panel_f16 panel_nothing(void)
{
    panel_f16 v = {{0}};
    return v;
}

KERN_INLINE void panel_store(float *out, panel_f16 v)
{
    memcpy(out, v.lane, sizeof(v.lane));
}
#endif

/* ---- tiles ---- */

/* Rows by one or two panels: what a tile works on. */
struct panel_float_tile {
    const unsigned char *w[2];
    const float *x[PANEL_FLOAT_ROWS];
    float *out[2];
    size_t out_stride;
    uint32_t n_cols;
    bool first; /* weights come from memory: prefetch them */
};

KERN_INLINE size_t panel_float_bytes(enum dtype type)
{
    return type == DTYPE_F32 ? 64 : 32; /* of a column */
}

/* Column k of a panel; of BF16 two columns lie together. */
KERN_INLINE panel_f16 panel_column(enum dtype type, const unsigned char *panel, uint32_t k,
                                   uint32_t odd)
{
    const unsigned char *at = panel + (k - odd) * panel_float_bytes(type);
    return type == DTYPE_BF16 ? panel_bf16(at, odd)
                              : panel_load(type, at + odd * panel_float_bytes(type));
}

/* One column of n rows by n_panels panels. Its weights are loaded here, not a column ahead: sums
 * leave registers for no more (two of them on the stack cost a fifth of the speed). */
KERN_INLINE void panel_float_step(enum dtype type, const struct panel_float_tile *tile, uint32_t n,
                                  uint32_t n_panels, uint32_t k, uint32_t odd, panel_f16 acc[][2])
{
    for (uint32_t p = 0; p < n_panels; p++) {
        const panel_f16 w = panel_column(type, tile->w[p], k + odd, odd);
        for (uint32_t t = 0; t < n; t++) {
            acc[t][p] = panel_fma(w, tile->x[t][k + odd], acc[t][p]);
        }
    }
}

KERN_INLINE void panel_float_tile(enum dtype type, const struct panel_float_tile *tile, uint32_t n,
                                  uint32_t n_panels)
{
    enum { AHEAD = 4096 };
    panel_f16 acc[PANEL_FLOAT_ROWS][2];
    for (uint32_t t = 0; t < n; t++) {
        acc[t][0] = acc[t][1] = panel_nothing();
    }
    for (uint32_t k = 0; k + 2 <= tile->n_cols; k += 2) {
        for (uint32_t p = 0; tile->first && p < n_panels; p++) {
            const unsigned char *at = tile->w[p] + k * panel_float_bytes(type) + AHEAD;
            __builtin_prefetch(at);
            __builtin_prefetch(at + 2 * panel_float_bytes(type) - 1);
        }
        panel_float_step(type, tile, n, n_panels, k, 0, acc);
        panel_float_step(type, tile, n, n_panels, k, 1, acc);
    }
    if (tile->n_cols % 2 != 0) {
        panel_float_step(type, tile, n, n_panels, tile->n_cols - 1, 0, acc);
    }
    for (uint32_t t = 0; t < n; t++) {
        for (uint32_t p = 0; p < n_panels; p++) {
            panel_store(tile->out[p] + t * tile->out_stride, acc[t][p]);
        }
    }
}

/* A tile's height is a constant of its code. */
KERN_INLINE void panel_float_rows(enum dtype type, const struct panel_float_tile *tile, uint32_t n,
                                  uint32_t n_panels)
{
    if (n == 1) {
        panel_float_tile(type, tile, 1, n_panels);
    } else if (n == 2 || PANEL_FLOAT_ROWS == 2) {
        panel_float_tile(type, tile, 2, n_panels);
    } else if (n == 3) {
        panel_float_tile(type, tile, 3, n_panels);
    } else if (n == 4) {
        panel_float_tile(type, tile, 4, n_panels);
    } else if (n == 5) {
        panel_float_tile(type, tile, 5, n_panels);
    } else {
        panel_float_tile(type, tile, 6, n_panels);
    }
}

KERN_INLINE void panel_gemm_float(enum dtype type, const struct kern_gemm *g,
                                  const struct kern_rows *a)
{
    const uint32_t n_panels = g->panel[1] != NULL ? 2 : 1;
    for (uint32_t t = 0; t < a->n;) {
        uint32_t n = panel_tile_rows(a->n, t, PANEL_FLOAT_ROWS);
        struct panel_float_tile tile = {
            .out_stride = g->out_stride, .n_cols = g->n_cols, .first = t == 0};
        for (uint32_t p = 0; p < n_panels; p++) {
            tile.w[p] = g->panel[p];
            tile.out[p] = g->out[p] + t * g->out_stride;
        }
        for (uint32_t i = 0; i < n; i++) {
            tile.x[i] = a->f32 + panel_row_of(a, t + i) * a->f32_stride;
        }
        if (n_panels == 2 && n <= PANEL_FLOAT_PAIRED) {
            panel_float_rows(type, &tile, MIN(n, (uint32_t)PANEL_FLOAT_PAIRED), 2);
        } else {
            for (uint32_t p = 0; p < n_panels; p++) {
                tile.w[0] = g->panel[p];
                tile.out[0] = g->out[p] + t * g->out_stride;
                panel_float_rows(type, &tile, n, 1);
            }
        }
        t += n;
    }
}

/* ---- the table ---- */

static void gemm_F32(const struct kern_gemm *g, const struct kern_rows *a)
{
    panel_gemm_float(DTYPE_F32, g, a);
}

static void gemm_F16(const struct kern_gemm *g, const struct kern_rows *a)
{
    panel_gemm_float(DTYPE_F16, g, a);
}

static void gemm_BF16(const struct kern_gemm *g, const struct kern_rows *a)
{
    panel_gemm_float(DTYPE_BF16, g, a);
}

extern const struct kern_gemm_table KERN_NAME(kern_gemm_float);
const struct kern_gemm_table KERN_NAME(kern_gemm_float) = {
    {[DTYPE_F32] = gemm_F32, [DTYPE_F16] = gemm_F16, [DTYPE_BF16] = gemm_BF16},
};
