/* emit.h: from sampled tokens to text: whole characters, stop strings, log-probabilities.
 *
 * One per sequence, on the engine thread. */
#ifndef SERVER_EMIT_H
#define SERVER_EMIT_H

#include "server/job_engine.h"

/* A token whose text is still held back by the detokenizer or the stop matcher. */
struct emit_held {
    struct job_token token;
    uint64_t text_end; /* in bytes of the whole detokenized answer */
};

struct emit {
    /* private */
    struct job *job;
    const struct vocab *vocab;
    struct detok detok;
    struct stop_matcher stop;
    struct buf chars; /* detokenized by this token */
    struct buf shown; /* released by the stop matcher */
    struct emit_held *held;
    uint32_t n_held, n_room;
    uint64_t n_chars_bytes, n_shown_bytes; /* totals */
    uint32_t n_tokens;
};

/* Everything that one token changed. */
enum emit_result {
    EMIT_MORE,
    EMIT_SLOW, /* as MORE, but the reader is behind */
    EMIT_STOP, /* the answer is complete: a stop string, an end or stop token */
};

void emit_init(struct emit *e, struct job *job, const struct vocab *vocab);
/* May be called twice. */
void emit_deinit(struct emit *e);
/* Tells the job of one sampled token. */
enum emit_result emit_token(struct emit *e, const struct sample_result *sampled, uint64_t now_ns,
                            struct ring *updates);
/* The end by length: what was held back is shown. */
void emit_flush(struct emit *e, uint64_t now_ns, struct ring *updates);

#endif
