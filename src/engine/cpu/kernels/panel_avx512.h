/* panel_avx512.h: what the AVX-512 kernels over panels of quantised weights share: unpacking, the
 * cut into tiles and the prefetching. panel_32_avx512.c and panel_k_avx512.c fill in the tiles.
 *
 * A tile is 1…6 rows by two panels: a register holds sixteen outputs, vpdpbusd multiplies their
 * unsigned codes of four columns with four activations broadcast to all. What is taken off codes
 * is in the number that a sum starts from, -zero * Σ q, so it costs nothing and is exact.
 *
 * Columns are cut into spans whose panels fit the first-level cache beside the activations; each
 * span is multiplied with all rows before the next, and sums wait in `out` meanwhile. Weights that
 * are read for at most PANEL_STREAM_ROWS rows come at the speed of memory and are prefetched a few
 * KiB ahead; with more rows, each tile fetches its share of the panels that come next. */
#ifndef ENGINE_CPU_KERNELS_PANEL_AVX512_H
#define ENGINE_CPU_KERNELS_PANEL_AVX512_H

#include <immintrin.h>

#include "engine/cpu/kernels/panel.h"

enum {
    PANEL_TILE_ROWS = 6,
    PANEL_STREAM_ROWS = 4,
    PANEL_AHEAD_BYTES = 8192,
    PANEL_SPAN_BYTES = 32768 /* of two panels */
};

/* What to prefetch while the blocks of a chunk are worked on: `lines` of each panel per block. */
struct panel_ahead {
    const unsigned char *at[2];
    uint32_t lines;
    bool near; /* into the first level; else into the second */
};

struct panel_tile {
    const unsigned char *w[2]; /* the first chunk of the span */
    uint32_t n_blocks;         /* blocks of 32 columns of the span */
    bool first;                /* nothing is in out yet */
    const int8_t *q[PANEL_TILE_ROWS];
    const float *d[PANEL_TILE_ROWS];
    const int16_t *sums[PANEL_TILE_ROWS];
    float *out[2];
    size_t out_stride[2];
    /* prefetching */
    const unsigned char *next[2];
    size_t left;            /* bytes from the span's first chunk to the end of a panel */
    uint32_t share, shares; /* this tile's part of the next panels; shares 0: read ahead */
};

typedef void (*panel_tile_fn)(const struct panel_tile *tile);

/* ---- prefetching ---- */

/* Cache lines of a panel per block of 32 columns, rounded up. */
KERN_INLINE uint32_t panel_block_lines(size_t chunk_bytes)
{
    return (uint32_t)(chunk_bytes / 64 + 7) / 8;
}

/* For the chunk `at` bytes behind the tile's first. */
KERN_INLINE struct panel_ahead panel_look_ahead(const struct panel_tile *tile, size_t at,
                                                size_t chunk_bytes)
{
    struct panel_ahead ahead = {.near = tile->shares == 0};
    uint32_t lines = panel_block_lines(chunk_bytes);
    for (int p = 0; p < 2; p++) {
        size_t off = at + PANEL_AHEAD_BYTES;
        if (!ahead.near) {
            uint32_t from = lines * tile->share / tile->shares;
            ahead.lines = lines * (tile->share + 1) / tile->shares - from;
            ahead.at[p] = tile->next[p] + at + (size_t)(8 * from) * 64;
        } else {
            ahead.lines = lines;
            ahead.at[p] = off < tile->left ? tile->w[p] + off : tile->next[p] + (off - tile->left);
        }
    }
    return ahead;
}

/* n rows to a tile; with more than PANEL_STREAM_ROWS nothing is read at the speed of memory. */
KERN_INLINE void panel_prefetch(enum dtype type, uint32_t n, const struct panel_ahead *ahead,
                                uint32_t block)
{
    const uint32_t lines = panel_block_lines(pack_chunk_bytes(pack_layouts[type], 8));
    const size_t at = 64 * (size_t)(block * ahead->lines);
    if (n <= PANEL_STREAM_ROWS && LIKELY(ahead->near)) {
#pragma GCC unroll 9
        for (uint32_t i = 0; i < lines; i++) {
            _mm_prefetch(ahead->at[0] + at + 64 * i, _MM_HINT_T0);
            _mm_prefetch(ahead->at[1] + at + 64 * i, _MM_HINT_T0);
        }
        return;
    }
    for (uint32_t i = 0; i < ahead->lines; i++) {
        _mm_prefetch(ahead->at[0] + at + 64 * (size_t)i, _MM_HINT_T1);
        _mm_prefetch(ahead->at[1] + at + 64 * (size_t)i, _MM_HINT_T1);
    }
}

/* ---- weights ---- */

/* Taken off the codes that panel_weights gives: tables are stored with it added. */
KERN_INLINE int panel_start_zero(enum dtype type)
{
    if (type == DTYPE_IQ4_NL || type == DTYPE_IQ4_XS) {
        return 128;
    }
    return type == DTYPE_MXFP4 ? 12 : panel_zero(type);
}

KERN_INLINE __m512i panel_table(const int8_t values[16], int zero)
{
    __m128i v = _mm_add_epi8(_mm_loadu_si128((const void *)values), _mm_set1_epi8((char)zero));
    return _mm512_broadcast_i32x4(v);
}

/* Left by a constant number of bits, right by a negative one. */
KERN_INLINE __m512i panel_shift(__m512i v, int bits)
{
    typedef uint16_t words __attribute__((vector_size(64)));
    return (__m512i)(bits >= 0 ? (words)v << bits : (words)v >> -bits);
}

/* Unsigned codes of columns 4 group … 4 group + 3 of block b, of sixteen outputs. */
KERN_INLINE __m512i panel_weights(enum dtype type, const struct panel_chunk *c, uint32_t b,
                                  uint32_t group)
{
    const size_t at = (size_t)b * c->layout.codes;
    const __m512i low = _mm512_set1_epi8(c->layout.codes == 256 ? 15 : 3);
    if (c->layout.codes == 512) {
        return _mm512_loadu_si512(c->codes + at + 64 * group);
    }
    uint32_t per = c->layout.codes == 256 ? 2 : 4; /* groups that share 64 bytes */
    __m512i w = _mm512_loadu_si512(c->codes + at + group / per * 64);
    w = _mm512_and_si512(panel_shift(w, -(int)(group % per * (8 / per))), low);
    if (type == DTYPE_IQ4_NL || type == DTYPE_IQ4_XS) {
        return _mm512_shuffle_epi8(panel_table(block_iq4_values, 128), w);
    }
    if (type == DTYPE_MXFP4) {
        return _mm512_shuffle_epi8(panel_table(block_mxfp4_values, 12), w);
    }
    const unsigned char *high = c->high + (size_t)b * c->layout.high;
    if (c->layout.high == 64) {
        uint64_t bits;
        memcpy(&bits, high + 8 * group, sizeof(bits));
        __m512i worth = _mm512_set1_epi8(type == DTYPE_Q3_K ? 4 : 16);
        return _mm512_mask_add_epi8(w, _cvtu64_mask64(bits), w, worth);
    }
    if (c->layout.high == 128) {
        __m512i h = _mm512_loadu_si512(high + group / 4 * 64);
        h = panel_shift(h, 4 - 2 * (int)(group % 4)); /* to bits 4 and 5 */
        /* w | (h & 0x30) */
        return _mm512_ternarylogic_epi32(w, h, _mm512_set1_epi8(0x30), 0xF8);
    }
    return w;
}

/* n rows by two panels of one group: sum[t][p] += codes · activations. `col` counts from the
 * tile's first. */
KERN_INLINE void panel_dot_group(enum dtype type, uint32_t n, const struct panel_tile *tile,
                                 const struct panel_chunk c[2], uint32_t b, uint32_t group,
                                 size_t col, __m512i sum[PANEL_TILE_ROWS][2])
{
    __m512i w0 = panel_weights(type, &c[0], b, group);
    __m512i w1 = panel_weights(type, &c[1], b, group);
#pragma GCC unroll 6
    for (uint32_t t = 0; t < n; t++) {
        int32_t four;
        memcpy(&four, tile->q[t] + col + 4 * group, sizeof(four));
        __m512i q = _mm512_set1_epi32(four);
        sum[t][0] = _mm512_dpbusd_epi32(sum[t][0], w0, q);
        sum[t][1] = _mm512_dpbusd_epi32(sum[t][1], w1, q);
    }
}

KERN_INLINE __m512 panel_halves(const unsigned char *at)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)at));
}

/* ---- the cut into tiles ---- */

/* Columns of a span: equal parts of whole chunks that fit PANEL_SPAN_BYTES, as far as possible. */
static inline uint32_t panel_span_blocks(uint32_t n_blocks, size_t chunk_bytes)
{
    uint32_t n_chunks = (n_blocks + 7) / 8;
    uint32_t fit = (uint32_t)MAX(PANEL_SPAN_BYTES / (2 * chunk_bytes), (size_t)1);
    uint32_t n_spans = (n_chunks + fit - 1) / fit;
    return (n_chunks + n_spans - 1) / n_spans * 8;
}

/* The rows t … t + n - 1 of the call, from column `col` on. */
static inline void panel_tile_at(struct panel_tile *tile, const struct kern_gemm *g,
                                 const struct kern_rows *a, bool k, uint32_t t, uint32_t n,
                                 uint32_t col)
{
    for (uint32_t i = 0; i < n; i++) {
        size_t row = panel_row_of(a, t + i);
        tile->q[i] = a->q8 + row * a->q_stride + col;
        tile->d[i] = a->d + row * a->d_stride + col / (k ? 256 : 32);
        tile->sums[i] = a->sums + row * a->sums_stride + col / (k ? 16 : 32);
    }
    tile->out[0] = g->out[0] + t * g->out_stride;
    if (g->panel[1] != NULL) {
        tile->out[1] = g->out[1] + t * g->out_stride;
    }
}

/* All rows by one span of both panels. */
static inline void panel_gemm_span(struct panel_tile *tile, const struct kern_gemm *g,
                                   const struct kern_rows *a, bool k, uint32_t col,
                                   const panel_tile_fn fns[PANEL_TILE_ROWS])
{
    tile->shares = a->n <= PANEL_STREAM_ROWS ? 0 : (a->n + PANEL_TILE_ROWS - 1) / PANEL_TILE_ROWS;
    tile->share = 0;
    for (uint32_t t = 0; t < a->n; tile->share++) {
        uint32_t n = panel_tile_rows(a->n, t, PANEL_TILE_ROWS);
        panel_tile_at(tile, g, a, k, t, n, col);
        fns[n - 1](tile);
        t += n;
    }
}

/* One panel alone is worked on twice, the second result going nowhere. */
static inline void panel_gemm_tiles(enum dtype type, const struct kern_gemm *g,
                                    const struct kern_rows *a,
                                    const panel_tile_fn fns[PANEL_TILE_ROWS])
{
    const size_t chunk_bytes = pack_chunk_bytes(pack_layouts[type], 8);
    const uint32_t n_blocks = g->n_cols / 32;
    const uint32_t span =
        a->n <= PANEL_TILE_ROWS ? (n_blocks + 7) / 8 * 8 : panel_span_blocks(n_blocks, chunk_bytes);
    const uint32_t rest = n_blocks % 8;
    size_t left = n_blocks / 8 * chunk_bytes;
    left += rest != 0 ? pack_chunk_bytes(pack_layouts[type], rest) : 0;
    bool two = g->panel[1] != NULL;
    struct panel_tile tile = {
        .w = {g->panel[0], two ? g->panel[1] : g->panel[0]},
        .out[1] = g->scratch,
        .out_stride = {g->out_stride, two ? g->out_stride : PACK_ROWS},
        .left = left,
    };
    for (int p = 0; p < 2; p++) { /* with nothing to follow, what is at hand */
        tile.next[p] = g->next[p] != NULL ? g->next[p] : g->panel[0];
    }
    for (uint32_t b = 0; b < n_blocks; b += span) {
        tile.first = b == 0;
        tile.n_blocks = MIN(span, n_blocks - b);
        panel_gemm_span(&tile, g, a, panel_is_k(type), 32 * b, fns);
        size_t bytes = span / 8 * chunk_bytes;
        for (int p = 0; p < 2; p++) {
            tile.w[p] += bytes;
            tile.next[p] += tile.shares == 0 ? 0 : bytes;
        }
        tile.left -= MIN(bytes, tile.left);
    }
}

/* gemm_T, from tile_T(n, tile), a KERN_INLINE function for a constant number of rows. One function
 * for each number keeps the compiler's work apart. */
#define PANEL_TILE_FN(T, tile, n)                                                                  \
    static __attribute__((noinline)) void tile_##T##_##n(const struct panel_tile *t)               \
    {                                                                                              \
        tile(DTYPE_##T, n, t);                                                                     \
    }
#define PANEL_GEMM_FN(T, tile)                                                                     \
    PANEL_TILE_FN(T, tile, 1)                                                                      \
    PANEL_TILE_FN(T, tile, 2)                                                                      \
    PANEL_TILE_FN(T, tile, 3)                                                                      \
    PANEL_TILE_FN(T, tile, 4)                                                                      \
    PANEL_TILE_FN(T, tile, 5)                                                                      \
    PANEL_TILE_FN(T, tile, 6)                                                                      \
    static void gemm_##T(const struct kern_gemm *g, const struct kern_rows *a)                     \
    {                                                                                              \
        static const panel_tile_fn fns[PANEL_TILE_ROWS] = {                                        \
            tile_##T##_1, tile_##T##_2, tile_##T##_3, tile_##T##_4, tile_##T##_5, tile_##T##_6,    \
        };                                                                                         \
        panel_gemm_tiles(DTYPE_##T, g, a, fns);                                                    \
    }

#endif
