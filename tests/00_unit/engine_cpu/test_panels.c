/* Packed panels: rows come back bit for bit, and every instruction set's kernels equal scalar
 * arithmetic on the blocks of the file bit for bit. Under tools/emulate, which is slow, BUD_QUICK=1
 * leaves out the sets that ordinary machines have and most of the sizes. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/pack.h"
#include "engine/format/quant.h"
#include "engine/tensor/half.h"
#include "scalar_blocks.h"

static const enum dtype int_types[] = {
    DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_IQ4_NL, DTYPE_MXFP4,
    DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_IQ4_XS,
};
static const enum dtype float_types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
static const char *const isas[] = {"generic", "avx2", "avx2vnni", "avx512", "avx512bf16"};

/* 33 outputs are two panels and one row of a third. */
enum { OUTPUTS = 33, COLS_MAX = 3 * 256 + 32, ROWS_MAX = 33, STRIDE = 20 };

static bool quick(void)
{
    return getenv("BUD_QUICK") != NULL;
}

static float random_unit(struct rng *r)
{
    return (float)rng_u32(r) * 0x1p-31f - 1.0f;
}

/* ---- weights ---- */

struct matrix {
    struct pack_source src; /* at an address that is 2 above a multiple of 64 */
    void *memory;
    unsigned char *panels;
};

/* Byte offsets of the F16 scales of a block; -1 = none. */
static void scale_offsets(enum dtype t, int at[2])
{
    at[0] = t == DTYPE_Q2_K    ? 80
            : t == DTYPE_Q3_K  ? 108
            : t == DTYPE_Q6_K  ? 208
            : t == DTYPE_MXFP4 ? -1
                               : 0;
    at[1] = t == DTYPE_Q2_K                                                            ? 82
            : t == DTYPE_Q4_1 || t == DTYPE_Q5_1 || t == DTYPE_Q4_K || t == DTYPE_Q5_K ? 2
                                                                                       : -1;
}

/* Random bytes (every code and integer scale occurs), or `fill` in all; float scales small ones. */
static void fill_block(enum dtype type, unsigned char *block, int fill, struct rng *r)
{
    uint32_t bytes = dtype_row(type)->block_bytes;
    for (uint32_t i = 0; i < bytes; i++) {
        block[i] = fill < 0 ? (unsigned char)rng_u32(r) : (unsigned char)fill;
    }
    int at[2];
    scale_offsets(type, at);
    for (int k = 0; k < 2; k++) {
        uint16_t h = half_from_f32(random_unit(r) * (rng_u32(r) % 8 == 0 ? 1e-6f : 0.25f));
        if (at[k] >= 0) {
            memcpy(block + at[k], &h, sizeof(h));
        }
    }
    if (type == DTYPE_MXFP4) {
        block[0] = (unsigned char)(rng_u32(r) % 16 == 0 ? rng_u32(r) % 3 : 120 + rng_u32(r) % 10);
    }
}

static void fill_float(enum dtype type, unsigned char *at, struct rng *r)
{
    float x = random_unit(r);
    uint16_t h = type == DTYPE_F16 ? half_from_f32(x) : half_bf16_from_f32(x);
    memcpy(at, type == DTYPE_F32 ? (void *)&x : (void *)&h, type == DTYPE_F32 ? 4 : 2);
}

static struct matrix make_matrix(enum dtype type, uint32_t n_rows, uint32_t n_cols, int fill,
                                 struct rng *r)
{
    uint64_t row_bytes;
    assert_true(dtype_row_bytes(type, n_cols, &row_bytes));
    row_bytes += 2; /* rows need not lie back to back */
    struct matrix m = {.memory = mem_try_aligned(64, 2 + n_rows * row_bytes)};
    unsigned char *rows = (unsigned char *)m.memory + 2;
    const struct dtype_row *t = dtype_row(type);
    for (uint32_t i = 0; i < n_rows; i++) {
        for (uint32_t b = 0; b < n_cols / t->block_weights; b++) {
            unsigned char *block = rows + i * row_bytes + (size_t)b * t->block_bytes;
            if (t->block_weights == 1) {
                fill_float(type, block, r);
            } else {
                fill_block(type, block, fill, r);
            }
        }
    }
    m.src = (struct pack_source){type, rows, row_bytes, n_rows, n_cols};
    size_t bytes = pack_panel_bytes(type, n_cols);
    uint32_t n = pack_panels_of(n_rows);
    m.panels = mem_try_aligned(64, n * bytes);
    memset(m.panels, 0xA5, n * bytes);
    pack_panels(&m.src, n / 2, n - n / 2, m.panels + n / 2 * bytes); /* in two parts */
    pack_panels(&m.src, 0, n / 2, m.panels);
    return m;
}

static void drop_matrix(struct matrix *m)
{
    mem_free(m->memory);
    mem_free(m->panels);
}

/* ---- packing ---- */

static void check_rows_back(enum dtype type, uint32_t n_rows, uint32_t n_cols, struct rng *r)
{
    static float want[2 * 512 + 7], have[2 * 512 + 7];
    struct matrix m = make_matrix(type, n_rows, n_cols, -1, r);
    static _Alignas(64) unsigned char row[4 * (2 * 512 + 7)];
    uint64_t row_bytes;
    assert_true(dtype_row_bytes(type, n_cols, &row_bytes));
    for (uint32_t i = 0; i < pack_panels_of(n_rows) * PACK_ROWS; i++) {
        memset(row, 0, sizeof(row)); /* the rows that pad the last panel */
        if (i < n_rows) {
            memcpy(row, m.src.rows + i * m.src.row_bytes, row_bytes);
        }
        quant_dequantize(type, row, want, n_cols);
        pack_row(type, m.panels, n_cols, i, have);
        if (memcmp(want, have, n_cols * sizeof(float)) != 0) {
            fail_msg("%s: row %u of %u, %u columns", dtype_row(type)->name, i, n_rows, n_cols);
        }
    }
    drop_matrix(&m);
}

static void packed_rows_come_back_bit_for_bit(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 1);
    static const uint32_t row_counts[] = {33, 1, 15, 16, 17};
    static const uint32_t block_counts[] = {1, 2, 3, 7, 8, 9, 16};
    static const uint32_t widths[] = {1, 2, 7, 8, 9, 15, 16, 17, 64, 100, 333};
    for (size_t n = 0; n < (quick() ? 0 : ARRAY_LEN(row_counts)); n++) {
        for (size_t i = 0; i < ARRAY_LEN(int_types) * ARRAY_LEN(block_counts); i++) {
            enum dtype t = int_types[i / ARRAY_LEN(block_counts)];
            uint32_t cols = block_counts[i % ARRAY_LEN(block_counts)] * dtype_row(t)->block_weights;
            if (cols <= 2 * 512) {
                check_rows_back(t, row_counts[n], cols, &r);
            }
        }
        for (size_t i = 0; i < ARRAY_LEN(float_types) * ARRAY_LEN(widths); i++) {
            check_rows_back(float_types[i / ARRAY_LEN(widths)], row_counts[n],
                            widths[i % ARRAY_LEN(widths)], &r);
        }
    }
}

/* The bytes that pack.h names, for column 37 (block 1, column 5 of it) of row 3. */
static void bytes_lie_where_the_header_says(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 2);
    struct matrix m = make_matrix(DTYPE_Q8_0, 16, 64, -1, &r);
    const struct block_q8_0 *q8 = (const void *)(m.src.rows + 3 * m.src.row_bytes);
    assert_int_equal(m.panels[512 + 64 * 1 + 4 * 3 + 1], (uint8_t)(q8[1].qs[5] + 128));
    assert_memory_equal(m.panels + 1024 + 32 + 2 * 3, &q8[1].d, 2);
    assert_int_equal(pack_panel_bytes(DTYPE_Q8_0, 64), 1024 + 64);
    drop_matrix(&m);

    m = make_matrix(DTYPE_Q5_1, 16, 64, -1, &r);
    const struct block_q5_1 *q5 = (const void *)(m.src.rows + 3 * m.src.row_bytes);
    assert_int_equal(m.panels[256 + 4 * 3 + 1] >> 4, q5[1].qs[5] & 15);
    uint64_t bits;
    memcpy(&bits, m.panels + 512 + 64 + 8, sizeof(bits));
    assert_int_equal((bits >> (4 * 3 + 1)) & 1, q5[1].qh[0] >> 5 & 1);
    assert_memory_equal(m.panels + 512 + 128 + 64 + 32 + 2 * 3, &q5[1].m, 2);
    drop_matrix(&m);

    m = make_matrix(DTYPE_Q6_K, 16, 256, -1, &r);
    const struct block_q6_k *q6 = (const void *)(m.src.rows + 3 * m.src.row_bytes);
    assert_int_equal(m.panels[256 + 4 * 3 + 1] >> 4, q6->ql[32 + 5] & 15);
    assert_int_equal(m.panels[2048 + 128 + 4 * 3 + 1] >> 2 & 3, q6->qh[5] >> 2 & 3);
    assert_int_equal((int8_t)m.panels[2048 + 1024 + 16 * 2 + 3], q6->scales[2]);
    assert_memory_equal(m.panels + 2048 + 1024 + 256 + 2 * 3, &q6->d, 2);
    drop_matrix(&m);
}

/* ---- activations ---- */

struct input {
    float *f32;
    int8_t *q8;
    float *d;
    int16_t *sums;
    struct kern_rows rows;
};

/* The sums of q8 as the quantiser makes them, after q8 was changed. */
static void sum_up(struct input *in, enum kern_form form, uint32_t n_cols)
{
    uint32_t width = form == KERN_Q32 ? 32 : 16;
    for (uint32_t i = 0; i < ROWS_MAX * n_cols; i += width) {
        int sum = 0;
        for (uint32_t c = i; c < i + width; c++) {
            sum += in->q8[c];
        }
        in->sums[i / n_cols * n_cols + i % n_cols / width] = (int16_t)sum;
    }
}

/* Exactly as long as stated, so that ASan sees a kernel read on. */
static struct input make_input(enum kern_form form, uint32_t n_cols, struct rng *r)
{
    size_t n = (size_t)ROWS_MAX * n_cols;
    struct input in = {
        .f32 = mem_zalloc_array(n, sizeof(float)),
        .q8 = mem_zalloc_array(n, 1),
        .d = mem_zalloc_array(n, sizeof(float)),
        .sums = mem_zalloc_array(n, 2),
    };
    for (size_t i = 0; i < n; i++) {
        in.f32[i] = random_unit(r) * random_unit(r) * (rng_u32(r) % 50 == 0 ? 20.0f : 1.0f);
    }
    in.rows = (struct kern_rows){.f32 = in.f32, .f32_stride = n_cols, .n = ROWS_MAX};
    if (form == KERN_F32) {
        return in;
    }
    memset(in.f32, 0, MIN(n_cols, 256u) * sizeof(float)); /* a block of zeros */
    in.rows = (struct kern_rows){.q8 = in.q8,
                                 .d = in.d,
                                 .sums = in.sums,
                                 .q_stride = n_cols,
                                 .d_stride = n_cols,
                                 .sums_stride = n_cols,
                                 .n = ROWS_MAX};
    const struct kernels *k = kernels_choose("generic");
    for (size_t i = 0; i < ROWS_MAX; i++) {
        k->floats->quantise[form](in.f32 + i * n_cols, n_cols, in.q8 + i * n_cols,
                                  in.d + i * n_cols, in.sums + i * n_cols);
    }
    return in;
}

static void drop_input(struct input *in)
{
    mem_free(in->f32);
    mem_free(in->q8);
    mem_free(in->d);
    mem_free(in->sums);
}

/* ---- the scalar truth ---- */

/* Row r of m times activations of row t, in the order that kernels.h states. */
static float scalar_product(const struct pack_source *m, const struct input *in, uint32_t r,
                            uint32_t t)
{
    const struct dtype_row *row = dtype_row(m->type);
    uint32_t width = row->block_weights;
    size_t at = (size_t)t * m->n_cols;
    float acc = 0.0f;
    for (uint32_t b = 0; b < m->n_cols / width; b++) {
        const unsigned char *block = m->rows + r * m->row_bytes + b * row->block_bytes;
        int16_t codes[256], mins[16];
        struct scalar_scales s = width == 256 ? scalar_256(m->type, block, codes, mins)
                                              : scalar_32(m->type, block, codes);
        int64_t sum = 0, min_sum = 0;
        for (uint32_t i = 0; i < width; i++) {
            int min = width == 256 && scalar_has_min(m->type) ? mins[i / 16] : 1;
            sum += codes[i] * in->q8[at + b * width + i];
            min_sum += min * in->q8[at + b * width + i];
        }
        float da = in->d[at + b];
        acc = fmaf(s.d * da, (float)sum, acc);
        if (scalar_has_min(m->type)) {
            acc = fmaf(s.m * da, (float)min_sum, acc);
        }
    }
    return acc;
}

static float scalar_float_product(const struct pack_source *m, const struct input *in, uint32_t r,
                                  uint32_t t)
{
    float w[COLS_MAX];
    _Alignas(4) unsigned char row[4 * COLS_MAX];
    memcpy(row, m->rows + r * m->row_bytes, m->row_bytes - 2);
    quant_dequantize(m->type, row, w, m->n_cols);
    float acc = 0.0f;
    for (uint32_t c = 0; c < m->n_cols; c++) {
        acc = fmaf(w[c], in->f32[(size_t)t * m->n_cols + c], acc);
    }
    return acc;
}

/* ---- products ---- */

/* Two matrices of a type under one input, and their products [matrix][row][output]. */
struct scene {
    struct matrix m[2];
    struct input in;
    float want[2][ROWS_MAX][OUTPUTS];
    float slack; /* 0: bit for bit; else the relative error allowed */
};

static void make_scene(struct scene *s, enum dtype type, uint32_t n_cols, int fill, struct rng *r)
{
    s->slack = 0.0f;
    s->m[0] = make_matrix(type, OUTPUTS, n_cols, fill, r);
    s->m[1] = make_matrix(type, OUTPUTS, n_cols, fill, r);
    s->in = make_input(kernels_form(type), n_cols, r);
}

static void compute_scene(struct scene *s)
{
    bool is_float = kernels_form(s->m[0].src.type) == KERN_F32;
    for (uint32_t i = 0; i < 2 * ROWS_MAX * OUTPUTS; i++) {
        uint32_t m = i / (ROWS_MAX * OUTPUTS), t = i / OUTPUTS % ROWS_MAX, r = i % OUTPUTS;
        s->want[m][t][r] = is_float ? scalar_float_product(&s->m[m].src, &s->in, r, t)
                                    : scalar_product(&s->m[m].src, &s->in, r, t);
    }
}

static void drop_scene(struct scene *s)
{
    drop_matrix(&s->m[0]);
    drop_matrix(&s->m[1]);
    drop_input(&s->in);
}

/* A panel: which matrix, which of its panels. */
struct pick {
    uint32_t m, p;
};

static bool same(const struct scene *s, float have, float want)
{
    if (s->slack == 0.0f) {
        return memcmp(&have, &want, sizeof(have)) == 0;
    }
    return fabsf(have - want) <= s->slack * (1.0f + fabsf(want));
}

/* The outputs of one panel: right where they belong, poison everywhere else. */
static void check_out(const struct scene *s, const char *isa, struct pick pick, const float *out,
                      const struct kern_rows *rows)
{
    const float poison = -12345.5f;
    for (uint32_t i = 0; i < (ROWS_MAX + 1) * STRIDE; i++) {
        uint32_t t = i / STRIDE, c = i % STRIDE, r = pick.p * PACK_ROWS + c;
        bool inside = t < rows->n && c < PACK_ROWS;
        if (inside && r >= OUTPUTS) {
            continue; /* padding */
        }
        uint32_t row = rows->index != NULL && t < rows->n ? rows->index[t] : t;
        if (!inside ? out[i] != poison : !same(s, out[i], s->want[pick.m][row][r])) {
            fail_msg("%s %s: %u columns, %u rows: row %u output %u is %a, not %a", isa,
                     dtype_row(s->m[0].src.type)->name, s->m[0].src.n_cols, rows->n, t, c,
                     (double)out[i], (double)(inside ? s->want[pick.m][row][r] : poison));
        }
    }
}

static void check_call(const struct kernels *k, const struct scene *s, const struct pick picks[2],
                       uint32_t n_panels, const struct kern_rows *rows)
{
    static _Alignas(64) unsigned char scratch[KERN_SCRATCH_BYTES];
    static float out[2][(ROWS_MAX + 1) * STRIDE];
    const struct pack_source *src = &s->m[0].src;
    for (uint32_t i = 0; i < 2 * (ROWS_MAX + 1) * STRIDE; i++) {
        out[i / ((ROWS_MAX + 1) * STRIDE)][i % ((ROWS_MAX + 1) * STRIDE)] = -12345.5f;
    }
    struct kern_gemm g = {.n_cols = src->n_cols, .out_stride = STRIDE, .scratch = scratch};
    for (uint32_t p = 0; p < n_panels; p++) {
        g.panel[p] =
            s->m[picks[p].m].panels + picks[p].p * pack_panel_bytes(src->type, src->n_cols);
        g.next[p] = rows->n % 3 == 0 ? NULL : s->m[picks[p].m].panels;
        g.out[p] = out[p];
    }
    kernels_gemm(k, src->type)(&g, rows);
    for (uint32_t p = 0; p < n_panels; p++) {
        check_out(s, k->isa, picks[p], out[p], rows);
    }
}

/* All row counts, with and without an index; two panels of one weight, of two, and one alone. */
static void check_scene(const struct kernels *k, const struct scene *s)
{
    static const struct pick picks[][2] = {{{0, 0}, {0, 1}}, {{1, 0}, {0, 0}}, {{0, 2}, {0, 2}}};
    uint32_t index[ROWS_MAX];
    for (uint32_t t = 0; t < ROWS_MAX; t++) {
        index[t] = (t * 7 + 3) % ROWS_MAX;
    }
    for (uint32_t i = 0; i < ROWS_MAX * 2 * ARRAY_LEN(picks); i++) {
        struct kern_rows rows = s->in.rows;
        if (quick() && i % ROWS_MAX > 6 && i % ROWS_MAX != ROWS_MAX - 1) {
            continue;
        }
        if (quick() && i >= ROWS_MAX && i % ROWS_MAX != i / ROWS_MAX) {
            continue;
        }
        rows.n = i % ROWS_MAX + 1;
        rows.index = i / ROWS_MAX % 2 == 0 ? index : NULL;
        uint32_t which = i / ROWS_MAX / 2;
        check_call(k, s, picks[which], which == 2 ? 1 : 2, &rows);
    }
}

/* On every set of kernels that this machine runs. */
static void check_everywhere(struct scene *s)
{
    for (size_t i = 0; i < ARRAY_LEN(isas); i++) {
        const struct kernels *k = kernels_choose(isas[i]);
        if (k != NULL && !(quick() && strncmp(isas[i], "avx512", 6) != 0)) {
            bool rounds = s->m[0].src.type == DTYPE_BF16 && strcmp(isas[i], "avx512bf16") == 0;
            s->slack = rounds ? 0.02f : 0.0f;
            check_scene(k, s);
        }
    }
}

static void integer_kernels_equal_scalar_arithmetic(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 3);
    static struct scene s;
    static const uint32_t block_counts[] = {1, 2, 3, 7, 8, 9, 17, 25};
    for (size_t i = 0; i < ARRAY_LEN(int_types) * ARRAY_LEN(block_counts); i++) {
        enum dtype t = int_types[i / ARRAY_LEN(block_counts)];
        uint32_t n_cols = dtype_row(t)->block_weights * block_counts[i % ARRAY_LEN(block_counts)];
        if (n_cols > COLS_MAX || (quick() && n_cols != 288 && n_cols != 32 && n_cols != 512)) {
            continue;
        }
        make_scene(&s, t, n_cols, -1, &r);
        compute_scene(&s);
        check_everywhere(&s);
        drop_scene(&s);
    }
}

/* The largest codes under the largest activations: where narrow sums would overflow. */
static void extreme_codes_do_not_saturate(void **state)
{
    (void)state;
    static const int fills[] = {0x00, 0x80, 0x7F, 0xFF};
    static struct scene s;
    struct rng r;
    rng_init(&r, 4);
    for (size_t i = 0; i < ARRAY_LEN(int_types) * ARRAY_LEN(fills); i++) {
        enum dtype t = int_types[i / ARRAY_LEN(fills)];
        if (quick() && i % ARRAY_LEN(fills) != ARRAY_LEN(fills) - 1) {
            continue;
        }
        make_scene(&s, t, 256, fills[i % ARRAY_LEN(fills)], &r);
        for (uint32_t j = 0; j < ROWS_MAX * 256; j++) {
            int8_t *q = &s.in.q8[j];
            *q = (int8_t)(j / 256 % 3 == 0 ? 127 : j / 256 % 3 == 1 ? -127 : *q);
        }
        sum_up(&s.in, kernels_form(t), 256);
        compute_scene(&s);
        check_everywhere(&s);
        drop_scene(&s);
    }
}

static void float_kernels_equal_one_chain_of_fmaf(void **state)
{
    (void)state;
    static const uint32_t widths[] = {1, 2, 7, 8, 16, 64, 100, 333};
    static struct scene s;
    struct rng r;
    rng_init(&r, 5);
    for (size_t i = 0; i < ARRAY_LEN(float_types) * ARRAY_LEN(widths); i++) {
        if (quick() && widths[i % ARRAY_LEN(widths)] != 7 && widths[i % ARRAY_LEN(widths)] != 64) {
            continue;
        }
        make_scene(&s, float_types[i / ARRAY_LEN(widths)], widths[i % ARRAY_LEN(widths)], -1, &r);
        compute_scene(&s);
        check_everywhere(&s);
        drop_scene(&s);
    }
}

/* Which sets ran, for whoever reads the log of an emulator. */
static void say_what_ran(void **state)
{
    (void)state;
    const struct kernels *best = kernels_choose(NULL);
    assert_non_null(best);
    for (size_t i = 0; i < ARRAY_LEN(isas); i++) {
        print_message("kernels %s: %s\n", isas[i],
                      kernels_choose(isas[i]) == NULL   ? "not on this machine"
                      : strcmp(isas[i], best->isa) == 0 ? "run, and chosen"
                                                        : "run");
    }
    assert_null(kernels_choose("z80"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_rows_come_back_bit_for_bit),
        cmocka_unit_test(bytes_lie_where_the_header_says),
        cmocka_unit_test(integer_kernels_equal_scalar_arithmetic),
        cmocka_unit_test(extreme_codes_do_not_saturate),
        cmocka_unit_test(float_kernels_equal_one_chain_of_fmaf),
        cmocka_unit_test(say_what_ran),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
