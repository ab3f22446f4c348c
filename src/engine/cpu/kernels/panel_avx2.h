/* panel_avx2.h: quantised panels times rows of activations, for AVX2 and AVX2-VNNI.
 *
 * A tile is one panel's chunk of 256 columns times up to AVX2_ROWS rows: sums of sixteen outputs in
 * two registers per row, no shuffles and no sums across a register. Few rows read the codes
 * straight from the panel, which streams from memory once; many rows unpack each chunk into the
 * first-level cache and use it for all tiles, with the float sums in `out` between chunks. */
#ifndef ENGINE_CPU_KERNELS_PANEL_AVX2_H
#define ENGINE_CPU_KERNELS_PANEL_AVX2_H

#if defined(__AVX2__)

#include "engine/cpu/kernels/panel.h"
#include "engine/cpu/kernels/panel_avx2_codes.h"
#include "engine/cpu/kernels/panel_avx2_dot.h"

enum { AVX2_ROWS = 4 };

/* Constants of a tile's code: its height, and whether codes come from the panel or the chunk. */
struct avx2_shape {
    uint32_t n_rows;
    bool from_panel;
};

_Static_assert(2 * sizeof(struct avx2_chunk) <= KERN_SCRATCH_BYTES, "scratch holds two chunks");

/* A chunk of one panel, and what was unpacked of it. */
struct avx2_source {
    struct avx2_chunk *chunk;
    const unsigned char *panel;
    const unsigned char *ahead; /* prefetched meanwhile, as many bytes as the chunk has */
    uint32_t n_blocks;
};

/* A tile's rows from the chunk's first column on. */
struct avx2_rows {
    const int8_t *q[AVX2_ROWS];
    const float *d[AVX2_ROWS];
    const int16_t *sums[AVX2_ROWS];
    float *out[AVX2_ROWS]; /* sixteen sums so far of the first panel */
};

/* What a tile makes of its rows first. */
struct avx2_input {
    int16_t wide[AVX2_ROWS][2 * 256]; /* groups' columns 0, 2 and 1, 3 */
    int32_t start[AVX2_ROWS][8];      /* minus zero times the sum of each block of 32 */
    int16_t runs[AVX2_ROWS][16];      /* sums of activations over runs */
};

typedef __m256i avx2_sums[AVX2_ROWS][2];

/* ---- input ---- */

KERN_INLINE void avx2_widen(const int8_t *q, uint32_t n_blocks, int16_t *out)
{
    for (uint32_t b = 0; b < n_blocks; b++) {
        __m256i v = avx2_load(q + 32 * b);
        __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8);
        __m256i odd = _mm256_srai_epi16(v, 8);
        avx2_store(out + 32 * b, even);
        avx2_store(out + 32 * b + 16, odd);
    }
}

KERN_INLINE void avx2_prepare(enum dtype type, const struct avx2_rows *rows, uint32_t n_rows,
                              uint32_t n_blocks, struct avx2_input *in)
{
    const struct avx2_type ty = avx2_type(type);
    for (uint32_t r = 0; r < n_rows; r++) {
        if (ty.wide) {
            avx2_widen(rows->q[r], n_blocks, in->wide[r]);
        }
        if (ty.width == 256) {
            __m256i v = avx2_load(rows->sums[r]);
            if (ty.run == 8) {
                v = _mm256_madd_epi16(v, _mm256_set1_epi16(1));
                v = _mm256_permute4x64_epi64(_mm256_packs_epi32(v, v), 0x08);
            }
            avx2_store(in->runs[r], v);
        } else if (ty.zero != 0) {
            int16_t sums[8] = {0};
            memcpy(sums, rows->sums[r], n_blocks * sizeof(sums[0]));
            __m256i v = _mm256_cvtepi16_epi32(_mm_loadu_si128((const void *)sums));
            avx2_store(in->start[r], _mm256_mullo_epi32(v, _mm256_set1_epi32(-ty.zero)));
        }
    }
}

/* ---- sums of whole numbers ---- */

/* sum[r] = Σ pairs of numbers of runs times the sums of those runs. */
KERN_INLINE void avx2_sum_runs(enum dtype type, const struct avx2_chunk *c,
                               const struct avx2_input *in, uint32_t n_rows, avx2_sums sum)
{
    const uint32_t n_pairs = 32 / avx2_type(type).run;
    for (uint32_t p = 0; p < n_pairs; p++) {
        __m256i w0 = avx2_load(&c->pairs[p][0]);
        __m256i w1 = avx2_load(&c->pairs[p][8]);
        for (uint32_t r = 0; r < n_rows; r++) {
            __m256i x = avx2_four(in->runs[r] + 2 * p);
            if (p == 0) {
                sum[r][0] = _mm256_madd_epi16(w0, x);
                sum[r][1] = _mm256_madd_epi16(w1, x);
            } else {
                avx2_add_32(&sum[r][0], _mm256_madd_epi16(w0, x));
                avx2_add_32(&sum[r][1], _mm256_madd_epi16(w1, x));
            }
        }
    }
}

KERN_INLINE void avx2_codes_at(enum dtype type, struct avx2_shape shape,
                               const struct avx2_source *s, uint32_t b, uint32_t g, __m256i w[2][2])
{
    if (shape.from_panel) {
        avx2_codes(type, s->panel, s->n_blocks, b, g, w);
        return;
    }
    for (uint32_t i = 0; i < 4; i++) {
        w[i / 2][i % 2] = avx2_load(s->chunk->codes[8 * b + g + i / 2] + 32 * (i % 2));
    }
}

/* A run's sums into those of its block. */
KERN_INLINE void avx2_close(enum dtype type, const struct avx2_chunk *c, uint32_t group,
                            uint32_t n_rows, avx2_sums part, avx2_sums sum, bool first)
{
    const struct avx2_type ty = avx2_type(type);
    for (uint32_t h = 0; h < 2; h++) {
        __m256i scale = _mm256_setzero_si256();
        if (ty.width == 256) {
            scale = avx2_load(&c->scale[group / ty.run][8 * h]);
        }
        for (uint32_t r = 0; r < n_rows; r++) {
            __m256i more = part[r][h];
            if (ty.wide) {
                more = ty.width == 256 ? _mm256_mullo_epi32(more, scale) : more;
            } else {
                more = ty.width == 256 ? avx2_dot_end_scaled(more, scale) : avx2_dot_end(more);
            }
            sum[r][h] = first ? more : _mm256_add_epi32(sum[r][h], more);
        }
    }
}

/* Σ codes · activations of block b of 32 columns, runs scaled. */
KERN_INLINE void avx2_block_narrow(enum dtype type, struct avx2_shape shape,
                                   const struct avx2_source *s, const int8_t *const *q, uint32_t b,
                                   avx2_sums sum, bool first)
{
    const uint32_t n_rows = shape.n_rows;
    const struct avx2_type ty = avx2_type(type);
    avx2_sums part;
#pragma GCC unroll 4
    for (uint32_t g = 0; g < 8; g += 2) {
        __m256i w[2][2];
        avx2_codes_at(type, shape, s, b, g, w);
#pragma GCC unroll 8
        for (uint32_t r = 0; r < n_rows; r++) {
            __m256i x0 = avx2_four(q[r] + 32 * (size_t)b + 4 * g);
            __m256i x1 = avx2_four(q[r] + 32 * (size_t)b + 4 * g + 4);
            for (uint32_t h = 0; h < 2; h++) {
                if (g % ty.chain == 0) {
                    part[r][h] = avx2_dot(w[0][h], x0);
                } else {
                    avx2_dot_add(&part[r][h], w[0][h], x0);
                }
                avx2_dot_add(&part[r][h], w[1][h], x1);
            }
        }
        if ((g + 2) % ty.chain == 0) {
            avx2_close(type, s->chunk, 8 * b + g, n_rows, part, sum, first && g + 2 == ty.chain);
        }
    }
}

KERN_INLINE void avx2_wide_at(enum dtype type, struct avx2_shape shape, const struct avx2_source *s,
                              uint32_t b, uint32_t g, __m256i w[2][2][2])
{
    if (shape.from_panel) {
        __m256i codes[2][2];
        avx2_codes(type, s->panel, s->n_blocks, b, g, codes);
        for (uint32_t i = 0; i < 4; i++) {
            w[i / 2][0][i % 2] = avx2_wide_even(codes[i / 2][i % 2]);
            w[i / 2][1][i % 2] = avx2_wide_odd(codes[i / 2][i % 2]);
        }
        return;
    }
    for (uint32_t i = 0; i < 8; i++) {
        w[i / 4][i / 2 % 2][i % 2] =
            avx2_load(s->chunk->codes[2 * (8 * b + g) + i / 2] + 32 * (i % 2));
    }
}

/* The same with codes of 16 bits; activations lie as avx2_widen left them. */
KERN_INLINE void avx2_block_wide(enum dtype type, struct avx2_shape shape,
                                 const struct avx2_source *s, const struct avx2_input *in,
                                 uint32_t b, avx2_sums sum, bool first)
{
    const uint32_t n_rows = shape.n_rows;
    avx2_sums part;
#pragma GCC unroll 4
    for (uint32_t g = 0; g < 8; g += 2) {
        __m256i w[2][2][2];
        avx2_wide_at(type, shape, s, b, g, w);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; i++) {
#pragma GCC unroll 8
            for (uint32_t r = 0; r < n_rows; r++) {
                __m256i x = avx2_four(in->wide[r] + 32 * b + 16 * (i % 2) + 2 * (g + i / 2));
                for (uint32_t h = 0; h < 2; h++) {
                    __m256i more = _mm256_madd_epi16(w[i / 2][i % 2][h], x);
                    if (g == 0 && i == 0) {
                        part[r][h] = more;
                    } else {
                        avx2_add_32(&part[r][h], more);
                    }
                }
            }
        }
    }
    avx2_close(type, s->chunk, 8 * b, n_rows, part, sum, first);
}

/* ---- float sums ---- */

/* acc += d * da * sum, as kernels.h states. */
KERN_INLINE __m256 avx2_scale_add(__m256 acc, const float *d, float da, __m256i sum)
{
    __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(d), _mm256_set1_ps(da));
    return _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(sum), acc);
}

KERN_INLINE void avx2_float_add(float *out, const float d[16], float da, const __m256i sum[2])
{
    for (uint32_t h = 0; h < 2; h++) {
        __m256 acc = avx2_scale_add(_mm256_loadu_ps(out + 8 * h), d + 8 * h, da, sum[h]);
        _mm256_storeu_ps(out + 8 * h, acc);
    }
}

KERN_INLINE void avx2_prefetch(enum dtype type, const struct avx2_source *s, uint32_t b)
{
    const struct pack_layout l = pack_layouts[type];
    const uint32_t bytes = (uint32_t)pack_chunk_bytes(l, 8) / 8;
    for (uint32_t at = 0; s->ahead != NULL && at < bytes; at += CACHE_LINE_BYTES) {
        _mm_prefetch(s->ahead + (size_t)b * bytes + at, _MM_HINT_T0);
    }
}

KERN_INLINE void avx2_tile_32(enum dtype type, struct avx2_shape shape, const struct avx2_source *s,
                              const struct avx2_rows *rows, const struct avx2_input *in)
{
    const uint32_t n_rows = shape.n_rows;
    const struct avx2_type ty = avx2_type(type);
    const struct avx2_chunk *c = s->chunk;
#pragma GCC unroll 1
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        avx2_sums sum;
        if (shape.from_panel) {
            avx2_prefetch(type, s, b);
        }
        if (ty.wide) {
            avx2_block_wide(type, shape, s, in, b, sum, true);
        } else {
            avx2_block_narrow(type, shape, s, rows->q, b, sum, true);
        }
#pragma GCC unroll 8
        for (uint32_t r = 0; r < n_rows; r++) {
            if (ty.zero != 0) {
                __m256i start = avx2_four(&in->start[r][b]);
                sum[r][0] = _mm256_add_epi32(sum[r][0], start);
                sum[r][1] = _mm256_add_epi32(sum[r][1], start);
            }
            float da = rows->d[r][b];
            avx2_float_add(rows->out[r], c->d[b], da, sum[r]);
            if (ty.min) {
                __m256i all = _mm256_set1_epi32(rows->sums[r][b]);
                avx2_float_add(rows->out[r], c->m[b], da, (const __m256i[2]){all, all});
            }
        }
    }
}

KERN_INLINE void avx2_tile_k(enum dtype type, struct avx2_shape shape, const struct avx2_source *s,
                             const struct avx2_rows *rows, const struct avx2_input *in)
{
    const uint32_t n_rows = shape.n_rows;
    const struct avx2_type ty = avx2_type(type);
    const struct avx2_chunk *c = s->chunk;
    avx2_sums sum, other;
    for (uint32_t r = 0; r < n_rows; r++) {
        sum[r][0] = sum[r][1] = _mm256_setzero_si256();
    }
    if (ty.zero != 0) {
        const int shift = ty.zero == 128 ? 7 : ty.zero == 32 ? 5 : 2;
        avx2_sum_runs(type, c, in, n_rows, other);
        for (uint32_t r = 0; r < n_rows; r++) {
            sum[r][0] = _mm256_sub_epi32(sum[r][0], _mm256_slli_epi32(other[r][0], shift));
            sum[r][1] = _mm256_sub_epi32(sum[r][1], _mm256_slli_epi32(other[r][1], shift));
        }
    }
#pragma GCC unroll 1
    for (uint32_t b = 0; b < 8; b++) {
        if (shape.from_panel) {
            avx2_prefetch(type, s, b);
        }
        if (ty.wide) {
            avx2_block_wide(type, shape, s, in, b, sum, false);
        } else {
            avx2_block_narrow(type, shape, s, rows->q, b, sum, false);
        }
    }
    if (ty.min) {
        avx2_sum_runs(type, c, in, n_rows, other);
    }
    for (uint32_t r = 0; r < n_rows; r++) {
        avx2_float_add(rows->out[r], c->d[0], *rows->d[r], sum[r]);
        if (ty.min) {
            avx2_float_add(rows->out[r], c->m[0], *rows->d[r], other[r]);
        }
    }
}

/* ---- panels ---- */

/* Types that files use most get a tile of three rows; the others fill one of four. */
KERN_INLINE bool avx2_is_common(enum dtype type)
{
    return type == DTYPE_Q4_0 || type == DTYPE_Q8_0 || type == DTYPE_Q4_K || type == DTYPE_Q6_K;
}

/* n rows from t0 on by one chunk of each panel. A tile higher than that repeats the last row, and
 * drops what comes of it. */
KERN_INLINE void avx2_tile(enum dtype type, struct avx2_shape shape, const struct kern_gemm *g,
                           const struct kern_rows *a, uint32_t t0, uint32_t n, uint32_t col,
                           const struct avx2_source *s, uint32_t n_panels)
{
    const uint32_t n_rows = shape.n_rows;
    const bool k = avx2_type(type).width == 256;
    struct avx2_rows rows;
    struct avx2_input in;
    for (uint32_t r = 0; r < n_rows; r++) {
        size_t row = panel_row_of(a, t0 + MIN(r, n - 1));
        rows.q[r] = a->q8 + row * a->q_stride + col;
        rows.d[r] = a->d + row * a->d_stride + col / (k ? 256 : 32);
        rows.sums[r] = a->sums + row * a->sums_stride + col / (k ? 16 : 32);
    }
    avx2_prepare(type, &rows, n_rows, s->n_blocks, &in);
#pragma GCC unroll 1
    for (uint32_t p = 0; p < n_panels; p++) {
        for (uint32_t r = 0; r < n_rows; r++) {
            rows.out[r] = r < n ? g->out[p] + (t0 + r) * g->out_stride : s->chunk->spare;
        }
        if (k) {
            avx2_tile_k(type, shape, &s[p], &rows, &in);
        } else {
            avx2_tile_32(type, shape, &s[p], &rows, &in);
        }
    }
}

/* Rows up to which codes are taken from the panel by every tile: above, unpacking them once is
 * cheaper. Codes of 16 bits take more memory than they save until many tiles share them. */
KERN_INLINE uint32_t avx2_few_max(enum dtype type)
{
    return avx2_type(type).wide ? 16 : AVX2_ROWS;
}

/* A tile's height is a constant of its code. */
KERN_INLINE void avx2_few(enum dtype type, const struct kern_gemm *g, const struct kern_rows *a,
                          uint32_t col, struct avx2_source s[2], uint32_t n_panels)
{
    const struct avx2_shape one = {1, true}, two = {2, true}, three = {3, true}, four = {4, true};
    for (uint32_t t = 0, n; t < a->n; t += n) {
        n = panel_tile_rows(a->n, t, AVX2_ROWS);
        if (n == 1) {
            avx2_tile(type, one, g, a, t, 1, col, s, n_panels);
        } else if (n == 2) {
            avx2_tile(type, two, g, a, t, 2, col, s, n_panels);
        } else if (n == 3 && avx2_is_common(type)) {
            avx2_tile(type, three, g, a, t, 3, col, s, n_panels);
        } else {
            avx2_tile(type, four, g, a, t, n, col, s, n_panels);
        }
        s[0].ahead = s[1].ahead = NULL; /* the first tile has seen to it */
    }
}

/* Many rows: codes come from the chunk; each tile prefetches its share of the next. */
KERN_INLINE void avx2_many(enum dtype type, const struct kern_gemm *g, const struct kern_rows *a,
                           uint32_t col, const struct avx2_source *s, uint32_t n_panels)
{
    const struct avx2_shape low = {2, false}, high = {AVX2_ROWS, false};
    const uint32_t n_tiles = (a->n + AVX2_ROWS - 1) / AVX2_ROWS;
    const size_t bytes = pack_chunk_bytes(pack_layouts[type], 8);
    const size_t share = (bytes / n_tiles + CACHE_LINE_BYTES) & ~(size_t)(CACHE_LINE_BYTES - 1);
    size_t at = 0;
    for (uint32_t t = 0; t < a->n; t += AVX2_ROWS) {
        for (const size_t end = MIN(at + share, bytes); at < end; at += CACHE_LINE_BYTES) {
            for (uint32_t p = 0; p < n_panels; p++) {
                _mm_prefetch(s[p].ahead + at, _MM_HINT_T0);
            }
        }
        uint32_t n = MIN(a->n - t, (uint32_t)AVX2_ROWS);
        if (n <= low.n_rows) {
            avx2_tile(type, low, g, a, t, n, col, s, n_panels);
        } else {
            avx2_tile(type, high, g, a, t, n, col, s, n_panels);
        }
    }
}

/* What is read after chunk `at` of panel p; the last of all is followed by itself. */
KERN_INLINE const unsigned char *avx2_ahead(const struct kern_gemm *g, uint32_t p, uint32_t col,
                                            const unsigned char *at, size_t chunk_bytes)
{
    if (col + PACK_CHUNK_COLS < g->n_cols) {
        return at + chunk_bytes;
    }
    return g->next[p] != NULL ? g->next[p] : at;
}

KERN_INLINE void avx2_gemm(enum dtype type, const struct kern_gemm *g, const struct kern_rows *a)
{
    const size_t chunk_bytes = pack_chunk_bytes(pack_layouts[type], 8);
    const uint32_t n_panels = g->panel[1] != NULL ? 2 : 1;
    const bool few = a->n <= avx2_few_max(type);
    struct avx2_chunk *c = g->scratch;
    for (uint32_t p = 0; p < n_panels; p++) {
        for (uint32_t t = 0; t < a->n; t++) {
            memset(g->out[p] + t * g->out_stride, 0, PACK_ROWS * sizeof(float));
        }
    }
#pragma GCC unroll 1
    for (uint32_t col = 0; col < g->n_cols; col += PACK_CHUNK_COLS) {
        const uint32_t n_blocks = MIN(g->n_cols - col, (uint32_t)PACK_CHUNK_COLS) / 32;
        struct avx2_source s[2];
#pragma GCC unroll 1
        for (uint32_t p = 0; p < n_panels; p++) {
            const unsigned char *at = g->panel[p] + col / PACK_CHUNK_COLS * chunk_bytes;
            const unsigned char *ahead = avx2_ahead(g, p, col, at, chunk_bytes);
            s[p] = (struct avx2_source){&c[p], at, ahead, n_blocks};
            avx2_unpack_scales(type, at, n_blocks, &c[p]);
            if (!few) {
                avx2_unpack_codes(type, at, n_blocks, &c[p]);
            }
        }
        if (few) {
            avx2_few(type, g, a, col, s, n_panels);
        } else {
            avx2_many(type, g, a, col, s, n_panels);
        }
    }
}

KERN_INLINE void panel_gemm_32(enum dtype type, const struct kern_gemm *g,
                               const struct kern_rows *a)
{
    avx2_gemm(type, g, a);
}

KERN_INLINE void panel_gemm_k(enum dtype type, const struct kern_gemm *g, const struct kern_rows *a)
{
    avx2_gemm(type, g, a);
}

#endif
#endif
