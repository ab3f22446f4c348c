/* limits.h: the options of `bud server` that bound its work, also known to `bud serve`, which
 * checks them and hands them on. */
#ifndef CLI_LIMITS_H
#define CLI_LIMITS_H

#include "cli/args.h"
#include "server/server.h"

#define LIMITS_OPTIONS                                                                             \
    {"--parallel", 0, "N", "sequences decoded together, per model (default 16)"},                  \
        {"--tenant-parallel", 0, "N", "… of one tenant (default: all)"},                           \
        {"--waiting", 0, "N", "requests in line, per model (default 256)"},                        \
        {"--waiting-seconds", 0, "N", "longest predicted wait for a first token (default 60)"},    \
        {"--step-ms", 0, "N", "time of a step while answers are written (default 100)"},           \
        {"--kv-tokens", 0, "N", "tokens that all sequences of a model hold (default 16384)"},      \
        {"--batch-size", 0, "N", "texts embedded or ranked together (default 64)"},                \
        {"--batch-timeout", 0, "MS", "a text's wait for others to go with it (default 2)"},        \
        {"--prefix-cache", 0, "on|off", "reuse of prompts that begin alike (default on)"},         \
    {                                                                                              \
        "--speculation", 0, "on|off", "guesses from the text so far, same answers (default on)"    \
    }

/* RC_INVALID with the numbers when they are out of range or do not fit together. */
RC limits_read(const struct args *a, struct server_limits *limits, struct engine_conf *engine,
               struct err *err);
/* Names of the options above, NULL at the end. */
const char *const *limits_names(void);

#endif
