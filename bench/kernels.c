/* kernels.c: how fast the kernels over packed weights are, against what this machine can do.
 *
 *   build/bench/kernels [-i ISA] [-t THREADS] [-k COLUMNS] [-n ROUNDS] [TYPE …]
 *
 * For each weight type and number of rows: GMAC/s, GB/s of packed weights, and two ratios: GB/s to
 * a prefetching read of the same memory, GMAC/s to the instruction set's integer peak. Both roofs
 * are measured in every round beside the kernels, since a shared machine changes from second to
 * second; each figure is the best of all rounds. Weights (192 MiB of random blocks) are larger than
 * the caches where a ratio to memory is shown; from PREFILL_ROWS rows on fewer of them are used.
 *
 * The peak is that of the products alone, as the set's fastest loop does them: AVX2 vpmaddubsw with
 * vpaddw, 32 products in two instructions; VNNI vpdpbusd. The generic set has none. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/pack.h"
#include "engine/cpu/team.h"
#include "engine/tensor/half.h"

enum {
    WEIGHT_BYTES = 192 << 20,
    ROWS_MAX = 256,
    PREFILL_ROWS = 16,
    SOURCE_PANELS = 4,
    PEAK_LOOPS = 200000,
};

static const uint32_t row_counts[] = {1, 2, 4, 8, 16, 64, 256};
static const enum dtype types[] = {
    DTYPE_Q4_0,  DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q4_1,   DTYPE_Q5_0,
    DTYPE_Q5_1,  DTYPE_Q5_K, DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_IQ4_NL, DTYPE_IQ4_XS,
    DTYPE_MXFP4, DTYPE_F16,  DTYPE_BF16, DTYPE_F32,
};

struct bench {
    const struct kernels *k;
    struct team *team;
    uint32_t n_cols, n_rounds;
    unsigned char *weights;
    void *scratch[TEAM_THREADS_MAX];
    float *out[TEAM_THREADS_MAX];
    float *f32;
    int8_t *q8;
    float *d;
    int16_t *sums;
    _Atomic uint64_t sink;
};

/* ---- roofs ---- */

static void read_stream(void *ctx, uint32_t thread)
{
    struct bench *b = ctx;
    size_t n = WEIGHT_BYTES / team_n_threads(b->team) / 256 * 256;
    b->sink += b->k->floats->stream(b->weights + thread * n, n);
}

#if defined(__x86_64__)

#define PEAK_EACH(X) X("0") X("1") X("2") X("3") X("4") X("5") X("6") X("7")
#define PEAK_CLOBBERS                                                                              \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define PEAK_AVX2(n)                                                                               \
    "vpmaddubsw %%ymm8, %%ymm9, %%ymm10\n\t"                                                       \
    "vpaddw %%ymm10, %%ymm" n ", %%ymm" n "\n\t"
#define PEAK_VNNI(n)   "%{vex%} vpdpbusd %%ymm8, %%ymm9, %%ymm" n "\n\t"
#define PEAK_AVX512(n) "vpdpbusd %%zmm8, %%zmm9, %%zmm" n "\n\t"

static void peak_avx2(void *ctx, uint32_t thread)
{
    UNUSED(ctx);
    UNUSED(thread);
    for (int i = 0; i < PEAK_LOOPS; i++) {
        __asm__ volatile(PEAK_EACH(PEAK_AVX2)::: PEAK_CLOBBERS);
    }
    __asm__ volatile("vzeroupper" ::: PEAK_CLOBBERS);
}

static void peak_vnni(void *ctx, uint32_t thread)
{
    UNUSED(ctx);
    UNUSED(thread);
    for (int i = 0; i < PEAK_LOOPS; i++) {
        __asm__ volatile(PEAK_EACH(PEAK_VNNI)::: PEAK_CLOBBERS);
    }
    __asm__ volatile("vzeroupper" ::: PEAK_CLOBBERS);
}

static void peak_avx512(void *ctx, uint32_t thread)
{
    UNUSED(ctx);
    UNUSED(thread);
    for (int i = 0; i < PEAK_LOOPS; i++) {
        __asm__ volatile(PEAK_EACH(PEAK_AVX512)::: PEAK_CLOBBERS);
    }
    __asm__ volatile("vzeroupper" ::: PEAK_CLOBBERS);
}

#endif

/* Products of a loop, and the loop; NULL where no peak is known. */
struct peak {
    const char *isa;
    uint32_t products;
    team_fn fn;
};

static struct peak peak_of(const struct kernels *k)
{
#if defined(__x86_64__)
    static const struct peak peaks[] = {{"avx2", 8 * 32, peak_avx2},
                                        {"avx2vnni", 8 * 32, peak_vnni},
                                        {"avx512", 8 * 64, peak_avx512},
                                        {"avx512bf16", 8 * 64, peak_avx512}};
    for (size_t i = 0; i < ARRAY_LEN(peaks); i++) {
        if (strcmp(peaks[i].isa, k->isa) == 0) {
            return peaks[i];
        }
    }
#endif
    return (struct peak){k->isa, 0, NULL};
}

static double seconds_of(struct bench *b, team_fn fn, void *ctx)
{
    uint64_t start = clock_mono_ns(clock_system());
    team_run(b->team, fn, ctx);
    return (double)(clock_mono_ns(clock_system()) - start) * 1e-9;
}

/* ---- weights and activations ---- */

/* Random blocks of SOURCE_PANELS panels, packed and then repeated. Their scales are whatever the
 * bytes say: arithmetic takes as long with a NaN as without. */
static void make_weights(struct bench *b, enum dtype type)
{
    uint64_t row_bytes;
    if (!dtype_row_bytes(type, b->n_cols, &row_bytes)) {
        return;
    }
    size_t n = SOURCE_PANELS * PACK_ROWS * row_bytes;
    unsigned char *rows = mem_alloc(n);
    struct rng r;
    rng_init(&r, 1);
    for (size_t i = 0; i < n; i++) {
        rows[i] = (unsigned char)rng_u32(&r);
    }
    struct pack_source src = {type, rows, row_bytes, SOURCE_PANELS * PACK_ROWS, b->n_cols};
    size_t bytes = SOURCE_PANELS * pack_panel_bytes(type, b->n_cols);
    pack_panels(&src, 0, SOURCE_PANELS, b->weights);
    for (size_t at = bytes; at < WEIGHT_BYTES; at += bytes) {
        memcpy(b->weights + at, b->weights, MIN(bytes, WEIGHT_BYTES - at));
    }
    mem_free(rows);
}

static struct kern_rows make_rows(struct bench *b, enum dtype type)
{
    enum kern_form form = kernels_form(type);
    size_t n_cols = b->n_cols;
    if (form != KERN_F32) {
        for (size_t t = 0; t < ROWS_MAX; t++) {
            b->k->floats->quantise[form](b->f32 + t * n_cols, b->n_cols, b->q8 + t * n_cols,
                                         b->d + t * n_cols / 32, b->sums + t * n_cols / 16);
        }
    }
    return (struct kern_rows){.f32 = b->f32,
                              .q8 = b->q8,
                              .d = b->d,
                              .sums = b->sums,
                              .f32_stride = n_cols,
                              .q_stride = n_cols,
                              .d_stride = n_cols / 32,
                              .sums_stride = n_cols / 16};
}

/* ---- kernels ---- */

struct job {
    struct bench *b;
    enum dtype type;
    struct kern_rows rows;
    uint32_t n_panels; /* of each thread, even */
};

static void run_panels(void *ctx, uint32_t thread)
{
    const struct job *j = ctx;
    size_t bytes = pack_panel_bytes(j->type, j->b->n_cols);
    kern_gemm_fn gemm = kernels_gemm(j->b->k, j->type);
    const unsigned char *at = j->b->weights + (size_t)thread * j->n_panels * bytes;
    for (uint32_t p = 0; p < j->n_panels; p += 2, at += 2 * bytes) {
        bool last = p + 2 == j->n_panels;
        struct kern_gemm g = {
            .panel = {at, at + bytes},
            .next = {last ? NULL : at + 2 * bytes, last ? NULL : at + 3 * bytes},
            .n_cols = j->b->n_cols,
            .out = {j->b->out[thread], j->b->out[thread] + PACK_ROWS},
            .out_stride = 2 * PACK_ROWS,
            .scratch = j->b->scratch[thread],
        };
        gemm(&g, &j->rows);
    }
}

/* All of the weights for few rows, a share for many. */
static uint32_t panels_for(const struct bench *b, enum dtype type, uint32_t n_rows)
{
    uint32_t all = (uint32_t)(WEIGHT_BYTES / pack_panel_bytes(type, b->n_cols));
    uint32_t n = n_rows < PREFILL_ROWS ? all : all * 8 / n_rows;
    return MAX(n / team_n_threads(b->team) / 2 * 2, 2u);
}

static void bench_type(struct bench *b, enum dtype type)
{
    double bytes_s = 0, peak_s = 0, macs_s[ARRAY_LEN(row_counts)] = {0};
    const struct peak peak = peak_of(b->k);
    const uint32_t n_threads = team_n_threads(b->team);
    struct job j = {.b = b, .type = type};
    make_weights(b, type);
    j.rows = make_rows(b, type);
    for (uint32_t round = 0; round < b->n_rounds; round++) {
        bytes_s = MAX(bytes_s, WEIGHT_BYTES / seconds_of(b, read_stream, b));
        if (peak.fn != NULL) {
            double products = (double)n_threads * PEAK_LOOPS * peak.products;
            peak_s = MAX(peak_s, products / seconds_of(b, peak.fn, NULL));
        }
        for (size_t i = 0; i < ARRAY_LEN(row_counts); i++) {
            j.rows.n = row_counts[i];
            j.n_panels = panels_for(b, type, row_counts[i]);
            double macs = (double)n_threads * j.n_panels * PACK_ROWS * b->n_cols * row_counts[i];
            macs_s[i] = MAX(macs_s[i], macs / seconds_of(b, run_panels, &j));
        }
    }
    double bytes_per_weight =
        (double)pack_panel_bytes(type, b->n_cols) / ((double)PACK_ROWS * b->n_cols);
    printf("%-7s stream %5.1f GB/s, peak %4.0f GMAC/s\n", dtype_row(type)->name, bytes_s * 1e-9,
           peak_s * 1e-9);
    for (size_t i = 0; i < ARRAY_LEN(row_counts); i++) {
        double read_s = macs_s[i] / row_counts[i] * bytes_per_weight;
        printf("  rows %4u %8.1f GMAC/s %6.1f GB/s %5.0f %% of stream", row_counts[i],
               macs_s[i] * 1e-9, read_s * 1e-9, 100 * read_s / bytes_s);
        if (peak.fn != NULL) {
            printf(" %5.0f %% of peak", 100 * macs_s[i] / peak_s);
        }
        printf("\n");
    }
    fflush(stdout);
}

/* ---- the program ---- */

static RC bench_create(struct bench *b, uint32_t n_threads, struct err *err)
{
    enum rc rc = team_create(&b->team, n_threads, true, err);
    if (rc != RC_OK) {
        return rc;
    }
    size_t n = (size_t)ROWS_MAX * b->n_cols;
    b->weights = mem_map(WEIGHT_BYTES);
    if (b->weights == NULL) {
        return err_set(err, RC_NOMEM, "no memory for weights");
    }
    b->f32 = mem_alloc(n * sizeof(float));
    b->q8 = mem_try_aligned(CACHE_LINE_BYTES, n);
    b->d = mem_alloc(n / 32 * sizeof(float));
    b->sums = mem_alloc(n / 16 * sizeof(int16_t));
    for (uint32_t i = 0; i < team_n_threads(b->team); i++) {
        b->scratch[i] = mem_try_aligned(CACHE_LINE_BYTES, KERN_SCRATCH_BYTES);
        b->out[i] = mem_try_aligned(CACHE_LINE_BYTES, ROWS_MAX * 2 * PACK_ROWS * sizeof(float));
        if (b->scratch[i] == NULL || b->out[i] == NULL || b->q8 == NULL) {
            return err_set(err, RC_NOMEM, "no memory for threads");
        }
    }
    struct rng r;
    rng_init(&r, 2);
    for (size_t i = 0; i < n; i++) {
        b->f32[i] = (float)rng_u32(&r) * 0x1p-31f - 1.0f;
    }
    return RC_OK;
}

static bool wanted(enum dtype type, int n_names, char **names)
{
    for (int i = 0; i < n_names; i++) {
        if (strcmp(names[i], dtype_row(type)->name) == 0) {
            return true;
        }
    }
    return n_names == 0;
}

static bool number_of(const char *text, uint32_t *out)
{
    int64_t n;
    if (!str_to_i64(str_from(text), &n) || n < 0 || n > UINT16_MAX) {
        return false;
    }
    *out = (uint32_t)n;
    return true;
}

int main(int argc, char **argv)
{
    struct bench b = {.n_cols = 2048, .n_rounds = 5};
    const char *isa = NULL;
    uint32_t n_threads = 0;
    bool ok = true;
    for (int c; ok && (c = getopt(argc, argv, "i:t:k:n:")) != -1;) {
        ok = c == 'i'   ? (isa = optarg) != NULL
             : c == 't' ? number_of(optarg, &n_threads)
             : c == 'k' ? number_of(optarg, &b.n_cols) && b.n_cols > 0 && b.n_cols % 256 == 0
             : c == 'n' ? number_of(optarg, &b.n_rounds)
                        : false;
    }
    b.k = kernels_choose(isa);
    struct err err = {0};
    if (!ok || b.k == NULL || bench_create(&b, n_threads, &err) != RC_OK) {
        fprintf(stderr, "kernels: %s\n",
                !ok ? "-i ISA -t THREADS -k COLUMNS (a multiple of 256) -n ROUNDS [TYPE …]"
                : b.k == NULL ? "this machine has no such instruction set"
                              : err.msg);
        return 2;
    }
    printf("%s, %u threads, %u columns, best of %u\n", b.k->isa, team_n_threads(b.team), b.n_cols,
           b.n_rounds);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (wanted(types[i], argc - optind, argv + optind)) {
            bench_type(&b, types[i]);
        }
    }
    team_destroy(b.team);
    return 0;
}
