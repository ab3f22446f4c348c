/* commands.h: the table of commands: what they are called, take and do. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/args.h"

/* Exit codes of the program. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct command {
    const char *name;
    const char *words; /* synopsis behind the name: "MODEL [PROMPT]" */
    const char *line;  /* one line for the list */
    const char *help;  /* paragraphs for --help; may be NULL */
    const struct args_row *options;
    uint32_t n_words_min, n_words_max;
    /* Prints results on standard output. A failure's message is the caller's to print. */
    enum rc (*run)(const struct args *a, struct err *err);
};

/* All commands in the order of the list, NULL at the end. */
const struct command *const *commands_all(void);
const struct command *commands_find(const char *name);

/* One row each, defined in the file that implements it. */
extern const struct command cmd_run, cmd_chat, cmd_serve, cmd_gateway, cmd_key, cmd_cert, cmd_role,
    cmd_user, cmd_audit, cmd_usage, cmd_explain, cmd_config, cmd_server, cmd_ls, cmd_show,
    cmd_quantize, cmd_tokenize, cmd_template, cmd_embed, cmd_bench, cmd_load, cmd_doctor,
    cmd_completion, cmd_version;

#endif
