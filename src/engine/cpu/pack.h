/* pack.h: weights as panels, the one layout that every kernel and instruction set reads.
 *
 * A weight [N rows = outputs, K columns] becomes ceil(N / 16) panels, the last padded with rows of
 * zeros. A panel is one stream over K, 64-byte aligned and sized, with rows r = 0…15 side by side.
 *
 * Quantised types: chunks of 256 columns, the last shorter (a multiple of 32) for blocks of 32.
 * Of a chunk of n blocks of 32 columns lie one after the other (struct pack_layout):
 *   codes   n × 8 bits: 8 × 64 bytes; byte 4 r + i of group g is q + 128 of column 4 g + i
 *           n × 4 bits: 4 × 64 bytes; byte 4 r + i of part j: low nibble column 8 j + i, high
 *                       nibble column 8 j + 4 + i. Nibbles are those of the file, unsigned
 *           n × 2 bits: 2 × 64 bytes; byte 4 r + i of part j: bits 2 m, 2 m + 1 are the code of
 *                       column 16 j + 4 m + i
 *   high    n × 1 bit (Q5_x, Q3_K): 8 × 8 bytes; bit 4 r + i of the little-endian number g belongs
 *                       to column 4 g + i; it is worth 16 (Q5_x) or 4 (Q3_K)
 *           n × 2 bits (Q6_K): as 2-bit codes, worth 16
 *   scales  n × F16[16] (MXFP4: E8M0 bytes [16]); types of 256: bytes [16] of each run, signed in
 *           Q3_K, Q6_K, IQ4_XS (32 taken off), of 32 columns or, in Q2_K, Q3_K, Q6_K, of 16
 *   mins    as scales (Q4_1, Q5_1: m; Q2_K, Q4_K, Q5_K: unsigned, to be taken off)
 *   supers  types of 256, once a chunk: d as F16[16], with mins then dmin as F16[16]
 * and the chunk is padded to 64 bytes. Codes mean what format/blocks.h says (q - 8, a level …).
 *
 * Float types: [K][16]; BF16: [ceil(K / 2)][16][2], an odd K padded with zeros.
 *
 * Nothing is lost: pack_row gives back the bits of quant_dequantize. No state, no threads: ranges
 * of panels may be packed by several threads at once. Not here: who owns the memory. */
#ifndef ENGINE_CPU_PACK_H
#define ENGINE_CPU_PACK_H

#include "engine/tensor/dtype.h"

enum { PACK_ROWS = 16, PACK_CHUNK_COLS = 256, PACK_ALIGN = 64 };

/* ---- layout ---- */

/* Bytes per block of 32 columns, and of the supers per chunk; all 0 for float types. */
struct pack_layout {
    uint16_t codes, high, scales, mins, supers;
};

/* Indexed by type; in kernels the index is a constant and the row folds away. */
static const struct pack_layout pack_layouts[DTYPE_NUMBER_MAX] = {
    [DTYPE_Q4_0] = {256, 0, 32, 0, 0},    [DTYPE_Q4_1] = {256, 0, 32, 32, 0},
    [DTYPE_Q5_0] = {256, 64, 32, 0, 0},   [DTYPE_Q5_1] = {256, 64, 32, 32, 0},
    [DTYPE_Q8_0] = {512, 0, 32, 0, 0},    [DTYPE_IQ4_NL] = {256, 0, 32, 0, 0},
    [DTYPE_MXFP4] = {256, 0, 16, 0, 0},   [DTYPE_Q2_K] = {128, 0, 32, 32, 64},
    [DTYPE_Q3_K] = {128, 64, 32, 0, 32},  [DTYPE_Q4_K] = {256, 0, 16, 16, 64},
    [DTYPE_Q5_K] = {256, 64, 16, 16, 64}, [DTYPE_Q6_K] = {256, 128, 32, 0, 32},
    [DTYPE_IQ4_XS] = {256, 0, 16, 0, 32},
};

/* Bytes of a chunk of n_blocks (1…8) blocks of 32 columns of a quantised type. */
static inline size_t pack_chunk_bytes(struct pack_layout l, uint32_t n_blocks)
{
    size_t block = (size_t)l.codes + l.high + l.scales + l.mins;
    return (n_blocks * block + l.supers + PACK_ALIGN - 1) & ~(size_t)(PACK_ALIGN - 1);
}

/* Where the parts of a chunk at offset 0 begin. */
struct pack_parts {
    size_t high, scales, mins, supers; /* codes begin at 0 */
};

static inline struct pack_parts pack_parts(struct pack_layout l, uint32_t n_blocks)
{
    struct pack_parts p;
    p.high = (size_t)n_blocks * l.codes;
    p.scales = p.high + (size_t)n_blocks * l.high;
    p.mins = p.scales + (size_t)n_blocks * l.scales;
    p.supers = p.mins + (size_t)n_blocks * l.mins;
    return p;
}

/* ---- whole weights ---- */

static inline uint32_t pack_panels_of(uint32_t n_rows)
{
    return n_rows / PACK_ROWS + (n_rows % PACK_ROWS != 0);
}

/* Bytes of one panel; n_cols is a multiple of the type's block. */
size_t pack_panel_bytes(enum dtype type, uint32_t n_cols);

/* A matrix as it lies in a file: rows of blocks, row_bytes apart, at any address. */
struct pack_source {
    enum dtype type;
    const unsigned char *rows;
    size_t row_bytes;
    uint32_t n_rows, n_cols;
};

/* Panels first … first + n_panels - 1 of the source to `out` (64-byte aligned), pack_panel_bytes
 * each; at most pack_panels_of(n_rows) in all. */
void pack_panels(const struct pack_source *src, uint32_t first, uint32_t n_panels,
                 unsigned char *out);

/* Row `row` of packed panels (the first at `panels`) to n_cols floats, the bits of
 * quant_dequantize. */
void pack_row(enum dtype type, const unsigned char *panels, uint32_t n_cols, uint32_t row,
              float *out);

#endif
