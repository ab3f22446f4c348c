/* attention.c: the attention operation of the "cpu" backend alone, against the memory stream.
 *
 *   build/bench/attention [THREADS [KV TYPE [CASE]]]     (make bench-attention)
 *
 * Each case is called in turn for several layers, so that no layer's pages are still in a cache;
 * the stream is measured before every case. "stream" is the share of the stream's bandwidth at
 * which keys and values were read, each counted once per call. Times are medians. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "engine/cpu/attend.h"
#include "engine/cpu/stream.h"
#include "engine/tensor/backend.h"

enum { CALLS_MAX = 65, KV_BYTES_MAX = 768 << 20 };

struct shape {
    const char *name;
    uint32_t n_heads, n_kv_heads, d_head;
};

static const struct shape llama_1b = {"Llama-1B", 32, 8, 64};
static const struct shape qwen = {"Qwen-0.5B", 14, 2, 64};
static const struct shape llama_8b = {"Llama-8B", 32, 8, 128};
static const struct shape minilm = {"MiniLM", 12, 12, 32};

struct bench_case {
    const char *name;
    const struct shape *shape;
    uint32_t n_seqs, n_rows; /* rows of each sequence in a call */
    uint32_t depth;          /* positions before them; texts: none are kept */
    uint32_t shared;         /* of these, in pages that all sequences have */
    bool text;               /* rows attend to one another, nothing is kept */
};

static const struct bench_case cases[] = {
    {"decode 1 x 1k", &llama_1b, 1, 1, 1024, 0, false},
    {"decode 1 x 8k", &llama_1b, 1, 1, 8192, 0, false},
    {"decode 1 x 8k", &qwen, 1, 1, 8192, 0, false},
    {"decode 1 x 8k", &llama_8b, 1, 1, 8192, 0, false},
    {"decode 16 x 1k", &llama_1b, 16, 1, 1024, 0, false},
    {"decode 16 x 1k", &qwen, 16, 1, 1024, 0, false},
    {"decode 16 x 1k, 800 shared", &llama_1b, 16, 1, 1024, 800, false},
    {"decode 16 x 1k, 800 shared", &qwen, 16, 1, 1024, 800, false},
    {"prompt 512 at 0", &llama_1b, 1, 512, 0, 0, false},
    {"prompt 512 at 2k", &llama_1b, 1, 512, 2048, 0, false},
    {"prompt 512 at 8k", &llama_1b, 1, 512, 8192, 0, false},
    {"prompt 512 at 2k", &qwen, 1, 512, 2048, 0, false},
    {"prompt 512 at 2k", &llama_8b, 1, 512, 2048, 0, false},
    {"texts 25 x 20", &minilm, 25, 20, 0, 0, true},
    {"texts 1 x 512", &minilm, 1, 512, 0, 0, true},
};

struct bench {
    struct backend *b;
    void *kv;
    struct attn a;
    struct attn_batch batch;
    struct qkv qkv;
    struct kv_table *tables;
    uint32_t *ids, *positions, *seq_of;
    float *in, *out, *cos_sin;
    uint32_t n_layers, n_pages;
};

static void *must(enum rc rc, void *made)
{
    if (rc != RC_OK) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }
    return made;
}

/* Sequences' pages lie one after the other; the shared ones are those of the first. */
static void make_batch(struct bench *x, const struct bench_case *c)
{
    uint32_t per_seq = (c->depth + c->n_rows + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    uint32_t n = c->n_seqs * c->n_rows;
    x->n_pages = c->n_seqs * per_seq;
    x->ids = mem_zalloc_array(x->n_pages, sizeof(*x->ids));
    x->tables = mem_zalloc_array(c->n_seqs, sizeof(*x->tables));
    x->positions = mem_zalloc_array(n, sizeof(*x->positions));
    x->seq_of = mem_zalloc_array(n, sizeof(*x->seq_of));
    for (uint32_t i = 0; i < x->n_pages; i++) {
        x->ids[i] = i % per_seq < c->shared / KV_PAGE_TOKENS ? i % per_seq : i;
    }
    for (uint32_t s = 0; s < c->n_seqs; s++) {
        x->tables[s] = (struct kv_table){x->ids + s * per_seq, per_seq};
    }
    for (uint32_t t = 0; t < n; t++) {
        x->positions[t] = c->depth + t % c->n_rows;
        x->seq_of[t] = t / c->n_rows;
    }
    x->batch = (struct attn_batch){n, c->n_seqs, x->positions, x->seq_of, x->tables};
}

static void bench_open(struct bench *x, const struct bench_case *c, uint32_t n_threads,
                       enum dtype type)
{
    const struct shape *s = c->shape;
    make_batch(x, c);
    uint32_t n = x->batch.n_tokens;
    uint32_t width = (s->n_heads + 2 * s->n_kv_heads) * s->d_head;
    struct backend_conf conf = {.n_threads = n_threads, .tokens_max = n, .pin = true};
    const struct backend_ops *ops = backend_find("cpu");
    must(ops->open(&x->b, &conf, NULL), NULL);
    struct kv_shape shape = {1, s->n_kv_heads, s->d_head, x->n_pages, type};
    uint64_t layer = backend_kv_position_bytes(&shape) * KV_PAGE_TOKENS * x->n_pages;
    x->n_layers = shape.n_layers = (uint32_t)MIN(MAX(KV_BYTES_MAX / layer, 1ull), 16ull);
    if (!c->text) {
        must(ops->kv_alloc(x->b, &shape, &x->kv, NULL), NULL);
    }
    x->in = mem_zalloc_array((size_t)n * width, sizeof(float));
    x->out = mem_zalloc_array((size_t)n * s->n_heads * s->d_head, sizeof(float));
    x->cos_sin = mem_zalloc_array((size_t)n * s->d_head, sizeof(float));
    struct rng r;
    rng_init(&r, 1);
    for (size_t i = 0; i < (size_t)n * width; i++) {
        x->in[i] = (float)rng_u32(&r) * 0x1p-31f - 1.0f;
    }
    float *k = x->in + s->n_heads * s->d_head;
    x->qkv = (struct qkv){x->in, k, k + s->n_kv_heads * s->d_head, width, width};
    x->a = (struct attn){.n_heads = s->n_heads,
                         .n_kv_heads = s->n_kv_heads,
                         .d_head = s->d_head,
                         .rope = {x->cos_sin, c->text ? 0 : s->d_head, ROPE_NEOX},
                         .scale = 0.125f,
                         .causal = !c->text};
}

static void bench_close(struct bench *x)
{
    if (x->kv != NULL) {
        x->b->ops->kv_free(x->b, x->kv);
    }
    x->b->ops->close(x->b);
    void *all[] = {x->ids, x->tables, x->positions, x->seq_of, x->in, x->out, x->cos_sin};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        mem_free(all[i]);
    }
}

/* Keys and values before the batch's rows, so that pages are in memory: positions 0 … depth - 1 of
 * every sequence, as rows of one call each. */
static void fill_pages(struct bench *x, const struct bench_case *c)
{
    struct attn a = x->a;
    uint32_t position = 0;
    uint32_t seq = 0;
    struct attn_batch one = {1, c->n_seqs, &position, &seq, x->tables};
    a.window = 1; /* a row that reads one page */
    for (a.layer = 0; a.layer < x->n_layers; a.layer++) {
        for (seq = 0; seq < c->n_seqs; seq++) {
            for (position = 0; position < c->depth; position++) {
                x->b->ops->attention(x->b, x->out, &x->qkv, x->kv, &a, &one);
            }
        }
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median_seconds(struct bench *x)
{
    double seconds[CALLS_MAX];
    uint32_t n = x->batch.n_tokens >= 512 ? 5 : CALLS_MAX;
    for (uint32_t i = 0; i < n; i++) {
        x->a.layer = i % x->n_layers;
        uint64_t start = clock_mono_ns(clock_system());
        x->b->ops->attention(x->b, x->out, &x->qkv, x->kv, &x->a, &x->batch);
        seconds[i] = (double)(clock_mono_ns(clock_system()) - start) * 1e-9;
    }
    qsort(seconds, n, sizeof(seconds[0]), by_size);
    return seconds[n / 2];
}

static void run_case(const struct bench_case *c, uint32_t n_threads, enum dtype type,
                     struct cpu_stream *stream, const cpu_set_t *cpus)
{
    struct bench x = {0};
    /* The stream's team has pinned this thread; what it starts would inherit that. */
    (void)sched_setaffinity(0, sizeof(*cpus), cpus);
    bench_open(&x, c, n_threads, type);
    if (x.kv != NULL) {
        fill_pages(&x, c);
    }
    double roof = backend_cpu_stream_read(stream);
    double t = median_seconds(&x);
    const struct shape *s = c->shape;
    struct kv_shape one = {1, s->n_kv_heads, s->d_head, 0, type};
    double position_bytes = (double)backend_kv_position_bytes(&one);
    double read = (c->shared + (double)c->n_seqs * (c->depth + c->n_rows - c->shared));
    double pairs =
        c->text ? (double)c->n_rows * c->n_rows : c->n_rows * (c->depth + (c->n_rows + 1) / 2.0);
    double products = 2 * pairs * c->n_seqs * s->n_heads * s->d_head;
    printf("%-28s %-10s %9.1f us  %6.1f GMAC/s", c->name, s->name, t * 1e6, products / t * 1e-9);
    if (!c->text) {
        double rate = read * position_bytes / t;
        printf("  %6.1f GB/s, stream %.1f: %.2f", rate * 1e-9, roof * 1e-9, rate / roof);
    }
    printf("\n");
    bench_close(&x);
}

int main(int argc, char **argv)
{
    uint32_t n_threads = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 0;
    enum dtype type = DTYPE_F16;
    struct cpu_stream *stream = NULL;
    cpu_set_t cpus;
    (void)sched_getaffinity(0, sizeof(cpus), &cpus);
    if (argc > 2 && !backend_kv_type_parse(str_from(argv[2]), &type)) {
        fprintf(stderr, "KV types: f16, f32, bf16, q8\n");
        return 2;
    }
    must(backend_cpu_stream_create(&stream, n_threads, NULL), NULL);
    printf("KV %s\n", backend_kv_type_name(type));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (argc <= 3 || strstr(cases[i].name, argv[3]) != NULL) {
            run_case(&cases[i], n_threads, type, stream, &cpus);
        }
    }
    backend_cpu_stream_destroy(stream);
    return 0;
}
