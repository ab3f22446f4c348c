/* cmd_chat.c: `bud chat`: a conversation on the terminal; the history goes along with each turn. */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/local.h"
#include "server/prompt.h"

enum { CHAT_MESSAGES_MAX = 1024, CHAT_LINE_BYTES_MAX = 1 << 20 };

static const struct args_row cmd_chat_options[] = {
    {"--system", 's', "TEXT", "system message"},
    LOCAL_SAMPLE_OPTIONS,
    LOCAL_ENGINE_OPTIONS,
    {0},
};

struct chat {
    struct local *local;
    struct job_params params;
    struct str stops[STOP_STRINGS_MAX];
    struct arena history; /* the texts of the messages */
    struct api_message messages[CHAT_MESSAGES_MAX];
    uint32_t n_messages;
    struct buf answer;
};

static void cmd_chat_print(void *ctx, struct str text)
{
    struct chat *c = ctx;
    buf_add_str(&c->answer, text);
    fwrite(text.ptr, 1, text.len, stdout);
    fflush(stdout);
}

static enum rc cmd_chat_say(struct chat *c, enum api_role role, struct str text, struct err *err)
{
    struct str kept = arena_str(&c->history, text);
    if (kept.ptr == NULL || c->n_messages == CHAT_MESSAGES_MAX) {
        return err_set(err, RC_TOO_LARGE, "the conversation is too long: start a new one");
    }
    c->messages[c->n_messages++] =
        (struct api_message){.role = role, .has_content = true, .content = kept};
    return RC_OK;
}

/* Renders the history, generates, and adds the answer to it. */
static enum rc cmd_chat_answer(struct chat *c, struct arena *scratch, struct err *err)
{
    const struct engine *e = local_engine(c->local);
    struct prompt_chat chat = {.messages = c->messages,
                               .n_messages = c->n_messages,
                               .add_generation_prompt = true,
                               .now_s = clock_wall_s(clock_system())};
    struct str text;
    struct token_list tokens;
    enum rc rc = prompt_render(e, &chat, scratch, &text, err);
    rc = rc == RC_OK ? prompt_encode_chat(e, text, scratch, &tokens, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    struct job_params params = c->params;
    params.prompt = tokens.ids;
    params.n_prompt = tokens.n;
    rc = prompt_check_length(e, tokens.n, params.max_tokens, &params.max_tokens, err);
    if (rc != RC_OK) {
        return rc;
    }
    enum job_finish finish;
    buf_reset(&c->answer);
    rc = local_generate(c->local, &params, cmd_chat_print, c, &finish, err);
    if (rc == RC_OK) {
        puts(finish == JOB_CANCELLED ? " (stopped)\n" : "\n");
        rc = cmd_chat_say(c, API_ROLE_ASSISTANT, buf_str(&c->answer), err);
    }
    return rc;
}

/* False at the end of the input. */
static bool cmd_chat_read(struct buf *line)
{
    buf_reset(line);
    if (isatty(STDIN_FILENO)) {
        fputs("> ", stdout);
        fflush(stdout);
    }
    int c;
    while ((c = getchar()) != EOF && c != '\n') {
        buf_add_byte(line, (char)c);
    }
    return c != EOF || line->len > 0;
}

static enum rc cmd_chat_loop(struct chat *c, struct err *err)
{
    struct buf line;
    struct arena scratch;
    enum rc rc = RC_OK;
    buf_init(&line, CHAT_LINE_BYTES_MAX);
    arena_init(&scratch, PROMPT_ARENA_BYTES_MAX);
    while (rc == RC_OK && cmd_chat_read(&line)) {
        if (str_trim(buf_str(&line)).len == 0) {
            continue;
        }
        rc = cmd_chat_say(c, API_ROLE_USER, buf_str(&line), err);
        rc = rc == RC_OK ? cmd_chat_answer(c, &scratch, err) : rc;
        arena_reset(&scratch);
    }
    arena_deinit(&scratch);
    buf_deinit(&line);
    return rc;
}

static enum rc cmd_chat_start(struct chat *c, const struct args *a, struct err *err)
{
    struct engine_conf conf;
    enum rc rc = local_engine_conf(a, &conf, err);
    rc = rc == RC_OK ? local_job_params(a, &c->params, c->stops, err) : rc;
    rc = rc == RC_OK ? local_open(&c->local, args_word(a, 0), &conf, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    const char *why = engine_template_error(local_engine(c->local));
    if (why[0] != '\0') {
        return err_set(err, RC_UNSUPPORTED, "the model's chat template cannot be used: %s", why);
    }
    if (engine_template(local_engine(c->local)) == NULL) {
        return err_set(err, RC_UNSUPPORTED,
                       "the model has no chat template: use 'bud run --raw' to continue a text");
    }
    const char *system = args_str(a, "--system", NULL);
    return system == NULL ? RC_OK : cmd_chat_say(c, API_ROLE_SYSTEM, str_from(system), err);
}

static enum rc cmd_chat_main(const struct args *a, struct err *err)
{
    static const size_t history_bytes_max = 64u << 20;
    struct chat *c = mem_zalloc(sizeof(*c));
    arena_init(&c->history, history_bytes_max);
    buf_init(&c->answer, PROMPT_TEXT_BYTES_MAX);
    enum rc rc = cmd_chat_start(c, a, err);
    rc = rc == RC_OK ? cmd_chat_loop(c, err) : rc;
    local_close(c->local);
    buf_deinit(&c->answer);
    arena_deinit(&c->history);
    mem_free(c);
    return rc;
}

const struct command cmd_chat = {
    .name = "chat",
    .words = "MODEL",
    .line = "Talk with a model on the terminal",
    .help = "Each line is a message; the whole conversation goes along. Ctrl-C stops an answer,\n"
            "Ctrl-D ends the conversation.\n",
    .options = cmd_chat_options,
    .n_words_min = 1,
    .n_words_max = 1,
    .run = cmd_chat_main,
};
