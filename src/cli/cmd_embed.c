/* cmd_embed.c: `bud embed`: what an embedder or a reranker makes of a few texts. */
#include "api/embed.h"
#include "api/rerank.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/local.h"
#include "cli/model_path.h"
#include "cli/print.h"
#include "server/embed_tokens.h"

enum { EMBED_OUT_BYTES_MAX = 64 << 20, EMBED_SHOWN_CHARS = 60 };

static const struct args_row cmd_embed_options[] = {
    {"--json", 0, NULL, "print the reply that /v1/embeddings or /v1/rerank would give"},
    {"--dimensions", 0, "N", "the vectors' first N numbers, made unit length again"},
    LOCAL_ENGINE_OPTIONS,
    {0},
};

struct embed_run {
    const struct args *args;
    struct engine *engine;
    struct arena arena;
    struct embed_texts texts;
    uint32_t n_tokens;
    struct str *words; /* the texts given */
    uint32_t n_words;
    float *out; /* [texts.n, width] */
    uint32_t width;
};

/* ---- work ---- */

static enum rc embed_open(struct embed_run *r, struct err *err)
{
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n_sources = 0;
    char path[PATH_MAX];
    struct engine_conf conf = {0};
    enum rc rc = local_engine_conf(r->args, &conf, err);
    rc = rc == RC_OK ? model_path_find(args_word(r->args, 0), path, err) : rc;
    rc = rc == RC_OK ? weight_source_open_model(sources, &n_sources, path, err) : rc;
    rc = rc == RC_OK ? engine_open(&r->engine, sources, n_sources, &conf, err) : rc;
    if (rc == RC_OK && engine_info(r->engine)->kind == ENGINE_GENERATOR) {
        rc = err_set(err, RC_UNSUPPORTED, "%s writes text: use bud run", args_word(r->args, 0));
    }
    return rc;
}

static enum rc embed_read_words(struct embed_run *r, struct err *err)
{
    r->n_words = args_n_words(r->args) - 1;
    r->words = arena_alloc_array(&r->arena, r->n_words, sizeof(*r->words));
    if (r->words == NULL) {
        return err_set(err, RC_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < r->n_words; i++) {
        r->words[i] = str_from(args_word(r->args, i + 1));
    }
    return RC_OK;
}

/* A reranker's first text is the query, the others are documents. */
static enum rc embed_encode(struct embed_run *r, struct err *err)
{
    if (engine_info(r->engine)->kind == ENGINE_RERANKER) {
        if (r->n_words < 2) {
            return err_set(err, RC_MISSING, "a reranker takes a query and documents");
        }
        struct api_rerank_request pairs = {
            .query = r->words[0], .documents = r->words + 1, .n_documents = r->n_words - 1};
        return embed_tokens_pairs(r->engine, &pairs, &r->arena, &r->texts, &r->n_tokens, err);
    }
    struct api_prompt *prompts = arena_alloc_array(&r->arena, r->n_words, sizeof(*prompts));
    if (prompts == NULL) {
        return err_set(err, RC_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < r->n_words; i++) {
        prompts[i].text = r->words[i];
    }
    struct api_embed_request inputs = {.inputs = {prompts, r->n_words}};
    return embed_tokens_inputs(r->engine, &inputs, &r->arena, &r->texts, &r->n_tokens, err);
}

static enum rc embed_compute(struct embed_run *r, struct err *err)
{
    const struct engine_info *info = engine_info(r->engine);
    size_t at = 0;
    uint32_t dimensions = info->n_out;
    enum rc rc = args_u32(r->args, "--dimensions", 1, info->n_out, &dimensions, err);
    r->out = arena_alloc_array(&r->arena, (size_t)r->texts.n * info->n_out, sizeof(*r->out));
    if (rc == RC_OK && r->out == NULL) {
        rc = err_set(err, RC_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; rc == RC_OK && i < r->texts.n; i++) {
        struct engine_embed_batch b = {
            .n_texts = 1,
            .n_tokens = r->texts.n_tokens + i,
            .tokens = r->texts.tokens + at,
            .segments = r->texts.segments != NULL ? r->texts.segments + at : NULL,
            .out = r->out + (size_t)i * info->n_out,
        };
        engine_embed(r->engine, &b);
        at += r->texts.n_tokens[i];
    }
    if (rc == RC_OK && info->kind == ENGINE_EMBEDDER && dimensions < info->n_out) {
        api_embed_shorten(r->out, r->texts.n, info->n_out, dimensions);
    }
    r->width = dimensions;
    return rc;
}

/* ---- print ---- */

static void embed_print_vector(const struct embed_run *r, struct buf *out)
{
    for (uint32_t i = 0; i < r->width; i++) {
        buf_add_printf(out, "%.7g\n", (double)r->out[i]);
    }
}

/* How near each text is to the first. */
static void embed_print_similarities(const struct embed_run *r, struct buf *out)
{
    for (uint32_t i = 1; i < r->n_words; i++) {
        double dot = 0;
        for (uint32_t k = 0; k < r->width; k++) {
            dot += (double)r->out[k] * (double)r->out[(size_t)i * r->width + k];
        }
        buf_add_printf(out, "%8.4f  ", dot);
        print_escaped(out, r->words[i], EMBED_SHOWN_CHARS);
        buf_add_byte(out, '\n');
    }
}

static void embed_print_ranking(struct embed_run *r, bool json, struct buf *out)
{
    uint32_t n = r->texts.n;
    struct api_rerank_result *results = arena_alloc_array(&r->arena, n, sizeof(*results));
    for (uint32_t i = 0; results != NULL && i < n; i++) {
        results[i] = (struct api_rerank_result){i, r->out[i]};
    }
    if (results == NULL) {
        return;
    }
    api_rerank_sort(results, n);
    if (json) {
        struct api_rerank_reply reply = {.id = STR_LIT("rerank-local"),
                                         .model = str_from(args_word(r->args, 0)),
                                         .results = results,
                                         .n = n,
                                         .n_tokens = r->n_tokens};
        api_rerank_write(out, &reply);
        buf_add_byte(out, '\n');
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        buf_add_printf(out, "%8.4f  ", (double)results[i].relevance);
        print_escaped(out, r->words[results[i].index + 1], EMBED_SHOWN_CHARS);
        buf_add_byte(out, '\n');
    }
}

static enum rc embed_print(struct embed_run *r, struct err *err)
{
    struct buf out;
    bool json = args_has(r->args, "--json");
    buf_init(&out, EMBED_OUT_BYTES_MAX);
    if (engine_info(r->engine)->kind == ENGINE_RERANKER) {
        embed_print_ranking(r, json, &out);
    } else if (json) {
        struct api_embed_reply reply = {.model = str_from(args_word(r->args, 0)),
                                        .vectors = r->out,
                                        .n = r->texts.n,
                                        .n_dims = r->width,
                                        .n_tokens = r->n_tokens};
        api_embed_write(&out, &reply);
        buf_add_byte(&out, '\n');
    } else if (r->n_words == 1) {
        embed_print_vector(r, &out);
    } else {
        embed_print_similarities(r, &out);
    }
    enum rc rc = print_buf(&out, err);
    buf_deinit(&out);
    return rc;
}

static enum rc cmd_embed_main(const struct args *a, struct err *err)
{
    struct embed_run r = {.args = a};
    arena_init(&r.arena, (size_t)1 << 30);
    enum rc rc = embed_open(&r, err);
    rc = rc == RC_OK ? embed_read_words(&r, err) : rc;
    rc = rc == RC_OK ? embed_encode(&r, err) : rc;
    rc = rc == RC_OK ? embed_compute(&r, err) : rc;
    rc = rc == RC_OK ? embed_print(&r, err) : rc;
    engine_close(r.engine);
    arena_deinit(&r.arena);
    return rc;
}

const struct command cmd_embed = {
    .name = "embed",
    .words = "MODEL TEXT [TEXT…]",
    .line = "Embed texts, compare them, or rank documents by a query",
    .help = "One text: its vector, a number a line. Several: how near the others are to the first, "
            "from -1 to 1.\nWith a reranker the first text is the query, the others are the "
            "documents, best first.",
    .options = cmd_embed_options,
    .n_words_min = 2,
    .n_words_max = ARGS_WORDS_MAX,
    .run = cmd_embed_main,
};
