/* Any bytes: a model is refused with a message, or opens and computes: a decoder a step of two
 * tokens, an embedder two texts. */
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/model/embedder.h"
#include "engine/model/head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum rc read_at(struct weight_source *s, uint64_t offset, void *out, size_t n,
                       struct err *err)
{
    UNUSED(err);
    memcpy(out, s->map + offset, n);
    return RC_OK;
}

static void close_nothing(struct weight_source *s)
{
    UNUSED(s);
}

static void step(struct decoder *d)
{
    uint32_t n_vocab = decoder_modelconf(d)->n_vocab;
    float *logits = mem_zalloc_array(n_vocab, sizeof(float));
    const int32_t tokens[] = {0, (int32_t)n_vocab - 1};
    const uint32_t positions[] = {31, 32}, seq_of[] = {0, 0}, pages[] = {1, 0}, rows[] = {1};
    const struct kv_table table = {pages, 2};
    struct decoder_step s = {
        .tokens = tokens,
        .batch = {2, 1, positions, seq_of, &table},
        .n_logit_rows = 1,
        .logit_rows = rows,
        .logits = logits,
    };
    ASSERT(decoder_forward(d, &s, NULL, NULL) == RC_OK);
    mem_free(logits);
}

static void embed(struct embedder *e)
{
    const struct modelconf *c = embedder_modelconf(e);
    float *out = mem_zalloc_array(2 * (size_t)head_width(c), sizeof(float));
    const int32_t tokens[] = {0, (int32_t)c->n_vocab - 1};
    const uint32_t n_tokens[] = {1, 1};
    struct embedder_batch b = {2, n_tokens, tokens, NULL, out};
    embedder_begin(e, &b);
    bool done = embedder_advance(e, UINT32_MAX);
    ASSERT(done);
    mem_free(out);
}

/* Whether the file says that it embeds; the error is met again at open. */
static bool embeds(const struct gguf *g)
{
    struct modelconf c;
    bool yes = modelconf_init(&c, g, NULL) == RC_OK && c.embeds;
    modelconf_deinit(&c);
    return yes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct weight_source source = {
        .size_bytes = size,
        .map = data,
        .name = "fuzz.gguf",
        .read_at = read_at,
        .close = close_nothing,
    };
    struct weight_source *list[] = {&source};
    struct gguf *g = NULL;
    struct decoder *d = NULL;
    struct embedder *e = NULL;
    struct err err = {0};
    struct decoder_conf conf = {
        .backend = backend_find("ref"),
        .backend_conf = {.tokens_max = 2},
        .context_tokens = 64,
        .kv_pages = 2,
        .kv_type = DTYPE_F16,
    };
    enum rc rc = gguf_open(&g, list, 1, &err);
    if (rc == RC_OK && embeds(g)) {
        rc = embedder_open(&e, g, &conf, &err);
    } else if (rc == RC_OK) {
        rc = decoder_open(&d, g, &conf, &err);
    }
    ASSERT(rc == RC_OK || err.msg[0] != '\0');
    if (d != NULL) {
        step(d);
    }
    if (e != NULL) {
        embed(e);
    }
    embedder_close(e);
    decoder_close(d);
    gguf_close(g);
    return 0;
}
