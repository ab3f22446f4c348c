/* bench.c: see bench.h. */
#include "cli/bench.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cli/model_path.h"
#include "device/device.h"
#include "engine/cpu/stream.h"
#include "engine/format/gguf.h"

enum { BENCH_WARM_STEPS = 2 };

/* One step's batch, and the sequences it writes to. */
struct bench_step {
    struct rng rng;
    uint32_t n_streams; /* most of any row */
    struct kv_table tables[BENCH_STREAMS_MAX];
    uint32_t *page_ids;
    float *logits;
    int32_t tokens[BENCH_BATCH_MAX];
    uint32_t positions[BENCH_BATCH_MAX], seq_of[BENCH_BATCH_MAX];
    uint32_t logit_rows[BENCH_STREAMS_MAX];
    double rates[BENCH_ROWS_MAX][BENCH_ROUNDS_MAX]; /* tokens per second */
    double stream_rates[BENCH_ROWS_MAX][BENCH_ROUNDS_MAX];
};

/* ---- what a step reads ---- */

static uint64_t bench_key(const struct gguf *g, struct str arch, const char *name)
{
    char key[128];
    snprintf(key, sizeof(key), "%.*s.%s", (int)MIN(arch.len, (size_t)64), arch.ptr, name);
    const struct gguf_kv *kv = gguf_find(g, key);
    int64_t value = kv != NULL && kv->n > 0 && kv->strings == NULL ? gguf_kv_i64(kv, 0) : 0;
    return value > 0 ? (uint64_t)value : 0;
}

/* All weights but an embedding that is not the output too, and of expert stacks only the experts
 * that a token uses. */
static void bench_step_bytes(struct bench *b, const struct gguf *g)
{
    struct str arch = STR_NULL;
    if (gguf_get_str(g, "general.architecture", STR_LIT("?"), &arch, NULL) != RC_OK) {
        return;
    }
    uint64_t n_experts = bench_key(g, arch, "expert_count");
    uint64_t n_used = bench_key(g, arch, "expert_used_count");
    bool tied = true;
    uint64_t embedding = 0;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        bool stack = t->n_dims == 3 && n_experts > 0;
        sum += stack ? t->n_bytes / n_experts * n_used : t->n_bytes;
        tied = tied && !str_is(t->name, "output.weight");
        embedding = str_is(t->name, "token_embd.weight") ? t->n_bytes : embedding;
    }
    b->step_bytes = tied ? sum : sum - embedding;
    b->has_experts = n_experts > 0;
}

static double bench_kv_token_bytes(const struct bench *b)
{
    const struct engine_info *info = engine_info(b->engine);
    return (double)info->kv_bytes / ((double)info->kv_pages * KV_PAGE_TOKENS);
}

/* ---- opening ---- */

static uint32_t bench_pages_of(uint64_t n_tokens)
{
    return (uint32_t)((n_tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS);
}

/* The longest that sequence `stream` becomes in any row. */
static uint64_t bench_longest(const struct bench *b, uint32_t stream)
{
    uint64_t longest = BENCH_WARM_STEPS;
    for (uint32_t i = 0; i < b->n_rows; i++) {
        const struct bench_row *r = &b->rows[i];
        uint64_t n = (uint64_t)r->depth + MAX(r->n_tokens, (uint32_t)BENCH_WARM_STEPS);
        longest = stream < r->n_streams ? MAX(longest, n) : longest;
    }
    return longest;
}

static enum rc bench_size(struct bench *b, struct err *err)
{
    uint32_t n_streams = 1;
    for (uint32_t i = 0; i < b->n_rows; i++) {
        n_streams = MAX(n_streams, b->rows[i].n_streams);
    }
    ASSERT(n_streams <= BENCH_STREAMS_MAX);
    uint64_t n_pages = 0;
    uint64_t longest = bench_longest(b, 0);
    for (uint32_t i = 0; i < n_streams; i++) {
        n_pages += bench_pages_of(bench_longest(b, i));
    }
    if (n_pages > UINT32_MAX / KV_PAGE_TOKENS) {
        return err_set(err, RC_INVALID, "%llu tokens of context in all are too many to measure",
                       (unsigned long long)n_pages * KV_PAGE_TOKENS);
    }
    b->conf.kv_pages = (uint32_t)n_pages;
    b->conf.context_tokens = (uint32_t)MAX(longest, 16u);
    b->conf.batch_tokens_max = MAX(b->conf.batch_tokens_max, n_streams);
    b->step = mem_zalloc(sizeof(*b->step));
    b->step->n_streams = n_streams;
    rng_init(&b->step->rng, 1);
    return RC_OK;
}

static enum rc bench_open_engine(struct bench *b, const char *model, struct err *err)
{
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n_sources = 0;
    struct gguf *g = NULL;
    char path[PATH_MAX];
    enum rc rc = model_path_find(model, path, err);
    rc = rc == RC_OK ? weight_source_open_model(sources, &n_sources, path, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    rc = gguf_open(&g, sources, n_sources, err);
    if (rc != RC_OK) {
        for (uint32_t i = 0; i < n_sources; i++) {
            weight_source_close(sources[i]);
        }
        return rc;
    }
    bench_step_bytes(b, g);
    gguf_close(g);
    b->conf.memory_bytes_max = device_cpu_memory_bytes();
    rc = engine_open(&b->engine, sources, n_sources, &b->conf, err);
    if (rc == RC_OK && engine_info(b->engine)->kind != ENGINE_GENERATOR) {
        rc = err_set(err, RC_UNSUPPORTED,
                     "a model that embeds or ranks is measured behind a server: bud load");
    }
    return rc;
}

enum rc bench_open(struct bench *b, const char *model, struct err *err)
{
    ASSERT(b->n_rows > 0 && b->n_rows <= BENCH_ROWS_MAX && b->n_rounds <= BENCH_ROUNDS_MAX);
    enum rc rc = bench_size(b, err);
    /* Before the engine, whose team pins this thread: threads made later inherit its one CPU. */
    rc = rc == RC_OK ? backend_cpu_stream_create(&b->stream, b->conf.n_threads, err) : rc;
    rc = rc == RC_OK ? bench_open_engine(b, model, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    struct bench_step *s = b->step;
    size_t n_logits;
    if (!checked_mul((size_t)s->n_streams, engine_info(b->engine)->n_vocab, &n_logits)) {
        return err_set(err, RC_INVALID, "%u streams are too many", s->n_streams);
    }
    s->logits = mem_zalloc_array(n_logits, sizeof(float));
    s->page_ids = mem_zalloc_array(b->conf.kv_pages, sizeof(uint32_t));
    for (uint32_t i = 0; i < b->conf.kv_pages; i++) {
        s->page_ids[i] = i;
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < s->n_streams; i++) {
        uint32_t n = bench_pages_of(bench_longest(b, i));
        s->tables[i] = (struct kv_table){s->page_ids + at, n};
        at += n;
    }
    return RC_OK;
}

void bench_close(struct bench *b)
{
    backend_cpu_stream_destroy(b->stream);
    engine_close(b->engine);
    if (b->step != NULL) {
        mem_free(b->step->logits);
        mem_free(b->step->page_ids);
    }
    mem_free(b->step);
    b->stream = NULL;
    b->engine = NULL;
    b->step = NULL;
}

/* ---- rounds ---- */

/* Which tokens a step holds: positions [from, from + n) of streams [first, first + n_streams). */
struct bench_span {
    uint32_t first, n_streams, from, n;
};

/* Random tokens; logits of every stream's last. */
static enum rc bench_forward(struct bench *b, const struct bench_span *span, struct err *err)
{
    struct bench_step *s = b->step;
    uint32_t at = 0;
    for (uint32_t i = 0; i < span->n_streams; i++) {
        for (uint32_t j = 0; j < span->n; j++, at++) {
            s->tokens[at] = (int32_t)rng_below(&s->rng, engine_info(b->engine)->n_vocab);
            s->positions[at] = span->from + j;
            s->seq_of[at] = i;
        }
        s->logit_rows[i] = at - 1;
    }
    struct engine_batch batch = {
        .n_tokens = at,
        .tokens = s->tokens,
        .positions = s->positions,
        .seq_of = s->seq_of,
        .n_seqs = span->n_streams,
        .seqs = s->tables + span->first,
        .n_logit_rows = span->n_streams,
        .logit_rows = s->logit_rows,
        .logits = s->logits,
    };
    return engine_forward(b->engine, &batch, NULL, err);
}

/* n tokens behind `depth` ones of one stream, in steps of the batch size. */
static enum rc bench_prompt(struct bench *b, uint32_t stream, uint32_t depth, uint32_t n,
                            struct err *err)
{
    enum rc rc = RC_OK;
    uint32_t step = b->conf.batch_tokens_max;
    for (uint32_t at = 0; at < n && rc == RC_OK; at += step) {
        struct bench_span span = {stream, 1, depth + at, MIN(step, n - at)};
        rc = bench_forward(b, &span, err);
    }
    return rc;
}

static enum rc bench_generate(struct bench *b, const struct bench_row *r, uint32_t n,
                              struct err *err)
{
    enum rc rc = RC_OK;
    for (uint32_t i = 0; i < n && rc == RC_OK; i++) {
        struct bench_span span = {0, r->n_streams, r->depth + i, 1};
        rc = bench_forward(b, &span, err);
    }
    return rc;
}

/* Fills every stream to the depth that some row wants, faults the weights in, and lets each width
 * of step come by once. */
static enum rc bench_warm(struct bench *b, struct err *err)
{
    enum rc rc = RC_OK;
    for (uint32_t s = 0; s < b->step->n_streams && rc == RC_OK; s++) {
        uint32_t depth = 0;
        for (uint32_t i = 0; i < b->n_rows; i++) {
            depth = s < b->rows[i].n_streams ? MAX(depth, b->rows[i].depth) : depth;
        }
        rc = bench_prompt(b, s, 0, depth, err);
    }
    for (uint32_t i = 0; i < b->n_rows && rc == RC_OK; i++) {
        rc = bench_generate(b, &b->rows[i], BENCH_WARM_STEPS, err);
    }
    return rc;
}

static enum rc bench_time(struct bench *b, uint32_t row, uint32_t round, struct err *err)
{
    const struct bench_row *r = &b->rows[row];
    b->step->stream_rates[row][round] = backend_cpu_stream_read(b->stream);
    uint64_t start = clock_mono_ns(clock_system());
    enum rc rc = r->generate ? bench_generate(b, r, r->n_tokens, err)
                             : bench_prompt(b, 0, r->depth, r->n_tokens, err);
    double seconds = (double)(clock_mono_ns(clock_system()) - start) * 1e-9;
    b->step->rates[row][round] = (double)r->n_tokens * r->n_streams / MAX(seconds, 1e-9);
    return rc;
}

/* ---- results ---- */

static int bench_compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Sorts. */
static double bench_median(double *values, uint32_t n)
{
    qsort(values, n, sizeof(*values), bench_compare);
    return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

static void bench_result(struct bench *b, uint32_t row)
{
    struct bench_row *r = &b->rows[row];
    double *rates = b->step->rates[row];
    r->rate = bench_median(rates, b->n_rounds);
    r->rate_min = rates[0];
    r->rate_max = rates[b->n_rounds - 1];
    r->stream_rate = bench_median(b->step->stream_rates[row], b->n_rounds);
    if (r->generate && (r->n_streams == 1 || !b->has_experts)) {
        double kv_tokens = r->n_streams * (r->depth + (r->n_tokens + 1) / 2.0);
        double bytes = (double)b->step_bytes + kv_tokens * bench_kv_token_bytes(b);
        r->stream_fraction = r->rate / r->n_streams * bytes / r->stream_rate;
    }
}

enum rc bench_run(struct bench *b, struct err *err)
{
    enum rc rc = bench_warm(b, err);
    for (uint32_t round = 0; round < b->n_rounds && rc == RC_OK; round++) {
        for (uint32_t i = 0; i < b->n_rows && rc == RC_OK; i++) {
            rc = bench_time(b, i, round, err);
        }
    }
    for (uint32_t i = 0; i < b->n_rows && rc == RC_OK; i++) {
        bench_result(b, i);
    }
    return rc;
}
