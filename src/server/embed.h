/* embed.h: texts to embed or to rank, in batches, beside text generation.
 *
 *   reader ──embed_submit──> [ring] ──> line of jobs ──a batch closes──> engine, layer by layer
 *     ^                                                                        │
 *     └── embed_next <── [ring of finished jobs] <── rows copied to their jobs <┘
 *
 * A batch takes texts from the jobs in turn, so that a long job does not hold up a short one. It
 * closes when it is full (batch_texts, or the rows of a step) or when its oldest text has waited
 * batch_ms. One reader thread; the engine thread calls embed_turn, which works for a slice of
 * milliseconds at most, or for one layer, so that decoding goes on between slices. */
#ifndef SERVER_EMBED_H
#define SERVER_EMBED_H

#include <stdatomic.h>

#include "base/clock.h"
#include "engine/engine.h"

/* Limits; a zero field of embed_conf takes the default. */
enum {
    EMBED_BATCH_TEXTS = 64,
    EMBED_BATCH_TEXTS_MAX = 256, /* as many as one call of the engine takes */
    EMBED_BATCH_MS = 2,
    EMBED_BATCH_ROWS = 512,             /* tokens of one batch; a longer text is one by itself */
    EMBED_SLICE_MS = 10,                /* of one turn */
    EMBED_JOBS_MAX = 512,               /* submitted, not yet taken: RC_OVERLOADED past it */
    EMBED_WAITING_TOKENS_MAX = 4 << 20, /* of all jobs but the first: RC_OVERLOADED past it */
    EMBED_MODELS_MAX = 16,
};

struct embed_conf {
    const struct clock *clock;
    uint32_t batch_texts; /* at most the engine's texts_max */
    uint32_t batch_ms;
    bool no_batch_wait; /* batch_ms is 0, not the default */
    /* Called on the engine thread when embed_next has something new; must not block. */
    void (*wake)(void *ctx);
    void *wake_ctx;
};

struct embed;       /* opaque: the queue of all models */
struct embed_model; /* one loaded model of it */
struct embed_job;   /* opaque */

RC embed_create(struct embed **out, const struct embed_conf *conf, struct err *err);
/* Before the first turn. Takes the engine, an embedder or a reranker, over on success. */
RC embed_add_model(struct embed *q, struct embed_model **out, struct engine *engine,
                   struct err *err);
/* Before the first turn: the model's metrics bear this name; without one it has none. */
void embed_name_model(struct embed_model *m, struct str name);
/* After the engine thread's end. Closes the engines. Every job must have been taken. NULL is
 * allowed. */
void embed_destroy(struct embed *q);

/* ---- the reader's end ---- */

/* The texts of one request, back to back; copied. Lengths and ids were checked. */
struct embed_texts {
    uint32_t n;               /* at least 1 */
    const uint32_t *n_tokens; /* of each text: 1 to the model's context_tokens */
    const int32_t *tokens;
    const uint8_t *segments; /* NULL = all 0 */
    uint64_t deadline_ns;    /* monotonic; no text of it is begun later; 0 = none */
};

/* RC_NOMEM when memory is short. `reader` is handed back by embed_job_reader. */
RC embed_job_create(struct embed_job **out, struct embed_model *m, const struct embed_texts *texts,
                    void *reader, struct err *err);
/* When it came back from embed_next, or was never submitted. NULL is allowed. */
void embed_job_destroy(struct embed_job *j);
void *embed_job_reader(const struct embed_job *j);
/* Of a finished job: [n, n_out] of the engine, or NULL when it was cancelled or is late. */
float *embed_job_out(struct embed_job *j);
/* Of a finished job: whether its deadline passed before all of its texts had begun. */
bool embed_job_is_late(const struct embed_job *j);

/* RC_OVERLOADED when the line is full; RC_TIMEOUT when the deadline has passed, RC_BUSY with a time
 * to come back when what is ahead takes longer than it leaves, as the latest batches went. The job
 * stays the caller's on failure. The caller wakes the engine thread. */
RC embed_submit(struct embed *q, struct embed_job *j, struct err *err);
/* Its remaining texts are dropped; it still comes back. The caller wakes the engine thread. */
void embed_cancel(struct embed_job *j);
/* The next finished job, or NULL. */
struct embed_job *embed_next(struct embed *q);

/* ---- the engine thread's end ---- */

/* One slice of work. False when there was nothing to do yet; then *due_ns is when there will be
 * (monotonic; UINT64_MAX = not before a job comes). */
MUST_CHECK bool embed_turn(struct embed *q, uint64_t *due_ns);
/* The thread is ending: every job comes back cancelled. */
void embed_end(struct embed *q);

struct embed_stats {
    uint64_t n_batches, n_texts, n_tokens; /* begun */
};
/* Any thread. */
void embed_stats(const struct embed *q, struct embed_stats *out);

#endif
