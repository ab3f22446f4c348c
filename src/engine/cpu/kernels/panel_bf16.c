/* panel_bf16.c: BF16 weights over panels with vdpbf16ps, which adds two products of
 * BF16 numbers to a float. Activations are rounded to BF16 first, to nearest even, a span of
 * columns of a tile's rows at a time: the same for any number of rows. The other float types are
 * those of panel_float.c. */
#include "engine/cpu/kernels/panel.h"

#if !defined(PANEL_BY_HAND) /* a test defines the instructions in plain C */
#include <immintrin.h>
#endif

enum {
    PANEL_BF16_ROWS = 6,
    PANEL_BF16_COLS = 2048, /* of a span; even */
    PANEL_BF16_AHEAD = 4096
};

_Static_assert(PANEL_BF16_ROWS *PANEL_BF16_COLS * 2 <= KERN_SCRATCH_BYTES, "a span's activations");

struct panel_bf16_tile {
    const unsigned char *w[2];
    uint32_t n_cols;   /* of the span */
    bool first;        /* nothing is in out yet */
    const uint16_t *x; /* [rows][PANEL_BF16_COLS] */
    float *out[2];
    size_t out_stride[2];
};

/* n floats to BF16, an odd number followed by a zero. Sixteen at a time; out has room for them. */
KERN_INLINE void panel_to_bf16(const float *in, uint32_t n, uint16_t *out)
{
    for (uint32_t i = 0; i < n; i += 16) {
        uint32_t left = n - i;
        __mmask16 seen = (__mmask16)(left >= 16 ? 0xFFFF : (1u << left) - 1);
        __m256bh v = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(seen, in + i));
        memcpy(out + i, &v, sizeof(v));
    }
}

/* n rows by two panels. */
KERN_INLINE void panel_bf16_tile(const struct panel_bf16_tile *tile, uint32_t n)
{
    __m512 acc[PANEL_BF16_ROWS][2];
#pragma GCC unroll 6
    for (uint32_t t = 0; t < n; t++) {
        for (int p = 0; p < 2; p++) {
            acc[t][p] = tile->first ? _mm512_setzero_ps()
                                    : _mm512_loadu_ps(tile->out[p] + t * tile->out_stride[p]);
        }
    }
    for (uint32_t pair = 0; pair < (tile->n_cols + 1) / 2; pair++) {
        __m512i w[2];
        for (int p = 0; p < 2; p++) {
            const unsigned char *at = tile->w[p] + 64 * (size_t)pair;
            __builtin_prefetch(at + PANEL_BF16_AHEAD);
            w[p] = _mm512_loadu_si512(at);
        }
#pragma GCC unroll 6
        for (uint32_t t = 0; t < n; t++) {
            int32_t two;
            memcpy(&two, tile->x + t * PANEL_BF16_COLS + 2 * (size_t)pair, sizeof(two));
            __m512bh x = (__m512bh)_mm512_set1_epi32(two);
            acc[t][0] = _mm512_dpbf16_ps(acc[t][0], (__m512bh)w[0], x);
            acc[t][1] = _mm512_dpbf16_ps(acc[t][1], (__m512bh)w[1], x);
        }
    }
#pragma GCC unroll 6
    for (uint32_t t = 0; t < n; t++) {
        for (int p = 0; p < 2; p++) {
            _mm512_storeu_ps(tile->out[p] + t * tile->out_stride[p], acc[t][p]);
        }
    }
}

static void panel_bf16_rows(const struct panel_bf16_tile *tile, uint32_t n)
{
    switch (n) {
    case 1:
        panel_bf16_tile(tile, 1);
        break;
    case 2:
        panel_bf16_tile(tile, 2);
        break;
    case 3:
        panel_bf16_tile(tile, 3);
        break;
    case 4:
        panel_bf16_tile(tile, 4);
        break;
    case 5:
        panel_bf16_tile(tile, 5);
        break;
    default:
        panel_bf16_tile(tile, 6);
        break;
    }
}

/* A single panel is worked on twice; its second sums wait behind the activations in scratch. */
static void gemm_BF16(const struct kern_gemm *g, const struct kern_rows *a)
{
    bool two = g->panel[1] != NULL;
    uint16_t *x = g->scratch;
    float *spare = (float *)(void *)(x + PANEL_BF16_ROWS * PANEL_BF16_COLS);
    for (uint32_t t = 0; t < a->n;) {
        uint32_t n = panel_tile_rows(a->n, t, PANEL_BF16_ROWS);
        for (uint32_t col = 0; col < g->n_cols; col += PANEL_BF16_COLS) {
            uint32_t n_cols = MIN(g->n_cols - col, (uint32_t)PANEL_BF16_COLS);
            for (uint32_t i = 0; i < n; i++) {
                panel_to_bf16(a->f32 + panel_row_of(a, t + i) * a->f32_stride + col, n_cols,
                              x + i * PANEL_BF16_COLS);
            }
            struct panel_bf16_tile tile = {
                .w = {g->panel[0] + 32 * (size_t)col, g->panel[two] + 32 * (size_t)col},
                .n_cols = n_cols,
                .first = col == 0,
                .x = x,
                .out = {g->out[0] + t * g->out_stride, two ? g->out[1] + t * g->out_stride : spare},
                .out_stride = {g->out_stride, two ? g->out_stride : PACK_ROWS},
            };
            panel_bf16_rows(&tile, n);
        }
        t += n;
    }
}

/* The other float types are borrowed. */
extern const struct kern_gemm_table KERN_NAME(kern_gemm_bf16);
const struct kern_gemm_table KERN_NAME(kern_gemm_bf16) = {{[DTYPE_BF16] = gemm_BF16}};
