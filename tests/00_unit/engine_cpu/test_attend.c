/* Attention kernels, for every instruction set that this machine runs: near the exact formula over
 * what the pages hold, and the same bits for a row whatever rows and pages it shares a call with.
 */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/cpu/kernels.h"
#include "engine/tensor/half.h"

static const char *const isas[] = {"generic", "avx2", "avx2vnni", "avx512"};
static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0};

enum { PAGES = 5, KEYS = PAGES * KV_PAGE_TOKENS, ROWS = 40 };

static float random_unit(struct rng *r)
{
    return (float)rng_u32(r) * 0x1p-31f - 1.0f;
}

/* ---- pages and their exact contents ---- */

struct scene {
    const struct kern_attend_table *k;
    struct attend_layout l;
    unsigned char *pages;
    uint32_t ids[PAGES];   /* in disorder */
    double *keys, *values; /* [KEYS, d_head], as stored */
    float *q;              /* [ROWS, d_head] */
    struct attend_row view[ROWS];
    float scale, softcap;
};

/* The value that a block holds at column `col` and row k of panels with n_k rows, as attend.h lays
 * them out. */
static double item(const struct attend_layout *l, const unsigned char *half, size_t n_k, size_t col,
                   size_t k)
{
    size_t plain = col / 16 * 16 * n_k + k * 16 + col % 16;
    size_t paired = col / 16 * 16 * n_k + (k / 2 * 16 + col % 16) * 2 + k % 2;
    uint16_t h;
    float f;
    switch (l->type) {
    case DTYPE_F32:
        memcpy(&f, half + 4 * plain, sizeof(f));
        return (double)f;
    case DTYPE_F16:
        memcpy(&h, half + 2 * plain, sizeof(h));
        return (double)half_to_f32(h);
    case DTYPE_BF16:
        memcpy(&h, half + 2 * paired, sizeof(h));
        return (double)half_bf16_to_f32(h);
    default:
        return ((const int8_t *)half)[paired];
    }
}

static double scale_at(const struct attend_layout *l, const unsigned char *block, size_t at,
                       uint32_t slot)
{
    float f = 1;
    if (l->type == DTYPE_Q8_0) {
        memcpy(&f, block + at + slot * sizeof(f), sizeof(f));
    }
    return (double)f;
}

/* How far a stored value may be from what was given. */
static double rounding(enum dtype t, double max)
{
    return t == DTYPE_F32    ? 0
           : t == DTYPE_F16  ? max * 0x1p-11
           : t == DTYPE_BF16 ? max * 0x1p-8
                             : max * 0.51 / 127;
}

static void fill(struct scene *s, struct rng *r)
{
    uint32_t d = s->l.d_head;
    float *k = mem_zalloc_array(d, sizeof(float));
    float *v = mem_zalloc_array(d, sizeof(float));
    for (uint32_t p = 0; p < KEYS; p++) {
        unsigned char *block = s->pages + s->ids[p / KV_PAGE_TOKENS] * s->l.block_bytes;
        uint32_t slot = p % KV_PAGE_TOKENS;
        for (uint32_t c = 0; c < d; c++) {
            k[c] = 2 * random_unit(r);
            v[c] = random_unit(r);
        }
        s->k->store(&s->l, block, slot, k, v);
        double k_scale = scale_at(&s->l, block, s->l.k_scales_at, slot);
        double v_scale = scale_at(&s->l, block, s->l.v_scales_at, slot);
        for (uint32_t c = 0; c < d; c++) {
            double *key = &s->keys[(size_t)p * d + c];
            double *value = &s->values[(size_t)p * d + c];
            *key = k_scale * item(&s->l, block, s->l.d_pad, slot, c);
            *value = v_scale * item(&s->l, block + s->l.v_at, KV_PAGE_TOKENS, c, slot);
            assert_true(fabs(*key - (double)k[c]) <= rounding(s->l.type, 2));
            assert_true(fabs(*value - (double)v[c]) <= rounding(s->l.type, 1));
        }
    }
    mem_free(k);
    mem_free(v);
}

static void scene_init(struct scene *s, const char *isa, enum dtype type, uint32_t d, struct rng *r)
{
    *s = (struct scene){.k = kernels_choose(isa)->attend, .ids = {3, 0, 6, 1, 5}};
    assert_true(attend_layout_init(&s->l, type, d));
    s->pages = mem_try_aligned(ATTEND_ALIGN, 7 * s->l.block_bytes);
    s->keys = mem_zalloc_array((size_t)KEYS * d, sizeof(double));
    s->values = mem_zalloc_array((size_t)KEYS * d, sizeof(double));
    s->q = mem_zalloc_array((size_t)ROWS * d, sizeof(float));
    assert_non_null(s->pages);
    fill(s, r);
    for (uint32_t i = 0; i < ROWS * d; i++) {
        s->q[i] = random_unit(r);
    }
    s->scale = 2 / sqrtf((float)d);
    s->softcap = rng_u32(r) % 3 == 0 ? 3.0f : 0.0f;
    for (uint32_t i = 0; i < ROWS; i++) {
        s->view[i].last = rng_u32(r) % KEYS;
        s->view[i].first = i % 3 == 0 ? rng_u32(r) % (s->view[i].last + 1) : 0;
    }
}

static void scene_deinit(struct scene *s)
{
    mem_free(s->pages);
    mem_free(s->keys);
    mem_free(s->values);
    mem_free(s->q);
}

/* ---- the kernels over rows [first, first + n) of a scene ---- */

/* Spans of two pages, so that folding is exercised. out[n, d_head]. */
static void attend(const struct scene *s, uint32_t first, uint32_t n, const float *sink, float *out)
{
    enum { SPAN = 2 };
    struct attend_rows r;
    void *scratch = mem_try_aligned(ATTEND_ALIGN, attend_scratch_bytes(&s->l, n));
    assert_non_null(scratch);
    attend_rows_init(&r, &s->l, n, scratch);
    size_t floats = attend_total_floats(&s->l);
    for (uint32_t i = 0; i < n; i++) {
        memcpy(r.q + (size_t)i * s->l.d_pad, s->q + (size_t)(first + i) * s->l.d_head,
               s->l.d_head * sizeof(float));
        r.row[i] = s->view[first + i];
    }
    s->k->begin(&s->l, &r, s->scale, s->softcap);
    for (uint32_t page = 0; page < PAGES; page += SPAN) {
        struct attend_pages p = {.base = s->pages,
                                 .stride = s->l.block_bytes,
                                 .ids = s->ids + page,
                                 .n = MIN(PAGES - page, (uint32_t)SPAN),
                                 .position = page * KV_PAGE_TOKENS};
        s->k->pages(&s->l, &r, 0, n, &p, s->softcap);
        for (uint32_t i = 0; i < n; i++) {
            s->k->fold(&s->l, &r, i, r.total + i * floats);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        s->k->finish(&s->l, r.total + i * floats, sink, out + (size_t)i * s->l.d_head);
    }
    mem_free(scratch);
}

static void exact(const struct scene *s, uint32_t row, const float *sink, double *out)
{
    uint32_t d = s->l.d_head;
    double score[KEYS];
    double max = sink != NULL ? (double)*sink : -INFINITY;
    for (uint32_t p = s->view[row].first; p <= s->view[row].last; p++) {
        score[p] = 0;
        for (uint32_t c = 0; c < d; c++) {
            score[p] += (double)s->q[(size_t)row * d + c] * s->keys[(size_t)p * d + c];
        }
        score[p] *= (double)s->scale;
        double cap = (double)s->softcap;
        score[p] = cap > 0 ? cap * tanh(score[p] / cap) : score[p];
        max = fmax(max, score[p]);
    }
    double sum = sink != NULL ? exp((double)*sink - max) : 0;
    memset(out, 0, d * sizeof(double));
    for (uint32_t p = s->view[row].first; p <= s->view[row].last; p++) {
        double e = exp(score[p] - max);
        sum += e;
        for (uint32_t c = 0; c < d; c++) {
            out[c] += e * s->values[(size_t)p * d + c];
        }
    }
    for (uint32_t c = 0; c < d; c++) {
        out[c] /= sum;
    }
}

/* ---- tests ---- */

/* Of values at most 1: floats round, q8 has q and p in 16 bits. */
static double tolerance(enum dtype t)
{
    return t == DTYPE_Q8_0 ? 2e-4 : 4e-6;
}

static void check_scene(const char *isa, enum dtype type, uint32_t d, struct rng *r)
{
    struct scene s;
    scene_init(&s, isa, type, d, r);
    float *all = mem_zalloc_array((size_t)ROWS * d, sizeof(float));
    float *some = mem_zalloc_array((size_t)ROWS * d, sizeof(float));
    double *want = mem_zalloc_array(d, sizeof(double));
    float sink = random_unit(r);
    const float *use = d % 3 == 0 ? &sink : NULL;
    attend(&s, 0, ROWS, use, all);
    for (uint32_t i = 0; i < ROWS; i++) {
        exact(&s, i, use, want);
        for (uint32_t c = 0; c < d; c++) {
            double miss = fabs((double)all[(size_t)i * d + c] - want[c]);
            if (!(miss <= tolerance(type))) {
                print_message("%s type %d d %u row %u: off by %g\n", isa, type, d, i, miss);
                assert_true(false);
            }
        }
    }
    for (uint32_t first = 0, n; first < ROWS; first += n) {
        n = 1 + rng_u32(r) % 17;
        n = MIN(n, ROWS - first);
        attend(&s, first, n, use, some);
        assert_memory_equal(some, all + (size_t)first * d, (size_t)n * d * sizeof(float));
    }
    mem_free(all);
    mem_free(some);
    mem_free(want);
    scene_deinit(&s);
}

static void rows_are_near_the_formula_and_alone_the_same(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 7, 16, 20, 32, 64, 80, 96, 128, 255, 256};
    bool quick = getenv("BUD_QUICK") != NULL;
    struct rng r;
    rng_init(&r, 11);
    for (size_t i = 0; i < ARRAY_LEN(isas); i++) {
        if (kernels_choose(isas[i]) == NULL) {
            print_message("this machine has no %s\n", isas[i]);
            continue;
        }
        if (quick && i + 1 < ARRAY_LEN(isas)) {
            continue;
        }
        for (size_t t = 0; t < ARRAY_LEN(types); t++) {
            /* BUD_QUICK: under an emulator, the last set and every third size do. */
            for (size_t d = 0; d < ARRAY_LEN(sizes); d += quick ? 3 : 1) {
                check_scene(isas[i], types[t], sizes[d], &r);
            }
        }
    }
}

/* What lies behind a row's view may be anything that was stored: infinities, NaN. */
static void what_is_not_seen_changes_nothing(void **state)
{
    (void)state;
    enum { D = 48 };
    static const float wild[] = {INFINITY, -INFINITY, NAN, 3e38f};
    struct rng r;
    rng_init(&r, 12);
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        struct scene s;
        scene_init(&s, NULL, types[t], D, &r);
        float before[ROWS * D], after[ROWS * D], x[D];
        for (uint32_t i = 0; i < ROWS; i++) {
            s.view[i] = (struct attend_row){i % 5, 40 + i % 4};
        }
        attend(&s, 0, ROWS, NULL, before);
        for (uint32_t p = 44; p < KEYS; p++) {
            for (uint32_t c = 0; c < D; c++) {
                x[c] = wild[(p + c) % ARRAY_LEN(wild)];
            }
            unsigned char *block = s.pages + s.ids[p / KV_PAGE_TOKENS] * s.l.block_bytes;
            s.k->store(&s.l, block, p % KV_PAGE_TOKENS, x, x);
        }
        attend(&s, 0, ROWS, NULL, after);
        assert_memory_equal(before, after, sizeof(before));
        s.view[0].last = KEYS - 1; /* seen by one row of the call: the others keep their bits */
        attend(&s, 0, ROWS, NULL, after);
        assert_memory_equal(before + D, after + D, sizeof(before) - D * sizeof(float));
        scene_deinit(&s);
    }
}

static void layouts_are_known_for_the_four_types(void **state)
{
    (void)state;
    struct attend_layout l;
    assert_true(!attend_layout_init(&l, DTYPE_Q4_0, 64));
    assert_true(attend_layout_init(&l, DTYPE_F16, 64));
    assert_int_equal(l.block_bytes, 2 * 32 * 64 * 2);
    assert_true(attend_layout_init(&l, DTYPE_Q8_0, 65));
    assert_int_equal(l.d_pad, 80);
    assert_int_equal(l.block_bytes, 2 * 32 * (80 + 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_are_known_for_the_four_types),
        cmocka_unit_test(rows_are_near_the_formula_and_alone_the_same),
        cmocka_unit_test(what_is_not_seen_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
