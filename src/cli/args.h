/* args.h: a command's options and words from the command line, by a table. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include "base/err.h"
#include "base/str.h"

enum { ARGS_WORDS_MAX = 64, ARGS_OPTIONS_MAX = 64 };

/* One option. `value` is NULL for a flag, else the value's name in the help ("N", "FILE"). */
struct args_row {
    const char *name; /* "--temp" */
    char letter;      /* 'n' for -n, 0 = none */
    const char *value;
    const char *help;
};

struct args {
    const struct args_row *rows; /* ends with a NULL name */
    /* private */
    struct {
        const struct args_row *row;
        const char *value;
    } options[ARGS_OPTIONS_MAX];
    uint32_t n_options;
    const char *words[ARGS_WORDS_MAX];
    uint32_t n_words;
};

/* Reads argv[1…]: "--name value", "--name=value", "-n value"; "--" ends the options. Unknown
 * options are RC_INVALID with the nearest known name. Strings stay argv's. */
RC args_parse(struct args *a, const struct args_row *rows, int argc, char **argv, struct err *err);

uint32_t args_n_words(const struct args *a);
/* NULL when there are fewer. */
const char *args_word(const struct args *a, uint32_t idx);

bool args_has(const struct args *a, const char *name);
/* The last value given, or `fallback`. */
const char *args_str(const struct args *a, const char *name, const char *fallback);
/* The idx-th value of a repeated option, or NULL. */
const char *args_nth(const struct args *a, const char *name, uint32_t idx);
/* *out keeps its value when the option is absent; RC_INVALID when the text is no number in
 * [min, max]. */
RC args_u64(const struct args *a, const char *name, uint64_t min, uint64_t max, uint64_t *out,
            struct err *err);
RC args_u32(const struct args *a, const char *name, uint32_t min, uint32_t max, uint32_t *out,
            struct err *err);
RC args_f32(const struct args *a, const char *name, double min, double max, float *out,
            struct err *err);

#endif
