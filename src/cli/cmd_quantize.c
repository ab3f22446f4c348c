/* cmd_quantize.c: `bud quantize`: a model's weights in fewer bits. */
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/print.h"
#include "engine/format/mix.h"
#include "engine/format/requantize.h"

static const struct args_row cmd_quantize_options[] = {
    {"--threads", 't', "N", "threads (default: one per core)"},
    {"--allow-requantize", 0, NULL,
     "take weights that are quantised already (quality is lost twice)"},
    {"--json", 0, NULL, "print JSON"},
    {0},
};

static void cmd_quantize_progress(void *ctx, uint64_t done, uint64_t total)
{
    UNUSED(ctx);
    fprintf(stderr, "\rquantizing %3u %%%s", (unsigned)(total != 0 ? 100 * done / total : 100),
            done == total ? "\n" : "");
}

static void cmd_quantize_print(const struct args *a, const struct requantize_result *r)
{
    char before[32];
    char after[32];
    if (args_has(a, "--json")) {
        printf("{\"bytes_before\":%llu,\"bytes_after\":%llu,\"quantized\":%u,\"kept\":%u,"
               "\"fallback\":%u}\n",
               (unsigned long long)r->bytes_before, (unsigned long long)r->bytes_after,
               r->n_quantized, r->n_kept, r->n_fallback);
        return;
    }
    print_bytes(before, r->bytes_before);
    print_bytes(after, r->bytes_after);
    printf("%s: %s -> %s, %u tensors quantised, %u kept\n", args_word(a, 1), before, after,
           r->n_quantized, r->n_kept);
    if (r->n_fallback > 0) {
        printf("%u of them have widths that %s does not divide and got a near type instead\n",
               r->n_fallback, args_word(a, 2));
    }
}

/* The new file would take the place of the old one while that is read: refused, by inode. */
static enum rc cmd_quantize_check_out(const char *out, struct weight_source *const *sources,
                                      uint32_t n_sources, struct err *err)
{
    struct stat to;
    struct stat from;
    if (stat(out, &to) != 0) {
        return RC_OK;
    }
    for (uint32_t i = 0; i < n_sources; i++) {
        if (stat(sources[i]->name, &from) == 0 && from.st_dev == to.st_dev &&
            from.st_ino == to.st_ino) {
            return err_set(err, RC_CONFLICT, "%s: input and output are the same file", out);
        }
    }
    return RC_OK;
}

static enum rc cmd_quantize_main(const struct args *a, struct err *err)
{
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n_sources = 0;
    struct gguf *g = NULL;
    char path[PATH_MAX];
    struct requantize_result result = {0};
    struct requantize_conf conf = {.mix = args_word(a, 2),
                                   .allow_requantize = args_has(a, "--allow-requantize")};
    if (isatty(STDERR_FILENO)) {
        conf.progress = cmd_quantize_progress;
    }
    enum rc rc = args_u32(a, "--threads", 1, 1024, &conf.n_threads, err);
    rc = rc == RC_OK ? model_path_find(args_word(a, 0), path, err) : rc;
    rc = rc == RC_OK ? weight_source_open_model(sources, &n_sources, path, err) : rc;
    rc = rc == RC_OK ? cmd_quantize_check_out(args_word(a, 1), sources, n_sources, err) : rc;
    rc = rc == RC_OK ? gguf_open(&g, sources, n_sources, err) : rc;
    rc = rc == RC_OK ? requantize_model(g, args_word(a, 1), &conf, &result, err) : rc;
    if (rc == RC_OK) {
        cmd_quantize_print(a, &result);
    }
    gguf_close(g);
    for (uint32_t i = 0; i < n_sources; i++) {
        weight_source_close(sources[i]);
    }
    return rc;
}

const struct command cmd_quantize = {
    .name = "quantize",
    .words = "IN OUT TYPE",
    .line = "Write a model with its weights in fewer bits",
    .help =
        "TYPE is F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0, IQ4_XS, MXFP4 and more; an unknown\n"
        "one lists all. A weight whose width the type does not divide falls back: Q2_K, Q3_K and\n"
        "IQ4_XS to IQ4_NL, Q4_K to Q5_0, Q5_K to Q5_1, Q6_K to Q8_0, and what 32 does not divide\n"
        "to F16. Norms and biases stay as they are.\n",
    .options = cmd_quantize_options,
    .n_words_min = 3,
    .n_words_max = 3,
    .run = cmd_quantize_main,
};
