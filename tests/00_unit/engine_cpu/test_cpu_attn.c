/* Attention of the "cpu" backend: the same bits however a batch is cut, shared out and grouped,
 * with every type of keys and values; near the reference; and what its plans promise. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/cpu/cpu_attn.h"
#include "engine/cpu/ref.h"

enum {
    SEQS = 5,
    TOKENS = 600, /* of a sequence: three spans */
    PREFIX = 320, /* of which sequences 1 … 3 share with sequence 0 */
    SEQ_PAGES = (TOKENS + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS,
    BATCH_MAX = 512,
    D = 20,
};

static const char *const isas[] = {"generic", "avx2", "avx2vnni", "avx512"};
static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0};

static uint32_t below(struct rng *r, uint32_t n)
{
    return rng_u32(r) % n;
}

/* ---- a model's worth of rows, fed to a backend in batches ---- */

struct world {
    struct backend *b;
    void *kv;
    struct attn a;
    const float *qkv; /* [SEQS, TOKENS, width]: the same in the shared prefix */
    uint32_t width;
    uint32_t ids[SEQS][SEQ_PAGES];
    struct kv_table tables[SEQS];
    uint32_t at[SEQS]; /* tokens done */
    float *out;        /* [SEQS, TOKENS, n_heads, D] */
};

static void world_open(struct world *w, const struct backend_ops *ops, uint32_t n_threads,
                       const char *isa, const struct attn *a, const float *qkv, enum dtype type)
{
    struct backend_conf conf = {.n_threads = n_threads, .tokens_max = BATCH_MAX};
    struct kv_shape shape = {2, a->n_kv_heads, D, SEQS * SEQ_PAGES, type};
    *w = (struct world){.a = *a, .qkv = qkv, .width = (a->n_heads + 2 * a->n_kv_heads) * D};
    assert_int_equal(ops->open(&w->b, &conf, NULL), RC_OK);
    if (isa != NULL) {
        cpu_of(w->b)->k = kernels_choose(isa);
    }
    assert_int_equal(ops->kv_alloc(w->b, &shape, &w->kv, NULL), RC_OK);
    w->out = mem_zalloc_array((size_t)SEQS * TOKENS * a->n_heads * D, sizeof(float));
    for (uint32_t s = 0; s < SEQS; s++) {
        for (uint32_t i = 0; i < SEQ_PAGES; i++) {
            w->ids[s][i] = (i * 7 + 3) % SEQ_PAGES * SEQS + s; /* in disorder */
        }
        w->tables[s] = (struct kv_table){w->ids[s], SEQ_PAGES};
    }
}

static void world_close(struct world *w)
{
    w->b->ops->kv_free(w->b, w->kv);
    w->b->ops->close(w->b);
    mem_free(w->out);
}

/* n[s] more tokens of every sequence s in one batch. */
static void feed(struct world *w, const uint32_t n[SEQS])
{
    uint32_t positions[BATCH_MAX], seq_of[BATCH_MAX], t = 0;
    float *in = mem_zalloc_array((size_t)BATCH_MAX * w->width, sizeof(float));
    float *cos_sin = mem_zalloc_array((size_t)BATCH_MAX * D, sizeof(float));
    size_t wide = (size_t)w->a.n_heads * D;
    float *out = mem_zalloc_array((size_t)BATCH_MAX * wide, sizeof(float));
    for (uint32_t s = 0; s < SEQS; s++) {
        for (uint32_t i = 0; i < n[s]; i++, t++) {
            positions[t] = w->at[s] + i;
            seq_of[t] = s;
            memcpy(in + (size_t)t * w->width,
                   w->qkv + ((size_t)s * TOKENS + positions[t]) * w->width,
                   w->width * sizeof(float));
            for (uint32_t c = 0; c < w->a.rope.n_rot; c++) {
                float angle = 0.01f * (float)positions[t] * (float)(c / 2 + 1);
                cos_sin[t * w->a.rope.n_rot + c] = c % 2 == 0 ? cosf(angle) : sinf(angle);
            }
        }
    }
    struct attn_batch batch = {t, SEQS, positions, seq_of, w->tables};
    struct attn a = w->a;
    a.rope.cos_sin = cos_sin;
    float *k = in + wide;
    struct qkv x = {in, k, k + a.n_kv_heads * D, w->width, w->width};
    w->b->ops->attention(w->b, out, &x, w->kv, &a, &batch);
    for (uint32_t i = 0; i < t; i++) {
        memcpy(w->out + ((size_t)seq_of[i] * TOKENS + positions[i]) * wide, out + i * wide,
               wide * sizeof(float));
    }
    for (uint32_t s = 0; s < SEQS; s++) {
        w->at[s] += n[s];
    }
    mem_free(in);
    mem_free(cos_sin);
    mem_free(out);
}

/* Sequence 0 first; then others of which 1 … 3 begin in its pages, all in random pieces, mostly
 * single tokens at the end. With `share` they do not store the prefix but read that of 0. */
static void feed_all(struct world *w, struct rng *r, bool share)
{
    while (w->at[0] < PREFIX + 8) {
        uint32_t n[SEQS] = {1 + below(r, 200)};
        n[0] = MIN(n[0], PREFIX + 8 - w->at[0]);
        feed(w, n);
    }
    for (uint32_t s = 1; s <= 3 && share; s++) {
        memcpy(w->ids[s], w->ids[0], PREFIX / KV_PAGE_TOKENS * sizeof(w->ids[0][0]));
        w->at[s] = PREFIX;
        size_t row = (size_t)w->a.n_heads * D;
        memcpy(w->out + s * TOKENS * row, w->out, PREFIX * row * sizeof(float));
    }
    for (bool more = true; more;) {
        uint32_t n[SEQS];
        uint32_t longest = below(r, 3) == 0 ? 90 : 1;
        more = false;
        for (uint32_t s = 0; s < SEQS; s++) {
            n[s] = below(r, 5) == 0 ? 0 : 1 + below(r, longest);
            n[s] = MIN(n[s], TOKENS - w->at[s]);
            more = more || w->at[s] + n[s] < TOKENS;
        }
        feed(w, n);
    }
}

static float *random_rows(struct rng *r, uint32_t width)
{
    float *qkv = mem_zalloc_array((size_t)SEQS * TOKENS * width, sizeof(float));
    for (size_t i = 0; i < (size_t)SEQS * TOKENS * width; i++) {
        qkv[i] = (float)rng_u32(r) * 0x1p-31f - 1.0f;
    }
    for (size_t s = 1; s <= 3; s++) {
        memcpy(qkv + s * TOKENS * width, qkv, (size_t)PREFIX * width * sizeof(float));
    }
    return qkv;
}

static const struct attn shapes[] = {
    {.n_heads = 4, .n_kv_heads = 2, .rope = {.n_rot = 20}},
    {.n_heads = 7, .n_kv_heads = 1, .window = 70, .softcap = 4, .rope = {.n_rot = 12}},
    {.n_heads = 2, .n_kv_heads = 2, .window = 300},
};

/* ---- the same bits ---- */

static void check_cuts(const struct attn *a, enum dtype type, const char *isa, uint64_t seed)
{
    struct rng r;
    rng_init(&r, seed);
    uint32_t width = (a->n_heads + 2 * a->n_kv_heads) * D;
    float *qkv = random_rows(&r, width);
    struct world one;
    world_open(&one, &backend_cpu_ops, 1, isa, a, qkv, type);
    for (uint32_t s = 0; s < SEQS; s++) {
        while (one.at[s] < TOKENS) { /* one sequence, token by token */
            uint32_t n[SEQS] = {0};
            n[s] = 1;
            feed(&one, n);
        }
    }
    for (uint32_t n_threads = 1; n_threads <= 5; n_threads += 2) {
        struct world w;
        world_open(&w, &backend_cpu_ops, n_threads, isa, a, qkv, type);
        feed_all(&w, &r, n_threads > 1);
        assert_memory_equal(w.out, one.out, (size_t)SEQS * TOKENS * a->n_heads * D * sizeof(float));
        world_close(&w);
    }
    world_close(&one);
    mem_free(qkv);
}

static void cuts_threads_and_groups_change_no_bit(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(isas); i++) {
        if (kernels_choose(isas[i]) == NULL) {
            print_message("this machine has no %s\n", isas[i]);
            continue;
        }
        for (size_t t = 0; t < ARRAY_LEN(types); t++) {
            struct attn a = shapes[(i + t) % ARRAY_LEN(shapes)];
            a.d_head = D;
            a.scale = 0.5f;
            a.causal = true;
            check_cuts(&a, types[t], isas[i], 31 * i + t);
        }
    }
}

/* ---- near the reference ---- */

static void every_type_is_near_the_reference(void **state)
{
    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        struct rng r;
        rng_init(&r, t);
        struct attn a = shapes[t % ARRAY_LEN(shapes)];
        a.d_head = D;
        a.scale = 0.5f;
        a.causal = true;
        a.rope = (struct rope){0}; /* the same keys to the bit */
        float *qkv = random_rows(&r, (a.n_heads + 2 * a.n_kv_heads) * D);
        struct world cpu, ref;
        world_open(&cpu, &backend_cpu_ops, 2, NULL, &a, qkv, types[t]);
        world_open(&ref, &ref_backend_ops, 1, NULL, &a, qkv, types[t]);
        static const uint32_t steps[][SEQS] = {{150, 0, 70, 3, 1}, {1, 0, 1, 60, 1}, {99, 1, 2}};
        for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
            feed(&cpu, steps[i]);
            feed(&ref, steps[i]);
        }
        double tolerance = types[t] == DTYPE_Q8_0 ? 2e-4 : 4e-6;
        for (size_t i = 0; i < (size_t)SEQS * TOKENS * a.n_heads * D; i++) {
            assert_true(fabs((double)cpu.out[i] - (double)ref.out[i]) <= tolerance);
        }
        world_close(&cpu);
        world_close(&ref);
        mem_free(qkv);
    }
}

/* A copied page holds what the first one held, in every layer. */
static void copied_pages_are_read_alike(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 5);
    struct attn a = shapes[0];
    a.d_head = D;
    a.scale = 0.5f;
    a.causal = true;
    a.layer = 1;
    float *qkv = random_rows(&r, (a.n_heads + 2 * a.n_kv_heads) * D);
    struct world w;
    world_open(&w, &backend_cpu_ops, 2, NULL, &a, qkv, DTYPE_Q8_0);
    feed(&w, (uint32_t[SEQS]){50});
    for (uint32_t i = 0; i < 2; i++) {
        w.b->ops->kv_copy(w.b, w.kv, w.ids[0][i], w.ids[1][i]);
    }
    w.at[1] = 50;
    feed(&w, (uint32_t[SEQS]){1, 1});
    size_t row = (size_t)a.n_heads * D;
    assert_memory_equal(w.out + 50 * row, w.out + (TOKENS + 50) * row, row * sizeof(float));
    world_close(&w);
    mem_free(qkv);
}

/* ---- plans ---- */

static void check_plan(const struct attn_plan *p, const struct attn_batch *batch,
                       const struct attn_plan_limits *limits)
{
    uint32_t seen[BATCH_MAX] = {0};
    uint32_t item = 0;
    size_t partials = 0;
    for (uint32_t i = 0; i < p->n_blocks; i++) {
        const struct attn_block *b = &p->blocks[i];
        assert_true(b->n_rows > 0 && b->n_rows * limits->n_group <= ATTEND_ROWS_MAX);
        assert_int_equal(b->item0, item);
        assert_true(b->n_splits == 1 || b->n_splits == b->n_spans);
        for (uint32_t u = 0; u < limits->n_units * b->n_splits; u++) {
            assert_int_equal(backend_cpu_attn_block(p, item++), i);
        }
        if (b->n_splits > 1) {
            assert_int_equal(b->partial0, partials);
            partials += (size_t)b->n_rows * limits->n_group * limits->n_units * b->n_spans *
                        limits->row_floats;
        }
        const uint32_t *rows = p->rows + b->first;
        const struct kv_table *lead = &batch->seqs[batch->seq_of[rows[0]]];
        for (uint32_t k = 0; k < b->n_rows; k++) {
            const struct kv_table *table = &batch->seqs[batch->seq_of[rows[k]]];
            seen[rows[k]]++;
            if (b->n_shared == UINT32_MAX) {
                assert_ptr_equal(table, lead);
                continue;
            }
            assert_true(b->n_shared * KV_PAGE_TOKENS <= batch->positions[rows[k]]);
            assert_memory_equal(table->page_ids, lead->page_ids, b->n_shared * sizeof(uint32_t));
        }
    }
    assert_int_equal(item, p->n_items);
    assert_true(partials <= limits->n_partial_floats);
    for (uint32_t t = 0; t < batch->n_tokens; t++) {
        assert_int_equal(seen[t], 1);
    }
}

static void plans_take_every_row_once(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 77);
    static uint32_t ids[64][64];
    struct kv_table tables[64];
    struct attn_block blocks[BATCH_MAX];
    uint32_t rows[BATCH_MAX], first[BATCH_MAX], last[BATCH_MAX];
    uint32_t grouped = 0;
    for (uint32_t round = 0; round < 300; round++) {
        uint32_t positions[BATCH_MAX], seq_of[BATCH_MAX], n = 0;
        for (uint32_t s = 0; s < 64; s++) {
            uint32_t like = below(&r, s + 1);
            uint32_t shared = below(&r, 2) == 0 ? 0 : below(&r, 64);
            for (uint32_t i = 0; i < 64; i++) {
                ids[s][i] = i < shared && like != s ? ids[like][i] : s * 64 + i;
            }
            tables[s] = (struct kv_table){ids[s], 64};
            uint32_t many = below(&r, 4) == 0 ? below(&r, 30) : below(&r, 2);
            uint32_t at = below(&r, 64 * KV_PAGE_TOKENS - 30);
            for (uint32_t i = 0; i < many && n < BATCH_MAX; i++, n++) {
                positions[n] = at + i;
                seq_of[n] = s;
            }
        }
        if (n == 0) {
            continue;
        }
        struct attn_batch batch = {n, 64, positions, seq_of, tables};
        struct attn a = {.causal = true, .window = below(&r, 2) * 100};
        struct attn_plan_limits limits = {
            .n_threads = 1 + below(&r, 40),
            .n_units = 1 + below(&r, 8),
            .n_group = 1 + below(&r, 20),
            .row_floats = 80,
            .n_partial_floats = below(&r, 1 << 20),
        };
        struct attn_plan p = {.rows = rows, .first = first, .last = last, .blocks = blocks};
        backend_cpu_attn_plan(&p, &a, &batch, &limits);
        check_plan(&p, &batch, &limits);
        for (uint32_t i = 0; i < p.n_blocks; i++) {
            grouped += p.blocks[i].n_shared != UINT32_MAX;
        }
    }
    assert_true(grouped > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_take_every_row_once),
        cmocka_unit_test(every_type_is_near_the_reference),
        cmocka_unit_test(copied_pages_are_read_alike),
        cmocka_unit_test(cuts_threads_and_groups_change_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
