/* cmd_bench.c: `bud bench`: rows out of lists of prompts, streams and depths; a table or JSON. */
#include <inttypes.h>

#include "base/json.h"
#include "cli/bench.h"
#include "cli/commands.h"
#include "cli/print.h"

enum { BENCH_LIST_MAX = 16 };

static const struct args_row cmd_bench_options[] = {
    {"--prompt", 'p', "LIST", "prompt tokens (default 512; 0 = none)"},
    {"--n-predict", 'n', "N", "tokens to generate (default 64; 0 = none)"},
    {"--streams", 's', "LIST", "sequences that generate together (default 1)"},
    {"--depth", 'd', "LIST", "tokens of context that are there before (default 0)"},
    {"--threads", 't', "N", "compute threads (default: one per core)"},
    {"--batch", 'b', "N", "most tokens of one step (default 512)"},
    {"--kv-type", 0, "TYPE", "KV cache: f16 (default), f32, bf16 or q8"},
    {"--rounds", 'r', "N", "rounds; medians are told (default 3)"},
    {"--backend", 0, "NAME", "cpu or ref (default: the fastest that runs here)"},
    {"--json", 0, NULL, "print JSON"},
    {0},
};

/* ---- options ---- */

struct bench_list {
    uint32_t at[BENCH_LIST_MAX];
    uint32_t n;
};

/* "1,2,4": numbers from min to max. */
static enum rc bench_list_parse(const struct args *a, const char *name, struct bench_list *out,
                                const uint32_t limits[2], struct err *err)
{
    const char *text = args_str(a, name, NULL);
    if (text == NULL) {
        return RC_OK;
    }
    struct str rest = str_from(text);
    out->n = 0;
    do {
        uint64_t value;
        struct str word = str_cut(&rest, ',');
        if (!str_to_u64(word, &value) || value < limits[0] || value > limits[1]) {
            return err_set(err, RC_INVALID,
                           "%s %s: expected whole numbers from %" PRIu32 " to %" PRIu32
                           " with commas between",
                           name, text, limits[0], limits[1]);
        }
        if (out->n == BENCH_LIST_MAX) {
            return err_set(err, RC_INVALID, "%s %s: more than %d numbers", name, text,
                           BENCH_LIST_MAX);
        }
        out->at[out->n++] = (uint32_t)value;
    } while (rest.ptr != NULL);
    return RC_OK;
}

static enum rc bench_add(struct bench *b, const struct bench_row *row, struct err *err)
{
    if (row->n_tokens == 0) {
        return RC_OK;
    }
    if (b->n_rows == BENCH_ROWS_MAX) {
        return err_set(err, RC_INVALID, "more than %d rows to measure", BENCH_ROWS_MAX);
    }
    b->rows[b->n_rows++] = *row;
    return RC_OK;
}

static enum rc bench_rows(struct bench *b, const struct args *a, struct err *err)
{
    static const uint32_t tokens[] = {0, 1 << 20};
    static const uint32_t streams_limits[] = {1, BENCH_STREAMS_MAX};
    struct bench_list prompts = {{512}, 1};
    struct bench_list streams = {{1}, 1};
    struct bench_list depths = {{0}, 1};
    uint32_t n_generate = 64;
    enum rc rc = args_u32(a, "--n-predict", 0, 1 << 20, &n_generate, err);
    rc = rc == RC_OK ? bench_list_parse(a, "--prompt", &prompts, tokens, err) : rc;
    rc = rc == RC_OK ? bench_list_parse(a, "--depth", &depths, tokens, err) : rc;
    rc = rc == RC_OK ? bench_list_parse(a, "--streams", &streams, streams_limits, err) : rc;
    for (uint32_t d = 0; d < depths.n && rc == RC_OK; d++) {
        for (uint32_t i = 0; i < prompts.n && rc == RC_OK; i++) {
            struct bench_row row = {
                .n_streams = 1, .depth = depths.at[d], .n_tokens = prompts.at[i]};
            rc = bench_add(b, &row, err);
        }
        for (uint32_t i = 0; i < streams.n && rc == RC_OK; i++) {
            struct bench_row row = {.generate = true,
                                    .n_streams = streams.at[i],
                                    .depth = depths.at[d],
                                    .n_tokens = n_generate};
            rc = bench_add(b, &row, err);
        }
    }
    if (rc == RC_OK && b->n_rows == 0) {
        rc = err_set(err, RC_INVALID, "nothing to measure: --prompt and --n-predict are both 0");
    }
    return rc;
}

static enum rc bench_options(struct bench *b, const struct args *a, struct err *err)
{
    *b = (struct bench){.n_rounds = 3};
    b->conf = (struct engine_conf){.pin = true, .kv_type = DTYPE_F16, .batch_tokens_max = 512};
    b->conf.backend = args_str(a, "--backend", NULL);
    const char *kv = args_str(a, "--kv-type", "f16");
    if (!backend_kv_type_parse(str_from(kv), &b->conf.kv_type)) {
        return err_set(err, RC_INVALID, "--kv-type %s: known are f16, f32, bf16, q8", kv);
    }
    enum rc rc = args_u32(a, "--threads", 1, 256, &b->conf.n_threads, err);
    rc = rc == RC_OK ? args_u32(a, "--batch", 1, BENCH_BATCH_MAX, &b->conf.batch_tokens_max, err)
                     : rc;
    rc = rc == RC_OK ? args_u32(a, "--rounds", 1, BENCH_ROUNDS_MAX, &b->n_rounds, err) : rc;
    return rc == RC_OK ? bench_rows(b, a, err) : rc;
}

/* ---- output ---- */

/* Between the smallest and the largest round, as a part of the median. */
static double bench_spread(const struct bench_row *r)
{
    return (r->rate_max - r->rate_min) / r->rate;
}

static void bench_text(const struct bench *b, struct buf *out)
{
    const struct engine_info *info = engine_info(b->engine);
    buf_add_printf(out, "%s %s, KV %s, backend %s, %u threads, median of %u rounds\n", info->arch,
                   info->file_type, backend_kv_type_name(b->conf.kv_type), info->backend,
                   info->n_threads, b->n_rounds);
    buf_add_printf(out, "  %-10s %7s %7s %7s %10s %7s   %s\n", "what", "streams", "depth", "tokens",
                   "tokens/s", "spread", "of the memory stream");
    for (uint32_t i = 0; i < b->n_rows; i++) {
        const struct bench_row *r = &b->rows[i];
        buf_add_printf(out, "  %-10s %7u %7u %7u %10.2f %5.1f %%",
                       r->generate ? "generate" : "prompt", r->n_streams, r->depth, r->n_tokens,
                       r->rate, 100 * bench_spread(r));
        if (r->stream_fraction > 0) {
            buf_add_printf(out, "   %.1f of %.1f GB/s: %.0f %%",
                           r->stream_fraction * r->stream_rate * 1e-9, r->stream_rate * 1e-9,
                           100 * r->stream_fraction);
        }
        buf_add_byte(out, '\n');
    }
}

static void bench_json_row(struct json_writer *w, const struct bench_row *r)
{
    json_write_object_begin(w);
    json_write_member_cstr(w, "what", r->generate ? "generate" : "prompt");
    json_write_member_u64(w, "streams", r->n_streams);
    json_write_member_u64(w, "depth", r->depth);
    json_write_member_u64(w, "tokens", r->n_tokens);
    json_write_member_f64(w, "tokens_per_s", r->rate);
    json_write_member_f64(w, "tokens_per_s_min", r->rate_min);
    json_write_member_f64(w, "tokens_per_s_max", r->rate_max);
    json_write_member_f64(w, "stream_gb_per_s", r->stream_rate * 1e-9);
    if (r->stream_fraction > 0) {
        json_write_member_f64(w, "stream_fraction", r->stream_fraction);
    } else {
        json_write_member_null(w, "stream_fraction");
    }
    json_write_object_end(w);
}

static void bench_json(const struct bench *b, struct buf *out)
{
    const struct engine_info *info = engine_info(b->engine);
    struct json_writer w;
    json_write_init(&w, out);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "architecture", info->arch);
    json_write_member_cstr(&w, "type", info->file_type);
    json_write_member_cstr(&w, "kv_type", backend_kv_type_name(b->conf.kv_type));
    json_write_member_cstr(&w, "backend", info->backend);
    json_write_member_u64(&w, "threads", info->n_threads);
    json_write_member_u64(&w, "rounds", b->n_rounds);
    json_write_member_u64(&w, "batch_tokens", b->conf.batch_tokens_max);
    json_write_member_u64(&w, "weight_bytes_per_step", b->step_bytes);
    json_write_member_u64(&w, "weight_bytes", info->weight_bytes);
    json_write_member_u64(&w, "kv_bytes", info->kv_bytes);
    json_write_member_u64(&w, "workspace_bytes", info->workspace_bytes);
    json_write_name(&w, "rows");
    json_write_array_begin(&w);
    for (uint32_t i = 0; i < b->n_rows; i++) {
        bench_json_row(&w, &b->rows[i]);
    }
    json_write_array_end(&w);
    json_write_object_end(&w);
    buf_add_byte(out, '\n');
}

/* ---- command ---- */

static enum rc cmd_bench_main(const struct args *a, struct err *err)
{
    struct bench b;
    enum rc rc = bench_options(&b, a, err);
    rc = rc == RC_OK ? bench_open(&b, args_word(a, 0), err) : rc;
    rc = rc == RC_OK ? bench_run(&b, err) : rc;
    if (rc == RC_OK) {
        struct buf out;
        buf_init(&out, 1 << 16);
        if (args_has(a, "--json")) {
            bench_json(&b, &out);
        } else {
            bench_text(&b, &out);
        }
        rc = print_buf(&out, err);
        buf_deinit(&out);
    }
    bench_close(&b);
    return rc;
}

const struct command cmd_bench = {
    .name = "bench",
    .words = "MODEL",
    .line = "Measure prompt and generation speed against the memory's",
    .help =
        "Random tokens, each round: every prompt length and every number of streams, at every\n"
        "depth. LIST is numbers with commas between, as in --streams 1,2,4,8,16,32. Tokens per\n"
        "second count all streams. The memory stream is what plain reading reaches on the same\n"
        "threads just before; a generated token reads every weight and its sequence's KV cache\n"
        "once. Spread is from the slowest to the fastest round.\n",
    .options = cmd_bench_options,
    .n_words_min = 1,
    .n_words_max = 1,
    .run = cmd_bench_main,
};
