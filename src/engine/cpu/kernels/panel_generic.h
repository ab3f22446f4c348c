/* panel_generic.h: panels of quantised weights times rows, in plain C.
 *
 * A chunk of one panel is unpacked to 16-bit numbers (codes times their runs' scales) once for all
 * rows; sums over columns then run across the sixteen outputs, which a compiler turns into
 * whatever vectors it has. The measure of the other headers, not fast. */
#ifndef ENGINE_CPU_KERNELS_PANEL_GENERIC_H
#define ENGINE_CPU_KERNELS_PANEL_GENERIC_H

#include <math.h>

#include "engine/cpu/kernels/panel.h"

struct panel_unpacked {
    int16_t codes[PACK_CHUNK_COLS][PACK_ROWS];
    int16_t mins[PACK_CHUNK_COLS / 16][PACK_ROWS]; /* types of 256: of each run of 16 */
    float d[PACK_CHUNK_COLS / 32][PACK_ROWS];      /* types of 256: only [0] */
    float m[PACK_CHUNK_COLS / 32][PACK_ROWS];
};

KERN_INLINE void panel_unpack(enum dtype type, const struct panel_chunk *c,
                              struct panel_unpacked *out)
{
    for (uint32_t col = 0; col < 32 * c->n_blocks; col++) {
        for (uint32_t r = 0; r < PACK_ROWS; r++) {
            int scale = panel_is_k(type) ? panel_scales(type, c, col, r).scale : 1;
            out->codes[col][r] = (int16_t)(scale * panel_code(type, c, col, r));
        }
    }
    for (uint32_t run = 0; run < 2 * c->n_blocks; run++) {
        for (uint32_t r = 0; r < PACK_ROWS; r++) {
            struct panel_scales s = panel_scales(type, c, 16 * run, r);
            out->mins[run][r] = (int16_t)s.min;
            out->d[run / 2][r] = s.d;
            out->m[run / 2][r] = panel_is_k(type) ? -s.m : s.m;
        }
    }
}

/* acc[16] += fmaf(d * da, sum) */
KERN_INLINE void panel_add(float *acc, const float *d, float da, const int32_t *sum)
{
    for (uint32_t r = 0; r < PACK_ROWS; r++) {
        acc[r] = fmaf(d[r] * da, (float)sum[r], acc[r]);
    }
}

/* `width` columns from `col` of the chunk, of one row of activations. */
KERN_INLINE void panel_block(enum dtype type, const struct panel_unpacked *w, uint32_t col,
                             const int8_t *q, float da, const int16_t *sums, float *acc)
{
    const uint32_t width = panel_is_k(type) ? 256 : 32;
    int32_t sum[PACK_ROWS] = {0};
    for (uint32_t i = col; i < col + width; i++) {
        for (uint32_t r = 0; r < PACK_ROWS; r++) {
            sum[r] += w->codes[i][r] * q[i];
        }
    }
    panel_add(acc, w->d[col / 32], da, sum);
    if (panel_has_min(type)) {
        for (uint32_t r = 0; r < PACK_ROWS; r++) {
            sum[r] = panel_is_k(type) ? 0 : sums[col / 32];
        }
        for (uint32_t run = 0; panel_is_k(type) && run < 16; run++) {
            for (uint32_t r = 0; r < PACK_ROWS; r++) {
                sum[r] += w->mins[run][r] * sums[run];
            }
        }
        panel_add(acc, w->m[col / 32], da, sum);
    }
}

KERN_INLINE void panel_gemm_one(enum dtype type, const struct kern_gemm *g, uint32_t p,
                                const struct kern_rows *a)
{
    const uint32_t width = panel_is_k(type) ? 256 : 32;
    const unsigned char *at = g->panel[p];
    struct panel_unpacked w;
    for (uint32_t t = 0; t < a->n; t++) {
        memset(g->out[p] + t * g->out_stride, 0, PACK_ROWS * sizeof(float));
    }
    for (uint32_t col = 0; col < g->n_cols; col += PACK_CHUNK_COLS) {
        uint32_t n_blocks = MIN(g->n_cols - col, (uint32_t)PACK_CHUNK_COLS) / 32;
        struct panel_chunk c = panel_chunk(type, at, n_blocks);
        panel_unpack(type, &c, &w);
        for (uint32_t t = 0; t < a->n; t++) {
            size_t row = panel_row_of(a, t);
            const float *d = a->d + row * a->d_stride + col / width;
            const int16_t *sums =
                a->sums + row * a->sums_stride + col / (panel_is_k(type) ? 16 : 32);
            for (uint32_t i = 0; i < 32 * n_blocks; i += width) {
                panel_block(type, &w, i, a->q8 + row * a->q_stride + col, d[i / width], sums,
                            g->out[p] + t * g->out_stride);
            }
        }
        at += pack_chunk_bytes(c.layout, n_blocks);
    }
}

KERN_INLINE void panel_gemm_generic(enum dtype type, const struct kern_gemm *g,
                                    const struct kern_rows *a)
{
    for (uint32_t p = 0; p < 2 && g->panel[p] != NULL; p++) {
        panel_gemm_one(type, g, p, a);
    }
}

#endif
