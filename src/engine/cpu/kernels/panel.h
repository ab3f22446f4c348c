/* panel.h: what the kernels over packed panels share, on every instruction set.
 *
 * panel_32.c (blocks of 32), panel_k.c (blocks of 256) and panel_float.c export one table each. The
 * first two take their arithmetic from one header per family of instruction sets, which defines
 *     panel_gemm_32(type, g, a) and panel_gemm_k(type, g, a)   (KERN_INLINE, `type` a constant):
 * panel_generic.h, plain C over the readers below; panel_avx2.h for AVX2 and, under __AVXVNNI__,
 * AVX-VNNI. For AVX-512 the same two tables are in panel_32_avx512.c and
 * panel_k_avx512.c. */
#ifndef ENGINE_CPU_KERNELS_PANEL_H
#define ENGINE_CPU_KERNELS_PANEL_H

#include <string.h>

#include "engine/cpu/kernels/kern.h"
#include "engine/cpu/pack.h"
#include "engine/format/blocks.h"
#include "engine/tensor/half.h"

#define PANEL_TYPES_32(X) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(IQ4_NL) X(MXFP4)
#define PANEL_TYPES_K(X)  X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_XS)

/* ---- types ---- */

/* Taken off the stored codes. */
KERN_INLINE int panel_zero(enum dtype type)
{
    switch (type) {
    case DTYPE_Q8_0:
        return 128;
    case DTYPE_Q6_K:
        return 32;
    case DTYPE_Q5_0:
        return 16;
    case DTYPE_Q4_0:
        return 8;
    case DTYPE_Q3_K:
        return 4;
    default:
        return 0;
    }
}

KERN_INLINE bool panel_is_k(enum dtype type)
{
    return pack_layouts[type].supers != 0;
}

KERN_INLINE bool panel_has_min(enum dtype type)
{
    return pack_layouts[type].mins != 0;
}

/* Runs of 16 columns with a scale of their own; else of 32. */
KERN_INLINE bool panel_has_runs_of_16(enum dtype type)
{
    return panel_is_k(type) && pack_layouts[type].scales == 32;
}

/* ---- activations ---- */

KERN_INLINE size_t panel_row_of(const struct kern_rows *a, uint32_t t)
{
    return a->index != NULL ? a->index[t] : t;
}

/* Rows from t on that the next tile takes, of at most `max`: tiles of nearly equal height, since a
 * tile of one row costs as much unpacking as one of six. */
KERN_INLINE uint32_t panel_tile_rows(uint32_t n, uint32_t t, uint32_t max)
{
    uint32_t tiles = (n - t + max - 1) / max;
    return (n - t + tiles - 1) / tiles;
}

/* ---- one chunk, read in plain C ---- */

struct panel_chunk {
    struct pack_layout layout;
    uint32_t n_blocks;
    const unsigned char *codes, *high, *scales, *mins, *supers;
};

KERN_INLINE struct panel_chunk panel_chunk(enum dtype type, const unsigned char *at,
                                           uint32_t n_blocks)
{
    struct pack_layout l = pack_layouts[type];
    struct pack_parts p = pack_parts(l, n_blocks);
    return (struct panel_chunk){l,           n_blocks,     at, at + p.high, at + p.scales,
                                at + p.mins, at + p.supers};
}

/* Two bits of a column of a plane of 2-bit codes. */
KERN_INLINE int panel_two_bits(const unsigned char *plane, uint32_t col, uint32_t row)
{
    return (plane[col / 16 * 64 + 4 * row + col % 4] >> (2 * (col / 4 % 4))) & 3;
}

/* The code of a column of the chunk as a signed number: what blocks.h calls q - 8, values[q] … */
KERN_INLINE int panel_code(enum dtype type, const struct panel_chunk *c, uint32_t col, uint32_t row)
{
    uint32_t at = 4 * row + col % 4;
    int q;
    if (c->layout.codes == 512) {
        q = c->codes[col / 4 * 64 + at];
    } else if (c->layout.codes == 256) {
        q = (c->codes[col / 8 * 64 + at] >> (4 * (col / 4 % 2))) & 15;
    } else {
        q = panel_two_bits(c->codes, col, row);
    }
    if (type == DTYPE_IQ4_NL || type == DTYPE_IQ4_XS) {
        return block_iq4_values[q];
    }
    if (type == DTYPE_MXFP4) {
        return block_mxfp4_values[q];
    }
    if (c->layout.high == 64) {
        int bit = (c->high[col / 4 * 8 + at / 8] >> (at % 8)) & 1;
        q += bit << (type == DTYPE_Q3_K ? 2 : 4);
    } else if (c->layout.high != 0) {
        q += panel_two_bits(c->high, col, row) << 4;
    }
    return q - panel_zero(type);
}

KERN_INLINE float panel_half(const unsigned char *at, size_t i)
{
    uint16_t h;
    memcpy(&h, at + 2 * i, sizeof(h));
    return half_to_f32(h);
}

/* A weight is d * scale * code + m (blocks of 32) or d * scale * code - m * min. Whole numbers are
 * 1 and floats 0 where the type has none. */
struct panel_scales {
    float d, m;
    int scale, min;
};

KERN_INLINE struct panel_scales panel_scales(enum dtype type, const struct panel_chunk *c,
                                             uint32_t col, uint32_t row)
{
    struct panel_scales s = {0.0f, 0.0f, 1, 1};
    if (type == DTYPE_MXFP4) {
        s.d = half_e8m0_to_f32(c->scales[col / 32 * 16 + row]);
        return s;
    }
    if (!panel_is_k(type)) {
        s.d = panel_half(c->scales, col / 32 * 16 + row);
        s.m = panel_has_min(type) ? panel_half(c->mins, col / 32 * 16 + row) : 0.0f;
        return s;
    }
    uint32_t run = col / (panel_has_runs_of_16(type) ? 16 : 32);
    int scale = c->scales[16 * run + row];
    s.d = panel_half(c->supers, row);
    s.scale = panel_has_min(type) ? scale : (int8_t)scale;
    if (panel_has_min(type)) {
        s.min = c->mins[16 * run + row];
        s.m = panel_half(c->supers, 16 + row);
    }
    return s;
}

#endif
