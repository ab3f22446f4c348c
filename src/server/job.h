/* job.h: one answer being made: what a reader asked of the engine thread, and what comes back.
 *
 * The reader (a server loop, a command) makes a job, submits it (step.h), takes its updates as they
 * come and destroys it after the update that carries a finish. In between the engine thread owns
 * the other end. One reader thread, one engine thread, one small lock per job. */
#ifndef SERVER_JOB_H
#define SERVER_JOB_H

#include "base/err.h"
#include "engine/sample/sample.h"
#include "engine/sample/stop.h"

enum {
    JOB_PENDING_BYTES_MAX = 256 * 1024, /* text not yet taken; past it the sequence pauses */
    JOB_PENDING_TOKENS_MAX = 128,       /* token records not yet taken; as above */
};

enum job_finish {
    JOB_RUNNING,
    JOB_STOP,      /* an end token, a stop token or a stop string */
    JOB_LENGTH,    /* max_tokens or the context's end */
    JOB_CANCELLED, /* the reader asked */
    JOB_FAILED,    /* see job_update.err */
};

struct job_params {
    const int32_t *prompt; /* copied; ids below the vocabulary's size */
    uint32_t n_prompt;
    uint32_t max_tokens;         /* output; prompt + max_tokens fits the context */
    struct sample_params sample; /* biases are copied */
    const struct str *stops;     /* copied */
    uint32_t n_stops;
    struct str tenant;    /* copied; requests of one tenant share their prefixes; may be empty; less
                           * than FAIR_NAME_BYTES_MAX bytes */
    uint32_t priority;    /* 0 = served first; below SCHED_CLASSES */
    uint64_t deadline_ns; /* monotonic: the job fails then; 0 = none */
    const int32_t *stop_tokens; /* copied; end the answer and are not shown */
    uint32_t n_stop_tokens;
    bool show_special; /* control tokens appear as text */
};

/* One sampled token whose text is in the update (or was empty). */
struct job_token {
    int32_t id;
    float logprob;
    uint32_t n_top;
    struct sample_candidate top[SAMPLE_TOP_LOGPROBS_MAX];
};

/* What is new since the last take. Borrowed until the next take or destroy. */
struct job_update {
    struct str text;
    const struct job_token *tokens; /* only with sample.want_logprob */
    uint32_t n_tokens;
    uint32_t n_prompt, n_output; /* so far; n_output counts every sampled token */
    uint32_t n_cached;           /* of the prompt, found in the prefix cache */
    enum job_finish finish;
    const struct err *err;   /* JOB_FAILED */
    uint64_t first_token_ns; /* monotonic; 0 = none yet */
};

struct job; /* opaque */

/* RC_TOO_LARGE when memory is short. `reader` is handed back by job_reader. */
RC job_create(struct job **out, const struct job_params *params, void *reader, struct err *err);
/* After its finish was taken, or when it was never submitted. NULL is allowed. */
void job_destroy(struct job *j);
void *job_reader(const struct job *j);

#endif
