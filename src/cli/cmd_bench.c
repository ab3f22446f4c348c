/* cmd_bench.c: `bud bench`: how fast a model reads prompts and generates, and how much of the
 * memory's bandwidth generating uses.
 *
 * Rounds of prompt, generation and stream follow one another, and medians are told, so that a busy
 * minute of the machine falls on all three. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/print.h"
#include "engine/cpu/stream.h"
#include "engine/engine.h"
#include "engine/format/gguf.h"

enum { BENCH_ROUNDS_MAX = 100, BENCH_BATCH_MAX = 4096 };

static const struct args_row cmd_bench_options[] = {
    {"--prompt", 'p', "N", "prompt tokens (default 512; 0 = none)"},
    {"--n-predict", 'n', "N", "tokens to generate (default 64; 0 = none)"},
    {"--threads", 't', "N", "compute threads (default: one per core)"},
    {"--batch", 'b', "N", "most tokens of one step (default 512)"},
    {"--rounds", 'r', "N", "rounds; medians are told (default 3)"},
    {"--backend", 0, "NAME", "cpu or ref (default: the fastest that runs here)"},
    {"--json", 0, NULL, "print JSON"},
    {0},
};

struct bench {
    uint32_t n_prompt, n_generate, n_rounds;
    struct engine_conf conf;
    struct engine *engine;
    struct cpu_stream *stream;
    uint64_t step_bytes; /* of weights that a step of one token reads */
    struct rng rng;
    uint32_t *page_ids;
    float *logits;
    double prompt_s[BENCH_ROUNDS_MAX], generate_s[BENCH_ROUNDS_MAX];
    double stream_rate[BENCH_ROUNDS_MAX];
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
static uint64_t bench_step_bytes(const struct gguf *g)
{
    struct str arch = STR_NULL;
    if (gguf_get_str(g, "general.architecture", STR_LIT("?"), &arch, NULL) != RC_OK) {
        return 0;
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
    return tied ? sum : sum - embedding;
}

/* ---- rounds ---- */

/* Tokens [from, from + n) of one sequence, logits of the last. */
static enum rc bench_forward(struct bench *b, uint32_t from, uint32_t n, struct err *err)
{
    int32_t tokens[BENCH_BATCH_MAX];
    uint32_t positions[BENCH_BATCH_MAX];
    static const uint32_t seq_of[BENCH_BATCH_MAX]; /* all 0 */
    const struct kv_table table = {b->page_ids, b->conf.kv_pages};
    for (uint32_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)rng_below(&b->rng, engine_info(b->engine)->n_vocab);
        positions[i] = from + i;
    }
    uint32_t last = n - 1;
    struct engine_batch batch = {
        .n_tokens = n,
        .tokens = tokens,
        .positions = positions,
        .seq_of = seq_of,
        .n_seqs = 1,
        .seqs = &table,
        .n_logit_rows = 1,
        .logit_rows = &last,
        .logits = b->logits,
    };
    return engine_forward(b->engine, &batch, NULL, err);
}

/* Seconds of n tokens, `step` at a time, from an empty sequence. */
static enum rc bench_time(struct bench *b, uint32_t n, uint32_t step, double *seconds,
                          struct err *err)
{
    uint64_t start = clock_mono_ns(clock_system());
    enum rc rc = RC_OK;
    for (uint32_t at = 0; at < n && rc == RC_OK; at += step) {
        rc = bench_forward(b, at, MIN(step, n - at), err);
    }
    *seconds = (double)(clock_mono_ns(clock_system()) - start) * 1e-9;
    return rc;
}

static enum rc bench_rounds(struct bench *b, struct err *err)
{
    double ignored;
    enum rc rc = bench_time(b, 2, 1, &ignored, err); /* faults the weights in */
    for (uint32_t i = 0; i < b->n_rounds && rc == RC_OK; i++) {
        rc = bench_time(b, b->n_prompt, b->conf.batch_tokens_max, &b->prompt_s[i], err);
        b->stream_rate[i] = backend_cpu_stream_read(b->stream);
        rc = rc == RC_OK ? bench_time(b, b->n_generate, 1, &b->generate_s[i], err) : rc;
    }
    return rc;
}

/* ---- results ---- */

static int bench_compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double bench_median(double *values, uint32_t n)
{
    qsort(values, n, sizeof(*values), bench_compare);
    return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

struct bench_result {
    double prompt_rate, generate_rate; /* tokens per second; 0 = not measured */
    double stream_rate;                /* bytes per second */
    double stream_fraction;
};

static struct bench_result bench_result(struct bench *b)
{
    struct bench_result r = {.stream_rate = bench_median(b->stream_rate, b->n_rounds)};
    if (b->n_prompt > 0) {
        r.prompt_rate = b->n_prompt / bench_median(b->prompt_s, b->n_rounds);
    }
    if (b->n_generate > 0) {
        r.generate_rate = b->n_generate / bench_median(b->generate_s, b->n_rounds);
        r.stream_fraction = r.generate_rate * (double)b->step_bytes / r.stream_rate;
    }
    return r;
}

static void bench_text(const struct bench *b, const struct bench_result *r, struct buf *out)
{
    const struct engine_info *info = engine_info(b->engine);
    buf_add_printf(out, "%s %s, backend %s, %u threads, %u rounds\n", info->arch, info->file_type,
                   info->backend, info->n_threads, b->n_rounds);
    buf_add_printf(out, "  %-22s %10s\n", "what", "tokens/s");
    if (b->n_prompt > 0) {
        buf_add_printf(out, "  prompt, %-5u tokens   %10.2f\n", b->n_prompt, r->prompt_rate);
    }
    if (b->n_generate > 0) {
        buf_add_printf(out, "  generate, %-5u tokens %10.2f   %.1f of %.1f GB/s read: %.0f %%\n",
                       b->n_generate, r->generate_rate,
                       r->generate_rate * (double)b->step_bytes * 1e-9, r->stream_rate * 1e-9,
                       100 * r->stream_fraction);
    }
}

static void bench_json(const struct bench *b, const struct bench_result *r, struct buf *out)
{
    const struct engine_info *info = engine_info(b->engine);
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        {"prompt_tokens_per_s", r->prompt_rate},
        {"generation_tokens_per_s", r->generate_rate},
        {"stream_gb_per_s", r->stream_rate * 1e-9},
        {"stream_fraction", r->stream_fraction},
    };
    struct json_writer w;
    json_write_init(&w, out);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "architecture", info->arch);
    json_write_member_cstr(&w, "type", info->file_type);
    json_write_member_cstr(&w, "backend", info->backend);
    json_write_member_i64(&w, "threads", info->n_threads);
    json_write_member_i64(&w, "prompt_tokens", b->n_prompt);
    json_write_member_i64(&w, "generated_tokens", b->n_generate);
    json_write_member_i64(&w, "rounds", b->n_rounds);
    json_write_member_i64(&w, "weight_bytes_per_step", (int64_t)b->step_bytes);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        json_write_name(&w, numbers[i].name);
        json_write_f64(&w, numbers[i].value);
    }
    json_write_object_end(&w);
    buf_add_byte(out, '\n');
}

/* ---- command ---- */

static enum rc bench_options(struct bench *b, const struct args *a, struct err *err)
{
    *b = (struct bench){.n_prompt = 512, .n_generate = 64, .n_rounds = 3};
    b->conf = (struct engine_conf){.pin = true, .kv_type = DTYPE_F16, .batch_tokens_max = 512};
    b->conf.backend = args_str(a, "--backend", NULL);
    const struct {
        const char *name;
        uint32_t min, max;
        uint32_t *out;
    } rows[] = {
        {"--prompt", 0, 1 << 20, &b->n_prompt},
        {"--n-predict", 0, 1 << 20, &b->n_generate},
        {"--threads", 1, 256, &b->conf.n_threads},
        {"--batch", 1, BENCH_BATCH_MAX, &b->conf.batch_tokens_max},
        {"--rounds", 1, BENCH_ROUNDS_MAX, &b->n_rounds},
    };
    enum rc rc = RC_OK;
    for (size_t i = 0; i < ARRAY_LEN(rows) && rc == RC_OK; i++) {
        rc = args_u32(a, rows[i].name, rows[i].min, rows[i].max, rows[i].out, err);
    }
    uint32_t longest = MAX(MAX(b->n_prompt, b->n_generate), 2u);
    b->conf.kv_pages = (longest + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    b->conf.context_tokens = MAX(longest, 16u);
    rng_init(&b->rng, 1);
    return rc;
}

static enum rc bench_open(struct bench *b, const char *model, struct err *err)
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
    b->step_bytes = bench_step_bytes(g);
    gguf_close(g);
    rc = engine_open(&b->engine, sources, n_sources, &b->conf, err);
    if (rc != RC_OK) {
        return rc;
    }
    b->logits = mem_zalloc_array(engine_info(b->engine)->n_vocab, sizeof(float));
    b->page_ids = mem_zalloc_array(b->conf.kv_pages, sizeof(uint32_t));
    for (uint32_t i = 0; i < b->conf.kv_pages; i++) {
        b->page_ids[i] = i;
    }
    return backend_cpu_stream_create(&b->stream, b->conf.n_threads, err);
}

static enum rc cmd_bench_main(const struct args *a, struct err *err)
{
    struct bench b;
    enum rc rc = bench_options(&b, a, err);
    rc = rc == RC_OK ? bench_open(&b, args_word(a, 0), err) : rc;
    rc = rc == RC_OK ? bench_rounds(&b, err) : rc;
    if (rc == RC_OK) {
        struct bench_result r = bench_result(&b);
        struct buf out;
        buf_init(&out, 1 << 16);
        if (args_has(a, "--json")) {
            bench_json(&b, &r, &out);
        } else {
            bench_text(&b, &r, &out);
        }
        rc = print_buf(&out, err);
        buf_deinit(&out);
    }
    backend_cpu_stream_destroy(b.stream);
    engine_close(b.engine);
    mem_free(b.logits);
    mem_free(b.page_ids);
    return rc;
}

const struct command cmd_bench = {
    .name = "bench",
    .words = "MODEL",
    .line = "Measure prompt and generation speed against the memory's",
    .help =
        "Random tokens in one sequence: a prompt, then generation from an empty sequence, each\n"
        "round. The stream is what plain reading reaches on the same threads; a generated token\n"
        "reads every weight once.\n",
    .options = cmd_bench_options,
    .n_words_min = 1,
    .n_words_max = 1,
    .run = cmd_bench_main,
};
