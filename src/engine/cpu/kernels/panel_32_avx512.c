/* panel_32_avx512.c: types with blocks of 32 columns over panels, with 512-bit VNNI.
 *
 * Per block, row and panel: a start, eight vpdpbusd, one conversion, one product of scales, one
 * FMA. Twelve whole and twelve float sums, two weights, one activation: 27 of 32 registers. */
#include "engine/cpu/kernels/panel_avx512.h"

/* Of one chunk and each row: what whole sums start from, or the sums of activations as floats in
 * types with a minimum. */
union panel_starts {
    int32_t whole[PANEL_TILE_ROWS][8];
    float sums[PANEL_TILE_ROWS][8];
};

KERN_INLINE void panel_make_starts(enum dtype type, uint32_t n, const struct panel_tile *tile,
                                   uint32_t b, uint32_t n_blocks, union panel_starts *out)
{
    const __mmask8 seen = (__mmask8)((1u << n_blocks) - 1);
    for (uint32_t t = 0; t < n; t++) {
        __m256i s = _mm256_cvtepi16_epi32(_mm_maskz_loadu_epi16(seen, tile->sums[t] + b));
        if (panel_has_min(type)) {
            _mm256_storeu_ps(out->sums[t], _mm256_cvtepi32_ps(s));
        } else {
            __m256i zero = _mm256_set1_epi32(-panel_start_zero(type));
            _mm256_storeu_si256((void *)out->whole[t], _mm256_mullo_epi32(s, zero));
        }
    }
}

/* half_e8m0_to_f32 of sixteen bytes: an exponent of e - 1, or below 2 a subnormal number. */
KERN_INLINE __m512 panel_e8m0(const unsigned char *at)
{
    __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)at));
    __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    __m512i small = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    __mmask16 is_small = _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2));
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, is_small, small));
}

KERN_INLINE __m512 panel_scale(enum dtype type, const struct panel_chunk *c, uint32_t b)
{
    return type == DTYPE_MXFP4 ? panel_e8m0(c->scales + 16 * (size_t)b)
                               : panel_halves(c->scales + 32 * (size_t)b);
}

/* Block b of a chunk that begins at block `at` of the tile. */
KERN_INLINE void panel_block_32(enum dtype type, uint32_t n, const struct panel_tile *tile,
                                const struct panel_chunk c[2], uint32_t at, uint32_t b,
                                const union panel_starts *starts, __m512 acc[PANEL_TILE_ROWS][2])
{
    __m512i sum[PANEL_TILE_ROWS][2];
#pragma GCC unroll 6
    for (uint32_t t = 0; t < n; t++) {
        sum[t][0] =
            panel_has_min(type) ? _mm512_setzero_si512() : _mm512_set1_epi32(starts->whole[t][b]);
        sum[t][1] = sum[t][0];
    }
#pragma GCC unroll 8
    for (uint32_t g = 0; g < 8; g++) {
        panel_dot_group(type, n, tile, c, b, g, 32 * (size_t)(at + b), sum);
    }
    __m512 d[2] = {panel_scale(type, &c[0], b), panel_scale(type, &c[1], b)};
#pragma GCC unroll 6
    for (uint32_t t = 0; t < n; t++) {
        __m512 da = _mm512_set1_ps(tile->d[t][at + b]);
        for (int p = 0; p < 2; p++) {
            acc[t][p] =
                _mm512_fmadd_ps(_mm512_mul_ps(d[p], da), _mm512_cvtepi32_ps(sum[t][p]), acc[t][p]);
        }
    }
    if (!panel_has_min(type)) {
        return;
    }
    __m512 m[2] = {panel_halves(c[0].mins + 32 * (size_t)b),
                   panel_halves(c[1].mins + 32 * (size_t)b)};
#pragma GCC unroll 6
    for (uint32_t t = 0; t < n; t++) {
        __m512 da = _mm512_set1_ps(tile->d[t][at + b]);
        __m512 s = _mm512_set1_ps(starts->sums[t][b]);
        for (int p = 0; p < 2; p++) {
            acc[t][p] = _mm512_fmadd_ps(_mm512_mul_ps(m[p], da), s, acc[t][p]);
        }
    }
}

KERN_INLINE void panel_tile_32(enum dtype type, uint32_t n, const struct panel_tile *tile)
{
    const size_t bytes = pack_chunk_bytes(pack_layouts[type], 8);
    __m512 acc[PANEL_TILE_ROWS][2];
#pragma GCC unroll 6
    for (uint32_t t = 0; t < n; t++) {
        for (int p = 0; p < 2; p++) {
            acc[t][p] = tile->first ? _mm512_setzero_ps()
                                    : _mm512_loadu_ps(tile->out[p] + t * tile->out_stride[p]);
        }
    }
    size_t off = 0;
    for (uint32_t at = 0; at < tile->n_blocks; at += 8) {
        uint32_t n_blocks = MIN(tile->n_blocks - at, 8u);
        struct panel_chunk c[2] = {panel_chunk(type, tile->w[0] + off, n_blocks),
                                   panel_chunk(type, tile->w[1] + off, n_blocks)};
        struct panel_ahead ahead = panel_look_ahead(tile, off, bytes);
        union panel_starts starts;
        panel_make_starts(type, n, tile, at, n_blocks, &starts);
        for (uint32_t b = 0; b < n_blocks; b++) {
            panel_prefetch(type, n, &ahead, b);
            panel_block_32(type, n, tile, c, at, b, &starts, acc);
        }
        off += bytes;
    }
#pragma GCC unroll 6
    for (uint32_t t = 0; t < n; t++) {
        for (int p = 0; p < 2; p++) {
            _mm512_storeu_ps(tile->out[p] + t * tile->out_stride[p], acc[t][p]);
        }
    }
}

#define DEFINE_GEMM(T) PANEL_GEMM_FN(T, panel_tile_32)
PANEL_TYPES_32(DEFINE_GEMM)

extern const struct kern_gemm_table KERN_NAME(kern_gemm_32);
const struct kern_gemm_table KERN_NAME(kern_gemm_32) = {
#define ROW_GEMM(T) [DTYPE_##T] = gemm_##T,
    {PANEL_TYPES_32(ROW_GEMM)}
#undef ROW_GEMM
};
