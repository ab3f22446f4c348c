/* local.h: a model in this process, for the commands that answer by themselves (`bud run`, `bud
 * chat`): the same engine thread that serves requests, with the command as its one reader. */
#ifndef CLI_LOCAL_H
#define CLI_LOCAL_H

#include "cli/args.h"
#include "engine/engine.h"
#include "server/job.h"

/* Options that every command with a local model shares. */
#define LOCAL_ENGINE_OPTIONS                                                                       \
    {"--threads", 't', "N", "compute threads (default: one per core)"},                            \
        {"--ctx", 'c', "N", "longest context in tokens (default: the model's, at most 8192)"},     \
        {"--kv-type", 0, "TYPE", "KV cache: f16 (default), f32, bf16 or q8"},                      \
    {                                                                                              \
        "--backend", 0, "NAME", "cpu or ref (default: the fastest that runs here)"                 \
    }

#define LOCAL_SAMPLE_OPTIONS                                                                       \
    {"--n-predict", 'n', "N", "most tokens to generate (default: until the model ends)"},          \
        {"--temp", 0, "X", "temperature; 0 = always the likeliest token (default 0.7)"},           \
        {"--top-k", 0, "N", "choose among the N likeliest (default: off)"},                        \
        {"--top-p", 0, "X", "choose among the likeliest that make up X (default 0.95)"},           \
        {"--min-p", 0, "X", "drop tokens below X times the likeliest (default: off)"},             \
        {"--repetition-penalty", 0, "X", "above 1 discourages repeats (default: off)"},            \
        {"--seed", 0, "N", "same seed, same text (default: a new one each time)"},                 \
    {                                                                                              \
        "--stop", 0, "TEXT", "end the answer before this text; may be repeated"                    \
    }

struct local; /* opaque */

/* The engine's settings from the shared options. */
RC local_engine_conf(const struct args *a, struct engine_conf *out, struct err *err);
/* `stops` has room for STOP_STRINGS_MAX; job->prompt is left alone. max_tokens 0 = no limit asked.
 */
RC local_job_params(const struct args *a, struct job_params *out, struct str *stops,
                    struct err *err);

/* Finds, opens and starts the model; progress on standard error when that is a terminal. */
RC local_open(struct local **out, const char *model, const struct engine_conf *conf,
              struct err *err);
/* NULL is allowed. */
void local_close(struct local *l);
const struct engine *local_engine(const struct local *l);

/* Generates; on_text gets the text as it comes. Ctrl-C ends the answer (JOB_CANCELLED), a second
 * one the program. *finish says how it ended. */
RC local_generate(struct local *l, const struct job_params *params,
                  void (*on_text)(void *ctx, struct str text), void *ctx, enum job_finish *finish,
                  struct err *err);

#endif
