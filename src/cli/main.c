/* main.c: finds the command, prints its help or runs it, turns its result into an exit code. */
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "cli/commands.h"

static void main_list(FILE *out)
{
    fprintf(out, "bud %s: serves language models behind an OpenAI-compatible API.\n\n",
            BUD_VERSION);
    fprintf(out, "usage: bud COMMAND [OPTION…] [WORD…]\n\ncommands:\n");
    for (const struct command *const *c = commands_all(); *c != NULL; c++) {
        fprintf(out, "  %-11s %s\n", (*c)->name, (*c)->line);
    }
    fprintf(out, "\n'bud COMMAND --help' tells more.\n");
}

static void main_help(const struct command *c)
{
    printf("usage: bud %s %s%s\n\n%s.\n", c->name, c->options->name != NULL ? "[OPTION…] " : "",
           c->words, c->line);
    if (c->help != NULL) {
        printf("\n%s", c->help);
    }
    if (c->options->name != NULL) {
        printf("\noptions:\n");
    }
    for (const struct args_row *r = c->options; r->name != NULL; r++) {
        char left[48];
        char letter[8] = "    ";
        if (r->letter != 0) {
            snprintf(letter, sizeof(letter), "-%c, ", r->letter);
        }
        snprintf(left, sizeof(left), "%s%s %s", letter, r->name, r->value != NULL ? r->value : "");
        printf("  %-28s %s\n", left, r->help);
    }
}

static int main_usage(const struct command *c, const char *message)
{
    fprintf(stderr, "bud %s: %s\nusage: bud %s %s\n", c->name, message, c->name, c->words);
    return EXIT_USAGE;
}

static int main_unknown(const char *name)
{
    const char *names[32];
    uint32_t n = 0;
    for (const struct command *const *c = commands_all(); *c != NULL && n < 32; c++) {
        names[n++] = (*c)->name;
    }
    const char *near = nearest_name(str_from(name), names, n);
    fprintf(stderr, "bud: unknown command '%s'%s%s%s\n", name,
            near != NULL ? "; did you mean " : "", near != NULL ? near : "",
            near != NULL ? "?" : "");
    fprintf(stderr, "'bud help' lists the commands.\n");
    return EXIT_USAGE;
}

static bool main_wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

static int main_run(const struct command *c, int argc, char **argv)
{
    struct args args;
    struct err err = {0};
    if (main_wants_help(argc, argv)) {
        main_help(c);
        return EXIT_OK;
    }
    if (args_parse(&args, c->options, argc, argv, &err) != RC_OK) {
        return main_usage(c, err.msg);
    }
    if (args_n_words(&args) < c->n_words_min) {
        return main_usage(c, "a word is missing");
    }
    if (args_n_words(&args) > c->n_words_max) {
        return main_usage(c, "too many words (quote texts with spaces)");
    }
    enum rc rc = c->run(&args, &err);
    if (fflush(stdout) != 0 && rc == RC_OK) {
        rc = err_set(&err, RC_IO, "cannot write to standard output: %m");
    }
    if (rc != RC_OK) {
        fprintf(stderr, "bud %s: %s\n", c->name, err.msg);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file over the limit on sizes is an error of its write */
    if (argc < 2) {
        main_list(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "help") == 0 && argc > 2) {
        const struct command *c = commands_find(argv[2]);
        if (c == NULL) {
            return main_unknown(argv[2]);
        }
        main_help(c);
        return EXIT_OK;
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        main_list(stdout);
        return EXIT_OK;
    }
    if (strcmp(name, "--version") == 0) {
        name = "version";
    }
    const struct command *c = commands_find(name);
    return c == NULL ? main_unknown(name) : main_run(c, argc - 1, argv + 1);
}
