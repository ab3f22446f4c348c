/* panel_k_avx512.c: types with blocks of 256 columns over panels, with 512-bit VNNI.
 *
 * Runs of 16 or 32 columns are summed as blocks of 32 are, multiplied with their whole scales and
 * added up, all exact; floats come in once per 256 columns, so their sums wait in `out`. Mins are
 * multiplied with the activations' sums two at a time (vpdpwssd), once per 256 columns too. */
#include "engine/cpu/kernels/panel_avx512.h"

/* Of one chunk and each row: what sums of runs start from, and the activations' sums over what has
 * a min of its own, as pairs for vpdpwssd. */
struct panel_starts {
    int32_t whole[PANEL_TILE_ROWS][16];
    int32_t pairs[PANEL_TILE_ROWS][8];
};

KERN_INLINE void panel_make_starts(enum dtype type, uint32_t n, const struct panel_tile *tile,
                                   uint32_t chunk, struct panel_starts *out)
{
    const __m512i zero = _mm512_set1_epi32(-panel_start_zero(type));
    for (uint32_t t = 0; t < n; t++) {
        __m256i s = _mm256_loadu_si256((const void *)(tile->sums[t] + 16 * (size_t)chunk));
        __m256i of_32 = _mm256_madd_epi16(s, _mm256_set1_epi16(1));
        if (panel_has_min(type)) {
            if (panel_has_runs_of_16(type)) {
                _mm256_storeu_si256((void *)out->pairs[t], s);
            } else {
                _mm_storeu_si128((void *)out->pairs[t], _mm256_cvtepi32_epi16(of_32));
            }
        } else if (panel_has_runs_of_16(type)) {
            _mm512_storeu_si512(out->whole[t], _mm512_mullo_epi32(_mm512_cvtepi16_epi32(s), zero));
        } else {
            _mm256_storeu_si256((void *)out->whole[t],
                                _mm256_mullo_epi32(of_32, _mm512_castsi512_si256(zero)));
        }
    }
}

KERN_INLINE __m512i panel_run_scale(enum dtype type, const unsigned char *at)
{
    __m128i bytes = _mm_loadu_si128((const void *)at);
    return panel_has_min(type) ? _mm512_cvtepu8_epi32(bytes) : _mm512_cvtepi8_epi32(bytes);
}

/* A run of the chunk, 16 or 32 columns: total[t][p] += scale * Σ codes · activations. */
KERN_INLINE void panel_run(enum dtype type, uint32_t n, const struct panel_tile *tile,
                           const struct panel_chunk c[2], size_t col, uint32_t b, uint32_t half,
                           const struct panel_starts *starts, __m512i total[PANEL_TILE_ROWS][2])
{
    const bool short_runs = panel_has_runs_of_16(type);
    const uint32_t run = short_runs ? 2 * b + half : b;
    const uint32_t groups = short_runs ? 4 : 8;
    __m512i sum[PANEL_TILE_ROWS][2];
#pragma GCC unroll 6
    for (uint32_t t = 0; t < n; t++) {
        sum[t][0] =
            panel_has_min(type) ? _mm512_setzero_si512() : _mm512_set1_epi32(starts->whole[t][run]);
        sum[t][1] = sum[t][0];
    }
#pragma GCC unroll 8
    for (uint32_t g = 0; g < groups; g++) {
        panel_dot_group(type, n, tile, c, b, groups * half + g, col + 32 * (size_t)b, sum);
    }
    for (int p = 0; p < 2; p++) {
        __m512i scale = panel_run_scale(type, c[p].scales + 16 * (size_t)run);
#pragma GCC unroll 6
        for (uint32_t t = 0; t < n; t++) {
            total[t][p] = _mm512_add_epi32(total[t][p], _mm512_mullo_epi32(sum[t][p], scale));
        }
    }
}

/* out += d * da * total, for each row and panel. */
KERN_INLINE void panel_add_up(uint32_t n, const struct panel_tile *tile, uint32_t chunk,
                              const __m512 d[2], bool first, __m512i total[PANEL_TILE_ROWS][2])
{
#pragma GCC unroll 6
    for (uint32_t t = 0; t < n; t++) {
        __m512 da = _mm512_set1_ps(tile->d[t][chunk]);
        for (int p = 0; p < 2; p++) {
            float *out = tile->out[p] + t * tile->out_stride[p];
            __m512 acc = first ? _mm512_setzero_ps() : _mm512_loadu_ps(out);
            acc = _mm512_fmadd_ps(_mm512_mul_ps(d[p], da), _mm512_cvtepi32_ps(total[t][p]), acc);
            _mm512_storeu_ps(out, acc);
        }
    }
}

/* Mins of a chunk, two by two as 16-bit numbers, with the sums of activations. */
KERN_INLINE void panel_add_mins(enum dtype type, uint32_t n, const struct panel_tile *tile,
                                const struct panel_chunk c[2], uint32_t chunk,
                                const struct panel_starts *starts)
{
    const uint32_t n_pairs = panel_has_runs_of_16(type) ? 8 : 4;
    __m512i total[PANEL_TILE_ROWS][2];
#pragma GCC unroll 6
    for (uint32_t t = 0; t < n; t++) {
        total[t][0] = total[t][1] = _mm512_setzero_si512();
    }
    for (uint32_t i = 0; i < n_pairs; i++) {
        for (int p = 0; p < 2; p++) {
            const unsigned char *at = c[p].mins + 32 * (size_t)i;
            __m512i even = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)at));
            __m512i odd = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(at + 16)));
            __m512i pair = _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
#pragma GCC unroll 6
            for (uint32_t t = 0; t < n; t++) {
                __m512i s = _mm512_set1_epi32(starts->pairs[t][i]);
                total[t][p] = _mm512_dpwssd_epi32(total[t][p], pair, s);
            }
        }
    }
    const __m512 minus = _mm512_set1_ps(-0.0f);
    __m512 m[2] = {_mm512_xor_ps(panel_halves(c[0].supers + 32), minus),
                   _mm512_xor_ps(panel_halves(c[1].supers + 32), minus)};
    panel_add_up(n, tile, chunk, m, false, total);
}

KERN_INLINE void panel_tile_k(enum dtype type, uint32_t n, const struct panel_tile *tile)
{
    const size_t bytes = pack_chunk_bytes(pack_layouts[type], 8);
    for (uint32_t chunk = 0; chunk < tile->n_blocks / 8; chunk++) {
        struct panel_chunk c[2] = {panel_chunk(type, tile->w[0] + chunk * bytes, 8),
                                   panel_chunk(type, tile->w[1] + chunk * bytes, 8)};
        struct panel_ahead ahead = panel_look_ahead(tile, chunk * bytes, bytes);
        struct panel_starts starts;
        panel_make_starts(type, n, tile, chunk, &starts);
        __m512i total[PANEL_TILE_ROWS][2];
#pragma GCC unroll 6
        for (uint32_t t = 0; t < n; t++) {
            total[t][0] = total[t][1] = _mm512_setzero_si512();
        }
        for (uint32_t b = 0; b < 8; b++) {
            panel_prefetch(type, n, &ahead, b);
            panel_run(type, n, tile, c, 256 * (size_t)chunk, b, 0, &starts, total);
            if (panel_has_runs_of_16(type)) {
                panel_run(type, n, tile, c, 256 * (size_t)chunk, b, 1, &starts, total);
            }
        }
        __m512 d[2] = {panel_halves(c[0].supers), panel_halves(c[1].supers)};
        panel_add_up(n, tile, chunk, d, tile->first && chunk == 0, total);
        if (panel_has_min(type)) {
            panel_add_mins(type, n, tile, c, chunk, &starts);
        }
    }
}

#define DEFINE_GEMM(T) PANEL_GEMM_FN(T, panel_tile_k)
PANEL_TYPES_K(DEFINE_GEMM)

extern const struct kern_gemm_table KERN_NAME(kern_gemm_k);
const struct kern_gemm_table KERN_NAME(kern_gemm_k) = {
#define ROW_GEMM(T) [DTYPE_##T] = gemm_##T,
    {PANEL_TYPES_K(ROW_GEMM)}
#undef ROW_GEMM
};
