/* cmd_run.c: `bud run`: one prompt, one answer, on standard output alone. */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/local.h"
#include "server/prompt.h"

static const struct args_row cmd_run_options[] = {
    {"--raw", 0, NULL, "continue the prompt as it is, without the model's chat template"},
    {"--system", 's', "TEXT", "system message, with a chat template"},
    LOCAL_SAMPLE_OPTIONS,
    LOCAL_ENGINE_OPTIONS,
    {0},
};

static void cmd_run_print(void *ctx, struct str text)
{
    UNUSED(ctx);
    fwrite(text.ptr, 1, text.len, stdout);
    fflush(stdout);
}

/* The words of the prompt, or standard input when there are none. */
static enum rc cmd_run_prompt(const struct args *a, struct buf *out, struct err *err)
{
    const char *word = args_word(a, 1);
    if (word != NULL) {
        buf_add_cstr(out, word);
    } else if (isatty(STDIN_FILENO)) {
        return err_set(err, RC_MISSING, "no prompt: give it as a word or on standard input");
    } else {
        enum rc rc = file_read("/dev/stdin", out, err);
        if (rc != RC_OK) {
            return rc;
        }
        while (out->len > 0 && out->ptr[out->len - 1] == '\n') {
            buf_truncate(out, out->len - 1);
        }
    }
    if (!buf_ok(out)) {
        return err_set(err, RC_TOO_LARGE, "the prompt is too large");
    }
    return out->len > 0 ? RC_OK : err_set(err, RC_INVALID, "the prompt is empty");
}

static enum rc cmd_run_encode(const struct args *a, const struct engine *e, struct str prompt,
                              struct arena *arena, struct token_list *out, struct err *err)
{
    /* A template that cannot be compiled is an error: going on without it would answer badly. */
    bool none = engine_template(e) == NULL && engine_template_error(e)[0] == '\0';
    if (args_has(a, "--raw") || none) {
        return prompt_encode_text(e, prompt, arena, out, err);
    }
    const char *system = args_str(a, "--system", NULL);
    struct api_message messages[2];
    uint32_t n = 0;
    if (system != NULL) {
        messages[n++] = (struct api_message){
            .role = API_ROLE_SYSTEM, .has_content = true, .content = str_from(system)};
    }
    messages[n++] =
        (struct api_message){.role = API_ROLE_USER, .has_content = true, .content = prompt};
    struct prompt_chat chat = {.messages = messages,
                               .n_messages = n,
                               .add_generation_prompt = true,
                               .now_s = clock_wall_s(clock_system())};
    struct str text;
    enum rc rc = prompt_render(e, &chat, arena, &text, err);
    return rc == RC_OK ? prompt_encode_chat(e, text, arena, out, err) : rc;
}

static enum rc cmd_run_answer(const struct args *a, struct local *l, struct str prompt,
                              struct arena *arena, struct err *err)
{
    struct job_params params;
    struct str stops[STOP_STRINGS_MAX];
    struct token_list tokens;
    const struct engine *e = local_engine(l);
    enum rc rc = local_job_params(a, &params, stops, err);
    rc = rc == RC_OK ? cmd_run_encode(a, e, prompt, arena, &tokens, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    if (tokens.n == 0) {
        return err_set(err, RC_INVALID, "the prompt has no tokens");
    }
    params.prompt = tokens.ids;
    params.n_prompt = tokens.n;
    rc = prompt_check_length(e, tokens.n, params.max_tokens, &params.max_tokens, err);
    if (rc != RC_OK) {
        return rc;
    }
    enum job_finish finish;
    rc = local_generate(l, &params, cmd_run_print, NULL, &finish, err);
    if (rc == RC_OK) {
        putchar('\n');
    }
    return rc;
}

static enum rc cmd_run_main(const struct args *a, struct err *err)
{
    struct engine_conf conf;
    struct local *l = NULL;
    struct arena arena;
    struct buf prompt;
    arena_init(&arena, PROMPT_ARENA_BYTES_MAX);
    buf_init(&prompt, PROMPT_TEXT_BYTES_MAX);
    enum rc rc = local_engine_conf(a, &conf, err);
    rc = rc == RC_OK ? cmd_run_prompt(a, &prompt, err) : rc;
    rc = rc == RC_OK ? local_open(&l, args_word(a, 0), &conf, err) : rc;
    rc = rc == RC_OK ? cmd_run_answer(a, l, buf_str(&prompt), &arena, err) : rc;
    local_close(l);
    buf_deinit(&prompt);
    arena_deinit(&arena);
    return rc;
}

const struct command cmd_run = {
    .name = "run",
    .words = "MODEL [PROMPT]",
    .line = "Answer one prompt and print the answer alone",
    .help =
        "MODEL is a GGUF file or the name of a model that 'bud ls' lists. The prompt goes through\n"
        "the model's chat template if it has one; without a PROMPT word it is read from standard\n"
        "input. Ctrl-C ends the answer.\n",
    .options = cmd_run_options,
    .n_words_min = 1,
    .n_words_max = 2,
    .run = cmd_run_main,
};
