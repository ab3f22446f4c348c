/* Kernels against scalar arithmetic: unpacked blocks equal the dequantised ones, and every
 * instruction set gives the bits that kernels.h promises. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/cpu/kernels.h"
#include "engine/format/quant.h"

#include "engine/cpu/kernels/decode.h"

static const enum dtype int_types[] = {
    DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_IQ4_NL, DTYPE_MXFP4,
    DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_IQ4_XS,
};

static const char *const isas[] = {"generic", "avx2"};

enum { ROWS_MAX = 33, COLS_MAX = 5 * 256, TOKENS_MAX = 40 };

static float random_unit(struct rng *r)
{
    return (float)rng_u32(r) * 0x1p-31f - 1.0f;
}

/* ---- data ---- */

/* Rows of random bytes: every code and every integer scale occurs. Float scales are set to small
 * ones, or to what the bytes say when they are finite. */
struct matrix {
    enum dtype type;
    uint32_t n_rows, n_cols;
    size_t row_bytes;
    unsigned char *bytes; /* at an address that is 2 above a multiple of 64 */
    void *memory;
};

static void set_scale(unsigned char *at, struct rng *r)
{
    uint16_t h = half_from_f32(random_unit(r) * 0.25f);
    memcpy(at, &h, sizeof(h));
}

/* Byte offsets of the F16 scales of a block; -1 = none. */
static void scale_offsets(enum dtype t, int at[2])
{
    const struct {
        enum dtype type;
        int d, m;
    } rows[] = {
        {DTYPE_Q4_1, 0, 2}, {DTYPE_Q5_1, 0, 2}, {DTYPE_Q2_K, 80, 82},  {DTYPE_Q3_K, 108, -1},
        {DTYPE_Q4_K, 0, 2}, {DTYPE_Q5_K, 0, 2}, {DTYPE_Q6_K, 208, -1}, {DTYPE_MXFP4, -1, -1},
    };
    at[0] = 0;
    at[1] = -1;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].type == t) {
            at[0] = rows[i].d;
            at[1] = rows[i].m;
        }
    }
}

static struct matrix make_matrix(enum dtype type, uint32_t n_rows, uint32_t n_cols, struct rng *r)
{
    struct matrix m = {.type = type, .n_rows = n_rows, .n_cols = n_cols};
    uint64_t row_bytes;
    assert_true(dtype_row_bytes(type, n_cols, &row_bytes));
    m.row_bytes = row_bytes;
    m.memory = mem_try_aligned(64, 4 + n_rows * m.row_bytes);
    m.bytes = (unsigned char *)m.memory + 2;
    for (size_t i = 0; i < n_rows * m.row_bytes; i++) {
        m.bytes[i] = (unsigned char)rng_u32(r);
    }
    int at[2];
    scale_offsets(type, at);
    for (size_t i = 0; i < n_rows * m.row_bytes; i += dtype_row(type)->block_bytes) {
        for (int k = 0; k < 2; k++) {
            if (at[k] >= 0) {
                set_scale(m.bytes + i + (size_t)at[k], r);
            }
        }
        if (type == DTYPE_MXFP4) {
            m.bytes[i] = (unsigned char)(120 + rng_u32(r) % 10);
        }
    }
    return m;
}

/* Activations in every form, by the kernels of one instruction set. */
struct input {
    float *f32;
    int8_t *q8;
    int16_t *q16;
    float *d;
    int16_t *sums;
    struct kern_rows rows;
};

static struct input make_input(const struct kernels *k, enum kern_form form, uint32_t n_rows,
                               uint32_t n_cols, uint64_t seed)
{
    struct input in = {
        .f32 = mem_zalloc_array((size_t)n_rows * n_cols, sizeof(float)),
        .q8 = mem_zalloc_array((size_t)n_rows * n_cols, 1),
        .q16 = mem_zalloc_array((size_t)n_rows * n_cols, 2),
        .d = mem_zalloc_array((size_t)n_rows * n_cols, sizeof(float)),
        .sums = mem_zalloc_array((size_t)n_rows * n_cols, 2),
    };
    struct rng r;
    rng_init(&r, seed);
    for (size_t i = 0; i < (size_t)n_rows * n_cols; i++) {
        in.f32[i] = random_unit(&r) * random_unit(&r) * (rng_u32(&r) % 50 == 0 ? 20.0f : 1.0f);
    }
    memset(in.f32, 0, MIN(n_cols, 256u) * sizeof(float)); /* a block of zeros */
    in.rows = (struct kern_rows){.f32 = in.f32, .f32_stride = n_cols, .n = n_rows};
    if (form == KERN_F32) {
        return in;
    }
    in.rows = (struct kern_rows){.q8 = in.q8,
                                 .q16 = in.q16,
                                 .d = in.d,
                                 .sums = in.sums,
                                 .q_stride = n_cols,
                                 .d_stride = n_cols,
                                 .sums_stride = n_cols,
                                 .n = n_rows};
    for (size_t i = 0; i < n_rows; i++) {
        k->linear->quantise[form](in.f32 + i * n_cols, n_cols, in.q8 + i * n_cols,
                                  in.q16 + i * n_cols, in.d + i * n_cols, in.sums + i * n_cols);
    }
    return in;
}

static void drop_input(struct input *in)
{
    mem_free(in->f32);
    mem_free(in->q8);
    mem_free(in->q16);
    mem_free(in->d);
    mem_free(in->sums);
}

/* ---- the scalar truth ---- */

static void unpacked_blocks_equal_dequantised_ones(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 1);
    for (size_t i = 0; i < ARRAY_LEN(int_types); i++) {
        enum dtype t = int_types[i];
        uint32_t n = dtype_row(t)->block_weights;
        for (int round = 0; round < 20; round++) {
            struct matrix m = make_matrix(t, 1, n, &r);
            float want[256];
            int16_t codes[256], mins[16];
            for (int j = 0; j < 16; j++) {
                mins[j] = 1;
            }
            quant_dequantize(t, m.bytes, want, n);
            struct decode_scales s =
                n == 256 ? decode_256(t, m.bytes, codes, mins) : decode_32(t, m.bytes, codes);
            for (uint32_t j = 0; j < n; j++) {
                double have = (double)s.d * codes[j] + (double)s.m * mins[n == 256 ? j / 16 : 0];
                double slack = 1e-6 * (fabs((double)s.d * codes[j]) + fabs((double)want[j]));
                if (fabs(have - (double)want[j]) > slack + 1e-30) {
                    fail_msg("%s: weight %u is %g, not %g", dtype_row(t)->name, j, have,
                             (double)want[j]);
                }
            }
            mem_free(m.memory);
        }
    }
}

/* Row r of m times activations of row t, in the order that kernels.h states. */
static float scalar_product(const struct matrix *m, const struct input *in, uint32_t r, uint32_t t)
{
    const struct dtype_row *row = dtype_row(m->type);
    uint32_t width = row->block_weights;
    size_t at = (size_t)t * m->n_cols;
    float acc = 0.0f;
    for (uint32_t b = 0; b < m->n_cols / width; b++) {
        const unsigned char *block = m->bytes + r * m->row_bytes + b * row->block_bytes;
        int16_t codes[256], mins[16];
        struct decode_scales s = width == 256 ? decode_256(m->type, block, codes, mins)
                                              : decode_32(m->type, block, codes);
        int64_t sum = 0, min_sum = 0;
        for (uint32_t i = 0; i < width; i++) {
            sum += codes[i] * in->q8[at + b * width + i];
            int min = width == 256 && decode_has_min(m->type) ? mins[i / 16] : 1;
            min_sum += min * in->q8[at + b * width + i];
        }
        float da = in->d[at + b];
        acc = fmaf(s.d * da, (float)sum, acc);
        if (decode_has_min(m->type)) {
            acc = fmaf(s.m * da, (float)min_sum, acc);
        }
    }
    return acc;
}

/* ---- quantising ---- */

static void quantised_rows_are_the_nearest(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(isas); i++) {
        const struct kernels *k = kernels_choose(isas[i]);
        for (enum kern_form form = KERN_Q32; k != NULL && form <= KERN_Q256; form++) {
            uint32_t width = form == KERN_Q32 ? 32 : 256;
            uint32_t per_sum = form == KERN_Q32 ? 32 : 16;
            struct input in = make_input(k, form, 3, 768, 7);
            for (uint32_t c = 0; c < 3 * 768; c++) {
                uint32_t row = c / 768;
                double d = (double)in.d[row * 768 + c % 768 / width];
                double off = fabs((double)in.f32[c] - d * in.q8[c]);
                assert_true(off <= 0.5001 * d);
                assert_true(d > 0 || (in.f32[c] == 0.0f && in.q8[c] == 0));
                assert_int_equal(in.q16[c], in.q8[c]);
                if (c % per_sum == 0) {
                    int sum = 0;
                    for (uint32_t j = c; j < c + per_sum; j++) {
                        sum += in.q8[j];
                    }
                    assert_int_equal(in.sums[row * 768 + c % 768 / per_sum], sum);
                }
            }
            drop_input(&in);
        }
    }
}

static void strange_floats_stay_in_range(void **state)
{
    (void)state;
    float in[256] = {NAN, INFINITY, -INFINITY, 1e38f, -1e38f, 1e-45f};
    for (size_t i = 0; i < ARRAY_LEN(isas); i++) {
        const struct kernels *k = kernels_choose(isas[i]);
        for (enum kern_form form = KERN_Q32; k != NULL && form <= KERN_Q256; form++) {
            int8_t q8[256];
            int16_t q16[256], sums[16];
            float d[8];
            k->linear->quantise[form](in, 256, q8, q16, d, sums);
            for (int c = 0; c < 256; c++) {
                assert_in_range(q8[c] + 127, 0, 254);
            }
        }
    }
}

/* ---- products ---- */

/* Every kernel of one instruction set on one matrix, all row and token counts. */
static void check_products(const struct kernels *k, const struct matrix *m, const struct input *in,
                           const float *want)
{
    const struct kern_linear_type *type = &k->linear->types[m->type];
    static _Alignas(64) unsigned char scratch[KERN_SCRATCH_BYTES];
    static float out[TOKENS_MAX * 40];
    static const uint32_t token_counts[] = {1, 2, 3, 4, 5, 6, 7, 13, TOKENS_MAX};
    static const uint32_t row_counts[] = {1, 7, 8, 9, 31, 32, ROWS_MAX};
    uint32_t index[TOKENS_MAX];
    for (uint32_t t = 0; t < TOKENS_MAX; t++) {
        index[t] = (t * 7 + 3) % TOKENS_MAX;
    }
    for (size_t i = 0; i < ARRAY_LEN(token_counts) * ARRAY_LEN(row_counts) * 2; i++) {
        struct kern_rows rows = in->rows;
        rows.n = token_counts[i / 2 % ARRAY_LEN(token_counts)];
        rows.index = i / 2 % 2 == 0 ? index : NULL;
        struct kern_tile tile = {
            m->bytes,  m->row_bytes, row_counts[i / 2 / ARRAY_LEN(token_counts)],
            m->n_cols, out,          40};
        bool gemm = i % 2 == 1;
        if (gemm && (type->gemm == NULL || tile.n_rows > KERN_TILE_ROWS)) {
            continue;
        }
        if (gemm) {
            type->gemm(&tile, &rows, scratch);
        } else {
            type->dot(&tile, &rows);
        }
        for (uint32_t t = 0; t < rows.n; t++) {
            const float *row = want + (size_t)(rows.index != NULL ? index[t] : t) * ROWS_MAX;
            if (memcmp(out + t * 40, row, tile.n_rows * sizeof(float)) != 0) {
                fail_msg("%s %s %s: %u columns, %u rows, token %u of %u", k->isa,
                         dtype_row(m->type)->name, gemm ? "gemm" : "dot", m->n_cols, tile.n_rows, t,
                         rows.n);
            }
        }
    }
}

static void integer_kernels_equal_scalar_arithmetic(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 2);
    static float want[TOKENS_MAX * ROWS_MAX];
    static const uint32_t block_counts[] = {1, 2, 3, 5, 9, 40};
    for (size_t i = 0; i < ARRAY_LEN(int_types) * ARRAY_LEN(block_counts); i++) {
        enum dtype t = int_types[i / ARRAY_LEN(block_counts)];
        uint32_t n_cols = dtype_row(t)->block_weights * block_counts[i % ARRAY_LEN(block_counts)];
        if (n_cols > COLS_MAX) {
            continue;
        }
        struct matrix m = make_matrix(t, ROWS_MAX, n_cols, &r);
        enum kern_form form = dtype_row(t)->block_weights == 256 ? KERN_Q256 : KERN_Q32;
        struct input in = make_input(kernels_choose("generic"), form, TOKENS_MAX, n_cols, i);
        for (uint32_t j = 0; j < TOKENS_MAX * ROWS_MAX; j++) {
            want[j] = scalar_product(&m, &in, j % ROWS_MAX, j / ROWS_MAX);
        }
        for (size_t k = 0; k < ARRAY_LEN(isas); k++) {
            if (kernels_choose(isas[k]) != NULL) {
                check_products(kernels_choose(isas[k]), &m, &in, want);
            }
        }
        drop_input(&in);
        mem_free(m.memory);
    }
}

/* The largest codes under the largest activations: where sixteen bits would overflow. */
static void extreme_codes_do_not_saturate(void **state)
{
    (void)state;
    static float want[TOKENS_MAX * ROWS_MAX];
    static const unsigned char fills[] = {0x00, 0x80, 0x7F, 0xFF};
    struct rng r;
    rng_init(&r, 3);
    for (size_t i = 0; i < ARRAY_LEN(int_types) * ARRAY_LEN(fills); i++) {
        enum dtype t = int_types[i / ARRAY_LEN(fills)];
        uint32_t n_cols = 512;
        struct matrix m = make_matrix(t, ROWS_MAX, n_cols, &r);
        struct matrix scales = make_matrix(t, ROWS_MAX, n_cols, &r);
        memset(m.bytes, fills[i % ARRAY_LEN(fills)], ROWS_MAX * m.row_bytes);
        int at[2];
        scale_offsets(t, at);
        for (size_t b = 0; b < ROWS_MAX * m.row_bytes; b += dtype_row(t)->block_bytes) {
            for (int k = 0; k < 2; k++) {
                if (at[k] >= 0) {
                    memcpy(m.bytes + b + at[k], scales.bytes + b + at[k], 2);
                }
            }
            m.bytes[b] = t == DTYPE_MXFP4 ? 127 : m.bytes[b];
        }
        enum kern_form form = dtype_row(t)->block_weights == 256 ? KERN_Q256 : KERN_Q32;
        struct input in = make_input(kernels_choose("generic"), form, TOKENS_MAX, n_cols, i);
        for (uint32_t j = 0; j < TOKENS_MAX * n_cols; j++) {
            in.q8[j] = j / n_cols % 3 == 0 ? 127 : j / n_cols % 3 == 1 ? -127 : in.q8[j];
            in.q16[j] = in.q8[j];
        }
        uint32_t per_sum = form == KERN_Q32 ? 32 : 16;
        for (uint32_t j = 0; j < TOKENS_MAX * n_cols; j += per_sum) {
            int sum = 0;
            for (uint32_t c = j; c < j + per_sum; c++) {
                sum += in.q8[c];
            }
            in.sums[j / n_cols * n_cols + j % n_cols / per_sum] = (int16_t)sum;
        }
        for (uint32_t j = 0; j < TOKENS_MAX * ROWS_MAX; j++) {
            want[j] = scalar_product(&m, &in, j % ROWS_MAX, j / ROWS_MAX);
        }
        for (size_t k = 0; k < ARRAY_LEN(isas); k++) {
            if (kernels_choose(isas[k]) != NULL) {
                check_products(kernels_choose(isas[k]), &m, &in, want);
            }
        }
        drop_input(&in);
        mem_free(m.memory);
        mem_free(scales.memory);
    }
}

/* Float rows: near the exact product, and the same bits for every number of rows and tokens. */
static void float_kernels_are_close_and_steady(void **state)
{
    (void)state;
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const uint32_t widths[] = {1, 7, 8, 12, 16, 24, 64, 100, 333};
    static float want[TOKENS_MAX * ROWS_MAX];
    struct rng r;
    rng_init(&r, 4);
    for (size_t i = 0; i < ARRAY_LEN(types) * ARRAY_LEN(widths) * ARRAY_LEN(isas); i++) {
        enum dtype t = types[i % ARRAY_LEN(types)];
        uint32_t n_cols = widths[i / ARRAY_LEN(types) % ARRAY_LEN(widths)];
        const struct kernels *k = kernels_choose(isas[i / ARRAY_LEN(types) / ARRAY_LEN(widths)]);
        if (k == NULL) {
            continue;
        }
        static float values[ROWS_MAX * 333];
        for (uint32_t j = 0; j < ROWS_MAX * n_cols; j++) {
            values[j] = random_unit(&r);
        }
        struct matrix m = make_matrix(t, ROWS_MAX, n_cols, &r);
        assert_int_equal(quant_quantize(t, values, m.bytes + (t == DTYPE_F32 ? 2 : 0),
                                        ROWS_MAX * n_cols, NULL, NULL),
                         RC_OK);
        m.bytes += t == DTYPE_F32 ? 2 : 0;
        quant_dequantize(t, m.bytes, values, ROWS_MAX * n_cols);
        struct input in = make_input(k, KERN_F32, TOKENS_MAX, n_cols, i);
        struct kern_tile tile = {m.bytes, m.row_bytes, ROWS_MAX, n_cols, want, ROWS_MAX};
        k->linear->types[t].dot(&tile, &in.rows);
        for (uint32_t j = 0; j < TOKENS_MAX * ROWS_MAX; j++) {
            double exact = 0, size = 0;
            for (uint32_t c = 0; c < n_cols; c++) {
                double p = (double)values[j % ROWS_MAX * n_cols + c] *
                           (double)in.f32[j / ROWS_MAX * n_cols + c];
                exact += p;
                size += fabs(p);
            }
            assert_true(fabs(exact - (double)want[j]) <= 1e-6 * size);
        }
        check_products(k, &m, &in, want);
        drop_input(&in);
        mem_free(m.memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unpacked_blocks_equal_dequantised_ones),
        cmocka_unit_test(quantised_rows_are_the_nearest),
        cmocka_unit_test(strange_floats_stay_in_range),
        cmocka_unit_test(integer_kernels_equal_scalar_arithmetic),
        cmocka_unit_test(extreme_codes_do_not_saturate),
        cmocka_unit_test(float_kernels_are_close_and_steady),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
