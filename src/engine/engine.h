/* engine.h: the engine's door: load a model, run batches of it (ARCHITECTURE §2a).
 *
 * The engine owns weights and KV bytes; who gets which page is the caller's business
 * (server/kv_pages): page ids are indices below engine_info.kv_pages. One thread calls
 * engine_forward or, on embedders and rerankers, engine_embed; engine_info, engine_vocab and
 * engine_template may be read by any thread. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdatomic.h>

#include "base/err.h"
#include "engine/tensor/backend.h"
#include "engine/tensor/weight_source.h"
#include "engine/token/token.h"

struct engine;   /* a loaded model */
struct template; /* engine/token/template.h */

struct engine_conf {
    const char *backend;       /* NULL = fastest available; "ref", "cpu" */
    uint32_t n_threads;        /* 0 = one per usable core, at most BACKEND_THREADS_MAX */
    bool pin;                  /* pin compute threads */
    uint32_t context_tokens;   /* longest sequence, at most the model's own (RC_INVALID);
                                * 0 = the model's own, at most ENGINE_CONTEXT_DEFAULT */
    uint32_t kv_pages;         /* of KV_PAGE_TOKENS; 0 = one sequence of context_tokens */
    uint32_t batch_tokens_max; /* rows of one forward; 0 = ENGINE_BATCH_DEFAULT */
    enum dtype kv_type;        /* of the KV cache: one of backend_kv_type; the commands' is F16 */
    uint64_t memory_bytes_max; /* what this process may use: a model whose weights, pages and
                                * workspace need more is refused (RC_INVALID); 0 = do not look */
    /* Loading progress in bytes, called on the loading thread; may be NULL. */
    void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_ctx;
};

enum { ENGINE_BATCH_DEFAULT = 512, ENGINE_CONTEXT_DEFAULT = 8192 };

enum engine_kind {
    ENGINE_GENERATOR, /* tokens in, logits out */
    ENGINE_EMBEDDER,  /* texts in, vectors of unit length out */
    ENGINE_RERANKER,  /* pairs of texts in, relevances out */
};

struct engine_info {
    enum engine_kind kind;
    char name[128]; /* general.name, or "" */
    char arch[32];
    char backend[16];
    char file_type[32]; /* the type most weights have, "Q4_K" */
    uint64_t n_params;
    uint64_t weight_bytes; /* as mapped or packed */
    uint64_t kv_bytes;
    uint64_t workspace_bytes;
    uint32_t n_layers, n_embd, n_vocab;
    uint32_t n_out;           /* floats of each text that engine_embed makes; 0 for generators */
    uint32_t n_segments;      /* token types that tell the texts of a pair apart; 0 = none */
    uint32_t texts_max;       /* of one engine_embed; 0 for generators */
    uint32_t context_trained; /* the model's own limit */
    uint32_t context_tokens;  /* the limit in force */
    uint32_t kv_pages;
    uint32_t batch_tokens_max;
    uint32_t n_threads; /* that the backend may use; "ref" uses one */
};

/* Takes the sources over, also on failure. Checks every shape against the architecture before the
 * first forward. Unknown architectures are RC_UNSUPPORTED with the list of known ones. */
RC engine_open(struct engine **out, struct weight_source **sources, uint32_t n_sources,
               const struct engine_conf *conf, struct err *err);
/* NULL is allowed. */
void engine_close(struct engine *e);

const struct engine_info *engine_info(const struct engine *e);
const struct vocab *engine_vocab(const struct engine *e);
/* The model's own chat template, compiled; NULL when it has none or it cannot be compiled. */
const struct template *engine_template(const struct engine *e);
/* How a reranker wants query and document to be put to it: a text with {query} and {document} in
 * it; empty when the file has none. */
struct str engine_rerank_template(const struct engine *e);
/* Why the model's template could not be compiled; "" otherwise. */
const char *engine_template_error(const struct engine *e);

/* Flat batch: row t is token tokens[t] at positions[t] of sequence seq_of[t]. Rows of a sequence
 * are adjacent with consecutive positions, its earlier positions are already in its pages, and
 * its page table covers the last row. */
struct engine_batch {
    uint32_t n_tokens; /* 1 … batch_tokens_max */
    const int32_t *tokens;
    const uint32_t *positions;
    const uint32_t *seq_of;
    uint32_t n_seqs;
    const struct kv_table *seqs;
    uint32_t n_logit_rows;
    const uint32_t *logit_rows; /* ascending row numbers */
    float *logits;              /* out: [n_logit_rows, n_vocab]; ordinary memory */
    float *hidden;              /* out: final-norm states [n_logit_rows, n_embd], or NULL */
};

/* RC_CANCELLED when *cancel became true between layers (the pages written are then undefined);
 * `cancel` may be NULL. Token ids and shapes are asserted: the caller checked them. */
RC engine_forward(struct engine *e, const struct engine_batch *b, const _Atomic bool *cancel,
                  struct err *err);

/* Copies what page from_page holds of every layer to page to_page (copy-on-write of a shared
 * prefix's tail). Called by the thread that calls engine_forward, between two forwards. */
void engine_kv_copy(struct engine *e, uint32_t from_page, uint32_t to_page);

/* Texts back to back. Each is whole: at most context_tokens, special tokens included. */
struct engine_embed_batch {
    uint32_t n_texts;         /* 1 … texts_max */
    const uint32_t *n_tokens; /* [n_texts], at least 1 each; batch_tokens_max together */
    const int32_t *tokens;
    const uint8_t *segments; /* of each token, below n_segments or 0; NULL = all 0 */
    float *out;              /* [n_texts, n_out]; ordinary memory */
};

/* Embedders and rerankers alone, one batch at a time. A text's result depends on nothing else in
 * its batch. What the batch points to must stay until it is done; ids and sizes are asserted. */
void engine_embed_begin(struct engine *e, const struct engine_embed_batch *b);
/* Runs about n_layers more layers, so that other work need not wait for all of a batch. True when
 * it is done and `out` is filled. */
MUST_CHECK bool engine_embed_advance(struct engine *e, uint32_t n_layers);
/* Both in one. */
void engine_embed(struct engine *e, const struct engine_embed_batch *b);

#endif
