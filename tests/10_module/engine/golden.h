/* golden.h: what the engine's module tests share: opening a model file, golden logits, page tables
 * and one-call forwards. Formats: tests/golden/README.md. */
#ifndef TESTS_ENGINE_GOLDEN_H
#define TESTS_ENGINE_GOLDEN_H

#include "check.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/engine.h"

static inline struct engine *golden_open(const char *path, const struct engine_conf *conf)
{
    struct err err = {0};
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n_sources = 0;
    struct engine *e = NULL;
    if (weight_source_open_model(sources, &n_sources, path, &err) != RC_OK ||
        engine_open(&e, sources, n_sources, conf, &err) != RC_OK) {
        fail_msg("%s: %s", path, err.msg);
    }
    return e;
}

/* A .logits file. */
struct golden {
    struct buf bytes;
    uint32_t n_tokens, n_vocab, n_rows;
    const int32_t *tokens;
    const int32_t *rows;
    const float *logits;
};

static inline void golden_read(struct golden *g, const char *path)
{
    struct err err = {0};
    buf_init(&g->bytes, 1 << 24);
    if (file_read(path, &g->bytes, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    const char *at = g->bytes.ptr;
    assert_memory_equal(at, "BUDLOGIT", 8);
    memcpy(&g->n_tokens, at + 8, 4);
    memcpy(&g->n_vocab, at + 12, 4);
    memcpy(&g->n_rows, at + 16, 4);
    size_t words = g->n_tokens + g->n_rows + (size_t)g->n_rows * g->n_vocab;
    assert_int_equal(g->bytes.len, 20 + 4 * words);
    g->tokens = (const int32_t *)(const void *)(at + 20);
    g->rows = g->tokens + g->n_tokens;
    g->logits = (const float *)(const void *)(g->rows + g->n_rows);
}

static inline void golden_done(struct golden *g)
{
    buf_deinit(&g->bytes);
}

/* A piece of one sequence: tokens[from … to) at their own positions. */
struct golden_piece {
    const int32_t *tokens;
    uint32_t from, to;
    struct kv_table table;
};

enum { GOLDEN_TOKENS_MAX = 512, GOLDEN_PIECES_MAX = 8 };

/* One forward of several pieces, each a sequence of its own; logits of every row. */
static inline void golden_forward(struct engine *e, const struct golden_piece *pieces, uint32_t n,
                                  float *logits)
{
    int32_t tokens[GOLDEN_TOKENS_MAX];
    uint32_t positions[GOLDEN_TOKENS_MAX], seq_of[GOLDEN_TOKENS_MAX], rows[GOLDEN_TOKENS_MAX];
    struct kv_table tables[GOLDEN_PIECES_MAX];
    uint32_t t = 0;
    for (uint32_t s = 0; s < n; s++) {
        tables[s] = pieces[s].table;
        for (uint32_t i = pieces[s].from; i < pieces[s].to; i++, t++) {
            tokens[t] = pieces[s].tokens[i];
            positions[t] = i;
            seq_of[t] = s;
            rows[t] = t;
        }
    }
    struct engine_batch b = {
        .n_tokens = t,
        .tokens = tokens,
        .positions = positions,
        .seq_of = seq_of,
        .n_seqs = n,
        .seqs = tables,
        .n_logit_rows = t,
        .logit_rows = rows,
        .logits = logits,
    };
    struct err err = {0};
    assert_int_equal(engine_forward(e, &b, NULL, &err), RC_OK);
}

static inline double golden_max_diff(const float *a, const float *b, size_t n)
{
    double max = 0;
    for (size_t i = 0; i < n; i++) {
        double diff = fabs((double)a[i] - (double)b[i]);
        max = diff > max || isnan(diff) ? diff : max;
    }
    return max;
}

#endif
