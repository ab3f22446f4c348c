/* engine.c: the door: opens a model's parts in order, hands batches to the decoder.
 *
 *   weight sources ──► gguf ──► modelconf ──► weights ──► backend packs or maps them
 *                       │                                        │
 *                       ├──► vocab, template                     │
 *                       ▼                                        ▼
 *   engine_forward(batch)             decoder (model/decoder.c) on a backend (cpu/)
 *
 *      tokens[T]  ──────────► embed ─────────► x [T, C]
 *      positions[T] ────────► cos, sin           │
 *                                   ┌────────────┤◄───────── next layer, unless *cancel
 *      seq_of[T], page tables       │            ▼
 *            │                      │   norm → q,k,v → rope → attention → out ─┐
 *            └── which pages ───────┼──────────────────────────────┘           │
 *                                   │   x += ◄─────────────────────────────────┘
 *                                   │   norm → gate,up → act → down ─┐ (or experts)
 *                                   └── x += ◄───────────────────────┘
 *      logit_rows ──────────► those rows of x → norm → output → logits [rows, V]
 *
 * Invariants: 1. whatever a file can get wrong is found in engine_open; engine_forward fails by
 * cancellation alone; 2. weights, vocabulary, template and info never change after open.
 *
 * Not here: the network (model/), page hand-out and scheduling (server/). */
#include "engine/engine.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/thread.h"
#include "engine/format/gguf.h"
#include "engine/model/embedder.h"
#include "engine/model/head.h"
#include "engine/token/template.h"

/* A longer step would freeze every stream for seconds; a bigger pool is a typing mistake. */
enum { ENGINE_BATCH_MAX = 1 << 14, ENGINE_KV_PAGES_MAX = 1 << 24 };

/* Backends count the heads of a batch in 32 bits; a head has at least two channels. */
_Static_assert(MODELCONF_WIDTH_MAX / 2 * (uint64_t)ENGINE_BATCH_MAX < UINT32_MAX,
               "heads of a batch");

struct engine {
    struct engine_info info;
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n_sources;
    struct gguf *gguf;       /* until everything is open */
    struct decoder *decoder; /* generators; or: */
    struct embedder *embedder;
    struct vocab *vocab;
    struct template *template;
    struct buf rerank_template;
    struct err template_err; /* why there is no template, when the file has one */
};

/* ---- open ---- */

/* The limits in force: what was asked for, else the defaults; never more than the model has. */
static enum rc settle_limits(struct engine *e, const struct engine_conf *conf,
                             struct decoder_conf *out, struct err *err)
{
    struct modelconf model;
    enum rc rc = modelconf_init(&model, e->gguf, err);
    if (rc != RC_OK) {
        return rc;
    }
    uint32_t trained = model.context_trained;
    bool embeds = model.embeds;
    modelconf_deinit(&model);
    if (conf->context_tokens > trained && !embeds) {
        return err_set(err, RC_INVALID, "context of %u tokens asked for, the model has %u",
                       conf->context_tokens, trained);
    }
    /* One setting for all models of a server: embedders, whose texts are shorter, take what they
     * can. */
    out->context_tokens = conf->context_tokens > 0 ? MIN(conf->context_tokens, trained)
                                                   : MIN(trained, (uint32_t)ENGINE_CONTEXT_DEFAULT);
    out->kv_pages = conf->kv_pages > 0
                        ? conf->kv_pages
                        : (out->context_tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    out->backend_conf.tokens_max =
        conf->batch_tokens_max > 0 ? conf->batch_tokens_max : ENGINE_BATCH_DEFAULT;
    if (embeds) { /* a text goes through whole */
        out->backend_conf.tokens_max = MAX(out->backend_conf.tokens_max, out->context_tokens);
    }
    if (out->backend_conf.tokens_max > ENGINE_BATCH_MAX || out->kv_pages > ENGINE_KV_PAGES_MAX) {
        return err_set(err, RC_INVALID, "batch of %u tokens, %u pages: limits are %u and %u",
                       out->backend_conf.tokens_max, out->kv_pages, ENGINE_BATCH_MAX,
                       ENGINE_KV_PAGES_MAX);
    }
    if (!backend_kv_type(conf->kv_type)) {
        return err_set(err, RC_UNSUPPORTED, "keys and values are kept as f16, f32, bf16 or q8");
    }
    out->kv_type = conf->kv_type;
    return RC_OK;
}

static enum rc pick_backend(const struct engine_conf *conf, struct decoder_conf *out,
                            struct err *err)
{
    out->backend = backend_find(conf->backend);
    if (out->backend == NULL) {
        char known[64] = "";
        for (const struct backend_ops *const *b = backend_all(); *b != NULL; b++) {
            size_t used = strlen(known);
            (void)snprintf(known + used, sizeof(known) - used, " %s", (*b)->name);
        }
        return err_set(err, RC_UNSUPPORTED,
                       "backend \"%s\" is not in this build or not for this machine; known are:%s",
                       conf->backend, known);
    }
    uint32_t n_cpus = MIN(MAX(thread_cpus(NULL, 0), 1u), (uint32_t)BACKEND_THREADS_MAX);
    out->backend_conf.n_threads = conf->n_threads > 0 ? conf->n_threads : n_cpus;
    out->backend_conf.pin = conf->pin;
    out->memory_bytes_max = conf->memory_bytes_max;
    out->progress = conf->progress;
    out->progress_ctx = conf->progress_ctx;
    return RC_OK;
}

static const struct modelconf *engine_modelconf(const struct engine *e)
{
    return e->embedder != NULL ? embedder_modelconf(e->embedder) : decoder_modelconf(e->decoder);
}

static enum rc open_model(struct engine *e, const struct decoder_conf *conf, struct err *err)
{
    struct modelconf model;
    enum rc rc = modelconf_init(&model, e->gguf, err);
    if (rc != RC_OK) {
        return rc;
    }
    bool embeds = model.embeds;
    modelconf_deinit(&model);
    return embeds ? embedder_open(&e->embedder, e->gguf, conf, err)
                  : decoder_open(&e->decoder, e->gguf, conf, err);
}

static enum rc open_vocab(struct engine *e, struct err *err)
{
    enum rc rc = vocab_create(&e->vocab, e->gguf, err);
    if (rc != RC_OK) {
        return rc;
    }
    uint32_t n_vocab = engine_modelconf(e)->n_vocab;
    if (vocab_size(e->vocab) != n_vocab) {
        return err_set(err, RC_CORRUPT, "%s: %u tokens in the vocabulary, %u rows in the embedding",
                       gguf_name(e->gguf), vocab_size(e->vocab), n_vocab);
    }
    return RC_OK;
}

/* A template that we cannot compile costs chat, not the model. */
static enum rc open_template(struct engine *e, struct err *err)
{
    struct str source;
    enum rc rc = gguf_get_str(e->gguf, "tokenizer.chat_template", STR_NULL, &source, err);
    if (rc != RC_OK || source.len == 0) {
        return rc;
    }
    if (template_compile(&e->template, source, &e->template_err) != RC_OK) {
        e->template = NULL;
    }
    return RC_OK;
}

/* A part of the file's metadata, which goes when everything is open. */
static enum rc keep_rerank_template(struct engine *e, struct err *err)
{
    struct str text;
    enum rc rc = gguf_get_str(e->gguf, "tokenizer.chat_template.rerank", STR_NULL, &text, err);
    buf_init(&e->rerank_template, 1 << 20);
    if (rc == RC_OK && text.len > 0) {
        buf_add_str(&e->rerank_template, text);
    }
    return rc != RC_OK || buf_ok(&e->rerank_template)
               ? rc
               : err_set(err, RC_CORRUPT, "%s: the rerank template is too long",
                         gguf_name(e->gguf));
}

static void fill_info(struct engine *e, const struct decoder_conf *conf)
{
    bool embeds = e->embedder != NULL;
    const struct modelconf *c = engine_modelconf(e);
    const struct weights *w = embeds ? embedder_weights(e->embedder) : decoder_weights(e->decoder);
    struct decoder_memory memory =
        embeds ? embedder_memory(e->embedder) : decoder_memory(e->decoder);
    struct engine_info *i = &e->info;
    i->kind = !embeds                      ? ENGINE_GENERATOR
              : c->pooling == POOLING_RANK ? ENGINE_RERANKER
                                           : ENGINE_EMBEDDER;
    i->n_out = embeds ? head_width(c) : 0;
    i->n_segments = c->n_token_types;
    i->texts_max = embeds ? MIN((uint32_t)EMBEDDER_TEXTS_MAX, conf->backend_conf.tokens_max) : 0;
    str_copy(i->name, sizeof(i->name), str_from(c->name));
    str_copy(i->arch, sizeof(i->arch), str_from(c->arch->name));
    str_copy(i->backend, sizeof(i->backend), str_from(conf->backend->name));
    str_copy(i->file_type, sizeof(i->file_type), str_from(dtype_row(w->main_type)->name));
    i->n_params = w->n_params;
    i->weight_bytes = memory.weight_bytes;
    i->kv_bytes = memory.kv_bytes;
    i->workspace_bytes = memory.workspace_bytes;
    i->n_layers = c->n_layers;
    i->n_embd = c->n_embd;
    i->n_vocab = c->n_vocab;
    i->context_trained = c->context_trained;
    i->context_tokens = conf->context_tokens;
    i->kv_pages = embeds ? 0 : conf->kv_pages;
    i->batch_tokens_max = conf->backend_conf.tokens_max;
    i->n_threads = conf->backend_conf.n_threads;
}

static enum rc open_parts(struct engine *e, const struct engine_conf *conf, struct err *err)
{
    struct decoder_conf decoder = {0};
    enum rc rc = gguf_open(&e->gguf, e->sources, e->n_sources, err);
    if (rc == RC_OK) {
        rc = settle_limits(e, conf, &decoder, err);
    }
    if (rc == RC_OK) {
        rc = pick_backend(conf, &decoder, err);
    }
    if (rc == RC_OK) {
        rc = open_model(e, &decoder, err);
    }
    if (rc == RC_OK) {
        rc = open_vocab(e, err);
    }
    if (rc == RC_OK) {
        rc = open_template(e, err);
    }
    if (rc == RC_OK) {
        rc = keep_rerank_template(e, err);
    }
    if (rc == RC_OK) {
        fill_info(e, &decoder);
    }
    return rc;
}

RC engine_open(struct engine **out, struct weight_source **sources, uint32_t n_sources,
               const struct engine_conf *conf, struct err *err)
{
    ASSERT(n_sources > 0 && n_sources <= WEIGHT_SOURCES_MAX);
    struct engine *e = mem_zalloc(sizeof(*e));
    for (uint32_t i = 0; i < n_sources; i++) {
        e->sources[i] = sources[i];
    }
    e->n_sources = n_sources;
    enum rc rc = open_parts(e, conf, err);
    if (rc != RC_OK) {
        engine_close(e);
        return rc;
    }
    /* What is needed was copied: the largest vocabularies have 40 MB of metadata. */
    gguf_close(e->gguf);
    e->gguf = NULL;
    *out = e;
    return RC_OK;
}

void engine_close(struct engine *e)
{
    if (e == NULL) {
        return;
    }
    template_destroy(e->template);
    buf_deinit(&e->rerank_template);
    vocab_destroy(e->vocab);
    decoder_close(e->decoder);
    embedder_close(e->embedder);
    gguf_close(e->gguf);
    for (uint32_t i = 0; i < e->n_sources; i++) {
        weight_source_close(e->sources[i]);
    }
    mem_free(e);
}

/* ---- what others read ---- */

const struct engine_info *engine_info(const struct engine *e)
{
    return &e->info;
}

const struct vocab *engine_vocab(const struct engine *e)
{
    return e->vocab;
}

const struct template *engine_template(const struct engine *e)
{
    return e->template;
}

struct str engine_rerank_template(const struct engine *e)
{
    return buf_str(&e->rerank_template);
}

const char *engine_template_error(const struct engine *e)
{
    return e->template_err.msg;
}

/* ---- forward ---- */

RC engine_forward(struct engine *e, const struct engine_batch *b, const _Atomic bool *cancel,
                  struct err *err)
{
    ASSERT(e->decoder != NULL);
    struct decoder_step step = {
        .tokens = b->tokens,
        .batch =
            {
                .n_tokens = b->n_tokens,
                .n_seqs = b->n_seqs,
                .positions = b->positions,
                .seq_of = b->seq_of,
                .seqs = b->seqs,
            },
        .n_logit_rows = b->n_logit_rows,
        .logit_rows = b->logit_rows,
        .logits = b->logits,
        .hidden = b->hidden,
    };
    return decoder_forward(e->decoder, &step, cancel, err);
}

void engine_kv_copy(struct engine *e, uint32_t from_page, uint32_t to_page)
{
    ASSERT(from_page < e->info.kv_pages && to_page < e->info.kv_pages);
    decoder_kv_copy(e->decoder, from_page, to_page);
}

/* ---- embed ---- */

void engine_embed_begin(struct engine *e, const struct engine_embed_batch *b)
{
    ASSERT(e->embedder != NULL);
    struct embedder_batch batch = {
        .n_texts = b->n_texts,
        .n_tokens = b->n_tokens,
        .tokens = b->tokens,
        .segments = b->segments,
        .out = b->out,
    };
    embedder_begin(e->embedder, &batch);
}

bool engine_embed_advance(struct engine *e, uint32_t n_layers)
{
    return embedder_advance(e->embedder, n_layers);
}

void engine_embed(struct engine *e, const struct engine_embed_batch *b)
{
    engine_embed_begin(e, b);
    bool done = engine_embed_advance(e, UINT32_MAX);
    ASSERT(done);
}
