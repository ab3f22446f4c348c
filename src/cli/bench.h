/* bench.h: how fast a model reads prompts and generates, for one or many sequences, at any depth of
 * context, beside what the machine's memory gives in the same seconds.
 *
 * A row reads `n_tokens` new tokens into each of `n_streams` sequences that hold `depth` tokens:
 * a prompt in steps of the batch size, generation in steps of one token of every stream. Rounds
 * visit all rows, so that a busy minute of the machine falls on all of them. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "engine/engine.h"

/* Limits. */
enum {
    BENCH_ROWS_MAX = 64,
    BENCH_ROUNDS_MAX = 100,
    BENCH_BATCH_MAX = 4096,  /* tokens of one step */
    BENCH_STREAMS_MAX = 256, /* sequences */
};

struct bench_row {
    bool generate; /* else: a prompt, of one stream */
    uint32_t n_streams, depth, n_tokens;
    /* Results: tokens per second of all streams together, over the rounds. */
    double rate, rate_min, rate_max;
    double stream_rate; /* bytes per second that plain reading reached beside it */
    /* Weights and KV cache read per second against that; 0 where it is not told: prompts, and
     * experts that several streams share. */
    double stream_fraction;
};

struct bench {
    struct engine_conf conf; /* KV pages and context are set by bench_open */
    uint32_t n_rounds;
    struct bench_row rows[BENCH_ROWS_MAX];
    uint32_t n_rows;
    /* After bench_open. */
    struct engine *engine;
    uint64_t step_bytes; /* of weights that a step of one token reads */
    bool has_experts;
    /* private */
    struct cpu_stream *stream;
    struct bench_step *step;
};

/* Opens the model for the rows that stand in `b`. A context over the model's own, and KV over the
 * machine's memory, are errors. */
RC bench_open(struct bench *b, const char *model, struct err *err);
/* Runs every row n_rounds times and fills the results in. */
RC bench_run(struct bench *b, struct err *err);
/* May be called after a failed bench_open, and on a zeroed struct. */
void bench_close(struct bench *b);

#endif
