/* commands.c: every command, in the order that a newcomer meets them. */
#include "cli/commands.h"

#include <string.h>

static const struct command *const commands_rows[] = {
    &cmd_run,   &cmd_chat,   &cmd_serve,      &cmd_gateway,  &cmd_server,
    &cmd_ls,    &cmd_show,   &cmd_quantize,   &cmd_tokenize, &cmd_template,
    &cmd_embed, &cmd_bench,  &cmd_key,        &cmd_cert,     &cmd_role,
    &cmd_user,  &cmd_audit,  &cmd_usage,      &cmd_explain,  &cmd_config,
    &cmd_load,  &cmd_doctor, &cmd_completion, &cmd_version,  NULL,
};

const struct command *const *commands_all(void)
{
    return commands_rows;
}

const struct command *commands_find(const char *name)
{
    for (const struct command *const *c = commands_rows; *c != NULL; c++) {
        if (strcmp((*c)->name, name) == 0) {
            return *c;
        }
    }
    return NULL;
}
