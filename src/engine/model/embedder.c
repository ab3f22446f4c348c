/* embedder.c: see embedder.h. A decoder's texts get page after page of a memory that nobody else
 * uses: nothing in it outlives its batch. */
#include "engine/model/embedder.h"

#include "base/assert.h"
#include "base/mem.h"
#include "engine/model/encoder.h"
#include "engine/model/head.h"

struct embedder {
    struct encoder *encoder; /* or: */
    struct decoder *decoder;
    struct head head;
    uint32_t tokens_max, texts_max;
    struct embedder_batch batch; /* under way */
    bool running;
    /* Of the batch. */
    uint32_t *positions, *seq_of; /* [tokens_max] */
    uint32_t *first;              /* [texts_max] a text's first row */
    /* Decoders alone. */
    struct kv_table *tables; /* [texts_max] */
    uint32_t *pages;         /* 0, 1, 2 … */
    uint32_t *rows;          /* [tokens_max] whose states are wanted */
    float *hidden;           /* of those rows */
};

/* ---- a batch ---- */

static uint32_t lay_out(struct embedder *e, const struct embedder_batch *b)
{
    uint32_t n = 0;
    ASSERT(b->n_texts > 0 && b->n_texts <= e->texts_max);
    for (uint32_t i = 0; i < b->n_texts; i++) {
        ASSERT(b->n_tokens[i] > 0 && b->n_tokens[i] <= e->tokens_max - n);
        e->first[i] = n;
        for (uint32_t p = 0; p < b->n_tokens[i]; p++, n++) {
            e->positions[n] = p;
            e->seq_of[n] = i;
        }
    }
    return n;
}

void embedder_begin(struct embedder *e, const struct embedder_batch *b)
{
    ASSERT(!e->running);
    e->batch = *b;
    e->running = true;
    uint32_t n_tokens = lay_out(e, b);
    if (e->encoder != NULL) {
        struct encoder_step step = {
            .tokens = b->tokens,
            .segments = b->segments,
            .batch = {.n_tokens = n_tokens,
                      .n_seqs = b->n_texts,
                      .positions = e->positions,
                      .seq_of = e->seq_of},
        };
        encoder_begin(e->encoder, &step);
    }
}

/* The rows that the pooling looks at: all, or one of each text. */
static uint32_t wanted_rows(const struct embedder *e)
{
    const struct modelconf *c = decoder_modelconf(e->decoder);
    const struct embedder_batch *b = &e->batch;
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->n_texts; i++) {
        uint32_t last = e->first[i] + b->n_tokens[i] - 1;
        bool all = c->pooling == POOLING_MEAN;
        for (uint32_t row = all || c->pooling == POOLING_FIRST ? e->first[i] : last; row <= last;
             row = all ? row + 1 : last + 1) {
            e->rows[n++] = row;
        }
    }
    return n;
}

static void run_decoder(struct embedder *e)
{
    const struct embedder_batch *b = &e->batch;
    uint32_t n_pages = 0;
    for (uint32_t i = 0; i < b->n_texts; i++) {
        uint32_t n = (b->n_tokens[i] + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
        e->tables[i] = (struct kv_table){e->pages + n_pages, n};
        n_pages += n;
    }
    struct decoder_step step = {
        .tokens = b->tokens,
        .batch = {.n_tokens = e->first[b->n_texts - 1] + b->n_tokens[b->n_texts - 1],
                  .n_seqs = b->n_texts,
                  .positions = e->positions,
                  .seq_of = e->seq_of,
                  .seqs = e->tables},
        .n_logit_rows = wanted_rows(e),
        .logit_rows = e->rows,
        .hidden = e->hidden,
    };
    enum rc rc = decoder_forward(e->decoder, &step, NULL, NULL);
    ASSERT(rc == RC_OK); /* it fails by cancellation alone */
}

bool embedder_advance(struct embedder *e, uint32_t n_layers)
{
    ASSERT(e->running && n_layers > 0);
    const struct embedder_batch *b = &e->batch;
    struct head_texts texts = {.n_texts = b->n_texts, .first = e->first, .n = b->n_tokens};
    if (e->encoder != NULL) {
        if (!encoder_layers(e->encoder, n_layers)) {
            return false;
        }
        texts.hidden = encoder_hidden(e->encoder);
    } else {
        run_decoder(e);
        texts.hidden = e->hidden;
        bool all = decoder_modelconf(e->decoder)->pooling == POOLING_MEAN;
        texts.n = all ? texts.n : NULL;
    }
    head_apply(&e->head, &texts, b->out);
    e->running = false;
    return true;
}

/* ---- life ---- */

static enum rc open_decoder(struct embedder *e, const struct gguf *g,
                            const struct decoder_conf *conf, struct err *err)
{
    struct decoder_conf own = *conf;
    own.kv_pages = e->tokens_max / KV_PAGE_TOKENS + e->texts_max;
    enum rc rc = decoder_open(&e->decoder, g, &own, err);
    if (rc != RC_OK) {
        return rc;
    }
    uint32_t n_embd = decoder_modelconf(e->decoder)->n_embd;
    e->tables = mem_zalloc_array(e->texts_max, sizeof(*e->tables));
    e->pages = mem_zalloc_array(own.kv_pages, sizeof(*e->pages));
    e->rows = mem_zalloc_array(e->tokens_max, sizeof(*e->rows));
    e->hidden = mem_try_zalloc_array((size_t)e->tokens_max * n_embd, sizeof(*e->hidden));
    for (uint32_t i = 0; i < own.kv_pages; i++) {
        e->pages[i] = i;
    }
    return e->hidden != NULL
               ? RC_OK
               : err_set(err, RC_NOMEM, "no memory for the states of %u tokens", e->tokens_max);
}

static enum rc open_network(struct embedder *e, const struct gguf *g,
                            const struct decoder_conf *conf, struct err *err)
{
    struct modelconf c;
    enum rc rc = modelconf_init(&c, g, err);
    if (rc != RC_OK) {
        return rc;
    }
    bool encoder = modelconf_has(&c, ARCH_ENCODER);
    modelconf_deinit(&c);
    return encoder ? encoder_open(&e->encoder, g, conf, err) : open_decoder(e, g, conf, err);
}

RC embedder_open(struct embedder **out, const struct gguf *g, const struct decoder_conf *conf,
                 struct err *err)
{
    struct embedder *e = mem_zalloc(sizeof(*e));
    e->tokens_max = conf->backend_conf.tokens_max;
    e->texts_max = MIN(e->tokens_max, (uint32_t)EMBEDDER_TEXTS_MAX);
    e->positions = mem_zalloc_array(e->tokens_max, sizeof(*e->positions));
    e->seq_of = mem_zalloc_array(e->tokens_max, sizeof(*e->seq_of));
    e->first = mem_zalloc_array(e->texts_max, sizeof(*e->first));
    enum rc rc = open_network(e, g, conf, err);
    if (rc == RC_OK) {
        rc = head_init(&e->head, embedder_modelconf(e), embedder_weights(e),
                       embedder_weights(e)->backend, e->texts_max, err);
    }
    if (rc != RC_OK) {
        embedder_close(e);
        return rc;
    }
    *out = e;
    return RC_OK;
}

void embedder_close(struct embedder *e)
{
    if (e == NULL) {
        return;
    }
    head_deinit(&e->head);
    encoder_close(e->encoder);
    decoder_close(e->decoder);
    mem_free(e->positions);
    mem_free(e->seq_of);
    mem_free(e->first);
    mem_free(e->tables);
    mem_free(e->pages);
    mem_free(e->rows);
    mem_free(e->hidden);
    mem_free(e);
}

const struct modelconf *embedder_modelconf(const struct embedder *e)
{
    return e->encoder != NULL ? encoder_modelconf(e->encoder) : decoder_modelconf(e->decoder);
}

const struct weights *embedder_weights(const struct embedder *e)
{
    return e->encoder != NULL ? encoder_weights(e->encoder) : decoder_weights(e->decoder);
}

struct decoder_memory embedder_memory(const struct embedder *e)
{
    return e->encoder != NULL ? encoder_memory(e->encoder) : decoder_memory(e->decoder);
}
