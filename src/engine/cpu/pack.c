/* pack.c: rows of GGUF blocks to panels and back (pack.h).
 *
 * Models of gigabytes are packed at start, so this runs at memory speed: sixteen rows go block by
 * block, each row's codes become 32-bit words of four columns in vectors of 16 bytes (SSE2, NEON:
 * every 64-bit machine has them), and words are transposed four by four. */
#include "engine/cpu/pack.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "base/assert.h"
#include "engine/cpu/kernels/panel.h"

typedef uint8_t pack_bytes __attribute__((vector_size(16)));
typedef uint32_t pack_words __attribute__((vector_size(16)));

enum { PACK_WORDS_MAX = 8 }; /* per row and block of 32 columns */

/* Bytes of a block in the file, and where a block of 256 has its F16 scales. */
struct pack_block {
    uint16_t bytes, d, dmin;
};

static const struct pack_block pack_blocks[DTYPE_NUMBER_MAX] = {
    [DTYPE_Q4_0] = {sizeof(struct block_q4_0), 0, 0},
    [DTYPE_Q4_1] = {sizeof(struct block_q4_1), 0, 0},
    [DTYPE_Q5_0] = {sizeof(struct block_q5_0), 0, 0},
    [DTYPE_Q5_1] = {sizeof(struct block_q5_1), 0, 0},
    [DTYPE_Q8_0] = {sizeof(struct block_q8_0), 0, 0},
    [DTYPE_IQ4_NL] = {sizeof(struct block_iq4_nl), 0, 0},
    [DTYPE_MXFP4] = {sizeof(struct block_mxfp4), 0, 0},
    [DTYPE_Q2_K] = {sizeof(struct block_q2_k), 80, 82},
    [DTYPE_Q3_K] = {sizeof(struct block_q3_k), 108, 0},
    [DTYPE_Q4_K] = {sizeof(struct block_q4_k), 0, 2},
    [DTYPE_Q5_K] = {sizeof(struct block_q5_k), 0, 2},
    [DTYPE_Q6_K] = {sizeof(struct block_q6_k), 208, 0},
    [DTYPE_IQ4_XS] = {sizeof(struct block_iq4_xs), 0, 0},
};

/* What the rows that a last panel lacks are packed from: no less than a chunk of any type. */
static const unsigned char pack_zeros[512];

/* ---- transposing ---- */

KERN_INLINE pack_words pack_load_words(const void *p)
{
    pack_words v;
    memcpy(&v, p, sizeof(v));
    return v;
}

KERN_INLINE pack_bytes pack_load_bytes(const void *p)
{
    pack_bytes v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* in [16][PACK_WORDS_MAX] to out [n][16]; n is a multiple of 4. */
KERN_INLINE void pack_transpose_words(uint32_t in[PACK_ROWS][PACK_WORDS_MAX], uint32_t n,
                                      unsigned char *out)
{
#pragma GCC unroll 2
    for (uint32_t c = 0; c < n; c += 4) {
#pragma GCC unroll 4
        for (uint32_t r = 0; r < PACK_ROWS; r += 4) {
            pack_words v[4], t[4];
#pragma GCC unroll 4
            for (uint32_t i = 0; i < 4; i++) {
                v[i] = pack_load_words(in[r + i] + c);
            }
            t[0] = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5);
            t[1] = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
            t[2] = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5);
            t[3] = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
            v[0] = __builtin_shufflevector(t[0], t[2], 0, 1, 4, 5);
            v[1] = __builtin_shufflevector(t[0], t[2], 2, 3, 6, 7);
            v[2] = __builtin_shufflevector(t[1], t[3], 0, 1, 4, 5);
            v[3] = __builtin_shufflevector(t[1], t[3], 2, 3, 6, 7);
#pragma GCC unroll 4
            for (uint32_t i = 0; i < 4; i++) {
                memcpy(out + (c + i) * 64 + 4 * r, &v[i], sizeof(v[i]));
            }
        }
    }
}

/* v[16] of 16 bytes each, in place: byte j of v[i] to byte i of v[j]. Four rounds of a perfect
 * shuffle of both indices. */
KERN_INLINE void pack_transpose_bytes(pack_bytes v[16])
{
#pragma GCC unroll 4
    for (int round = 0; round < 4; round++) {
        pack_bytes t[16];
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            t[2 * i] = __builtin_shufflevector(v[i], v[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5,
                                               21, 6, 22, 7, 23);
            t[2 * i + 1] = __builtin_shufflevector(v[i], v[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12,
                                                   28, 13, 29, 14, 30, 15, 31);
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            v[i] = t[i];
        }
    }
}

/* ---- codes of one row, 32 columns ---- */

/* Columns 0–15 and 16–31, a code to a byte. */
struct pack_codes {
    pack_bytes half[2];
};

/* Nibbles in the order of the 32-weight blocks. */
KERN_INLINE struct pack_codes pack_nibbles(const uint8_t qs[16])
{
    pack_bytes x = pack_load_bytes(qs);
    return (struct pack_codes){{x & 15, x >> 4}};
}

/* `mask` at bit `shift` of 32 bytes. */
KERN_INLINE struct pack_codes pack_shifted(const uint8_t qs[32], uint32_t shift, uint8_t mask)
{
    pack_words a = pack_load_words(qs) >> shift;
    pack_words b = pack_load_words(qs + 16) >> shift;
    return (struct pack_codes){{(pack_bytes)a & mask, (pack_bytes)b & mask}};
}

/* The low codes of run `run` of 32 columns of a block, of at most 4 bits. */
KERN_INLINE struct pack_codes pack_low(enum dtype type, const void *block, uint32_t run)
{
    const struct block_q2_k *q2 = block;
    const struct block_q3_k *q3 = block;
    const struct block_q4_k *q4 = block;
    const struct block_q5_k *q5 = block;
    const struct block_q6_k *q6 = block;
    const struct block_iq4_xs *xs = block;
    switch (type) {
    case DTYPE_Q2_K:
        return pack_shifted(q2->qs + 32 * (run / 4), 2 * (run % 4), 3);
    case DTYPE_Q3_K:
        return pack_shifted(q3->qs + 32 * (run / 4), 2 * (run % 4), 3);
    case DTYPE_Q4_K:
        return pack_shifted(q4->qs + 32 * (run / 2), 4 * (run % 2), 15);
    case DTYPE_Q5_K:
        return pack_shifted(q5->qs + 32 * (run / 2), 4 * (run % 2), 15);
    case DTYPE_Q6_K:
        return pack_shifted(q6->ql + 64 * (run / 4) + 32 * (run % 2), 4 * (run % 4 / 2), 15);
    case DTYPE_IQ4_XS:
        return pack_nibbles(xs->qs + 16 * run);
    default: /* blocks of 32: nibbles come last */
        return pack_nibbles((const uint8_t *)block + pack_blocks[type].bytes - 16);
    }
}

/* Four bits to a column: word j holds columns 8 j … 8 j + 7. */
KERN_INLINE void pack_join_nibbles(struct pack_codes c, uint32_t out[4])
{
    pack_words a = (pack_words)c.half[0];
    pack_words b = (pack_words)c.half[1];
    pack_words joined =
        __builtin_shufflevector(a, b, 0, 2, 4, 6) | __builtin_shufflevector(a, b, 1, 3, 5, 7) << 4;
    memcpy(out, &joined, sizeof(joined));
}

/* Two bits to a column: word j holds columns 16 j … 16 j + 15. */
KERN_INLINE void pack_join_pairs(struct pack_codes c, uint32_t out[2])
{
    pack_words a = (pack_words)c.half[0];
    pack_words b = (pack_words)c.half[1];
    pack_words fours =
        __builtin_shufflevector(a, b, 0, 2, 4, 6) | __builtin_shufflevector(a, b, 1, 3, 5, 7) << 2;
    pack_words joined = __builtin_shufflevector(fours, fours, 0, 2, 0, 2) |
                        __builtin_shufflevector(fours, fours, 1, 3, 1, 3) << 4;
    memcpy(out, &joined, 2 * sizeof(*out));
}

/* Bit `bit` of each of 32 bytes, byte j to bit j. */
KERN_INLINE uint32_t pack_gather_bits(const uint8_t bytes[32], uint32_t bit)
{
#if defined(__SSE2__)
    pack_words a = pack_load_words(bytes) << (7 - bit); /* to the top of each byte */
    pack_words b = pack_load_words(bytes + 16) << (7 - bit);
    return (uint32_t)_mm_movemask_epi8((__m128i)a) | (uint32_t)_mm_movemask_epi8((__m128i)b) << 16;
#else
    uint32_t out = 0;
    for (uint32_t i = 0; i < 4; i++) { /* a product gathers eight */
        uint64_t x;
        memcpy(&x, bytes + 8 * i, sizeof(x));
        x = (x >> bit) & 0x0101010101010101;
        out |= (uint32_t)(x * 0x0102040810204080 >> 56) << (8 * i);
    }
    return out;
#endif
}

/* The high bit of each column of a run; bit c belongs to column c. */
KERN_INLINE uint32_t pack_high_bits(enum dtype type, const void *block, uint32_t run)
{
    const struct block_q5_0 *q5_0 = block;
    const struct block_q5_1 *q5_1 = block;
    uint32_t bits;
    switch (type) {
    case DTYPE_Q5_0:
        memcpy(&bits, q5_0->qh, sizeof(bits));
        return bits;
    case DTYPE_Q5_1:
        memcpy(&bits, q5_1->qh, sizeof(bits));
        return bits;
    case DTYPE_Q5_K:
        return pack_gather_bits(((const struct block_q5_k *)block)->qh, run);
    default: /* DTYPE_Q3_K */
        return pack_gather_bits(((const struct block_q3_k *)block)->hmask, run);
    }
}

/* ---- a block of 32 columns of sixteen rows ---- */

KERN_INLINE void pack_codes_8(const unsigned char *const rows[PACK_ROWS], unsigned char *out)
{
    uint32_t words[PACK_ROWS][PACK_WORDS_MAX];
#pragma GCC unroll 16
    for (uint32_t r = 0; r < PACK_ROWS; r++) {
        const struct block_q8_0 *b = (const void *)rows[r];
        pack_bytes flip[2] = {pack_load_bytes(b->qs) ^ 0x80, pack_load_bytes(b->qs + 16) ^ 0x80};
        memcpy(words[r], flip, sizeof(flip));
    }
    pack_transpose_words(words, 8, out);
}

KERN_INLINE void pack_codes_4(enum dtype type, const unsigned char *const rows[PACK_ROWS],
                              uint32_t run, unsigned char *out)
{
    uint32_t words[PACK_ROWS][PACK_WORDS_MAX];
#pragma GCC unroll 16
    for (uint32_t r = 0; r < PACK_ROWS; r++) {
        pack_join_nibbles(pack_low(type, rows[r], run), words[r]);
    }
    pack_transpose_words(words, 4, out);
}

/* Pairs of bits of codes, which are low ones or Q6_K's high ones. */
KERN_INLINE void pack_codes_2(enum dtype type, const unsigned char *const rows[PACK_ROWS],
                              uint32_t run, unsigned char *out)
{
#pragma GCC unroll 16
    for (uint32_t r = 0; r < PACK_ROWS; r++) {
        uint32_t words[2];
        if (type == DTYPE_Q6_K) {
            const struct block_q6_k *b = (const void *)rows[r];
            pack_join_pairs(pack_shifted(b->qh + 32 * (run / 4), 2 * (run % 4), 3), words);
        } else {
            pack_join_pairs(pack_low(type, rows[r], run), words);
        }
        memcpy(out + 4 * r, &words[0], 4);
        memcpy(out + 64 + 4 * r, &words[1], 4);
    }
}

/* Bit 4 r + i of the number g is that of column 4 g + i: byte p of it holds rows 2 p, 2 p + 1. */
KERN_INLINE void pack_bits(enum dtype type, const unsigned char *const rows[PACK_ROWS],
                           uint32_t run, unsigned char *out)
{
    const uint32_t low = 0x0F0F0F0F;
#pragma GCC unroll 8
    for (uint32_t p = 0; p < PACK_ROWS / 2; p++) {
        uint32_t a = pack_high_bits(type, rows[2 * p], run);
        uint32_t b = pack_high_bits(type, rows[2 * p + 1], run);
        uint32_t even = (a & low) | (b & low) << 4;   /* byte k: number 2 k */
        uint32_t odd = ((a >> 4) & low) | (b & ~low); /* byte k: number 2 k + 1 */
#pragma GCC unroll 4
        for (uint32_t k = 0; k < 4; k++) {
            out[16 * k + p] = (unsigned char)(even >> (8 * k));
            out[16 * k + 8 + p] = (unsigned char)(odd >> (8 * k));
        }
    }
}

/* ---- scales ---- */

/* The 16-bit number at byte `at` of each row's block. */
KERN_INLINE void pack_halves(const unsigned char *const rows[PACK_ROWS], size_t at,
                             unsigned char *out)
{
#pragma GCC unroll 16
    for (uint32_t r = 0; r < PACK_ROWS; r++) {
        memcpy(out + 2 * r, rows[r] + at, 2);
    }
}

/* The eight scales, then the eight mins of block_k4_scale. */
KERN_INLINE pack_bytes pack_k4_scales(const uint8_t scales[12])
{
    uint32_t u[3];
    memcpy(u, scales, sizeof(u));
    const uint32_t six = 0x3F3F3F3F, four = 0x0F0F0F0F, two = 0x03030303;
    pack_words v = {u[0] & six, (u[2] & four) | ((u[0] >> 6) & two) << 4, u[1] & six,
                    ((u[2] >> 4) & four) | ((u[1] >> 6) & two) << 4};
    return (pack_bytes)v;
}

/* The scales of block_q3_k_scale, less 32. */
KERN_INLINE pack_bytes pack_q3_scales(const uint8_t scales[12])
{
    uint32_t u[3];
    memcpy(u, scales, sizeof(u));
    const uint32_t four = 0x0F0F0F0F, two = 0x03030303;
    pack_words v = {(u[0] & four) | (u[2] & two) << 4, (u[1] & four) | ((u[2] >> 2) & two) << 4,
                    ((u[0] >> 4) & four) | ((u[2] >> 4) & two) << 4,
                    ((u[1] >> 4) & four) | ((u[2] >> 6) & two) << 4};
    return (pack_bytes)v - 32;
}

/* The scales of a row's block of 256, one to a byte; those of Q4_K and Q5_K with their mins. */
KERN_INLINE pack_bytes pack_run_scales(enum dtype type, const void *block)
{
    const struct block_iq4_xs *xs = block;
    pack_bytes v = {0};
    switch (type) {
    case DTYPE_Q2_K:
        return pack_load_bytes(((const struct block_q2_k *)block)->scales);
    case DTYPE_Q3_K:
        return pack_q3_scales(((const struct block_q3_k *)block)->scales);
    case DTYPE_Q4_K:
    case DTYPE_Q5_K: /* the scales lie alike */
        return pack_k4_scales(((const struct block_q4_k *)block)->scales);
    case DTYPE_Q6_K:
        return pack_load_bytes(((const struct block_q6_k *)block)->scales);
    default: /* DTYPE_IQ4_XS */
        for (uint32_t r = 0; r < 8; r++) {
            v[r] = (uint8_t)(block_iq4_xs_scale(xs, r) - 32);
        }
        return v;
    }
}

/* Scales and mins of a chunk of a type of 256; they lie one after the other. */
KERN_INLINE void pack_k_scales(enum dtype type, const unsigned char *const rows[PACK_ROWS],
                               unsigned char *out)
{
    pack_bytes v[PACK_ROWS];
#pragma GCC unroll 16
    for (uint32_t r = 0; r < PACK_ROWS; r++) {
        v[r] = pack_run_scales(type, rows[r]);
    }
    pack_transpose_bytes(v);
    if (type == DTYPE_Q2_K) {
        for (uint32_t run = 0; run < 16; run++) {
            pack_bytes scale = v[run] & 15;
            pack_bytes min = v[run] >> 4;
            memcpy(out + 16 * run, &scale, sizeof(scale));
            memcpy(out + 256 + 16 * run, &min, sizeof(min));
        }
    } else {
        memcpy(out, v, type == DTYPE_IQ4_XS ? 128 : 256);
    }
}

/* Scales, and mins where there are any, of one block of 32. */
KERN_INLINE void pack_block_scales(enum dtype type, const unsigned char *const rows[PACK_ROWS],
                                   unsigned char *scales, unsigned char *mins)
{
    if (type == DTYPE_MXFP4) {
        for (uint32_t r = 0; r < PACK_ROWS; r++) {
            scales[r] = rows[r][0];
        }
        return;
    }
    pack_halves(rows, 0, scales);
    if (pack_layouts[type].mins != 0) {
        pack_halves(rows, 2, mins);
    }
}

/* ---- panels of quantised types ---- */

/* n_blocks × 32 columns of sixteen rows, which begin at rows[]. */
KERN_INLINE void pack_chunk(enum dtype type, const unsigned char *const rows[PACK_ROWS],
                            uint32_t n_blocks, unsigned char *out)
{
    const struct pack_layout l = pack_layouts[type];
    const struct pack_parts at = pack_parts(l, n_blocks);
    const bool k = l.supers != 0;
    const unsigned char *block[PACK_ROWS];
    memcpy(block, rows, sizeof(block));
    for (uint32_t b = 0; b < n_blocks; b++) {
        unsigned char *codes = out + (size_t)b * l.codes;
        unsigned char *high = out + at.high + (size_t)b * l.high;
        uint32_t run = k ? b : 0;
        if (l.codes == 512) {
            pack_codes_8(block, codes);
        } else if (l.codes == 256) {
            pack_codes_4(type, block, run, codes);
        } else {
            pack_codes_2(type, block, run, codes);
        }
        if (l.high == 64) {
            pack_bits(type, block, run, high);
        } else if (l.high != 0) {
            pack_codes_2(type, block, run, high);
        }
        if (!k) {
            pack_block_scales(type, block, out + at.scales + (size_t)b * l.scales,
                              out + at.mins + (size_t)b * l.mins);
            for (uint32_t r = 0; r < PACK_ROWS; r++) {
                block[r] += pack_blocks[type].bytes;
            }
        }
    }
    if (k) {
        pack_k_scales(type, rows, out + at.scales);
        pack_halves(rows, pack_blocks[type].d, out + at.supers);
        if (l.mins != 0) {
            pack_halves(rows, pack_blocks[type].dmin, out + at.supers + 32);
        }
    }
    size_t used = at.supers + l.supers;
    memset(out + used, 0, pack_chunk_bytes(l, n_blocks) - used);
}

/* Rows first … first + 15 of the source; those behind its end are zeros. */
KERN_INLINE void pack_panel(enum dtype type, const struct pack_source *src, uint32_t first,
                            unsigned char *out)
{
    const struct pack_layout l = pack_layouts[type];
    const unsigned char *rows[PACK_ROWS];
    uint32_t n_rows = MIN(src->n_rows - first, (uint32_t)PACK_ROWS);
    uint32_t n_blocks = src->n_cols / 32;
    size_t step = pack_blocks[type].bytes * (l.supers != 0 ? 1u : 8u); /* of a whole chunk */
    for (uint32_t r = 0; r < PACK_ROWS; r++) {
        rows[r] = r < n_rows ? src->rows + (size_t)(first + r) * src->row_bytes : pack_zeros;
    }
    for (uint32_t b = 0; b < n_blocks; b += 8) {
        uint32_t n = MIN(n_blocks - b, 8u);
        for (uint32_t r = 0; r < n_rows; r++) { /* the same chunk of the next panel */
            for (size_t line = 0; line < step; line += CACHE_LINE_BYTES) {
                __builtin_prefetch(rows[r] + PACK_ROWS * src->row_bytes + line);
            }
        }
        pack_chunk(type, rows, n, out);
        out += pack_chunk_bytes(l, n);
        for (uint32_t r = 0; r < n_rows; r++) {
            rows[r] += step;
        }
    }
}

/* ---- panels of floats ---- */

/* Words of four bytes from each row, up to eight at a time: a float, or two of 16 bits. */
static void pack_float_panel(const struct pack_source *src, uint32_t first, unsigned char *out)
{
    uint32_t n_rows = MIN(src->n_rows - first, (uint32_t)PACK_ROWS);
    size_t bytes = (size_t)src->n_cols * (src->type == DTYPE_F32 ? 4 : 2);
    unsigned char *end = out + pack_panel_bytes(src->type, src->n_cols);
    uint32_t words[PACK_ROWS][PACK_WORDS_MAX] = {{0}};
    unsigned char lines[PACK_WORDS_MAX * 64];
    for (size_t at = 0; at < bytes; at += sizeof(words[0])) {
        size_t n = MIN(bytes - at, sizeof(words[0]));
        for (uint32_t r = 0; r < n_rows; r++) {
            const unsigned char *row = src->rows + (size_t)(first + r) * src->row_bytes + at;
            if (n < sizeof(words[0])) {
                memset(words[r], 0, sizeof(words[0]));
                memcpy(words[r], row, n);
            } else {
                memcpy(words[r], row, sizeof(words[0]));
            }
        }
        pack_transpose_words(words, PACK_WORDS_MAX, lines);
        for (uint32_t i = 0; src->type == DTYPE_F16 && i < PACK_WORDS_MAX; i++) {
            uint16_t split[2][PACK_ROWS];
            for (uint32_t r = 0; r < PACK_ROWS; r++) {
                uint32_t word;
                memcpy(&word, lines + 64 * i + 4 * r, sizeof(word));
                split[0][r] = (uint16_t)word;
                split[1][r] = (uint16_t)(word >> 16);
            }
            memcpy(lines + 64 * i, split, sizeof(split));
        }
        size_t room = MIN((size_t)(end - out), sizeof(lines));
        memcpy(out, lines, room);
        out += room;
    }
}

/* ---- the doors ---- */

#define PACK_TYPES(X)                                                                              \
    X(Q4_0)                                                                                        \
    X(Q4_1)                                                                                        \
    X(Q5_0) X(Q5_1) X(Q8_0) X(IQ4_NL) X(MXFP4) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_XS)

#define PACK_DEFINE(T)                                                                             \
    static void pack_panel_##T(const struct pack_source *src, uint32_t first, unsigned char *out)  \
    {                                                                                              \
        pack_panel(DTYPE_##T, src, first, out);                                                    \
    }
PACK_TYPES(PACK_DEFINE)

typedef void (*pack_panel_fn)(const struct pack_source *src, uint32_t first, unsigned char *out);

static const pack_panel_fn pack_panel_fns[DTYPE_NUMBER_MAX] = {
#define PACK_ROW(T) [DTYPE_##T] = pack_panel_##T,
    PACK_TYPES(PACK_ROW)
#undef PACK_ROW
        [DTYPE_F32] = pack_float_panel,
    [DTYPE_F16] = pack_float_panel,
    [DTYPE_BF16] = pack_float_panel,
};

size_t pack_panel_bytes(enum dtype type, uint32_t n_cols)
{
    const struct pack_layout l = pack_layouts[type];
    if (l.codes == 0) {
        size_t size = type == DTYPE_F32 ? 4 : 2;
        size_t cols = type == DTYPE_BF16 ? (size_t)n_cols + n_cols % 2 : n_cols;
        return (cols * PACK_ROWS * size + PACK_ALIGN - 1) & ~(size_t)(PACK_ALIGN - 1);
    }
    ASSERT(n_cols % dtype_row(type)->block_weights == 0);
    uint32_t rest = n_cols % PACK_CHUNK_COLS / 32;
    return n_cols / PACK_CHUNK_COLS * pack_chunk_bytes(l, 8) +
           (rest != 0 ? pack_chunk_bytes(l, rest) : 0);
}

void pack_panels(const struct pack_source *src, uint32_t first, uint32_t n_panels,
                 unsigned char *out)
{
    ASSERT(first + n_panels <= pack_panels_of(src->n_rows));
    ASSERT((uintptr_t)out % PACK_ALIGN == 0);
    size_t bytes = pack_panel_bytes(src->type, src->n_cols);
    pack_panel_fn pack = pack_panel_fns[src->type];
    for (uint32_t p = 0; p < n_panels; p++) {
        pack(src, (first + p) * PACK_ROWS, out + p * bytes);
    }
}

/* ---- and back ---- */

static float pack_float_at(enum dtype type, const unsigned char *panel, uint32_t col, uint32_t row)
{
    float f;
    uint16_t h;
    switch (type) {
    case DTYPE_F32:
        memcpy(&f, panel + ((size_t)col * PACK_ROWS + row) * 4, sizeof(f));
        return f;
    case DTYPE_F16:
        memcpy(&h, panel + ((size_t)col * PACK_ROWS + row) * 2, sizeof(h));
        return half_to_f32(h);
    default: /* DTYPE_BF16 */
        memcpy(&h, panel + ((size_t)(col / 2) * PACK_ROWS + row) * 4 + col % 2 * 2, sizeof(h));
        return half_bf16_to_f32(h);
    }
}

/* The products in the order of quant_decode.c, so that the bits are the same. */
static void pack_chunk_row(enum dtype type, const struct panel_chunk *c, uint32_t row, float *out)
{
    bool k = c->layout.supers != 0;
    for (uint32_t col = 0; col < 32 * c->n_blocks; col++) {
        struct panel_scales s = panel_scales(type, c, col, row);
        float scale = k ? s.d * (float)s.scale : s.d;
        float x = scale * (float)panel_code(type, c, col, row);
        if (c->layout.mins != 0) {
            x = k ? x - s.m * (float)s.min : x + s.m;
        }
        out[col] = x;
    }
}

void pack_row(enum dtype type, const unsigned char *panels, uint32_t n_cols, uint32_t row,
              float *out)
{
    const struct pack_layout l = pack_layouts[type];
    const unsigned char *at = panels + row / PACK_ROWS * pack_panel_bytes(type, n_cols);
    row %= PACK_ROWS;
    if (l.codes == 0) {
        for (uint32_t i = 0; i < n_cols; i++) {
            out[i] = pack_float_at(type, at, i, row);
        }
        return;
    }
    for (uint32_t col = 0; col < n_cols; col += PACK_CHUNK_COLS) {
        struct panel_chunk c = panel_chunk(type, at, MIN(n_cols - col, 256u) / 32);
        pack_chunk_row(type, &c, row, out + col);
        at += pack_chunk_bytes(l, c.n_blocks);
    }
}
